"""Coverage of one window of the genome by group, and what it is divided by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpuatac.core.counting.counts import Sample, merge_intervals, over_chromosomes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuatac.backend.protocol import Backend
    from gpuatac.core.tracks.pseudobulk import FragmentFilter, GroupedSample
    from gpuatac.genome import Genome

TSS_HALF = 50  # bp: a fragment at a TSS overlaps the 101 bp around it (ArchR's TSS window)


class Window(NamedTuple):
    """[start, end) on the chromosome with this code; bp."""

    code: int
    start: int
    end: int


class Intervals(NamedTuple):
    """Host arrays, one entry for each interval: int64 start and end, int32 group."""

    start: np.ndarray
    end: np.ndarray
    group: np.ndarray


def fragments_in(bk: Backend, samples: Sequence[GroupedSample], window: Window, keep: FragmentFilter) -> Intervals:
    """The fragments of every group that overlap ``window``, and no others; sorted by start within a sample.

    Rows are sorted by start: those that start behind the window are cut off by bisection, those before it are kept where
    they reach into it, however long they are. With ``keep.max_length`` the rows too far before it are cut off, too.
    """
    parts = []
    for sample in samples:
        code, low, high = window
        if sample.fragments.chrom_ptr[code + 1] == sample.fragments.chrom_ptr[code]:
            continue
        columns = sample.fragments.columns(code)
        at = 0
        if (
            keep.max_length is not None
        ):  # a fragment of max_length bp reaches low when it starts behind low - max_length
            at = _first(bk, columns.start, low - keep.max_length)
        stop = _first(bk, columns.start, high)
        start, end, cell = columns.start[at:stop], columns.end[at:stop], columns.cell[at:stop]
        reaches = bk.xp.flatnonzero(end > low)
        start, end = start[reaches], end[reaches]
        group = keep.group_of(bk, code, start, end, sample.group_of_cell[cell[reaches]])
        parts.append([bk.to_host(column) for column in (start, end, group)])
    start, end, group = (np.concatenate([p[k] for p in parts]) if parts else np.empty(0, np.int32) for k in range(3))
    kept = group >= 0
    return Intervals(start[kept].astype(np.int64), end[kept].astype(np.int64), group[kept])


def _first(bk: Backend, start: Any, position: int) -> int:
    """The first row whose start is not below ``position``."""
    return int(bk.xp.searchsorted(start, bk.asarray(np.array([position], np.int64)).astype(start.dtype))[0])


def insertions(fragments: Intervals) -> Intervals:
    """Both cuts of each fragment as intervals of one base: its first and its last base."""
    at = np.concatenate([fragments.start, fragments.end - 1])
    return Intervals(at, at + 1, np.concatenate([fragments.group, fragments.group]))


def nice_bin(length: int, most: int = 1500) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50, ... bp of which at most ``most`` cover ``length``."""
    size, factors = 1, (2, 2.5, 2)
    i = 0
    while -(-length // size) > most:
        size = int(size * factors[i % 3])
        i += 1
    return size


def bin_edges(start: int, end: int, bin_size: int) -> np.ndarray:
    """int64: start, start + bin_size, ..., end; the last bin may be shorter."""
    return np.append(np.arange(start, end, bin_size, dtype=np.int64), end)


def mean_coverage(intervals: Intervals, n_groups: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Mean over the bases of each [low_j, high_j) of the number of intervals of each group there: (n_groups, n_bins).

    With c(p) the number of intervals over base p, the bases covered left of x are
    C(x) = sum_{p < x} c(p) = sum_i max(0, x - start_i) - sum_i max(0, x - end_i), so that a mean is
    (C(high) - C(low)) / (high - low). Both sums come from sorted ends and their prefix sums: exact in int64, and
    O((n + n_bins) log n) whatever the length of the window. ``low`` and ``high`` may overlap from bin to bin (smoothing).
    """
    out = np.zeros((n_groups, low.size))
    order = np.argsort(intervals.group, kind="stable")
    ptr = np.searchsorted(intervals.group[order], np.arange(n_groups + 1))
    for g in range(n_groups):
        rows = order[ptr[g] : ptr[g + 1]]
        if rows.size:
            covered = [
                _bases_behind(intervals.start[rows], x) - _bases_behind(intervals.end[rows], x) for x in (low, high)
            ]
            out[g] = (covered[1] - covered[0]) / (high - low)
    return out


def _bases_behind(position: np.ndarray, x: np.ndarray) -> np.ndarray:
    """int64: sum_i max(0, x - position_i) for each x."""
    position = np.sort(position)
    n = np.searchsorted(position, x)
    below = np.concatenate([[0], np.cumsum(position)])[n]
    return n * x - below


def tss_windows(genome: Genome, chrom: np.ndarray, pos: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorted disjoint intervals within ``TSS_HALF`` bp of the sites: chromosome codes, starts, ends."""
    low, high = np.maximum(pos - TSS_HALF, 0), np.minimum(pos + TSS_HALF + 1, genome.sizes[chrom])
    return merge_intervals(chrom, low, high)


def group_totals(
    bk: Backend,
    sample: GroupedSample,
    n_groups: int,
    keep: FragmentFilter,
    *,
    codes: Sequence[int],
    within: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """int64 (n_groups,): fragments of each group on the chromosomes ``codes``, or those that meet ``within``.

    ``within``: sorted disjoint intervals, as ``merge_intervals`` gives them.
    """

    def work(code: int, start: Any, end: Any, group: Any) -> Any:
        group = keep.group_of(bk, code, start, end, group)
        if within is None:
            return bk.counting.row_sums(group, None, n_rows=n_groups)
        lo, hi = np.searchsorted(within[0], [code, code + 1])
        return bk.counting.overlap_any(
            start,
            end,
            group,
            n_rows=n_groups,
            region_start=bk.asarray(within[1][lo:hi]),
            region_end=bk.asarray(within[2][lo:hi]),
            as_insertion=False,
        )

    wanted = codes if within is None else sorted(set(codes) & set(within[0].tolist()))
    parts = over_chromosomes(bk, Sample(sample.fragments, sample.group_of_cell), work, wanted)
    return bk.to_host(sum(parts.values(), bk.xp.zeros(n_groups, np.int64))).astype(np.int64)
