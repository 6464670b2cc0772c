"""Jobs on groups of cells and on bulk samples: peaks, and coverage tracks."""

from __future__ import annotations

import inspect
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gpuatac import check, ex, pp, slots, tl
from gpuatac.backend import resolve
from gpuatac.errors import InputError
from gpuatac.ex import _outputs as outputs
from gpuatac.io.files.atomic import replacing
from gpuatac.io.fragments.attach import genome_of
from gpuatac.io.matrices.h5ad import write_h5ad
from gpuatac.memory import set_memory
from gpuatac.tl._peaks import checked_model, checked_window
from gpuatac.workflow.groups.inputs import Given, cells_and_groups
from gpuatac.workflow.main_job.by_cluster import write_consensus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd

    from gpuatac.backend import Device

FLAVORS = ("snapatac2", "archr")
NOT_OF_PEAKS = ("adata", "groupby", "replicate", "key_added", "inplace")
NOT_OF_COVERAGE = ("adata", "groupby", "out_dir", "suffix")
FILES_OF_PEAKS = ("blacklist",)
FILES_OF_COVERAGE = ("blacklist", "include_for_norm", "exclude_for_norm")
CONSENSUS, MATRIX = "consensus.bed", "peaks.h5ad"


@dataclass(frozen=True)
class Written:
    """What a job on groups wrote."""

    files: dict[str, Path]  # by group
    n_cells: dict[str, int]
    n_peaks: dict[str, int] = field(default_factory=dict)
    consensus: Path | None = None
    n_consensus: int = 0
    matrix: Path | None = None


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
    prefix: str = "",
    device: Device = "auto",
    memory: str | int | None = None,
    force: bool = False,
    **options: Any,
) -> Written:
    """Call peaks in groups of cells, or in bulk samples, and write them to files.

    Writes into ``out``: one file for each group; ``consensus.bed`` (chrom, start, end, groups that have the region) and
    ``peaks.h5ad`` (cells x consensus peaks) where asked. All take their places together at the end.

    Parameters
    ----------
    inputs
        An .h5ad written by gpuatac; or fragment files (see ``pp.import_fragments``), one for each sample.
    out
        Output folder, made when it is not there.
    groupby
        Column of obs of the .h5ad, or of ``groups``, that holds the groups. Without groups each sample is one.
    groups
        Table (tab-separated, header optional): barcode or sample#barcode, group, and more columns where it has a header.
    replicate
        Column of obs or of ``groups``, or a table like ``groups``: a group's peaks must be found in each replicate.
    genome, contigs
        Of fragment files: the genome, and "main" (default) or "all" chromosomes.
    names
        Sample names; by default the files' stems.
    bulk
        BAM files have no barcodes: each is one sample.
    bam_options
        Of BAM files: barcode_tag, barcode_regex, min_mapq, is_paired.
    consensus, flavor, half_width
        Merge the peaks of all groups, see ``tl.merge_peaks``. "archr" uses replicates where they are given.
    matrix
        Count every cell in the consensus peaks, see ``pp.make_peak_matrix``.
    output_format, prefix
        Of the peak files, see ``ex.export_peaks``.
    device, memory
        As in ``run``.
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
    _check_names(options, tl.call_peaks, NOT_OF_PEAKS)
    _check_call(options)
    check.one_of("flavor", flavor, FLAVORS)
    half_width = check.integer("half_width", half_width, 0, 2**28)
    check.one_of("output_format", output_format, (None, "narrowPeak", "broadPeak", "gappedPeak", "bed"))
    if output_format == "gappedPeak" and not options.get("call_broad_peaks"):
        msg = "output_format='gappedPeak' needs broad regions; pass call_broad_peaks=True (--broad) or choose another format."
        raise InputError(msg)
    given, paths = _read(inputs, out, device=device, memory=memory, files=_files(options, FILES_OF_PEAKS), groupby=groupby,
                         groups=groups, replicate=replicate, genome=genome, contigs=contigs, names=names, bulk=bulk,
                         bam_options=bam_options)  # fmt: skip
    found, codes = slots.groups_of(given.adata, given.groups, options.get("selections"))
    form = output_format or ("broadPeak" if options.get("call_broad_peaks") else "narrowPeak")
    targets = [Path(out) / name for name in outputs.file_names(found, prefix, f".{form}")]
    more = [Path(out) / name for name, asked in ((CONSENSUS, consensus or matrix), (MATRIX, matrix)) if asked]
    _may_write([*targets, *more], paths, force=force)
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
        files = ex.export_peaks(called, out_dir=out, prefix=prefix, suffix=f".{form}", output_format=form)
    return Written(
        {name: Path(path) for name, path in files.items()},
        n_cells,
        {name: len(frame) for name, frame in called.items()},
        consensus=Path(out) / CONSENSUS if consensus or matrix else None,
        n_consensus=0 if regions is None else len(regions),
        matrix=Path(out) / MATRIX if matrix else None,
    )


def coverage(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    groupby: str | None = None,
    groups: str | Path | None = None,
    genome: str | Path | None = None,
    contigs: Literal["main", "all"] | None = None,
    names: Sequence[str] | None = None,
    bulk: bool = False,
    bam_options: Mapping[str, Any] | None = None,
    suffix: str | None = None,
    device: Device = "auto",
    memory: str | int | None = None,
    force: bool = False,
    **options: Any,
) -> Written:
    """Write the coverage of groups of cells, or of bulk samples, as bigWig or bedGraph files.

    Writes into ``out``: one file for each group; all take their places together at the end.

    Parameters
    ----------
    inputs, out, groupby, groups, genome, contigs, names, bulk, bam_options, device, memory, force
        As in ``peaks``.
    suffix
        End of the file names; by default .bw, or .bedgraph with .gz or .zst as output_format and compression ask.
    options
        Any other keyword of ``ex.export_coverage``, such as bin_size, normalization or selections.

    Returns
    -------
    Written
        Paths and numbers of cells.

    Raises
    ------
    OutputExistsError
        When a file is there and ``force`` is not set.
    InputError
        For inputs or options that do not fit; nothing is written then.

    Examples
    --------
    >>> import gpuatac as ga
    >>> ga.workflow.coverage("sample.bed.gz", "tracks", genome="hg38", normalization="CPM")  # doctest: +SKIP
    """
    _check_names(options, ex.export_coverage, NOT_OF_COVERAGE)
    suffix = _suffix(options) if suffix is None else suffix
    outputs.format_of(suffix, options.get("output_format"))
    given, paths = _read(inputs, out, device=device, memory=memory, files=_files(options, FILES_OF_COVERAGE), groupby=groupby,
                         groups=groups, replicate=None, genome=genome, contigs=contigs, names=names, bulk=bulk,
                         bam_options=bam_options)  # fmt: skip
    found, codes = slots.groups_of(given.adata, given.groups, options.get("selections"))
    targets = [Path(out) / name for name in outputs.file_names(found, options.get("prefix", ""), suffix)]
    _may_write(targets, paths, force=force)
    files = ex.export_coverage(given.adata, given.groups, out_dir=out, suffix=suffix, **options)
    sizes = np.bincount(codes[codes >= 0], minlength=len(found))
    return Written(
        {name: Path(path) for name, path in files.items()},
        {name: int(n) for name, n in zip(found, sizes, strict=True)},
    )


def _read(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    device: Device,
    memory: str | int | None,
    files: list[Path],
    groups: str | Path | None,
    genome: str | Path | None,
    bam_options: Mapping[str, Any] | None,
    **how: Any,
) -> tuple[Given, list[Path]]:
    """The cells and their groups, and the files that were read."""
    if memory is not None:
        set_memory(memory)
    if Path(out).exists() and not Path(out).is_dir():
        msg = f"out {out} is a file; allowed: a folder, made when it is not there; choose another name."
        raise InputError(msg)
    paths = [Path(p) for p in ([inputs] if isinstance(inputs, str | Path) else inputs)]
    given = cells_and_groups(
        paths,
        groups=None if groups is None else Path(groups),
        genome=None if genome is None else str(genome),
        bam=dict(bam_options or {}),
        device=resolve(device).name,
        **how,
    )
    return given, [*paths, *files, *([Path(groups)] if groups is not None else [])]


def _check_names(options: Mapping[str, Any], verb: Callable[..., Any], without: Sequence[str]) -> None:
    known = [name for name in inspect.signature(verb).parameters if name not in without]
    unknown = sorted(set(options) - set(known))
    if unknown:
        msg = f"unknown option {unknown[0]!r}; allowed: {', '.join(known)}."
        raise InputError(msg)


def _check_call(options: Mapping[str, Any]) -> None:
    """Raise for values out of range before anything is read."""
    defaults = {n: p.default for n, p in inspect.signature(tl.call_peaks).parameters.items()}
    o = {**defaults, **options}
    checked_model(qvalue=o["qvalue"], pvalue=o["pvalue"], whole=o["counting_strategy"] == "fragment", copies=o["use_counts"],
           shift=o["shift"], extsize=o["extsize"], min_length=o["min_len"], max_gap=o["max_gap"], nolambda=o["nolambda"],
           call_summits=o["call_summits"], broad=o["call_broad_peaks"], broad_cutoff=o["broad_cutoff"])  # fmt: skip
    checked_window(o["min_frag_size"], o["max_frag_size"])


def _files(options: Mapping[str, Any], which: Sequence[str]) -> list[Path]:
    """The files named in the options, which must be there."""
    found = []
    for name in which:
        value = options.get(name)
        if isinstance(value, str | Path):
            check.existing_file(Path(value), name)
            found.append(Path(value))
    return found


def _suffix(options: Mapping[str, Any]) -> str:
    if options.get("output_format") != "bedgraph":
        return ".bw"
    return ".bedgraph" + {"gzip": ".gz", "zstandard": ".zst"}.get(str(options.get("compression")), "")


def _may_write(targets: list[Path], inputs: list[Path], *, force: bool) -> None:
    """Raise when a file may not be replaced, would be written twice, or is an input."""
    read = {path.resolve() for path in inputs}
    for path in targets:
        if path.resolve() in read:
            msg = f"{path} is an input and would be replaced; allowed: outputs beside the inputs; choose another folder (out, --out)."
            raise InputError(msg)
        check.may_write(path, force=force)
    twice = next((path for path in targets if targets.count(path) > 1), None)
    if twice is not None:
        msg = f"{twice.name} would be written twice; allowed: groups of other names; rename the group or pass prefix (--prefix)."
        raise InputError(msg)


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
