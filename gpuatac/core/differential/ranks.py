"""Wilcoxon's rank sum test of many sparse features at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from gpuatac.backend.protocol import Backend, Csr


def rank_sum_pvalues(bk: Backend, values: Csr, second: np.ndarray) -> np.ndarray:
    """Two-sided p of each feature: normal approximation, corrected for ties, no continuity correction.

    With R the sum of the mean ranks of the first group, n1 + n2 = n cells and tie groups of t cells:
    z = (R - n1 (n + 1) / 2) / sqrt(n1 n2 / 12 (n + 1 - sum(t^3 - t) / (n (n - 1)))), p = 2 Phi(-|z|).

    ``values``: features x cells, positive; a cell without an entry is 0, below all of them. A feature of one value has p = 1.
    ``second``: bool (n,) on the host, the cells of the second group.
    """
    from scipy.special import erfc

    xp = bk.xp
    n_features, n = int(values.indptr.shape[0]) - 1, int(second.size)
    n2 = int(second.sum())
    n1 = n - n2
    filled = values.indptr[1:] - values.indptr[:-1]
    feature = xp.searchsorted(values.indptr, xp.arange(int(values.indices.shape[0])), side="right") - 1
    order = xp.lexsort(xp.stack([values.data.astype(np.float64), feature.astype(np.float64)]))
    data, first = values.data[order], bk.asarray(~second)[values.indices[order]]
    feature = feature[order]
    fresh = xp.ones(data.shape, bool)
    fresh[1:] = (feature[1:] != feature[:-1]) | (data[1:] != data[:-1])
    begins = xp.flatnonzero(fresh)
    ends = xp.append(begins[1:], xp.asarray([int(data.shape[0])]))
    tied = (ends - begins).astype(np.float64)
    of_run = feature[begins]
    zeros = (n - filled).astype(np.float64)
    rank = zeros[of_run] + (begins - values.indptr[of_run]) + (tied + 1) / 2
    run = xp.cumsum(fresh) - 1

    def per_feature(key: Any, weights: Any) -> Any:
        return xp.bincount(key, weights=weights, minlength=n_features)[:n_features]

    filled_first = per_feature(feature, first.astype(np.float64))
    ranks = per_feature(feature, rank[run] * first) + (n1 - filled_first) * (zeros + 1) / 2
    ties = per_feature(of_run, tied**3 - tied) + zeros**3 - zeros
    variance = n1 * n2 / 12.0 * ((n + 1) - ties / (n * (n - 1.0)))
    gap = bk.to_host(xp.abs(ranks - n1 * (n + 1) / 2.0))
    variance = bk.to_host(variance)
    flat = variance <= 1e-9 * n1 * n2
    z = np.where(flat, 0.0, gap / np.sqrt(np.where(flat, 1.0, variance)))
    return np.asarray(erfc(z / np.sqrt(2.0)))


def of_total(values: Csr, totals: Any) -> Csr:
    """Each count divided by the total of its cell, in float64: equal shares are equal numbers."""
    return values._replace(data=values.data.astype(np.float64) / totals[values.indices])
