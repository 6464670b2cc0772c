"""``gpuatac peaks`` and ``gpuatac coverage``: call the job and print what it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from gpuatac.workflow import Written

MOST_NAMED = 4  # files


def peaks(args: argparse.Namespace) -> int:
    """``gpuatac peaks``."""
    from gpuatac.cli.group_arguments import PEAKS
    from gpuatac.workflow import peaks as job

    options = {name: getattr(args, name) for name in PEAKS if hasattr(args, name)}
    if "genome_size" in options:
        options["genome_size"] = _genome_size(options["genome_size"])
    if "exclude_chroms" in options:
        options["exclude_chroms"] = [name.strip() for name in options["exclude_chroms"].split(",") if name.strip()]
    written = job(
        args.inputs,
        args.out,
        replicate=args.replicate,
        consensus=args.consensus,
        flavor=args.flavor,
        half_width=args.half_width,
        matrix=args.matrix,
        output_format=args.output_format,
        prefix=args.prefix,
        **_inputs(args),
        **options,
    )
    for name, n in written.n_peaks.items():
        print(f"{name}: {n:,} peaks of {_cells(written.n_cells[name], args)}")
    if written.consensus is not None:
        print(f"consensus: {written.n_consensus:,} regions of {2 * args.half_width + 1:,} bp")
    _tell(written, args.out)
    return 0


def coverage(args: argparse.Namespace) -> int:
    """``gpuatac coverage``."""
    from gpuatac.cli.group_arguments import COVERAGE
    from gpuatac.workflow import coverage as job

    options = {name: getattr(args, name) for name in COVERAGE if hasattr(args, name)}
    if options.get("normalization") == "none":
        options["normalization"] = None
    written = job(args.inputs, args.out, suffix=args.suffix, **_inputs(args), **options)
    for name, path in written.files.items():
        print(f"{name}: {path.name}, {_cells(written.n_cells[name], args)}")
    _tell(written, args.out)
    return 0


def _inputs(args: argparse.Namespace) -> dict[str, Any]:
    bam = {
        "barcode_tag": args.barcode_tag,
        "barcode_regex": args.barcode_regex,
        "min_mapq": args.min_mapq,
        "is_paired": False if args.single_end else None,
    }
    shared = ("groupby", "groups", "genome", "contigs", "names", "bulk", "device", "memory", "force")
    return {
        **{name: getattr(args, name) for name in shared},
        "bam_options": {name: value for name, value in bam.items() if value is not None},
    }


def _genome_size(text: str) -> float | str:
    """A number where ``text`` is one; ``tl.call_peaks`` refuses other names than its own."""
    try:
        return float(text)
    except ValueError:
        return text


def _cells(n: int, args: argparse.Namespace) -> str:
    if args.groups is None and args.groupby is None:
        return "a bulk sample" if n == 1 else f"{n:,} barcodes"
    return "1 cell" if n == 1 else f"{n:,} cells"


def _tell(written: Written, out: str) -> None:
    files = [*written.files.values(), *(path for path in (written.consensus, written.matrix) if path is not None)]
    shown = ", ".join(path.name for path in files[:MOST_NAMED])
    rest = f" and {len(files) - MOST_NAMED} more" if len(files) > MOST_NAMED else ""
    print(f"written to {Path(out)}: {shown}{rest}")
