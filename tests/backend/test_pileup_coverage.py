"""Coverage and window sums on each backend: tiny tables by hand, then random ones against plain loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuatac.backend import get
from gpuatac.backend.gpu.tracks.pileup import Pileup as GpuPileup
from gpuatac.backend.protocol import GroupEnds, Runs
from gpuatac.core.tracks import coverage


def grouped_ends(bk, intervals, n_groups=1):
    """GroupEnds of (start, end, group) rows."""
    rows = np.array(sorted(intervals), np.int32).reshape(-1, 3)
    start, end, group = (bk.asarray(np.ascontiguousarray(rows[:, k])) for k in range(3))
    return bk.pileup.group_ends(start, end, group, n_groups=n_groups)


def rows_of(bk, runs):
    """[(start, end, value), ...] of each group."""
    columns = [bk.to_host(column).tolist() for column in (runs.start, runs.end, runs.value)]
    rows = list(zip(*columns, strict=True))
    return [rows[a:b] for a, b in itertools.pairwise(runs.ptr.tolist())]


def runs_of(values):
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return [(a, b, int(values[a])) for a, b in itertools.pairwise(edges) if b > a and values[a]]


def covered(intervals, bin_size, size):
    values = np.zeros(size + bin_size, int)
    for start, end in intervals:
        values[start // bin_size * bin_size : -(-end // bin_size) * bin_size] += 1
    return values[:size]


@pytest.mark.parametrize(
    ("intervals", "bin_size", "size", "expected"),
    [
        ([], 10, 100, []),
        ([(0, 1)], 10, 100, [(0, 10, 1)]),
        ([(9, 10), (10, 11)], 10, 100, [(0, 20, 1)]),
        ([(9, 11), (10, 12)], 10, 100, [(0, 10, 1), (10, 20, 2)]),
        ([(5, 25), (30, 40)], 10, 100, [(0, 40, 1)]),
        ([(5, 25), (40, 50)], 10, 100, [(0, 30, 1), (40, 50, 1)]),
        ([(95, 103)], 10, 103, [(90, 103, 1)]),
        ([(95, 103), (101, 102)], 10, 103, [(90, 100, 1), (100, 103, 2)]),
        ([(0, 3)], 1000, 3, [(0, 3, 1)]),
        ([(4, 5)] * 3, 1, 9, [(4, 5, 3)]),
    ],
)
def test_interval_counts_once_in_each_bin_it_touches(bk, intervals, bin_size, size, expected):
    ends = grouped_ends(bk, [(*i, 0) for i in intervals])
    runs = bk.pileup.coverage(ends, bin_size=bin_size, size=size)
    assert rows_of(bk, runs) == [expected]
    assert [str(bk.to_host(column).dtype) for column in runs[1:]] == ["int32"] * 3


@settings(max_examples=150, deadline=None)
@given(
    size=st.integers(1, 300),
    bin_size=st.sampled_from([1, 2, 3, 7, 10, 64, 500]),
    spans=st.lists(st.tuples(st.integers(0, 299), st.integers(1, 80), st.integers(-1, 2)), max_size=60),
)
def test_coverage_of_random_intervals(size, bin_size, spans):
    bk = get("cpu")
    intervals = [(s, min(s + n, size), g) for s, n, g in spans if s < size]
    runs = bk.pileup.coverage(grouped_ends(bk, intervals, 3), bin_size=bin_size, size=size)
    expected = [runs_of(covered([i[:2] for i in intervals if i[2] == g], bin_size, size)) for g in range(3)]
    assert rows_of(bk, runs) == expected


@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(st.sampled_from([0, 0, 1, 1, 1, 2, 5]), min_size=1, max_size=120),
    left=st.integers(0, 40),
    more=st.integers(0, 1),
    begin=st.integers(0, 119),
    length=st.integers(1, 200),
    bases=st.sampled_from([1, 7, 64, 1000]),
)
def test_window_sums_of_random_runs(values, left, more, begin, length, bases):
    bk = get("cpu")
    right, stop = left + more, min(begin + length, len(values) + 50)
    rows = runs_of(np.array(values))
    columns = [np.array([row[k] for row in rows], np.int32) for k in range(3)]
    runs = Runs(np.array([0, 0, len(rows)]), *columns)
    sums = np.array([sum(values[max(i - right, 0) : i + left + 1]) for i in range(begin, stop)], int)
    expected = [[], [(a + begin, b + begin, v) for a, b, v in runs_of(sums)] if sums.size else []]
    for pileup in (bk.pileup, GpuPileup(np, None, bases=bases)):  # the GPU's, so many bases at once
        found = pileup.window_sums(runs, left=left, right=right, begin=begin, stop=max(stop, begin))
        assert rows_of(bk, found) == expected


def test_window_sums_by_hand(bk):
    runs = Runs(np.array([0, 2]), *(bk.asarray(np.array(column, np.int32)) for column in ([2, 6], [4, 7], [1, 3])))
    found = bk.pileup.window_sums(runs, left=1, right=1, begin=0, stop=10)
    assert rows_of(bk, found) == [[(1, 2, 1), (2, 4, 2), (4, 5, 1), (5, 8, 3)]]
    assert str(bk.to_host(found.value).dtype) == "int64"


def test_window_sums_beyond_two_to_the_31(bk):
    runs = Runs(np.array([0, 1]), *(bk.asarray(np.array([v], np.int32)) for v in (0, 100_000, 1_000_000)))
    found = bk.pileup.window_sums(runs, left=99_999, right=0, begin=0, stop=1)
    assert rows_of(bk, found) == [[(0, 1, 100_000 * 1_000_000)]]


@pytest.mark.parametrize("at_once", [1, 7, 64, 1000])
def test_smoothed_track_has_no_seam_between_its_parts(bk, at_once):
    rng = np.random.default_rng(0)
    start = rng.integers(0, 880, 60)
    ends = grouped_ends(bk, [(s, s + n, 0) for s, n in zip(start, rng.integers(1, 120, 60), strict=True)])
    options = {"bin_size": 5, "size": 997, "divisor": 2.0, "window": 30}
    (whole,) = coverage.track(bk, ends, **options, at_once=997)
    parts = [
        np.concatenate(column) for column in zip(*coverage.track(bk, ends, **options, at_once=at_once), strict=True)
    ]
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)


def test_group_alone_is_a_view_of_its_ends():
    ends = GroupEnds(np.array([0, 2, 2, 3]), np.array([1, 5, 9], np.int32), np.array([3, 8, 10], np.int32))
    alone = [coverage.ends_of_group(ends, g) for g in range(3)]
    assert [(e.left.tolist(), e.right.tolist(), e.ptr.tolist()) for e in alone] == [
        ([1, 5], [3, 8], [0, 2]), ([], [], [0, 0]), ([9], [10], [0, 1]),
    ]  # fmt: skip
