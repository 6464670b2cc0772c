"""Text that is compressed as it is written: BGZF (so that tabix reads it), zstandard or plain; bedGraph and BED lines."""

from __future__ import annotations

from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np

from gpuatac.backend import host
from gpuatac.io.files.bgzf import BLOCK, EOF, bgzf_block

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

Compression = Literal["gzip", "zstandard"]
LEVELS: dict[Compression, tuple[int, int]] = {"gzip": (1, 9), "zstandard": (1, 22)}
DEFAULT_LEVEL: dict[Compression, int] = {"gzip": 6, "zstandard": 3}
LINES_AT_ONCE = 1 << 19
SPOOLED = 64 << 20  # bytes of one chromosome that wait in memory


class TextWriter:
    """A text file written in pieces: ``pack`` in any thread, ``append`` in order, ``close`` at the end.

    gzip is BGZF; levels 1 to 3 are igzip's fastest, 4 to 6 its best (about zlib's 4 at three times its speed), 7 to 9 zlib's
    own. zstandard is one frame.
    """

    def __init__(
        self,
        path: Path,
        *,
        compression: Compression | None = None,
        level: int | None = None,
        tempdir: str | Path | None = None,
    ) -> None:
        self._path, self._compression = path, compression
        self._tempdir = None if tempdir is None else str(tempdir)
        self._level = DEFAULT_LEVEL[compression] if level is None and compression is not None else level or 0
        path.write_bytes(b"")
        if compression == "zstandard":
            import zstandard

            self._zstd = zstandard.ZstdCompressor(level=self._level).compressobj()

    def pack(self, texts: Iterable[bytes]) -> IO[bytes]:
        """What ``append`` takes: BGZF blocks, else the text itself; in memory, or in a temporary file where it is long."""
        out: Any = SpooledTemporaryFile(SPOOLED, dir=self._tempdir)
        try:
            out.writelines(texts if self._compression != "gzip" else self._blocks(texts))
        except BaseException:
            out.close()
            raise
        return out  # type: ignore[no-any-return]

    def _blocks(self, texts: Iterable[bytes]) -> Iterator[bytes]:
        level = self._level if self._level > 6 else 3 if self._level > 3 else 1
        rest = b""
        for text in texts:
            whole = rest + text
            stop = len(whole) - len(whole) % BLOCK
            yield from (bgzf_block(whole[at : at + BLOCK], level) for at in range(0, stop, BLOCK))
            rest = whole[stop:]
        if rest:
            yield bgzf_block(rest, level)

    def append(self, packed: IO[bytes]) -> None:
        """Write a packed piece."""
        with packed, self._path.open("ab") as out:
            packed.seek(0)
            while piece := packed.read(1 << 20):
                out.write(self._zstd.compress(piece) if self._compression == "zstandard" else piece)

    def close(self) -> None:
        """Write what ends the file."""
        with self._path.open("ab") as out:
            if self._compression == "gzip":
                out.write(EOF)
            elif self._compression == "zstandard":
                out.write(self._zstd.flush())


def bedgraph_text(chrom: str, parts: Iterable[tuple[Any, Any, Any]]) -> Iterator[bytes]:
    """Lines of the runs of one chromosome; values as the shortest decimal number that reads back as the same float64."""
    name = np.frombuffer(chrom.encode() + b"\t", np.uint8)
    for part in parts:
        for lo in range(0, part[0].size, LINES_AT_ONCE):
            start, end, value = (column[lo : lo + LINES_AT_ONCE] for column in part)
            number, found = _distinct(np.ascontiguousarray(value, np.float64).view(np.int64))
            text, ptr = texts_of([_shortest(v) + "\n" for v in found.view(np.float64).tolist()])
            out = np.empty(start.size * (name.size + 22 + int(np.diff(ptr).max(initial=0))), np.uint8)
            n = host().encoding.bedgraph_lines(name, start, end, number, text, ptr, out)
            yield out[:n].tobytes()


def fragment_text(
    chrom: str,
    start: np.ndarray,
    end: np.ndarray,
    cell: np.ndarray,
    count: np.ndarray,
    names: tuple[np.ndarray, np.ndarray],
) -> Iterator[bytes]:
    """Lines of fragments; ``names`` are the cells' texts, each with a tab behind it (``texts_of``)."""
    name = np.frombuffer(chrom.encode() + b"\t", np.uint8)
    width = name.size + 33 + int(np.diff(names[1]).max(initial=0))
    for lo in range(0, start.size, LINES_AT_ONCE):
        some = slice(lo, lo + LINES_AT_ONCE)
        out = np.empty(start[some].size * width, np.uint8)
        n = host().encoding.fragment_lines(name, start[some], end[some], cell[some], count[some], names[0], names[1], out)
        yield out[:n].tobytes()


def texts_of(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of all texts and int64 (n + 1,): where each begins."""
    encoded = [text.encode() for text in texts]
    return np.frombuffer(b"".join(encoded), np.uint8), np.cumsum([0, *map(len, encoded)], dtype=np.int64)


def _distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of each value among the distinct ones, and those."""
    most = 1 << 12
    while True:
        found = np.empty(most, np.int64)
        number, n = host().encoding.distinct(values, np.full(2 * most, -1, np.int32), found)
        if n >= 0:
            return number, found[:n]
        most *= 16


def _shortest(value: float) -> str:
    text = repr(value)
    return np.format_float_positional(value, trim="-") if "e" in text else text.removesuffix(".0")
