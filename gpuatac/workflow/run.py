"""Running the steps, with checkpoints, logs and a summary."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuatac import check, pp
from gpuatac.backend import resolve
from gpuatac.errors import InputError, MissingFileError
from gpuatac.io.genome_files import read_genome
from gpuatac.io.h5ad import read_h5ad, write_h5ad
from gpuatac.options import RunOptions, defaults
from gpuatac.pp._import import sample_names
from gpuatac.workflow import steps, summary
from gpuatac.workflow.figures import draw_figures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from gpuatac.backend import Device
    from gpuatac.genome import Genome

logger = logging.getLogger(__name__)
RUN = "run"  # uns: JSON of the options


@dataclass(frozen=True)
class Result:
    """What a run wrote."""

    h5ad: Path
    summary: Path
    figures: list[Path]
    adata: AnnData
    report: dict[str, Any]


def run(
    fragments: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    names: Sequence[str] | None = None,
    device: Device = "auto",
    force: bool = False,
    from_step: str | None = None,
    truth: str | Path | None = None,
    **options: Any,
) -> Result:
    """From fragment files to clusters: the main job in one call.

    Writes into ``out``: ``<sample>.h5ad`` (``combined.h5ad`` for several samples), the Parquet data set
    ``<sample>.fragments`` of each sample, the checkpoint ``<sample>.qc.h5ad``, ``<sample>.summary.txt`` and ``.json``, and
    ``figures/``. The .h5ad has obs["leiden"], obsm["X_spectral"], obsm["X_umap"], the tile matrix in X and gene activity in
    obsm["gene_activity"]; scanpy opens it.

    Parameters
    ----------
    fragments
        Fragment files, one for each sample.
    out
        Output folder, made when it is not there.
    names
        Sample names; by default the files' stems.
    device
        "auto", "cpu" or "gpu".
    force
        Replace what is in ``out``.
    from_step
        Go on from this step of an earlier run in ``out`` ("qc", "cells", ..., "figures") without importing again. Options
        that are not given keep the values of that run.
    truth
        Table (tab-separated; columns barcode and cell_type, if known is_doublet) to compare the clusters with.
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
    unknown = sorted(set(options) - set(defaults()))
    if unknown:
        msg = f"unknown option {unknown[0]!r}; allowed: {', '.join(defaults())}."
        raise InputError(msg)
    options = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    files = [Path(f) for f in ([fragments] if isinstance(fragments, str | Path) else fragments)]
    samples = sample_names(files, names)
    folder = Path(out)
    label = samples[0] if len(samples) == 1 else "combined"
    final, checkpoint = folder / f"{label}.h5ad", folder / f"{label}.qc.h5ad"
    if from_step is None:
        for file in files:
            check.existing_file(file, "fragment file")
        check.may_write(
            final, force=force, remedy="pass force=True (--force) to replace it, or from_step (--from) to go on"
        )
        chosen = RunOptions(**options)
    else:
        check.one_of("from_step", from_step, steps.RESTARTS)
        chosen = _earlier(checkpoint, final, options)
    _check_options(chosen)
    if truth is not None:
        check.existing_file(Path(truth), "truth table")
    bk = resolve(device)
    genome = _genome(chosen)
    seconds: dict[str, float] = {}
    if from_step is None:
        adata = _timed(
            seconds,
            "import",
            lambda: pp.import_fragments(
                files,
                genome,
                sample=samples,
                min_num_fragments=chosen.min_num_fragments,
                whitelist=chosen.whitelist,
                out=folder,
                device=bk.name,
                force=force,
            ),
        )
        if not adata.n_obs:
            raise InputError(_nothing_kept(adata))
        todo = list(steps.STEPS)
    else:
        adata, todo = _go_on(from_step, final, checkpoint)
    _do_steps(adata, todo, chosen, genome, seconds=seconds, checkpoint=checkpoint)
    adata.uns[RUN] = json.dumps(asdict(chosen))
    figures = _timed(seconds, "figures", lambda: draw_figures(adata, folder / "figures", chosen, checkpoint=checkpoint))
    report = summary.report_of(
        adata,
        chosen,
        genome,
        device=bk,
        seconds=seconds,
        total=time.perf_counter() - began,
        from_step=from_step,
        truth=truth,
    )
    _timed(seconds, "write", lambda: write_h5ad(adata, final, force=True))
    report["seconds"] = seconds
    report["total_seconds"] = round(time.perf_counter() - began, 2)
    text = summary.write(report, folder, label)
    logger.info("wrote %s", final)
    return Result(final, text, figures, adata, report)


def _do_steps(
    adata: AnnData, todo: list[str], options: RunOptions, genome: Genome, *, seconds: dict[str, float], checkpoint: Path
) -> None:
    """Run the steps in order; after the quality measures everything needed to go on later is on disk."""
    for name in todo:
        if name != "qc" and _too_few(adata, name):
            continue
        try:
            _timed(seconds, name, lambda name=name: steps.STEPS[name](adata, options, genome))
        except InputError as error:
            if not checkpoint.exists():
                raise
            msg = f"{name}: {error} The import is kept: correct the options and go on with from_step='cells' (--from cells)."
            raise InputError(msg) from error
        if name == "qc":
            adata.uns[RUN] = json.dumps(asdict(options))
            write_h5ad(adata, checkpoint, force=True)


def _timed(seconds: dict[str, float], name: str, work: Any) -> Any:
    logger.info("%s ...", name)
    began = time.perf_counter()
    result = work()
    seconds[name] = round(time.perf_counter() - began, 2)
    logger.info("%s done in %.1f s", name, seconds[name])
    return result


def _check_options(options: RunOptions) -> None:
    from dataclasses import fields

    for f in fields(options):
        allowed = f.metadata.get("choices")
        if allowed:
            check.one_of(f.name, getattr(options, f.name), allowed)
        value = getattr(options, f.name)
        if f.metadata.get("path") and value is not None:
            check.existing_file(Path(value), f.name)
    if options.genome is None:
        msg = "genome is not given; allowed: hg38, hg19, mm10, mm39, or a chrom.sizes, .fai or FASTA file: pass genome=... (--genome)."
        raise InputError(msg)
    check.integer("min_fragments", options.min_fragments, 0)
    if options.max_fragments is not None:
        check.integer("max_fragments", options.max_fragments, options.min_fragments)
    for name in ("bin_size", "n_features", "n_comps"):
        check.integer(name, getattr(options, name), 1)
    check.between("resolution", options.resolution, 0)
    check.between("expected_doublet_rate", options.expected_doublet_rate, 1e-6, 0.9)
    if options.n_neighbors is not None:
        check.integer("n_neighbors", options.n_neighbors, 1)
    check.integer("seed", options.seed, 0, 2**32 - 1)
    check.integer("gene_upstream", options.gene_upstream, 0)
    check.between("min_dist", options.min_dist, 0, 1)  # UMAP's spread
    if options.sample_size is not None:
        check.integer("sample_size", options.sample_size, options.n_comps + 1)
    if options.max_blacklist_fraction is not None and options.blacklist is None:
        msg = "max_blacklist_fraction needs a blacklist; pass blacklist=BED (--blacklist) or leave it out."
        raise InputError(msg)


def _genome(options: RunOptions) -> Genome:
    return read_genome(
        str(options.genome),
        genes=options.genes,
        blacklist=options.blacklist,
        contigs=options.contigs,  # type: ignore[arg-type]
    )


def _earlier(checkpoint: Path, final: Path, given: dict[str, Any]) -> RunOptions:
    """The options of the last run, the one that wrote the newer of the two files, with those given now in their place."""
    if not checkpoint.exists():
        msg = (
            f"there is no earlier run to go on from: {checkpoint} does not exist; run once without from_step (--from)."
        )
        raise MissingFileError(msg)
    import h5py

    written = [path for path in (checkpoint, final) if path.exists()]
    with h5py.File(max(written, key=lambda path: path.stat().st_mtime_ns), "r") as file:
        stored = json.loads(file["uns"][RUN][()])
    known = defaults()
    return replace(RunOptions(**{k: v for k, v in stored.items() if k in known}), **given)


def _go_on(from_step: str, final: Path, checkpoint: Path) -> tuple[AnnData, list[str]]:
    order = list(steps.STEPS)
    if from_step == "qc":
        return read_h5ad(checkpoint), order
    if from_step in steps.FROM_QUALITY:
        return read_h5ad(checkpoint), order[order.index("cells") :]
    if not final.exists():
        msg = f"{final} does not exist, so there is no finished step before {from_step!r}; go on from 'cells' instead."
        raise MissingFileError(msg)
    adata = read_h5ad(final)
    return adata, order[order.index(from_step) :] if from_step in order else []


def _too_few(adata: AnnData, step: str) -> bool:
    """Whether a step makes no sense for so few cells (a bulk sample is one); said once in the log."""
    needs = {
        "features": 2,
        "doublets": 2,
        **dict.fromkeys(("spectral", "knn", "umap", "leiden"), steps.FEWEST_FOR_EMBEDDING),
    }
    if adata.n_obs >= needs.get(step, 0):
        return False
    logger.warning("%s: skipped, it needs %d cells and there are %d", step, needs[step], adata.n_obs)
    return True


def _nothing_kept(adata: AnnData) -> str:
    texts = "\n".join(f"{name}: {s.as_text()}" for name, s in pp.read_summaries(adata).items())
    return f"no barcode was kept; lower --min-fragments, or check the genome and the file.\n{texts}"
