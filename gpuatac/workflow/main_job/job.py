"""Running the steps, with checkpoints, logs and a summary."""

from __future__ import annotations

import json
import logging
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuatac import check, pp, progress
from gpuatac.backend import compile_time, resolve
from gpuatac.errors import InputError
from gpuatac.io.fragments.source import sample_names
from gpuatac.io.genome.sizes import read_genome
from gpuatac.io.matrices.h5ad import write_h5ad
from gpuatac.memory import peak, set_memory
from gpuatac.options import UNTIL, RunOptions
from gpuatac.workflow.main_job import by_cluster, resume, steps, summary
from gpuatac.workflow.main_job.checks import Places, check_options, given_options, refuse_inputs_among_outputs
from gpuatac.workflow.main_job.figures import draw_figures
from gpuatac.workflow.main_job.resume import RUN, RUN_ID, steps_from
from gpuatac.workflow.main_job.truth import compare, read_truth
from gpuatac.workflow.signatures import also_takes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anndata import AnnData
    from pandas import DataFrame

    from gpuatac.backend import Device
    from gpuatac.genome import Genome

logger = logging.getLogger(__name__)
SHOWN_FROM = 0.01  # seconds
PATHS = ("genome", "genes", "blacklist", "whitelist")


@dataclass(frozen=True)
class Result:
    """What a run wrote."""

    h5ad: Path
    summary: Path
    figures: list[Path]
    adata: AnnData
    report: dict[str, Any]
    peaks: Path | None = None  # the folder
    peak_matrix: Path | None = None
    coverage: list[Path] = field(default_factory=list)


@also_takes(RunOptions)
def run(
    fragments: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    names: Sequence[str] | None = None,
    device: Device = "auto",
    force: bool = False,
    from_step: str | None = None,
    truth: str | Path | None = None,
    memory: str | int | None = None,
    **options: Any,
) -> Result:
    """The main job: fragment files to clusters, peaks, coverage and one .h5ad.

    Writes into ``out``: ``<sample>.h5ad`` (``combined.h5ad`` for several samples), the Parquet data set
    ``<sample>.fragments`` of each sample, the checkpoint ``<sample>.qc.h5ad``, ``<sample>.summary.txt`` and ``.json``,
    ``<sample>.figures/``; and of the clusters ``<sample>.peaks/`` (a narrowPeak file each, consensus.bed, markers.tsv),
    ``<sample>.peaks.h5ad`` (cells x consensus peaks) and ``<sample>.coverage/`` (a bigWig file each). The .h5ad has obs["leiden"],
    obs["frip"], obsm["X_spectral"], obsm["X_umap"], uns["peaks"], the tile matrix in X and gene activity in
    obsm["gene_activity"]; scanpy opens it.

    Parameters
    ----------
    fragments
        Fragment file of each sample: 10x fragments.tsv.gz, BED, BAM, a .fragments data set or an .h5ad of SnapATAC2.
    out
        Output folder, made when it is not there.
    names
        Names of the samples; by default the files' stems.
    device
        Where to compute: "auto" takes a GPU where there is one.
    force
        Replace an existing output.
    from_step
        Go on from this step of an earlier run in ``out`` ("qc", "cells", ..., "figures") without importing again; "tiles",
        "features" and "doublets" start at "cells". Options that are not given keep the values of that run; those of
        earlier steps cannot change. Results of later steps are made anew, or removed where ``until`` ends before them.
    truth
        Table (tab-separated; columns barcode and cell_type, if known is_doublet and is_cell) to compare the clusters with.
        Cells of several samples are named sample#barcode, or by barcodes that only one sample has.
    memory
        About how much memory to use at most, such as "4G"; by default 70 % of what is available. Fragments and matrices
        that would take more than their share of it stay on disk and are read by parts. On a GPU it is the limit of its memory
        as well (by default 80 % of it). As with ``gpuatac.set_memory``, the limit holds for the rest of the process.
    options
        Any field of ``gpuatac.options.RunOptions``.

    Returns
    -------
    Result
        Paths, the AnnData and the numbers of the summary.

    Raises
    ------
    OutputExistsError
        When the output exists and neither ``force`` nor ``from_step`` is given.
    InputError
        For bad options; nothing is written then.

    Examples
    --------
    >>> import gpuatac as ga
    >>> result = ga.run("fragments.tsv.gz", "out", genome="hg38", genes="gencode.gtf.gz")  # doctest: +SKIP
    """
    began = time.perf_counter()
    compile_time.seconds()
    if memory is not None:
        set_memory(memory)
    given = given_options(options)
    files = [Path(f) for f in ([fragments] if isinstance(fragments, str | Path) else fragments)]
    samples = sample_names(files, names, of_files="fragments", of_names="names")
    places = Places.of(Path(out), samples)
    if from_step is None:
        for file in files:
            check.existing_file(file, "fragment file")
        remedy = "pass force=True (--force) to replace it, or from_step (--from) to go on"
        for output in (places.final, places.peaks, places.peak_matrix, places.coverage):
            check.may_write(output, force=force, remedy=remedy)
        chosen = RunOptions(**given)
        check.one_of("until", chosen.until, UNTIL)
        todo = steps_from("qc", chosen)
    else:
        chosen, todo = resume.plan(from_step, places, samples, given)
    bk = resolve(device)
    check_options(chosen, n_samples=len(samples), device=bk.name, todo=todo, given=given)
    read = [("fragment file", file) for file in files] if from_step is None else []
    read += [(name, Path(str(v))) for name in PATHS if (v := getattr(chosen, name)) is not None]
    refuse_inputs_among_outputs([*read, *([("truth table", Path(truth))] if truth is not None else [])], places)
    known = None if truth is None else read_truth(Path(truth))
    genome = _genome(chosen)
    seconds: dict[str, float] = {}
    if from_step is None:
        bk.load_ahead()  # while the fragments are read
        adata = _timed(
            seconds,
            "import",
            lambda: pp.import_fragments(
                files,
                genome,
                sample=samples,
                min_num_fragments=chosen.min_num_fragments,
                whitelist=chosen.whitelist,
                out=places.folder,
                device=bk.name,
                force=force,
                resume=not force and not places.checkpoint.exists(),
            ),
        )
        if not adata.n_obs:
            raise InputError(_nothing_kept(adata))
        places.checkpoint.unlink(missing_ok=True)  # of an earlier run, whose fragments were replaced just now
    else:
        adata = resume.load(places, from_step, todo, bk.name)
    with by_cluster.results(places, from_step) as made:
        with progress.bar("steps", len(todo), unit="step") as done:
            _do_steps(adata, todo, chosen, genome, seconds=seconds, made=made, done=done)
        adata.uns[RUN] = json.dumps(asdict(chosen))
        figures = _timed(seconds, "figures", lambda: draw_figures(adata, made, chosen, genome))
        report = summary.report_of(
            adata,
            chosen,
            genome,
            device=bk,
            seconds=seconds,
            total=time.perf_counter() - began,
            from_step=from_step,
            truth=None if known is None else compare(adata, known, samples, _obs_of(places.checkpoint)),
            made=made,
        )
        _timed(seconds, "write", lambda: write_h5ad(adata, places.final, force=True))
    report["seconds"] = seconds
    report["peak_memory_bytes"] = peak()  # with the writing of the result
    report["total_seconds"] = round(time.perf_counter() - began, 2)
    text = summary.write(report, places.folder, places.label)
    logger.info("wrote %s", places.final)
    return Result(
        places.final,
        text,
        figures,
        adata,
        report,
        peaks=made.found(places.peaks, "peaks") and places.peaks,
        peak_matrix=made.found(places.peak_matrix, "peaks") and places.peak_matrix,
        coverage=[places.coverage / name for name in report.get("coverage", [])],
    )


def _do_steps(
    adata: AnnData,
    todo: list[str],
    options: RunOptions,
    genome: Genome,
    *,
    seconds: dict[str, float],
    made: by_cluster.Made,
    done: Callable[[int], None],
) -> None:
    """Run the steps in order; after the quality measures everything needed to go on later is on disk."""
    checkpoint = made.places.checkpoint
    for name in todo:
        if name != "qc" and steps.too_few(adata, name):
            continue
        try:
            if name in by_cluster.STEPS:
                _timed(seconds, name, lambda name=name: by_cluster.STEPS[name](adata, options, genome, made))
            else:
                _timed(seconds, name, lambda name=name: steps.STEPS[name](adata, options, genome))
        except InputError as error:
            if not checkpoint.exists():
                raise
            msg = f"{name}: {error} The import is kept: correct the options and go on with from_step='cells' (--from cells)."
            raise InputError(msg) from error
        steps.settle(adata)
        if name == "qc":
            adata.uns[RUN_ID] = uuid.uuid4().hex
            adata.uns[RUN] = json.dumps(asdict(options))
            write_h5ad(adata, checkpoint, force=True)
        done(1)


def _timed(seconds: dict[str, float], name: str, work: Any) -> Any:
    logger.info("%s ...", name)
    began, compiled = time.perf_counter(), compile_time.seconds()
    result = work()
    compiled = compile_time.seconds() - compiled
    seconds[name] = round(time.perf_counter() - began - compiled, 2)
    if compiled > SHOWN_FROM:
        seconds[summary.COMPILING] = round(seconds.get(summary.COMPILING, 0.0) + compiled, 2)
    logger.info("%s done in %.1f s", name, seconds[name])
    return result


def _genome(options: RunOptions) -> Genome:
    return read_genome(
        str(options.genome),
        genes=options.genes,
        blacklist=options.blacklist,
        contigs=options.contigs,
    )


def _obs_of(path: Path) -> DataFrame:
    """The cells of an .h5ad, without its matrices."""
    import h5py
    from anndata.io import read_elem

    with h5py.File(path, "r") as file:
        return read_elem(file["obs"])


def _nothing_kept(adata: AnnData) -> str:
    texts = "\n".join(f"{name}: {s.as_text()}" for name, s in pp.read_summaries(adata).items())
    return f"no barcode was kept; lower --min-fragments, or check the genome and the file.\n{texts}"
