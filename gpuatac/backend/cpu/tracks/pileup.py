"""Fragments by group: the sorted ends of each, and their coverage."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit

from gpuatac.backend.protocol import GroupEnds, Runs


class Pileup:
    """See ``protocol.Pileup``."""

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
        sizes = _group_sizes(group, n_groups)
        ptr = np.concatenate([[0], np.cumsum(sizes)])
        weighted = weight is not None
        copies = np.ascontiguousarray(weight, np.int32) if weighted else np.empty(0, np.int32)
        left, right, left_weight = _by_group(start, end, group, copies, ptr)
        right_weight = left_weight.copy()
        if insertions:
            left, left_weight = _joined(left, right - 1, left_weight, ptr)
            ptr = ptr * 2
            _sort_each(left, left_weight, ptr, weighted=weighted)
            return GroupEnds(ptr, left, left + 1, *((left_weight, left_weight) if weighted else (None, None)))
        _sort_each(right, right_weight, ptr, weighted=weighted)
        return GroupEnds(ptr, left, right, *((left_weight, right_weight) if weighted else (None, None)))

    def coverage(self, ends: GroupEnds, *, bin_size: int, size: int) -> Runs:
        """See ``protocol.Pileup.coverage``."""
        pairs = pairwise(ends.ptr.tolist())
        return _all_groups([_coverage(ends.left[a:b], ends.right[a:b], bin_size, size) for a, b in pairs], np.int32)

    def window_sums(self, runs: Runs, *, left: int, right: int, begin: int, stop: int) -> Runs:
        """See ``protocol.Pileup.window_sums``."""
        parts = []
        for a, b in pairwise(runs.ptr.tolist()):
            held = (runs.start[a:b], runs.end[a:b], runs.value[a:b], left, right, begin, stop)
            nothing, no_sums = np.empty(0, np.int32), np.empty(0, np.int64)
            n = _window_sums(*held, nothing, nothing, no_sums)
            out = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.int64)
            _window_sums(*held, *out)
            parts.append(out)
        return _all_groups(parts, np.int64)


def _all_groups(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]], dtype: Any) -> Runs:
    """The runs of each group, one after the other."""
    ptr = np.cumsum([0, *(part[0].size for part in parts)], dtype=np.int64)
    if len(parts) == 1:
        return Runs(ptr, *parts[0])
    empty = (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, dtype))
    return Runs(ptr, *(np.concatenate([part[k] for part in (empty, *parts)]) for k in range(3)))


def _sort_each(values: np.ndarray, weight: np.ndarray, ptr: np.ndarray, *, weighted: bool) -> None:
    """Sort the values of each group in place, weights with them."""
    for a, b in pairwise(ptr):
        if weighted:
            order = np.argsort(values[a:b], kind="stable")
            values[a:b], weight[a:b] = values[a:b][order], weight[a:b][order]
        else:
            values[a:b].sort()


@njit(cache=True, nogil=True)
def _group_sizes(group, n_groups):  # type: ignore[no-untyped-def]
    sizes = np.zeros(n_groups, np.int64)
    for g in group:
        if g >= 0:
            sizes[g] += 1
    return sizes


@njit(cache=True, nogil=True)
def _by_group(start, end, group, weight, ptr):  # type: ignore[no-untyped-def]
    """Both ends and the weight of each fragment, stably by group."""
    at = ptr[:-1].copy()
    left, right = np.empty(ptr[-1], np.int32), np.empty(ptr[-1], np.int32)
    copies = np.empty(ptr[-1] if weight.size else 0, np.int32)
    for i in range(group.size):
        g = group[i]
        if g >= 0:
            k = at[g]
            left[k], right[k] = start[i], end[i]
            if weight.size:
                copies[k] = weight[i]
            at[g] = k + 1
    return left, right, copies


@njit(cache=True, nogil=True)
def _joined(left, right, weight, ptr):  # type: ignore[no-untyped-def]
    """The two arrays one after the other within each group."""
    out = np.empty(2 * left.size, np.int32)
    copies = np.empty(2 * weight.size, np.int32)
    for g in range(ptr.size - 1):
        a, b = ptr[g], ptr[g + 1]
        out[2 * a : a + b] = left[a:b]
        out[a + b : 2 * b] = right[a:b]
        if weight.size:
            copies[2 * a : a + b] = weight[a:b]
            copies[a + b : 2 * b] = weight[a:b]
    return out, copies


@njit(cache=True, nogil=True)
def _coverage(left, right, bin_size, size):  # type: ignore[no-untyped-def]
    """Start, end and depth where the sorted ends, snapped outward to bins, leave a depth above 0.

    One sweep over both: x runs through the snapped positions where something begins or ends.
    """
    n = left.size
    most = min(2 * n, (size + bin_size - 1) // bin_size)
    start, end, value = np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.int32)
    i = j = k = 0
    depth = np.int32(0)
    since = np.int64(0)
    while j < n:
        x = np.int64(right[j])
        x = min((x + bin_size - 1) // bin_size * bin_size, size)
        if i < n:
            first = np.int64(left[i])
            x = min(first // bin_size * bin_size, x)
        before = depth
        beyond = x + bin_size if x < size else np.int64(1) << 40
        while i < n and left[i] < beyond:
            depth += 1
            i += 1
        reached = x if x < size else np.int64(1) << 40
        while j < n and right[j] <= reached:
            depth -= 1
            j += 1
        if depth != before:
            if before > 0 and x > since:
                start[k], end[k], value[k] = since, x, before
                k += 1
            since = x
    return start[:k].copy(), end[:k].copy(), value[:k].copy()


@njit(cache=True, nogil=True)
def _window_sums(start, end, value, left, right, begin, stop, out_start, out_end, out_value):  # type: ignore[no-untyped-def]
    """Runs of S(i) = sum of the values at [i - right, i + left], i in [begin, stop); their number (arrays may be empty).

    S(i) - S(i - 1) = c(i + left) - c(i - 1 - right): constant between the runs' ends, so that S is flat or a ramp there.
    """
    n = start.size
    fill = out_start.size > 0
    total = np.int64(0)
    ahead = behind = 0  # the runs that hold, or follow, the position that enters and the one that leaves
    for k in range(n):
        overlap = min(np.int64(end[k]), begin + left + 1) - max(np.int64(start[k]), begin - right)
        if overlap > 0:
            total += overlap * np.int64(value[k])
    found = 0
    since = at = np.int64(begin)
    far = np.int64(1) << 40
    while at + 1 < stop:
        entering, leaving = at + 1 + left, at - right
        while ahead < n and end[ahead] <= entering:
            ahead += 1
        while behind < n and end[behind] <= leaving:
            behind += 1
        change = np.int64(0)
        until_ahead = until_behind = far
        if ahead < n:
            if start[ahead] <= entering:
                change += value[ahead]
                until_ahead = end[ahead] - entering
            else:
                until_ahead = start[ahead] - entering
        if behind < n:
            if start[behind] <= leaving:
                change -= value[behind]
                until_behind = end[behind] - leaving
            else:
                until_behind = start[behind] - leaving
        steps = min(until_ahead, until_behind, stop - at - 1)
        if change == 0:
            at += steps
            continue
        for _ in range(steps):
            at += 1
            if total > 0:
                if fill:
                    out_start[found], out_end[found], out_value[found] = since, at, total
                found += 1
            since = at
            total += change
    if total > 0 and stop > since:
        if fill:
            out_start[found], out_end[found], out_value[found] = since, stop, total
        found += 1
    return found
