"""The one door to a device: which backend to use is decided here and nowhere else."""

from __future__ import annotations

import importlib.util
import logging
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from gpuatac import check
from gpuatac.errors import DeviceUnavailableError, InputError

if TYPE_CHECKING:
    from gpuatac.backend.protocol import Backend, Host

logger = logging.getLogger(__name__)
Device = Literal["auto", "cpu", "gpu"]


@cache
def gpu_problem() -> str | None:
    """Why no GPU can be used, or None when one can."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed; install gpuatac[cuda13] on Python 3.12 or newer"
    import cupy

    if not cupy.cuda.is_available():
        return "CuPy finds no CUDA device or no usable driver; see nvidia-smi"
    return None


@cache
def get(name: Literal["cpu", "gpu"]) -> Backend:
    """The backend of that name, made once."""
    if name == "cpu":
        from gpuatac.backend import cpu

        return cast("Backend", cpu.make_backend())
    problem = gpu_problem()
    if problem:
        msg = f"device 'gpu' is not available: {problem}; or pass device='cpu'."
        raise DeviceUnavailableError(msg)
    from gpuatac.backend import gpu

    return cast("Backend", gpu.make_backend())


@cache
def host() -> Host:
    """What works on the host, whatever the device: BAM records, tracks as bytes and text, windows of peaks."""
    from gpuatac.backend.cpu.host import HostKernels

    return cast("Host", HostKernels())


def resolve(device: Device = "auto") -> Backend:
    """The backend for ``device``; "auto" takes a GPU where there is one. What was taken is logged."""
    check.one_of("device", device, ("auto", "cpu", "gpu"))
    if device == "auto":
        problem = gpu_problem()
        device = "cpu" if problem else "gpu"
        logger.info("device: %s (%s)", device, problem or "a CUDA device is available")
    return get(device)


def is_device_array(array: Any) -> bool:
    """Whether ``array`` is a CuPy array or sparse matrix, or AnnData's view of one, found without importing CuPy."""
    return any(base.__module__.partition(".")[0] in ("cupy", "cupyx") for base in type(array).__mro__)


def backend_of(*arrays: Any) -> Backend:
    """The backend whose memory holds all of ``arrays``; arrays on different devices raise."""
    kinds = {is_device_array(a) for a in arrays if a is not None}
    if len(kinds) > 1:
        msg = "arrays lie on different devices; move them with gpuatac.to_device or gpuatac.to_host first."
        raise InputError(msg)
    return get("gpu" if kinds == {True} else "cpu")


def as_host(array: Any) -> np.ndarray:
    """``array`` as NumPy, wherever it lies."""
    return backend_of(array).to_host(array) if is_device_array(array) else np.asarray(array)
