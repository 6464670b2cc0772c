"""What each command does: call a verb and print its result."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def run(args: argparse.Namespace) -> int:
    """``gpuatac run``."""
    from gpuatac.options import RunOptions
    from gpuatac.workflow import run as run_job

    options = {f.name: getattr(args, f.name) for f in fields(RunOptions) if hasattr(args, f.name)}
    result = run_job(
        args.fragments,
        args.out,
        names=args.names,
        device=args.device,
        force=args.force,
        from_step=args.from_step,
        truth=args.truth,
        memory=args.memory,
        **options,
    )
    print(result.summary.read_text(), end="")
    parts = [
        str(result.h5ad),
        str(result.summary),
        f"{len(result.figures)} figures in {result.h5ad.with_suffix('.figures')}",
    ]
    if result.peaks is not None:
        parts += [f"peaks in {result.peaks}", str(result.peak_matrix)]
    if result.coverage:
        parts.append(f"{len(result.coverage)} coverage tracks in {result.coverage[0].parent}")
    print(f"written: {', '.join(parts[:-1])} and {parts[-1]}")
    return 0


def simulate(args: argparse.Namespace) -> int:
    """``gpuatac simulate``."""
    from gpuatac.simulate import simulate_fragments

    made = simulate_fragments(
        args.out,
        n_cells=args.cells,
        n_types=args.types,
        n_batches=args.batches,
        fragments_per_cell=args.frags,
        doublet_rate=args.doublets,
        genome=args.genome,
        seed=args.seed,
        force=args.force,
    )
    print(
        f"written: {made.fragments} ({made.n_fragments:,} fragments of {made.n_cells:,} cells) and, beside it, "
        f"{', '.join(p.name for p in (made.cells, made.genes, made.peaks, made.chrom_sizes))}"
    )
    return 0


def fragments(args: argparse.Namespace) -> int:
    """``gpuatac fragments``."""
    from gpuatac.io.fragments.bam import make_fragment_file

    no_tag = args.bulk or args.barcode_regex is not None
    summary = make_fragment_file(
        args.bam,
        args.output,
        barcode_tag=None if no_tag else args.barcode_tag,
        barcode_regex=args.barcode_regex,
        umi_tag=args.umi_tag,
        min_mapq=args.min_mapq,
        is_paired=not args.single_end,
        shift_left=args.shift_left,
        shift_right=args.shift_right,
        n_threads=args.threads,
        force=args.force,
    )
    print(summary.as_text())
    print(f"written: {args.output}")
    return 0


def info(args: argparse.Namespace) -> int:
    """``gpuatac info``."""
    from gpuatac.cli.information import describe_file, describe_machine

    print(describe_file(Path(args.file)) if args.file else describe_machine())
    return 0
