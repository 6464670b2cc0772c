"""What a backend offers. Both sides implement every name here with the same meaning and the same numbers.

Conventions. ``xp`` arrays are NumPy on the CPU and CuPy on a GPU. Fragment columns of *one chromosome* come
as ``start``, ``end`` (int32, 0-based half-open) and ``row`` (int32: the matrix row of the fragment's cell, -1 to
leave the fragment out), sorted by start. An *insertion* is a cut site: ``start`` and ``end - 1``. Results are
sums, so they add up over chromosomes and over parts. A ``Csr`` is the triple (indptr int64, indices int32,
data int32 on a CPU / float32 on a GPU; uint8 in parts that wait for ``hstack``), rows sorted by column without repeats or zeros.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

from gpuatac.backend.protocol.arrays import Csr
from gpuatac.backend.protocol.counting import STRATEGIES, Counting, Quality, Strategy, TssCounts
from gpuatac.backend.protocol.differential import Matrices
from gpuatac.backend.protocol.embedding import Graph, Linalg, Packed
from gpuatac.backend.protocol.host import Encoding, Host, Windows
from gpuatac.backend.protocol.peaks import Cutoffs, Geometry, Peaks, SegmentLengths, Segments, Summits
from gpuatac.backend.protocol.reading import Barcodes, BarcodeTotals, ChromRun, Ordering, ParsedBlock, Parsing, Segment
from gpuatac.backend.protocol.records import Pairs, Records
from gpuatac.backend.protocol.tracks import GroupEnds, Pileup, Runs

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

__all__ = [
    "STRATEGIES",
    "Backend",
    "BarcodeTotals",
    "Barcodes",
    "ChromRun",
    "Counting",
    "Csr",
    "Cutoffs",
    "Encoding",
    "Geometry",
    "Graph",
    "GroupEnds",
    "Host",
    "Linalg",
    "Matrices",
    "Ordering",
    "Packed",
    "Pairs",
    "ParsedBlock",
    "Parsing",
    "Peaks",
    "Pileup",
    "Quality",
    "Records",
    "Runs",
    "Segment",
    "SegmentLengths",
    "Segments",
    "Strategy",
    "Summits",
    "TssCounts",
    "Windows",
]


class Backend(Protocol):
    """One device: its array module, its sparse module and its primitives."""

    name: Literal["cpu", "gpu"]
    xp: Any
    sparse: Any
    count_dtype: Any  # int32 on a CPU, float32 on a GPU
    parsing: Parsing
    ordering: Ordering
    counting: Counting
    pileup: Pileup
    peaks: Peaks
    linalg: Linalg
    graph: Graph
    matrices: Matrices

    def asarray(self, array: Any) -> Any:
        """The array in this backend's memory (a move from the host when needed)."""
        ...

    def to_host(self, array: Any) -> np.ndarray:
        """The array as NumPy."""
        ...

    def csr(self, parts: Csr, shape: tuple[int, int]) -> Any:
        """A CSR matrix of this backend from its parts."""
        ...

    def csr_from_host(self, matrix: Any) -> Any:
        """A SciPy matrix as this backend's CSR."""
        ...

    def csr_to_host(self, matrix: Any) -> Any:
        """This backend's CSR as SciPy's."""
        ...

    def scale_rows(self, matrix: Any, factors: Any) -> Any:
        """This backend's CSR with row i multiplied by factors[i]; the pattern is shared, the data are new."""
        ...

    def categorical(self, codes: Any, categories: list[str]) -> Any:
        """A categorical column (pandas or cuDF) from integer codes."""
        ...

    def frame(self, columns: dict[str, Any]) -> Any:
        """A table (pandas or cuDF) of columns of equal length."""
        ...

    def column(self, series: Any) -> Any:
        """The array of a numeric column (pandas or cuDF) without missing values."""
        ...

    def encoded(self, series: Any) -> tuple[Any, list[str]]:
        """Signed integer codes of a column of names (pandas or cuDF) without missing values, and the names that they number."""
        ...

    def read_parquet(self, path: Path) -> Any:
        """The table (pandas or cuDF) in a Parquet file, or in a folder of them split by the values of a column."""
        ...

    def synchronize(self) -> None:
        """Wait until the device has finished (nothing on a CPU)."""
        ...

    def memory(self) -> dict[str, int]:
        """Bytes of the device: total, free (what can still be taken, a pool's unused part with it), and at peak."""
        ...

    def limit(self) -> int:
        """Bytes that the data of a job may take on this device before they go to disk or are taken by parts.

        On a CPU ``gpuatac.get_memory()``. On a GPU what ``gpuatac.set_memory`` was given, but no more than 80 % of the device
        and than its memory pool may grow to. Data that stay take a share of it; see where it is asked for.
        """
        ...

    def use(self) -> None:
        """Put the calling thread on this device; every thread of ours that may touch it begins with this call.

        CUDA starts each thread on device 0, whatever the device of the thread that made it. Nothing on a CPU.
        """
        ...

    def check_device(self) -> None:
        """Raise DeviceUnavailableError when the calling thread is on another GPU than this backend's."""
        ...

    def load_ahead(self) -> None:
        """Begin to import the libraries that later steps take, beside what is going on: seconds each. Nothing on a CPU."""
        ...

    def make_room(self) -> None:
        """A network of PyTorch is about to use the device: leave it the part that a memory pool would take."""
        ...
