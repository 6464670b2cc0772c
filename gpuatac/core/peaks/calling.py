"""MACS3's peak calling without a control, for many groups at once.

Zhang et al. 2008 (doi:10.1186/gb-2008-9-9-r137); the numbers are those of MACS3 3.0.4. A first pass over the fragments adds up
bases by (pileup t, background count n); p- and q-values are worked out for these pairs alone; a second pass keeps what lies
above the cutoff.
"""

from __future__ import annotations

from math import log10
from typing import TYPE_CHECKING

import numpy as np

from gpuatac.backend.protocol import Cutoffs, Summits
from gpuatac.core.peaks import broad as broad_peaks
from gpuatac.core.peaks.scores import (
    FEWEST_FOLD,
    NEVER,
    Blocks,
    CalledPeaks,
    PeakModel,
    Scores,
    fixed_rates,
    fold_change,
    no_blocks,
    scores_of,
)
from gpuatac.memory import get_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gpuatac.backend.protocol import Backend, GroupEnds
    from gpuatac.core.tracks.pseudobulk import Totals

SHARE_OF_PEAKS, PEAK_BYTES, ROWS_PER_PEAK = (
    16,
    60,
    8,
)  # of the memory limit; a summit while it is called; fragments a peak has


def _cutoffs(parts: list[tuple[np.ndarray, np.ndarray]]) -> Cutoffs:
    ptr = np.cumsum([0, *(least.size for least, _ in parts)])
    least = np.concatenate([least for least, _ in parts]) if parts else np.empty(0, np.int32)
    holes = tuple(holes for _, holes in parts)
    return Cutoffs(ptr, least, holes if any(part.size for part in holes) else ())


def call_peaks(
    bk: Backend,
    sources: Sequence[Callable[[], GroupEnds]],
    totals: Totals,
    model: PeakModel,
    *,
    genome_size: float,
    mean_length: np.ndarray,
) -> Iterator[tuple[int, CalledPeaks, Blocks | None]]:
    """(group, its peaks, for broad peaks the strong blocks within them), for every group; not always in order.

    ``sources`` are the fragments of each chromosome, in order of chromosome; ``mean_length`` is that of each group's fragments.
    """
    n_groups = totals.rows.size
    if not sources:
        nothing = CalledPeaks(*(np.empty(0, np.int32) for _ in range(5)), *(np.empty(0, np.float32) for _ in range(4)))
        for g in range(n_groups):
            yield g, nothing, no_blocks() if model.broad else None
        return
    geometry = model.geometry
    cutoff = np.float32(-log10(model.qvalue if model.pvalue is None else model.pvalue))
    broad = np.float32(-log10(model.broad_cutoff))
    lowest = float(min(cutoff, broad) if model.broad else cutoff)
    lengths = bk.peaks.segment_lengths(sources, geometry)
    scores = scores_of(bk, lengths, *fixed_rates(model, totals, genome_size), lowest=lowest)

    def table(level: np.float32) -> Cutoffs:
        return _cutoffs([s.least(s.q if model.pvalue is None else s.p, level) for s in scores])

    spans = [model.lengths(float(mean_length[g])) for g in range(n_groups)]
    if model.broad:
        called = broad_peaks.call(bk, sources, geometry, table(broad), table(cutoff), scores, spans)
        for g, (peaks, blocks) in enumerate(called):
            yield g, peaks, blocks
        return
    cutoffs = table(cutoff)
    for groups in _batches(totals.rows, spans):
        chosen = cutoffs if len(groups) == n_groups else _only(cutoffs, groups)
        least, gap = spans[groups[0]]
        found = bk.peaks.summits(sources, geometry, chosen, min_length=least, max_gap=gap, subpeaks=model.call_summits)
        for g in groups:
            yield g, _narrow(found, g, scores[g]), None


def _batches(rows: np.ndarray, spans: list[tuple[int, ...]]) -> list[list[int]]:
    """Groups to call in one pass: of the same lengths (as all are with cuts), with peaks that fit into a share of memory."""
    most = max(get_memory() // SHARE_OF_PEAKS // PEAK_BYTES * ROWS_PER_PEAK, 1)
    out: list[list[int]] = []
    for span in sorted(set(spans)):
        held = most + 1
        for g in (g for g in range(len(spans)) if spans[g] == span):
            if held + rows[g] > most:
                out.append([])
                held = 0
            out[-1].append(g)
            held += int(rows[g])
    return out


def _only(cutoffs: Cutoffs, groups: list[int]) -> Cutoffs:
    """The same cutoffs for some groups, none reached for the others."""
    least = np.full_like(cutoffs.least, NEVER)
    for g in groups:
        rows = slice(int(cutoffs.ptr[g]), int(cutoffs.ptr[g + 1]))
        least[rows] = cutoffs.least[rows]
    return Cutoffs(cutoffs.ptr, least, cutoffs.holes)


def _narrow(found: list[Summits], group: int, scores: Scores) -> CalledPeaks:
    """One group's peaks over all chromosomes, with their scores."""
    rows = [slice(*np.searchsorted(part.group, [group, group + 1])) for part in found]
    chrom = np.repeat(np.arange(len(found), dtype=np.int32), [r.stop - r.start for r in rows])
    start, end, summit, t, n, sub = (
        np.concatenate([part[k][r] for part, r in zip(found, rows, strict=True)]) if found else np.empty(0, np.int32)
        for k in range(1, 7)
    )
    at = scores.at(n, t)
    fold = fold_change(t, scores.rate[at])
    keep = fold >= FEWEST_FOLD
    columns = (chrom, start, end, summit, sub, t.astype(np.float32), scores.p[at], scores.q[at], fold)
    return CalledPeaks(*(column[keep] for column in columns))
