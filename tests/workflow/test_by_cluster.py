"""Peaks and coverage of the clusters: what the main job writes, where it ends, and how it goes on."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pyBigWig
import pytest
from anndata import AnnData

import gpuatac as ga
from gpuatac import memory
from gpuatac.errors import InputError, OutputExistsError
from gpuatac.io.matrices.csr_file import is_on_disk
from gpuatac.options import RunOptions
from gpuatac.workflow.main_job import by_cluster, steps


def told(result):
    return json.loads(result.summary.with_suffix(".json").read_text())


def names_in(folder):
    return sorted(p.name for p in folder.iterdir())


def bed(path, columns):
    return pd.read_csv(path, sep="\t", header=None, names=columns)


# ------------------------------------------------------------------------------------------------------ the outputs


def test_peaks_and_coverage_of_each_cluster_are_written(whole):
    folder = whole.h5ad.parent
    assert names_in(folder) == [
        "s.coverage", "s.figures", "s.fragments", "s.h5ad", "s.peaks", "s.peaks.h5ad", "s.qc.h5ad", "s.summary.json",
        "s.summary.txt",
    ]  # fmt: skip
    clusters = list(whole.adata.obs["leiden"].cat.categories)
    assert names_in(folder / "s.peaks") == sorted(
        [*(f"{c}.narrowPeak" for c in clusters), "consensus.bed", "markers.tsv"]
    )
    assert names_in(folder / "s.coverage") == [f"{c}.bw" for c in clusters]
    assert whole.peaks == folder / "s.peaks"
    assert whole.coverage == [folder / "s.coverage" / f"{c}.bw" for c in clusters]
    adata = ga.io.read_h5ad(whole.h5ad)
    for name, frame in ga.tl.peaks_by_group(adata).items():
        assert len(bed(folder / "s.peaks" / f"{name}.narrowPeak", range(10))) == len(frame) > 100
    assert adata.obs["frip"].between(0.1, 1).all()


def test_consensus_markers_and_matrix_agree(whole):
    matrix = ga.io.read_h5ad(whole.peak_matrix)
    adata = ga.io.read_h5ad(whole.h5ad)
    pd.testing.assert_series_equal(matrix.obs["leiden"], adata.obs["leiden"])
    np.testing.assert_array_equal(matrix.obsm["X_umap"], adata.obsm["X_umap"])
    table = bed(whole.peaks / "consensus.bed", ["chrom", "start", "end", "groups"])
    assert (table["end"] - table["start"]).eq(501).mean() > 0.99
    assert table.sort_values(["chrom", "start"]).index.tolist() == list(range(len(table)))
    found = table["chrom"] + ":" + table["start"].astype(str) + "-" + table["end"].astype(str)
    assert set(found) == set(matrix.var_names)
    clusters = list(adata.obs["leiden"].cat.categories)
    by_name = matrix.var.loc[found, clusters]
    assert table["groups"].tolist() == [",".join(by_name.columns[row]) or "." for row in by_name.to_numpy(bool)]
    # counted again from the fragments
    again = ga.pp.make_peak_matrix(adata, found.tolist())
    assert (again.X != matrix[:, found.tolist()].X).nnz == 0
    markers = pd.read_csv(whole.peaks / "markers.tsv", sep="\t", dtype={"group": str})
    pvalue = told(whole)["marker_pvalue"]
    expected = ga.tl.marker_regions(matrix, "leiden", pvalue=pvalue)
    assert markers.groupby("group")["region"].agg(set).to_dict() == {k: set(v) for k, v in expected.items()}
    assert len(markers) > 5
    for _, part in markers.groupby("group"):
        assert (part["rpkm"] > part["rpkm_others"]).all()
        gain = part["rpkm"] - part["rpkm_others"]
        assert (gain.diff().dropna() <= 0.002 * part["rpkm"].max()).all()  # falling; written with four digits
    # reads per kb of the region and million counts of the cluster, and their mean over the other clusters
    counts = pd.DataFrame(matrix.X.toarray(), columns=matrix.var_names).groupby(matrix.obs["leiden"].to_numpy()).sum()
    length = (matrix.var["end"] - matrix.var["start"]).to_numpy()
    rpkm = counts.div(counts.sum(axis=1) / 1e6, axis=0) / (length / 1e3)
    assert len(rpkm) == len(clusters) >= 3
    for _, marker in markers.iterrows():
        of_region = rpkm[marker["region"]]
        assert marker["rpkm"] == pytest.approx(of_region[marker["group"]], rel=1e-3)
        assert marker["rpkm_others"] == pytest.approx(of_region.drop(marker["group"]).mean(), rel=1e-3, abs=1e-9)
    assert markers["rpkm_others"].gt(0).any()


def test_coverage_tracks_hold_the_fragments_of_their_cluster(whole):
    adata = whole.adata
    everything = ga.ex.export_fragments(adata, "leiden", out_dir=whole.h5ad.parent.parent / "bed", suffix=".bed")
    frame = bed(everything["1"], range(5))
    long = frame[2] - frame[1] > 2000
    with pyBigWig.open(str(whole.coverage[1])) as track:
        assert track.chroms() == {"chr1": 2_000_000, "chr2": 1_200_000, "chrM": 16_569}
        first = track.intervals("chr1")[0]
    start = frame.loc[(frame[0] == "chr1") & ~long, 1].min() // 10 * 10
    assert first[0] == start
    assert first[2] == pytest.approx(1 / ((~long).sum() / 1e6 * 0.01), rel=1e-6)  # one fragment as RPKM in 10 bp


def test_summary_tells_numbers_of_peaks_and_coverage(whole):
    report, text = told(whole), whole.summary.read_text()
    table = ga.io.read_h5ad(whole.h5ad).uns["peaks"]
    assert report["peaks"] == {str(k): int(v) for k, v in table["group"].value_counts(sort=False).items()}
    assert report["n_consensus_peaks"] == ga.io.read_h5ad(whole.peak_matrix).n_vars
    assert report["coverage"] == [f"{c}.bw" for c in report["clusters"]]
    assert "peaks (q <= 0.05) by cluster: 0: " in text
    assert f"consensus: {report['n_consensus_peaks']:,} peaks of 501 bp; " in text
    assert f"{report['median_frip']:.0%} of a cell's fragments lie in them (median FRiP)" in text
    assert "marker regions (p < 0.0" in text
    assert f"coverage: {len(report['coverage'])} bigWig files, RPKM in bins of 10 bp" in text
    assert {"peaks", "coverage"} <= set(report["seconds"])


def test_figures_show_marker_regions_and_their_tracks(whole):
    drawn = {p.name for p in whole.figures}
    assert {"tracks_1.png", "marker_regions.png"} <= drawn
    assert all(p.stat().st_size > 5000 for p in whole.figures)
    matrix = ga.io.read_h5ad(whole.peak_matrix)
    genome = ga.io.read_genome(told(whole)["options"]["genome"])
    from gpuatac.workflow.main_job.figures import AROUND, loci

    marked = by_cluster.markers_of(matrix)
    found = loci(whole.adata, matrix, genome)
    assert len(found) == len([name for name in drawn if name.startswith("tracks_")]) == min(4, len(marked))
    for title, (chrom, low, high) in found:
        strongest = matrix.var.loc[marked[title.rpartition(" ")[2]][0]]
        assert chrom == strongest["chrom"]
        assert low <= strongest["start"] < strongest["end"] <= high <= low + 2 * AROUND
    matrix.uns["markers"] = matrix.uns["markers"].iloc[:0]
    assert next(title for title, _ in loci(whole.adata, matrix, genome)).startswith("highest peak of cluster 0")


def test_history_names_the_folder_and_not_its_temporary_name(whole):
    last = [r for r in ga.pp.history(whole.adata) if r["verb"] == "ex.export_coverage"]
    assert last[0]["parameters"]["out_dir"] == "s.coverage"
    assert "partial" not in json.dumps(ga.pp.history(whole.adata))


# ------------------------------------------------------------------------------------------ where it ends, going on


def test_a_run_to_the_clusters_says_so_and_writes_no_peaks(done):
    assert "the job ended at the clusters (--until clusters)" in done.summary.read_text()
    assert "peaks" not in done.adata.uns
    assert (done.peaks, done.peak_matrix, done.coverage) == (None, None, [])
    assert not {"peaks", "coverage"} & set(told(done))


def test_going_on_from_the_peaks_takes_their_options(whole_copied, small):
    n_before = bed(whole_copied / "s.peaks" / "consensus.bed", range(4)).shape[0]
    result = ga.run(small.fragments, whole_copied, device="cpu", from_step="peaks", until="peaks", peak_qvalue=1e-6,
                    peak_max_frag_size=150, peak_half_width=100, marker_pvalue=0.2)  # fmt: skip
    table = bed(whole_copied / "s.peaks" / "consensus.bed", range(4))
    assert 0 < len(table) < n_before
    assert (table[2] - table[1]).mode().tolist() == [201]
    assert not (whole_copied / "s.coverage").exists()  # of a step behind the last
    assert result.coverage == []
    call = next(r for r in reversed(ga.pp.history(result.adata)) if r["verb"] == "tl.call_peaks")
    assert (call["parameters"]["qvalue"], call["parameters"]["max_frag_size"]) == (1e-6, 150)
    assert told(result)["marker_pvalue"] == 0.2
    assert "the job ended at the peaks" in result.summary.read_text()
    # on to the coverage, with the peaks as they are
    before = (whole_copied / "s.peaks" / "consensus.bed").stat().st_mtime_ns
    with pytest.raises(InputError, match=r"from_step='coverage' lies behind until='peaks'; .* \(--from, --until\)"):
        ga.run(small.fragments, whole_copied, device="cpu", from_step="coverage", until="peaks")
    again = ga.run(small.fragments, whole_copied, device="cpu", from_step="coverage", coverage_bin_size=50,
                   coverage_normalization="none", figure_format="svg")  # fmt: skip
    assert (whole_copied / "s.peaks" / "consensus.bed").stat().st_mtime_ns == before
    assert told(again)["n_consensus_peaks"] == len(table)
    assert "counts in bins of 50 bp" in again.summary.read_text()
    with pyBigWig.open(str(again.coverage[0])) as track:
        values = {v for *_, v in track.intervals("chr1")}
    assert all(v == int(v) for v in values)
    tracks = {p.suffix for p in (whole_copied / "s.figures").glob("tracks_*")}
    assert tracks == {".svg"}  # those of the earlier format are gone


def test_new_clusters_make_new_peaks_or_none(whole_copied, small):
    result = ga.run(small.fragments, whole_copied, device="cpu", from_step="leiden", resolution=0.2, until="clusters")
    assert not (whole_copied / "s.peaks").exists()
    assert not (whole_copied / "s.peaks.h5ad").exists()
    assert "peaks" not in result.adata.uns
    assert "frip" not in result.adata.obs
    assert "tracks_1.png" not in names_in(whole_copied / "s.figures")
    with pytest.raises(InputError, match=r"from_step='coverage' needs .* ended at the clusters; go on from 'peaks'"):
        ga.run(small.fragments, whole_copied, device="cpu", from_step="coverage")
    with pytest.raises(InputError, match=r"until \(--until\) was 'clusters' and is 'peaks'; .* go on from 'peaks'"):
        ga.run(small.fragments, whole_copied, device="cpu", from_step="figures", until="peaks")


def test_figures_drawn_again_leave_the_peaks_as_they_are(whole_copied, whole, small):
    before = {p: p.stat().st_mtime_ns for p in whole_copied.rglob("*") if ".peaks" in str(p) or ".coverage" in str(p)}
    result = ga.run(small.fragments, whole_copied, device="cpu", from_step="figures")
    assert {p: p.stat().st_mtime_ns for p in before} == before
    for key in ("peaks", "markers", "n_consensus_peaks", "median_frip", "coverage"):
        assert told(result)[key] == told(whole)[key]


def test_a_run_that_stops_midway_leaves_the_earlier_results(whole_copied, small, monkeypatch):
    before = {p: p.stat().st_mtime_ns for p in whole_copied.rglob("*") if p.name != "s.figures"}

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setitem(by_cluster.STEPS, "coverage", stop)
    with pytest.raises(KeyboardInterrupt):
        ga.run(small.fragments, whole_copied, device="cpu", from_step="leiden", resolution=0.2)
    assert {p: p.stat().st_mtime_ns for p in whole_copied.rglob("*") if p.name != "s.figures"} == before


def test_folders_that_are_there_are_not_replaced_without_force(small, options, tmp_path):
    mine = tmp_path / "s.coverage" / "mine.bw"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(OutputExistsError, match=r"s\.coverage exists already; pass force=True \(--force\)"):
        ga.run(small.fragments, tmp_path, **options)
    assert mine.read_text() == "mine"
    sizes = shutil.copy(small.chrom_sizes, tmp_path / "s.coverage" / "chrom.sizes")
    with pytest.raises(InputError, match=r"genome .*chrom\.sizes is where this run writes s\.coverage"):
        ga.run(small.fragments, tmp_path, force=True, **{**options, "genome": str(sizes)})


def test_peaks_within_a_memory_limit_are_the_same(whole, done, small, tmp_path, monkeypatch):
    folder = shutil.copytree(done.h5ad.parent, tmp_path / "out")
    monkeypatch.setattr(memory, "LEAST", 1)
    try:
        result = ga.run(small.fragments, folder, device="cpu", from_step="peaks", memory=200_000)
        assert is_on_disk(ga.io.read_h5ad(result.peak_matrix).X)
    finally:
        ga.set_memory(None)
        ga.io.forget()
    ours, theirs = ga.io.read_h5ad(result.peak_matrix), ga.io.read_h5ad(whole.peak_matrix)
    assert (ours.X != theirs.X).nnz == 0
    for name in ("consensus.bed", "markers.tsv", "0.narrowPeak"):
        assert (folder / "s.peaks" / name).read_bytes() == (whole.peaks / name).read_bytes()


# ------------------------------------------------------------------------------------------------- what is left out


def test_blacklisted_regions_have_neither_peaks_nor_coverage(copied, small, tmp_path):
    black = tmp_path / "b.bed"
    black.write_text("chr1\t0\t1000000\n")
    result = ga.run(small.fragments, copied, device="cpu", from_step="qc", blacklist=black, until="coverage", doublets="skip",
                    exclude_chroms="chr2")  # fmt: skip
    table = bed(result.peaks / "consensus.bed", ["chrom", "start", "end", "groups"])
    assert set(table["chrom"]) <= {"chr1", "chrM"}
    assert table.loc[table["chrom"] == "chr1", "end"].min() > 1_000_000
    with pyBigWig.open(str(result.coverage[0])) as track:
        assert track.intervals("chr1", 0, 999_000) is None
        assert track.intervals("chr2")


def test_clusters_of_few_cells_have_no_peaks_and_are_named(copied, small):
    sizes = ga.io.read_h5ad(copied / "s.h5ad").obs["leiden"].value_counts()
    limit = int(sizes.min()) + 1
    result = ga.run(small.fragments, copied, device="cpu", from_step="peaks", peak_min_cells=limit, until="peaks")
    few = [name for name, n in sizes.items() if n < limit]
    assert 0 < len(few) < len(sizes)
    report = told(result)
    assert "peaks" not in report["skipped"]
    assert sorted(report["clusters_without_peaks"]) == sorted(few)
    assert {name for name, n in report["peaks"].items() if not n} == set(few)
    assert f"fewer than {limit} cells (peak_min_cells)" in result.summary.read_text()


def test_without_clusters_or_peaks_the_steps_say_why(tmp_path, small):
    made = by_cluster.Made(None, None, None)
    adata = AnnData(np.ones((3, 2), np.float32))
    by_cluster.peaks(adata, RunOptions(), None, made)
    by_cluster.coverage(adata, RunOptions(), None, made)
    assert steps.skipped(adata)["peaks"].startswith("there are no clusters (gpuatac peaks takes groups of your own")
    assert steps.skipped(adata)["coverage"].startswith("there are no clusters")
    adata.obs["leiden"] = pd.Categorical(["0", "0", "1"])
    by_cluster.peaks(adata, RunOptions(), None, made)
    assert steps.skipped(adata)["peaks"] == "the largest cluster has 2 cells and peak_min_cells is 5"
    few = tmp_path / "few.tsv"
    few.write_text("".join(f"chr1\t{1000 * i + 90 * (i % 5)}\t{1000 * i + 600}\tC{i % 8}\n" for i in range(400)))
    genome = ga.io.read_genome(small.chrom_sizes)
    adata = ga.pp.import_fragments(few, genome, min_num_fragments=1, device="cpu")
    adata.obs["leiden"] = pd.Categorical(["0"] * 8)
    by_cluster.peaks(adata, RunOptions(peak_qvalue=1e-200), genome, made)
    assert steps.skipped(adata)["peaks"] == "no cluster has a peak at q-value 1e-200"
    assert "peaks" not in adata.uns


def test_two_clusters_have_no_markers_and_the_summary_says_why(copied, small):
    def two(adata):
        adata.obs["leiden"] = pd.Categorical(np.where(adata.obs["leiden"] == "0", "0", "1"))

    adata = ga.io.read_h5ad(copied / "s.h5ad")
    two(adata)
    ga.io.write_h5ad(adata, copied / "s.h5ad", force=True)
    result = ga.run(small.fragments, copied, device="cpu", from_step="peaks", until="peaks")
    assert told(result)["skipped"]["marker regions"] == "they stand out among 3 clusters or more and there are 2"
    assert (result.peaks / "markers.tsv").read_text() == "group\tregion\trpkm\trpkm_others\n"
    assert "tracks_1.png" in {p.name for p in result.figures}  # at the highest peaks
    assert "marker_regions.png" not in {p.name for p in result.figures}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"until": "figures"}, "until must be one of 'clusters', 'peaks', 'coverage', got 'figures'"),
        ({"peak_qvalue": 0}, r"peak_qvalue must be in \[1e-300, 1\], got 0"),
        ({"peak_max_frag_size": 0}, "peak_max_frag_size must be at least 1, got 0"),
        ({"peak_min_cells": -1}, "peak_min_cells must be at least 0, got -1"),
        ({"peak_half_width": -1}, r"peak_half_width must be in \[0, .*got -1"),
        ({"marker_pvalue": 2}, r"marker_pvalue must be in \[0, 1\], got 2"),
        ({"coverage_bin_size": 0}, r"coverage_bin_size must be in \[1, .*got 0"),
        (
            {"coverage_normalization": "TPM"},
            "coverage_normalization must be one of 'RPKM', 'CPM', 'BPM', 'none', got 'TPM'",
        ),
    ],
    ids=str,
)
def test_bad_options_of_peaks_and_coverage_are_refused(small, options, tmp_path, given, message):
    with pytest.raises(InputError, match=message):
        ga.run(small.fragments, tmp_path / "o", **{**options, **given})
    assert not (tmp_path / "o").exists()
