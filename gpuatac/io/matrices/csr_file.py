"""CSR matrices in HDF5, written by parts, in anndata's own layout (encoding "csr_matrix" 0.1.0).

Chunks are shuffled and deflated here, side by side in threads, and handed to HDF5 as they are: the built-in shuffle and gzip
filters read them back, so that any HDF5 library opens the file.
"""

from __future__ import annotations

import shutil
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from gpuatac.backend import is_on_disk, stream_to, streams_to
from gpuatac.core.rows import MAX_NNZ, RowBlock, row_blocks, splits
from gpuatac.io.files.scratch import SCRATCH, new_scratch
from gpuatac.threads import get_threads

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from typing import Literal

CANONICAL = "gpuatac_canonical"  # attribute: rows are sorted, without zeros and repeats
CHUNK = 1 << 18  # values of a chunk: 1 MiB of int32
AHEAD = 4  # chunks for each thread that wait to be written


class _Column:
    """One growing data set, written chunk by chunk."""

    def __init__(self, group: h5py.Group, name: str, dtype: Any, pool: ThreadPoolExecutor, ahead: int) -> None:
        self._set = group.create_dataset(
            name,
            shape=(0,),
            maxshape=(None,),
            dtype=dtype,
            chunks=(CHUNK,),
            compression="gzip",
            compression_opts=1,
            shuffle=True,
        )
        self._pool = pool
        self._ahead = ahead
        self._rest = np.empty(0, dtype)
        self._size = 0
        self._waiting: list[tuple[int, Future[bytes]]] = []

    def append(self, values: np.ndarray) -> None:
        values = np.ascontiguousarray(values, self._set.dtype)
        at = 0
        if self._rest.size:
            at = min(CHUNK - self._rest.size, values.size)
            self._rest = np.concatenate([self._rest, values[:at]])
            if self._rest.size < CHUNK:
                return
            self._submit(self._rest)
            self._rest = self._rest[:0]
        while values.size - at >= CHUNK:
            self._submit(values[at : at + CHUNK])
            at += CHUNK
        if at < values.size:
            self._rest = values[at:].copy()

    def _submit(self, chunk: np.ndarray) -> None:
        self._waiting.append((self._size, self._pool.submit(_deflated, chunk)))
        self._size += CHUNK
        if len(self._waiting) >= self._ahead:
            self.flush(keep=self._ahead // 2)

    def flush(self, keep: int = 0) -> None:
        """Write all but the last ``keep`` chunks that wait."""
        n = len(self._waiting) - keep
        if n > 0:
            self._set.resize((max(self._set.shape[0], self._waiting[n - 1][0] + CHUNK),))
        for at, future in self._waiting[: max(n, 0)]:
            self._set.id.write_direct_chunk((at,), future.result())
        del self._waiting[: max(n, 0)]

    def finish(self) -> None:
        self.flush()
        rest = self._rest
        if rest.size:
            self._set.resize((self._size + rest.size,))
            padded = np.zeros(CHUNK, rest.dtype)
            padded[: rest.size] = rest
            self._set.id.write_direct_chunk((self._size,), _deflated(padded))


def _deflated(chunk: np.ndarray) -> bytes:
    from isal import isal_zlib

    size = chunk.dtype.itemsize
    shuffled = np.ascontiguousarray(chunk).view(np.uint8).reshape(-1, size).T.copy()
    return bytes(isal_zlib.compress(shuffled, 1))


class CsrWriter:
    """Appends blocks of rows to a new CSR matrix at ``parent[name]``; a context manager that completes it.

    ``most`` is an upper bound of the non-zeros: indices and offsets are of one type, as SciPy wants them, int32 below 2^31
    non-zeros and int64 from there on.
    """

    def __init__(
        self, parent: h5py.Group, name: str, n_columns: int, dtype: Any, *, canonical: bool, most: float
    ) -> None:
        self._canonical = canonical
        self.n_columns = n_columns
        self.n_rows = 0
        self.nnz = 0
        self.group = parent.create_group(name)
        n_threads = get_threads()
        self._pool = ThreadPoolExecutor(n_threads)
        self._data = _Column(self.group, "data", dtype, self._pool, n_threads * AHEAD)
        narrow = max(most, n_columns) <= MAX_NNZ
        self._index_dtype: np.dtype[np.signedinteger] = np.dtype(np.int32) if narrow else np.dtype(np.int64)
        self._indices = _Column(self.group, "indices", self._index_dtype, self._pool, n_threads * AHEAD)
        self._indptr: list[np.ndarray] = [np.zeros(1, np.int64)]

    def __enter__(self) -> CsrWriter:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def append(self, indptr: np.ndarray, indices: np.ndarray, data: np.ndarray) -> None:
        """Rows with their offsets (from 0), columns and values, on the host."""
        self._data.append(data)
        self._indices.append(indices)
        self._indptr.append(np.asarray(indptr[1:], np.int64) + self.nnz)
        self.n_rows += len(indptr) - 1
        self.nnz += int(indptr[-1])

    def _finish(self) -> None:
        if self.nnz > np.iinfo(self._index_dtype).max:
            msg = f"{self.nnz:,} non-zeros do not fit into {self._index_dtype} offsets; pass their number as most."
            raise OverflowError(msg)
        self._data.finish()
        self._indices.finish()
        self.group.create_dataset(
            "indptr",
            data=np.concatenate(self._indptr).astype(self._index_dtype),
            compression="gzip",
            compression_opts=1,
        )
        self.group.attrs["encoding-type"] = "csr_matrix"
        self.group.attrs["encoding-version"] = "0.1.0"
        self.group.attrs[CANONICAL] = self._canonical
        self.group.attrs["shape"] = np.array([self.n_rows, self.n_columns], np.int64)


def write_csr(parent: h5py.Group, name: str, x: Any) -> None:
    """Write a CSR matrix, from memory or from disk, block of rows by block of rows."""
    canonical = isinstance(x, DiskMatrix) or bool(x.has_canonical_format)
    with CsrWriter(parent, name, int(x.shape[1]), x.dtype, canonical=canonical, most=x.nnz) as out:
        for block in row_blocks(x, max_nnz=1 << 24):
            out.append(block.indptr, block.indices, block.data)


def rows_on_disk(x: Any, keep: np.ndarray) -> Any:
    """The rows ``keep`` (bool) of a matrix on disk, in a scratch file beside it, for the same device."""
    x = DiskMatrix(x)
    folder = Path(x.group.file.filename).parent
    parent = folder.parent if folder.name.startswith(SCRATCH) else folder
    with DiskBuilder(parent, x.shape[1], x.dtype, most=x.nnz, device=streams_to(x)) as out:
        for block in x.row_blocks(max_nnz=1 << 24):
            mask = keep[block.low : block.low + block.n_rows]
            size = np.diff(block.indptr)
            kept = np.repeat(mask, size)
            out.append(np.concatenate([[0], np.cumsum(size[mask])]), block.indices[kept], block.data[kept])
        return out.finish()


class DiskBuilder:
    """A CSR matrix in a scratch folder that goes with the last use of what ``finish`` returns.

    ``device``: where verbs compute on its blocks.
    """

    def __init__(
        self, parent: Path | None, n_columns: int, dtype: Any, *, most: float, device: Literal["cpu", "gpu"] = "cpu"
    ) -> None:
        self._device = device
        self._scratch = new_scratch(parent)
        self._file = h5py.File(self._scratch / "matrix.h5", "w")
        self._writer = CsrWriter(self._file, "X", n_columns, dtype, canonical=True, most=most)

    def __enter__(self) -> DiskBuilder:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is not None:
            self._file.close()
            shutil.rmtree(self._scratch, ignore_errors=True)

    def append(self, indptr: np.ndarray, indices: np.ndarray, data: np.ndarray) -> None:
        """See ``CsrWriter.append``."""
        self._writer.append(indptr, indices, data)

    def finish(self) -> Any:
        """The matrix as anndata shows one on disk."""
        from anndata.io import sparse_dataset

        with self._writer:
            pass
        self._file.close()
        file = h5py.File(self._scratch / "matrix.h5", "r")
        dataset = sparse_dataset(file["X"])
        weakref.finalize(dataset, _discard, file, self._scratch)
        stream_to(dataset, self._device)
        return dataset


def _discard(file: h5py.File, scratch: Path) -> None:
    file.close()
    shutil.rmtree(scratch, ignore_errors=True)


class DiskMatrix:
    """A CSR matrix on disk (anndata's CSRDataset) as blocks of rows; see ``core.rows.row_blocks``.

    The blocks are host arrays; verbs compute on them where those of the data set go (``backend.stream_to``).
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        stream_to(self, streams_to(dataset))
        self.group = dataset.group
        self.shape = tuple(int(n) for n in dataset.shape)
        self.dtype = self.group["data"].dtype
        self.indptr = np.asarray(self.group["indptr"][:], np.int64)

    @property
    def nnz(self) -> int:
        """Non-zeros."""
        return int(self.indptr[-1])

    def row_blocks(self, *, max_nnz: int) -> Iterator[RowBlock]:
        """Blocks of at most ``max_nnz`` non-zeros, and of at most 16,777,216, read one after the other."""
        data, indices = self.group["data"], self.group["indices"]
        for low, high in splits(self.indptr, min(max_nnz, 1 << 24)):
            a, b = int(self.indptr[low]), int(self.indptr[high])
            yield RowBlock(low, self.indptr[low : high + 1] - a, indices[a:b].astype(np.int32, copy=False), data[a:b])


def by_rows(x: Any) -> Any:
    """``x`` so that ``core.rows.row_blocks`` takes it, from memory or from disk."""
    return DiskMatrix(x) if is_on_disk(x) else x


def column_and_totals(x: Any, j: int) -> tuple[np.ndarray, np.ndarray]:
    """Column ``j`` of a matrix on disk and the sum of each row: float64 (n_rows,) each, by one reading."""
    column, totals = np.zeros(x.shape[0]), np.zeros(x.shape[0])
    for block in row_blocks(by_rows(x), max_nnz=1 << 24):
        row = block.low + np.repeat(np.arange(block.n_rows), np.diff(block.indptr))
        totals += np.bincount(row, weights=block.data, minlength=x.shape[0])
        here = block.indices == j
        column[row[here]] = block.data[here]
    return column, totals


def is_canonical(x: Any) -> bool:
    """Whether the matrix on disk was written by us from rows that are sorted, without zeros and repeats."""
    return bool(x.group.attrs.get(CANONICAL, False))
