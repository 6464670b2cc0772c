"""What became of the reads of a BAM file: the reasons, the account, and SnapATAC2's library figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gpuatac.backend.protocol import records as layout

if TYPE_CHECKING:
    import numpy as np

#: Why a read gives no fragment, in the order in which the reasons are tested (codes of ``backend.protocol.records``).
DROP_REASONS = (
    "unmapped",
    "mate unmapped",
    "secondary alignment",
    "supplementary alignment",
    "fails quality checks",
    "marked as a duplicate",
    "not properly paired",
    "mapping quality below min_mapq",
    "no barcode",
    "contig not asked for",
    "mate missing after the filters",
    "second record of the same read",
    "mates with different UMIs",
    "mates on different contigs",
    "fragment empty after the shift",
)


@dataclass
class BamSummary:
    """Accounts for every read of a BAM file: ``reads == used + sum(dropped.values())``.

    ``fragments`` counts the rows made, ``duplicates`` the copies collapsed into them, and ``metrics`` holds
    the figures that SnapATAC2's make_fragment_file returns, under its names (NaN where the denominator is
    zero).
    """

    source: str = ""
    reads: int = 0
    used: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    fragments: int = 0
    duplicates: int = 0
    barcodes: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def accounted(self) -> bool:
        """Whether used and dropped reads add up to the reads seen."""
        return self.reads == self.used + sum(self.dropped.values())

    def as_text(self) -> str:
        """A few readable lines for a terminal or a log."""
        lost = sum(self.dropped.values())
        out = [f"{self.reads:,} reads = {self.used:,} used + {lost:,} dropped"]
        out += [f"  {n:,} dropped: {reason}" for reason, n in self.dropped.items() if n]
        out.append(f"{self.fragments:,} fragments of {self.barcodes:,} barcodes, {self.duplicates:,} duplicates")
        return "\n".join([*out, *(f"  note: {n}" for n in self.notes)])


def library_metrics(
    counters: np.ndarray, mito: np.ndarray, parts: dict[int, tuple[np.ndarray, ...]], summary: BamSummary
) -> dict[str, float]:
    """SnapATAC2's library figures: fractions of pairs when there are any, of reads otherwise."""
    q: list[float] = counters.astype(float).tolist()

    def half(i: int) -> float:
        return q[i] // 2 if paired else q[i - 1]  # the counter of reads precedes that of paired reads

    def share(part: float, whole: float) -> float:
        return part / whole if whole else float("nan")

    paired = q[layout.Q_PAIRED] // 2 > 0
    nfr = one = 0
    for ref, part in parts.items():
        if not mito[ref]:
            size = part[1] - part[0]
            nfr, one = nfr + int((size < 147).sum()), one + int(((size >= 147) & (size <= 294)).sum())
    mapped = q[layout.Q_BC_MATE_MAPPED] // 2 if paired else q[layout.Q_BC_MAPPED]
    total = half(layout.Q_PAIRED)
    return {
        "sequenced_reads": float(q[layout.Q_READS]),
        "sequenced_read_pairs": float(q[layout.Q_PAIRED] // 2),
        "frac_q30_bases_read1": share(q[layout.Q_Q30_1], q[layout.Q_BASES1]),
        "frac_q30_bases_read2": share(q[layout.Q_Q30_2], q[layout.Q_BASES2]),
        "frac_confidently_mapped": share(half(layout.Q_HQ_PAIRED), total),
        "frac_unmapped": 1.0 - share(mapped, half(layout.Q_BC_PAIRED)),
        "frac_valid_barcode": share(half(layout.Q_BC_PAIRED), total),
        "frac_nonnuclear": share(half(layout.Q_MITO_PAIRED), total),
        "frac_duplicates": share(summary.duplicates, summary.duplicates + summary.fragments),
        "frac_fragment_in_nucleosome_free_region": share(nfr, summary.fragments),
        "frac_fragment_flanking_single_nucleosome": share(one, summary.fragments),
    }
