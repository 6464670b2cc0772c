"""Sorted ends of intervals, by group, to the segments on which their depth is constant: what pileups and peaks share.

A chromosome's groups are handled together, as many as ``budget`` intervals allow. No event is stored: every thread walks
through a short slice of the four sorted streams (kernels/segments.cu).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpuatac.backend.protocol import GroupEnds, Segments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuatac.backend.gpu.launch import Launcher
    from gpuatac.backend.protocol import Geometry

WIDTH = 16  # openings of intervals that one thread walks through: 64 bytes of each stream
BUDGET = 1 << 27  # intervals handled at once: merged ends 8 B each (24 B with weights)


def to_host(array: Any) -> np.ndarray:
    """The array as NumPy."""
    return np.asarray(array.get() if hasattr(array, "get") else array)


def batches(ends: GroupEnds, budget: int, wanted: np.ndarray | None = None) -> Iterator[tuple[int, GroupEnds]]:
    """Runs of wanted groups with at most ``budget`` intervals, or of one group: the number of the first, the ends of all."""
    wanted = np.diff(ends.ptr) > 0 if wanted is None else wanted & (np.diff(ends.ptr) > 0)
    edges = np.flatnonzero(np.diff(wanted.astype(np.int8), prepend=0, append=0))
    for first, stop in edges.reshape(-1, 2).tolist():
        at = first
        while at < stop:
            low = int(ends.ptr[at])
            after = int(np.searchsorted(ends.ptr, low + budget, side="right")) - 1
            after = min(max(after, at + 1), stop)
            rows = slice(low, int(ends.ptr[after]))
            ptr = ends.ptr[at : after + 1] - low
            yield at, GroupEnds(ptr, *(None if column is None else column[rows] for column in ends[1:]))
            at = after


class Stream(NamedTuple):
    """Sorted positions by group, and the running sum of their weights (one longer than they; None: weight 1)."""

    at: Any
    total: Any | None


class Streams:
    """Where intervals open and close and where windows of the background do, as the kernels of segments.cu take them."""

    def __init__(
        self,
        xp: Any,
        *,
        opens: tuple[Stream, int],
        closes: tuple[Stream, int],
        ptr: np.ndarray,
        background: tuple[Stream, int, int, np.ndarray] | None = None,
        clip: bool = True,
        width: int = WIDTH,
    ) -> None:
        nothing = (Stream(xp.empty(0, np.int32), None), 0, 0, np.zeros(1, np.int64))
        around, low, high, around_ptr = nothing if background is None else background
        slices = -(-np.diff(ptr) // width)
        self.n_groups = ptr.size - 1
        self.n_slices = int(slices.sum())
        self.most_segments = 2 * np.diff(ptr) + 1  # int64 (n_groups,), with the background's
        if background is not None:
            self.most_segments += 2 * np.diff(around_ptr)
        self.arguments = (
            *opens[0], opens[1], *closes[0], closes[1], xp.asarray(ptr),
            *around, low, high, xp.asarray(around_ptr), int(around.at.size),
            xp.asarray(np.cumsum([0, *slices], dtype=np.int64)), self.n_groups, self.n_slices, width, int(clip),
        )  # fmt: skip

    def above(self, xp: Any, launch: Launcher, least_ptr: np.ndarray, least: np.ndarray) -> Segments:
        """The segments with t >= least[least_ptr[group] + n], by group and position."""
        table = (xp.asarray(least_ptr.astype(np.int64)), xp.asarray(least.astype(np.int32)))
        size = xp.empty(self.n_slices, np.int32)
        launch("count_segments_above", self.n_slices, *self.arguments, *table, size)
        stop = xp.cumsum(size, dtype=np.int64)
        found = int(stop[-1]) if self.n_slices else 0
        out = Segments(*(xp.empty(found, np.int32) for _ in Segments._fields))
        if found:
            launch("write_segments_above", self.n_slices, *self.arguments, *table, size, stop - size, *out)
        return out


def merged(xp: Any, launch: Launcher, ends: GroupEnds, add_left: int, add_right: int) -> Stream:
    """``left + add_left`` and ``right + add_right`` of each group as one sorted stream."""
    n = int(ends.left.size)
    out = xp.empty(2 * n, np.int32)
    weight = None if ends.left_weight is None else xp.empty(2 * n, np.int32)
    ptr = xp.asarray(ends.ptr)
    launch(
        "merge_ends", 2 * n, ends.left, add_left, ends.left_weight, ends.right, add_right, ends.right_weight, ptr,
        ends.n_groups, n, out, weight,
    )  # fmt: skip
    return Stream(out, running_sum(xp, weight))


def running_sum(xp: Any, weight: Any | None) -> Any | None:
    """int64 (n + 1,): the sum of the weights before each entry."""
    if weight is None:
        return None
    out = xp.zeros(int(weight.size) + 1, np.int64)
    out[1:] = xp.cumsum(weight, dtype=np.int64)
    return out


def streams_of(xp: Any, launch: Launcher, ends: GroupEnds, geometry: Geometry, *, width: int = WIDTH) -> Streams:
    """The streams of MACS's pileup and background, see ``protocol.Geometry``."""
    shift, until, reach = geometry.shift, geometry.shift + geometry.extsize, geometry.wide // 2
    both = np.asarray(2 * ends.ptr, np.int64)
    symmetric = not geometry.whole and 2 * shift == -geometry.extsize
    around = None
    if geometry.wide or symmetric:
        around = merged(xp, launch, ends, 0, 0 if geometry.whole else -1)
    if geometry.whole:
        opens = (Stream(ends.left, running_sum(xp, ends.left_weight)), 0)
        closes = (Stream(ends.right, running_sum(xp, ends.right_weight)), 0)
    elif symmetric:
        assert around is not None
        opens, closes = (around, shift), (around, until)
    else:
        moved = merged(xp, launch, ends, shift, -1 - until)
        opens, closes = (moved, 0), (moved, geometry.extsize)
    background = None
    if geometry.wide:
        assert around is not None
        background = (around, -reach, geometry.wide - reach, both)
    return Streams(
        xp, opens=opens, closes=closes, ptr=ends.ptr if geometry.whole else both, background=background,
        clip=geometry.clip, width=width,
    )  # fmt: skip
