"""Counts by group of cells: sums, rates, and the features that stand out in one group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gpuatac.core.rows import row_blocks

if TYPE_CHECKING:
    from gpuatac.backend.protocol import Backend, Csr

MARKER_P = 0.01
ALONE = 0.95  # of the highest z-score that there can be
FEWEST_FOR_MARKERS = 3  # of two groups every z-score is 1 or -1
BLOCK_NNZ = 1 << 24  # entries of a matrix on disk read at once


def blocks_of(x: Any) -> Any:
    """Rows of ``x``: small blocks from disk, the largest that offsets allow from memory."""
    return row_blocks(x, max_nnz=BLOCK_NNZ) if hasattr(x, "row_blocks") else row_blocks(x)


def group_sums(bk: Backend, x: Any, group: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """On the host: float64 sums and int64 numbers of cells with a count, (n_groups, n_features)."""
    shape = (n_groups, int(x.shape[1]))
    sums, found = bk.matrices.group_sums(blocks_of(x), group.astype(np.int32), shape=shape)
    return bk.to_host(sums), bk.to_host(found)


def features_by_cells(bk: Backend, x: Any, cells: np.ndarray, features: np.ndarray) -> Csr:
    """The chosen counts as features x cells, in the order of the two index arrays; ``cells`` ascend, features are distinct."""
    row, column = np.full(int(x.shape[0]), -1, np.int32), np.full(int(x.shape[1]), -1, np.int32)
    row[cells], column[features] = np.arange(cells.size), np.arange(features.size)
    return bk.matrices.columns(lambda: blocks_of(x), row, column)


def rates(sums: np.ndarray, normalize: Literal["RPM", "RPKM"] | None, lengths: np.ndarray | None) -> np.ndarray:
    """Sums per million of their row, and per kb of ``lengths`` (bp); a row without counts stays zero."""
    if normalize is None:
        return sums
    total = sums.sum(axis=1, keepdims=True)
    out = sums / np.where(total > 0, total / 1e6, 1.0)
    return out if normalize == "RPM" or lengths is None else out / (lengths / 1000.0)


def marker_pvalue(pvalue: float | None, n_groups: int) -> float:
    """The bound asked for; None: 0.01, or of few groups what a feature reaches that is open in one of them alone.

    With k groups no z-score exceeds sqrt(k - 1), so that none of 6 or fewer has a tail below 0.01; of those the bound is the
    tail of 0.95 sqrt(k - 1).
    """
    from scipy.special import ndtr

    if pvalue is not None:
        return pvalue
    return max(MARKER_P, float(ndtr(-ALONE * np.sqrt(n_groups - 1))))


def lowest_tail(n_groups: int) -> float:
    """The tail of sqrt(k - 1), the highest z-score among k groups."""
    from scipy.special import ndtr

    return float(ndtr(-np.sqrt(max(n_groups - 1, 0))))


def standing_out(values: np.ndarray, pvalue: float) -> np.ndarray:
    """Where the upper tail of a value's z-score among the groups (variance over n) is below ``pvalue``; nowhere in a constant
    column.
    """
    from scipy.special import ndtr

    constant = (values == values[:1]).all(axis=0)
    deviation = values - values.mean(axis=0)
    spread = values.std(axis=0)
    z = deviation / np.where(constant | (spread == 0), 1.0, spread)
    return (ndtr(-z) < pvalue) & ~constant
