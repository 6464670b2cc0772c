"""Regions of segments above the cutoff, and where they peak: MACS3's rules, in integers wherever MACS3's floats are exact."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

PADDING = 10  # bp on both sides of a region
LEAST_WIDTH, LEAST_LEVELS = 50, 6  # a subpeak has at least so many bases and distinct heights
_njit = nb.njit(cache=True, nogil=True)


@_njit
def regions(start: Any, end: Any, max_gap: Any, min_length: Any) -> Any:
    """(first, last + 1) segment of each region of ``min_length`` or more; gaps up to ``max_gap`` are bridged."""
    lo, hi = np.empty(start.size, np.int64), np.empty(start.size, np.int64)
    found = 0
    first = 0
    for i in range(1, start.size + 1):
        if i == start.size or start[i] - end[i - 1] > max_gap:
            if end[i - 1] - start[first] >= min_length:
                lo[found], hi[found] = first, i
                found += 1
            first = i
    return lo[:found].copy(), hi[:found].copy()


@_njit
def closed(start: Any, end: Any, found: Any, max_gap: Any) -> Any:
    """How many of the first ``found`` segments belong to regions that no later segment can join."""
    for i in range(found - 1, 0, -1):
        if start[i] - end[i - 1] > max_gap:
            return i
    return 0


@_njit
def one_summit(start: Any, end: Any, t: Any, lo: Any, hi: Any) -> Any:
    """(segment, position): the middle one of the highest segments, and its midpoint."""
    highest, n_highest = t[lo], 0
    for i in range(lo, hi):
        if t[i] > highest:
            highest, n_highest = t[i], 0
        n_highest += t[i] == highest
    wanted = (n_highest + 1) // 2 - 1
    for i in range(lo, hi):
        if t[i] == highest:
            if wanted == 0:
                return i, (start[i] + end[i]) // 2
            wanted -= 1
    return lo, start[lo]  # not reached


@_njit
def _is_peaky(signal: Any, a: Any, b: Any, threshold: Any, again: Any, twice: Any, summit: Any) -> Any:
    """Whether signal[a:b] less the threshold keeps enough bases and levels before it turns negative right of the summit."""
    stop = b
    for i in range(summit, b):
        value = np.float32(np.float32(signal[i]) - threshold)
        if twice:
            value = np.float32(value - again)
        if value < 0:
            stop = i
            break
    if stop - a < LEAST_WIDTH:
        return False
    seen = np.empty(LEAST_LEVELS, np.int32)
    n_seen = 0
    for i in range(a, stop):
        known = False
        for k in range(n_seen):
            known |= seen[k] == signal[i]
        if not known:
            seen[n_seen] = signal[i]
            n_seen += 1
            if n_seen == LEAST_LEVELS:
                return True
    return False


@_njit
def _root(value: Any) -> Any:
    return np.float32(np.sqrt(np.float64(value)))


@_njit
def _peaky(signal: Any, maxima: Any) -> Any:
    """The maxima that stand out: between the valleys beside them, above the higher valley and its square root."""
    n = maxima.size
    if n <= 1:
        return maxima
    valley = np.empty(n - 1, np.int64)
    for k in range(n - 1):
        at = maxima[k]
        for i in range(maxima[k], maxima[k + 1]):
            if signal[i] < signal[at]:
                at = i
        valley[k] = at
    kept = np.empty(n, np.int64)
    found = 0
    for k in range(n):
        if k == 0:
            floor, a, b = signal[valley[0]], 0, valley[0]
        elif k == n - 1:
            floor, a, b = signal[valley[n - 2]], valley[n - 2], signal.size
        else:
            floor, a, b = max(signal[valley[k - 1]], signal[valley[k]]), valley[k - 1], valley[k]
        threshold = np.float32(np.float32(floor) + _root(np.float32(floor)))
        if _is_peaky(signal, a, b, threshold, _root(threshold), k == 0, maxima[k]):
            kept[found] = maxima[k]
            found += 1
    return kept[:found]


@_njit
def _crests(padded: Any, half: Any, first: Any, last: Any, out: Any) -> Any:
    """Writes the i within first..last where sum_k k padded[i + half + k], |k| <= half, turns from rising to falling."""
    total, moment = np.int64(0), np.int64(0)
    for k in range(2 * half + 1):
        total += padded[k]
        moment += (k - half) * np.int64(padded[k])
    found = 0
    for i in range(last + 1):
        gone, new = np.int64(padded[i]), np.int64(padded[i + 2 * half + 1])
        before = moment
        moment += (half + 1) * gone - total + half * new
        total += new - gone
        if (before >= 0) & (moment <= 0):  # rarely so
            if (before > moment) & (i >= first):
                out[found] = i
                found += 1
    return found


@_njit
def _fill(signal: Any, start: Any, end: Any, t: Any, lo: Any, hi: Any, shift: Any) -> Any:
    """The height of each segment at its bases, moved by ``shift``, 0 in gaps; ``signal`` comes as zeros."""
    size = signal.size
    if start[lo] + shift >= 0 and end[lo] + shift >= 0:  # changes of height, then their running sum
        for i in range(lo, hi):
            a, b = start[i] + shift, end[i] + shift
            signal[min(a, size - 1)] += t[i] * (a < size)
            signal[min(b, size - 1)] -= t[i] * (b < size)
        height = np.int32(0)
        for k in range(size):
            height += signal[k]
            signal[k] = height
        return
    for i in range(lo, hi):  # before position 0, where MACS3's slices count from the end
        a, b = start[i] + shift, end[i] + shift
        a = max(a + size, 0) if a < 0 else a
        b = max(b + size, 0) if b < 0 else b
        for k in range(a, min(b, size)):
            signal[k] = t[i]


@_njit
def subpeaks(start: Any, end: Any, t: Any, lo: Any, hi: Any, width: Any) -> Any:
    """(segments, positions) of the subpeaks: where a Savitzky-Golay derivative (order 2, ``width`` made odd) turns from
    rising to falling. Its sign is that of sum_k k s[i + k], an integer.
    """
    origin, boundary = start[lo] - PADDING, PADDING
    if origin < 0:
        boundary += origin
        origin = np.int32(0)
    size = end[hi - 1] + PADDING - origin
    half = width // 2
    if size <= half:  # only where a region begins before position 0
        return np.empty(0, np.int64), np.empty(0, np.int64)
    padded = np.zeros(size + 2 * half, np.int32)
    signal = padded[half : half + size]
    _fill(signal, start, end, t, lo, hi, boundary - origin)
    head, tail = signal[0], signal[size - 1]
    for k in range(half):
        padded[k] = head - abs(signal[half - k] - head)
        padded[half + size + k] = tail + abs(signal[size - 2 - k] - tail)
    maxima = np.empty(size, np.int64)
    found = _crests(padded, half, boundary, min(boundary + end[hi - 1] - start[lo], size - 2), maxima)
    maxima = _peaky(signal, maxima[:found])
    positions = maxima + origin - boundary
    segments = np.full(maxima.size, lo, np.int64)
    for k in range(maxima.size):  # a summit in a gap takes the first segment
        i = lo + np.searchsorted(end[lo:hi], positions[k], side="right")
        if i < hi and start[i] <= positions[k]:
            segments[k] = i
    return segments, positions


@_njit
def call(start: Any, end: Any, t: Any, n: Any, max_gap: Any, min_length: Any, with_subpeaks: Any) -> Any:
    """int32 (6, k): start, end, summit, t, n of its segment, and number within the region, of each summit."""
    lo, hi = regions(start, end, max_gap, min_length)
    out = np.empty((6, max(lo.size, 1)), np.int32)
    found = 0
    for r in range(lo.size):
        if with_subpeaks:
            segments, positions = subpeaks(start, end, t, lo[r], hi[r], min_length)
        else:
            segments, positions = np.empty(0, np.int64), np.empty(0, np.int64)
        if not segments.size:
            i, position = one_summit(start, end, t, lo[r], hi[r])
            segments, positions = np.array([np.int64(i)]), np.array([np.int64(position)])
        if found + segments.size > out.shape[1]:
            larger = np.empty((6, 2 * (found + segments.size)), np.int32)
            larger[:, :found] = out[:, :found]
            out = larger
        for k in range(segments.size):
            out[0, found], out[1, found], out[2, found] = start[lo[r]], end[hi[r] - 1], positions[k]
            out[3, found], out[4, found], out[5, found] = t[segments[k]], n[segments[k]], k
            found += 1
    return out[:, :found].copy()
