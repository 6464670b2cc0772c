"""Choosing features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from gpuatac import check, slots
from gpuatac.backend import backend_of
from gpuatac.core.counting.counts import merge_intervals
from gpuatac.core.counting.regions import coordinates
from gpuatac.core.embedding.features import dispersion_score, select_by_rank
from gpuatac.core.embedding.spectral import column_sums
from gpuatac.errors import InputError, MissingSlotError
from gpuatac.genome import other_spelling
from gpuatac.io.fragments.attach import genome_of
from gpuatac.io.genome.bed import regions_frame
from gpuatac.io.matrices.canonical import canonical_matrix
from gpuatac.provenance import records

if TYPE_CHECKING:
    from anndata import AnnData



@records("pp.select_features")
def select_features(
    adata: AnnData,
    *,
    n_features: int = 500_000,
    method: Literal["count", "variability"] = "count",
    filter_lower_quantile: float = 0.005,
    filter_upper_quantile: float = 0.005,
    blacklist: Any = None,
    whitelist: Any = None,
) -> None:
    """Mark the features to embed cells with.

    Reads   X: counts, CSR; var["chrom", "start", "end"] when regions are given.
    Writes  var["count"]: float64, column sums; var["selected"]: bool.

    SnapATAC2's rule: of the features with a count, int(quantile * n) of the lowest and of the highest are dropped, then
    the ``n_features`` highest are taken. Two differences on purpose: of equal counts the feature that comes first in
    the matrix is preferred, where SnapATAC2 leaves it to an unstable sort (36,272 features tie at the cut of a 2,000-cell
    sample); and blacklisted features are taken out before the ranking, so that n_features means n_features.

    Parameters
    ----------
    adata
        Cells x tiles or peaks.
    n_features
        How many to mark (all that remain, when fewer).
    method
        "count", or "variability": how far a feature varies beyond Poisson counts at a constant rate per cell depth, in
        standard deviations of Pearson's chi-square.
    filter_lower_quantile, filter_upper_quantile
        Shares in [0, 1) dropped at either end.
    blacklist
        Regions (BED path, frame or names) whose overlapping features are taken out before the ranking.
    whitelist
        Regions whose overlapping features are selected beside the others whenever they have a count.

    Raises
    ------
    InputError
        When no feature is left.

    Examples
    --------
    >>> import anndata, numpy, gpuatac as ga
    >>> adata = anndata.AnnData(numpy.array([[1, 0, 2, 1], [0, 3, 1, 0]], "float32"))
    >>> ga.pp.select_features(adata, n_features=2)
    >>> adata.var["selected"].tolist()
    [False, True, True, False]
    """
    n_features = check.integer("n_features", n_features, 1)
    check.one_of("method", method, ("count", "variability"))
    check.between("filter_lower_quantile", filter_lower_quantile, 0, 1)
    check.between("filter_upper_quantile", filter_upper_quantile, 0, 1)
    x = canonical_matrix(adata)
    bk = backend_of(x)
    total = bk.to_host(column_sums(bk, x))
    eligible = np.ones(adata.n_vars, bool)
    if blacklist is not None:
        eligible &= ~overlaps(adata.var, _regions(blacklist, adata, "regions of blacklist"))
    score = total if method == "count" else _positive(dispersion_score(bk, x))
    mask = select_by_rank(
        score, n_features, lower=filter_lower_quantile, upper=filter_upper_quantile, eligible=eligible
    )
    if whitelist is not None:
        mask |= overlaps(adata.var, _regions(whitelist, adata, "regions of whitelist")) & (total > 0)
    if not mask.any():
        msg = (
            f"no feature is left of {adata.n_vars:,} ({int((total > 0).sum()):,} with counts, {int(eligible.sum()):,} eligible); "
            "lower the quantiles or check blacklist and whitelist."
        )
        raise InputError(msg)
    adata.var[slots.COUNT] = total
    adata.var[slots.SELECTED] = mask


def _regions(regions: Any, adata: AnnData, what: str) -> pd.DataFrame:
    """The regions, held against the genome; a ready-made matrix does not tell which."""
    genome = genome_of(adata) if slots.GENOME in adata.uns else None
    frame = regions_frame(regions, genome, may_be_empty=True)
    if genome is not None:
        coordinates(frame, genome, what=what)
    return frame


def _positive(score: np.ndarray) -> np.ndarray:
    """The same order with every finite score above 0 and -inf as 0."""
    finite = np.isfinite(score)
    lowest = score[finite].min() if finite.any() else 0.0
    return np.where(finite, score - lowest + 1.0, 0.0)


def overlaps(var: pd.DataFrame, regions: pd.DataFrame) -> np.ndarray:
    """Which features overlap any of the regions by at least 1 bp (chr1 and 1 are taken as the same)."""
    missing = [c for c in (slots.CHROM, slots.START, slots.END) if c not in var]
    if missing:
        msg = f"adata.var has no {', '.join(missing)}; features need coordinates to be compared with regions."
        raise MissingSlotError(msg)
    category = pd.Categorical(var[slots.CHROM])
    chroms = [str(name) for name in category.categories]
    code = {name: i for i, name in enumerate(chroms)}
    for name in chroms:
        for alias in other_spelling(name):
            code.setdefault(alias, code[name])
    found = regions["chrom"].astype(str).map(code).fillna(-1).to_numpy(np.int64)
    c, s, e = (
        a.astype(np.int64) for a in merge_intervals(found, regions["start"].to_numpy(), regions["end"].to_numpy())
    )
    if not c.size:
        return np.zeros(len(var), bool)
    span = np.int64(1) << 32
    at = category.codes.astype(np.int64) * span
    start, end = at + var[slots.START].to_numpy(np.int64), at + var[slots.END].to_numpy(np.int64)
    first = np.searchsorted(c * span + e, start, side="right")
    overlap: np.ndarray = (first < c.size) & ((c * span + s)[np.minimum(first, c.size - 1)] < end)
    return overlap
