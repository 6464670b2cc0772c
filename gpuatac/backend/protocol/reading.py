"""Text to columns, and rows in file order to the order of ``Fragments``. Conventions as in ``protocol``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

MANY_RUNS = 64  # a block with more runs of rows of one chromosome is put in order of chromosomes first

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


class ChromRun(NamedTuple):
    """Consecutive rows low ... high - 1, of one chromosome."""

    code: int
    low: int
    high: int


@dataclass
class ParsedBlock:
    """The kept rows of one block of whole lines, in file order."""

    n_lines: int
    chrom: Any  # int16 (n,)
    start: Any  # int32 (n,)
    end: Any  # int32 (n,)
    count: Any  # int32 (n,), 1 where the column is absent or "."
    strand: Any  # int8 (n,): +1, -1, 0; zeros when there is no sixth column
    names: Any  # the barcodes of the rows, as ``Barcodes.add`` of the same side takes them
    runs: list[ChromRun] | None  # of chromosomes, None for more than MANY_RUNS
    dropped: np.ndarray  # host int64 (LAST_DROP + 1,): lines by status
    unknown_chroms: dict[bytes, int] = field(default_factory=dict)
    error_line: int = -1  # 0-based line within the block of the first error, -1 for none
    error_code: int = 0
    has_strand: bool = False  # a kept row had a sixth column


class BarcodeTotals(NamedTuple):
    """Distinct barcodes by first appearance, all on the host: their bytes, and what was counted of each."""

    text: np.ndarray  # uint8: the barcodes one after the other
    ptr: np.ndarray  # int64 (n + 1,): where each of them begins
    rows: np.ndarray  # int64 (n,): fragments
    mito_rows: np.ndarray  # int64 (n,): of these, on the mitochondrial chromosome
    copies: np.ndarray  # int64 (n,): the sum of the PCR counts

    @property
    def n(self) -> int:
        """How many barcodes there are."""
        return int(self.rows.size)

    def names(self, numbers: np.ndarray) -> list[bytes]:
        """The barcodes of these numbers."""
        raw = self.text
        low, high = self.ptr[numbers].tolist(), self.ptr[numbers + 1].tolist()
        return [raw[a:b].tobytes() for a, b in zip(low, high, strict=True)]


class Barcodes(Protocol):
    """One number for each barcode of a file, by first appearance, and what is counted of it."""

    def add(self, block: ParsedBlock) -> Any:
        """Take the next block in file order; int32 (n,), the number of each row's barcode."""
        ...

    def totals(self) -> BarcodeTotals:
        """All barcodes so far and their totals: on a GPU the one time that they come to the host."""
        ...


class Parsing(Protocol):
    """Text to columns."""

    def chromosomes(self, names: list[bytes], codes: np.ndarray, sizes: np.ndarray) -> Any:
        """What ``parse_block`` compares lines with, on the device: ``names[i]`` has code ``codes[i]``, ``sizes`` is by code."""
        ...

    def barcodes(self, is_mito: np.ndarray) -> Barcodes:
        """An empty table; ``is_mito`` (bool, by code) says which chromosomes are mitochondrial."""
        ...

    def parse_block(self, text: Any, chromosomes: Any, *, bulk: bool) -> ParsedBlock:
        """Parse a uint8 array of whole lines (the last may lack its newline; CRLF is allowed), on the device or the host.

        ``bulk``: three columns and one barcode ``b"bulk"`` for all rows (further columns are an error, ERR_EXTRA).
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

    def count_kept(self, groups: Sequence[Sequence[Any]], new_code: Any) -> list[int]:
        """For each group, a list of columns ``cell``: how many of its rows have new_code[cell] >= 0."""
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
