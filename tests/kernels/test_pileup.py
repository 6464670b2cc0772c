"""Pileups and peaks on a GPU, run on the CPU: how the work is split, rules by hand, and what lies beyond genomes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuatac.backend import get
from gpuatac.backend.gpu import launch
from gpuatac.backend.gpu.peaks.calling import Peaks
from gpuatac.backend.gpu.peaks.segments import batches
from gpuatac.backend.gpu.tracks.pileup import Pileup
from gpuatac.backend.protocol import Cutoffs, Geometry, GroupEnds
from gpuatac.core.peaks.calling import call_peaks
from gpuatac.core.peaks.scores import PeakModel
from gpuatac.core.tracks.pseudobulk import totals_of

from . import pileup_cases as cases
from . import pileup_oracle as oracle
from .cases import CASES, Case, run
from .cpu_run import CpuLauncher, CpuRunBackend

FIELDS = ("coverage", "segment_lengths", "above", "summits")


@pytest.fixture(scope="module")
def launcher(library):
    return CpuLauncher(library, order=3, max_blocks=7)


@pytest.mark.parametrize(
    "split",
    [
        {"budget": 1, "width": 1},
        {"budget": 150, "width": 3},
        {"width": 1_000},
        {"slots": 1, "crowding": 10_000},
        {"bases": 1},
        {"bases": 700},
    ],
    ids=str,
)
def test_results_do_not_depend_on_how_the_work_is_split(launcher, split):
    bk = CpuRunBackend(launcher)
    bk.peaks = Peaks(np, launcher, **split)
    bk.pileup = Pileup(np, launcher, **{key: split[key] for key in ("budget", "width") if key in split})
    for case in CASES:
        if case.verb in FIELDS and ("random" in case.name or "empty group" in case.name):
            run(bk, case)


def test_a_hash_table_that_is_too_small_is_filled_anew(library):
    launcher = CpuLauncher(library)
    ends, plain = cases.ends_on(CpuRunBackend(launcher), cases.clustered(11, 900, 2), 2)
    found = Peaks(np, launcher, slots=1, crowding=1 << 40).segment_lengths([lambda: ends], Geometry())
    assert launcher.launched.count("add_segment_lengths") > 3
    assert found.length.tolist() == [
        n for part in oracle.segment_lengths([plain], Geometry(), 2) for n in part.values()
    ]


def test_batches_hold_the_wanted_groups_within_the_budget():
    sizes = np.array([0, 3, 4, 0, 9, 1, 1, 0])
    ptr = np.concatenate([[0], np.cumsum(sizes)])
    ends = GroupEnds(ptr, np.arange(18, dtype=np.int32), np.arange(18, dtype=np.int32) + 1)
    found = [(first, np.diff(part.ptr).tolist(), part.left.tolist()) for first, part in batches(ends, 7)]
    assert found == [(1, [3, 4], list(range(7))), (4, [9], list(range(7, 16))), (5, [1, 1], [16, 17])]
    wanted = np.array([True, True, False, True, True, True, False, True])
    assert [(first, np.diff(part.ptr).tolist()) for first, part in batches(ends, 100, wanted)] == [
        (1, [3]),
        (4, [9, 1]),
    ]


@pytest.mark.parametrize("case", [Case(*c) for c in cases.passes(cases.EXTREMES)], ids=str)
def test_passes_beyond_what_genomes_have(launcher, case):
    run(CpuRunBackend(launcher), case)


def fragments(*rows):
    """GroupEnds of one group from (start, end) pairs."""
    columns = np.array(sorted(rows), np.int32).reshape(-1, 2).T
    return GroupEnds(np.array([0, len(rows)]), np.sort(columns[0]), np.sort(columns[1]))


def summits_of(launcher, ends, geometry, *, least=1, **rules):
    table = np.full(10_000, least, np.int32)
    cutoffs = Cutoffs(np.array([0, table.size]), table)
    (found,) = Peaks(np, launcher).summits([lambda: ends], geometry, cutoffs, **rules)
    return list(zip(*(column.tolist() for column in found[1:]), strict=True))


WHOLE = Geometry(whole=True, wide=0)


@pytest.mark.parametrize(
    ("max_gap", "min_length", "expected"),
    [
        (
            30,
            130,
            [(100, 230, 125, 1, 0, 0)],
        ),  # a gap of exactly max_gap joins; the first of two equals is the middle one
        (29, 50, [(100, 150, 125, 1, 0, 0), (180, 230, 205, 1, 0, 0)]),
        (30, 131, []),
        (29, 51, []),
    ],
)
def test_gaps_of_max_gap_join_and_regions_of_min_length_stay(launcher, max_gap, min_length, expected):
    ends = fragments((100, 150), (180, 230))
    rules = {"max_gap": max_gap, "min_length": min_length, "subpeaks": False}
    assert summits_of(launcher, ends, WHOLE, **rules) == expected


def test_cut_becomes_an_interval_on_both_sides_and_is_clipped_at_zero(launcher):
    cutoffs = Cutoffs(np.array([0, 10]), np.ones(10, np.int32))
    (found,) = Peaks(np, launcher).above([lambda: fragments((30, 401))], Geometry(wide=1_000), cutoffs)
    rows = list(zip(*(column.tolist() for column in found), strict=True))
    assert rows == [(0, 0, 130, 1, 2), (0, 300, 500, 1, 2)]


def test_two_subpeaks_share_a_region(launcher):
    rows = [(1_000 + 6 * k, 1_300 - 6 * k) for k in range(20)] + [(1_400 + 6 * k, 1_700 - 6 * k) for k in range(20)]
    found = summits_of(launcher, fragments(*rows), WHOLE, max_gap=200, min_length=100, subpeaks=True)
    assert [(start, end, number) for start, end, _, _, _, number in found] == [(1_000, 1_700, 0), (1_000, 1_700, 1)]
    for summit, middle in zip([row[2] for row in found], (1_150, 1_550), strict=True):
        assert abs(summit - middle) <= 10


ROW = st.tuples(st.integers(0, 900), st.integers(1, 300), st.integers(-1, 2), st.integers(1, 4))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(ROW, max_size=60),
    geometry=st.sampled_from(sorted(cases.GEOMETRIES)),
    copies=st.booleans(),
    width=st.integers(1, 20),
)
def test_bases_are_conserved(library, rows, geometry, copies, width):
    """Where no window is cut off, every interval adds its own width to the pileup, and segments cover it once."""
    shape = cases.GEOMETRIES[geometry]
    start, length, group, weight = np.array(sorted(rows), np.int32).reshape(-1, 4).T
    start = (start + 6_000).astype(np.int32)
    launcher = CpuLauncher(library, order=2)
    end = (start + length).astype(np.int32)
    given_weight = np.ascontiguousarray(weight) if copies else None
    ends = Pileup(np, launcher).group_ends(start, end, np.ascontiguousarray(group), n_groups=3, weight=given_weight)
    found = Peaks(np, launcher, width=width).segment_lengths([lambda: ends], shape)
    for g in range(3):
        own = slice(found.ptr[g], found.ptr[g + 1])
        times = weight[group == g] if copies else np.ones((group == g).sum(), int)
        spans = length[group == g] if shape.whole else np.full(times.size, 2 * shape.extsize)
        covered = (found.t[own].astype(np.int64) * found.length[own]).sum()
        reach = 0 if shape.whole else max(shape.shift + shape.extsize, -shape.shift)
        if not shape.wide or reach <= shape.wide - shape.wide // 2 - 1:  # else segments end with the background
            assert covered == (times.astype(np.int64) * spans).sum()


def test_streams_beyond_2_to_the_31_are_read_at_their_place(library, tmp_path):
    far = 2**31 + 7
    opens, closes = (np.memmap(tmp_path / name, np.int32, "w+", shape=far + 2) for name in ("opens", "closes"))
    opens[far:], closes[far:] = [100, 120], [150, 160]
    ptr, nothing = np.array([0, 0, far, far + 2]), np.empty(0, np.int32)
    size = np.zeros(1, np.int32)
    # group 2 alone has a slice; group 1 holds everything before
    common = (
        opens, None, 0, closes, None, 0, ptr, nothing, None, 0, 0, np.zeros(1, np.int64), 0,
        np.array([0, 0, 0, 1]), 3, 1, 16, 1, np.array([0, 1, 2, 3]), np.array([1, 1, 2], np.int32), size,
    )  # fmt: skip
    launcher = CpuLauncher(library)
    launcher("count_segments_above", 1, *common)
    assert size.tolist() == [1]
    out = [np.zeros(1, np.int32) for _ in range(5)]
    launcher("write_segments_above", 1, *common, np.zeros(1, np.int64), *out)
    assert [column.tolist() for column in out] == [[2], [120], [150], [2], [0]]


def test_scores_end_for_rates_that_have_none(launcher):
    t = np.array([3, 3], np.int32)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = Peaks(np, launcher).poisson_scores(t, np.array([0.0, 4.0]))
    assert scores[1] == oracle.poisson_score(3, 4.0)
    assert not np.isfinite(scores[0])


def test_scores_are_computed_beyond_the_table_of_logarithms(library):
    launcher = CpuLauncher(library)
    place = [argument.name for argument in launch.kernels()["poisson_scores"].arguments].index("n_logs")

    def short(name, n_threads, *values, shared_bytes=0):
        launcher(name, n_threads, *values[:place], 3, *values[place + 1 :], shared_bytes=shared_bytes)

    t, rate = np.array([0, 5, 40], np.int32), np.array([0.5, 30.0, 12.0])
    np.testing.assert_array_equal(Peaks(np, short).poisson_scores(t, rate), oracle.poisson_scores(t, rate))


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"nolambda": True, "call_summits": False},
        {"whole": True},
        {"whole": True, "copies": True},
        {"broad": True},
        {"shift": -75, "extsize": 150, "pvalue": 0.01},
    ],
    ids=str,
)
def test_called_peaks_are_those_of_the_cpu_backend(launcher, model):
    """The whole call, by ``core`` on either backend: 5 clusters in 2 Mb on each of two chromosomes, three groups."""
    columns = []
    for seed in (21, 22):
        rng = np.random.default_rng(seed)
        start, end, group, copies = cases.clustered(seed, 1_500, 3, size=200_000, copies=True, low=20)
        start[::3], end[::3] = (np.sort(rng.integers(20, 190_000, 500)), 0)
        start = np.sort(start)
        columns.append((start, (start + rng.integers(20, 400, start.size)).astype(np.int32), group, copies))
    found = [called(bk, columns, PeakModel(**model)) for bk in (get("cpu"), CpuRunBackend(launcher))]
    assert sum(len(table[0]) for table in found[0]) > 10
    assert found[1] == found[0]


def called(bk, columns, model):
    """Rows of each group's peaks, and of the blocks within broad ones."""
    parts = []
    for start, end, group, copies in columns:
        given = [bk.asarray(column) for column in (start, end, group)]
        weight = bk.asarray(copies) if model.copies else None
        parts.append(bk.pileup.group_ends(*given, n_groups=3, weight=weight))
    totals = totals_of(bk, parts[0]) + totals_of(bk, parts[1])
    sources = [lambda ends=ends: ends for ends in parts]
    mean = totals.bases / totals.rows
    found = sorted(call_peaks(bk, sources, totals, model, genome_size=4e5, mean_length=mean), key=lambda part: part[0])
    assert [g for g, *_ in found] == [0, 1, 2]
    tables = [table for _, *tables in found for table in tables if table is not None]
    return [[np.asarray(column).tolist() for column in table] for table in tables]
