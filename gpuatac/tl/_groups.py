"""Counts by group of cells, and the features that mark a group."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from gpuatac import check, slots
from gpuatac.backend import backend_of
from gpuatac.core.differential import groups
from gpuatac.errors import InputError
from gpuatac.io.genome.regions import lengths_of
from gpuatac.io.matrices.canonical import canonical_matrix
from gpuatac.provenance import records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

logger = logging.getLogger(__name__)
N_CELLS = "n_cells"


@records("tl.aggregate")
def aggregate(
    adata: AnnData,
    groupby: str | Sequence[Any],
    *,
    normalize: Literal["RPM", "RPKM"] | None = None,
) -> AnnData:
    """Add up the counts of each group of cells.

    Reads   X: counts, host, device or on disk; obs[groupby]; var: "start" and "end", or names "chr:start-end" (RPKM).
    Returns an AnnData of groups x features: X: float64 on the host; obs: "n_cells"; var as in ``adata``; its history and this call.
            Groups are in order of first appearance; cells without a group are left out. Equal to SnapATAC2 2.9.0's aggregate_X.

    Parameters
    ----------
    adata
        Cells x features.
    groupby
        A column of obs, or one label for each cell.
    normalize
        None: sums. "RPM": per million counts of the group. "RPKM": the same per kb of the feature.

    Raises
    ------
    InputError
        When no cell has a group, or "RPKM" is asked for features without coordinates.

    Cost: one pass over the counts.

    Examples
    --------
    >>> import anndata, numpy, gpuatac as ga
    >>> adata = anndata.AnnData(numpy.array([[1, 0], [2, 1], [0, 4]], "float32"))
    >>> adata.obs["cluster"] = ["T", "B", "T"]
    >>> ga.tl.aggregate(adata, "cluster").X.tolist()
    [[1.0, 4.0], [2.0, 1.0]]
    """
    import anndata as ad

    check.one_of("normalize", normalize, (None, "RPM", "RPKM"))
    codes, names = labels_of(adata, groupby)
    lengths = None
    if normalize == "RPKM":
        lengths = lengths_of(adata.var, what="features", remedy='use normalize="RPM"')
    x = canonical_matrix(adata)
    sums, _ = groups.group_sums(backend_of(x), x, codes, len(names))
    n_cells = np.bincount(codes[codes >= 0], minlength=len(names))
    obs = pd.DataFrame({N_CELLS: n_cells}, index=pd.Index(names, dtype=object))
    uns = {slots.HISTORY: adata.uns[slots.HISTORY]} if slots.HISTORY in adata.uns else {}
    return ad.AnnData(X=groups.rates(sums, normalize, lengths), obs=obs, var=adata.var.copy(), uns=uns)


def marker_regions(adata: AnnData, groupby: str | Sequence[Any], *, pvalue: float | None = None) -> dict[str, pd.Index]:
    """Find features whose accessibility stands out in one group.

    Reads   X, obs[groupby] and var, as ``aggregate`` does.
    Returns names of features by group, in the order of the groups; groups without any are absent. Nothing is written, and the
            history has no record of it.

    A feature marks a group where log2(1 + RPKM) has a z-score among the groups with upper tail below ``pvalue``. Equal to
    SnapATAC2 2.9.0 at the same ``pvalue``. With k groups no z-score exceeds sqrt(k - 1): a bound that none can reach gives
    nothing and a warning.

    Parameters
    ----------
    adata, groupby
        As in ``aggregate``.
    pvalue
        Bound on the upper tail of the normal distribution, in [0, 1]; at 1 every feature that differs marks every group. None:
        the rule of ``gpuatac run``, 0.01 of 7 groups or more, and the tail of 0.95 sqrt(k - 1) of k = 3 to 6 groups, whose
        tails never are below 0.01. Of fewer than 3 groups nothing can stand out, and None gives nothing and a warning.

    Raises
    ------
    InputError
        As ``aggregate``.

    Examples
    --------
    >>> import gpuatac as ga
    >>> markers = ga.tl.marker_regions(peaks, "leiden")  # doctest: +SKIP
    """
    if pvalue is not None:
        check.between("pvalue", pvalue, 0, 1)
    counts = aggregate(adata, groupby, normalize="RPKM")
    k = counts.n_obs
    if pvalue is None and k < groups.FEWEST_FOR_MARKERS:
        logger.warning("no feature stands out among %d groups; pass pvalue=, or compare them by tl.diff_test", k)
        return {}
    bound = groups.marker_pvalue(pvalue, k)
    if bound <= (lowest := groups.lowest_tail(k)):
        found = "no feature can have p < %g among %d groups, where the lowest is %.3g; pass a larger pvalue=, or None"
        logger.warning(found, bound, k, lowest)
    marks = groups.standing_out(np.log2(1 + counts.X), bound)
    return {name: counts.var_names[row] for name, row in zip(counts.obs_names, marks, strict=True) if row.any()}


def labels_of(adata: AnnData, groupby: str | Sequence[Any]) -> tuple[np.ndarray, list[str]]:
    """int32 code of each cell (-1: none) and the names of the groups, by first appearance."""
    values = slots.obs_of(adata, groupby, writer="a verb that labels cells") if isinstance(groupby, str) else groupby
    column = pd.Series(np.asarray(values, dtype=object))
    if len(column) != adata.n_obs:
        msg = f"groupby must have a label for each of {adata.n_obs} cells, got {len(column)}; pass a column of obs."
        raise InputError(msg)
    codes, names = pd.factorize(column)
    if not len(names):
        msg = "groupby gives no cell a group; pass a column of obs with labels."
        raise InputError(msg)
    return codes.astype(np.int32), [str(name) for name in names]
