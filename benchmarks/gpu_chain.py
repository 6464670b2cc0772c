"""Where the milliseconds go between the inflated text of a fragment file and clusters, on a GPU.

    gpu_chain.py --work FOLDER [--fragments FILE --genes FILE --chrom-sizes FILE] [--device gpu] [--repeats 3]

Without --fragments the standard sample (2,000 cells x 10,000 fragments, 8 types, seed 7) is simulated once and kept in --work.
The text is inflated on the host before the clock starts; then it is copied to the device, parsed, collected, sorted,
counted, embedded and clustered, the device synchronised after each step. The first pass compiles kernels and is shown
apart. A second table holds the steps that sort against CuPy's sort of the same keys, a third the peaks of 11 groups from columns
on the device (--cuts million cuts). With ``--device cpu`` the same steps run
without a GPU, which shows that the program itself works.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from recording import record
from vs_snapatac2 import commit, machine

GOAL_S = 5.0
PEAKS_GOAL_S = 2.0  # peaks of all groups from columns on the device, 43 million cuts
N_GROUPS = 11
SORTS = "sort of the same keys"


class Steps:
    """Milliseconds of each step, the device synchronised at its end."""

    def __init__(self, bk) -> None:
        self._bk = bk
        self.ms: dict[str, float] = {}

    def run(self, name: str, work):
        self._bk.synchronize()
        began = time.perf_counter()
        out = work()
        self._bk.synchronize()
        self.ms[name] = self.ms.get(name, 0.0) + (time.perf_counter() - began) * 1e3
        return out


def inflated(path: Path) -> list[np.ndarray]:
    """The text of the file in blocks of whole lines, on the host."""
    from gpuatac.io.files.compression import line_blocks
    from gpuatac.threads import get_threads

    with ThreadPoolExecutor(get_threads()) as pool:
        return list(line_blocks(path, pool, block_bytes=64 << 20))


def read(steps: Steps, bk, genome, blocks: list[np.ndarray]):
    """Fragments of the blocks, as ``read_fragments`` makes them, step by step."""
    from gpuatac.fragments import DROP_REASONS, ReadSummary
    from gpuatac.io.fragments.collect import Collector
    from gpuatac.io.fragments.text import Wanted

    names = [name.encode() for name in genome.code]
    chromosomes = bk.parsing.chromosomes(names, np.fromiter(genome.code.values(), np.int32), genome.sizes)
    wanted = Wanted.of(genome, min_num_fragments=200, whitelist=None, chr_m=("chrM", "M"))
    summary = ReadSummary(dropped=dict.fromkeys(DROP_REASONS, 0), n_columns=5)
    with Collector(bk, genome, mito_codes=wanted.mito_codes, scratch=None, keep_all=True) as rows:
        for text in blocks:
            here = steps.run("copy text to the device", lambda text=text: bk.asarray(text))
            parsed = steps.run(
                "parse", lambda here=here: bk.parsing.parse_block(here, chromosomes, bulk=False)
            )
            steps.run("collect by chromosome", lambda parsed=parsed: rows.add(parsed))
        barcodes, totals = steps.run("choose barcodes", lambda: wanted.choose(rows, summary))
        return steps.run("sort", lambda: rows.fragments(barcodes, summary, totals))


def chain(bk, genome, genes, blocks: list[np.ndarray]) -> tuple[dict[str, float], str]:
    """One pass; milliseconds by step and what came out."""
    import anndata as ad
    import pandas as pd

    import gpuatac as ga
    from gpuatac.io.fragments import attach

    steps = Steps(bk)
    fragments = read(steps, bk, genome, blocks)
    totals = fragments.totals
    obs = pd.DataFrame({"n_fragment": totals.rows - totals.mito_rows}, index=pd.Index(fragments.barcodes, dtype=object))
    a = ad.AnnData(X=None, obs=obs, var=pd.DataFrame(index=pd.Index([], dtype=object)))
    anchor = Path(__file__).resolve()
    record = attach.describe(anchor, fragments, sample="standard", device=bk.name)
    attach.set_records(a, [record])
    attach.set_genome(a, genome)
    attach.remember(attach.cache_key(anchor, record), fragments)
    steps.run("qc", lambda: ga.metrics.qc(a, genes=genes))
    steps.run("filter_cells", lambda: ga.pp.filter_cells(a, min_counts=1000, min_tsse=2))
    steps.run("tiles of 500 bp", lambda: ga.pp.add_tile_matrix(a, bin_size=500))
    steps.run("select_features", lambda: ga.pp.select_features(a, n_features=250_000))
    steps.run("scrublet", lambda: ga.pp.scrublet(a))
    steps.run("filter_doublets", lambda: ga.pp.filter_doublets(a))
    steps.run("spectral", lambda: ga.tl.spectral(a))
    steps.run("knn", lambda: ga.pp.knn(a))
    steps.run("leiden", lambda: ga.tl.leiden(a))
    attach.forget()
    return steps.ms, f"{len(fragments):,} fragments, {a.n_obs:,} cells, {a.obs['leiden'].nunique()} clusters"


def against_sort(bk, n: int, repeats: int) -> list[dict]:
    """The counting of a matrix and the order of fragments beside a sort of as many keys."""
    xp = bk.xp
    rng = np.random.default_rng(0)
    size, n_rows, width = 248_956_422, 2_000, 500
    start = np.sort(rng.integers(0, size - 2_000, n)).astype(np.int32)
    end = (start + rng.integers(20, 900, n)).astype(np.int32)
    row = rng.integers(0, n_rows, n).astype(np.int32)
    n_bins = -(-size // width)
    s, e, r = (bk.asarray(column) for column in (start, end, row))
    keys = xp.concatenate([r.astype(np.int64) * n_bins + s // width, r.astype(np.int64) * n_bins + (e - 1) // width])
    count = xp.ones(n, np.int32)
    chrom = xp.zeros(n, np.int16)
    shuffled = bk.asarray(rng.permutation(n))
    place = s.astype(np.int64)[shuffled]
    tie = (e.astype(np.int64) << 31)[shuffled] | r[shuffled]

    def median(work) -> float:
        took = []
        for _ in range(repeats + 1):
            steps = Steps(bk)
            steps.run("x", work)
            took.append(steps.ms["x"])
        return statistics.median(took[1:])

    def tiles():
        return bk.counting.tile_counts(
            s, e, r, n_rows=n_rows, bin_size=width, n_bins=n_bins, strategy="paired-insertion"
        )

    def order():
        return bk.ordering.sort_fragments(chrom, s[shuffled], e[shuffled], r[shuffled], count, None, n_chroms=1)

    out = []
    for name, work, sort in (
        ("tile_counts", tiles, lambda: xp.sort(keys)),
        ("sort_fragments", order, lambda: (xp.argsort(place), xp.argsort(tie))),
    ):
        ours, theirs = median(work), median(sort)
        out.append({"step": name, "items": n, "ms": ours, "sort_ms": theirs, "ratio": ours / theirs})
    return out


def peaks_of_groups(bk, n_cuts: int, genome, repeats: int) -> tuple[dict[str, float], str]:
    """Milliseconds of peak calling for N_GROUPS groups, from start, end and group of all chromosomes on the device.

    Three tenths of the fragments lie around 60,000 places, a different third of them open in each group; the rest anywhere.
    """
    from gpuatac.core.peaks.calling import call_peaks
    from gpuatac.core.peaks.scores import PeakModel
    from gpuatac.core.tracks.pseudobulk import totals_of

    rng = np.random.default_rng(1)
    sizes = genome.sizes[genome.sizes > 20_000]
    columns = []
    for size, n in zip(sizes.tolist(), rng.multinomial(n_cuts // 2, sizes / sizes.sum()).tolist(), strict=True):
        places = rng.integers(1_000, size - 1_000, max(60_000 * size // int(sizes.sum()), 1))
        group = rng.integers(0, N_GROUPS, n).astype(np.int32)
        open_in = rng.random((N_GROUPS, places.size)) < 1 / 3
        near = rng.integers(0, places.size, n)
        inside = open_in[group, near] & (rng.random(n) < 0.9)
        start = np.where(inside, places[near] + rng.normal(-90, 60, n), rng.integers(0, size - 2_000, n))
        start = np.clip(start, 0, size - 2_000).astype(np.int32)
        order = np.argsort(start, kind="stable")
        end = start + np.clip(rng.gamma(2.0, 90.0, n), 20, 1_999).astype(np.int32)
        columns.append(tuple(bk.asarray(column[order]) for column in (start, end, group)))

    def once() -> tuple[dict[str, float], int]:
        steps = Steps(bk)
        ends = steps.run(
            "ends by group", lambda: [bk.pileup.group_ends(*column, n_groups=N_GROUPS) for column in columns]
        )
        totals = totals_of(bk, ends[0])
        for part in ends[1:]:
            totals = totals + totals_of(bk, part)
        sources = [lambda part=part: part for part in ends]
        options = {"genome_size": float(sizes.sum()), "mean_length": totals.bases / totals.rows}
        called = steps.run("peaks", lambda: list(call_peaks(bk, sources, totals, PeakModel(), **options)))
        return steps.ms, sum(peaks.start.size for _, peaks, _ in called)

    passes = [once() for _ in range(repeats + 1)]
    ms = {name: statistics.median(p[name] for p, _ in passes[1:]) for name in passes[0][0]}
    return ms, f"{n_cuts / 1e6:g} million cuts, {N_GROUPS} groups, {passes[0][1]:,} peaks"


def write(folder: Path, name: str, rows: list[dict]) -> Path:
    """One CSV per device and commit."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.csv"
    with path.open("w", newline="") as file:
        out = csv.DictWriter(file, fieldnames=list(rows[0]))
        out.writeheader()
        out.writerows(rows)
    return path


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for the simulated sample")
    parser.add_argument("--fragments", type=Path)
    parser.add_argument("--genes", type=Path)
    parser.add_argument("--chrom-sizes", type=Path)
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--millions", type=float, default=20, help="fragments of the comparison with sorts")
    parser.add_argument("--cuts", type=float, default=43, help="million cuts of the peaks of all groups")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--results", type=Path, default=Path(__file__).resolve().parent / "results")
    args = parser.parse_args()
    own = (args.fragments, args.genes, args.chrom_sizes)
    if any(own) and not all(own):
        parser.error("--fragments, --genes and --chrom-sizes belong together; give all three or none")
    return args


def device_name(bk) -> str:
    """The GPU's name, or the CPU's, as a part of a file name."""
    if bk.name == "cpu":
        return machine()
    import cupy

    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    return "-".join("".join(c if c.isalnum() else " " for c in name).split())


def main() -> None:
    args = parse_arguments()
    from vs_snapatac2 import simulated

    import gpuatac as ga
    from gpuatac.backend import resolve

    bk = resolve(args.device)
    args.work.mkdir(parents=True, exist_ok=True)
    if args.fragments is None:
        files = simulated(args.work)
        args.fragments, args.genes, args.chrom_sizes = (Path(files[k]) for k in ("fragments", "genes", "chrom_sizes"))
    genome = ga.io.read_genome(args.chrom_sizes, genes=args.genes, contigs="all")
    began = time.perf_counter()
    blocks = inflated(args.fragments)
    print(f"inflated on the host in {time.perf_counter() - began:.2f} s: {sum(b.size for b in blocks) / 1e6:,.0f} MB")
    first, note = chain(bk, genome, genome, blocks)
    print(f"first pass, with compiling: {sum(first.values()) / 1e3:.2f} s; {note}")
    passes = [chain(bk, genome, genome, blocks)[0] for _ in range(args.repeats)]
    rows = [
        {
            "step": name,
            "ms": round(statistics.median(p[name] for p in passes), 2),
            "first_ms": round(first[name], 2),
            "device": device_name(bk),
            "commit": commit(),
        }
        for name in first
    ]
    total = sum(row["ms"] for row in rows)
    for row in rows:
        print(
            f"{row['step']:<28}{row['ms']:>10.1f} ms {100 * row['ms'] / total:>5.1f} %   first {row['first_ms']:>10.1f} ms"
        )
        record("chain", name=row["step"], ms=row["ms"])
    met = "met" if total <= GOAL_S * 1e3 else "missed"
    print(f"{'total':<28}{total:>10.1f} ms (goal on a GPU {GOAL_S:.0f} s: {met}); {note}")
    sorts = against_sort(bk, int(args.millions * 1e6), args.repeats)
    for row in sorts:
        print(f"{row['step']:<28}{row['ms']:>10.1f} ms, {SORTS} {row['sort_ms']:.1f} ms: {row['ratio']:.2f}x")
    ms, note = peaks_of_groups(bk, int(args.cuts * 1e6), genome, args.repeats)
    met = "met" if sum(ms.values()) <= PEAKS_GOAL_S * 1e3 else "missed"
    print(
        f"{'peaks of all groups':<28}{sum(ms.values()):>10.1f} ms (goal on a GPU {PEAKS_GOAL_S:.0f} s: {met}); {note}"
    )
    peaks = [
        {
            "step": name,
            "ms": round(took, 2),
            "cuts": int(args.cuts * 1e6),
            "device": device_name(bk),
            "commit": commit(),
        }
        for name, took in ms.items()
    ]
    for name, table in (("gpu_chain", rows), ("gpu_sorts", sorts), ("gpu_peaks", peaks)):
        print(f"written: {write(args.results, f'{name}-{device_name(bk)}-{commit()}', table).name}")


if __name__ == "__main__":
    main()
