"""What a backend offers. Both sides implement every name here with the same meaning and the same numbers.

Conventions. ``xp`` arrays are NumPy on the CPU and CuPy on a GPU. Fragment columns of *one chromosome* come
as ``start``, ``end`` (int32, 0-based half-open) and ``row`` (int32: the matrix row of the fragment's cell, -1 to
leave the fragment out), sorted by start. An *insertion* is a cut site: ``start`` and ``end - 1``. Results are
sums, so they add up over chromosomes and over parts. A ``Csr`` is the triple (indptr int64, indices int32,
data int32 on a CPU / float32 on a GPU; uint8 in parts that wait for ``hstack``), rows sorted by column without repeats or zeros.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from gpuatac.backend.matrix_protocol import Matrices
    from gpuatac.backend.pileup_protocol import Peaks, Pileup

Strategy = Literal["insertion", "fragment", "paired-insertion"]
STRATEGIES: tuple[Strategy, ...] = ("insertion", "fragment", "paired-insertion")

# Status of a parsed line. Values up to LAST_DROP are dropped and counted (same order as DROP_REASONS), the
# higher ones are errors that stop the reading.
KEPT = 0
COMMENT = 1
BLANK = 2
UNKNOWN_CHROM = 3
BAD_LENGTH = 4
OUTSIDE = 5
LAST_DROP = 5
ERR_COLUMNS = 10  # too few columns
ERR_EXTRA = 11  # more than six columns
ERR_START = 12  # start is not a whole number
ERR_END = 13  # end is not a whole number
ERR_COUNT = 14  # count is not a whole number in [1, 2^31 - 1] or "."
ERR_STRAND = 15  # column 6 is not +, - or .
ERR_BARCODE = 16  # empty barcode, or a byte outside printable ASCII (0x20-0x7e)
ERR_CHROM = 17  # empty chromosome name, or a byte outside printable ASCII


class Csr(NamedTuple):
    """Compressed rows: indptr int64 (n_rows + 1,), indices int32 (nnz,), data (nnz,)."""

    indptr: Any
    indices: Any
    data: Any


class TssCounts(NamedTuple):
    """Insertions around TSSs. All int64; ``profile`` has 2 * window + 1 positions, 5' to 3'."""

    center: Any  # (n_rows,) insertions in the central 2 * half_center + 1 positions
    flank: Any  # (n_rows,) insertions in the first and last ``edge`` positions
    profile: Any  # (2 * window + 1,) over all rows
    n_inside: int  # insertions within at least one window, each counted once
    n_insertions: int  # all insertions of rows >= 0


class Quality(NamedTuple):
    """Every quality measure of one pass. All int64."""

    lengths: Any  # (max_length + 1,) fragments by length; entry 0 counts longer ones
    classes: Any  # (n_rows, n_bounds + 1) fragments by length class
    tss: TssCounts | None
    in_regions: Any  # (n_sets, n_rows) fragments (or cuts) that meet a region of each set

    @property
    def fragments(self) -> Any:
        """(n_rows,): all fragments of each row."""
        return self.classes.sum(axis=1)


@dataclass
class ParsedBlock:
    """The kept rows of one block of whole lines, in file order."""

    n_lines: int
    chrom: Any  # int16 (n,)
    start: Any  # int32 (n,)
    end: Any  # int32 (n,)
    count: Any  # int32 (n,), 1 where the column is absent or "."
    strand: Any  # int8 (n,): +1, -1, 0; zeros when there is no sixth column
    barcode: Any  # int32 (n,): number of the row's barcode, by first appearance among kept rows
    name_text: np.ndarray  # host uint8: the distinct barcodes one after the other
    name_ptr: np.ndarray  # host int64 (n_names + 1,): where each of them begins
    rows: np.ndarray  # host int64 (n_names,): kept rows of each barcode
    copies: np.ndarray  # host int64 (n_names,): the sum of their counts
    dropped: np.ndarray  # host int64 (LAST_DROP + 1,): lines by status
    unknown_chroms: dict[bytes, int] = field(default_factory=dict)
    error_line: int = -1  # 0-based line within the block of the first error, -1 for none
    error_code: int = 0
    has_strand: bool = False  # a kept row had a sixth column

    @property
    def barcodes(self) -> list[bytes]:
        """The distinct barcodes."""
        raw, ptr = self.name_text.tobytes(), self.name_ptr.tolist()
        return [raw[a:b] for a, b in itertools.pairwise(ptr)]


class Parsing(Protocol):
    """Text to columns."""

    def parse_block(
        self, text: Any, chrom_names: list[bytes], chrom_codes: np.ndarray, sizes: np.ndarray, *, bulk: bool
    ) -> ParsedBlock:
        """Parse a uint8 array of whole lines (the last may lack its newline; CRLF is allowed).

        ``chrom_names[i]`` maps to code ``chrom_codes[i]``; ``sizes`` (int64) is indexed by code. ``bulk``: three
        columns and one barcode ``b"bulk"`` for all rows (further columns are an error, ERR_EXTRA).
        A line is tested in this order: blank (only spaces, tabs, CR) -> comment ('#' first) -> number of
        columns (split at tabs; bulk: exactly 3; else 4 to 6) -> chrom bytes -> start, end -> barcode -> count ->
        strand (each an error) -> unknown chromosome -> end <= start (BAD_LENGTH) -> start < 0 or end > size
        (OUTSIDE). start and end are an optional '-' and one or more digits; values beyond 2^62 saturate.
        When there is an error the columns may be empty; only error_line, error_code and n_lines count.
        """
        ...


class Segment(NamedTuple):
    """Consecutive rows of one chromosome in file order: int32 (n,) each, strand int8 or None."""

    start: Any
    end: Any
    cell: Any
    count: Any
    strand: Any = None


class Ordering(Protocol):
    """Rows in file order to the order of ``Fragments``."""

    def count_kept(self, cell: Any, new_code: Any) -> int:
        """How many rows have new_code[cell] >= 0."""
        ...

    def merge_segments(self, segments: list[Segment], new_code: Any, out: Any) -> bool:
        """Fill ``out`` (fragments.Columns, as long as rows are kept) with the rows of new_code[cell] >= 0, their cells renamed
        so and sorted by (start, end, cell), ties in file order; whether they came sorted by start. A segment without
        strand has strand 0. The list is emptied.
        """
        ...

    def sort_fragments(
        self, chrom: Any, start: Any, end: Any, cell: Any, count: Any, strand: Any | None, *, n_chroms: int
    ) -> tuple[np.ndarray, Any, Any, Any, Any, Any | None, bool]:
        """(chrom_ptr on the host, start, end, cell, count, strand, whether each chromosome came sorted by start).

        Rows with cell < 0 are left out; the rest is sorted by (chrom, start, end, cell), ties in file order.
        """
        ...


class Counting(Protocol):
    """Fragments of one chromosome to counts. ``row`` < 0 leaves a fragment out everywhere."""

    def tile_counts(
        self, start: Any, end: Any, row: Any, *, n_rows: int, bin_size: int, n_bins: int, strategy: Strategy
    ) -> Csr:
        """Counts per (row, bin). insertion: +1 at bin(start) and at bin(end - 1); fragment: +1 in every bin it
        overlaps; paired-insertion: as insertion, but once when both ends share the bin.
        """
        ...

    def region_counts(
        self, start: Any, end: Any, row: Any, *, n_rows: int, region_start: Any, region_end: Any, strategy: Strategy
    ) -> Csr:
        """Counts per (row, region) for regions (int32, half-open, sorted by (start, end), free to overlap).

        insertion: each cut inside; fragment: 1 where the fragment overlaps by at least 1 bp;
        paired-insertion: 1 where at least one of the two cuts is inside.
        """
        ...

    def overlap_any(
        self, start: Any, end: Any, row: Any, *, n_rows: int, region_start: Any, region_end: Any, as_insertion: bool
    ) -> Any:
        """int64 (n_rows,): fragments overlapping any region (or cuts inside any); regions sorted and disjoint."""
        ...

    def tss_counts(
        self,
        start: Any,
        end: Any,
        row: Any,
        *,
        n_rows: int,
        tss: Any,
        reverse: Any,
        window: int,
        half_center: int,
        edge: int,
    ) -> TssCounts:
        """Cuts at positions tss - window ... tss + window of each TSS (int32, sorted; ``reverse`` bool: mirrored).

        A cut near several TSSs counts at each of them; n_inside counts it once. A window that sticks out of
        the chromosome start keeps its zero there (positions below 0 hold no cut).
        """
        ...

    def length_histogram(self, start: Any, end: Any, row: Any, *, max_length: int) -> Any:
        """int64 (max_length + 1,): fragments by length; entry 0 counts those longer than max_length."""
        ...

    def length_classes(self, start: Any, end: Any, row: Any, *, n_rows: int, bounds: tuple[int, ...]) -> Any:
        """int64 (n_rows, len(bounds) + 1): fragments with length < bounds[0], < bounds[1], ..., the rest."""
        ...

    def quality(
        self,
        start: Any,
        end: Any,
        row: Any,
        *,
        n_rows: int,
        max_length: int,
        bounds: tuple[int, ...],
        tss: Any | None = None,
        reverse: Any | None = None,
        window: int,
        half_center: int,
        edge: int,
        regions: list[tuple[Any, Any]],
        as_insertion: bool = False,
    ) -> Quality:
        """``length_histogram``, ``length_classes``, ``tss_counts`` (unless ``tss`` is None) and ``overlap_any`` of each
        (region_start, region_end) in ``regions``, in one pass; each number equals that of its own primitive.

        A part is left out by the argument that makes it nothing: max_length 0, no bounds (one class: all fragments), tss
        None, no regions. The arrays may be views of one table.
        """
        ...

    def row_sums(self, row: Any, values: Any | None, *, n_rows: int) -> Any:
        """int64 (n_rows,): number of fragments per row, or the sum of int32 ``values``."""
        ...

    def hstack(self, parts: list[Csr], widths: list[int]) -> Csr:
        """Join blocks of columns; column indices of part i are shifted by sum(widths[:i]).

        The list ``parts`` is emptied. Where the caller holds the parts nowhere else, their memory is given back while
        they are copied: on a CPU the parts and the result take hardly more than one of them at any time.
        """
        ...

    def max_over_groups(self, counts: Csr, group: Any, *, n_groups: int) -> Csr:
        """Per row and group the maximum over its columns; ``group`` int32 (n_columns,), any order."""
        ...


class Packed(Protocol):
    """Counts X of chosen rows and columns in a compact copy, numbered anew: what an embedding computes from them.

    ``shape`` counts the chosen rows and columns. Vectors may be float64 (n,) or blocks (n, b); a block costs less than b
    vectors.
    """

    shape: tuple[int, int]
    nnz: int

    def document_frequency(self) -> Any:
        """int64 (n_columns,): rows with a non-zero entry."""
        ...

    def row_sums(self) -> Any:
        """float64 (n_rows,), exact for counts."""
        ...

    def squared_norms(self, weights: Any) -> Any:
        """float64 (n_rows,): sum of weights_j x_ij^2."""
        ...

    def times(self, s: Any) -> Any:
        """X s."""
        ...

    def transposed_times(self, u: Any) -> Any:
        """X' u."""
        ...

    def gram(self, weights: Any) -> Callable[[Any], Any]:
        """The function u -> X (weights * (X' u)), in float64."""
        ...

    def similarities(self, weights: Any) -> Any:
        """X diag(weights) X' (n_rows, n_rows) float64, new and contiguous, where it is cheaper to write it out than to take
        the products of an eigen-solver; else None.
        """
        ...

    def pair_products(self, left: Any, right: Any, weights: Any) -> Any:
        """float64 (n_pairs,): sum_j weights_j x_ij x_kj for the rows i = left[p], k = right[p] (int64)."""
        ...

    def union_frequency(self, left: Any, right: Any) -> Any:
        """int64 (n_columns,): pairs (left[p], right[p]) of which one or both rows are non-zero there."""
        ...


class Linalg(Protocol):
    """Sparse linear algebra. ``x`` is CSR of the backend, or has ``shape`` and ``row_blocks`` (``core.rows``)."""

    block: int  # vectors that a product of ``Packed`` should take at once

    def pack(self, x: Any, columns: Any = None, rows: Any = None) -> Packed:
        """A compact copy of the columns of a bool mask and of ``rows`` (host int64, ascending); None for all."""
        ...

    def gram(self, x: Any, weights: Any) -> Any:
        """The function u -> X (weights * (X' u)) for float64 weights of the columns of X, in float64.

        Neither the product X X' nor, on a CPU, a float64 copy of X is made; columns of weight 0 are left out.
        """
        ...

    def document_frequency(self, x: Any) -> Any:
        """int64 (n_columns,): rows with a non-zero entry in each column."""
        ...

    def column_sums(self, x: Any) -> Any:
        """float64 (n_columns,), exact for counts."""
        ...

    def row_sums(self, x: Any) -> Any:
        """float64 (n_rows,), exact for counts."""
        ...

    def squared_norms(self, x: Any, weights: Any) -> Any:
        """float64 (n_rows,): sum of x_ij^2 weights_j over each row."""
        ...

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
        """The k eigenpairs of a symmetric operator that are largest algebraically ("LA") or in magnitude ("LM").

        ``matvec`` takes and gives (n,), or (n, block) when ``block`` > 1. Values descend: float64 (k,), (n, k).
        """
        ...

    def eigh_largest(self, matrix: Any, k: int) -> tuple[Any, Any]:
        """The k algebraically largest eigenpairs of a dense symmetric matrix, which is overwritten."""
        ...


class Graph(Protocol):
    """Neighbours, layout and clusters."""

    def knn(self, points: Any, k: int) -> tuple[Any, Any]:
        """Exact Euclidean neighbours without self: int32 (n, k) and float32 distances, by (distance, index)."""
        ...

    def shared_neighbors(self, indices: Any) -> Any:
        """int32 (n, k): for the list entry i -> j, how many cells N+(i) and N+(j) share (N+: list and the cell itself)."""
        ...

    def umap(
        self,
        points: Any,
        indices: Any,
        distances: Any,
        *,
        n_components: int,
        min_dist: float,
        spread: float,
        n_epochs: int | None,
        seed: int,
    ) -> Any:
        """float32 (n, n_components) layout from the given neighbours (self not included)."""
        ...

    def leiden(
        self, adjacency: Any, *, resolution: float, n_iterations: int, seed: int, weighted: bool
    ) -> tuple[Any, float]:
        """int32 labels (host, by falling size) and modularity of a symmetric CSR adjacency."""
        ...

    def harmony(self, points: Any, batches: np.ndarray, *, seed: int, max_iter: int, theta: float, sigma: float) -> Any:
        """float32 (n, d): the points after Harmony's batch correction."""
        ...


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

    def synchronize(self) -> None:
        """Wait until the device has finished (nothing on a CPU)."""
        ...

    def memory(self) -> dict[str, int]:
        """Bytes total, free and at peak, of the device."""
        ...
