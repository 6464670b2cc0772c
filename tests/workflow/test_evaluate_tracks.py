"""Comparison of tracks: numbers against SciPy and scikit-learn, tuning apart from evaluation, pieces equal to the whole."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pyBigWig
import pytest
from scipy.ndimage import gaussian_filter1d, uniform_filter1d
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

from gpuatac.backend import resolve
from gpuatac.core.tracks import smoothing
from gpuatac.core.tracks.track_metrics import evaluate
from gpuatac.errors import InputError, OutputExistsError
from gpuatac.genome import Genome
from gpuatac.io.tracks.atacworks_h5 import AtacworksH5, H5Tracks, Intervals
from gpuatac.io.tracks.file_tracks import FileTracks
from gpuatac.workflow.denoiser import evaluate_tracks
from gpuatac.workflow.denoiser.evaluate import evaluate_denoiser
from gpuatac.workflow.denoiser.evaluate_tracks import compare

SIZES = {"chr1": 300_000, "chr2": 250_000}
NAMES = ["raw", "box 201", "box 401", "Gaussian 80", "Gaussian 150", "Gaussian 250", "Gaussian mix"]


def library(seed, n):
    """Clean and noisy cuts over the same peaks, coverage of both, and the peaks."""
    rng = np.random.default_rng(seed)
    sites = np.sort(rng.integers(500, n - 500, n // 6000))
    at = [rng.integers(0, n, n // 50), *(rng.normal(s, 120, rng.integers(40, 160)) for s in sites)]
    deep = np.bincount(np.clip(np.concatenate(at).astype(int), 0, n - 1), minlength=n)
    noisy = rng.binomial(deep, 0.08)
    label = np.zeros(n, np.float32)
    for s in sites:
        label[s - 250 : s + 250] = 1
    return deep, noisy, label


def coverage(cuts):
    return np.convolve(cuts, np.ones(201))[100:-100].astype(np.float32)


@pytest.fixture(scope="module")
def data():
    out = {}
    for seed, (name, size) in enumerate(SIZES.items()):
        deep, cuts, label = library(seed, size)
        clean, noisy = coverage(deep), coverage(cuts)
        probability = np.clip(gaussian_filter1d(cuts * 100.0, 120), 0, 1).astype(np.float32)
        out[name] = {"clean": clean, "noisy": noisy, "cuts": cuts, "label": label, "probability": np.round(probability, 3),
                     "signal": np.round(12 * uniform_filter1d(noisy, 101), 1)}  # fmt: skip
    return out


def of(data, what):
    return {name: tracks[what] for name, tracks in data.items()}


def compared(data, **options):
    methods = {"net": (of(data, "signal"), of(data, "probability"))}
    return compare(
        methods, of(data, "clean"), of(data, "label"), noisy=of(data, "noisy"), cuts=of(data, "cuts"), **options
    )


def oracle(signal, score, clean, label):
    signal, clean = signal.astype(float), clean.astype(float)
    rows = {"whole": slice(None), "inside": label > 0, "outside": label == 0}
    out = {}
    for part, at in rows.items():
        x, y = signal[at], clean[at]
        out[part] = {"mse": np.mean((x - y) ** 2), "pearson": pearsonr(x, y)[0], "spearman": spearmanr(x, y)[0]}
    out["whole"] |= {"auroc": roc_auc_score(label, score), "auprc": average_precision_score(label, score)}
    return out


def check(found, expected, **tolerance):
    for part, values in expected.items():
        for name, value in values.items():
            assert found.loc[part, name] == pytest.approx(value, **tolerance), (part, name)


def rows_of(found, method, chromosome):
    table = found.table
    return table[(table["method"] == method) & (table["chromosome"] == chromosome)].set_index("part")


def test_every_method_stands_in_every_table(data):
    found = compared(data)
    assert (found.tuned_on, found.evaluated_on) == (["chr1"], ["chr2"])
    assert list(found.overall().index) == ["net", *NAMES]
    assert set(found.table["chromosome"]) == {"all", "chr2"}
    text = found.text()
    for name in ("net", *NAMES, "All bases (250,000)", "smoothings tuned on chr1", "auprc", "Called peaks"):
        assert name in text


def test_a_method_has_the_numbers_of_scipy_and_scikit_learn_by_chromosome_and_overall(data):
    found = compared(data, chroms=["chr1", "chr2"], tune=["chr1"])
    for name, tracks in data.items():
        expected = oracle(tracks["signal"], tracks["probability"], tracks["clean"], tracks["label"])
        check(rows_of(found, "net", name), expected, rel=1e-9)
    whole = {
        what: np.concatenate(list(of(data, what).values())) for what in ("signal", "probability", "clean", "label")
    }
    check(rows_of(found, "net", "all"), oracle(*whole.values()), rel=1e-9)
    called, label = whole["probability"] >= np.float32(0.5), whole["label"] > 0
    row = rows_of(found, "net", "all").loc["whole"]
    assert row["precision"] == pytest.approx(label[called].mean())
    assert row["recall"] == pytest.approx(called[label].mean())
    assert np.isnan(rows_of(found, "raw", "all").loc["whole", "precision"])


def test_smoothings_are_those_of_scipy_scaled_by_what_the_tuning_chromosome_says(data):
    found = compared(data)
    tuning, held = data["chr1"], data["chr2"]
    ratio = tuning["clean"].sum(dtype=float) / tuning["noisy"].sum(dtype=float)
    made = {
        "raw": held["noisy"] * ratio,
        "box 401": uniform_filter1d(held["noisy"].astype(float), 401, mode="constant") * ratio,
        "Gaussian 150": gaussian_filter1d(held["cuts"].astype(float), 150, mode="constant") * 201 * ratio,
    }
    for name, track in made.items():
        expected = oracle(track, track, held["clean"], held["label"])
        check(rows_of(found, name, "chr2"), expected, rel=2e-3)  # smoothings keep 12 bits
    fitted = compared(data, scale="least-squares").tuned.factors["raw"]
    x, y = tuning["noisy"].astype(float), tuning["clean"].astype(float)
    assert fitted == pytest.approx((x @ y) / (x @ x))
    assert compared(data, depth_ratio=7.0).tuned.factors["box 201"] == 7.0


def test_the_mix_beats_the_raw_track_where_it_was_not_tuned(data):
    overall = compared(data).overall()
    assert overall.loc["Gaussian mix", "auprc"] > overall.loc["raw", "auprc"] + 0.05
    assert overall.loc["Gaussian mix", "mse"] <= overall.loc["raw", "mse"]


def test_what_is_on_the_evaluated_chromosome_does_not_change_the_tuning(data):
    changed = {**data, "chr2": {**data["chr2"], "clean": data["chr2"]["clean"] * 3, "label": 1 - data["chr2"]["label"]}}
    assert compared(changed).tuned == compared(data).tuned


def test_pieces_give_the_numbers_of_whole_chromosomes(data, monkeypatch):
    options = {"bootstrap": 20, "block": 9_000, "seed": 1}
    whole = compared(data, **options)
    monkeypatch.setattr(evaluate_tracks, "PIECE", 36_000)
    pieces = compared(data, **options)
    pd.testing.assert_frame_equal(whole.table, pieces.table, rtol=1e-6)
    pd.testing.assert_frame_equal(whole.peaks, pieces.peaks)
    exact = whole.intervals["measure"].isin(["mse", "pearson"])
    pd.testing.assert_frame_equal(whole.intervals[exact], pieces.intervals[exact], rtol=1e-5)
    gaps = np.abs(whole.intervals[["low", "high"]].to_numpy() - pieces.intervals[["low", "high"]].to_numpy())
    assert gaps[~exact.to_numpy()].max() < 0.01  # bins of the score come from the first piece


def test_differences_are_against_every_smoothing_and_hold_the_exact_one(data):
    found = compared(data, bootstrap=100, block=10_000, seed=2)
    rows = found.intervals
    assert set(rows["baseline"]) == set(NAMES)
    assert set(rows["measure"]) == {"mse", "pearson", "auroc", "auprc"}
    assert (rows["blocks"] == 25).all()
    assert ((rows["low"] <= rows["difference"]) & (rows["difference"] <= rows["high"])).all()
    overall = found.overall()
    for row in rows.itertuples():
        assert row.difference == pytest.approx(overall.loc["net", row.measure] - overall.loc[row.baseline, row.measure])
    again = compared(data, bootstrap=100, block=10_000, seed=2).intervals
    pd.testing.assert_frame_equal(rows, again)
    assert "100 draws of 25 blocks" in found.text()


def test_called_peaks_are_counted_against_the_clean_ones():
    label = np.zeros(10_000, np.float32)
    score = np.zeros(10_000, np.float32)
    for start in (1000, 3000, 5000, 6000, 9000):  # the last is met by none
        label[start : start + 400] = 1
    score[1100:1400] = 0.9  # meets the first
    score[3390:3700] = 0.7  # meets the second
    score[5100:6200] = 0.8  # meets the third and the fourth
    score[7000:7300] = 0.6  # meets none
    score[8000:8100] = 0.9  # too short to be called
    found = compare({"net": (None, score)}, np.where(label, 30, 1).astype(np.float32), label)
    row = found.peaks.iloc[0]
    assert (row["called"], row["clean"]) == (4, 5)
    precision, recall = 3 / 4, 4 / 5
    f1 = 2 * precision * recall / (precision + recall)
    assert (row["precision"], row["recall"], row["f1"]) == pytest.approx((precision, recall, f1))


def test_a_called_peak_beside_a_clean_one_does_not_meet_it():
    label = np.zeros(5000, np.float32)
    score = np.zeros(5000, np.float32)
    label[1000:1400] = 1
    score[1400:1700] = 0.9  # begins where the clean one ends
    label[3000:3400] = 1
    score[2700:3001] = 0.9  # shares one base
    row = compare({"net": (None, score)}, np.where(label, 30, 1).astype(np.float32), label).peaks.iloc[0]
    assert (row["called"], row["clean"], row["precision"], row["recall"], row["f1"]) == (2, 2, 0.5, 0.5, 0.5)


def test_unknown_bases_change_nothing(data):
    tracks = data["chr1"]
    keep = np.ones(SIZES["chr1"], bool)
    keep[40_000:52_000] = False
    clean = np.where(keep, tracks["clean"], np.nan)
    signal = np.where(keep, tracks["signal"], 1e6)
    found = compare({"net": (signal, tracks["probability"])}, clean, tracks["label"])
    expected = oracle(*(tracks[what][keep] for what in ("signal", "probability", "clean", "label")))
    check(found.table[found.table["chromosome"] == "all"].set_index("part"), expected, rel=1e-9)
    masked = compare({"net": (signal, tracks["probability"])}, tracks["clean"], tracks["label"], valid=keep)
    pd.testing.assert_frame_equal(found.table, masked.table)


def test_one_class_does_not_stop_the_rest(data):
    empty = {name: np.zeros_like(track) for name, track in of(data, "label").items()}
    methods = {"net": (of(data, "signal"), of(data, "probability"))}
    found = compare(methods, of(data, "clean"), empty, noisy=of(data, "noisy"), bootstrap=5, block=20_000)
    row = rows_of(found, "net", "all").loc["whole"]
    assert np.isnan(row["auprc"])
    assert "auroc, auprc, precision, recall, f1: no base lies in a peak" in row["note"]
    assert set(found.intervals["measure"]) == {"mse", "pearson"}
    assert found.text()


def test_bad_arguments_are_refused(data):
    clean, label = of(data, "clean"), of(data, "label")
    with pytest.raises(InputError, match="noisy has 10 bases on chr1, the clean track 300,000"):
        compare({}, clean, label, noisy={name: np.zeros(10) for name in SIZES})
    with pytest.raises(InputError, match="chroms names 'chrX', on which there is no clean track; allowed: chr1, chr2"):
        compared(data, chroms=["chrX"])
    with pytest.raises(InputError, match="a method is called 'raw'"):
        compare({"raw": (clean, None)}, clean, label, noisy=of(data, "noisy"))
    with pytest.raises(InputError, match="depth_ratio must be above 0"):
        compared(data, depth_ratio=0)
    tracks = [data["chr1"][what][:20_000] for what in ("clean", "label", "noisy")]
    below_one = compare({}, *tracks[:2], noisy=tracks[2], depth_ratio=0.5)  # a clean library of fewer reads is one
    assert below_one.tuned.factors["box 201"] == 0.5


def test_baselines_need_a_noisy_track_and_intervals_both_baselines_and_a_bootstrap(data):
    methods = {"net": (of(data, "signal"), of(data, "probability"))}
    alone = compare(methods, of(data, "clean"), of(data, "label"), bootstrap=5, block=20_000)
    assert set(alone.table["method"]) == {"net"}
    assert alone.tuned is None
    assert alone.intervals.empty
    beside = compare(methods, of(data, "clean"), of(data, "label"), noisy=of(data, "noisy"))
    assert {"net", "raw", "box 201", "Gaussian 80", "Gaussian mix"} <= set(beside.table["method"])
    assert (beside.tuned_on, beside.evaluated_on) == (["chr1"], ["chr2"])
    assert beside.intervals.empty


def test_tuning_on_what_is_evaluated_is_said(data, caplog):
    one = {"chr1": data["chr1"]}
    found = compare({}, of(one, "clean"), of(one, "label"), noisy=of(one, "noisy"))
    assert found.evaluated_on == found.tuned_on == ["chr1"]
    assert "tuned and evaluated on chr1" in caplog.text


# ------------------------------------------------------------------------------------------------------- files


def write(path, tracks):
    with pyBigWig.open(str(path), "w") as file:
        file.addHeader(list(SIZES.items()))
        for name, values in tracks.items():
            edges = np.flatnonzero(np.diff(values, prepend=np.nan))
            ends = np.append(edges[1:], values.size)
            kept = values[edges] != 0
            file.addEntries([name] * int(kept.sum()), edges[kept].tolist(), ends=ends[kept].tolist(),
                            values=values[edges][kept].astype(float).tolist())  # fmt: skip
    return path


@pytest.fixture(scope="module")
def files(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracks")
    paths = {what: write(folder / f"{what}.bw", of(data, what)) for what in ("clean", "noisy")}
    paths["signal"] = write(folder / "net.signal.bw", of(data, "signal"))
    paths["probability"] = write(folder / "net.probability.bw", of(data, "probability"))
    rows = []
    for name, label in of(data, "label").items():
        edges = np.flatnonzero(np.diff(label, prepend=0, append=0)).reshape(-1, 2)
        rows += [f"{name}\t{a}\t{b}\n" for a, b in edges]
    paths["peaks"] = folder / "peaks.bed"
    paths["peaks"].write_text("".join(rows))
    return paths


def from_files(files, out, **options):
    given = {
        "noisy": files["noisy"],
        "denoised": [files["signal"]],
        "probability": [files["probability"]],
        "peaks": files["peaks"],
    }
    return evaluate_denoiser(files["clean"], out, device="cpu", **{**given, **options})


def test_files_give_what_arrays_give(data, files, tmp_path):
    found = from_files(files, tmp_path / "out", bootstrap=30, block=20_000)
    expected = compared(data, bootstrap=30, block=20_000)
    pd.testing.assert_frame_equal(found.comparison.table, expected.table, rtol=1e-5)
    pd.testing.assert_frame_equal(found.comparison.peaks, expected.peaks)
    written = pd.read_csv(tmp_path / "out" / "metrics.tsv", sep="\t")
    np.testing.assert_allclose(written["auprc"], expected.table["auprc"], rtol=1e-6)
    called = pd.read_csv(tmp_path / "out" / "called_peaks.tsv", sep="\t")
    pd.testing.assert_frame_equal(called, expected.peaks, rtol=1e-5, check_dtype=False)
    assert called["precision"][0] != called["recall"][0]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "called_peaks.tsv", "differences.tsv", "evaluation.json", "metrics.tsv"]  # fmt: skip
    settings = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert settings["tuned_on"] == ["chr1"]
    assert list(settings["smoothing"]["factors"]) == NAMES[:-1]


def test_one_file_or_name_needs_no_list(files, tmp_path):
    found = from_files(
        files,
        tmp_path,
        denoised=files["signal"],
        probability=str(files["probability"]),
        names="net",
        tune_chroms="chr2",
    )
    assert found.comparison.evaluated_on == ["chr1"]
    assert "net" in set(found.comparison.table["method"])


def test_values_of_denoised_files_are_taken_as_they_stand(data, files, tmp_path):
    """All multiples of 0.1 and 0.001: no counts in a unit of their own."""
    found = from_files(files, tmp_path, noisy=None)
    tracks = data["chr2"]
    expected = oracle(tracks["signal"], tracks["probability"], tracks["clean"], tracks["label"])
    check(rows_of(found.comparison, "net", "chr2"), expected, rel=1e-6)


def test_regions_and_peaks_by_cutoff(data, files, tmp_path):
    found = from_files(
        files, tmp_path, peaks=None, peak_cutoff=25.0, regions=["chr2:10,000-60,000", "chr1"], noisy=None
    )
    tracks = {what: track[10_000:60_000] for what, track in data["chr2"].items()}
    edges = np.flatnonzero(np.diff(data["chr2"]["clean"] >= 25, prepend=False, append=False)).reshape(-1, 2)
    starts, ends = [edges[0, 0]], []
    for (_, end), (start, _) in itertools.pairwise(edges):
        if start - end > 30:
            ends.append(end)
            starts.append(start)
    ends.append(edges[-1, 1])
    label = np.zeros(SIZES["chr2"])
    for a, b in zip(starts, ends, strict=True):
        if b - a >= 200:
            label[a:b] = 1
    expected = oracle(tracks["signal"], tracks["probability"], tracks["clean"], label[10_000:60_000])
    check(rows_of(found.comparison, "net", "chr2"), expected, rel=1e-6)
    assert rows_of(found.comparison, "net", "chr1").loc["whole", "bases"] == SIZES["chr1"]


def test_nothing_is_written_where_inputs_do_not_fit(files, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(InputError, match="2 denoised tracks and 1 probabilities do not pair"):
        from_files(files, out, denoised=[files["signal"], files["clean"]])
    with pytest.raises(InputError, match="either as a track"):
        evaluate_denoiser(None, out, noisy=files["noisy"])
    with pytest.raises(InputError, match="both depths or none"):
        from_files(files, out, clean_depth=5e6)
    with pytest.raises(InputError, match="not both"):
        from_files(files, out, peak_cutoff=3.0)
    with pytest.raises(InputError, match="locus must look like"):
        from_files(files, out, locus="chrNowhere")
    with pytest.raises(InputError, match="nothing to evaluate"):
        evaluate_denoiser(files["clean"], out, peaks=files["peaks"])
    assert not out.exists()
    out.mkdir()
    (out / "metrics.tsv").write_text("mine")
    with pytest.raises(OutputExistsError):
        from_files(files, out)
    assert (out / "metrics.tsv").read_text() == "mine"


# --------------------------------------------------------------------------------------------------- real data


@pytest.mark.data
def test_hsc_5m_against_80m_gives_the_measures_of_scikit_learn(data_dir):
    """Figures of the raw track and two smoothings, as scikit-learn gave them on all known bases of chr1 (9.1 Mb)."""
    folder = data_dir / "denoise" / "hsc_5m_to_80m_hg19"
    genome, bk = Genome.builtin("hg19"), resolve("cpu")
    noisy = FileTracks([folder / "HSC.5M.chr123.10mb.coverage.bw"], genome=genome, depth=[5e6], device="cpu")
    file = AtacworksH5.open(folder / "HSC.5M.chr123.10mb.coverage.bw.train.h5")
    places = Intervals.read(file, folder / "model_latest.24000.training_intervals.bed", genome, noisy=noisy)
    clean = H5Tracks([file], [places], what="clean", genome=genome, depth=80e6, bk=bk)
    code, size = genome.code["chr1"], 9_984_000
    assert noisy.has_cuts
    made = smoothing.shapes(
        bk, noisy.coverage(code, 0, size)[0], noisy.cuts(code, 0, size)[0, 0], boxes=(201,), sds=(150.0,), mix=()
    )
    label = np.zeros(size, np.float32)
    for start, stop in clean.peaks()[code]:
        label[start:stop] = 1
    deep = clean.coverage(code, 0, size)[0]
    found = {name: evaluate(track * np.float32(16), track, deep, label) for name, track in made.items()}
    assert [round(found["raw"][name], 4) for name in ("auprc", "auroc", "pearson")] == [0.6689, 0.9191, 0.9476]
    assert round(found["box 201"]["auprc"], 4) == 0.7827
    assert round(found["Gaussian 150"]["auprc"], 4) == 0.8244
    assert found["raw"]["bases"] == 9_096_000
