"""Peaks of each group of cells."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from gpuatac import check, progress, slots
from gpuatac.core.counting.counts import merge_intervals
from gpuatac.core.counting.regions import coordinates
from gpuatac.core.peaks import calling as core
from gpuatac.core.tracks.pseudobulk import FragmentFilter
from gpuatac.errors import InputError
from gpuatac.io.fragments.attach import genome_of
from gpuatac.io.fragments.pseudobulk import Pseudobulks
from gpuatac.io.genome.bed import regions_frame
from gpuatac.io.genome.peak_rows import within
from gpuatac.provenance import records
from gpuatac.tl._peak_tables import intervals_overlap, joined, peak_frame
from gpuatac.tl.peak_options import BROAD_CUTOFF, checked_model, checked_window, warn_unused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from anndata import AnnData

    from gpuatac.core.peaks.scores import Blocks, CalledPeaks, PeakModel
    from gpuatac.genome import Genome

logger = logging.getLogger(__name__)
#: Effective genome sizes by MACS's short names.
GENOME_SIZES = {"hs": 2_913_022_398, "mm": 2_652_783_500, "ce": 100_286_401, "dm": 142_573_017}


@records("tl.call_peaks")
def call_peaks(
    adata: AnnData,
    groupby: str | Sequence[str] | None = None,
    *,
    qvalue: float = 0.05,
    pvalue: float | None = None,
    call_summits: bool = True,
    call_broad_peaks: bool = False,
    broad_cutoff: float = 0.1,
    replicate: str | Sequence[str] | None = None,
    replicate_qvalue: float | None = None,
    min_frag_size: int | None = None,
    max_frag_size: int | None = None,
    selections: Collection[str] | None = None,
    min_cells: int = 1,
    nolambda: bool = False,
    shift: int = -100,
    extsize: int = 200,
    min_len: int | None = None,
    max_gap: int | None = None,
    counting_strategy: Literal["insertion", "fragment"] = "insertion",
    use_counts: bool = False,
    max_count: int | None = None,
    genome_size: float | Literal["hs", "mm", "ce", "dm"] | None = None,
    blacklist: Any = None,
    exclude_chroms: Collection[str] | None = None,
    key_added: str = slots.PEAKS,
    inplace: bool = True,
) -> dict[str, pd.DataFrame] | None:
    """Call peaks in each group of cells, all groups in one batch: MACS3's numbers without MACS3.

    Reads   fragments; obs[groupby].
    Writes  uns[key_added]: one frame, rows by group, chromosome (byte order), position and summit: group (categorical), chrom
            (categorical), start, end (int32, 0-based half-open), score (int32: 10 x -log10 q, of p where ``pvalue`` bounds it, 1000
            at most), strand ("."), signal_value (fold change at the summit), p_value, q_value (-log10; float32, as MACS3 rounds),
            peak (int32: summit - start; as low as -10; -1 for broad regions), raw_score (int32: the score without its bound).
            ``peaks_by_group`` gives it by group, ``ex.export_peaks`` writes files.

    A peak is where many cuts lie close together: each cut is widened to ``extsize`` bp, and the pileup is compared with a
    Poisson rate, the higher of the genome's and that of the 10 kb around. Rows equal those of ``macs3 callpeak`` 3.0.4 without a
    control and with all duplicates kept: ``-f BED --nomodel --shift -100 --extsize 200 --call-summits --max-gap 30 --min-length
    200`` as SnapATAC2's ``tl.macs3`` runs it; ``-f BEDPE`` with ``counting_strategy="fragment"``; ``-f FRAG`` with
    ``use_counts=True`` as well. What MACS3 finds behind the end of a chromosome is cut off: rows end with it, and those that begin
    behind it (a large ``shift``) are left out.

    Parameters
    ----------
    adata
        Cells with fragments.
    groupby
        A column of obs, or a label for each cell; None: all cells as one group, named "all".
    qvalue
        Bound on the q-value (Benjamini-Hochberg over all bases), in [1e-300, 1]: peaks have less. 1 keeps all that is below 1,
        as in MACS3.
    pvalue
        Bound on the p-value instead of ``qvalue``, in [1e-300, 1].
    call_summits
        Split a region into subpeaks, one row each, that share start and end.
    call_broad_peaks
        Broad regions: strong stretches linked by weaker ones (``broad_cutoff``) over gaps 4 times as wide. The strong stretches are in
        two more columns, block_sizes and block_starts, as in the gappedPeak format.
    broad_cutoff
        Highest q-value (p-value with ``pvalue``) of the weaker stretches of broad regions.
    replicate
        A column of obs, or a label for each cell: peaks of a group are kept if they overlap a peak of each of its replicates.
    replicate_qvalue
        Highest q-value of the peaks of replicates; by default that of the others.
    min_frag_size
        Shortest fragment used, in bp.
    max_frag_size
        Longest fragment used, in bp (180 takes the nucleosome-free ones).
    selections
        Groups to use; by default all.
    min_cells
        Groups of fewer cells have no peaks called; a warning names them.
    nolambda
        Compare with the genome's rate alone, not with the surroundings.
    shift
        How far each cut is moved in the direction of its strand, in bp. Not used for whole fragments.
    extsize
        How wide each cut is made, in bp. Not used for whole fragments.
    min_len
        Shortest peak, in bp; by default ``extsize``, for whole fragments their mean length.
    max_gap
        Widest gap bridged, in bp; by default 30, for whole fragments their mean length.
    counting_strategy
        "insertion" piles up both cuts of each fragment, "fragment" the whole fragment.
    use_counts
        Count a fragment as often as it was copied (column 5 of the file). As in MACS3 the background of such whole fragments reaches
        before base 0, where a fragment that starts at base 0 can cost other peaks their q-value.
    max_count
        Count a copied fragment this often at most; by default as often as it was copied.
    genome_size
        Effective genome size in bp, or MACS's "hs", "mm", "ce", "dm"; by default the sum of all chromosomes, as SnapATAC2.
    blacklist
        BED file or regions; peaks that overlap one are dropped after calling.
    exclude_chroms
        Chromosomes left out, such as "chrM"; by default none is.
    key_added
        Where in uns the frame goes.
    inplace
        False returns {group: frame} and writes nothing.

    Raises
    ------
    InputError
        For values out of range, unknown groups or chromosomes.

    Cost: two passes over the fragments, about 0.1 s of a CPU core for each million cuts.

    Examples
    --------
    >>> import gpuatac as ga
    >>> ga.tl.call_peaks(adata, groupby="leiden", max_frag_size=180)  # doctest: +SKIP
    """
    check.one_of("counting_strategy", counting_strategy, ("insertion", "fragment"))
    model = checked_model(
        qvalue=qvalue,
        pvalue=pvalue,
        whole=counting_strategy == "fragment",
        copies=use_counts,
        shift=shift,
        extsize=extsize,
        min_length=min_len,
        max_gap=max_gap,
        nolambda=nolambda,
        call_summits=call_summits,
        broad=call_broad_peaks,
        broad_cutoff=broad_cutoff,
    )
    unused = {
        "broad_cutoff": (broad_cutoff != BROAD_CUTOFF and not call_broad_peaks, "call_broad_peaks"),
        "replicate_qvalue": (replicate_qvalue is not None and replicate is None, "replicate"),
        "max_count": (max_count is not None and not use_counts, "use_counts"),
    }
    warn_unused("tl.call_peaks", unused)
    min_cells = check.integer("min_cells", min_cells, 0)
    genome = genome_of(adata)
    size = _genome_size(genome_size, genome)
    if max_count is not None:
        max_count = check.integer("max_count", max_count, 1, 2**31 - 1)
    keep = FragmentFilter(*checked_window(min_frag_size, max_frag_size), max_copies=max_count)
    codes = _codes(exclude_chroms, genome)
    banned = None if blacklist is None else _merged(blacklist, genome)
    names, group = slots.groups_of(adata, groupby, selections)
    small = np.bincount(group[group >= 0], minlength=len(names)) < min_cells
    if small.any():
        which = ", ".join(name for name, few in zip(names, small, strict=True) if few)
        logger.warning("tl.call_peaks: fewer than %d cells in %s; no peaks are called there", min_cells, which)
        group = np.where((group >= 0) & small[group], np.int32(-1), group)
    reproducible: list[list[CalledPeaks]] = [[] for _ in names]
    if replicate is not None:
        strict = (
            model if replicate_qvalue is None else checked_model(**{**vars(model), "qvalue": replicate_qvalue, "pvalue": None})
        )
        reproducible = _replicates(adata, group, len(names), replicate, strict, size, keep=keep, codes=codes)
    chroms = [genome.names[c] for c in codes]
    frames: dict[str, pd.DataFrame] = dict.fromkeys(names, pd.DataFrame())
    behind = 0
    for g, peaks, blocks in _call(adata, group, len(names), model, size, keep=keep, codes=codes):
        frame = peak_frame(peaks, blocks, chroms, by_p=pvalue is not None)
        at = np.asarray(codes, np.int32)[peaks.chrom]
        kept = np.ones(len(frame), bool)
        for other in reproducible[g]:
            other_chrom = np.asarray(codes, np.int32)[other.chrom]
            kept &= intervals_overlap(at, peaks.start, peaks.end, merge_intervals(other_chrom, other.start, other.end))
        if banned is not None:
            kept &= ~intervals_overlap(at, peaks.start, peaks.end, banned)
        frame = frame if kept.all() else frame[kept].reset_index(drop=True)
        frames[names[g]] = within(frame, genome)
        behind += len(frame) - len(frames[names[g]])
    if behind:
        told = "tl.call_peaks: %d peaks lie behind the end of their chromosome, where shift moves cuts, and are left out"
        logger.warning(told, behind)
    logger.info("tl.call_peaks: %s", ", ".join(f"{name} {len(frame):,}" for name, frame in frames.items()))
    if not inplace:
        return frames
    adata.uns[key_added] = joined(frames)
    return None


def peaks_by_group(adata: AnnData, key: str = slots.PEAKS) -> dict[str, pd.DataFrame]:
    """The peaks of each group, as ``call_peaks`` stored them.

    Reads   uns[key].
    Returns {group: frame without the group column}.

    Examples
    --------
    >>> import gpuatac as ga
    >>> ga.tl.peaks_by_group(adata)["0"]  # doctest: +SKIP
    """
    frame = slots.uns_of(adata, key, writer="tl.call_peaks")
    if not isinstance(frame, pd.DataFrame) or "group" not in frame:
        msg = f"adata.uns[{key!r}] is no table of peaks with a group column; call tl.call_peaks first."
        raise InputError(msg)
    names = list(frame["group"].cat.categories)
    return {str(n): frame[frame["group"] == n].drop(columns="group").reset_index(drop=True) for n in names}


def _genome_size(given: float | str | None, genome: Genome) -> float:
    if given is None:
        return float(genome.sizes.sum())
    if isinstance(given, str):
        check.one_of("genome_size", given, tuple(GENOME_SIZES))
        return float(GENOME_SIZES[given])
    check.between("genome_size", given, 1.0, 1e15)
    return float(given)


def _codes(excluded: Collection[str] | None, genome: Genome) -> list[int]:
    names = [excluded] if isinstance(excluded, str) else list(excluded or ())
    unknown = [name for name in names if name not in genome.code]
    if unknown:
        msg = f"exclude_chroms names {', '.join(map(repr, unknown))}, which genome {genome.name} lacks."
        raise InputError(msg)
    left_out = {genome.code[name] for name in names}
    return [code for code in range(len(genome.names)) if code not in left_out]


def _merged(regions: str | Path | Any, genome: Genome) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    at = coordinates(regions_frame(regions, genome, may_be_empty=True), genome, what="blacklisted regions")
    return merge_intervals(at.chrom, at.start, at.end)


def _call(
    adata: AnnData,
    group: np.ndarray,
    n_groups: int,
    model: PeakModel,
    genome_size: float,
    *,
    keep: FragmentFilter,
    codes: list[int],
) -> Iterator[tuple[int, CalledPeaks, Blocks | None]]:
    """Peaks of each group; their chromosome numbers count ``codes``."""
    with (
        Pseudobulks(adata, group, n_groups, keep=keep, weighted=model.copies, codes=codes) as bulk,
        progress.bar("groups", n_groups, unit="group") as done,
    ):
        mean = bulk.totals.bases / np.maximum(bulk.totals.rows, 1)
        at = np.searchsorted(codes, bulk.codes).astype(np.int32)
        for g, peaks, blocks in core.call_peaks(
            bulk.bk, bulk.sources, bulk.totals, model, genome_size=genome_size, mean_length=mean
        ):
            yield g, peaks._replace(chrom=at[peaks.chrom] if at.size else peaks.chrom), blocks
            done(1)


def _replicates(
    adata: AnnData,
    group: np.ndarray,
    n_groups: int,
    replicate: str | Sequence[str],
    model: PeakModel,
    genome_size: float,
    *,
    keep: FragmentFilter,
    codes: list[int],
) -> list[list[CalledPeaks]]:
    """For each group the peaks of each replicate it has cells of."""
    names, copy = slots.groups_of(adata, replicate)
    both = np.where((group >= 0) & (copy >= 0), group.astype(np.int64) * len(names) + copy, -1)
    used = np.unique(both[both >= 0])
    number = np.where(both >= 0, np.searchsorted(used, both), -1).astype(np.int32)
    out: list[list[CalledPeaks]] = [[] for _ in range(n_groups)]
    for k, peaks, _ in _call(adata, number, used.size, model, genome_size, keep=keep, codes=codes):
        out[int(used[k]) // len(names)].append(peaks)
    return out
