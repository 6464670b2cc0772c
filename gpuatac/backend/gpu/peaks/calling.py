"""The passes of peak calling on a GPU: all groups of a chromosome together, chromosome after chromosome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac.backend.gpu.peaks import summits
from gpuatac.backend.gpu.peaks.segments import BUDGET, WIDTH, Streams, batches, streams_of, to_host
from gpuatac.backend.protocol import SegmentLengths, Segments, Summits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gpuatac.backend.gpu.launch import Launcher
    from gpuatac.backend.protocol import Cutoffs, Geometry, GroupEnds

NEVER = np.iinfo(np.int32).max  # as a least pileup: no segment is above the cutoff
NO_PAIR = -1  # a free slot, as in segments.cu (all bits set)
SLOTS = 1 << 10  # of a group's hash table at least
CROWDING = 8  # segments for each slot at first: most segments share their (n, t) with many others
BASES = 1 << 28  # of the regions whose signals are laid out at once: 4 B each


class Peaks:
    """See ``protocol.Peaks``."""

    def __init__(
        self,
        xp: Any,
        launch: Launcher,
        *,
        budget: int = BUDGET,
        width: int = WIDTH,
        slots: int = SLOTS,
        crowding: int = CROWDING,
        bases: int = BASES,
    ) -> None:
        self._xp = xp
        self._launch = launch
        self._budget = budget
        self._width = width
        self._slots = slots
        self._crowding = crowding
        self._bases = bases

    def segment_lengths(self, sources: Sequence[Callable[[], GroupEnds]], geometry: Geometry) -> SegmentLengths:
        """See ``protocol.Peaks.segment_lengths``."""
        xp = self._xp
        n_groups = 0
        parts = [tuple(xp.empty(0, np.int64) for _ in range(3))]
        for source in sources:
            ends = source()
            n_groups = ends.n_groups
            for first, some in batches(ends, self._budget):
                streams = streams_of(xp, self._launch, some, geometry, width=self._width)
                group, pair, length = self._pairs(streams)
                parts.append((group + first, pair, length))
        group, pair, length = (xp.concatenate([part[k] for part in parts]) for k in range(3))
        group, pair, length = self._summed(group, pair, length)
        ptr = np.searchsorted(to_host(group), np.arange(n_groups + 1)).astype(np.int64)
        t, n = (pair & 0xFFFFFFFF).astype(np.int32), (pair >> 32).astype(np.int32)
        return SegmentLengths(ptr, *(to_host(column) for column in (t, n, length)))

    def _pairs(self, streams: Streams) -> tuple[Any, Any, Any]:
        """(group, n << 32 | t, length), int64, of the pairs that occur; a table too small is doubled and filled anew."""
        xp = self._xp
        slots = np.maximum(_power_of_two(streams.most_segments // self._crowding), self._slots)
        while True:
            slot_ptr = np.concatenate([[0], np.cumsum(slots)]).astype(np.int64)
            pair, length = xp.full(int(slot_ptr[-1]), NO_PAIR, np.int64), xp.zeros(int(slot_ptr[-1]), np.int64)
            full = xp.zeros(streams.n_groups, np.int32)
            slot_edge = xp.asarray(slot_ptr)
            self._launch("add_segment_lengths", streams.n_slices, *streams.arguments, slot_edge, pair, length, full)
            too_small = to_host(full) > 0
            if not too_small.any():
                break
            slots = np.where(too_small, 2 * slots, slots)
        taken = xp.flatnonzero(pair != NO_PAIR)
        return xp.searchsorted(slot_edge, taken, side="right") - 1, pair[taken], length[taken]

    def _summed(self, group: Any, pair: Any, length: Any) -> tuple[Any, Any, Any]:
        """By group and pair, the lengths of equal ones added up; those that add up to nothing are left out."""
        xp = self._xp
        if not pair.size:
            return group, pair, length
        order = xp.argsort(pair, kind="stable")
        order = order[xp.argsort(group[order], kind="stable")]
        group, pair = group[order], pair[order]
        until = xp.zeros(int(pair.size) + 1, np.int64)
        until[1:] = xp.cumsum(length[order])
        opens = xp.ones(pair.size, bool)
        opens[1:] = (pair[1:] != pair[:-1]) | (group[1:] != group[:-1])
        at = xp.flatnonzero(opens)
        edge = xp.concatenate([at, xp.full(1, pair.size, at.dtype)])
        total = until[edge[1:]] - until[edge[:-1]]
        some = xp.flatnonzero(total != 0)
        return group[at[some]], pair[at[some]], total[some]

    def poisson_scores(self, t: np.ndarray, rate: np.ndarray) -> np.ndarray:
        """See ``protocol.Peaks.poisson_scores``. The logarithms are the host's, so that both devices add the same terms."""
        xp = self._xp
        n = int(t.size)
        if n == 0:
            return np.zeros(0, np.float32)
        rate = np.asarray(rate, np.float64)
        top = float(rate.max())
        n_factorials = int(t.max()) + 2
        n_logs = max(n_factorials, int(top + 8 * top**0.5)) + 64
        log_of = np.concatenate([[0.0], np.log(np.arange(1, n_logs, dtype=np.float64))])
        out = xp.empty(n, np.float32)
        columns = (np.asarray(t, np.int32), rate, np.log(rate), log_of)
        self._launch(
            "poisson_scores",
            n,
            *(xp.asarray(np.ascontiguousarray(column)) for column in columns),
            n_logs,
            xp.asarray(np.cumsum(log_of[:n_factorials])),
            n,
            out,
        )
        return to_host(out)

    def above(self, sources: Sequence[Callable[[], GroupEnds]], geometry: Geometry, cutoffs: Cutoffs) -> list[Segments]:
        """See ``protocol.Peaks.above``."""
        out = []
        for source in sources:
            parts = list(self._above(source(), geometry, cutoffs))
            if len(parts) == 1:
                out.append(parts[0])
                continue
            nothing = self._xp.empty(0, np.int32)
            out.append(
                Segments(
                    *(self._xp.concatenate([nothing, *columns]) for columns in zip(*parts, strict=True))
                    if parts
                    else [nothing] * 5
                )
            )
        return out

    def _above(self, ends: GroupEnds, geometry: Geometry, cutoffs: Cutoffs) -> Iterator[Segments]:
        """The segments above the cutoff, batch of groups by batch of groups."""
        reached = np.concatenate([[0], np.cumsum(cutoffs.least < NEVER)])[cutoffs.ptr]
        for first, some in batches(ends, self._budget, np.diff(reached) > 0):
            streams = streams_of(self._xp, self._launch, some, geometry, width=self._width)
            edge = cutoffs.ptr[first : first + some.n_groups + 1]
            least = cutoffs.least[int(edge[0]) : int(edge[-1])]
            found = streams.above(self._xp, self._launch, edge - edge[0], least)
            found = found._replace(group=found.group + np.int32(first))
            yield self._without_holes(found, cutoffs, range(first, first + some.n_groups))

    def _without_holes(self, found: Segments, cutoffs: Cutoffs, groups: range) -> Segments:
        xp = self._xp
        holes = {g: cutoffs.holes[g] for g in groups if cutoffs.holes and cutoffs.holes[g].size}
        if not holes:
            return found
        pair = (found.n.astype(np.int64) << 32) | found.t
        kept = xp.ones(pair.size, bool)
        for g, own in holes.items():
            kept &= (found.group != g) | ~xp.isin(pair, xp.asarray(own))
        return Segments(*(column[kept] for column in found))

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
        """See ``protocol.Peaks.summits``."""
        out = []
        for source in sources:
            parts = [np.empty((len(Summits._fields), 0), np.int32)]
            for segments in self._above(source(), geometry, cutoffs):
                parts += summits.call(
                    self._xp,
                    self._launch,
                    segments,
                    max_gap=max_gap,
                    min_length=min_length,
                    subpeaks=subpeaks,
                    bases=self._bases,
                )
            out.append(Summits(*np.concatenate(parts, axis=1)))
        return out


def _power_of_two(least: np.ndarray) -> np.ndarray:
    """The smallest powers of two that are not below ``least``."""
    return np.array([1 << max(int(n) - 1, 0).bit_length() for n in least], np.int64)
