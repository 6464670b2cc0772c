"""Read a track of numbers along the genome, bigWig or bedGraph (plain, gzip, bgzip), told apart by what is in the file.

Positions without a value hold 0, as do a bigWig's NaN. A bigWig is read window by window; a bedGraph, which has no index, is
kept as runs of equal values, 12 bytes each.
"""

from __future__ import annotations

import struct
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from gpuatac import check
from gpuatac.errors import FileFormatError, InputError
from gpuatac.genome import Genome
from gpuatac.io.tracks.bedgraph import BedGraphSignal, bad_values, code_of

if TYPE_CHECKING:
    from collections.abc import Sequence

BIGWIG_MAGIC, BIGBED_MAGIC = 0x888FFC26, 0x8789F2EB
STEP = 1 << 22  # bp looked at in one go
_ENDINGS = (".bw", ".bigwig", ".bedgraph", ".bg", ".bdg", ".gz", ".txt")
_HEADER = struct.Struct("<IHHQQQHHQQIQ")


class SignalFile(Protocol):
    """A track over the chromosomes of ``genome``."""

    path: Path
    genome: Genome

    @property
    def codes(self) -> Sequence[int]:
        """The chromosomes with values, ascending."""
        ...

    def values(self, code: int, start: int, stop: int) -> np.ndarray:
        """Host float32 (stop - start,), 0 where the file has none. 0 <= start < stop <= chromosome size."""
        ...

    def extent(self, code: int) -> tuple[int, int]:
        """From the first base with a value above 0 to behind the last; (0, 0) without any."""
        ...

    def total(self, code: int) -> float:
        """The sum of the values over all bases of a chromosome."""
        ...


def open_signal(path: str | Path, genome: Genome | None = None) -> SignalFile:
    """Open a bigWig or bedGraph track of non-negative values.

    Parameters
    ----------
    path
        The file; its content tells what it is, not its name. A bedGraph may be gzip or bgzip.
    genome
        Names and sizes of the chromosomes; other spellings of names (chr1, 1) are known. None takes those of the bigWig. Contigs
        that a genome of main chromosomes leaves out are passed over.

    Raises
    ------
    FileFormatError
        For a chromosome the genome lacks or has with another size; negative or infinite values, NaN in a bedGraph; bedGraph
        lines that overlap, are out of order or are no such lines, with their number; a file that is cut off or empty.
    InputError
        For a bedGraph without ``genome``.
    MissingFileError
        When there is no such file.

    Cost: a bigWig opens at once and gives some 500 Mb of genome a second; a bedGraph is read whole, about 10 million lines in 4 s.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from gpuatac import Genome
    >>> path = pathlib.Path(tempfile.mkdtemp(), "a.bedGraph")
    >>> _ = path.write_text("chr1\\t10\\t20\\t3\\n")
    >>> open_signal(path, Genome("toy", {"chr1": 100})).values(0, 8, 12).tolist()
    [0.0, 0.0, 3.0, 3.0]
    """
    path = Path(path)
    check.existing_file(path, "track")
    magic = 0
    if path.is_file():
        with path.open("rb") as file:
            magic = int.from_bytes(file.read(4), "little")
    if magic == BIGWIG_MAGIC:
        return BigWigSignal(path, genome)
    if magic == BIGBED_MAGIC or int.from_bytes(magic.to_bytes(4, "little"), "big") in (BIGWIG_MAGIC, BIGBED_MAGIC):
        what = "a bigBed file" if magic == BIGBED_MAGIC else "a big-endian bigWig or bigBed file"
        raise FileFormatError(path, what, "bigWig (little-endian) or bedGraph", "convert it to one of these")
    if genome is None:
        msg = f"{path} is no bigWig, so it does not tell the sizes of chromosomes; give the genome."
        raise InputError(msg)
    return BedGraphSignal(path, genome)


def bare_name(path: Path) -> str:
    """The file's name without the endings of track files."""
    name = path.name
    while name.lower().endswith(_ENDINGS) and name[: name.rindex(".")]:
        name = name[: name.rindex(".")]
    return name


class BigWigSignal:
    """A bigWig; see ``SignalFile``. Windows may be asked for from any thread, one is read at a time."""

    def __init__(self, path: Path, genome: Genome | None) -> None:
        import pyBigWig

        _refuse_cut_off(path)
        self.path = path
        self._lock = Lock()
        self._extents: dict[int, tuple[int, int]] = {}
        try:
            self._file = pyBigWig.open(str(path))
            sizes = self._file.chroms()
        except RuntimeError as err:
            raise _damaged(path, str(err)) from err
        if not sizes:
            raise FileFormatError(path, "no chromosomes", "a bigWig with values", "check how the file was made")
        self.genome = Genome(bare_name(path), sizes) if genome is None else genome
        self._names: dict[int, str] = {}
        for name, size in sizes.items():
            extremes = [self._stat(name, size, what) for what in ("min", "max")]
            has_values = extremes[1] is not None or self._has_intervals(name)
            code = code_of(path, self.genome, name, size, has_values=has_values)
            if code is None or not has_values:
                continue
            if extremes[1] is None:
                raise _damaged(path, f"no summary of {name}")
            if extremes[0] < 0 or not np.isfinite(extremes).all():
                raise bad_values(path, name, extremes[0] if extremes[0] < 0 else extremes[1])
            self._names[code] = name
        if not self._names:
            raise FileFormatError(path, "no values", "a bigWig with values", "check how the file was made")
        self.codes = sorted(self._names)

    def _stat(self, name: str, size: int, what: str, *, exact: bool = False) -> Any:
        with self._lock:
            try:
                return self._file.stats(name, 0, size, type=what, exact=exact)[0]
            except RuntimeError as err:
                raise _damaged(self.path, str(err)) from err

    def _has_intervals(self, name: str) -> bool:
        """Looked up in the data; a summary that does not read is told as none."""
        with self._lock:
            try:
                return self._file.intervals(name) is not None
            except RuntimeError as err:
                raise _damaged(self.path, str(err)) from err

    def values(self, code: int, start: int, stop: int) -> np.ndarray:
        """See ``SignalFile``."""
        if code not in self._names:
            return np.zeros(stop - start, np.float32)
        with self._lock:
            try:
                out: np.ndarray = self._file.values(self._names[code], start, stop, numpy=True)
            except RuntimeError as err:
                raise _damaged(self.path, str(err)) from err
        np.nan_to_num(out, copy=False, nan=0.0, posinf=np.inf, neginf=-np.inf)
        low, high = out.min(), out.max()
        if low < 0 or not np.isfinite(high):
            raise bad_values(self.path, self._names[code], float(low if low < 0 else high))
        return out

    def extent(self, code: int) -> tuple[int, int]:
        """See ``SignalFile``."""
        if code not in self._extents:
            self._extents[code] = self._find_extent(code)
        return self._extents[code]

    def _find_extent(self, code: int) -> tuple[int, int]:
        """Looked for where the zoom levels do not rule values out."""
        if code not in self._names:
            return 0, 0
        size = int(self.genome.sizes[code])
        n_bins = -(-size // STEP)
        with self._lock:
            try:
                found = self._file.stats(self._names[code], 0, size, type="max", nBins=n_bins)
            except RuntimeError as err:
                raise _damaged(self.path, str(err)) from err
        touched = np.flatnonzero([value is not None for value in found])
        if not touched.size:
            raise _damaged(self.path, f"no summary of {self._names[code]}")
        # a bin to either side, so that how the file rounds their bounds does not matter
        low, high = max(0, int(touched[0]) - 1) * size // n_bins, min(n_bins, int(touched[-1]) + 2) * size // n_bins
        starts = range(low, high, STEP)
        edges = []
        for begins, which in ((starts, 0), (reversed(starts), -1)):
            for begin in begins:
                there = np.flatnonzero(self.values(code, begin, min(begin + STEP, high)))
                if there.size:
                    edges.append(begin + int(there[which]))
                    break
        return (edges[0], edges[1] + 1) if edges else (0, 0)

    def total(self, code: int) -> float:
        """See ``SignalFile``."""
        name = self._names.get(code)
        if name is None:
            return 0.0
        total = self._stat(name, int(self.genome.sizes[code]), "sum", exact=True)
        if total is None:
            raise _damaged(self.path, f"no sum of {name}")
        return float(total)


def _damaged(path: Path, what: str) -> FileFormatError:
    return FileFormatError(
        path,
        f"a bigWig that does not read ({what.strip()})",
        "an intact bigWig",
        "it is damaged: fetch or make it again",
    )


def _refuse_cut_off(path: Path) -> None:
    """Raise where an index or the summary lies behind the end of the file: pyBigWig would read on."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEADER.size)
        places = [_HEADER.size]
        if len(head) == _HEADER.size:
            fields = _HEADER.unpack(head)
            zooms = file.read(24 * fields[2])
            places += [_HEADER.size + 24 * fields[2], fields[3] + 32, fields[4] + 8, fields[5] + 48]
            places += [struct.unpack_from("<Q", zooms, at + 16)[0] + 48 for at in range(0, len(zooms) - 23, 24)]
    if size < max(places):
        raise FileFormatError(
            path,
            f"{size:,} bytes of at least {max(places):,}",
            "a complete bigWig",
            "the file was cut off: fetch or make it again",
        )
