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
from gpuatac.workflow.denoiser.evaluate_tracks import judge
from gpuatac.workflow.denoiser.evaluation_inputs import open_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuatac.backend import Device
    from gpuatac.core.tracks.smoothing import Scale
    from gpuatac.genome import Genome
    from gpuatac.workflow.denoiser.track_comparison import Comparison

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
    denoised: str | Path | Sequence[str | Path] = (),
    probability: str | Path | Sequence[str | Path] = (),
    names: str | Sequence[str] | None = None,
    h5: str | Path | Sequence[str | Path] = (),
    intervals: str | Path | Sequence[str | Path] = (),
    pad: int = 0,
    peaks: Any = None,
    peak_cutoff: float | None = None,
    genome: str | Path | Genome | None = None,
    regions: Any = None,
    chroms: str | Sequence[str] | None = None,
    tune_chroms: str | Sequence[str] | None = None,
    clean_depth: float | None = None,
    noisy_depth: float | None = None,
    half_width: int = HALF_WIDTH,
    scale: Scale = "depth",
    threshold: float = 0.5,
    bootstrap: int = 0,
    block: int = BLOCK,
    level: float = 0.95,
    seed: int = 0,
    locus: str | tuple[str, int, int] | None = None,
    figure: str | None = None,
    device: Device = "auto",
    memory: str | int | None = None,
    force: bool = False,
) -> Evaluation:
    """Denoised tracks judged against a deep library, beside plain smoothing.

    Every measure of the AtacWorks paper: MSE, Pearson, Spearman, AUROC and AUPRC, over all bases, in and outside peaks, by chromosome.
    Raw track and smoothings stand beside them where ``noisy`` is given and there is a chromosome to tune on and another to judge on;
    differences have intervals where ``bootstrap`` is above 0.

    Writes into ``out``: ``metrics.tsv``, ``evaluation.json`` (factors and mixes of the smoothings, chromosomes, options), with
    probabilities ``called_peaks.tsv``, with a bootstrap ``differences.tsv`` (see ``Comparison``), with a locus its figure. All
    take their places together at the end.

    Parameters
    ----------
    clean
        Coverage of the deep library (cuts within ``half_width`` bp): bigWig or bedGraph; none with ``h5``.
    out
        Output folder, made when it is not there.
    noisy
        Coverage of the shallow library: bigWig or bedGraph; with ``h5`` it takes the place of the file's own. Raw track and smoothings
        are made of it: without it there are none to compare with.
    denoised
        Denoised coverage, one file for each method.
    probability
        Probability to lie in a peak, one file for each method, in the order of ``denoised``. Without it the coverage ranks the bases.
    names
        Names of the methods; by default the files' stems.
    h5
        AtacWorks' HDF5 files with labels, instead of ``clean``, ``noisy`` and ``peaks``.
    intervals
        Of ``h5``: where the examples lie, one BED file for each.
    pad
        Of ``h5``: padding on both sides of the examples, in bp.
    peaks
        Peaks of the deep library: a BED file or a frame.
    peak_cutoff
        Or the clean coverage that makes a peak, by bdgpeakcall's rule (200 bp or longer, gaps of 30 bp bridged). By default it is
        where a Poisson law of each chromosome's mean leaves p < 0.001.
    genome
        hg38, hg19, mm10, mm39, a chrom.sizes file or a Genome; needed for bedGraph and HDF5, else the clean bigWig tells.
    regions
        What is judged, and not what smoothings are tuned on: a BED file, a frame, or names such as chr1 or
        chr1:1-2000 (0-based, half-open); by default everything.
    chroms
        Chromosomes to evaluate; by default all but those of ``tune_chroms``.
    tune_chroms
        Chromosomes on which factors and mixes of the smoothings are fitted; by default the first. A second one is needed to judge on.
    clean_depth
        Reads of the deep library, given together with ``noisy_depth``; by default the ratio of the tracks' sums counts.
    noisy_depth
        Reads of the shallow library, given together with ``clean_depth``.
    half_width
        Bases on each side of a cut that coverage counts.
    scale
        Factor to the clean depth: "depth", the ratio of the depths, or "least-squares", that of least MSE.
    threshold
        Probability from which bases and peaks are called.
    bootstrap
        Draws of a paired bootstrap over blocks of the genome, for intervals of differences; 0 for none.
    block
        Width of its blocks, in bp.
    level
        Share that the intervals hold.
    seed
        Seed of the draws.
    locus
        Draw the tracks here: a region such as chr1:118,300,000-118,400,000 (0-based, half-open).
    figure
        Name of that figure in the output folder, ending in .png, .pdf or .svg (default: locus.png).
    device
        Where to compute: "auto" takes a GPU where there is one.
    memory
        About how much memory to use at most, such as 4G; by default 70 % of what is available. On a GPU also the limit of the
        tracks' memory there, by default 80 % of it; PyTorch's own is not bounded by it.
    force
        Replace existing files.

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
    denoised, probability, h5, intervals = (
        check.several(name, value)
        for name, value in (("denoised", denoised), ("probability", probability), ("h5", h5), ("intervals", intervals))
    )
    names, chroms, tune_chroms = (
        None if value is None else check.several(name, value, what="a name")
        for name, value in (("names", names), ("chroms", chroms), ("tune_chroms", tune_chroms))
    )
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
    if figure is not None and locus is None:
        msg = f"figure {figure!r} is named, and no place to draw; allowed: with a locus; give one (--locus) or leave it out (--figure)."
        raise InputError(msg)
    figure = "locus.png" if figure is None else figure
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
