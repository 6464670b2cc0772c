"""``gpuatac simulate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuatac.cli.command import Command, Section
from gpuatac.cli.shared import logs
from gpuatac.simulate import simulate_fragments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuatac.simulate import Simulation


def _told(made: Simulation, _given: Mapping[str, Any]) -> str:
    beside = ", ".join(p.name for p in (made.cells, made.genes, made.peaks, made.chrom_sizes))
    return (
        f"written: {made.fragments} ({made.n_fragments:,} fragments of {made.n_cells:,} cells) and, beside it, {beside}"
    )


COMMAND = Command(
    name="simulate",
    job=simulate_fragments,
    report=_told,
    beside=(logs,),
    examples=(
        "gpuatac simulate --out sample --cells 100 --types 3",
        "gpuatac simulate --out deep --cells 20 --frags 20000 --seed 1",
    ),
    flags={
        "prefix": "--out",
        "n_cells": "--cells",
        "n_types": "--types",
        "n_batches": "--batches",
        "fragments_per_cell": "--frags",
        "doublet_rate": "--doublets",
    },
    metavars={"prefix": "PREFIX", "log": "FILE", "genome": "TEXT"},
    helps={"genome": "hg38, hg19, mm10, mm39, or a chrom.sizes, .fai or FASTA file"},
    sections=(
        Section("Output", ("prefix", "force", "quiet")),
        Section("Sample", ("n_cells", "n_types", "n_batches", "fragments_per_cell", "doublet_rate", "genome", "seed")),
        Section(
            "How cells differ",
            ("specific_fraction", "state_effect", "batch_effect", "frip", "tss_share", "n_genes", "n_distal_peaks"),
            more=True,
        ),
        Section(
            "Noise", ("empty_per_cell", "fragments_per_empty", "mito_fraction", "duplicate_rate", "log"), more=True
        ),
    ),
)
