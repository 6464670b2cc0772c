"""Peaks, consensus, peak matrix, markers, differential test and tracks beside SnapATAC2, in the same run on the same file.

    peaks_vs_snapatac2.py --peer PEER_PYTHON --work FOLDER --fragments FILE --chrom-sizes FILE --cells TSV
                          [--threads 2] [--repeats 3]

Groups come from the table of cells: its cell types, the largest cut in two until there are 11. Each side runs in a process
of its own on the same cores, BLAS and OpenMP at one thread; seconds and memory are taken as in vs_snapatac2.py (processes that
a side starts are part of its CPU seconds; peak memory is that of the largest process). Both sides must find the same peaks,
consensus, counts and tested features: the notes carry sums that are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import vs_snapatac2 as bench

N_GROUPS = 11
BOUNDS = {"peaks": 1 / 30, "11 bigWigs, 10 bp": 1 / 8, "peak matrix": 1 / 6, "diff_test": 1 / 15}
STEPS = (
    "peaks",
    "merge_peaks",
    "peak matrix",
    "aggregate",
    "marker_regions",
    "diff_test",
    "11 bigWigs, 10 bp",
    "fragments",
)
N_TESTED = 20_000


class Clock(bench.Clock):
    """As ``bench.Clock``, with the peak of any process that the step started."""

    def step(self, name: str, run, note=None):
        Path("/proc/self/clear_refs").write_text("5")
        wall, cpu = time.perf_counter(), bench.cpu_seconds()
        out = run()
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
        row = {
            "side": self.side,
            "step": name,
            "wall_s": time.perf_counter() - wall,
            "cpu_s": bench.cpu_seconds() - cpu,
            "peak_gb": max(bench.peak_gb(), children),
            "note": note(out) if note else "",
        }
        print(json.dumps(row), flush=True)
        return out


def groups_of(path: str, names) -> list[str]:
    """The group of each cell, "" for what is no cell."""
    import pandas as pd

    cells = pd.read_csv(path, sep="\t").set_index("barcode").reindex(names)
    group = cells["cell_type"].astype(str)
    if "is_cell" in cells:
        group[cells["is_cell"] != 1] = ""
    for name in group[group != ""].value_counts().index[: max(0, N_GROUPS - group[group != ""].nunique())]:
        mine = group == name
        group[mine] = [f"{name}.{i % 2}" for i in range(int(mine.sum()))]
    return group.tolist()


def largest_two(groups) -> tuple[str, str]:
    import pandas as pd

    first, second = (
        pd.Series(groups).value_counts(sort=True).sort_index().sort_values(ascending=False, kind="stable").index[:2]
    )
    return str(first), str(second)


def run_gpuatac(files: dict) -> None:
    clock, work = Clock("gpuatac"), Path(files["work"])
    import pandas as pd

    import gpuatac as ga

    ga.quiet()
    genome = ga.io.read_genome(files["chrom_sizes"], contigs="all")
    a = ga.pp.import_fragments(files["fragments"], genome, min_num_fragments=200, device="cpu")
    a.obs["group"] = groups_of(files["cells"], a.obs_names)
    a = a[(a.obs["group"] != "").to_numpy()].copy()
    a.obs["group"] = pd.Categorical(a.obs["group"])
    clock.step("peaks", lambda: ga.tl.call_peaks(a, groupby="group"), lambda _: f"{len(a.uns['peaks'])} peaks")
    merged = clock.step("merge_peaks", lambda: ga.tl.merge_peaks(a), lambda out: f"{len(out)} regions")
    matrix = clock.step("peak matrix", lambda: ga.pp.make_peak_matrix(a, merged), lambda out: f"sum {int(out.X.sum())}")
    matrix.obs["group"] = a.obs["group"]
    clock.step("aggregate", lambda: ga.tl.aggregate(matrix, groupby="group", normalize="RPKM"))
    clock.step("marker_regions", lambda: ga.tl.marker_regions(matrix, groupby="group"), count)
    one, two = largest_two(a.obs["group"].astype(str))
    group = a.obs["group"].astype(str).to_numpy()
    names = matrix.var_names[:N_TESTED].tolist()
    clock.step(
        "diff_test",
        lambda: ga.tl.diff_test(matrix, group == one, group == two, features=names),
        lambda out: f"{len(out)} tested",
    )
    out = work / "ours"
    clock.step(
        "11 bigWigs, 10 bp",
        lambda: ga.ex.export_coverage(a, groupby="group", out_dir=out, denominator="bases", n_jobs=files["threads"]),
        told,
    )
    shutil.rmtree(out)
    clock.step("fragments", lambda: ga.ex.export_fragments(a, groupby="group", out_dir=out, suffix=".tsv.gz"), told)
    shutil.rmtree(out)


def run_snapatac2(files: dict) -> None:
    clock, work = Clock("snapatac2"), Path(files["work"])
    snap = bench.load_snapatac2()
    sizes = {c: int(n) for c, n in bench.read_table(files["chrom_sizes"], 2)}
    scratch = work / "scratch"
    scratch.mkdir(exist_ok=True)
    a = snap.pp.import_fragments(
        files["fragments"], chrom_sizes=sizes, sorted_by_barcode=False, min_num_fragments=200, tempdir=scratch
    )
    a.obs["group"] = groups_of(files["cells"], a.obs_names)
    a = a[(a.obs["group"] != "").to_numpy()].copy()
    n = files["threads"]
    clock.step(
        "peaks",
        lambda: snap.tl.macs3(a, groupby="group", n_jobs=n, tempdir=scratch),
        lambda _: f"{sum(len(x) for x in a.uns['macs3'].values())} peaks",
    )
    merged = clock.step(
        "merge_peaks", lambda: snap.tl.merge_peaks(a.uns["macs3"], sizes), lambda out: f"{out.height} regions"
    )
    matrix = clock.step(
        "peak matrix",
        lambda: snap.pp.make_peak_matrix(a, use_rep=merged["Peaks"]),
        lambda out: f"sum {int(out.X.sum())}",
    )
    matrix.obs["group"] = a.obs["group"]
    clock.step("aggregate", lambda: snap.tl.aggregate_X(matrix, groupby="group", normalize="RPKM"))
    clock.step("marker_regions", lambda: snap.tl.marker_regions(matrix, groupby="group"), count)
    one, two = largest_two(a.obs["group"].astype(str))
    group = a.obs["group"].astype(str).to_numpy()
    names = sorted(matrix.var_names, key=order_of)[:N_TESTED] if files.get("sort") else first_names(matrix)
    clock.step(
        "diff_test",
        lambda: snap.tl.diff_test(matrix, (group == one).tolist(), (group == two).tolist(), features=names),
        lambda out: f"{out.height} tested",
    )
    out = work / "theirs"
    clock.step(
        "11 bigWigs, 10 bp",
        lambda: snap.ex.export_coverage(a, groupby="group", out_dir=out, suffix=".bw", n_jobs=n, tempdir=scratch),
        told,
    )
    shutil.rmtree(out)
    clock.step("fragments", lambda: snap.ex.export_fragments(a, groupby="group", out_dir=out, suffix=".tsv.gz"), told)
    shutil.rmtree(out)
    shutil.rmtree(scratch)


def order_of(name: str) -> tuple[str, int]:
    chrom, span = name.rsplit(":", 1)
    return chrom, int(span.split("-")[0])


def first_names(matrix) -> list[str]:
    return matrix.var_names[:N_TESTED].tolist()


def count(markers) -> str:
    return f"{sum(len(x) for x in markers.values())} markers"


def told(made: dict) -> str:
    paths = [Path(p) for p in made.values()]
    text = f"{len(paths)} files, {sum(p.stat().st_size for p in paths) / 1e6:.0f} MB"
    if paths[0].suffix == ".bw":
        with paths[0].open("rb") as file:
            head = file.read(8)
        text += f", {int.from_bytes(head[6:8], 'little')} zoom levels"
    return text


RUN = {"gpuatac": run_gpuatac, "snapatac2": run_snapatac2}


def lines_of(table: dict) -> list[str]:
    lines = [
        "| step | gpuatac wall s | CPU s | GB | snapatac2 wall s | CPU s | GB | wall ratio | CPU ratio | bound | | notes |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|---|",
    ]
    for step in STEPS:
        ours, theirs = table["gpuatac", step], table["snapatac2", step]
        wall, cpu = (ours[f] / max(theirs[f], 1e-9) for f in ("wall_s", "cpu_s"))
        bound = BOUNDS.get(step)
        verdict = "" if bound is None else "met" if max(wall, cpu) <= bound else "missed"
        figures = [f"{row[f]:.2f}" for row in (ours, theirs) for f in bench.FIELDS]
        notes = f"{ours['note']} / {theirs['note']}"
        cells = [
            step,
            *figures,
            bench.as_share(wall),
            bench.as_share(cpu),
            bench.as_share(bound) if bound else "",
            verdict,
            notes,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    highest = [max(row["peak_gb"] for (side, _), row in table.items() if side == wanted) for wanted in RUN]
    verdict = "met" if highest[0] <= highest[1] / 2 else "missed"
    return [
        *lines,
        "",
        f"Peak memory of these steps: {highest[0]:.2f} GB against {highest[1]:.2f} GB (bound 1/2): {verdict}.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="a Python that has snapatac2 2.9.0")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--fragments")
    parser.add_argument("--chrom-sizes")
    parser.add_argument("--cells")
    parser.add_argument("--only", choices=RUN, nargs="*", default=list(RUN))
    parser.add_argument("--results", type=Path, default=bench.ROOT / "benchmarks" / "results")
    parser.add_argument("--side", choices=RUN, help=argparse.SUPPRESS)
    parser.add_argument("--files", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    bench.pin(args.threads)
    if args.side:
        RUN[args.side](args.files)
        return
    args.work.mkdir(parents=True, exist_ok=True)
    if args.fragments:
        files = {"fragments": args.fragments, "chrom_sizes": args.chrom_sizes, "cells": args.cells}
    else:
        files = bench.simulated(args.work)
    files |= {"work": str(args.work), "threads": args.threads}
    rows: list[dict] = []
    for repeat in range(args.repeats):
        for side in args.only:
            python = sys.executable if side == "gpuatac" else args.peer
            command = [python, str(Path(__file__).resolve()), "--side", side, "--files", json.dumps(files)]
            env = bench.environment(args.threads, ours=side == "gpuatac")
            done = bench.run_process([*command, "--threads", str(args.threads)], env)
            made = [json.loads(x) for x in done.out.splitlines() if x.startswith("{")]
            if done.code:
                print(json.dumps(made))
                sys.exit(f"{side} failed after {made[-1]['step'] if made else 'the start'}: {done.err[-2000:]}")
            for row in made:
                print(
                    f"{repeat + 1} {side:<10} {row['step']:<20}{''.join(f'{row[f]:>9.2f}' for f in bench.FIELDS)} {row['note']}",
                    flush=True,
                )
            rows += made
    if set(args.only) != set(RUN):
        return
    table = bench.medians(rows)
    where = f"{bench.machine()}, commit {bench.commit()}, {args.threads} threads, median of {args.repeats}"
    title = f"# Peaks and tracks beside SnapATAC2: {where}"
    lines = [title, "", *lines_of(table)]
    print("\n".join(lines))
    path = bench.stem(args.results, "peaks_vs_snapatac2")
    path.with_name(path.name + ".md").write_text("\n".join(lines) + "\n")
    bench.write_csv(table, path.with_name(path.name + ".csv"), args.threads)
    print(f"written: {path.name}.csv and .md (load {os.getloadavg()[0]:.1f})")


if __name__ == "__main__":
    main()
