"""Differences of tracks from random aggregates: dense loops over bases, SciPy, shapes of the stretches, GPU like CPU."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import false_discovery_control, norm

from gpuatac.core.differential import track_differences as core
from gpuatac.core.differential.track_differences import Background

CHROM = np.array([0, 0, 0, 1, 1])
START = np.array([100, 3000, 2000, 50, 400])
END = np.array([1500, 4000, 3100, 350, 1400])  # the second and the third overlap


@pytest.fixture
def stretches():
    return core.stretches_of(CHROM, START, END)


def tracks_of(seed, n, n_bases):
    """Bumpy tracks, zero over some bases in all of them, and one value everywhere in others."""
    rng = np.random.default_rng(seed)
    knots = rng.gamma(2.0, 3.0, (n, n_bases // 40 + 2))
    x = np.array([np.interp(np.arange(n_bases), np.arange(row.size) * 40, row) for row in knots], np.float32)
    x *= rng.uniform(0.2, 5, (n, 1)).astype(np.float32)
    x[:, 300:420] = 0
    return x


def by_loops(track, background, stretches, cutoff, max_gap):
    """(chrom, start, end, summit, z, coverage, background) of each region, base by base, of tracks scaled to mean 1."""
    scaled = np.array([row / row.mean(dtype=np.float64) for row in background.astype(np.float64)])
    own = track.astype(np.float64) / track.mean(dtype=np.float64)
    mean, sd = scaled.mean(axis=0), scaled.std(axis=0, ddof=1)
    z = np.zeros(own.size)
    z[sd > 0] = (own[sd > 0] - mean[sd > 0]) / sd[sd > 0]
    regions, at = [], 0
    for chrom, start, end in zip(stretches.chrom, stretches.start, stretches.end, strict=True):
        for position in range(start, end):
            if abs(z[at]) > cutoff:
                if regions and regions[-1][0] == chrom and position - regions[-1][2] <= max_gap:
                    regions[-1][2] = position + 1
                    regions[-1][4] = at + 1
                else:
                    regions.append([chrom, position, position + 1, at, at + 1])
            at += 1
    out = []
    for chrom, start, end, a, b in regions:
        best = a + int(np.argmax(np.abs(z[a:b])))
        where = np.concatenate([np.arange(s, e) for s, e in zip(stretches.start, stretches.end, strict=True)])
        out.append((chrom, start, end, where[best], z[best], own[a:b].mean(), mean[a:b].mean()))
    return out


def made(bk, background, batches=(7, 1, 12)):
    out = Background(bk, background.shape[1])
    low = 0
    for n in batches:
        part = bk.asarray(background[low : low + n])
        out.add(part, core.scale_factors(bk, part))
        low += n
    assert low == len(background)
    return out


def test_stretches_that_overlap_are_one_and_entries_know_their_place(stretches):
    assert stretches.chrom.tolist() == [0, 0, 1, 1]
    assert stretches.start.tolist() == [100, 2000, 50, 400]
    assert stretches.end.tolist() == [1500, 4000, 350, 1400]
    assert stretches.n_bases == 1400 + 2000 + 300 + 1000
    chrom, position = stretches.positions(np.array([0, 1399, 1400, 3399, 3400, 4699]))
    assert chrom.tolist() == [0, 0, 0, 0, 1, 1]
    assert position.tolist() == [100, 1499, 2000, 3999, 50, 1399]


@pytest.mark.parametrize("piece", [1 << 24, 1000])
def test_mean_and_sd_of_batches_are_those_of_all_tracks(bk, stretches, monkeypatch, piece):
    monkeypatch.setattr(core, "PIECE", piece)
    x = tracks_of(0, 20, stretches.n_bases)
    background = made(bk, x)
    scaled = x.astype(np.float64) / x.mean(axis=1, dtype=np.float64)[:, None]
    np.testing.assert_allclose(bk.to_host(background.mean), scaled.mean(axis=0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(bk.to_host(background.sd()), scaled.std(axis=0, ddof=1), rtol=1e-9, atol=1e-14)


def test_the_spread_of_a_large_constant_is_not_lost_in_rounding(bk):
    rng = np.random.default_rng(1)
    x = (1e4 + rng.normal(0, 0.5, (40, 50))).astype(np.float32)
    background = Background(bk, 50)
    for row in x:
        background.add(bk.asarray(row[None]), np.ones(1))
    np.testing.assert_allclose(bk.to_host(background.sd()), x.astype(float).std(axis=0, ddof=1), rtol=1e-9)


@pytest.mark.parametrize("piece", [1 << 24, 777])
@pytest.mark.parametrize(("cutoff", "max_gap"), [(2.0, 200), (1.5, 20), (2.0, 0)])
def test_regions_are_those_of_a_loop_over_bases(bk, stretches, monkeypatch, cutoff, max_gap, piece):
    monkeypatch.setattr(core, "PIECE", piece)
    x, track = tracks_of(2, 20, stretches.n_bases), tracks_of(3, 1, stretches.n_bases)[0]
    own = bk.asarray(track)
    factor = core.scale_factors(bk, own[None])[0]
    found = core.differences(bk, own, factor, made(bk, x), stretches, cutoff=cutoff, max_gap=max_gap)
    want = by_loops(track, x, stretches, cutoff, max_gap)
    assert len(want) > 3
    got = list(zip(found.chrom, found.start, found.end, found.summit, strict=True))
    assert got == [row[:4] for row in want]
    np.testing.assert_allclose(found.z, [row[4] for row in want], rtol=1e-6)
    np.testing.assert_allclose(found.coverage, [row[5] for row in want], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.background, [row[6] for row in want], rtol=1e-9)
    np.testing.assert_allclose(found.p, 2 * norm.sf(np.abs(found.z)), rtol=1e-12)
    np.testing.assert_allclose(found.q, false_discovery_control(found.p), rtol=1e-12)
    assert {type(column) for column in found} == {np.ndarray}
    assert (found.z < 0).any()
    assert (found.z > 0).any()


def test_a_base_201_bp_behind_the_last_begins_a_new_region():
    stretches = core.stretches_of(np.zeros(1, int), np.zeros(1, int), np.array([1000]))
    from gpuatac.backend import get

    bk = get("cpu")
    rng = np.random.default_rng(4)
    background = Background(bk, 1000)
    background.add(rng.normal(10, 1, (200, 1000)).astype(np.float32), np.ones(200))
    track = bk.to_host(background.mean).astype(np.float32)
    track[[100, 301]] += 100  # 200 bases between
    track[[502 + 1]] -= 100  # 201 bases between
    found = core.differences(bk, track, 1.0, background, stretches)
    assert list(zip(found.start, found.end, strict=True)) == [(100, 302), (503, 504)]
    assert found.z[0] > 50
    assert found.z[1] < -50
    kept = core.significant(found, fdr=0.05, min_coverage=5.0)
    assert kept.tolist() == [True, True]
    assert core.significant(found, min_coverage=9.9).tolist() == [True, True]  # the background reaches it
    assert core.significant(found, min_coverage=12.0).tolist() == [False, False]


def test_where_the_background_does_not_vary_nothing_is_called(bk):
    stretches = core.stretches_of(np.zeros(1, int), np.zeros(1, int), np.array([500]))
    background = Background(bk, 500)
    same = np.tile(np.linspace(0, 3, 500, dtype=np.float32), (6, 1))
    scale = np.array([0.1, 3.0, 7.0, 11.0, 0.7, 0.3])
    background.add(bk.asarray((same / scale[:, None]).astype(np.float32)), scale)  # equal but for roundings
    track = bk.asarray(np.full(500, 9, np.float32))
    found = core.differences(bk, track, 1.0, background, stretches)
    assert found.start.size == found.q.size == 0


def test_a_track_of_zeros_has_no_factor(bk):
    x = np.zeros((2, 100), np.float32)
    x[1] = 4
    assert core.scale_factors(bk, bk.asarray(x)).tolist() == [np.inf, 0.25]


def test_published_fdr_keeps_every_region_and_the_empirical_one_few_of_those_by_chance():
    from gpuatac.backend import get

    bk, n = get("cpu"), 60_000
    rng = np.random.default_rng(6)
    rate = 0.2 + 2 * (np.arange(n) % 5000 < 300)
    stretches = core.stretches_of(np.zeros(1, int), np.zeros(1, int), np.array([n]))

    def track(more=0.0):
        cuts = rng.poisson((rate + more) * 0.1)
        return np.convolve(cuts, np.ones(301) / 301, "same").astype(np.float32)

    background = Background(bk, n)
    for _ in range(60):
        one = track()[None]
        background.add(one, core.scale_factors(bk, one))

    def regions(values):
        return core.differences(bk, values, core.scale_factors(bk, values[None])[0], background, stretches)

    null = [regions(track()) for _ in range(12)]
    planted = regions(track(3.0 * (np.abs(np.arange(n) - 32_500) < 300)))
    for found in (*null, planted):
        assert core.significant(found).all()
        assert found.z.size > 5
    tops = [np.abs(found.z) for found in null]
    kept = np.concatenate([core.empirical_q(tops[i], tops[:i] + tops[i + 1 :]) < 0.05 for i in range(12)])
    assert kept.mean() < 0.05
    q = core.empirical_q(np.abs(planted.z), tops)
    here = (planted.start < 32_600) & (planted.end > 32_400)
    assert (q[here] < 0.05).all()
    assert here.sum() == 1


def test_the_empirical_rate_is_a_ratio_of_counts_made_monotone():
    rng = np.random.default_rng(7)
    top, null = np.round(rng.gamma(3, 1, 40) + 2, 1), [np.round(rng.gamma(2, 1, k) + 2, 1) for k in (9, 0, 30)]
    every = np.concatenate(null)
    rate = {t: min(1.0, (every >= t).sum() / 3 / (top >= t).sum()) for t in top}
    want = [min(rate[t] for t in top if t <= z) for z in top]
    np.testing.assert_allclose(core.empirical_q(top, null), want)
    assert core.empirical_q(np.zeros(0), null).size == 0
    assert core.empirical_q(top, [np.zeros(0)]).tolist() == [0.0] * 40
