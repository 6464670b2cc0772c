"""Peaks and tracks of very many groups within a memory limit: 277,000 cells of 500 fragments in 300 groups.

    python benchmarks/many_groups.py --work <folder> [--cells 277000] [--fragments 500] [--groups 300] [--memory 4G]
                                     [--results <folder>]

Writes a data set of fragments (60 % of them around 150,000 sites, the rest anywhere), then calls peaks of all groups, merges
them, counts every cell in them and writes 300 bigWigs, each in a process of its own; prints seconds and the peak of memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
SITES = 150_000
STEPS = ("peaks", "merge", "matrix", "coverage")


def make(folder: Path, n_cells: int, per_cell: int, seed: int = 0) -> None:
    """The data set ``many.fragments``, as gpuatac stores it."""
    from gpuatac.fragments import CellTotals, Columns, ReadSummary
    from gpuatac.io import read_genome
    from gpuatac.io.fragments.store import StoreWriter

    rng = np.random.default_rng(seed)
    genome = read_genome("hg38")
    barcodes = np.array([f"CELL{i:07d}" for i in range(n_cells)])
    target = folder / "many.fragments"
    writer = StoreWriter(target, genome, barcodes, with_strand=False)
    rows = np.zeros(n_cells, np.int64)
    sizes = genome.sizes.astype(np.int64)
    for code, size in enumerate(sizes.tolist()):
        n = int(n_cells * per_cell * size / sizes.sum())
        sites = rng.integers(2000, size - 2000, max(int(SITES * size / sizes.sum()), 2))
        weight = rng.lognormal(0, 0.8, sites.size)
        at = rng.choice(sites, n, p=weight / weight.sum()) + rng.normal(0, 120, n).astype(np.int64)
        anywhere = rng.random(n) < 0.4
        at[anywhere] = rng.integers(0, size - 1000, int(anywhere.sum()))
        start = np.sort(np.clip(at, 0, size - 1000)).astype(np.int32)
        length = np.where(rng.random(n) < 0.6, rng.integers(25, 140, n), rng.integers(140, 700, n)).astype(np.int32)
        cell = rng.integers(0, n_cells, n).astype(np.int32)
        end = start + length
        order = np.lexsort((cell, end, start))
        writer.write(code, Columns(start[order], end[order], cell[order], np.ones(n, np.int32)))
        rows += np.bincount(cell, minlength=n_cells)
    n = int(rows.sum())
    writer.finish(ReadSummary("simulated", n, n), CellTotals(rows, rows * 0, rows))


def one(folder: Path, step: str, n_groups: int) -> dict:
    """Run one step; seconds of wall clock and CPU, and the peak of memory in GiB."""
    import anndata as ad
    import pandas as pd

    import gpuatac as ga

    began = time.perf_counter()
    adata = ga.pp.import_fragments(folder / "many.fragments", ga.io.read_genome("hg38"), min_num_fragments=0)
    group = np.random.default_rng(1).integers(0, n_groups, adata.n_obs)
    adata.obs["group"] = pd.Categorical.from_codes(group, [f"g{i}" for i in range(n_groups)])
    loaded, cpu = time.perf_counter(), time.process_time()
    if step == "peaks":
        ga.tl.call_peaks(adata, groupby="group")
        adata.uns["peaks"].to_parquet(folder / "peaks.parquet")
        told = {"peaks": len(adata.uns["peaks"])}
    elif step == "merge":
        merged = ga.tl.merge_peaks(pd.read_parquet(folder / "peaks.parquet"), ga.io.read_genome("hg38"))
        merged[["chrom", "start", "end"]].to_csv(folder / "merged.bed", sep="\t", header=False, index=False)
        told = {"regions": len(merged)}
    elif step == "matrix":
        matrix = ga.pp.make_peak_matrix(adata, folder / "merged.bed")
        assert isinstance(matrix, ad.AnnData)
        told = {"regions": matrix.n_vars}
    else:
        files = ga.ex.export_coverage(adata, groupby="group", out_dir=folder / "bw", n_jobs=2)
        told = {"files": len(files), "MB": sum(Path(f).stat().st_size for f in files.values()) // 1_000_000}
    wall = time.perf_counter() - loaded
    peak = ga.memory.peak() / 2**30
    return {"step": step, "load_s": round(loaded - began, 1), "wall_s": round(wall, 1),
            "cpu_s": round(time.process_time() - cpu, 1), "peak_gib": round(peak, 2), **told}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=277_000)
    parser.add_argument("--fragments", type=int, default=500, help="of each cell, on average")
    parser.add_argument("--groups", type=int, default=300)
    parser.add_argument("--memory", default="4G")
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--results", type=Path, help="folder for a table of what was measured")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.step:
        import gpuatac as ga

        ga.set_memory(args.memory)
        print(json.dumps(one(args.work, args.step, args.groups)))
        return 0
    if not (args.work / "many.fragments").exists():
        make(args.work, args.cells, args.fragments)
    rows = []
    for step in args.steps.split(","):
        command = [sys.executable, __file__, "--work", str(args.work), "--step", step, "--groups", str(args.groups)]
        done = subprocess.run([*command, "--memory", args.memory], check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout.strip().splitlines()[-1]))
        print(json.dumps(rows[-1]), flush=True)
    if args.results is not None:
        import vs_snapatac2 as bench

        path = bench.stem(args.results, "many_groups")
        title = f"# {args.groups} groups of {args.cells:,} cells at {args.fragments} fragments, --memory {args.memory}"
        lines = [title, "", f"{bench.machine()}, commit {bench.commit()}", ""]
        lines += ["| step | wall s | CPU s | peak GiB | what |", "|---|---:|---:|---:|---|"]
        for row in rows:
            what = ", ".join(f"{v:,} {k}" for k, v in row.items() if k in ("peaks", "regions", "files", "MB"))
            lines.append(f"| {row['step']} | {row['wall_s']} | {row['cpu_s']} | {row['peak_gib']} | {what} |")
        path.with_name(path.name + ".md").write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
