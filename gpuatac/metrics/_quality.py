"""Verbs that read fragments and write quality measures."""

from __future__ import annotations

import inspect
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpuatac import check, provenance, slots
from gpuatac.core.counting import cell_scores as core_qc
from gpuatac.core.counting import counts
from gpuatac.core.counting import quality as core
from gpuatac.core.counting.regions import coordinates
from gpuatac.genome import MITO_NAMES
from gpuatac.io.fragments import queries
from gpuatac.io.fragments.attach import genome_of
from gpuatac.io.genome.annotation import transcripts_of
from gpuatac.io.genome.bed import regions_frame
from gpuatac.io.genome.transcripts import tss_table
from gpuatac.provenance import records

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from anndata import AnnData

    from gpuatac.backend.protocol import Quality


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
        The annotation, as in ``pp.make_gene_matrix``.
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
    _measure(adata, _tsse(adata, genes, exclude_chroms))


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
    _measure(adata, _sizes(max_recorded_size))


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
    _measure(adata, _nucleosomes())


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
    _measure(
        adata,
        _frip(adata, regions, normalized=normalized, as_insertion=count_as_insertion),
        as_insertion=count_as_insertion,
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
    _measure(adata, _blacklist(adata, blacklist))


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
            ``blacklist_fraction`` and ``frip`` write; each is recorded as if called alone, with its own annotation's
            seconds and an equal share of the pass.

    Cost: one pass over the fragments for all of them.

    Examples
    --------
    >>> import gpuatac as ga
    >>> ga.metrics.qc(adata, genes="gencode.gtf.gz", blacklist="hg38-blacklist.v2.bed.gz")  # doctest: +SKIP
    """
    wanted: list[tuple[Callable[..., None], dict[str, Any], Callable[[], _Part]]] = [
        (frag_size_distr, {"max_recorded_size": max_recorded_size}, lambda: _sizes(max_recorded_size)),
        (nucleosome_signal, {}, _nucleosomes),
    ]
    if genes is not None:
        wanted.append((tsse, {"genes": genes}, lambda: _tsse(adata, genes, MITO_NAMES)))
    if blacklist is not None:
        wanted.append((blacklist_fraction, {"blacklist": blacklist}, lambda: _blacklist(adata, blacklist)))
    if regions is not None:
        wanted.append((frip, {"regions": regions}, lambda: _frip(adata, regions, normalized=True, as_insertion=False)))
    parts, seconds = [], []
    for _, _, prepare in wanted:
        began = time.perf_counter()
        parts.append(prepare())
        seconds.append(time.perf_counter() - began)
    began = time.perf_counter()
    _measure(adata, *parts)
    shared = (time.perf_counter() - began) / len(parts)
    for (verb, given, _), own in zip(wanted, seconds, strict=True):
        defaults = {k: p.default for k, p in inspect.signature(verb).parameters.items() if p.default is not p.empty}
        provenance.append(adata, f"metrics.{verb.__name__}", defaults | given, own + shared)


class _Part(NamedTuple):
    """One measure: what it adds to the question, and how it writes its answer.

    ``write(adata, found, inside)``: ``inside`` holds the counts of its own region sets.
    """

    question: core.Question
    write: Callable[[AnnData, Quality, np.ndarray], None]


def _measure(adata: AnnData, *parts: _Part, as_insertion: bool = False) -> None:
    """Ask what all ``parts`` ask in one pass over the fragments, and let each write its slots."""
    question = core.Question(
        max_length=max(p.question.max_length for p in parts),
        bounds=next((p.question.bounds for p in parts if p.question.bounds), ()),
        sites=next((p.question.sites for p in parts if p.question.sites is not None), None),
        regions=tuple(r for p in parts for r in p.question.regions),
        as_insertion=as_insertion,
    )
    found = core.add(queries.each_sample(adata, lambda bk, sample, n: core.quality(bk, sample, n, question)))
    first = 0
    for part in parts:
        n = len(part.question.regions)
        part.write(adata, found, found.in_regions[first : first + n])
        first += n


def _sizes(max_recorded_size: int) -> _Part:
    top = check.integer("max_recorded_size", max_recorded_size, 1, 2**31 - 2)

    def write(adata: AnnData, found: Quality, _inside: np.ndarray) -> None:
        adata.uns[slots.FRAG_SIZE_DISTR] = found.lengths

    return _Part(core.Question(max_length=top), write)


def _nucleosomes() -> _Part:
    def write(adata: AnnData, found: Quality, _inside: np.ndarray) -> None:
        adata.obs[slots.NUCLEOSOME_SIGNAL] = core_qc.nucleosome_signal(found.classes)

    return _Part(core.Question(bounds=counts.NUCLEOSOME_BOUNDS), write)


def _tsse(adata: AnnData, genes: Any, exclude_chroms: Collection[str]) -> _Part:
    table = tss_table(transcripts_of(genes, named=False), genome_of(adata), exclude=exclude_chroms)
    sites = core.Sites(*(table[c].to_numpy() for c in ("chrom_code", "pos", "reverse")))

    def write(adata: AnnData, found: Quality, _inside: np.ndarray) -> None:
        assert found.tss is not None  # the question had sites
        center, flank, profile, n_inside, n_all = found.tss
        adata.obs[slots.TSSE] = core_qc.tss_enrichment(center, flank)
        edge = counts.TSS_EDGE
        middle = slice(counts.TSS_WINDOW - counts.TSS_HALF_CENTER, counts.TSS_WINDOW + counts.TSS_HALF_CENTER + 1)
        adata.uns[slots.TSS_PROFILE] = profile
        adata.uns[slots.LIBRARY_TSSE] = float(
            core_qc.tss_enrichment(profile[middle].sum(), profile[:edge].sum() + profile[-edge:].sum())
        )
        adata.uns[slots.FRAC_OVERLAP_TSS] = n_inside / n_all if n_all else 0.0

    return _Part(core.Question(sites=sites), write)


def _blacklist(adata: AnnData, blacklist: Any) -> _Part:
    genome = genome_of(adata)
    at = coordinates(regions_frame(blacklist, genome, may_be_empty=True), genome, what="regions of blacklist")

    def write(adata: AnnData, found: Quality, inside: np.ndarray) -> None:
        adata.obs[slots.BLACKLIST_FRACTION] = _fraction(inside[0], found.fragments)

    return _Part(core.Question(regions=(at,)), write)


def _frip(adata: AnnData, regions: Mapping[str, Any] | Any, *, normalized: bool, as_insertion: bool) -> _Part:
    named = dict(regions) if _is_mapping(regions) else {slots.FRIP: regions}
    genome = genome_of(adata)
    at = {name: coordinates(regions_frame(given, genome), genome, what=f"regions of {name}") for name, given in named.items()}

    def write(adata: AnnData, found: Quality, inside: np.ndarray) -> None:
        for name, hits in zip(at, inside, strict=True):
            total = found.fragments * (2 if as_insertion else 1)
            adata.obs[name] = _fraction(hits, total) if normalized else np.ascontiguousarray(hits)

    return _Part(core.Question(regions=tuple(at.values())), write)


def _fraction(part: np.ndarray, total: np.ndarray) -> np.ndarray:
    """part / total, 0 where there is nothing."""
    share: np.ndarray = np.divide(part, total, out=np.zeros(total.size), where=total > 0)
    return share


def _is_mapping(regions: Any) -> bool:
    return isinstance(regions, dict) or (hasattr(regions, "items") and not hasattr(regions, "columns"))
