"""What a track figure shows, computed from the fragments of its window and taken from frames of regions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from gpuatac import slots
from gpuatac.core.tracks import locus
from gpuatac.core.tracks.locus import Window
from gpuatac.errors import InputError, MissingSlotError
from gpuatac.io.fragments.pseudobulk import grouped_samples
from gpuatac.io.fragments.window import window_fragments
from gpuatac.io.genome.bed import regions_frame
from gpuatac.io.genome.cytobands import read_cytobands
from gpuatac.io.genome.gene_models import Locus, annotation_of, locate_gene
from gpuatac.io.genome.regions import parse_region
from gpuatac.io.genome.regions import window_of as window_of_region
from gpuatac.io.genome.transcripts import tss_table

if TYPE_CHECKING:
    from anndata import AnnData

    from gpuatac.core.tracks.pseudobulk import FragmentFilter
    from gpuatac.genome import Genome

UNITS = {
    "cells": "per 1,000 cells",
    "reads": "per million fragments",
    "tss": "per 10,000 fragments at TSSs",
    None: "",
}
FACTORS = {"cells": 1e3, "reads": 1e6, "tss": 1e4}


class Coverage(NamedTuple):
    """Tracks of one window: ``values`` float64 (n_groups, n_bins), the mean over the bases of each bin."""

    names: list[str]
    n_cells: np.ndarray
    edges: np.ndarray  # int64 (n_bins + 1,), bp
    values: np.ndarray
    denominators: np.ndarray | None  # int64 (n_groups,): cells or fragments


class Bars(NamedTuple):
    """Regions inside the window: int64 (n,), cut at its ends."""

    start: np.ndarray
    end: np.ndarray


def window_of(
    genome: Genome,
    transcripts: pd.DataFrame | None,
    *,
    gene: str | None,
    region: Any,
    upstream: int,
    downstream: int,
) -> tuple[Window, Locus | None]:
    """The window to draw, and the gene it was asked for."""
    if (gene is None) == (region is None):
        found = "neither" if gene is None else f"both ({gene!r} and {region!r})"
        msg = f"give either gene or region, got {found}; for example gene='CD3D' or region='chr11:118,300,000-118,400,000'."
        raise InputError(msg)
    if gene is not None:
        if transcripts is None:
            msg = f"gene {gene!r} is looked up in genes=, which is None; pass a Genome with transcripts or a GTF file."
            raise InputError(msg)
        place = locate_gene(transcripts, gene, genome)
        left, right = (upstream, downstream) if place.strand == "+" else (downstream, upstream)
        size = int(genome.sizes[place.code])
        start, end = max(place.start - left, 0), min(place.end + right, size)
        if start >= end:
            msg = (
                f"gene {gene!r} at {genome.names[place.code]}:{place.start:,}-{place.end:,} lies beyond the chromosome's "
                f"{size:,} bp; give the annotation of this genome."
            )
            raise InputError(msg)
        return Window(place.code, start, end), place
    return Window(*window_of_region(genome, region)), None


def coverage_of(
    adata: AnnData,
    names: list[str],
    group_of_row: np.ndarray,
    window: Window,
    genome: Genome,
    *,
    transcripts: pd.DataFrame | None,
    normalize: str | None,
    keep: FragmentFilter,
    strategy: str,
    bin_size: int | None,
    smooth_base: int | None,
) -> Coverage:
    """The tracks of every group in ``window``, divided as ``normalize`` says."""
    if normalize == "tss" and transcripts is None:
        msg = "normalize='tss' counts fragments at transcription start sites and needs genes=; pass a Genome or a GTF file."
        raise InputError(msg)
    bin_size = locus.nice_bin(window.end - window.start) if bin_size is None else bin_size
    edges = locus.bin_edges(window.start, window.end, bin_size)
    pad = max(0, (smooth_base or 0) - bin_size) // 2
    low = np.maximum(edges[:-1] - pad, 0)
    high = np.minimum(edges[1:] + pad, genome.sizes[window.code])
    wide = Window(window.code, int(low[0]), int(high[-1]))
    fragments = window_fragments(adata, group_of_row, wide, keep)
    if strategy == "insertion":
        fragments = locus.insertions(fragments)
    values = locus.mean_coverage(fragments, len(names), low, high)
    n_cells = np.bincount(group_of_row[group_of_row >= 0], minlength=len(names))
    denominators = None
    if normalize == "cells":
        denominators = n_cells
    elif normalize is not None:
        bk, samples, _ = grouped_samples(adata, group_of_row)
        within = None
        mito = genome.mito_codes()
        if normalize == "tss":
            sites = tss_table(transcripts, genome)
            within = locus.tss_windows(genome, sites["chrom_code"].to_numpy(), sites["pos"].to_numpy())
        codes = [c for c in range(len(genome.names)) if c not in mito]
        denominators = sum(
            (locus.group_totals(bk, s, len(names), keep, codes=codes, within=within) for s in samples),
            np.zeros(len(names), np.int64),
        )
    if denominators is not None:
        values = values * (FACTORS[str(normalize)] / np.maximum(denominators, 1))[:, None]
    return Coverage(names, n_cells, edges, values, denominators)


def unit_of(normalize: str | None, strategy: str) -> str:
    """What the height of a track means."""
    what = "Fragments" if strategy == "fragment" else "Insertions per bp"
    return f"{what} {UNITS[normalize]}".strip()


def bars_in(frame: pd.DataFrame, genome: Genome, window: Window) -> Bars:
    """The rows of a frame with columns chrom, start, end that overlap the window, by start."""
    names = [n for n in pd.unique(frame["chrom"]) if genome.code.get(str(n), -1) == window.code]
    rows = frame[frame["chrom"].isin(names)]
    start, end = rows["start"].to_numpy(np.int64), rows["end"].to_numpy(np.int64)
    here = (start < window.end) & (end > window.start)
    order = np.argsort(start[here], kind="stable")
    return Bars(np.maximum(start[here], window.start)[order], np.minimum(end[here], window.end)[order])


def peaks_by_group(adata: AnnData, peaks: Any, names: list[str], genome: Genome, window: Window) -> dict[str, Bars]:
    """Peaks of each group inside the window; empty without peaks."""
    what = "peaks"
    if isinstance(peaks, str):
        if peaks not in adata.uns:
            if peaks == slots.PEAKS:  # the default: drawn where there are some
                return {}
            found = ", ".join(map(repr, adata.uns)) or "nothing"
            msg = f"adata.uns has no {peaks!r} (it has {found}); call tl.call_peaks first or pass peaks=None."
            raise MissingSlotError(msg)
        what, peaks = f"uns[{peaks!r}]", adata.uns[peaks]
    if peaks is None:
        return {}
    if isinstance(peaks, pd.DataFrame):
        if "group" not in peaks.columns:
            msg = f"{what} has no column 'group'; pass peaks that belong to no group as consensus=."
            raise InputError(msg)
        tables = {str(g): rows for g, rows in peaks.groupby("group", observed=True)}
    else:
        tables = {str(g): _frame_of(rows, genome) for g, rows in dict(peaks).items()}
    bars = {name: bars_in(tables[name], genome, window) for name in names if name in tables}
    if not bars and tables:
        msg = (
            f"{what} holds peaks of {', '.join(list(tables)[:4])}, none of the groups drawn ({', '.join(names[:4])}); "
            "group by the column the peaks were called by, or pass peaks=None."
        )
        raise InputError(msg)
    return bars


def consensus_bars(consensus: Any, genome: Genome, window: Window) -> Bars | None:
    """Regions inside the window of a frame (also one whose index names regions, as tl.merge_peaks gives), BED or names."""
    if consensus is None:
        return None
    if isinstance(consensus, pd.DataFrame) and not {"chrom", "start", "end"} <= set(consensus.columns):
        lower = {str(c).lower() for c in consensus.columns}
        if "peaks" in lower:
            consensus = list(consensus[next(c for c in consensus.columns if str(c).lower() == "peaks")])
        elif not lower & {"start", "chromstart"}:
            consensus = list(consensus.index)
    return bars_in(_frame_of(consensus, genome), genome, window)


def shaded(regions: Any, genome: Genome, window: Window) -> Bars | None:
    """What is to be shaded in the window: one region in words, or what ``regions_frame`` takes; None for nothing."""
    if regions is None:
        return None
    if isinstance(regions, str) and not Path(regions).exists() and parse_region(regions, genome) is not None:
        regions = [regions]
    return bars_in(regions_frame(regions, genome), genome, window)


def _frame_of(regions: Any, genome: Genome) -> pd.DataFrame:
    """``regions_frame``, which refuses a frame without rows; here a group may have no peak."""
    if isinstance(regions, pd.DataFrame) and regions.empty:
        return pd.DataFrame({"chrom": [], "start": [], "end": []})
    return regions_frame(regions, genome, beyond=True)


class Band(NamedTuple):
    """One band of the chromosome: int bp, and the stain UCSC gives it (gneg, gpos25, ..., acen, gvar, stalk)."""

    start: int
    end: int
    name: str
    stain: str


def bands_of(cytobands: Any, genome: Genome, code: int) -> list[Band]:
    """The bands of a chromosome in UCSC's cytoBand file (chrom, start, end, name, stain; no header) or a frame like it."""
    if cytobands is None:
        return []
    if not isinstance(cytobands, pd.DataFrame):
        cytobands = read_cytobands(_existing(cytobands))
    if cytobands.shape[1] < 5:
        msg = f"cytobands must have the columns chrom, start, end, name, stain; got {cytobands.shape[1]} columns."
        raise InputError(msg)
    table = cytobands.iloc[:, :5].set_axis(["chrom", "start", "end", "name", "stain"], axis=1)
    names = [n for n in pd.unique(table["chrom"]) if genome.code.get(str(n), -1) == code]
    rows = table[table["chrom"].isin(names)].fillna({"name": "", "stain": "gneg"})
    if len(rows) and int(rows["end"].max()) > genome.sizes[code]:
        msg = (
            f"cytobands reach {int(rows['end'].max()):,} on {genome.names[code]} of {int(genome.sizes[code]):,} bp; "
            f"give the bands of {genome.name}."
        )
        raise InputError(msg)
    return [Band(int(r.start), int(r.end), str(r.name), str(r.stain)) for r in rows.itertuples(index=False, name="Row")]


def _existing(path: Any) -> Any:
    from gpuatac import check

    check.existing_file(Path(path), "cytoBand file")
    return Path(path)


def links_in(links: Any, genome: Genome, window: Window) -> pd.DataFrame | None:
    """Rows of ``links`` with both ends in the window: start, end (bp) and score (NaN where there is none)."""
    if links is None:
        return None
    missing = [c for c in ("start", "end") if c not in links.columns]
    if missing:
        msg = f"links has no column {' or '.join(map(repr, missing))}; it needs start and end (bp), and may have chrom and score."
        raise InputError(msg)
    rows = links
    if "chrom" in links.columns:
        rows = rows[[genome.code.get(str(c), -1) == window.code for c in links["chrom"]]]
    low, high = rows[["start", "end"]].min(axis=1), rows[["start", "end"]].max(axis=1)
    inside = (low >= window.start) & (high < window.end)
    score = rows["score"].astype(np.float64) if "score" in rows.columns else pd.Series(np.nan, index=rows.index)
    return pd.DataFrame({"start": low[inside], "end": high[inside], "score": score[inside]}).reset_index(drop=True)


def annotation(genes: Any) -> pd.DataFrame | None:
    """The transcripts of ``genes``, None without."""
    return None if genes is None else annotation_of(genes)
