"""``make bench-scaling``: the main job at 5, 20 and 80 million fragments, and how its time and memory grow.

    scaling.py --work FOLDER [--sizes 5 20 80] [--repeats 3] [--threads 2] [--memory 4G] [-- OPTIONS OF gpuatac run]

The inputs are made once by ``gpuatac.simulate`` and kept in --work: 10,000 fragments per cell, so 100 cells for
each million, five empty droplets for each cell, 8 types, 35 % of the peak fragments at TSSs, seed 7, sorted by
coordinate, BGZF. Each run is ``gpuatac run`` in a process of its own (from the .gz path: import with its Parquet
data set, quality, cells, tiles, features, doublets, spectral, neighbours, UMAP, Leiden, genes, figures, .h5ad)
on the same ``--threads`` cores. Seconds of each step are those of its summary.json, medians over the repeats;
the wall and CPU seconds and the peak memory of the whole process are taken from outside (wait4).

The exponent is the slope of the least-squares line of log(seconds) on log(fragments of the file). What a step
takes at any size (loading a library, drawing) pulls it down, so the slope between the two largest sizes stands
beside it. A step below 0.05 s at some size gets none.

Written: ``scaling-<machine>-<commit>.csv`` (medians) and ``.md`` (tables); with --memory, ``scaling-4G-...``.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import math
import shutil
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from vs_snapatac2 import ROOT, commit, environment, machine, pin, run_process, simulated, stem

BOUND = 1.05  # of the exponent of the total
SHORTEST = 0.05  # s
TOTAL, WALL, CPU = "total", "process wall", "process CPU"  # rows beside the steps
COLUMNS = ("fragments", "cells", "step", "seconds", "least", "most", "repeats", "exponent", "peak_own_gib")
COLUMNS += ("peak_system_gib", "limit_gib", "threads", "machine", "commit", "date")


def files_of(work: Path, size: float) -> dict:
    """The input of ``size`` million fragments."""
    return simulated(work, f"sim{size:g}m", round(size * 100), 10_000, tss_share=0.35)


def run_once(files: dict, out: Path, args: argparse.Namespace) -> dict:
    """One run of the main job: its figures, or {"failed": why}."""
    command = [sys.executable, "-m", "gpuatac", "run", files["fragments"], "--out", str(out), "--genome", "hg38"]
    command += ["--genes", files["genes"], "--truth", files["cells"], "--device", args.device]
    command += ["--threads", str(args.threads), "--force", "--quiet"]
    command += [*(["--memory", args.memory] if args.memory else []), *args.more]
    shutil.rmtree(out, ignore_errors=True)
    done = run_process(command, environment(args.threads, ours=True))
    if done.code:
        why = done.err.strip() or (f"ended by signal {-done.code}" if done.code < 0 else "it said nothing")
        return {"failed": f"exit status {done.code}: {why[-1500:]}"}
    report = json.loads(next(out.glob("*.summary.json")).read_text())
    shutil.rmtree(out)
    return figures_of(report) | {"peak_system": done.peak_gb * 1e9, WALL: done.wall_s, CPU: done.cpu_s}


def figures_of(report: dict) -> dict:
    """What a summary.json says of size, seconds and memory."""
    return {
        "fragments": sum(entry["lines"] - entry["dropped"].get("comment", 0) for entry in report["reading"].values()),
        "cells": report["n_cells"],
        "ari": report.get("truth", {}).get("ari"),
        "seconds": report["seconds"] | {TOTAL: report["total_seconds"]},
        "peak_own": report["peak_memory_bytes"],
        "limit": report.get("memory_limit_bytes"),
    }


def of_size(runs: list[dict]) -> dict:
    """The runs of one size as one: medians of the seconds with their range, the highest peaks."""
    each: dict[str, list[float]] = {}
    for run in runs:
        for step, seconds in (run["seconds"] | {name: run[name] for name in (WALL, CPU)}).items():
            each.setdefault(step, []).append(seconds)
    return {
        **{name: runs[-1][name] for name in ("fragments", "cells", "ari", "limit")},
        "steps": {step: (statistics.median(x), min(x), max(x)) for step, x in each.items()},
        "repeats": len(runs),
        "peak_own": max(run["peak_own"] for run in runs),
        "peak_system": max(run["peak_system"] for run in runs),
    }


def exponent(fragments: list[float], seconds: list[float]) -> float | None:
    """b of the least-squares line log(seconds) = a + b log(fragments); None where it means nothing."""
    if len(set(fragments)) < 2 or min(seconds) < SHORTEST:
        return None
    return statistics.linear_regression([math.log(x) for x in fragments], [math.log(x) for x in seconds]).slope


def exponents(sizes: list[dict]) -> dict[str, tuple[float | None, float | None]]:
    """Step -> exponent over every size that has it, and between the two largest."""
    out = {}
    for step in dict.fromkeys(step for size in sizes for step in size["steps"]):
        having = sorted((s["fragments"], s["steps"][step][0]) for s in sizes if step in s["steps"])
        fragments, seconds = map(list, zip(*having, strict=True))
        out[step] = exponent(fragments, seconds), exponent(fragments[-2:], seconds[-2:])
    return out


def verdict(*, met: bool) -> str:
    return "met" if met else "missed"


def gib(size: float | None) -> str:
    return "" if size is None else f"{size / 2**30:.2f}"


def shown(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def report_lines(sizes: list[dict], failed: dict[str, str], title: str) -> list[str]:
    """The page for people."""
    lines = [f"# {title}", ""]
    if sizes:
        slopes = exponents(sizes)
        heads = [f"{s['fragments'] / 1e6:.1f} M" for s in sizes]
        lines += [f"| seconds | {' | '.join(heads)} | exponent | two largest |", f"|---|{'---:|' * (len(sizes) + 2)}"]
        for step, (slope, last) in slopes.items():
            cells = [f"{s['steps'][step][0]:.2f}" if step in s["steps"] else "" for s in sizes]
            lines.append(f"| {step} | {' | '.join(cells)} | {shown(slope)} | {shown(last)} |")
        lines += ["", f"| | {' | '.join(heads)} |", f"|---|{'---:|' * len(sizes)}"]
        rows = {
            "cells kept": [f"{s['cells']:,}" for s in sizes],
            "ARI with the true types": [shown(s["ari"]) for s in sizes],
            "peak memory, own count, GiB": [gib(s["peak_own"]) for s in sizes],
            "peak memory, system's count, GiB": [gib(s["peak_system"]) for s in sizes],
            "limit, GiB": [gib(s["limit"]) for s in sizes],
            "peak within the limit": [
                "" if s["limit"] is None else verdict(met=max(s["peak_own"], s["peak_system"]) <= s["limit"])
                for s in sizes
            ],
        }
        lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]
        for name in (TOTAL, WALL):
            slope = slopes[name][0]
            if slope is not None:
                lines += ["", f"Exponent of the {name}: {slope:.3f} (bound {BOUND}): {verdict(met=slope <= BOUND)}."]
    for name, why in failed.items():
        lines += ["", f"{name} failed: {why}"]
    return lines


def csv_rows(sizes: list[dict], threads: int) -> list[list]:
    """One row for each size and step."""
    slopes, where = exponents(sizes), [threads, machine(), commit(), datetime.date.today().isoformat()]
    rows = []
    for s in sizes:
        memory = [gib(s[name]) for name in ("peak_own", "peak_system", "limit")]
        for step, seconds in s["steps"].items():
            slope = slopes[step][0]
            slope_text = "" if slope is None else f"{slope:.4f}"
            taken = [f"{x:.3f}" for x in seconds]
            rows.append([s["fragments"], s["cells"], step, *taken, s["repeats"], slope_text, *memory, *where])
    return rows


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for the inputs (kept) and the outputs (not)")
    parser.add_argument("--sizes", type=float, nargs="+", default=[5, 20, 80], help="millions of fragments")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", help="limit given to gpuatac run, such as 4G")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--inputs-only", action="store_true", help="make the inputs and stop")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("more", nargs="*", help="after --: options of gpuatac run, for every size")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    pin(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    inputs = {size: files_of(args.work, size) for size in sorted(args.sizes)}
    if args.inputs_only:
        return
    runs: dict[float, list[dict]] = {size: [] for size in inputs}
    failed: dict[str, str] = {}
    for repeat in range(args.repeats):
        for size, files in inputs.items():
            name = f"{size:g} M fragments"
            if name in failed:
                continue
            one = run_once(files, args.work / "scaling_run", args)
            if "failed" in one:
                failed[name] = one["failed"]
            else:
                runs[size].append(one)
            said = "failed" if "failed" in one else f"{one[WALL]:.1f} s, peak {gib(one['peak_system'])} GiB"
            print(f"repeat {repeat + 1} of {args.repeats}: {name}: {said}", flush=True)
    sizes = [of_size(done) for done in runs.values() if done]
    title = f"gpuatac run by size: {machine()}, commit {commit()}, {datetime.date.today().isoformat()}"
    title += f", {args.device}, {args.threads} threads, median of {args.repeats}"
    title += f", --memory {args.memory}" * bool(args.memory) + f", {' '.join(args.more)}" * bool(args.more)
    lines = report_lines(sizes, failed, title)
    print("\n".join(lines))
    path = stem(args.results, f"scaling-{args.memory}" if args.memory else "scaling")
    path.with_name(path.name + ".md").write_text("\n".join(lines) + "\n")
    with path.with_name(path.name + ".csv").open("w", newline="") as out:
        csv.writer(out).writerows([COLUMNS, *csv_rows(sizes, args.threads)])
    print(f"written: {path.name}.csv and .md")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
