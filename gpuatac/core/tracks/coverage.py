"""Coverage tracks: reads per bin, normalised and smoothed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from gpuatac.backend.protocol import GroupEnds, Runs
from gpuatac.core.tracks.pseudobulk import FragmentFilter, fragments_of, overlaps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gpuatac.backend.protocol import Backend
    from gpuatac.core.tracks.pseudobulk import GroupedSample

Method = Literal["RPKM", "CPM", "BPM"]
Denominator = Literal["reads", "bases"]
METHODS: tuple[Method, ...] = ("RPKM", "CPM", "BPM")
DENOMINATORS: tuple[Denominator, ...] = ("reads", "bases")
SMOOTHED_AT_ONCE = 1 << 22  # bases


@dataclass(frozen=True)
class Normalization:
    """By what counts are divided. ``include`` and ``exclude`` are regions as in ``FragmentFilter.blacklist``.

    With N reads (or their bases) that meet ``include`` and not ``exclude``, and bins of b bp: RPKM N / 10^6 * b / 10^3,
    CPM N / 10^6, BPM the sum of all whole bins / 10^6: the last bin of a chromosome, where it is shorter than b, is scaled but
    not counted, as in SnapATAC2 2.9.0.
    """

    method: Method | None = "RPKM"
    denominator: Denominator = "reads"
    include: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    exclude: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True)
class Reads:
    """What is counted: fragments, or their insertions (1 bp at ``start`` and at ``end - 1``), none that meets the blacklist.

    Lengths are those of fragments; the blacklist is held against each read.
    """

    insertions: bool = False
    keep: FragmentFilter = field(default_factory=FragmentFilter)

    def of(self, bk: Backend, samples: Sequence[GroupedSample], code: int) -> tuple[Any, Any, Any]:
        """(start, end, group) of the reads on one chromosome, group -1 where left out; sorted by start unless insertions."""
        if not self.insertions:
            return fragments_of(bk, samples, code, self.keep)[:3]
        xp = bk.xp
        lengths = FragmentFilter(self.keep.min_length, self.keep.max_length)
        start, end, group, _ = fragments_of(bk, samples, code, lengths)
        at = xp.concatenate([start, end - 1])
        group = xp.concatenate([group, group])
        if self.keep.blacklist is not None:
            group = xp.where(overlaps(bk, code, at, at + 1, self.keep.blacklist), xp.int32(-1), group)
        return at, at + 1, group

    def ends(self, bk: Backend, samples: Sequence[GroupedSample], code: int, *, n_groups: int) -> GroupEnds:
        """The sorted ends of each group's reads on one chromosome."""
        if self.insertions and self.keep.blacklist is None:
            start, end, group, _ = fragments_of(bk, samples, code, self.keep)
            return bk.pileup.group_ends(start, end, group, n_groups=n_groups, insertions=True)
        start, end, group = self.of(bk, samples, code)
        if self.insertions:
            order = bk.xp.argsort(start, kind="stable")
            start, end, group = start[order], end[order], group[order]
        return bk.pileup.group_ends(start, end, group, n_groups=n_groups)


class Amounts(NamedTuple):
    """Of each group, host int64 (n_groups,): all reads; of those that count for normalisation the number and the bases; and
    the sum of all whole bins (0 where not asked for).
    """

    total: np.ndarray
    reads: np.ndarray
    bases: np.ndarray
    bins: np.ndarray

    def __add__(self, other: Amounts) -> Amounts:  # type: ignore[override]
        return Amounts(*(a + b for a, b in zip(self, other, strict=True)))


def amounts_of(
    bk: Backend,
    samples: Sequence[GroupedSample],
    code: int,
    reads: Reads,
    norm: Normalization,
    *,
    n_groups: int,
    bin_size: int,
    size: int,
) -> Amounts:
    """What one chromosome adds to the denominators."""
    xp = bk.xp
    bins = np.zeros(n_groups, np.int64)
    if norm.method == "BPM":
        ends = reads.ends(bk, samples, code, n_groups=n_groups)
        alone = (ends_of_group(ends, g) for g in range(n_groups))
        bins = bin_sums(bk, (bk.pileup.coverage(e, bin_size=bin_size, size=size) for e in alone), bin_size)
        number = np.diff(ends.ptr)
        return Amounts(number, number, number, bins)
    start, end, group = reads.of(bk, samples, code)
    total = xp.bincount(group + 1, minlength=n_groups + 1)[1:]
    if norm.include is not None:
        group = xp.where(overlaps(bk, code, start, end, norm.include), group, xp.int32(-1))
    if norm.exclude is not None:
        group = xp.where(overlaps(bk, code, start, end, norm.exclude), xp.int32(-1), group)
    narrowed = norm.include is not None or norm.exclude is not None
    number = xp.bincount(group + 1, minlength=n_groups + 1)[1:] if narrowed else total
    bases = number
    if norm.denominator == "bases" and not reads.insertions:
        bases = xp.bincount(group + 1, weights=end - start, minlength=n_groups + 1)[1:]
    total, number, bases = (bk.to_host(amount).astype(np.int64) for amount in (total, number, bases))
    return Amounts(total, number, bases, bins)


def bin_sums(bk: Backend, runs: Iterable[Runs], bin_size: int) -> np.ndarray:
    """int64: of each group the sum of value * (width // bin_size), whole bins alone, as SnapATAC2 2.9.0 counts them."""
    as_int64 = bk.xp.int64
    sums = [(r.value * ((r.end - r.start) // bin_size).astype(as_int64)).sum(dtype=as_int64) for r in runs]
    return np.array([int(s) for s in sums], np.int64)


def divisors(amounts: Amounts, norm: Normalization, bin_size: int) -> np.ndarray:
    """float64 (n_groups,): what the counts of each group are divided by; 1 without a method."""
    if norm.method is None:
        return np.ones(amounts.reads.size)
    if norm.method == "BPM":
        return amounts.bins / 1e6
    number = amounts.reads if norm.denominator == "reads" else amounts.bases
    return number * bin_size / 1e9 if norm.method == "RPKM" else number / 1e6


def ends_of_group(ends: GroupEnds, group: int) -> GroupEnds:
    """One group alone, as views."""
    a, b = int(ends.ptr[group]), int(ends.ptr[group + 1])
    return GroupEnds(np.array([0, b - a], np.int64), ends.left[a:b], ends.right[a:b])


def track(
    bk: Backend,
    ends: GroupEnds,
    *,
    bin_size: int,
    size: int,
    divisor: float,
    window: int | None = None,
    at_once: int = SMOOTHED_AT_ONCE,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Parts (start, end, value) of one group's track on one chromosome, on the host: value float64, ascending.

    Smoothed over ``window`` bases w: value(i) = sum of value over [i - r, i + l] / w, with l = (w - 1) // 2 and
    r = w - 1 - l, nothing outside the chromosome; counts are summed as integers and divided once, ``at_once`` bases at a time.
    """
    runs = bk.pileup.coverage(ends, bin_size=bin_size, size=size)
    if window is None or window == 1:
        if runs.start.size:
            yield bk.to_host(runs.start), bk.to_host(runs.end), bk.to_host(runs.value) / divisor
        return
    left = (window - 1) // 2
    right = window - 1 - left
    held: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    for begin in range(0, size, at_once):
        stop = min(begin + at_once, size)
        some = _near(bk, runs, begin - right, stop + left)
        if not some.start.size:
            continue
        sums = bk.pileup.window_sums(some, left=left, right=right, begin=begin, stop=stop)
        part = bk.to_host(sums.start), bk.to_host(sums.end), bk.to_host(sums.value)
        if not part[0].size:
            continue
        held, done = _continued(held, part)
        if done is not None:
            yield done[0], done[1], done[2] / (divisor * window)
    if held is not None:
        yield held[0], held[1], held[2] / (divisor * window)


def _near(bk: Backend, runs: Runs, begin: int, stop: int) -> Runs:
    """The runs of a single group that reach into [begin, stop)."""
    first, last = (bk.asarray(np.array([at], np.int32)) for at in (max(begin, 0), min(stop, 2**31 - 1)))
    lo = int(bk.xp.searchsorted(runs.end, first, side="right")[0])
    hi = int(bk.xp.searchsorted(runs.start, last, side="left")[0])
    return Runs(np.array([0, max(hi - lo, 0)], np.int64), runs.start[lo:hi], runs.end[lo:hi], runs.value[lo:hi])


def _continued(held: Any, part: Any) -> tuple[Any, Any]:
    """(what waits for its neighbour, what is done): a run that the cut between two parts went through becomes one again."""
    if held is None:
        return part, None
    if held[1][-1] == part[0][0] and held[2][-1] == part[2][0]:
        part[0][0] = held[0][-1]
        held = tuple(column[:-1] for column in held)
    return part, held
