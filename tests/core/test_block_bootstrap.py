"""The block bootstrap against recomputing every draw base by base."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import average_precision_score, roc_auc_score

from gpuatac.core.tracks.block_bootstrap import (
    block_sums,
    draws,
    joined,
    paired_intervals,
    resampled,
    score_edges,
    whole,
)
from gpuatac.core.tracks.track_metrics import Tally

BLOCK = 500
N = 20_250  # the last block is shorter


def tracks(seed, n=N):
    rng = np.random.default_rng(seed)
    rate = np.repeat(rng.gamma(0.3, 8, n // 25 + 1), 25)[:n]
    clean, signal = rng.poisson(rate).astype(np.float32), rng.poisson(rate / 2).astype(np.float32)
    label = (rate > np.quantile(rate, 0.95)).astype(np.float32)
    score = (rate + rng.gamma(1, 4, n)).astype(np.float32)
    clean[3000:3700] = np.nan  # one block and a part of the next
    return signal, score, clean, label


def blocks_of(bk, arrays, n_bins=4096):
    tally = Tally.of(bk, *(bk.asarray(v) for v in arrays))
    edges = score_edges(type(tally.curve())(*map(bk.to_host, tally.curve())), n_bins)
    cut = 16 * BLOCK
    parts = [
        block_sums(bk, *(bk.asarray(v[at]) for v in arrays), edges=edges, block=BLOCK)
        for at in (slice(None, cut), slice(cut, None))
    ]
    return joined(parts)


def oracle(arrays, times):
    """Each measure of one draw on all of its bases, one block after the other."""
    rows = np.concatenate([np.tile(np.arange(i * BLOCK, min((i + 1) * BLOCK, N)), k) for i, k in enumerate(times) if k])
    signal, score, clean, label = (v[rows] for v in arrays)
    kept = ~np.isnan(clean)
    signal, score, clean, label = signal[kept].astype(float), score[kept], clean[kept].astype(float), label[kept]
    return {
        "mse": np.mean((signal - clean) ** 2),
        "pearson": pearsonr(signal, clean)[0],
        "auroc": roc_auc_score(label, score),
        "auprc": average_precision_score(label, score),
    }


def test_each_draw_gives_the_measures_of_its_bases(bk):
    arrays = tracks(1)
    blocks = blocks_of(bk, arrays)
    times = draws(blocks.sums.shape[0], 6, seed=3)
    assert (times.sum(axis=1) == times.shape[1]).all()
    found = resampled(blocks, times)
    for i, row in enumerate(times):
        expected = oracle(arrays, row)
        for name in ("mse", "pearson"):
            assert found[name][i] == pytest.approx(expected[name], rel=1e-9)
        assert found["auroc"][i] == pytest.approx(expected["auroc"], abs=5e-5)
        assert found["auprc"][i] == pytest.approx(expected["auprc"], abs=1e-3)


def test_areas_are_exact_where_every_score_has_a_bin(bk):
    signal, score, clean, label = tracks(2)
    arrays = (signal, np.round(score), clean, label)
    blocks = blocks_of(bk, arrays, 50_000)
    expected = oracle(arrays, np.ones(blocks.sums.shape[0], int))
    for name, value in whole(blocks).items():
        assert value == pytest.approx(expected[name], rel=1e-9), name


def test_interval_is_the_quantile_of_differences_over_the_same_draws(bk):
    signal, score, clean, label = tracks(4)
    better = (signal, (score + 30 * label).astype(np.float32), clean, label)
    methods = {"a": blocks_of(bk, better), "b": blocks_of(bk, (signal * 0.9, score, clean, label))}
    found = paired_intervals(methods, [("a", "b"), ("b", "a"), ("a", "a")], n=200, seed=5, level=0.9)
    present = methods["a"].sums[:, 0] > 0
    assert present.sum() == present.size - 1
    times = np.zeros((200, present.size), np.int32)
    times[:, present] = draws(int(present.sum()), 200, seed=5)
    gaps = resampled(methods["a"], times)["auprc"] - resampled(methods["b"], times)["auprc"]
    one = found["a", "b"]["auprc"]
    assert (one.low, one.high) == pytest.approx(np.quantile(gaps, [0.05, 0.95]))
    assert 0 < one.low < one.difference < one.high
    assert found["b", "a"]["auprc"].low == pytest.approx(-one.high)
    assert found["a", "a"]["mse"] == (0, 0, 0)


def test_interval_covers_a_known_difference_at_its_level():
    """Blocks of known spread: MSE differs by 0.1 on average; 90 % intervals hold that in about 90 of 100 tries."""
    rng = np.random.default_rng(6)
    from gpuatac.core.tracks.block_bootstrap import Blocks

    def blocks(values):
        sums = np.zeros((values.size, 6))
        sums[:, 0], sums[:, 2], sums[:, 4] = 1, np.sqrt(values), values  # x = 0, y^2 = the block's squared error
        return Blocks(sums, None, None)

    held = 0
    for seed in range(100):
        shared, own = rng.gamma(2, 1, 80), rng.normal(0.1, 0.3, 80)
        pair = {"a": blocks(shared + own + 2), "b": blocks(shared + 2)}
        low, high = paired_intervals(pair, [("a", "b")], n=300, seed=seed, level=0.9)["a", "b"]["mse"][1:]
        held += low <= 0.1 <= high
    assert 80 <= held <= 97


def test_one_class_and_missing_parts_give_nan(bk):
    signal, score, clean, _ = tracks(7)
    none = blocks_of(bk, (signal, score, clean, np.zeros(N, np.float32)))
    assert np.isnan(whole(none)["auprc"])
    assert whole(none)["mse"] > 0
    found = paired_intervals({"a": none, "b": none}, [("a", "b")], n=10, seed=0)["a", "b"]["auprc"]
    assert all(np.isnan(found))
