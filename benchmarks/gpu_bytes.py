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
TILES, SELECTED = 6_062_095, 500_000  # tiles of 500 bp of hg38; those that are selected by default
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


def of_columns(job: Job, other: Job, name: str, found: list[Rate], per_fragment: float) -> float:
    """Bytes at the most for a column of X in a step, from two widths of bins of one small sample; those of entries taken off."""
    at = [step.name for step in job.steps].index(name)
    entries = (found[at].peak - found[0].held) / per_fragment * (other.nnz - job.nnz)
    return (other.steps[at].peak - job.steps[at].peak - entries) / (other.n_columns - job.n_columns)


def entry_rate(found: list[Rate], per_fragment: float) -> float:
    """Bytes at the most for a non-zero of X, beyond the columns of fragments."""
    return max(rate.peak - found[0].held for rate in found[3:]) / per_fragment


def rate_table(wide: list[Rate], on_host: list[Rate], per_fragment: float) -> list[str]:
    """Bytes a fragment and a non-zero, by step."""
    held = wide[0].held
    rows = [
        f"A fragment had {per_fragment:.2f} non-zeros of X. Bytes of all that lies on the device, what earlier steps left",
        f"included; the last two columns are those beyond the {held:.0f} of the columns of fragments.",
        "",
        "| Step | Most, a fragment | The same, X on the host | Stays, a fragment | Most, a non-zero | Stays, a non-zero |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    began = [rate.name for rate in wide].index("tiles")
    for i, (rate, low) in enumerate(zip(wide, on_host, strict=True)):
        entry = [f"{(value - held) / per_fragment:.0f}" if i >= began else "" for value in (rate.peak, rate.held)]
        rows.append(f"| {rate.name} | {rate.peak:.0f} | {low.peak:.0f} | {rate.held:.0f} | {entry[0]} | {entry[1]} |")
    return rows


def size_table(on_host: list[Rate], per_fragment: float, text_rate: float, column_rates: list[float]) -> list[str]:
    """The largest sample that stays on a device whole."""
    block = text.BLOCK_BYTES["gpu"] * text_rate
    piece = packed.PIECE_NNZ * PIECE_BYTES
    columns_of = [rate * n for rate, n in zip(column_rates, (TILES, SELECTED), strict=True)]
    fixed = max(block, graph.BLOCK_BYTES, piece + columns_of[1], columns_of[0])
    most = on_host[0].held + MOST_NNZ * entry_rate(on_host, per_fragment)
    rows = [
        f"Beside that, whatever the sample and never together: {text_rate:.1f} bytes for a byte of a block of text "
        f"({block / 1e6:.0f} MB);",
        f"{column_rates[0]:.0f} bytes a tile while features are chosen ({columns_of[0] / 1e6:.0f} MB for the {TILES / 1e6:.1f} million "
        f"of hg38); {column_rates[1]:.0f} bytes a selected tile for doublets",
        f"({columns_of[1] / 1e6:.0f} MB for {SELECTED:,}) and at the most {piece / 1e9:.1f} GB for the entries that a product converts; "
        f"at the most {graph.BLOCK_BYTES / 1e9:.1f} GB for a block of neighbours.",
        f"Below, a fragment has {MOST_NNZ} non-zeros, the most that it can have, and takes {most:.0f} bytes with X on the host.",
        "",
        "| Device, GiB | Limit, GB | Fragments that stay, million | Entries of X that stay, million "
        "| Largest sample held whole, million fragments | It takes at the most, GB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for device in DEVICES:
        limit = device * GIB * memory.LIMIT_SHARE
        columns = limit / collect.KEPT_SHARE / collect.ROW_BYTES
        entries = min(limit / from_fragments.HELD_SHARE / from_fragments.ENTRY_BYTES, from_fragments.MAX_NNZ)
        largest = min(columns, entries / MOST_NNZ, (limit - fixed) / most)
        cells = (device, limit / 1e9, columns / 1e6, entries / 1e6, largest / 1e6, (largest * most + fixed) / 1e9)
        shown = [str(device), f"{cells[1]:.1f}", *(f"{value:,.0f}" for value in cells[2:5]), f"{cells[5]:.1f}"]
        rows.append(f"| {' | '.join(shown)} |")
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
            for wide, done in jobs.items():
                with strict.installed(library) as state, small_blocks(state, wide=wide):
                    done.append(taken(state, sample, genome))
            if n_cells == N_CELLS:
                with strict.installed(library) as state, small_blocks(state):
                    fine = taken(state, sample, genome, bin_size=2_500)
        text_rate = of_text(library, sample, genome)
    less, more = jobs[True]
    on_host = rates(*jobs[False])
    per_fragment = (more.nnz - less.nnz) / (more.n_fragments - less.n_fragments)
    wide = rates(less, more)
    column_rates = [of_columns(less, fine, name, wide, per_fragment) for name in ("features", "doublets")]
    rows = [*rate_table(wide, on_host, per_fragment), ""]
    rows += size_table(on_host, per_fragment, text_rate, column_rates)
    print("\n".join(rows))
    if write:
        readme = README.read_text(encoding="utf-8")
        between = re.compile(f"{re.escape(MARKS[0])}.*{re.escape(MARKS[1])}", re.DOTALL)
        new = "\n".join([MARKS[0], *rows, MARKS[1]])
        README.write_text(between.sub(lambda _: new, readme), encoding="utf-8")


if __name__ == "__main__":
    main()
