"""MACS3's peak calling, pass by pass, for all groups at once.

Conventions as in ``protocol``. Everything is exact: counts are integers, and float32 steps stand where MACS3 takes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from gpuatac.backend.protocol.tracks import GroupEnds


class Geometry(NamedTuple):
    """How MACS turns fragment ends into a pileup and its local background.

    insertion (``whole`` False): each cut c (``left`` on the plus strand, ``right - 1`` on the minus strand) becomes
    [c + shift, c + shift + extsize) or [c - shift - extsize, c - shift); its background is [c - reach, c + wide - reach) with
    reach = wide // 2. ``whole``: the fragment itself; background around both ``left`` and ``right``.

    Positions below 0 become 0 (``clip``). Copies (weights) count in pileup and background alike. MACS3 does not clip
    fragments with copies: there the background begins below 0, and the first segment runs from 0 to that negative position.
    """

    whole: bool = False
    shift: int = -100
    extsize: int = 200
    wide: int = 10_000  # bp of the background window; 0: none (nolambda), the count n is 0 everywhere
    clip: bool = True


class SegmentLengths(NamedTuple):
    """Bases by pileup and background count: host arrays sorted by (group, n, t), no pair twice within a group."""

    ptr: np.ndarray  # int64 (n_groups + 1,)
    t: np.ndarray  # int32: pileup
    n: np.ndarray  # int32: background count
    length: np.ndarray  # int64: bp (negative only where Geometry.clip is False)


class Cutoffs(NamedTuple):
    """Which segments are above the cutoff: those with t >= least[ptr[g] + n] whose pair is no hole.

    Counts n beyond the table never occur. Holes are rare: only where ``Geometry.clip`` is False, and seldom there.
    """

    ptr: np.ndarray  # host int64 (n_groups + 1,)
    least: np.ndarray  # host int32: the smallest pileup above the cutoff; 2^31 - 1 for none
    holes: tuple[
        np.ndarray, ...
    ] = ()  # of each group, host int64, ascending: n << 32 | t; empty tuple: no group has any


class Summits(NamedTuple):
    """Peaks of one chromosome: host int32 arrays, by group, region and summit; regions in order of position."""

    group: np.ndarray
    start: np.ndarray
    end: np.ndarray
    summit: np.ndarray  # position, bp; up to 10 below start
    t: np.ndarray  # pileup and background count of the segment the summit lies in
    n: np.ndarray
    sub: np.ndarray  # number of the summit within its region, from 0


class Segments(NamedTuple):
    """Segments above the cutoff, of one chromosome, by group and position: int32 arrays."""

    group: Any
    start: Any
    end: Any
    t: Any
    n: Any


class Peaks(Protocol):
    """The passes of peak calling. ``sources`` gives, for each chromosome, a function that returns its ``GroupEnds``.

    A *segment* ends where the pileup or the background count changes (changes that cancel at one position are none);
    position 0 is no boundary; the last one ends where the shorter of both ends (pileup alone for ``wide`` 0).
    """

    def segment_lengths(self, sources: Sequence[Callable[[], GroupEnds]], geometry: Geometry) -> SegmentLengths:
        """Lengths of all segments, summed over chromosomes by (group, n, t)."""
        ...

    def poisson_scores(self, t: np.ndarray, rate: np.ndarray) -> np.ndarray:
        """float32 (host): -log10 P(X > t) for X ~ Poisson(rate), by MACS3's series, rounded to 5 decimals.

        ``t`` int32, ``rate`` float64 (of float32 values). In logs: x_m = m ln(rate) - ln m!, from m = t + 1; terms are added by
        log-sum-exp until the sum moves by less than 1e-5; (sum - rate) / ln 10.
        """
        ...

    def above(self, sources: Sequence[Callable[[], GroupEnds]], geometry: Geometry, cutoffs: Cutoffs) -> list[Segments]:
        """The segments above the cutoff of each chromosome."""
        ...

    def summits(
        self,
        sources: Sequence[Callable[[], GroupEnds]],
        geometry: Geometry,
        cutoffs: Cutoffs,
        *,
        max_gap: int,
        min_length: int,
        subpeaks: bool,
    ) -> list[Summits]:
        """Regions of segments above the cutoff, joined over gaps of ``max_gap`` or less and ``min_length`` long or more,
        with their summits: MACS3's one summit for each region, or its subpeaks.
        """
        ...
