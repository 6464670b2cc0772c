"""Count matrices on the CPU, in Numba: columns taken, sums by group, regressions by column."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac.backend.cpu.differential import matrix_kernels as kernels
from gpuatac.backend.protocol import Csr
from gpuatac.threads import get_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SERIAL_NNZ = 1 << 20  # entries up to here are moved by one thread
FITS_AT_ONCE = 64  # columns that a thread takes at a time


class Matrices:
    """The CPU side of ``protocol.Matrices``."""

    def take_columns(self, counts: Csr, source: Any, *, n_columns: int) -> Csr:
        """See ``protocol.Matrices.take_columns``."""
        order = np.argsort(source, kind="stable").astype(np.int32)
        ptr = np.zeros(n_columns + 1, np.int64)
        np.cumsum(np.bincount(source, minlength=n_columns), out=ptr[1:])
        if (np.diff(ptr) == 1).all():  # a new order: in the memory of the old one, as fresh pages cost
            indptr, indices, data = counts
        else:
            indptr = kernels.taken_rows(counts.indptr, counts.indices, ptr)
            indices, data = np.empty(int(indptr[-1]), np.int32), np.empty(int(indptr[-1]), counts.data.dtype)
        n_threads = get_threads() if indices.size > SERIAL_NNZ else 1
        cuts = np.searchsorted(indptr, np.linspace(0, int(indptr[-1]), n_threads + 1)[1:-1].astype(np.int64))
        cuts = np.unique([0, *cuts, indptr.size - 1]).tolist()

        def rows(part: tuple[int, int]) -> None:
            kernels.take_columns(*counts, ptr, order, indptr, part[0], part[1], indices, data)

        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(rows, itertools.pairwise(cuts)))
        return Csr(indptr, indices, data)

    def group_sums(self, blocks: Iterable[Any], group: Any, *, shape: tuple[int, int]) -> tuple[Any, Any]:
        """See ``protocol.Matrices.group_sums``."""
        sums, found = np.zeros(shape), np.zeros(shape, np.int64)
        for block in blocks:
            of_row = group[block.low : block.low + block.n_rows]
            kernels.add_by_group(block.indptr, block.indices, block.data, of_row, sums, found)
        return sums, found

    def columns(self, blocks: Callable[[], Iterable[Any]], row: Any, column: Any) -> Csr:
        """See ``protocol.Matrices.columns``."""
        indptr = np.zeros(int(column.max(initial=-1)) + 2, np.int64)
        dtype = np.dtype(np.int32)
        for block in blocks():
            of_row = row[block.low : block.low + block.n_rows]
            kernels.count_columns(block.indptr, block.indices, block.data, of_row, column, indptr)
            dtype = block.data.dtype
        indptr = np.cumsum(indptr)
        at = indptr[:-1].copy()
        rows, data = np.empty(int(indptr[-1]), np.int32), np.empty(int(indptr[-1]), dtype)
        for block in blocks():
            of_row = row[block.low : block.low + block.n_rows]
            kernels.fill_columns(block.indptr, block.indices, block.data, of_row, column, at, rows, data)
        return Csr(indptr, rows, data)

    def logistic_fits(self, design: Any, trials: Any, successes: Csr, start: Any) -> tuple[Any, Any]:
        """See ``protocol.Matrices.logistic_fits``."""
        n = successes.indptr.size - 1
        likelihood, found = np.empty(n), np.array(start, np.float64)
        design = np.ascontiguousarray(design.T)

        def some(low: int) -> None:
            high = min(low + FITS_AT_ONCE, n)
            kernels.logistic_fits(design, trials, successes.indptr, successes.indices, low, high, found, likelihood)

        with ThreadPoolExecutor(get_threads()) as pool:
            list(pool.map(some, range(0, n, FITS_AT_ONCE)))
        return likelihood, found
