"""Fragments of groups of cells, chromosome by chromosome: what coverage and peaks start from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuatac.backend.protocol import Backend, GroupEnds
    from gpuatac.core.counting.counts import Table


FEW_GROUPS = 64  # are summed one by one


@dataclass(frozen=True)
class FragmentFilter:
    """Which fragments count: lengths in bp, both bounds inclusive; none that overlaps the blacklist. And how often, at most,
    where copies count.

    ``blacklist`` is (chromosome code, start, end), int32 host arrays of sorted disjoint intervals (``counts.merge_intervals``).
    """

    min_length: int | None = None
    max_length: int | None = None
    blacklist: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    max_copies: int | None = None

    def copies_of(self, bk: Backend, count: Any) -> Any:
        """``count`` cut at ``max_copies``."""
        return count if self.max_copies is None else bk.xp.minimum(count, bk.xp.int32(self.max_copies))

    def group_of(self, bk: Backend, code: int, start: Any, end: Any, group: Any) -> Any:
        """``group`` with -1 for the fragments left out."""
        xp = bk.xp
        length = end - start
        if self.min_length is not None:
            group = xp.where(length >= self.min_length, group, xp.int32(-1))
        if self.max_length is not None:
            group = xp.where(length <= self.max_length, group, xp.int32(-1))
        if self.blacklist is not None:
            group = xp.where(overlaps(bk, code, start, end, self.blacklist), xp.int32(-1), group)
        return group


class GroupedSample(NamedTuple):
    """Fragments and, for each of their barcodes, the group of that cell (int32 on the backend, -1: in none)."""

    fragments: Table
    group_of_cell: Any


def overlaps(bk: Backend, code: int, start: Any, end: Any, regions: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Any:
    """bool (n,): fragments of chromosome ``code`` that share a base with one of the sorted disjoint ``regions``."""
    lo, hi = np.searchsorted(regions[0], [code, code + 1])
    if lo == hi:
        return bk.xp.zeros(start.size, bool)
    last = np.int32(np.iinfo(np.int32).max)
    region_start = bk.asarray(np.append(regions[1][lo:hi], last))
    region_end = bk.asarray(regions[2][lo:hi])
    return region_start[bk.xp.searchsorted(region_end, start, side="right")] < end


def fragments_of(
    bk: Backend, samples: Sequence[GroupedSample], code: int, keep: FragmentFilter, *, weighted: bool = False
) -> tuple[Any, Any, Any, Any | None]:
    """(start, end, group, count or None) of one chromosome over all samples, sorted by start."""
    parts = []
    for sample in samples:
        columns = sample.fragments.columns(code)
        group = keep.group_of(bk, code, columns.start, columns.end, sample.group_of_cell[columns.cell])
        count = keep.copies_of(bk, columns.count) if weighted else None
        parts.append((columns.start, columns.end, group, count))
    if len(parts) == 1:
        return parts[0]
    start, end, group = (bk.xp.concatenate([part[k] for part in parts]) for k in range(3))
    order = bk.xp.argsort(start, kind="stable")
    count = bk.xp.concatenate([part[3] for part in parts])[order] if weighted else None
    return start[order], end[order], group[order], count


def ends_of(
    bk: Backend,
    samples: Sequence[GroupedSample],
    code: int,
    keep: FragmentFilter,
    *,
    n_groups: int,
    weighted: bool = False,
    insertions: bool = False,
) -> GroupEnds:
    """The sorted ends of each group's fragments on one chromosome."""
    start, end, group, weight = fragments_of(bk, samples, code, keep, weighted=weighted)
    return bk.pileup.group_ends(start, end, group, n_groups=n_groups, weight=weight, insertions=insertions)


class Totals(NamedTuple):
    """Of each group, int64 (n_groups,): intervals, their bases, and both with every copy counted."""

    rows: np.ndarray
    bases: np.ndarray
    copies: np.ndarray
    copied_bases: np.ndarray

    def __add__(self, other: Totals) -> Totals:  # type: ignore[override]
        return Totals(*(a + b for a, b in zip(self, other, strict=True)))


def totals_of(bk: Backend, ends: GroupEnds) -> Totals:
    """Totals of one chromosome."""
    rows = np.diff(ends.ptr)
    bases = _sums(bk, ends.right, ends.ptr) - _sums(bk, ends.left, ends.ptr)
    if ends.left_weight is None or ends.right_weight is None:
        return Totals(rows, bases, rows, bases)
    as_int64 = bk.xp.int64
    copied = _sums(bk, ends.right * ends.right_weight.astype(as_int64), ends.ptr)
    copied = copied - _sums(bk, ends.left * ends.left_weight.astype(as_int64), ends.ptr)
    return Totals(rows, bases, _sums(bk, ends.left_weight, ends.ptr), copied)


def _sums(bk: Backend, values: Any, ptr: np.ndarray) -> np.ndarray:
    """int64 (n_groups,): the sum over each group's entries."""
    if ptr.size > FEW_GROUPS:
        running = bk.xp.concatenate([bk.xp.zeros(1, np.int64), bk.xp.cumsum(values, dtype=np.int64)])
        return np.diff(bk.to_host(running[bk.asarray(ptr)]))
    sums = [values[a:b].sum(dtype=np.int64) for a, b in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True)]
    return np.array([int(s) for s in sums], np.int64)
