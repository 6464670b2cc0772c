"""Importing, calling and filtering cells: every argument, slot, report and error."""

from __future__ import annotations

import hashlib

import anndata as ad
import numpy as np
import oracles
import pandas as pd
import pytest

import gpuatac as ga
from gpuatac.errors import (
    DeviceUnavailableError,
    InputError,
    MissingFileError,
    MissingSlotError,
    OutputExistsError,
)

SIZES = {"chr1": 5000, "chr10": 2000, "chr2": 1000, "chrM": 300}
GENOME = ga.Genome("toy", SIZES)


def random_rows(seed=0, n=400):
    """Rows of which some are on unknown chromosomes, too short, or outside."""
    rng = np.random.default_rng(seed)
    barcodes = ["TT-1", "AA-1", "aa-1", "C-1", "AA-10", "G~1"]
    out = []
    for _ in range(n):
        chrom = str(rng.choice([*SIZES, "chrUn"]))
        start = int(rng.integers(0, SIZES.get(chrom, 900)))
        end = start + int(rng.integers(0, 300))
        share = [0.3, 0.3, 0.2, 0.1, 0.08, 0.02]
        out.append((chrom, start, end, str(rng.choice(barcodes, p=share)), int(rng.integers(1, 5))))
    return out


def write(path, rows):
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write(tmp_path_factory.mktemp("import") / "toy.tsv", random_rows())


def load(source, **options):
    options = {"min_num_fragments": 1, "device": "cpu", **options}
    return ga.pp.import_fragments(source, GENOME, **options)


# ---------------------------------------------------------------------------------------------------- import


@pytest.mark.parametrize("threshold", [0, 1, 20, 60])
@pytest.mark.parametrize("whitelist", [None, ["AA-1", "aa-1", "absent"]])
def test_cells_and_totals_equal_the_oracle(source, threshold, whitelist):
    adata = load(source, min_num_fragments=threshold, whitelist=whitelist)
    expected = oracles.import_fragments(random_rows(), SIZES, min_num_fragments=threshold, whitelist=whitelist)
    assert adata.obs_names.tolist() == expected.barcodes
    assert adata.obs["n_fragment"].tolist() == expected.n_fragment
    np.testing.assert_allclose(adata.obs["frac_dup"], expected.frac_dup, atol=1e-15)
    np.testing.assert_allclose(adata.obs["frac_mito"], expected.frac_mito, atol=1e-15)
    summary = ga.pp.read_summaries(adata)["toy"]
    assert {k: v for k, v in summary.dropped.items() if k in expected.dropped} == expected.dropped
    assert summary.lines == 400 == summary.kept + sum(summary.dropped.values())
    assert summary.accounted
    assert summary.kept == len(expected.fragments)


def test_slots_have_their_documented_types(source):
    adata = load(source)
    assert adata.obs["n_fragment"].dtype == np.int64
    assert adata.obs["frac_dup"].dtype == adata.obs["frac_mito"].dtype == np.float64
    assert adata.n_vars == 0
    assert "sample" not in adata.obs
    assert set(adata.uns) >= {"fragments", "genome", "read_summary", "gpuatac_history"}


def test_whitelist_may_be_a_file_or_any_iterable(source, tmp_path):
    listed = tmp_path / "cells.txt"
    listed.write_text("AA-1\tmore\r\n# a comment\n\nTT-1\n")
    for given in (listed, str(listed), {"AA-1", "TT-1"}, iter(["AA-1", "TT-1"])):
        assert load(source, whitelist=given).obs_names.tolist() == ["AA-1", "TT-1"]
    listed.write_text("\n")
    with pytest.raises(InputError, match="holds no barcode; give one barcode per line"):
        load(source, whitelist=listed)
    with pytest.raises(MissingFileError, match=r"none\.txt"):
        load(source, whitelist=tmp_path / "none.txt")


def test_an_iterator_of_barcodes_serves_every_sample(source, tmp_path):
    other = write(tmp_path / "b.tsv", random_rows(2))
    adata = load([source, other], whitelist=iter(["AA-1"]))
    assert adata.obs_names.tolist() == ["toy#AA-1", "b#AA-1"]


def test_mitochondrial_names_are_an_argument(source):
    adata = load(source, chrM=["chr2"])
    expected = oracles.import_fragments(random_rows(), SIZES, min_num_fragments=1, mito=("chr2",))
    assert adata.obs["n_fragment"].tolist() == expected.n_fragment
    np.testing.assert_allclose(adata.obs["frac_mito"], expected.frac_mito)


def test_several_files_are_named_and_keep_their_order(source, tmp_path):
    other = write(tmp_path / "b.bed", random_rows(2))
    adata = load([other, source], sample=["zeta", "alpha"])
    assert list(adata.obs["sample"].cat.categories) == ["zeta", "alpha"]
    assert adata.obs_names.is_unique
    for name, file, seed in (("zeta", other, 2), ("alpha", source, 0)):
        own = adata.obs[adata.obs["sample"] == name]
        alone = load(file)
        assert own.index.tolist() == [f"{name}#{b}" for b in alone.obs_names]
        assert own["barcode"].tolist() == alone.obs_names.tolist()
        expected = oracles.import_fragments(random_rows(seed), SIZES, min_num_fragments=1)
        assert own["n_fragment"].tolist() == expected.n_fragment
    assert list(ga.pp.read_summaries(adata)) == ["zeta", "alpha"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a"], "1 sample names for 2 files; give one name for each file"),
        (["a", "a"], r"sample names must differ, got 'a' more than once; pass sample=\[\.\.\.\]\."),
        ("ab", r"sample is one name, 'ab', for 2 files; pass a list of 2 names, sample=\[\.\.\.\]\."),
        ([1, 2], r"sample names must be text, got 1 \(int\); pass strings"),
        (["a/b", "c"], "got 'a/b'; choose others"),
        (["a#b", "c"], "got 'a#b'; choose others"),
        (["", "c"], "got ''; choose others"),
        ([".a", "c"], r"got '\.a'; choose others"),
    ],
)
def test_sample_names_that_do_not_fit_are_refused(source, names, message):
    with pytest.raises(InputError, match=message):
        load([source, source], sample=names)


def test_files_of_one_stem_need_names(source, tmp_path):
    with pytest.raises(InputError, match="more than once"):
        load([source, source])
    with pytest.raises(InputError, match="names no file; give at least one"):
        load([])


def test_data_sets_are_written_to_out_and_not_replaced_unasked(source, tmp_path):
    adata = load(source, out=tmp_path / "o")
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["toy.fragments"]
    with pytest.raises(OutputExistsError, match="exists already; pass force=True"):
        load(source, out=tmp_path / "o")
    again = load(source, out=tmp_path / "o", force=True)
    pd.testing.assert_frame_equal(adata.obs, again.obs)
    from_store = load(tmp_path / "o" / "toy.fragments")
    pd.testing.assert_frame_equal(adata.obs, from_store.obs)
    assert ga.pp.read_summaries(from_store)["toy"].lines == 400


def test_a_stricter_import_from_a_data_set_equals_one_from_the_text(source, tmp_path):
    load(source, out=tmp_path / "o")
    for options in ({"min_num_fragments": 60}, {"whitelist": ["AA-1", "C-1"]}):
        a, b = load(tmp_path / "o" / "toy.fragments", **options), load(source, **options)
        pd.testing.assert_frame_equal(a.obs, b.obs)
        one, two = (ga.pp.read_summaries(x)["toy"] for x in (a, b))
        assert one.dropped == two.dropped
        assert one.accounted


def test_two_thresholds_on_one_file_do_not_share_their_columns(source):
    many, few = load(source), load(source, min_num_fragments=60)
    ga.metrics.frag_size_distr(few)
    ga.metrics.frag_size_distr(many)
    total = [ga.pp.read_summaries(a)["toy"].kept for a in (few, many)]
    assert [a.uns["frag_size_distr"].sum() for a in (few, many)] == total


def test_three_columns_are_one_bulk_sample(tmp_path):
    path = write(tmp_path / "bulk.bed", [row[:3] for row in random_rows()])
    adata = load(path, min_num_fragments=10_000)  # a bulk sample is never left out
    expected = oracles.import_fragments([(*r[:3], "bulk") for r in random_rows()], SIZES, min_num_fragments=0)
    assert adata.obs_names.tolist() == ["bulk"]
    assert adata.obs["n_fragment"].tolist() == expected.n_fragment
    assert load(path, sample="liver").obs_names.tolist() == ["liver"]


def test_importing_leaves_the_input_as_it_was(source):
    before = hashlib.sha256(source.read_bytes()).hexdigest()
    load(source)
    assert hashlib.sha256(source.read_bytes()).hexdigest() == before


def test_bad_arguments_are_refused_before_anything_is_written(source, tmp_path):
    out = tmp_path / "o"
    with pytest.raises(InputError, match="min_num_fragments must be at least 0, got -1"):
        load(source, min_num_fragments=-1, out=out)
    with pytest.raises(MissingFileError, match=r"nowhere\.tsv does not exist; check the path"):
        load([source, tmp_path / "nowhere.tsv"], out=out)
    with pytest.raises(InputError, match="device must be one of"):
        load(source, device="cuda", out=out)
    left = sorted(p.name for p in out.iterdir()) if out.exists() else []
    assert not [name for name in left if "partial" in name]


@pytest.mark.skipif(ga.backend.gpu_problem() is None, reason="there is a GPU")
def test_gpu_asked_for_without_a_gpu_is_an_error_with_the_reason(source):
    with pytest.raises(DeviceUnavailableError, match=r"device 'gpu' is not available: .*pass device='cpu'"):
        load(source, device="gpu")


def test_bam_files_are_read_with_their_options(data_dir):
    adata = ga.pp.import_fragments(
        data_dir / "formats/macs_tiny/tiny.bam", ga.Genome.builtin("hg19"), min_num_fragments=1, device="cpu",
        bam_options={"barcode_tag": None, "is_paired": False},
    )  # fmt: skip
    assert adata.obs_names.tolist() == ["tiny"]
    summary = ga.pp.read_summaries(adata)["tiny"]
    assert summary.accounted
    assert 0 < adata.obs["n_fragment"].iloc[0] <= summary.kept


@pytest.mark.parametrize("name", ["archr_pbsmall_hg19", "c1_39cells_hg19", "pbmc500_chr22_hg38"])
def test_real_files_give_the_totals_that_snapatac2_gives(data_dir, name):
    folder = data_dir / "scatac" / name
    (path,) = folder.glob("*.tsv.gz")
    (table,) = folder.glob("*snapatac2_qc.tsv")
    expected = pd.read_csv(table, sep="\t", index_col=0)
    adata = ga.pp.import_fragments(
        path, ga.Genome.builtin(name.rsplit("_", 1)[1]), min_num_fragments=1, device="cpu"
    )
    common = expected.index[expected.index.isin(adata.obs_names)]
    assert len(common) == len(expected)
    found = adata.obs.loc[common]
    np.testing.assert_array_equal(found["n_fragment"], expected["n_fragment"])
    np.testing.assert_allclose(found["frac_dup"], expected["frac_dup"], atol=1e-6)
    np.testing.assert_allclose(found["frac_mito"], expected["frac_mito"], atol=1e-6)
    (summary,) = ga.pp.read_summaries(adata).values()
    assert summary.accounted


# ------------------------------------------------------------------------------------------------ filter_cells


def measured():
    obs = pd.DataFrame(
        {
            "n_fragment": [500, 1000, 2000, 9000, 3000],
            "tsse": [9.0, 5.0, 4.99, 20.0, np.nan],
            "frac_mito": [0.0, 0.1, 0.2, 0.3, 0.1],
            "nucleosome_signal": [1.0, np.inf, 2.0, np.nan, 0.5],
            "blacklist_fraction": [0.0, 0.1, 0.0, 0.0, 0.0],
            "frip": [0.5, 0.4, 0.3, 0.2, 0.1],
        },
        index=list("abcde"),
    )
    adata = ad.AnnData(np.arange(10, dtype=np.float32).reshape(5, 2), obs=obs)
    adata.obsm["X_spectral"] = np.arange(5)[:, None].astype(np.float32)
    adata.layers["raw"] = adata.X.copy()
    adata.obsp["distances"] = np.arange(25.0).reshape(5, 5)
    return adata


@pytest.mark.parametrize(
    ("bounds", "kept"),
    [
        ({}, "b"),
        ({"min_counts": 1000}, "bcde"),
        ({"max_counts": 2000}, "abc"),
        ({"min_tsse": 5}, "abd"),
        ({"max_tsse": 9}, "abc"),
        ({"max_frac_mito": 0.1}, "abe"),
        ({"max_nucleosome_signal": 2}, "ace"),
        ({"max_blacklist_fraction": 0}, "acde"),
        ({"min_frip": 0.3}, "abc"),
        ({"min_counts": 0}, "abcde"),
    ],
)
def test_each_bound_is_inclusive_and_nan_fails(bounds, kept):
    if bounds:
        bounds = {"min_counts": None, "min_tsse": None, **bounds}
    else:  # the defaults: 1,000 fragments, TSS enrichment 5
        kept = "bd"
    adata = measured()
    mask = ga.pp.filter_cells(adata, inplace=False, **bounds)
    assert "".join(adata.obs_names[mask]) == kept
    assert mask.dtype == bool
    assert adata.n_obs == 5
    assert "filters" not in adata.uns
    assert ga.pp.filter_cells(adata, **bounds) is None
    assert "".join(adata.obs_names) == kept


def test_report_counts_cells_by_rule_and_by_rule_alone():
    adata = measured()
    ga.pp.filter_cells(adata, min_counts=1000, min_tsse=5, max_frac_mito=0.2)
    (report,) = ga.pp.filter_reports(adata)
    assert (report["verb"], report["before"], report["after"]) == ("pp.filter_cells", 5, 1)
    assert report["rules"] == {
        "n_fragment < 1000": {"fail": 1, "fail_this_alone": 1},
        "tsse < 5": {"fail": 2, "fail_this_alone": 2},
        "frac_mito > 0.2": {"fail": 1, "fail_this_alone": 1},
    }
    adata = measured()
    ga.pp.filter_cells(adata, min_counts=2500, min_tsse=5, max_frac_mito=None)
    (report,) = ga.pp.filter_reports(adata)
    assert report["rules"] == {
        "n_fragment < 2500": {"fail": 3, "fail_this_alone": 2},
        "tsse < 5": {"fail": 2, "fail_this_alone": 1},
    }


def test_every_slot_of_the_cells_kept_goes_with_them():
    adata = measured()
    ga.pp.filter_cells(adata, min_counts=1000, min_tsse=None, min_frip=0.2)
    assert adata.obs_names.tolist() == ["b", "c", "d"]
    np.testing.assert_array_equal(adata.X, np.arange(10).reshape(5, 2)[1:4])
    np.testing.assert_array_equal(adata.layers["raw"], adata.X)
    np.testing.assert_array_equal(adata.obsm["X_spectral"].ravel(), [1, 2, 3])
    np.testing.assert_array_equal(adata.obsp["distances"], np.arange(25).reshape(5, 5)[1:4, 1:4])
    assert adata.shape == (3, 2)
    copy = adata.copy()
    pd.testing.assert_frame_equal(copy.obs, adata.obs)


def test_filters_are_kept_in_order_and_survive_a_file(tmp_path):
    adata = measured()
    ga.pp.filter_cells(adata, min_counts=1000, min_tsse=None)
    ga.pp.filter_cells(adata, min_counts=2000, min_tsse=None)
    ga.io.write_h5ad(adata, tmp_path / "a.h5ad")
    back = ga.io.read_h5ad(tmp_path / "a.h5ad")
    assert [(r["before"], r["after"]) for r in ga.pp.filter_reports(back)] == [(5, 4), (4, 3)]
    assert [r["verb"] for r in ga.pp.history(back)] == ["pp.filter_cells"] * 2


def test_no_cell_left_is_an_error_that_counts_the_rules():
    adata = measured()
    with pytest.raises(InputError, match=r"no cell passes: 5 cells -> 0 \(n_fragment < 100000: 5 fail\)"):
        ga.pp.filter_cells(adata, min_counts=100_000, min_tsse=None)
    assert adata.n_obs == 5
    assert "filters" not in adata.uns


def test_measure_that_was_not_computed_names_its_verb():
    adata = ad.AnnData(obs=pd.DataFrame({"n_fragment": [5000]}, index=["a"]))
    with pytest.raises(MissingSlotError, match=r"adata\.obs has no 'tsse'; call metrics\.tsse first"):
        ga.pp.filter_cells(adata)
    with pytest.raises(MissingSlotError, match=r"call metrics\.frip first"):
        ga.pp.filter_cells(adata, min_tsse=None, min_frip=0.1)
    assert adata.n_obs == 1


# ---------------------------------------------------------------------------------------------- filter_doublets


def scored():
    obs = pd.DataFrame(
        {"doublet_probability": [0.5, 0.51, 0.0, 0.9], "doublet_score": [0.1, 0.2, 0.9, 0.3]}, index=list("abcd")
    )
    return ad.AnnData(np.ones((4, 1), np.float32), obs=obs)


@pytest.mark.parametrize(
    ("thresholds", "kept"),
    [
        ({}, "ac"),
        ({"probability_threshold": 0.8}, "abc"),
        ({"probability_threshold": None, "score_threshold": 0.25}, "ab"),
        ({"score_threshold": 0.25}, "a"),
        ({"probability_threshold": None}, "abcd"),
    ],
)
def test_doublets_above_either_threshold_are_removed(thresholds, kept):
    adata = scored()
    mask = ga.pp.filter_doublets(adata, inplace=False, **thresholds)
    ga.pp.filter_doublets(adata, **thresholds)
    assert "".join(adata.obs_names) == "".join(np.array(list("abcd"))[mask]) == kept


def test_doublet_filter_reports_and_refuses():
    adata = scored()
    ga.pp.filter_doublets(adata, score_threshold=0.25)
    (report,) = ga.pp.filter_reports(adata)
    assert report["rules"]["doublet_probability > 0.5"] == {"fail": 2, "fail_this_alone": 1}
    with pytest.raises(InputError, match=r"probability_threshold must be in \[0, 1\], got 50"):
        ga.pp.filter_doublets(adata, probability_threshold=50)
    with pytest.raises(MissingSlotError, match=r"call pp\.scrublet first"):
        ga.pp.filter_doublets(measured())


# ----------------------------------------------------------------------------------------------------- cell calls


def droplets(seed=0, prefix=""):
    rng = np.random.default_rng(seed)
    n = np.concatenate([rng.normal(9000, 300, 80), rng.uniform(100, 200, 600), rng.uniform(1, 50, 300)])
    return pd.DataFrame({"n_fragment": n.astype(int)}, index=[f"{prefix}b{i}" for i in range(n.size)])


@pytest.mark.parametrize("method", ["knee", "ordmag"])
def test_called_cells_are_the_deep_barcodes(method):
    adata = ad.AnnData(obs=droplets())
    mask = ga.pp.call_cells(adata, method=method, inplace=False)
    assert adata.n_obs == 980
    ga.pp.call_cells(adata, method=method)
    assert adata.n_obs == mask.sum()
    assert (adata.obs["n_fragment"] > 1000).all()
    assert adata.n_obs >= 76
    (report,) = ga.pp.filter_reports(adata)
    assert report["rules"] == {f"below the {method} threshold": {
        "fail": 980 - adata.n_obs, "fail_this_alone": 980 - adata.n_obs}}


def test_cells_are_called_sample_by_sample():
    deep, shallow = droplets(1, "x"), droplets(2, "y")
    shallow["n_fragment"] //= 10  # cells at 900: below the empty droplets' reach in no sample but its own
    obs = pd.concat([deep.assign(sample="deep"), shallow.assign(sample="shallow")])
    adata = ad.AnnData(obs=obs)
    ga.pp.call_cells(adata, lower=5)
    counts = adata.obs.groupby("sample")["n_fragment"]
    assert (counts.size() >= 60).all()
    assert counts.min()["shallow"] < 1000 < counts.min()["deep"]
    assert sorted(adata.uns["cell_calls"]) == ["deep", "shallow"]


def test_call_is_stored_with_its_curve():
    import json

    adata = ad.AnnData(obs=droplets())
    ga.pp.call_cells(adata, method="ordmag", expected_cells=80, seed=3)
    call = json.loads(adata.uns["cell_calls"]["all"])
    assert (call["method"], call["n_barcodes"], call["n_cells"]) == ("ordmag", 980, adata.n_obs)
    assert call["expected_cells"] == 80
    assert call["rank"][0] == 1
    assert call["rank"][-1] == 980
    assert (np.diff(call["n_fragment"]) <= 0).all()
    assert adata.obs["n_fragment"].min() >= call["threshold"]


def test_unknown_method_is_refused():
    with pytest.raises(InputError, match="method must be one of 'knee', 'ordmag', got 'emptydrops'"):
        ga.pp.call_cells(ad.AnnData(obs=droplets()), method="emptydrops")
    with pytest.raises(MissingSlotError, match=r"n_fragment.*pp\.import_fragments"):
        ga.pp.call_cells(ad.AnnData(np.ones((2, 2), np.float32)))
