"""Budgets of the GPU side, counted on the stand-in: transfers, bytes, and what a GPU does badly.

A budget is what is taken now, with little to spare. Whoever comes below one lowers it here.
"""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

import gpuatac as ga
from gpuatac.backend.gpu import libraries
from gpuatac.io.files.bgzf import BgzfWriter
from gpuatac.io.fragments import text

from .main_job import main_job, rates, small_blocks, small_sample, taken

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
    crossed = []
    for n in (20_000, 60_000):
        with BgzfWriter(tmp_path / f"{n}.tsv.gz") as out:
            out.write(lines(kind, n))
        blocks.clear()
        strict.ledger.reset()
        ga.io.read_fragments(tmp_path / f"{n}.tsv.gz", TOY, device="gpu")
        crossed.append((len(blocks), strict.ledger.crossings()))
    (few, a), (many, b) = crossed
    assert many > 2 * few > 8
    now, before = PER_BLOCK[kind]
    assert b - a == now * (many - few)
    assert 5 * now <= before


# -------------------------------------------------------------------------------- transfers and bytes of the steps

#: Transfers of a step on 25 chromosomes of hg38, one block of text and 60 turns or fewer of the eigen-solver.
CROSSINGS = {
    "import": 14 + 2 * 25, "qc": 10 + 4 * 25, "cells": 0, "tiles": 5 + 2 * 25, "features": 6, "doublets": 45 + 60,
    "spectral": 33 + 60, "knn": 5, "umap": 3, "leiden": 9,
}  # fmt: skip
#: Bytes a fragment at the most, with what earlier steps left: 16 of the columns, 8 for each of 0.9 non-zeros of X, which
#: doublets and spectral hold in float64 with the transpose, 24 bytes each.
BYTES = {
    "import": 40, "qc": 19, "cells": 18, "tiles": 39, "features": 36, "doublets": 62, "spectral": 62, "knn": 36, "umap": 36,
    "leiden": 37,
}  # fmt: skip


def test_no_step_takes_more_transfers_than_its_budget(strict, sample):
    done = {step.name: step for step, _ in main_job(strict.ledger, sample, ga.Genome.builtin("hg38"))}
    assert list(done) == list(CROSSINGS)
    over = {name: step.crossings for name, step in done.items() if step.crossings > CROSSINGS[name]}
    assert over == {}
    # what CuPy does slowly: products with CSC, sorts of rows, loops over an array, NumPy's functions on its arrays
    assert {name: step.remarks for name, step in done.items() if step.remarks} == {}


def test_no_step_takes_more_bytes_a_fragment_than_its_budget(strict, tmp_path):
    jobs = []
    with small_blocks(strict):
        for n_cells in (160, 320):
            jobs.append(taken(strict, *small_sample(tmp_path, n_cells, 1_000)))
    found = {rate.name: rate.peak for rate in rates(*jobs)}
    assert list(found) == list(BYTES)
    assert {name: round(n, 1) for name, n in found.items() if n > BYTES[name]} == {}
    assert found["import"] > 16  # the columns themselves: the ledger does count


# ------------------------------------------------------------------------------------------ blocks of neighbours


def peak_of_neighbours(strict, n: int, k: int) -> int:
    """Bytes beside the points while the neighbours of ``n`` points are counted."""
    points = strict.backend.asarray(np.random.default_rng(n).standard_normal((n, 6)))
    strict.ledger.reset()
    before = strict.ledger.live
    near = sum(int(indices.shape[0]) for _, indices, _ in strict.backend.graph.neighbour_blocks(points, k))
    assert near == n
    return strict.ledger.peak - before


def test_neighbours_of_more_points_take_no_more_than_a_block(strict, monkeypatch):
    budget = 2 << 20
    monkeypatch.setattr(strict.backend.graph, "_block_bytes", budget)
    of_points = 6 * (8 + 4 + 8)  # centred copies of a point
    peaks = [peak_of_neighbours(strict, n, 60) for n in (1_000, 2_000, 4_000)]
    assert [peak < budget + of_points * n for peak, n in zip(peaks, (1_000, 2_000, 4_000), strict=True)] == [True] * 3
    assert min(peaks) > budget // 8  # a block is full


def test_points_all_at_one_place_take_no_more_than_a_block(strict, monkeypatch):
    budget = 2 << 20
    monkeypatch.setattr(strict.backend.graph, "_block_bytes", budget)
    points = strict.backend.asarray(np.ones((3_000, 4)))
    strict.ledger.reset()
    before = strict.ledger.live
    for low, indices, _ in strict.backend.graph.neighbour_blocks(points, 5):
        first = indices.get()[:7]
        if low == 0:
            assert first.tolist() == [[j for j in range(6) if j != i][:5] for i in range(7)]
    assert strict.ledger.peak - before < budget + 3_000 * 4 * (8 + 4 + 8)


def test_doublets_of_more_cells_take_no_more_than_a_block(strict, monkeypatch):
    from gpuatac.core.embedding import doublets

    budget = 1 << 20
    monkeypatch.setattr(strict.backend.graph, "_block_bytes", budget)
    for n in (600, 1_200):
        points = strict.backend.asarray(np.random.default_rng(n).standard_normal((3 * n, 5)))
        strict.ledger.reset()
        before = strict.ledger.live
        observed, simulated = doublets.scores(strict.backend, points, n, expected_rate=0.1)
        assert (observed.size, simulated.size) == (n, 2 * n)
        assert strict.ledger.peak - before < budget + 3 * n * (5 * 20 + 8 + 8)


# ---------------------------------------------------------------------------------------------------- imports


def test_libraries_of_later_steps_are_imported_beside_what_goes_on(strict, tmp_path, monkeypatch):
    (tmp_path / "wanted_later.py").write_text("import threading\nthread = threading.current_thread().name\n")
    (tmp_path / "broken_later.py").write_text("raise ImportError('no driver')\n")
    monkeypatch.syspath_prepend(tmp_path)
    began = []
    thread = libraries.load_ahead(("absent_later", "broken_later", "wanted_later"), lambda: began.append(1))
    thread.join()
    assert began == [1]
    assert sys.modules.pop("wanted_later").thread == thread.name == "gpuatac-imports"
    assert "broken_later" not in sys.modules
    assert set(libraries.LATER) >= {"cuml.manifold", "pylibcugraph"}
    strict.backend.load_ahead()
    next((t for t in threading.enumerate() if t.name == "gpuatac-imports"), thread).join()
