"""Counts of chosen rows and columns on a GPU, and what the embedding computes from them, through cuSPARSE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpuatac.core.rows import row_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK_NNZ = 1 << 28  # entries of a block: far below 2^31, where the offsets of cuSPARSE end
BYTES_PER_NNZ = 24  # of X and X' in float64
PAIRS_AT_ONCE = 20_000


class Block(NamedTuple):
    """Rows low ... of the matrix as CSR; with memory to spare float64, and its transpose, too."""

    low: int
    rows: Any
    transposed: Any | None


class Packed:
    """The GPU side of ``protocol.Packed``.

    cuSPARSE wants one type and is fast on CSR alone: where memory allows X and X' are kept in float64 (24 bytes a
    non-zero), else a block of rows is converted for each product. Blocks hold less than 2^31 entries.
    """

    def __init__(self, xp: Any, sparse: Any, x: Any, columns: Any, rows: Any, *, room: int) -> None:
        self._xp, self._sparse = xp, sparse
        n_columns = int(x.shape[1])
        keep = None if columns is None else xp.asarray(columns, dtype=bool)
        number = None if keep is None else xp.cumsum(keep, dtype=np.int64).astype(np.int32) - 1
        n_kept = n_columns if keep is None else int(keep.sum())
        self.shape = (int(x.shape[0]) if rows is None else len(rows), n_kept)
        parts, low = [], 0
        for matrix in self._picked(x, rows):
            part = matrix if keep is None and bool((matrix.data != 0).all()) else self._kept(matrix, keep, number)
            parts.append((low, part))
            low += int(part.shape[0])
        self.nnz = sum(int(part.nnz) for _, part in parts)
        wide = self.nnz * BYTES_PER_NNZ <= room
        self._blocks = [
            Block(first, part.astype(np.float64), part.astype(np.float64).T.tocsr())
            if wide
            else Block(first, part, None)
            for first, part in parts
        ]

    def _picked(self, x: Any, rows: Any) -> Iterator[Any]:
        """Blocks of the chosen rows (ascending) as CSR of the device."""
        xp = self._xp
        for block in row_blocks(x, max_nnz=BLOCK_NNZ):
            data = xp.asarray(block.data)
            parts = (data if data.dtype.kind == "f" else data.astype(np.float32), xp.asarray(block.indices))
            indptr = xp.asarray(block.indptr)
            indptr = indptr.astype(parts[1].dtype) if indptr.dtype != parts[1].dtype else indptr
            matrix = self._sparse.csr_matrix((*parts, indptr), shape=(block.n_rows, int(x.shape[1])))
            if rows is not None:
                a, b = np.searchsorted(rows, block.low), np.searchsorted(rows, block.low + block.n_rows)
                if a == b:
                    continue
                matrix = matrix[xp.asarray(np.asarray(rows[a:b]) - block.low)]
            yield matrix

    def _kept(self, matrix: Any, keep: Any, number: Any) -> Any:
        """The non-zero entries of the kept columns, by one pass over the entries."""
        xp = self._xp
        kept = matrix.data != 0
        if keep is not None:
            kept &= keep[matrix.indices]
        counted = xp.concatenate([xp.zeros(1, np.int64), xp.cumsum(kept, dtype=np.int64)])
        indices = matrix.indices[kept]
        parts = (
            matrix.data[kept],
            indices if keep is None else number[indices],
            counted[matrix.indptr].astype(np.int32),
        )
        return self._sparse.csr_matrix(parts, shape=(int(matrix.shape[0]), self.shape[1]))

    def document_frequency(self) -> Any:
        """See ``protocol.Packed.document_frequency``."""
        out = self._xp.zeros(self.shape[1], np.int64)
        for block in self._blocks:
            out += self._xp.bincount(block.rows.indices, minlength=self.shape[1])
        return out

    def _per_row(self, value: Callable[[Any], Any]) -> Any:
        xp = self._xp
        return xp.concatenate([xp.zeros(0), *(value(block.rows) for block in self._blocks)])

    def row_sums(self) -> Any:
        """See ``protocol.Packed.row_sums``."""
        return self._per_row(lambda rows: row_sums(self._xp, rows))

    def squared_norms(self, weights: Any) -> Any:
        """See ``protocol.Packed.squared_norms``."""
        return self._per_row(lambda rows: squares(rows) @ weights)

    def times(self, s: Any) -> Any:
        """See ``protocol.Packed.times``."""
        out = self._xp.zeros((self.shape[0], *s.shape[1:]))
        for block in self._blocks:
            out[block.low : block.low + int(block.rows.shape[0])] = block.rows.astype(np.float64, copy=False) @ s
        return out

    def transposed_times(self, u: Any) -> Any:
        """See ``protocol.Packed.transposed_times``."""
        out = self._xp.zeros((self.shape[1], *u.shape[1:]))
        for block in self._blocks:
            part = u[block.low : block.low + int(block.rows.shape[0])]
            transposed = block.rows.astype(np.float64).T if block.transposed is None else block.transposed
            out += transposed @ part
        return out

    def gram(self, weights: Any) -> Callable[[Any], Any]:
        """See ``protocol.Packed.gram``."""

        def product(u: Any) -> Any:
            sums = self.transposed_times(self._xp.ascontiguousarray(u))
            return self.times(weights * sums if u.ndim == 1 else weights[:, None] * sums)

        return product

    def _rows_of(self, rows: np.ndarray) -> Any:
        """The given rows, in the given order, as CSR float64."""
        low = np.array([block.low for block in self._blocks])
        of = np.searchsorted(low, rows, side="right") - 1
        found, order = [], []
        for b in np.unique(of):
            at = np.flatnonzero(of == b)
            found.append(self._blocks[b].rows[self._xp.asarray(rows[at] - low[b])].astype(np.float64))
            order.append(at)
        if len(found) == 1:
            return found[0]
        back = np.argsort(np.concatenate(order))
        return self._sparse.vstack(found, format="csr")[self._xp.asarray(back)]

    def _pairs(self, left: Any, right: Any) -> Iterator[tuple[slice, Any, Any]]:
        left, right = (np.asarray(a.get() if hasattr(a, "get") else a) for a in (left, right))
        for low in range(0, left.size, PAIRS_AT_ONCE):
            part = slice(low, low + PAIRS_AT_ONCE)
            yield part, self._rows_of(left[part]), self._rows_of(right[part])

    def pair_products(self, left: Any, right: Any, weights: Any) -> Any:
        """See ``protocol.Packed.pair_products``."""
        out = self._xp.empty(len(left), np.float64)
        for part, a, b in self._pairs(left, right):
            out[part] = a.multiply(b).tocsr() @ weights
        return out

    def union_frequency(self, left: Any, right: Any) -> Any:
        """See ``protocol.Packed.union_frequency``."""
        out = self._xp.zeros(self.shape[1], np.int64)
        for _, a, b in self._pairs(left, right):
            out += self._xp.bincount((a + b).tocsr().indices, minlength=self.shape[1])
        return out

    def similarities(self, weights: Any) -> None:
        """See ``protocol.Packed.similarities``: never written out."""


def row_sums(xp: Any, matrix: Any) -> Any:
    """float64 (n_rows,): sums of the rows of a CSR matrix, exact for counts."""
    running = xp.concatenate([xp.zeros(1), xp.cumsum(matrix.data, dtype=np.float64)])
    return running[matrix.indptr[1:]] - running[matrix.indptr[:-1]]


def squares(matrix: Any) -> Any:
    """The squared entries as CSR float64."""
    out = matrix.astype(np.float64, copy=True)
    out.data *= out.data
    return out
