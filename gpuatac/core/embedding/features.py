"""Which features to keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac.core.embedding.spectral import column_sums, document_frequency, row_sums
from gpuatac.core.rows import row_blocks

if TYPE_CHECKING:
    from gpuatac.backend.protocol import Backend


MOST_COUNTED = 1 << 24
BLOCK_NNZ = 1 << 24  # non-zeros looked at together


def select_by_rank(
    score: np.ndarray, n_features: int, *, lower: float, upper: float, eligible: np.ndarray
) -> np.ndarray:
    """Mask of the ``n_features`` highest scores once the extremes are cut off.

    SnapATAC2's rule: of the eligible features with a positive score, int(lower * n) at the low end and int(upper * n) at
    the high end are dropped, then the highest are taken. Of equal scores the feature that comes first in the matrix
    ranks higher, so that the choice does not depend on a sorting algorithm.
    """
    candidates = np.flatnonzero(eligible & (score > 0))
    n = candidates.size
    n_low, n_high = int(lower * n), int(upper * n)
    first, last = n_high, min(n - n_low, n_high + n_features)  # ranks, counted from the highest score
    mask = np.zeros(score.size, bool)
    if first < last:
        values = _compact(score[candidates])
        mask[candidates] = _highest(values, last) & ~_highest(values, first)
    return mask


def _compact(values: np.ndarray) -> np.ndarray:
    """Counts as int32 where that changes nothing, so that they can be counted instead of partitioned."""
    if values.max() >= MOST_COUNTED:
        return values
    whole = values.astype(np.int32)
    return whole if np.array_equal(whole, values) else values


def _highest(values: np.ndarray, k: int) -> np.ndarray:
    """Mask of the k highest values; of equal ones the first. O(n): nothing is sorted."""
    if k in (0, values.size):
        return np.full(values.size, k > 0)
    if values.dtype.kind == "i":
        at_least = np.cumsum(np.bincount(values)[::-1])[::-1]  # values of v or more
        cut = np.flatnonzero(at_least >= k)[-1]
    else:
        cut = np.partition(values, values.size - k)[values.size - k]
    mask = values > cut
    ties = np.flatnonzero(values == cut)
    mask[ties[: k - int(mask.sum())]] = True
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
    count = column_sums(bk, x)
    squares = xp.zeros(n_features)
    for block in row_blocks(x, max_nnz=BLOCK_NNZ):
        per_row = np.diff(bk.to_host(block.indptr))
        of_row = inverse[block.low : block.low + block.n_rows]
        of_entry = xp.repeat(of_row, per_row.tolist() if bk.name == "gpu" else per_row)
        weight = block.data.astype(np.float64)
        squares += xp.bincount(block.indices, weights=weight * weight * of_entry, minlength=n_features)
    c = xp.where(count > 0, count, 1.0)
    excess = squares / c - count - (n - 1)
    variance = 2.0 * (n - 1) + (inverse.sum() - n * n - 2.0 * n + 2.0) / c
    open_to_chance = variance > 1e-9 * n
    score = xp.where(open_to_chance, excess / xp.sqrt(xp.where(open_to_chance, variance, 1.0)), 0.0)
    return bk.to_host(xp.where(count > 0, score, -xp.inf))


def without_shared_feature(bk: Backend, x: Any, used: Any) -> Any:
    """bool (n_cells,): cells that have none of the features ``used`` (bool) in common with another cell."""
    xp = bk.xp
    shared = used & (document_frequency(bk, x) > 1)
    parts = []
    for block in row_blocks(x, max_nnz=BLOCK_NNZ):
        hits = xp.concatenate([xp.zeros(1, np.int64), xp.cumsum(shared[block.indices], dtype=np.int64)])
        parts.append(hits[block.indptr[1:]] == hits[block.indptr[:-1]])
    return xp.concatenate(parts) if parts else xp.zeros(0, bool)
