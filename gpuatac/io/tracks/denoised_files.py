"""Dense tracks to bigWig or bedGraph files while they are computed: rounded, turned into runs, packed in threads."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from queue import Empty, Full, Queue
from tempfile import TemporaryDirectory
from threading import BoundedSemaphore, Event, Thread
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np

from gpuatac import check
from gpuatac.errors import InputError
from gpuatac.io.files.atomic import replacing
from gpuatac.io.tracks.bigwig import BigWigWriter
from gpuatac.io.tracks.text_tracks import TextWriter, bedgraph_text
from gpuatac.threads import get_threads

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from gpuatac.genome import Genome
    from gpuatac.io.tracks.text_tracks import Compression

What = Literal["signal", "probability"]
Form = Literal["bigwig", "bedgraph"]
FORMS: tuple[Form, ...] = ("bigwig", "bedgraph")
#: Decimals that values are rounded to unless said otherwise.
DECIMALS: dict[What, int] = {"signal": 1, "probability": 3}
MOST_DECIMALS = 4
WAITING = 4  # pieces of each group that may wait to be packed
FIRST_ZOOM = 640  # bp
_POLL = 0.05  # seconds between two looks at whether a thread has ended while its queue is full

Runs = tuple[np.ndarray, np.ndarray, np.ndarray]


class _Piece(NamedTuple):
    code: int
    start: int
    values: np.ndarray


class DenoisedWriter:
    """Track files of one kind, one for each group, written while their values come. A context manager.

    Values are rounded; zeros are not written, and neighbours of one value are one interval. The files appear together when the
    block ends well; when it does not, none does and nothing is left behind.

    Parameters
    ----------
    paths
        The file of each group; groups are numbered in this order.
    genome
        Chromosomes and their sizes.
    what
        "signal" or "probability": decides the default of ``decimals``.
    form
        "bigwig" (float32) or "bedgraph".
    decimals
        Decimals kept, 0 to 4; None for 1 of a signal and 3 of a probability. Fewer make smaller files, sooner.
    resolution
        bp of the bins whose means are written; 1 for every base. The last bin ends with the chromosome.
    compression
        "gzip" (as BGZF) or "zstandard", of bedGraph; None for what the name says (.gz, .zst), else none.
    force
        Replace files that exist.
    tempdir
        Where zoom levels of bigWigs and long texts wait; None for the system's folder.
    n_threads
        How many groups are packed at once; None for ``gpuatac.set_threads``'s number.

    Raises
    ------
    OutputExistsError
        When a file exists and ``force`` is not set.
    InputError
        For arguments out of range, pieces out of order or outside their chromosome, and values that are not finite.
    OSError
        When a file cannot be written, for a full disk, say; with its name.

    Cost: memory for a few pieces of each group, and a bigWig's packed data of one chromosome.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from pathlib import Path
    >>> from gpuatac import Genome
    >>> path = Path(tempfile.mkdtemp(), "a.bedGraph")
    >>> genome = Genome("toy", {"chr1": 1000})
    >>> with DenoisedWriter({"a": path}, genome, what="signal", form="bedgraph") as out:
    ...     out.add(0, 0, 10, np.array([0, 1.04, 0.96, 2], "f4"))
    >>> path.read_text()
    'chr1\\t11\\t13\\t1\\nchr1\\t13\\t14\\t2\\n'
    """

    def __init__(
        self,
        paths: Mapping[str, Path],
        genome: Genome,
        *,
        what: What,
        form: Form,
        decimals: int | None = None,
        resolution: int = 1,
        compression: Compression | None = None,
        force: bool = False,
        tempdir: str | Path | None = None,
        n_threads: int | None = None,
    ) -> None:
        check.one_of("what", what, DECIMALS)
        check.one_of("form", form, FORMS)
        decimals = DECIMALS[what] if decimals is None else decimals
        self._scale = 10 ** check.integer("decimals", decimals, 0, MOST_DECIMALS)
        self._resolution = check.integer("resolution", resolution, 1, 2**31 - 1)
        self._paths = [Path(path) for path in paths.values()]
        if len(set(self._paths)) < len(self._paths):
            msg = "two groups have one file; give every group a path of its own."
            raise InputError(msg)
        self._genome, self._form, self._force = genome, form, force
        self._compression, self._tempdir = compression, tempdir
        self._may_pack = BoundedSemaphore(n_threads or get_threads())
        self._stack = ExitStack()
        self._groups: list[_Group] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(dir=self._tempdir, prefix="gpuatac-")))
            partials = [stack.enter_context(replacing(path, force=self._force)) for path in self._paths]
            for number, (path, partial) in enumerate(zip(self._paths, partials, strict=True)):
                writer = self._writer(path, partial, folder / str(number))
                self._groups.append(_Group(path, writer, self._genome, self._scale, self._resolution, self._may_pack))
            self._stack = stack.pop_all()
        return self

    def _writer(self, path: Path, partial: Path, spill: Path) -> BigWigWriter | TextWriter:
        if self._form == "bigwig":
            chroms = zip(self._genome.names, self._genome.sizes.tolist(), strict=True)
            first_zoom = max(FIRST_ZOOM, 16 * self._resolution)
            return BigWigWriter(partial, chroms, spill=spill, first_zoom=first_zoom)
        named: dict[str, Compression] = {".gz": "gzip", ".zst": "zstandard"}
        compression = self._compression or named.get(path.suffix.lower())
        return TextWriter(partial, compression=compression, tempdir=spill.parent)

    def add(self, group_index: int, code: int, start: int, values: np.ndarray) -> None:
        """Write the values of the bases from ``start`` on, of one group on the chromosome ``code``.

        ``values``: float32 (n,) on the host, not to be changed afterwards. Pieces ascend within a chromosome and chromosomes by
        code, in each group; bases left out have no value. Waits where the files are behind.
        """
        self._groups[group_index].put(code, start, values)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            try:
                for group in self._groups:
                    group.finish()
                for group in self._groups:
                    group.join()
            except BaseException as failed:
                self._give_up(failed)
                raise
            self._stack.__exit__(None, None, None)
        else:
            self._give_up(error)

    def _give_up(self, error: BaseException | None) -> None:
        """End the threads, then remove what they wrote."""
        for group in self._groups:
            group.stop()
        self._stack.__exit__(None if error is None else type(error), error, None)


class _Group:
    """One file and the thread that writes it."""

    def __init__(
        self,
        path: Path,
        writer: BigWigWriter | TextWriter,
        genome: Genome,
        scale: int,
        resolution: int,
        may_pack: BoundedSemaphore,
    ) -> None:
        self._path, self._writer, self._genome = path, writer, genome
        self._scale, self._resolution = scale, resolution
        self._may_pack = may_pack
        self._pieces: Queue[_Piece | None] = Queue(WAITING)
        self._next: _Piece | None = None
        self._reached = (-1, 0)
        self._error: BaseException | None = None
        self._stopped = Event()
        self._thread = Thread(target=self._work, name="gpuatac-writing", daemon=True)
        self._thread.start()

    def put(self, code: int, start: int, values: np.ndarray) -> None:
        """Queue a piece; raises what the thread met with."""
        stop = start + values.size
        n_chroms = len(self._genome.names)
        if values.ndim != 1 or not 0 <= code < n_chroms or not 0 <= start <= stop <= self._genome.sizes[code]:
            msg = f"values of shape {values.shape} at base {start} do not lie on chromosome {code} of {self._genome.name}."
            raise InputError(msg)
        if (code, start) < self._reached:
            before = f"{self._genome.names[self._reached[0]]}:{self._reached[1]:,}"
            msg = f"values of {self._genome.names[code]}:{start:,} come after those up to {before}; add them in ascending order."
            raise InputError(msg)
        self._reached = (code, stop)
        if values.size:
            self._put(_Piece(code, start, values))

    def finish(self) -> None:
        """Say that no piece follows."""
        self._put(None)

    def join(self) -> None:
        """Wait until the file is whole."""
        self._thread.join()
        self._raise()

    def stop(self) -> None:
        """End the thread at its next look at the queue, where room is made for a last entry."""
        self._stopped.set()
        while self._thread.is_alive():
            try:
                self._pieces.put(None, timeout=_POLL)
                self._thread.join()
            except Full:
                self._drop_one()

    def _drop_one(self) -> None:
        with suppress(Empty):
            self._pieces.get_nowait()

    def _put(self, piece: _Piece | None) -> None:
        while True:
            self._raise()
            try:
                self._pieces.put(piece, timeout=_POLL)
            except Full:
                continue
            return

    def _raise(self) -> None:
        error = self._error
        if isinstance(error, OSError):
            what = (
                f"{error.strerror or error}; no file was written: make room, or choose another folder or fewer decimals"
            )
            raise OSError(error.errno, what, str(self._path)) from error
        if error is not None:
            raise error

    def _work(self) -> None:
        try:
            with self._may_pack:
                self._take()
                while self._next is not None:
                    name = self._genome.names[self._next.code]
                    runs = self._chromosome(self._next.code)
                    if isinstance(self._writer, BigWigWriter):
                        self._writer.append(self._writer.pack(name, runs))
                    else:
                        self._writer.append(self._writer.pack(bedgraph_text(name, runs)))
                self._writer.close()
        except _StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised by ``put`` or ``join`` in the thread that waits
            self._error = error

    def _take(self) -> None:
        """Wait for the next piece, and let others pack meanwhile."""
        self._may_pack.release()
        try:
            self._next = self._pieces.get()
        finally:
            self._may_pack.acquire()
        if self._stopped.is_set():
            raise _StoppedError

    def _chromosome(self, code: int) -> Iterator[Runs]:
        """The runs of the pieces that come, as long as they are of one chromosome."""
        size = int(self._genome.sizes[code])
        bins = _Bins(self._resolution, size)
        held = _no_runs()
        while self._next is not None and self._next.code == code:
            start, values = bins.add(self._next.start, self._next.values)
            held, done = _joined(held, runs_of(start, values, self._scale, bin_size=self._resolution, size=size))
            if done[0].size:
                yield done
            self._take()
        start, values = bins.finish()
        held, done = _joined(held, runs_of(start, values, self._scale, bin_size=self._resolution, size=size))
        yield from (part for part in (done, held) if part[0].size)


class _StoppedError(Exception):
    """The block that writes has failed elsewhere."""


def runs_of(start: int, values: np.ndarray, scale: int, *, bin_size: int = 1, size: int | None = None) -> Runs:
    """(start, end, value) of the runs of equal values, rounded to multiples of 1 / ``scale``, zeros left out.

    ``values`` are those of bins of ``bin_size`` bp from base ``start`` on, the last cut at ``size``. start and end int64,
    value float64: the double next to the decimal number.

    Raises
    ------
    InputError
        When a value is not finite.
    """
    if not values.size:
        return _no_runs()
    level = values.astype(np.float64) if scale > 10 else values.astype(np.float32)  # exact below 2^24 / 10
    level *= scale
    np.rint(level, out=level)
    edges = np.flatnonzero(level[1:] != level[:-1])
    first = np.concatenate([np.zeros(1, np.int64), edges + 1])
    stop = np.append(edges + 1, values.size)
    level = level[first].astype(np.float64)
    if not np.isfinite(level).all():
        at = start + bin_size * int(first[np.argmin(np.isfinite(level))])
        msg = f"a value at base {at:,} is not finite; a model that overflows makes such: see that its weights and inputs are finite."
        raise InputError(msg)
    kept = np.flatnonzero(level)
    ends = start + bin_size * stop[kept]
    if size is not None:
        ends = np.minimum(ends, size)
    return start + bin_size * first[kept], ends, level[kept] / scale


def _no_runs() -> Runs:
    return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)


def _joined(held: Runs, part: Runs) -> tuple[Runs, Runs]:
    """(the last run, which the next piece may go on with; the runs before it) of a held run and a part."""
    if not part[0].size:
        return held, _no_runs()
    if held[0].size and held[1][-1] == part[0][0] and held[2][-1] == part[2][0]:
        part[0][0] = held[0][-1]
        held = _no_runs()
    start, end, value = (np.concatenate([a, b]) for a, b in zip(held, part, strict=True))
    return (start[-1:], end[-1:], value[-1:]), (start[:-1], end[:-1], value[:-1])


class _Bins:
    """Means over bins of a chromosome whose values come in pieces; bases that do not come count 0."""

    def __init__(self, width: int, size: int) -> None:
        self._width, self._size = width, size
        self._bin, self._sum = -1, 0.0  # the bin under way

    def add(self, start: int, values: np.ndarray) -> tuple[int, Any]:
        """(base, means) of the bins that are whole now; a gap of empty bins before the piece is filled with 0."""
        if self._width == 1:
            return start, values
        first = start // self._width
        bounds = np.arange(first * self._width, start + values.size, self._width) - start
        sums = np.add.reduceat(values, np.maximum(bounds, 0), dtype=np.float64)
        begin = first
        if self._bin >= 0:
            gap = np.zeros(max(0, first - self._bin))
            sums = np.concatenate([gap, sums])
            sums[0] += self._sum
            begin = self._bin
        self._bin, self._sum = begin + sums.size - 1, float(sums[-1])
        return begin * self._width, sums[:-1] / self._width

    def finish(self) -> tuple[int, np.ndarray]:
        """(base, mean) of the last bin."""
        if self._bin < 0:
            return 0, np.zeros(0)
        start = self._bin * self._width
        return start, np.array([self._sum / (min(start + self._width, self._size) - start)])
