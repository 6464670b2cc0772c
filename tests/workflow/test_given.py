"""What ga.run is given is checked before anything is written, and what it could not do is said."""

from __future__ import annotations

import gzip
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import gpuatac as ga
from gpuatac.errors import FileFormatError, InputError
from gpuatac.workflow.main_job import steps, summary
from gpuatac.workflow.main_job.checks import given_options
from gpuatac.workflow.main_job.truth import compare, read_truth

# ---------------------------------------------------------------------------------------------- files and names


@pytest.mark.parametrize(
    ("n_files", "names", "message"),
    [
        (0, None, "fragments names no file; give at least one"),
        (2, None, r"got 's' more than once; pass names=\[\.\.\.\] \(--names\)"),
        (2, "ab", r"names is one name, 'ab', for 2 files; pass a list of 2 names, names=\[\.\.\.\] \(--names\)"),
    ],
)
def test_files_and_names_that_do_not_fit_are_refused_in_the_words_of_the_job(small, options, tmp_path, n_files, names, message):
    with pytest.raises(InputError, match=message):
        ga.run([small.fragments] * n_files, tmp_path / "o", names=names, **options)
    assert not (tmp_path / "o").exists()


# ------------------------------------------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"genome": ga.Genome("toy", {"chr1": 10})}, r"genome must be the name of an assembly or a path or None, got an object "
         r"\(Genome\); pass the name or a chrom\.sizes file"),
        ({"whitelist": ["A", "B"]}, r"whitelist must be the path of a file or None, got \['A', 'B'\] \(list\); write the barcodes"),
        ({"exclude_chroms": [1, 2]}, r"exclude_chroms must be text, or a list of names, got \[1, 2\] \(list\)"),
        ({"resolution": "1.0"}, r"resolution must be a number, got '1.0' \(str\); pass it as a number, without quotes"),
        ({"bin_size": "500"}, r"bin_size must be a whole number, got '500' \(str\)"),
        ({"max_fragments": "9"}, r"max_fragments must be a whole number or None, got '9' \(str\)"),
        ({"seed": True}, r"seed must be a whole number, got True \(bool\)"),
        ({"min_tsse": None}, r"min_tsse must be a number, got None \(NoneType\)"),
        ({"min_tsse": float("nan")}, "min_tsse must be a finite number, got nan; leave it out"),
        ({"keep_depth_components": "yes"}, r"keep_depth_components must be True or False, got 'yes' \(str\)"),
        ({"upper_quantile": 1.5}, r"upper_quantile must be in \[0, 1\], got 1.5"),
        ({"upper_quantile": 0.5, "lower_quantile": 0.5}, r"lower_quantile \+ upper_quantile must be below 1"),
        ({"batch_correction": "harmony"}, "needs several samples, got one; give more files or leave it out"),
        ({"leiden_flavor": "cugraph"}, r"leiden_flavor='cugraph' needs a GPU, got device 'cpu'; .*igraph"),
        ({"genes": Path(__file__).parent}, r"genes .* is a folder; allowed: a file"),
    ],
    ids=lambda value: str(list(value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_values_of_the_wrong_type_are_named_and_nothing_is_written(small, options, tmp_path, given, message):
    with pytest.raises(InputError, match=message):
        ga.run(small.fragments, tmp_path / "o", **{**options, **given})
    assert not (tmp_path / "o").exists()


def test_values_of_numpy_and_lists_of_names_are_taken():
    taken = given_options(
        {"bin_size": np.int32(5), "resolution": np.float32(0.5), "exclude_chroms": ("chrM", "chrY"), "n_comps": 7.0,
         "keep_depth_components": np.True_, "genes": Path("a.gtf"), "max_fragments": None}
    )  # fmt: skip
    assert json.loads(json.dumps(taken)) == {
        "bin_size": 5, "resolution": 0.5, "exclude_chroms": "chrM,chrY", "n_comps": 7, "keep_depth_components": True,
        "genes": "a.gtf", "max_fragments": None,
    }  # fmt: skip


def test_an_input_that_the_run_would_replace_is_refused(small, options, tmp_path, copied):
    mine = tmp_path / "mine"
    mine.mkdir()
    store = shutil.copytree(copied / "s.fragments", mine / "s.fragments")
    link = tmp_path / "link"
    link.symlink_to(mine)
    before = sorted(mine.rglob("*"))
    with pytest.raises(
        InputError, match=r"fragment file .*s\.fragments is where this run writes s\.fragments; allowed: .*--out"
    ):
        ga.run(store, link, force=True, **options)
    sizes = shutil.copy(small.chrom_sizes, tmp_path / "s.h5ad")
    with pytest.raises(InputError, match=r"genome .*s\.h5ad is where this run writes s\.h5ad"):
        ga.run(small.fragments, tmp_path, force=True, **{**options, "genome": sizes})
    assert sorted(mine.rglob("*")) == before
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"out .*file is a file; allowed: a folder"):
        ga.run(small.fragments, tmp_path / "file", **options)


def test_quantiles_reach_the_choice_of_tiles_and_are_named_when_they_leave_no_common_one(small, options, tmp_path):
    result = ga.run(small.fragments, tmp_path / "o", **{**options, "doublets": "skip", "upper_quantile": 0.0,
                                                        "lower_quantile": 0.25})  # fmt: skip
    counted = (result.adata.var["count"] > 0).sum()
    assert result.adata.var["selected"].sum() == counted - int(0.25 * counted)
    rows = [f"chr1\t{1000 * i}\t{1000 * i + 90}\tC{i}" for i in range(300)]
    rows += [f"chr2\t5000\t5090\tC{i}" for i in range(300)]
    file = tmp_path / "few.tsv"
    file.write_text("\n".join(rows) + "\n")
    given = {**options, "genes": None, "min_fragments": 1, "doublets": "skip"}
    with pytest.raises(
        InputError, match=r"none of 300 cells .* 1 tiles shared by cells were cut by the quantiles .*--upper-quantile 0"
    ):
        ga.run(file, tmp_path / "p", **given)
    assert ga.run(file, tmp_path / "p", from_step="features", device="cpu", upper_quantile=0).adata.n_obs == 300


# ------------------------------------------------------------------------------------------------------ the truth


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "barcode\ttype\nA\tx\n",
            r"line 1: found no column 'cell_type' \(but type\); allowed: a table with the columns",
        ),
        ("A,x\n", r"no column 'cell_type'"),
        ("", "found an empty file"),
        ("barcode\tcell_type\n", "found no cell below the header"),
        ("barcode\tcell_type\nA\tx\nB\ty\nA\ty\n", r"line 4: found barcode 'A' a second time"),
        ("barcode\tcell_type\nA\tx\n\ty\n", r"line 3: found an empty barcode"),
        ("barcode\tcell_type\tis_doublet\nA\tx\t1\nB\ty\tmaybe\n", r"line 3: found is_doublet that is neither 1 nor 0"),
    ],
)
def test_a_bad_truth_is_refused_before_anything_is_written(small, options, tmp_path, text, message):
    truth = tmp_path / "truth.tsv"
    truth.write_text(text)
    with pytest.raises(FileFormatError, match=message):
        ga.run(small.fragments, tmp_path / "o", truth=truth, **options)
    assert not (tmp_path / "o").exists()


def test_a_folder_or_binary_file_is_no_truth(tmp_path):
    with pytest.raises(InputError, match=r"is a folder; allowed: a table with .*; pass the file's path"):
        read_truth(tmp_path)
    (tmp_path / "b.tsv").write_bytes(b"\xff\xfe\x00\x01" * 50)
    with pytest.raises(FileFormatError, match=r"found text in UTF-16"):
        read_truth(tmp_path / "b.tsv")
    with gzip.open(tmp_path / "t.tsv.gz", "wt") as file:
        file.write("barcode\tcell_type\tis_cell\nA\tx\t1\nB\tNA\t0\n")
    table = read_truth(tmp_path / "t.tsv.gz")
    assert table["is_cell"].tolist() == [True, False]
    assert table["cell_type"].isna().tolist() == [False, True]


def cells_of_two_samples():
    obs = pd.DataFrame(
        {
            "sample": pd.Categorical(list("aabb")),
            "barcode": ["X", "Y", "X", "Z"],
            "leiden": pd.Categorical(list("0011")),
        },
        index=["a#X", "a#Y", "b#X", "b#Z"],
    )
    return AnnData(obs=obs)


def test_truth_of_several_samples_goes_by_full_names_or_barcodes_of_one_sample(tmp_path):
    adata = cells_of_two_samples()
    table = tmp_path / "t.tsv"
    table.write_text("barcode\tcell_type\na#X\tt\nb#X\tu\nY\tt\nZ\tu\n")
    told = compare(adata, read_truth(table), ["a", "b"], adata.obs)
    assert (told["n_labelled"], told["ari"]) == (4, 1.0)
    table.write_text("barcode\tcell_type\nX\tt\nY\tt\nZ\tu\n")
    told = compare(adata[1:], read_truth(table), ["a", "b"], adata.obs)  # a#X was filtered; X is of both all the same
    assert (told["n_labelled"], told["n_ambiguous"]) == (2, 1)


def test_truth_of_one_sample_may_carry_its_name(tmp_path):
    adata = cells_of_two_samples()[:2].copy()
    adata.obs = adata.obs[["leiden"]].set_axis(["X", "Y"])
    (tmp_path / "t.tsv").write_text("barcode\tcell_type\na#X\tt\nY\tt\n")
    assert compare(adata, read_truth(tmp_path / "t.tsv"), ["a"], adata.obs)["n_labelled"] == 2


# ----------------------------------------------------------------------------------- samples lost, steps left out


@pytest.fixture(scope="module")
def uneven(small, options, tmp_path_factory):
    """Three samples: one whole, one of 20 cells, one whose barcodes are all filtered."""
    folder = tmp_path_factory.mktemp("uneven")
    frame = pd.read_csv(small.fragments, sep="\t", comment="#", header=None)
    most = frame[3].value_counts()
    frame[frame[3].isin(most.index[:20])].to_csv(folder / "tiny.tsv", sep="\t", header=False, index=False)
    few = frame[frame[3].isin(most.index[:40])].groupby(3).head(250)  # imported from 200 fragments, filtered below 300
    few.sort_values([0, 1]).to_csv(folder / "gone.tsv", sep="\t", header=False, index=False)
    files = [small.fragments, folder / "tiny.tsv", folder / "gone.tsv"]
    given = {**options, "min_fragments": 300, "batch_correction": "harmony", "doublets": "label"}
    return ga.run(files, folder / "o", names=["s", "tiny", "gone"], **given)


def test_a_sample_that_the_filters_empty_is_named_and_leaves_no_category(uneven):
    assert uneven.report["reading"]["gone"]["kept"] > 200 * 30
    assert list(uneven.adata.obs["sample"].cat.categories) == ["s", "tiny"]
    told = uneven.report
    assert told["cells_per_sample"]["gone"] == 0
    assert told["cells_per_sample"]["tiny"] == 20
    assert sum(told["cells_per_sample"].values()) == told["n_cells"]
    assert told["warnings"][0] == "no cell is left of gone: the filters emptied it"
    text = uneven.summary.read_text()
    assert "gone 0 (emptied by the filters)" in text
    assert "warning: no cell is left of gone" in text


def test_doublets_are_scored_in_the_samples_that_have_the_cells(uneven):
    score = uneven.adata.obs["doublet_score"]
    small_sample = uneven.adata.obs["sample"] == "tiny"
    assert score[small_sample].isna().all()
    assert score[~small_sample].notna().all()
    assert set(uneven.report["doublets"]) == {"s"}
    assert uneven.report["skipped"]["doublets"] == "it needs 30 cells of a sample and sample tiny has 20"
    assert "skipped\n  doublets: it needs 30 cells" in uneven.summary.read_text()
    assert "pp.scrublet" in [r["verb"] for r in ga.pp.history(uneven.adata)]


def test_harmony_with_one_sample_left_is_skipped_with_a_warning(uneven, caplog, monkeypatch):
    adata = uneven.adata[(uneven.adata.obs["sample"] == "s").to_numpy()].copy()
    steps.settle(adata)
    assert "X_spectral_harmony" in adata.obsm
    monkeypatch.setattr(logging.getLogger("gpuatac"), "propagate", True)
    with caplog.at_level(logging.WARNING):
        steps.knn(adata, ga.options.RunOptions(batch_correction="harmony"), None)
    assert "harmony: skipped, it needs two samples and the cells left are of one" in caplog.text
    assert adata.uns["neighbors"]["params"]["use_rep"] == "X_spectral"
    assert "X_spectral_harmony" not in adata.obsm
    assert steps.skipped(adata)["harmony"]


def test_steps_skipped_for_few_cells_are_in_the_summary_and_forgotten_when_done_again(tmp_path, options):
    bed = tmp_path / "bulk.bed"
    bed.write_text("".join(f"chr1\t{1000 * i}\t{1000 * i + 150}\n" for i in range(100)))
    result = ga.run(bed, tmp_path / "o", **{**options, "genes": None, "min_fragments": 1})
    told = json.loads(result.summary.with_suffix(".json").read_text())
    assert set(told["skipped"]) == {"features", "doublets", "spectral", "knn", "umap", "leiden"}
    assert told["skipped"]["knn"] == "it needs 5 cells and there is 1"
    assert "  knn: it needs 5 cells and there is 1" in result.summary.read_text()
    adata = result.adata
    steps.forget_skipped(adata, ["umap", "leiden"])
    assert set(steps.skipped(adata)) == {"features", "doublets", "spectral", "knn"}


# ------------------------------------------------------------------------------------------------- the summary


def test_a_threshold_that_is_not_there_is_null_and_said(done, tmp_path):
    entry = {"detected_doublet_rate": 0.0, "expected_doublet_rate": 0.1, "threshold": float("nan"), "x": np.float32(2)}
    report = summary.plain({**done.report, "doublets": {"all": entry}, "median_tsse": float("inf")})
    text = summary.write(report, tmp_path, "n").read_text()
    assert "0.0% called (expected 10%), no threshold (one mode)" in text
    assert "median TSS enrichment not defined" in text
    stored = json.loads((tmp_path / "n.summary.json").read_text(), parse_constant=pytest.fail)
    assert stored["doublets"]["all"]["threshold"] is None
    assert stored["doublets"]["all"]["x"] == 2.0


def test_calls_that_imply_far_more_doublets_than_expected_remove_nobody():
    rng = np.random.default_rng(0)  # noise alone: the simulated scores have no second kind to find
    adata = AnnData(rng.poisson(0.2, (120, 400)).astype(np.float32))
    adata.var["selected"] = True
    adata.uns["scrublet"] = {"samples": {"all": {"overall_doublet_rate": 0.31}}}
    assert "imply 31% doublets where 10% are expected" in steps._doubtful_calls(adata, ga.options.RunOptions())
    adata.uns["scrublet"]["samples"]["all"]["overall_doublet_rate"] = 0.29
    assert not steps._doubtful_calls(adata, ga.options.RunOptions())
    adata.uns["scrublet"]["samples"]["all"]["overall_doublet_rate"] = float("nan")
    assert not steps._doubtful_calls(adata, ga.options.RunOptions())
    options = ga.options.RunOptions(expected_doublet_rate=0.001)  # whatever is called is then too much
    steps.doublets(adata, options, ga.Genome("toy", {"chr1": 1000}))
    called = int((adata.obs["doublet_probability"] > 0.5).sum())
    assert called
    assert adata.n_obs == 120
    assert "labelled only" in steps.skipped(adata)["removing doublets"]

