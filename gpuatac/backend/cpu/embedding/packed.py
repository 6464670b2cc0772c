"""Counts of chosen rows and columns, packed to 3 bytes a non-zero, and what the embedding computes from them."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpuatac.backend.cpu.embedding import packed_kernels as kernels
from gpuatac.backend.cpu.embedding.packed_kernels import LANES, SHIFT, WIDTH
from gpuatac.core.rows import row_blocks
from gpuatac.memory import get_memory
from gpuatac.threads import get_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

CHUNK_NNZ = 1 << 23  # entries read at once: 64 MiB of int32 indices and counts
ROUND_BYTES = 256 << 20  # of packed data, read by both halves of a product while it is still in the page cache
SUMS_BYTES = 32 << 20  # of column sums held at once
MEMORY_SHARE = 3  # 1 / this of the memory limit is packed in memory, the rest goes to temporary files
EXPLICIT_UP_TO = 2560  # cells whose similarities may be written out: 50 MiB, and the eigen-solver's copy
SMALL = 1 << 18  # entries below which threads do not pay

# seconds, measured (AMD EPYC, one core): what decides whether similarities are written out
_PER_SIMILARITY = 0.8e-9  # times the sum of squared document frequencies
_PER_CUBE = 6e-11  # times n^3: LAPACK
_PER_PRODUCT = 2.2e-9  # times entries, for LANES vectors
_N_PRODUCTS = 100


class Chunk(NamedTuple):
    """Rows low ... low + n_rows of the packed matrix; layout in ``packed_kernels``."""

    low: int
    n_rows: int
    pos: np.ndarray  # uint32 (n_blocks * n_rows + 1,)
    cols: np.ndarray  # uint16 (nnz,)
    vals: np.ndarray  # uint8, uint16, int32, float32 or float64 (nnz,): the smallest that holds the values exactly

    @property
    def nbytes(self) -> int:
        """Bytes of the entries."""
        return self.cols.nbytes + self.vals.nbytes


class Packed:
    """The CPU side of ``protocol.Packed``.

    Entries are stored in blocks of WIDTH columns, so that the sums of a block stay in cache. A product X (w * (X' u))
    goes through the blocks twice, first for the sums of each block (threads share the blocks), then for the rows
    (threads share those): every sum is formed by one thread in one order, whatever the number of threads.
    """

    def __init__(self, x: Any, columns: np.ndarray | None, rows: np.ndarray | None) -> None:
        n_columns = int(x.shape[1])
        keep = np.ones(n_columns, np.uint8) if columns is None else np.asarray(columns, bool).view(np.uint8)
        n_kept = int(np.count_nonzero(keep))
        self.shape = (int(x.shape[0]) if rows is None else len(rows), n_kept)
        self.n_blocks = max(1, -(-n_kept // WIDTH))
        self.nnz = 0
        self._chunks: list[Chunk] = []
        self._in_memory = 0
        self._folder: Path | None = None
        self._n_threads = get_threads()
        self._pool = ThreadPoolExecutor(self._n_threads) if self._n_threads > 1 else None
        numbers = _number(keep)
        for start, stop, indices, data in _picked(x, rows):
            self._add(start, stop, indices, data, numbers)

    # ------------------------------------------------------------------------------------------------- building

    def _add(self, start: Any, stop: Any, indices: Any, data: Any, numbers: _Numbers) -> None:
        """Append a chunk of the rows start[i] ... stop[i] of CSR entries."""
        n_rows = start.size
        put = np.zeros(n_rows + 1, np.int64)
        np.cumsum(stop - start, out=put[1:])
        room = int(put[-1])
        cols = np.empty(room, np.uint16)  # pages that are not written to take no memory
        if data.dtype == bool:
            data = data.view(np.uint8)
        vals = np.empty(room, _smallest(data))
        pos = np.zeros(self.n_blocks * n_rows + 1, np.int64)
        parts = self._row_ranges(put)
        code, base = numbers

        def select(part: tuple[int, int]) -> None:
            low, high = part
            kernels.select_rows(start, stop, indices, data, code, base, low, high, put, cols, vals, pos)

        self._each(select, parts, room)
        np.cumsum(pos, out=pos)
        nnz = int(pos[-1])
        offsets = pos.astype(np.uint32)
        by_cols, by_vals = self._room(nnz, vals.dtype)
        rows = put[:-1]
        self._each(lambda p: kernels.by_block(rows, cols, vals, offsets, p[0], p[1], by_cols, by_vals), parts, room)
        low = self._chunks[-1].low + self._chunks[-1].n_rows if self._chunks else 0
        self._chunks.append(Chunk(low, n_rows, offsets, by_cols, by_vals))
        self.nnz += nnz

    def _room(self, nnz: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
        """Arrays for the entries of a chunk: in memory up to a share of the limit, then in temporary files."""
        size = nnz * (2 + dtype.itemsize)
        if nnz == 0 or self._in_memory + size <= get_memory() // MEMORY_SHARE:
            self._in_memory += size
            return np.empty(nnz, np.uint16), np.empty(nnz, dtype)
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="gpuatac-packed-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        stem = self._folder / str(len(self._chunks))
        return (
            np.memmap(f"{stem}.columns", np.uint16, "w+", shape=(nnz,)),
            np.memmap(f"{stem}.values", dtype, "w+", shape=(nnz,)),
        )

    def _each(self, task: Callable[[Any], Any], items: Iterable[Any], size: int) -> None:
        """``task`` of each item, in threads when there is enough to do."""
        if self._pool is None or size < SMALL:
            for item in items:
                task(item)
        else:
            list(self._pool.map(task, items))

    def _row_ranges(self, ptr: np.ndarray, n_parts: int | None = None) -> list[tuple[int, int]]:
        """Row ranges of about equal numbers of entries, one or more per thread."""
        n_rows = ptr.size - 1
        n_parts = max(1, min(n_parts or self._n_threads, n_rows))
        cuts = np.searchsorted(ptr, np.linspace(ptr[0], ptr[-1], n_parts + 1))
        cuts[0], cuts[-1] = 0, n_rows
        return [(int(a), int(b)) for a, b in pairwise(cuts) if b > a]

    # ----------------------------------------------------------------------------------------------------- sums

    def _by_block(self, per_column: Any) -> np.ndarray:
        """A value per column as (n_blocks, WIDTH), zeros beyond the last column."""
        out = np.zeros(self.n_blocks << SHIFT)
        out[: self.shape[1]] = per_column
        return out.reshape(self.n_blocks, WIDTH)

    def document_frequency(self) -> Any:
        """See ``protocol.Packed.document_frequency``."""
        out = np.zeros((self.n_blocks, WIDTH), np.int64)

        def count(block: int) -> None:
            for c in self._chunks:
                kernels.packed_frequency(c.pos, c.n_rows, block, c.cols, c.vals, out[block])

        self._each(count, range(self.n_blocks), self.nnz)
        return out.ravel()[: self.shape[1]]

    def _rows(self, weights: np.ndarray, *, squares: bool) -> Any:
        out = np.zeros(self.shape[0])

        def add(c: Chunk) -> None:
            rows = out[c.low : c.low + c.n_rows]
            kernels.packed_rows(c.pos, c.n_rows, self.n_blocks, c.cols, c.vals, weights, squares, rows)

        self._each(add, self._chunks, self.nnz)
        return out

    def row_sums(self) -> Any:
        """See ``protocol.Packed.row_sums``."""
        return self._rows(np.zeros((1, 1)), squares=False)

    def squared_norms(self, weights: Any) -> Any:
        """See ``protocol.Packed.squared_norms``."""
        return self._rows(self._by_block(weights), squares=True)

    # ------------------------------------------------------------------------------------------------- products

    def times(self, s: Any) -> Any:
        """See ``protocol.Packed.times``."""
        return self._lanes(s, self.shape[0], self._gather_all)

    def transposed_times(self, u: Any) -> Any:
        """See ``protocol.Packed.transposed_times``."""
        return self._lanes(u, self.shape[1], self._scatter_all)

    def gram(self, weights: Any) -> Callable[[Any], Any]:
        """See ``protocol.Packed.gram``."""
        by_block = self._by_block(weights)
        return lambda u: self._lanes(u, self.shape[0], lambda part, out: self._gram(part, by_block, out))

    def _lanes(self, u: Any, n_out: int, product: Callable[[np.ndarray, np.ndarray], None]) -> Any:
        """``product`` of a vector, or of the columns of a matrix, LANES at a time."""
        given = np.asarray(u, np.float64)
        if given.ndim == 1 or given.shape[1] == 1:
            out = np.zeros((n_out, 1))
            product(np.ascontiguousarray(given.reshape(-1, 1)), out)
            return out.reshape((n_out, *given.shape[1:]))
        out = np.empty((n_out, given.shape[1]))
        for low in range(0, given.shape[1], LANES):
            width = min(LANES, given.shape[1] - low)
            part = np.zeros((given.shape[0], LANES))
            part[:, :width] = given[:, low : low + width]
            found = np.zeros((n_out, LANES))
            product(part, found)
            out[:, low : low + width] = found[:, :width]
        return out

    def _rounds(self, lanes: int) -> Iterable[tuple[int, int]]:
        """Ranges of blocks whose entries and sums are held at once, at least one per thread."""
        most = SUMS_BYTES // (WIDTH * lanes * 8)
        size = sum(c.nbytes for c in self._chunks)
        step = max(self._n_threads, min(most, self.n_blocks * ROUND_BYTES // max(size, 1)))
        return ((low, min(low + step, self.n_blocks)) for low in range(0, self.n_blocks, step))

    def _sum_block(self, block: int, u: np.ndarray, sums: np.ndarray) -> None:
        kernel = kernels.scatter_one if u.shape[1] == 1 else kernels.scatter_lanes
        for c in self._chunks:
            kernel(c.pos, c.n_rows, block, c.cols, c.vals, u[c.low : c.low + c.n_rows], sums)

    def _spread(self, first: int, sums: np.ndarray, out: np.ndarray) -> None:
        """out += X_B s_B for the blocks from ``first`` on."""
        kernel = kernels.gather_one if out.shape[1] == 1 else kernels.gather_lanes

        def spread(part: tuple[Chunk, int, int]) -> None:
            c, low, high = part
            rows = out[c.low : c.low + c.n_rows]
            kernel(c.pos, c.n_rows, first, c.cols, c.vals, sums, low, high, rows)

        n_parts = -(-self._n_threads // max(len(self._chunks), 1)) * (2 if self._n_threads > 1 else 1)
        cuts = [(c, np.linspace(0, c.n_rows, n_parts + 1).astype(np.int64).tolist()) for c in self._chunks]
        self._each(spread, [(c, a, b) for c, at in cuts for a, b in pairwise(at)], self.nnz)

    def _gram(self, u: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
        for low, high in self._rounds(u.shape[1]):
            sums = np.zeros((high - low, WIDTH, u.shape[1]))

            def add(block: int, low: int = low, sums: np.ndarray = sums) -> None:
                self._sum_block(block, u, sums[block - low])
                sums[block - low] *= weights[block][:, None]

            self._each(add, range(low, high), self.nnz)
            self._spread(low, sums, out)

    def _scatter_all(self, u: np.ndarray, out: np.ndarray) -> None:
        sums = np.zeros((self.n_blocks, WIDTH, u.shape[1]))
        self._each(lambda block: self._sum_block(block, u, sums[block]), range(self.n_blocks), self.nnz)
        out[:] = sums.reshape(-1, u.shape[1])[: self.shape[1]]

    def _gather_all(self, s: np.ndarray, out: np.ndarray) -> None:
        for low, high in self._rounds(s.shape[1]):
            sums = np.zeros((high - low, WIDTH, s.shape[1]))
            part = s[low * WIDTH : high * WIDTH]
            sums.reshape(-1, s.shape[1])[: part.shape[0]] = part
            self._spread(low, sums, out)

    # ------------------------------------------------------------------------------------- similarities of cells

    def _by_chunks(self, left: Any, right: Any) -> Iterable[tuple[np.ndarray, Chunk, Chunk]]:
        """The pairs in parts whose left and right rows each lie in one chunk: (numbers of the pairs, chunk, chunk)."""
        lows = np.array([c.low for c in self._chunks])
        of_left = np.searchsorted(lows, left, side="right") - 1
        of_right = np.searchsorted(lows, right, side="right") - 1
        key = of_left * lows.size + of_right
        order = np.argsort(key, kind="stable")
        cuts = np.flatnonzero(np.diff(key[order], prepend=-1, append=-1))
        for a, b in pairwise(cuts):
            for part in np.array_split(order[a:b], min(self._n_threads, int(b - a))):
                first, second = divmod(int(key[order[a]]), lows.size)
                yield part, self._chunks[first], self._chunks[second]

    def pair_products(self, left: Any, right: Any, weights: Any) -> Any:
        """See ``protocol.Packed.pair_products``."""
        left, right = np.asarray(left, np.int64), np.asarray(right, np.int64)
        by_block = self._by_block(weights)
        out = np.empty(left.size)

        def add(item: tuple[np.ndarray, Chunk, Chunk]) -> None:
            part, a, b = item
            found = np.empty(part.size)
            rows = left[part] - a.low, right[part] - b.low
            kernels.add_pair_products(*rows, by_block, a.pos, a.cols, a.vals, b.pos, b.cols, b.vals, found)
            out[part] = found

        self._each(add, self._by_chunks(left, right), self.nnz)
        return out

    def union_frequency(self, left: Any, right: Any) -> Any:
        """See ``protocol.Packed.union_frequency``."""
        left, right = np.asarray(left, np.int64), np.asarray(right, np.int64)
        out = np.zeros((self.n_blocks, WIDTH), np.int64)
        for part, a, b in self._by_chunks(left, right):
            kernels.add_union_frequency(left[part] - a.low, right[part] - b.low, a.pos, a.cols, b.pos, b.cols, out)
        return out.ravel()[: self.shape[1]]

    def similarities(self, weights: Any) -> Any:
        """See ``protocol.Packed.similarities``: of few cells, where that is cheaper than products."""
        n = self.shape[0]
        if n > EXPLICIT_UP_TO:
            return None
        df = self.document_frequency().astype(np.float64)
        written_out = _PER_SIMILARITY * float(df @ df) + _PER_CUBE * n**3
        if written_out > _PER_PRODUCT * self.nnz * _N_PRODUCTS + 0.3:
            return None
        by_block = self._by_block(weights)
        out = np.zeros((n, n))
        whole = all(c.vals.dtype.itemsize <= 2 for c in self._chunks)  # exact in float32
        cuts = n * (1 - np.sqrt(np.linspace(1, 0, 4 * self._n_threads + 1)))  # of equal area below the diagonal
        for block in range(self.n_blocks):
            self._add_similarities(block, by_block[block], out, np.float32 if whole else np.float64, cuts)
        kernels.mirror(out)
        return out

    def _add_similarities(self, block: int, weights: np.ndarray, out: np.ndarray, dtype: Any, cuts: np.ndarray) -> None:
        """Add the block's part to the upper triangle: its entries by column, then row by row along the columns."""
        head = np.zeros(WIDTH + 1, np.uint32)
        sizes = [int(c.pos[(block + 1) * c.n_rows]) - int(c.pos[block * c.n_rows]) for c in self._chunks]
        for c in self._chunks:
            kernels.count_columns(c.pos, c.n_rows, block, c.cols, head)
        column_ptr = np.cumsum(head, dtype=np.uint32)
        head = column_ptr.copy()
        rows, values = np.empty(sum(sizes), np.uint16), np.empty(sum(sizes), dtype)
        tasks = []
        for c, size in zip(self._chunks, sizes, strict=True):
            place = np.empty(size, np.uint32)
            kernels.fill_columns(c.pos, c.n_rows, block, c.cols, c.vals, c.low, head, rows, values, place)
            own = np.unique(np.clip(cuts.astype(np.int64) - c.low, 0, c.n_rows)).tolist()
            own = sorted({0, *own, c.n_rows})
            tasks += [(c, place, a, b) for a, b in pairwise(own)]

        def add(task: tuple[Chunk, np.ndarray, int, int]) -> None:
            c, place, a, b = task
            kernels.add_similarities(
                c.pos, c.n_rows, block, c.cols, place, c.low, a, b, column_ptr, rows, values, weights, out
            )

        self._each(add, tasks, self.nnz)


class _Numbers(NamedTuple):
    """Which columns are kept and their numbers, in 1 byte a column: see ``packed_kernels.select_rows``."""

    code: np.ndarray  # uint8
    base: np.ndarray  # int32


def _number(keep: np.ndarray) -> _Numbers:
    groups = np.zeros((-(-keep.size // 128), 128), np.uint8)
    groups.reshape(-1)[: keep.size] = keep
    inclusive = np.cumsum(groups, axis=1, dtype=np.uint8)
    sizes = inclusive[:, -1].astype(np.int64)
    inclusive -= groups
    inclusive += groups << 7
    return _Numbers(inclusive.reshape(-1), (np.cumsum(sizes) - sizes).astype(np.int32))


def _picked(x: Any, rows: np.ndarray | None) -> Iterator[tuple[Any, Any, Any, Any]]:
    """(start, stop, indices, data) of the chosen rows (ascending), by blocks of the matrix."""
    for block in row_blocks(x, max_nnz=CHUNK_NNZ):
        indptr = np.asarray(block.indptr, np.int64)
        if rows is None:
            yield indptr[:-1], indptr[1:], block.indices, block.data
            continue
        chosen = rows[np.searchsorted(rows, block.low) : np.searchsorted(rows, block.low + block.n_rows)] - block.low
        if chosen.size:
            yield indptr[chosen], indptr[chosen + 1], block.indices, block.data


def _smallest(data: np.ndarray) -> Any:
    """The smallest type that holds all values exactly."""
    if data.size == 0:
        return np.uint8
    low, high, whole = kernels.value_range(data)
    if whole and 0 <= low and high < 1 << 16:
        return np.uint8 if high < 1 << 8 else np.uint16
    if data.dtype.kind == "f":
        return data.dtype.type
    return np.int32 if -(1 << 31) <= low and high < 1 << 31 else np.float64
