"""What ``gpuatac peaks`` and ``gpuatac coverage`` take. An option that is not given has the default of the verb."""

from __future__ import annotations

import argparse
from typing import Any

from gpuatac.cli import group_commands
from gpuatac.cli.shared_arguments import add_log, add_machine

GENOME_SIZES = ("hs", "mm", "ce", "dm")
INPUTS = (
    "Inputs are one .h5ad written by gpuatac with --groupby COLUMN, or fragment files (10x fragments.tsv.gz, BED, BAM, "
    "a .fragments data set) with --genome and --groups TSV. Without groups each sample is one group."
)

#: Option of the verb: flag, what argparse gets, help. The default in brackets is the verb's, see tests/cli/test_groups.py.
PEAKS: dict[str, tuple[str, dict[str, Any], str]] = {
    "qvalue": ("--qvalue", {"type": float, "metavar": "X"}, "highest q-value (default: 0.05)"),
    "pvalue": ("--pvalue", {"type": float, "metavar": "X"}, "highest p-value instead of a q-value"),
    "call_summits": (
        "--no-summits",
        {"action": "store_const", "const": False},
        "one row for each region, not one for each subpeak",
    ),
    "call_broad_peaks": (
        "--broad",
        {"action": "store_const", "const": True},
        "broad regions: strong stretches linked by weaker ones",
    ),
    "broad_cutoff": (
        "--broad-cutoff",
        {"type": float, "metavar": "X"},
        "q-value (p-value with --pvalue) of the weaker stretches (default: 0.1)",
    ),
    "replicate_qvalue": (
        "--replicate-qvalue",
        {"type": float, "metavar": "X"},
        "q-value of the peaks of replicates (default: as --qvalue)",
    ),
    "min_frag_size": ("--min-frag-size", {"type": int, "metavar": "BP"}, "shortest fragment used"),
    "max_frag_size": (
        "--max-frag-size",
        {"type": int, "metavar": "BP"},
        "longest fragment used (180: nucleosome-free ones)",
    ),
    "selections": ("--select", {"nargs": "+", "metavar": "GROUP"}, "groups to use (default: all)"),
    "min_cells": ("--min-cells", {"type": int, "metavar": "N"}, "groups of fewer cells get no peaks (default: 1)"),
    "nolambda": (
        "--nolambda",
        {"action": "store_const", "const": True},
        "compare with the genome's rate alone, not with the surroundings",
    ),
    "shift": ("--shift", {"type": int, "metavar": "BP"}, "how far each cut is moved (default: -100)"),
    "extsize": ("--extsize", {"type": int, "metavar": "BP"}, "how wide each cut is made (default: 200)"),
    "min_len": (
        "--min-len",
        {"type": int, "metavar": "BP"},
        "shortest peak (default: --extsize; with --whole-fragments their mean length)",
    ),
    "max_gap": (
        "--max-gap",
        {"type": int, "metavar": "BP"},
        "widest gap bridged (default: 30; with --whole-fragments their mean length)",
    ),
    "counting_strategy": (
        "--whole-fragments",
        {"action": "store_const", "const": "fragment"},
        "pile up whole fragments (as macs3 -f BEDPE), not their two cuts",
    ),
    "use_counts": (
        "--use-counts",
        {"action": "store_const", "const": True},
        "count a fragment as often as it was copied (column 5 of the file)",
    ),
    "max_count": (
        "--max-count",
        {"type": int, "metavar": "N"},
        "count a copied fragment N times at most (default: as often as it was copied)",
    ),
    "genome_size": (
        "--genome-size",
        {"metavar": "SIZE"},
        "effective genome size: hs, mm, ce, dm or a number (default: the sum of the chromosomes)",
    ),
    "blacklist": ("--blacklist", {"metavar": "BED"}, "drop peaks that overlap these regions"),
    "exclude_chroms": (
        "--exclude-chroms",
        {"metavar": "NAMES"},
        "chromosomes left out, separated by commas, such as chrM",
    ),
}
COVERAGE: dict[str, tuple[str, dict[str, Any], str]] = {
    "bin_size": ("--bin-size", {"type": int, "metavar": "BP"}, "width of a bin (default: 10)"),
    "normalization": (
        "--normalization",
        {"choices": ("RPKM", "CPM", "BPM", "none")},
        "how the counts are scaled (default: RPKM)",
    ),
    "denominator": (
        "--denominator",
        {"choices": ("reads", "bases")},
        "what RPKM and CPM divide by: reads, or bases as SnapATAC2 does (default: reads)",
    ),
    "include_for_norm": (
        "--include-for-norm",
        {"metavar": "BED"},
        "only reads that overlap these regions count in the scaling",
    ),
    "exclude_for_norm": (
        "--exclude-for-norm",
        {"metavar": "BED"},
        "reads that overlap these regions do not count in the scaling",
    ),
    "blacklist": ("--blacklist", {"metavar": "BED"}, "leave out reads that overlap these regions"),
    "selections": ("--select", {"nargs": "+", "metavar": "GROUP"}, "groups to use (default: all)"),
    "min_frag_length": ("--min-frag-length", {"type": int, "metavar": "BP"}, "shortest fragment counted"),
    "max_frag_length": (
        "--max-frag-length",
        {"type": int, "metavar": "BP"},
        "longest fragment counted (default: 2000)",
    ),
    "counting_strategy": (
        "--counting-strategy",
        {"choices": ("fragment", "insertion")},
        "count every base of a fragment, or its two cuts (default: fragment)",
    ),
    "smooth_base": ("--smooth-base", {"type": int, "metavar": "BP"}, "width of a moving average over the track"),
    "prefix": ("--prefix", {"metavar": "TEXT"}, "start of the file names"),
    "output_format": (
        "--output-format",
        {"choices": ("bedgraph", "bigwig")},
        "default: what --suffix says, bigwig without it",
    ),
    "compression": (
        "--compression",
        {"choices": ("gzip", "zstandard")},
        "of bedGraph (default: what --suffix says, none without it)",
    ),
    "compression_level": (
        "--compression-level",
        {"type": int, "metavar": "N"},
        "1 to 9 for gzip, 1 to 22 for zstandard",
    ),
    "n_jobs": ("--n-jobs", {"type": int, "metavar": "N"}, "tracks written at a time (default: 8)"),
}


def peaks(commands_: Any) -> None:
    """``gpuatac peaks``."""
    sub = commands_.add_parser(
        "peaks",
        help="peaks of your own groups of cells, or of bulk samples",
        description=f"Call peaks in each group, with MACS3's numbers, and write one file for each. {INPUTS}",
    )
    _inputs(sub)
    group = sub.add_argument_group("peaks")
    for name, (flag, how, text) in PEAKS.items():
        group.add_argument(flag, dest=name, default=argparse.SUPPRESS, help=text, **how)
    group.add_argument(
        "--replicate",
        metavar="COLUMN",
        help="column of the cells or of --groups, or a table of barcode and replicate: peaks must be found in each "
        "replicate of a group",
    )
    out = sub.add_argument_group("outputs")
    out.add_argument(
        "--format",
        dest="output_format",
        choices=("narrowPeak", "broadPeak", "gappedPeak", "bed"),
        help="of the peak files (default: narrowPeak, broadPeak with --broad)",
    )
    out.add_argument("--prefix", default="", metavar="TEXT", help="start of the names of the peak files")
    out.add_argument("--consensus", action="store_true", help="also merge the peaks of all groups: consensus.bed")
    out.add_argument(
        "--flavor",
        choices=("snapatac2", "archr"),
        default="snapatac2",
        help="how they are merged (default: snapatac2); archr takes ranks and replicates into account",
    )
    out.add_argument(
        "--half-width",
        type=int,
        default=250,
        metavar="BP",
        help="bp of a consensus peak on either side of its summit (default: 250)",
    )
    out.add_argument(
        "--matrix", action="store_true", help="also count every cell in the consensus peaks: peaks.h5ad, consensus.bed"
    )
    sub.set_defaults(command=group_commands.peaks)


def coverage(commands_: Any) -> None:
    """``gpuatac coverage``."""
    sub = commands_.add_parser(
        "coverage",
        help="coverage tracks of your own groups of cells, or of bulk samples",
        description=f"Write one bigWig or bedGraph file for each group. {INPUTS}",
    )
    _inputs(sub)
    group = sub.add_argument_group("tracks")
    for name, (flag, how, text) in COVERAGE.items():
        group.add_argument(flag, dest=name, default=argparse.SUPPRESS, help=text, **how)
    group.add_argument("--suffix", metavar="TEXT", help="end of the file names (default: .bw, or as the format asks)")
    sub.set_defaults(command=group_commands.coverage)


def _inputs(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("inputs", nargs="+", metavar="INPUT", help="an .h5ad, or fragment files")
    sub.add_argument("--out", required=True, metavar="DIR", help="output folder")
    sub.add_argument("--force", action="store_true", help="replace existing files")
    add_machine(sub)
    add_log(sub)
    group = sub.add_argument_group("cells and their groups")
    group.add_argument(
        "--groupby", metavar="COLUMN", help="column of the .h5ad's cells, or of --groups, with the groups"
    )
    group.add_argument(
        "--groups",
        metavar="TSV",
        help="table of barcode (or sample#barcode) and group, header optional; cells it does not name are left out",
    )
    group.add_argument(
        "--genome", metavar="TEXT", help="of fragment files: hg38, hg19, mm10, mm39, or a chrom.sizes file"
    )
    group.add_argument("--contigs", choices=("main", "all"), help="chromosomes to keep (default: main)")
    group.add_argument("--names", nargs="+", metavar="NAME", help="sample names (default: the files' stems)")
    group.add_argument(
        "--bulk", action="store_true", help="BAM without barcodes: each file is one sample and one group"
    )
    which = group.add_mutually_exclusive_group()
    which.add_argument("--barcode-tag", metavar="TAG", help="of BAM: tag with the barcode (default: CB)")
    which.add_argument(
        "--barcode-regex", metavar="RE", help="of BAM: barcode in the read name, a pattern with one group"
    )
    group.add_argument("--min-mapq", type=int, metavar="N", help="of BAM: lowest mapping quality (default: 30)")
    group.add_argument("--single-end", action="store_true", help="of BAM: reads are not paired")
