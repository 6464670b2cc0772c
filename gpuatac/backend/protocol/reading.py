"""Text to columns, and rows in file order to the order of ``Fragments``. Conventions as in ``protocol``."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np

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
