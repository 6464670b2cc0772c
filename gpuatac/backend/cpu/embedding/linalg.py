"""Sparse products and eigenvalues on the CPU: packed counts in Numba, block Lanczos, LAPACK for few cells."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gpuatac.backend.cpu.embedding import packed_kernels as kernels
from gpuatac.backend.cpu.embedding.packed import Packed
from gpuatac.core.embedding.lanczos import largest_eigenpairs
from gpuatac.core.rows import row_blocks

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuatac.backend import protocol

BLOCK_NNZ = 1 << 23  # entries of a matrix on disk read at once
SERIAL_UP_TO = 20_000  # rows; below, more BLAS threads cost more than they give


class Linalg:
    """The CPU side of ``protocol.Linalg``."""

    block = kernels.LANES

    def pack(self, x: Any, columns: Any = None, rows: Any = None) -> protocol.Packed:
        """See ``protocol.Linalg.pack``."""
        return Packed(x, columns, rows)

    def gram(self, x: Any, weights: Any) -> Callable[[Any], Any]:
        """See ``protocol.Linalg.gram``."""
        columns = np.asarray(weights) != 0
        return Packed(x, columns, None).gram(weights[columns])

    def document_frequency(self, x: Any) -> Any:
        """See ``protocol.Linalg.document_frequency``."""
        out = np.zeros(x.shape[1], np.int64)
        for block in row_blocks(x, max_nnz=BLOCK_NNZ):
            kernels.add_document_frequency(block.indices, block.data, out)
        return out

    def column_sums(self, x: Any) -> Any:
        """See ``protocol.Linalg.column_sums``."""
        out = np.zeros(x.shape[1])
        for block in row_blocks(x, max_nnz=BLOCK_NNZ):
            kernels.add_column_sums(block.indices, block.data, out)
        return out

    def row_sums(self, x: Any) -> Any:
        """See ``protocol.Linalg.row_sums``."""
        out = np.zeros(x.shape[0])
        for block in row_blocks(x, max_nnz=BLOCK_NNZ):
            kernels.row_totals(block.indptr, block.data, out[block.low : block.low + block.n_rows])
        return out

    def squared_norms(self, x: Any, weights: Any) -> Any:
        """See ``protocol.Linalg.squared_norms``."""
        out = np.zeros(x.shape[0])
        for block in row_blocks(x, max_nnz=BLOCK_NNZ):
            rows = out[block.low : block.low + block.n_rows]
            kernels.row_squares(block.indptr, block.indices, block.data, weights, rows)
        return out

    def eigsh_la(
        self,
        matvec: Any,
        n: int,
        k: int,
        *,
        v0: Any,
        tol: float = 0.0,
        which: Literal["LA", "LM"] = "LA",
        block: int = 1,
    ) -> tuple[Any, Any]:
        """See ``protocol.Linalg.eigsh_la``."""
        with _few_blas_threads(n):
            return largest_eigenpairs(np, matvec, n, k, v0=v0, tol=tol, which=which, block=block)

    def eigh_largest(self, matrix: Any, k: int) -> tuple[Any, Any]:
        """See ``protocol.Linalg.eigh_largest``."""
        from scipy.linalg import eigh

        n = matrix.shape[0]
        with _few_blas_threads(n):
            values, vectors = eigh(
                matrix.T, subset_by_index=(n - k, n - 1), driver="evx", overwrite_a=True, check_finite=False
            )  # the transpose of a symmetric matrix is itself, in the order of LAPACK
        return values[::-1].copy(), np.ascontiguousarray(vectors[:, ::-1])


def _few_blas_threads(n: int) -> Any:
    """BLAS on one thread for small matrices: its threads wait in a loop, three times the seconds for the same result."""
    if n > SERIAL_UP_TO:
        return nullcontext()
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1, user_api="blas")
