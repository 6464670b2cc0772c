"""The CPU backend: NumPy, SciPy and Numba. It defines the results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

from gpuatac.backend.cpu.counting.counts import Counting
from gpuatac.backend.cpu.differential.matrices import Matrices
from gpuatac.backend.cpu.embedding.graph import Graph
from gpuatac.backend.cpu.embedding.linalg import Linalg
from gpuatac.backend.cpu.peaks.calling import Peaks
from gpuatac.backend.cpu.reading.ordering import Ordering
from gpuatac.backend.cpu.reading.parsing import Parsing
from gpuatac.backend.cpu.tracks.pileup import Pileup
from gpuatac.memory import get_memory

if TYPE_CHECKING:
    from pathlib import Path

    from gpuatac.backend.protocol import Csr


class CpuBackend:
    """See ``protocol.Backend``."""

    name: Literal["cpu", "gpu"] = "cpu"
    xp: Any = np
    sparse: Any = sp
    count_dtype: Any = np.int32

    def __init__(self) -> None:
        self.parsing = Parsing()
        self.ordering = Ordering()
        self.counting = Counting()
        self.pileup = Pileup()
        self.peaks = Peaks()
        self.linalg = Linalg()
        self.graph = Graph()
        self.matrices = Matrices()

    def asarray(self, array: Any) -> Any:
        """See ``protocol.Backend.asarray``."""
        return array.get() if hasattr(array, "get") and not isinstance(array, np.ndarray) else np.asarray(array)

    def to_host(self, array: Any) -> np.ndarray:
        """See ``protocol.Backend.to_host``."""
        return np.asarray(array)

    def csr(self, parts: Csr, shape: tuple[int, int]) -> Any:
        """See ``protocol.Backend.csr``."""
        matrix = sp.csr_matrix((parts.data, parts.indices, parts.indptr), shape=shape)
        matrix.has_sorted_indices = True
        matrix.has_canonical_format = True
        return matrix

    def csr_from_host(self, matrix: Any) -> Any:
        """See ``protocol.Backend.csr_from_host``."""
        return sp.csr_matrix(matrix)

    def csr_to_host(self, matrix: Any) -> Any:
        """See ``protocol.Backend.csr_to_host``."""
        return matrix

    def scale_rows(self, matrix: Any, factors: Any) -> Any:
        """See ``protocol.Backend.scale_rows``."""
        data = matrix.data * np.repeat(factors, np.diff(matrix.indptr))
        return sp.csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape)

    def categorical(self, codes: Any, categories: list[str]) -> Any:
        """See ``protocol.Backend.categorical``."""
        import pandas as pd

        return pd.Categorical.from_codes(codes, categories)

    def frame(self, columns: dict[str, Any]) -> Any:
        """See ``protocol.Backend.frame``."""
        import pandas as pd

        return pd.DataFrame(columns)

    def column(self, series: Any) -> Any:
        """See ``protocol.Backend.column``."""
        return series.to_numpy()

    def encoded(self, series: Any) -> tuple[Any, list[str]]:
        """See ``protocol.Backend.encoded``."""
        series = series.astype("category")
        return series.cat.codes.to_numpy(), [str(name) for name in series.cat.categories]

    def read_parquet(self, path: Path) -> Any:
        """See ``protocol.Backend.read_parquet``. Names are read as codes."""
        import pyarrow.parquet as pq

        return pq.read_table(path, read_dictionary=["barcode", "chrom"]).to_pandas()

    def synchronize(self) -> None:
        """Nothing to wait for on a CPU."""

    def memory(self) -> dict[str, int]:
        """See ``protocol.Backend.memory``."""
        import os
        import resource
        import sys

        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        scale = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
        free = os.sysconf("SC_AVPHYS_PAGES") * size if "SC_AVPHYS_PAGES" in os.sysconf_names else 0
        return {"total": pages * size, "free": free, "peak": peak}

    def limit(self) -> int:
        """See ``protocol.Backend.limit``."""
        return get_memory()

    def use(self) -> None:
        """Every thread is on the CPU."""

    def check_device(self) -> None:
        """There is one CPU."""

    def load_ahead(self) -> None:
        """See ``protocol.Backend.load_ahead``."""

    def make_room(self) -> None:
        """PyTorch and NumPy take from one memory."""


def make_backend() -> CpuBackend:
    """The one CPU backend."""
    return CpuBackend()
