"""What ``gpuatac train-denoiser`` takes. An option that is not given has the default of the job and of its preset."""

from __future__ import annotations

import argparse
from typing import Any

from gpuatac.cli import train_commands
from gpuatac.cli.shared_arguments import add_log, add_machine

#: Option of ``workflow.denoiser.training_inputs.Asked``: flag, what argparse gets, help.
DATA: dict[str, tuple[str, dict[str, Any], str]] = {
    "clean": (
        "--clean",
        {"nargs": "+", "metavar": "TRACK"},
        "coverage of deep libraries at single bases: bigWig or bedGraph; without --noisy they are thinned",
    ),
    "noisy": ("--noisy", {"nargs": "+", "metavar": "TRACK"}, "shallow tracks, one for each clean one or all of one"),
    "peaks": (
        "--peaks",
        {"nargs": "+", "metavar": "BED"},
        "peaks of the clean data (default: where coverage has p < 0.001 by a Poisson law of the chromosome's mean)",
    ),
    "peak_cutoff": (
        "--peak-cutoff",
        {"type": float, "metavar": "X"},
        "or the clean coverage that makes a peak, of 200 bp or more with gaps of 30",
    ),
    "h5": (
        "--h5",
        {"nargs": "+", "metavar": "FILE"},
        "AtacWorks' HDF5 files of examples: one to train on and one to validate on",
    ),
    "intervals": (
        "--intervals",
        {"nargs": "+", "metavar": "BED"},
        "of --h5: where the examples lie, one file for each; needed to thin them (give --noisy too where rows were left out)",
    ),
    "groupby": (
        "--groupby",
        {"metavar": "COLUMN"},
        "of cells: column of the .h5ad's cells, or of --groups; all cells of a group are its deep library",
    ),
    "groups": ("--groups", {"metavar": "TSV"}, "of cells: table of barcode (or sample#barcode) and group"),
    "selections": ("--select", {"nargs": "+", "metavar": "GROUP"}, "of cells: groups to train on (default: all)"),
    "genome": (
        "--genome",
        {"metavar": "TEXT"},
        "hg38, hg19, mm10, mm39, or a chrom.sizes file (an .h5ad and a bigWig say it themselves)",
    ),
    "contigs": ("--contigs", {"choices": ("main", "all")}, "chromosomes to keep (default: main)"),
    "clean_depth": (
        "--clean-depth",
        {"type": float, "nargs": "+", "metavar": "READS"},
        "reads of the whole deep library, where a file holds a part of it: one, or one for each",
    ),
    "noisy_depth": (
        "--noisy-depth",
        {"type": float, "nargs": "+", "metavar": "READS"},
        "the same of the noisy library",
    ),
    "blacklist": ("--blacklist", {"metavar": "BED"}, "of cells: leave out fragments that overlap these regions"),
    "target_depth": (
        "--target-depth",
        {"type": float, "metavar": "READS"},
        "depth that clean coverage is scaled to (default: the median of the clean libraries)",
    ),
}
NOISE: dict[str, tuple[str, dict[str, Any], str]] = {
    "thin": (
        "--thin",
        {"type": float, "nargs": "+", "metavar": "READS"},
        "thin the clean data to these depths, anew for each example (default: any depth within --thin-range)",
    ),
    "cells": (
        "--cells",
        {"type": int, "nargs": "+", "metavar": "N"},
        "draw so many random cells of a group instead of thinning its reads, such as 1 5 10 50",
    ),
}
SPLIT: dict[str, tuple[str, dict[str, Any], str]] = {
    "val_chroms": (
        "--val-chroms",
        {"nargs": "+", "metavar": "NAME"},
        "chromosomes to choose the best epoch by (default: chr20 of human, chr11 of mouse)",
    ),
    "holdout_chroms": (
        "--holdout-chroms",
        {"nargs": "*", "metavar": "NAME"},
        "chromosomes that are never looked at (default: chr10)",
    ),
    "train_chroms": (
        "--train-chroms",
        {"nargs": "+", "metavar": "NAME"},
        "chromosomes to train on (default: the other autosomes)",
    ),
    "val_fraction": (
        "--val-fraction",
        {"type": float, "metavar": "X"},
        "instead of chromosomes hold out this share of the training ones, in random blocks of 208 kb",
    ),
}
#: Field of ``nn.recipes.Recipe``; those that are no single value are taken apart in ``train_commands``.
RECIPE: dict[str, tuple[str, dict[str, Any], str]] = {
    "epochs": ("--epochs", {"type": int, "metavar": "N"}, "passes, each followed by validation"),
    "steps_per_epoch": ("--steps", {"type": int, "metavar": "N"}, "steps of a pass (published: every interval once)"),
    "batch_size": ("--batch-size", {"type": int, "metavar": "N"}, "examples of a step, of all GPUs together"),
    "interval": ("--interval", {"type": int, "metavar": "BP"}, "bp predicted of an example (published: 50000)"),
    "pad": (
        "--pad",
        {"type": int, "metavar": "BP"},
        "bp of context on each side, at most what the model looks at; of --h5 the padding of its rows (published: 5000)",
    ),
    "nonzero": (
        "--nonzero",
        {"action": argparse.BooleanOptionalAction},
        "leave out intervals without noisy coverage (default: yes)",
    ),
    "random_starts": (
        "--random-starts",
        {"action": argparse.BooleanOptionalAction},
        "move each interval at random by up to half its length (published: no)",
    ),
    "flip": ("--flip", {"action": argparse.BooleanOptionalAction}, "reverse half of the examples (published: no)"),
    "depth": (
        "--thin-range",
        {"type": float, "nargs": 2, "metavar": ("LOW", "HIGH")},
        "depths in reads to thin to, log-uniform (published: 0.2e6 20e6)",
    ),
    "real_share": (
        "--real-share",
        {"type": float, "metavar": "X"},
        "share of examples with the measured noisy track, where there is one; the others are thinned (published: 1)",
    ),
    "paired": (
        "--paired",
        {"type": float, "metavar": "X"},
        "share of thinned examples of a coverage track in which cuts go by two, as paired-end reads do; those of fragments "
        "always do (published: 0)",
    ),
    "optimiser": ("--optimiser", {"choices": ("adam", "adamw")}, "published: adam"),
    "lr": ("--lr", {"type": float, "metavar": "X"}, "learning rate, the highest of a cycle (published: 0.0002)"),
    "weight_decay": ("--weight-decay", {"type": float, "metavar": "X"}, "published: 0"),
    "schedule": (
        "--schedule",
        {"choices": ("constant", "one-cycle")},
        "of the learning rate (published: constant)",
    ),
    "warmup": ("--warmup", {"type": float, "metavar": "X"}, "share of a cycle in which the rate rises (default: 0.1)"),
    "clip": ("--clip", {"type": float, "metavar": "X"}, "largest norm of the gradient (published: any)"),
    "ema": (
        "--ema",
        {"type": float, "metavar": "X"},
        "decay of the average of the weights that is kept (published: 0, no average)",
    ),
    "best": (
        "--best",
        {"choices": ("auroc", "auprc", "pearson", "spearman", "mse", "bce")},
        "measure that the best epoch is chosen by (published: auroc)",
    ),
    "precision": ("--precision", {"choices": ("float32", "bfloat16")}, "of the network (default: float32)"),
}
WEIGHTS = {"mse": 0.0005, "pearson": 1.0, "bce": 1.0, "poisson": 0.0}
#: Option of the model's class.
MODEL: dict[str, tuple[str, dict[str, Any], str]] = {
    "num_blocks": ("--blocks", {"type": int, "metavar": "N"}, "resnet: residual blocks for the signal (default: 5)"),
    "out_channels": ("--filters", {"type": int, "metavar": "N"}, "resnet: filters of their layers (default: 15)"),
    "kernel_size": ("--kernel", {"type": int, "metavar": "N"}, "resnet: taps of their filters (default: 51)"),
    "dilation": ("--dilation", {"type": int, "metavar": "N"}, "resnet: bp between taps (default: 8)"),
    "num_blocks_class": ("--blocks-class", {"type": int, "metavar": "N"}, "resnet: blocks for the peaks (default: 2)"),
    "out_channels_class": ("--filters-class", {"type": int, "metavar": "N"}, "resnet: their filters (default: 15)"),
    "kernel_size_class": ("--kernel-class", {"type": int, "metavar": "N"}, "resnet: their taps (default: 51)"),
    "dilation_class": ("--dilation-class", {"type": int, "metavar": "N"}, "resnet: bp between these (default: 8)"),
    "bn": ("--batch-norm", {"action": "store_const", "const": True}, "resnet, unet: normalise over batches"),
    "afunc": ("--activation", {"choices": ("relu", "prelu")}, "resnet, unet: default relu"),
    "field": ("--field", {"type": int, "metavar": "BP"}, "linear, logistic: bp looked at (default: 8401)"),
}
SECTIONS = (("data", DATA), ("noisy inputs", NOISE), ("parts", SPLIT), ("recipe", RECIPE), ("model", MODEL))


def train_denoiser(commands_: Any) -> None:
    """``gpuatac train-denoiser``."""
    sub = commands_.add_parser(
        "train-denoiser",
        help="train a network that denoises tracks, on pairs of tracks or on one deep sample",
        description="Train a denoising model on deep and shallow tracks (--clean, --noisy), on deep ones that are thinned on the fly "
        "(--clean), on groups of cells (an .h5ad or fragment files), or on AtacWorks' HDF5 files (--h5). Writes the best epoch, the "
        "state to go on from, a table and a figure of all epochs. On several GPUs: torchrun --nproc-per-node N -m gpuatac "
        "train-denoiser ...",
    )
    sub.add_argument(
        "inputs", nargs="*", metavar="INPUT", help="an .h5ad of gpuatac, or fragment files; none with --clean or --h5"
    )
    sub.add_argument("--out", required=True, metavar="DIR", help="output folder")
    sub.add_argument(
        "--model",
        choices=("multiscale", "resnet", "unet", "linear", "logistic"),
        default="multiscale",
        help="multiscale takes any depth, resnet is the published network (default: multiscale)",
    )
    sub.add_argument(
        "--preset",
        choices=("published", "multiscale", "cpu"),
        help="recipe: as published, that of the multiscale model, or a short one for two cores (default: as the model asks)",
    )
    sub.add_argument("--resume", action="store_true", help="go on from last.pt in DIR after a stop or a kill")
    sub.add_argument("--force", action="store_true", help="replace an earlier run in DIR")
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="seed (default: 0)")
    sub.add_argument(
        "--init",
        metavar="FILE",
        help="checkpoint whose weights to start from, or 'shipped' or 'none' (default: shipped for multiscale, none, that is random "
        "weights, for others and where --model-option asks for another shape)",
    )
    sub.add_argument("--val-intervals", type=int, metavar="N", help="validate on so many intervals (default: all)")
    sub.add_argument(
        "--footprint", action="store_true", help="coverage of 5 bp on each side of a cut, not 100, to learn footprints"
    )
    add_machine(sub)
    add_log(sub)
    for title, options in SECTIONS:
        group = sub.add_argument_group(title)
        for name, (flag, how, text) in options.items():
            group.add_argument(flag, dest=name, default=argparse.SUPPRESS, help=text, **how)
        if title == "recipe":
            for name, value in WEIGHTS.items():
                group.add_argument(
                    f"--weight-{name}", type=float, metavar="X", help=f"of this part of the loss (default: {value:g})"
                )
        elif title == "model":
            group.add_argument(
                "--extra",
                nargs="+",
                default=[],
                metavar="FILE",
                help="extra input tracks: BED (by strand), bigWig or bedGraph",
            )
            group.add_argument(
                "--model-option",
                nargs="+",
                action="extend",
                default=[],
                metavar="NAME=VALUE",
                help="any option of the model's class, such as drop=0.1",
            )
    sub.set_defaults(command=train_commands.train_denoiser)
