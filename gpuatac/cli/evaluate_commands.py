"""``gpuatac evaluate-denoiser``: call the job and print what it found."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def evaluate_denoiser(args: argparse.Namespace) -> int:
    """``gpuatac evaluate-denoiser``."""
    from gpuatac.cli.evaluate_arguments import GROUPS
    from gpuatac.workflow.denoiser.evaluate import evaluate_denoiser as job

    options = {name: getattr(args, name) for group in GROUPS.values() for name in group if hasattr(args, name)}
    found = job(
        options.pop("clean", None), args.out, device=args.device, memory=args.memory, force=args.force, **options
    )
    print(found.comparison.text())
    print(f"\nwritten to {args.out}: {', '.join(path.name for path in found.files)}")
    return 0
