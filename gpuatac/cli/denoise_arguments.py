"""What ``gpuatac denoise`` takes."""

from __future__ import annotations

import argparse
from typing import Any

from gpuatac.cli import denoise_commands
from gpuatac.cli.group_arguments import _inputs

#: Option of ``workflow.denoiser.denoise.denoise``: flag, what argparse gets, help. Those not given have its defaults.
DENOISE: dict[str, tuple[str, dict[str, Any], str]] = {
    "model": ("--model", {"metavar": "FILE"}, "checkpoint, of gpuatac train-denoiser or as AtacWorks published them"),
    "dilation": (
        "--dilation",
        {"type": int, "nargs": "+", "metavar": "N"},
        "of a published checkpoint, whose file does not tell it: of all blocks, or of those for signal and for peaks (8, or 8 10)",
    ),
    "depth": (
        "--depth",
        {"type": float, "nargs": "+", "metavar": "READS"},
        "of tracks: reads of each library, or of all (default: counted in the track)",
    ),
    "regions": (
        "--regions",
        {"nargs": "+", "metavar": "REGION"},
        "chromosomes, regions such as chr2:1000-9000, BED files (default: the genome)",
    ),
    "selections": ("--select", {"nargs": "+", "metavar": "GROUP"}, "groups to denoise (default: all)"),
    "blacklist": ("--blacklist", {"metavar": "BED"}, "leave out fragments that overlap these regions"),
    "extra": (
        "--extra",
        {"nargs": "+", "metavar": "FILE"},
        "extra input tracks that the model was trained with: BED (by strand), bigWig or bedGraph",
    ),
    "footprint": (
        "--footprint",
        {"action": "store_const", "const": True},
        "coverage of 5 bp on each side of a cut, not 100, for a model trained on it",
    ),
    "precision": (
        "--precision",
        {"choices": ("float32", "bfloat16")},
        "of the network; bfloat16 is faster where the hardware has it (default: float32)",
    ),
    "compiled": ("--compile", {"action": "store_const", "const": True}, "compile the network first"),
}
PEAKS: dict[str, tuple[str, dict[str, Any], str]] = {
    "cutoff": ("--cutoff", {"type": float, "metavar": "X"}, "lowest probability in a peak (default: 0.5)"),
    "max_gap": ("--max-gap", {"type": int, "metavar": "BP"}, "widest gap bridged (default: 30)"),
    "min_length": ("--min-length", {"type": int, "metavar": "BP"}, "shortest peak (default: 200)"),
}
OUTPUTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "prefix": ("--prefix", {"metavar": "TEXT"}, "start of the file names"),
    "output_format": ("--format", {"choices": ("bigwig", "bedgraph")}, "of the tracks (default: bigwig)"),
    "tracks": (
        "--tracks",
        {"nargs": "*", "choices": ("signal", "probability"), "metavar": "TRACK"},
        "signal, probability, both or none (default: both)",
    ),
    "decimals": (
        "--decimals",
        {"type": int, "metavar": "N"},
        "digits of the signal behind the point, 0 to 4 (default: 1)",
    ),
    "probability_decimals": (
        "--probability-decimals",
        {"type": int, "metavar": "N"},
        "digits of the probability behind the point, 0 to 4; each makes its file some four times as large (default: 3)",
    ),
    "resolution": (
        "--resolution",
        {"type": int, "metavar": "BP"},
        "bp that are averaged to one value of the tracks (default: 1)",
    ),
    "signal_depth": (
        "--signal-depth",
        {"type": float, "metavar": "READS"},
        "library that the signal is scaled to (default: that of the model)",
    ),
}
SECTIONS = (("denoising", DENOISE), ("peaks", PEAKS), ("outputs", OUTPUTS))


def denoise(commands_: Any) -> None:
    """``gpuatac denoise``."""
    sub = commands_.add_parser(
        "denoise",
        help="denoised tracks and peaks of groups of cells, bulk samples or tracks, by a neural network",
        description="Denoise the track of each group, or of each bigWig or bedGraph file of coverage at single bases, and call peaks. "
        "Inputs are one .h5ad written by gpuatac with --groupby COLUMN, fragment files (10x fragments.tsv.gz, BED, BAM) with --genome "
        "and --groups TSV, or tracks. Without groups each sample is one group.",
    )
    _inputs(sub)
    for title, options in SECTIONS:
        group = sub.add_argument_group(title)
        for name, (flag, how, text) in options.items():
            group.add_argument(flag, dest=name, default=argparse.SUPPRESS, help=text, **how)
    sub.set_defaults(command=denoise_commands.denoise)
