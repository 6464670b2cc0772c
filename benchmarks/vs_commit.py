"""Every step beside the same step at an earlier commit, in turn on the same cores and files: has a change made one slower?

    vs_commit.py --rev REV --work FOLDER [--cells 2000] [--fragments 10000] [--repeats 5] [--threads 2]

The earlier commit is checked out beside the work and measured by its own benchmarks. The two take turns; what is quoted is the
median of the ratios of each pair, in wall and in CPU seconds, so that a machine whose speed drifts counts for both alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import vs_snapatac2 as bench

SCRIPTS = ("vs_snapatac2.py", "peaks_vs_snapatac2.py")
BOUND = 1.05
SHORT = 0.2  # seconds: a step below is told, and judged by none


def rows_of(tree: Path, script: str, files: dict, threads: int) -> dict[str, dict]:
    """The steps of gpuatac's side, measured by the benchmark of one tree."""
    command = [sys.executable, str(tree / "benchmarks" / script), "--side", "gpuatac", "--files", json.dumps(files)]
    env = bench.environment(threads, ours=False) | {"PYTHONPATH": str(tree)}
    done = bench.run_process([*command, "--threads", str(threads)], env)
    if done.code:
        sys.exit(f"{script} in {tree} failed: {done.err[-2000:]}")
    return {row["step"]: row for row in map(json.loads, filter(lambda x: x.startswith("{"), done.out.splitlines()))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rev", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--fragments", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, default=bench.ROOT / "benchmarks" / "results")
    args = parser.parse_args()
    bench.pin(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    earlier = args.work.resolve() / "earlier"
    if not earlier.exists():
        subprocess.run(["git", "-C", str(bench.ROOT), "worktree", "add", "--detach", str(earlier), args.rev], check=True)
    files = bench.simulated(args.work, f"sample{args.cells}", args.cells, args.fragments)
    files |= {"work": str(args.work), "n_features": 250_000, "min_tsse": 2.0, "threads": args.threads}
    ratios: dict[str, list[tuple[float, float]]] = {}
    seconds: dict[str, list[float]] = {}
    for repeat in range(args.repeats + 1):
        for script in SCRIPTS:
            trees = (earlier, bench.ROOT)
            order = trees if repeat % 2 else trees[::-1]  # the first of a pair does not always find the cooler machine
            seen = {tree: rows_of(tree, script, files, args.threads) for tree in order}
            both = [seen[tree] for tree in trees]
            for step in both[0].keys() & both[1].keys() if repeat else ():  # the first round fills the caches
                before, after = (side[step] for side in both)
                ratios.setdefault(step, []).append(tuple(after[f] / max(before[f], 1e-3) for f in ("wall_s", "cpu_s")))
                seconds.setdefault(step, []).append(after["wall_s"])
        print(f"round {repeat} of {args.repeats}", flush=True)
    head = f"# This commit beside {args.rev}: {bench.machine()}, commit {bench.commit()}, {args.threads} threads"
    lines = [head, "", f"Median of {args.repeats} pairs, now / then; {args.cells:,} cells of {args.fragments:,} fragments.", ""]
    lines += ["| step | now, s | wall | CPU | |", "| --- | --- | --- | --- | --- |"]
    for step, pairs in sorted(ratios.items()):
        wall, cpu = (statistics.median(column) for column in zip(*pairs, strict=True))
        now = statistics.median(seconds[step])
        verdict = "short" if now < SHORT else "slower" if min(wall, cpu) > BOUND else "as fast"
        lines.append(f"| {step} | {now:.2f} | {wall:.2f} | {cpu:.2f} | {verdict} |")
    print("\n".join(lines))
    path = bench.stem(args.results, "vs_commit").with_suffix(".md")
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
