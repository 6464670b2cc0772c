"""Plant one-line bugs in a copy of the package and count how many the tests notice: ``make mutants``.

    python tests/mutants/plant.py --n 100 --seed 0 --paths gpuatac/core gpuatac/nn --jobs 1

Lines are drawn at random, then one of the changes that a line allows (``changes.py``). Of each mutant those tests run first that
name its module, then those of its folder (``TESTS``), then, if it still lives, most of the others. Compiled kernels are kept apart
from the user's: those of modules that a mutant could have changed are compiled again. The user's tree is never written to, but for
the results.
"""

from __future__ import annotations

import argparse
import ast
import csv
import difflib
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from changes import Change, changes_of, compiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

REPO = Path(__file__).resolve().parents[2]
LEFT_OUT = ("gpuatac/backend/protocol", "gpuatac/_version.py")
#: Tests of a folder or file, the longest match counts.
TESTS = {
    "gpuatac": ["tests/test_errors_check.py", "tests/test_genome.py", "tests/test_provenance.py", "tests/test_package.py"],
    "gpuatac/backend/cpu/counting": ["tests/backend/test_counting.py", "tests/core/test_core_counts.py", "tests/metrics"],
    "gpuatac/backend/cpu/differential": ["tests/backend/test_matrix_primitives.py", "tests/tl/test_markers_and_tests.py"],
    "gpuatac/backend/cpu/embedding": [
        "tests/backend/test_packed.py", "tests/backend/test_graph_linalg.py", "tests/core/test_core_spectral.py",
    ],
    "gpuatac/backend/cpu/peaks": ["tests/core/test_peaks.py", "tests/core/test_consensus.py", "tests/tl/test_call_peaks.py"],
    "gpuatac/backend/cpu/reading": ["tests/backend/test_cpu_parsing.py", "tests/backend/test_ordering.py", "tests/io/fragments"],
    "gpuatac/backend/cpu/tracks": ["tests/backend/test_pileup_coverage.py", "tests/ex", "tests/io/tracks/test_bigwig.py"],
    "gpuatac/backend/gpu": ["tests/backend", "tests/kernels", "tests/test_gpu_backend.py", "tests/strict"],
    "gpuatac/backend/gpu/peaks": ["tests/backend/test_pileup_coverage.py", "tests/kernels", "tests/test_gpu_backend.py"],
    "gpuatac/cli": ["tests/cli"],
    "gpuatac/core": ["tests/core"],
    "gpuatac/core/counting": ["tests/core/test_core_counts.py", "tests/core/test_core_scores.py", "tests/metrics", "tests/pp"],
    "gpuatac/core/differential": ["tests/tl/test_markers_and_tests.py", "tests/core/test_track_differences.py"],
    "gpuatac/core/embedding": [
        "tests/core/test_core_scores.py", "tests/core/test_core_spectral.py", "tests/pp/test_features_doublets_neighbors.py",
    ],
    "gpuatac/core/peaks": ["tests/core/test_peaks.py", "tests/core/test_consensus.py", "tests/tl/test_call_peaks.py", "tests/tl"],
    "gpuatac/ex": ["tests/ex"],
    "gpuatac/genome.py": ["tests/test_genome.py", "tests/io/genome"],
    "gpuatac/io/files": ["tests/io/files", "tests/io/fragments"],
    "gpuatac/io/fragments": ["tests/io/fragments", "tests/io/files"],
    "gpuatac/io/genome": ["tests/io/genome"],
    "gpuatac/io/matrices": ["tests/io/matrices", "tests/pp"],
    "gpuatac/io/tracks": ["tests/io/tracks", "tests/tl/test_denoise.py"],
    "gpuatac/memory.py": ["tests/workflow/test_memory.py", "tests/io/fragments/test_within_memory.py"],
    "gpuatac/metrics": ["tests/metrics"],
    "gpuatac/nn": ["tests/nn"],
    "gpuatac/nn/denoising/examples": [
        "tests/nn/test_examples.py", "tests/nn/test_noisy_inputs.py", "tests/nn/test_training.py",
        "tests/nn/test_denoising_engine.py", "tests/cli/test_train_denoiser.py",
    ],
    "gpuatac/nn/denoising/networks": [
        "tests/nn/test_shipped_model.py", "tests/nn/test_multiscale.py", "tests/nn/test_losses.py", "tests/nn/test_resnet.py",
        "tests/nn/test_unet_linear.py", "tests/nn/test_streaming.py", "tests/nn/test_checkpoints.py",
    ],
    "gpuatac/pl": ["tests/pl"],
    "gpuatac/pp": ["tests/pp"],
    "gpuatac/simulate": ["tests/test_simulate.py", "tests/test_simulate_library.py"],
    "gpuatac/tl": ["tests/tl"],
    "gpuatac/workflow/denoiser": ["tests/workflow/test_evaluate_tracks.py", "tests/workflow/test_given.py", "tests/cli"],
    "gpuatac/workflow/groups": ["tests/cli/test_groups.py"],
    "gpuatac/workflow/main_job": ["tests/workflow"],
}  # fmt: skip
BROAD = [
    "tests/core",
    "tests/metrics",
    "tests/pp",
    "tests/tl",
    "tests/ex",
    "tests/io",
    "tests/nn",
    "tests/workflow",
    "tests/cli",
]
HEAD = ("number", "outcome", "path", "line", "kind", "before", "after", "tests", "seconds")
CAUGHT, SURVIVED, LATE, UNTESTED = "caught", "survived", "timed out", "not tested"


class Result(NamedTuple):
    """What became of a mutant, by which tests and after how long."""

    change: Change
    outcome: str
    tests: str
    seconds: float


# ------------------------------------------------------------------------------------------------- which tests run


def stages_of(root: Path, path: str, *, quick: bool = False) -> list[list[str]]:
    """Test files and folders for a source file: those that name its module, those of its folder, then most others."""
    module = Path(path).with_suffix("")
    parent, name = ".".join(module.parent.parts), module.name
    dotted = f"{parent}.{name}"
    named = []
    for file in sorted((root / "tests").rglob("test_*.py")):
        text = file.read_text(encoding="utf-8")
        if dotted in text or any(
            f"from {parent} import" in line and name in line.replace(",", " ").split() for line in text.splitlines()
        ):
            named.append(file.relative_to(root).as_posix())
    folders = [folder for folder in TESTS if path == folder or path.startswith(f"{folder}/")]
    of_folder = TESTS[max(folders, key=len)] if folders else ["tests"]
    near = f"tests/{Path(path).parts[1]}/"
    named.sort(key=lambda test: (not test.startswith(near), (root / test).stat().st_size))
    stages = [named, of_folder, [] if quick else BROAD]
    done: set[str] = set()
    out = []
    for stage in stages:
        left = [test for test in stage if test not in done and (root / test).exists()]
        done |= set(left)
        if left:
            out.append(left)
    return out


# ------------------------------------------------------------------------------------------------ one copy, one job


class Copy:
    """A copy of the tree in which mutants are planted one after the other, with compiled kernels of its own."""

    def __init__(self, root: Path, package: str, folder: Path) -> None:
        self.tree, self.package = folder / "tree", package
        self.cache, self.base = folder / "cache", folder / "base"
        _copy(root, self.tree)
        self.base.mkdir()
        self._importers = _importers(self.tree, package)
        self._alone: dict[tuple[str, ...], float | None] = {}

    def tried(self, change: Change, stages: Sequence[Sequence[str]], *, least: float, factor: float) -> Result:
        """The outcome of one mutant."""
        file = self.tree / change.path
        source, stat = file.read_bytes(), file.stat()
        began, ran = time.monotonic(), []
        for stage in stages:
            alone = self._seconds_alone(tuple(stage))
            if alone is None:
                continue
            ran.append(" ".join(stage))
            file.write_bytes(change.applied(source))
            try:
                self._cache_without(change.path)
                code = self._pytest(stage, self.cache, limit=least + factor * alone)
            finally:
                file.write_bytes(source)
                os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            if code != 0:
                outcome = LATE if code is None else CAUGHT
                return Result(change, outcome, ran[-1], time.monotonic() - began)
        return Result(change, SURVIVED if ran else UNTESTED, "; ".join(ran), time.monotonic() - began)

    def _seconds_alone(self, tests: tuple[str, ...]) -> float | None:
        """How long the tests take without a mutant; None where they fail by themselves and so can tell nothing."""
        if tests not in self._alone:
            began = time.monotonic()
            code = self._pytest(tests, self.base, limit=3600)
            self._alone[tests] = time.monotonic() - began if code == 0 else None
            if code != 0:
                print(f"these tests fail without a mutant and are left out: {' '.join(tests)}", flush=True)
        return self._alone[tests]

    def _cache_without(self, path: str) -> None:
        """The kernels compiled before, but for those of modules that import the changed one, directly or not."""
        shutil.rmtree(self.cache, ignore_errors=True)
        shutil.copytree(
            self.base, self.cache, copy_function=os.link
        )  # Numba replaces its files and never writes into one
        stale = {Path(p).stem for p in self._importers.get(path, ())} | {Path(path).stem, Path(path).parent.name}
        for file in self.cache.rglob("*.nb?"):
            if file.name.split(".")[0] in stale:
                file.unlink()

    def _pytest(self, tests: Iterable[str], cache: Path, *, limit: float) -> int | None:
        """The exit status, or None after ``limit`` seconds; 5 (nothing collected) counts as passed."""
        environment = os.environ | {
            "PYTHONPATH": str(self.tree), "PYTHONDONTWRITEBYTECODE": "1", "NUMBA_CACHE_DIR": str(cache), "MPLBACKEND": "Agg",
        }  # fmt: skip
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "--no-header",
            "--tb=no",
            *tests,
        ]
        with subprocess.Popen(
            command, cwd=self.tree, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as child:  # fmt: skip
            try:
                code = child.wait(limit)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                _end(child)
        return 0 if code == 5 else code


def _end(child: subprocess.Popen) -> None:
    """End a test run and what it started."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    child.wait()


def _copy(root: Path, to: Path) -> None:
    """What git knows of and what it does not ignore; without git everything but caches and environments."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0 and listed.stdout:
        for name in listed.stdout.decode().split("\0"):
            if name and (root / name).is_file():
                (to / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, to / name)
    else:
        shutil.copytree(root, to, ignore=shutil.ignore_patterns(".*", "__pycache__", "build", "dist"))


def _importers(root: Path, package: str) -> dict[str, set[str]]:
    """For each source file the files that import it, directly or through others."""
    files = {path.relative_to(root).as_posix(): path for path in (root / package).rglob("*.py")}
    by_module = {name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): name for name in files}
    direct: dict[str, set[str]] = {name: set() for name in files}
    for name, path in files.items():
        for node in ast.walk(ast.parse(path.read_bytes())):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for module in modules:
                if module in by_module:
                    direct[by_module[module]].add(name)
    out = {}
    for name in files:
        reached, todo = set(), [name]
        while todo:
            new = direct[todo.pop()] - reached
            reached |= new
            todo += new
        out[name] = reached
    return out


# ------------------------------------------------------------------------------------------------- the whole round


def drawn(root: Path, paths: Sequence[str], n: int, seed: int, left_out: Sequence[str] = LEFT_OUT) -> list[Change]:
    """``n`` changes on as many lines, all lines alike; fewer where there are not so many."""
    lines: dict[tuple[str, int], list[Change]] = {}
    for given in paths:
        found = root / given
        for file in sorted(found.rglob("*.py")) if found.is_dir() else [found]:
            name = file.relative_to(root).as_posix()
            if not any(name == out or name.startswith(f"{out}/") for out in left_out):
                for change in changes_of(file.read_bytes(), name):
                    lines.setdefault((name, change.line), []).append(change)
    rng = random.Random(seed)
    chosen: list[Change] = []
    for line in rng.sample(sorted(lines), len(lines)):
        change = rng.choice(lines[line])
        if len(chosen) < n and compiles(change.applied((root / change.path).read_bytes())):
            chosen.append(change)
    return chosen


def plant(
    root: Path,
    package: str,
    changes: Sequence[Change],
    stages: Callable[[str], list[list[str]]],
    *,
    jobs: int = 1,
    least: float = 60.0,
    factor: float = 4.0,
    minutes: float | None = None,
    told: Callable[[int, Result], None] = lambda number, result: None,
) -> list[Result]:
    """Try each change in a copy of ``root``; results by number, without those that ``minutes`` left no time for."""
    until = None if minutes is None else time.monotonic() + 60 * minutes
    results: dict[int, Result] = {}
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(jobs) as pool:
        free: queue.Queue[Copy] = queue.Queue()
        for number in range(jobs):
            (Path(folder) / str(number)).mkdir()
            free.put(Copy(root, package, Path(folder) / str(number)))
        lock = threading.Lock()

        def one(number: int) -> None:
            copy = free.get()
            try:
                if until is None or time.monotonic() < until:
                    result = copy.tried(changes[number], stages(changes[number].path), least=least, factor=factor)
                    with lock:
                        results[number] = result
                        told(number, result)
            finally:
                free.put(copy)

        list(pool.map(one, range(len(changes))))
    return [results[number] for number in sorted(results)]


def line_of(root: Path, change: Change) -> tuple[str, str]:
    """The line without and with the change."""
    source = (root / change.path).read_bytes()
    both = (source, change.applied(source))
    before, after = (text.decode().split("\n")[change.line - 1].strip() for text in both)
    return before, after


def diff_of(root: Path, change: Change) -> str:
    """The change as a unified diff."""
    source = (root / change.path).read_bytes()
    both = [text.decode().splitlines(keepends=True) for text in (source, change.applied(source))]
    return "".join(difflib.unified_diff(*both, f"a/{change.path}", f"b/{change.path}", n=2))


def main() -> None:
    """Draw, plant, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--n", type=int, default=100, help="mutants (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    parser.add_argument("--paths", nargs="+", default=["gpuatac"], help="folders and files (default: gpuatac)")
    parser.add_argument(
        "--without", nargs="*", default=[], help="folders and files to leave out"
    )
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time (default: 1)")
    parser.add_argument("--minutes", type=float, help="begin no mutant after so many minutes")
    parser.add_argument("--quick", action="store_true", help="only the tests of the module and of its folder")
    parser.add_argument("--out", type=Path, default=REPO / ".bench" / "mutants", help="folder of the results")
    given = parser.parse_args()
    changes = drawn(REPO, given.paths, given.n, given.seed, (*LEFT_OUT, *given.without))
    given.out.mkdir(parents=True, exist_ok=True)
    table = given.out / f"mutants-{given.seed}.tsv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(HEAD)

        def told(number: int, result: Result) -> None:
            change = result.change
            before, after = line_of(REPO, change)
            where = (change.path, change.line, change.kind)
            writer.writerow([number, result.outcome, *where, before, after, result.tests, f"{result.seconds:.0f}"])
            file.flush()
            print(f"{number:4d} {result.outcome:10s} {change.path}:{change.line} {change.kind}, {result.seconds:.0f} s\n"
                  f"       - {before}\n       + {after}", flush=True)  # fmt: skip

        results = plant(REPO, "gpuatac", changes, lambda path: stages_of(REPO, path, quick=given.quick), jobs=given.jobs,
                        minutes=given.minutes, told=told)  # fmt: skip
    numbers = {outcome: sum(r.outcome == outcome for r in results) for outcome in (CAUGHT, LATE, SURVIVED, UNTESTED)}
    living = [diff_of(REPO, r.change) for r in results if r.outcome == SURVIVED]
    (given.out / f"survivors-{given.seed}.diff").write_text("\n".join(living))
    print("\n".join(["", *living]))
    judged = len(results) - numbers[UNTESTED]
    share = (numbers[CAUGHT] + numbers[LATE]) / max(judged, 1)
    told_of = ", ".join(f"{number} {outcome}" for outcome, number in numbers.items())
    print(f"{len(results)} mutants: {told_of}; noticed: {share:.0%} (caught or timed out); table: {table}")


if __name__ == "__main__":
    main()
