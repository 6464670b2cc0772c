"""``gpuatac peaks``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuatac.cli.command import Command, Section
from gpuatac.cli.commands import _groups as groups
from gpuatac.cli.hints import Hint
from gpuatac.cli.shared import logs, machine
from gpuatac.workflow import peaks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuatac.workflow import Written

HALF_WIDTH = 250


def _gathered(given: dict[str, Any]) -> dict[str, Any]:
    given = groups.gathered(given)
    if "genome_size" in given:
        given["genome_size"] = _genome_size(given["genome_size"])
    if "exclude_chroms" in given:
        given["exclude_chroms"] = [name.strip() for name in given["exclude_chroms"].split(",") if name.strip()]
    if given.pop("whole_fragments", False):
        given["counting_strategy"] = "fragment"
    return given


def _genome_size(text: str) -> float | str:
    """A number where ``text`` is one; ``tl.call_peaks`` refuses other names than its own."""
    try:
        return float(text)
    except ValueError:
        return text


def _told(result: Written, given: Mapping[str, Any]) -> str:
    lines = [
        f"{name}: {n:,} peaks of {groups.cells(result.n_cells[name], given)}" for name, n in result.n_peaks.items()
    ]
    if result.consensus is not None:
        width = 2 * given.get("half_width", HALF_WIDTH) + 1
        lines.append(f"consensus: {result.n_consensus:,} regions of {width:,} bp")
    return "\n".join([*lines, groups.written(result, given["out"])])


def whole(whole_fragments: bool = False) -> None:  # noqa: FBT001, FBT002 (a command line gives names)
    """How a pileup is made.

    Parameters
    ----------
    whole_fragments
        Pile up whole fragments (as macs3 -f BEDPE), not their two cuts.
    """


COMMAND = Command(
    name="peaks",
    job=peaks,
    report=_told,
    beside=(logs, machine, whole),
    spread=groups.SPREAD,
    gather=_gathered,
    examples=(
        "gpuatac peaks results/pbmc.h5ad --groupby cell_type --out peaks --consensus --matrix",
        "gpuatac peaks fragments.tsv.gz --genome hg38 --groups cell_types.tsv --out peaks --max-frag-size 180",
        "gpuatac peaks liver.bam brain.bam --genome mm10 --bulk --out peaks --genome-size mm --consensus",
    ),
    flags={
        **groups.FLAGS,
        "call_summits": "--no-summits",
        "call_broad_peaks": "--broad",
        "output_format": "--format",
    },
    metavars={**groups.METAVARS, "replicate": "COLUMN", "genome_size": "SIZE", "exclude_chroms": "NAMES"},
    helps={
        **groups.HELPS,
        "call_broad_peaks": "broad regions: strong stretches linked by weaker ones",
        "call_summits": "one row for each region, not one for each subpeak",
        "exclude_chroms": "chromosomes left out, separated by commas, such as chrM",
        "genome_size": "effective genome size: hs, mm, ce, dm or a number; by default the sum of the chromosomes",
        "use_counts": "count a fragment as often as it was copied (column 5 of the file)",
    },
    hints={"genome_size": Hint(str), "exclude_chroms": Hint(str), "blacklist": Hint(str), "replicate": Hint(str)},
    exclusive=groups.EXCLUSIVE,
    sections=(
        Section("Input and output", ("inputs", "out", "consensus", "matrix", "output_format", "raw_scores", "force")),
        groups.CELLS,
        Section(
            "Peaks",
            ("qvalue", "call_broad_peaks", "max_frag_size", "genome_size", "blacklist", "exclude_chroms", "bulk"),
        ),
        Section(
            "How peaks are called",
            (
                "pvalue",
                "call_summits",
                "broad_cutoff",
                "min_frag_size",
                "min_cells",
                "nolambda",
                "shift",
                "extsize",
                "min_len",
                "max_gap",
                "whole_fragments",
                "use_counts",
                "max_count",
            ),
            more=True,
        ),
        Section(
            "Replicates and consensus", ("replicate", "replicate_qvalue", "flavor", "half_width", "prefix"), more=True
        ),
        Section(groups.READING.title, groups.BAM, more=True),
        groups.MACHINE,
    ),
)
