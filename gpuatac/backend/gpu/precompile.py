"""Compile every kernel for GPUs that are not here, so that the first job on them does not: a step in the making of an image.

    python -m gpuatac.backend.gpu.precompile [--arch 80 90 100 120]

Needs NVRTC and cuda-bindings, which gpuatac[cuda13] brings, and no GPU. Files go beside the kernels' sources, where
the launcher looks for them; a GPU of another architecture compiles at its first use, as without them.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time

from gpuatac.backend.gpu import cubins
from gpuatac.backend.gpu.sources import kernel_files

#: Compute capabilities from Ampere to Blackwell: A100, A10 and RTX 30, L4 and RTX 40, H100 and H200, B200, RTX 50.
ARCHITECTURES = ("80", "86", "89", "90", "100", "120")


def write(architectures: tuple[str, ...]) -> int:
    """Compile every kernel file for each of the architectures; older files for them go. How many bytes were written."""
    target = cubins.folder()
    target.mkdir(exist_ok=True)
    written = 0
    for file in kernel_files():
        for arch in architectures:
            code, _ = cubins.compile_file(file, arch)
            name = cubins.name_of(file, arch, code)
            partial = target / f"{name}.partial"
            partial.write_bytes(code)
            partial.rename(target / name)
            for old in target.glob(f"{file}.sm_{arch}.*.cubin"):
                if old.name != name:
                    old.unlink()
            written += len(code)
    return written


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arch", nargs="+", default=ARCHITECTURES, help="compute capabilities without the point")
    architectures = tuple(parser.parse_args().arch)
    wrong = [arch for arch in architectures if not arch.isdigit()]
    if wrong:
        sys.exit(f"--arch takes compute capabilities without the point, such as 90, got {wrong[0]!r}.")
    if importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.bindings") is None:
        sys.exit("kernels are compiled by NVRTC through cuda-bindings, which is not installed; install gpuatac[cuda13].")
    began = time.perf_counter()
    n_bytes = write(architectures)
    seconds = time.perf_counter() - began
    n_files = len(kernel_files()) * len(architectures)
    print(f"{n_files} files, {n_bytes / 2**20:.1f} MiB, {seconds:.0f} s: {cubins.folder()}")


if __name__ == "__main__":
    main()
