"""Sparse products and eigenvalues on the CPU: our own products in Numba, ARPACK through SciPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numba as nb
import numpy as np

from gpuatac.threads import get_threads

if TYPE_CHECKING:
    from collections.abc import Callable

DENSE_UP_TO = 80  # rows; below, the operator is written out as a matrix


@nb.njit(cache=True, parallel=True, fastmath={"reassoc", "contract"})
def _gram(indptr, columns, data, weights, u, bounds, sums, out):  # type: ignore[no-untyped-def]
    """out = C (weights * (C' u)), C the counts as they are; each block of rows adds into its own row of ``sums``.

    ``columns`` is unsigned, which spares a test for negative indices in the innermost loops.
    """
    n_blocks = bounds.size - 1
    for b in nb.prange(n_blocks):
        mine = sums[b]
        mine[:] = 0.0
        for i in range(bounds[b], bounds[b + 1]):
            ui = u[i]
            for k in range(np.uint64(indptr[i]), np.uint64(indptr[i + 1])):
                mine[columns[k]] += data[k] * ui
    n_columns = sums.shape[1]
    step = (n_columns + n_blocks - 1) // n_blocks
    for b in nb.prange(n_blocks):
        for j in range(b * step, min(n_columns, (b + 1) * step)):
            total = 0.0
            for other in range(n_blocks):
                total += sums[other, j]
            sums[0, j] = total * weights[j]
    first = sums[0]
    for b in nb.prange(n_blocks):
        for i in range(bounds[b], bounds[b + 1]):
            total = 0.0
            for k in range(np.uint64(indptr[i]), np.uint64(indptr[i + 1])):
                total += data[k] * first[columns[k]]
            out[i] = total


@nb.njit(cache=True, parallel=True)
def _squared_norms(indptr, indices, data, weights):  # type: ignore[no-untyped-def]
    out = np.zeros(indptr.size - 1)
    for i in nb.prange(out.size):
        total = 0.0
        for k in range(indptr[i], indptr[i + 1]):
            value = np.float64(data[k])
            total += value * value * weights[indices[k]]
        out[i] = total
    return out


class Linalg:
    """The CPU side of ``protocol.Linalg``."""

    def gram(self, x: Any, weights: Any) -> Callable[[Any], Any]:
        """See ``protocol.Linalg.gram``."""
        n_blocks = max(1, min(get_threads(), x.shape[0]))
        shares = np.linspace(0, x.indptr[-1], n_blocks + 1)
        bounds = np.searchsorted(x.indptr, shares).astype(np.int64)
        bounds[0], bounds[-1] = 0, x.shape[0]
        sums = np.empty((n_blocks, x.shape[1]))
        columns = x.indices.view(np.uint32 if x.indices.dtype.itemsize == 4 else np.uint64)

        def product(u: Any) -> Any:
            out = np.empty(x.shape[0])
            _gram(x.indptr, columns, x.data, weights, np.ascontiguousarray(u, np.float64).ravel(), bounds, sums, out)
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
