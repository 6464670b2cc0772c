"""Extra input tracks beside coverage: motif positions on each strand, or any signal along the genome.

A model of CTCF binding, say, reads coverage and two tracks that are 1 over CTCF motifs of the plus and of the minus strand (Lal
et al., Nature Communications 12:1507, 2021). Tracks are the same for all groups of cells.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gpuatac import check
from gpuatac.core.counting.counts import merge_intervals
from gpuatac.core.counting.regions import coordinates
from gpuatac.errors import InputError
from gpuatac.io.genome.bed import read_bed
from gpuatac.io.tracks.signal_files import open_signal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

    from gpuatac.genome import Genome
    from gpuatac.io.tracks.signal_files import SignalFile
    from gpuatac.nn.contract import ModelCard

    Reader = Callable[[int, int, int], np.ndarray]

BIGWIG = (0x888FFC26).to_bytes(4, "little"), (0x888FFC26).to_bytes(4, "big")
GZIP = b"\x1f\x8b"
HEAD = 1 << 16  # bytes
BEDGRAPH_FIELDS = 4
ALLOWED = "a BED file (1 over its regions, by strand where it has one), a bigWig or a bedGraph file"


def extra_tracks(paths: Sequence[str | Path], genome: Genome) -> tuple[list[str], Reader]:
    """Read extra input tracks: their names, and a function that gives them over any window.

    Reads   files, of these kinds by what is in them: BED with strands gives two tracks of 0 and 1, "{stem}+" and "{stem}-", without
            strands one, "{stem}"; a bigWig or a bedGraph gives its values, 0 where it has none, as "{stem}".
    Returns (names, reader); reader(code, start, stop) is float32 (n_tracks, stop - start), 0-based half-open, 0 beyond
            the chromosome's ends. It may be called from several threads.

    Parameters
    ----------
    paths
        The files, in the order the model reads them.
    genome
        Chromosomes; names are matched as chr1 and 1 alike, chromosomes that it lacks are left out.

    Raises
    ------
    InputError
        For no file, two tracks of one name, a file of another genome, or values that are negative or no finite numbers.

    Cost: text files are read whole; of a bigWig each window when it is asked for.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from gpuatac import Genome
    >>> from gpuatac.nn.denoising.examples.extra_tracks import extra_tracks
    >>> bed = pathlib.Path(tempfile.mkdtemp()) / "ctcf.bed"
    >>> _ = bed.write_text("chr1\\t2\\t4\\tm\\t0\\t+\\nchr1\\t3\\t5\\tm\\t0\\t-\\n")
    >>> names, reader = extra_tracks([bed], Genome("toy", {"chr1": 100}))
    >>> names, reader(0, 1, 6).tolist()
    (['ctcf+', 'ctcf-'], [[0.0, 1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0, 0.0]])
    """
    if not paths:
        msg = f"no extra track is named; allowed: {ALLOWED}; name at least one."
        raise InputError(msg)
    named: list[tuple[str, _Regions | SignalFile]] = []
    for path in map(Path, paths):
        check.existing_file(path, "extra track")
        named += _tracks_of(path, genome)
    names = [name for name, _ in named]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        msg = f"two extra tracks are named {twice!r}; rename one of the files."
        raise InputError(msg)

    def read(code: int, start: int, stop: int) -> np.ndarray:
        out = np.zeros((len(named), stop - start), np.float32)
        low, high = max(0, start), min(stop, int(genome.sizes[code]))
        if low < high:
            for row, (_, track) in zip(out, named, strict=True):
                row[low - start : high - start] = track.values(code, low, high)
        return out

    return names, read


def check_names(names: Sequence[str], card: ModelCard) -> None:
    """Raise unless the tracks are those the model was trained with, in that order."""
    wanted = list(map(str, card.extra_tracks))
    if wanted and list(names) != wanted:
        msg = (
            f"the extra tracks are {', '.join(names)}, and the model was trained with {', '.join(wanted)}; give the files of these, in "
            "this order (a track's name is its file's, with + and - for the strands of a BED file)."
        )
        raise InputError(msg)


def is_signal(path: Path) -> bool:
    """Whether a file is a bigWig, or a bedGraph: text of four columns whose last is a number."""
    if path.is_dir():
        return False
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head[:4] in BIGWIG:
        return True
    if head[:2] == GZIP:
        try:
            head = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head)
        except zlib.error:
            return False
    skipped = (b"#", b"track", b"browser")
    lines = (line for line in head.splitlines() if line.strip() and not line.startswith(skipped))
    fields = next(lines, b"").split()
    return len(fields) == BEDGRAPH_FIELDS and _is_number(fields[3])


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _tracks_of(path: Path, genome: Genome) -> list[tuple[str, _Regions | SignalFile]]:
    stem = path.name.removesuffix(".gz").rpartition(".")[0] or path.name
    if is_signal(path):
        return [(stem, open_signal(path, genome))]
    frame = read_bed(path)
    if "strand" not in frame or (frame["strand"] == ".").all():
        return [(stem, _Regions(frame, genome, path))]
    stranded = (frame["strand"] != ".").to_numpy()
    check.none_true(~stranded, f"regions of {path.name} have no strand", "give all of them one, or none")
    return [(f"{stem}{sign}", _Regions(frame[frame["strand"] == sign], genome, path)) for sign in "+-"]


class _Regions:
    """A track that is 1 over regions and 0 elsewhere."""

    def __init__(self, frame: pd.DataFrame, genome: Genome, path: Path) -> None:
        at = coordinates(frame, genome, what=f"regions of {path.name}")
        code, start, end = merge_intervals(at.chrom, at.start, at.end)
        self._ptr = np.searchsorted(code, np.arange(len(genome.names) + 1))
        self._start, self._end = start.astype(np.int64), end.astype(np.int64)

    def values(self, code: int, start: int, stop: int) -> np.ndarray:
        """Host float32 (stop - start,)."""
        rows = slice(*self._ptr[code : code + 2])
        lo = np.searchsorted(self._end[rows], start, side="right")
        hi = np.searchsorted(self._start[rows], stop, side="left")
        steps = np.zeros(stop - start + 1, np.int32)
        if lo < hi:
            some = slice(rows.start + lo, rows.start + hi)
            steps[np.maximum(self._start[some], start) - start] += 1
            steps[np.minimum(self._end[some], stop) - start] -= 1
        return np.cumsum(steps[:-1]).astype(np.float32)
