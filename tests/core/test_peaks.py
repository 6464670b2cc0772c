"""Peak calling against its definition, worked out base by base; scores by SciPy's Poisson, subpeaks by SciPy's filter."""

import itertools

import numpy as np
import pytest
from scipy.signal import savgol_filter
from scipy.stats import poisson

import gpuatac as ga
from gpuatac.backend.protocol import Cutoffs, Geometry
from gpuatac.core.peaks import calling as core
from gpuatac.core.peaks.scores import PeakModel, q_values
from gpuatac.core.tracks.pseudobulk import totals_of

SIZE = 60_000
BK = ga.backend.resolve("cpu")


def fragments(seed, n=1500, n_groups=3, size=SIZE):
    rng = np.random.default_rng(seed)
    sites = rng.integers(500, size - 1500, 12)
    at = np.where(rng.random(n) < 0.6, rng.choice(sites, n) + rng.normal(0, 150, n), rng.integers(0, size - 800, n))
    start = np.sort(np.clip(at, 0, size - 800)).astype(np.int32)
    end = start + rng.integers(20, 700, n).astype(np.int32)
    return start, end, rng.integers(-1, n_groups, n).astype(np.int32), rng.geometric(0.6, n).astype(np.int32)


def ends(start, end, group, count=None, n_groups=3):
    return BK.pileup.group_ends(start, end, group, n_groups=n_groups, weight=count)


def call_peaks(*args, **kwargs):
    """Peaks by group, in order."""
    found = {g: peaks for g, peaks, _ in core.call_peaks(*args, **kwargs)}
    return [found[g] for g in range(len(found))]


def per_base(intervals, weight, size):
    """How many intervals cover each base."""
    out = np.zeros(size, np.int64)
    for (a, b), w in zip(intervals, weight, strict=True):
        out[max(a, 0) : max(b, 0)] += w
    return out


def pileups(start, end, weight, geometry, size):
    """(pileup, background) at each base, and the last base of the segments, from the definitions."""
    if geometry.whole:
        own = list(zip(start, end, strict=True))
        around = [*start, *end]
    else:
        s, e = geometry.shift, geometry.extsize
        own = [(c + s, c + s + e) for c in start] + [(c - s - e, c - s) for c in end - 1]
        around = [*start, *(end - 1)]
    twice = np.concatenate([weight, weight])
    reach = geometry.wide // 2
    t = per_base(own, weight if geometry.whole else twice, size)
    n = per_base([(c - reach, c + geometry.wide - reach) for c in around], twice, size) if geometry.wide else t * 0
    stop = max(b for _, b in own)
    if geometry.wide:
        stop = min(stop, max(around) + geometry.wide - reach)
    return t[:stop], n[:stop]


GEOMETRIES = {
    "cuts": Geometry(),
    "narrow window": Geometry(wide=401),
    "no background": Geometry(wide=0),
    "one-sided": Geometry(shift=13, extsize=77),
    "fragments": Geometry(whole=True),
    "fragments alone": Geometry(whole=True, wide=0),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_lengths_of_segments_are_the_bases_with_each_pair_of_counts(name, weighted):
    start, end, group, count = fragments(1)
    geometry = GEOMETRIES[name]
    found = BK.peaks.segment_lengths([lambda: ends(start, end, group, count if weighted else None)], geometry)
    for g in range(3):
        mine = group == g
        weight = count[mine] if weighted else np.ones(mine.sum(), int)
        t, n = pileups(start[mine], end[mine], weight, geometry, SIZE + 20_000)
        pairs, lengths = np.unique(np.stack([n, t]), axis=1, return_counts=True)
        rows = slice(found.ptr[g], found.ptr[g + 1])
        np.testing.assert_array_equal(np.stack([found.n[rows], found.t[rows]]), pairs)
        np.testing.assert_array_equal(found.length[rows], lengths)


def test_counts_beyond_the_dense_table_are_kept_too():
    start = np.sort(np.random.default_rng(0).integers(0, 3000, 30_000)).astype(np.int32)
    end = start + 50
    found = BK.peaks.segment_lengths([lambda: ends(start, end, start * 0, n_groups=1)], Geometry())
    assert found.n.max() > 8192
    assert found.t.max() > 1016
    t, n = pileups(start, end, np.ones(start.size, int), Geometry(), 20_000)
    assert found.length.sum() == t.size
    pairs, lengths = np.unique(np.stack([n, t]), axis=1, return_counts=True)
    np.testing.assert_array_equal(np.stack([found.n, found.t]), pairs)
    np.testing.assert_array_equal(found.length, lengths)


def test_chromosomes_add_up_and_empty_groups_have_no_segment():
    start, end, group, _ = fragments(2)
    group = np.where(group == 1, -1, group).astype(np.int32)
    one = BK.peaks.segment_lengths([lambda: ends(start, end, group)], Geometry())
    two = BK.peaks.segment_lengths([lambda: ends(start, end, group)] * 2, Geometry())
    np.testing.assert_array_equal(one.length * 2, two.length)
    np.testing.assert_array_equal(one.t, two.t)
    assert one.ptr[1] == one.ptr[2]


def test_poisson_scores_equal_scipy_to_the_precision_of_the_series():
    rng = np.random.default_rng(3)
    rate = rng.uniform(0.05, 60, 4000).astype(np.float32).astype(float)
    t = np.ceil(rate + rng.exponential(4, 4000) * np.sqrt(rate)).astype(np.int32)
    want = -poisson.logsf(t, rate) / np.log(10)
    got = BK.peaks.poisson_scores(t, rate)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, atol=2e-4, rtol=1e-6)


def test_scores_far_beyond_float64_are_finite():
    got = BK.peaks.poisson_scores(np.array([5000], np.int32), np.array([0.5]))
    assert 15_000 < got[0] < 20_000


def test_q_values_follow_benjamini_and_hochberg_over_bases():
    p = np.array([5.0, 3.0, 3.0, 1.0, 0.2], np.float32)
    length = np.array([10, 20, 30, 140, 800])
    got = q_values(p, length, np.ones(5, bool))
    # ranks of the first base of each distinct p: 1, 11, 61; the lowest always gets 0
    want = [5 - 3, 3 + np.log10(11) - 3, 3 + np.log10(11) - 3, 0, 0]
    np.testing.assert_allclose(got, want, atol=1e-6)


def regions(mask, max_gap, min_length):
    """Runs of True, joined over gaps, long enough."""
    at = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    out = []
    for a, b in at.reshape(-1, 2).tolist():
        if out and a - out[-1][1] <= max_gap:
            out[-1][1] = b
        else:
            out.append([a, b])
    return [(a, b) for a, b in out if b - a >= min_length]


@pytest.mark.parametrize("name", ["cuts", "no background", "fragments", "one-sided"])
@pytest.mark.parametrize("gap", [0, 30, 151])
def test_regions_are_runs_of_bases_above_the_cutoff(name, gap):
    start, end, group, _ = fragments(4)
    geometry = GEOMETRIES[name]
    least = 4
    cutoffs = Cutoffs(np.arange(4) * 4000, np.full(12_000, least, np.int32))
    source = [lambda: ends(start, end, group)]
    (found,) = BK.peaks.summits(source, geometry, cutoffs, max_gap=gap, min_length=120, subpeaks=False)
    (split,) = BK.peaks.summits(source, geometry, cutoffs, max_gap=gap, min_length=120, subpeaks=True)
    total = 0
    for g in range(3):
        mine = group == g
        t, _ = pileups(start[mine], end[mine], np.ones(mine.sum(), int), geometry, SIZE + 20_000)
        want = regions(t >= least, gap, 120)
        rows = found.group == g
        assert list(zip(found.start[rows], found.end[rows], strict=True)) == want
        assert list(dict.fromkeys(zip(split.start[split.group == g], split.end[split.group == g], strict=True))) == want
        for a, b, summit, height in zip(*(column[rows] for column in found[1:5]), strict=True):
            assert height == t[a:b].max() == t[summit]
        total += len(want)
    assert total > 10


def savgol_subpeaks(t, a, b, width):
    """Offsets where SciPy's first derivative turns, in the array MACS3 builds: 10 bp beyond both ends, written 10 bp late."""
    signal = np.zeros(b - a + 20)
    signal[20 : b - a + 20] = t[a:b]
    half = width // 2
    head = signal[0] - np.abs(signal[1 : half + 1][::-1] - signal[0])
    tail = signal[-1] + np.abs(signal[-half - 1 : -1][::-1] - signal[-1])
    slope = savgol_filter(np.concatenate([head, signal, tail]), 2 * half + 1, 2, deriv=1, mode="constant")[half:-half]
    slope[np.abs(slope) < 1e-9] = 0
    turns = np.flatnonzero(np.diff(np.sign(slope)) <= -1)
    return turns[(turns >= 10) & (turns <= b - a + 10)]


def test_a_region_with_one_crest_has_its_summit_where_scipys_filter_turns():
    checked = 0
    for seed in range(8):
        start, end, group, _ = fragments(20 + seed)
        cutoffs = Cutoffs(np.arange(4) * 4000, np.full(12_000, 4, np.int32))
        source = [lambda start=start, end=end, group=group: ends(start, end, group)]
        (found,) = BK.peaks.summits(source, Geometry(), cutoffs, max_gap=0, min_length=200, subpeaks=True)
        for g in range(3):
            mine = group == g
            t, _ = pileups(start[mine], end[mine], np.ones(mine.sum(), int), Geometry(), SIZE + 20_000)
            for a, b in {*zip(found.start[found.group == g], found.end[found.group == g], strict=True)}:
                turns = savgol_subpeaks(t, a, b, 200)
                got = found.summit[(found.group == g) & (found.start == a)]
                if len(turns) == 1:
                    assert got.tolist() == [a - 10 + turns[0] - 10]
                    checked += 1
                else:
                    assert set(got - a + 20) <= set(turns.tolist()) or len(got) == 1
    assert checked > 15


def test_everything_is_the_same_for_one_thread_and_for_groups_alone():
    start, end, group, _ = fragments(9, n=6000)
    e = ends(start, end, group)
    model = PeakModel(qvalue=0.2)
    totals = totals_of(BK, e)
    mean = totals.bases / totals.rows
    together = call_peaks(BK, [lambda: e, lambda: e], totals + totals, model, genome_size=3e5, mean_length=mean)
    threads = ga.get_threads()
    try:
        ga.set_threads(1)
        again = call_peaks(BK, [lambda: e, lambda: e], totals + totals, model, genome_size=3e5, mean_length=mean)
    finally:
        ga.set_threads(threads)
    assert sum(len(p.start) for p in together) > 20
    for g in range(3):
        alone = ends(start, end, np.where(group == g, 0, -1).astype(np.int32), n_groups=1)
        own = totals_of(BK, alone)
        (single,) = call_peaks(BK, [lambda a=alone: a] * 2, own + own, model, genome_size=3e5, mean_length=mean[[g]])
        for a, b, c in zip(together[g], single, again[g], strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(a, c)


def test_a_region_longer_than_the_buffer_of_segments_comes_out_whole():
    from gpuatac.backend.cpu.peaks.calling import _above

    start, end, group, _ = fragments(10, n=3000)
    e = ends(start, end, group)
    cutoffs = Cutoffs(np.arange(4) * 9000, np.ones(27_000, np.int32))
    for g in range(3):
        whole = np.concatenate([b.copy() for b in _above(e, g, Geometry(), cutoffs, 100)], axis=1)
        parts = [b.copy() for b in _above(e, g, Geometry(), cutoffs, 100, room=8)]
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
        for before, after in itertools.pairwise(parts):
            assert after[0, 0] - before[1, -1] > 100
        assert len(parts) > 3


def test_no_fragments_at_all_give_no_peaks():
    none = np.empty(0, np.int32)
    e = ends(none, none, none)
    totals = totals_of(BK, e)
    peaks = call_peaks(BK, [lambda: e], totals, PeakModel(), genome_size=1e6, mean_length=np.zeros(3))
    assert [len(p.start) for p in peaks] == [0, 0, 0]
    peaks = call_peaks(BK, [], totals, PeakModel(broad=True), genome_size=1e6, mean_length=np.zeros(3))
    assert [len(p.start) for p in peaks] == [0, 0, 0]


def test_groups_called_in_several_passes_have_the_same_peaks(monkeypatch):
    start, end, group, _ = fragments(12, n=6000)
    e = ends(start, end, group)
    totals = totals_of(BK, e)
    model = PeakModel(qvalue=0.2)
    options = {"genome_size": 3e5, "mean_length": totals.bases / totals.rows}
    want = call_peaks(BK, [lambda: e], totals, model, **options)
    monkeypatch.setattr(core, "SHARE_OF_PEAKS", 1 << 50)
    got = call_peaks(BK, [lambda: e], totals, model, **options)
    assert [len(p.start) for p in got] == [len(p.start) for p in want]
    for a, b in zip(got, want, strict=True):
        for one, two in zip(a, b, strict=True):
            np.testing.assert_array_equal(one, two)


def test_chromosomes_that_fill_int32_are_swept_to_their_end():
    last = np.iinfo(np.int32).max - 2
    start = np.array([last - 9000, last - 150, last - 120, last - 100], np.int32)
    end = start + np.int32(100)
    e = ends(start, end, start * 0, n_groups=1)
    found = BK.peaks.segment_lengths([lambda: e], Geometry())
    assert found.length.sum() == int(end[-1]) - 1 + 100  # the last cut, 100 bp on
    assert found.t.max() == 6
    for geometry in GEOMETRIES.values():
        assert BK.peaks.segment_lengths([lambda: e], geometry).length.sum() > 2**31 - 10_000


def test_regions_that_begin_before_position_0_touch_no_other_memory():
    rng = np.random.default_rng(0)
    for n, reach in ((400, 30), (50, 4), (900, 300)):
        start = np.sort(np.concatenate([np.zeros(n), rng.integers(0, reach, n)])).astype(np.int32)
        end = start + rng.integers(20, 60, start.size).astype(np.int32)
        e = ends(start, end, start * 0, np.ones(start.size, np.int32), n_groups=1)
        cutoffs = Cutoffs(np.array([0, 5000]), np.full(5000, 3, np.int32))
        geometry = Geometry(whole=True, clip=False)
        for subpeaks in (False, True):
            (found,) = BK.peaks.summits(
                [lambda e=e: e], geometry, cutoffs, max_gap=50, min_length=200, subpeaks=subpeaks
            )
            assert (found.end - found.start >= 200).all()


def test_no_groups_are_no_work():
    none = np.empty(0, np.int32)
    e = BK.pileup.group_ends(none, none, none, n_groups=0)
    cutoffs = Cutoffs(np.zeros(1, np.int64), none)
    assert BK.peaks.segment_lengths([lambda: e], Geometry()).t.size == 0
    assert BK.peaks.above([lambda: e], Geometry(), cutoffs)[0].t.size == 0
    (found,) = BK.peaks.summits([lambda: e], Geometry(), cutoffs, max_gap=1, min_length=1, subpeaks=True)
    assert found.t.size == 0


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["cuts", "narrow window", "no background", "one-sided", "fragments"])
def test_the_sweep_that_skips_low_pileups_finds_the_same_segments(name, weighted):
    from gpuatac.backend.cpu.peaks.calling import _streams, sweeps

    rng = np.random.default_rng(3)
    for seed in range(6):
        start, end, group, count = fragments(40 + seed, n=900)
        start, end = start - start.min(), end - start.min()  # some at position 0
        streams = _streams(ends(start, end, group, count if weighted else None), 1, GEOMETRIES[name])
        least = rng.integers(2, 9, 20_000).astype(np.int32)
        run, low = streams.above(least, clip=True)
        assert low == 2
        plain = sweeps.above_weighted if weighted else sweeps.above_plain
        found = []
        for sweep, first in ((run, low), (plain, True)):
            out, state = np.zeros((4, 10_000), np.int32), np.zeros(sweeps.STATE, np.int64)
            n = sweep(*streams.tracks, first, least, state, out, 0)
            found.append(out[:, :n])
        assert found[0].shape[1] > 50
        np.testing.assert_array_equal(*found)
