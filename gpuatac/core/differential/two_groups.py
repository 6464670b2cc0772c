"""Which features differ between two groups of cells: what is tested, and the tests."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from gpuatac.core.differential import glm, ranks
from gpuatac.core.differential.groups import features_by_cells
from gpuatac.core.differential.multitest import benjamini_hochberg

if TYPE_CHECKING:
    from gpuatac.backend.protocol import Backend

Direction = Literal["both", "positive", "negative"]
AT_ONCE = 1 << 27  # counts of tested features held at once
PSEUDO_COUNT = 1.0


class Side(NamedTuple):
    """One group of cells: its size, the sums of each feature and the cells with a count of it."""

    n_cells: int
    sums: np.ndarray
    found: np.ndarray


class Outcome(NamedTuple):
    """Features (indices) with log2 fold change, p and adjusted p, by rising adjusted p."""

    feature: np.ndarray
    log_fc: np.ndarray
    pvalue: np.ndarray
    adjusted: np.ndarray


def log_fold_change(first: Side, second: Side) -> np.ndarray:
    """log2 of the ratio of counts per million, each feature with one count more."""
    per_million = []
    for side in (first, second):
        x = side.sums + PSEUDO_COUNT
        per_million.append(x / (x.sum() / 1e6))
    return np.asarray(np.log2(per_million[0] / per_million[1]))


def to_test(
    first: Side, second: Side, features: np.ndarray, *, direction: Direction, min_log_fc: float, min_pct: float
) -> tuple[np.ndarray, np.ndarray]:
    """Those of ``features`` found in a share ``min_pct`` of either group's cells that change by ``min_log_fc`` in the given
    direction, and their log2 fold changes.
    """
    log_fc = log_fold_change(first, second)[features]
    seen = (first.found[features] / first.n_cells >= min_pct) | (second.found[features] / second.n_cells >= min_pct)
    size = {"both": np.abs(log_fc), "positive": log_fc, "negative": -log_fc}[direction]
    kept = seen & (size >= min_log_fc)
    return features[kept], log_fc[kept]


def compare(
    bk: Backend,
    x: Any,
    features: np.ndarray,
    cells: np.ndarray,
    second: np.ndarray,
    *,
    method: Literal["lrt", "wilcoxon"],
    totals: Any,
    covariates: np.ndarray,
    weight: np.ndarray,
    at_once: int = AT_ONCE,
) -> np.ndarray:
    """p of each of ``features`` between the ``cells`` (ascending) of the first and the ``second`` (bool) group.

    ``totals``: counts of each of ``cells``, on the backend; ``covariates`` (n_cells, d) on the host, beside log(1 + total);
    ``weight``: about how many entries each feature has; features are tested in blocks of about ``at_once`` entries.
    """
    distinct, back = np.unique(features, return_inverse=True)
    room = np.cumsum(weight[distinct])
    steps = np.arange(at_once, room[-1] if room.size else 0, at_once)
    cuts = np.unique([0, *np.searchsorted(room, steps), distinct.size])
    depth = np.log1p(bk.to_host(totals))
    design = np.column_stack([depth, covariates])
    out = np.empty(distinct.size)
    for low, high in itertools.pairwise(cuts.tolist()):
        counts = features_by_cells(bk, x, cells, distinct[low:high])
        if method == "lrt":
            out[low:high] = glm.likelihood_ratio_pvalues(bk, counts, design, second)
        else:
            out[low:high] = ranks.rank_sum_pvalues(bk, ranks.of_total(counts, totals), second)
    return out[back]


def sorted_tests(features: np.ndarray, log_fc: np.ndarray, pvalue: np.ndarray) -> Outcome:
    """The tests by rising adjusted p; equals stay in the order given."""
    adjusted = benjamini_hochberg(pvalue)
    order = np.argsort(adjusted, kind="stable")
    return Outcome(features[order], log_fc[order], pvalue[order], adjusted[order])
