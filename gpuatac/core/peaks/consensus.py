"""From the peaks of many groups to one set of disjoint regions of one width.

A peak stands for the window [summit - h, summit + h + 1). Windows that overlap compete: the most significant one stays and
drops those it overlaps (Corces et al. 2018, "iterative overlap"). Functions take ``sweeps``, which
``backend.host().windows`` gives, as peak tables lie on the host.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gpuatac.threads import get_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuatac.backend.protocol import Windows


class Peaks(NamedTuple):
    """Peaks of one or more groups; int32 codes and coordinates (0-based half-open), float64 scores."""

    chrom: np.ndarray
    start: np.ndarray
    end: np.ndarray
    summit: np.ndarray  # absolute position >= 0, int64
    score: np.ndarray

    def take(self, index: np.ndarray) -> Peaks:
        """The peaks at ``index``."""
        return Peaks(*(column[index] for column in self))


class Regions(NamedTuple):
    """Windows by significance within each chain of overlapping ones, and where each came from."""

    chrom: np.ndarray  # int32
    start: np.ndarray  # int32
    end: np.ndarray  # int32
    source: np.ndarray  # int64: index of the peak


def joined(parts: Sequence[Peaks]) -> Peaks:
    """All peaks one after the other."""
    return Peaks(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def best_windows(sweeps: Windows, peaks: Peaks, half_width: int) -> Regions:
    """The windows that no better one overlaps; starts are cut at base 0 before, ends are left.

    Order: chains of windows by position, within a chain by falling score; of equal scores the last one by position.
    """
    pitch = int(peaks.summit.max(initial=0)) + 1
    order = sweeps.sorted_order(peaks.chrom.astype(np.int64) * pitch + peaks.summit)
    summit = peaks.summit[order]
    chrom = peaks.chrom[order]
    start = np.maximum(summit - half_width, 0).astype(np.int32)
    end = (summit + (half_width + 1)).astype(np.int32)
    kept = sweeps.suppress(chrom, start, end, peaks.score[order])
    return Regions(chrom[kept], start[kept], end[kept], order[kept].astype(np.int64))


def clipped(regions: Regions, sizes: np.ndarray) -> Regions:
    """Ends cut at the end of the chromosome."""
    return regions._replace(end=np.minimum(regions.end, sizes[regions.chrom]).astype(np.int32))


def membership(sweeps: Windows, regions: Regions, n_chroms: int, groups: Sequence[Peaks]) -> np.ndarray:
    """bool (n_groups, n_regions): whether a peak [start, end) of the group overlaps the region by at least 1 bp."""
    table = np.zeros((len(groups), regions.chrom.size), bool)
    order = np.lexsort((regions.start, regions.chrom))
    chrom_ptr = np.searchsorted(regions.chrom[order], np.arange(n_chroms + 1))
    start, end = regions.start[order], regions.end[order]

    def one(i: int) -> None:
        peaks = groups[i]
        sweeps.mark(chrom_ptr, start, end, order, peaks.chrom, peaks.start, peaks.end, table[i])

    with ThreadPoolExecutor(get_threads()) as pool:
        list(pool.map(one, range(len(groups))))
    return table


# ------------------------------------------------------------------------------------------------- ArchR's rule


def quantile_ranks(score: np.ndarray) -> np.ndarray:
    """floor(mean rank) / n for each score, in (0, 1]: 1 for the best."""
    from scipy.stats import rankdata

    return np.floor(rankdata(score)) / max(score.size, 1)


def inside(peaks: Peaks, half_width: int, sizes: np.ndarray) -> np.ndarray:
    """Whether the window of each peak lies within its chromosome."""
    return (peaks.summit >= half_width) & (peaks.summit + (half_width + 1) <= sizes[peaks.chrom])


def outside_of(peaks: Peaks, half_width: int, blacklist: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """Whether the window of each peak meets none of the sorted disjoint intervals (chrom, start, end)."""
    chrom, start, end = (column.astype(np.int64) for column in blacklist)
    at = peaks.chrom.astype(np.int64) << 32
    # the first interval that ends behind the window's start must begin at or behind the window's end
    first = np.searchsorted((chrom << 32) + end, at + np.maximum(peaks.summit - half_width, 0), side="right")
    begins = np.append((chrom << 32) + start, np.int64(1) << 62)[first]
    return begins >= at + peaks.summit + (half_width + 1)


def reproducible(
    sweeps: Windows, replicates: Sequence[Peaks], *, half_width: int, n_chroms: int, reproducibility: int, most: int
) -> Peaks:
    """The peaks of one group: scores are quantiles of the group, at most ``most`` of them, best first on request.

    1. In each replicate the windows no better one overlaps; the score becomes its quantile rank in the replicate.
    2. Of all replicates together the windows no better one overlaps, kept when windows of at least ``reproducibility``
       replicates overlap them; a group of one replicate keeps all.
    3. Quantile rank of what is left in the group; the ``most`` best.
    """
    ranked = []
    for replicate in replicates:
        best = replicate.take(best_windows(sweeps, replicate, half_width).source)
        ranked.append(best._replace(score=quantile_ranks(best.score)))
    pool = joined(ranked)
    regions = best_windows(sweeps, pool, half_width)
    kept = pool.take(regions.source)
    if len(replicates) > 1:
        windows = [
            peaks._replace(
                start=(peaks.summit - half_width).astype(np.int32), end=(peaks.summit + half_width + 1).astype(np.int32)
            )
            for peaks in ranked
        ]
        seen = membership(sweeps, regions, n_chroms, windows).sum(axis=0)
        kept = kept.take(np.flatnonzero(seen >= reproducibility))
    kept = kept._replace(score=quantile_ranks(kept.score))
    if kept.score.size > most:
        kept = kept.take(np.sort(np.argsort(-kept.score, kind="stable")[:most]))
    return kept
