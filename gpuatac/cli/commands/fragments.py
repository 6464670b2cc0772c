"""``gpuatac fragments``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuatac.cli.command import Command, Section
from gpuatac.cli.shared import logs
from gpuatac.io.fragments.bam import make_fragment_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuatac.io.fragments.bam_summary import BamSummary


def without_barcodes(bulk: bool = False) -> None:  # noqa: FBT001, FBT002 (a command line gives names)
    """Whose reads they are.

    Parameters
    ----------
    bulk
        No barcodes: one sample, named by the file.
    """


def _gathered(given: dict[str, Any]) -> dict[str, Any]:
    if given.pop("bulk", False) or "barcode_regex" in given:
        given["barcode_tag"] = None
    return given


def _told(summary: BamSummary, given: Mapping[str, Any]) -> str:
    return f"{summary.as_text()}\nwritten: {given['output_file']}"


COMMAND = Command(
    name="fragments",
    job=make_fragment_file,
    report=_told,
    beside=(logs, without_barcodes),
    gather=_gathered,
    examples=(
        "gpuatac fragments possorted_bam.bam fragments.tsv.gz",
        "gpuatac fragments liver.bam liver.bed.gz --bulk --min-mapq 10",
    ),
    flags={"bam_file": "BAM", "output_file": "OUT", "is_paired": "--single-end", "n_threads": "--threads"},
    metavars={
        "barcode_tag": "TAG",
        "barcode_regex": "RE",
        "umi_tag": "TAG",
        "umi_regex": "RE",
        "log": "FILE",
        "chrM": "NAME",
        "contigs": "NAME",
    },
    helps={
        "bam_file": "BAM file, in any order",
        "barcode_tag": "tag with the barcode (default: CB)",
        "barcode_regex": "barcode in the read name: a pattern with one group",
        "umi_tag": "tag with a UMI, kept apart when copies are collapsed",
        "umi_regex": "UMI in the read name: a pattern with one group",
        "min_mapq": "lowest mapping quality",
        "is_paired": "reads are not paired: each is a row, from alignment start to end",
        "shift_left": "bp added to the left cut of a pair",
        "shift_right": "bp added to the right cut of a pair",
        "chrM": "mitochondrial contigs, for the share that is not nuclear",
        "contigs": "contigs to keep, in the BAM's spelling; by default all",
        "n_threads": "CPU threads; by default all cores",
        "force": "replace an existing file",
    },
    exclusive=(
        ("barcode_tag", "barcode_regex"),
        ("barcode_tag", "bulk"),
        ("barcode_regex", "bulk"),
        ("umi_tag", "umi_regex"),
    ),
    sections=(
        Section("Input and output", ("bam_file", "output_file", "force", "quiet")),
        Section("Barcodes", ("barcode_tag", "barcode_regex", "bulk", "umi_tag", "umi_regex")),
        Section("Reads", ("min_mapq", "is_paired", "shift_left", "shift_right")),
        Section("Contigs and machine", ("contigs", "chrM", "source", "n_threads", "log"), more=True),
    ),
)
