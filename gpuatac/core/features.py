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
    """How far each feature varies beyond chance at a constant rate: float64 (n_features,) on the host.

    With pi_i the share of cell i in all counts and c_j the count of feature j, spreading c_j over the N cells at random
    makes Pearson's Q_j = sum_i (x_ij - c_j pi_i)^2 / (c_j pi_i) of mean N - 1 and variance
    2 (N - 1) + (sum_i 1 / pi_i - N^2 - 2 N + 2) / c_j (Haldane, Biometrika 1937). The score is (Q_j - mean) / sd, so rare
    and common features are judged alike; 0 where chance leaves nothing open, -inf for features without counts. As
    Q_j = sum_nonzero x_ij^2 / (c_j pi_i) - c_j, the cost is O(nnz). Cells without counts do not enter.
    """
    xp = bk.xp
    n_features = x.shape[1]
    depth = row_sums(bk, x)
    n = int((depth > 0).sum())
    inverse = xp.where(depth > 0, depth.sum() / xp.where(depth > 0, depth, 1.0), 0.0)  # 1 / pi
    per_row = np.diff(bk.to_host(x.indptr))
    of_entry = xp.repeat(inverse, per_row.tolist() if bk.name == "gpu" else per_row)
    weight = x.data.astype(np.float64)
    count = xp.bincount(x.indices, weights=weight, minlength=n_features)
    squares = xp.bincount(x.indices, weights=weight * weight * of_entry, minlength=n_features)
    c = xp.where(count > 0, count, 1.0)
    excess = squares / c - count - (n - 1)
    variance = 2.0 * (n - 1) + (inverse.sum() - n * n - 2.0 * n + 2.0) / c
    open_to_chance = variance > 1e-9 * n
    score = xp.where(open_to_chance, excess / xp.sqrt(xp.where(open_to_chance, variance, 1.0)), 0.0)
    return bk.to_host(xp.where(count > 0, score, -xp.inf))
