"""What a first GPU is asked in one call (make gpu): results come as they are found, a cut run keeps them, what is left out is named."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import gpuatac as ga
from gpuatac import backend
from gpuatac.errors import MissingExtraError

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
if not BENCHMARKS.is_dir():
    pytest.skip("the benchmarks are not part of this copy", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))
on_gpu, stages, recording = (importlib.import_module(name) for name in ("on_gpu", "on_gpu_stages", "recording"))

#: A program of four short stages in the place of the real ones.
PROGRAM = """
import sys
sys.path.insert(0, {benchmarks!r})
import on_gpu
python = sys.executable
say = "from recording import record; record('check', name={{name!r}}, passed=True, found='well');"
def stage(name, code, limit=20.0, **more):
    return on_gpu.Stage(name, "About " + name, [python, "-c", say.format(name=name) + code], limit, **more)
on_gpu.EVERY = 0.1
on_gpu.stages = lambda args: [{stages}]
on_gpu.main()
"""
SLOW = "stage('slow', 'import time; time.sleep(60)', limit={limit})"


def started(folder, *given, limit=30):
    """The program with the stages ``given``, as a process of its own."""
    code = PROGRAM.format(benchmarks=str(BENCHMARKS), stages=", ".join(given))
    arguments = ["--device", "cpu", "--results", str(folder), "--work", str(folder / "work"), "--limit", str(limit)]
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def found_in(folder):
    """(record, summary) of the one run in the folder."""
    (path,) = folder.glob("on_gpu-*.jsonl")
    return recording.recorded(path), path.with_suffix(".md").read_text()


def until(condition, seconds=20.0):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.05)


# ------------------------------------------------------------------------------------------ the program


def test_all_that_passes_ends_well_and_what_cannot_run_is_named(tmp_path):
    run = started(
        tmp_path, "stage('one', '')", "stage('two', '', needs=('cuvs', 'no_such_module'))", "stage('three', '', gpu_only=True)"
    )
    printed, _ = run.communicate(timeout=60)
    rows, summary = found_in(tmp_path)
    assert run.returncode == 0, printed
    assert summary in printed
    assert "**All that ran has passed.**" in summary
    assert "Left out: two (not installed: cuVS, no_such_module), three (it needs a GPU)." in summary
    assert "| one | passed |" in summary
    assert rows[-1]["kind"] == "over"


def test_a_stage_that_fails_is_named_and_the_next_ones_run(tmp_path):
    run = started(tmp_path, """stage('bad', "print('a word'); raise SystemExit(3)")""", "stage('good', '')")
    run.communicate(timeout=60)
    _, summary = found_in(tmp_path)
    assert run.returncode == 1
    assert "**Not all passed: bad.**" in summary
    assert "| bad | failed (status 3) |" in summary
    assert "| good | passed |" in summary
    assert next(tmp_path.glob("*.logs/bad.log")).read_text() == "a word\n"


def test_a_stage_beyond_its_limit_is_cut_and_keeps_what_it_had(tmp_path):
    run = started(tmp_path, SLOW.format(limit=2.0), "stage('good', '')")
    run.communicate(timeout=60)
    _, summary = found_in(tmp_path)
    assert run.returncode == 1
    assert "| slow | cut (after 2 s) |" in summary
    assert "- passed: slow (well)" in summary
    assert "| good | passed |" in summary


def test_stages_beyond_the_limit_of_all_are_not_reached(tmp_path):
    run = started(tmp_path, SLOW.format(limit=20.0), "stage('late', '')", limit=3)
    run.communicate(timeout=60)
    _, summary = found_in(tmp_path)
    assert run.returncode == 1
    assert "| late | not reached (the time is over) |" in summary


@pytest.mark.parametrize(("sign", "result"), [(signal.SIGKILL, "running"), (signal.SIGTERM, "cut")])
def test_a_run_that_is_ended_keeps_what_it_found(tmp_path, sign, result):
    run = started(tmp_path, "stage('first', '')", SLOW.format(limit=20.0), "stage('late', '')")
    try:
        until(lambda: any(tmp_path.glob("*.md")) and "- passed: slow (well)" in found_in(tmp_path)[1])
    finally:
        run.send_signal(sign)
        run.communicate(timeout=60)
    _, summary = found_in(tmp_path)
    assert run.returncode != 0
    assert "| first | passed |" in summary
    assert f"| slow | {result} |" in summary
    assert ("It still runs, or was ended in the middle" in summary) == (sign == signal.SIGKILL)
    (path,) = tmp_path.glob("on_gpu-*.jsonl")
    asked = [sys.executable, str(BENCHMARKS / "on_gpu.py"), "--summary", str(path)]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == summary


def test_nothing_that_a_stage_started_goes_on(tmp_path):
    sleep = "[sys.executable, '-c', 'import time; time.sleep(60)']"
    code = f"import subprocess, sys; p = subprocess.Popen({sleep}); print(p.pid, flush=True); p.wait()"
    stage = on_gpu.Stage("parent", "", [sys.executable, "-c", code], 1.0)
    assert on_gpu.run(stage, 1.5, tmp_path / "log", dict(os.environ), lambda: None) == "cut (after 2 s)"
    child = Path("/proc") / (tmp_path / "log").read_text().strip()
    until(lambda: not child.exists() or "Z" in (child / "stat").read_text().split()[2])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel of Linux ends the stages of a parent that was killed")
def test_a_stage_does_not_outlive_a_program_that_was_killed(tmp_path):
    run = started(tmp_path, "stage('slow', 'import os, time; print(os.getpid(), flush=True); time.sleep(60)')")

    def told():
        return "".join(path.read_text() for path in tmp_path.glob("*.logs/slow.log")).strip()

    until(told)
    run.kill()
    run.communicate(timeout=60)
    stat = Path(f"/proc/{told()}/stat")
    until(lambda: not stat.exists() or stat.read_text().split()[2] == "Z")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--limit", "nan"], "--limit must be in"),
        (["--limit", "-5"], "--limit must be in"),
        (["--fragments", "no", "--genes", "no", "--chrom-sizes", "no"], "no is not there; check the path"),
        (["--results", "file/below"], "cannot be made or is no folder"),
        (["--results", "file"], "cannot be made or is no folder"),
        (["--work", "file"], "cannot be made or is no folder"),
        (["--summary", "file"], "is no record of this program"),
        (["--summary", "absent"], "is no record of this program"),
    ],
)
def test_bad_arguments_are_refused_before_anything_runs(tmp_path, given, message):
    (tmp_path / "file").write_text("not a record\n")
    script = [sys.executable, str(BENCHMARKS / "on_gpu.py"), "--device", "cpu"]
    done = subprocess.run([*script, *given], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_gpu_it_says_so_and_ends(tmp_path):
    if backend.gpu_problem() is None:
        pytest.skip("this machine has a GPU")
    asked = [sys.executable, str(BENCHMARKS / "on_gpu.py"), "--results", str(tmp_path)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "on_gpu.py runs on a GPU, and none can be used:" in done.stderr
    assert not any(tmp_path.iterdir())


def test_the_most_telling_stages_come_first_and_fit_into_the_time_of_a_machine(tmp_path):
    args = type("Arguments", (), {"device": "gpu", "fragments": None, "work": tmp_path, "results": tmp_path})
    made = on_gpu.stages(args)
    assert [stage.name for stage in made][:3] == ["start", "tests", "job"]
    assert sum(stage.limit for stage in made[:4]) <= 540
    for stage in made:
        script = Path(stage.command[1])
        assert script.is_file() or stage.command[1] == "-m", stage.name


# ------------------------------------------------------------------------------------------ records


def test_a_line_that_was_cut_is_no_result(tmp_path, monkeypatch):
    path = tmp_path / "r.jsonl"
    monkeypatch.setenv(recording.VARIABLE, str(path))
    recording.record("kernel", name="a", ms=float("nan"))
    with path.open("a") as file:
        file.write('{"kind": "kernel", "na')
    assert recording.recorded(path) == [{"kind": "kernel", "name": "a", "ms": None}]
    assert recording.recorded(tmp_path / "none") == []


def test_the_summary_shows_tests_kernels_networks_steps_and_the_chain():
    rows = [
        {
            "kind": "run", "device": "GPU", "commit": "abc", "at": "now", "limit": 9, "missing": ["cuml"], "stages": ["x"],
            "titles": ["X"],
        },
        {"kind": "begins", "stage": "x"},
        {"kind": "test", "id": "t.py::a", "outcome": "passed", "seconds": 1, "why": ""},
        {"kind": "test", "id": "t.py::b", "outcome": "failed", "seconds": 1, "why": "assert 1 == 2"},
        {"kind": "test", "id": "t.py::c", "outcome": "skipped", "seconds": 1, "why": "needs cuML"},
        {"kind": "step", "name": "knn", "seconds": 1.5, "peak": 2**31},
        {"kind": "left out", "name": "umap", "why": "needs cuML"},
        {"kind": "kernel", "name": "copy", "ms": 1.0, "gb_per_s": 4000.0, "share": 1.0},
        {"kind": "kernel", "name": "row_sums", "ms": 0.25, "gb_per_s": 1000.0, "share": 0.25},
        {"kind": "network", "variant": "fast", "wall_s_per_mb": 0.001, "s_per_3.1_gb": 3.1, "difference": None, "share_of_peak": 0.5},
        {"kind": "chain", "name": "parse", "ms": 12.5},
        {"kind": "ends", "stage": "x", "result": "failed (status 1)", "seconds": 8.0},
        {"kind": "over", "seconds": 8.1},
    ]
    text = on_gpu.summary(rows)
    for line in (
        "# gpuatac on GPU, commit abc",
        "Not installed: cuML.",
        "- **failed**: `t.py::b`: assert 1 == 2",
        "- 1 skipped: needs cuML",
        "- left out: umap: needs cuML",
        "| knn | 1.50 | 2.00 GiB |",
        "| row_sums | 0.250 | 1000 | 25% |",
        "| fast | 0.001 | 3.1 |  | 50% |",
        "| parse | 12.5 |",
    ):
        assert line in text
    (stage,) = (line for line in text.splitlines() if line.startswith("| x |"))
    assert "1 passed; 1 failed; 1 skipped; 1 kernels, 25% to 25% of the copy bandwidth; fastest: fast, 3.1 s per 3.1 Gb" in stage


def test_a_test_that_needs_an_absent_library_is_left_out_by_name(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "from gpuatac.errors import MissingExtraError\n"
        "def test_good(): pass\n"
        "def test_bad(): assert 1 == 2\n"
        "def test_absent(): raise MissingExtraError('knn needs cuVS')\n"
    )
    (tmp_path / "test_broken.py").write_text("import no_such_module\n")
    env = {
        **os.environ, recording.VARIABLE: str(tmp_path / "r.jsonl"),
        "PYTHONPATH": os.pathsep.join((str(BENCHMARKS), str(BENCHMARKS.parent))),
    }  # fmt: skip
    real = on_gpu.tests(["."], on_gpu=False)
    command = [*real[: real.index("not gpu and not strict") - 1], "-c", os.devnull, "--rootdir", ".", "."]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    rows = {row["id"].rpartition("::")[2]: (row["outcome"], row["why"]) for row in recording.recorded(tmp_path / "r.jsonl")}
    assert rows["test_good"] == ("passed", "")
    assert rows["test_bad"] == ("failed", "assert 1 == 2")
    assert rows["test_absent"] == ("skipped", "knn needs cuVS")
    assert rows["test_broken.py"] == ("failed", "E   ModuleNotFoundError: No module named 'no_such_module'")


# ------------------------------------------------------------------------------------------ stages


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    monkeypatch.setenv(recording.VARIABLE, str(tmp_path / "r.jsonl"))

    def make(**given):
        defaults = {"device": "gpu", "work": tmp_path / "work", "fragments": None, "genes": None, "genome": "hg38"}
        return type("Arguments", (), {**defaults, **given}), lambda: recording.recorded(tmp_path / "r.jsonl")

    return make


@pytest.fixture
def cupy_alone(strict, monkeypatch):
    """The stand-in as it would be without RAPIDS."""
    for name in [n for n in sys.modules if n.partition(".")[0] in stages.RAPIDS]:
        monkeypatch.delitem(sys.modules, name)
    backend.get.cache_clear()
    yield strict
    backend.get.cache_clear()


def test_the_first_look_launches_a_kernel(strict, arguments):
    args, rows = arguments()
    assert stages.start(args)
    assert strict.ledger.launches["row_sums"] == 1
    assert [row["kind"] for row in rows()] == ["versions", "device", "check"]
    assert rows()[-1]["passed"]


def test_without_rapids_cupys_own_pool_is_used_and_a_verb_names_what_it_lacks(cupy_alone):
    bk = cupy_alone.backend
    held = bk.xp.zeros(1 << 20)
    memory = bk.memory()
    assert memory["peak"] >= held.nbytes
    assert 0 < memory["free"] <= memory["total"]
    points = bk.asarray(np.random.default_rng(0).random((30, 3)).astype(np.float32))
    for call, needed in (
        (lambda: bk.graph.knn(points, 3), r"neighbours \(pp\.knn, pp\.scrublet\) on a GPU needs cuVS \(module cuvs\)"),
        (lambda: bk.graph.umap(points, points, points, n_components=2, min_dist=0.1, spread=1, n_epochs=1, seed=0), "needs cuML"),
        (lambda: bk.graph.leiden(None, resolution=1, n_iterations=1, seed=0, weighted=False), "needs cuGraph"),
        (lambda: bk.graph.harmony(points, np.zeros(30), seed=0, max_iter=1, theta=1, sigma=1), "needs rapids-singlecell"),
    ):
        with pytest.raises(MissingExtraError, match=needed):
            call()


def test_the_job_without_rapids_goes_as_far_as_cupy_does(cupy_alone, arguments, tmp_path):
    sample = ga.simulate_fragments(tmp_path / "s", n_cells=60, n_types=2, fragments_per_cell=800, n_genes=200, n_distal_peaks=1500)
    args, rows = arguments(fragments=sample.fragments, genes=sample.genes)
    assert stages.job(args)
    assert [row["name"] for row in rows() if row["kind"] == "step"] == [
        "import", "qc", "filter_cells", "tiles", "features", "spectral", "groups", "peaks", "coverage",
    ]  # fmt: skip
    left = {row["name"]: row["why"] for row in rows() if row["kind"] == "left out"}
    assert list(left) == ["doublets", "knn", "umap", "leiden"]
    assert "needs cuVS" in left["doublets"]
    assert left["umap"] == "knn was left out"
    assert rows()[-1]["found"].endswith("verb by verb; without doublets, knn, umap, leiden")


def test_the_whole_job_is_watched_step_by_step(strict, arguments, tmp_path):
    sample = ga.simulate_fragments(tmp_path / "s", n_cells=60, n_types=2, fragments_per_cell=800, n_genes=200, n_distal_peaks=1500)
    args, rows = arguments(device="cpu", fragments=sample.fragments, genes=sample.genes)
    assert stages.job(args)
    steps = [row["name"] for row in rows() if row["kind"] == "step"]
    assert [steps[0], steps[-1]] == ["import", "write"]
    assert {"tiles", "spectral", "knn", "leiden", "peaks", "coverage"} <= set(steps)
    assert rows()[-1]["kind"] == "job"


def test_every_kernel_is_timed_and_written_at_once(strict, monkeypatch, tmp_path):
    kernels = importlib.import_module("gpu_kernels")
    for name in ("COPY_BYTES", "FLUSHED"):
        monkeypatch.setattr(kernels, name, 1 << 16)
    monkeypatch.setattr(sys, "argv", ["gpu_kernels.py", "--millions", "0.02", "--repeats", "1"])
    monkeypatch.setenv("RESULTS", str(tmp_path))
    monkeypatch.setenv(recording.VARIABLE, str(tmp_path / "r.jsonl"))
    kernels.main()
    rows = recording.recorded(tmp_path / "r.jsonl")
    assert {row["name"] for row in rows} == {"copy", *kernels.launch.kernels()}
    (table,) = tmp_path.glob("gpu_kernels-Stand-in-on-NumPy-*.csv")
    assert len(table.read_text().splitlines()) == len(rows) + 1
    assert json.dumps(rows)
