"""Everything that a first GPU is asked, in one call: is it right, is it fast, how much memory does it take.

    on_gpu.py [--limit 540] [--fragments FILE --genes FILE --chrom-sizes FILE] [--results FOLDER] [--device gpu|cpu]
    on_gpu.py --summary on_gpu-<GPU>-<commit>.jsonl

Stages run one after another, the most telling first, each a process of its own with a limit of time. What they find goes line by
line into ``on_gpu-<GPU>-<commit>.jsonl`` as it comes; ``.md`` beside it is the summary, written anew every few seconds, so that a
run that is cut keeps what it had; ``.logs`` holds what the stages printed. --summary makes the summary of a record again.

Without RAPIDS (CuPy and PyTorch alone) the stages, tests and verbs that need it are left out, each by name. The job runs on a file
that is brought along, or on a simulated sample. --device cpu is a rehearsal of this program itself, with little of everything.

Ends with status 0 when all that ran has passed, 1 when something failed or was cut, 2 when there is nothing to run on.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))

from recording import VARIABLE, record, recorded

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
EVERY = 3.0  # seconds between two summaries of a stage that runs
DAY = 86_400
PR_SET_PDEATHSIG = 1  # of prctl
GRACE = 5.0  # seconds for a stage to end by itself when its time is over
SHOWN = 20  # failures in the summary
NAMES = {"rmm": "RMM", "cudf": "cuDF", "cuml": "cuML", "cuvs": "cuVS", "pylibcugraph": "cuGraph"}


class Stage(NamedTuple):
    """A process with a limit; ``needs`` are modules without which it is left out."""

    name: str
    title: str
    command: list[str]
    limit: float  # seconds
    needs: tuple[str, ...] = ()
    gpu_only: bool = False


def stages(args: argparse.Namespace) -> list[Stage]:
    """The most telling first: a stage tells more than those after it, for the seconds that it takes."""
    python, on_gpu = sys.executable, args.device == "gpu"
    own = [python, str(HERE / "on_gpu_stages.py")]
    brought = ["--fragments", str(args.fragments), "--genes", str(args.genes)] if args.fragments else []
    job = [*own, "job", "--device", args.device, "--work", str(args.work)]
    job += [*brought, "--genome", str(args.chrom_sizes)] if brought else []
    chain = [python, str(HERE / "gpu_chain.py"), "--work", str(args.work), "--results", str(args.results), "--repeats", "1"]
    made = [str(args.work / f"sample.{name}") for name in ("fragments.tsv.gz", "genes.gtf", "chrom.sizes")]  # by the job
    files = made if args.fragments is None else [str(f) for f in (args.fragments, args.genes, args.chrom_sizes)]
    chain += [word for pair in zip(("--fragments", "--genes", "--chrom-sizes"), files, strict=True) for word in pair]
    networks = [python, str(HERE / "denoiser_forward.py"), "--results", str(args.results)]
    kernels = [python, str(HERE / "gpu_kernels.py"), "--millions", "30", "--repeats", "10"]
    first = ["tests/test_gpu_backend.py", "tests/backend", "tests/test_devices_agree.py"]
    rest = ["tests", *(f"--ignore={path}" for path in first)]
    if not on_gpu:
        first, rest = ["tests/backend/test_ordering.py"], ["tests/test_errors_check.py"]
        networks += ["--device", "cpu", "--mb", "0.004", "--repeats", "1", "--no-training"]
    else:
        networks += ["--no-training"]
    return [
        Stage("start", "What is here, and a first kernel", [*own, "start", "--device", args.device], 60),
        Stage("tests", "Tests of the backend and its kernels", tests(first, on_gpu=on_gpu), 150, ("pytest",)),
        Stage("job", "The whole job, from a fragment file to tracks", job, 150),
        Stage("networks", "Networks: bfloat16 and CUDA graphs agree", [*own, "networks", "--device", args.device], 60, ("torch",)),
        Stage("kernels", "Kernels beside the copy bandwidth", kernels, 90, ("cupy",), gpu_only=True),
        Stage("network speed", "Networks: seconds and shares of the peak", networks, 90, ("torch",)),
        Stage("chain", "From inflated text to clusters, by step", chain, 90, ("cuvs", "pylibcugraph"), gpu_only=True),
        Stage("all tests", "Every other test of the GPU", tests(rest, on_gpu=on_gpu), 240, ("pytest",)),
    ]  # fmt: skip


def tests(paths: list[str], *, on_gpu: bool) -> list[str]:
    """pytest on ``paths``, each outcome recorded as it comes."""
    chosen = ["-m", "gpu" if on_gpu else "not gpu and not strict"]
    options = ["-p", "record_tests", "-p", "no:cacheprovider", "-q", "--continue-on-collection-errors"]
    return [sys.executable, "-m", "pytest", *options, *chosen, *paths]


# ------------------------------------------------------------------------------------------ running


def why_left_out(stage: Stage, device: str) -> str:
    """Why a stage cannot run here; empty where it can."""
    if stage.gpu_only and device != "gpu":
        return "it needs a GPU"
    absent = [name for name in stage.needs if importlib.util.find_spec(name) is None]
    return "" if not absent else f"not installed: {', '.join(NAMES.get(name, name) for name in absent)}"


def run(stage: Stage, seconds: float, log: Path, env: dict[str, str], each: Callable[[], None]) -> str:
    """Run a stage for at most ``seconds``; "passed", "failed (...)" or "cut (...)". ``each`` is called while it runs."""
    with log.open("w") as out:
        child = subprocess.Popen(
            stage.command, stdout=out, stderr=subprocess.STDOUT, env=env, cwd=ROOT, start_new_session=True,
            preexec_fn=end_with_parent,  # noqa: PLW1509  this program has one thread
        )  # fmt: skip
        try:
            ends = time.monotonic() + seconds
            while True:
                try:
                    code = child.wait(min(EVERY, max(ends - time.monotonic(), 0.01)))
                    return "passed" if code == 0 else f"failed (status {code})"
                except subprocess.TimeoutExpired:
                    each()
                if time.monotonic() >= ends:
                    return f"cut (after {seconds:.0f} s)"
        finally:
            end(child)


def end_with_parent() -> None:
    """Let the kernel end a stage whose parent was killed: it would hold the GPU (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def end(child: subprocess.Popen) -> None:
    """See that nothing of a stage goes on, whoever it started."""
    for sign, wait in ((signal.SIGTERM, GRACE), (signal.SIGKILL, GRACE)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(wait)
            if sign == signal.SIGTERM:
                continue  # the leader is gone; what it started may not be
            return


def device_name(device: str) -> str:
    """The GPU's name as a part of a file name, or the CPU's; ends the program where there is no GPU."""
    from vs_snapatac2 import machine

    if device == "cpu":
        return machine()
    code = (
        "from gpuatac.backend import gpu_problem as p; import sys; sys.exit(p()) if p() else None\n"
        "import cupy; print(cupy.cuda.runtime.getDeviceProperties(0)['name'].decode())"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
    asked = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        reason = (asked.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        print(f"on_gpu.py runs on a GPU, and none can be used: {reason}.", file=sys.stderr)
        sys.exit(2)
    return "-".join("".join(c if c.isalnum() else " " for c in asked.stdout.splitlines()[-1]).split())


# ------------------------------------------------------------------------------------------ the summary


def gib(n: float) -> str:
    return f"{n / 2**30:.2f} GiB"


def results_of(rows: list[dict]) -> dict[str, list[dict]]:
    """The lines of each stage."""
    out: dict[str, list[dict]] = {}
    stage = ""
    for row in rows:
        if row["kind"] == "begins":
            stage = row["stage"]
            out[stage] = []
        elif row["kind"] not in ("run", "ends", "cut", "over") and stage:
            out[stage].append(row)
    return out


def what_of(found: list[dict]) -> str:
    """A stage in a few words."""
    said = []
    outcomes = Counter(row["outcome"] for row in found if row["kind"] == "test")
    said += [f"{outcomes[name]:,} {name}" for name in ("passed", "failed", "skipped") if outcomes[name]]
    checks = [row for row in found if row["kind"] == "check"]
    if checks:
        said.append(f"{sum(row['passed'] for row in checks)} of {len(checks)} checks passed")
    said += [f"{row['found']} in {row['seconds']:.1f} s" for row in found if row["kind"] == "job"]
    kernels = [row["share"] for row in found if row["kind"] == "kernel" and row["name"] != "copy"]
    if kernels:
        said.append(f"{len(kernels)} kernels, {min(kernels):.0%} to {max(kernels):.0%} of the copy bandwidth")
    variants = [row for row in found if row["kind"] == "network"]
    if variants:
        best = min(variants, key=lambda row: row["s_per_3.1_gb"])
        said.append(f"fastest: {best['variant']}, {best['s_per_3.1_gb']:.3g} s per 3.1 Gb")
    total = sum(row["ms"] for row in found if row["kind"] == "chain")
    if total:
        said.append(f"{total / 1e3:.2f} s from text to clusters")
    return "; ".join(said)


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["", f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]


def details(found: list[dict]) -> list[str]:
    """The tables of a stage."""
    out: list[str] = []
    by_kind: dict[str, list[dict]] = {}
    for row in found:
        by_kind.setdefault(row["kind"], []).append(row)
    out += [
        f"- {kind}: " + ", ".join(f"{k} {v}" for k, v in row.items() if k != "kind")
        for kind in ("versions", "sample")
        for row in by_kind.get(kind, [])
    ]
    out += [f"- memory: {gib(row['total'])}, free {gib(row['free'])}" for row in by_kind.get("device", [])]
    out += [f"- {'passed' if row['passed'] else '**failed**'}: {row['name']} ({row['found']})" for row in by_kind.get("check", [])]
    bad = [row for row in by_kind.get("test", []) if row["outcome"] == "failed"]
    out += [f"- **failed**: `{row['id']}`: {row['why']}" for row in bad[:SHOWN]]
    out += [f"- and {len(bad) - SHOWN} more"] if len(bad) > SHOWN else []
    reasons = Counter(row["why"] for row in by_kind.get("test", []) if row["outcome"] == "skipped")
    out += [f"- {n} skipped: {why}" for why, n in reasons.most_common(SHOWN)]
    out += [f"- left out: {row['name']}: {row['why']}" for row in by_kind.get("left out", [])]
    if steps := by_kind.get("step"):
        rows = [[r["name"], f"{r['seconds']:.2f}", gib(r["peak"])] for r in steps]
        out += table(["step", "seconds", "peak of the device so far"], rows)
    if kernels := by_kind.get("kernel"):
        rows = [[r["name"], f"{r['ms']:.3f}", f"{r['gb_per_s']:.0f}", f"{r['share']:.0%}"] for r in kernels]
        out += table(["kernel", "ms", "GB/s", "of the copy bandwidth"], rows)
    if variants := by_kind.get("network"):
        columns = ("wall_s_per_mb", "s_per_3.1_gb", "difference")
        rows = [[r["variant"], *(number(r[c]) for c in columns), share(r.get("share_of_peak"))] for r in variants]
        out += table(["network", "s per Mb", "s per 3.1 Gb", "difference", "of the peak"], rows)
    if chain := by_kind.get("chain"):
        out += table(["step", "ms"], [[r["name"], f"{r['ms']:.1f}"] for r in chain])
    return out


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def summary(rows: list[dict]) -> str:
    """What a stranger reads: what ran, what came out, what did not run and why."""
    begun = next(row for row in rows if row["kind"] == "run")
    ends = {row["stage"]: row for row in rows if row["kind"] == "ends"}
    over = next((row for row in rows if row["kind"] in ("over", "cut")), None)
    found = results_of(rows)
    lines, left = [], []
    for name in begun["stages"]:
        if name in ends:
            result, seconds = ends[name]["result"], f"{ends[name]['seconds']:.0f}"
        elif name in found:
            result, seconds = ("running" if over is None else "cut"), ""
        else:
            result, seconds = ("waiting" if over is None else "not reached"), ""
        left += [f"{name} ({result.partition(': ')[2]})"] if result.startswith("left out") else []
        lines.append([name, result, seconds, what_of(found.get(name, []))])
    wrong = [row[0] for row in lines if row[1].startswith(("failed", "cut", "not reached"))]
    absent = begun["missing"]
    verdict = "Not all passed: " + ", ".join(wrong) if wrong else "All that ran has passed"
    if over is None:
        verdict = "It still runs, or was ended in the middle" + (f"; not well so far: {', '.join(wrong)}" if wrong else "")
    out = [f"# gpuatac on {begun['device']}, commit {begun['commit']}", ""]
    took = "" if over is None else f", took {over['seconds']:.0f} s"
    out.append(f"{begun['at']}, at most {begun['limit']:.0f} s{took}. **{verdict}.**")
    out += [f"Not installed: {', '.join(NAMES.get(name, name) for name in absent)}."] if absent else []
    out += [f"Left out: {', '.join(left)}."] if left else []
    out += table(["stage", "result", "seconds", "what was found"], lines)
    for name, title in zip(begun["stages"], begun["titles"], strict=True):
        shown = details(found.get(name, []))
        if shown:
            out += ["", f"## {title}", "", *shown]
    return "\n".join(out) + "\n"


def write_summary(path: Path) -> None:
    """Put the summary beside its record, whole or not at all."""
    fresh = path.with_suffix(".md.partial")
    fresh.write_text(summary(recorded(path)), encoding="utf-8")
    fresh.replace(path.with_suffix(".md"))


# ------------------------------------------------------------------------------------------ the program


class StoppedError(Exception):
    """Someone ends the program."""


def stop(number: int, _frame: object) -> None:
    raise StoppedError(signal.Signals(number).name)


def go(args: argparse.Namespace, path: Path, chosen: list[Stage]) -> int:
    """Run the stages; the status that the program ends with."""
    began = time.monotonic()
    env = {**os.environ, VARIABLE: str(path), "MPLBACKEND": "Agg", "PYTHONUNBUFFERED": "1", "RESULTS": str(args.results)}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), str(HERE), os.environ.get("PYTHONPATH"))))
    logs = path.with_suffix(".logs")
    logs.mkdir(exist_ok=True)
    good = True
    try:
        for stage in chosen:
            left = args.limit - (time.monotonic() - began)
            reason = why_left_out(stage, args.device)
            if reason or left <= 1:
                result, seconds = (f"left out: {reason}" if reason else "not reached (the time is over)"), 0.0
            else:
                record("begins", stage=stage.name)
                print(f"{stage.name} ...", flush=True)
                at = time.monotonic()
                log = logs / f"{stage.name.replace(' ', '_')}.log"
                result = run(stage, min(stage.limit, left), log, env, lambda: write_summary(path))
                seconds = time.monotonic() - at
            good &= result == "passed" or bool(reason)
            record("ends", stage=stage.name, result=result, seconds=round(seconds, 1))
            write_summary(path)
            print(f"{stage.name}: {result}{f', {seconds:.0f} s' if seconds else ''}", flush=True)
        record("over", seconds=round(time.monotonic() - began, 1))
    except (StoppedError, KeyboardInterrupt) as error:
        good = False
        record("cut", seconds=round(time.monotonic() - began, 1), by=str(error))
    write_summary(path)
    return 0 if good else 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=float, default=540.0, help="seconds for everything")
    parser.add_argument("--fragments", type=Path, help="a fragment file to run the job on; with --genes and --chrom-sizes")
    parser.add_argument("--genes", type=Path)
    parser.add_argument("--chrom-sizes", type=Path)
    parser.add_argument("--work", type=Path, default=ROOT / ".bench" / "on_gpu")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--summary", type=Path, metavar="RECORD", help="only make the summary of a record")
    args = parser.parse_args()
    if args.summary is not None:
        try:
            print(summary(recorded(args.summary)), end="")
        except (StopIteration, ValueError, KeyError, TypeError):
            parser.error(f"{args.summary} is no record of this program; give an on_gpu-<GPU>-<commit>.jsonl")
        return
    own = (args.fragments, args.genes, args.chrom_sizes)
    if any(own) and not all(own):
        parser.error("--fragments, --genes and --chrom-sizes belong together; give all three or none")
    for given in own:
        if given is not None and not given.is_file():
            parser.error(f"{given} is not there; check the path")
    if not 1 <= args.limit <= DAY:
        parser.error(f"--limit must be in [1, {DAY}] seconds, got {args.limit:g}")
    for folder in (args.results, args.work):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            parser.error(f"{folder} cannot be made or is no folder ({error.strerror}); give another one")
        if not os.access(folder, os.W_OK):
            parser.error(f"{folder} cannot be written to; give another one")
    args.results, args.work = args.results.resolve(), args.work.resolve()
    args.fragments, args.genes, args.chrom_sizes = (path if path is None else path.resolve() for path in own)
    from on_gpu_stages import missing
    from vs_snapatac2 import commit

    device = device_name(args.device)
    path = args.results / f"on_gpu-{device}-{commit()}.jsonl"
    path.unlink(missing_ok=True)
    os.environ[VARIABLE] = str(path)
    chosen = stages(args)
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, stop)
    record(
        "run", device=device, commit=commit(), at=time.strftime("%Y-%m-%d %H:%M"), limit=args.limit, missing=missing(),
        stages=[stage.name for stage in chosen], titles=[stage.title for stage in chosen],
    )  # fmt: skip
    status = go(args, path, chosen)
    print(summary(recorded(path)), end="")
    print(f"written: {path.with_suffix('.md')}")
    sys.exit(status)


if __name__ == "__main__":
    main()
