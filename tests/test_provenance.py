"""Every verb leaves a record: name, parameters, version, device and seconds."""

from __future__ import annotations

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
