"""``cupy.cuda`` and ``cupy.RawModule``: devices, memory, and the real kernels, compiled for the CPU."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Any

import numpy as np

from . import device
from .arrays import ndarray
from .functions import new_module
from .ledger import LEDGER

MOST_BLOCKS = 2**31 - 1
MOST_THREADS = 1024
SHARED_BYTES = 48 * 1024
#: Any geometry gives the same result; threads of a block that wait for each other are slow on a CPU.
BLOCKS, THREADS = 3, 64
_library: list[ctypes.CDLL] = []
_order = [0]


def use_library(path: Path, order: int = 0) -> None:
    """Run the kernels of this build (``kernels/cpu_run.py``), the threads of each block in that order."""
    _library[:] = [ctypes.CDLL(str(path))]
    _order[0] = order


class RawModule:
    """As ``cupy.RawModule`` of CUDA C++ source, or of machine code in a file, which is looked at; the CPU build runs for both."""

    def __init__(
        self, *, code: str | None = None, path: str | None = None, options: tuple[str, ...] = (), backend: str = "nvrtc",
        translate_cucomplex: bool = False, enable_cooperative_groups: bool = False, name_expressions: Any = None,
        jitify: Any = None,
    ) -> None:  # fmt: skip
        if (code is None) == (path is None):
            msg = "Exactly one of `code` and `path` keyword arguments must be given."
            raise TypeError(msg)
        if not isinstance(options, tuple):
            msg = "compile options must be a tuple"
            raise TypeError(msg)
        self.code, self.file_path, self.options = code, path, options

    def compile(self, log_stream: Any = None) -> None:
        """Nothing: the build is there."""

    def get_function(self, name: str) -> RawKernel:
        if self.file_path is not None:
            machine_code = Path(self.file_path).read_bytes()
            if not machine_code.startswith(b"\x7fELF"):
                msg = "CUDA_ERROR_INVALID_IMAGE: device kernel image is invalid"
                raise RuntimeError(msg)
            if name.encode() not in machine_code:
                msg = f"CUDA_ERROR_NOT_FOUND: named symbol not found ({name})"
                raise RuntimeError(msg)
        if self.code is not None and f" {name}(" not in self.code:
            msg = f"cuModuleGetFunction: CUDA_ERROR_NOT_FOUND: named symbol not found ({name})"
            raise RuntimeError(msg)
        return RawKernel(name)


class RawKernel:
    """A kernel of the CPU build; what cuLaunchKernel refuses is refused."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._run = getattr(_library[0], f"run_{name}")
        self._run.restype = ctypes.c_char_p

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: Any, *, shared_mem: int = 0, stream: Any = None) -> None:
        if not (1 <= grid[0] <= MOST_BLOCKS and 1 <= block[0] <= MOST_THREADS and shared_mem <= SHARED_BYTES):
            msg = f"CUDA_ERROR_INVALID_VALUE: {self.name} with grid {grid}, block {block}, {shared_mem} bytes shared"
            raise RuntimeError(msg)
        LEDGER.launches[self.name] += 1
        passed = [self._argument(a) for a in args]
        geometry = (ctypes.c_uint(min(grid[0], BLOCKS)), ctypes.c_uint(min(block[0], THREADS)))
        problem = self._run(*geometry, ctypes.c_size_t(shared_mem), ctypes.c_int(_order[0]), *passed)
        if problem is not None:
            msg = f"{self.name}: {problem.decode()}"
            raise RuntimeError(msg)

    def _argument(self, value: Any) -> Any:
        if isinstance(value, ndarray):
            return ctypes.c_void_p(value.on_device().ctypes.data)
        if isinstance(value, np.generic):
            return np.ctypeslib.as_ctypes_type(value.dtype)(value.item())
        msg = f"kernel {self.name}: unsupported type {type(value)} of an argument"
        raise TypeError(msg)


class CUDARuntimeError(RuntimeError):
    """As ``cupy.cuda.runtime.CUDARuntimeError``."""


class Stream:
    """The one stream there is."""

    ptr = 0

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False, **_: Any) -> None:
        pass

    def synchronize(self) -> None:
        LEDGER.cross("sync stream")

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Event:
    """A point in time."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        self.at = 0.0

    def record(self, stream: Any = None) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        pass


class Device:
    """As ``cupy.cuda.Device``: a context in which a thread is on that device."""

    def __init__(self, device_id: int | None = None) -> None:
        self.id = device.current().number if device_id is None else int(device_id)
        self.compute_capability = "90"
        self.attributes = {"L2CacheSize": 1 << 20, "MultiProcessorCount": 132}
        self._before: list[int] = []

    mem_info = property(lambda self: (device.DEVICES[self.id].free(), device.DEVICES[self.id].total))

    def use(self) -> None:
        device.use(self.id)

    def synchronize(self) -> None:
        LEDGER.cross("sync device")

    def __enter__(self) -> Device:
        self._before.append(device.current().number)
        device.use(self.id)
        return self

    def __exit__(self, *_: object) -> None:
        device.use(self._before.pop())


class MemoryPool:
    """CuPy's own pool, which holds nothing beside what is live."""

    def __init__(self, allocator: Any = None) -> None:
        pass

    def used_bytes(self) -> int:
        return device.current().live

    def free_bytes(self) -> int:
        return 0

    def total_bytes(self) -> int:
        return device.current().live

    def malloc(self, size: int) -> Any:
        raise NotImplementedError


def mem_info() -> tuple[int, int]:
    """As cudaMemGetInfo: free and total bytes of the current device."""
    return device.current().free(), device.current().total


def make_cuda(cupy: Any) -> None:
    """Put ``cupy.cuda`` and the classes of kernels onto ``cupy``."""
    chosen: list[Any] = [None]

    def set_allocator(allocator: Any = None) -> None:
        chosen[0] = allocator

    cuda = new_module(
        "cupy.cuda",
        is_available=lambda: True,
        Stream=Stream,
        Event=Event,
        Device=Device,
        MemoryPool=MemoryPool,
        get_current_stream=lambda device_id=-1: Stream(),
        get_elapsed_time=lambda start_event, end_event: (end_event.at - start_event.at) * 1e3 + 1e-6,
        set_allocator=set_allocator,
        get_allocator=lambda: chosen[0],
    )
    new_module(
        "cupy.cuda.runtime",
        memGetInfo=mem_info,
        getDevice=lambda: device.current().number,
        setDevice=device.use,
        getDeviceCount=lambda: len(device.DEVICES),
        getDeviceProperties=lambda number: {"name": b"Stand-in on NumPy", "major": 9, "minor": 0},
        runtimeGetVersion=lambda: 13050,
        driverGetVersion=lambda: 13050,
        CUDARuntimeError=CUDARuntimeError,
    )
    new_module("cupy.cuda.memory", OutOfMemoryError=device.OutOfMemoryError)
    pool = MemoryPool()
    cupy.get_default_memory_pool = lambda: pool
    cupy.cuda, cupy.RawModule, cupy.RawKernel = cuda, RawModule, RawKernel
