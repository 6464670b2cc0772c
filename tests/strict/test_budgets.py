"""Budgets of the GPU side, counted on the stand-in: transfers, bytes, and what a GPU does badly.

A budget is what is taken now, with little to spare. Whoever comes below one lowers it here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gpuatac as ga
from gpuatac.io.files.bgzf import BgzfWriter
from gpuatac.io.fragments import text

from . import largest
from .install import installed
from .main_job import STEPS, main_job

REPO = Path(__file__).resolve().parents[2]
TOY = ga.Genome("toy", {"chr1": 50_000_000, "chr2": 30_000_000, "chrM": 16_000})

# ---------------------------------------------------------------------------------------- transfers of a block

#: Transfers of a block of text. The second number is what it was when barcodes came to the host with each block.
PER_BLOCK = {"sorted": (4, 27.7), "any order": (5, 33.0), "unknown chromosomes": (8, 42.0)}


def lines(kind: str, n: int) -> bytes:
    rng = np.random.default_rng(n)
    chrom = rng.choice(["chr1", "chr2", "chrM", "chrUn"][: 4 if kind == "unknown chromosomes" else 3], n)
    start = np.where(chrom == "chrM", rng.integers(0, 15_000, n), rng.integers(0, 29_000_000, n))
    if kind == "sorted":
        order = np.lexsort((start, chrom))
        chrom, start = chrom[order], start[order]
    barcode = rng.integers(0, 500, n).tolist()
    columns = zip(chrom.tolist(), start.tolist(), barcode, strict=True)
    return "".join(f"{c}\t{s}\t{s + 200}\tAC{b:06}-1\t2\n" for c, s, b in columns).encode()


@pytest.mark.parametrize("kind", PER_BLOCK)
def test_a_block_of_text_takes_a_few_transfers_whatever_its_size(strict, tmp_path, monkeypatch, kind):
    monkeypatch.setitem(text.BLOCK_BYTES, "gpu", 100_000)
    monkeypatch.setattr(text, "LEAST_BLOCK", 1)
    blocks = []
    plain = text.line_blocks
    monkeypatch.setattr(text, "line_blocks", lambda *a, **k: (blocks.append(1) or b for b in plain(*a, **k)))
    taken = []
    for n in (20_000, 60_000):
        with BgzfWriter(tmp_path / f"{n}.tsv.gz") as out:
            out.write(lines(kind, n))
        blocks.clear()
        strict.ledger.reset()
        ga.io.read_fragments(tmp_path / f"{n}.tsv.gz", TOY, device="gpu")
        taken.append((len(blocks), strict.ledger.crossings()))
    (few, a), (many, b) = taken
    assert many > 2 * few > 8
    now, before = PER_BLOCK[kind]
    assert b - a == now * (many - few)
    assert 5 * now <= before


# -------------------------------------------------------------------------------- transfers and bytes of the steps

#: Transfers of each step at 25 chromosomes; the solver takes one a turn, and how many turns it needs is not ours to say.
CROSSINGS = {
    "import": 85, "qc": 110, "cells": 0, "tiles": 50, "features": 6, "doublets": 140, "spectral": 140, "knn": 5, "umap": 3, "leiden": 9,
}  # fmt: skip


@pytest.fixture(scope="module")
def steps(library, sample, tmp_path_factory):
    """(steps by name, fragments, non-zeros) of a small sample and of one with four times the cells, on the stand-in."""
    larger = ga.simulate_fragments(
        tmp_path_factory.mktemp("larger") / "s", n_cells=800, n_types=4, fragments_per_cell=2000, n_genes=2000,
        n_distal_peaks=15000, seed=1,
    )  # fmt: skip
    out = []
    for simulated in (sample, larger):
        found = {}
        with installed(library) as state:
            for step, adata in main_job(state.ledger, simulated, ga.Genome.builtin("hg38")):
                found[step.name] = step
                nnz = 0 if adata.X is None else int(adata.X.nnz)
            out.append((found, simulated.n_fragments, nnz))
    return out


@pytest.mark.parametrize("name", STEPS)
def test_a_step_takes_no_more_transfers_than_its_budget(steps, name):
    for found, *_ in steps:
        assert found[name].crossings <= CROSSINGS[name]


@pytest.mark.parametrize("name", [name for name in STEPS if name not in ("import", "doublets", "spectral")])
def test_transfers_do_not_grow_with_the_sample(steps, name):
    (small, *_), (large, *_) = steps
    assert small[name].crossings == large[name].crossings


def test_nothing_is_done_that_a_gpu_does_badly(steps):
    """No product with a transposed operand, no scatter to one place twice, no sort of rows, no walk over a device array."""
    assert not [remark for found, *_ in steps for step in found.values() for remark in step.remarks]


@pytest.mark.parametrize("name", [name for name in largest.STEPS if name != "import"])
def test_bytes_of_a_step_are_those_of_the_table(steps, name):
    (small, *a), (large, *b) = steps
    stated = largest.STEPS[name]
    unit = ("fragment", "non-zero").index(stated.unit)
    each = (large[name].peak - small[name].peak) / (b[unit] - a[unit])
    assert each == pytest.approx(stated.each, rel=0.1)
    assert small[name].peak == pytest.approx(stated.each * a[unit] + stated.constant, rel=0.15)


def test_columns_take_sixteen_bytes_a_fragment_and_reading_a_bounded_part(steps):
    for found, n_fragments, _ in steps:
        assert found["import"].held <= 16.1 * n_fragments
        assert found["import"].peak <= 16 * n_fragments + largest.STEPS["import"].constant


def test_readme_has_the_table():
    assert largest.table() in (REPO / "kernels" / "README.md").read_text(encoding="utf-8")
