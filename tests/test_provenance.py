"""Every verb leaves a record: name, parameters, version, device and seconds."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import gpuatac as ga
from gpuatac.errors import GpuatacError
from gpuatac.provenance import append, history, records

GENOME = ga.Genome("g", {"chr1": 1000})


def table(n=3):
    return anndata.AnnData(np.ones((n, 2), "float32"))


@pytest.fixture
def adata(tmp_path):
    (tmp_path / "s.tsv").write_text("chr1\t1\t5\tA\nchr1\t2\t900\tB\nchr1\t3\t9\tB\n")
    return ga.pp.import_fragments(tmp_path / "s.tsv", GENOME, min_num_fragments=1, device="cpu")


def test_a_data_set_without_records_has_an_empty_history():
    assert history(table()) == []


def test_import_and_verbs_are_recorded_in_order(adata):
    ga.metrics.frag_size_distr(adata, max_recorded_size=50)
    ga.pp.add_tile_matrix(adata, bin_size=100)
    told = ga.pp.history(adata)
    assert [r["verb"] for r in told] == ["pp.import_fragments", "metrics.frag_size_distr", "pp.add_tile_matrix"]
    for record in told:
        assert set(record) == {"verb", "parameters", "version", "device", "seconds"}
        assert (record["version"], record["device"]) == (ga.__version__, "cpu")
        assert 0 <= record["seconds"] < 60


def test_parameters_hold_what_was_given_and_the_defaults_but_not_the_data(adata):
    ga.pp.add_tile_matrix(adata, bin_size=100, exclude_chroms=["chrM"])
    first, second = ga.pp.history(adata)
    assert second["parameters"] == {
        "bin_size": 100, "exclude_chroms": ["chrM"], "counting_strategy": "paired-insertion", "inplace": True,
    }
    assert first["parameters"]["min_num_fragments"] == 1
    assert first["parameters"]["fragment_file"] == "s.tsv"  # a path by its name: the folder is nobody's business
    assert first["parameters"]["genome"] == "Genome g"
    assert first["parameters"]["whitelist"] is None


def test_a_new_data_set_carries_the_history_of_the_one_it_came_from(adata):
    peaks = ga.pp.make_peak_matrix(adata, ["chr1:0-50"])
    assert [r["verb"] for r in history(peaks)] == ["pp.import_fragments", "pp.make_peak_matrix"]
    assert history(peaks)[1]["parameters"]["regions"] == ["chr1:0-50"]
    assert [r["verb"] for r in history(adata)] == ["pp.import_fragments"]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_records_survive_a_file(adata, tmp_path, n):
    for _ in range(n):
        ga.metrics.frag_size_distr(adata)
    ga.io.write_h5ad(adata, tmp_path / "a.h5ad")
    back = ga.io.read_h5ad(tmp_path / "a.h5ad")
    assert history(back) == history(adata)
    ga.metrics.frag_size_distr(back)
    assert len(history(back)) == n + 2
    assert history(anndata.read_h5ad(tmp_path / "a.h5ad")) == history(adata)


def test_a_verb_that_fails_is_not_recorded(adata):
    with pytest.raises(GpuatacError):
        ga.pp.add_tile_matrix(adata, bin_size=0)
    assert [r["verb"] for r in history(adata)] == ["pp.import_fragments"]


def test_a_copy_has_its_own_history(adata):
    other = adata.copy()
    ga.metrics.frag_size_distr(other)
    assert (len(history(adata)), len(history(other))) == (1, 2)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (None, None), (True, True), (3, 3), (2.5, 2.5), ("x", "x"), (np.int64(3), 3), (np.float32(0.5), 0.5), (np.True_, True),
        (Path("folder") / "a.gtf", "a.gtf"), (["a", 1, None], ["a", 1, None]), (("a",), ["a"]), ({1}, [1]),
        ({"peaks": "a.bed", 2: None}, {"peaks": "a.bed", "2": None}), ([1] * 20, [1] * 20), ([1] * 21, "list"),
        (np.zeros((3, 2)), "ndarray (3, 2)"), (pd.DataFrame({"a": [1, 2]}), "DataFrame (2, 1)"),
        (sp.csr_matrix((4, 5)), "csr_matrix (4, 5)"), (GENOME, "Genome g"), (object(), "object"),
        ([Path("x") / "y.bed"], ["y.bed"]), (len, "builtin_function_or_method"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_any_value_becomes_json_that_says_what_was_passed(value, stored):
    adata = table()
    append(adata, "tl.verb", {"x": value}, 0.12345678)
    (record,) = history(adata)
    assert record["parameters"] == {"x": stored}
    assert record["seconds"] == 0.1235
    assert json.dumps(record)


def test_decorated_verb_keeps_name_docstring_and_result():
    @records("tl.sum_of")
    def sum_of(adata, *, scale=1):
        """Sum."""
        return scale * adata.X.sum()

    adata = table()
    assert (sum_of.__name__, sum_of.__doc__, sum_of(adata, scale=2)) == ("sum_of", "Sum.", 12)
    assert history(adata)[0]["parameters"] == {"scale": 2}
    sum_of(adata=adata)
    assert history(adata)[1]["parameters"] == {"scale": 1}


def test_a_maker_is_recorded_on_what_it_returns():
    @records("io.make")
    def make(n, *, name="x"):
        return table(n)

    assert history(make(2))[0] | {"seconds": 0} == {
        "verb": "io.make", "parameters": {"n": 2, "name": "x"}, "version": ga.__version__, "device": "cpu", "seconds": 0,
    }


#: They write no AnnData and return what has no place for a record, or measure by verbs that are recorded.
UNRECORDED = {
    "pp.filter_reports", "pp.history", "pp.make_fragment_file", "pp.read_summaries", "tl.denoised_tracks", "tl.marker_regions",
    "tl.neighbor_aggregates", "tl.peaks_by_group", "tl.random_aggregates", "metrics.qc",
}  # fmt: skip


def test_every_public_verb_is_recorded_but_for_those_that_say_so():
    verbs = {
        f"{part}.{name}": getattr(getattr(ga, part), name)
        for part in ("pp", "tl", "metrics", "ex")
        for name in getattr(ga, part).__all__
        if inspect.isfunction(getattr(getattr(ga, part), name))
    }
    assert len(verbs) > 30
    assert {name for name, verb in verbs.items() if not hasattr(verb, "__wrapped__")} == UNRECORDED
    assert hasattr(ga.io.set_fragments_path, "__wrapped__")


def test_frames_that_verbs_return_carry_their_record_and_the_peak_matrix_takes_it_over(adata):
    called = pd.DataFrame({"chrom": ["chr1"], "start": [100], "end": [300], "peak": [50], "p_value": [9.0]})
    peaks = ga.tl.merge_peaks({"B": called}, GENOME, half_width=20)
    (record,) = history(peaks)
    assert (record["verb"], record["version"], record["device"]) == ("tl.merge_peaks", ga.__version__, "cpu")
    assert record["parameters"]["half_width"] == 20
    assert record["parameters"]["peaks"] == {"B": "DataFrame (1, 5)"}
    assert json.dumps(peaks.attrs)  # Parquet and others write attrs as JSON
    assert history(peaks[peaks["B"]]) == history(peaks)
    matrix = ga.pp.make_peak_matrix(adata, peaks)
    assert [r["verb"] for r in history(matrix)] == ["pp.import_fragments", "tl.merge_peaks", "pp.make_peak_matrix"]
    assert [r["verb"] for r in history(adata)] == ["pp.import_fragments"]


def test_tests_and_aggregates_carry_their_record_and_leave_the_cells_alone():
    adata = anndata.AnnData(np.random.default_rng(0).poisson(1.0, (40, 5)).astype("float32"))
    adata.obs["kind"] = ["a", "b"] * 20
    found = ga.tl.diff_test(adata, groupby="kind", method="wilcoxon", min_log_fc=-9)
    (record,) = history(found)
    assert (record["verb"], record["parameters"]["method"]) == ("tl.diff_test", "wilcoxon")
    assert history(adata) == []
    append(adata, "tl.before", {}, 0.0)
    sums = ga.tl.aggregate(adata, "kind", normalize="RPM")
    assert [r["verb"] for r in history(sums)] == ["tl.before", "tl.aggregate"]
    assert history(sums)[1]["parameters"] == {"groupby": "kind", "normalize": "RPM"}


def test_exported_peaks_and_moved_fragments_are_recorded(adata, tmp_path):
    adata.uns["peaks"] = pd.DataFrame(
        {"group": pd.Categorical(["B"]), "chrom": ["chr1"], "start": [100], "end": [300], "score": [1], "strand": ["."],
         "signal_value": [1.0], "p_value": [9.0], "q_value": [8.0], "peak": [50]}
    )  # fmt: skip
    ga.ex.export_peaks(adata, out_dir=tmp_path / "peaks")
    ga.io.set_fragments_path(adata, tmp_path / "s.tsv")
    told = history(adata)
    assert [r["verb"] for r in told] == ["pp.import_fragments", "ex.export_peaks", "io.set_fragments_path"]
    assert told[2]["parameters"] == {"path": "s.tsv", "sample": None}


def test_files_of_annotation_and_blacklist_are_told(adata, tmp_path):
    (tmp_path / "genes.bed").write_text("chr1\t100\t500\tG\t0\t+\n")
    (tmp_path / "black.bed").write_text("chr1\t1\t50\n")
    genome = ga.io.read_genome(GENOME, genes=tmp_path / "genes.bed", blacklist=tmp_path / "black.bed")
    ga.metrics.tsse(adata, genome)
    ga.metrics.blacklist_fraction(adata, genome.blacklist)
    ga.metrics.qc(adata, genes=genome.transcripts)
    told = {r["verb"]: r["parameters"] for r in history(adata)[1:3]}
    assert told["metrics.tsse"]["genes"] == "Genome g, transcripts of genes.bed, blacklist of black.bed"
    assert told["metrics.blacklist_fraction"]["blacklist"] == "DataFrame (1, 3) of black.bed"
    assert any(r["parameters"].get("genes") == "DataFrame (1, 7) of genes.bed" for r in history(adata)[3:])
