"""Fragments by group on a GPU: the sorted ends of each, and their coverage."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac.backend.gpu.peaks.segments import BUDGET, WIDTH, Stream, Streams, batches, to_host
from gpuatac.backend.protocol import GroupEnds, Runs

if TYPE_CHECKING:
    from gpuatac.backend.gpu.launch import Launcher

BITS = 32  # of a position, below the group in a key
BASES = 1 << 24  # whose window sums are formed at once: about 100 B each


class Pileup:
    """See ``protocol.Pileup``. A key is group << 32 | position; CuPy sorts them by radix."""

    def __init__(
        self, xp: Any, launch: Launcher, *, budget: int = BUDGET, width: int = WIDTH, bases: int = BASES
    ) -> None:
        self._xp = xp
        self._launch = launch
        self._budget = budget
        self._width = width
        self._bases = bases

    def group_ends(
        self,
        start: Any,
        end: Any,
        group: Any,
        *,
        n_groups: int,
        weight: Any | None = None,
        insertions: bool = False,
    ) -> GroupEnds:
        """See ``protocol.Pileup.group_ends``."""
        xp = self._xp
        kept = xp.flatnonzero(group >= 0)
        own = group[kept]
        sizes = to_host(xp.bincount(own, minlength=n_groups)) if own.size else np.zeros(n_groups, np.int64)
        ptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        base = own.astype(np.int64) << BITS
        copies = None if weight is None else weight[kept].astype(np.int32)
        left, right = base | start[kept], base | end[kept]
        if insertions:
            both = xp.concatenate([left, right - 1])
            at, copies = self._sorted(both, None if copies is None else xp.concatenate([copies, copies]))
            return GroupEnds(2 * ptr, at, at + np.int32(1), copies, copies)
        left, left_weight = self._sorted(left, copies)
        right, right_weight = self._sorted(right, copies)
        return GroupEnds(ptr, left, right, left_weight, right_weight)

    def _sorted(self, key: Any, weight: Any | None) -> tuple[Any, Any | None]:
        """The positions of the keys in order, and their weights."""
        if weight is None:
            if key.size:
                key.sort()
            return (key & 0xFFFFFFFF).astype(np.int32), None
        order = self._xp.argsort(key, kind="stable")
        return (key[order] & 0xFFFFFFFF).astype(np.int32), weight[order]

    def coverage(self, ends: GroupEnds, *, bin_size: int, size: int) -> Runs:
        """See ``protocol.Pileup.coverage``: the segments of a depth of 1 or more, in units of bins."""
        xp = self._xp
        parts = []
        for first, some in batches(ends, self._budget):
            low = Stream((some.left // bin_size).astype(np.int32), None)
            high = Stream(((some.right - 1) // bin_size + 1).astype(np.int32), None)
            streams = Streams(xp, opens=(low, 0), closes=(high, 0), ptr=some.ptr, width=self._width)
            found = streams.above(xp, self._launch, np.arange(some.n_groups + 1), np.ones(some.n_groups, np.int32))
            start = found.start.astype(np.int64) * bin_size
            end = xp.minimum(found.end.astype(np.int64) * bin_size, size)
            parts.append((found.group + np.int32(first), start.astype(np.int32), end.astype(np.int32), found.t))
        group, start, end, value = (
            xp.concatenate([xp.empty(0, np.int32), *(part[k] for part in parts)]) for k in range(4)
        )
        counts = (
            to_host(xp.bincount(group, minlength=ends.n_groups)) if group.size else np.zeros(ends.n_groups, np.int64)
        )
        return Runs(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), start, end, value)

    def window_sums(self, runs: Runs, *, left: int, right: int, begin: int, stop: int) -> Runs:
        """See ``protocol.Pileup.window_sums``: only bases that a run is near are looked at, ``self._bases`` at once."""
        xp = self._xp
        nothing = xp.empty(0, np.int32), xp.empty(0, np.int32), xp.empty(0, np.int64)
        parts = [nothing, *(
            self._sums_of_one(tuple(column[a:b] for column in runs[1:]), left, right, begin, stop)
            for a, b in pairwise(runs.ptr.tolist())
        )]  # fmt: skip
        ptr = np.cumsum([int(part[0].size) for part in parts], dtype=np.int64)
        return Runs(ptr, *(xp.concatenate([part[k] for part in parts]) for k in range(3)))

    def _sums_of_one(self, runs: tuple[Any, ...], left: int, right: int, begin: int, stop: int) -> tuple[Any, Any, Any]:
        """Start, end and sum of one group's runs of equal sums."""
        xp = self._xp
        near = xp.flatnonzero((runs[1] > begin - right) & (runs[0] < stop + left))
        if stop <= begin or not near.size:
            return xp.empty(0, np.int32), xp.empty(0, np.int32), xp.empty(0, np.int64)
        start, end, value = (column[near].astype(np.int64) for column in runs)
        until = _from_zero(xp, (end - start) * value)

        def before(at: Any) -> Any:
            """The sum over all bases in front of each position."""
            run = xp.maximum(xp.searchsorted(start, at) - 1, 0)
            return until[run] + xp.clip(at - start[run], 0, end[run] - start[run]) * value[run]

        # the sum at x is over x - right ... x + left: not nought from ``left`` before a run to ``right`` behind it
        low, high = xp.maximum(start - left, begin), xp.minimum(end + right, stop)
        opens = xp.ones(int(low.size), bool)
        opens[1:] = low[1:] > high[:-1]
        first = xp.flatnonzero(opens)
        low, high = low[first], high[xp.concatenate([first[1:], xp.full(1, low.size, first.dtype)]) - 1]
        offset = _from_zero(xp, high - low)
        n_bases = int(offset[-1])
        parts = []
        for done in range(0, n_bases, self._bases):
            at = xp.arange(done, min(done + self._bases, n_bases))
            stretch = xp.searchsorted(offset, at, side="right") - 1
            at = low[stretch] + (at - offset[stretch])
            parts.append(self._equal_runs(at, at + 1, before(at + (left + 1)) - before(at - right)))
        columns = [xp.concatenate([part[k] for part in parts]) for k in range(3)]
        start, end, sums = self._equal_runs(*columns) if len(parts) > 1 else columns
        some = xp.flatnonzero(sums > 0)
        return start[some].astype(np.int32), end[some].astype(np.int32), sums[some]

    def _equal_runs(self, start: Any, end: Any, value: Any) -> tuple[Any, Any, Any]:
        """Neighbours of one value joined where they touch."""
        xp = self._xp
        opens = xp.ones(int(start.size), bool)
        opens[1:] = (value[1:] != value[:-1]) | (start[1:] != end[:-1])
        first = xp.flatnonzero(opens)
        last = xp.concatenate([first[1:], xp.full(1, start.size, first.dtype)]) - 1
        return start[first], end[last], value[first]


def _from_zero(xp: Any, sizes: Any) -> Any:
    """int64 (n + 1,): the running sum, from 0 on."""
    out = xp.zeros(int(sizes.size) + 1, np.int64)
    out[1:] = xp.cumsum(sizes)
    return out
