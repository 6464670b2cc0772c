"""The job behind ``gpuatac evaluate-denoiser``: files in, tables and a figure out."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuatac import check
from gpuatac.backend import resolve
from gpuatac.core.track_source import HALF_WIDTH
from gpuatac.core.tracks.block_bootstrap import BLOCK
from gpuatac.errors import InputError
from gpuatac.io.files.atomic import replacing
from gpuatac.memory import set_memory
from gpuatac.workflow.denoiser.evaluate_tracks import Comparison, judge
from gpuatac.workflow.denoiser.evaluation_inputs import open_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuatac.backend import Device
    from gpuatac.core.tracks.smoothing import Scale
    from gpuatac.genome import Genome

METRICS, DIFFERENCES, PEAKS, SETTINGS = "metrics.tsv", "differences.tsv", "called_peaks.tsv", "evaluation.json"


@dataclass(frozen=True)
class Evaluation:
    """What ``evaluate_denoiser`` found and wrote."""

    comparison: Comparison
    files: list[Path]
    figure: Path | None = None


def evaluate_denoiser(
    clean: str | Path | None,
    out: str | Path,
    *,
    noisy: str | Path | None = None,
    denoised: Sequence[str | Path] = (),
    probability: Sequence[str | Path] = (),
    names: Sequence[str] | None = None,
    h5: Sequence[str | Path] = (),
    intervals: Sequence[str | Path] = (),
    pad: int = 0,
    peaks: Any = None,
    peak_cutoff: float | None = None,
    genome: str | Path | Genome | None = None,
    regions: Any = None,
    chroms: Sequence[str] | None = None,
    tune_chroms: Sequence[str] | None = None,
    clean_depth: float | None = None,
    noisy_depth: float | None = None,
    half_width: int = HALF_WIDTH,
    scale: Scale = "depth",
    threshold: float = 0.5,
    bootstrap: int = 0,
    block: int = BLOCK,
    level: float = 0.95,
    seed: int = 0,
    locus: str | None = None,
    figure: str = "locus.png",
    device: Device = "auto",
    memory: str | int | None = None,
    force: bool = False,
) -> Evaluation:
    """Judge denoised tracks against a deep library by every measure of the AtacWorks paper, beside smoothings of the shallow one.

    Writes into ``out``: ``metrics.tsv``, ``evaluation.json`` (factors and mixes of the smoothings, chromosomes, options), with
    probabilities ``called_peaks.tsv``, with a bootstrap ``differences.tsv`` (see ``Comparison``), with a locus its figure. All
    take their places together at the end.

    Parameters
    ----------
    clean, noisy
        bigWig or bedGraph of coverage (cuts within ``half_width`` bp); with ``h5`` clean is None, and noisy, if given, takes the
        place of the file's own. Without noisy there are no smoothings.
    denoised, probability
        Files of denoised coverage and of the probability to lie in a peak; where both are given, one of each for each method.
        Without a probability the coverage ranks the bases.
    names
        Of the methods; by default the files' stems.
    h5, intervals, pad
        AtacWorks' HDF5 files with labels (instead of clean, noisy and peaks), the BED file of each, their padding in bp.
    peaks, peak_cutoff
        Peaks of the clean track: BED file or frame; or the coverage from which bdgpeakcall's rule takes them (200 bp or longer,
        gaps of 30 bp bridged). Neither: the cutoff is where a Poisson law of each chromosome's mean leaves p < 0.001.
    genome
        Name, chrom.sizes file or Genome; needed for bedGraph and HDF5, else the clean bigWig tells.
    regions
        BED file, frame, or names like chr1:1-2000 or chr1: what is evaluated. None: everything.
    chroms, tune_chroms
        Chromosomes to evaluate, and those on which smoothings are tuned; see ``compare``.
    clean_depth, noisy_depth
        Reads of the libraries; both or none. None: the ratio of the tracks' sums stands for that of the depths.
    half_width, scale, threshold, bootstrap, block, level, seed
        See ``compare``.
    locus, figure
        A region like chr1:1,000-9,000 to draw, and the name of its figure: .png, .pdf or .svg.
    device, memory, force
        As in ``run``.

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        Files that do not fit together; nothing is written then.
    OutputExistsError
        When a file is there and ``force`` is not set.

    Source: Lal et al. 2021, Nat. Commun. 12:1507. Cost: as of ``compare``; 16 Mb of each track are in memory at a time.

    Examples
    --------
    >>> from gpuatac.workflow.denoiser.evaluate import evaluate_denoiser
    >>> evaluate_denoiser("deep.bw", "judged", noisy="shallow.bw", denoised=["net.bw"], bootstrap=1000)  # doctest: +SKIP
    """
    if memory is not None:
        set_memory(memory)
    if (clean is None) == (not h5):
        msg = "give the deep library either as a track (clean, --clean) or as HDF5 files (h5, --h5), not both and not neither."
        raise InputError(msg)
    if (clean_depth is None) != (noisy_depth is None):
        msg = "give both depths or none (clean_depth and noisy_depth, --clean-depth and --noisy-depth): their ratio is what counts."
        raise InputError(msg)
    if peaks is not None and peak_cutoff is not None:
        msg = "give peaks or peak_cutoff, not both (--peaks, --peak-cutoff)."
        raise InputError(msg)
    if Path(figure).suffix not in (".png", ".pdf", ".svg") or Path(figure).name != figure:
        msg = f"figure must be a file name ending in .png, .pdf or .svg, got {figure!r}; it is written into the output folder."
        raise InputError(msg)
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        msg = f"out {folder} is a file; allowed: a folder, made when it is not there; choose another name."
        raise InputError(msg)
    wanted = [
        METRICS,
        SETTINGS,
        *([PEAKS] if probability else []),
        *([DIFFERENCES] if bootstrap else []),
        *([figure] if locus else []),
    ]
    for name in wanted:
        check.may_write(folder / name, force=force)
    bk = resolve(device)
    given = open_files(bk, clean, noisy, denoised, probability, names=names, h5=h5, intervals=intervals, pad=pad, peaks=peaks,
                   peak_cutoff=peak_cutoff, genome=genome, regions=regions, half_width=half_width,
                   tune=tune_chroms or ())  # fmt: skip
    ratio = None if clean_depth is None or noisy_depth is None else clean_depth / noisy_depth
    window = None if locus is None else given.window(locus)
    found = judge(given, chroms=chroms, tune=tune_chroms, scale=scale, depth_ratio=ratio, threshold=threshold, bootstrap=bootstrap,
                  block=block, seed=seed, level=level)  # fmt: skip
    settings = _settings(
        found,
        scale=scale,
        depth_ratio=ratio,
        threshold=threshold,
        bootstrap=bootstrap,
        block=block,
        level=level,
        seed=seed,
    )
    with ExitStack() as stack:

        def place(name: str) -> Path:
            return stack.enter_context(replacing(folder / name, force=True))

        found.table.to_csv(place(METRICS), sep="\t", index=False, float_format="%.8g")
        place(SETTINGS).write_text(json.dumps(settings, indent=1) + "\n")
        if PEAKS in wanted:
            found.peaks.to_csv(place(PEAKS), sep="\t", index=False, float_format="%.8g")
        if DIFFERENCES in wanted:
            found.intervals.to_csv(place(DIFFERENCES), sep="\t", index=False, float_format="%.8g")
        if window is not None:
            drawn = place(figure)
            whole = drawn.with_name(drawn.name + Path(figure).suffix)  # matplotlib goes by the suffix
            given.draw(window, whole, threshold=threshold)
            whole.replace(drawn)
    return Evaluation(found, [folder / name for name in wanted], folder / figure if locus else None)


def _settings(found: Comparison, **options: Any) -> dict[str, Any]:
    tuned = None
    if found.tuned is not None:
        tuned = {
            "factors": dict(found.tuned.factors),
            "mix_sd": found.tuned.mix,
            "signal_mix": found.tuned.signal_mix,
            "log_mix": found.tuned.log_mix,
            "floor": found.tuned.floor,
        }
    return {"evaluated_on": found.evaluated_on, "tuned_on": found.tuned_on, **options, "smoothing": tuned}
