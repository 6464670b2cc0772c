"""``gpuatac evaluate-denoiser``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuatac.cli.command import Command, Section
from gpuatac.cli.hints import Hint
from gpuatac.workflow import evaluate_denoiser

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuatac.workflow.denoiser.evaluate import Evaluation


def _gathered(given: dict[str, Any]) -> dict[str, Any]:
    return {"clean": None, **given}


def _told(found: Evaluation, given: Mapping[str, Any]) -> str:
    return f"{found.comparison.text()}\n\nwritten to {given['out']}: {', '.join(path.name for path in found.files)}"


COMMAND = Command(
    name="evaluate-denoiser",
    job=evaluate_denoiser,
    report=_told,
    gather=_gathered,
    examples=(
        "gpuatac evaluate-denoiser --clean deep.bw --noisy shallow.bw --denoised denoised/shallow.signal.bw "
        "--probability denoised/shallow.probability.bw --tune-chroms chr20 --bootstrap 1000 --out judged",
        "gpuatac evaluate-denoiser --clean deep.bw --denoised denoised/shallow.signal.bw --out judged",
    ),
    metavars={
        "clean": "TRACK",
        "noisy": "TRACK",
        "denoised": "TRACK",
        "probability": "TRACK",
        "names": "NAME",
        "h5": "FILE",
        "intervals": "BED",
        "peaks": "BED",
        "regions": "REGION",
        "chroms": "NAME",
        "tune_chroms": "NAME",
        "clean_depth": "READS",
        "noisy_depth": "READS",
        "locus": "REGION",
        "figure": "NAME",
        "out": "DIR",
        "memory": "SIZE",
        "log": "FILE",
    },
    helps={
        "peaks": "BED file of the peaks of the deep library",
        "genome": "hg38, hg19, mm10, mm39 or a chrom.sizes file; needed for bedGraph and HDF5, else the clean bigWig tells",
        "regions": "evaluate these only: a BED file, chr1, or chr1:1-2000 (0-based, half-open)",
    },
    hints={"clean": Hint(str, optional=True), "peaks": Hint(str), "regions": Hint(str, few=1)},
    optional=("clean",),
    sections=(
        Section(
            "Input and output",
            ("clean", "out", "noisy", "denoised", "probability", "names", "peaks", "genome", "force"),
        ),
        Section("What is compared", ("chroms", "tune_chroms", "regions", "bootstrap", "locus", "figure")),
        Section("HDF5 files", ("h5", "intervals", "pad"), more=True),
        Section(
            "Depths and cutoffs",
            ("peak_cutoff", "threshold", "clean_depth", "noisy_depth", "scale", "half_width"),
            more=True,
        ),
        Section("Intervals of differences", ("block", "level", "seed"), more=True),
        Section("This machine", ("device", "memory", "threads", "quiet", "log"), more=True),
    ),
)
