"""What the commands on groups of cells share: how cells are given, and how results are told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuatac.cli.command import Section
from gpuatac.io.fragments.bam import make_fragment_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuatac.workflow import Written

MOST_NAMED = 4  # files
BAM = ("barcode_tag", "barcode_regex", "min_mapq", "is_paired")
SPREAD = {"bam_options": ((make_fragment_file, BAM),)}
EXCLUSIVE = (("barcode_tag", "barcode_regex"),)
FLAGS = {"inputs": "INPUT", "selections": "--select", "is_paired": "--single-end"}
METAVARS = {
    "out": "DIR", "groupby": "COLUMN", "groups": "TSV", "names": "NAME", "barcode_tag": "TAG", "barcode_regex": "RE", "memory": "SIZE",
    "log": "FILE", "selections": "GROUP", "blacklist": "BED",
}  # fmt: skip
HELPS = {
    "barcode_tag": "of BAM: tag with the barcode (default: CB)",
    "barcode_regex": "of BAM: barcode in the read name, a pattern with one group",
    "min_mapq": "of BAM: lowest mapping quality (default: 30)",
    "is_paired": "of BAM: reads are not paired",
    "blacklist": "BED file of regions; what overlaps one is left out",
}
CELLS = Section("Cells and their groups", ("groupby", "groups", "selections", "genome", "contigs", "names"))
READING = Section("Reading of BAM files", ("bulk", *BAM), more=True)
MACHINE = Section("This machine", ("device", "memory", "threads", "quiet", "log"), more=True)


def gathered(given: dict[str, Any]) -> dict[str, Any]:
    """What was said of BAM files in one place."""
    return {**{k: v for k, v in given.items() if k not in BAM}, "bam_options": {k: given[k] for k in BAM if k in given}}


def cells(n: int, given: Mapping[str, Any]) -> str:
    """A number of cells in words."""
    if given.get("groups") is None and given.get("groupby") is None:
        return "a bulk sample" if n == 1 else f"{n:,} barcodes"
    return "1 cell" if n == 1 else f"{n:,} cells"


def written(result: Written, out: str) -> str:
    """Where the files are."""
    files = [*result.files.values(), *(path for path in (result.consensus, result.matrix) if path is not None)]
    shown = ", ".join(path.name for path in files[:MOST_NAMED])
    rest = f" and {len(files) - MOST_NAMED} more" if len(files) > MOST_NAMED else ""
    return f"written to {Path(out)}: {shown}{rest}"
