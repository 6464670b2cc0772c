"""The fragment table: a few columns sorted by (chromosome, start), on the host or on a device."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuatac.genome import Genome

#: Why a line of a fragment file can be left out, in the order in which the reasons are tested.
DROP_REASONS = (
    "comment",
    "blank line",
    "unknown chromosome",
    "zero or negative length",
    "outside the chromosome",
    "barcode not in whitelist",
    "barcode below min_num_fragments",
)


@dataclass
class ReadSummary:
    """Accounts for every line of a fragment file: ``lines == kept + sum(dropped.values())``."""

    source: str = ""
    lines: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    unknown_chroms: dict[str, int] = field(default_factory=dict)
    n_barcodes_seen: int = 0
    n_columns: int = 0
    compression: str = ""
    sorted_input: bool = True
    notes: list[str] = field(default_factory=list)

    @property
    def accounted(self) -> bool:
        """Whether kept and dropped rows add up to the lines read."""
        return self.lines == self.kept + sum(self.dropped.values())

    def as_text(self) -> str:
        """A few readable lines for a terminal or a log."""
        out = [f"{self.lines:,} lines read = {self.kept:,} kept + {sum(self.dropped.values()):,} dropped"]
        out += [f"  {n:,} dropped: {reason}" for reason, n in self.dropped.items() if n]
        if self.unknown_chroms:
            top = sorted(self.unknown_chroms.items(), key=lambda kv: (-kv[1], kv[0]))[:10]
            more = len(self.unknown_chroms) - len(top)
            names = ", ".join(f"{name!r} ({n:,})" for name, n in top) + (f" and {more} more" if more > 0 else "")
            out.append(f"  chromosomes not in the genome: {names}")
        return "\n".join([*out, *(f"  note: {n}" for n in self.notes)])


class CellTotals(NamedTuple):
    """Host int64 (n_cells,) each."""

    rows: np.ndarray  # fragments on every chromosome
    mito_rows: np.ndarray  # of these, on the mitochondrial chromosome
    copies: np.ndarray  # sum of the PCR counts


class Columns(NamedTuple):
    """Rows of one chromosome: int32 (n,) each and, where the source has strands, int8 (n,)."""

    start: Any
    end: Any
    cell: Any
    count: Any
    strand: Any = None


@dataclass
class Fragments:
    """Fragments of one sample, sorted by (chromosome, start, end, cell); coordinates are 0-based half-open.

    Because rows are sorted by chromosome the chromosome column is implied by ``chrom_ptr``: rows
    ``chrom_ptr[c]:chrom_ptr[c + 1]`` lie on chromosome ``c``.

    Attributes
    ----------
    genome
        The chromosome names and sizes that codes refer to.
    barcodes
        Host array of str (n_cells,), in byte order; ``cell`` indexes it.
    chrom_ptr
        Host int64 (n_chroms + 1,).
    start, end, cell, count
        int32 (n_fragments,), NumPy or CuPy. ``count`` is the number of PCR copies.
    strand
        None, or int8 (n_fragments,): +1, -1, 0 where the source has ".".
    summary
        What the reader kept and dropped.
    totals
        Of each cell, where the reader counted them; None elsewhere.
    """

    genome: Genome
    barcodes: np.ndarray
    chrom_ptr: np.ndarray
    start: Any
    end: Any
    cell: Any
    count: Any
    strand: Any = None
    summary: ReadSummary = field(default_factory=ReadSummary)
    totals: CellTotals | None = None

    def __len__(self) -> int:
        return int(self.start.shape[0])

    def __repr__(self) -> str:
        return f"Fragments: {len(self):,} fragments of {len(self.barcodes):,} barcodes on {self.genome.name}"

    @property
    def n_cells(self) -> int:
        """Number of barcodes."""
        return len(self.barcodes)

    @property
    def has_strand(self) -> bool:
        """Whether the source has strands."""
        return self.strand is not None

    def chromosomes(self) -> Iterator[tuple[int, slice]]:
        """(code, row slice) of each chromosome that has fragments."""
        for c in range(len(self.chrom_ptr) - 1):
            lo, hi = int(self.chrom_ptr[c]), int(self.chrom_ptr[c + 1])
            if hi > lo:
                yield c, slice(lo, hi)

    def columns(self, code: int) -> Columns:
        """The rows of one chromosome, as views."""
        rows = slice(int(self.chrom_ptr[code]), int(self.chrom_ptr[code + 1]))
        strand = None if self.strand is None else self.strand[rows]
        return Columns(self.start[rows], self.end[rows], self.cell[rows], self.count[rows], strand)

    def chrom_codes(self) -> np.ndarray:
        """The implied chromosome column on the host: int16 (n_fragments,)."""
        return np.repeat(np.arange(len(self.chrom_ptr) - 1, dtype=np.int16), np.diff(self.chrom_ptr))

    def on(self, backend: Any) -> Fragments:
        """The same fragments with their columns in ``backend``'s memory."""
        move = backend.asarray
        strand = None if self.strand is None else move(self.strand)
        return replace(
            self,
            start=move(self.start),
            end=move(self.end),
            cell=move(self.cell),
            count=move(self.count),
            strand=strand,
        )
