"""Arrays and sparse matrices on a GPU: CuPy's, and the way to the host and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac.backend.gpu.libraries import require

if TYPE_CHECKING:
    from pathlib import Path

    from gpuatac.backend.gpu.launch import Launcher
    from gpuatac.backend.protocol import Csr

COUNT_DTYPE = np.float32  # cupyx matrices hold no integers; exact up to 2^24


def _cudf() -> Any:
    require("cudf", "A table of fragments (io.to_frame, io.from_frame, Parquet)")
    import cudf

    return cudf


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
        """See ``protocol.Backend.categorical``. The names alone come from the host.

        cuDF keeps codes in the smallest unsigned type that counts the categories: more than 65,535 of them take int32 codes as
        they are; fewer are narrowed on the device.
        """
        cudf = _cudf()
        if len(categories) > np.iinfo(np.uint16).max and codes.dtype == np.int32:
            codes = codes.view(np.uint32)
        names = cudf.Series(categories, dtype="str")
        return cudf.Series(cudf.CategoricalIndex.from_codes(codes, names, ordered=False))

    def frame(self, columns: dict[str, Any]) -> Any:
        """See ``protocol.Backend.frame``. CuPy columns are not copied: the frame shares their memory."""
        cudf = _cudf()
        return cudf.DataFrame({name: cudf.Series(column) for name, column in columns.items()})

    def column(self, series: Any) -> Any:
        """See ``protocol.Backend.column``. Numbers without missing values are not copied."""
        return series.to_cupy()

    def encoded(self, series: Any) -> tuple[Any, list[str]]:
        """See ``protocol.Backend.encoded``. The names alone go to the host."""
        series = series.astype("category")
        return series.cat.codes.to_cupy(), [str(name) for name in series.cat.categories.to_arrow().to_pylist()]

    def read_parquet(self, path: Path) -> Any:
        """See ``protocol.Backend.read_parquet``."""
        return _cudf().read_parquet(path)

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
