"""Measures of tracks against SciPy and scikit-learn on every base."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

from gpuatac.core.tracks import track_metrics
from gpuatac.core.tracks.track_metrics import Tally, evaluate, measures, merged
from gpuatac.errors import InputError


def tracks(seed, n=4000):
    """Counts with ties: a noisy copy of a lumpy track, its peaks, and a score of few values."""
    rng = np.random.default_rng(seed)
    rate = np.repeat(rng.gamma(0.3, 8, n // 20 + 1), 20)[:n]
    clean, signal = rng.poisson(rate).astype(np.float32), rng.poisson(rate / 4).astype(np.float32) * 4
    label = rate > np.quantile(rate, 0.9)
    score = np.round(np.clip(rate / rate.max() + rng.normal(0, 0.1, n), 0, 1), 2).astype(np.float32)
    return signal, score, clean, label.astype(np.float32)


def oracle(signal, score, clean, label, threshold):
    """Every number, by SciPy and scikit-learn on arrays of single bases."""
    signal, clean = signal.astype(np.float64), clean.astype(np.float64)
    out = {}
    for end, rows in (("", slice(None)), ("_inside", label > 0), ("_outside", label == 0)):
        x, y = signal[rows], clean[rows]
        out |= {f"bases{end}": x.size, f"mse{end}": np.mean((x - y) ** 2), f"pearson{end}": pearsonr(x, y)[0],
                f"spearman{end}": spearmanr(x, y)[0]}  # fmt: skip
    precision, recall, f1, _ = precision_recall_fscore_support(label, score >= np.float32(threshold), average="binary")
    ranked = {"auroc": roc_auc_score(label, score), "auprc": average_precision_score(label, score)}
    return out | ranked | {"precision": precision, "recall": recall, "f1": f1}


def agree(found, expected):
    numbers = {name: value for name, value in found.items() if name != "undefined"}
    assert set(numbers) == set(expected)
    for name, value in expected.items():
        assert numbers[name] == pytest.approx(value, rel=1e-10, abs=1e-12), name


@pytest.mark.parametrize("seed", range(3))
def test_every_measure_is_that_of_scipy_and_scikit_learn(bk, seed):
    signal, score, clean, label = tracks(seed)
    found = evaluate(*(bk.asarray(v) for v in (signal, score, clean, label)), threshold=0.3, bk=bk)
    agree(found, oracle(signal, score, clean, label, 0.3))
    assert found["undefined"] == {}


def test_weights_count_as_copies_of_a_base(bk):
    signal, score, clean, label = tracks(5, 900)
    copies = np.random.default_rng(5).integers(0, 6, 900)
    long = [np.repeat(v, copies) for v in (signal, score, clean, label)]
    found = evaluate(
        *(bk.asarray(v) for v in (signal, score, clean, label)), weights=bk.asarray(copies), threshold=0.4, bk=bk
    )
    agree(found, oracle(*long, 0.4))


def test_unknown_and_masked_bases_are_left_out_of_everything():
    signal, score, clean, label = tracks(6)
    known = np.random.default_rng(6).random(clean.size) < 0.7
    masked = np.arange(clean.size) >= 300
    kept = known & masked
    broken = np.where(known, clean, np.nan)
    signal_there = np.where(kept, signal, np.nan)  # nobody looks there
    found = evaluate(signal_there, score, broken, label, masked, threshold=0.5)
    agree(found, oracle(signal[kept], score[kept], clean[kept], label[kept], 0.5))


def test_tallies_of_parts_add_up_to_that_of_the_whole(bk, monkeypatch):
    arrays = [bk.asarray(v) for v in tracks(7)]
    whole = measures(Tally.of(bk, *arrays), threshold=0.2)
    cuts = [0, 1, 700, 701, 2500, 4000]
    parts = [Tally.of(bk, *(v[a:b] for v in arrays)) for a, b in itertools.pairwise(cuts)]
    monkeypatch.setattr(track_metrics, "AT_ONCE", 333)
    for tally in (merged(parts), Tally.of(bk, *arrays)):
        again = measures(tally, threshold=0.2)
        for part, found in whole.items():
            assert again[part].pop("undefined") == found["undefined"]
            assert again[part] == pytest.approx({k: v for k, v in found.items() if k != "undefined"}, rel=1e-12), part


def test_negative_signals_and_minus_zero_keep_their_order():
    signal = np.array([-3.5, -0.0, 0.0, 2.0, -1.0, 7.0], np.float32)
    clean = np.array([0, 1, 1, 3, 0, 2], np.float32)
    found = evaluate(signal, None, clean, [0, 0, 1, 1, 0, 1])
    assert found["spearman"] == pytest.approx(spearmanr(signal, clean)[0], rel=1e-12)
    assert found["auprc"] == pytest.approx(average_precision_score([0, 0, 1, 1, 0, 1], signal), rel=1e-12)


def test_one_class_gives_nan_and_says_why():
    none = evaluate([1, 2, 3], None, [1, 2, 4], [0, 0, 0], threshold=0.5)
    assert np.isnan(none["auroc"])
    assert np.isnan(none["auprc"])
    assert np.isnan(none["f1"])
    assert none["undefined"]["auprc"] == "no base lies in a peak"
    assert none["undefined"]["mse_inside"] == "no base"
    assert none["mse"] == pytest.approx(1 / 3)
    every = evaluate([1, 2, 3], None, [1, 2, 4], [1, 1, 1])
    assert every["undefined"]["auroc"] == "every base lies in a peak"
    flat = evaluate([2, 2, 2], None, [1, 2, 4], [0, 1, 1])
    assert np.isnan(flat["pearson"])
    assert flat["undefined"]["spearman"] == "the signal is the same at every base"
    assert flat["auroc"] == 0.5
    low = evaluate([0, 0.1, 0.2], None, [0, 1, 2], [0, 0, 1], threshold=0.5)
    assert np.isnan(low["precision"])
    assert low["recall"] == 0
    assert low["undefined"]["precision"] == "no score reaches 0.5"
    nothing = evaluate([], None, [], [])
    assert nothing["bases"] == 0
    assert nothing["undefined"]["auroc"] == "no base"


def test_score_alone_is_ranked_and_signal_measures_say_why_not():
    found = evaluate(None, [0.1, 0.9, 0.4], [0, 5, 2], [0, 1, 0])
    assert found["auprc"] == 1.0
    assert found["undefined"]["mse"] == "no signal was given"


def test_bad_tracks_are_refused():
    with pytest.raises(InputError, match=r"as long as clean \(3,\), got signal \(2,\)"):
        evaluate([1, 2], None, [1, 2, 3], [0, 0, 1])
    with pytest.raises(InputError, match="1 of 3 values of the signal are NaN or infinite"):
        evaluate([1, np.inf, 2], [1, 2, 3], [1, 2, 3], [0, 0, 1])
    with pytest.raises(InputError, match="weights must be 0 or above"):
        evaluate([1, 2, 3], None, [1, 2, 3], [0, 0, 1], weights=[1, -1, 1])
    with pytest.raises(InputError, match="both None"):
        evaluate(None, None, [1], [1])
