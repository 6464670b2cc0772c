"""Budgets of the GPU side, counted on the stand-in: transfers, bytes, and what a GPU does badly.

A budget is what is used now, with little to spare. Whoever comes below one lowers it here.
"""

from __future__ import annotations

import numpy as np
import pytest

import gpuatac as ga
from gpuatac.io.fragments import text

GENOME = ga.Genome("toy", {"chr1": 50_000_000, "chr2": 30_000_000, "chrM": 16_000})
STEPS = {
    "import": 1,
}


def test_show(strict, sample, tmp_path):
    ledger = strict.ledger
    out = []
    size = {}

    def step(name, work):
        ledger.reset()
        before = ledger.live
        value = work()
        out.append(
            (name, ledger.crossings(), ledger.crossings("D2H"), ledger.crossings("H2D"), ledger.crossings("sync"),
             ledger.bytes(), ledger.peak - before, ledger.live - before, sum(ledger.launches.values()), dict(ledger.remarks))
        )
        out.append(ledger.table(12))
        return value

    genome = ga.io.read_genome("hg38") if False else ga.Genome.builtin("hg38")
    a = step("import", lambda: ga.pp.import_fragments(sample.fragments, genome, min_num_fragments=200, device="gpu"))
    step("qc", lambda: ga.metrics.qc(a, genes=sample.genes))
    step("filter", lambda: ga.pp.filter_cells(a, min_counts=200, min_tsse=0))
    step("tiles", lambda: ga.pp.add_tile_matrix(a, bin_size=500))
    step("select", lambda: ga.pp.select_features(a))
    step("scrublet", lambda: ga.pp.scrublet(a))
    step("spectral", lambda: ga.tl.spectral(a))
    step("knn", lambda: ga.pp.knn(a))
    step("umap", lambda: ga.tl.umap(a))
    step("leiden", lambda: ga.tl.leiden(a))
    print(a.shape, a.X.nnz, int(a.obs["n_fragment"].sum()))
    for line in out:
        print(*line) if isinstance(line, tuple) else print(line)
    assert 0
