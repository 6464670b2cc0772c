"""``gpuatac denoise``: call the job and print what it made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gpuatac.cli.group_commands import _inputs

if TYPE_CHECKING:
    import argparse


def denoise(args: argparse.Namespace) -> int:
    """``gpuatac denoise``."""
    from gpuatac.cli.denoise_arguments import SECTIONS
    from gpuatac.workflow.denoiser.denoise import denoise as job

    options = {name: getattr(args, name) for _, section in SECTIONS for name in section if hasattr(args, name)}
    if "dilation" in options:
        options["dilation"] = options["dilation"][0] if len(options["dilation"]) == 1 else tuple(options["dilation"])
    made = job(args.inputs, args.out, **_inputs(args), **options)
    for name, reads in made.depth.items():
        n = made.n_cells.get(name)
        cells = "" if n is None else f" of {n:,} cell{'s' if n != 1 else ''}"
        print(f"{name}: {reads:,.0f} reads{cells}, {made.n_peaks[name]:,} peaks")
    files = [path.name for by_group in made.files.values() for path in by_group.values()]
    shown = ", ".join(files[:4]) + (f" and {len(files) - 4} more" if len(files) > 4 else "")
    print(f"written to {Path(args.out)} in {made.seconds:.1f} s: {shown}")
    return 0
