"""Sparse products and eigenvalues on a GPU: cuSPARSE, and our own block Lanczos (CuPy's divides by zero when the
Krylov space is exhausted).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gpuatac.backend.gpu.embedding.packed import BLOCK_NNZ, Packed, row_sums, squares
from gpuatac.core.embedding.lanczos import largest_eigenpairs
from gpuatac.core.rows import row_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpuatac.backend import protocol

SHARE = 2  # 1 / this of the free memory may hold what is packed


class Linalg:
    """The GPU side of ``protocol.Linalg``. ``free`` tells the bytes that arrays can still take; None: there is no bound."""

    block = 8  # a product with few vectors takes hardly longer than with one

    def __init__(self, xp: Any, free: Callable[[], int] | None = None) -> None:
        self._xp = xp
        self._free = free

    def _room(self) -> int:
        return 1 << 62 if self._free is None else self._free() // SHARE

    def _sparse(self) -> Any:
        return importlib.import_module("scipy.sparse" if self._xp is np else "cupyx.scipy.sparse")

    def _blocks(self, x: Any) -> Iterator[tuple[int, Any]]:
        """Blocks of rows as CSR of the device, with the first row of each."""
        sparse, xp = self._sparse(), self._xp
        for block in row_blocks(x, max_nnz=BLOCK_NNZ):
            parts = (xp.asarray(block.data), xp.asarray(block.indices), xp.asarray(block.indptr).astype(np.int32))
            data = parts[0] if parts[0].dtype.kind == "f" else parts[0].astype(np.float32)
            yield block.low, sparse.csr_matrix((data, *parts[1:]), shape=(block.n_rows, int(x.shape[1])))

    def pack(self, x: Any, columns: Any = None, rows: Any = None) -> protocol.Packed:
        """See ``protocol.Linalg.pack``."""
        return Packed(self._xp, self._sparse(), x, columns, rows, room=self._room())

    def gram(self, x: Any, weights: Any) -> Callable[[Any], Any]:
        """See ``protocol.Linalg.gram``."""
        columns = weights != 0
        return self.pack(x, columns).gram(weights[columns])

    def document_frequency(self, x: Any) -> Any:
        """See ``protocol.Linalg.document_frequency``."""
        out = self._xp.zeros(int(x.shape[1]), np.int64)
        for _, part in self._blocks(x):
            out += self._xp.bincount(part.indices[part.data != 0], minlength=int(x.shape[1]))
        return out

    def column_sums(self, x: Any) -> Any:
        """See ``protocol.Linalg.column_sums``."""
        xp, step = self._xp, 1 << 26
        out = xp.zeros(int(x.shape[1]))
        for _, part in self._blocks(x):
            for low in range(0, int(part.nnz), step):
                values = part.data[low : low + step].astype(np.float64)
                out += xp.bincount(part.indices[low : low + step], weights=values, minlength=int(x.shape[1]))
        return out

    def row_sums(self, x: Any) -> Any:
        """See ``protocol.Linalg.row_sums``."""
        return self._per_row(x, lambda part: row_sums(self._xp, part))

    def squared_norms(self, x: Any, weights: Any) -> Any:
        """See ``protocol.Linalg.squared_norms``."""
        return self._per_row(x, lambda part: squares(part) @ weights)

    def _per_row(self, x: Any, value: Callable[[Any], Any]) -> Any:
        xp = self._xp
        return xp.concatenate([xp.zeros(0), *(value(part) for _, part in self._blocks(x))])

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
        return largest_eigenpairs(self._xp, matvec, n, k, v0=v0, tol=tol, which=which, block=block)

    def eigh_largest(self, matrix: Any, k: int) -> tuple[Any, Any]:
        """See ``protocol.Linalg.eigh_largest``."""
        values, vectors = self._xp.linalg.eigh(matrix)
        return values[::-1][:k].copy(), self._xp.ascontiguousarray(vectors[:, ::-1][:, :k])
