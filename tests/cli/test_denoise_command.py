"""gpuatac denoise: on an .h5ad with groups, on fragments, on tracks; what it refuses; its options against the job's."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pyBigWig
import pytest

import gpuatac as ga

torch = pytest.importorskip("torch", reason="the denoiser needs PyTorch (gpuatac[nn])")

from gpuatac.nn.checkpoints import make_model, save_model  # noqa: E402
from gpuatac.nn.contract import ModelCard  # noqa: E402
from gpuatac.workflow.denoiser.denoise import denoise  # noqa: E402

COLUMNS = ["chrom", "start", "end", "length", "mean", "max", "relative_summit", "summit"]


def small_network():
    """Its probability rises with the coverage."""
    torch.manual_seed(0)
    model = make_model(
        "denoising_resnet", out_channels=2, num_blocks=1, kernel_size=5, dilation=8, num_blocks_class=1, kernel_size_class=5,
        dilation_class=8, out_channels_class=2,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
        model.classifier.conv_layer.bias.fill_(-1.0)
    return model


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.pt"
    save_model(path, small_network(), ModelCard(target_depth=1e6))
    return path


@pytest.fixture(scope="session")
def typed(small, tmp_path_factory):
    """The cells with their types as an .h5ad, without a matrix; and the types as a table."""
    folder = tmp_path_factory.mktemp("typed")
    truth = pd.read_csv(small.cells, sep="\t").query("is_cell == 1")
    truth[["barcode", "cell_type"]].to_csv(folder / "types.tsv", sep="\t", index=False)
    genome = ga.io.read_genome(small.chrom_sizes)
    adata = ga.pp.import_fragments(small.fragments, genome, min_num_fragments=100, out=folder, sample="s", device="cpu")
    table = truth.set_index("barcode")
    adata = adata[adata.obs_names.isin(table.index)].copy()
    adata.obs["type"] = pd.Categorical(table.loc[adata.obs_names, "cell_type"])
    ga.io.write_h5ad(adata, folder / "s.h5ad")
    return folder


def names_in(folder):
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def values_of(path, chrom):
    with pyBigWig.open(str(path)) as file:
        return np.nan_to_num(file.values(chrom, 0, file.chroms(chrom), numpy=True))


def test_groups_of_an_h5ad_get_tracks_and_peaks(typed, checkpoint, tmp_path, cli):
    out = tmp_path / "d"
    arguments = ["denoise", typed / "s.h5ad", "--groupby", "type", "--model", checkpoint, "--out", out, "--device", "cpu",
                 "--min-length", "50", "--max-gap", "5", "--decimals", "2", "--prefix", "x."]  # fmt: skip
    code, shown, err = cli(*arguments)
    assert code == 0, err
    adata = ga.io.read_h5ad(typed / "s.h5ad")
    frame = ga.tl.denoise(adata, "type", model=checkpoint, min_length=50, max_gap=5, inplace=False)
    groups = frame["group"].cat.categories
    assert names_in(out) == sorted(
        f"x.{g}.{end}" for g in groups for end in ("signal.bw", "probability.bw", "peaks.bed")
    )
    for group in groups:
        bed = pd.read_csv(out / f"x.{group}.peaks.bed", sep="\t")
        bed.columns = bed.columns.str.removeprefix("#")
        mine = frame[frame["group"] == group].reset_index(drop=True)
        assert list(bed) == COLUMNS
        assert len(bed) == len(mine) > 5
        for column in ("start", "end", "length", "summit"):
            np.testing.assert_array_equal(bed[column], mine[column])
        np.testing.assert_array_equal(bed["relative_summit"], mine["peak"])
        np.testing.assert_allclose(bed[["mean", "max"]], mine[["mean", "max"]], rtol=1e-5)
        signal, probability = (values_of(out / f"x.{group}.{what}.bw", "chr1") for what in ("signal", "probability"))
        for row in mine[mine["chrom"] == "chr1"].head(20).itertuples():
            assert signal[row.start : row.end].max() == pytest.approx(row.max, abs=0.006)
            assert probability[[row.start, row.end - 1]].min() >= 0.5 - 0.001
        assert re.search(rf"^{group}: [\d,]+ reads of \d+ cells, {len(mine):,} peaks$", shown, re.M)
    assert f"written to {out} in " in shown
    code, _, err = cli(*arguments)
    assert code == 2
    assert "exists already; pass force=True (--force) to replace it" in err
    assert cli(*arguments, "--force")[0] == 0


def test_a_table_of_groups_gives_the_same_as_the_column(typed, small, checkpoint, tmp_path, cli):
    code, _, err = cli("denoise", small.fragments, "--genome", small.chrom_sizes, "--groups", typed / "types.tsv", "--model",
                       checkpoint, "--out", tmp_path / "t", "--device", "cpu", "-q", "--tracks", "--min-length", "50",
                       "--regions", "chr2", "chr1:200000-400000")  # fmt: skip
    assert (code, err) == (0, "")
    adata = ga.io.read_h5ad(typed / "s.h5ad")
    frame = ga.tl.denoise(
        adata, "type", model=checkpoint, min_length=50, inplace=False, regions=["chr1:200000-400000", "chr2"]
    )
    assert names_in(tmp_path / "t") == sorted(f"{g}.peaks.bed" for g in frame["group"].cat.categories)
    for group, mine in frame.groupby("group", observed=False):
        bed = pd.read_csv(tmp_path / "t" / f"{group}.peaks.bed", sep="\t")
        np.testing.assert_array_equal(bed[["start", "end"]], mine[["start", "end"]])


def coverage_file(adata, path):
    """A bigWig of cuts within 100 bp of all cells."""
    from gpuatac.io.tracks.fragment_tracks import FragmentTracks

    source = FragmentTracks(adata, [np.arange(adata.n_obs)], ["all"])
    with pyBigWig.open(str(path), "w") as file:
        sizes = list(source.genome.chrom_sizes.items())
        file.addHeader(sizes)
        for code in source.codes:
            name, size = sizes[code]
            file.addEntries(name, 0, values=source.coverage(code, 0, size)[0].tolist(), span=1, step=1)
    return source


def test_a_track_gives_what_its_fragments_give(typed, checkpoint, tmp_path, cli):
    adata = ga.io.read_h5ad(typed / "s.h5ad")
    source = coverage_file(adata, tmp_path / "sample.bw")
    code, shown, err = cli("denoise", tmp_path / "sample.bw", "--model", checkpoint, "--out", tmp_path / "o", "--device", "cpu",
                           "--min-length", "50", "--format", "bedgraph", "--names", "one", "--depth", "123456")  # fmt: skip
    assert code == 0, err
    assert names_in(tmp_path / "o") == ["one.peaks.bed", "one.probability.bedgraph", "one.signal.bedgraph"]
    assert "one: 123,456 reads, " in shown
    frame = ga.tl.denoise(adata, model=checkpoint, min_length=50, inplace=False)
    bed = pd.read_csv(tmp_path / "o" / "one.peaks.bed", sep="\t")
    assert len(bed) > 5
    np.testing.assert_array_equal(bed[["start", "end"]], frame[["start", "end"]])
    made = denoise(tmp_path / "sample.bw", tmp_path / "p", model=checkpoint, device="cpu", tracks=[])
    assert made.depth["sample"] == pytest.approx(source.depth[0], rel=0.01)


def test_a_published_checkpoint_needs_its_dilation_and_may_be_of_footprints(typed, tmp_path, cli):
    network = small_network().eval()
    torch.save({"state_dict": network.state_dict()}, tmp_path / "published.pth.tar")
    arguments = ["denoise", typed / "s.h5ad", "--model", tmp_path / "published.pth.tar", "--out", tmp_path / "o", "--device", "cpu",
                 "-q", "--tracks", "--min-length", "20", "--footprint", "--regions", "chr2"]  # fmt: skip
    code, _, err = cli(*arguments)
    assert code == 2
    assert "pass dilation" in err
    assert cli(*arguments, "--dilation", "8", "8")[0] == 0
    bed = pd.read_csv(tmp_path / "o" / "s.peaks.bed", sep="\t")
    adata = ga.io.read_h5ad(typed / "s.h5ad")
    frame = ga.tl.denoise(
        adata, model=(network, ModelCard(half_width=5)), min_length=20, regions=["chr2"], inplace=False
    )
    assert len(bed) == len(frame) > 3
    np.testing.assert_array_equal(bed[["start", "end"]], frame[["start", "end"]])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{h5ad}", "--cutoff", "1.5"], r"cutoff must be in \[1e-06, 1\], got 1.5"),
        (["{h5ad}", "--regions", "chr9"], r"region 'chr9' is no chromosome"),
        (
            ["{h5ad}", "--regions", "chr1:90000000-90000010"],
            "which ends behind the end of chr1 in genome .*; allowed: up to 1,500,000",
        ),
        (["{h5ad}", "--regions", ""], "region '' is empty; allowed: names like chr1"),
        (["{h5ad}", "--depth", "5"], r"depth is given for fragments"),
        (["{h5ad}", "--decimals", "9"], r"decimals must be in \[0, 4\], got 9"),
        (["{h5ad}", "--probability-decimals", "5"], r"probability_decimals must be in \[0, 4\], got 5"),
        (["{h5ad}", "--dilation", "8"], "leave dilation"),
        (["{h5ad}", "--footprint"], "within 5 bp of a base, and the model was trained on 100 bp; leave it out"),
        (["{h5ad}", "--extra", "{bed}"], "the model reads none"),
        (["{bw}", "--groupby", "type"], "groupby cannot be set for tracks"),
        (["{bw}", "{h5ad}"], "one kind"),
        (["{bw}", "--depth", "5", "6"], "2 depths for 1 tracks"),
        (["nothing.h5ad"], "nothing.h5ad does not exist"),
    ],
)
def test_what_does_not_fit_is_told_and_nothing_is_written(typed, checkpoint, tmp_path, cli, arguments, told):
    with pyBigWig.open(str(tmp_path / "t.bw"), "w") as file:
        file.addHeader([("chr1", 1_500_000)])
        file.addEntries(["chr1"], [6], ends=[207], values=[1.0])
    (tmp_path / "m.bed").write_text("chr1\t5\t9\tm\t0\t+\n")
    known = {"h5ad": typed / "s.h5ad", "bw": tmp_path / "t.bw", "bed": tmp_path / "m.bed"}
    given = [a.format(**known) for a in arguments]
    code, _, err = cli("denoise", *given, "--model", checkpoint, "--out", tmp_path / "o", "--device", "cpu", "-q")
    assert code == 2
    assert re.search(told, err)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("kind", ["denoising_resnet", "multiscale"])
def test_footprint_tracks_are_for_models_trained_on_them(typed, tmp_path, cli, kind):
    options = (
        {"target_depth": 1e6, "filters": (2,), "kernel_sizes": (3,)} if kind == "multiscale" else {"num_blocks": 1}
    )
    model = make_model(kind, **options)
    for half_width, told in ((100, "footprint asks for coverage within 5 bp"), (5, "")):
        save_model(tmp_path / "m.pt", model, ModelCard(half_width=half_width, target_depth=1e6), force=True)
        code, _, err = cli("denoise", typed / "s.h5ad", "--model", tmp_path / "m.pt", "--out", tmp_path / str(half_width), "--device",
                           "cpu", "-q", "--tracks", "--regions", "chr2:0-9000", "--footprint")  # fmt: skip
        assert code == (2 if told else 0)
        assert told in err


def test_a_track_of_nothing_says_so(typed, checkpoint, tmp_path, cli):
    (tmp_path / "none.bedgraph").write_text("chr1\t0\t1000\t0\n")
    (tmp_path / "sizes").write_text("chr1\t1000\n")
    arguments = ["denoise", tmp_path / "none.bedgraph", "--genome", tmp_path / "sizes", "--model", checkpoint, "--out", tmp_path / "o",
                 "--device", "cpu", "-q"]  # fmt: skip
    code, _, err = cli(*arguments)
    assert code == 2
    assert "has no value above 0 and so does not tell its depth; give depth" in err
    assert "--depth" in err
    assert cli(*arguments, "--depth", 1000)[0] == 0
    assert (
        values_of(tmp_path / "o" / "none.signal.bw", "chr1").max()
        == values_of(tmp_path / "o" / "none.signal.bw", "chr1").min()
    )


def test_a_model_must_be_a_checkpoint(typed, tmp_path, cli):
    for name, content, told in (("absent.pt", None, "does not exist"), ("text.pt", b"hello", "found")):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        code, _, err = cli(
            "denoise", typed / "s.h5ad", "--model", tmp_path / name, "--out", tmp_path / "o", "--device", "cpu"
        )
        assert code == 2
        assert told in err
    assert names_in(tmp_path / "o") == []
