"""Verbs that read fragments and write quality measures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac import check, slots
from gpuatac.backend import as_host
from gpuatac.core import counts
from gpuatac.core import qc as core_qc
from gpuatac.core.regions import coordinates
from gpuatac.genome import MITO_NAMES
from gpuatac.io import ask
from gpuatac.io.annotation import transcripts_of
from gpuatac.io.attach import genome_of
from gpuatac.io.bed import regions_frame
from gpuatac.io.genes import tss_table
from gpuatac.provenance import records

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from anndata import AnnData


@records("metrics.tsse")
def tsse(adata: AnnData, genes: Any, *, exclude_chroms: Collection[str] = MITO_NAMES) -> None:
    """Transcription start site enrichment of each cell and of the library.

    Reads   fragments.
    Writes  obs["tsse"]: float64 (n_cells,); uns["TSS_profile"]: int64 (4001,), cuts from -2000 to +2000 bp of the
            TSSs, 5' to 3'; uns["library_tsse"]: float64; uns["frac_overlap_TSS"]: float64, cuts within 2 kb of
            any TSS / all cuts.

    The score is mean(profile[1995:2006]) / (mean of the first and last 100 positions + 0.1). Both cut sites of a
    fragment count, ``start`` and ``end - 1``; TSSs are the distinct (chromosome, position, strand) of transcripts.
    Equal to SnapATAC2 2.9.0 but for TSSs nearer than 2 kb to a chromosome's start: SnapATAC2 shifts their
    positions by the missing part, here each position keeps its place.

    Parameters
    ----------
    adata
        Cells with fragments.
    genes
        A Genome with transcripts, the path of a GTF, GFF3, genePred or BED file, or a frame of transcripts.
    exclude_chroms
        Chromosomes whose TSSs are left out.

    Raises
    ------
    InputError
        When no TSS lies on the genome.

    Source: ENCODE's TSS enrichment as SnapATAC2 2.9.0 computes it. Cost: one pass over the fragments.

    Examples
    --------
    >>> import gpuatac as ga
    >>> ga.metrics.tsse(adata, "gencode.gtf.gz")  # doctest: +SKIP
    """
    sites = tss_table(transcripts_of(genes), genome_of(adata), exclude=exclude_chroms)
    chrom, pos, reverse = (sites[c].to_numpy() for c in ("chrom_code", "pos", "reverse"))
    parts = ask.each_sample(
        adata, lambda bk, sample, n: counts.tss_counts(bk, sample, n, chrom=chrom, pos=pos, reverse=reverse)
    )
    center, flank, profile = (sum(as_host(p[i]) for p in parts) for i in range(3))
    n_inside, n_all = (sum(int(p[i]) for p in parts) for i in (3, 4))
    adata.obs[slots.TSSE] = core_qc.tss_enrichment(center, flank)
    edge = counts.TSS_EDGE
    middle = slice(counts.TSS_WINDOW - counts.TSS_HALF_CENTER, counts.TSS_WINDOW + counts.TSS_HALF_CENTER + 1)
    adata.uns[slots.TSS_PROFILE] = profile
    adata.uns[slots.LIBRARY_TSSE] = float(
        core_qc.tss_enrichment(profile[middle].sum(), profile[:edge].sum() + profile[-edge:].sum())
    )
    adata.uns[slots.FRAC_OVERLAP_TSS] = n_inside / n_all if n_all else 0.0


@records("metrics.frag_size_distr")
def frag_size_distr(adata: AnnData, *, max_recorded_size: int = 1000) -> None:
    """Number of fragments by length.

    Reads   fragments.
    Writes  uns["frag_size_distr"]: int64 (max_recorded_size + 1,); entry i counts fragments of i bp, entry 0 those
            longer than max_recorded_size.

    Examples
    --------
    >>> import gpuatac as ga
    >>> ga.metrics.frag_size_distr(adata)  # doctest: +SKIP
    """
    top = check.integer("max_recorded_size", max_recorded_size, 1, 2**31 - 2)
    adata.uns[slots.FRAG_SIZE_DISTR] = ask.on_host(
        ask.each_sample(adata, lambda bk, sample, _n: counts.length_histogram(bk, sample, top))
    )


@records("metrics.nucleosome_signal")
def nucleosome_signal(adata: AnnData) -> None:
    """Ratio of mononucleosomal (147 to 293 bp) to nucleosome-free (below 147 bp) fragments of each cell.

    Reads   fragments.
    Writes  obs["nucleosome_signal"]: float64; inf for a cell without nucleosome-free fragments, NaN for one with
            neither.

    Source: Signac's NucleosomeSignal, over all fragments instead of a sample of them.

    Examples
    --------
    >>> import gpuatac as ga
    >>> ga.metrics.nucleosome_signal(adata)  # doctest: +SKIP
    """
    classes = ask.on_host(ask.each_sample(adata, counts.length_classes))
    adata.obs[slots.NUCLEOSOME_SIGNAL] = core_qc.nucleosome_signal(classes)


@records("metrics.frip")
def frip(
    adata: AnnData, regions: Mapping[str, Any] | Any, *, normalized: bool = True, count_as_insertion: bool = False
) -> None:
    """Fraction of each cell's fragments in regions.

    Reads   fragments.
    Writes  obs[name] for each entry of ``regions``: float64 in [0, 1], or the number itself (int64) when not
            ``normalized``.

    A fragment counts when it overlaps any region by at least 1 bp; the denominator is all fragments of the cell, every
    chromosome included (as SnapATAC2). With ``count_as_insertion`` both are cut sites.

    Parameters
    ----------
    adata
        Cells with fragments.
    regions
        {obs column: regions}, or regions alone for the column "frip". Regions are a BED path, a frame with chrom,
        start and end (0-based half-open), or a list of "chr1:100-200".
    normalized
        Divide by the number of fragments (cuts).
    count_as_insertion
        Count cut sites instead of fragments.

    Examples
    --------
    >>> import gpuatac as ga
    >>> ga.metrics.frip(adata, {"frip": "peaks.bed"})  # doctest: +SKIP
    """
    named = dict(regions) if _is_mapping(regions) else {slots.FRIP: regions}
    for name, given in named.items():
        adata.obs[name] = _in_regions(
            adata, given, normalized=normalized, count_as_insertion=count_as_insertion, what=name
        )


@records("metrics.blacklist_fraction")
def blacklist_fraction(adata: AnnData, blacklist: Any) -> None:
    """Fraction of each cell's fragments that overlap blacklisted regions.

    Reads   fragments.
    Writes  obs["blacklist_fraction"]: float64 in [0, 1].

    Parameters
    ----------
    adata
        Cells with fragments.
    blacklist
        A BED path, a frame with chrom, start and end, or a list of regions.

    Examples
    --------
    >>> import gpuatac as ga
    >>> ga.metrics.blacklist_fraction(adata, "hg38-blacklist.v2.bed.gz")  # doctest: +SKIP
    """
    adata.obs[slots.BLACKLIST_FRACTION] = _in_regions(
        adata, blacklist, normalized=True, count_as_insertion=False, what="blacklist"
    )


def qc(
    adata: AnnData,
    *,
    genes: Any = None,
    blacklist: Any = None,
    regions: Mapping[str, Any] | None = None,
    max_recorded_size: int = 1000,
) -> None:
    """Every quality measure that the given annotation allows: sizes, nucleosome signal, TSSe, blacklist, FRiP.

    Reads   fragments.
    Writes  what ``frag_size_distr``, ``nucleosome_signal`` and, where their argument is given, ``tsse``,
            ``blacklist_fraction`` and ``frip`` write.

    Examples
    --------
    >>> import gpuatac as ga
    >>> ga.metrics.qc(adata, genes="gencode.gtf.gz", blacklist="hg38-blacklist.v2.bed.gz")  # doctest: +SKIP
    """
    frag_size_distr(adata, max_recorded_size=max_recorded_size)
    nucleosome_signal(adata)
    if genes is not None:
        tsse(adata, genes)
    if blacklist is not None:
        blacklist_fraction(adata, blacklist)
    if regions is not None:
        frip(adata, regions)


def _is_mapping(regions: Any) -> bool:
    return isinstance(regions, dict) or (hasattr(regions, "items") and not hasattr(regions, "columns"))


def _in_regions(adata: AnnData, regions: Any, *, normalized: bool, count_as_insertion: bool, what: str) -> np.ndarray:
    at = coordinates(regions_frame(regions), genome_of(adata), what=f"regions of {what}")
    inside = ask.on_host(
        ask.each_sample(
            adata,
            lambda bk, sample, n: counts.overlap_counts(
                bk, sample, n, chrom=at.chrom, start=at.start, end=at.end, as_insertion=count_as_insertion
            ),
        )
    )
    if not normalized:
        return inside
    rows = ask.on_host(ask.each_sample(adata, lambda bk, sample, n: bk.counting.row_sums(sample.row, None, n_rows=n)))
    total = rows * (2 if count_as_insertion else 1)
    return np.divide(inside, total, out=np.zeros(adata.n_obs), where=total > 0)
