"""Fragments by group to the coverage of each. Conventions as in ``protocol``; everything is exact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np


class GroupEnds(NamedTuple):
    """Both ends of the fragments of one chromosome, by group: those of group g are ``ptr[g]:ptr[g + 1]``.

    ``left`` and ``right`` are sorted within each group independently of each other; so entry i of both need not be one
    fragment. They bound the same intervals all the same: what is open at a position depends on the sorted ends alone.
    """

    ptr: np.ndarray  # host int64 (n_groups + 1,)
    left: Any  # int32 (n,): starts
    right: Any  # int32 (n,): ends, half-open
    left_weight: Any | None = None  # int32 (n,): copies of the fragment that starts there; None: 1 each
    right_weight: Any | None = None

    @property
    def n_groups(self) -> int:
        """Groups, with those that have no fragment."""
        return self.ptr.size - 1


class Runs(NamedTuple):
    """Disjoint intervals with a value, by group and position: those of group g are ``ptr[g]:ptr[g + 1]``."""

    ptr: np.ndarray  # host int64 (n_groups + 1,)
    start: Any  # int32 (n,)
    end: Any  # int32 (n,)
    value: Any  # int32 (n,) counts, or float64 (n,) where a caller scaled or smoothed them


class Pileup(Protocol):
    """Fragments of one chromosome to the coverage of each group."""

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
        """The sorted ends of each group's fragments. ``group`` int32 (n,), -1 leaves a fragment out; ``start`` ascends.

        ``insertions``: two intervals of 1 bp for each fragment, [start, start + 1) and [end - 1, end).
        """
        ...

    def coverage(self, ends: GroupEnds, *, bin_size: int, size: int) -> Runs:
        """How many intervals touch each bin, each interval snapped outward to whole bins; weights are left out of it.

        Neighbouring bins of one value are one run, zeros are no run, and the last run ends at ``size`` at the latest.
        """
        ...

    def window_sums(self, runs: Runs, *, left: int, right: int, begin: int, stop: int) -> Runs:
        """Sums of integer ``runs`` over the bases [i - right, i + left], for each base i in [begin, stop): int64, exact.

        Outside the runs the value is 0. Neighbouring bases of one sum are one run, zeros are no run.
        """
        ...
