"""ga.run: from fragment files to clusters, on a simulated sample, on a toy genome and on real files."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import gpuatac as ga
from gpuatac.errors import InputError, MissingFileError, OutputExistsError
from gpuatac.options import RunOptions, defaults, defaults_table
from gpuatac.workflow.main_job import by_cluster
from gpuatac.workflow.main_job.figures import NAMES
from gpuatac.workflow.main_job.steps import RESTARTS, STEPS

TOY = {"chr1": 2_000_000, "chr2": 1_200_000, "chrM": 16_569}


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def report(result):
    return json.loads(result.summary.with_suffix(".json").read_text())


def names_in(folder):
    return sorted(p.name for p in folder.iterdir())


# ------------------------------------------------------------------------------------------ the simulated sample


def test_simulated_cell_types_are_recovered(done, small):
    # the larger simulated sample runs through the command line, in tests/cli
    told = report(done)["truth"]
    assert told["n_types"] == 3
    assert told["ari_without_doublets"] >= 0.9
    assert told["n_labelled"] >= 110
    truth = pd.read_csv(small.cells, sep="\t", index_col="barcode")
    adata = ga.io.read_h5ad(done.h5ad)
    np.testing.assert_array_equal(adata.obs["n_fragment"], truth.loc[adata.obs_names, "n_fragment"])
    assert adata.n_vars == 2000 + 1200


# ------------------------------------------------------------------------------------------------- what is written


def test_every_output_is_there_and_nothing_half_written(done):
    folder = done.h5ad.parent
    assert names_in(folder) == [
        "s.figures", "s.fragments", "s.h5ad", "s.qc.h5ad", "s.summary.json", "s.summary.txt",
    ]  # fmt: skip
    figures = names_in(folder / "s.figures")
    assert figures == sorted(p.name for p in done.figures)
    assert {"fragment_sizes.png", "tss_profile.png", "tsse.png", "knee.png", "spectral_eigenvalues.png",
            "umap.png", "umap_genes.png"} <= set(figures)  # fmt: skip
    assert all(p.stat().st_size > 5000 for p in done.figures)
    assert not [p for p in folder.rglob("*") if "partial" in p.name]


def test_result_holds_the_slots_that_users_are_promised(done):
    adata = ga.io.read_h5ad(done.h5ad)
    n = adata.n_obs
    assert adata.obs["leiden"].nunique() >= 3
    assert adata.obsm["X_spectral"].shape[0] == n
    assert adata.obsm["X_umap"].shape == (n, 2)
    assert sp.issparse(adata.X)
    assert adata.X.dtype == np.int32
    genes = adata.uns["gene_activity"]["genes"]
    assert adata.obsm["gene_activity"].shape == (n, len(genes))
    activity = ga.pp.make_gene_matrix(adata, done_genes(done))
    assert activity.var_names.tolist() == list(genes)
    np.testing.assert_array_equal(activity.X.toarray(), adata.obsm["gene_activity"].toarray())
    assert {"n_fragment", "tsse", "frac_dup", "frac_mito", "nucleosome_signal"} <= set(adata.obs)
    verbs = [r["verb"] for r in ga.pp.history(adata)]
    assert verbs[0] == "pp.import_fragments"
    assert verbs[-1] == "pp.make_gene_matrix"
    for verb in ("metrics.tsse", "pp.filter_cells", "pp.add_tile_matrix", "pp.select_features", "pp.scrublet",
                 "tl.spectral", "pp.knn", "tl.umap", "tl.leiden"):  # fmt: skip
        assert verb in verbs


def done_genes(done):
    return report(done)["options"]["genes"]


def test_summary_accounts_for_every_line_and_cell(done, small):
    told = report(done)
    (reading,) = told["reading"].values()
    assert reading["accounted"] is True
    assert reading["lines"] == reading["kept"] + sum(reading["dropped"].values())
    assert reading["lines"] == 1 + small.n_fragments + small.n_mito
    cells = ga.pp.read_summaries(done.adata)["s"].n_barcodes_seen
    assert cells >= told["n_cells"]
    for before, after in zip(told["filters"], told["filters"][1:], strict=False):
        assert before["after"] == after["before"]
    assert told["filters"][-1]["after"] == told["n_cells"] == done.adata.n_obs
    assert sum(told["clusters"].values()) == told["n_cells"]
    text = done.summary.read_text()
    assert f"{reading['lines']:,} lines read = {reading['kept']:,} kept" in text
    assert "ARI" in text
    assert "contigs: given" in text or "contigs: main" in text
    assert told["options"]["bin_size"] == 1000
    assert set(told["options"]) == set(defaults())


def test_existing_output_is_refused_and_left_as_it_is(done, small, options):
    before = {p: digest(p) for p in done.h5ad.parent.rglob("*") if p.is_file()}
    with pytest.raises(OutputExistsError, match=r"s\.h5ad exists already; pass force=True \(--force\)"):
        ga.run(small.fragments, done.h5ad.parent, **options)
    assert {p: digest(p) for p in done.h5ad.parent.rglob("*") if p.is_file()} == before


def test_force_replaces_the_output_and_the_same_seed_gives_the_same_result(copied, done, small, options):
    result = ga.run(small.fragments, copied, force=True, **options)
    a, b = ga.io.read_h5ad(done.h5ad), ga.io.read_h5ad(result.h5ad)
    assert result.h5ad.stat().st_mtime_ns > done.h5ad.stat().st_mtime_ns
    assert (a.X != b.X).nnz == 0
    np.testing.assert_array_equal(a.obs["leiden"], b.obs["leiden"])
    np.testing.assert_allclose(np.abs(a.obsm["X_spectral"]), np.abs(b.obsm["X_spectral"]), atol=1e-5)
    assert names_in(copied) == names_in(done.h5ad.parent)


# -------------------------------------------------------------------------------------------------- going on


def test_every_step_and_the_figures_can_be_gone_on_from():
    assert (*STEPS, *by_cluster.STEPS, "figures") == RESTARTS
    from gpuatac.cli.app import command_of

    assert command_of("run").options()["from_step"].declared.hint.choices == RESTARTS


@pytest.mark.parametrize("step", ["qc", "features", "spectral", "umap", "genes", "figures"])
def test_going_on_from_a_step_gives_the_same_cells_without_importing(copied, done, small, step):
    shutil.rmtree(copied / "s.figures")
    stored = digest(copied / "s.fragments" / "_gpuatac.json")
    result = ga.run(small.fragments, copied, device="cpu", from_step=step)
    told, before = report(result), report(done)
    assert told["from_step"] == step
    assert "import" not in told["seconds"]
    assert told["options"] == before["options"]  # those of the first run, though none was given
    assert told["n_cells"] == before["n_cells"]
    assert told["clusters"] == before["clusters"]
    assert digest(copied / "s.fragments" / "_gpuatac.json") == stored
    assert (copied / "s.figures" / "umap.png").exists()


def test_new_options_replace_those_of_the_earlier_run(copied, small):
    result = ga.run(small.fragments, copied, device="cpu", from_step="leiden", resolution=4.0)
    told = report(result)
    assert told["options"]["resolution"] == 4.0
    assert told["options"]["bin_size"] == 1000
    assert len(told["clusters"]) > 3
    again = report(ga.run(small.fragments, copied, device="cpu", from_step="figures", figure_format="svg"))
    assert again["options"]["resolution"] == 4.0
    assert (copied / "s.figures" / "umap.svg").exists()


def test_the_folder_of_figures_holds_those_of_one_run_and_the_files_of_others(copied, small):
    folder = copied / "s.figures"
    before = {path.stem for path in folder.glob("*.png")}
    (folder / "umap.txt").write_text("mine")
    (folder / "umap_mine.png").write_text("mine")
    result = ga.run(small.fragments, copied, device="cpu", from_step="figures", figure_format="pdf")
    assert {path.stem for path in result.figures} == before
    assert names_in(folder) == sorted(["umap.txt", "umap_mine.png", *(f"{name}.pdf" for name in before)])


def test_every_figure_that_a_run_draws_is_known_by_its_name(whole):
    assert {path.stem for path in whole.figures} <= set(NAMES)


def test_filters_can_be_loosened_and_tightened_afterwards(copied, small):
    tight = ga.run(small.fragments, copied, device="cpu", from_step="cells", min_fragments=1500, doublets="skip")
    assert (tight.adata.obs["n_fragment"] >= 1500).all()
    loose = ga.run(small.fragments, copied, device="cpu", from_step="cells", min_fragments=50)
    assert loose.adata.n_obs > tight.adata.n_obs


def test_going_on_without_an_earlier_run_says_what_is_missing(small, tmp_path):
    with pytest.raises(MissingFileError, match=r"there is no earlier run to go on from: .* run once without from"):
        ga.run(small.fragments, tmp_path, device="cpu", from_step="knn")
    with pytest.raises(InputError, match="from_step must be one of 'qc', 'cells'"):
        ga.run(small.fragments, tmp_path, device="cpu", from_step="import")
    assert names_in(tmp_path) == []


def test_a_moved_folder_still_finds_its_fragments(copied, done, tmp_path):
    ga.io.forget()
    moved = tmp_path / "far" / "away"
    moved.parent.mkdir()
    shutil.move(copied, moved)
    adata = ga.io.read_h5ad(moved / "s.h5ad")
    genes = ga.pp.make_gene_matrix(adata, done_genes(done))
    np.testing.assert_array_equal(genes.X.toarray(), adata.obsm["gene_activity"].toarray())
    shutil.rmtree(moved / "s.fragments")
    ga.io.forget()
    adata = ga.io.read_h5ad(moved / "s.h5ad")
    with pytest.raises(MissingFileError, match=r"the fragments of sample 's' are not at .*set_fragments_path"):
        ga.pp.make_gene_matrix(adata, done_genes(done))


# -------------------------------------------------------------------------------------------------- other options


def test_without_genes_the_summary_says_what_was_left_out(small, options, tmp_path):
    given = {**options, "genes": None, "doublets": "skip"}
    del given["min_tsse"]  # its default is for runs with genes
    result = ga.run(small.fragments, tmp_path, **given)
    assert "no genes were given (--genes): no TSS enrichment, no TSS filter, no gene activity" in (
        result.summary.read_text()
    )
    assert "tsse" not in result.adata.obs
    assert "gene_activity" not in result.adata.obsm
    assert not {"tsse.png", "tss_profile.png"} & set(names_in(tmp_path / "s.figures"))
    assert result.adata.n_obs > 100


def test_several_samples_give_one_file_with_doublets_called_in_each(small, options, tmp_path):
    result = ga.run(
        [small.fragments, small.fragments], tmp_path, names=["left", "right"],
        **{**options, "doublets": "label", "batch_correction": "harmony"},
    )  # fmt: skip
    assert result.h5ad.name == "combined.h5ad"
    assert {"left.fragments", "right.fragments"} <= set(names_in(tmp_path))
    adata = ga.io.read_h5ad(result.h5ad)
    assert list(adata.obs["sample"].cat.categories) == ["left", "right"]
    names = adata.obs["sample"].astype(str) + "#" + adata.obs["barcode"].astype(str)
    assert adata.obs_names.tolist() == names.tolist()
    told = report(result)
    assert set(told["doublets"]) == set(told["reading"]) == {"left", "right"}
    # one sample twice: equal seeds give equal scores
    scores = adata.obs.groupby("sample", observed=True)["doublet_score"].apply(lambda s: s.to_numpy())
    np.testing.assert_allclose(scores["left"], scores["right"], atol=1e-9)
    assert "X_spectral_harmony" in adata.obsm
    assert adata.uns["neighbors"]["params"]["use_rep"] == "X_spectral_harmony"


@pytest.mark.parametrize("method", ["knee", "ordmag"])
def test_cells_are_told_from_empty_droplets(small, options, tmp_path, method):
    given = {**options, "genes": None, "doublets": "skip", "call_cells": method}
    result = ga.run(small.fragments, tmp_path, truth=small.cells, **given)
    told = report(result)
    assert told["options"]["call_cells"] == method
    assert told["filters"][0]["verb"] == "pp.call_cells"
    assert told["filters"][0]["before"] > 300  # droplets from 10 fragments were imported
    assert told["truth"]["n_not_cells"] <= 10
    assert told["truth"]["n_labelled"] > 60


def test_whitelist_doublets_and_depth_options_reach_their_verbs(small, options, tmp_path):
    listed = tmp_path / "cells.txt"
    truth = pd.read_csv(small.cells, sep="\t")
    keep = truth.loc[truth["is_cell"] == 1, "barcode"].tolist()[:80]
    listed.write_text("\n".join(keep))
    result = ga.run(
        small.fragments, tmp_path / "o",
        **{**options, "genes": None, "whitelist": listed, "doublets": "label", "keep_depth_components": True,
           "n_neighbors": 500, "counting_strategy": "insertion", "exclude_chroms": "chr2", "n_features": 700,
           "feature_method": "variability", "n_comps": 7, "figure_format": "svg"},
    )  # fmt: skip
    adata = result.adata
    assert set(adata.obs_names) <= set(keep)
    assert "doublet_score" in adata.obs
    assert adata.uns["neighbors"]["drop_depth"] == np.False_
    assert adata.uns["neighbors"]["params"]["n_neighbors"] == adata.n_obs - 1
    assert set(adata.var["chrom"].astype(str)) == {"chr1", "chrM"}
    assert adata.var["selected"].sum() <= 700
    assert adata.obsm["X_spectral"].shape[1] <= 7
    assert int(adata.X.sum()) == 2 * int(
        ga.io.open_fragments(tmp_path / "o" / "s.fragments", device="cpu").chrom_ptr[1]
    ) + 2 * count_on(tmp_path / "o" / "s.fragments", "chrM")
    assert (tmp_path / "o" / "s.figures" / "umap.svg").exists()


def count_on(store, chrom):
    fragments = ga.io.open_fragments(store, device="cpu")
    code = fragments.genome.names.index(chrom)
    return int(fragments.chrom_ptr[code + 1] - fragments.chrom_ptr[code])


def test_depth_components_are_left_out_by_default(done):
    assert done.adata.uns["neighbors"]["drop_depth"] == np.True_
    assert "left out" in done.summary.read_text()


def test_blacklisted_tiles_are_measured_and_never_selected(small, options, tmp_path):
    black = tmp_path / "b.bed"
    black.write_text("chr1\t0\t1000000\n")
    result = ga.run(
        small.fragments, tmp_path / "o", **{**options, "genes": None, "blacklist": black, "doublets": "skip",
                                            "max_blacklist_fraction": 0.99, "sample_size": 60},
    )  # fmt: skip
    var = result.adata.var
    inside = (var["chrom"] == "chr1") & (var["start"] < 1_000_000)
    assert not var.loc[inside, "selected"].any()
    assert var.loc[~inside, "selected"].any()
    assert result.adata.obs["blacklist_fraction"].between(0, 1).all()


def test_three_columns_run_to_a_result_of_quality_alone(tmp_path):
    rng = np.random.default_rng(0)
    bed = tmp_path / "liver.bed"
    start = np.sort(rng.integers(0, 1_900_000, 500))
    bed.write_text("".join(f"chr1\t{s}\t{s + 100 + s % 300}\n" for s in start))
    sizes = tmp_path / "toy.sizes"
    sizes.write_text("".join(f"{c}\t{n}\n" for c, n in TOY.items()))
    result = ga.run(bed, tmp_path / "o", genome=str(sizes), device="cpu", min_fragments=1)
    adata = ga.io.read_h5ad(result.h5ad)
    assert adata.obs_names.tolist() == ["liver"]
    assert adata.obs["n_fragment"].tolist() == [500]
    assert "leiden" not in adata.obs
    assert adata.uns["frag_size_distr"].sum() == 500
    assert "fragment_sizes.png" in names_in(tmp_path / "o" / "liver.figures")
    assert report(result)["reading"]["liver"]["kept"] == 500


# ----------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"colour": 3}, "unknown option 'colour'; allowed: genome, genes"),
        ({"genome": None}, "genome is not given; allowed: hg38, hg19, mm10, mm39, or a chrom.sizes"),
        ({"genome": "hg99"}, "hg99"),
        ({"contigs": "some"}, "contigs must be one of 'main', 'all', got 'some'"),
        ({"doublets": "maybe"}, "doublets must be one of 'remove', 'label', 'skip', got 'maybe'"),
        ({"bin_size": 0}, "bin_size must be at least 1, got 0"),
        ({"bin_size": 2.5}, "bin_size must be a whole number, got 2.5"),
        ({"min_fragments": -1}, "min_fragments must be at least 0, got -1"),
        ({"max_fragments": 10}, "max_fragments must be at least 50, got 10"),
        ({"resolution": -1}, "resolution must be at least 0, got -1"),
        ({"resolution": float("nan")}, "resolution must be at least 0, got nan"),
        ({"expected_doublet_rate": 1.0}, "expected_doublet_rate must be in"),
        ({"n_neighbors": 0}, "n_neighbors must be at least 1, got 0"),
        ({"n_comps": 0}, "n_comps must be at least 1, got 0"),
        ({"seed": -1}, "seed must be in .*got -1"),
        ({"min_dist": -0.1}, r"min_dist must be in \[0, 1\], got -0.1"),
        ({"min_dist": 4.0}, r"min_dist must be in \[0, 1\], got 4.0"),
        ({"sample_size": 5}, "sample_size must be at least 31, got 5"),
        ({"gene_upstream": -1}, "gene_upstream must be at least 0, got -1"),
        ({"max_blacklist_fraction": 0.1}, "max_blacklist_fraction needs a blacklist; pass blacklist=BED"),
        ({"genes": None, "min_tsse": 3.0}, r"min_tsse=3 needs genes, .*pass genes=GTF \(--genes\) or leave it out"),
        ({"genes": None, "min_tsse": 5.0}, "min_tsse=5 needs genes"),
        ({"genes": "nowhere.gtf"}, r"genes nowhere\.gtf does not exist; check the path"),
        ({"whitelist": "nowhere.txt"}, r"whitelist nowhere\.txt does not exist; check the path"),
        ({"names": ["a", "b"]}, "2 sample names for 1 files"),
        ({"truth": "nowhere.tsv"}, r"truth table nowhere\.tsv does not exist"),
        ({"device": "tpu"}, "device must be one of 'auto', 'cpu', 'gpu', got 'tpu'"),
    ],
    ids=lambda value: "-".join(map(str, value.items())) if isinstance(value, dict) else "",
)
def test_bad_options_are_refused_before_anything_is_written(small, options, tmp_path, given, message):
    out = tmp_path / "o"
    with pytest.raises((InputError, MissingFileError), match=message):
        ga.run(small.fragments, out, **{**options, **given})
    assert not out.exists()


def test_missing_input_is_refused_before_anything_is_written(options, tmp_path):
    with pytest.raises(MissingFileError, match=r"fragment file .*nowhere\.tsv\.gz does not exist; check the path"):
        ga.run(tmp_path / "nowhere.tsv.gz", tmp_path / "o", **options)
    assert not (tmp_path / "o").exists()


def test_a_broken_line_leaves_no_output(options, tmp_path):
    bad = tmp_path / "bad.tsv"
    bad.write_text("chr1\t5\t60\tA\nchr1\tfive\t60\tA\n")
    with pytest.raises(InputError, match=r"bad\.tsv, line 2: found a start that is no whole number"):
        ga.run(bad, tmp_path / "o", **options)
    assert [p for p in tmp_path.rglob("*") if p != bad and p.is_file()] == []


@pytest.mark.parametrize("given", [{"min_fragments": 10**9}, {"min_tsse": 1e9}])
def test_filters_that_leave_no_cell_write_no_result(small, options, tmp_path, given):
    with pytest.raises(InputError, match=r"no cell passes|no barcode was kept"):
        ga.run(small.fragments, tmp_path / "o", **{**options, **given})
    left = [p.name for p in (tmp_path / "o").rglob("*")]
    assert "s.h5ad" not in left
    assert "s.summary.txt" not in left
    assert not [name for name in left if "partial" in name]


# --------------------------------------------------------------------------------------------------- real files


@pytest.mark.parametrize(
    ("folder", "genome", "n_cells"),
    [("archr_pbsmall_hg19", "hg19", 150), ("c1_39cells_hg19", "hg19", 39), ("pbmc500_chr22_hg38", "hg38", 100)],
)
def test_real_files_run_through_with_every_cell(data_dir, tmp_path, folder, genome, n_cells):
    (path,) = (data_dir / "scatac" / folder).glob("*.tsv.gz")
    genes = data_dir / "annotation/genes" / f"{genome}.refGene.txt.gz"
    labels = next((data_dir / "scatac" / folder).glob("*labels.tsv"), None)
    result = ga.run(
        path, tmp_path, genome=genome, genes=genes, device="cpu", min_fragments=0, min_tsse=0, doublets="skip",
        truth=labels, bin_size=10_000,
    )  # fmt: skip
    told = report(result)
    assert told["n_cells"] == n_cells
    assert all(r["accounted"] for r in told["reading"].values())
    assert {"leiden", "tsse"} <= set(result.adata.obs)
    assert result.adata.obsm["X_umap"].shape == (n_cells, 2)
    if labels is not None:
        assert told["truth"]["n_labelled"] == n_cells
        assert told["truth"]["ari"] > 0.5


def test_table_of_defaults_names_every_option():
    table = defaults_table()
    for name in RunOptions.__dataclass_fields__:
        assert f"`--{name.replace('_', '-')}`" in table


@pytest.mark.parametrize(
    ("given", "least"), [({}, 200), ({"min_fragments": 50}, 50), ({"call_cells": "knee"}, 10)], ids=["default", "few", "calling"]
)
def test_checkpoint_holds_barcodes_down_to_200_fragments_or_the_bound_of_a_cell(given, least):
    assert RunOptions(**given).min_num_fragments == least


def test_checkpoint_holds_every_barcode_that_the_import_kept_and_no_other(done, small):
    rows = pd.read_csv(small.fragments, sep="\t", comment="#", header=None)
    nuclear = rows[rows[0] != "chrM"][3].value_counts()
    kept = ga.io.read_h5ad(done.h5ad.parent / "s.qc.h5ad")
    assert set(kept.obs_names) == set(nuclear[nuclear >= 50].index)
