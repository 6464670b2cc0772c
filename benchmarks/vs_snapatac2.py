"""``make bench``: every verb of the main job beside SnapATAC2, in the same run on the same file.

    vs_snapatac2.py --peer PEER_PYTHON --work FOLDER [--threads 2] [--repeats 3] [--only SIDE ...]
    vs_snapatac2.py ... --fragments FILE --genes GTF_OR_GFF3 --chrom-sizes FILE --peaks BED [--cells TSV]

Without --fragments the input is made once by ``gpuatac.simulate`` (2,000 cells x 10,000 fragments, 8 types,
seed 7) and kept in --work. Each side runs in a process of its own, in turn, on the same ``--threads`` cores
(CPU affinity, Rayon, Numba, Polars) with BLAS and OpenMP at one thread for all. Of every step: wall seconds,
CPU seconds (the process and its children) and peak resident memory (VmHWM, reset before the step). A ratio is
the median over the repeats of gpuatac by that of the other side; a target is met when wall and CPU both are
within the bound.

Sides and what they do beyond the common steps:

gpuatac     ``qc together`` (one call of ``metrics.qc``) stands against the sum of SnapATAC2's three verbs; then
            each verb by itself. The Parquet data set is written, and timed, apart from the import.
snapatac2   the same job with its defaults, unsorted import. ``spectral, equal input`` is a second process
            that embeds the very matrix and features that gpuatac did, read from its .h5ad; its note
            gives the largest relative difference of the eigenvalues (``make parity`` holds it to 1e-8).
scanpy      neighbours, UMAP and Leiden (igraph) on gpuatac's embedding; from the peer's environment. Loading
            umap-learn falls to its neighbours and to gpuatac's UMAP: their sum is what compares.
rapids      the same by rapids-singlecell; left out, with the reason, where there is no GPU.

The first call of a step may load or compile kernels: that is part of the time, as a user meets it. What a
library caches on disk is warm from the second repeat on; how long compiling takes is shown apart, by a small
sample run once with an empty kernel cache and again with the filled one.

Written: ``vs_snapatac2-<machine>-<commit>.csv`` (the medians) and ``.md`` (the tables).
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

SIDES = ("gpuatac", "snapatac2", "scanpy", "rapids")
ROOT = Path(__file__).resolve().parents[1]
FIELDS = ("wall_s", "cpu_s", "peak_gb")
COLUMNS = ("side", "step", *FIELDS, "wall_least", "wall_most", "repeats")
COLUMNS += ("threads", "machine", "commit", "date", "note")

LIBRARY, TOGETHER, EQUAL, CHAIN = "import the library", "qc together", "spectral, equal input", "whole chain"
QC = ("frag_size_distr", "tsse", "frip")
GRAPH, GRAPH_STEPS = "knn, leiden and umap", ("knn", "leiden", "umap")
CHAIN_STEPS = ("import", TOGETHER, "filter_cells", "tiles", "select_features", "scrublet", "filter_doublets")
CHAIN_STEPS += ("spectral", "knn", "leiden", "umap", "gene matrix")
#: Step -> the share of SnapATAC2's wall and CPU seconds that gpuatac may take.
BOUNDS = {
    "import": 1 / 8,
    TOGETHER: 1 / 8,
    "tiles": 1 / 6,
    "gene matrix": 1 / 6,
    "select_features": 1 / 2,
    "scrublet": 1 / 4,
    "spectral": 1 / 2,
    EQUAL: 1 / 2,
}
MEMORY_BOUND = 1 / 2  # of SnapATAC2's peak over the steps from the import on
COLD, WARM = "gpuatac, empty kernel cache", "gpuatac, filled kernel cache"


# ------------------------------------------------------------------------------- one side, one process


def cpu_seconds() -> float:
    """User and system time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def peak_gb() -> float:
    """Peak resident memory since it was last reset."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) * 1024 / 1e9


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
    """The main job by gpuatac on the CPU; leaves its .h5ad and embedding for the other sides."""
    clock, work = Clock("gpuatac"), Path(files["work"])

    def load():
        import gpuatac

        return gpuatac

    ga = clock.step(LIBRARY, load, lambda m: m.__version__)
    genome = ga.io.read_genome(files["chrom_sizes"], contigs="all")
    a = clock.step(
        "import",
        lambda: ga.pp.import_fragments(files["fragments"], genome, min_num_fragments=200, device="cpu"),
        lambda out: f"{out.n_obs} cells",
    )
    clock.step("write Parquet", lambda: write_parquet(a, work / "ours.fragments"), size)
    clock.step(TOGETHER, lambda: ga.metrics.qc(a, genes=files["genes"], regions={"frip": files["peaks"]}))
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
    clock.step("tiles", lambda: ga.pp.add_tile_matrix(a, bin_size=500), lambda _: f"nnz {a.X.nnz}")
    clock.step(
        "select_features",
        lambda: ga.pp.select_features(a, n_features=files["n_features"]),
        lambda _: f"{int(a.var['selected'].sum())} features",
    )
    clock.step("scrublet", lambda: ga.pp.scrublet(a), lambda _: called(a))
    clock.step("filter_doublets", lambda: ga.pp.filter_doublets(a), lambda _: f"{a.n_obs} cells")
    clock.step("spectral", lambda: ga.tl.spectral(a), lambda _: f"{a.obsm['X_spectral'].shape[1]} components")
    clock.step("knn", lambda: ga.pp.knn(a), lambda _: f"{n_neighbors(a)} neighbours")
    clock.step("leiden", lambda: ga.tl.leiden(a), lambda _: found(files, a.obs_names, a.obs["leiden"]))
    clock.step("umap", lambda: ga.tl.umap(a))
    clock.step("gene matrix", lambda: ga.pp.make_gene_matrix(a, files["genes"]), lambda out: f"nnz {out.X.nnz}")
    clock.step("write h5ad", lambda: ga.io.write_h5ad(a, work / "ours.h5ad", force=True), size)
    hand_over(a, work / "ours.npz")


def write_parquet(a, path: Path) -> Path:
    import gpuatac as ga
    from gpuatac.io.fragments.attach import attached

    return ga.io.write_fragments(attached(a)[0].fragments, path, force=True)


def size(path: Path) -> str:
    """What a file, or a folder of files, takes on disk."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return f"{sum(p.stat().st_size for p in files) / 1e6:.0f} MB"


def n_neighbors(a) -> int:
    return int(a.uns["neighbors"]["params"]["n_neighbors"])


def hand_over(a, path: Path) -> None:
    """The components that neighbours were found in, for the sides that only have the later steps."""
    import numpy as np

    used = np.asarray(a.uns["neighbors"]["components"])
    points = np.asarray(a.obsm["X_spectral"])[:, used]
    np.savez(path, points=points, names=a.obs_names.to_numpy().astype(str), n_neighbors=n_neighbors(a))


def load_snapatac2():
    import logging
    import warnings

    import snapatac2

    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    return snapatac2


def run_snapatac2(files: dict) -> None:
    """The main job by SnapATAC2."""
    clock = Clock("snapatac2")
    snap = clock.step(LIBRARY, load_snapatac2, lambda m: m.__version__)
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
    clock.step("knn", lambda: snap.pp.knn(a), lambda _: "50 neighbours")
    clock.step("leiden", lambda: snap.tl.leiden(a), lambda _: found(files, a.obs_names, a.obs["leiden"]))
    clock.step("umap", lambda: snap.tl.umap(a))
    clock.step("gene matrix", lambda: snap.pp.make_gene_matrix(a, genes), lambda out: f"nnz {out.X.nnz}")
    path = Path(files["work"]) / "theirs.h5ad"
    clock.step(  # with the fragments inside, which gpuatac's refers to; compressed as gpuatac does
        "write h5ad", lambda: a.write_h5ad(path, compression="gzip", compression_opts=1), lambda _: size(path)
    )
    path.unlink()


def run_equal_input(files: dict) -> None:
    """SnapATAC2's spectral on gpuatac's cells and features."""
    import anndata
    import numpy as np

    snap = load_snapatac2()
    a = anndata.read_h5ad(Path(files["work"]) / "ours.h5ad")
    ours = np.asarray(a.uns["spectral_eigenvalue"])

    def note(_):
        theirs = np.asarray(a.uns["spectral_eigenvalue"])
        k = len(theirs)
        return f"{k} eigenvalues, largest relative difference {np.abs(ours[:k] / theirs - 1).max():.1e}"

    Clock("snapatac2").step(EQUAL, lambda: snap.tl.spectral(a), note)


def run_scanpy(files: dict) -> None:
    """Neighbours, UMAP and Leiden by scanpy on gpuatac's embedding."""
    import warnings

    warnings.simplefilter("ignore")

    def load():
        import scanpy

        return scanpy

    clock = Clock("scanpy")
    sc = clock.step(LIBRARY, load, lambda m: m.__version__)
    a, n = embedding_of(files)
    clock.step("knn", lambda: sc.pp.neighbors(a, n_neighbors=n, use_rep="X"), lambda _: f"{n - 1} neighbours")
    clock.step(
        "leiden",
        lambda: sc.tl.leiden(a, flavor="igraph", n_iterations=-1, directed=False),
        lambda _: found(files, a.obs_names, a.obs["leiden"]),
    )
    clock.step("umap", lambda: sc.tl.umap(a))


def run_rapids(files: dict) -> None:
    """Neighbours, UMAP and Leiden by rapids-singlecell on gpuatac's embedding."""

    def load():
        import rapids_singlecell

        return rapids_singlecell

    clock = Clock("rapids")
    rsc = clock.step(LIBRARY, load, lambda m: m.__version__)
    a, n = embedding_of(files)
    a.obsm["X_spectral"] = a.X
    clock.step("knn", lambda: rsc.pp.neighbors(a, n_neighbors=n, use_rep="X_spectral"))
    clock.step("leiden", lambda: rsc.tl.leiden(a), lambda _: found(files, a.obs_names, a.obs["leiden"]))
    clock.step("umap", lambda: rsc.tl.umap(a))


def embedding_of(files: dict):
    """What ``hand_over`` left, as an AnnData, and the neighbours to find, the cell itself counted as scanpy does."""
    import anndata
    import numpy as np
    import pandas as pd

    kept = np.load(Path(files["work"]) / "ours.npz")
    return anndata.AnnData(kept["points"], obs=pd.DataFrame(index=kept["names"])), int(kept["n_neighbors"]) + 1


RUN = {
    "gpuatac": run_gpuatac,
    "snapatac2": run_snapatac2,
    "equal input": run_equal_input,
    "scanpy": run_scanpy,
    "rapids": run_rapids,
}


def called(adata) -> str:
    return f"{int((adata.obs['doublet_probability'] > 0.5).sum())} doublets"


def found(files: dict, names, labels) -> str:
    """Clusters and, where the truth is known, their ARI with it."""
    import pandas as pd
    from sklearn.metrics import adjusted_rand_score

    labels = labels.astype(str)
    if not files["cells"]:
        return f"{labels.nunique()} clusters"
    truth = pd.read_csv(files["cells"], sep="\t").set_index("barcode")["cell_type"]
    score = adjusted_rand_score(truth.reindex(names.astype(str)), labels)
    return f"{labels.nunique()} clusters, ARI {score:.3f}"


# ------------------------------------------------------------------------- machine, input, processes


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


def simulated(work: Path, name: str = "standard", n_cells: int = 2000, fragments: int = 10_000, **more: float) -> dict:
    """A sample of 8 types, made once, in a process of its own (whose memory is then not the driver's)."""
    prefix = work / name
    made = {
        "fragments": f"{prefix}.fragments.tsv.gz",
        "genes": f"{prefix}.genes.gtf",
        "chrom_sizes": f"{prefix}.chrom.sizes",
        "peaks": f"{prefix}.peaks.bed",
        "cells": f"{prefix}.cells.tsv",
    }
    if not all(Path(p).is_file() for p in made.values()):
        print(f"making {prefix.name} ({n_cells:,} cells x {fragments:,} fragments) ...", flush=True)
        options = {"n_cells": n_cells, "fragments_per_cell": fragments, "n_types": 8, "seed": 7, **more}
        code = f"from gpuatac import simulate_fragments as s; s({str(prefix)!r}, force=True, **{options!r})"
        subprocess.run([sys.executable, "-c", code], env=environment(2, ours=True), check=True)
    return made


def environment(threads: int, *, ours: bool) -> dict[str, str]:
    """The variables of a process: the same for every side, and the checkout on the path for ours."""
    one = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    many = ("RAYON_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS")
    env = {**os.environ, **dict.fromkeys(one, "1"), **dict.fromkeys(many, str(threads)), "MPLBACKEND": "Agg"}
    if ours:
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), env.get("PYTHONPATH"))))
    return env


def pin(threads: int) -> None:
    """Keep to the first ``threads`` cores, this process and those it starts."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


class Ended(NamedTuple):
    """A process that has ended. Its peak is the system's count (ru_maxrss), which no report of its own touches."""

    code: int
    wall_s: float
    cpu_s: float
    peak_gb: float
    out: str
    err: str


def run_process(command: list[str], env: dict[str, str]) -> Ended:
    """Run ``command`` and measure it from outside."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began = time.perf_counter()
        process = subprocess.Popen(command, env=env, stdout=out, stderr=err)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
        return Ended(process.returncode, wall, used.ru_utime + used.ru_stime, peak, out.read(), err.read())


def run_side(side: str, python: str, files: dict, threads: int, **more: str) -> list[dict]:
    """One process of one side; its rows. ``more`` goes into its environment."""
    command = [python, str(Path(__file__).resolve()), "--side", side, "--files", json.dumps(files)]
    done = run_process([*command, "--threads", str(threads)], environment(threads, ours=side == "gpuatac") | more)
    rows = [json.loads(x) for x in done.out.splitlines() if x.startswith("{")]
    if done.code:
        after = rows[-1]["step"] if rows else "the start"
        sys.exit(f"{side} failed after {after}: {done.err[-2000:]}")
    return rows


def why_not(side: str, python: str, threads: int) -> str:
    """Why a side cannot run here; empty when it can."""
    code = {
        "scanpy": "import scanpy, igraph",
        "rapids": "import cupy, rapids_singlecell; assert cupy.cuda.is_available(), 'no CUDA device'",
    }.get(side, "")
    done = run_process([python, "-c", code], environment(threads, ours=False))
    return (done.err.strip().splitlines() or ["no reason given"])[-1] if done.code else ""


def starts(peer: str, threads: int) -> list[dict]:
    """A row of starting each library."""
    rows = []
    commands = {
        ("gpuatac", "gpuatac --help"): [sys.executable, "-m", "gpuatac", "--help"],
        ("snapatac2", "python -c 'import snapatac2'"): [peer, "-c", "import snapatac2"],
    }
    for (side, note), command in commands.items():
        done = run_process(command, environment(threads, ours=side == "gpuatac"))
        if done.code:
            sys.exit(f"{note} failed: {done.err[-2000:]}")
        row = {"side": side, "step": "start", "wall_s": done.wall_s, "cpu_s": done.cpu_s, "peak_gb": done.peak_gb}
        rows.append({**row, "note": note})
    return rows


def first_calls(work: Path, files: dict, threads: int) -> list[dict]:
    """Rows of a small job with an empty and with a filled kernel cache."""
    rows = []
    small = {**files, **simulated(work, "small", 200, 2000)}
    with tempfile.TemporaryDirectory(dir=work) as cache, tempfile.TemporaryDirectory(dir=work) as scratch:
        for side in (COLD, WARM):
            made = run_side("gpuatac", sys.executable, {**small, "work": scratch}, threads, NUMBA_CACHE_DIR=cache)
            rows += [{**row, "side": side} for row in made]
    return rows


# --------------------------------------------------------------------------------- figures and tables


def summed(rows: list[dict], side: str, step: str, parts: tuple[str, ...]) -> list[dict]:
    """One row made of the rows of ``parts``: seconds added up, the highest peak. None when a part is missing."""
    of = [r for part in parts for r in rows if r["side"] == side and r["step"] == part]
    if len(of) < len(parts):
        return []
    total = {f: sum(r[f] for r in of) for f in ("wall_s", "cpu_s")}
    return [{"side": side, "step": step, **total, "peak_gb": max(r["peak_gb"] for r in of), "note": ""}]


def with_sums(rows: list[dict]) -> list[dict]:
    """The rows of one repeat and, beside them, what is compared as one: all QC, the graph, the chain, equal input.

    The chain's seconds are those of its steps; its peak is that of every step from the import on.
    """
    out = [*rows, *summed(rows, "snapatac2", TOGETHER, QC)]
    if any(r["step"] == EQUAL for r in rows):
        out += summed(rows, "gpuatac", EQUAL, ("spectral",))
    for side in SIDES:
        out += summed(rows, side, GRAPH, GRAPH_STEPS)
    for side in SIDES[:2]:
        after = [r["peak_gb"] for r in rows if r["side"] == side and r["step"] not in (LIBRARY, "start", EQUAL)]
        for row in summed(out, side, CHAIN, CHAIN_STEPS):
            out.append({**row, "peak_gb": max(after)})
    return out


def medians(rows: list[dict]) -> dict[tuple[str, str], dict]:
    """(side, step) -> median of each figure, least and greatest wall time, note of the last run."""
    out = {}
    for key in dict.fromkeys((r["side"], r["step"]) for r in rows):
        of_step = [r for r in rows if (r["side"], r["step"]) == key]
        walls = [r["wall_s"] for r in of_step]
        out[key] = {
            **{f: statistics.median(r[f] for r in of_step) for f in FIELDS},
            "wall_least": min(walls),
            "wall_most": max(walls),
            "repeats": len(walls),
            "note": of_step[-1]["note"],
        }
    return out


class Ratio(NamedTuple):
    """One step of gpuatac beside the same of another side."""

    step: str
    ours: dict
    theirs: dict
    wall: float
    cpu: float
    bound: float | None

    @property
    def verdict(self) -> str:
        if self.bound is None:
            return ""
        return "met" if max(self.wall, self.cpu) <= self.bound else "missed"


def ratios(table: dict, side: str, bounds: dict[str, float]) -> list[Ratio]:
    """Every step that both gpuatac and ``side`` have, in the order of the chain."""
    order = [LIBRARY, "start", "import", *QC, *CHAIN_STEPS[1:8], EQUAL, *CHAIN_STEPS[8:], GRAPH, "write h5ad", CHAIN]
    out = []
    for step in order:
        ours, theirs = table.get(("gpuatac", step)), table.get((side, step))
        if ours and theirs:
            wall, cpu = (ours[f] / max(theirs[f], 1e-9) for f in ("wall_s", "cpu_s"))
            out.append(Ratio(step, ours, theirs, wall, cpu, bounds.get(step)))
    return out


def as_share(x: float) -> str:
    """0.125 as "1/8.0": how many times less; 1.5 as it is."""
    return f"1/{1 / x:.1f}" if 0 < x < 1 else f"{x:.2f}"


def side_lines(table: dict, side: str, bounds: dict[str, float]) -> list[str]:
    """The Markdown table of gpuatac beside ``side``."""
    lines = [
        f"| step | gpuatac wall s | CPU s | GB | {side} wall s | CPU s | GB | wall ratio | CPU ratio | bound | | notes |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|---|",
    ]
    for r in ratios(table, side, bounds):
        figures = [f"{row[f]:.2f}" for row in (r.ours, r.theirs) for f in FIELDS]
        bound = "" if r.bound is None else as_share(r.bound)
        notes = " / ".join(n for n in (r.ours["note"], r.theirs["note"]) if n)
        cells = [r.step, *figures, as_share(r.wall), as_share(r.cpu), bound, r.verdict, notes]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def memory_line(table: dict) -> str:
    """The highest peak from the import on, beside its bound."""
    ours, theirs = (table[side, CHAIN]["peak_gb"] for side in SIDES[:2])
    verdict = "met" if ours <= MEMORY_BOUND * theirs else "missed"
    return (
        f"Peak memory of the chain: {ours:.2f} GB against {theirs:.2f} GB, {as_share(ours / theirs)} "
        f"(bound {as_share(MEMORY_BOUND)}): {verdict}."
    )


def compile_lines(table: dict) -> list[str]:
    """Seconds of the small job with an empty and a filled kernel cache; the difference is compiling."""
    steps = [step for side, step in table if side == COLD]
    pairs = {step: (table[COLD, step]["wall_s"], table[WARM, step]["wall_s"]) for step in steps}
    shown = {step: pair for step, pair in pairs.items() if pair[0] - pair[1] > 0.1 or step == "import"}
    shown["all steps"] = tuple(sum(pair[i] for pair in pairs.values()) for i in (0, 1))
    lines = ["| step, 200 cells x 2,000 fragments | first call s | again s | compiling s |", "|---|---:|---:|---:|"]
    return lines + [f"| {step} | {a:.2f} | {b:.2f} | {a - b:.2f} |" for step, (a, b) in shown.items()]


def slower(table: dict) -> list[str]:
    """Steps in which gpuatac takes over a second longer than SnapATAC2."""
    return [
        f"{r.step} ({r.ours['wall_s']:.1f} s against {r.theirs['wall_s']:.1f} s)"
        for r in ratios(table, "snapatac2", {})
        if r.ours["wall_s"] > r.theirs["wall_s"] + 1
    ]


def report(table: dict, skipped: dict[str, str], title: str) -> list[str]:
    """The page for people."""
    lines = [f"# {title}", ""]
    if ("snapatac2", CHAIN) in table and ("gpuatac", CHAIN) in table:
        found = ratios(table, "snapatac2", BOUNDS)
        missed = [r.step for r in found if r.verdict == "missed"]
        lines += side_lines(table, "snapatac2", BOUNDS)
        lines += ["", memory_line(table), f"Bounds missed: {', '.join(missed) or 'none'}."]
        lines += [f"More than a second slower: {', '.join(slower(table)) or 'no step'}."]
        parquet = table["gpuatac", "write Parquet"]
        lines += [
            f"Parquet data set of the fragments, written apart: {parquet['wall_s']:.2f} s, {parquet['cpu_s']:.2f} CPU s, "
            f"{parquet['note']}."
        ]
        lines += [
            "The single QC verbs run after `qc together`, so with the annotation read and kernels loaded; they are not "
            "part of the chain's sum on gpuatac's side, nor are the files written on either."
        ]
    for side in ("scanpy", "rapids"):
        if any(s == side for s, _ in table):
            lines += ["", f"## {side}, on gpuatac's embedding", "", *side_lines(table, side, {})]
        elif side in skipped:
            lines += ["", f"{side} left out: {skipped[side]}"]
    if any(s == COLD for s, _ in table):
        lines += ["", "## Compiling kernels at the first call", "", *compile_lines(table)]
    return lines


def write_csv(table: dict, path: Path, threads: int) -> None:
    """The medians, with the machine, the commit and the day."""
    where = [threads, machine(), commit(), datetime.date.today().isoformat()]
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(COLUMNS)
        for (side, step), row in table.items():
            figures = [f"{row[f]:.3f}" for f in (*FIELDS, "wall_least", "wall_most")]
            writer.writerow([side, step, *figures, row["repeats"], *where, row["note"]])


def stem(folder: Path, name: str) -> Path:
    """Where the results of this machine and commit go; ``.csv`` and ``.md`` are added to it."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}-{machine()}-{commit()}"


# ------------------------------------------------------------------------------------------ the driver


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="a Python that has snapatac2 2.9.0 and scanpy")
    parser.add_argument("--rapids", default=sys.executable, help="a Python that has rapids-singlecell (default: this)")
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
    parser.add_argument("--side", choices=RUN, help=argparse.SUPPRESS)
    parser.add_argument("--files", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side is None and not (args.peer and args.work):
        parser.error("--peer and --work are needed")
    own = (args.fragments, args.genes, args.chrom_sizes, args.peaks)
    if any(own) and not all(own):
        parser.error("--fragments, --genes, --chrom-sizes and --peaks belong together; give all four or none")
    return args


def one_repeat(sides: list[str], pythons: dict[str, str], files: dict, threads: int) -> list[dict]:
    """Every side in turn, once."""
    rows: list[dict] = []
    for side in sides:
        print(f"  {side}", flush=True)
        rows += run_side(side, pythons[side], files, threads)
    if {"gpuatac", "snapatac2"} <= set(sides):
        rows += run_side("equal input", pythons["snapatac2"], files, threads)
    return rows


def main() -> None:
    args = parse_arguments()
    pin(args.threads)
    if args.side:
        RUN[args.side](args.files)
        return
    args.work.mkdir(parents=True, exist_ok=True)
    names = ("fragments", "genes", "chrom_sizes", "peaks", "cells")
    files = {n: getattr(args, n) for n in names} if args.fragments else simulated(args.work)
    files |= {"work": str(args.work), "n_features": args.n_features, "min_tsse": args.min_tsse}
    pythons = {"gpuatac": sys.executable, "snapatac2": args.peer, "scanpy": args.peer, "rapids": args.rapids}
    skipped = {side: why for side in args.only if (why := why_not(side, pythons[side], args.threads))}
    for side, why in skipped.items():
        print(f"{side} left out: {why}", flush=True)
    sides = [side for side in SIDES if side in args.only and side not in skipped]
    rows: list[dict] = []
    for repeat in range(args.repeats):
        print(f"repeat {repeat + 1} of {args.repeats}", flush=True)
        made = one_repeat(sides, pythons, files, args.threads)
        if {"gpuatac", "snapatac2"} <= set(sides):
            made += starts(args.peer, args.threads)
        rows += with_sums(made)
    if {"gpuatac", "snapatac2"} <= set(sides):
        print("first calls of the kernels, once", flush=True)
        rows += first_calls(args.work, files, args.threads)
    table = medians(rows)
    if not {"gpuatac", "snapatac2"} <= set(sides):  # a look at some sides; no result
        for (side, step), row in table.items():
            print(f"{side:<10} {step:<20}{''.join(f'{row[f]:>9.2f}' for f in FIELDS)} {row['note']}")
        return
    for left in ("ours.h5ad", "ours.npz"):
        (args.work / left).unlink()
    shutil.rmtree(args.work / "ours.fragments")
    title = f"gpuatac beside SnapATAC2: {machine()}, commit {commit()}, {datetime.date.today().isoformat()}"
    lines = report(table, skipped, f"{title}, {args.threads} threads, median of {args.repeats}")
    print("\n".join(lines))
    path = stem(args.results, "vs_snapatac2")
    path.with_name(path.name + ".md").write_text("\n".join(lines) + "\n")
    write_csv(table, path.with_name(path.name + ".csv"), args.threads)
    print(f"written: {path.name}.csv and .md")


if __name__ == "__main__":
    main()
