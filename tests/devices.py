"""The devices that tests run on: the CPU, and a GPU or, where there is none, the strict stand-in for CuPy (``strict``).

``DEVICES`` are the parameters of a fixture; ``on_device(request)`` puts the one of them in place that the test asks for.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import pytest
from strict import installed

from gpuatac.backend import gpu_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

HAS_GPU = gpu_problem() is None
GPU = pytest.param("gpu", marks=pytest.mark.gpu) if HAS_GPU else pytest.param("strict", marks=pytest.mark.strict)
DEVICES = ["cpu", GPU]
KERNELS_FOLDER = "kernels"


@contextmanager
def on_device(request: pytest.FixtureRequest) -> Iterator[Literal["cpu", "gpu"]]:
    """The device of the fixture's parameter, as ``device=`` takes it."""
    if request.param != "strict":
        yield request.param
        return
    with installed(request.getfixturevalue("library")):
        yield "gpu"


def torch_device(bk):
    """Where tensors lie that share memory with the arrays of ``bk``."""
    import torch

    return torch.device("cuda" if bk.name == "gpu" and HAS_GPU else "cpu")
