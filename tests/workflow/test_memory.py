"""The main job within a memory limit: the same result, told in the summary, and a sample taken up after an interruption."""

from __future__ import annotations

import json

import numpy as np
import pytest

import gpuatac as ga
from gpuatac import memory
from gpuatac.backend import compile_time
from gpuatac.errors import InputError
from gpuatac.io.matrices.csr_file import is_on_disk
from gpuatac.workflow.main_job.summary import COMPILING, as_text


@pytest.fixture(autouse=True)
def _no_limit_is_left():
    ga.io.forget()
    yield
    ga.io.forget()
    ga.set_memory(None)


def report(result):
    return json.loads(result.summary.with_suffix(".json").read_text())


def test_a_run_through_disk_gives_what_one_in_memory_gives(done, small, options, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "LEAST", 1)
    streamed = ga.run(small.fragments, tmp_path / "out", memory=200_000, **options)
    told = report(streamed)
    assert told["memory_limit_bytes"] == 200_000
    assert told["peak_memory_bytes"] > 1 << 20
    assert is_on_disk(streamed.adata.X)
    ours, theirs = ga.io.read_h5ad(streamed.h5ad), done.adata
    assert (ours.X.to_memory() != theirs.X).nnz == 0
    assert ours.obs_names.tolist() == theirs.obs_names.tolist()
    assert ours.obs["leiden"].astype(str).tolist() == theirs.obs["leiden"].astype(str).tolist()
    np.testing.assert_allclose(np.abs(ours.obsm["X_spectral"]), np.abs(theirs.obsm["X_spectral"]), atol=1e-5)
    activity = ours.obsm["gene_activity"]
    assert (activity != theirs.obsm["gene_activity"]).nnz == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if not p.name.startswith(".gpuatac-scratch")) == sorted(
        p.name for p in done.h5ad.parent.iterdir()
    )


def test_summary_shows_peak_and_limit(small, options, tmp_path):
    result = ga.run(small.fragments, tmp_path / "out", memory="900M", doublets="skip", **options)
    assert "(limit 0.9 GiB)" in result.summary.read_text()
    assert report(result)["memory_limit_bytes"] == 900 << 20


def test_a_limit_that_is_none_is_refused_before_anything_is_written(small, options, tmp_path):
    with pytest.raises(InputError, match="memory must be 512M or more"):
        ga.run(small.fragments, tmp_path / "out", memory="12X", **options)
    assert not (tmp_path / "out").exists()


def test_a_run_takes_up_the_sample_that_an_interrupted_one_finished(small, options, tmp_path, caplog):
    out = tmp_path / "out"
    genome = ga.io.read_genome(small.chrom_sizes)
    ga.pp.import_fragments(small.fragments, genome, min_num_fragments=50, out=out, sample="s", device="cpu")
    written = (out / "s.fragments" / "_gpuatac.json").stat().st_mtime_ns
    ga.io.forget()
    with caplog.at_level("INFO", logger="gpuatac"):
        result = ga.run(small.fragments, out, names=["s"], doublets="skip", **options)
    assert "was finished before and is taken as it is" in caplog.text
    assert (out / "s.fragments" / "_gpuatac.json").stat().st_mtime_ns == written
    assert report(result)["reading"]["s"]["accounted"]


def test_compiling_is_counted_apart():
    import numba

    before = compile_time.seconds()
    numba.njit(lambda x: x + 1)(3)
    assert compile_time.seconds() > before


def test_compiling_stands_last_among_the_seconds(done):
    told = {**report(done), "seconds": {"import": 1.0, COMPILING: 9.0, "qc": 2.0}}
    assert f"seconds: import 1.0, qc 2.0, {COMPILING} 9.0; total" in as_text(told)
