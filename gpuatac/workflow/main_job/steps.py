"""The steps of the main job, each a short walk over the verbs. A step gets the AnnData and the options."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac import metrics, pp, slots, tl
from gpuatac.backend import backend_of
from gpuatac.core.embedding.features import without_shared_feature
from gpuatac.core.embedding.spectral import document_frequency
from gpuatac.errors import InputError
from gpuatac.io.matrices.canonical import canonical_matrix
from gpuatac.options import STEP_NAMES
from gpuatac.pp.cell_filters import remove_cells

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

    from gpuatac.genome import Genome
    from gpuatac.options import RunOptions

logger = logging.getLogger(__name__)
FEWEST_FOR_DOUBLETS = 30
DOUBTFUL_EXCESS = 3.0  # times the expected rate
FEWEST_FOR_EMBEDDING = 5
FEWEST = {"features": 2, "doublets": 2, **dict.fromkeys(("spectral", "knn", "umap", "leiden"), FEWEST_FOR_EMBEDDING)}
SKIPPED = "skipped_steps"  # uns: JSON of why, by step


def skipped(adata: AnnData) -> dict[str, str]:
    """Why each step that was left out, or done for some samples only, was."""
    return dict(json.loads(str(adata.uns.get(SKIPPED, "{}"))))


def skip(adata: AnnData, step: str, reason: str) -> None:
    """Say once in the log, and in the summary, that ``step`` was left out."""
    logger.warning("%s: skipped, %s", step, reason)
    adata.uns[SKIPPED] = json.dumps({**skipped(adata), step: reason})


def forget_skipped(adata: AnnData, todo: list[str]) -> None:
    """Drop what was said of steps that are done again."""
    of_step = {"harmony": "knn", "marker regions": "peaks", "removing doublets": "doublets"}
    kept = {step: why for step, why in skipped(adata).items() if of_step.get(step, step) not in todo}
    adata.uns[SKIPPED] = json.dumps(kept)


def too_few(adata: AnnData, step: str) -> bool:
    """Whether a step makes no sense for so few cells (a bulk sample is one)."""
    if adata.n_obs >= FEWEST.get(step, 0):
        return False
    skip(adata, step, f"it needs {FEWEST[step]} cells and there {_are(adata.n_obs)}")
    return True


def _are(n: int) -> str:
    return "is 1" if n == 1 else f"are {n}"


def settle(adata: AnnData) -> None:
    """Forget samples that lost their last cell."""
    if slots.SAMPLE in adata.obs:
        adata.obs[slots.SAMPLE] = adata.obs[slots.SAMPLE].cat.remove_unused_categories()
        here = set(adata.obs[slots.SAMPLE].cat.categories)
        scored = adata.uns.get(slots.SCRUBLET, {}).get("samples", {})
        for name in [name for name in scored if name not in here]:
            del scored[name]


def quality(adata: AnnData, options: RunOptions, genome: Genome) -> None:
    """Every quality measure the annotation allows."""
    blacklist = genome.blacklist if options.blacklist else None
    metrics.qc(adata, genes=genome if genome.transcripts is not None else None, blacklist=blacklist)


def cells(adata: AnnData, options: RunOptions, genome: Genome) -> None:
    """Call cells where asked, then apply the bounds."""
    if options.call_cells != "none":
        pp.call_cells(adata, method=options.call_cells, seed=options.seed)
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
        counting_strategy=options.counting_strategy,
    )


def features(adata: AnnData, options: RunOptions, genome: Genome) -> None:
    """Choose tiles, and set aside cells that share none of them with another cell."""
    pp.select_features(
        adata,
        n_features=options.n_features,
        method=options.feature_method,
        filter_lower_quantile=options.lower_quantile,
        filter_upper_quantile=options.upper_quantile,
        blacklist=genome.blacklist if options.blacklist else None,
    )
    _set_aside_lonely(adata, "workflow.features", options)


def _set_aside_lonely(adata: AnnData, step: str, options: RunOptions) -> None:
    """Remove cells that have no selected tile in common with another cell: they have no place in the graph."""
    x = canonical_matrix(adata)
    bk = backend_of(x)
    lonely = bk.to_host(without_shared_feature(bk, x, bk.asarray(slots.mask_of(adata, slots.SELECTED))))
    if lonely.all():
        raise InputError(_all_lonely(adata, options))
    if lonely.any():
        remove_cells(adata, step, {"no selected tile in common with another cell": lonely}, inplace=True)


def _all_lonely(adata: AnnData, options: RunOptions) -> str:
    x = canonical_matrix(adata)
    bk = backend_of(x)
    n_shared = int(bk.to_host(document_frequency(bk, x) > 1).sum())
    if n_shared and options.upper_quantile > 0:
        why = (
            f"the {n_shared:,} tiles shared by cells were cut by the quantiles (the upper_quantile={options.upper_quantile:g} "
            "most common tiles are not selected)"
        )
        remedy = "try upper_quantile=0 (--upper-quantile 0)"
    else:
        why = f"{n_shared:,} of {adata.n_vars:,} tiles are in two cells or more"
        remedy = "make the tiles wider (--bin-size), select more (--n-features) or check the blacklist and the file"
    return (
        f"none of {adata.n_obs:,} cells has a selected tile in common with another cell: {why}; allowed: cells that share "
        f"tiles; {remedy}."
    )


def doublets(adata: AnnData, options: RunOptions, _genome: Genome) -> None:
    """Score doublets sample by sample; remove or label them. Samples of few cells are left out."""
    if options.doublets == "skip":
        return
    named = slots.SAMPLE in adata.obs
    sizes = {str(k): int(v) for k, v in adata.obs[slots.SAMPLE].value_counts().items()} if named else {"": adata.n_obs}
    small = {name: n for name, n in sizes.items() if n < FEWEST_FOR_DOUBLETS}
    if small:
        which = ", ".join(f"sample {name} has {n}" if name else f"there {_are(n)}" for name, n in sorted(small.items()))
        skip(adata, "doublets", f"it needs {FEWEST_FOR_DOUBLETS} cells of a sample and {which}")
    if len(small) == len(sizes):
        return
    rows = ~adata.obs[slots.SAMPLE].astype(str).isin(small).to_numpy() if named else np.ones(adata.n_obs, bool)
    _score_doublets(adata, rows, options)
    if options.doublets == "remove":
        doubtful = _doubtful_calls(adata, options)
        if doubtful:
            skip(adata, "removing doublets", doubtful)
            return
        pp.filter_doublets(adata)
        _set_aside_lonely(adata, "workflow.doublets", options)


def _doubtful_calls(adata: AnnData, options: RunOptions) -> str:
    """Why the calls are not to be trusted, or "": the calls of a sample imply far more doublets than are expected.

    Called cells over the share of simulated doublets that would be called estimates the rate of doublets; when it is
    several times the expected rate, the two kinds do not separate and most calls are single cells.
    """
    limit = DOUBTFUL_EXCESS * options.expected_doublet_rate
    for name, entry in adata.uns[slots.SCRUBLET]["samples"].items():
        if entry["overall_doublet_rate"] > limit:
            where = "" if name == "all" else f" of sample {name}"
            return (
                f"the scores{where} imply {entry['overall_doublet_rate']:.0%} doublets where "
                f"{options.expected_doublet_rate:.0%} are expected, so singlets and doublets do not separate; they are labelled only"
            )
    return ""


def _score_doublets(adata: AnnData, rows: np.ndarray, options: RunOptions) -> None:
    """Scrublet on the cells of ``rows``; NaN for the others."""
    part = adata if rows.all() else adata[rows].copy()
    pp.scrublet(part, expected_doublet_rate=options.expected_doublet_rate, seed=options.seed)
    if part is adata:
        return
    for column in (slots.DOUBLET_SCORE, slots.DOUBLET_PROBABILITY):
        values = np.full(adata.n_obs, np.nan)
        values[rows] = part.obs[column].to_numpy()
        adata.obs[column] = values
    for key in (slots.SCRUBLET, slots.HISTORY):
        adata.uns[key] = part.uns[key]


def spectral(adata: AnnData, options: RunOptions, _genome: Genome) -> None:
    """Spectral embedding."""
    tl.spectral(adata, n_comps=options.n_comps, sample_size=options.sample_size, seed=options.seed)


def knn(adata: AnnData, options: RunOptions, _genome: Genome) -> None:
    """Neighbours, after batch correction where asked."""
    use_rep = slots.X_SPECTRAL
    drop_depth = not options.keep_depth_components
    adata.obsm.pop(slots.X_HARMONY, None)
    if options.batch_correction == "harmony":
        if slots.SAMPLE not in adata.obs or adata.obs[slots.SAMPLE].nunique() < 2:
            skip(adata, "harmony", "it needs two samples and the cells left are of one")
        else:
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
    tl.leiden(adata, resolution=options.resolution, flavor=options.leiden_flavor, seed=options.seed)


def genes(adata: AnnData, options: RunOptions, genome: Genome) -> None:
    """Gene activity, kept beside the cells: obsm["gene_activity"], names in uns["gene_activity"]["genes"]."""
    if genome.transcripts is None:
        return
    activity = pp.make_gene_matrix(adata, genome, upstream=options.gene_upstream, id_type=options.gene_key)
    adata.obsm[slots.GENE_ACTIVITY] = activity.X
    adata.uns[slots.GENE_ACTIVITY] = {
        "genes": activity.var_names.to_numpy().astype(object),
        "upstream": options.gene_upstream,
    }
    adata.uns[slots.HISTORY] = activity.uns[slots.HISTORY]


#: Steps in order up to the gene activity; each takes (adata, options, genome). Those of ``by_cluster`` follow.
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
RESTARTS = STEP_NAMES
