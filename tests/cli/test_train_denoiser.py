"""gpuatac train-denoiser: on pairs of tracks, on one deep track, on groups of cells, on HDF5 files; going on; bad input."""

from __future__ import annotations

import csv

import h5py
import numpy as np
import pandas as pd
import pyBigWig
import pytest

torch = pytest.importorskip("torch", reason="needs the nn extra")

import gpuatac as ga  # noqa: E402
from gpuatac.nn.checkpoints import load_model  # noqa: E402
from gpuatac.nn.state import load_state  # noqa: E402
from gpuatac.workflow.denoiser.training_inputs import _extent  # noqa: E402

SIZES = {"chr1": 60_000, "chr2": 30_000, "chr3": 24_000}
QUICK = ["--epochs", 2, "--batch-size", 4, "--interval", 4096, "--lr", 0.01, "--device", "cpu", "--threads", 1]
TINY = [
    "--model", "resnet", "--blocks", 1, "--filters", 2, "--kernel", 5, "--dilation", 1, "--blocks-class", 1,
    "--filters-class", 2, "--kernel-class", 5, "--dilation-class", 1, *QUICK,
]  # fmt: skip
PARTS = ["--val-chroms", "chr2", "--holdout-chroms", "chr3"]


def coverage_of(cuts):
    return np.convolve(cuts, np.ones(201))[100:-100].astype(np.float32)


@pytest.fixture(scope="module")
def tracks(tmp_path_factory):
    """deep.bw, shallow.bw (a tenth of its cuts), sizes and peaks of a toy genome; no track on the end of chr3."""
    folder = tmp_path_factory.mktemp("tracks")
    rng = np.random.default_rng(0)
    deep, shallow = {}, {}
    for chrom, size in SIZES.items():
        at = np.arange(size)
        rate = 0.02 + sum(np.exp(-0.5 * ((at - c) / 120) ** 2) for c in range(2000, size, 4000))
        deep[chrom] = rng.poisson(rate)
        shallow[chrom] = rng.binomial(deep[chrom], 0.1)
    for name, cuts in (("deep", deep), ("shallow", shallow)):
        with pyBigWig.open(str(folder / f"{name}.bw"), "w") as file:
            file.addHeader(list(SIZES.items()))
            for chrom in SIZES:
                values = coverage_of(cuts[chrom])
                file.addEntries(chrom, 0, values=values.tolist(), span=1, step=1)
    (folder / "toy.chrom.sizes").write_text("".join(f"{c}\t{s}\n" for c, s in SIZES.items()))
    rows = [f"{c}\t{at - 150}\t{at + 150}\n" for c, size in SIZES.items() for at in range(2000, size, 4000)]
    (folder / "peaks.bed").write_text("".join(rows))
    return folder


def history(out):
    return list(csv.DictReader((out / "history.tsv").read_text().splitlines(), delimiter="\t"))


def test_pairs_of_tracks_give_a_model_a_state_a_table_and_a_figure(tracks, tmp_path, cli):
    out = tmp_path / "out"
    code, printed, error = cli(
        "train-denoiser", "--clean", tracks / "deep.bw", "--noisy", tracks / "shallow.bw", "--peaks", tracks / "peaks.bed",
        *PARTS, "--out", out, *TINY,
    )  # fmt: skip
    assert code == 0, error
    assert sorted(p.name for p in out.iterdir()) == ["history.tsv", "last.pt", "model.pt", "training.png"]
    assert (out / "training.png").read_bytes().startswith(b"\x89PNG")
    rows = history(out)
    assert [r["epoch"] for r in rows] == ["1", "2"]
    assert "15 training examples, 2 epochs" in printed
    model, card = load_model(out / "model.pt")
    with pyBigWig.open(str(tracks / "deep.bw")) as file:
        depth = sum(np.nansum(file.values(c, 0, s, numpy=True)) for c, s in SIZES.items()) / 201
    assert card.target_depth == pytest.approx(depth, rel=0.02)
    assert card.input_depth == pytest.approx(depth / 10, rel=0.05)
    assert (card.half_width, card.trained_on) == (100, "deep.bw, shallow.bw")
    assert model.options["out_channels"] == 2
    best = load_state(out / "last.pt")["best_weights"]
    assert all(torch.equal(value, best[name]) for name, value in model.state_dict().items())


def test_a_run_that_was_stopped_goes_on_to_the_same_model(tracks, tmp_path, cli):
    common = [
        "train-denoiser", "--clean", tracks / "deep.bw", "--val-fraction", 0.3, "--thin", 2000, 4000,
        "--peaks", tracks / "peaks.bed", *TINY,
    ]  # fmt: skip
    assert cli(*common, "--out", tmp_path / "whole")[0] == 0
    assert cli(*common, "--out", tmp_path / "parts", "--epochs", 1)[0] == 0
    code, printed, _ = cli(*common, "--out", tmp_path / "parts", "--resume")
    assert code == 0
    assert "2 epochs" in printed
    a, b = (load_model(tmp_path / name / "model.pt")[0].state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(value, b[name]) for name, value in a.items())
    names = set(history(tmp_path / "whole")[0])
    assert {"auroc[0.002M]", "auroc[0.004M]"} <= names
    assert load_model(tmp_path / "whole" / "model.pt")[1].input_depth is None
    code, _, error = cli(*common, "--out", tmp_path / "parts")
    assert code == 2
    assert "exists already; pass resume=True (--resume) to go on" in error
    code, _, error = cli(*common, "--out", tmp_path / "parts", "--resume", "--lr", 0.5)
    assert code == 2
    assert "lr was 0.01 and is 0.5" in error


@pytest.mark.parametrize("model", ["multiscale", "logistic"])
def test_one_deep_track_is_thinned_on_the_fly(tracks, tmp_path, cli, model):
    pytest.importorskip(
        "gpuatac.nn.denoising.networks.rate_loss", reason="the loss of the multiscale model is not there"
    )
    options = ["--model-option", "filters=(4,4)", "kernel_sizes=(3,3)"] if model == "multiscale" else ["--field", 41]
    code, _, error = cli(
        "train-denoiser", "--clean", tracks / "deep.bw", *PARTS, *QUICK, "--out", tmp_path, "--model", model, "--preset", "cpu",
        "--steps", 3, "--thin-range", 2000, 9000, "--peak-cutoff", 30, *options, "--interval", 2048,
    )  # fmt: skip
    assert code == 0, error
    net, card = load_model(tmp_path / "model.pt")
    assert net.kind == model
    if model == "multiscale":
        assert net.options["target_depth"] > 1000 * card.target_depth  # as dense on a human genome
        assert card.input_depth is None


@pytest.fixture(scope="module")
def cells(small, tmp_path_factory):
    """An .h5ad of 60 cells of two types."""
    folder = tmp_path_factory.mktemp("cells")
    genome = ga.io.read_genome(small.chrom_sizes)
    adata = ga.pp.import_fragments(small.fragments, genome, min_num_fragments=100, out=folder, sample="s", device="cpu")
    truth = pd.read_csv(small.cells, sep="\t", index_col="barcode")
    adata.obs["type"] = pd.Categorical(truth["cell_type"].reindex(adata.obs_names))
    adata = adata[adata.obs["type"].notna()].copy()
    ga.io.write_h5ad(adata, folder / "s.h5ad")
    return folder / "s.h5ad"


@pytest.mark.parametrize("noise", [["--cells", 1, 5], ["--thin", 3000]], ids=["cells", "reads"])
def test_groups_of_cells_are_trained_on(cells, tmp_path, cli, noise):
    tiny = ["auto" if option == "cpu" else option for option in TINY]
    code, printed, error = cli(
        "train-denoiser", cells, "--groupby", "type", *noise, "--val-chroms", "chr2", *tiny, "--interval", 16_384, "--epochs", 1,
        "--steps", 3, "--val-intervals", 6, "--no-nonzero", "--out", tmp_path,
    )  # fmt: skip
    assert code == 0, error
    n_types = len(ga.io.read_h5ad(cells).obs["type"].cat.categories)
    assert f"{n_types * -(-1_500_000 // 16_384)} training examples" in printed
    assert (printed + error).count("device: ") == 1
    names = set(history(tmp_path)[0])
    if "--cells" in noise:
        assert {"auprc[1 cell]", "auprc[5 cells]"} <= names


def write_h5(path, tracks, chrom, length, pad=0):
    starts = range(0, SIZES[chrom] - length + 1, length)
    with pyBigWig.open(str(tracks / "deep.bw")) as deep, pyBigWig.open(str(tracks / "shallow.bw")) as shallow:
        whole = [np.pad(f.values(chrom, 0, SIZES[chrom], numpy=True), pad) for f in (shallow, deep)]
    x, y = (np.array([row[s : s + length + 2 * pad] for s in starts], np.float32) for row in whole)
    with h5py.File(path, "w") as file:
        for name, values in (("input", x), ("label_reg", y), ("label_cla", (y > 40).astype(np.float32))):
            file.create_dataset(name, data=values, compression="lzf")
    path.with_suffix(".bed").write_text("".join(f"{chrom}\t{s}\t{s + length}\n" for s in starts))


def test_hdf5_files_of_atacworks_are_trained_on_by_rows_and_by_place(tracks, tmp_path, cli):
    for name, chrom in (("train", "chr1"), ("val", "chr2")):
        write_h5(tmp_path / f"{name}.h5", tracks, chrom, 4000)
        write_h5(tmp_path / f"{name}_padded.h5", tracks, chrom, 4000, pad=100)
    files = ["--h5", tmp_path / "train.h5", tmp_path / "val.h5"]
    code, printed, error = cli("train-denoiser", *files, *TINY, "--out", tmp_path / "rows")
    assert code == 0, error
    assert "15 training examples" in printed
    padded = ["--h5", tmp_path / "train_padded.h5", tmp_path / "val_padded.h5", "--pad", 100]
    assert cli("train-denoiser", *padded, *TINY, "--out", tmp_path / "padded")[0] == 0
    wrong = cli("train-denoiser", *padded[:3], "--pad", 99, *TINY, "--dilation", 8, "--out", tmp_path / "wrong")
    assert wrong[0] == 2
    assert "multiple of 8 bp" in wrong[2]
    placed = [
        *files, "--intervals", tmp_path / "train.bed", tmp_path / "val.bed", "--genome", tracks / "toy.chrom.sizes",
        "--clean-depth", 9000, "--noisy-depth", 900, "--thin", 1500,
    ]  # fmt: skip
    code, _, error = cli("train-denoiser", *placed, *TINY, "--interval", 2000, "--out", tmp_path / "placed")
    assert code == 0, error
    assert {"auroc[0.0015M]", "auroc[noisy (0.0009M)]"} <= set(history(tmp_path / "placed")[0])
    code, _, error = cli("train-denoiser", *files, *QUICK, "--model", "multiscale", "--out", tmp_path / "cuts")
    assert code == 2
    assert "do not say where their examples lie" in error


def test_blocks_are_drawn_where_the_data_are():
    class Source:
        """Coverage on [9.1, 9.3) and [17, 17.5) Mb."""

        def empty(self, code, start, stop):
            gaps = [(0, 9_000_000), (9_000_000, 9_100_000), (9_300_000, 17_000_000), (17_500_000, 30_000_000)]
            return np.array([(max(a, start), min(b, stop)) for a, b in gaps if max(a, start) < min(b, stop)])

    assert _extent([Source()], 0, 30_000_000) == (9_100_000, 17_500_000)
    assert _extent([Source()], 0, 9_000_000) is None
    assert _extent([Source()], 0, 9_200_000) == (9_100_000, 9_200_000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to train on"),
        (["--clean", "deep.bw", "--h5", "a.h5"], "tracks and h5 to train on"),
        (["--clean", "missing.bw", *PARTS], "missing.bw does not exist"),
        (["--clean", "deep.bw"], "no chromosome is left to choose the best epoch by"),
        (["--clean", "deep.bw", "deep.bw", "--noisy", "shallow.bw", "shallow.bw", "shallow.bw", *PARTS], "2 clean and 3 noisy"),
        (["--clean", "deep.bw", "--val-chroms", "chr7"], "validation chromosomes have no data"),
        (["--clean", "deep.bw", "--thin", 1e9, *PARTS], "cannot be thinned to 1,000,000,000"),
        (["--clean", "deep.bw", "--genome", "hg38", *PARTS], "genome hg38"),
        (["--clean", "deep.bw", *PARTS, "--model-option", "blocks"], "must be NAME=VALUE"),
        (["--clean", "deep.bw", *PARTS, "--model-option", "wrong=1"], "wrong"),
        (["--clean", "deep.bw", *PARTS, "--ema", 3], "ema must be in"),
        (["--clean", "deep.bw", *PARTS, "--cells", 5], "cells (--cells) is given and training is on tracks; allowed: with cells"),
        (["--clean", "deep.bw", *PARTS, "--select", "a"], "selections (--select) is given and training is on tracks"),
        (["--seed", 0, "some.h5ad", *PARTS, "--noisy", "shallow.bw"], "(--noisy) is given and training is on cells; allowed: with"),
        (["--h5", "a.h5", "b.h5", "--val-chroms", "chr2"], "is given and training is on h5; allowed: with tracks or cells"),
        (["--clean", "deep.bw", *PARTS, "--model", "unet"], "--blocks is an option of resnet, and the model is unet"),
        (["--clean", "deep.bw", *PARTS, "--model", "multiscale", "--extra", "peaks.bed"], "multiscale reads cuts and takes no extra"),
    ],
)  # fmt: skip
def test_bad_input_is_named_and_nothing_is_written(tracks, tmp_path, cli, monkeypatch, options, message):
    monkeypatch.chdir(tracks)
    code, _, error = cli("train-denoiser", *TINY, "--thin", 2000, *options, "--out", tmp_path / "out")
    assert code == 2
    assert message in error
    assert not (tmp_path / "out").exists()


def test_the_memory_limit_is_taken(tracks, tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tracks)
    monkeypatch.setattr("gpuatac.memory._state", {})
    code, _, error = cli("train-denoiser", *TINY, "--clean", "missing.bw", "--memory", "3G", "--out", tmp_path / "out")
    assert (code, "missing.bw" in error) == (2, True)
    assert ga.get_memory() == 3 * 2**30


def test_what_the_job_takes_in_python_is_checked_by_name(tracks, tmp_path):
    data = ga.workflow.TrainingData(clean=tracks / "deep.bw")
    for given in ((tmp_path / "o", {"inputs": "a.h5ad"}), (data, tmp_path / "o")):
        with pytest.raises(ga.errors.InputError, match="allowed: a folder, then a TrainingData"):
            ga.workflow.train_denoiser(*given)
    with pytest.raises(
        ga.errors.InputError, match=r"recipe has no 'epoch' \(did you mean 'epochs'\?\); allowed: epochs,"
    ):
        ga.workflow.train_denoiser(tmp_path / "o", data, recipe={"epoch": 1})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": "resnet", "model_options": {"num_block": 2}}, r"has no 'num_block' \(did you mean 'num_blocks'\?\)"),
        ({"model": "resnet", "model_options": {"num_blocks": -1}}, "num_blocks"),
    ],
)
def test_a_wrong_model_option_is_refused_before_anything_is_read(tmp_path, given, message):
    data = ga.workflow.TrainingData(clean=tmp_path / "not_there.bw")
    with pytest.raises(ga.errors.InputError, match=message):
        ga.workflow.train_denoiser(tmp_path / "o", data, **given)


def test_numbers_of_cells_are_whole_and_one_stands_for_itself(tmp_path):
    from gpuatac.workflow.denoiser.training_data import Asked

    def asked(cells):
        return Asked.of(ga.workflow.TrainingData(inputs="a.h5ad", cells=cells), pad=None, seed=0, device="cpu").cells

    assert (asked(5), asked([1, 50])) == ([5], [1, 50])
    for wrong in ("5", [0], [2.5]):
        with pytest.raises(ga.errors.InputError, match="cells must be"):
            asked(wrong)
