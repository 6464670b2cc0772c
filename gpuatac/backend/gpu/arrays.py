"""Arrays and sparse matrices on a GPU: CuPy's, and the way to the host and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from gpuatac.backend.gpu.launch import Launcher
    from gpuatac.backend.protocol import Csr

COUNT_DTYPE = np.float32  # cupyx matrices hold no integers; exact up to 2^24


class Arrays:
    """The array module ``xp`` (CuPy), its sparse module, and moves between device and host."""

    def __init__(self, xp: Any, sparse: Any, launch: Launcher) -> None:
        self.xp = xp
        self.sparse = sparse
        self._launch = launch

    def asarray(self, array: Any) -> Any:
        """See ``protocol.Backend.asarray``."""
        return self.xp.asarray(array)

    def to_host(self, array: Any) -> np.ndarray:
        """See ``protocol.Backend.to_host``."""
        return np.asarray(array.get() if isinstance(array, self.xp.ndarray) and hasattr(array, "get") else array)

    def csr(self, parts: Csr, shape: tuple[int, int]) -> Any:
        """See ``protocol.Backend.csr``."""
        matrix = self.sparse.csr_matrix((parts.data, parts.indices, parts.indptr), shape=shape)
        matrix.has_sorted_indices = True
        matrix.has_canonical_format = True
        return matrix

    def csr_from_host(self, matrix: Any) -> Any:
        """See ``protocol.Backend.csr_from_host``. Whole numbers become float32, float64 stays."""
        host = matrix.tocsr()
        dtype = host.dtype if host.dtype.kind == "f" else COUNT_DTYPE
        asarray = self.xp.asarray
        parts = (asarray(host.data, dtype=dtype), asarray(host.indices), asarray(host.indptr))
        return self.sparse.csr_matrix(parts, shape=host.shape)

    def csr_to_host(self, matrix: Any) -> Any:
        """See ``protocol.Backend.csr_to_host``."""
        return matrix.get() if hasattr(matrix, "get") else matrix

    def categorical(self, codes: Any, categories: list[str]) -> Any:
        """See ``protocol.Backend.categorical``. cuDF gathers the names on the device and encodes them again."""
        import cudf

        names = cudf.Series(categories, dtype="str")
        return names.take(indices=cudf.Series(codes)).reset_index(drop=True).astype("category")

    def frame(self, columns: dict[str, Any]) -> Any:
        """See ``protocol.Backend.frame``. CuPy columns are taken without a copy through the host."""
        import cudf

        return cudf.DataFrame({name: cudf.Series(column) for name, column in columns.items()})

    def scale_rows(self, matrix: Any, factors: Any) -> Any:
        """See ``protocol.Backend.scale_rows``."""
        xp = self.xp
        dtype = np.result_type(matrix.dtype, factors.dtype)
        data = xp.empty(matrix.data.size, np.float64)
        n_rows = int(matrix.shape[0])
        self._launch(
            "scale_rows",
            n_rows * 32,
            xp.ascontiguousarray(matrix.indptr, dtype=np.int64),
            xp.ascontiguousarray(matrix.data, dtype=np.float64),
            xp.ascontiguousarray(factors, dtype=np.float64),
            n_rows,
            data,
        )
        parts = (data.astype(dtype, copy=False), matrix.indices, matrix.indptr)
        return self.sparse.csr_matrix(parts, shape=matrix.shape)
