"""Coverage of cuts, its inverse, scale factors and the hash of reads: against loops over the definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import uniform_filter1d

from gpuatac.core.tracks import cut_tracks
from gpuatac.core.tracks.cut_tracks import coverage_of, cuts_of_coverage
from gpuatac.errors import InputError


def covered(cuts, half_width):
    """How many cuts lie within ``half_width`` of each base, counted cut by cut."""
    out = np.zeros(cuts.size, np.int64)
    for at, times in enumerate(cuts.tolist()):
        out[max(0, at - half_width) : at + half_width + 1] += times
    return out


def random_cuts(size, n, seed):
    return np.bincount(np.random.default_rng(seed).integers(0, size, n), minlength=size)


# ------------------------------------------------------------------------------------------- coverage


@pytest.mark.parametrize(("size", "half_width"), [(1, 0), (1, 100), (50, 100), (700, 0), (700, 5), (3000, 100)])
def test_coverage_counts_the_cuts_around_each_base(bk, size, half_width):
    cuts = random_cuts(size, size, 1)
    found = coverage_of(bk, bk.asarray(cuts), half_width)
    assert bk.to_host(found).tolist() == covered(cuts, half_width).tolist()
    if size > 2 * half_width:
        inner = coverage_of(bk, bk.asarray(cuts), half_width, inner=True)
        assert bk.to_host(inner).tolist() == covered(cuts, half_width)[half_width : size - half_width].tolist()


def test_coverage_runs_along_the_last_axis_and_is_exact_in_float32(bk):
    cuts = np.random.default_rng(2).integers(0, 9, (3, 2, 500)).astype(np.float32)
    cuts[0] *= 100_000  # sums beyond 2^24, where float32 would lose ones
    found = bk.to_host(coverage_of(bk, bk.asarray(cuts), 40))
    expected = uniform_filter1d(cuts.astype(np.float64), 81, axis=-1, mode="constant") * 81
    np.testing.assert_array_equal(found, np.rint(expected))


# ------------------------------------------------------------------------------------------- inversion


@pytest.mark.parametrize("half_width", [0, 1, 5, 100])
@pytest.mark.parametrize("density", [0.003, 0.05, 0.4])
def test_inversion_gives_back_every_cut(bk, half_width, density):
    size = 60 * (2 * half_width + 1) + 17
    cuts = random_cuts(size, int(density * size), 3)
    coverage = coverage_of(bk, bk.asarray(cuts), half_width, inner=True)
    found = cuts_of_coverage(bk, coverage, half_width)
    assert found.certain
    assert found.cuts.dtype == np.int32
    assert bk.to_host(found.cuts).tolist() == cuts.tolist()
    as_float = cuts_of_coverage(bk, coverage.astype(np.float32), half_width)
    assert bk.to_host(as_float.cuts).tolist() == cuts.tolist()


@pytest.mark.parametrize("stops", [[900], [1, 2, 3], [200, 201, 202, 403], [5, 800, 1100]])
def test_pieces_in_turn_give_the_cuts_of_the_whole(bk, stops):
    cuts = random_cuts(2200, 100, 4)
    coverage = coverage_of(bk, bk.asarray(cuts), 100, inner=True)
    found, before, at = [], bk.asarray(cuts[:200]), 0
    for stop in [*stops, 2000]:
        piece = cuts_of_coverage(bk, coverage[at:stop], 100, before=before)
        found.append(bk.to_host(piece.cuts)[200:])
        before, at = piece.cuts[-200:], stop
    assert np.concatenate(found).tolist() == cuts[200:].tolist()


def test_short_dense_stretch_is_uncertain_and_keeps_its_coverage(bk):
    cuts = random_cuts(300, 9000, 5)
    coverage = coverage_of(bk, bk.asarray(cuts), 20, inner=True)
    found = cuts_of_coverage(bk, coverage, 20)
    assert not found.certain
    assert (found.cuts >= 0).all()
    again = coverage_of(bk, found.cuts, 20, inner=True)
    assert bk.to_host(again).tolist() == bk.to_host(coverage).tolist()


def test_bases_beyond_the_chromosome_make_a_dense_one_certain(bk):
    # 20 bases before and 20 behind a chromosome of 123 are without cuts, and those are in 40 of the 41 phases
    cuts = np.zeros(163, np.int64)
    cuts[20:143] = np.random.default_rng(6).integers(1, 9, 123)
    coverage = coverage_of(bk, bk.asarray(cuts), 20, inner=True)
    assert not cuts_of_coverage(bk, coverage, 20).certain
    found = cuts_of_coverage(bk, coverage, 20, outside=(20, 20))
    assert found.certain
    assert bk.to_host(found.cuts).tolist() == cuts.tolist()


def random_coverage(seed=7):
    cuts = random_cuts(3000, 60, seed)
    return covered(cuts, 10)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c + 0.5 * (np.arange(c.size) == 77), "77 bp into the stretch is no whole number"),
        (lambda c: c - 9 * (np.arange(c.size) == 78), "78 bp into the stretch is negative"),
        (lambda c: np.repeat(c.reshape(-1, 20).max(axis=1), 20), "sum of"),
        (lambda c: uniform_filter1d(10 * c, 31), "sum of"),
        (lambda c: np.where(np.arange(c.size) == 1500, c + 1, c), "sum of"),
    ],
    ids=["broken", "negative", "binned", "smoothed", "one base"],
)
def test_what_is_no_sum_of_cuts_is_refused(bk, damage, message):
    with pytest.raises(InputError, match=message):
        cuts_of_coverage(bk, bk.asarray(damage(random_coverage())), 10)


def test_coverage_of_another_width_is_refused(bk):
    coverage = bk.asarray(random_coverage())
    assert cuts_of_coverage(bk, coverage, 10).certain
    for other in (9, 11, 100):
        with pytest.raises(InputError, match="sum of"):
            cuts_of_coverage(bk, coverage, other)


def test_cuts_outside_the_chromosome_are_refused(bk):
    cuts = np.zeros(400, np.int64)
    cuts[[3, 200]] = 1
    coverage = coverage_of(bk, bk.asarray(cuts), 10, inner=True)
    assert cuts_of_coverage(bk, coverage, 10, outside=(3, 10)).certain
    with pytest.raises(InputError, match="outside the chromosome"):
        cuts_of_coverage(bk, coverage, 10, outside=(4, 10))


# ----------------------------------------------------------------------------------------------- scale


@pytest.mark.parametrize("factor", [1.0, 0.2, 1 / 37.25, 1e6 / 5_123_457, 3.7])
def test_factor_of_a_scaled_track_is_found_in_float32(factor):
    rng = np.random.default_rng(8)
    counts = np.concatenate([rng.geometric(0.3, 3000), rng.integers(1, 20_000, 50)])
    found = cut_tracks.factor_of((counts * factor).astype(np.float32))
    assert found == pytest.approx(factor, rel=1e-6)


def test_factor_is_found_where_the_least_value_stands_for_several_cuts():
    counts = np.array([2, 3, 5, 8, 13])
    assert cut_tracks.factor_of((counts * 0.3).astype(np.float32)) == pytest.approx(0.3, rel=1e-6)


def test_no_factor_for_a_smoothed_track():
    assert cut_tracks.factor_of(np.random.default_rng(9).gamma(2, 1, 2000)) is None
    assert cut_tracks.factor_of(np.array([-1.0, 2.0])) is None
    assert cut_tracks.factor_of(np.array([])) is None


# -------------------------------------------------------------------------------------- bins and reads


def test_bins_hold_sums(bk):
    cuts = np.arange(24, dtype=np.int32).reshape(2, 12)
    assert bk.to_host(cut_tracks.binned(bk, bk.asarray(cuts), 4)).tolist() == [[6, 22, 38], [54, 70, 86]]


def test_hash_is_that_of_splitmix64(bk):
    # the first outputs of splitmix64 for seed 1234567, from the generator's published test
    state, golden = 1234567, 0x9E3779B97F4A7C15
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    seeds = [(state + k * golden) % 2**64 for k in range(5)]
    assert [cut_tracks.mixed(seed) for seed in seeds] == expected
    assert bk.to_host(cut_tracks.mixed(bk.asarray(np.array(seeds, np.uint64)))).tolist() == expected


def test_hash_of_arrays_equals_that_of_ints(bk):
    a, b = np.array([0, 5, 2**40, -1]), np.array([7, 0, 1, 2**62])
    found = cut_tracks.mixed(99, bk.asarray(a), bk.asarray(b))
    assert bk.to_host(found).tolist() == [
        cut_tracks.mixed(99, x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)
    ]


def test_hashes_are_spread_evenly_and_below_nests(bk):
    key = cut_tracks.mixed(3, bk.asarray(np.arange(100_000)))
    kept = [bk.to_host(cut_tracks.below(key, share)) for share in (0.0, 0.1, 0.5, 1.0)]
    assert [k.mean() for k in kept] == pytest.approx([0, 0.1, 0.5, 1], abs=0.01)
    assert not kept[0].any()
    assert kept[3].all()
    assert (kept[2] >= kept[1]).all()
    byte = (bk.to_host(key) >> np.uint64(40)).astype(np.int64) & 255
    deviation = ((np.bincount(byte, minlength=256) - 390.625) ** 2 / 390.625).sum()
    assert 160 < deviation < 370  # chi-square of 255 degrees


def test_copies_and_ranks(bk):
    item, number = cut_tracks.repeated(bk, bk.asarray(np.array([2, 0, 3, 1])))
    assert bk.to_host(item).tolist() == [0, 0, 2, 2, 2, 3]
    assert bk.to_host(number).tolist() == [0, 1, 0, 1, 2, 0]
    a, b = bk.asarray(np.array([1, 1, 1, 2, 2, 2])), bk.asarray(np.array([4, 4, 5, 5, 5, 5]))
    assert bk.to_host(cut_tracks.rank_among_equals(bk, a, b)).tolist() == [0, 1, 0, 0, 1, 2]
    assert cut_tracks.rank_among_equals(bk, a[:0], b[:0]).size == 0


def test_empty_stretches_leave_the_half_width_on_both_sides(bk):
    occupied = np.zeros(20, bool)
    occupied[[0, 7, 8, 12]] = True
    found = cut_tracks.empty_stretches(bk, bk.asarray(occupied), 10, start=1000, half_width=16)
    assert found.tolist() == [[1026, 1054], [1146, 1184]]


# ------------------------------------------------------------------------------------------- real data


def test_real_tracks_invert_to_cuts_and_back(data_dir):
    import h5py

    from gpuatac.backend import get

    bk = get("cpu")
    folder = data_dir / "denoise" / "hsc_5m_to_80m_hg19"
    with h5py.File(folder / "HSC.5M.chr123.10mb.coverage.bw.val.h5") as file:
        for name in ("input", "label_reg"):
            track = file[name][100:140].ravel()
            found = cuts_of_coverage(bk, track, 100)
            assert found.certain
            assert found.cuts.sum() > 0.99 * track.sum() / 201
            assert (coverage_of(bk, found.cuts, 100, inner=True) == track).all()
