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


def binomial_deviance(bk: Backend, x: Any) -> np.ndarray:
    """Deviance of each feature from a constant rate per cell depth: float64 (n_features,) on the host.

    D_j = 2 sum_i [x ln(x / (n_i p_j)) + (n_i - x) ln((n_i - x) / (n_i (1 - p_j)))], n_i the depth of cell i and p_j the
    share of feature j in all counts (Townes et al., Genome Biology 2019). Zeros enter in closed form: O(nnz).
    """
    xp = bk.xp
    depth = row_sums(bk, x)
    total = depth.sum()
    weight = x.data.astype(np.float64)
    p = xp.bincount(x.indices, weights=weight, minlength=x.shape[1]) / total
    n = (
        xp.repeat(depth, np.diff(bk.to_host(x.indptr)).tolist())
        if bk.name == "gpu"
        else np.repeat(depth, np.diff(x.indptr))
    )
    share = p[x.indices]
    rest = n - weight
    safe = xp.where(rest > 0, rest, 1.0)
    term = weight * xp.log(xp.where(weight > 0, weight, 1.0) / (n * share)) + rest * xp.log(
        safe / (n * xp.where(share < 1, 1 - share, 1.0))
    )
    present = xp.bincount(x.indices, weights=term, minlength=x.shape[1])
    covered = xp.bincount(x.indices, weights=n, minlength=x.shape[1])
    absent = (total - covered) * xp.log(xp.where(p < 1, 1 - p, 1.0))
    return bk.to_host(2 * (present - absent))
