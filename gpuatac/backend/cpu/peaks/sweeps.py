"""One sweep over four sorted streams of positions visits every segment of a pileup and its background, storing none.

The streams are where intervals of the pileup open and close and where windows of the background open and close. Each array
ends with a sentinel, so that the sweep never tests for its end. Two passes share the sweep: the first adds up lengths by
(background count n, pileup t), the second gathers segments above the cutoff.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

SENTINEL = np.iinfo(np.int32).max
BEYOND = np.int64(1) << 40
DENSE_N, DENSE_T = (
    8192,
    1016,
)  # counts below these have a cell of the dense table; t is odd in cache lines, so rows spread
NONE = np.int64(-1)
STATE, TAKEN, MAX_N, MAX_T = 11, 8, 9, 10  # size of a sweep's state, and what stands where beside its position
_njit = nb.njit(cache=True, nogil=True)


@_njit
def merge(a: Any, b: Any, shift_a: Any, shift_b: Any) -> Any:
    """Two sorted int32 arrays as one, each shifted, with the sentinel after it; beyond int32 everything is at its end."""
    out = np.empty(a.size + b.size + 1, np.int32)
    i = j = 0
    most = np.int64(SENTINEL - 1)
    while i < a.size and j < b.size:
        x, y = min(np.int64(a[i]) + shift_a, most), min(np.int64(b[j]) + shift_b, most)
        from_a = x <= y
        out[i + j] = x if from_a else y
        i += from_a
        j += not from_a
    while i < a.size:
        out[i + j] = min(np.int64(a[i]) + shift_a, most)
        i += 1
    while j < b.size:
        out[i + j] = min(np.int64(b[j]) + shift_b, most)
        j += 1
    out[-1] = SENTINEL
    return out


@_njit
def merge_weights(a: Any, b: Any, shift_a: Any, shift_b: Any, weight_a: Any, weight_b: Any) -> Any:
    """The weights in the order of ``merge``."""
    out = np.zeros(a.size + b.size + 1, np.int32)
    i = j = 0
    for k in range(a.size + b.size):
        if j >= b.size or (i < a.size and a[i] + shift_a <= b[j] + shift_b):
            out[k] = weight_a[i]
            i += 1
        else:
            out[k] = weight_b[j]
            j += 1
    return out


@_njit
def _slot(keys: Any, key: Any) -> Any:
    """Where ``key`` lies, or could lie, in a table of open addresses."""
    mask = keys.size - 1
    at = (key * np.int64(-7046029254386353131) >> np.int64(20)) & mask
    while keys[at] != NONE and keys[at] != key:
        at = (at + 1) & mask
    return at


@_njit
def grown(keys: Any, sums: Any) -> Any:
    """The same table with twice the room."""
    new_keys = np.full(keys.size * 2, NONE, np.int64)
    new_sums = np.zeros(keys.size * 2, np.int64)
    for i in range(keys.size):
        if keys[i] != NONE:
            at = _slot(new_keys, keys[i])
            new_keys[at], new_sums[at] = keys[i], sums[i]
    return new_keys, new_sums


@_njit
def _add(keys: Any, sums: Any, n: Any, t: Any, length: Any, state: Any) -> Any:
    """Adds to the entry of (n, t) in the table."""
    key = np.int64(n) << 32 | np.int64(t)
    at = _slot(keys, key)
    if keys[at] == NONE:
        keys[at] = key
        state[TAKEN] += 1
    sums[at] += length


@nb.njit(inline="always")
def _position(x: Any, offset: Any, low: Any) -> Any:
    """Where an event lies: beyond everything for the sentinel."""
    return BEYOND if x == SENTINEL else max(np.int64(x) + offset, low)


@nb.njit(inline="always")
def _resumed(state: Any, pileup: Any, background: Any, clip: Any, weighted: Any) -> Any:
    """Where a sweep stands: (t, c, the end of the last segment, whether it has begun, then of the pileup and of the
    background which events come next, then where those lie, then the lowest position there is).
    """
    low = np.int64(0) if clip else np.int64(-(1 << 40))
    (opens, closes), (opening, _), (open_offset, close_offset) = pileup
    (starts, ends), _, (start_offset, end_offset) = background
    i, j, k, m = state[0], state[1], state[2], state[3]
    t, begun = state[4], state[7]
    if not clip and not begun:
        while opens[i] == 0 and i < closes.size - 1:
            t += opening[i] if weighted else 1
            i += 1
    own = _position(opens[i], open_offset, low), _position(closes[j], close_offset, low)
    around = _position(starts[k], start_offset, low), _position(ends[m], end_offset, low)
    return t, state[5], state[6], begun, (i, j), (k, m), own, around, low


@nb.njit(inline="always")
def _keep(state: Any, t: Any, c: Any, prev: Any, begun: Any, at: Any, around_at: Any) -> Any:
    """Keeps where a sweep stands, for ``_resumed``."""
    state[0], state[1], state[2], state[3] = at[0], at[1], around_at[0], around_at[1]
    state[4], state[5], state[6], state[7] = t, c, prev, begun


@nb.njit(forceinline=True)
def _passed(p: Any, count: Any, at: Any, event: Any, track: Any, low: Any, weighted: Any) -> Any:
    """The count of a track behind its events up to ``p``, which events come next, and where those lie."""
    (opens, closes), (opening, closing), (open_offset, close_offset) = track
    i, j = at
    opened, shut = event
    while opened <= p:
        count += opening[i] if weighted else 1
        i += 1
        opened = _position(opens[i], open_offset, low)
    while shut <= p:
        count -= closing[j] if weighted else 1
        j += 1
        shut = _position(closes[j], close_offset, low)
    return count, (i, j), (opened, shut)


@nb.njit(inline="always")
def _step(
    t: Any,
    c: Any,
    at: Any,
    around_at: Any,
    own: Any,
    around: Any,
    pileup: Any,
    background: Any,
    low: Any,
    weighted: Any,
) -> Any:
    """Past the next position with an event: that position, then t, c, and the events that come next.

    No branch stands around the calls: under one, Numba counts references to the arrays at every step (7 times slower).
    """
    p = min(own[0], own[1], around[0], around[1])
    t, at, own = _passed(p, t, at, own, pileup, low, weighted)
    c, around_at, around = _passed(p, c, around_at, around, background, low, weighted)
    return p, t, c, at, around_at, own, around


def _sweep(*, weighted: bool) -> Any:
    """The passes, for tracks with or without weights.

    A track, ``pileup`` or ``background``, is two streams that open and close its intervals, their weights and their offsets:
    ((int32 (n + 1,), int32 (n + 1,)), (int32 (n,), int32 (n,)), (int, int)).
    """

    @_njit
    def lengths(pileup: Any, background: Any, clip: Any, dense: Any, keys: Any, sums: Any, state: Any) -> Any:
        """Adds the length of each segment to ``dense`` (n * DENSE_T + t) or, for large counts, to the table (keys, sums).

        Stops when the table is half full: whoever calls gives it more room and calls again with the same ``state`` (zeros at
        first). True when all is done. ``state`` also holds how many keys are taken and the largest n and t of ``dense``.
        """
        n_closes, n_ends = pileup[0][1].size - 1, background[0][1].size - 1
        stop_with_background = n_ends > 0
        t, c, prev, begun, at, around_at, own, around, low = _resumed(state, pileup, background, clip, weighted)
        max_n, max_t = state[MAX_N], state[MAX_T]
        while at[1] < n_closes and (around_at[1] < n_ends or not stop_with_background):
            t0, c0 = t, c
            p, t, c, at, around_at, own, around = _step(
                t, c, at, around_at, own, around, pileup, background, low, weighted
            )
            if ((t != t0) | (c != c0)) & ((p != 0) | (begun != 0)):
                if (c0 < DENSE_N) & (t0 < DENSE_T):
                    dense[c0 * DENSE_T + t0] += p - prev
                    max_n = max(max_n, c0)
                    max_t = max(max_t, t0)
                else:
                    _add(keys, sums, c0, t0, p - prev, state)
                    if 2 * state[TAKEN] > keys.size:
                        prev, begun = p, np.int64(1)
                        break
                prev = p
            begun = np.int64(1)
        _keep(state, t, c, prev, begun, at, around_at)
        state[MAX_N], state[MAX_T] = max_n, max_t
        return at[1] >= n_closes or (stop_with_background and around_at[1] >= n_ends)

    @_njit
    def above(pileup: Any, background: Any, clip: Any, least: Any, state: Any, out: Any, found: Any) -> Any:
        """Writes start, end, t and n of the segments with t >= least[n] into ``out`` (int32 (4, room)), behind the ``found`` that
        are there already; gives how many there are then.

        Stops when ``out`` is full: whoever calls makes room and calls again with the same ``state`` (zeros at first). All is done
        when it is not full.
        """
        n_closes, n_ends, room = pileup[0][1].size - 1, background[0][1].size - 1, out.shape[1]
        stop_with_background = n_ends > 0
        t, c, prev, begun, at, around_at, own, around, low = _resumed(state, pileup, background, clip, weighted)
        while found < room and at[1] < n_closes and (around_at[1] < n_ends or not stop_with_background):
            t0, c0 = t, c
            p, t, c, at, around_at, own, around = _step(
                t, c, at, around_at, own, around, pileup, background, low, weighted
            )
            if ((t != t0) | (c != c0)) & ((p != 0) | (begun != 0)):
                if t0 >= least[c0]:
                    out[0, found], out[1, found], out[2, found], out[3, found] = prev, p, t0, c0
                    found += 1
                prev = p
            begun = np.int64(1)
        _keep(state, t, c, prev, begun, at, around_at)
        return found

    @_njit
    def above_clipped(pileup: Any, background: Any, lowest: Any, least: Any, state: Any, out: Any, found: Any) -> Any:
        """As ``above``, faster, where positions are clipped and the background ends last: below ``lowest``, the smallest of
        ``least``, only the pileup is followed, and the background catches up where the pileup rises to it.
        """
        n_closes, room = pileup[0][1].size - 1, out.shape[1]
        t, c, prev, begun, at, around_at, own, around, low = _resumed(state, pileup, background, True, weighted)
        while found < room and at[1] < n_closes:
            if t < lowest:
                p = min(own[0], own[1])
                t, at, own = _passed(p, t, at, own, pileup, low, weighted)
                if t >= lowest:
                    c, around_at, around = _passed(p, c, around_at, around, background, low, weighted)
                    prev = p
                continue
            t0, c0 = t, c
            p, t, c, at, around_at, own, around = _step(
                t, c, at, around_at, own, around, pileup, background, low, weighted
            )
            if (t != t0) | (c != c0):
                if t0 >= least[c0]:
                    out[0, found], out[1, found], out[2, found], out[3, found] = prev, p, t0, c0
                    found += 1
                prev = p
        _keep(state, t, c, prev, begun, at, around_at)
        return found

    return lengths, above, above_clipped


lengths_plain, above_plain, above_clipped_plain = _sweep(weighted=False)
lengths_weighted, above_weighted, above_clipped_weighted = _sweep(weighted=True)


@_njit
def taken_cells(dense: Any, max_n: Any, max_t: Any) -> Any:
    """(key, length) of the cells of the dense table in use, by (n, t); they are zero afterwards."""
    found = 0
    for n in range(max_n + 1):
        for t in range(max_t + 1):
            found += dense[n * DENSE_T + t] != 0
    keys, sums = np.empty(found, np.int64), np.empty(found, np.int64)
    at = 0
    for n in range(max_n + 1):
        for t in range(max_t + 1):
            value = dense[n * DENSE_T + t]
            if value != 0:
                keys[at], sums[at] = np.int64(n) << 32 | np.int64(t), value
                dense[n * DENSE_T + t] = 0
                at += 1
    return keys, sums
