"""Counts of chosen rows and columns on a GPU, and what the embedding computes from them, through cuSPARSE.

cuSPARSE wants one type and is fast on CSR alone: a product with the transpose of a CSR matrix scatters, and is slow. Three ways to hold
X, by what there is room for:

- wide: X and X' as CSR in float64, 24 bytes a non-zero; a product is one call for each block;
- narrow: X in the type it came in, 8 bytes; each product converts it to float64 and, for X', to the CSR of the transpose, piece by
  piece;
- on the host, 5 bytes for counts below 256: the same pieces are brought to the device for each product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from gpuatac.core.rows import row_blocks, splits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK_NNZ = 1 << 28  # entries of a block: far below 2^31, where the offsets of cuSPARSE end
WIDE_BYTES = 24  # of an entry: X and X' in float64
NARROW_BYTES = 8  # X in float32
PIECE_NNZ = 1 << 25  # entries converted at a time: 1.5 GB with the transpose and what its making takes
PAIR_NNZ, PAIR_BYTES = 1 << 25, 64  # entries of pairs of rows taken together at most, and what one takes meanwhile
SMALL_COUNT = 255  # counts up to this take a byte on the host


class Block(NamedTuple):
    """Rows low ... of the matrix as CSR of the device (wide in float64, with its transpose) or of the host."""

    low: int
    rows: Any
    ptr: np.ndarray  # host int64: where each row begins
    transposed: Any | None
    on_host: bool


class Packed:
    """The GPU side of ``protocol.Packed``. ``room``: bytes that it may take of the device."""

    def __init__(self, xp: Any, sparse: Any, x: Any, columns: Any, rows: Any, *, room: int) -> None:
        self._xp, self._sparse, self._room = xp, sparse, room
        n_columns = int(x.shape[1])
        keep = None if columns is None else xp.asarray(columns, dtype=bool)
        number = None if keep is None else xp.cumsum(keep, dtype=np.int64).astype(np.int32) - 1
        n_kept = n_columns if keep is None else int(keep.sum())
        self.shape = (int(x.shape[0]) if rows is None else len(rows), n_kept)
        blocks: list[Block] = []
        low = self.nnz = 0
        for matrix in self._picked(x, rows):
            part = matrix if keep is None and bool((matrix.data != 0).all()) else self._kept(matrix, keep, number)
            blocks.append(Block(low, part, _host(part.indptr).astype(np.int64), None, on_host=False))
            low += int(part.shape[0])
            self.nnz += int(part.nnz)
            if self.nnz * NARROW_BYTES > room:
                blocks = [block if block.on_host else self._to_host(block) for block in blocks]
        if self.nnz * WIDE_BYTES <= room:
            for i, block in enumerate(blocks):  # each narrow block goes as it is converted
                wide = block.rows.astype(np.float64)
                blocks[i] = block._replace(rows=wide, transposed=wide.T.tocsr())
        self._blocks = blocks

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

    def _to_host(self, block: Block) -> Block:
        """The same block in the host's memory, small counts as uint8."""
        data = block.rows.data
        if data.size and float(data.min()) >= 0 and float(data.max()) <= SMALL_COUNT:
            data = data.astype(np.uint8) if bool((data == self._xp.floor(data)).all()) else data
        parts = (_host(data), _host(block.rows.indices), _host(block.rows.indptr))
        return block._replace(rows=sp.csr_matrix(parts, shape=block.rows.shape), on_host=True)

    def _pieces(self, block: Block) -> Iterator[tuple[int, Any]]:
        """The rows of a block as CSR float64 of the device: (number of the first, rows), a bounded piece at a time."""
        if block.transposed is not None:
            yield block.low, block.rows
            return
        xp, rows = self._xp, block.rows
        canonical = bool(rows.has_canonical_format)
        for a, b in splits(block.ptr, PIECE_NNZ):
            low, high = int(block.ptr[a]), int(block.ptr[b])
            indptr = xp.asarray(rows.indptr[a : b + 1]) - rows.indptr.dtype.type(low)
            data = xp.asarray(rows.data[low:high]).astype(np.float64)
            piece = self._sparse.csr_matrix((data, xp.asarray(rows.indices[low:high]), indptr), shape=(b - a, self.shape[1]))
            if canonical:  # else each product would look
                piece.has_sorted_indices = True
                piece.has_canonical_format = True
            yield block.low + a, piece

    def document_frequency(self) -> Any:
        """See ``protocol.Packed.document_frequency``."""
        out = self._xp.zeros(self.shape[1], np.int64)
        for block in self._blocks:
            for _, rows in self._pieces(block):
                out += self._xp.bincount(rows.indices, minlength=self.shape[1])
        return out

    def _per_row(self, value: Callable[[Any], Any]) -> Any:
        xp = self._xp
        return xp.concatenate([xp.zeros(0), *(value(rows) for block in self._blocks for _, rows in self._pieces(block))])

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
            for low, rows in self._pieces(block):
                out[low : low + int(rows.shape[0])] = rows @ s
        return out

    def transposed_times(self, u: Any) -> Any:
        """See ``protocol.Packed.transposed_times``."""
        out = self._xp.zeros((self.shape[1], *u.shape[1:]))
        for block in self._blocks:
            for low, rows in self._pieces(block):
                transposed = rows.T.tocsr() if block.transposed is None else block.transposed
                out += transposed @ u[low : low + int(rows.shape[0])]
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
            found.append(self._taken(self._blocks[b], rows[at] - low[b]))
            order.append(at)
        if len(found) == 1:
            return found[0]
        back = np.argsort(np.concatenate(order))
        return self._sparse.vstack(found, format="csr")[self._xp.asarray(back)]

    def _taken(self, block: Block, rows: np.ndarray) -> Any:
        if not block.on_host:
            return block.rows[self._xp.asarray(rows)].astype(np.float64)
        taken = block.rows[rows]
        parts = (self._xp.asarray(part) for part in (taken.data.astype(np.float64), taken.indices, taken.indptr))
        return self._sparse.csr_matrix(tuple(parts), shape=taken.shape)

    def _pairs(self, left: Any, right: Any) -> Iterator[tuple[slice, Any, Any]]:
        """Pairs by batches whose rows have a bounded number of entries together."""
        left, right = (_host(a) for a in (left, right))
        size = np.concatenate([np.zeros(0, np.int64), *(np.diff(block.ptr) for block in self._blocks)])
        until = np.concatenate([[0], np.cumsum(size[left] + size[right] + 1)])
        for low, high in splits(until, max(1, min(PAIR_NNZ, self._room // PAIR_BYTES))):
            yield slice(low, high), self._rows_of(left[low:high]), self._rows_of(right[low:high])

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


def _host(array: Any) -> np.ndarray:
    return np.asarray(array.get() if hasattr(array, "get") else array)


def row_sums(xp: Any, matrix: Any) -> Any:
    """float64 (n_rows,): sums of the rows of a CSR matrix, exact for counts."""
    running = xp.concatenate([xp.zeros(1), xp.cumsum(matrix.data, dtype=np.float64)])
    return running[matrix.indptr[1:]] - running[matrix.indptr[:-1]]


def squares(matrix: Any) -> Any:
    """The squared entries as CSR float64."""
    out = matrix.astype(np.float64, copy=True)
    out.data *= out.data
    return out
