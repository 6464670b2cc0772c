"""What ``gpuatac evaluate-denoiser`` takes. An option that is not given has the default of ``evaluate_denoiser``."""

from __future__ import annotations

import argparse
from typing import Any

from gpuatac.cli import evaluate_commands
from gpuatac.cli.shared_arguments import add_log, add_machine

FILES: dict[str, tuple[str, dict[str, Any], str]] = {
    "clean": ("--clean", {"metavar": "TRACK"}, "coverage of the deep library: bigWig or bedGraph"),
    "noisy": ("--noisy", {"metavar": "TRACK"}, "coverage of the shallow library, which the smoothings are made of"),
    "denoised": ("--denoised", {"nargs": "+", "metavar": "TRACK"}, "denoised coverage, one file for each method"),
    "probability": (
        "--probability",
        {"nargs": "+", "metavar": "TRACK"},
        "probability to lie in a peak, one file for each method, in the order of --denoised",
    ),
    "names": ("--names", {"nargs": "+", "metavar": "NAME"}, "names of the methods (default: the files' stems)"),
    "h5": ("--h5", {"nargs": "+", "metavar": "FILE"}, "AtacWorks' HDF5 files, instead of --clean, --noisy and --peaks"),
    "intervals": (
        "--intervals",
        {"nargs": "+", "metavar": "BED"},
        "of --h5: where the examples lie, one file for each",
    ),
    "pad": ("--pad", {"type": int, "metavar": "BP"}, "of --h5: padding on both sides of the examples (default: 0)"),
    "genome": (
        "--genome",
        {"metavar": "TEXT"},
        "hg38, hg19, mm10, mm39, or a chrom.sizes file (default: what a clean bigWig says)",
    ),
}
TRUTH: dict[str, tuple[str, dict[str, Any], str]] = {
    "peaks": ("--peaks", {"metavar": "BED"}, "peaks of the deep library"),
    "peak_cutoff": (
        "--peak-cutoff",
        {"type": float, "metavar": "X"},
        "or the clean coverage that makes a peak (default: where a Poisson law of the mean leaves p < 0.001)",
    ),
    "regions": (
        "--regions",
        {"nargs": "+", "metavar": "REGION"},
        "evaluate these only: a BED file, chr1:1-2000, or chr1",
    ),
    "chroms": (
        "--chroms",
        {"nargs": "+", "metavar": "NAME"},
        "chromosomes to evaluate (default: all but those of --tune-chroms)",
    ),
    "threshold": (
        "--threshold",
        {"type": float, "metavar": "X"},
        "probability from which bases and peaks are called (default: 0.5)",
    ),
}
SMOOTHING: dict[str, tuple[str, dict[str, Any], str]] = {
    "tune_chroms": (
        "--tune-chroms",
        {"nargs": "+", "metavar": "NAME"},
        "chromosomes on which factors and mixes are fitted (default: the first)",
    ),
    "scale": (
        "--scale",
        {"choices": ("depth", "least-squares")},
        "factor to the clean depth: the ratio of the depths, or that of least MSE (default: depth)",
    ),
    "clean_depth": ("--clean-depth", {"type": float, "metavar": "READS"}, "reads of the deep library"),
    "noisy_depth": (
        "--noisy-depth",
        {"type": float, "metavar": "READS"},
        "reads of the shallow library (default of both: the ratio of the tracks' sums)",
    ),
    "half_width": (
        "--half-width",
        {"type": int, "metavar": "BP"},
        "bp on each side of a cut that coverage counts (default: 100)",
    ),
}
BOOTSTRAP: dict[str, tuple[str, dict[str, Any], str]] = {
    "bootstrap": ("--bootstrap", {"type": int, "metavar": "N"}, "draws of blocks; 0 for no intervals (default: 0)"),
    "block": ("--block", {"type": int, "metavar": "BP"}, "width of a block (default: 208000)"),
    "level": ("--level", {"type": float, "metavar": "X"}, "share that the intervals hold (default: 0.95)"),
    "seed": ("--seed", {"type": int, "metavar": "N"}, "seed of the draws (default: 0)"),
}
FIGURE: dict[str, tuple[str, dict[str, Any], str]] = {
    "locus": ("--locus", {"metavar": "REGION"}, "draw the tracks here: chr1:118,300,000-118,400,000"),
    "figure": (
        "--figure",
        {"metavar": "NAME"},
        "name of the figure in DIR, ending in .png, .pdf or .svg (default: locus.png)",
    ),
}
GROUPS = {
    "tracks": FILES,
    "truth, and what is evaluated": TRUTH,
    "smoothing": SMOOTHING,
    "intervals of differences": BOOTSTRAP,
    "figure": FIGURE,
}


def evaluate_denoiser(commands_: Any) -> None:
    """``gpuatac evaluate-denoiser``."""
    sub = commands_.add_parser(
        "evaluate-denoiser",
        help="denoised tracks against a deep library, beside plain smoothing",
        description="Judge denoised tracks by every measure of the AtacWorks paper (MSE, Pearson, Spearman, AUROC, AUPRC; all bases, in"
        " and outside peaks; by chromosome) beside the raw track and tuned smoothings of it, with paired block-bootstrap intervals.",
    )
    sub.add_argument("--out", required=True, metavar="DIR", help="output folder")
    sub.add_argument("--force", action="store_true", help="replace existing files")
    for title, options in GROUPS.items():
        group = sub.add_argument_group(title)
        for name, (flag, how, text) in options.items():
            group.add_argument(flag, dest=name, default=argparse.SUPPRESS, help=text, **how)
    add_machine(sub)
    add_log(sub)
    sub.set_defaults(command=evaluate_commands.evaluate_denoiser)
