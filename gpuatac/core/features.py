"""Which features to keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac.core.spectral import row_sums

if TYPE_CHECKING:
    from gpuatac.backend.protocol import Backend


def select_by_rank(
    score: np.ndarray, n_features: int, *, lower: float, upper: float, eligible: np.ndarray
) -> np.ndarray:
    """Mask of the ``n_features`` highest scores once the extremes are cut off.

    SnapATAC2's rule: of the eligible features with a positive score, int(lower * n) at the low end and int(upper * n) at
    the high end are dropped, then the highest are taken. Of equal scores the feature that comes first in the matrix
    ranks higher, so that the choice does not depend on a sorting algorithm.
    """
    candidates = np.flatnonzero(eligible & (score > 0))
    falling = candidates[np.argsort(-score[candidates], kind="stable")]
    n_low, n_high = int(lower * falling.size), int(upper * falling.size)
    chosen = falling[n_high : falling.size - n_low][:n_features]
    mask = np.zeros(score.size, bool)
    mask[chosen] = True
    return mask


def dispersion_score(bk: Backend, x: Any) -> np.ndarray:
    """How far each feature varies beyond Poisson counts at a constant rate: float64 (n_features,) on the host.

    With n_i the depth of cell i, p_j the share of feature j in all counts and mu_ij = n_i p_j, Pearson's
    Q_j = sum_i (x_ij - mu_ij)^2 / mu_ij has mean N and variance 2 N + sum_i 1 / mu_ij when counts are Poisson. The score is
    (Q_j - N) / sd, so rare and common features are judged alike; -inf for features without counts. Since
    sum_i mu_ij is the feature's count X_j, Q_j = sum_nonzero x_ij^2 / mu_ij - X_j: O(nnz).
    """
    xp = bk.xp
    n_cells, n_features = x.shape
    depth = row_sums(bk, x)
    per_row = np.diff(bk.to_host(x.indptr))
    inverse = xp.where(depth > 0, 1.0 / xp.where(depth > 0, depth, 1.0), 0.0)
    of_entry = xp.repeat(inverse, per_row.tolist() if bk.name == "gpu" else per_row)
    weight = x.data.astype(np.float64)
    count = xp.bincount(x.indices, weights=weight, minlength=n_features)
    squares = xp.bincount(x.indices, weights=weight * weight * of_entry, minlength=n_features)
    p = xp.where(count > 0, count, 1.0) / depth.sum()
    q = squares / p - count
    score = (q - n_cells) / xp.sqrt(2.0 * n_cells + inverse.sum() / p)
    return bk.to_host(xp.where(count > 0, score, -xp.inf))
