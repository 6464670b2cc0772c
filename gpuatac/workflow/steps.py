"""The steps of the main job, each a short walk over the verbs. A step gets the AnnData and the options."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac import metrics, pp, slots, tl
from gpuatac.backend import backend_of
from gpuatac.core.spectral import document_frequency
from gpuatac.errors import InputError
from gpuatac.pp._canonical import selected_columns
from gpuatac.pp._cells import _remove as remove_cells

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

    from gpuatac.genome import Genome
    from gpuatac.options import RunOptions

logger = logging.getLogger(__name__)
FEWEST_FOR_DOUBLETS = 30
FEWEST_FOR_EMBEDDING = 5


def quality(adata: AnnData, options: RunOptions, genome: Genome) -> None:
    """Every quality measure the annotation allows."""
    blacklist = genome.blacklist if options.blacklist else None
    metrics.qc(adata, genes=genome if genome.transcripts is not None else None, blacklist=blacklist)


def cells(adata: AnnData, options: RunOptions, genome: Genome) -> None:
    """Call cells where asked, then apply the bounds."""
    if options.call_cells != "none":
        pp.call_cells(adata, method=options.call_cells, seed=options.seed)  # type: ignore[arg-type]
    pp.filter_cells(
        adata,
        min_counts=options.min_fragments,
        max_counts=options.max_fragments,
        min_tsse=options.min_tsse if genome.transcripts is not None else None,
        max_frac_mito=options.max_frac_mito,
        max_nucleosome_signal=options.max_nucleosome_signal,
        max_blacklist_fraction=options.max_blacklist_fraction if options.blacklist else None,
    )


def tiles(adata: AnnData, options: RunOptions, _genome: Genome) -> None:
    """Cells x tiles."""
    excluded = tuple(name for name in options.exclude_chroms.split(",") if name)
    pp.add_tile_matrix(
        adata,
        bin_size=options.bin_size,
        exclude_chroms=excluded,
        counting_strategy=options.counting_strategy,  # type: ignore[arg-type]
    )


def features(adata: AnnData, options: RunOptions, genome: Genome) -> None:
    """Choose tiles, and set aside cells that share none of them with another cell."""
    pp.select_features(
        adata,
        n_features=options.n_features,
        method=options.feature_method,  # type: ignore[arg-type]
        blacklist=genome.blacklist if options.blacklist else None,
    )
    _set_aside_lonely(adata, "workflow.features")


def _set_aside_lonely(adata: AnnData, step: str) -> None:
    """Remove cells that have no selected tile in common with another cell: they have no place in the graph."""
    x = selected_columns(adata, slots.SELECTED)
    bk = backend_of(x)
    shared = (document_frequency(bk, x) > 1).astype(np.float64)
    lonely = bk.to_host((x @ shared) <= 0)
    if lonely.any():
        remove_cells(adata, step, {"no selected tile in common with another cell": lonely}, inplace=True)


def doublets(adata: AnnData, options: RunOptions, _genome: Genome) -> None:
    """Score doublets sample by sample; remove or label them."""
    if options.doublets == "skip":
        return
    sizes = adata.obs[slots.SAMPLE].value_counts() if slots.SAMPLE in adata.obs else [adata.n_obs]
    if min(sizes) < FEWEST_FOR_DOUBLETS:
        logger.warning("doublets: skipped, a sample has %d cells and %d are needed", min(sizes), FEWEST_FOR_DOUBLETS)
        return
    pp.scrublet(adata, expected_doublet_rate=options.expected_doublet_rate, seed=options.seed)
    if options.doublets == "remove":
        pp.filter_doublets(adata)
        _set_aside_lonely(adata, "workflow.doublets")


def spectral(adata: AnnData, options: RunOptions, _genome: Genome) -> None:
    """Spectral embedding."""
    tl.spectral(adata, n_comps=options.n_comps, sample_size=options.sample_size, seed=options.seed)


def knn(adata: AnnData, options: RunOptions, _genome: Genome) -> None:
    """Neighbours, after batch correction where asked."""
    use_rep = slots.X_SPECTRAL
    drop_depth = not options.keep_depth_components
    if options.batch_correction == "harmony":
        if slots.SAMPLE not in adata.obs:
            msg = "batch_correction='harmony' needs several samples, got one; give more files or leave it out."
            raise InputError(msg)
        pp.harmony(adata, batch=slots.SAMPLE, drop_depth=drop_depth, seed=options.seed)
        use_rep = slots.X_HARMONY
    k = options.n_neighbors
    if k is not None and k >= adata.n_obs:
        logger.warning("knn: %d neighbours asked of %d cells, %d taken", k, adata.n_obs, adata.n_obs - 1)
        k = adata.n_obs - 1
    pp.knn(adata, n_neighbors=k, use_rep=use_rep, drop_depth=drop_depth)


def umap(adata: AnnData, options: RunOptions, _genome: Genome) -> None:
    """Layout."""
    tl.umap(adata, min_dist=options.min_dist, seed=options.seed)


def leiden(adata: AnnData, options: RunOptions, _genome: Genome) -> None:
    """Clusters."""
    tl.leiden(adata, resolution=options.resolution, flavor=options.leiden_flavor, seed=options.seed)  # type: ignore[arg-type]


def genes(adata: AnnData, options: RunOptions, genome: Genome) -> None:
    """Gene activity, kept beside the cells: obsm["gene_activity"], names in uns["gene_activity"]["genes"]."""
    if genome.transcripts is None:
        return
    activity = pp.make_gene_matrix(adata, genome, upstream=options.gene_upstream)
    adata.obsm[slots.GENE_ACTIVITY] = activity.X
    adata.uns[slots.GENE_ACTIVITY] = {
        "genes": activity.var_names.to_numpy().astype(object),
        "upstream": options.gene_upstream,
    }
    adata.uns[slots.HISTORY] = activity.uns[slots.HISTORY]


#: Steps in order; those after "import" take (adata, options, genome).
STEPS: dict[str, Callable[[AnnData, Any, Genome], None]] = {
    "qc": quality,
    "cells": cells,
    "tiles": tiles,
    "features": features,
    "doublets": doublets,
    "spectral": spectral,
    "knn": knn,
    "umap": umap,
    "leiden": leiden,
    "genes": genes,
}
#: Steps that remove cells or need the tiles of cells since removed: going on from them starts at the quality measures.
FROM_QUALITY = ("cells", "tiles", "features", "doublets")
#: What may follow ``--from``.
RESTARTS = (*STEPS, "figures")
