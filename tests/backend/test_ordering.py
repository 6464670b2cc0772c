"""Rows in file order to rows sorted by (chromosome, start, end, cell)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuatac.backend import get
from gpuatac.backend.gpu.reading.ordering import Ordering as GpuOrdering
from gpuatac.backend.protocol import Segment
from gpuatac.fragments import Columns

TYPES = {"chrom": np.int16, "start": np.int32, "end": np.int32, "cell": np.int32, "count": np.int32, "strand": np.int8}


def ordered(bk, rows, *, n_chroms=4, strand=True):
    """The rows (chrom, start, end, cell, count, strand) after sorting, their pointers, and whether they came sorted."""
    columns = {
        name: bk.asarray(np.array([row[i] for row in rows], dtype)) for i, (name, dtype) in enumerate(TYPES.items())
    }
    columns["strand"] = columns["strand"] if strand else None
    ptr, *out, was_sorted = bk.ordering.sort_fragments(**columns, n_chroms=n_chroms)
    assert isinstance(ptr, np.ndarray)
    assert (out[-1] is None) == (not strand)
    out = [bk.to_host(c) for c in out if c is not None]
    assert [c.dtype for c in out] == list(TYPES.values())[1:][: len(out)]
    chrom = np.repeat(np.arange(n_chroms), np.diff(ptr)).tolist()
    return list(zip(chrom, *(c.tolist() for c in out), strict=True)), ptr.tolist(), was_sorted


def expected(rows):
    """Python's own stable sort of the rows that have a cell."""
    return sorted((row for row in rows if row[3] >= 0), key=lambda row: row[:4])


def came_sorted(rows):
    kept = [row for row in rows if row[3] >= 0]
    starts = [[row[1] for row in kept if row[0] == c] for c in {row[0] for row in kept}]
    return all(s == sorted(s) for s in starts)


BY_HAND = [
    (2, 5, 9, 0, 1, 1),
    (0, 7, 9, 1, 2, -1),
    (0, 7, 9, 0, 3, 0),
    (0, 7, 8, 3, 4, 1),
    (2, 4, 9, -1, 5, 1),  # no cell: left out
    (0, 3, 9, 2, 6, -1),
    (0, 7, 9, 0, 7, 1),  # as the third row, later
]


def test_rows_by_hand(bk):
    rows, ptr, was_sorted = ordered(bk, BY_HAND)
    assert rows == [
        (0, 3, 9, 2, 6, -1),
        (0, 7, 8, 3, 4, 1),
        (0, 7, 9, 0, 3, 0),
        (0, 7, 9, 0, 7, 1),
        (0, 7, 9, 1, 2, -1),
        (2, 5, 9, 0, 1, 1),
    ]
    assert ptr == [0, 5, 5, 6, 6]
    assert not was_sorted
    assert came_sorted(BY_HAND) is False


@pytest.mark.parametrize(
    ("rows", "was_sorted"),
    [
        ([], True),
        ([(3, 1, 2, 0, 1, 0)], True),
        ([(3, 1, 2, -1, 1, 0)], True),
        ([(1, 5, 9, 0, 1, 0), (0, 1, 2, 0, 1, 0), (1, 5, 6, 0, 1, 0)], True),  # each chromosome rises; ties may stand
        ([(1, 5, 9, 0, 1, 0), (1, 4, 9, -1, 1, 0), (1, 6, 9, 0, 1, 0)], True),  # rows left out do not count
        ([(1, 5, 9, 0, 1, 0), (1, 4, 9, 0, 1, 0)], False),
    ],
)
def test_sorted_input_is_told_by_the_starts_of_each_chromosome(bk, rows, was_sorted):
    got, _, told = ordered(bk, rows)
    assert (got, told) == (expected(rows), was_sorted)


def test_coordinates_of_the_largest_chromosome_and_of_many_cells(bk):
    top = 2**31 - 1
    rows = [(0, top - 1, top, 2**31 - 2, top, 1), (0, top - 1, top, 0, 1, 0), (0, 0, top, 5, 1, 0), (0, top - 1, top - 1, 9, 1, 0)]
    assert ordered(bk, rows)[0] == expected(rows)


@pytest.mark.parametrize("n_equal", [63, 64, 65, 66, 1000])
def test_long_runs_of_equal_starts_are_ordered_as_short_ones(bk, n_equal):
    rng = np.random.default_rng(n_equal)
    rows = [(1, 10, int(e), int(c), i + 1, i % 3 - 1) for i, (e, c) in enumerate(rng.integers(11, 15, (n_equal, 2)))]
    assert ordered(bk, rows)[0] == expected(rows)


@pytest.mark.parametrize("strand", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_random_rows_equal_pythons_stable_sort(bk, seed, strand):
    rng = np.random.default_rng(seed)
    n = 5000
    columns = [rng.integers(0, 4, n), rng.integers(0, 300, n), rng.integers(300, 304, n), rng.integers(-1, 5, n)]
    rows = [(*map(int, row), i + 1, i % 3 - 1) for i, row in enumerate(zip(*columns, strict=True))]
    got, ptr, _ = ordered(bk, rows, strand=strand)
    wanted = expected(rows)
    assert got == (wanted if strand else [row[:5] for row in wanted])
    assert ptr == [0, *np.cumsum(np.bincount([row[0] for row in wanted], minlength=4)).tolist()]


ROW = st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(7, 9), st.integers(-1, 3), st.just(1), st.just(0))


@settings(deadline=None, max_examples=150)
@given(st.lists(ROW, max_size=30), st.randoms(use_true_random=False))
def test_any_order_of_the_rows_gives_the_same_table(rows, random):
    shuffled = rows.copy()
    random.shuffle(shuffled)
    bk = get("cpu")
    assert ordered(bk, rows)[:2] == ordered(bk, shuffled)[:2]
    assert ordered(bk, rows) == (expected(rows), ordered(bk, rows)[1], came_sorted(rows))


def test_columns_given_are_not_changed(bk):
    columns = {
        name: bk.asarray(np.array([row[i] for row in BY_HAND], dtype)) for i, (name, dtype) in enumerate(TYPES.items())
    }
    before = {name: bk.to_host(column).tolist() for name, column in columns.items()}
    bk.ordering.sort_fragments(**columns, n_chroms=4)
    assert {name: bk.to_host(column).tolist() for name, column in columns.items()} == before


# ------------------------------------------------------------------------------------ segments of a chromosome


def merged(ordering, xp, segments, new_code, *, with_strand):
    """What merge_segments fills in, as rows, and what it says of the order."""
    code = xp.asarray(np.array(new_code, np.int32))
    parts = [
        Segment(
            *(xp.asarray(np.array([row[i] for row in rows], np.int32)) for i in range(4)),
            xp.asarray(np.array([row[4] for row in rows], np.int8)) if strand else None,
        )
        for rows, strand in segments
    ]
    (n,) = ordering.count_kept([[part.cell for part in parts]], code)
    out = Columns(*(xp.zeros(n, np.int32) for _ in range(4)), xp.zeros(n, np.int8) if with_strand else None)
    came_sorted = ordering.merge_segments(parts, code, out)
    assert parts == []
    columns = [np.asarray(c.get() if hasattr(c, "get") else c).tolist() for c in out if c is not None]
    return list(zip(*columns, strict=True)), bool(came_sorted)


SEGMENT_ROWS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(1, 12), st.integers(0, 5), st.integers(1, 3), st.sampled_from([-1, 0, 1])),
    max_size=12,
)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(SEGMENT_ROWS, st.booleans()), max_size=4),
    st.lists(st.integers(-1, 5), min_size=6, max_size=6),
    st.sampled_from(["cpu", "gpu code on NumPy"]),
)
def test_segments_are_merged_as_python_sorts_them(segments, new_code, which):
    ordering = get("cpu").ordering if which == "cpu" else GpuOrdering(np)
    with_strand = any(strand for _, strand in segments)
    kept = [
        (start, end, new_code[cell], count, sign if strand else 0)
        for rows, strand in segments
        for start, end, cell, count, sign in rows
        if new_code[cell] >= 0
    ]
    found, came_sorted = merged(ordering, np, segments, new_code, with_strand=with_strand)
    wanted = sorted(kept, key=lambda row: row[:3])
    assert found == (wanted if with_strand else [row[:4] for row in wanted])
    assert came_sorted == all(a[0] <= b[0] for a, b in itertools.pairwise(kept))


def test_a_long_chromosome_in_any_order_is_sorted(bk):
    rng = np.random.default_rng(5)
    rows = np.column_stack([rng.integers(0, 2**31 - 1, 5000), rng.integers(1, 9, 5000), rng.integers(0, 50, 5000)])
    rows = [(int(s), int(min(s + e, 2**31 - 1)), int(c), 1, 0) for s, e, c in rows]
    code = list(range(50))
    found, came_sorted = merged(bk.ordering, bk.xp, [(rows[:2000], False), (rows[2000:], False)], code, with_strand=False)
    assert found == sorted(row[:4] for row in rows)
    assert not came_sorted
