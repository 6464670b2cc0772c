"""The job behind ``gpuatac peaks``: groups of cells, or bulk samples, to peaks in files."""

from __future__ import annotations

from contextlib import ExitStack
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gpuatac import check, ex, pp, slots, tl
from gpuatac.errors import InputError
from gpuatac.io.files.atomic import replacing
from gpuatac.io.fragments.attach import genome_of
from gpuatac.io.matrices.h5ad import write_h5ad
from gpuatac.io.tracks.outputs import file_names
from gpuatac.tl.peak_options import checked_model, checked_window, warn_unused
from gpuatac.workflow.groups.shared import Written, check_targets, files_named, read_cells, refuse_unknown
from gpuatac.workflow.main_job.by_cluster import write_consensus
from gpuatac.workflow.signatures import also_takes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from gpuatac.backend import Device
    from gpuatac.workflow.groups.inputs import Given

FLAVORS = ("snapatac2", "archr")
NOT_OF_PEAKS = ("adata", "groupby", "replicate", "key_added", "inplace")
FILES = ("blacklist",)
CONSENSUS, MATRIX = "consensus.bed", "peaks.h5ad"


@also_takes(tl.call_peaks, without=NOT_OF_PEAKS)
def peaks(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    groupby: str | None = None,
    groups: str | Path | None = None,
    replicate: str | None = None,
    genome: str | Path | None = None,
    contigs: Literal["main", "all"] | None = None,
    names: Sequence[str] | None = None,
    bulk: bool = False,
    bam_options: Mapping[str, Any] | None = None,
    consensus: bool = False,
    flavor: Literal["snapatac2", "archr"] = "snapatac2",
    half_width: int = 250,
    matrix: bool = False,
    output_format: Literal["narrowPeak", "broadPeak", "gappedPeak", "bed"] | None = None,
    raw_scores: bool = False,
    prefix: str = "",
    device: Device = "auto",
    memory: str | int | None = None,
    force: bool = False,
    **options: Any,
) -> Written:
    """Peaks of your own groups of cells, or of bulk samples, with MACS3's numbers.

    Writes into ``out``: one file for each group; ``consensus.bed`` (chrom, start, end, groups that have the region) and
    ``peaks.h5ad`` (cells x consensus peaks) where asked. All take their places together at the end.

    Parameters
    ----------
    inputs
        An .h5ad written by gpuatac; or fragment files (10x fragments.tsv.gz, BED, BAM, a .fragments data set), one for each sample.
    out
        Output folder, made when it is not there.
    groupby
        Column of the .h5ad's cells, or of ``groups``, that holds the groups. Without groups each sample is one.
    groups
        Table (tab-separated, header optional) of barcode or sample#barcode, group, and more columns where it has a header. Cells that
        it does not name are left out.
    replicate
        Column of the cells or of ``groups``, or a table like ``groups``: a group's peaks must be found in each replicate.
    genome
        Of fragment files: hg38, hg19, mm10, mm39, or a chrom.sizes, .fai or FASTA file.
    contigs
        Of fragment files: "main" (default) or "all" chromosomes.
    names
        Sample names; by default the files' stems.
    bulk
        BAM without barcodes: each file is one sample and one group.
    bam_options
        Of BAM files: barcode_tag, barcode_regex, min_mapq, is_paired.
    consensus
        Merge the peaks of all groups to consensus.bed.
    flavor
        How they are merged: as SnapATAC2 does, or as ArchR, by ranks and by replicates where they are given.
    half_width
        Bases of a consensus peak on either side of its summit.
    matrix
        Count every cell in the consensus peaks: peaks.h5ad, beside consensus.bed.
    output_format
        Format of the peak files; by default narrowPeak, or broadPeak for broad regions.
    raw_scores
        Scores without the bound of 1000, as MACS3 writes them; UCSC's tools refuse such files.
    prefix
        Start of the names of the peak files.
    device
        Where to compute: "auto" takes a GPU where there is one.
    memory
        About how much memory to use at most, such as 4G: what does not fit stays on disk and is read by parts. By default 70 % of
        what is available; on a GPU also the limit of its memory, by default 80 % of it.
    force
        Replace existing files.
    options
        Any other keyword of ``tl.call_peaks``, such as qvalue or selections.

    Returns
    -------
    Written
        Paths and numbers.

    Raises
    ------
    OutputExistsError
        When a file is there and ``force`` is not set.
    InputError
        For inputs or options that do not fit; nothing is written then.

    Examples
    --------
    >>> import gpuatac as ga
    >>> ga.workflow.peaks("results/s.h5ad", "peaks", groupby="leiden", consensus=True)  # doctest: +SKIP
    """
    refuse_unknown(options, [name for name in signature(tl.call_peaks).parameters if name not in NOT_OF_PEAKS])
    _check_call(options)
    check.one_of("flavor", flavor, FLAVORS)
    half_width = check.integer("half_width", half_width, 0, 2**28)
    alone = not (consensus or matrix)
    defaults = {name: p.default for name, p in signature(peaks).parameters.items()}
    unused = {n: (alone and v != defaults[n], "consensus or matrix") for n, v in (("flavor", flavor), ("half_width", half_width))}
    warn_unused("peaks", unused)
    check.one_of("output_format", output_format, (None, "narrowPeak", "broadPeak", "gappedPeak", "bed"))
    if output_format == "gappedPeak" and not options.get("call_broad_peaks"):
        msg = "output_format='gappedPeak' needs broad regions; pass call_broad_peaks=True (--broad) or choose another format."
        raise InputError(msg)
    given, paths = read_cells(inputs, out, device=device, memory=memory, files=files_named(options, FILES), groupby=groupby,
                         groups=groups, replicate=replicate, genome=genome, contigs=contigs, names=names, bulk=bulk,
                         bam_options=bam_options)  # fmt: skip
    found, codes = slots.groups_of(given.adata, given.groups, options.get("selections"))
    form = output_format or ("broadPeak" if options.get("call_broad_peaks") else "narrowPeak")
    targets = [Path(out) / name for name in file_names(found, prefix, f".{form}")]
    more = [Path(out) / name for name, asked in ((CONSENSUS, consensus or matrix), (MATRIX, matrix)) if asked]
    check_targets([*targets, *more], paths, force=force)
    called = tl.call_peaks(given.adata, given.groups, replicate=given.replicate, inplace=False, **options)
    assert called is not None
    sizes = np.bincount(codes[codes >= 0], minlength=len(found))
    n_cells = {name: int(n) for name, n in zip(found, sizes, strict=True)}
    with ExitStack() as stack:
        regions = None
        if consensus or matrix:
            regions = _consensus(given, called, options, flavor=flavor, half_width=half_width, n_cells=n_cells)
            write_consensus(regions, stack.enter_context(replacing(Path(out) / CONSENSUS, force=True)))
        if matrix:
            counts = pp.make_peak_matrix(given.adata, regions)
            counts.obs[given.label] = given.groups
            for key in given.adata.obsm:
                counts.obsm[key] = given.adata.obsm[key]
            write_h5ad(counts, stack.enter_context(replacing(Path(out) / MATRIX, force=True)))
        files = ex.export_peaks(called, out_dir=out, prefix=prefix, suffix=f".{form}", output_format=form, raw_scores=raw_scores)
    return Written(
        {name: Path(path) for name, path in files.items()},
        n_cells,
        {name: len(frame) for name, frame in called.items()},
        consensus=Path(out) / CONSENSUS if consensus or matrix else None,
        n_consensus=0 if regions is None else len(regions),
        matrix=Path(out) / MATRIX if matrix else None,
    )


def _check_call(options: Mapping[str, Any]) -> None:
    """Raise for values out of range before anything is read."""
    defaults = {n: p.default for n, p in signature(tl.call_peaks).parameters.items()}
    o = {**defaults, **options}
    checked_model(qvalue=o["qvalue"], pvalue=o["pvalue"], whole=o["counting_strategy"] == "fragment", copies=o["use_counts"],
           shift=o["shift"], extsize=o["extsize"], min_length=o["min_len"], max_gap=o["max_gap"], nolambda=o["nolambda"],
           call_summits=o["call_summits"], broad=o["call_broad_peaks"], broad_cutoff=o["broad_cutoff"])  # fmt: skip
    checked_window(o["min_frag_size"], o["max_frag_size"])


def _consensus(
    given: Given,
    called: dict[str, pd.DataFrame],
    options: dict[str, Any],
    *,
    flavor: Literal["snapatac2", "archr"],
    half_width: int,
    n_cells: dict[str, int],
) -> pd.DataFrame:
    """One set of regions; "archr" takes the peaks of each replicate by itself, where there are replicates."""
    genome = genome_of(given.adata)
    if flavor == "snapatac2":
        return tl.merge_peaks(called, genome, half_width=half_width)
    peaks: Any = called
    if given.replicate is not None:
        peaks = {name: {} for name in called}
        without = {k: v for k, v in options.items() if k not in ("selections", "replicate_qvalue", "min_cells")}
        copies = np.asarray(given.replicate, dtype=object)
        for copy in given.replicate.categories:
            here = [
                g if r == copy and len(called.get(g, ())) else None for g, r in zip(given.groups, copies, strict=True)
            ]
            if any(group is not None for group in here):
                of_groups: Any = here
                peaks_here = tl.call_peaks(given.adata, of_groups, inplace=False, **without) or {}
                for group, frame in peaks_here.items():
                    peaks[group][copy] = frame
    return tl.merge_peaks(
        peaks, genome, half_width=half_width, flavor="archr", blacklist=options.get("blacklist"), n_cells=n_cells
    )
