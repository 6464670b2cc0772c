"""The command line: what it writes, what it refuses and how it says so."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gpuatac as ga
from gpuatac.options import RunOptions


def process(*arguments):
    """``python -m gpuatac`` in a process of its own."""
    root = str(Path(ga.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-m", "gpuatac", *map(str, arguments)], capture_output=True, text=True, check=False,
        timeout=300, env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip


def run_options(small, out, *more):
    return ["run", small.fragments, "--genome", small.chrom_sizes, "--device", "cpu", "--out", out,
            "--min-fragments", "100", "--min-tsse", "0", "--doublets", "skip", "--until", "clusters", *more]  # fmt: skip


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files_under(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file()) if folder.exists() else []


# -------------------------------------------------------------------------------------------------------- run


def test_run_in_a_process_writes_the_result_and_prints_the_summary(sample, tmp_path):
    before = digest(sample.fragments)
    done = process(
        "run", sample.fragments, "--genome", "hg38", "--genes", sample.genes, "--out", tmp_path / "o",
        "--min-fragments", "500", "--min-tsse", "0", "--doublets", "skip", "--bin-size", "5000",
        "--truth", sample.cells, "--device", "cpu", "--threads", "2", "--log", tmp_path / "logs" / "run.log",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "o" / "sim.summary.json").read_text())
    assert told["truth"]["ari_without_doublets"] >= 0.9
    assert (tmp_path / "o" / "sim.summary.txt").read_text() in done.stdout
    assert f"written: {tmp_path / 'o' / 'sim.h5ad'}" in done.stdout
    assert f"{tmp_path / 'o' / 'sim.peaks.h5ad'} and {len(told['clusters'])} coverage tracks in" in done.stdout
    assert "contigs: main" in done.stdout
    log = (tmp_path / "logs" / "run.log").read_text()
    assert "INFO" in log
    for step in ("import", "qc", "spectral", "leiden"):
        assert f"{step} done in" in log
    assert digest(sample.fragments) == before


def test_run_tells_its_progress_and_goes_on_from_a_step(small, tmp_path, cli):
    out = tmp_path / "o"
    code, shown, told = cli(*run_options(small, out, "--contigs", "all"))
    assert code == 0
    assert "import ..." in told
    assert "leiden done in" in told
    assert "no genes were given (--genes)" in shown
    assert {"s.h5ad", "s.qc.h5ad", "s.summary.txt", "s.summary.json", "umap.png"} <= set(files_under(out))

    code, _, told = cli(*run_options(small, out))
    assert code == 2
    assert "gpuatac: error:" in told
    assert "s.h5ad exists already; pass force=True (--force) to replace it" in told

    code, shown, _ = cli(
        "run", small.fragments, "--out", out, "--from", "leiden", "--resolution", "3", "--device", "cpu"
    )
    assert code == 0
    options = json.loads((out / "s.summary.json").read_text())["options"]
    assert (options["resolution"], options["min_fragments"], options["doublets"]) == (3.0, 100, "skip")

    code, shown, told = cli("run", small.fragments, "--out", out, "--from", "leiden", "--bin-size", "500")
    assert (code, shown) == (2, "")
    assert "bin_size (--bin-size) was 2000 and is 500; from 'leiden' only options of that step and later" in told
    assert "go on from 'tiles' (--from tiles), or leave the option out." in told

    code, shown, _ = cli("info", out / "s.h5ad")
    assert code == 0
    for text in ("s.h5ad:", "cells x", "obs: ", "leiden", "tl.leiden(resolution=3.0", "pp.import_fragments(",
                 "fragments of s: s.fragments", f"[{ga.__version__}, cpu,"):  # fmt: skip
        assert text in shown

    code, _, _ = cli(*run_options(small, out, "--force"))
    assert code == 0


def test_several_files_get_their_names(small, tmp_path, cli):
    other = tmp_path / "again.tsv.gz"
    other.write_bytes(small.fragments.read_bytes())
    arguments = run_options(small, tmp_path / "o", "--names", "one", "two")
    arguments.insert(2, other)
    code, shown, told = cli(*arguments)
    assert code == 0, told
    assert "one: " in shown
    assert "two: " in shown
    adata = ga.io.read_h5ad(tmp_path / "o" / "combined.h5ad")
    assert set(adata.obs["sample"]) == {"one", "two"}
    assert adata.obs_names.str.contains("#").all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bin-size", "0"], "bin_size must be at least 1, got 0."),
        (["--min-fragments", "-3"], "min_fragments must be at least 0, got -3."),
        (["--max-fragments", "5"], "max_fragments must be at least 100, got 5."),
        (["--resolution", "nan"], "resolution must be at least 0, got nan."),
        (["--n-neighbors", "0"], "n_neighbors must be at least 1, got 0."),
        (["--seed", "-1"], "seed must be in [0, 4294967295], got -1."),
        (["--min-dist", "-1"], "min_dist must be in [0, 1], got -1.0."),
        (["--sample-size", "3"], "sample_size must be at least 31, got 3."),
        (["--gene-upstream", "-2"], "gene_upstream must be at least 0, got -2."),
        (["--expected-doublet-rate", "1"], "expected_doublet_rate must be in"),
        (["--max-blacklist-fraction", "0.1"], "needs a blacklist; pass blacklist=BED (--blacklist)"),
        (["--threads", "0"], "n_threads must be at least 1, got 0."),
        (["--threads", "-2"], "n_threads must be at least 1, got -2."),
        (["--genome", "hg99"], "hg99"),
        (["--genes", "nowhere.gtf"], "genes nowhere.gtf does not exist; check the path."),
        (["--blacklist", "nowhere.bed"], "blacklist nowhere.bed does not exist; check the path."),
        (["--whitelist", "nowhere.txt"], "whitelist nowhere.txt does not exist; check the path."),
        (["--truth", "nowhere.tsv"], "nowhere.tsv does not exist; check the path."),
        (["--truth", "."], "truth table . is a folder; allowed: a table with"),
        (["--upper-quantile", "2"], "upper_quantile must be in [0, 1], got 2.0."),
        (["--batch-correction", "harmony"], "needs several samples, got one"),
        (["--leiden-flavor", "cugraph"], "needs a GPU, got device 'cpu'"),
        (["--names", "a", "b"], "2 sample names for 1 files; give one name for each file."),
        (["--names", "a/b"], "choose others"),
        (["--from", "knn"], "there is no earlier run to go on from"),
        (["--bin-size", "many"], "argument --bin-size: invalid int value: 'many'"),
        (["--min-tsse", "x"], "argument --min-tsse: invalid float value: 'x'"),
        (["--contigs", "some"], "argument --contigs: invalid choice: 'some'"),
        (["--from", "nothing"], "argument --from: invalid choice: 'nothing'"),
        (["--device", "tpu"], "argument --device: invalid choice: 'tpu'"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_options_exit_with_2_and_write_nothing(small, tmp_path, cli, arguments, message):
    code, shown, told = cli(*run_options(small, tmp_path / "o", *arguments))
    assert code == 2
    assert message in told
    assert shown == ""
    assert "gpuatac" in told
    assert "error: " in told
    assert not (tmp_path / "o").exists()


@pytest.mark.skipif(ga.backend.gpu_problem() is None, reason="there is a GPU")
def test_gpu_asked_for_without_a_gpu_exits_with_the_reason(small, tmp_path, cli):
    code, _, told = cli(*run_options(small, tmp_path / "o", "--device", "gpu"))
    assert code == 2
    assert "gpuatac: error: device 'gpu' is not available: " in told
    assert "or pass device='cpu'" in told
    assert not (tmp_path / "o").exists()


def test_missing_and_broken_input_exit_with_2_in_a_process(small, tmp_path):
    bad = tmp_path / "bad.tsv"
    bad.write_text("chr1\t5\t60\tA\nchr1\t5\n")
    done = process("run", bad, "--genome", small.chrom_sizes, "--out", tmp_path / "o", "--device", "cpu")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert f"gpuatac: error: {bad}, line 2: found too few tab-separated columns" in done.stderr
    assert files_under(tmp_path / "o") == []


def test_nothing_kept_says_what_was_read(small, tmp_path, cli):
    code, _, told = cli(*run_options(small, tmp_path / "o", "--min-fragments", "1000000"))
    assert code == 2
    assert "lower --min-fragments" in told or "loosen the thresholds" in told
    assert "s.h5ad" not in files_under(tmp_path / "o")


def test_every_option_is_a_flag_with_its_default_in_the_help(cli):
    code, shown, _ = cli("run", "--help-all")
    assert code == 0
    flat = " ".join(shown.split())
    for name, field in RunOptions.__dataclass_fields__.items():
        assert f"--{name.replace('_', '-')}" in flat
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            assert f"(default: {field.default})" in flat
    for command in ("peaks", "coverage", "simulate", "fragments", "info"):
        assert cli(command, "--help")[0] == 0
    assert cli()[0] == 2
    assert cli("--version")[1].strip() == f"gpuatac {ga.__version__}"


# --------------------------------------------------------------------------------------------------- real files

FORMATS = {
    # file: genome, cells that must come through at least two fragments (0: refused, saying why)
    "bpcells_four_columns/mini_fragments.tsv.gz": "hg38",
    "macs_tiny/tiny.bam": "hg19",
    "macs_tiny/tiny.bedpe.gz": "hg38",
    "macs_tiny/tiny.frag.tsv.gz": "hg38",
    "signac_header/fragments.tsv.gz": "hg19",
    "signac_header/fragments_header.tsv.gz": "hg19",
    "snapatac2_unsorted/test.bed.gz": "hg38",
    "snapatac2_unsorted/test_clean.tsv.gz": "hg38",
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_a_result_or_a_clear_refusal(data_dir, tmp_path, cli, name):
    path = data_dir / "formats" / name
    before = digest(path)
    # doublets are left out: one of the files has a barcode for each read
    code, shown, told = cli(
        "run", path, "--genome", FORMATS[name], "--min-fragments", "2", "--min-tsse", "0", "--doublets", "skip",
        "--bin-size", "20000", "--device", "cpu", "--out", tmp_path / "o",
    )  # fmt: skip
    assert digest(path) == before
    assert code in (0, 2)
    if code == 0:
        (summary,) = (tmp_path / "o").glob("*.summary.json")
        (reading,) = json.loads(summary.read_text())["reading"].values()
        assert reading["accounted"] is True
        assert reading["kept"] > 0
        assert "lines read" in shown
    else:
        assert told.startswith("gpuatac: error: ") or "\ngpuatac: error: " in told
        assert not list((tmp_path / "o").glob("*.summary.*"))
        assert not [n for n in files_under(tmp_path / "o") if "partial" in n]


@pytest.mark.parametrize("name", [n for n in FORMATS if not n.endswith("bam")])
def test_every_text_format_is_read_in_python_with_all_lines_accounted_for(data_dir, name):
    path = data_dir / "formats" / name
    genome = ga.Genome.builtin(FORMATS[name], contigs="all")
    adata = ga.pp.import_fragments(path, genome, min_num_fragments=1, device="cpu")
    (summary,) = ga.pp.read_summaries(adata).values()
    assert summary.accounted
    assert summary.kept > 0.95 * (summary.lines - summary.dropped["comment"])
    assert int(adata.obs["n_fragment"].sum()) <= summary.kept


@pytest.mark.parametrize(
    ("file", "genome", "lines", "cells"),
    [
        ("archr_pbsmall_hg19/PBSmall.tsv.gz", "hg19", "29,399", 150),
        ("pbmc500_chr22_hg38/test.fragments.tsv.gz", "hg38", "57,115", 100),
        ("c1_39cells_hg19/c1_39cells.hg19.fragments.tsv.gz", "hg19", "357,282", 39),
    ],
)
def test_real_sample_in_the_main_job(data_dir, tmp_path, cli, file, genome, lines, cells):
    path = data_dir / "scatac" / file
    truth = next(path.parent.glob("*labels.tsv"), None)
    code, shown, _ = cli(
        "run", path, "--genome", genome, "--min-fragments", "0", "--min-tsse", "0", "--doublets", "skip", "--device",
        "cpu", "--out", tmp_path, "--names", "s", *(["--truth", truth] if truth else []),
    )  # fmt: skip
    assert code == 0
    assert f"{lines} lines read = {lines} kept + 0 dropped" in shown
    assert json.loads((tmp_path / "s.summary.json").read_text())["n_cells"] == cells


# ------------------------------------------------------------------------------------------ the other commands


def test_simulate_writes_its_five_files_and_refuses_to_replace_them(tmp_path, cli):
    arguments = ["simulate", "--out", tmp_path / "d" / "x", "--cells", "8", "--types", "2", "--frags", "50"]
    code, shown, _ = cli(*arguments)
    assert code == 0
    assert files_under(tmp_path / "d") == [
        "x.cells.tsv", "x.chrom.sizes", "x.fragments.tsv.gz", "x.genes.gtf", "x.peaks.bed"
    ]  # fmt: skip
    assert "of 8 cells" in shown
    code, _, told = cli(*arguments)
    assert code == 2
    assert "exists already; pass force=True (--force)" in told
    assert cli(*arguments, "--force")[0] == 0
    code, _, told = cli("simulate", "--out", tmp_path / "e" / "x", "--cells", "0")
    assert code == 2
    assert "n_cells must be at least 1, got 0." in told
    assert not (tmp_path / "e").exists()


def test_info_tells_the_machine(cli):
    code, shown, _ = cli("info")
    assert code == 0
    for text in (f"gpuatac {ga.__version__}, Python ", "CPU: ", " GiB memory", "libraries: numpy ", "GPU: ",
                 "device taken by --device auto: "):  # fmt: skip
        assert text in shown


def test_info_of_other_files(tmp_path, cli):
    import anndata

    anndata.AnnData(np.ones((2, 3), np.float32)).write_h5ad(tmp_path / "plain.h5ad")
    code, shown, _ = cli("info", tmp_path / "plain.h5ad")
    assert code == 0
    assert "plain.h5ad: 2 cells x 3 features" in shown
    assert "no history: the file was not made by gpuatac" in shown
    text = tmp_path / "text.h5ad"
    text.write_text("not HDF5")
    code, _, told = cli("info", text)
    assert code == 2
    assert "found a file that is no HDF5; allowed: an .h5ad file; give a file written by gpuatac" in told
    code, _, told = cli("info", tmp_path / "nowhere.h5ad")
    assert code == 2
    assert "does not exist; check the path" in told


def test_bam_becomes_a_fragment_file_that_can_be_read(data_dir, tmp_path, cli):
    bam = data_dir / "formats/macs_tiny/tiny.bam"
    before = digest(bam)
    out = tmp_path / "tiny.tsv.gz"
    code, shown, _ = cli("fragments", bam, out, "--bulk", "--single-end")
    assert code == 0
    assert f"written: {out}" in shown
    assert digest(bam) == before
    genome = ga.Genome.builtin("hg19", contigs="all")
    fragments = ga.io.read_fragments(out, genome, device="cpu")
    assert len(fragments) > 0
    code, _, told = cli("fragments", bam, out, "--bulk", "--single-end")
    assert code == 2
    assert "exists already" in told
    code, _, told = cli("fragments", tmp_path / "nowhere.bam", tmp_path / "n.tsv")
    assert code == 2
    assert "nowhere.bam" in told
    code, _, told = cli("fragments", data_dir / "formats/signac_header/fragments.tsv.gz", tmp_path / "n.tsv")
    assert code == 2
    assert not (tmp_path / "n.tsv").exists()
