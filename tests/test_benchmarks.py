"""The benchmarks' own arithmetic: medians, ratios and verdicts, fitted exponents, and what is written of them."""

import csv
import importlib
import math
import random
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
if not BENCHMARKS.is_dir():
    pytest.skip("the benchmarks are not part of this copy", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))
scaling = importlib.import_module("scaling")
versus = importlib.import_module("vs_snapatac2")


def row(side, step, wall, cpu=None, peak=1.0, note=""):
    return {"side": side, "step": step, "wall_s": wall, "cpu_s": cpu or wall, "peak_gb": peak, "note": note}


def a_repeat(ours=1.0, theirs=10.0):
    """Every step of the chain once by each side."""
    rows = [row("gpuatac", versus.LIBRARY, 0.1, peak=9.0), row("gpuatac", "write Parquet", 0.5, peak=1.5, note="7 MB")]
    rows += [row("gpuatac", step, ours) for step in (*versus.CHAIN_STEPS, *versus.QC)]
    rows += [row("snapatac2", step, theirs, peak=4.0) for step in versus.CHAIN_STEPS if step != versus.TOGETHER]
    rows += [row("snapatac2", step, theirs, peak=5.0) for step in versus.QC]
    return [*rows, row("snapatac2", versus.EQUAL, theirs)]


# ------------------------------------------------------------------------------------- beside SnapATAC2


def test_median_over_repeats_is_taken_step_by_step_and_side_by_side():
    rows = [row("gpuatac", "import", wall, peak=wall) for wall in (3.0, 1.0, 8.0)] + [row("scanpy", "knn", 2.0)]
    table = versus.medians(rows)
    assert table["gpuatac", "import"]["wall_s"] == 3.0
    assert (table["gpuatac", "import"]["wall_least"], table["gpuatac", "import"]["wall_most"]) == (1.0, 8.0)
    assert table["gpuatac", "import"]["repeats"] == 3
    assert table["scanpy", "knn"]["repeats"] == 1


def test_one_call_of_all_qc_stands_against_the_sum_of_the_three_of_snapatac2():
    table = versus.medians(versus.with_sums(a_repeat()))
    theirs = table["snapatac2", versus.TOGETHER]
    assert (theirs["wall_s"], theirs["peak_gb"]) == (30.0, 5.0)
    (together,) = [r for r in versus.ratios(table, "snapatac2", versus.BOUNDS) if r.step == versus.TOGETHER]
    assert together.wall == pytest.approx(1 / 30)
    assert together.verdict == "met"


def test_single_qc_verbs_are_no_part_of_the_sum_of_the_chain():
    table = versus.medians(versus.with_sums(a_repeat()))
    assert table["gpuatac", versus.CHAIN]["wall_s"] == len(versus.CHAIN_STEPS)
    assert table["snapatac2", versus.CHAIN]["wall_s"] == 10 * (len(versus.CHAIN_STEPS) + 2)


def test_steps_that_share_the_loading_of_a_library_are_compared_as_one():
    rows = [*a_repeat(ours=2.0), *(row("scanpy", step, 3.0) for step in versus.GRAPH_STEPS)]
    table = versus.medians(versus.with_sums(rows))
    assert [r.wall for r in versus.ratios(table, "scanpy", {}) if r.step == versus.GRAPH] == [pytest.approx(6 / 9)]


def test_peak_of_the_chain_counts_every_step_from_the_import_on():
    table = versus.medians(versus.with_sums(a_repeat()))
    assert table["gpuatac", versus.CHAIN]["peak_gb"] == 1.5  # of writing Parquet; the 9 of loading the library are not
    assert table["snapatac2", versus.CHAIN]["peak_gb"] == 5.0
    assert versus.memory_line(table).endswith("1.50 GB against 5.00 GB, 1/3.3 (bound 1/2.0): met.")


def test_chain_that_lacks_a_step_has_no_sum():
    rows = [r for r in a_repeat() if (r["side"], r["step"]) != ("gpuatac", "umap")]
    assert ("gpuatac", versus.CHAIN) not in versus.medians(versus.with_sums(rows))


def test_equal_input_is_held_against_the_spectral_step():
    table = versus.medians(versus.with_sums(a_repeat(ours=2.0)))
    assert table["gpuatac", versus.EQUAL]["wall_s"] == 2.0


@pytest.mark.parametrize(
    ("wall", "cpu", "verdict"),
    [(1.25, 1.25, "met"), (1.26, 1.0, "missed"), (1.0, 1.26, "missed")],
)
def test_bound_is_met_only_by_wall_and_cpu_seconds_both(wall, cpu, verdict):
    table = versus.medians([row("gpuatac", "import", wall, cpu), row("snapatac2", "import", 10.0)])
    (one,) = versus.ratios(table, "snapatac2", {"import": 1 / 8})
    assert one.verdict == verdict


def test_step_without_a_bound_gets_no_verdict():
    table = versus.medians([row("gpuatac", "knn", 1.0), row("snapatac2", "knn", 2.0)])
    assert [r.verdict for r in versus.ratios(table, "snapatac2", versus.BOUNDS)] == [""]


@pytest.mark.parametrize(("share", "text"), [(0.125, "1/8.0"), (1.0, "1.00"), (2.5, "2.50"), (0.0, "0.00")])
def test_share_is_written_as_how_many_times_less(share, text):
    assert versus.as_share(share) == text


def test_report_names_missed_bounds_and_what_was_left_out():
    rows = versus.with_sums(a_repeat(ours=3.0))
    rows += [row(versus.COLD, "import", 5.0), row(versus.WARM, "import", 1.0)]
    lines = versus.report(versus.medians(rows), {"rapids": "no CUDA device"}, "A title")
    missed = "import, tiles, scrublet, gene matrix"
    assert f"Bounds missed: {missed}." in lines
    assert "rapids left out: no CUDA device" in lines
    assert "| import | 5.00 | 1.00 | 4.00 |" in lines
    (of_import,) = [x for x in lines if x.startswith("| import | 3.00 ")]
    assert "| 1/3.3 | 1/3.3 | 1/8.0 | missed |" in of_import


def test_tables_have_as_many_cells_in_each_line():
    rows = [*versus.with_sums(a_repeat()), row("scanpy", "knn", 1.0)]
    table = versus.medians(rows)
    for side in ("snapatac2", "scanpy"):
        assert len({line.count("|") for line in versus.side_lines(table, side, versus.BOUNDS)}) == 1


def test_csv_of_medians_names_machine_commit_and_day(tmp_path):
    versus.write_csv(versus.medians(a_repeat()), tmp_path / "a.csv", 2)
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == versus.COLUMNS
    assert {r["machine"] for r in rows} == {versus.machine()}
    assert {r["commit"] for r in rows} == {versus.commit()}
    assert all(len(r["date"].split("-")) == 3 for r in rows)
    assert {r["threads"] for r in rows} == {"2"}


def test_every_side_gets_the_same_thread_variables():
    ours, theirs = (versus.environment(3, ours=ours) for ours in (True, False))
    names = [name for name in ours if name.endswith("_THREADS")]
    assert {name: ours[name] for name in names} == {name: theirs[name] for name in names}
    assert (ours["NUMBA_NUM_THREADS"], ours["RAYON_NUM_THREADS"], ours["OPENBLAS_NUM_THREADS"]) == ("3", "3", "1")


def test_process_is_measured_from_outside():
    code = "import sys; x = bytearray(120_000_000); print(len(x)); sys.exit(3)"
    done = versus.run_process([sys.executable, "-c", code], versus.environment(1, ours=False))
    assert (done.code, done.out.strip()) == (3, "120000000")
    assert done.peak_gb > 0.12
    assert 0 < done.cpu_s
    assert done.wall_s > 0


# ------------------------------------------------------------------------------------------------ scaling


def a_size(fragments, seconds, **more):
    steps = {step: (x, x, x) for step, x in seconds.items()}
    basis = {"cells": 10, "ari": 0.9, "limit": None, "repeats": 1, "peak_own": 1 << 30, "peak_system": 1 << 30}
    return basis | {"fragments": fragments, "steps": steps} | more


@pytest.mark.parametrize("power", [0.0, 0.7, 1.0, 1.05, 2.0])
def test_exponent_of_a_power_law_is_its_power(power):
    fragments = [5e6, 20e6, 80e6]
    assert scaling.exponent(fragments, [0.1 * x**power for x in fragments]) == pytest.approx(power, abs=1e-9)


def test_exponent_of_noisy_seconds_lies_near_the_power():
    draw = random.Random(1)
    fragments = [10**k for k in range(5, 9)]
    seconds = [1e-4 * x**1.2 * math.exp(draw.gauss(0, 0.05)) for x in fragments]
    assert scaling.exponent(fragments, seconds) == pytest.approx(1.2, abs=0.03)


@pytest.mark.parametrize(("fragments", "seconds"), [([5.0], [1.0]), ([5.0, 5.0], [1.0, 2.0]), ([5.0, 9.0], [0.0, 2.0])])
def test_one_size_or_too_short_a_step_has_no_exponent(fragments, seconds):
    assert scaling.exponent(fragments, seconds) is None


def test_fixed_cost_lowers_the_fit_and_less_the_slope_of_the_two_largest():
    sizes = [a_size(x, {"umap": 8 + x * 1e-6}) for x in (80e6, 5e6, 20e6)]
    over_all, last = scaling.exponents(sizes)["umap"]
    assert over_all < last < 1


def test_step_that_a_size_lacks_is_fitted_over_the_others():
    sizes = [
        a_size(1e6, {"qc": 1.0}),
        a_size(2e6, {"qc": 2.0, "doublets": 1.0}),
        a_size(4e6, {"qc": 4.0, "doublets": 4.0}),
    ]
    slopes = scaling.exponents(sizes)
    assert slopes["qc"][0] == pytest.approx(1.0)
    assert slopes["doublets"][0] == pytest.approx(2.0)


def test_runs_of_a_size_give_median_seconds_and_the_highest_peak():
    basis = {"fragments": 7, "cells": 2, "ari": None, "limit": None, scaling.WALL: 1.0, scaling.CPU: 1.0}
    runs = [
        basis | {"seconds": {"qc": s}, "peak_own": p, "peak_system": 2 * p} for s, p in ((1.0, 5), (9.0, 8), (2.0, 6))
    ]
    one = scaling.of_size(runs)
    assert one["steps"]["qc"] == (2.0, 1.0, 9.0)
    assert (one["peak_own"], one["peak_system"], one["repeats"]) == (8, 16, 3)


def test_figures_are_read_from_a_summary():
    report = {
        "reading": {"a": {"lines": 102, "dropped": {"comment": 2}}, "b": {"lines": 10, "dropped": {}}},
        "n_cells": 5,
        "seconds": {"import": 1.5},
        "total_seconds": 2.0,
        "peak_memory_bytes": 7,
        "memory_limit_bytes": 9,
    }
    found = scaling.figures_of(report)
    assert found["fragments"] == 110
    assert found["seconds"] == {"import": 1.5, scaling.TOTAL: 2.0}
    assert (found["peak_own"], found["limit"], found["ari"]) == (7, 9, None)


@pytest.mark.parametrize(("power", "peak", "verdicts"), [(1.0, 3 << 30, ["met"] * 3), (1.1, 5 << 30, ["missed"] * 3)])
def test_report_judges_the_exponents_of_the_total_and_the_peak(power, peak, verdicts):
    sizes = [
        a_size(x, dict.fromkeys((scaling.TOTAL, scaling.WALL), 1e-5 * x**power), limit=4 << 30, peak_system=peak)
        for x in (5e6, 20e6)
    ]
    lines = scaling.report_lines(sizes, {"80 M fragments": "exit status -9"}, "A title")
    assert [x.rsplit(" ", 1)[1].rstrip(".") for x in lines if x.startswith("Exponent")] == verdicts[:2]
    (of_peak,) = [x for x in lines if x.startswith("| peak within the limit")]
    assert of_peak == f"| peak within the limit | {verdicts[2]} | {verdicts[2]} |"
    assert "80 M fragments failed: exit status -9" in lines


def test_report_of_no_size_at_all_says_why():
    assert scaling.report_lines([], {"5 M fragments": "x"}, "t") == ["# t", "", "", "5 M fragments failed: x"]


def test_csv_of_sizes_has_a_row_for_each_step_with_its_exponent():
    sizes = [a_size(x, {"qc": x * 1e-6, "cells": 0.0}) for x in (5e6, 20e6)]
    rows = [dict(zip(scaling.COLUMNS, r, strict=True)) for r in scaling.csv_rows(sizes, 2)]
    assert [(r["step"], r["exponent"]) for r in rows] == [("qc", "1.0000"), ("cells", "")] * 2
    assert {(r["machine"], r["commit"], r["threads"]) for r in rows} == {(versus.machine(), versus.commit(), 2)}


# -------------------------------------------------------------------------------------------- the GPU chain


def test_the_chain_for_the_gpu_runs_on_a_cpu_and_writes_its_tables(tmp_path, sample, capsys, monkeypatch):
    chain = importlib.import_module("gpu_chain")
    arguments = {
        "--work": tmp_path, "--fragments": sample.fragments, "--genes": sample.genes, "--chrom-sizes": sample.chrom_sizes,
        "--device": "cpu", "--millions": 0.01, "--cuts": 0.05, "--repeats": 1, "--results": tmp_path / "results",
    }  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["gpu_chain.py", *(str(x) for pair in arguments.items() for x in pair)])
    chain.main()
    shown = capsys.readouterr().out
    assert " cells, " in shown
    steps, peaks, sorts = sorted((tmp_path / "results").glob("*.csv"))
    with steps.open() as file:
        rows = list(csv.DictReader(file))
    assert [r["step"] for r in rows][:5] == [
        "copy text to the device", "parse", "collect by chromosome", "choose barcodes", "sort",
    ]  # fmt: skip
    assert all(float(r["ms"]) >= 0 for r in rows)
    with sorts.open() as file:
        assert [r["step"] for r in csv.DictReader(file)] == ["tile_counts", "sort_fragments"]
    with peaks.open() as file:
        assert [(r["step"], r["cuts"]) for r in csv.DictReader(file)] == [
            ("ends by group", "50000"),
            ("peaks", "50000"),
        ]
