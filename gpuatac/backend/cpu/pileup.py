"""Fragments by group: the sorted ends of each, and their coverage."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from gpuatac.backend.pileup_protocol import GroupEnds


class Pileup:
    """See ``pileup_protocol.Pileup``."""

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
        """See ``pileup_protocol.Pileup.group_ends``."""
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


def _sort_each(values: np.ndarray, weight: np.ndarray, ptr: np.ndarray, *, weighted: bool) -> None:
    """Sort the values of each group in place, weights with them."""
    for a, b in zip(ptr[:-1], ptr[1:], strict=True):
        if weighted:
            order = np.argsort(values[a:b], kind="stable")
            values[a:b], weight[a:b] = values[a:b][order], weight[a:b][order]
        else:
            values[a:b].sort()


@njit(cache=True, nogil=True)
def _group_sizes(group, n_groups):
    sizes = np.zeros(n_groups, np.int64)
    for g in group:
        if g >= 0:
            sizes[g] += 1
    return sizes


@njit(cache=True, nogil=True)
def _by_group(start, end, group, weight, ptr):
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
def _joined(left, right, weight, ptr):
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
