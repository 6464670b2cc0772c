"""Smoothing baselines against SciPy's filters, and their tuning against scikit-learn and SciPy's solvers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d, uniform_filter1d
from scipy.optimize import nnls
from sklearn.linear_model import LogisticRegression

from gpuatac.core.tracks import smoothing
from gpuatac.core.tracks.smoothing import MIXED, RAW, Tuning, box, gaussians, rounded, shapes
from gpuatac.errors import InputError

N = 30_000


def cut_sites(seed, n=N, rate=0.002):
    rng = np.random.default_rng(seed)
    at = np.concatenate([rng.integers(0, n, int(n * rate)), np.clip(rng.normal(n / 3, 60, 80).astype(int), 0, n - 1)])
    return np.bincount(at, minlength=n).astype(np.float32)


def coverage(cuts):
    return np.convolve(cuts, np.ones(201))[100:-100].astype(np.float32)


@pytest.mark.parametrize("width", [1, 201, 401])
def test_box_is_the_mean_around_each_base_with_zeros_outside(bk, width):
    track = coverage(cut_sites(1))
    found = bk.to_host(box(bk, bk.asarray(track), width))
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found, uniform_filter1d(track.astype(float), width, mode="constant"), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("n", [700, N])
def test_gaussians_are_those_of_scipy_and_zero_out_of_reach(bk, n, monkeypatch):
    monkeypatch.setattr(smoothing, "FFT_LENGTH", 1 << 12)  # several blocks
    cuts = cut_sites(2, n, 0.0005)
    sds = [3.0, 80.0, 150.0] if n < N else [80.0, 250.0, 400.0]
    for sd, found in zip(sds, gaussians(bk, bk.asarray(cuts), sds, factor=201.0), strict=True):
        expected = 201 * gaussian_filter1d(cuts.astype(float), sd, mode="constant", truncate=4.0)
        np.testing.assert_allclose(bk.to_host(found), expected, rtol=1e-5, atol=1e-9)
        np.testing.assert_array_equal(bk.to_host(found) == 0, expected == 0)


def test_empty_track_stays_empty(bk):
    assert not any(bool(track.any()) for track in gaussians(bk, bk.xp.zeros(5000, np.float32), [80.0, 1500.0]))


def test_rounding_keeps_twelve_bits(bk):
    values = np.concatenate([[0.0, 1.0, 3.0, 4095.0], np.random.default_rng(0).gamma(0.5, 30, 1000)]).astype(np.float32)
    found = bk.to_host(rounded(bk, bk.asarray(values)))
    np.testing.assert_array_equal(found[:4], values[:4])
    assert np.abs(found / np.where(values, values, 1) - (values > 0)).max() <= 2.0**-12
    assert not (found.view(np.uint32) & 0xFFF).any()


def test_mix_factors_and_signal_are_those_of_least_squares(bk):
    cuts = cut_sites(3)
    rng = np.random.default_rng(3)
    noisy, label = coverage(cuts), np.zeros(N, np.float32)
    clean = (5 * noisy + 2 * gaussian_filter1d(noisy.astype(float), 250) + rng.normal(0, 0.3, N)).astype(np.float32)
    label[N // 3 - 200 : N // 3 + 200] = 1
    clean[100:400] = np.nan
    known = ~np.isnan(clean)
    made = shapes(bk, bk.asarray(noisy), bk.asarray(cuts))
    tuning = Tuning(bk)
    half = N // 2
    for part in (slice(None, half), slice(half, None)):
        tuning.add({k: v[part] for k, v in made.items()}, bk.asarray(clean[part]), bk.asarray(label[part]))
    tuned = tuning.fit(scale="least-squares")
    tracks = {name: bk.to_host(track)[known].astype(float) for name, track in made.items()}
    y = clean[known].astype(float)
    assert list(tuned.factors) == [RAW, "box 201", "box 401", "Gaussian 80", "Gaussian 150", "Gaussian 250"]
    for name, factor in tuned.factors.items():
        assert factor == pytest.approx(np.linalg.lstsq(tracks[name][:, None], y, rcond=None)[0][0], rel=1e-6)
    design = np.stack([tracks[name] for name in (RAW, "Gaussian 60", "Gaussian 250", "Gaussian 1500")], axis=1)
    weights, _ = nnls(design, y)
    np.testing.assert_allclose(design @ np.array(tuned.signal_mix), design @ weights, rtol=1e-4, atol=1e-3)
    assert tuning.fit().factors[RAW] == pytest.approx(y.sum() / tracks[RAW].sum())
    assert tuning.fit(depth_ratio=16.0).factors["box 201"] == 16.0


def test_log_mix_is_logistic_regression_of_the_labels(bk):
    cuts = cut_sites(4)
    rng = np.random.default_rng(4)
    noisy = coverage(cuts)
    made = shapes(bk, bk.asarray(noisy), bk.asarray(cuts))
    broad = bk.to_host(made["Gaussian 250"])
    label = (rng.random(N) < 1 / (1 + np.exp(4 - broad))).astype(np.float32)
    tuning = Tuning(bk)
    tuning.add(made, bk.asarray(noisy * 3), bk.asarray(label))
    tuned = tuning.fit()
    names = ("Gaussian 60", "Gaussian 250", "Gaussian 1500")
    rows = slice(None, None, smoothing.EVERY)
    features = np.stack([np.log(bk.to_host(made[name])[rows] + tuned.floor) for name in names], axis=1)
    fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(features, label[rows])
    np.testing.assert_allclose(tuned.log_mix, fitted.coef_[0], rtol=0.02, atol=0.01)
    out = tuned.apply(bk, made)
    assert set(out) == {*tuned.factors, MIXED}
    whole = np.stack([np.log(bk.to_host(made[name]) + tuned.floor) for name in names], axis=1) @ np.array(tuned.log_mix)
    np.testing.assert_allclose(bk.to_host(out[MIXED].score), whole, atol=1 / 1024)


def test_one_class_ranks_by_the_mixed_signal_and_no_data_is_refused(bk):
    cuts = cut_sites(5)
    noisy = bk.asarray(coverage(cuts))
    made = shapes(bk, noisy, None)
    tuning = Tuning(bk)
    tuning.add(made, noisy * 2, bk.xp.zeros(N, np.float32))
    found = tuning.fit().apply(bk, made)[MIXED]
    assert found.score is found.signal
    empty = Tuning(bk)
    empty.add({name: track * 0 for name, track in made.items()}, noisy, bk.xp.zeros(N, np.float32))
    with pytest.raises(InputError, match="0 on all tuning chromosomes"):
        empty.fit()


def test_log_mix_of_thinned_rows_is_about_that_of_all(bk, monkeypatch):
    cuts = cut_sites(6)
    made = shapes(bk, bk.asarray(coverage(cuts)), bk.asarray(cuts))
    broad = bk.to_host(made["Gaussian 250"])
    label = bk.asarray((np.random.default_rng(6).random(N) < 1 / (1 + np.exp(4 - broad))).astype(np.float32))

    def fitted(most):
        monkeypatch.setattr(smoothing, "MOST_ROWS", most)
        tuning = Tuning(bk)
        for part in (slice(None, 9000), slice(9000, None)):
            tuning.add({k: v[part] for k, v in made.items()}, made[RAW][part], label[part])
        rows = sum(of_label.size for _, of_label in tuning._rows)
        return rows, bk.to_host(tuning.fit().apply(bk, made)[MIXED].score)

    n_all, whole = fitted(1 << 20)
    n_few, thinned = fitted(1200)
    assert n_few <= 1200 < n_all
    assert np.corrcoef(whole, thinned)[0, 1] > 0.95
