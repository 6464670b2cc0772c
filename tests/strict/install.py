"""Putting the stand-in in the place of CuPy and RAPIDS, and taking it away again."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import cuda, device, frames, functions, rapids, sparse
from .ledger import LEDGER, Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

PACKAGES = (
    "cupy", "cupyx", "rmm", "cudf", "cuml", "cuvs", "cugraph", "pylibcugraph", "pylibraft", "rapids_singlecell",
)  # fmt: skip
_depth = [0]


@dataclass(frozen=True)
class Strict:
    """The stand-in while it is in place: what was counted, the first device, and the GPU backend on it."""

    ledger: Ledger
    device: device.Device

    @property
    def backend(self) -> Any:
        """``gpuatac``'s GPU backend."""
        from gpuatac.backend import get

        return get("gpu")


def _modules() -> dict[str, ModuleType]:
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] in PACKAGES}


def make_modules() -> None:
    """Put every module of the stand-in into ``sys.modules``."""
    cuda.make_cuda(functions.make_cupy())
    sparse.make_cupyx()
    rapids.make_rapids()
    frames.make_cudf()


def introduce() -> None:
    """Let AnnData know the arrays of the stand-in as CuPy's: it looks for CuPy once, when it is imported."""
    before = _modules()
    make_modules()
    try:
        import anndata  # noqa: F401
    finally:
        for name in _modules():
            del sys.modules[name]
        sys.modules.update(before)


@contextmanager
def installed(library: Path, *, order: int = 0) -> Iterator[Strict]:
    """CuPy and RAPIDS are the stand-in while this lasts; kernels run from ``library``, threads in ``order``.

    The devices are as new and the counts at nought. Within another ``installed`` this one changes nothing but the counts.
    """
    from gpuatac import backend

    state = Strict(LEDGER, device.DEVICES[0])
    _depth[0] += 1
    try:
        if _depth[0] > 1:
            LEDGER.reset()
            yield state
            return
        before = _modules()
        for name in before:
            del sys.modules[name]
        device.renew()
        make_modules()
        cuda.use_library(library, order)
        LEDGER.reset()
        _forget_devices(backend)
        try:
            yield state
        finally:
            for name in _modules():
                del sys.modules[name]
            sys.modules.update(before)
            device.use(0)
            _forget_devices(backend)
    finally:
        _depth[0] -= 1


def _forget_devices(backend: Any) -> None:
    """What is known of the devices is asked again."""
    backend.gpu_problem.cache_clear()
    backend.get.cache_clear()
