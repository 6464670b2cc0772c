"""The counting primitives of each backend: by hand, against the definitions, by invariants, at edges."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels.cases import CASES, run

from gpuatac.backend import get
from gpuatac.backend.cpu.counting import counts as cpu_counting
from gpuatac.backend.cpu.counting import kernels
from gpuatac.backend.cpu.counting import quality as cpu_quality
from gpuatac.backend.protocol import STRATEGIES, Csr

SIZE = 10_000
COUNTING_VERBS = sorted({c.verb for c in CASES if c.verb not in ("parse_block", "sort_fragments")})


def columns(bk, rows):
    """(start, end, row) in the backend's memory, sorted by start, from tuples."""
    rows = sorted(rows)
    table = np.array(rows, np.int64).reshape(-1, 3).astype(np.int32)
    return tuple(bk.asarray(np.ascontiguousarray(table[:, i])) for i in range(3))


def int32(bk, values):
    return bk.asarray(np.array(values, np.int32))


def dense(bk, counts, n_columns):
    """Dense int64, with the form that the protocol promises checked on the way."""
    indptr, indices, data = (bk.to_host(part) for part in counts)
    assert (indptr.dtype, indices.dtype, data.dtype) == (np.int64, np.int32, np.dtype(bk.count_dtype))
    assert indptr[0] == 0
    assert indptr[-1] == indices.size == data.size
    out = np.zeros((indptr.size - 1, n_columns), np.int64)
    for r in range(indptr.size - 1):
        here = indices[indptr[r] : indptr[r + 1]]
        assert (np.diff(here) > 0).all()
        out[r, here] = data[indptr[r] : indptr[r + 1]]
    assert (data > 0).all()
    return out


def tiles(bk, rows, *, n_rows, bin_size, size=SIZE, strategy="insertion"):
    n_bins = -(-size // bin_size)
    found = bk.counting.tile_counts(
        *columns(bk, rows), n_rows=n_rows, bin_size=bin_size, n_bins=n_bins, strategy=strategy
    )
    return dense(bk, found, n_bins)


def regions(bk, rows, spans, *, n_rows, strategy):
    spans = sorted(spans)
    found = bk.counting.region_counts(
        *columns(bk, rows),
        n_rows=n_rows,
        region_start=int32(bk, [s for s, _ in spans]),
        region_end=int32(bk, [e for _, e in spans]),
        strategy=strategy,
    )
    return dense(bk, found, len(spans))


def as_fragments(rows):
    """Rows with a cell as the oracles take them; barcode = row number."""
    return [oracles.Fragment("chr1", s, e, str(r)) for s, e, r in rows if r >= 0]


def names(n_rows):
    return [str(r) for r in range(n_rows)]


def random_rows(seed, n, *, n_rows=5, size=SIZE, longest=1200, lowest_row=-1):
    rng = np.random.default_rng(seed)
    start = rng.integers(0, size - 1, n)
    end = np.minimum(start + rng.integers(1, longest, n), size)
    return list(
        zip(start.tolist(), end.tolist(), rng.integers(lowest_row, n_rows, n).tolist(), strict=True)
    )


fragment_rows = st.lists(
    st.tuples(st.integers(0, 999), st.integers(1, 600), st.integers(-1, 3)).map(
        lambda t: (t[0], min(t[0] + t[1], 1000), t[2])
    ),
    max_size=40,
)
spans_within = st.lists(
    st.tuples(st.integers(0, 999), st.integers(1, 400)).map(lambda t: (t[0], min(t[0] + t[1], 1000))),
    min_size=1,
    max_size=12,
)


# ------------------------------------------------------------------------------------------- tiles, by hand


def test_fragment_spanning_two_tiles_counts_once_per_insertion(bk):
    # cuts at 450 and 549; tiles of 500 bp
    assert tiles(bk, [(450, 550, 0)], n_rows=1, bin_size=500)[0, :3].tolist() == [1, 1, 0]


def test_both_cuts_in_one_tile_count_twice_as_insertions_and_once_as_a_pair(bk):
    for strategy, expected in (("insertion", 2), ("paired-insertion", 1), ("fragment", 1)):
        found = tiles(bk, [(10, 60, 0)], n_rows=1, bin_size=500, strategy=strategy)
        assert found[0, 0] == found.sum() == expected


def test_fragment_strategy_counts_the_tiles_between_the_cuts(bk):
    found = tiles(bk, [(450, 1550, 0)], n_rows=1, bin_size=500, strategy="fragment")
    assert found[0, :5].tolist() == [1, 1, 1, 1, 0]
    found = tiles(bk, [(450, 1550, 0)], n_rows=1, bin_size=500, strategy="insertion")
    assert found[0, :5].tolist() == [1, 0, 0, 1, 0]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_fragment_that_ends_at_a_tile_border_does_not_touch_the_next_tile(bk, strategy):
    found = tiles(bk, [(400, 500, 0)], n_rows=1, bin_size=500, strategy=strategy)
    assert found[0, 1] == 0
    assert found[0, 0] == (2 if strategy == "insertion" else 1)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_last_base_of_the_chromosome_lies_in_the_last_shorter_tile(bk, strategy):
    found = tiles(bk, [(1190, 1201, 0)], n_rows=1, bin_size=500, size=1201, strategy=strategy)
    assert found.shape == (1, 3)
    assert found.tolist() == [[0, 0, 2 if strategy == "insertion" else 1]]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_base_fragment_has_both_cuts_at_one_place(bk, strategy):
    found = tiles(bk, [(7, 8, 0)], n_rows=1, bin_size=1, size=20, strategy=strategy)
    assert found.sum() == found[0, 7] == (2 if strategy == "insertion" else 1)


def test_duplicate_fragments_count_each(bk):
    assert tiles(bk, [(5, 9, 0)] * 3, n_rows=1, bin_size=500)[0, 0] == 6


def test_row_minus_one_leaves_a_fragment_out(bk):
    found = tiles(bk, [(5, 9, -1), (600, 650, 1)], n_rows=2, bin_size=500)
    assert found.sum() == 2
    assert found[1, 1] == 2


# --------------------------------------------------------------------------------------- tiles, the oracle


@pytest.mark.parametrize("verb", COUNTING_VERBS)
def test_shared_cases_agree_with_the_kernel_oracle_on_the_cpu(verb):
    cases = [c for c in CASES if c.verb == verb]
    assert cases
    for case in cases:
        try:
            run(get("cpu"), case)
        except Exception as error:
            error.add_note(f"case: {case}")
            raise


@pytest.mark.parametrize(
    ("strategy", "bin_size"), list(itertools.product(STRATEGIES, [1, 7, 500, SIZE, 5 * SIZE]))
)
def test_tile_counts_of_random_fragments_follow_the_definition(bk, strategy, bin_size):
    rows = random_rows(bin_size, 60 if bin_size == 1 else 300)
    expected = oracles.tile_counts(
        as_fragments(rows), names(5), {"chr1": SIZE}, bin_size=bin_size, strategy=strategy
    )
    np.testing.assert_array_equal(
        tiles(bk, rows, n_rows=5, bin_size=bin_size, strategy=strategy), expected
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_tile_wider_than_the_chromosome_holds_everything(bk, strategy):
    rows = random_rows(3, 50, lowest_row=0)
    found = tiles(bk, rows, n_rows=5, bin_size=2**31 - 1, strategy=strategy)
    assert found.shape == (5, 1)
    assert found.sum() == len(rows) * (2 if strategy == "insertion" else 1)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_fragments_give_an_empty_matrix_of_full_shape(bk, strategy):
    assert tiles(bk, [], n_rows=3, bin_size=500, strategy=strategy).shape == (3, 20)
    assert tiles(bk, [(5, 9, -1)], n_rows=3, bin_size=500, strategy=strategy).sum() == 0


def test_positions_next_to_the_largest_int32_do_not_overflow(bk):
    top = 2**31 - 1
    start, end, row = columns(bk, [(top - 100, top, 0), (top - 1, top, 0)])
    n_bins = -(-top // 500)
    found = bk.counting.tile_counts(
        start, end, row, n_rows=1, bin_size=500, n_bins=n_bins, strategy="fragment"
    )
    assert bk.to_host(found.indices).tolist() == [n_bins - 1]
    assert bk.to_host(found.data).tolist() == [2]
    spans = {"region_start": int32(bk, [top - 10]), "region_end": int32(bk, [top])}
    found = bk.counting.region_counts(start, end, row, n_rows=1, strategy="insertion", **spans)
    assert bk.to_host(found.data).tolist() == [3]
    found = bk.counting.tss_counts(
        start, end, row, n_rows=1, tss=int32(bk, [top - 1]), reverse=bk.asarray(np.array([False])),
        window=2000, half_center=5, edge=100,
    )  # fmt: skip
    assert bk.to_host(found.profile)[2000] == 3
    assert bk.to_host(found.profile)[2000 - 99] == 1
    assert found.n_inside == found.n_insertions == 4


def test_a_row_may_hold_more_entries_than_its_insertion_sort_budget(bk):
    # long overlapping fragments emit tiles out of order: the row must come sorted and merged all the same
    rows = [(i, i + 5000, 0) for i in range(0, 5000, 50)]
    expected = oracles.tile_counts(
        as_fragments(rows), ["0"], {"chr1": SIZE}, bin_size=100, strategy="fragment"
    )
    np.testing.assert_array_equal(
        tiles(bk, rows, n_rows=1, bin_size=100, strategy="fragment"), expected
    )


# ----------------------------------------------------------------------------------- tiles, what always holds

_CPU = get("cpu")


@settings(max_examples=60, deadline=None)
@given(rows=fragment_rows, bin_size=st.sampled_from([1, 3, 50, 999, 1000, 4000]))
def test_insertions_in_tiles_sum_to_twice_the_fragments(rows, bin_size):
    found = tiles(_CPU, rows, n_rows=4, bin_size=bin_size, size=1000)
    per_row = [2 * sum(r == k for *_, r in rows) for k in range(4)]
    assert found.sum(axis=1).tolist() == per_row


@settings(max_examples=40, deadline=None)
@given(rows=fragment_rows, strategy=st.sampled_from(STRATEGIES), data=st.data())
def test_order_of_ties_and_numbering_of_cells_do_not_matter(rows, strategy, data):
    found = tiles(_CPU, rows, n_rows=4, bin_size=50, size=1000, strategy=strategy)
    mapping = data.draw(st.permutations(range(4)))
    relabelled = [(s, e, mapping[r] if r >= 0 else -1) for s, e, r in rows]
    shuffled = data.draw(st.permutations(relabelled))
    again = tiles(_CPU, shuffled, n_rows=4, bin_size=50, size=1000, strategy=strategy)
    np.testing.assert_array_equal(again[list(mapping)], found)


@settings(max_examples=40, deadline=None)
@given(rows=fragment_rows, strategy=st.sampled_from(STRATEGIES), cut=st.integers(0, 40))
def test_counts_of_parts_add_up(rows, strategy, cut):
    rows = sorted(rows)
    whole = tiles(_CPU, rows, n_rows=4, bin_size=30, size=1000, strategy=strategy)
    parts = [
        tiles(_CPU, part, n_rows=4, bin_size=30, size=1000, strategy=strategy)
        for part in (rows[:cut], rows[cut:])
    ]
    np.testing.assert_array_equal(parts[0] + parts[1], whole)


@settings(max_examples=40, deadline=None)
@given(rows=fragment_rows, strategy=st.sampled_from(STRATEGIES), spans=spans_within)
def test_regions_agree_with_the_definition_whatever_they_overlap(rows, strategy, spans):
    spans = sorted(spans)
    found = regions(_CPU, rows, spans, n_rows=4, strategy=strategy)
    expected = oracles.region_counts(
        as_fragments(rows), names(4), [("chr1", s, e) for s, e in spans], strategy=strategy
    )
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=30, deadline=None)
@given(rows=fragment_rows, strategy=st.sampled_from(STRATEGIES), bin_size=st.sampled_from([10, 77, 1000]))
def test_regions_that_tile_the_chromosome_give_the_tile_matrix(rows, strategy, bin_size):
    spans = [(s, min(s + bin_size, 1000)) for s in range(0, 1000, bin_size)]
    np.testing.assert_array_equal(
        regions(_CPU, rows, spans, n_rows=4, strategy=strategy),
        tiles(_CPU, rows, n_rows=4, bin_size=bin_size, size=1000, strategy=strategy),
    )


# ------------------------------------------------------------------------------------------------- regions


def test_region_borders_are_half_open(bk):
    rows = [(100, 200, 0)]  # cuts at 100 and 199
    spans = [(0, 100), (100, 101), (150, 160), (199, 200), (200, 300)]
    assert regions(bk, rows, spans, n_rows=1, strategy="insertion").tolist() == [[0, 1, 0, 1, 0]]
    assert regions(bk, rows, spans, n_rows=1, strategy="paired-insertion").tolist() == [[0, 1, 0, 1, 0]]
    assert regions(bk, rows, spans, n_rows=1, strategy="fragment").tolist() == [[0, 1, 1, 1, 0]]


def test_both_cuts_in_a_region_count_twice_only_as_insertions(bk):
    for strategy, expected in (("insertion", 2), ("paired-insertion", 1), ("fragment", 1)):
        assert regions(bk, [(100, 200, 0)], [(50, 250)], n_rows=1, strategy=strategy)[0, 0] == expected


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    "spans",
    [
        [(100, 900), (100, 900), (100, 900)],
        [(0, SIZE), (10, 5000), (20, 30), (4000, 4500), (9999, SIZE)],
        [(0, 600), (300, 900), (600, 1200), (899, 901)],
        [(0, 1)],
    ],
    ids=["duplicate", "nested", "overlapping", "first base"],
)
def test_overlapping_nested_and_duplicate_regions_each_get_their_counts(bk, strategy, spans):
    rows = random_rows(len(spans), 250)
    expected = oracles.region_counts(
        as_fragments(rows), names(5), [("chr1", s, e) for s, e in sorted(spans)], strategy=strategy
    )
    np.testing.assert_array_equal(regions(bk, rows, spans, n_rows=5, strategy=strategy), expected)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_regions_give_a_matrix_without_columns(bk, strategy):
    assert regions(bk, [(1, 5, 0)], [], n_rows=2, strategy=strategy).shape == (2, 0)


@pytest.mark.parametrize("as_insertion", [False, True])
def test_overlap_with_any_region_counts_a_fragment_once(bk, as_insertion):
    rows = [(100, 400, 0), (100, 110, 1), (199, 201, 1), (390, 400, -1)]
    spans = [(150, 200), (250, 300), (399, 500)]
    found = bk.counting.overlap_any(
        *columns(bk, rows), n_rows=2, as_insertion=as_insertion,
        region_start=int32(bk, [s for s, _ in spans]), region_end=int32(bk, [e for _, e in spans]),
    )  # fmt: skip
    # cell 0: cuts 100 (out), 399 (in); cell 1: cuts 100, 109 (out), 199 (in), 200 (out)
    assert bk.to_host(found).tolist() == [1, 1]
    assert bk.to_host(found).dtype == np.int64


@pytest.mark.parametrize("as_insertion", [False, True])
def test_overlap_with_any_region_follows_the_definition(bk, as_insertion):
    rows = random_rows(11, 300)
    edges = np.sort(np.random.default_rng(4).choice(SIZE, 40, replace=False)).astype(np.int32)
    spans = list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
    found = bk.counting.overlap_any(
        *columns(bk, rows), n_rows=5, as_insertion=as_insertion,
        region_start=bk.asarray(edges[::2].copy()), region_end=bk.asarray(edges[1::2].copy()),
    )  # fmt: skip
    fragments = as_fragments(rows)
    total = np.array([sum(f.barcode == b for f in fragments) for b in names(5)])
    share = oracles.frip(
        fragments, names(5), [("chr1", s, e) for s, e in spans], count_as_insertion=as_insertion
    )
    expected = np.rint(share * total * (2 if as_insertion else 1))
    np.testing.assert_array_equal(bk.to_host(found), expected)


# ---------------------------------------------------------------------------------------------------- TSSs


def tss(bk, rows, sites, *, n_rows, window=2000, half_center=5, edge=100):
    sites = sorted(sites)
    return bk.counting.tss_counts(
        *columns(bk, rows),
        n_rows=n_rows,
        tss=int32(bk, [p for p, _ in sites]),
        reverse=bk.asarray(np.array([strand == "-" for _, strand in sites], bool)),
        window=window,
        half_center=half_center,
        edge=edge,
    )


def test_cut_downstream_of_a_reverse_tss_is_mirrored(bk):
    forward = tss(bk, [(3000, 3011, 0)], [(3000, "+")], n_rows=1)
    reverse = tss(bk, [(3000, 3011, 0)], [(3000, "-")], n_rows=1)
    assert np.flatnonzero(bk.to_host(forward.profile)).tolist() == [2000, 2010]
    assert np.flatnonzero(bk.to_host(reverse.profile)).tolist() == [1990, 2000]
    assert bk.to_host(forward.center).tolist() == [1]  # +10 is outside the centre of 11 positions


def test_cut_near_two_tss_counts_at_each_but_is_inside_once(bk):
    found = tss(bk, [(3000, 3001, 0)], [(2990, "+"), (3005, "+"), (3005, "-")], n_rows=1)
    assert bk.to_host(found.profile).sum() == 6  # two cuts at one place, three TSSs
    assert found.n_inside == 2
    assert found.n_insertions == 2


def test_tss_near_the_chromosome_start_keeps_positions_in_their_place(bk):
    found = tss(bk, [(0, 1500, 0)], [(50, "+")], n_rows=1)
    assert np.flatnonzero(bk.to_host(found.profile)).tolist() == [1950, 2000 + 1499 - 50]


def test_window_is_inclusive_at_both_ends(bk):
    at = 5000
    rows = [(at - 2000, at + 2001, 0), (at - 2001, at + 2002, 1)]
    found = tss(bk, rows, [(at, "+")], n_rows=2)
    assert bk.to_host(found.profile)[[0, 4000]].tolist() == [1, 1]
    assert bk.to_host(found.flank).tolist() == [2, 0]
    assert (found.n_inside, found.n_insertions) == (2, 4)


def test_fragment_across_a_tss_with_both_cuts_outside_is_not_inside(bk):
    found = tss(bk, [(100, 9900, 0)], [(5000, "+")], n_rows=1)
    assert found.n_inside == 0
    assert bk.to_host(found.profile).sum() == 0


@pytest.mark.parametrize("seed", range(3))
def test_tss_counts_of_random_sites_follow_the_definition(bk, seed):
    rng = np.random.default_rng(seed)
    rows = random_rows(seed, 200, size=8000, longest=5000 if seed == 2 else 600)
    sites = [(int(rng.integers(0, 8000)), "+-"[int(rng.integers(0, 2))]) for _ in range(12)]
    sites.append(sites[0])  # the same TSS twice
    found = tss(bk, rows, sites, n_rows=5)
    profiles = np.zeros((5, 4001), int)
    inside = 0
    for f in as_fragments(rows):
        for cut in (f.start, f.end - 1):
            near = [cut - p if s == "+" else p - cut for p, s in sites if abs(cut - p) <= 2000]
            inside += bool(near)
            for distance in near:
                profiles[int(f.barcode), 2000 + distance] += 1
    np.testing.assert_array_equal(bk.to_host(found.profile), profiles.sum(0))
    np.testing.assert_array_equal(bk.to_host(found.center), profiles[:, 1995:2006].sum(1))
    np.testing.assert_array_equal(
        bk.to_host(found.flank), profiles[:, :100].sum(1) + profiles[:, -100:].sum(1)
    )
    assert found.n_inside == inside
    assert found.n_insertions == 2 * sum(r >= 0 for *_, r in rows)


# ------------------------------------------------------------------------------------------ lengths and sums


def test_length_borders_of_the_nucleosome_classes(bk):
    rows = [(0, n, 0) for n in (1, 146, 147, 293, 294, 1000)] + [(0, 147, 1), (0, 50, -1)]
    found = bk.counting.length_classes(*columns(bk, rows), n_rows=3, bounds=(147, 294))
    assert bk.to_host(found).tolist() == [[2, 2, 2], [0, 1, 0], [0, 0, 0]]


def test_histogram_puts_longer_fragments_into_entry_zero(bk):
    rows = [(0, 10, 0), (5, 6, 0), (0, 11, 1), (0, 999, 1), (3, 13, -1)]
    found = bk.to_host(bk.counting.length_histogram(*columns(bk, rows), max_length=10))
    assert found.tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    rows = random_rows(2, 300, lowest_row=0)
    found = bk.to_host(bk.counting.length_histogram(*columns(bk, rows), max_length=700))
    np.testing.assert_array_equal(found, oracles.frag_size_distr(as_fragments(rows), max_recorded_size=700))
    assert found.sum() == len(rows)


def test_row_sums_do_not_wrap_at_two_to_the_31(bk):
    row = int32(bk, [0, 0, 2, -1])
    assert bk.to_host(bk.counting.row_sums(row, None, n_rows=3)).tolist() == [2, 0, 1]
    big = 2**31 - 1
    found = bk.counting.row_sums(row, int32(bk, [big, big, 5, 7]), n_rows=3)
    assert bk.to_host(found).tolist() == [2 * big, 0, 5]


# ------------------------------------------------------------------------------------------------- all at once


def ask_all(bk, rows, *, n_rows, regions, tss=None, as_insertion=False, max_length=700):
    """``quality`` of rows, and the same numbers from the primitives one by one."""
    here = columns(bk, rows)
    around = {"window": 300, "half_center": 5, "edge": 20}
    if tss is not None:
        tss = {"tss": int32(bk, tss), "reverse": bk.asarray(np.arange(len(tss)) % 3 == 0)}
    sets = [tuple(int32(bk, edges[k::2]) for k in range(2)) for edges in regions]
    found = bk.counting.quality(
        *here, n_rows=n_rows, max_length=max_length, bounds=(147, 294), regions=sets, as_insertion=as_insertion,
        **around, **(tss or {}),
    )  # fmt: skip
    one_by_one = [
        bk.counting.length_histogram(*here, max_length=max_length),
        bk.counting.length_classes(*here, n_rows=n_rows, bounds=(147, 294)),
        bk.counting.tss_counts(*here, n_rows=n_rows, **tss, **around) if tss else None,
        [
            bk.counting.overlap_any(
                *here, n_rows=n_rows, region_start=low, region_end=high, as_insertion=as_insertion
            )
            for low, high in sets
        ],
        bk.counting.row_sums(here[2], None, n_rows=n_rows),
    ]
    return found, one_by_one


def assert_same_quality(bk, found, one_by_one):
    lengths, classes, around, inside, fragments = one_by_one
    assert bk.to_host(found.lengths).tolist() == bk.to_host(lengths).tolist()
    assert bk.to_host(found.classes).tolist() == bk.to_host(classes).tolist()
    assert bk.to_host(found.in_regions).tolist() == [bk.to_host(part).tolist() for part in inside]
    assert bk.to_host(found.fragments).tolist() == bk.to_host(fragments).tolist()
    assert (found.tss is None) == (around is None)
    if around is not None:
        for a, b in zip(found.tss[:3], around[:3], strict=True):
            assert bk.to_host(a).tolist() == bk.to_host(b).tolist()
        assert found.tss[3:] == around[3:]


@pytest.mark.parametrize("as_insertion", [False, True])
@pytest.mark.parametrize("longest", [900, 60_000])
def test_one_pass_over_many_blocks_gives_the_numbers_of_each_primitive(bk, as_insertion, longest):
    size = 400_000
    rng = np.random.default_rng(longest)
    rows = random_rows(5, 25_000, n_rows=40, size=size, longest=longest)  # three blocks on a CPU
    regions = [np.sort(rng.choice(size, 2 * n, replace=False)) for n in (0, 1, 500, 20_000)]
    tss = np.sort(rng.integers(0, size, 300))
    assert_same_quality(
        bk, *ask_all(bk, rows, n_rows=40, regions=regions, tss=tss, as_insertion=as_insertion)
    )


@settings(max_examples=60, deadline=None)
@given(
    rows=fragment_rows,
    regions=st.lists(st.sets(st.integers(0, 1000), max_size=8).map(sorted), max_size=3),
    tss=st.none() | st.lists(st.integers(0, 999), max_size=5).map(sorted),
    as_insertion=st.booleans(),
    max_length=st.sampled_from([0, 1, 200, 1000]),
)
def test_one_pass_over_any_fragments_gives_the_numbers_of_each_primitive(
    rows, regions, tss, as_insertion, max_length
):
    regions = [edges[: len(edges) // 2 * 2] for edges in regions]
    found = ask_all(
        _CPU, rows, n_rows=4, regions=regions, tss=tss, as_insertion=as_insertion, max_length=max_length
    )
    assert_same_quality(_CPU, *found)


# -------------------------------------------------------------------------------------------- joining columns


def as_csr(bk, table):
    table = np.asarray(table)
    row, column = np.nonzero(table)
    indptr = np.concatenate([[0], np.cumsum((table > 0).sum(1))]).astype(np.int64)
    return Csr(
        bk.asarray(indptr),
        bk.asarray(column.astype(np.int32)),
        bk.asarray(table[row, column].astype(bk.count_dtype)),
    )


def test_blocks_are_joined_with_shifted_columns(bk):
    a, b = np.array([[1, 0], [0, 2], [0, 0]]), np.array([[0, 0, 3], [4, 0, 0], [0, 5, 0]])
    empty = np.zeros((3, 2), int)
    parts = [a, empty, b, empty]
    found = bk.counting.hstack([as_csr(bk, p) for p in parts], [2, 2, 3, 2])
    np.testing.assert_array_equal(dense(bk, found, 9), np.hstack(parts))


def test_joining_empties_the_list_and_leaves_parts_that_others_hold_as_they_are(bk, monkeypatch):
    monkeypatch.setattr(cpu_counting, "HSTACK_WHOLE", 0)
    tables = [np.random.default_rng(k).poisson(0.5, (50, 30 + k)) for k in range(4)]
    held = [as_csr(bk, table) for table in tables]
    one = as_csr(bk, tables[0])
    parts = [*held, one, one, *(as_csr(bk, table) for table in tables)]  # held here, twice in the list, nowhere else
    wide = np.hstack([*tables, tables[0], tables[0], *tables])
    widths = [table.shape[1] for table in (*tables, tables[0], tables[0], *tables)]
    found = bk.counting.hstack(parts, widths)
    assert parts == []
    np.testing.assert_array_equal(dense(bk, found, wide.shape[1]), wide)
    for part, table in zip((*held, one), (*tables, tables[0]), strict=True):
        np.testing.assert_array_equal(dense(bk, part, table.shape[1]), table)


def test_parts_that_are_views_or_read_only_files_are_joined(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu_counting, "HSTACK_WHOLE", 0)
    table = np.random.default_rng(1).poisson(0.7, (40, 25))
    part = as_csr(_CPU, table)
    for name, values in part._asdict().items():
        np.save(tmp_path / name, values)
    stored = Csr(*(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in Csr._fields))
    views = Csr(*(np.concatenate([values, values])[: values.size] for values in part))
    found = _CPU.counting.hstack([stored, views, part], [25] * 3)
    np.testing.assert_array_equal(dense(_CPU, found, 75), np.hstack([table] * 3))


@pytest.mark.parametrize("n_rows", [1, 2, 300])
def test_blocks_of_rows_join_to_the_same_matrix_however_rows_are_filled(n_rows, monkeypatch):
    monkeypatch.setattr(cpu_counting, "HSTACK_WHOLE", 0)
    rng = np.random.default_rng(n_rows)
    tables = [rng.poisson(0.5, (n_rows, 20)) * (rng.random((n_rows, 1)) < 0.3) for _ in range(5)]
    for chosen in (tables, [tables[0] * 0] * 2):
        found = _CPU.counting.hstack([as_csr(_CPU, table) for table in chosen], [20] * len(chosen))
        np.testing.assert_array_equal(dense(_CPU, found, 20 * len(chosen)), np.hstack(chosen))


PEAK = """
import numpy as np
from gpuatac.backend import get
from gpuatac.backend.protocol import Csr

def megabytes(key):
    with open("/proc/self/status") as told:
        return next(int(line.split()[1]) for line in told if line.startswith(key)) / 1024

def part(n_rows=5_000, n=2_000):
    return Csr(np.arange(n_rows + 1) * n, np.zeros(n_rows * n, np.int32) + 1, np.ones(n_rows * n, np.int32))

join = get("cpu").counting.hstack
join([Csr(np.zeros(2, np.int64), np.empty(0, np.int32), np.empty(0, np.int32))], [1])
before = megabytes("VmRSS")
parts = [part() for _ in range(5)]
own = megabytes("VmRSS") - before
with open("/proc/self/clear_refs", "w") as peak:
    peak.write("5")
join(parts, [2] * 5)
print((megabytes("VmHWM") - before) / own)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read from Linux's /proc")
def test_joining_parts_of_400_megabytes_takes_hardly_more():
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.3


def sparse(path, n, dtype):
    """An array that holds nothing but the pages that are written."""
    return np.memmap(path, dtype, "w+", shape=n)


def test_numbers_beyond_2_to_the_31_reach_their_place_on_a_cpu(tmp_path):
    far = 2**31 + 5
    indices, data = sparse(tmp_path / "i", far + 9, np.int32), sparse(tmp_path / "d", far + 9, np.int32)
    indptr = np.array([0, 0, 2, 3], np.int64)
    at = np.array([far, far + 4], np.int64)
    kernels.place(indptr, np.array([1, 2, 3], np.int32), np.array([7, 8, 9], np.int32), 1, 3, np.int32(10), at, indices, data)
    assert (indices[far : far + 5].tolist(), data[far : far + 5].tolist()) == ([11, 12, 0, 0, 13], [7, 8, 0, 0, 9])
    assert at.tolist() == [far + 2, far + 5]
    # and read from there, sorted and counted
    indices[far : far + 6] = [5, 4, 5, 5, 1, 1]
    ptr, stop = np.array([far, far + 4, far + 6]), np.array([far + 4, far + 6])
    indptr = kernels.count_runs(ptr, stop, indices, data)
    assert (indptr.tolist(), indices[:3].tolist(), data[:3].tolist()) == ([0, 2, 3], [4, 5, 1], [1, 3, 2])
    place = np.array([0, far], np.int64)
    start, end, row = (np.array(v, np.int32) for v in ([3, 2_147_480_000], [9, 2_147_483_647], [1, 1]))
    kernels.emit_cut_tiles(start, end, row, 1_000, True, place, indices)
    assert indices[far : far + 3].tolist() == [0, 2_147_480, 2_147_483]


def test_a_table_of_more_than_2_to_the_31_counters_is_counted_at_its_end_on_a_cpu(tmp_path):
    n_rows, n_columns = 400_000_000, 6
    table = sparse(tmp_path / "t", n_rows * n_columns, np.int64).reshape(n_rows, n_columns)
    start, end, row = (np.array(v, np.int32) for v in ([100, 200], [300, 210], [n_rows - 1, n_rows - 2]))
    low, high = np.array([205], np.int32), np.array([400], np.int32)
    lengths, profile = np.zeros(11, np.int64), np.zeros(41, np.int64)
    cpu_quality.sweep(
        start, end, row, np.array([147, 294]), lengths, np.array([100], np.int32), np.array([False]), 20, 5, 10,
        profile, low, high, np.array([0, 1]), False, table,
    )  # fmt: skip
    assert table[-2:].tolist() == [[1, 0, 0, 0, 0, 1], [0, 1, 0, 1, 0, 1]]


def test_columns_shifted_to_the_end_of_int32_keep_their_index(bk):
    one = as_csr(bk, [[7]])
    found = bk.counting.hstack([one, one], [2**31 - 2, 1])
    assert bk.to_host(found.indices).tolist() == [0, 2**31 - 2]


def test_row_offsets_are_64_bit_whatever_is_counted(bk):
    # what keeps a matrix of more than 2^31 - 1 entries whole; so many entries would need 24 GB here
    none = columns(bk, [])
    spans = {"region_start": int32(bk, [0]), "region_end": int32(bk, [5])}
    one = as_csr(bk, [[1, 1]])
    for found in (
        bk.counting.tile_counts(*none, n_rows=1, bin_size=1, n_bins=1, strategy="insertion"),
        bk.counting.region_counts(*none, n_rows=1, strategy="fragment", **spans),
        bk.counting.hstack([one, one], [2, 2]),
        bk.counting.max_over_groups(one, int32(bk, [0, 0]), n_groups=1),
    ):
        assert bk.to_host(found.indptr).dtype == np.int64


def test_gene_count_is_the_maximum_over_its_transcripts(bk):
    table = [[1, 5, 0, 2], [0, 0, 4, 0], [0, 0, 0, 0]]
    group = int32(bk, [1, 0, 1, 1])
    found = bk.counting.max_over_groups(as_csr(bk, table), group, n_groups=3)
    assert dense(bk, found, 3).tolist() == [[5, 2, 0], [0, 4, 0], [0, 0, 0]]


@pytest.mark.parametrize("seed", range(3))
def test_maximum_over_random_groups_follows_the_definition(bk, seed):
    rng = np.random.default_rng(seed)
    table = rng.poisson(0.4, (20, 30))
    group = rng.integers(0, 8, 30)
    found = dense(
        bk, bk.counting.max_over_groups(as_csr(bk, table), int32(bk, group), n_groups=8), 8
    )
    for g in range(8):
        wanted = table[:, group == g].max(axis=1) if (group == g).any() else np.zeros(20, int)
        np.testing.assert_array_equal(found[:, g], wanted)
