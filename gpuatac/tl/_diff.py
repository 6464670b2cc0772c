"""Differential accessibility between groups of cells."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from gpuatac import check, slots
from gpuatac.backend import backend_of
from gpuatac.core.differential import two_groups
from gpuatac.core.differential.glm import design_columns
from gpuatac.core.differential.groups import group_sums
from gpuatac.core.differential.two_groups import Outcome, Side
from gpuatac.errors import InputError
from gpuatac.io.matrices.canonical import canonical_matrix
from gpuatac.provenance import records
from gpuatac.tl._groups import labels_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

logger = logging.getLogger(__name__)
FEATURE, LOG_FC, PVALUE, ADJUSTED = "feature name", "log2(fold_change)", "p-value", "adjusted p-value"
REST = "rest"


class _Comparison(NamedTuple):
    names: tuple[str, str]
    codes: tuple[list[int], list[int]]  # labels on either side


@records("tl.diff_test", in_frame=True)
def diff_test(
    adata: AnnData,
    cell_group1: Any = None,
    cell_group2: Any = None,
    *,
    groupby: str | Sequence[Any] | None = None,
    comparison: Literal["one-vs-rest", "pairwise"] = "one-vs-rest",
    features: Any = None,
    method: Literal["lrt", "wilcoxon"] = "lrt",
    covariates: Sequence[str] | None = None,
    direction: Literal["both", "positive", "negative"] = "both",
    min_log_fc: float = 0.25,
    min_pct: float = 0.05,
) -> pd.DataFrame:
    """Test which features differ in accessibility between groups of cells.

    Reads   X: counts, host, device or on disk; obs[groupby]; obs[covariates].
    Returns a frame "feature name", "log2(fold_change)", "p-value", "adjusted p-value" (Benjamini and Hochberg, over the tested
            features of a comparison), by rising adjusted p. With ``groupby`` "group1" and "group2" come first, one block of
            rows for each comparison. Nothing is written; ``pp.history`` of the frame tells the parameters.

    Tested are features found in a share ``min_pct`` of the cells of either group whose log2 ratio of counts per million, each
    feature with one count more, is ``min_log_fc`` or larger. "lrt": a logistic regression of "the cell has a count" on log(1
    + total of the cell) and the group against the same without the group; twice the gain in log-likelihood is chi-square with
    one degree of freedom. This is SnapATAC2 2.9.0's test; its solver stops early, so p-values agree to about 0.02 in log10.
    "wilcoxon": rank sum test of counts per total of the cell, corrected for ties, normal approximation.

    Parameters
    ----------
    adata
        Cells x features.
    cell_group1, cell_group2
        Cells as names, indices or a bool mask; a positive fold change is more in group 1. Without ``cell_group2`` all other
        cells.
    groupby
        In place of cells: a column of obs, or a label for each cell; cells without a label are left out.
    comparison
        With ``groupby``: each group against all others, or each pair of groups.
    features
        Names, indices or a bool mask of the features that may be tested; None for all. The totals of cells and the millions
        of the fold change take in every feature.
    method
        "lrt" or "wilcoxon".
    covariates
        lrt: columns of obs that join log(1 + total) in both models, numeric as they are, others as indicators of their levels.
    direction
        "positive": only features with more in group 1; "negative": with less; "both".
    min_log_fc, min_pct
        Least fold change (log2) and least share of cells of a tested feature.

    Raises
    ------
    InputError
        For empty or overlapping groups, and for cells or features that ``adata`` lacks.

    Source: Zhang et al., Nature Methods 2024 (SnapATAC2); Wilcoxon 1945. Cost: one pass over the counts for the filter, one
    for the tested features, then about 10 Newton steps for each of them, O(cells) each.

    Examples
    --------
    >>> import anndata, numpy, gpuatac as ga
    >>> x = numpy.random.default_rng(0).poisson([[1, 1, 1]] * 40 + [[1, 1, 9]] * 40).astype("float32")
    >>> found = ga.tl.diff_test(anndata.AnnData(x), range(40), method="wilcoxon")
    >>> found["feature name"].iloc[0]
    '2'
    """
    check.one_of("method", method, ("lrt", "wilcoxon"))
    check.one_of("direction", direction, ("both", "positive", "negative"))
    check.between("min_pct", min_pct, 0, 1)
    check.between("min_log_fc", min_log_fc, -float("inf"))
    codes, names, comparisons = _comparisons(adata, cell_group1, cell_group2, groupby, comparison)
    chosen = _indices(features, adata.var_names, "features") if features is not None else np.arange(adata.n_vars)
    design = _covariates(adata, covariates, codes >= 0, method)

    x = canonical_matrix(adata)
    bk = backend_of(x)
    totals = bk.linalg.row_sums(x)
    sums, found = group_sums(bk, x, codes, len(names))
    n_cells = np.bincount(codes[codes >= 0], minlength=len(names))

    def side(members: list[int]) -> Side:
        return Side(int(n_cells[members].sum()), sums[members].sum(axis=0), found[members].sum(axis=0))

    results = []
    for pair in comparisons:
        first, second = (side(members) for members in pair.codes)
        limits: Any = {"direction": direction, "min_log_fc": min_log_fc, "min_pct": min_pct}
        tested, log_fc = two_groups.to_test(first, second, chosen, **limits)
        if not tested.size:
            logger.warning("no feature is left to test between %s and %s", *pair.names)
        cells = np.flatnonzero(np.isin(codes, [*pair.codes[0], *pair.codes[1]]))
        p = two_groups.compare(
            bk,
            x,
            tested,
            cells,
            np.isin(codes[cells], pair.codes[1]),
            method=method,
            totals=totals[bk.asarray(cells)],
            covariates=design[cells],
            weight=first.found + second.found,
        )
        results.append(
            _frame(two_groups.sorted_tests(tested, log_fc, p), adata, pair.names if groupby is not None else None)
        )
    return pd.concat(results, ignore_index=True)


def _frame(tests: Outcome, adata: AnnData, names: tuple[str, str] | None) -> pd.DataFrame:
    columns: dict[str, Any] = {}
    if names is not None:
        columns = {
            f"group{i + 1}": pd.Series([name] * tests.feature.size, dtype=object) for i, name in enumerate(names)
        }
    columns |= {
        FEATURE: adata.var_names[tests.feature].to_numpy(object),
        LOG_FC: tests.log_fc,
        PVALUE: tests.pvalue,
        ADJUSTED: tests.adjusted,
    }
    return pd.DataFrame(columns)


def _comparisons(
    adata: AnnData, first: Any, second: Any, groupby: Any, comparison: str
) -> tuple[np.ndarray, list[str], list[_Comparison]]:
    """Label of each cell (-1: in no group), names of the labels, and which are compared."""
    if (first is None) == (groupby is None) or (first is None and second is not None):
        msg = "either cell_group1 (and cell_group2) or groupby must be given; pass one of them."
        raise InputError(msg)
    if groupby is not None:
        check.one_of("comparison", comparison, ("one-vs-rest", "pairwise"))
        codes, names = labels_of(adata, groupby)
        everyone = range(len(names))
        if len(names) < 2:
            msg = f"groupby has the one group {names[0]!r}; give cells of at least two groups."
            raise InputError(msg)
        if comparison == "pairwise":
            pairs = itertools.combinations(everyone, 2)
            return codes, names, [_Comparison((names[i], names[j]), ([i], [j])) for i, j in pairs]
        return codes, names, [_Comparison((names[i], REST), ([i], [j for j in everyone if j != i])) for i in everyone]
    codes = np.full(adata.n_obs, -1, np.int32)
    one = _indices(first, adata.obs_names, "cell_group1")
    codes[one] = 0
    other = np.flatnonzero(codes < 0) if second is None else _indices(second, adata.obs_names, "cell_group2")
    if (codes[other] == 0).any():
        shared = int((codes[other] == 0).sum())
        msg = f"{shared} cells are in both groups; give groups without a common cell."
        raise InputError(msg)
    codes[other] = 1
    for name, cells in (("cell_group1", one), ("cell_group2", other)):
        if not cells.size:
            msg = f"{name} has no cell; give at least one."
            raise InputError(msg)
    return codes, ["cell_group1", "cell_group2"], [_Comparison(("cell_group1", "cell_group2"), ([0], [1]))]


def _indices(given: Any, names: pd.Index, what: str) -> np.ndarray:
    """Positions in ``names`` of names, indices or a bool mask, in the order given."""
    values = np.asarray(given if hasattr(given, "__len__") and not isinstance(given, str) else list(given))
    if not values.size:
        return np.empty(0, np.int64)
    if values.dtype == bool:
        if values.shape != (len(names),):
            msg = f"{what} as a mask must have {len(names)} values, got {values.size}."
            raise InputError(msg)
        return np.flatnonzero(values)
    if values.dtype.kind in "iu":
        check.none_true(
            (values < 0) | (values >= len(names)), f"indices of {what} are not in [0, {len(names)})", "correct them"
        )
        return values.astype(np.int64)
    if not names.is_unique:
        msg = f"{what} cannot be told by name, as names repeat; pass indices."
        raise InputError(msg)
    at: np.ndarray = names.get_indexer(values.astype(object)).astype(np.int64)
    missing = [str(v) for v in values[at < 0]]
    if missing:
        msg = f"{len(missing)} of {values.size} names of {what} are not in adata ({', '.join(missing[:3])}); correct them."
        raise InputError(msg)
    return at


def _covariates(adata: AnnData, names: Sequence[str] | None, used: np.ndarray, method: str) -> np.ndarray:
    """float64 (n_obs, d); NaN in cells that are compared raises."""
    wanted = [names] if isinstance(names, str) else list(names or ())
    if wanted and method != "lrt":
        msg = f"covariates belong to method 'lrt', got method {method!r}; leave them out."
        raise InputError(msg)
    parts = [np.empty((adata.n_obs, 0))]
    for name in wanted:
        slots.obs_of(adata, name, writer="a verb that writes it")
        check.none_true(adata.obs[name].isna().to_numpy() & used, f"cells have no {name!r}", "leave those cells out")
        parts.append(design_columns(adata.obs[name]))
    table: np.ndarray = np.nan_to_num(np.hstack(parts))
    return table
