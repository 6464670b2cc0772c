"""Kernels compiled before they are needed: machine code of a kernel file for one architecture, kept beside the sources.

The name of a file says what is in it: ``rows.sm_90.<key>.<digest>.cubin``, where the key is a hash of the source and of the compiler's
options and the digest one of the content. What was made from another source, or was damaged, has another name than the one looked for
or a content that does not fit its name; then the source is compiled as if nothing were there. ``precompile`` makes the files.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any

from gpuatac.backend.gpu.sources import kernel_folder, source

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

#: What ``CudaLauncher`` gives to CuPy.
OPTIONS = ("-std=c++17",)
#: What CuPy 14 adds before it compiles, beside folders of headers that our sources do not include.
ADDED_BY_CUPY = ("-ftz=true", "--device-as-default-execution-space")


def options_for(arch: str) -> tuple[str, ...]:
    """The options with which CuPy compiles a kernel file on a device of that architecture, such as "90"."""
    return (*OPTIONS, *ADDED_BY_CUPY, f"-arch=sm_{arch}")


def folder() -> Path:
    """Where compiled kernels are kept."""
    return kernel_folder() / "cubins"


def key_of(file: str, arch: str) -> str:
    """A hash of what is compiled: the source of ``file``.cu and the options."""
    return _hash("\0".join((source(file), *options_for(arch))).encode())


def name_of(file: str, arch: str, code: bytes) -> str:
    """The name under which ``code`` is kept and found."""
    return f"{file}.sm_{arch}.{key_of(file, arch)}.{_hash(code)}.cubin"


def find(file: str, arch: str) -> Path | None:
    """The compiled kernels of ``file``.cu as it is now, for that architecture; None where there are none."""
    for path in sorted(folder().glob(f"{file}.sm_{arch}.{key_of(file, arch)}.*.cubin")):
        if path.name == name_of(file, arch, path.read_bytes()):
            return path
        logger.warning("compiled kernels %s are damaged; the source is compiled instead: make them again", path)
    return None


def compile_file(file: str, arch: str, *more: str) -> tuple[bytes, str]:
    """Machine code of ``file``.cu by NVRTC, which needs no GPU, and what the compiler remarked; ``more`` options."""
    from cuda.bindings import nvrtc

    def done(answer: tuple[Any, ...], program: Any = None) -> Any:
        if int(answer[0]) != 0:
            log = "" if program is None else f"\n{_log(nvrtc, program)}"
            msg = f"NVRTC cannot compile {file}.cu for sm_{arch}: {answer[0].name}{log}"
            raise RuntimeError(msg)
        return answer[1] if len(answer) > 1 else None

    program = done(nvrtc.nvrtcCreateProgram(source(file).encode(), f"{file}.cu".encode(), 0, [], []))
    options = [option.encode() for option in (*options_for(arch), *more)]
    done(nvrtc.nvrtcCompileProgram(program, len(options), options), program)
    code = b" " * done(nvrtc.nvrtcGetCUBINSize(program))
    done(nvrtc.nvrtcGetCUBIN(program, code))
    remarks = _log(nvrtc, program)
    done(nvrtc.nvrtcDestroyProgram(program))
    return code, remarks


def _log(nvrtc: Any, program: Any) -> str:
    size = nvrtc.nvrtcGetProgramLogSize(program)[1]
    if size <= 1:  # nothing but its end: Python has each bytes object of length 1 only once, and it must not be written into
        return ""
    text = b" " * size
    nvrtc.nvrtcGetProgramLog(program, text)
    return text.decode(errors="replace").rstrip("\0\n ")


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
