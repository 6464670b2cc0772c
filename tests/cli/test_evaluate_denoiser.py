"""gpuatac evaluate-denoiser: what it prints and writes, its options, and what it refuses."""

from __future__ import annotations

import itertools

import h5py
import numpy as np
import pandas as pd
import pytest

SIZES = {"chr1": 60_000, "chr2": 48_000}
NAMES = ["raw", "box 201", "box 401", "Gaussian 80", "Gaussian 150", "Gaussian 250", "Gaussian mix"]


def bedgraph(path, tracks):
    rows = []
    for name, values in tracks.items():
        edges = np.append(np.flatnonzero(np.diff(values, prepend=np.nan)), values.size)
        rows += [f"{name}\t{a}\t{b}\t{values[a]:g}\n" for a, b in itertools.pairwise(edges) if values[a]]
    path.write_text("".join(rows))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """bedGraphs of two libraries over the same peaks, a denoised one, the peaks, and all as AtacWorks' HDF5."""
    folder = tmp_path_factory.mktemp("evaluate")
    rng = np.random.default_rng(0)
    clean, noisy, label = {}, {}, {}
    for name, size in SIZES.items():
        sites = np.arange(2000, size - 1000, 4000)
        at = [rng.integers(200, size - 200, size // 50), *(rng.normal(s, 100, 90) for s in sites)]
        deep = np.bincount(np.concatenate(at).astype(int), minlength=size)
        clean[name], noisy[name] = (np.convolve(cuts, np.ones(201), "same") for cuts in (deep, rng.binomial(deep, 0.1)))
        label[name] = (np.abs(np.arange(size)[:, None] - sites).min(axis=1) < 250).astype(float)
    paths = {"clean": bedgraph(folder / "clean.bedGraph", clean), "noisy": bedgraph(folder / "noisy.bedGraph", noisy)}
    paths["net"] = bedgraph(folder / "net.signal.bedGraph", {k: v * 10 for k, v in noisy.items()})
    paths["p"] = bedgraph(folder / "net.probability.bedGraph", {k: np.clip(v / 4, 0, 1) for k, v in noisy.items()})
    paths["peaks"], paths["sizes"] = folder / "peaks.bed", folder / "toy.chrom.sizes"
    paths["peaks"].write_text(
        "".join(f"{n}\t{s - 249}\t{s + 250}\n" for n, size in SIZES.items() for s in range(2000, size - 1000, 4000))
    )
    paths["sizes"].write_text("".join(f"{n}\t{s}\n" for n, s in SIZES.items()))
    paths["h5"], paths["intervals"] = folder / "examples.h5", folder / "intervals.bed"
    width = 6000
    with h5py.File(paths["h5"], "w") as file:
        for key, tracks in {"input": noisy, "label_reg": clean, "label_cla": label}.items():
            file[key] = np.concatenate([v.reshape(-1, width) for v in tracks.values()]).astype(np.float32)
    paths["intervals"].write_text(
        "".join(f"{n}\t{a}\t{a + width}\n" for n, size in SIZES.items() for a in range(0, size, width))
    )
    return paths


def arguments(files, out):
    return ["evaluate-denoiser", "--clean", files["clean"], "--noisy", files["noisy"], "--denoised", files["net"],
            "--probability", files["p"], "--peaks", files["peaks"], "--genome", files["sizes"], "--device", "cpu",
            "--out", out]  # fmt: skip


def test_it_prints_and_writes_every_method_and_measure(cli, files, tmp_path):
    out = tmp_path / "out"
    code, shown, _ = cli(*arguments(files, out), "--bootstrap", 50, "--block", 6000, "--seed", 3,
                         "--locus", "chr2:1,000-9,000", "--figure", "here.svg")  # fmt: skip
    assert code == 0
    table = pd.read_csv(out / "metrics.tsv", sep="\t")
    assert list(table["method"].unique()) == ["net", *NAMES]
    assert list(table["chromosome"].unique()) == ["all", "chr2"]
    whole = table[table["part"] == "whole"]
    measures = ["mse", "pearson", "spearman", "auroc", "auprc"]
    assert np.isfinite(whole[measures]).all(axis=None)
    assert np.isfinite(table[table["part"] != "whole"][measures[:3]]).all(axis=None)
    for word in ("net", *NAMES, *measures, "All bases (48,000)", "50 draws of 8 blocks", "Called peaks"):
        assert word in shown
    row = whole.iloc[0]
    assert f"{row['auprc']:.4f}" in shown
    differences = pd.read_csv(out / "differences.tsv", sep="\t")
    assert set(differences["baseline"]) == set(NAMES)
    assert "<svg" in (out / "here.svg").read_text()
    assert sorted(p.name for p in out.iterdir()) == ["called_peaks.tsv", "differences.tsv", "evaluation.json", "here.svg",
                                                     "metrics.tsv"]  # fmt: skip


def test_hdf5_examples_give_what_their_tracks_give(cli, files, tmp_path):
    h5 = ["evaluate-denoiser", "--h5", files["h5"], "--intervals", files["intervals"], "--denoised", files["net"], "--probability",
          files["p"], "--genome", files["sizes"], "--device", "cpu", "-q"]  # fmt: skip
    assert cli(*h5, "--out", tmp_path / "h5")[0] == 0
    assert cli(*arguments(files, tmp_path / "tracks"))[0] == 0
    one, other = (pd.read_csv(tmp_path / name / "metrics.tsv", sep="\t") for name in ("h5", "tracks"))
    pd.testing.assert_frame_equal(one, other, rtol=1e-5)


def test_tuned_chromosome_is_the_one_asked_for(cli, files, tmp_path):
    code, shown, _ = cli(*arguments(files, tmp_path), "--tune-chroms", "chr2", "--scale", "least-squares")
    assert code == 0
    assert "Evaluated on chr1; smoothings tuned on chr2" in shown


@pytest.mark.parametrize("regions", ["chr2", "chr2:1-40000"])
def test_regions_limit_what_is_judged_and_not_what_is_tuned_on(cli, files, tmp_path, regions):
    code, shown, _ = cli(*arguments(files, tmp_path), "--regions", regions, "--tune-chroms", "chr1")
    assert code == 0
    assert "Evaluated on chr2; smoothings tuned on chr1" in shown


def test_a_method_may_be_named_as_a_library_and_has_a_row_of_its_own(cli, files, tmp_path):
    code, *_ = cli(
        *arguments(files, tmp_path), "--names", "noisy", "--locus", "chr2:1,000-9,000", "--figure", "here.svg"
    )
    assert code == 0
    figure = (tmp_path / "here.svg").read_text()
    for row in ("noisy", "noisy, denoised", "noisy, denoised, P(peak)", "clean"):
        assert f">{row}<" in figure or f"<!-- {row} -->" in figure, row


def test_errors_say_what_to_do(cli, files, tmp_path):
    out = tmp_path / "out"
    for more, message in (
        (["--clean", files["peaks"]], "peaks.bed"),
        (["--peak-cutoff", "5"], "give peaks or peak_cutoff, not both"),
        (["--tune-chroms", "chr9"], "chr9"),
        (["--figure", "only.png"], "figure 'only.png' is named, and no place to draw; allowed: with a locus"),
        (
            ["--regions", "chr1:1-50000", "--chroms", "chr2"],
            "chroms names 'chr2', where nothing is judged: the regions leave it out",
        ),
        (["--locus", "chr1:1-500", "--figure", "a/b.png"], "figure must be a file name"),
        (["--names", "a", "b"], "1 methods need 1 different names"),
    ):
        code, _, err = cli(*arguments(files, out), *more)
        assert code == 2, more
        assert message in err
        assert not out.exists()
