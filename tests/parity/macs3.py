"""Peaks of tl.call_peaks against ``macs3 callpeak``, row by row, in every mode.

    python tests/parity/macs3.py --macs3 <path of the macs3 program> [--seed 0] [--golden <folder>]

Each case writes the fragments of one simulated group as MACS3 reads them, runs both, and compares the text of every row:
start, end, summit, score, fold change, p and q as MACS3 prints them. ``--golden`` also writes the fragments and MACS3's rows,
which tests/tl/test_peaks_macs3.py reads where MACS3 is not installed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import gpuatac as ga
from gpuatac.core.peaks.calling import call_peaks
from gpuatac.core.peaks.scores import PeakModel
from gpuatac.core.tracks.pseudobulk import totals_of
from gpuatac.ex._peaks import peak_names
from gpuatac.tl._peak_tables import peak_frame

SIZES = {"chr1": 3_000_000, "chr10": 1_500_000, "chr2": 800_000, "chrM": 16_569}
CASES = {
    "insertions": ("BED", [], {}),
    "nolambda": ("BED", ["--nolambda"], {"nolambda": True}),
    "one summit": ("BED", ["summits=no"], {"call_summits": False}),
    "archr": (
        "BED",
        ["--nolambda", "shift=-75", "extsize=150", "q=0.1"],
        {"nolambda": True, "shift": -75, "extsize": 150, "qvalue": 0.1},
    ),
    "shifted": ("BED", ["shift=37", "extsize=73"], {"shift": 37, "extsize": 73}),
    "p cutoff": ("BED", ["p=1e-3"], {"pvalue": 1e-3}),
    "q cutoff of 1": ("BED", ["q=1.0"], {"qvalue": 1.0}),
    "p cutoff of 1": ("BED", ["p=1.0"], {"pvalue": 1.0}),
    "broad cutoff of 1": ("BED", ["--broad", "broad-cutoff=1.0"], {"broad": True, "broad_cutoff": 1.0}),
    "wide gaps": ("BED", ["max-gap=150", "min-length=400"], {"max_gap": 150, "min_length": 400}),
    "fragments": ("BEDPE", [], {"whole": True}),
    "fragments, one summit": ("BEDPE", ["summits=no"], {"whole": True, "call_summits": False}),
    "fragments, nolambda": ("BEDPE", ["--nolambda"], {"whole": True, "nolambda": True}),
    "copies": ("FRAG", [], {"whole": True, "copies": True}),
    "copies, one summit": ("FRAG", ["summits=no"], {"whole": True, "copies": True, "call_summits": False}),
    "copies, nolambda": ("FRAG", ["--nolambda"], {"whole": True, "copies": True, "nolambda": True}),
    "broad": ("BED", ["--broad"], {"broad": True}),
    "broad, p": ("BED", ["--broad", "p=1e-4", "broad-cutoff=0.05"], {"broad": True, "pvalue": 1e-4, "broad_cutoff": 0.05}),
    "broad fragments": ("BEDPE", ["--broad"], {"whole": True, "broad": True}),
    "broad copies": ("FRAG", ["--broad", "broad-cutoff=0.2"], {"whole": True, "copies": True, "broad": True, "broad_cutoff": 0.2}),
}  # fmt: skip


def simulated(seed: int, n: int) -> dict[str, pd.DataFrame]:
    """Fragments with copies, denser at random sites of random width; some at the very start of each chromosome."""
    rng = np.random.default_rng(seed)
    out = {}
    for name, size in SIZES.items():
        m = max(int(n * size / sum(SIZES.values())), 200) * (6 if name == "chrM" else 1)
        sites = rng.integers(0, size, max(size // 12_000, 3))
        weight = rng.lognormal(0, 1.2, sites.size)
        at = rng.choice(sites, m, p=weight / weight.sum()) + rng.normal(0, rng.choice([60, 200, 900], m))
        start = np.where(rng.random(m) < 0.45, at, rng.integers(0, size, m)).astype(np.int64)
        start = np.concatenate([start, rng.integers(0, 300, m // 200), np.zeros(m // 500, np.int64)])
        length = np.where(
            rng.random(start.size) < 0.6, rng.integers(25, 140, start.size), rng.integers(140, 700, start.size)
        )
        start = np.clip(start, 0, size - 800)
        frame = pd.DataFrame({"start": start, "end": start + length, "count": rng.geometric(0.6, start.size)})
        out[name] = frame.sort_values(["start", "end"], kind="stable").reset_index(drop=True)
    return out


def write_input(fragments: dict[str, pd.DataFrame], kind: str, path: Path) -> None:
    with path.open("w") as out:
        for name, f in fragments.items():
            for s, e, c in f[["start", "end", "count"]].itertuples(index=False):
                if kind == "BED":  # MACS3 takes the end of a line on the minus strand as its 5' end
                    out.write(f"{name}\t{s}\t{s + 1}\t.\t.\t+\n{name}\t{e - 2}\t{e - 1}\t.\t.\t-\n")
                elif kind == "BEDPE":
                    out.write(f"{name}\t{s}\t{e}\n")
                else:
                    out.write(f"{name}\t{s}\t{e}\tA\t{c}\n")


def run_macs3(macs3: Path, source: Path, kind: str, extra: list[str], folder: Path) -> pd.DataFrame:
    words = dict(w.split("=", 1) for w in extra if "=" in w)
    flags = [w for w in extra if "=" not in w]
    broad = "--broad" in flags
    command = [str(macs3), "callpeak", "-t", str(source), "-f", kind, "-g", str(sum(SIZES.values())), "-n", "x"]
    command += ["--outdir", str(folder), *flags]
    command += ["-p", words["p"]] if "p" in words else ["-q", words.get("q", "0.05")]
    if kind != "FRAG":
        command += ["--keep-dup", "all"]
    if kind == "BED":
        extsize = words.get("extsize", "200")
        command += ["--nomodel", "--shift", words.get("shift", "-100"), "--extsize", extsize]
        command += ["--max-gap", words.get("max-gap", "30"), "--min-length", words.get("min-length", extsize)]
    if broad:
        command += ["--broad-cutoff", words.get("broad-cutoff", "0.1")]
    elif words.get("summits") != "no":
        command += ["--call-summits"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    path = folder / ("x_peaks.broadPeak" if broad else "x_peaks.narrowPeak")
    return pd.read_csv(path, sep="\t", header=None, dtype=str)


def ours(fragments: dict[str, pd.DataFrame], options: dict) -> pd.DataFrame:
    bk = ga.backend.resolve("cpu")
    model = PeakModel(**options)
    names = sorted(fragments)
    ends = []
    for name in names:
        f = fragments[name]
        weight = f["count"].to_numpy(np.int32) if model.copies else None
        columns = f["start"].to_numpy(np.int32), f["end"].to_numpy(np.int32), np.zeros(len(f), np.int32)
        ends.append(bk.pileup.group_ends(*columns, n_groups=1, weight=weight))
    totals = totals_of(bk, ends[0])
    for e in ends[1:]:
        totals = totals + totals_of(bk, e)
    sources = [lambda e=e: e for e in ends]
    mean = totals.bases / totals.rows
    called = call_peaks(bk, sources, totals, model, genome_size=sum(SIZES.values()), mean_length=mean)
    ((_, peaks, blocks),) = called
    frame = peak_frame(peaks, blocks, names, by_p=model.pvalue is not None)
    columns = {0: frame["chrom"].astype(str), 1: frame["start"], 2: frame["end"], 3: peak_names(frame, "x")}
    text = pd.DataFrame(columns).astype(str)
    text[4] = frame["raw_score"].astype(str)
    text[5] = "."
    for k, column in ((6, "signal_value"), (7, "p_value"), (8, "q_value")):
        text[k] = [f"{x:.6g}" for x in frame[column]]
    if not model.broad:
        text[9] = frame["peak"].astype(str)
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--macs3", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fragments", type=int, default=60_000)
    parser.add_argument("--golden", type=Path, help="folder to write fragments.tsv.gz and rows.tsv.gz into")
    parser.add_argument("--cases", default="", help="comma-separated names; all by default")
    args = parser.parse_args()
    fragments = simulated(args.seed, args.fragments)
    wrong, rows = 0, []
    with tempfile.TemporaryDirectory() as work:
        for case, (kind, extra, options) in CASES.items():
            if args.cases and case not in args.cases.split(","):
                continue
            source = Path(work) / f"{kind}.txt"
            if not source.exists():
                write_input(fragments, kind, source)
            want = run_macs3(args.macs3, source, kind, extra, Path(work))
            rows.append(want.assign(case=case))
            got = ours(fragments, options)
            same = len(want) == len(got) and (want.to_numpy() == got.to_numpy()).all()
            wrong += not same
            print(f"{'equal ' if same else 'DIFFER'} {case}: {len(want)} rows of MACS3, {len(got)} of ours", flush=True)
            if not same:
                both = want.merge(got, how="outer", indicator=True, on=list(range(want.shape[1])))
                print(both[both["_merge"] != "both"].sort_values([0, 1]).head(12).to_string())
    if args.golden is not None:
        table = pd.concat([f.assign(chrom=name) for name, f in fragments.items()])[["chrom", "start", "end", "count"]]
        table.to_csv(
            args.golden / "fragments.tsv.gz",
            sep="\t",
            index=False,
            header=False,
            compression={"method": "gzip", "mtime": 0},
        )
        pd.concat(rows).to_csv(
            args.golden / "rows.tsv.gz", sep="\t", index=False, compression={"method": "gzip", "mtime": 0}
        )
    return wrong


if __name__ == "__main__":
    sys.exit(main())
