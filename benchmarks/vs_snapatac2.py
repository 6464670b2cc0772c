"""Every verb of the main job beside SnapATAC2, in the same run on the same file.

    vs_snapatac2.py --peer PEER_PYTHON --work FOLDER [--threads 2] [--repeats 3]
    vs_snapatac2.py ... --fragments FILE --genes GTF_OR_GFF3 --chrom-sizes FILE --peaks BED

Without --fragments the input is made once by ``gpuatac.simulate`` (2,000 cells x 10,000 fragments, 8 types,
seed 7) and kept in --work. Each side runs in a process of its own, in turn, on the same ``--threads`` cores
(CPU affinity, Rayon, Numba) with BLAS and OpenMP at one thread for both. Of every step: wall seconds, CPU
seconds (the process and its children) and peak resident memory (VmHWM, reset before the step); the table
shows medians over the repeats. The first call of a step may compile kernels: that is part of the time, as a
user meets it. Every process starts afresh; what a library caches on disk is warm from the second repeat on.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIDES = ("gpuatac", "snapatac2")
ROOT = Path(__file__).resolve().parents[1]
FIELDS = ("wall_s", "cpu_s", "peak_gb")


# ------------------------------------------------------------------------------- one side, one process


def cpu_seconds() -> float:
    """User and system time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def peak_gb() -> float:
    """Peak resident memory since it was last reset."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) / 1e6


class Clock:
    """Runs steps and prints one JSON line for each."""

    def __init__(self, side: str) -> None:
        self.side = side

    def step(self, name: str, run, note=None):
        Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to what is in use
        wall, cpu = time.perf_counter(), cpu_seconds()
        out = run()
        row = {
            "side": self.side,
            "step": name,
            "wall_s": time.perf_counter() - wall,
            "cpu_s": cpu_seconds() - cpu,
            "peak_gb": peak_gb(),
            "note": note(out) if note else "",
        }
        print(json.dumps(row), flush=True)
        return out


def read_table(path: str, columns: int) -> list[list[str]]:
    """First columns of a tab-separated file without its comment lines and, if it has one, its header."""
    rows = [x.split("\t") for x in Path(path).read_text().splitlines() if x and x[0] != "#"]
    return [r[:columns] for r in rows if r[1].strip().isdigit()]


def run_gpuatac(files: dict) -> None:
    """The main job by gpuatac on the CPU."""
    clock = Clock("gpuatac")

    def load():
        import gpuatac

        return gpuatac

    ga = clock.step("import the library", load, lambda m: m.__version__)
    genome = ga.io.read_genome(files["chrom_sizes"], contigs="all")
    a = clock.step(
        "import",
        lambda: ga.pp.import_fragments(files["fragments"], genome, min_num_fragments=200, device="cpu"),
        lambda out: f"{out.n_obs} cells",
    )
    clock.step("frag_size_distr", lambda: ga.metrics.frag_size_distr(a))
    clock.step("tsse", lambda: ga.metrics.tsse(a, files["genes"]), lambda _: f"median {a.obs['tsse'].median():.3f}")
    clock.step(
        "frip",
        lambda: ga.metrics.frip(a, {"frip": files["peaks"]}),
        lambda _: f"median {a.obs['frip'].median():.4f}",
    )
    clock.step(
        "filter_cells",
        lambda: ga.pp.filter_cells(a, min_counts=1000, min_tsse=files["min_tsse"]),
        lambda _: f"{a.n_obs} cells",
    )
    clock.step("tiles", lambda: ga.pp.add_tile_matrix(a), lambda _: f"nnz {a.X.nnz}")
    clock.step(
        "select_features",
        lambda: ga.pp.select_features(a, n_features=files["n_features"]),
        lambda _: f"{int(a.var['selected'].sum())} features",
    )
    clock.step("scrublet", lambda: ga.pp.scrublet(a), lambda _: called(a))
    clock.step("filter_doublets", lambda: ga.pp.filter_doublets(a), lambda _: f"{a.n_obs} cells")
    clock.step("spectral", lambda: ga.tl.spectral(a), lambda _: f"{a.obsm['X_spectral'].shape[1]} components")
    clock.step("knn", lambda: ga.pp.knn(a))
    clock.step("leiden", lambda: ga.tl.leiden(a), lambda _: found(files, a))
    clock.step("umap", lambda: ga.tl.umap(a))
    clock.step("gene matrix", lambda: ga.pp.make_gene_matrix(a, files["genes"]), lambda out: f"nnz {out.X.nnz}")


def run_snapatac2(files: dict) -> None:
    """The main job by SnapATAC2."""
    clock = Clock("snapatac2")

    def load():
        import snapatac2

        return snapatac2

    snap = clock.step("import the library", load, lambda m: m.__version__)
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    sizes = {c: int(n) for c, n in read_table(files["chrom_sizes"], 2)}
    peaks = [f"{c}:{s}-{e}" for c, s, e in read_table(files["peaks"], 3)]
    with tempfile.TemporaryDirectory(dir=files["work"]) as scratch:
        a = clock.step(
            "import",
            lambda: snap.pp.import_fragments(
                files["fragments"],
                chrom_sizes=sizes,
                sorted_by_barcode=False,
                min_num_fragments=200,
                tempdir=scratch,
            ),
            lambda out: f"{out.n_obs} cells",
        )
    clock.step("frag_size_distr", lambda: snap.metrics.frag_size_distr(a))
    genes = Path(files["genes"])
    clock.step("tsse", lambda: snap.metrics.tsse(a, genes), lambda _: f"median {a.obs['tsse'].median():.3f}")
    clock.step(
        "frip",
        lambda: snap.metrics.frip(a, {"frip": peaks}),
        lambda _: f"median {a.obs['frip'].median():.4f}",
    )
    clock.step(
        "filter_cells",
        lambda: snap.pp.filter_cells(a, min_counts=1000, min_tsse=files["min_tsse"]),
        lambda _: f"{a.n_obs} cells",
    )
    clock.step("tiles", lambda: snap.pp.add_tile_matrix(a), lambda _: f"nnz {a.X.nnz}")
    clock.step(
        "select_features",
        lambda: snap.pp.select_features(a, n_features=files["n_features"], verbose=False),
        lambda _: f"{int(a.var['selected'].sum())} features",
    )
    clock.step("scrublet", lambda: snap.pp.scrublet(a, verbose=False), lambda _: called(a))
    clock.step("filter_doublets", lambda: snap.pp.filter_doublets(a, verbose=False), lambda _: f"{a.n_obs} cells")
    clock.step("spectral", lambda: snap.tl.spectral(a), lambda _: f"{a.obsm['X_spectral'].shape[1]} components")
    clock.step("knn", lambda: snap.pp.knn(a))
    clock.step("leiden", lambda: snap.tl.leiden(a), lambda _: found(files, a))
    clock.step("umap", lambda: snap.tl.umap(a))
    clock.step("gene matrix", lambda: snap.pp.make_gene_matrix(a, genes), lambda out: f"nnz {out.X.nnz}")


def called(adata) -> str:
    return f"{int((adata.obs['doublet_probability'] > 0.5).sum())} doublets"


def found(files: dict, adata) -> str:
    """Clusters and, where the truth is known, their ARI with it."""
    import pandas as pd
    from sklearn.metrics import adjusted_rand_score

    labels = adata.obs["leiden"].astype(str)
    if not files["cells"]:
        return f"{labels.nunique()} clusters"
    truth = pd.read_csv(files["cells"], sep="\t").set_index("barcode")["cell_type"]
    score = adjusted_rand_score(truth.reindex(adata.obs_names.astype(str)), labels)
    return f"{labels.nunique()} clusters, ARI {score:.3f}"


# ------------------------------------------------------------------------------------------ the driver


def machine() -> str:
    """CPU model and number of cores, as a file name."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [x.split(":", 1)[1] for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0] if names else model
    words = "".join(c if c.isalnum() else " " for c in model.replace("(R)", "").replace("(TM)", "")).split()
    return f"{'-'.join(words)}-{os.cpu_count()}cores"


def commit() -> str:
    """Short hash of the checkout, read from its files; "unknown" outside one."""
    folder = ROOT / ".git"
    if folder.is_file():  # a linked work tree
        folder = Path(folder.read_text().split("gitdir:")[1].strip())
    if not (folder / "HEAD").is_file():
        return "unknown"
    head = (folder / "HEAD").read_text().strip()
    if head.startswith("ref: "):
        common = folder / "commondir"
        base = (folder / common.read_text().strip()) if common.is_file() else folder
        ref, packed = base / head[5:], base / "packed-refs"
        if ref.is_file():
            head = ref.read_text().strip()
        else:
            lines = packed.read_text().splitlines() if packed.is_file() else []
            head = next((x.split()[0] for x in lines if x.endswith(f" {head[5:]}")), "unknown")
    return head[:10]


def simulated(work: Path) -> dict:
    """The standard sample, made once."""
    from gpuatac.simulate import simulate_fragments

    prefix = work / "standard"
    made = {
        "fragments": f"{prefix}.fragments.tsv.gz",
        "genes": f"{prefix}.genes.gtf",
        "chrom_sizes": f"{prefix}.chrom.sizes",
        "peaks": f"{prefix}.peaks.bed",
        "cells": f"{prefix}.cells.tsv",
    }
    if not all(Path(p).is_file() for p in made.values()):
        print("making the standard sample (2,000 cells x 10,000 fragments) ...", flush=True)
        simulate_fragments(prefix, n_cells=2000, fragments_per_cell=10_000, n_types=8, seed=7, force=True)
    return made


def run_side(side: str, python: str, files: dict, threads: int) -> list[dict]:
    """One process of one side; its rows."""
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    env |= {"RAYON_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads)}
    if side == "gpuatac":
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), env.get("PYTHONPATH"))))
    command = [python, str(Path(__file__).resolve()), "--side", side, "--files", json.dumps(files)]
    command += ["--threads", str(threads)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    rows = [json.loads(x) for x in done.stdout.splitlines() if x.startswith("{")]
    if done.returncode:
        after = rows[-1]["step"] if rows else "the start"
        sys.exit(f"{side} failed after {after}: {done.stderr[-2000:]}")
    return rows


def medians(rows: list[dict]) -> dict[tuple[str, str], dict]:
    """(side, step) -> median of each figure, least and greatest wall time, note of the last run."""
    out = {}
    for side in SIDES:
        for step in dict.fromkeys(r["step"] for r in rows):
            of_step = [r for r in rows if r["side"] == side and r["step"] == step]
            if of_step:
                figures = {f: statistics.median(r[f] for r in of_step) for f in FIELDS}
                walls = [r["wall_s"] for r in of_step]
                out[side, step] = {
                    **figures,
                    "wall_least": min(walls),
                    "wall_most": max(walls),
                    "repeats": len(walls),
                    "note": of_step[-1]["note"],
                }
    return out


def print_table(table: dict) -> None:
    """Side by side, and the steps in which gpuatac is slower."""
    head = f"{'step':<20}" + "".join(f"{f'{s} wall':>16}{'cpu':>8}{'GB':>7}" for s in SIDES)
    print(head + f"{'wall ratio':>12}  notes")
    total = dict.fromkeys(SIDES, 0.0)
    late = []
    for step in dict.fromkeys(step for _, step in table):
        ours, theirs = (table[side, step] for side in SIDES)
        line = f"{step:<20}"
        for side, row in zip(SIDES, (ours, theirs), strict=True):
            line += f"{row['wall_s']:>16.2f}{row['cpu_s']:>8.2f}{row['peak_gb']:>7.2f}"
            total[side] += row["wall_s"]
        ratio = theirs["wall_s"] / max(ours["wall_s"], 1e-9)
        print(f"{line}{ratio:>11.1f}x  {ours['note']} | {theirs['note']}")
        if ours["wall_s"] > theirs["wall_s"] + 1:
            late.append(f"{step} ({ours['wall_s']:.1f} s against {theirs['wall_s']:.1f} s)")
    print(f"{'sum':<20}{total[SIDES[0]]:>16.2f}{'':>15}{total[SIDES[1]]:>16.2f}")
    print("more than a second slower: " + (", ".join(late) or "no step"))


def write_csv(table: dict, folder: Path, threads: int) -> Path:
    """One file per machine and commit."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{machine()}-{commit()}.csv"
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["side", "step", *FIELDS, "wall_least", "wall_most", "repeats", "threads", "note"])
        for (side, step), row in table.items():
            figures = [f"{row[f]:.3f}" for f in (*FIELDS, "wall_least", "wall_most")]
            writer.writerow([side, step, *figures, row["repeats"], threads, row["note"]])
    return path


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="a Python that has snapatac2 2.9.0")
    parser.add_argument("--work", type=Path, help="folder for the simulated sample and scratch files")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=SIDES, nargs="*", default=SIDES)
    parser.add_argument("--fragments")
    parser.add_argument("--genes", help="GTF or GFF3")
    parser.add_argument("--chrom-sizes")
    parser.add_argument("--peaks", help="BED, or a table that starts like one")
    parser.add_argument("--cells", help="table with columns barcode and cell_type, for the ARI")
    parser.add_argument("--n-features", type=int, default=250_000)
    parser.add_argument("--min-tsse", type=float, default=2.0)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--files", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side is None and not (args.peer and args.work):
        parser.error("--peer and --work are needed")
    own = (args.fragments, args.genes, args.chrom_sizes, args.peaks)
    if any(own) and not all(own):
        parser.error("--fragments, --genes, --chrom-sizes and --peaks belong together; give all four or none")
    return args


def main() -> None:
    args = parse_arguments()
    if args.side:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
        {"gpuatac": run_gpuatac, "snapatac2": run_snapatac2}[args.side](args.files)
        return
    args.work.mkdir(parents=True, exist_ok=True)
    if args.fragments:
        names = ("fragments", "genes", "chrom_sizes", "peaks", "cells")
        files = {n: getattr(args, n) for n in names}
    else:
        files = simulated(args.work)
    files |= {"work": str(args.work), "n_features": args.n_features, "min_tsse": args.min_tsse}
    rows: list[dict] = []
    for repeat in range(args.repeats):
        for side in args.only:
            print(f"repeat {repeat + 1} of {args.repeats}: {side}", flush=True)
            rows += run_side(side, sys.executable if side == "gpuatac" else args.peer, files, args.threads)
    table = medians(rows)
    if len(args.only) == len(SIDES):
        print_table(table)
        print(f"written: {write_csv(table, args.results, args.threads).name}")
    else:
        for (side, step), row in table.items():
            figures = "".join(f"{row[f]:>9.2f}" for f in FIELDS)
            print(f"{side:<10} {step:<20}{figures} {row['note']}")


if __name__ == "__main__":
    main()
