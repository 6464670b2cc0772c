"""Tracks of groups of cells, or of files, window by window: what denoising, its training and its evaluation read from.

Both classes satisfy ``core.track_source.TrackSource``. ``thinned`` gives the same source at a lower depth.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpuatac import check
from gpuatac.core.counting.counts import merge_intervals
from gpuatac.core.counting.regions import coordinates
from gpuatac.core.track_source import HALF_WIDTH, LENGTH_CLASSES
from gpuatac.core.tracks import cut_tracks
from gpuatac.core.tracks.pseudobulk import overlaps
from gpuatac.errors import InputError
from gpuatac.io.fragments.attach import attached, genome_of
from gpuatac.io.fragments.store import backend_holding
from gpuatac.io.genome.bed import regions_frame
from gpuatac.io.tracks.file_tracks import FileTracks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from gpuatac.core.track_source import TrackSource

EMPTY_BIN = 64  # bp
KEPT_CHROMOSOMES = 2  # of each sample, where its fragments stay on disk


class _Rows(NamedTuple):
    """Columns of one chromosome of one sample."""

    start: Any
    end: Any
    cell: Any
    longest: int


class _Sample(NamedTuple):
    """A sample's fragments, a 64-bit name of each cell, and the groups of each: CSR, or one group (-1: none) each."""

    fragments: Any
    cell_key: Any  # uint64 (n_cells,)
    ptr: Any  # int64 (n_cells + 1,)
    groups: Any  # int32
    single: Any | None  # int32 (n_cells,) where no cell is in two groups


class FragmentTracks:
    """Tracks of Tn5 cuts of groups of an AnnData's cells.

    A fragment has two cuts, at ``start`` and at ``end - 1``, each counted once whatever the number of PCR copies. A cell may
    be in several groups. ``depth`` counts the cuts on every chromosome, the mitochondrial one included.

    Reads   fragments, where they lie: in memory, on a GPU, or chromosome by chromosome from disk.

    Parameters
    ----------
    adata
        Cells with fragments.
    members
        Of each group the numbers of its rows in ``adata``; a row named twice counts twice.
    groups
        Names of the groups.
    half_width
        bp on each side of a cut that coverage counts, from 0.
    blacklist
        Fragments that overlap these regions are left out, with both cuts: a BED path, a frame, or a list like "chr1:100-200".

    Raises
    ------
    InputError
        For rows that ``adata`` lacks, or samples on different devices.

    Cost: a window takes the fragments in and near it, found by bisection, and one counter for each group and base.

    Examples
    --------
    >>> import numpy as np
    >>> from gpuatac.io.tracks.fragment_tracks import FragmentTracks
    >>> source = FragmentTracks(adata, [np.arange(50)], ["first cells"])  # doctest: +SKIP
    >>> source.coverage(0, 1_000_000, 1_010_000).shape  # doctest: +SKIP
    (1, 10000)
    """

    has_cuts = True
    has_lengths = True

    def __init__(
        self,
        adata: AnnData,
        members: Sequence[np.ndarray],
        groups: Sequence[str],
        *,
        half_width: int = HALF_WIDTH,
        blacklist: Any = None,
    ) -> None:
        self.half_width = check.integer("half_width", half_width, 0, 1_000_000)
        self.groups = list(groups)
        self.genome = genome_of(adata)
        rows, group = _checked_members(members, len(self.groups), adata.n_obs)
        parts = attached(adata)
        self.bk = backend_holding(parts[0].fragments)
        if any(backend_holding(part.fragments) is not self.bk for part in parts):
            msg = "the samples' fragments lie on different devices; move them with gpuatac.to_device first."
            raise InputError(msg)
        self._samples = [self._sample(part, rows, group) for part in parts]
        self._blacklist = None
        if blacklist is not None:
            at = coordinates(regions_frame(blacklist, may_be_empty=True), self.genome, what="blacklisted regions")
            self._blacklist = merge_intervals(at.chrom, at.start, at.end)
        self.codes = sorted({code for s in self._samples for code, _ in s.fragments.chromosomes()})
        self._thinnings: tuple[tuple[np.ndarray, int], ...] = ()
        self._kept: OrderedDict[tuple[int, int], _Rows] = OrderedDict()
        self._longest: dict[tuple[int, int], int] = {}
        self._lock = RLock()

    def _sample(self, part: Any, rows: np.ndarray, group: np.ndarray) -> _Sample:
        n_cells = part.row_of_cell.size
        cell_of_row = np.full(int(max(rows.max(initial=-1), part.row_of_cell.max(initial=-1))) + 1, -1, np.int64)
        known = part.row_of_cell >= 0
        cell_of_row[part.row_of_cell[known]] = np.flatnonzero(known)
        cell = cell_of_row[rows]
        order = np.flatnonzero(cell >= 0)
        order = order[np.argsort(cell[order], kind="stable")]
        n_of_cell = np.bincount(cell[order], minlength=n_cells)
        single = None
        if n_of_cell.max(initial=0) <= 1:
            single = np.full(n_cells, -1, np.int32)
            single[cell[order]] = group[order]
        keys = [cut_tracks.key_of(part.sample, str(barcode)) for barcode in part.fragments.barcodes.tolist()]
        move = self.bk.asarray
        ptr = np.concatenate([[0], np.cumsum(n_of_cell)]).astype(np.int64)
        return _Sample(
            part.fragments,
            move(np.array(keys, np.uint64)),
            move(ptr),
            move(group[order].astype(np.int32)),
            None if single is None else move(single),
        )

    @cached_property
    def depth(self) -> np.ndarray:
        """float64 (n_groups,): cuts of each group over the whole genome; counted on first use."""
        n_groups = len(self.groups)
        total = np.zeros(n_groups)
        if self._blacklist is not None:
            for code in self.codes:
                *_, group = self._fragments(code, 0, int(self.genome.sizes[code]))
                total += self.bk.to_host(self.bk.xp.bincount(group, minlength=n_groups))
            return 2 * total
        for sample in self._samples:
            n_cells = sample.cell_key.size
            of_cell = np.zeros(n_cells, np.int64)
            for code, _ in sample.fragments.chromosomes():
                cell = sample.fragments.columns(code).cell
                of_cell += self.bk.to_host(self.bk.xp.bincount(cell, minlength=n_cells))
            of_member = np.repeat(of_cell, np.diff(self.bk.to_host(sample.ptr)))
            total += np.bincount(self.bk.to_host(sample.groups), of_member, minlength=n_groups)
        return 2 * total

    @property
    def cuts_held(self) -> np.ndarray:
        """float64 (n_groups,): the cuts that are here, which is all of them."""
        return self.depth

    def coverage(self, code: int, start: int, stop: int) -> Any:
        """float32 (n_groups, stop - start): cuts within ``half_width`` of each base."""
        left, right, group = self._fragments(code, start - self.half_width, stop + self.half_width)
        position = self.bk.xp.concatenate([left, right - 1]).astype(np.int64)
        row = self.bk.xp.concatenate([group, group]).astype(np.int64)
        shape = (len(self.groups), stop - start)
        return cut_tracks.coverage_at(self.bk, row, position, shape, start=start, half_width=self.half_width)

    def cuts(self, code: int, start: int, stop: int, *, bin_size: int = 1, by_length: bool = False) -> Any:
        """float32 (n_groups, n_classes, (stop - start) / bin_size): cuts in each bin, in all or by ``LENGTH_CLASSES``."""
        xp = self.bk.xp
        n_classes, n_bins = len(LENGTH_CLASSES) if by_length else 1, (stop - start) // bin_size
        left, right, group = self._fragments(code, start, stop)
        row = group.astype(np.int64)
        if by_length:
            bounds = self.bk.asarray(np.array([bound for bound, _ in LENGTH_CLASSES[1:]], np.int32))
            row = row * n_classes + xp.searchsorted(bounds, right - left, side="right")
        out = xp.zeros(len(self.groups) * n_classes * n_bins, np.float32)
        for at in (left, right - 1):
            inside = xp.flatnonzero((at >= start) & (at < stop))
            xp.add.at(out, row[inside] * n_bins + (at[inside] - start) // bin_size, np.float32(1))
        return out.reshape(len(self.groups), n_classes, n_bins)

    def empty(self, code: int, start: int, stop: int) -> np.ndarray:
        """Host int64 (n, 2): stretches of [start, stop) where no group has coverage; some under 0.2 kb are left out."""
        low, high = start - self.half_width, stop + self.half_width
        occupied = self.bk.xp.zeros(-(-(high - low) // EMPTY_BIN), bool)
        left, right, _ = self._fragments(code, low, high)
        for at in (left, right - 1):
            occupied[(at[(at >= low) & (at < high)] - low) // EMPTY_BIN] = True
        found = cut_tracks.empty_stretches(self.bk, occupied, EMPTY_BIN, start=low, half_width=self.half_width)
        inside: np.ndarray = np.clip(found, start, stop)
        return inside[inside[:, 1] > inside[:, 0]]

    def thin(self, share: np.ndarray, seed: int, *, paired: bool = True) -> FragmentTracks:
        """The same tracks with ``share`` of each group's fragments, always whole; see ``thinned``."""
        del paired
        other = copy.copy(self)
        other._thinnings = (*self._thinnings, (share, seed))
        other.__dict__["depth"] = self.depth * share
        return other

    def _rows(self, number: int, code: int) -> _Rows:
        """The columns of one chromosome of sample ``number``; the last few stay in memory where they come from disk."""
        with self._lock:
            if (number, code) in self._kept:
                self._kept.move_to_end((number, code))
                return self._kept[number, code]
            columns = self._samples[number].fragments.columns(code)
            if (number, code) not in self._longest:
                self._longest[number, code] = int((columns.end - columns.start).max())
            rows = _Rows(columns.start, columns.end, columns.cell, self._longest[number, code])
            self._kept[number, code] = rows
            while len(self._kept) > KEPT_CHROMOSOMES * len(self._samples):
                self._kept.popitem(last=False)
            return rows

    def _fragments(self, code: int, low: int, high: int) -> tuple[Any, Any, Any]:
        """(start, end, group) of every group's fragments among which are all that have a cut in [low, high)."""
        xp = self.bk.xp
        parts = [(xp.zeros(0, np.int32),) * 3]
        for number, sample in enumerate(self._samples):
            if sample.fragments.chrom_ptr[code] < sample.fragments.chrom_ptr[code + 1]:
                parts.append(self._of_sample(number, code, low, high))
        if len(parts) == 2:
            return parts[1]
        start, end, group = (xp.concatenate([part[k] for part in parts]) for k in range(3))
        return start, end, group

    def _of_sample(self, number: int, code: int, low: int, high: int) -> tuple[Any, Any, Any]:
        """The fragments of one sample, repeated for each group they are in."""
        xp, bk, sample = self.bk.xp, self.bk, self._samples[number]
        rows = self._rows(number, code)
        ends = np.clip([low - rows.longest, high], 0, 2**31 - 1).astype(np.int32)
        first, last = (int(i) for i in xp.searchsorted(rows.start, bk.asarray(ends)))
        start, end, cell = rows.start[first:last], rows.end[first:last], rows.cell[first:last]
        rank = cut_tracks.rank_among_equals(bk, start, end, cell) if self._thinnings else None
        kept = (sample.ptr[cell + 1] > sample.ptr[cell]) & (end > low)
        if self._blacklist is not None:
            kept &= ~overlaps(bk, code, start, end, self._blacklist)
        kept = xp.flatnonzero(kept)
        start, end, cell = start[kept], end[kept], cell[kept]
        read = None
        if rank is not None:
            ends_of_read = start.astype(np.int64) << 32 | end
            read = cut_tracks.mixed(
                cut_tracks.key_of(self.genome.names[code]), ends_of_read, sample.cell_key[cell], rank[kept]
            )
        if sample.single is not None:
            group = sample.single[cell]
        else:
            item, copy_number = cut_tracks.repeated(bk, sample.ptr[cell + 1] - sample.ptr[cell])
            start, end, cell = start[item], end[item], cell[item]
            read = None if read is None else read[item]
            group = sample.groups[sample.ptr[cell] + copy_number]
        if read is None:
            return start, end, group
        kept = cut_tracks.staying(bk, read, group, self._thinnings)
        return start[kept], end[kept], group[kept]


def thinned(source: TrackSource, share: float | np.ndarray, *, seed: int, paired: bool = False) -> TrackSource:
    """The same tracks at a lower depth: a random part of the reads, the same ones whatever window is asked.

    Of fragments both cuts stay or go; of a file's track each cut does, or with ``paired`` both of those that may be the ends of
    one fragment (``core.tracks.cut_pairs``), which has the noise of paired-end reads. Whether a read stays is a hash of what it is
    (chromosome, place, cell) and of ``seed``: a smaller share of one seed is a part of a larger one, and thinnings of
    thinned tracks are independent where their seeds differ.

    Parameters
    ----------
    source
        ``FragmentTracks`` or ``FileTracks`` with cuts.
    share
        Part of the reads that stays, in [0, 1]: one number, or one for each group.
    seed
        Any whole number from 0.
    paired
        Of a file's track: cuts stay or go by two.

    Returns
    -------
    TrackSource
        A view that shares memory with ``source``; ``depth`` is scaled by ``share``.

    Raises
    ------
    InputError
        For a share outside [0, 1], or a track from which cuts cannot be told.

    Examples
    --------
    >>> from gpuatac.io.tracks.fragment_tracks import thinned
    >>> thinned(source, 0.1, seed=0).depth  # doctest: +SKIP
    """
    seed = check.integer("seed", seed, 0, 2**63 - 1)
    shares = np.asarray(share, np.float64)
    if shares.shape not in ((), (len(source.groups),)):
        msg = f"share has shape {shares.shape}; give one number, or one for each of {len(source.groups)} groups."
        raise InputError(msg)
    if not ((shares >= 0) & (shares <= 1)).all():
        msg = f"share must lie in [0, 1], got {shares.min():g} to {shares.max():g}."
        raise InputError(msg)
    if not isinstance(source, FragmentTracks | FileTracks):
        msg = f"{type(source).__name__} cannot be thinned; give FragmentTracks or FileTracks."
        raise InputError(msg)
    return source.thin(np.broadcast_to(shares, len(source.groups)).copy(), seed, paired=paired)


def _checked_members(members: Sequence[np.ndarray], n_groups: int, n_obs: int) -> tuple[np.ndarray, np.ndarray]:
    """All members' rows one after the other, and the group of each."""
    if len(members) != n_groups:
        msg = f"members has {len(members)} entries for {n_groups} groups; give one array of row numbers for each group."
        raise InputError(msg)
    arrays = [np.asarray(rows) for rows in members]
    arrays = [rows if rows.size else rows.astype(np.int64) for rows in arrays]
    if any(rows.ndim != 1 or rows.dtype.kind not in "iu" for rows in arrays):
        msg = "members must hold one-dimensional arrays of row numbers; np.flatnonzero makes them of a mask."
        raise InputError(msg)
    rows = np.concatenate([np.zeros(0, np.int64), *arrays])
    check.none_true(
        (rows < 0) | (rows >= n_obs), f"row numbers lie outside [0, {n_obs})", "take them from this AnnData"
    )
    return rows, np.repeat(np.arange(n_groups), [rows.size for rows in arrays])
