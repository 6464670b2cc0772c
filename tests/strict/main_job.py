"""The main job's steps on the stand-in, one by one, and what each took: transfers, kernels, bytes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest

import gpuatac as ga
from gpuatac.backend.gpu.embedding import packed
from gpuatac.core.embedding import lanczos
from gpuatac.io.fragments import text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anndata import AnnData

    from .install import Strict
    from .ledger import Ledger

SCALE = 50  # the genome of ``small_sample`` is so many times smaller than hg38; each chromosome has the same share of it
SMALL_BLOCK = 1 << 20


class Step(NamedTuple):
    """What a step took. Bytes are those of the whole job: what earlier steps left lies on the device as well."""

    name: str
    crossings: int
    peak: int  # bytes at the most, since the job began
    held: int  # bytes that stay
    remarks: dict[tuple[str, str], int]


class Job(NamedTuple):
    """What one sample was and took."""

    n_fragments: int
    nnz: int
    n_columns: int
    steps: list[Step]


class Rate(NamedTuple):
    """What a further fragment of a sample adds to a step's bytes: at their most, and to what stays."""

    name: str
    peak: float
    held: float


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
    for name, do in work.items():
        do()
        yield Step(name, ledger.crossings(), ledger.peak - before, ledger.live - before, dict(ledger.remarks)), adata
        ledger.reset()
    ga.io.forget()


def small_sample(folder: Path, n_cells: int, depth: int):
    """A simulated sample of a small genome, and the genome."""
    sizes = {name: max(size // SCALE, 16_569) for name, size in ga.Genome.builtin("hg38").chrom_sizes.items()}
    genome = ga.Genome("small", sizes)
    sample = ga.simulate_fragments(
        folder / f"{n_cells}", n_cells=n_cells, n_types=3, fragments_per_cell=depth, genome=genome, n_genes=400,
        n_distal_peaks=3_000, seed=1,
    )  # fmt: skip
    return sample, genome


@contextmanager
def small_blocks(state: Strict, *, wide: bool = True) -> Iterator[None]:
    """Blocks of bounded size so small that they do not show; ``wide``: X and X' are kept in float64, else X waits on the host."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(text.BLOCK_BYTES, "gpu", SMALL_BLOCK)
        patch.setattr(state.backend.graph, "_block_bytes", SMALL_BLOCK)
        patch.setattr(state.backend.linalg, "_free", lambda: 1 << 40 if wide else 2 * SMALL_BLOCK)
        patch.setattr(packed, "PIECE_NNZ", SMALL_BLOCK // 48)
        patch.setattr(packed, "PAIR_NNZ", SMALL_BLOCK // 64)
        patch.setattr(lanczos, "BASIS_BYTES", SMALL_BLOCK)
        yield


def taken(state: Strict, sample, genome, *, bin_size: int = 5_000) -> Job:
    """The whole job of a sample. The bins are so wide that all of them have counts, whatever the number of cells."""
    steps, n_fragments = [], 0
    for step, adata in main_job(state.ledger, sample, genome, bin_size=bin_size):
        steps.append(step)
        if step.name == "import":
            n_fragments = int(adata.obs["n_fragment"].sum())
    return Job(n_fragments, int(adata.X.nnz), adata.n_vars, steps)


def rates(less: Job, more: Job) -> list[Rate]:
    """What a further fragment adds, from two jobs."""
    n = more.n_fragments - less.n_fragments
    pairs = zip(less.steps, more.steps, strict=True)
    return [Rate(a.name, (b.peak - a.peak) / n, (b.held - a.held) / n) for a, b in pairs]
