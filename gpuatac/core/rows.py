"""A counts matrix as blocks of rows, whether it lies in memory or on disk, and where to split it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Non-zeros of a block at most: int32 offsets hold (cuSPARSE, cuML and SciPy's int32 indices all stop at 2^31 - 1).
MAX_NNZ = (1 << 31) - 1


class RowBlock(NamedTuple):
    """Rows low ... low + len(indptr) - 2 of a matrix; ``indptr`` begins at 0."""

    low: int
    indptr: Any  # int64 (n_rows + 1,)
    indices: Any  # int32 (nnz,)
    data: Any  # (nnz,)

    @property
    def n_rows(self) -> int:
        """Rows of the block."""
        return int(self.indptr.shape[0]) - 1


def splits(indptr: np.ndarray, max_nnz: int = MAX_NNZ) -> list[tuple[int, int]]:
    """Consecutive row ranges with at most ``max_nnz`` non-zeros each (a single row may have more).

    ``indptr`` is int64 on the host; offsets beyond 2^31 are exact.
    """
    out = []
    low, n = 0, indptr.shape[0] - 1
    while low < n:
        high = int(np.searchsorted(indptr, indptr[low] + max_nnz, side="right")) - 1
        high = min(max(high, low + 1), n)
        out.append((low, high))
        low = high
    return out


def row_blocks(x: Any, *, max_nnz: int = MAX_NNZ) -> Iterator[RowBlock]:
    """The rows of ``x`` in order, in blocks of at most ``max_nnz`` non-zeros.

    ``x`` is a CSR matrix of either device, whose blocks are views, or anything with a ``row_blocks`` method of its own
    (a matrix on disk), whose blocks are read one after the other.
    """
    if hasattr(x, "row_blocks"):
        yield from x.row_blocks(max_nnz=max_nnz)
        return
    host = x.indptr.get() if hasattr(x.indptr, "get") else np.asarray(x.indptr)
    for low, high in splits(host.astype(np.int64, copy=False), max_nnz):
        a, b = int(host[low]), int(host[high])
        yield RowBlock(low, x.indptr[low : high + 1] - x.indptr[low], x.indices[a:b], x.data[a:b])
