"""Kernels compiled for the CPU, the .cu files unchanged, and a launcher that runs them."""

from __future__ import annotations

import ctypes
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np

from gpuatac.backend.gpu import launch
from gpuatac.backend.gpu.arrays import COUNT_DTYPE, Arrays
from gpuatac.backend.gpu.counting.counts import Counting
from gpuatac.backend.gpu.differential.matrices import Matrices
from gpuatac.backend.gpu.embedding.graph import Graph
from gpuatac.backend.gpu.embedding.linalg import Linalg
from gpuatac.backend.gpu.peaks.calling import Peaks
from gpuatac.backend.gpu.reading.ordering import Ordering
from gpuatac.backend.gpu.reading.parsing import ALL_BITS, Parsing
from gpuatac.backend.gpu.tracks.pileup import Pileup

HERE = Path(__file__).parent
WAITS = re.compile(r"_sync\b|__syncthreads|__syncwarp")
FLAGS = ("-std=c++17", "-shared", "-fPIC", "-g", "-Wall", "-Wextra", "-Wno-unused-function")
#: Undefined behaviour ends the program as an overrun does; a null base plus zero is how an empty array looks.
SANITIZE = (
    "-O1",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-sanitize=pointer-overflow",
)
TYPES = {np.dtype(t): name for name, t in launch.DTYPES.items()}


def compiler() -> str | None:
    """The C++ compiler of this machine, if there is one."""
    return shutil.which("g++") or shutil.which("clang++")


def waiting_kernels(text: str) -> set[str]:
    """The kernels of a file that wait for other threads, by the names they call."""
    parts = re.split(r'extern "C" __global__ void (\w+)\(', text)[1:]
    return {name for name, body in zip(parts[::2], parts[1::2], strict=True) if WAITS.search(body)}


def harness() -> str:
    """C++ that includes the kernels and gives each one a C entry point ``run_<kernel>``."""
    folder = launch.kernel_folder()
    lines = [f'#include "{HERE / "cuda_on_cpu.h"}"']
    waits = set()
    for file in launch.kernel_files():
        lines.append(f'#include "{folder / file}.cu"')
        waits |= waiting_kernels((folder / f"{file}.cu").read_text(encoding="utf-8"))
    for kernel in launch.kernels().values():
        taken, passed = [], []
        for i, argument in enumerate(kernel.arguments):
            kind = TYPES[argument.dtype] + ("*" if argument.is_array else "")
            taken.append(f"{kind} a{i}")
            passed.append(f"a{i}")
        geometry = "unsigned grid, unsigned block, size_t shared, int order"
        launched = f"cpu_cuda::launch(grid, block, shared, order, {str(kernel.name in waits).lower()}, "
        body = f"[=] {{ {kernel.name}({', '.join(passed)}); }}"
        head = f'extern "C" const char* run_{kernel.name}({geometry}, {", ".join(taken)})'
        lines.append(f"{head} {{ return {launched}{body}); }}")
    return "\n".join(lines) + "\n"


def build(folder: Path, *, sanitize: bool = False) -> Path:
    """The shared library, built in ``folder`` unless the same sources were built there before."""
    code = harness()
    flags = [*FLAGS, *(SANITIZE if sanitize else ("-O2",))]
    sources = [code, *flags, (HERE / "cuda_on_cpu.h").read_text(encoding="utf-8")]
    sources += [path.read_text(encoding="utf-8") for path in sorted(launch.kernel_folder().glob("*.cu*"))]
    key = hashlib.sha256("\0".join(sources).encode()).hexdigest()[:16]
    library = folder / f"kernels-{key}.so"
    if not library.is_file():
        harness_file = folder / f"kernels-{key}.cpp"
        harness_file.write_text(code, encoding="utf-8")
        fresh = folder / f"kernels-{key}.tmp.so"
        done = subprocess.run(
            [compiler() or "g++", *flags, "-o", fresh, harness_file],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        fresh.rename(library)
    return library


class CpuLauncher:
    """A ``launch.Launcher`` that runs the CPU build; blocks are small so that tests see several of them."""

    def __init__(self, library: Path, *, order: int = 0, block: int = 64, max_blocks: int = 3) -> None:
        self._library = ctypes.CDLL(str(library))
        self.order, self.block, self.max_blocks = order, block, max_blocks
        self.launched: list[str] = []

    def __call__(self, name: str, n_threads: int, *values, shared_bytes: int = 0) -> None:
        if n_threads == 0:
            return
        kernel = launch.kernels()[name]
        kernel.check(values)
        run = getattr(self._library, f"run_{name}")
        run.restype = ctypes.c_char_p
        passed = []
        for argument, value in zip(kernel.arguments, values, strict=True):
            if not argument.is_array:
                passed.append(np.ctypeslib.as_ctypes_type(argument.dtype)(value))
            else:
                passed.append(ctypes.c_void_p(None if value is None else value.ctypes.data))
        grid = min(-(-n_threads // self.block), self.max_blocks)
        self.launched.append(name)
        problem = run(
            ctypes.c_uint(grid),
            ctypes.c_uint(self.block),
            ctypes.c_size_t(shared_bytes),
            ctypes.c_int(self.order),
            *passed,
        )
        assert problem is None, f"{name}: {problem.decode()}"


class CpuRunBackend(Arrays):
    """The GPU backend's own wrappers on NumPy arrays and CPU-run kernels."""

    count_dtype = COUNT_DTYPE

    def __init__(self, launcher, *, hash_mask: int = ALL_BITS, chunk: int = 1 << 26) -> None:
        import scipy.sparse

        super().__init__(np, scipy.sparse, launcher)
        self.launcher = launcher
        self.parsing = Parsing(np, launcher, hash_mask=hash_mask)
        self.ordering = Ordering(np)
        self.counting = Counting(np, launcher, chunk=chunk)
        self.pileup = Pileup(np, launcher)
        self.peaks = Peaks(np, launcher)
        self.linalg = Linalg(np)
        self.matrices = Matrices(np)
        self.graph = Graph(np, launcher)
