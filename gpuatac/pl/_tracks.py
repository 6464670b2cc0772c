"""Coverage of groups of cells along a window of the genome, over peaks and genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from gpuatac import check, slots
from gpuatac.core.tracks.pseudobulk import FragmentFilter
from gpuatac.errors import InputError
from gpuatac.io.fragments.attach import genome_of
from gpuatac.io.genome.gene_models import genes_in
from gpuatac.pl import _track_data
from gpuatac.pl._palette import category_colors
from gpuatac.pl._track_draw import Scene, draw

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from matplotlib.figure import Figure

    from gpuatac.genome import Genome
    from gpuatac.pl._palette import Palette


def tracks(
    adata: AnnData,
    groupby: str | Sequence[str] | None = None,
    *,
    gene: str | None = None,
    region: str | tuple[str, int, int] | None = None,
    upstream: int = 5000,
    downstream: int = 5000,
    genes: Genome | str | Path | pd.DataFrame | None = None,
    peaks: str | Mapping[str, Any] | pd.DataFrame | None = slots.PEAKS,
    consensus: pd.DataFrame | str | Path | Sequence[str] | None = None,
    cytobands: str | Path | pd.DataFrame | None = None,
    links: pd.DataFrame | None = None,
    highlight: str | Sequence[str] | pd.DataFrame | None = None,
    selections: Collection[str] | None = None,
    normalize: Literal["cells", "reads", "tss"] | None = "cells",
    shared_scale: bool = True,
    counting_strategy: Literal["fragment", "insertion"] = "fragment",
    bin_size: int | None = None,
    smooth_base: int | None = None,
    min_frag_length: int | None = None,
    max_frag_length: int | None = None,
    merge_transcripts: bool = True,
    palette: Palette | None = None,
    title: str | None = None,
    save: str | Path | None = None,
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """One coverage track for each group of cells at a gene or region, over its peaks, consensus peaks and genes.

    Reads   the fragments of ``adata`` in the window (no coverage file is written); uns["genome"]; obs[groupby];
            uns[peaks]; uns[groupby + "_colors"] for the colours of groups.
    Returns a Figure, from the top: title and window; the chromosome with the window marked; one track for each group with
            the peaks of that group under it; links; consensus peaks; genes (a thin line from end to end, boxes for exons,
            high boxes for coding parts, arrows along the strand); positions. Also written to ``save``.

    The height of a track in a bin is the mean over the bases of that bin of the number of fragments (or insertions) over
    a base, times a factor over the group's denominator. Cost: the rows of one chromosome that start before the window's
    end (of a data set on disk that is not loaded yet the row groups that reach the window), and with "reads" and "tss" one pass
    over all fragments.

    Parameters
    ----------
    groupby
        A column of obs, one label for each cell, or None for all cells together.
    gene, region
        What to show; exactly one. ``gene``: a gene_name (else a gene_id) of ``genes``, in this spelling or, where there is
        none, in any case; the window spans all its transcripts, ``upstream`` bp before and ``downstream`` bp behind them
        in the direction of its strand. ``region``: "chr11:118,300,000-118,400,000" or (chrom, start, end), 0-based
        half-open.
    genes
        Genes to draw and to look ``gene`` up in: a Genome with transcripts, a GTF, GFF3, genePred or BED file, or a frame
        as ``io.genome.transcripts.read_transcripts`` gives. Exons come from the file the transcripts were read from. None: no genes.
    peaks
        Key of uns that holds the frame ``tl.call_peaks`` writes (columns group, chrom, start, end), such a frame, or one
        set of regions for each group by name. uns["peaks"] is drawn where it exists. None: no peaks.
    consensus
        Regions of all groups: what ``tl.merge_peaks`` returns, a BED file, a frame, or names.
    cytobands
        UCSC's cytoBand file or frame of this genome: the chromosome is drawn with its bands. None: as a plain bar.
    links
        Frame with ``start`` and ``end`` (bp) of each link and, as far as known, ``chrom`` and ``score`` (line width).
        Links with both ends in the window are drawn.
    highlight
        Regions to shade: a name such as "chr1:100-200" (0-based half-open) or several, a frame, or a BED file.
    selections
        Groups to draw; default all. They keep their order.
    normalize
        "cells": per 1,000 cells of the group. "reads": per million of its fragments that pass the length bounds,
        mitochondrial ones left out. "tss": per 10,000 of those that overlap the 101 bp around a TSS of ``genes`` (evens
        out signal-to-noise, too). None: the plain sum, which is higher for larger groups.
    shared_scale
        One scale for all tracks (written at the first), or one for each.
    counting_strategy
        "fragment": every base of a fragment counts. "insertion": its first and its last base.
    bin_size
        bp; default the smallest of 1, 2, 5, 10, ... that gives at most 1,500 bins.
    smooth_base
        Width in bp over which the mean of a bin is taken instead of the bin itself, centred on it. None: no smoothing.
    min_frag_length, max_frag_length
        Fragments of these lengths count, bp, both inclusive.
    merge_transcripts
        Draw overlapping transcripts of a gene as one model with all their exons, or each by itself.
    palette
        Colours of the groups, as for ``embedding``.
    title
        Default the gene, else the place.
    save
        A .png, .pdf or .svg file to write as well.
    figsize
        Inches; by default as large as groups, names and rows of genes need.

    Raises
    ------
    InputError
        Both or neither of gene and region; an unknown gene (close names are listed), group or chromosome; a region beyond
        its chromosome; normalize="tss" without genes; peaks of other groups; a palette that does not fit the groups; a figsize
        too small for what it shall hold.
    MissingSlotError
        No fragments, no obs[groupby], or no uns[peaks].

    Source: normalisation by reads at TSSs as in ArchR (Granja et al. 2021).

    Examples
    --------
    >>> import gpuatac as ga, pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "f.tsv").write_text("chr1\\t100\\t300\\tAAAC-1\\t1\\nchr1\\t250\\t400\\tAAAG-1\\t1\\n")
    >>> adata = ga.pp.import_fragments(folder / "f.tsv", ga.Genome.builtin("hg38"), min_num_fragments=1, device="cpu")
    >>> figure = ga.pl.tracks(adata, ["T", "B"], region="chr1:0-1,000", normalize=None)
    >>> [ax.get_label() for ax in figure.axes if ax.get_label().startswith("track")]
    ['track:T', 'track:B']
    """
    check.one_of("normalize", normalize, ("cells", "reads", "tss", None))
    check.one_of("counting_strategy", counting_strategy, ("fragment", "insertion"))
    upstream, downstream = check.integer("upstream", upstream, 0), check.integer("downstream", downstream, 0)
    bin_size = None if bin_size is None else check.integer("bin_size", bin_size, 1)
    smooth_base = None if smooth_base is None else check.integer("smooth_base", smooth_base, 1)
    keep = FragmentFilter(min_length=min_frag_length, max_length=max_frag_length)
    genome = genome_of(adata)
    names, codes = slots.groups_of(adata, groupby, selections)
    if not names:
        msg = f"groupby {groupby!r} puts no cell in a group; name a column with labels."
        raise InputError(msg)
    transcripts = _track_data.annotation(genes)
    window, place = _track_data.window_of(
        genome, transcripts, gene=gene, region=region, upstream=upstream, downstream=downstream
    )
    coverage = _track_data.coverage_of(
        adata,
        names,
        codes,
        window,
        genome,
        transcripts=transcripts,
        normalize=normalize,
        keep=keep,
        strategy=counting_strategy,
        bin_size=bin_size,
        smooth_base=smooth_base,
    )
    shown = None if transcripts is None else genes_in(transcripts, genome, *window, merge=merge_transcripts)
    scene = Scene(
        chrom=genome.names[window.code],
        chrom_size=int(genome.sizes[window.code]),
        genome=genome.name,
        window=window,
        title=place.name if title is None and place is not None else title,
        coverage=coverage,
        unit=_track_data.unit_of(normalize, counting_strategy),
        colors=category_colors(adata, groupby, names, palette),
        shared_scale=shared_scale,
        genes=shown,
        gene=None if place is None else place.name,
        peaks=_track_data.peaks_by_group(adata, peaks, names, genome, window),
        consensus=_track_data.consensus_bars(consensus, genome, window),
        bands=_track_data.bands_of(cytobands, genome, window.code),
        links=_track_data.links_in(links, genome, window),
        highlight=_track_data.shaded(highlight, genome, window),
    )
    return draw(scene, save, figsize)
