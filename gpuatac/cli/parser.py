"""What the command line takes; defaults come from ``gpuatac.options`` and the functions themselves."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

from gpuatac._version import __version__
from gpuatac.cli import commands, denoise_arguments, evaluate_arguments, group_arguments, train_arguments
from gpuatac.cli.shared_arguments import add_log, add_machine
from gpuatac.options import STEP_NAMES, RunOptions


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``gpuatac``."""
    parser = argparse.ArgumentParser(
        prog="gpuatac",
        description="ATAC-seq from fragment files to clusters, peaks and coverage, on a GPU or without one.",
    )
    parser.add_argument("--version", action="version", version=f"gpuatac {__version__}")
    commands_ = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _run(commands_)
    group_arguments.peaks(commands_)
    group_arguments.coverage(commands_)
    denoise_arguments.denoise(commands_)
    train_arguments.train_denoiser(commands_)
    evaluate_arguments.evaluate_denoiser(commands_)
    _simulate(commands_)
    _fragments(commands_)
    _info(commands_)
    return parser


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _type_of(annotation: str) -> Any:
    return float if "float" in annotation else int if "int" in annotation else str


def _run(commands_: Any) -> None:
    sub = commands_.add_parser(
        "run",
        help="the main job: fragment files to clusters, peaks, coverage, figures and one .h5ad",
        description="Quality control, tiles, doublets, spectral embedding, UMAP, Leiden clusters, gene activity, and peaks and "
        "coverage of each cluster, of one or several fragment files (10x fragments.tsv.gz, BED, BAM, a .fragments data set or an "
        ".h5ad of SnapATAC2).",
    )
    sub.add_argument("fragments", nargs="+", metavar="FRAGMENTS", help="fragment file, one for each sample")
    sub.add_argument("--out", required=True, metavar="DIR", help="output folder")
    sub.add_argument("--names", nargs="+", metavar="NAME", help="sample names (default: the files' stems)")
    add_machine(sub)
    sub.add_argument("--force", action="store_true", help="replace an existing output")
    sub.add_argument(
        "--from",
        dest="from_step",
        choices=STEP_NAMES,
        metavar="STEP",
        help=f"go on from a step of an earlier run in DIR without importing again: {', '.join(STEP_NAMES)}; options "
        "that are not given keep that run's values, those of earlier steps cannot change (tiles, features and doublets start "
        "at cells)",
    )
    sub.add_argument(
        "--truth",
        metavar="TSV",
        help="table with barcode (or sample#barcode) and cell_type, if known is_doublet, to compare with",
    )
    group = sub.add_argument_group("options of the analysis")
    for f in fields(RunOptions):
        shown = "unset" if f.default is None else "off" if f.default is False else f.default
        text = f"{f.metadata['help']} (default: {shown})".replace("%", "%%")
        common: dict[str, Any] = {"dest": f.name, "default": argparse.SUPPRESS, "help": text}
        if f.type == "bool":
            group.add_argument(_flag(f.name), action=argparse.BooleanOptionalAction, **common)
        else:
            choices = f.metadata.get("choices")
            metavar = (
                None
                if choices
                else "FILE"
                if f.metadata.get("path")
                else {int: "N", float: "X", str: "TEXT"}[_type_of(str(f.type))]
            )
            group.add_argument(_flag(f.name), type=_type_of(str(f.type)), choices=choices, metavar=metavar, **common)
    add_log(sub)
    sub.set_defaults(command=commands.run)


def _simulate(commands_: Any) -> None:
    sub = commands_.add_parser(
        "simulate",
        help="a fragment file with known cell types",
        description="Write PREFIX.fragments.tsv.gz, .cells.tsv (the truth), .genes.gtf, .peaks.bed and .chrom.sizes.",
    )
    sub.add_argument("--out", required=True, metavar="PREFIX", help="start of the file names")
    sub.add_argument("--cells", type=int, default=500, metavar="N", help="cells (default: 500)")
    sub.add_argument("--types", type=int, default=6, metavar="N", help="cell types (default: 6)")
    sub.add_argument("--batches", type=int, default=1, metavar="N", help="batches (default: 1)")
    sub.add_argument("--frags", type=float, default=5000, metavar="X", help="mean fragments of a cell (default: 5000)")
    sub.add_argument("--doublets", type=float, default=0.05, metavar="X", help="share of doublets (default: 0.05)")
    sub.add_argument("--genome", default="hg38", metavar="NAME", help="built-in assembly (default: hg38)")
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="seed (default: 0)")
    sub.add_argument("--force", action="store_true", help="replace existing files")
    add_log(sub)
    sub.set_defaults(command=commands.simulate)


def _fragments(commands_: Any) -> None:
    sub = commands_.add_parser(
        "fragments",
        help="a BAM file to a fragment file",
        description="Keep proper, primary, well-mapped pairs, collapse PCR copies by barcode, shift by the Tn5 offset.",
    )
    sub.add_argument("bam", metavar="BAM", help="BAM file, in any order")
    sub.add_argument("output", metavar="OUT", help="fragment file; .gz is written with BGZF")
    which = sub.add_mutually_exclusive_group()
    which.add_argument("--barcode-tag", default="CB", metavar="TAG", help="tag with the barcode (default: CB)")
    which.add_argument("--barcode-regex", metavar="RE", help="barcode in the read name: a pattern with one group")
    which.add_argument("--bulk", action="store_true", help="no barcodes: one sample, named by the file")
    sub.add_argument("--umi-tag", metavar="TAG", help="tag with a UMI, kept apart when copies are collapsed")
    sub.add_argument("--min-mapq", type=int, default=30, metavar="N", help="lowest mapping quality (default: 30)")
    sub.add_argument("--single-end", action="store_true", help="reads are not paired")
    sub.add_argument("--shift-left", type=int, default=4, metavar="N", help="bp added to the left cut (default: 4)")
    sub.add_argument("--shift-right", type=int, default=-5, metavar="N", help="bp added to the right cut (default: -5)")
    sub.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    sub.add_argument("--force", action="store_true", help="replace an existing file")
    add_log(sub)
    sub.set_defaults(command=commands.fragments)


def _info(commands_: Any) -> None:
    sub = commands_.add_parser(
        "info",
        help="device, versions and memory; or the history of an .h5ad",
        description="Without a file: device, versions and memory. With an .h5ad: what was done to it.",
    )
    sub.add_argument("file", nargs="?", metavar="FILE.h5ad", help="a file written by gpuatac")
    add_log(sub)
    sub.set_defaults(command=commands.info)
