"""Primitives of the host alone, on any device: their data are files and tables that never leave it.

Everything takes and fills NumPy arrays. ``gpuatac.backend.host()`` gives them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from gpuatac.backend.protocol.records import Pairs, Records

SECTION_WORDS = 6  # words of 4 bytes before the items of a bigWig's section
RECORD_WORDS = 8  # of a zoom record


class Encoding(Protocol):
    """Tracks to bytes: the sections and zoom levels of a bigWig, and the lines of bedGraph and BED files."""

    def pack_sections(
        self, chrom: int, start: Any, end: Any, value: Any, per_section: int, words: Any, floats: Any, bounds: Any, /
    ) -> int:
        """Sections of the runs into ``words``; ``floats`` is the same memory as float32. Returns words used.

        ``bounds`` int64 (n_sections, 3): where the section's words end, its first and last base.
        """
        ...

    def zoom_size(self, start: Any, end: Any, width: int, /) -> int:
        """Number of cells of ``width`` bp that the sorted runs touch."""
        ...

    def zoom_cells(self, start: Any, end: Any, value: Any, width: int, bounds: Any, extremes: Any, sums: Any, /) -> int:
        """The summary of each touched cell of ``width`` bp, in as many rows as ``zoom_size`` says; returns that number.

        ``bounds`` int32 (n, 3): first and last covered base, covered bases; ``extremes`` float32 (n, 2): least and greatest
        value; ``sums`` float64 (n, 2): of the values and of their squares over the covered bases.
        """
        ...

    def join_cells(self, width: int, bounds: Any, extremes: Any, sums: Any, /) -> int:
        """Join in place the rows that lie in one cell of ``width`` bp; returns how many are left, at the front."""
        ...

    def pack_records(self, chrom: int, bounds: Any, extremes: Any, sums: Any, words: Any, floats: Any, /) -> None:
        """Zoom records into ``words``; ``floats`` is the same memory as float32."""
        ...

    def distinct(self, values: Any, slots: Any, found: Any, /) -> Any:
        """Number the distinct int64 ``values`` by first appearance into ``found``; returns (numbers, how many).

        ``slots`` int32, a power of two long and filled with -1, is the hash table; -1 comes back as the count when it is too
        small (more than half full).
        """
        ...

    def bedgraph_lines(self, name: Any, start: Any, end: Any, number: Any, text: Any, text_ptr: Any, out: Any, /) -> int:
        """Lines "name start end value" split at tabs, the value being text ``number``; returns the bytes written."""
        ...

    def fragment_lines(
        self, name: Any, start: Any, end: Any, cell: Any, count: Any, text: Any, text_ptr: Any, out: Any, /
    ) -> int:
        """Lines "name start end cell count" split at tabs, the cell being its text; returns the bytes written."""
        ...


class Windows(Protocol):
    """Sweeps over sorted peak windows of one width, cut at base 0."""

    def sorted_order(self, key: Any, /) -> Any:
        """int32 (n,): the stable order of keys >= 0 (int64, overwritten)."""
        ...

    def suppress(self, chrom: Any, start: Any, end: Any, score: Any, /) -> Any:
        """Positions of the windows that no better one overlaps: block by block, best first."""
        ...

    def mark(
        self, chrom_ptr: Any, start: Any, end: Any, column: Any, peak_chrom: Any, peak_start: Any, peak_end: Any, table: Any, /
    ) -> None:
        """Mark in ``table`` (bool) the columns of the windows that meet a peak."""
        ...


class Host(Protocol):
    """What the host does, whatever the device."""

    records: Records
    pairs: Pairs
    encoding: Encoding
    windows: Windows
