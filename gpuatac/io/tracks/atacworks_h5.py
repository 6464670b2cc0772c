"""AtacWorks' HDF5 files of training examples: as rows, and as the tracks they were cut from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from gpuatac import check
from gpuatac.core.track_source import HALF_WIDTH
from gpuatac.core.tracks import cut_pairs, cut_tracks
from gpuatac.errors import FileFormatError, InputError
from gpuatac.io.genome.bed import regions_frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuatac.backend.protocol import Backend
    from gpuatac.genome import Genome

INPUT, CLEAN, PEAKS = "input", "label_reg", "label_cla"
ALLOWED = (
    "an HDF5 file of AtacWorks: input, label_reg and label_cla of one shape, (examples, interval + 2 * pad) numbers"
)
ROWS = 256  # read at a time
REMEDY = "give a file written by AtacWorks' bw2h5 (with labels), or the tracks themselves"


@dataclass(frozen=True)
class AtacworksH5:
    """One file of examples, read by rows.

    Attributes
    ----------
    path
        The file.
    n, width
        Examples, and bases of each with its padding.
    """

    path: Path
    n: int
    width: int

    @classmethod
    def open(cls, path: str | Path) -> AtacworksH5:
        """Check a file's layout.

        Raises
        ------
        FileFormatError
            When a data set is missing, of another shape than the input, or holds no numbers.
        """
        path = Path(path)
        check.existing_file(path, "training file")
        if path.is_dir() or not h5py.is_hdf5(path):
            raise FileFormatError(path, "no HDF5 file", ALLOWED, REMEDY)
        with h5py.File(path, "r") as file:
            missing = [name for name in (INPUT, CLEAN, PEAKS) if not isinstance(file.get(name), h5py.Dataset)]
            if missing:
                held = ", ".join(file) or "nothing"
                raise FileFormatError(path, f"no {' and no '.join(missing)} (it has {held})", ALLOWED, REMEDY)
            shapes = {name: file[name].shape for name in (INPUT, CLEAN, PEAKS)}
            kinds = {file[name].dtype.kind for name in shapes}
        first = shapes[INPUT]
        if len(first) != 2 or 0 in first or len({*shapes.values()}) > 1 or kinds - set("fiu"):
            shown = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise FileFormatError(path, shown, ALLOWED, REMEDY)
        return cls(path, *map(int, first))

    def rows(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Input, clean coverage and peak labels of examples [first, last): float32 (last - first, width) each.

        Raises :class:`FileFormatError` for negative or NaN coverage, or labels other than 0 and 1.
        """
        with h5py.File(self.path, "r") as file:
            x, y, peak = (np.asarray(file[name][first:last], np.float32) for name in (INPUT, CLEAN, PEAKS))
        for name, values in ((INPUT, x), (CLEAN, y)):
            bad = ~(values >= 0)
            if bad.any():
                row = first + int(np.flatnonzero(bad.any(axis=1))[0])
                found = f"{values[bad].flat[0]} in {name}, example {row}"
                raise FileFormatError(self.path, found, "coverage of 0 or more", REMEDY)
        if not np.isin(peak, (0, 1)).all():
            raise FileFormatError(self.path, f"{PEAKS} other than 0 and 1", "0 or 1 at each base", REMEDY)
        return x, y, peak


class Intervals:
    """Where the examples of a file lie, chromosome by chromosome.

    Attributes
    ----------
    code, start
        int32, int64 (n,): chromosome and first base (without padding) of each example.
    length
        bp of each, without padding.
    """

    def __init__(self, code: np.ndarray, start: np.ndarray, length: int) -> None:
        self.code, self.start, self.length = code, start, length

    @classmethod
    def read(cls, file: AtacworksH5, bed: str | Path, genome: Genome, *, pad: int = 0, noisy: Any = None) -> Intervals:
        """The rows of ``bed`` that a file's examples were cut from.

        AtacWorks leaves intervals without noisy coverage out of the file; where ``bed`` has more rows than the file, ``noisy``
        (a track source, row 0) says which.

        Raises
        ------
        InputError
            When they do not fit: other lengths, other numbers, chromosomes that the genome lacks.
        """
        frame = regions_frame(bed)
        code = genome.codes_of(frame["chrom"].astype(str))
        start, end = frame["start"].to_numpy(np.int64), frame["end"].to_numpy(np.int64)
        length = file.width - 2 * pad
        check.none_true(code < 0, f"intervals of {bed} lie on no chromosome of genome {genome.name}", "give its genome")
        check.none_true(
            end - start != length,
            f"intervals of {bed} are not of {length:,} bp, as the examples without {pad:,} bp of padding are",
            "give the pad the file was written with (--pad)",
        )
        check.none_true(
            end > genome.sizes[code], f"intervals of {bed} end beyond their chromosome", "give their genome"
        )
        if len(code) > file.n and noisy is not None:
            keep = np.array(
                [
                    bool((noisy.coverage(int(c), int(s), int(s) + length)[0] > 0).any())
                    for c, s in zip(code, start, strict=True)
                ]
            )
            code, start = code[keep], start[keep]
        if len(code) != file.n:
            more = (
                "; give the noisy track too (--noisy), which says which of them were left out" if noisy is None else ""
            )
            msg = (
                f"{bed} has {len(code):,} intervals and {file.path.name} {file.n:,} examples; allowed: one interval for each example, "
                f"in order{more or '; give the file they were cut with'}."
            )
            raise InputError(msg)
        return cls(code.astype(np.int32), start, length)


class H5Tracks:
    """The clean or the noisy track of AtacWorks' HDF5 files, put together from their intervals.

    Satisfies ``core.track_source.TrackSource``, with one group. ``coverage`` is NaN where no example lies; ``cuts`` are those of
    the known stretches, as far as their coverage tells. All is in memory: 4 bytes a known base, 4 more for cuts once asked for.

    Parameters
    ----------
    files, intervals
        The files and where their examples lie.
    what
        "clean" or "noisy".
    genome
        Their genome.
    depth
        Reads of the whole library.
    bk
        The backend that arrays are to lie on.
    half_width
        bp on each side of a cut that the coverage counts.
    pad
        bp at both ends of the examples that are left out.

    Raises
    ------
    InputError
        When intervals overlap.
    """

    has_lengths = False

    def __init__(
        self,
        files: Sequence[AtacworksH5],
        intervals: Sequence[Intervals],
        *,
        what: str,
        genome: Genome,
        depth: float,
        bk: Backend,
        half_width: int = HALF_WIDTH,
        pad: int = 0,
    ) -> None:
        check.one_of("what", what, ("clean", "noisy"))
        self.bk, self.genome, self.groups, self.half_width = bk, genome, [what], half_width
        self.depth = np.array([depth], np.float64)
        tracks: dict[int, list[Stretch]] = {}
        peaks: dict[int, list[np.ndarray]] = {}
        for code, start, x, y, label in _examples(files, intervals, pad):
            tracks.setdefault(code, []).append((start, y if what == "clean" else x))
            edges = np.flatnonzero(np.diff(label > 0, prepend=False, append=False))
            peaks.setdefault(code, []).append(edges.reshape(-1, 2) + start)
        self._stretches = {code: _joined(parts, genome.names[code]) for code, parts in tracks.items()}
        self._peaks = {code: _ends_joined(np.concatenate(parts)) for code, parts in peaks.items()}
        self.codes = sorted(self._stretches)
        self._fragments: dict[int, tuple[Any, Any]] = {}

    def coverage(self, code: int, start: int, stop: int) -> Any:
        """float32 (1, stop - start): coverage, NaN where it is unknown."""
        return self.bk.asarray(self._host(code, start, stop, np.nan)[None])

    def known(self, code: int, start: int, stop: int) -> np.ndarray:
        """Host bool (stop - start,): whether an example holds the base."""
        out = np.zeros(stop - start, bool)
        for at, values in self._stretches.get(code, ()):
            out[max(at - start, 0) : max(at + len(values) - start, 0)] = True
        return out

    def peaks(self) -> dict[int, np.ndarray]:
        """By code the stretches labelled as peaks: int64 (n, 2), ascending."""
        return self._peaks

    @cached_property
    def has_cuts(self) -> bool:
        """Whether the coverage is a sum of whole cuts."""
        try:
            _ = self._cuts
        except InputError:
            return False
        return True

    @cached_property
    def _cuts(self) -> dict[int, tuple[Any, Any]]:
        """By chromosome, on the backend: bases with cuts, int64 ascending, and how many each has."""
        h, xp = self.half_width, self.bk.xp
        found = {}
        for code, stretches in self._stretches.items():
            size = int(self.genome.sizes[code])
            places, counts, end = [], [], -h
            for start, values in stretches:
                stop = start + len(values)
                outside = (max(h - start, 0), max(stop + h - size, 0))
                cuts = cut_tracks.cuts_of_coverage(self.bk, self.bk.asarray(values), h, outside=outside).cuts
                cuts[: max(end - (start - h), 0)] = 0  # the stretch before tells of these bases too
                at = xp.flatnonzero(cuts)
                places.append(at + (start - h))
                counts.append(cuts[at])
                end = stop + h
            found[code] = xp.concatenate(places), xp.concatenate(counts)
        return found

    def cuts(self, code: int, start: int, stop: int, *, bin_size: int = 1, by_length: bool = False) -> Any:
        """float32 (1, 1, (stop - start) / bin_size): cuts in each bin; fragment lengths are not known."""
        _refuse_lengths(by_length=by_length)
        return _in_bins(self.bk, self._counts(code, start, stop), bin_size)

    def _counts(self, code: int, start: int, stop: int) -> Any:
        """int32 (stop - start,): cuts at each base, none beyond the chromosome on either side."""
        out = self.bk.xp.zeros(stop - start, np.int32)
        at, counts = self.cut_sites(code, start, stop)
        out[at - start] = counts
        return out

    def cut_sites(self, code: int, start: int, stop: int) -> tuple[Any, Any]:
        """Bases of [start, stop) with cuts, ascending, and how many each has."""
        if code not in self._cuts:
            return self.bk.xp.zeros(0, np.int64), self.bk.xp.zeros(0, np.int32)
        at, counts = self._cuts[code]
        first, last = self.range_of(code, start, stop)
        return at[first:last], counts[first:last]

    def empty(self, code: int, start: int, stop: int) -> np.ndarray:
        """Host int64 (n, 2): stretches without coverage, unknown ones among them."""
        zero = ~(self._host(code, start, stop, 0.0) > 0)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], zero, [False]]).astype(np.int8))).reshape(-1, 2)
        return edges.astype(np.int64) + start

    def thin(self, share: float, seed: int, *, paired: bool = False) -> ThinnedH5:
        """The same track with ``share`` of its cuts, each for itself or by two (``core.tracks.cut_pairs``)."""
        return ThinnedH5(self, share, seed, paired=paired)

    def range_of(self, code: int, start: int, stop: int) -> tuple[int, int]:
        """Where the bases of [start, stop) lie among those with cuts."""
        at, _ = self._cuts[code]
        first, last = self.bk.xp.searchsorted(at, self.bk.asarray(np.array([start, stop])))
        return int(first), int(last)

    def fragments(self, code: int) -> tuple[Any, Any]:
        """See ``core.tracks.cut_pairs.fragments_of``; found once."""
        if code not in self._fragments:
            self._fragments[code] = cut_pairs.fragments_of(self.bk, *self._cuts[code])
        return self._fragments[code]

    def _host(self, code: int, start: int, stop: int, fill: float) -> np.ndarray:
        out = np.full(stop - start, fill, np.float32)
        for at, values in self._stretches.get(code, ()):
            a, b = max(at, start), min(at + len(values), stop)
            if a < b:
                out[a - start : b - start] = values[a - at : b - at]
        return out


class ThinnedH5:
    """``H5Tracks`` with a part of its cuts: each stays or goes by a hash of its place and the seed, whatever window is asked."""

    has_cuts = True
    has_lengths = False

    def __init__(self, deep: H5Tracks, share: float, seed: int, *, paired: bool = False) -> None:
        check.between("share", share, 0, 1)
        self.deep, self.share, self.seed, self.paired = deep, share, seed, paired
        self.bk, self.genome, self.groups, self.half_width = deep.bk, deep.genome, deep.groups, deep.half_width
        self.codes, self.known, self.empty = deep.codes, deep.known, deep.empty
        self.depth = deep.depth * share

    def coverage(self, code: int, start: int, stop: int) -> Any:
        """float32 (1, stop - start): coverage of the cuts that stay."""
        h = self.half_width
        counts = self._counts(code, start - h, stop + h)
        return cut_tracks.coverage_of(self.bk, counts, h, inner=True).astype(np.float32)[None]

    def cuts(self, code: int, start: int, stop: int, *, bin_size: int = 1, by_length: bool = False) -> Any:
        """float32 (1, 1, (stop - start) / bin_size): those that stay in each bin."""
        _refuse_lengths(by_length=by_length)
        return _in_bins(self.bk, self._counts(code, start, stop), bin_size)

    def _counts(self, code: int, start: int, stop: int) -> Any:
        at, counts = self.deep.cut_sites(code, start, stop)
        site, number = cut_tracks.repeated(self.bk, counts)
        at = at[site]
        key = cut_tracks.mixed(self.seed, code)
        if self.paired and at.size:
            before, fragment = self.deep.fragments(code)
            first, last = self.deep.range_of(code, start, stop)
            read = cut_tracks.mixed(key, fragment[int(before[first]) : int(before[last])])
        else:
            read = cut_tracks.mixed(key, at, number)
        stays = cut_tracks.below(read, self.share)
        return self.bk.xp.bincount(at[stays] - start, minlength=stop - start)


Stretch = tuple[int, np.ndarray]


def _examples(
    files: Sequence[AtacworksH5], intervals: Sequence[Intervals], pad: int
) -> Iterator[tuple[int, int, np.ndarray, np.ndarray, np.ndarray]]:
    """Chromosome, start, input, clean coverage and labels of every example, without their padding."""
    for file, at in zip(files, intervals, strict=True):
        for first in range(0, file.n, ROWS):
            rows = file.rows(first, min(first + ROWS, file.n))
            for k, (x, y, label) in enumerate(zip(*(part[:, pad : part.shape[1] - pad] for part in rows), strict=True)):
                yield int(at.code[first + k]), int(at.start[first + k]), x, y, label


def _joined(parts: list[Stretch], name: str) -> list[Stretch]:
    """Stretches that touch as one, ascending."""
    parts = sorted(parts, key=lambda part: part[0])
    out: list[tuple[int, list[np.ndarray]]] = []
    end = -1
    for start, values in parts:
        if start < end:
            msg = f"intervals of {name} overlap at base {start:,}; allowed: disjoint ones; give each file its own intervals."
            raise InputError(msg)
        if start == end:
            out[-1][1].append(values)
        else:
            out.append((start, [values]))
        end = start + len(values)
    return [(start, np.concatenate(values)) for start, values in out]


def _ends_joined(runs: np.ndarray) -> np.ndarray:
    """Runs that touch as one, ascending."""
    runs = runs[np.argsort(runs[:, 0])].astype(np.int64)
    apart = runs[1:, 0] > runs[:-1, 1]
    return np.stack([runs[np.append(True, apart), 0], runs[np.append(apart, True), 1]], axis=1) if len(runs) else runs


def _in_bins(bk: Backend, counts: Any, bin_size: int) -> Any:
    return cut_tracks.binned(bk, counts, bin_size).astype(np.float32)[None, None]


def _refuse_lengths(*, by_length: bool) -> None:
    if by_length:
        msg = "AtacWorks' HDF5 files do not tell fragment lengths; choose a model that does without, or give fragments."
        raise InputError(msg)
