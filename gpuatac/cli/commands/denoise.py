"""``gpuatac denoise``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuatac import tl
from gpuatac.cli.command import Command, Section
from gpuatac.cli.commands import _groups as groups
from gpuatac.cli.hints import Hint
from gpuatac.workflow import denoise, peaks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuatac.workflow.denoiser.denoise import Denoised

MOST_NAMED = 4  # files


def _gathered(given: dict[str, Any]) -> dict[str, Any]:
    given = groups.gathered(given)
    if "dilation" in given:
        given["dilation"] = given["dilation"][0] if len(given["dilation"]) == 1 else tuple(given["dilation"])
    return given


def _told(made: Denoised, given: Mapping[str, Any]) -> str:
    lines = []
    for name, reads in made.depth.items():
        n = made.n_cells.get(name)
        of = "" if n is None else f" of {n:,} cell{'s' if n != 1 else ''}"
        lines.append(f"{name}: {reads:,.0f} reads{of}, {made.n_peaks[name]:,} peaks")
    files = [path.name for by_group in made.files.values() for path in by_group.values()]
    shown = ", ".join(files[:MOST_NAMED]) + (f" and {len(files) - MOST_NAMED} more" if len(files) > MOST_NAMED else "")
    return "\n".join([*lines, f"written to {Path(given['out'])} in {made.seconds:.1f} s: {shown}"])


COMMAND = Command(
    name="denoise",
    job=denoise,
    report=_told,
    spread=groups.SPREAD,
    gather=_gathered,
    docs=(tl.denoise, peaks),
    examples=(
        "gpuatac denoise results/pbmc.h5ad --groupby cell_type --out denoised",
        "gpuatac denoise shallow.bw --genome hg38 --depth 5e6 --out denoised",
    ),
    flags={**groups.FLAGS, "output_format": "--format", "compiled": "--compile"},
    metavars={
        **groups.METAVARS,
        "model": "FILE",
        "depth": "READS",
        "signal_depth": "READS",
        "regions": "REGION",
        "extra": "FILE",
        "tracks": "TRACK",
    },
    helps={
        **groups.HELPS,
        "model": "checkpoint, of gpuatac train-denoiser or as AtacWorks published it; by default the weights that ship",
        "precision": "of the network; bfloat16 is faster where the hardware has it",
        "tracks": "signal, probability, both or none; by default both",
        "names": "names of the samples or of the tracks; by default the files' stems",
    },
    hints={
        "model": Hint(str),
        "regions": Hint(str, few=1),
        "blacklist": Hint(str),
        "dilation": Hint(int, few=1, many=2),
        "tracks": Hint(str, ("signal", "probability"), few=0),
    },
    exclusive=groups.EXCLUSIVE,
    sections=(
        Section("Input and output", ("inputs", "out", "model", "depth", "regions", "force")),
        groups.CELLS,
        Section("Peaks", ("cutoff", "max_gap", "min_length")),
        Section(
            "Files", ("output_format", "tracks", "decimals", "probability_decimals", "resolution", "prefix"), more=True
        ),
        Section(
            "Model", ("dilation", "extra", "footprint", "signal_depth", "blacklist", "precision", "compiled"), more=True
        ),
        groups.READING,
        groups.MACHINE,
    ),
)
