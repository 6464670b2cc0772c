"""Going on from a step: only with one run, its samples, and options that the steps to come use."""

from __future__ import annotations

import json

import pytest
from devices import GPU, on_device

import gpuatac as ga
from gpuatac.errors import InputError, MissingFileError
from gpuatac.io.fragments import attach
from gpuatac.options import RunOptions
from gpuatac.provenance import device_of
from gpuatac.workflow.main_job import resume, steps


def edit(path, change):
    """Change an .h5ad in place."""
    adata = ga.io.read_h5ad(path)
    change(adata)
    ga.io.write_h5ad(adata, path, force=True)


def test_every_option_names_the_step_that_uses_it_first():
    for f in RunOptions.__dataclass_fields__.values():
        assert f.metadata["step"] in resume.ORDER
    assert set(steps.RESTARTS) == set(resume.ORDER) - {"import"}


@pytest.mark.parametrize(
    ("step", "given", "message"),
    [
        ("leiden", {"bin_size": 500}, r"bin_size \(--bin-size\) was 1000 and is 500; from 'leiden' only .* from 'tiles' \(--from t"),
        ("leiden", {"genome": "mm10"}, r"genome \(--genome\) was .* is 'mm10'; .* run again without from_step \(--from\)"),
        ("leiden", {"bin_size": 500, "min_tsse": 9.0}, r"min_tsse .*bin_size .*go on from 'cells'"),
        ("cells", {"contigs": "all"}, r"contigs .* run again without"),
        ("cells", {"genes": None}, r"genes \(--genes\) was .* go on from 'qc' \(--from qc\)"),
        ("figures", {"min_dist": 0.5}, r"min_dist .* go on from 'umap'"),
        ("knn", {"seed": 3}, r"seed .* go on from 'doublets'"),
        ("knn", {"upper_quantile": 0.1}, r"upper_quantile .* go on from 'features'"),
        ("cells", {"min_fragments": 20}, r"min_fragments=20 needs barcodes from 20 fragments, and the import .* below 50; run a"),
        ("qc", {"call_cells": "knee"}, r"call_cells='knee' needs barcodes from 10 fragments"),
    ],
    ids=str,
)  # fmt: skip
def test_an_option_of_an_earlier_step_is_refused_with_the_step_to_go_on_from(copied, small, step, given, message):
    before = {p: p.stat().st_mtime_ns for p in copied.rglob("*")}
    with pytest.raises(InputError, match=message):
        ga.run(small.fragments, copied, device="cpu", from_step=step, **given)
    assert {p: p.stat().st_mtime_ns for p in copied.rglob("*")} == before


def test_a_bound_on_the_tss_enrichment_needs_genes_now_or_in_the_earlier_run(copied, small):
    for given in ({"genes": None, "min_tsse": 3.0}, {"genes": None, "min_tsse": 5.0}):
        with pytest.raises(InputError, match=r"min_tsse=[35] needs genes"):
            ga.run(small.fragments, copied, device="cpu", from_step="qc", **given)
    kept = ga.run(small.fragments, copied, device="cpu", from_step="cells", min_tsse=1.5)
    assert kept.report["options"]["genes"] == str(small.genes)
    assert kept.adata.obs["tsse"].min() >= 1.5
    with pytest.raises(InputError, match=r"min_tsse=1.5 needs genes"):  # a bound of the earlier run
        ga.run(small.fragments, copied, device="cpu", from_step="qc", genes=None)
    loosened = ga.run(small.fragments, copied, device="cpu", from_step="qc", genes=None, min_tsse=0)
    assert "tsse" not in loosened.adata.obs


def test_the_same_values_may_be_given_again(copied, small, options, monkeypatch):
    monkeypatch.chdir(small.genes.parent)
    again = {**options, "genes": small.genes.name, "bin_size": 1000.0}
    assert ga.run(small.fragments, copied, from_step="figures", **again).report["from_step"] == "figures"


def test_steps_that_start_at_the_cells_take_options_of_the_cells(copied, small):
    result = ga.run(
        small.fragments, copied, device="cpu", from_step="doublets", min_fragments=500, bin_size=2000, doublets="skip"
    )
    assert result.adata.obs["n_fragment"].min() >= 500
    assert result.report["options"]["bin_size"] == 2000
    assert result.adata.n_vars == 1000 + 600


def test_annotation_given_anew_is_measured_from_the_quality_step(copied, small, tmp_path):
    black = tmp_path / "b.bed"
    black.write_text("chr1\t0\t500000\n")
    with pytest.raises(InputError, match=r"blacklist \(--blacklist\) was None .* go on from 'qc'"):
        ga.run(small.fragments, copied, device="cpu", from_step="cells", blacklist=black)
    result = ga.run(
        small.fragments, copied, device="cpu", from_step="qc", blacklist=black, genes=None, min_fragments=500,
        doublets="skip",
    )  # fmt: skip
    assert "blacklist_fraction" in result.adata.obs
    assert "tsse" not in result.adata.obs
    assert "median_tsse" not in result.report


def test_files_of_two_runs_are_never_mixed(copied, small):
    edit(copied / "s.qc.h5ad", lambda adata: adata.uns.update(run_id="another"))
    with pytest.raises(
        InputError, match=r"s\.h5ad and s\.qc\.h5ad in .* are of two runs .* go on from 'cells' .*force=True"
    ):
        ga.run(small.fragments, copied, device="cpu", from_step="umap")
    ga.run(small.fragments, copied, device="cpu", from_step="cells", doublets="skip")
    assert ga.io.read_h5ad(copied / "s.h5ad").uns["run_id"] == "another"
    ga.run(small.fragments, copied, device="cpu", from_step="umap")


def test_each_writing_of_the_checkpoint_has_its_own_id(copied, small):
    first = resume.stored_in(copied / "s.qc.h5ad").run_id
    assert first == resume.stored_in(copied / "s.h5ad").run_id
    ga.run(small.fragments, copied, device="cpu", from_step="qc", doublets="skip")
    second = resume.stored_in(copied / "s.qc.h5ad").run_id
    assert second == resume.stored_in(copied / "s.h5ad").run_id != first


def test_a_run_that_fails_after_replacing_the_fragments_leaves_no_stale_checkpoint(copied, small, options, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setitem(steps.STEPS, "qc", stop)
    with pytest.raises(KeyboardInterrupt):
        ga.run(small.fragments, copied, force=True, **options)
    with pytest.raises(MissingFileError, match="there is no earlier run to go on from"):
        ga.run(small.fragments, copied, device="cpu", from_step="leiden")


def test_a_foreign_or_missing_result_is_refused(copied, small):
    edit(copied / "s.h5ad", lambda adata: adata.uns.pop("run"))
    with pytest.raises(InputError, match="are of two runs"):
        ga.run(small.fragments, copied, device="cpu", from_step="figures")
    (copied / "s.h5ad").unlink()
    with pytest.raises(MissingFileError, match=r"no finished step before 'figures'; go on from 'cells' instead"):
        ga.run(small.fragments, copied, device="cpu", from_step="figures")
    (copied / "s.qc.h5ad").write_text("text")
    with pytest.raises(InputError, match=r"s\.qc\.h5ad was not written by gpuatac run; run again"):
        ga.run(small.fragments, copied, device="cpu", from_step="cells")


def test_samples_must_be_those_of_the_earlier_run(copied, small):
    for name in ("s.h5ad", "s.qc.h5ad"):
        (copied / name).rename(copied / name.replace("s.", "combined.", 1))
    with pytest.raises(InputError, match=r"has the samples s, got a, b; give the same files and names \(--names\)"):
        ga.run([small.fragments] * 2, copied, names=["a", "b"], device="cpu", from_step="leiden")
    with pytest.raises(MissingFileError, match="or give the files and names of that run"):
        ga.run(small.fragments, copied, names=["other"], device="cpu", from_step="leiden")


def on_gpu(adata):
    records = attach.records_of(adata)
    for record in records:
        record["device"] = "gpu"
    attach.set_records(adata, records, str(adata.uns["fragments"]["base"]))


@pytest.mark.parametrize("step", ["cells", "genes"])
def test_the_device_asked_for_is_the_one_used(copied, small, step):
    for name in ("s.h5ad", "s.qc.h5ad"):
        edit(copied / name, on_gpu)
    n_before = len(ga.pp.history(ga.io.read_h5ad(copied / ("s.qc.h5ad" if step == "cells" else "s.h5ad"))))
    adata = ga.run(
        small.fragments, copied, device="cpu", from_step=step, doublets="skip" if step == "cells" else "remove"
    ).adata
    assert [r["device"] for r in attach.records_of(adata)] == ["cpu"]
    assert {r["device"] for r in ga.pp.history(adata)[n_before:]} == {"cpu"}
    assert json.loads((copied / "s.summary.json").read_text())["device"] == "cpu"


@pytest.fixture(params=[GPU])
def gpu(request):
    with on_device(request) as device:
        yield device


def test_going_on_moves_a_cpu_run_to_the_gpu(copied, small, gpu):
    before = len(ga.pp.history(ga.io.read_h5ad(copied / "s.h5ad")))
    adata = ga.run(small.fragments, copied, device=gpu, from_step="knn").adata
    assert {r["device"] for r in ga.pp.history(adata)[before:]} == {"gpu"}
    assert [r["device"] for r in attach.records_of(adata)] == ["gpu"]


def test_a_record_names_the_device_of_the_matrix_not_of_the_fragments(done):
    adata = done.adata.copy()
    on_gpu(adata)
    assert device_of(adata) == "cpu"
    adata.X = None
    assert device_of(adata) == "cpu"  # obsm lies on the host
