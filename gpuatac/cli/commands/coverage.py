"""``gpuatac coverage``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuatac.cli.command import Command, Section
from gpuatac.cli.commands import _groups as groups
from gpuatac.cli.hints import Hint
from gpuatac.workflow import coverage, peaks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuatac.workflow import Written

REGIONS = ("blacklist", "include_for_norm", "exclude_for_norm")


def _told(result: Written, given: Mapping[str, Any]) -> str:
    lines = [f"{name}: {path.name}, {groups.cells(result.n_cells[name], given)}" for name, path in result.files.items()]
    return "\n".join([*lines, groups.written(result, given["out"])])


COMMAND = Command(
    name="coverage",
    job=coverage,
    report=_told,
    spread=groups.SPREAD,
    gather=groups.gathered,
    docs=(peaks,),
    examples=(
        "gpuatac coverage results/pbmc.h5ad --groupby cell_type --out tracks --normalization CPM --bin-size 25",
        "gpuatac coverage fragments.tsv.gz --genome hg38 --groups cell_types.tsv --out tracks",
    ),
    flags=groups.FLAGS,
    metavars={**groups.METAVARS, **dict.fromkeys(REGIONS, "BED"), "tempdir": "DIR"},
    helps={
        **groups.HELPS,
        "include_for_norm": "only reads that overlap these regions count in the scaling",
        "exclude_for_norm": "reads that overlap these regions do not count in the scaling",
        "normalization": "how counts are scaled",
        "max_frag_length": "longest fragment counted, in bp",
        "suffix": "end of the file names; by default .bw, or as the format asks",
        "smooth_base": "width of a moving average over the track, in bp",
    },
    hints=dict.fromkeys(REGIONS, Hint(str)),
    exclusive=groups.EXCLUSIVE,
    sections=(
        Section("Input and output", ("inputs", "out", "output_format", "force")),
        groups.CELLS,
        Section("Tracks", ("normalization", "bin_size", "counting_strategy", "max_frag_length", "blacklist", "bulk")),
        Section(
            "How tracks are made",
            ("denominator", "include_for_norm", "exclude_for_norm", "min_frag_length", "smooth_base"),
            more=True,
        ),
        Section("Files", ("prefix", "suffix", "compression", "compression_level", "n_jobs", "tempdir"), more=True),
        Section(groups.READING.title, groups.BAM, more=True),
        groups.MACHINE,
    ),
)
