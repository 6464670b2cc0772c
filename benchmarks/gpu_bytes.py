"""Bytes of device memory that each step of the main job takes a fragment and a non-zero, counted without a GPU.

    gpu_bytes.py [--write]

Two simulated samples, one twice the other, go through the main job on the strict stand-in for CuPy of the tests, which counts
every byte that is live; blocks of bounded size are made small for it. What a step takes more of for the larger sample, over
what that has more of fragments, is its rate. The second table says how many fragments a sample may have whose data stay
on the device whole, by those rates and by the shares of the limit at which data go to disk; larger ones are taken by parts.
``--write`` puts both tables into kernels/README.md.
"""

from __future__ import annotations

import argparse
import gzip
import re
import sys
import tempfile
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO), str(REPO / "tests")]

import strict  # noqa: E402  the tests' folder is on the path now
from kernels.cpu_run import build  # noqa: E402
from strict.main_job import Job, Rate, main_job, rates, small_blocks, small_sample, taken  # noqa: E402

import gpuatac  # noqa: E402
from gpuatac.backend.gpu import memory  # noqa: E402
from gpuatac.backend.gpu.embedding import graph, packed  # noqa: E402
from gpuatac.io.fragments import collect, text  # noqa: E402
from gpuatac.io.matrices import from_fragments  # noqa: E402

GIB = 1 << 30
DEVICES = (8, 24, 80, 139)  # GiB
N_CELLS, DEPTH = 150, 2_000
MOST_NNZ = 2  # non-zeros that a fragment can add
PIECE_BYTES = 48  # of an entry that is converted for a product (packed.py)
README = REPO / "kernels" / "README.md"
MARKS = ("<!-- bytes: benchmarks/gpu_bytes.py --write -->", "<!-- end of bytes -->")


def of_text(library: Path, sample, genome) -> float:
    """Bytes at the most for a byte of text, from a file that is one block."""
    with gzip.open(sample.fragments) as file:
        n_bytes = len(file.read())
    with strict.installed(library) as state:
        step, _ = next(iter(main_job(state.ledger, sample, genome)))
    return step.peak / n_bytes


def of_columns(job: Job, other: Job) -> float:
    """Bytes at the most for a column of X while features are chosen, from two widths of bins of one sample."""
    at = [step.name for step in job.steps].index("features")
    entries = graph_entry_bytes(job, at) * (other.nnz - job.nnz)
    return (other.steps[at].peak - job.steps[at].peak - entries) / (other.n_columns - job.n_columns)


def graph_entry_bytes(job: Job, at: int) -> float:
    """Bytes held for a non-zero of X, from what tiles added."""
    return (job.steps[at].held - job.steps[0].held) / job.nnz


def rate_table(wide: list[Rate], on_host: list[Rate], per_fragment: float) -> list[str]:
    """Bytes a fragment and a non-zero, by step."""
    held = wide[0].held
    rows = [
        f"A fragment had {per_fragment:.2f} non-zeros of X. Bytes of all that lies on the device, what earlier steps left included; the last two "
        f"columns are those beyond the {held:.0f} of the columns of fragments.",
        "",
        "| Step | At the most, a fragment | The same, X on the host | Stays, a fragment | At the most, a non-zero | Stays, a non-zero |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    began = [rate.name for rate in wide].index("tiles")
    for i, (rate, low) in enumerate(zip(wide, on_host, strict=True)):
        entry = [f"{(value - held) / per_fragment:.0f}" if i >= began else "" for value in (rate.peak, rate.held)]
        rows.append(f"| {rate.name} | {rate.peak:.0f} | {low.peak:.0f} | {rate.held:.0f} | {entry[0]} | {entry[1]} |")
    return rows


def size_table(on_host: list[Rate], text_rate: float, column_rate: float) -> list[str]:
    """The largest sample that stays on a device whole."""
    block = text.BLOCK_BYTES["gpu"] * text_rate
    piece = packed.PIECE_NNZ * PIECE_BYTES
    fixed = max(block, graph.BLOCK_BYTES, piece)
    most = max(rate.peak for rate in on_host)
    rows = [
        f"Beside that, whatever the sample: {text_rate:.1f} bytes for a byte of a block of text ({block / 1e6:.0f} MB), "
        f"{graph.BLOCK_BYTES / 1e9:.1f} GB at the most for a block of neighbours and {piece / 1e9:.1f} GB for the entries that a product "
        f"converts, one at a time; {column_rate:.0f} bytes for each tile while features are chosen.",
        "",
        "| Device, GiB | Limit, GB | Fragments that stay, million | Entries of X that stay, million | Largest sample held whole, million fragments "
        "| It takes at the most, GB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for device in DEVICES:
        limit = device * GIB * memory.LIMIT_SHARE
        columns = limit / collect.KEPT_SHARE / collect.ROW_BYTES
        entries = min(limit / from_fragments.HELD_SHARE / from_fragments.ENTRY_BYTES, from_fragments.MAX_NNZ)
        largest = min(columns, entries / MOST_NNZ, (limit - fixed) / most)
        cells = (device, limit / 1e9, columns / 1e6, entries / 1e6, largest / 1e6, (largest * most + fixed) / 1e9)
        rows.append("| " + " | ".join([str(device), f"{cells[1]:.1f}", *(f"{v:,.0f}" for v in cells[2:5]), f"{cells[5]:.1f}"]) + " |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the tables into kernels/README.md")
    write = parser.parse_args().write
    gpuatac.quiet()
    jobs: dict[bool, list[Job]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as name:
        library = build(Path(name))
        for n_cells in (N_CELLS, 2 * N_CELLS):
            sample, genome = small_sample(Path(name), n_cells, DEPTH)
            for wide in jobs:
                with strict.installed(library) as state, small_blocks(state, wide=wide):
                    jobs[wide].append(taken(state, sample, genome))
        with strict.installed(library) as state, small_blocks(state):
            fine = taken(state, sample, genome, bin_size=100)
        text_rate = of_text(library, sample, genome)
    less, more = jobs[True]
    on_host = rates(*jobs[False])
    per_fragment = (more.nnz - less.nnz) / (more.n_fragments - less.n_fragments)
    rows = [*rate_table(rates(less, more), on_host, per_fragment), ""]
    rows += size_table(on_host, text_rate, of_columns(more, fine))
    print("\n".join(rows))
    if write:
        readme = README.read_text(encoding="utf-8")
        between = re.compile(f"{re.escape(MARKS[0])}.*{re.escape(MARKS[1])}", re.DOTALL)
        new = "\n".join([MARKS[0], *rows, MARKS[1]])
        README.write_text(between.sub(lambda _: new, readme), encoding="utf-8")


if __name__ == "__main__":
    main()
