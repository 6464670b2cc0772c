"""What a run did, in numbers and in words."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gpuatac import pp, slots
from gpuatac.errors import FileFormatError
from gpuatac.fragments import ReadSummary
from gpuatac.io.atomic import replacing
from gpuatac.pp._cells import filter_text

if TYPE_CHECKING:
    from anndata import AnnData

    from gpuatac.genome import Genome
    from gpuatac.options import RunOptions


def report_of(
    adata: AnnData,
    options: RunOptions,
    genome: Genome,
    *,
    device: Any,
    seconds: dict[str, float],
    total: float,
    from_step: str | None,
    truth: str | Path | None,
) -> dict[str, Any]:
    """The numbers of the summary."""
    from gpuatac import __version__

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
        "n_cells": adata.n_obs,
        "n_tiles": adata.n_vars,
        "median_n_fragment": float(np.median(obs[slots.N_FRAGMENT])),
        "seconds": seconds,
        "total_seconds": round(total, 2),
        "peak_memory_bytes": device.memory()["peak"],
    }
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
    if truth is not None:
        out["truth"] = compare_with_truth(adata, Path(truth))
    return out


def compare_with_truth(adata: AnnData, path: Path) -> dict[str, Any]:
    """Agreement of clusters and doublet calls with a table of known cells."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    table = pd.read_csv(path, sep="\t", dtype={"barcode": str})
    missing = [c for c in ("barcode", "cell_type") if c not in table]
    if missing:
        raise FileFormatError(
            path,
            f"no column {missing[0]!r}",
            "a table with barcode and cell_type, tab-separated",
            "name the columns in the first line",
            line=1,
        )
    table = table.set_index("barcode")
    barcodes = adata.obs[slots.BARCODE] if slots.BARCODE in adata.obs else adata.obs_names
    known = table.reindex([str(b) for b in barcodes])
    labelled = known["cell_type"].notna().to_numpy(copy=True)
    if "is_cell" in known:
        labelled &= known["is_cell"].fillna(0).to_numpy().astype(bool)
    out: dict[str, Any] = {"n_labelled": int(labelled.sum()), "n_not_cells": int((~labelled).sum())}
    if slots.LEIDEN in adata.obs and labelled.any():
        types = known["cell_type"].astype(str).to_numpy()
        clusters = adata.obs[slots.LEIDEN].astype(str).to_numpy()
        out["n_types"] = int(np.unique(types[labelled]).size)
        out["ari"] = float(adjusted_rand_score(types[labelled], clusters[labelled]))
        out["nmi"] = float(normalized_mutual_info_score(types[labelled], clusters[labelled]))
        if "is_doublet" in known:
            single = labelled & ~known["is_doublet"].fillna(0).to_numpy().astype(bool)
            out["ari_without_doublets"] = float(adjusted_rand_score(types[single], clusters[single]))
    if "is_doublet" in table:
        doublets = set(table.index[table["is_doublet"].astype(bool)])
        out["n_true_doublets"] = len(doublets)
        out["n_true_doublets_left"] = int(sum(str(b) in doublets for b in barcodes))
    return out


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
            f", median TSS enrichment {report['median_tsse']:.1f} (library {report['library_tsse']:.1f})"
            if "median_tsse" in report
            else ""
        )
    )
    for name, d in report.get("doublets", {}).items():
        where = "" if name == "all" else f" of {name}"
        lines.append(
            f"  doublets{where}: {d['detected_doublet_rate']:.1%} called (expected {d['expected_doublet_rate']:.0%}), "
            f"score threshold {d['threshold']:.3f}"
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
    if "truth" in report:
        lines += ["", *_truth_lines(report["truth"])]
    steps = ", ".join(f"{k} {v:.1f}" for k, v in report["seconds"].items())
    lines += [
        "",
        f"seconds: {steps}; total {report['total_seconds']:.1f}",
        f"peak memory: {report['peak_memory_bytes'] / 2**30:.1f} GiB",
    ]
    return "\n".join(lines) + "\n"


def _truth_lines(t: dict[str, Any]) -> list[str]:
    lines = [
        f"compared with the truth: {t['n_labelled']:,} cells with a known type, {t['n_not_cells']:,} barcodes without"
    ]
    if "ari" in t:
        single = f" ({t['ari_without_doublets']:.3f} without true doublets)" if "ari_without_doublets" in t else ""
        lines.append(f"  ARI {t['ari']:.3f}{single}, NMI {t['nmi']:.3f}, {t['n_types']} true types")
    if "n_true_doublets" in t:
        lines.append(
            f"  true doublets: {t['n_true_doublets']:,}, of these still among the cells: {t['n_true_doublets_left']:,}"
        )
    return lines


def write(report: dict[str, Any], folder: Path, label: str) -> Path:
    """Write ``<label>.summary.txt`` and ``.json``; the path of the text."""
    text = folder / f"{label}.summary.txt"
    with replacing(text, force=True) as partial:
        partial.write_text(as_text(report))
    with replacing(folder / f"{label}.summary.json", force=True) as partial:
        partial.write_text(json.dumps(report, indent=1, default=str))
    return text
