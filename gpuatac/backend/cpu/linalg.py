"""Sparse products and eigenvalues on the CPU: our own products in Numba, ARPACK through SciPy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

import numba as nb
import numpy as np

from gpuatac.threads import get_threads

if TYPE_CHECKING:
    from collections.abc import Callable

DENSE_UP_TO = 80  # rows; below, the operator is written out as a matrix


_njit = nb.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})


@_njit
def _scatter(indptr, columns, data, u, low, high, sums):  # type: ignore[no-untyped-def]
    """sums = C[low:high]' u[low:high]. ``columns`` is unsigned, which spares a test for negative indices."""
    sums[:] = 0.0
    for i in range(low, high):
        ui = u[i]
        for k in range(np.uint64(indptr[i]), np.uint64(indptr[i + 1])):
            sums[columns[k]] += data[k] * ui


@_njit
def _combine(sums, weights, low, high):  # type: ignore[no-untyped-def]
    """sums[0, low:high] = weights * (sum over the blocks)."""
    for j in range(low, high):
        total = 0.0
        for block in range(sums.shape[0]):
            total += sums[block, j]
        sums[0, j] = total * weights[j]


@_njit
def _gather(indptr, columns, data, v, low, high, out):  # type: ignore[no-untyped-def]
    """out[low:high] = C[low:high] v."""
    for i in range(low, high):
        total = 0.0
        for k in range(np.uint64(indptr[i]), np.uint64(indptr[i + 1])):
            total += data[k] * v[columns[k]]
        out[i] = total


@_njit
def _squared_norms(indptr, indices, data, weights):  # type: ignore[no-untyped-def]
    out = np.zeros(indptr.size - 1)
    for i in range(out.size):
        total = 0.0
        for k in range(indptr[i], indptr[i + 1]):
            value = np.float64(data[k])
            total += value * value * weights[indices[k]]
        out[i] = total
    return out


class Linalg:
    """The CPU side of ``protocol.Linalg``."""

    def gram(self, x: Any, weights: Any) -> Callable[[Any], Any]:
        """See ``protocol.Linalg.gram``. Blocks of rows of equal non-zeros go to threads, each with sums of its own."""
        n, m = x.shape
        n_blocks = max(1, min(get_threads(), n))
        rows = np.searchsorted(x.indptr, np.linspace(0, x.indptr[-1], n_blocks + 1)).astype(np.int64)
        rows[0], rows[-1] = 0, n
        cols = np.linspace(0, m, n_blocks + 1).astype(np.int64)
        sums = np.empty((n_blocks, m))
        columns = x.indices.view(np.uint32 if x.indices.dtype.itemsize == 4 else np.uint64)
        blocks = range(n_blocks)
        pool = ThreadPoolExecutor(n_blocks) if n_blocks > 1 else None
        each = map if pool is None else pool.map

        def product(u: Any) -> Any:
            u = np.ascontiguousarray(u, np.float64).ravel()
            out = np.empty(n)
            list(each(lambda b: _scatter(x.indptr, columns, x.data, u, rows[b], rows[b + 1], sums[b]), blocks))
            list(each(lambda b: _combine(sums, weights, cols[b], cols[b + 1]), blocks))
            list(each(lambda b: _gather(x.indptr, columns, x.data, sums[0], rows[b], rows[b + 1], out), blocks))
            return out

        return product

    def squared_norms(self, x: Any, weights: Any) -> Any:
        """See ``protocol.Linalg.squared_norms``."""
        return _squared_norms(x.indptr, x.indices, x.data, weights)

    def eigsh_la(
        self, matvec: Any, n: int, k: int, *, v0: Any, tol: float = 0.0, which: Literal["LA", "LM"] = "LA"
    ) -> tuple[Any, Any]:
        """See ``protocol.Linalg.eigsh_la``."""
        from scipy.linalg import eigh
        from scipy.sparse.linalg import LinearOperator, eigsh

        if n <= max(DENSE_UP_TO, 2 * k + 2):  # ARPACK wants its basis of 2 k + 1 vectors well below n
            dense = np.column_stack([matvec(column) for column in np.eye(n)])
            values, vectors = eigh((dense + dense.T) / 2)
            kept = np.argsort(-(np.abs(values) if which == "LM" else values), kind="stable")[:k]
            values, vectors = values[kept], vectors[:, kept]
        else:
            operator = LinearOperator((n, n), matvec=matvec, dtype=np.float64)
            values, vectors = eigsh(operator, k=k, which=which, v0=v0, tol=tol)
        order = np.argsort(-values, kind="stable")
        return values[order], vectors[:, order]
