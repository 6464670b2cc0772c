"""Where the sources of the kernels lie, and their text as a compiler is given it."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def kernel_folder() -> Path:
    """Where the .cu files lie: inside an installed package, or beside the package in a checkout."""
    package = Path(__file__).resolve().parents[2]
    candidates = (package / "_kernels", package.parent / "kernels")
    for folder in candidates:
        if (folder / "common.cuh").is_file():
            return folder
    msg = f"the CUDA kernels are missing: neither {candidates[0]} nor {candidates[1]} has them; reinstall."
    raise FileNotFoundError(msg)


@cache
def kernel_files() -> tuple[str, ...]:
    """The names of the kernel files, without .cu."""
    return tuple(sorted(path.stem for path in kernel_folder().glob("*.cu")))


@cache
def source(file: str) -> str:
    """The text of ``file``.cu with common.cuh in place of its #include, for a compiler that knows no folders.

    ``#line`` keeps the compiler's messages true; the whole text is the key of CuPy's cache.
    """
    common = (kernel_folder() / "common.cuh").read_text(encoding="utf-8")
    text = (kernel_folder() / f"{file}.cu").read_text(encoding="utf-8")
    head, include, tail = text.partition('#include "common.cuh"\n')
    if not include:
        return text
    line = head.count("\n") + 2
    return f'{head}#line 1 "common.cuh"\n{common}\n#line {line} "{file}.cu"\n{tail}'
