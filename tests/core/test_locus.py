"""Coverage of a window and its denominators against loops over every base."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gpuatac.core.tracks import locus
from gpuatac.core.tracks.locus import Intervals, Window
from gpuatac.core.tracks.pseudobulk import FragmentFilter, GroupedSample
from gpuatac.fragments import Fragments
from gpuatac.genome import Genome

GENOME = Genome("toy", {"chr1": 5000, "chr2": 3000, "chrM": 500})
EVERY = FragmentFilter()


def table(rng, n=400, n_cells=12, longest=900):
    code = np.sort(rng.integers(0, 3, n))
    size = GENOME.sizes[code]
    start = (rng.random(n) * (size - 20)).astype(np.int64)
    end = np.minimum(start + 1 + rng.integers(0, longest, n), size)
    cell = rng.integers(0, n_cells, n)
    order = np.lexsort((cell, end, start, code))
    ptr = np.searchsorted(code, np.arange(4))
    columns = [c[order].astype(np.int32) for c in (start, end, cell)]
    barcodes = np.array([f"c{i:02}" for i in range(n_cells)], object)
    return Fragments(GENOME, barcodes, ptr, *columns, np.ones(n, np.int32))


def sample_on(bk, fragments, group):
    return GroupedSample(fragments.on(bk), bk.asarray(group.astype(np.int32)))


def rows_of(fragments, code):
    c = fragments.columns(code)
    return zip(c.start.tolist(), c.end.tolist(), c.cell.tolist(), strict=True)


def base_by_base(fragments, group, window, n_groups, keep=lambda length: True):
    """Number of fragments of each group over each base of the window."""
    depth = np.zeros((n_groups, window.end - window.start))
    for start, end, cell in rows_of(fragments, window.code):
        if group[cell] >= 0 and keep(end - start):
            for base in range(max(start, window.start), min(end, window.end)):
                depth[group[cell], base - window.start] += 1
    return depth


def binned(depth, edges):
    edges = edges - edges[0]
    return np.stack([depth[:, a:b].mean(axis=1) for a, b in itertools.pairwise(edges)], axis=1)


@pytest.mark.parametrize(
    "window", [Window(0, 1200, 1900), Window(1, 0, 3000), Window(0, 4990, 5000), Window(1, 77, 78)]
)
@pytest.mark.parametrize("bounds", [(None, None), (50, 300), (None, 120), (400, None)])
def test_coverage_of_a_window_equals_counting_base_by_base(bk, window, bounds):
    rng = np.random.default_rng(window.end)
    fragments = table(rng)
    group = rng.integers(-1, 3, fragments.n_cells)
    keep = FragmentFilter(min_length=bounds[0], max_length=bounds[1])
    found = locus.fragments_in(bk, [sample_on(bk, fragments, group)], window, keep)
    edges = locus.bin_edges(window.start, window.end, 33)
    values = locus.mean_coverage(found, 3, edges[:-1], edges[1:])

    def kept(length):
        return (bounds[0] or 0) <= length <= (bounds[1] or 10**9)

    expected = binned(base_by_base(fragments, group, window, 3, kept), edges)
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=0)
    assert (found.start < window.end).all()
    assert (found.end > window.start).all()  # no row that lies outside


def test_fragments_of_several_samples_add_up(bk):
    rng = np.random.default_rng(3)
    tables = [table(rng), table(rng, n=50)]
    groups = [rng.integers(-1, 2, t.n_cells) for t in tables]
    window = Window(0, 500, 2500)
    samples = [sample_on(bk, t, g) for t, g in zip(tables, groups, strict=True)]
    edges = locus.bin_edges(500, 2500, 100)
    values = locus.mean_coverage(locus.fragments_in(bk, samples, window, EVERY), 2, edges[:-1], edges[1:])
    depth = sum(base_by_base(t, g, window, 2) for t, g in zip(tables, groups, strict=True))
    np.testing.assert_allclose(values, binned(depth, edges), rtol=1e-12)


def test_a_fragment_longer_than_the_window_covers_all_of_it():
    long = Intervals(np.array([0]), np.array([10**9]), np.array([0], np.int32))
    edges = locus.bin_edges(500_000_000, 500_000_500, 7)
    np.testing.assert_array_equal(locus.mean_coverage(long, 1, edges[:-1], edges[1:]), 1.0)


def test_each_fragment_has_its_first_and_its_last_base_as_insertions():
    fragments = Intervals(np.array([3, 5]), np.array([9, 6]), np.array([0, 1], np.int32))
    cuts = locus.insertions(fragments)
    edges = locus.bin_edges(0, 10, 1)
    values = locus.mean_coverage(cuts, 2, edges[:-1], edges[1:])
    assert np.flatnonzero(values[0]).tolist() == [3, 8]
    assert values[1].tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 0]  # a fragment of one base is cut twice there


def test_bins_may_overlap_so_that_means_are_smoothed():
    rng = np.random.default_rng(5)
    fragments, window = table(rng), Window(0, 1000, 1600)
    depth = base_by_base(fragments, np.zeros(fragments.n_cells, int), window, 1)[0]
    low = np.arange(1000, 1400, 10)
    got = locus.mean_coverage(
        Intervals(*[np.concatenate(x) for x in ([fragments.columns(0).start.astype(np.int64)],
                                                [fragments.columns(0).end.astype(np.int64)],
                                                [np.zeros(fragments.columns(0).start.size, np.int32)])]),
        1, low, low + 200,
    )  # fmt: skip
    np.testing.assert_allclose(got[0], [depth[a - 1000 : a - 800].mean() for a in low], rtol=1e-12)


def test_group_without_fragments_and_chromosome_without_rows_have_no_coverage(bk):
    fragments = table(np.random.default_rng(0))
    fragments.chrom_ptr[2:] = fragments.chrom_ptr[1]  # chr2 and chrM hold nothing
    sample = sample_on(bk, fragments, np.zeros(fragments.n_cells))
    found = locus.fragments_in(bk, [sample], Window(1, 0, 3000), EVERY)
    assert found.start.size == 0
    edges = locus.bin_edges(0, 3000, 100)
    assert not locus.mean_coverage(found, 2, edges[:-1], edges[1:]).any()


@pytest.mark.parametrize("bounds", [(None, None), (60, 250)])
def test_group_totals_count_the_fragments_that_pass_and_those_at_tss(bk, bounds):
    rng = np.random.default_rng(8)
    fragments = table(rng)
    group = rng.integers(-1, 3, fragments.n_cells)
    keep = FragmentFilter(min_length=bounds[0], max_length=bounds[1])
    sites = {0: [40, 1000, 1030, 4990], 1: [200]}
    chrom = np.array([c for c, p in sites.items() for _ in p])
    within = locus.tss_windows(GENOME, chrom, np.array([p for ps in sites.values() for p in ps]))
    total, at_tss = np.zeros(3, int), np.zeros(3, int)
    for code in (0, 1):  # not chrM
        for start, end, cell in rows_of(fragments, code):
            if group[cell] >= 0 and (bounds[0] or 0) <= end - start <= (bounds[1] or 10**9):
                total[group[cell]] += 1
                at_tss[group[cell]] += any(start < p + 51 and end > p - 50 for p in sites[code])
    sample = sample_on(bk, fragments, group)
    np.testing.assert_array_equal(locus.group_totals(bk, sample, 3, keep, codes=[0, 1]), total)
    np.testing.assert_array_equal(locus.group_totals(bk, sample, 3, keep, codes=[0, 1], within=within), at_tss)
    assert 0 < at_tss.sum() < total.sum()


@pytest.mark.parametrize(
    ("length", "expected"),
    [(1, 1), (1500, 1), (1501, 2), (7500, 5), (7501, 10), (2_000_000, 2000), (250_000_000, 200_000)],
)
def test_bins_are_of_1_2_5_sizes_and_at_most_1500(length, expected):
    assert locus.nice_bin(length) == expected
    assert len(locus.bin_edges(10, 10 + length, expected)) - 1 <= 1500


def test_last_bin_ends_with_the_window():
    assert locus.bin_edges(5, 20, 10).tolist() == [5, 15, 20]


def test_neighbours_that_only_touch_the_window_are_not_read(bk):
    start, end = np.array([0, 10, 15, 20, 20], np.int32), np.array([10, 15, 20, 21, 30], np.int32)
    touching = Fragments(
        GENOME, np.array(["a"], object), np.array([0, 5, 5, 5]), start, end, np.zeros(5, np.int32), np.ones(5, np.int32)
    )
    found = locus.fragments_in(bk, [sample_on(bk, touching, np.zeros(1))], Window(0, 15, 20), EVERY)
    assert found.start.tolist() == [15]
