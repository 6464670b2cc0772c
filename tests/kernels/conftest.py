"""The backends that the kernel tests run on."""

from __future__ import annotations

import pytest

from .cpu_run import CpuLauncher, CpuRunBackend


@pytest.fixture(scope="session", params=[0, 1, 7], ids=["forward", "backward", "shuffled"])
def bk(request, library):
    """The GPU wrappers on NumPy, with the threads of every block in three orders."""
    return CpuRunBackend(CpuLauncher(library, order=request.param))
