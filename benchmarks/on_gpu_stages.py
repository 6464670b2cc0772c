"""The stages of on_gpu.py that are no program of their own: the first look at a device, the networks' checks, the whole job.

    on_gpu_stages.py start|networks|job --device gpu|cpu [--work FOLDER] [--fragments FILE --genes FILE --genome NAME_OR_SIZES]

Each writes what it finds with ``recording.record`` as it comes, and ends with status 1 when something was not as it should be.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import logging
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from recording import record

RAPIDS = ("rmm", "cudf", "cuml", "cuvs", "pylibcugraph", "rapids_singlecell")
#: Verbs that need what another one finds.
AFTER = {"umap": ("knn",), "leiden": ("knn",)}
CELLS, FRAGMENTS_PER_CELL = {"gpu": 2_000, "cpu": 120}, {"gpu": 5_000, "cpu": 1_500}
#: Largest |difference| of the signal, relative to its largest value: from float32, and from the same without a graph.
TOLERANCE = {"bfloat16": 0.05, "graph": 1e-3}


def missing() -> list[str]:
    """The libraries of RAPIDS that are not installed."""
    return [name for name in RAPIDS if importlib.util.find_spec(name) is None]


# ------------------------------------------------------------------------------------------ the first look


def start(args: argparse.Namespace) -> bool:
    """What is here, and one kernel: compiled, launched, right."""
    from gpuatac.backend import compile_time, get, resolve

    versions = {}
    for name in ("gpuatac", "numpy", "cupy-cuda13x", "cudf-cu13", "cuml-cu13", "cuvs-cu13", "cugraph-cu13", "torch"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    record("versions", python=sys.version.split()[0], **versions)
    began = time.perf_counter()
    bk = resolve(args.device)
    memory = bk.memory()
    record("device", seconds=round(time.perf_counter() - began, 2), **memory)
    rng = np.random.default_rng(0)
    row = rng.integers(-1, 50, 1_000_000).astype(np.int32)
    began = time.perf_counter()
    found = bk.to_host(bk.counting.row_sums(bk.asarray(row), None, n_rows=50))
    first = time.perf_counter() - began
    equal = bool((found == get("cpu").counting.row_sums(row, None, n_rows=50)).all())
    said = f"{first:.2f} s, {compile_time.seconds():.2f} s of it compiling"
    record("check", name="first kernel agrees with the CPU", passed=equal, found=said)
    return equal


# ------------------------------------------------------------------------------------------ networks


def networks(args: argparse.Namespace) -> bool:
    """Every way of computing a network beside the plain one: bfloat16, CUDA graphs, and both models."""
    import torch

    device = torch.device("cuda" if args.device == "gpu" else "cpu")
    bases = 1 << (17 if args.device == "gpu" else 13)
    return all([ways_of(kind, device, bases) for kind in ("denoising_resnet", "multiscale")])


def ways_of(kind: str, device, bases: int) -> bool:
    """The same of one model."""
    import torch

    from gpuatac.nn.checkpoints import make_model
    from gpuatac.nn.cuda_graphs import captured

    torch.manual_seed(0)
    model = make_model(kind).to(device).eval()
    width = (max(1, bases // model.align) * model.align + 2 * model.halo) // getattr(model, "bin_size", 1)
    x, other = (torch.poisson(torch.full((2, 1, width), rate)).to(device) for rate in (0.3, 0.6))
    depth = torch.full((2,), 5e6, device=device)

    def outputs(given, call, *, narrow: bool):
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=narrow, cache_enabled=False):
            return call(given, depth)[0].float()

    def narrowed():
        return outputs(x, model.predict, narrow=True), outputs(x, model.predict, narrow=False)

    def replayed(*, narrow: bool):
        replay = captured(model, device, "graph")
        outputs(other, replay, narrow=narrow)  # captured on other numbers than those that are compared
        return outputs(x, replay, narrow=narrow), outputs(x, model.predict, narrow=narrow)

    good = [_close(f"{kind}, bfloat16", narrowed, TOLERANCE["bfloat16"])]
    if device.type == "cuda":
        for name, narrow in (("float32", False), ("bfloat16", True)):
            good.append(_close(f"{kind}, CUDA graph, {name}", lambda n=narrow: replayed(narrow=n), TOLERANCE["graph"]))
    return all(good)


def _close(name: str, work, allowed: float) -> bool:
    try:
        found, wanted = work()
    except Exception as error:  # noqa: BLE001  what the next check shows is wanted whatever happened to this one
        record("check", name=name, passed=False, found=f"{type(error).__name__}: {str(error)[:300]}")
        return False
    difference = float((found - wanted).abs().max() / wanted.abs().max())
    record("check", name=name, passed=difference <= allowed, found=f"difference {difference:.2g}, allowed {allowed:g}")
    return difference <= allowed


# ------------------------------------------------------------------------------------------ the job


class Watch(logging.Handler):
    """Records a step of the main job when the log says that it is done, with the device's memory."""

    def __init__(self, bk) -> None:
        super().__init__()
        self._bk = bk

    def emit(self, line: logging.LogRecord) -> None:
        if line.msg == "%s done in %.1f s" and isinstance(line.args, tuple):
            name, seconds = line.args
            record("step", name=name, seconds=round(float(seconds), 2), peak=self._bk.memory()["peak"])


def job(args: argparse.Namespace) -> bool:
    """``gpuatac run`` on a file, or without RAPIDS its verbs one by one, those that need it left out by name."""
    import gpuatac as ga
    from gpuatac.backend import resolve

    args.work.mkdir(parents=True, exist_ok=True)
    genome, genes, fragments, truth = args.genome, args.genes, args.fragments, None
    if fragments is None:
        began = time.perf_counter()
        sample = ga.simulate_fragments(
            args.work / "sample", n_cells=CELLS[args.device], fragments_per_cell=FRAGMENTS_PER_CELL[args.device],
            n_types=4, seed=7, force=True,
        )  # fmt: skip
        genome, genes, fragments, truth = "hg38", sample.genes, sample.fragments, sample.cells
        record("sample", seconds=round(time.perf_counter() - began, 2), found=f"{CELLS[args.device]:,} simulated cells")
    bk = resolve(args.device)
    if args.device == "gpu" and missing():
        return verb_by_verb(args, bk, fragments, genome, genes)
    logger = logging.getLogger("gpuatac")
    logger.addHandler(Watch(bk))
    logger.setLevel(logging.INFO)
    result = ga.run(
        fragments, args.work / "results", genome=genome, genes=genes, truth=truth, device=args.device, force=True,
        **({"min_fragments": 200, "min_tsse": 0} if args.device == "cpu" else {}),
    )  # fmt: skip
    report = result.report
    n_clusters, n_peaks = result.adata.obs["leiden"].nunique(), report.get("n_consensus_peaks", 0)
    said = f"{result.adata.n_obs:,} cells, {n_clusters} clusters, {n_peaks:,} peaks"
    record("job", seconds=report["total_seconds"], peak=bk.memory()["peak"], host_peak=report["peak_memory_bytes"], found=said)
    return True


def verb_by_verb(args: argparse.Namespace, bk, fragments: Path, genome: str, genes: Path | None) -> bool:
    """What of the main job runs on CuPy alone, in its order; a verb whose input was left out is left out too."""
    import gpuatac as ga
    from gpuatac.errors import MissingExtraError

    assembly = ga.io.read_genome(genome, genes=genes)
    held: dict = {}

    def import_fragments() -> None:
        held["a"] = ga.pp.import_fragments(
            fragments, assembly, min_num_fragments=200, out=args.work / "results", device=args.device, force=True
        )

    def groups() -> None:
        """Clusters are Leiden's, or halves of the cells where there is none."""
        a = held["a"]
        if "leiden" not in a.obs:
            a.obs["leiden"] = np.where(np.arange(a.n_obs) % 2, "1", "0")
            a.obs["leiden"] = a.obs["leiden"].astype("category")

    verbs = [
        ("import", import_fragments),
        ("qc", lambda: ga.metrics.qc(held["a"], genes=assembly if genes is not None else None)),
        ("filter_cells", lambda: ga.pp.filter_cells(held["a"], min_counts=200, min_tsse=0)),
        ("tiles", lambda: ga.pp.add_tile_matrix(held["a"])),
        ("features", lambda: ga.pp.select_features(held["a"])),
        ("doublets", lambda: ga.pp.scrublet(held["a"])),
        ("spectral", lambda: ga.tl.spectral(held["a"])),
        ("knn", lambda: ga.pp.knn(held["a"])),
        ("umap", lambda: ga.tl.umap(held["a"])),
        ("leiden", lambda: ga.tl.leiden(held["a"])),
        ("groups", groups),
        ("peaks", lambda: ga.tl.call_peaks(held["a"], groupby="leiden")),
        ("coverage", lambda: ga.ex.export_coverage(held["a"], "leiden", out_dir=args.work / "coverage")),
    ]
    began, left = time.perf_counter(), []
    for name, work in verbs:
        at = time.perf_counter()
        lacking = [earlier for earlier in AFTER.get(name, ()) if earlier in left]
        try:
            if not lacking:
                work()
        except MissingExtraError as error:
            lacking = [str(error)]
        else:
            lacking = [f"{earlier} was left out" for earlier in lacking]
        if lacking:
            left.append(name)
            record("left out", name=name, why=lacking[0])
            continue
        bk.synchronize()
        record("step", name=name, seconds=round(time.perf_counter() - at, 2), peak=bk.memory()["peak"])
    said = f"{held['a'].n_obs:,} cells, verb by verb; without {', '.join(left) or 'none'}"
    record("job", seconds=round(time.perf_counter() - began, 2), peak=bk.memory()["peak"], found=said)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=("start", "networks", "job"))
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--work", type=Path, default=Path(".bench/on_gpu"))
    parser.add_argument("--fragments", type=Path)
    parser.add_argument("--genes", type=Path)
    parser.add_argument("--genome", default="hg38")
    args = parser.parse_args()
    if not {"start": start, "networks": networks, "job": job}[args.stage](args):
        sys.exit(1)


if __name__ == "__main__":
    main()
