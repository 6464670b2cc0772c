"""Kernels: what their arguments are, and how a GPU runs them.

The argument list of every kernel is read from its source, so a call with an array of the wrong dtype or with
two arguments swapped is refused by name on any launcher, not met as an illegal address on a GPU.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np

from gpuatac.backend import compile_time
from gpuatac.backend.gpu import cubins
from gpuatac.backend.gpu.sources import kernel_files, kernel_folder, source

#: The number types that common.cuh names.
DTYPES = {
    "i8": np.int8,
    "i16": np.int16,
    "i32": np.int32,
    "i64": np.int64,
    "u8": np.uint8,
    "u32": np.uint32,
    "u64": np.uint64,
    "f32": np.float32,
    "f64": np.float64,
}
BLOCK = 256
MAX_BLOCKS = 4096
#: Dynamic shared memory that every device grants without asking, in bytes.
SHARED_BYTES = 48 * 1024
_COMMENT = re.compile(r"//[^\n]*")
_KERNEL = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\)')
_ARGUMENT = re.compile(r"(const )?(\w+)(\*?)(?: __restrict__)? (\w+)")


@dataclass(frozen=True)
class Argument:
    """One argument of a kernel."""

    name: str
    dtype: np.dtype
    is_array: bool


@dataclass(frozen=True)
class Kernel:
    """A kernel: its file (without .cu), its name and what it takes."""

    file: str
    name: str
    arguments: tuple[Argument, ...]

    def check(self, values: tuple[Any, ...]) -> None:
        """Raise TypeError unless ``values`` are what the kernel takes.

        int64 and uint64 may stand for each other: CUDA has 64-bit atomics for the unsigned type alone.
        """
        if len(values) != len(self.arguments):
            msg = f"kernel {self.name} takes {len(self.arguments)} arguments, got {len(values)}."
            raise TypeError(msg)
        for argument, value in zip(self.arguments, values, strict=True):
            if not argument.is_array:
                fits = isinstance(value, int) and not isinstance(value, bool)
                found = type(value).__name__
            elif value is None:
                continue
            else:
                found = f"{value.dtype} array of {value.ndim} axes"
                same = value.dtype.itemsize == argument.dtype.itemsize and (
                    value.dtype == argument.dtype or {value.dtype.kind, argument.dtype.kind} == {"i", "u"}
                )
                fits = same and bool(value.flags.c_contiguous)
            if not fits:
                allowed = f"a contiguous {argument.dtype} array" if argument.is_array else "an int"
                msg = f"kernel {self.name}, argument {argument.name}: got {found}; pass {allowed}."
                raise TypeError(msg)


class Launcher(Protocol):
    """Runs a kernel by name."""

    def __call__(self, name: str, n_threads: int, *values: Any, shared_bytes: int = 0) -> None:
        """Run kernel ``name`` with at least one thread and at most about ``n_threads`` of them.

        ``values`` are contiguous arrays of the device (None for a null pointer) and ints, in the order of the
        kernel's source. Nothing is launched when ``n_threads`` is 0.
        """
        ...


@cache
def kernels() -> dict[str, Kernel]:
    """Every kernel by name, with the arguments that its source declares."""
    found: dict[str, Kernel] = {}
    for file in kernel_files():
        text = _COMMENT.sub("", (kernel_folder() / f"{file}.cu").read_text(encoding="utf-8"))
        for name, declared in _KERNEL.findall(text):
            arguments = []
            for part in declared.split(","):
                match = _ARGUMENT.fullmatch(" ".join(part.split()))
                if match is None or match[2] not in DTYPES:
                    msg = f"{file}.cu: kernel {name} declares {part.strip()!r}; use the types of common.cuh."
                    raise ValueError(msg)
                arguments.append(Argument(match[4], np.dtype(DTYPES[match[2]]), match[3] == "*"))
            found[name] = Kernel(file, name, tuple(arguments))
    return found


class CudaLauncher:
    """Runs kernels on the current CUDA device and stream; each file is compiled at its first use on a device.

    What was compiled before (``cubins``) is loaded. Else CuPy compiles and keeps the code on disk, so that a later process loads it.
    """

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._modules: dict[tuple[int, str], Any] = {}
        self._functions: dict[tuple[int, str], Any] = {}

    def _function(self, kernel: Kernel) -> Any:
        device = self._cupy.cuda.runtime.getDevice()
        function = self._functions.get((device, kernel.name))
        if function is None:
            module = self._modules.get((device, kernel.file))
            if module is None:
                module = self._modules[device, kernel.file] = self._module(kernel.file)
            function = self._functions[device, kernel.name] = module.get_function(kernel.name)
        return function

    def _module(self, file: str) -> Any:
        ready = cubins.find(file, self._cupy.cuda.Device().compute_capability) if cubins.folder().is_dir() else None
        if ready is not None:
            return self._cupy.RawModule(path=str(ready))
        module = self._cupy.RawModule(code=source(file), options=cubins.OPTIONS)
        began = time.perf_counter()
        module.compile()
        compile_time.record(time.perf_counter() - began)
        return module

    def __call__(self, name: str, n_threads: int, *values: Any, shared_bytes: int = 0) -> None:
        """See ``Launcher``."""
        if n_threads == 0:
            return
        kernel = kernels()[name]
        kernel.check(values)
        passed = tuple(
            (np.uint64(0) if value is None else value) if argument.is_array else argument.dtype.type(value)
            for argument, value in zip(kernel.arguments, values, strict=True)
        )
        blocks = min(-(-n_threads // BLOCK), MAX_BLOCKS)
        self._function(kernel)((blocks,), (BLOCK,), passed, shared_mem=shared_bytes)
