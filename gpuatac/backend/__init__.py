"""The one door to a device: which backend to use is decided here and nowhere else."""

from __future__ import annotations

import importlib.util
import logging
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, cast
from weakref import WeakKeyDictionary

import numpy as np

from gpuatac import check
from gpuatac.errors import DeviceUnavailableError, InputError

if TYPE_CHECKING:
    from gpuatac.backend.protocol import Backend, Host

logger = logging.getLogger(__name__)
Device = Literal["auto", "cpu", "gpu"]
_streamed: WeakKeyDictionary[Any, Literal["cpu", "gpu"]] = WeakKeyDictionary()  # matrices on disk, by where their blocks go


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
    """The backend of that name, made once. The GPU's is that of the CUDA device that is current then."""
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
    bk = get(device)
    bk.check_device()
    return bk


def is_device_array(array: Any) -> bool:
    """Whether ``array`` is a CuPy array or sparse matrix, or AnnData's view of one, found without importing CuPy."""
    return any(base.__module__.partition(".")[0] in ("cupy", "cupyx") for base in type(array).__mro__)


def stream_to(matrix: Any, device: Literal["cpu", "gpu"]) -> None:
    """Let the verbs take the blocks of ``matrix``, which lies on disk, to ``device`` and compute there."""
    _streamed[matrix] = device


def streams_to(matrix: Any) -> Literal["cpu", "gpu"]:
    """Where the blocks of a matrix on disk are computed on; the CPU unless ``stream_to`` said so."""
    return _streamed.get(matrix, "cpu")


def is_on_disk(x: Any) -> bool:
    """Whether ``x`` is a CSR matrix in an HDF5 file, as anndata shows it."""
    return hasattr(x, "group") and getattr(x, "format", "") == "csr"


def device_name(array: Any) -> Literal["cpu", "gpu"]:
    """Where verbs compute on ``array``: where it lies, or where its blocks go when it lies on disk."""
    if hasattr(array, "group"):
        return streams_to(array)
    return "gpu" if is_device_array(array) else "cpu"


def backend_of(*arrays: Any) -> Backend:
    """The backend that computes on ``arrays``: whose memory holds them all; arrays on different devices raise.

    A matrix on disk counts as on the device that its blocks are streamed to.
    """
    kinds = {device_name(a) for a in arrays if a is not None}
    if len(kinds) > 1:
        msg = "arrays lie on different devices; move them with gpuatac.to_device or gpuatac.to_host first."
        raise InputError(msg)
    bk = get("gpu" if kinds == {"gpu"} else "cpu")
    bk.check_device()
    return bk


def as_host(array: Any) -> np.ndarray:
    """``array`` as NumPy, wherever it lies."""
    return backend_of(array).to_host(array) if is_device_array(array) else np.asarray(array)
