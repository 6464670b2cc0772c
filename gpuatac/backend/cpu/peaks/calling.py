"""Peak calling on the CPU: chromosomes and groups side by side, each in one sweep a pass."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from threading import local
from typing import TYPE_CHECKING, Any

import numba as nb
import numpy as np

from gpuatac.backend.cpu.peaks import sweeps
from gpuatac.backend.cpu.peaks.summits import call, closed
from gpuatac.backend.protocol import Geometry, SegmentLengths, Segments, Summits
from gpuatac.threads import COUNTING_THREAD, get_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gpuatac.backend.protocol import Cutoffs, GroupEnds

FIRST_SLOTS = 1 << 10
ROOM = 1 << 14  # segments above the cutoff at a time
TOLERANCE = 1e-5  # MACS3's series ends with the first step below this


class Peaks:
    """See ``protocol.Peaks``."""

    def segment_lengths(self, sources: Sequence[Callable[[], GroupEnds]], geometry: Geometry) -> SegmentLengths:
        """See ``protocol.Peaks.segment_lengths``."""
        own = local()

        def one(group: int, codes: list[int]) -> tuple[int, np.ndarray, np.ndarray]:
            if not hasattr(own, "dense"):
                own.dense = np.zeros(sweeps.DENSE_N * sweeps.DENSE_T, np.int64)
            keys, sums = np.full(FIRST_SLOTS, sweeps.NONE), np.zeros(FIRST_SLOTS, np.int64)
            state = np.zeros(sweeps.STATE, np.int64)
            for code in codes:
                streams = _streams(sources[code](), group, geometry)
                if streams is None:
                    continue
                run = sweeps.lengths_weighted if streams.weighted else sweeps.lengths_plain
                state[: sweeps.TAKEN] = 0
                while not run(*streams.tracks, geometry.clip, own.dense, keys, sums, state):
                    keys, sums = sweeps.grown(keys, sums)
            dense_keys, dense_sums = sweeps.taken_cells(own.dense, state[sweeps.MAX_N], state[sweeps.MAX_T])
            used = keys != sweeps.NONE
            return group, np.concatenate([dense_keys, keys[used]]), np.concatenate([dense_sums, sums[used]])

        n_groups = sources[0]().n_groups if sources else 0
        parts: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in range(n_groups)]
        for group, keys, sums in _side_by_side(one, _tasks(sources, n_groups)):
            parts[group].append((keys, sums))
        merged = [_sum_by_key(part) for part in parts]
        ptr = np.cumsum([0, *(keys.size for keys, _ in merged)])
        keys = np.concatenate([keys for keys, _ in merged]) if merged else np.empty(0, np.int64)
        sums = np.concatenate([sums for _, sums in merged]) if merged else np.empty(0, np.int64)
        return SegmentLengths(ptr, (keys & 0xFFFFFFFF).astype(np.int32), (keys >> 32).astype(np.int32), sums)

    def poisson_scores(self, t: np.ndarray, rate: np.ndarray) -> np.ndarray:
        """See ``protocol.Peaks.poisson_scores``."""
        log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1.0, float(t.max(initial=0)) + 2)))])
        bounds = np.linspace(0, t.size, get_threads() + 1).astype(np.int64).tolist()
        out = np.empty(t.size, np.float32)
        _side_by_side(
            lambda a, b: _scores(t[a:b], rate[a:b], log_factorial, out[a:b]),
            list(itertools.pairwise(bounds)),
        )
        return out

    def above(self, sources: Sequence[Callable[[], GroupEnds]], geometry: Geometry, cutoffs: Cutoffs) -> list[Segments]:
        """See ``protocol.Peaks.above``."""
        n_groups = sources[0]().n_groups if sources else 0
        tasks = [(code, group) for code in range(len(sources)) for group in range(n_groups)]

        def one(code: int, group: int) -> np.ndarray:
            blocks = [block.copy() for block in _above(sources[code](), group, geometry, cutoffs, 0)]
            return np.concatenate(blocks, axis=1) if blocks else np.empty((4, 0), np.int32)

        parts = _side_by_side(one, tasks)
        out = []
        for code in range(len(sources)):
            out.append(Segments(*_one_table(parts[code * n_groups : (code + 1) * n_groups], 4)))
        return out

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
        n_groups = sources[0]().n_groups if sources else 0

        def one(code: int, group: int) -> np.ndarray:
            blocks = _above(sources[code](), group, geometry, cutoffs, max_gap)
            called = [call(b[0], b[1], b[2], b[3], max_gap, min_length, subpeaks) for b in blocks]
            return np.concatenate(called, axis=1) if called else np.empty((6, 0), np.int32)

        tasks = [(code, group) for code in range(len(sources)) for group in range(n_groups)]
        parts = _side_by_side(one, tasks)
        out = []
        for code in range(len(sources)):
            out.append(Summits(*_one_table(parts[code * n_groups : (code + 1) * n_groups], 6)))
        return out


class _Streams:
    """The pileup and the background of one group on one chromosome, as the sweeps take them."""

    def __init__(self, arrays: list[np.ndarray], weights: list[np.ndarray], offsets: list[int]) -> None:
        self.weighted = bool(weights)
        empty = np.empty(0, np.int32)
        own = weights or [empty] * 4
        self.tracks = tuple((tuple(arrays[k]), tuple(own[k]), tuple(offsets[k])) for k in (slice(2), slice(2, 4)))
        closes, ends = arrays[1], arrays[3]
        self.background_ends_last = ends.size == 1 or int(ends[-2]) + offsets[3] >= int(closes[-2]) + offsets[1]

    def above(self, least: np.ndarray, *, clip: bool) -> tuple[Any, Any]:
        """The sweep that finds the segments above the cutoff fastest, and what it takes before ``least``."""
        if clip and self.background_ends_last:
            run = sweeps.above_clipped_weighted if self.weighted else sweeps.above_clipped_plain
            return run, int(least.min())
        return (sweeps.above_weighted if self.weighted else sweeps.above_plain), clip


def _streams(ends: GroupEnds, group: int, geometry: Geometry) -> _Streams | None:
    """None where the group has no fragment."""
    rows = slice(int(ends.ptr[group]), int(ends.ptr[group + 1]))
    if rows.start == rows.stop:
        return None
    left, right = np.ascontiguousarray(ends.left[rows]), np.ascontiguousarray(ends.right[rows])
    weights = []
    if ends.left_weight is not None and ends.right_weight is not None:
        weights = [ends.left_weight[rows], ends.right_weight[rows]]

    def merged(shift_left: int, shift_right: int) -> tuple[np.ndarray, list[np.ndarray]]:
        shifts = np.int32(shift_left), np.int32(shift_right)
        both = sweeps.merge(left, right, *shifts)
        return both, [sweeps.merge_weights(left, right, *shifts, *weights)] if weights else []

    shift, reach = geometry.shift, geometry.wide // 2
    nothing = np.full(1, sweeps.SENTINEL, np.int32)
    around, around_weight = merged(0, 0 if geometry.whole else -1)
    background = [around, around] if geometry.wide else [nothing, nothing]
    offsets = [-reach, geometry.wide - reach] if geometry.wide else [0, 0]
    if geometry.whole:
        pileup = [np.append(left, sweeps.SENTINEL).astype(np.int32), np.append(right, sweeps.SENTINEL).astype(np.int32)]
        own = [np.append(w, 0).astype(np.int32) for w in weights]
        return _Streams([*pileup, *background], [*own, *around_weight * 2], [0, 0, *offsets])
    if 2 * shift == -geometry.extsize:
        arrays = [around, around, *background]
        return _Streams(arrays, around_weight * 4, [shift, shift + geometry.extsize, *offsets])
    opens, open_weight = merged(shift, -1 - shift - geometry.extsize)
    closes, close_weight = merged(shift + geometry.extsize, -1 - shift)
    return _Streams([opens, closes, *background], [*open_weight, *close_weight, *around_weight * 2], [0, 0, *offsets])


def _above(
    ends: GroupEnds, group: int, geometry: Geometry, cutoffs: Cutoffs, max_gap: int, room: int = ROOM
) -> Iterator[np.ndarray]:
    """int32 (4, n) start, end, t, n of the segments above the cutoff, in blocks that end where a gap exceeds ``max_gap``.

    A block holds only until the next one.
    """
    least = cutoffs.least[cutoffs.ptr[group] : cutoffs.ptr[group + 1]]
    streams = _streams(ends, group, geometry) if (least < sweeps.SENTINEL).any() else None
    if streams is None:
        return
    run, low = streams.above(least, clip=geometry.clip)
    state, out, found = np.zeros(sweeps.STATE, np.int64), np.empty((4, room), np.int32), 0
    holes = cutoffs.holes[group] if cutoffs.holes else None
    while True:
        before = found
        found = run(*streams.tracks, low, least, state, out, found)
        last = found < out.shape[1]
        if holes is not None:
            new = out[:, before:found]
            kept = new[:, ~np.isin(new[3].astype(np.int64) << 32 | new[2], holes)]
            found = before + kept.shape[1]
            out[:, before:found] = kept
        if last:
            yield out[:, :found]
            return
        done = closed(out[0], out[1], found, max_gap)
        if done:
            yield out[:, :done]
            out[:, : found - done] = out[:, done:found].copy()
            found -= done
        elif found == out.shape[1]:
            out = np.concatenate([out, np.empty_like(out)], axis=1)


def _tasks(sources: Sequence[Callable[[], GroupEnds]], n_groups: int) -> list[tuple[int, list[int]]]:
    """(group, chromosomes): a group in one task, or in several where there are few groups for the threads."""
    n_parts = max(1, -(-2 * get_threads() // max(n_groups, 1))) if n_groups < 2 * get_threads() else 1
    return [(group, list(range(k, len(sources), n_parts))) for group in range(n_groups) for k in range(n_parts)]


def _side_by_side(work: Callable[..., Any], tasks: Iterable[tuple]) -> list[Any]:
    with ThreadPoolExecutor(get_threads(), COUNTING_THREAD) as pool:
        return list(pool.map(lambda task: work(*task), tasks))


def _one_table(parts: list[np.ndarray], n_rows: int) -> list[np.ndarray]:
    """The number of each part, repeated for its columns, and the rows of all parts side by side."""
    sizes = np.array([part.shape[1] for part in parts], np.int64)
    group = np.repeat(np.arange(len(parts), dtype=np.int32), sizes)
    return [group, *np.concatenate([np.empty((n_rows, 0), np.int32), *parts], axis=1)]


def _sum_by_key(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Distinct keys, ascending, with the sums of their values."""
    keys, sums = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    order = np.argsort(keys, kind="stable")
    keys, sums = keys[order], sums[order]
    if not keys.size:
        return keys, sums
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[first], np.add.reduceat(sums, first)


@nb.njit(cache=True, nogil=True)
def _scores(t: Any, rate: Any, log_factorial: Any, out: Any) -> Any:
    """Fills ``out`` with -log10 P(X > t), X ~ Poisson(rate)."""
    for i in range(t.size):
        log_rate = np.log(rate[i])
        m = np.int64(t[i]) + 1
        term = m * log_rate - log_factorial[m]
        total = term
        while True:
            m += 1
            term += log_rate - np.log(np.float64(m))
            before = total
            high, low = max(before, term), min(before, term)
            total = high + np.log1p(np.exp(low - high))
            if abs(before - total) < TOLERANCE:
                break
        out[i] = -_to_five_decimals((total - rate[i]) / np.log(10.0))


@nb.njit(cache=True, nogil=True)
def _to_five_decimals(x: Any) -> Any:
    """The float64 nearest to x rounded to 5 decimals, halves to even, as Python rounds: decided on the exact product."""
    scaled = x * 1e5
    whole = np.floor(scaled)
    beyond = scaled - whole - 0.5
    if beyond == 0.0:
        # x * 1e5 - scaled without error: 1e5 has 17 bits, so both halves of x times it are exact
        big = x * 134217729.0
        high = big - (big - x)
        beyond = (high * 1e5 - scaled) + (x - high) * 1e5
    if beyond > 0.0 or (beyond == 0.0 and whole % 2.0 != 0.0):
        whole += 1.0
    return whole / 1e5
