"""Fragments to cells x tiles, peaks and genes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gpuatac import check, slots
from gpuatac.backend.protocol import STRATEGIES, Csr, Strategy
from gpuatac.core.counting import counts
from gpuatac.core.counting.regions import Coordinates, coordinates, gene_spans
from gpuatac.errors import InputError
from gpuatac.genome import MITO_NAMES, SEX_NAMES_Y
from gpuatac.inplace import set_matrix
from gpuatac.io.fragments.attach import genome_of
from gpuatac.io.genome.annotation import transcripts_of
from gpuatac.io.genome.bed import regions_frame
from gpuatac.io.genome.gene_models import main_loci
from gpuatac.io.matrices.feature_names import coordinate_names, storable
from gpuatac.io.matrices.from_fragments import count_matrix
from gpuatac.provenance import history, records, with_records

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Literal

    from anndata import AnnData

    from gpuatac.genome import Genome

logger = logging.getLogger(__name__)
_KEYS = {"gene": "gene_name", "gene_id": "gene_id", "transcript": "transcript_id"}  # id_type: column of the transcripts
EXCLUDED = (*MITO_NAMES, *SEX_NAMES_Y)


@records("pp.add_tile_matrix")
def add_tile_matrix(
    adata: AnnData,
    *,
    bin_size: int = 2000,
    exclude_chroms: Collection[str] | None = EXCLUDED,
    counting_strategy: Strategy = "paired-insertion",
    inplace: bool = True,
) -> AnnData | None:
    """Count fragments in tiles of the genome.

    Reads   fragments.
    Writes  X: CSR (n_cells, n_tiles), int32 on a CPU and float32 on a GPU; var: names "chr:start-end", "chrom"
            (categorical), "start", "end" (int32, 0-based half-open; the last tile of a chromosome is shorter).

    Chromosomes are in byte order of their names. A fragment has two cut sites, ``start`` and ``end - 1``.
    "insertion" adds 1 at each cut's tile, "paired-insertion" the same but once when both lie in one tile,
    "fragment" adds 1 in every tile the fragment overlaps. Equal to SnapATAC2 2.9.0.

    Parameters
    ----------
    adata
        Cells with fragments.
    bin_size
        Tile width in bp (SnapATAC2 takes 500).
    exclude_chroms
        Chromosomes left out; None keeps all.
    counting_strategy
        "paired-insertion", "insertion" or "fragment".
    inplace
        Replace X and var of ``adata``; otherwise return a new AnnData.

    Raises
    ------
    InputError
        When no chromosome is left.

    Cost: one pass over the fragments; memory follows the non-zeros.

    Examples
    --------
    >>> import gpuatac as ga
    >>> ga.pp.add_tile_matrix(adata)  # doctest: +SKIP
    """
    bin_size = check.integer("bin_size", bin_size, 1, 2**31 - 1)
    check.one_of("counting_strategy", counting_strategy, STRATEGIES)
    genome = genome_of(adata)
    excluded = _excluded_codes(exclude_chroms, genome)
    codes = [i for i in range(len(genome.names)) if i not in excluded]
    if not codes:
        msg = (
            f"exclude_chroms leaves none of the {len(genome.names)} chromosomes of genome {genome.name}; "
            "name fewer of them."
        )
        raise InputError(msg)
    n_tiles = sum(counts.n_bins(int(genome.sizes[c]), bin_size) for c in codes)
    check.integer("number of tiles (raise bin_size)", n_tiles, 1, 2**31 - 1)

    def question(bk: Any, sample: counts.Sample, n: int) -> Csr:
        return counts.tile_matrix(
            bk, sample, n, codes=codes, sizes=genome.sizes, bin_size=bin_size, strategy=counting_strategy
        )

    x = count_matrix(adata, question, n_tiles)
    return _deliver(adata, x, _tile_var(genome, codes, bin_size), inplace=inplace)


def _excluded_codes(names: Collection[str] | str | None, genome: Genome) -> set[int]:
    """Codes of the chromosomes named, in any spelling; a name that is neither in the genome nor a default raises."""
    given = [names] if isinstance(names, str) else list(names or ())
    given = [name.strip() for name in given]
    unknown = [name for name in given if name not in genome.code and name not in EXCLUDED]
    if unknown:
        msg = (
            f"exclude_chroms names {', '.join(map(repr, unknown))}, which genome {genome.name} lacks; allowed: "
            f"{', '.join(genome.names[:30])}."
        )
        raise InputError(msg)
    return {genome.code[name] for name in given if name in genome.code}


def _tile_var(genome: Genome, codes: list[int], bin_size: int) -> pd.DataFrame:
    sizes = [int(genome.sizes[c]) for c in codes]
    ptr = np.cumsum([0, *(counts.n_bins(size, bin_size) for size in sizes)])
    chrom = np.empty(ptr[-1], np.int8 if len(codes) < 2**7 else np.int16 if len(codes) < 2**15 else np.int32)
    start, end = np.empty(ptr[-1], np.int32), np.empty(ptr[-1], np.int32)
    for i, size in enumerate(sizes):
        tiles = slice(ptr[i], ptr[i + 1])
        chrom[tiles] = i
        start[tiles] = np.arange(ptr[i + 1] - ptr[i], dtype=np.int64) * bin_size
        end[tiles][:-1] = start[tiles][1:]
        end[ptr[i + 1] - 1] = size
    return coordinate_frame(pd.Categorical.from_codes(chrom, [genome.names[c] for c in codes]), start, end)


def coordinate_frame(chrom: pd.Categorical, start: np.ndarray, end: np.ndarray) -> pd.DataFrame:
    """A ``var`` named "chrom:start-end" with integer coordinates."""
    columns = {slots.CHROM: chrom, slots.START: start, slots.END: end}
    return pd.DataFrame(columns, index=coordinate_names(chrom, start, end), copy=False)


def _deliver(adata: AnnData, x: Any, var: pd.DataFrame, *, inplace: bool) -> AnnData | None:
    import anndata as ad

    if not inplace:
        return ad.AnnData(X=x, obs=adata.obs.copy(), var=var, uns=_shared_uns(adata))
    set_matrix(adata, x, var)
    return None


def _shared_uns(adata: AnnData) -> dict[str, Any]:
    """What a matrix of the same cells needs to find its fragments, to tell its history and to look the same in figures."""
    keys = (slots.FRAGMENTS, slots.GENOME, slots.READ_SUMMARY, slots.HISTORY, *map(slots.of_colors, adata.obs.columns))
    return {key: adata.uns[key] for key in keys if key in adata.uns}


@records("pp.make_peak_matrix")
def make_peak_matrix(
    adata: AnnData,
    regions: Any,
    *,
    counting_strategy: Strategy = "paired-insertion",
    min_frag_size: int | None = None,
    max_frag_size: int | None = None,
) -> AnnData:
    """Count fragments in peaks.

    Reads   fragments.
    Returns an AnnData of the same cells: X: CSR (n_cells, n_peaks), int32 on a CPU and float32 on a GPU; var: names
            "chr:start-end", "chrom", "start", "end", and the bool columns of ``regions`` where it is a frame, such as the
            groups of ``tl.merge_peaks`` ("/" in a name becomes "_", as an .h5ad cannot hold it). Order, overlaps and repeats of
            the peaks are kept.

    Parameters
    ----------
    adata
        Cells with fragments.
    regions
        What ``tl.merge_peaks`` returns, or another frame with chrom, start and end (0-based half-open) or with a column
        "Peaks" of names; a BED or narrowPeak path; "chr1:100-200" names; or the key of one of these in ``adata.uns``.
    counting_strategy
        "paired-insertion" (1 where at least one cut is inside), "insertion" (each cut) or "fragment" (overlap).
    min_frag_size, max_frag_size
        Shortest and longest fragment that counts, in bp, both included; None sets no limit.

    Raises
    ------
    InputError
        When no peak lies on a chromosome of the genome.

    Examples
    --------
    >>> import gpuatac as ga
    >>> peaks = ga.pp.make_peak_matrix(adata, "peaks.narrowPeak")  # doctest: +SKIP
    """
    import anndata as ad

    check.one_of("counting_strategy", counting_strategy, STRATEGIES)
    lengths = _lengths(min_frag_size, max_frag_size)
    if isinstance(regions, str) and regions in adata.uns:
        regions = adata.uns[regions]
    if hasattr(regions, "to_pandas"):
        regions = regions.to_pandas()
    frame = regions_frame(_named_regions(regions), genome_of(adata), beyond=True)
    at = coordinates(frame, genome_of(adata), what="peaks")

    def question(bk: Any, sample: counts.Sample, n: int) -> Csr:
        where = {"chrom": at.chrom, "start": at.start, "end": at.end}
        return counts.region_matrix(bk, sample, n, **where, strategy=counting_strategy, lengths=lengths)

    x = count_matrix(adata, question, len(at.chrom), per_fragment=_entries_per_fragment(at, genome_of(adata)))
    var = coordinate_frame(pd.Categorical(frame["chrom"]), at.start.astype(np.int32), at.end.astype(np.int32))
    if isinstance(regions, pd.DataFrame):
        flags = {str(name): column.to_numpy() for name, column in regions.items() if column.dtype == bool}
        flags = dict(zip(storable(list(flags)), flags.values(), strict=True))
        var = pd.concat([var, pd.DataFrame(flags, index=var.index)], axis=1) if flags else var
    uns = _shared_uns(adata)
    if isinstance(regions, pd.DataFrame) and (told := history(regions)):
        uns[slots.HISTORY] = with_records(uns, told)
    return ad.AnnData(X=x, obs=adata.obs.copy(), var=var, uns=uns)


def _lengths(low: int | None, high: int | None) -> tuple[int, int] | None:
    if low is None and high is None:
        return None
    shortest = 0 if low is None else check.integer("min_frag_size", low, 0)
    return shortest, 2**31 - 1 if high is None else check.integer("max_frag_size", high, shortest, 2**31 - 1)


def _named_regions(regions: Any) -> Any:
    """The names in a frame that has "Peaks" and no coordinates, as SnapATAC2's ``merge_peaks`` returns."""
    named = isinstance(regions, pd.DataFrame) and "Peaks" in regions and slots.CHROM not in regions
    return regions["Peaks"].tolist() if named else regions


def _entries_per_fragment(at: Coordinates, genome: Genome) -> float:
    """About how many regions the two cuts of a fragment hit: at most 2 where none overlap, more where they lie in layers."""
    known = at.chrom >= 0
    layers = float((at.end[known] - at.start[known]).sum()) / float(genome.sizes.sum())
    return 2.0 + 2.0 * layers


@records("pp.make_gene_matrix")
def make_gene_matrix(
    adata: AnnData,
    genes: Any,
    *,
    upstream: int = 2000,
    downstream: int = 0,
    include_gene_body: bool = True,
    id_type: Literal["gene", "gene_id", "transcript"] = "gene",
    counting_strategy: Strategy = "paired-insertion",
    interval_rule: Literal["closed", "snapatac2"] = "closed",
) -> AnnData:
    """Gene activity: fragments in the gene body and upstream of it, or in a window around the TSS.

    Reads   fragments.
    Returns an AnnData of the same cells: X: CSR (n_cells, n_genes), int32 on a CPU and float32 on a GPU; var: gene
            names in order of first appearance; "chrom", "start", "end": the span of the transcripts of one locus;
            "n_loci": how many there are; "gene_id" and "gene_name" as far as they are not the names.

    Each transcript is counted in [start - upstream, end + downstream) on the + strand and mirrored on the - strand; a
    gene's count in a cell is the largest of its transcripts'. Genes are told apart by name, as SnapATAC2 does; a name at
    several loci (Y_RNA, genes of X and Y) is one column, the largest count of them, with the place of the locus that has most
    transcripts, and ``id_type="gene_id"`` tells them apart.

    Parameters
    ----------
    adata
        Cells with fragments.
    genes
        A Genome with transcripts, the path of a GTF, GFF3, genePred or BED file, or a frame of transcripts.
    upstream, downstream
        bp added before the start and after the end, in the direction of transcription.
    include_gene_body
        False counts a window around the TSS alone: ``upstream`` bp before it to ``downstream`` bp after it.
    id_type
        What names a column: "gene", the gene's name; "gene_id"; or "transcript", the transcript_id.
    counting_strategy
        As in ``make_peak_matrix``.
    interval_rule
        "closed" counts the last base of the transcript; "snapatac2" leaves it out, as SnapATAC2 2.9.0 does.

    Raises
    ------
    InputError
        When no transcript lies on the genome.

    Examples
    --------
    >>> import gpuatac as ga
    >>> activity = ga.pp.make_gene_matrix(adata, "gencode.gtf.gz")  # doctest: +SKIP
    """
    check.one_of("counting_strategy", counting_strategy, STRATEGIES)
    check.one_of("id_type", id_type, tuple(_KEYS))
    check.one_of("interval_rule", interval_rule, ("closed", "snapatac2"))
    upstream = check.integer("upstream", upstream, 0)
    downstream = check.integer("downstream", downstream, 0)
    genome = genome_of(adata)
    transcripts = transcripts_of(genes)
    spans = gene_spans(
        transcripts,
        genome,
        upstream=upstream,
        downstream=downstream,
        include_gene_body=include_gene_body,
        interval_rule=interval_rule,
    )
    known = spans.chrom >= 0
    transcripts = transcripts[known]
    spans = Coordinates(*(column[known] for column in spans))
    group, names = pd.factorize(transcripts[_KEYS[id_type]])

    def question(bk: Any, sample: counts.Sample, n: int) -> Csr:
        parts = counts.region_matrix(
            bk, sample, n, chrom=spans.chrom, start=spans.start, end=spans.end, strategy=counting_strategy
        )
        found: Csr = bk.counting.max_over_groups(parts, bk.asarray(group.astype(np.int32)), n_groups=len(names))
        return found

    import anndata as ad

    per_fragment = _entries_per_fragment(spans, genome)
    x = count_matrix(adata, question, len(names), per_fragment=per_fragment)
    return ad.AnnData(X=x, obs=adata.obs.copy(), var=_gene_var(transcripts, group, spans.chrom, names, id_type), uns=_shared_uns(adata))


def _gene_var(
    transcripts: pd.DataFrame, group: np.ndarray, code: np.ndarray, names: Any, id_type: str
) -> pd.DataFrame:
    here, n_loci = main_loci(transcripts, group, code)
    several = int((n_loci > 1).sum())
    if several:
        told = "their coordinates are those of the locus with most transcripts"
        logger.info("%d of %d names (%s) are at several loci; %s", several, len(names), id_type, told)
    by = transcripts[here].groupby(group[here], sort=True)
    var = {
        slots.CHROM: pd.Categorical(by["chrom"].first().astype(str).to_numpy()),
        slots.START: by["start"].min().to_numpy(np.int64),
        slots.END: by["end"].max().to_numpy(np.int64),
        "n_loci": n_loci.astype(np.int32),
    }
    for column in ("gene_id", "gene_name"):
        if column != _KEYS[id_type] and (column == "gene_id" or id_type != "gene"):
            var[column] = by[column].first().astype(str).to_numpy(dtype=object)
    return pd.DataFrame(var, index=pd.Index(np.asarray(names, dtype=object), dtype=object))
