"""The main job's steps on the stand-in, one by one, and what each took: transfers, kernels, bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import gpuatac as ga

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData

    from .ledger import Ledger

STEPS = ("import", "qc", "cells", "tiles", "features", "doublets", "spectral", "knn", "umap", "leiden")


class Step(NamedTuple):
    """What a step took. Bytes are those of the whole job: what earlier steps left lies on the device as well."""

    name: str
    crossings: int
    peak: int  # bytes at the most, since the job began
    held: int  # bytes that stay
    launches: int
    remarks: dict[tuple[str, str], int]


def main_job(ledger: Ledger, sample, genome, *, bin_size: int = 500) -> Iterator[tuple[Step, AnnData]]:
    """Fragments to clusters on the device; after each step what it took, and the data."""
    ga.io.forget()
    ledger.reset()
    before = ledger.live
    adata = ga.pp.import_fragments(sample.fragments, genome, min_num_fragments=50, device="gpu")
    work = {
        "import": lambda: None,
        "qc": lambda: ga.metrics.qc(adata, genes=sample.genes),
        "cells": lambda: ga.pp.filter_cells(adata, min_counts=50, min_tsse=0),
        "tiles": lambda: ga.pp.add_tile_matrix(adata, bin_size=bin_size),
        "features": lambda: ga.pp.select_features(adata),
        "doublets": lambda: ga.pp.scrublet(adata),
        "spectral": lambda: ga.tl.spectral(adata),
        "knn": lambda: ga.pp.knn(adata),
        "umap": lambda: ga.tl.umap(adata),
        "leiden": lambda: ga.tl.leiden(adata),
    }
    for name in STEPS:
        work[name]()
        taken = ledger.peak - before, ledger.live - before, sum(ledger.launches.values()), dict(ledger.remarks)
        yield Step(name, ledger.crossings(), *taken), adata
        ledger.reset()
    ga.io.forget()
