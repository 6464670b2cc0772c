"""Regions where a track differs from many tracks of random aggregates of the same cells (Lal et al., Nat Commun 2021, AtacWorks).

Every track is scaled to a common total. With m_i and s_i the mean and standard deviation at base i over the background,

    z_i = (x_i - m_i) / s_i,

bases of |z| > 2 with at most 200 bp between two of them make a region, its top z gives a two-sided p-value, and
p-values of all regions are adjusted by Benjamini and Hochberg. Each region holds a base of |z| > 2, so each p lies below 0.046, and so
does each adjusted one: at FDR 0.05 that step keeps every region. ``empirical_q`` counts instead how many regions of such a z
are in random aggregates that are not of the background. The known bases (of the denoised stretches of the genome) lie
end to end in one array; ``Stretches`` says where each belongs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpuatac.core.counting.counts import merge_intervals
from gpuatac.core.differential.multitest import benjamini_hochberg

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuatac.backend.protocol import Backend

PIECE = 1 << 24  # values worked on at a time
LEAST_VARIATION = 1e-6  # sd / mean: below it lie the roundings of float32


class Stretches(NamedTuple):
    """Disjoint ascending stretches of the genome: chromosome codes (int32), start, end (int64, bp); ``ptr`` (int64, n + 1) is
    where each begins in an array of all their bases.
    """

    chrom: np.ndarray
    start: np.ndarray
    end: np.ndarray
    ptr: np.ndarray

    @property
    def n_bases(self) -> int:
        """Bases in all."""
        return int(self.ptr[-1])

    def positions(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(chromosome code, position in bp) of entries of such an array."""
        at = np.searchsorted(self.ptr, index, side="right") - 1
        return self.chrom[at], self.start[at] + (index - self.ptr[at])


def stretches_of(chrom: np.ndarray, start: np.ndarray, end: np.ndarray) -> Stretches:
    """The stretches that cover the same bases as any intervals; those that overlap or touch become one."""
    code, low, high = merge_intervals(chrom, start, end)
    low, high = low.astype(np.int64), high.astype(np.int64)
    return Stretches(code, low, high, np.concatenate([[0], np.cumsum(high - low)]))


class Background:
    """Mean and standard deviation of tracks at every base, as the tracks come in.

    Sums of squares about the mean are merged batch by batch (Chan, Golub and LeVeque 1979) in float64: 16 bytes for each base.
    """

    def __init__(self, bk: Backend, n_bases: int) -> None:
        self.bk, self.n_tracks = bk, 0
        self.mean = bk.xp.zeros(n_bases, np.float64)
        self._squares = bk.xp.zeros(n_bases, np.float64)

    def add(self, tracks: Any, factor: np.ndarray) -> None:
        """Take in ``tracks`` (n, n_bases), each times its entry of ``factor``."""
        n = tracks.shape[0]
        scale = self.bk.asarray(np.asarray(factor, np.float64))[:, None]
        both = self.n_tracks + n
        for some in _pieces(self.mean.size, n):
            x = tracks[:, some] * scale
            mean = x.mean(axis=0)
            x -= mean
            step = mean - self.mean[some]
            self._squares[some] += (x * x).sum(axis=0) + step * step * (self.n_tracks * n / both)
            self.mean[some] += step * (n / both)
        self.n_tracks = both

    def sd(self, some: slice = slice(None)) -> Any:
        """Standard deviation of a sample (n - 1); 0 where the tracks differ by roundings alone."""
        sd = self.bk.xp.sqrt(self._squares[some] / max(1, self.n_tracks - 1))
        sd[sd <= LEAST_VARIATION * self.bk.xp.abs(self.mean[some])] = 0.0
        return sd


class Differences(NamedTuple):
    """Host arrays by chromosome and position: int32 chrom (code), start, end, summit (bp); float64 the rest."""

    chrom: np.ndarray
    start: np.ndarray
    end: np.ndarray
    summit: np.ndarray  # the first base of the top z
    z: np.ndarray  # of the largest |z|, with its sign
    p: np.ndarray
    q: np.ndarray
    coverage: np.ndarray  # mean of the scaled track over the region's known bases
    background: np.ndarray  # mean of the background there


def scale_factors(bk: Backend, tracks: Any) -> np.ndarray:
    """float64 (n,): what makes the mean of each track 1 over all its bases; infinite for one that is 0 everywhere."""
    total = np.zeros(tracks.shape[0])
    for some in _pieces(tracks.shape[1], tracks.shape[0]):
        total += bk.to_host(tracks[:, some].sum(axis=1, dtype=np.float64))
    return np.divide(tracks.shape[1], total, out=np.full(total.size, np.inf), where=total > 0)


def z_scores(bk: Backend, track: Any, factor: float, background: Background, some: slice = slice(None)) -> Any:
    """float32: z of each base of the track times ``factor``; 0 where the background does not vary, which tells nothing."""
    sd = background.sd(some)
    flat = sd == 0.0
    sd[flat] = 1.0
    z = (track[some].astype(np.float64) * factor - background.mean[some]) / sd
    z[flat] = 0.0
    return z.astype(np.float32)


def differences(
    bk: Backend,
    track: Any,
    factor: float,
    background: Background,
    stretches: Stretches,
    *,
    cutoff: float = 2.0,
    max_gap: int = 200,
) -> Differences:
    """Every region of ``track`` (float32, n_bases) with bases of |z| > ``cutoff``, at most ``max_gap`` bp between two of them.

    p is of the top z of many bases, so it ranks regions rather than stating how often chance makes one.
    """
    at, top = _beyond(bk, track, factor, background, cutoff)
    chrom, position = stretches.positions(at)
    fresh = np.ones(at.size, bool)
    fresh[1:] = (chrom[1:] != chrom[:-1]) | (position[1:] - position[:-1] - 1 > max_gap)
    first = np.flatnonzero(fresh)
    last = np.append(first[1:], at.size)[: first.size] - 1
    best = _first_of_largest(np.abs(top), first, last)
    edges = np.stack([at[first], at[last] + 1], axis=1)
    length = np.diff(edges, axis=1)[:, 0]
    coverage = np.diff(_sums_before(bk, track, edges.ravel()).reshape(-1, 2), axis=1)[:, 0] / length * factor
    behind = np.diff(_sums_before(bk, background.mean, edges.ravel()).reshape(-1, 2), axis=1)[:, 0] / length
    z = top[best].astype(np.float64)
    p = two_sided(z)
    code, start, summit = chrom[first].astype(np.int32), position[first], position[best]
    start, end, summit = (x.astype(np.int32) for x in (start, position[last] + 1, summit))
    return Differences(code, start, end, summit, z, p, benjamini_hochberg(p), coverage, behind)


def two_sided(z: np.ndarray) -> np.ndarray:
    """P(|Z| >= |z|) of a standard normal Z."""
    from scipy.special import erfc

    return erfc(np.abs(z) / np.sqrt(2.0))


def significant(found: Differences, *, fdr: float = 0.05, min_coverage: float = 0.0) -> np.ndarray:
    """bool: regions of q below ``fdr`` where the track or the background has ``min_coverage`` or more."""
    return (found.q < fdr) & (np.maximum(found.coverage, found.background) >= min_coverage)


def empirical_q(top: np.ndarray, null: Sequence[np.ndarray]) -> np.ndarray:
    """False discovery rate of the regions of a top |z| at least as large: those that a random track has on average, over
    those found; the least over all cutoffs that keep the region, at most 1.

    ``top``: |z| of a track's regions; ``null``: those of each track of a held-out random aggregate.
    """
    pooled, ranked = np.sort(np.concatenate([np.zeros(0), *null])), np.sort(top)
    by_chance = (pooled.size - np.searchsorted(pooled, ranked)) / max(1, len(null))
    found = ranked.size - np.searchsorted(ranked, ranked)
    rate = np.minimum.accumulate(np.minimum(1.0, by_chance / np.maximum(1, found)))
    return rate[np.searchsorted(ranked, top)]


def _beyond(
    bk: Backend, track: Any, factor: float, background: Background, cutoff: float
) -> tuple[np.ndarray, np.ndarray]:
    """Ascending entries of |z| > ``cutoff`` and their z, on the host."""
    at, top = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for some in _pieces(track.shape[0], 1):
        z = z_scores(bk, track, factor, background, some)
        here = bk.xp.flatnonzero(bk.xp.abs(z) > cutoff)
        at.append(bk.to_host(here).astype(np.int64) + some.start)
        top.append(bk.to_host(z[here]))
    return np.concatenate(at), np.concatenate(top)


def _first_of_largest(values: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """For each run [first, last] the first entry that holds the run's largest value."""
    if not first.size:
        return first
    run = np.repeat(np.arange(first.size), last - first + 1)
    is_top = np.flatnonzero(values == np.maximum.reduceat(values, first)[run])
    _, where = np.unique(run[is_top], return_index=True)
    return is_top[where]


def _sums_before(bk: Backend, values: Any, at: np.ndarray) -> np.ndarray:
    """float64: the sum of ``values[:at_j]`` for ascending ``at``, one piece of prefix sums at a time."""
    out = np.zeros(at.size)
    before = 0.0
    for some in _pieces(values.shape[0], 1):
        running = bk.xp.cumsum(values[some], dtype=np.float64)
        lo, hi = np.searchsorted(at, [some.start, some.stop], side="right")  # start < at <= stop
        out[lo:hi] = before + bk.to_host(running[bk.asarray(at[lo:hi] - some.start - 1)])
        before += float(running[-1])
    return out


def _pieces(n_bases: int, n_tracks: int) -> Iterator[slice]:
    step = max(1, PIECE // max(1, n_tracks))
    for low in range(0, n_bases, step):
        yield slice(low, min(low + step, n_bases))
