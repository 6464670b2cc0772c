"""What every kernel takes of a multiprocessor: registers, stack, shared memory and spills, for several GPUs and without one.

    kernel_resources.py [--write]

NVRTC compiles each file with the options that CuPy passes, and ptxas says what it used. The table goes to the standard output, with
--write between the two marks of kernels/README.md, where a test compares it.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gpuatac.backend.gpu import cubins, launch

ARCHITECTURES = ("80", "90", "100", "120")
README = Path(__file__).resolve().parents[1] / "kernels" / "README.md"
BEGIN, END = "<!-- resources: benchmarks/kernel_resources.py --write -->", "<!-- end of resources -->"
REGISTERS, THREADS_PER_SM = 65_536, 2_048  # of a multiprocessor of sm_90
_ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_(\w+)'")
_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


class Resources(NamedTuple):
    """Of one kernel on one architecture; bytes but for the registers of a thread."""

    registers: int
    stack: int
    spilled: int
    shared: int


def parsed(remarks: str) -> dict[str, Resources]:
    """By kernel, from what ``ptxas -v`` says."""
    out: dict[str, Resources] = {}
    for part in re.split(r"(?=Compiling entry function)", remarks)[1:]:
        name = _ENTRY.search(part)
        spills, used, shared = _SPILLS.search(part), _USED.search(part), _SHARED.search(part)
        assert name is not None
        assert spills is not None, part
        assert used is not None, part
        bytes_of = [int(n) for n in spills.groups()]
        out[name[1]] = Resources(
            int(used[1]), bytes_of[0], bytes_of[1] + bytes_of[2], 0 if shared is None else int(shared[1])
        )
    return out


def resources(arch: str) -> dict[str, Resources]:
    """Of every kernel."""
    found: dict[str, Resources] = {}
    for file in launch.kernel_files():
        found |= parsed(cubins.compile_file(file, arch, "--ptxas-options=-v")[1])
    return {name: found[name] for name in launch.kernels()}


def compiler() -> str:
    """The version of NVRTC, such as 13.5."""
    from cuda.bindings import nvrtc

    return ".".join(str(number) for number in nvrtc.nvrtcVersion()[1:])


def resident(registers: int) -> int:
    """Threads that a multiprocessor of sm_90 holds at once, in blocks of 256; registers are given by eight."""
    blocks = REGISTERS // (-(-registers // 8) * 8 * launch.BLOCK)
    return min(blocks * launch.BLOCK, THREADS_PER_SM)


def table(by_arch: dict[str, dict[str, Resources]]) -> str:
    """The table in Markdown."""
    shown = ", ".join(f"sm_{arch}" for arch in by_arch)
    lines = [
        f"NVRTC {compiler()}, in the order {shown} (one number where all are equal); bytes but for registers a thread.",
        "",
        "| Kernel | Registers | Stack | Static shared | Spilled | Threads at once on an SM of sm_90 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kernel in launch.kernels():
        each = [found[kernel] for found in by_arch.values()]
        columns = [[getattr(one, field) for one in each] for field in ("registers", "stack", "shared", "spilled")]
        cells = [str(c[0]) if len(set(c)) == 1 else " / ".join(map(str, c)) for c in columns]
        lines.append(f"| `{kernel}` | {' | '.join(cells)} | {resident(by_arch['90'][kernel].registers)} |")
    return "\n".join(lines)


def written() -> str:
    """The table that kernels/README.md has."""
    return README.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into kernels/README.md")
    made = table({arch: resources(arch) for arch in ARCHITECTURES})
    if parser.parse_args().write:
        head, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
        tail = rest.partition(END)[2]
        README.write_text(f"{head}{BEGIN}\n{made}\n{END}{tail}", encoding="utf-8")
    else:
        print(made)


if __name__ == "__main__":
    main()
