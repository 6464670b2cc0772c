"""Coverage tracks of groups of cells."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gpuatac import check, slots
from gpuatac.core.counting.counts import LOADING_BYTES, merge_intervals
from gpuatac.core.counting.regions import coordinates
from gpuatac.core.tracks import coverage
from gpuatac.core.tracks.coverage import Denominator, Method, Normalization, Reads
from gpuatac.core.tracks.pseudobulk import FragmentFilter
from gpuatac.errors import InputError
from gpuatac.io.fragments.attach import genome_of
from gpuatac.io.fragments.pseudobulk import Pseudobulks
from gpuatac.io.genome.bed import regions_frame
from gpuatac.io.tracks import outputs
from gpuatac.io.tracks.bigwig import BigWigWriter
from gpuatac.io.tracks.text_tracks import TextWriter, bedgraph_text
from gpuatac.progress import bar
from gpuatac.provenance import records
from gpuatac.threads import COUNTING_THREAD

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anndata import AnnData

    from gpuatac.genome import Genome

LEAST_ZOOM = 16  # bins of the first zoom level


@records("ex.export_coverage")
def export_coverage(
    adata: AnnData,
    groupby: str | Sequence[str] | None,
    *,
    selections: Sequence[str] | None = None,
    bin_size: int = 10,
    blacklist: Any = None,
    normalization: Method | None = "RPKM",
    denominator: Denominator = "reads",
    include_for_norm: Any = None,
    exclude_for_norm: Any = None,
    min_frag_length: int | None = None,
    max_frag_length: int | None = 2000,
    counting_strategy: Literal["fragment", "insertion"] = "fragment",
    smooth_base: int | None = None,
    out_dir: str | Path = "./",
    prefix: str = "",
    suffix: str | None = None,
    output_format: Literal["bedgraph", "bigwig"] | None = None,
    compression: Literal["gzip", "zstandard"] | None = None,
    compression_level: int | None = None,
    tempdir: str | Path | None = None,
    n_jobs: int = 8,
) -> dict[str, str]:
    """Write one bigWig or bedGraph coverage track for each group of cells.

    Reads   fragments; obs[groupby].
    Returns {group: path of its file}, "{prefix}{group}{suffix}" in ``out_dir``. Existing files are replaced, each at once and
            only when every track is whole. "/" in a group's name becomes "_" in the file's; a group without fragments gets
            a valid file without values.

    A bin counts the reads that touch it: fragments, or their insertions at ``start`` and ``end - 1``. Neighbouring bins of
    one value are one interval, zeros are left out, and the last bin ends with the chromosome. With N reads and bins of b bp
    RPKM divides by N / 10^6 * b / 10^3, CPM by N / 10^6, BPM by the sum of all whole bins / 10^6: a last bin shorter than b is
    divided like the others and does not count in that sum. bigWig values are float32. Equal to SnapATAC2 2.9.0 with
    ``denominator="bases"``.

    Parameters
    ----------
    adata
        Cells with fragments.
    groupby
        A column of ``obs``, one label for each cell, or None for one track of all cells, named "all". Cells without a
        label are in no track.
    selections
        Groups to use; by default all.
    bin_size
        Bin width in bp.
    blacklist
        Reads that overlap these regions are left out: a BED path, a frame, or a list like "chr1:100-200"
        (0-based half-open).
    normalization
        How counts are scaled: "RPKM", "CPM", "BPM", or not at all (None).
    denominator
        What RPKM and CPM divide by: "reads", or "bases" for the sum of the reads' lengths, as SnapATAC2 2.9.0 does.
    include_for_norm
        Only reads that overlap these regions count in the scaling; given as ``blacklist`` is.
    exclude_for_norm
        Reads that overlap these regions do not count in the scaling; given as ``blacklist`` is.
    min_frag_length
        Shortest fragment counted, in bp; by default any.
    max_frag_length
        Longest fragment counted, in bp; None for no bound.
    counting_strategy
        What a fragment counts in: "fragment" for every base of it, "insertion" for its two cuts.
    smooth_base
        Width w in bp of a moving average over the normalised track: base i becomes the mean of [i - r, i + l], where
        l = (w - 1) // 2 and r = w - 1 - l, with zeros beyond the chromosome. Intervals are then single bases where it slopes.
    out_dir
        Folder of the files.
    prefix
        Start of the file names.
    suffix
        End of the file names; by default .bw, or .bedgraph with .gz or .zst as output_format and compression ask.
    output_format
        Format of the files: "bigwig" or "bedgraph"; by default what ``suffix`` says: .bw, .bigwig, .bedgraph, .bg, .bdg.
    compression
        Of bedGraph files: "gzip" (as BGZF) or "zstandard"; by default what ``suffix`` says: .gz, .zst, else none.
    compression_level
        1 to 9 for gzip (default 6), 1 to 22 for zstandard (default 3).
    tempdir
        Where zoom levels of bigWigs and long texts wait, about half the size of the files; by default the system's folder.
    n_jobs
        Tracks written at a time; 0 or below for every core.

    Raises
    ------
    InputError
        When an argument is out of range, or no read of a group is left to normalise by.

    Cost: two passes over the fragments. Memory holds a few chromosomes at a time.

    Examples
    --------
    >>> import gpuatac as ga
    >>> ga.ex.export_coverage(adata, "leiden", out_dir="tracks")  # doctest: +SKIP
    """
    bin_size = check.integer("bin_size", bin_size, 1, 2**31 - 1)
    check.one_of("normalization", normalization, (*coverage.METHODS, None))
    check.one_of("denominator", denominator, coverage.DENOMINATORS)
    check.one_of("counting_strategy", counting_strategy, ("fragment", "insertion"))
    if smooth_base is not None:
        smooth_base = check.integer("smooth_base", smooth_base, 1, 2**30)
    if suffix is None:
        suffix = outputs.suffix_of(output_format, compression)
    form = outputs.format_of(suffix, output_format)
    if form == "bedgraph":
        compression = outputs.compression_of(suffix, compression)
    elif compression is not None:
        msg = f"compression is {compression!r}, but a bigWig is compressed by itself; leave it out or write bedGraph."
        raise InputError(msg)
    compression_level = outputs.level_of(compression, compression_level)
    if tempdir is not None:
        check.existing_file(Path(tempdir), "tempdir")
    n_threads = outputs.n_threads_of(n_jobs)
    genome = genome_of(adata)
    norm = Normalization(
        normalization,
        denominator,
        _merged(include_for_norm, genome, "regions of include_for_norm"),
        _merged(exclude_for_norm, genome, "regions of exclude_for_norm"),
    )
    if normalization in (None, "BPM") and (include_for_norm is not None or exclude_for_norm is not None):
        msg = f"include_for_norm and exclude_for_norm have no meaning for normalization={normalization!r}; leave them out."
        raise InputError(msg)
    keep = length_filter(min_frag_length, max_frag_length, _merged(blacklist, genome, "regions of blacklist"))
    groups, group_of_row = slots.groups_of(adata, groupby, selections)
    paths = outputs.targets(out_dir, outputs.file_names(groups, prefix, suffix))
    reads = Reads(counting_strategy == "insertion", keep)
    bulks = Pseudobulks(adata, group_of_row, len(groups), keep=keep)
    amounts, divisors = _divisors(bulks, reads, norm, bin_size, groups, n_threads)
    with ExitStack() as stack:
        folder = (
            Path(stack.enter_context(TemporaryDirectory(dir=tempdir, prefix="gpuatac-"))) if form == "bigwig" else None
        )
        chroms = list(zip(genome.names, genome.sizes.tolist(), strict=True))
        writers: list[Any] = []
        for g, path in enumerate(outputs.partials(stack, paths)):
            if folder is None:
                writers.append(TextWriter(path, compression=compression, level=compression_level, tempdir=tempdir))
            else:
                first = _first_zoom(bin_size, int(genome.sizes.sum()), int(amounts.total[g]))
                writers.append(BigWigWriter(path, chroms, spill=folder / str(g), first_zoom=first))
        tracks = partial(coverage.track, bulks.bk, bin_size=bin_size, window=smooth_base)
        pool = ThreadPoolExecutor(n_threads, COUNTING_THREAD, initializer=bulks.bk.use)
        ordered = [outputs.InOrder(writer) for writer in writers]
        try:
            _write(bulks, reads, tracks, divisors, ordered, pool, n_threads)
            list(pool.map(lambda writer: writer.close(), writers))
        finally:  # before the stack removes what the threads write
            pool.shutdown(cancel_futures=True)
            for one in ordered:
                one.discard()
    return {group: str(path) for group, path in zip(groups, paths, strict=True)}


def length_filter(shortest: int | None, longest: int | None, blacklist: Any = None) -> FragmentFilter:
    """The filter of checked lengths."""
    if shortest is not None:
        shortest = check.integer("min_frag_length", shortest, 0, 2**31 - 1)
    if longest is not None:
        longest = check.integer("max_frag_length", longest, shortest or 0, 2**31 - 1)
    return FragmentFilter(shortest, longest, blacklist)


def _merged(regions: Any, genome: Genome, what: str) -> Any:
    if regions is None:
        return None
    may_be_empty = not what.endswith("include_for_norm")
    frame = regions_frame(regions, genome, may_be_empty=may_be_empty)
    return merge_intervals(*coordinates(frame, genome, what=what))


def _first_zoom(bin_size: int, genome_size: int, n_reads: int) -> int:
    """bp of the first zoom level: a power of four times 16 bins, at least about the distance between reads."""
    width = LEAST_ZOOM * bin_size
    while width * n_reads < genome_size and width < 1 << 24:
        width *= 4
    return width


def _divisors(
    bulks: Pseudobulks, reads: Reads, norm: Normalization, bin_size: int, groups: list[str], n_threads: int
) -> tuple[coverage.Amounts, np.ndarray]:
    """Reads of each group and what its counts are divided by; raises where that is 0 though there are reads."""

    def one(code: int) -> coverage.Amounts:
        size = int(bulks.genome.sizes[code])
        return coverage.amounts_of(
            bulks.bk, bulks.samples, code, reads, norm, n_groups=len(groups), bin_size=bin_size, size=size
        )

    none = coverage.Amounts(*(np.zeros(len(groups), np.int64) for _ in coverage.Amounts._fields))
    if bulks.bk.name == "gpu":
        amounts = sum(map(one, bulks.codes), start=none)
    else:
        with ThreadPoolExecutor(_at_once(bulks, n_threads), COUNTING_THREAD) as pool:
            amounts = sum(pool.map(one, bulks.codes), start=none)
    divisors = coverage.divisors(amounts, norm, bin_size)
    lost = [group for group, n, divisor in zip(groups, amounts.total, divisors, strict=True) if n and not divisor]
    if lost:
        msg = (
            f"{len(lost)} of {len(groups)} groups have no read to normalise by ({', '.join(map(repr, lost[:3]))}); widen "
            "include_for_norm, narrow exclude_for_norm, choose smaller bins, or leave the groups out by selections."
        )
        raise InputError(msg)
    return amounts, np.where(divisors == 0, 1.0, divisors)


def _write(
    bulks: Pseudobulks,
    reads: Reads,
    tracks: Callable[..., Any],
    divisors: np.ndarray,
    ordered: list[outputs.InOrder],
    pool: ThreadPoolExecutor,
    n_threads: int,
) -> None:
    """Every group's track, chromosome by chromosome; a few chromosomes are under way at once, as far as memory goes."""
    on_gpu = bulks.bk.name == "gpu"
    n_groups = len(ordered)
    at_once = _at_once(bulks, 1 + -(-n_threads // max(1, n_groups)))

    def ends_of(code: int) -> Any:
        return reads.ends(bulks.bk, bulks.samples, code, n_groups=n_groups)

    def put(number: int, code: int, g: int, parts: Any) -> None:
        name = bulks.genome.names[code]
        writer = ordered[g].writer
        packed = (
            writer.pack(name, parts) if isinstance(writer, BigWigWriter) else writer.pack(bedgraph_text(name, parts))
        )
        ordered[g].put(number, packed)

    def prepare(code: int) -> Any:
        return None if on_gpu else pool.submit(ends_of, code)

    under_way: deque[list[Any]] = deque()
    prepared = deque((code, prepare(code)) for code in bulks.codes[:1])
    with bar("tracks", len(bulks.codes), unit="chromosome") as advance:
        for number in range(len(bulks.codes)):
            code, waiting = prepared.popleft()
            ends = ends_of(code) if waiting is None else waiting.result()
            prepared.extend((code, prepare(code)) for code in bulks.codes[number + 1 : number + 2])
            size = int(bulks.genome.sizes[code])
            jobs = []
            for g in range(n_groups):
                parts = tracks(coverage.ends_of_group(ends, g), size=size, divisor=float(divisors[g]))
                jobs.append(pool.submit(put, number, code, g, list(parts) if on_gpu else parts))
            under_way.append(jobs)
            while len(under_way) >= at_once:
                for job in under_way.popleft():
                    job.result()
                advance(1)
        for jobs in under_way:
            for job in jobs:
                job.result()
            advance(1)


def _at_once(bulks: Pseudobulks, wanted: int) -> int:
    """How many chromosomes may be in memory at once: ``wanted``, or as many of the largest as a quarter of the limit holds."""
    ptrs = [np.diff(sample.fragments.chrom_ptr) for sample in bulks.samples]
    largest = int(np.sum(ptrs, axis=0).max(initial=1))
    return max(1, min(wanted, bulks.bk.limit() // 4 // max(1, largest * LOADING_BYTES)))
