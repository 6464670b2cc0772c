"""What a run did, in numbers and in words."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac import pp, slots
from gpuatac.fragments import ReadSummary
from gpuatac.io.files.atomic import replacing
from gpuatac.io.fragments.attach import records_of
from gpuatac.memory import get_memory, peak
from gpuatac.pp.cell_filters import filter_text
from gpuatac.workflow.main_job import by_cluster
from gpuatac.workflow.main_job.steps import skipped
from gpuatac.workflow.main_job.truth import as_lines as truth_lines

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from gpuatac.genome import Genome
    from gpuatac.options import RunOptions
    from gpuatac.workflow.main_job.by_cluster import Made

logger = logging.getLogger(__name__)
COMPILING = "compiling (first use only)"


def report_of(
    adata: AnnData,
    options: RunOptions,
    genome: Genome,
    *,
    device: Any,
    seconds: dict[str, float],
    total: float,
    from_step: str | None,
    truth: dict[str, Any] | None,
    made: Made,
) -> dict[str, Any]:
    """The numbers of the summary."""
    from gpuatac._version import __version__

    obs = adata.obs
    out: dict[str, Any] = {
        "version": __version__,
        "device": device.name,
        "from_step": from_step,
        "genome": {
            "name": genome.name,
            "contigs": genome.contigs,
            "n_chromosomes": len(genome.names),
            "n_transcripts": 0 if genome.transcripts is None else len(genome.transcripts),
        },
        "options": asdict(options),
        "reading": {name: {**asdict(s), "accounted": s.accounted} for name, s in pp.read_summaries(adata).items()},
        "filters": pp.filter_reports(adata),
        "skipped": skipped(adata),
        "n_cells": adata.n_obs,
        "cells_per_sample": _cells_per_sample(adata),
        "n_tiles": adata.n_vars,
        "median_n_fragment": float(np.median(obs[slots.N_FRAGMENT])),
        "seconds": seconds,
        "total_seconds": round(total, 2),
        "peak_memory_bytes": peak(),
        "memory_limit_bytes": get_memory(),
    }
    if device.name == "gpu":
        out["peak_device_memory_bytes"] = device.memory()["peak"]
        out["device_memory_limit_bytes"] = device.limit()
    if slots.TSSE in obs:
        out["median_tsse"] = float(np.median(obs[slots.TSSE]))
        out["library_tsse"] = float(adata.uns[slots.LIBRARY_TSSE])
    if slots.SELECTED in adata.var:
        out["n_selected_tiles"] = int(adata.var[slots.SELECTED].sum())
    if slots.SPECTRAL in adata.uns:
        used = np.asarray(adata.uns[slots.SPECTRAL]["used"], bool)
        r = np.asarray(adata.uns[slots.SPECTRAL]["depth_correlation"])
        out["components_left_out"] = {int(i) + 1: round(float(r[i]), 3) for i in np.flatnonzero(~used)}
    if slots.SCRUBLET in adata.uns:
        out["doublets"] = {
            name: {k: v for k, v in entry.items() if k != "sim_doublet_score"}
            for name, entry in adata.uns[slots.SCRUBLET]["samples"].items()
        }
    if slots.LEIDEN in obs:
        out["clusters"] = {str(k): int(v) for k, v in obs[slots.LEIDEN].value_counts(sort=False).items()}
        out["modularity"] = float(adata.uns[slots.LEIDEN]["modularity"])
    out |= by_cluster.report_of(adata, options, made)
    if truth is not None:
        out["truth"] = truth
    out = plain(out)
    out["warnings"] = _warnings(out)
    for text in out["warnings"]:
        logger.warning("%s", text)
    return out


def _cells_per_sample(adata: AnnData) -> dict[str, int]:
    """Cells left of each sample that was given; 0 for those the filters emptied."""
    names = [record["sample"] for record in records_of(adata)]
    if slots.SAMPLE not in adata.obs:
        return {names[0]: adata.n_obs}
    found = adata.obs[slots.SAMPLE].astype(str).value_counts()
    return {name: int(found.get(name, 0)) for name in names}


def _warnings(report: dict[str, Any]) -> list[str]:
    out = []
    emptied = [name for name, n in report["cells_per_sample"].items() if not n]
    if emptied:
        out.append(
            f"no cell is left of {', '.join(emptied)}: the filters emptied {'it' if len(emptied) == 1 else 'them'}"
        )
    return out


def plain(value: Any) -> Any:
    """``value`` as strict JSON takes it: NaN and infinity become None, NumPy scalars Python's own."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _shown(value: float | None, spec: str) -> str:
    return "not defined" if value is None else format(value, spec)


def as_text(report: dict[str, Any]) -> str:
    """The summary as a stranger reads it."""
    g = report["genome"]
    lines = [
        f"gpuatac {report['version']} on {report['device']}",
        f"genome {g['name']}: {g['n_chromosomes']} chromosomes (contigs: {g['contigs']}), {g['n_transcripts']:,} transcripts",
    ]
    if not g["n_transcripts"]:
        lines.append("no genes were given (--genes): no TSS enrichment, no TSS filter, no gene activity")
    lines.append("")
    lines.append("reading")
    for name, entry in report["reading"].items():
        summary = {k: v for k, v in entry.items() if k != "accounted"}
        text = ReadSummary(**summary).as_text()
        lines += [f"  {name}: " + text.replace("\n", "\n  ")]
    if report["filters"]:
        lines += ["", "cells"]
        lines += [f"  {f['verb']}: {filter_text(f)}" for f in report["filters"]]
    lines.append(
        f"  kept: {report['n_cells']:,} cells, median {report['median_n_fragment']:,.0f} fragments"
        + (
            f", median TSS enrichment {_shown(report['median_tsse'], '.1f')} (library {_shown(report['library_tsse'], '.1f')})"
            if "median_tsse" in report
            else ""
        )
    )
    if len(report["cells_per_sample"]) > 1:
        each = ", ".join(
            f"{name} {n:,}" if n else f"{name} 0 (emptied by the filters)"
            for name, n in report["cells_per_sample"].items()
        )
        lines.append(f"  of each sample: {each}")
    for name, d in report.get("doublets", {}).items():
        where = "" if name == "all" else f" of {name}"
        lines.append(
            f"  doublets{where}: {d['detected_doublet_rate']:.1%} called (expected {d['expected_doublet_rate']:.0%}), "
            + ("no threshold (one mode)" if d["threshold"] is None else f"score threshold {d['threshold']:.3f}")
        )
    if report["n_tiles"]:
        selected = f", {report['n_selected_tiles']:,} selected" if "n_selected_tiles" in report else ""
        lines += [
            "",
            f"matrix: {report['n_cells']:,} cells x {report['n_tiles']:,} tiles of "
            f"{report['options']['bin_size']:,} bp{selected}",
        ]
    if report.get("components_left_out"):
        left = ", ".join(f"{i} (r = {r:.2f})" for i, r in report["components_left_out"].items())
        lines.append(f"components left out of the neighbours (they follow depth, or are the trivial first): {left}")
    if "clusters" in report:
        sizes = ", ".join(f"{k}: {v:,}" for k, v in report["clusters"].items())
        lines.append(f"{len(report['clusters'])} Leiden clusters (modularity {report['modularity']:.3f}): {sizes}")
    lines += by_cluster.as_lines(report)
    if "truth" in report:
        lines += ["", *truth_lines(report["truth"])]
    if report["skipped"]:
        lines += ["", "skipped", *(f"  {step}: {why}" for step, why in report["skipped"].items())]
    if report["warnings"]:
        lines += ["", *(f"warning: {text}" for text in report["warnings"])]
    in_order = sorted(report["seconds"].items(), key=lambda step: step[0] == COMPILING)  # it comes last
    steps = ", ".join(f"{k} {v:.1f}" for k, v in in_order)
    lines += [
        "",
        f"seconds: {steps}; total {report['total_seconds']:.1f}",
        f"peak memory: {report['peak_memory_bytes'] / 2**30:.1f} GiB (limit {report['memory_limit_bytes'] / 2**30:.1f} GiB)",
    ]
    if "peak_device_memory_bytes" in report:
        peak_device, limit = (report[f"{name}_bytes"] / 2**30 for name in ("peak_device_memory", "device_memory_limit"))
        lines.append(f"peak memory of the GPU: {peak_device:.1f} GiB (limit {limit:.1f} GiB)")
    return "\n".join(lines) + "\n"


def write(report: dict[str, Any], folder: Path, label: str) -> Path:
    """Write ``<label>.summary.txt`` and ``.json``; the path of the text."""
    text = folder / f"{label}.summary.txt"
    with replacing(text, force=True) as partial:
        partial.write_text(as_text(report))
    with replacing(folder / f"{label}.summary.json", force=True) as partial:
        partial.write_text(json.dumps(plain(report), indent=1, allow_nan=False))
    return text
