"""The figures of a run, drawn from what is stored."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from gpuatac import slots
from gpuatac.io.matrices.h5ad import read_h5ad
from gpuatac.options import RunOptions, choices
from gpuatac.workflow.main_job.by_cluster import markers_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData

    from gpuatac.genome import Genome
    from gpuatac.workflow.main_job.by_cluster import Made

logger = logging.getLogger(__name__)
TRACK_FIGURES = 4
AROUND = 10_000  # bp shown on either side
HEAT_MAP_ROWS = 40  # of each cluster
#: What the figures are called, without their format: another run may have left some that this one does not draw.
NAMES = (
    "fragment_sizes",
    "tss_profile",
    "tsse",
    "knee",
    "doublet_scores",
    "spectral_eigenvalues",
    "umap",
    "umap_genes",
    *(f"tracks_{number}" for number in range(1, TRACK_FIGURES + 1)),
    "marker_regions",
)
FORMATS = choices("figure_format")
COLORS = (slots.LEIDEN, slots.SAMPLE, slots.N_FRAGMENT, slots.TSSE, slots.DOUBLET_SCORE)


def draw_figures(adata: AnnData, made: Made, options: RunOptions, genome: Genome) -> list[Path]:
    """Write every figure that the stored results allow; quality figures show all barcodes, before any filter."""
    from gpuatac import pl

    folder, checkpoint = made.places.figures, made.places.checkpoint
    folder.mkdir(parents=True, exist_ok=True)
    everyone = read_h5ad(checkpoint) if checkpoint.exists() else adata
    if slots.CELL_CALLS in adata.uns:
        everyone.uns[slots.CELL_CALLS] = adata.uns[slots.CELL_CALLS]
    written: list[Path] = []

    def save(name: str, draw, source: AnnData, **kwargs) -> None:  # type: ignore[no-untyped-def]
        path = folder / f"{name}.{options.figure_format}"
        draw(source, save=path, **kwargs)
        written.append(path)

    if slots.FRAG_SIZE_DISTR in everyone.uns:
        save("fragment_sizes", pl.frag_size_distr, everyone)
    if slots.TSS_PROFILE in everyone.uns:
        save("tss_profile", pl.tss_profile, everyone)
        if everyone.n_obs > 1:
            save("tsse", pl.tsse, everyone, min_counts=options.min_fragments, min_tsse=options.min_tsse)
    if everyone.n_obs > 1:
        save("knee", pl.knee, everyone)
    if slots.SCRUBLET in adata.uns:
        save("doublet_scores", pl.doublet_scores, adata)
    if slots.SPECTRAL_EIGENVALUE in adata.uns:
        save("spectral_eigenvalues", pl.spectral_eigenvalues, adata)
    if slots.X_UMAP in adata.obsm:
        colors = [c for c in COLORS if c in adata.obs]
        save("umap", pl.umap, adata, color=colors)
        genes = marker_genes(adata)
        if genes:
            save("umap_genes", pl.umap, adata, color=genes)
    _draw_by_cluster(adata, made, genome, save)
    for stale in {folder / f"{name}.{kind}" for name in NAMES for kind in FORMATS}.difference(written):
        stale.unlink(missing_ok=True)
    logger.info("figures: %s", ", ".join(p.name for p in written))
    return written


def _draw_by_cluster(adata: AnnData, made: Made, genome: Genome, save: Callable[..., None]) -> None:
    """Tracks at the strongest marker regions, and the heat map of marker regions."""
    from gpuatac import pl

    if slots.PEAKS not in adata.uns or slots.LEIDEN not in adata.obs:
        return
    matrix = made.peak_matrix
    at = {
        "genes": genome if genome.transcripts is not None else None,
        "consensus": None if matrix is None else matrix.var[[slots.CHROM, slots.START, slots.END]],
    }
    for number, (title, region) in enumerate(loci(adata, matrix, genome), 1):
        save(f"tracks_{number}", pl.tracks, adata, groupby=slots.LEIDEN, region=region, title=title, **at)
    marked = {name: regions[:HEAT_MAP_ROWS] for name, regions in markers_of(matrix).items()}
    if marked:
        save("marker_regions", pl.regions, matrix, groupby=slots.LEIDEN, peaks=marked)


def loci(adata: AnnData, matrix: AnnData | None, genome: Genome) -> list[tuple[str, tuple[str, int, int]]]:
    """(title, window) of the strongest marker region of the largest clusters that have one; else of their highest peaks."""
    peaks = adata.uns[slots.PEAKS]
    found = []
    for name in adata.obs[slots.LEIDEN].value_counts().index:
        regions = markers_of(matrix).get(str(name))
        if matrix is not None and regions:
            row, what = matrix.var.loc[regions[0]], "marker region"
        elif not markers_of(matrix) and (peaks["group"] == name).any():
            row, what = peaks.loc[peaks.loc[peaks["group"] == name, "q_value"].idxmax()], "highest peak"
        else:
            continue
        chrom, middle = str(row[slots.CHROM]), (int(row[slots.START]) + int(row[slots.END])) // 2
        size = int(genome.sizes[genome.code[chrom]])
        window = (chrom, max(0, middle - AROUND), min(size, middle + AROUND))
        found.append((f"{what} of cluster {name}", window))
    return found[:TRACK_FIGURES]


def marker_genes(adata: AnnData, most: int = 9) -> list[str]:
    """Genes whose activity differs most between clusters: one for each of the largest clusters.

    For a cluster, the gene with the highest (share of the cluster's cells with activity) - (share of the others').
    """
    import numpy as np
    import pandas as pd

    from gpuatac.backend import backend_of
    from gpuatac.core.rows import row_blocks
    from gpuatac.io.matrices.csr_file import DiskMatrix, by_rows

    if slots.GENE_ACTIVITY not in adata.obsm or slots.LEIDEN not in adata.obs or adata.n_obs < 2:
        return []
    x = by_rows(adata.obsm[slots.GENE_ACTIVITY])
    if not isinstance(x, DiskMatrix):
        x = backend_of(x).csr_to_host(x)
    names = np.asarray(adata.uns[slots.GENE_ACTIVITY]["genes"], dtype=object)
    labels = adata.obs[slots.LEIDEN].astype(str).to_numpy()
    clusters = list(adata.obs[slots.LEIDEN].cat.categories[:most])
    group = pd.Index(clusters).get_indexer(labels)  # -1 for the other clusters
    active = np.zeros((len(clusters) + 1, x.shape[1]), np.int64)  # cells with activity; of the other clusters last
    for block in row_blocks(x, max_nnz=1 << 24):
        of_entry = np.repeat(group[block.low : block.low + block.n_rows], np.diff(block.indptr))
        for k in range(-1, len(clusters)):
            active[k] += np.bincount(block.indices[of_entry == k], minlength=x.shape[1])
    everyone = active.sum(0)
    chosen: list[str] = []
    for k in range(len(clusters)):
        n_in = int((group == k).sum())
        if not 0 < n_in < adata.n_obs:
            continue
        here = active[k]
        contrast = here / n_in - (everyone - here) / (adata.n_obs - n_in)
        contrast[np.isin(names, chosen)] = -1
        chosen.append(str(names[int(np.argmax(contrast))]))
    return chosen
