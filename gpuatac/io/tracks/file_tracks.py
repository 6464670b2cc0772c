"""Tracks of coverage files as sources: what ``FragmentTracks`` offers, from bigWig and bedGraph."""

from __future__ import annotations

import copy
import logging
from collections import OrderedDict
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac import check
from gpuatac.backend import resolve
from gpuatac.core.track_source import HALF_WIDTH
from gpuatac.core.tracks import cut_pairs, cut_tracks
from gpuatac.errors import FileFormatError, InputError
from gpuatac.io.tracks.signal_files import bare_name, open_signal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuatac.backend import Device
    from gpuatac.genome import Genome
    from gpuatac.io.tracks.signal_files import SignalFile

logger = logging.getLogger(__name__)

BLOCK = 1 << 21  # bp read at once
KEPT_BLOCKS = 4  # of each file
KEPT_CHROMOSOMES = 2  # of each file, as cuts
TRIED = 1 << 20  # bp of each chromosome that are turned into cuts to see whether they can be
ASK_DEPTH = "give depth, the cuts (reads) of the whole library (--depth; to train --clean-depth, --noisy-depth)"
LEAST_SPAN = 0.8  # part of the genome between the first and the last values from which a file holds the whole library


class FileTracks:
    """Tracks of coverage files, one group each.

    Where a file's values are sums of cuts over ``half_width`` bp on each side, or such sums times one factor (CPM, say), the
    cuts themselves are told from it exactly, and coverage comes in cuts; on a chromosome without one uncovered base (a mitochondrial
    one at depth) several sets of cuts fit, and an even one is taken. A binned, smoothed or otherwise changed track has
    coverage alone, as it stands in the file.

    Attributes
    ----------
    factors
        Of each file what a cut counts: 1 for counts, the scale of a normalised track; None where cuts cannot be told, and values
        are taken as they are.

    Parameters
    ----------
    paths
        bigWig or bedGraph files; what they are is told by their content.
    genome
        Chromosome names and sizes; None takes those of the first file, a bigWig.
    groups
        Names, all different; by default those of the files without their endings.
    depth
        Cuts of each whole library. None: taken from the files, as their sum over 2 * half_width + 1, and logged.
    half_width
        bp on each side of a cut that the coverage counts, from 0.
    device
        Where arrays go: "cpu", "gpu", or "auto".

    Raises
    ------
    InputError
        Where ``depth`` is not given and a file covers a part of the genome or does not count cuts.
    FileFormatError
        For files of another genome and damaged ones; see ``io.tracks.signal_files.open_signal``.

    Examples
    --------
    >>> from gpuatac.io.tracks.fragment_tracks import FileTracks
    >>> source = FileTracks(["noisy.bw"], genome=None, depth=[5e6])  # doctest: +SKIP
    >>> source.coverage(0, 0, 1000).shape  # doctest: +SKIP
    (1, 1000)
    """

    has_lengths = False

    def __init__(
        self,
        paths: Sequence[str | Path],
        *,
        genome: Genome | None = None,
        groups: Sequence[str] | None = None,
        depth: Sequence[float] | np.ndarray | None = None,
        half_width: int = HALF_WIDTH,
        device: Device = "auto",
    ) -> None:
        files = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
        self.half_width = check.integer("half_width", half_width, 0, 1_000_000)
        self.groups = [bare_name(path) for path in files] if groups is None else list(groups)
        if not files or len(set(self.groups)) != len(files) or len(self.groups) != len(files):
            msg = f"{len(set(self.groups))} group names for {len(files)} files; give at least one file, and a name of its own to each."
            raise InputError(msg)
        self.bk = resolve(device)
        self._files: list[SignalFile] = []
        for path in files:
            self._files.append(open_signal(path, genome))
            genome = self._files[0].genome
        self.genome = self._files[0].genome
        self.codes = sorted({code for file in self._files for code in file.codes})
        self._kept: OrderedDict[tuple[int, int, int], np.ndarray] = OrderedDict()
        self._kept_cuts: OrderedDict[tuple[int, int], tuple[Any, Any]] = OrderedDict()
        self._kept_fragments: OrderedDict[tuple[int, int], tuple[Any, Any]] = OrderedDict()
        self._paired = False
        self._lock = RLock()
        self._thinnings: tuple[tuple[np.ndarray, int], ...] = ()
        self.factors: list[float | None] = [None] * len(files)
        for number in range(len(files)):
            self.factors[number] = self._factor(number)
        self.has_cuts = None not in self.factors
        self.depth = self._depths() if depth is None else _checked_depth(depth, len(files))

    @cached_property
    def cuts_held(self) -> np.ndarray:
        """float64 (n_groups,): the cuts that the files hold, as their sum tells."""
        cuts = np.array([sum(map(file.total, file.codes)) for file in self._files]) / (2 * self.half_width + 1)
        held: np.ndarray = cuts / np.array([factor or 1.0 for factor in self.factors])
        return held

    def coverage(self, code: int, start: int, stop: int) -> Any:
        """float32 (n_groups, stop - start): cuts within ``half_width`` of each base."""
        if self._thinnings:
            cuts = self.cuts(code, start - self.half_width, stop + self.half_width)[:, 0]
            return cut_tracks.coverage_of(self.bk, cuts, self.half_width, inner=True).astype(np.float32)
        out = np.empty((len(self.groups), stop - start), np.float32)
        for number in range(len(self.groups)):
            out[number] = self._values(number, code, start, stop)
        return self.bk.asarray(out)

    def cuts(self, code: int, start: int, stop: int, *, bin_size: int = 1, by_length: bool = False) -> Any:
        """float32 (n_groups, 1, (stop - start) / bin_size): cuts in each bin. Raises where the files do not tell them."""
        if by_length or not self.has_cuts:
            what = "the lengths of fragments" if by_length else "cuts"
            msg = (
                f"the tracks of {', '.join(map(str, self.groups))} do not tell {what}; "
                "use a fragment file, or a model that needs coverage alone (--model resnet)."
            )
            raise InputError(msg)
        xp, n_bins = self.bk.xp, (stop - start) // bin_size
        out = xp.empty((len(self.groups), 1, n_bins), np.float32)
        for number in range(len(self.groups)):
            position, count = self._cuts_of(number, code)
            low, high = (int(i) for i in xp.searchsorted(position, self.bk.asarray(np.array([start, stop], np.int64))))
            position, count = position[low:high], count[low:high]
            if self._thinnings:
                item, copy_number = cut_tracks.repeated(self.bk, count)
                if self._paired:
                    first, fragment = self._fragments_of(number, code)
                    read = cut_tracks.mixed(self._key(number, code), fragment[int(first[low]) : int(first[high])])
                else:
                    read = cut_tracks.mixed(self._key(number, code), position[item], copy_number)
                group = xp.full(item.size, number)
                kept = cut_tracks.staying(self.bk, read, group, self._thinnings)
                count = xp.bincount(item[kept], minlength=position.size)
            place = (position - start) // bin_size
            out[number, 0] = xp.bincount(place, weights=count.astype(np.float64), minlength=n_bins)
        return out

    def empty(self, code: int, start: int, stop: int) -> np.ndarray:
        """Host int64 (n, 2): stretches of [start, stop) where no group has coverage."""
        occupied = (self.coverage(code, start, stop) != 0).any(axis=0)
        return cut_tracks.empty_stretches(self.bk, occupied, 1, start=start, half_width=0)

    def thin(self, share: np.ndarray, seed: int, *, paired: bool = False) -> FileTracks:
        """The same tracks with ``share`` of each group's cuts; see ``thinned``."""
        if not self.has_cuts:
            msg = "cuts cannot be told from these files, so none can be left out; give tracks of counted cuts, or fragments."
            raise InputError(msg)
        other = copy.copy(self)
        other._thinnings = (*self._thinnings, (share, seed))
        other._paired = paired
        other.depth = self.depth * share
        other.__dict__["cuts_held"] = self.cuts_held * share
        return other

    def _key(self, number: int, code: int) -> int:
        return cut_tracks.key_of(self.groups[number], self.genome.names[code])

    # ------------------------------------------------------------------------------------ values and scale

    def _values(self, number: int, code: int, start: int, stop: int) -> np.ndarray:
        """Values of one file in cuts, host float32; nothing beyond the chromosome's ends."""
        out = np.zeros(stop - start, np.float32)
        low, high = max(start, 0), min(stop, int(self.genome.sizes[code]))
        for block in range(low // BLOCK, -(-high // BLOCK)):
            values = self._block(number, code, block)
            begin, end = max(low, block * BLOCK), min(high, block * BLOCK + values.size)
            out[begin - start : end - start] = values[begin - block * BLOCK : end - block * BLOCK]
        return out

    def _block(self, number: int, code: int, block: int) -> np.ndarray:
        with self._lock:
            place = (number, code, block)
            if place in self._kept:
                self._kept.move_to_end(place)
                return self._kept[place]
            stop = min((block + 1) * BLOCK, int(self.genome.sizes[code]))
            values = self._files[number].values(code, block * BLOCK, stop)
            factor = self.factors[number]
            if factor is not None and factor != 1:
                values = np.rint(values / factor, out=values)
            self._kept[place] = values
            while len(self._kept) > KEPT_BLOCKS * len(self._files):
                self._kept.popitem(last=False)
            return values

    def _factor(self, number: int) -> float | None:
        """What a cut counts in a file, by the first bases of its chromosomes; None where these are no sums of cuts."""
        file = self._files[number]
        found = [np.zeros(0, np.float32)]
        for code in file.codes:
            first, _ = file.extent(code)
            stop = min(first + TRIED, int(self.genome.sizes[code]))
            found.append(np.unique(file.values(code, first, stop)))
        values = np.unique(np.concatenate(found))
        factor = self.factors[number] = cut_tracks.factor_of(values[values > 0])
        why = "values are no multiples of one number"
        if factor is not None:
            try:
                for code in file.codes:
                    first, last = file.extent(code)
                    self._inverted(number, code, first, min(first + TRIED, last))
            except FileFormatError as err:
                factor, why = None, str(err)
                self._kept.clear()  # divided by it
        if factor is None:
            logger.info("%s: coverage alone, as it stands, and no cuts: %s", file.path.name, why)
        elif factor != 1:
            logger.info("%s: a cut counts %.6g; values are divided by that", file.path.name, factor)
        return factor

    # ----------------------------------------------------------------------------------------------- cuts

    def _cuts_of(self, number: int, code: int) -> tuple[Any, Any]:
        """Positions of cuts (int64, ascending) and how many there are (int32), of a chromosome of one file."""
        with self._lock:
            place = (number, code)
            if place not in self._kept_cuts:
                first, last = self._files[number].extent(code)
                self._kept_cuts[place] = self._inverted(number, code, first, last)
                while len(self._kept_cuts) > KEPT_CHROMOSOMES * len(self._files):
                    self._kept_cuts.popitem(last=False)
            self._kept_cuts.move_to_end(place)
            return self._kept_cuts[place]

    def _fragments_of(self, number: int, code: int) -> tuple[Any, Any]:
        """Of each position with cuts the number of cuts before it, with their total; and the fragment each cut may belong to."""
        with self._lock:
            place = (number, code)
            if place not in self._kept_fragments:
                position, count = self._cuts_of(number, code)
                self._kept_fragments[place] = cut_pairs.fragments_of(self.bk, position, count)
                while len(self._kept_fragments) > KEPT_CHROMOSOMES * len(self._files):
                    self._kept_fragments.popitem(last=False)
            self._kept_fragments.move_to_end(place)
            return self._kept_fragments[place]

    def _inverted(self, number: int, code: int, first: int, last: int) -> tuple[Any, Any]:
        """The cuts behind the coverage of [first, last), where the values of a chromosome begin at ``first``.

        A file may hold a part of a chromosome: what lies left of its first value is either known to be without cuts, or, where
        that does not fit, found with the rest.
        """
        xp, half_width = self.bk.xp, self.half_width
        size = int(self.genome.sizes[code])
        positions, counts = [xp.zeros(0, np.int64)], [xp.zeros(0, np.int32)]
        before = None if first < half_width else xp.zeros(2 * half_width, np.int32)
        for start in range(first, last, BLOCK):
            stop = min(start + BLOCK, last)
            coverage = self.bk.asarray(self._values(number, code, start, stop))
            outside = max(0, half_width - start), max(0, stop + half_width - size)
            try:
                try:
                    cuts = cut_tracks.cuts_of_coverage(
                        self.bk, coverage, half_width, before=before, outside=outside
                    ).cuts
                except InputError:
                    if start > first or before is None:
                        raise
                    cuts = cut_tracks.cuts_of_coverage(self.bk, coverage, half_width, outside=outside).cuts
            except InputError as err:
                raise FileFormatError(
                    self._files[number].path,
                    f"on {self.genome.names[code]} from base {start:,} a track that is no sum of cuts ({str(err).rstrip('.')})",
                    f"counts of cuts within {half_width} bp of each base",
                    "use a model that needs coverage alone, give the half width it was made with, or start from fragments",
                ) from err
            known = 0 if start == first else 2 * half_width
            there = xp.flatnonzero(cuts[known:]) + known
            positions.append(there + (start - half_width))
            counts.append(cuts[there])
            before = cuts[cuts.size - 2 * half_width :]
        return xp.concatenate(positions), xp.concatenate(counts)

    # ---------------------------------------------------------------------------------------------- depth

    def _depths(self) -> np.ndarray:
        """Cuts of each library, from files that cover the genome and count cuts."""
        depth = np.zeros(len(self._files))
        for number, file in enumerate(self._files):
            factor = self.factors[number]
            if factor is None:
                counts = any(map(file.total, file.codes))
                what = (
                    f"does not count cuts within {self.half_width} bp of each base"
                    if counts
                    else "has no value above 0"
                )
                msg = f"{file.path} {what} and so does not tell its depth; {ASK_DEPTH}."
                raise InputError(msg)
            span = sum(last - first for first, last in map(file.extent, file.codes)) / int(self.genome.sizes.sum())
            if span < LEAST_SPAN:
                msg = (
                    f"{file.path} has values on {span:.1%} of genome {self.genome.name}, so the depth of its library cannot be told "
                    f"from it; {ASK_DEPTH}."
                )
                raise InputError(msg)
            depth[number] = sum(map(file.total, file.codes)) / factor / (2 * self.half_width + 1)
            logger.info("%s: depth taken from the file: %.0f cuts", file.path.name, depth[number])
        return depth


def _checked_depth(depth: Any, n_groups: int) -> np.ndarray:
    numbers = np.atleast_1d(np.asarray(depth))
    values = numbers.astype(np.float64) if numbers.dtype.kind in "iuf" else np.zeros(0)
    if values.shape != (n_groups,) or not (np.isfinite(values) & (values > 0)).all():
        msg = f"depth must be {n_groups} numbers above 0, the cuts (reads) of each whole library, got {depth!r}."
        raise InputError(msg)
    return values
