"""Write bigWig files (BBI version 4), chromosome by chromosome, sections compressed as they come.

Layout: header; places for ten zoom levels; total summary; chromosome tree; sections; their index; for each zoom level its
records and their index. Zoom records wait in a spill file of their own, so that memory holds one chromosome at most.
"""

from __future__ import annotations

import struct
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from isal import isal_zlib

from gpuatac.backend import host
from gpuatac.backend.protocol.host import RECORD_WORDS, SECTION_WORDS
from gpuatac.errors import InputError
from gpuatac.io.files.atomic import replacing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MAGIC, TREE_MAGIC, INDEX_MAGIC = 0x888FFC26, 0x78CA8C91, 0x2468ACE0
PER_SECTION = 1024  # items of a section, records of a zoom block
PER_NODE = 256
MOST_ZOOMS = 10
HEADER = 64
SUMMARY_AT = HEADER + 24 * MOST_ZOOMS
_NODE = struct.Struct("<BBH")
_BOUNDS = [("chrom", "<u4"), ("start", "<u4"), ("end_chrom", "<u4"), ("end", "<u4")]
LEAF = np.dtype([*_BOUNDS, ("offset", "<u8"), ("size", "<u8")])
BRANCH = np.dtype([*_BOUNDS, ("offset", "<u8")])


class Blocks(NamedTuple):
    """Compressed blocks of one chromosome, one after the other, with the bases each spans."""

    data: list[bytes]
    start: list[int]
    end: list[int]
    n_items: int
    largest: int  # bytes of a block before compression


@dataclass
class Summary:
    """Of all bases with a value."""

    covered: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    total: float = 0.0
    squares: float = 0.0

    def add(self, other: Summary) -> None:
        """Take in the bases of ``other``."""
        self.covered += other.covered
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.total += other.total
        self.squares += other.squares


class Packed(NamedTuple):
    """One chromosome, ready to be written."""

    chrom: int
    sections: Blocks
    zooms: list[Blocks]
    summary: Summary


@dataclass
class _Index:
    """Where the blocks of the sections, or of one zoom level, lie."""

    parts: list[np.ndarray] = field(default_factory=list)
    n_items: int = 0

    def add(self, chrom: int, blocks: Blocks, offset: int) -> None:
        rows = np.zeros(len(blocks.data), LEAF)
        size = np.array([len(block) for block in blocks.data], np.uint64)
        rows["chrom"] = rows["end_chrom"] = chrom
        rows["start"], rows["end"] = blocks.start, blocks.end
        rows["size"] = size
        rows["offset"] = offset + np.cumsum(size) - size
        self.parts.append(rows)
        self.n_items += blocks.n_items

    @property
    def rows(self) -> np.ndarray:
        return np.concatenate([np.zeros(0, LEAF), *self.parts])


class BigWigWriter:
    """One bigWig being written: ``pack`` chromosomes in any thread, ``append`` them in the order of ``chroms``.

    Parameters
    ----------
    path
        Where to write; use :func:`bigwig` for a file that appears only when it is whole.
    chroms
        (name, size) of every chromosome; the file has them in byte order of their names.
    first_zoom
        bp a record of the first zoom level covers; each further level covers four times as much.
    spill
        Path of the file in which zoom records wait.
    level
        igzip's compression, 0 (fastest) to 3. It may pack the same data in several ways, so that files made by several
        threads hold the same but need not be the same byte for byte.
    """

    def __init__(
        self, path: Path, chroms: Iterable[tuple[str, int]], *, spill: Path, first_zoom: int = 640, level: int = 1
    ) -> None:
        self.chroms = sorted(((name.encode(), int(size)) for name, size in chroms))
        self.number = {name.decode(): i for i, (name, _) in enumerate(self.chroms)}
        self.widths = _zoom_widths(first_zoom, max((size for _, size in self.chroms), default=1))
        self._path, self._spill, self._level = path, spill, level
        self._last = -1
        self._largest = 0
        self._summary = Summary()
        self._index = _Index()
        self._zooms = [_Index() for _ in self.widths]
        tree = _chromosome_tree(self.chroms, SUMMARY_AT + 40)
        self._data_at = SUMMARY_AT + 40 + len(tree)
        self._end = self._data_at + 8
        self._spilled = 0
        path.write_bytes(bytes(SUMMARY_AT + 40) + tree + bytes(8))
        spill.write_bytes(b"")

    def pack(self, chrom: str, parts: Iterable[tuple[Any, Any, Any]]) -> Packed:
        """Compress the runs of one chromosome, given as one or more (start, end, value) in ascending order.

        Raises
        ------
        InputError
            When runs overlap, are out of order or end beyond the chromosome, or a value is not finite.
        """
        number = self.number[chrom]
        size = self.chroms[number][1]
        sections = Blocks([], [], [], 0, 0)
        cells: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        summary = Summary()
        reached = 0
        for part in parts:
            start, end = (np.ascontiguousarray(column, np.int32) for column in part[:2])
            value = np.ascontiguousarray(part[2], np.float32)
            if not start.size:
                continue
            _check(chrom, size, reached, start, end, value)
            reached = int(end[-1])
            sections = _joined(sections, self._sections(number, start, end, value))
            if self.widths:
                cells.append(_cells(start, end, value, self.widths[0]))
            summary.add(_summary(start, end, value))
        return Packed(number, sections, self._records(number, cells), summary)

    def append(self, packed: Packed) -> None:
        """Write a packed chromosome."""
        if packed.chrom <= self._last:
            msg = f"chromosome {self.chroms[packed.chrom][0].decode()} comes too late; append them in byte order of names."
            raise InputError(msg)
        self._last = packed.chrom
        self._largest = max([self._largest, packed.sections.largest, *(blocks.largest for blocks in packed.zooms)])
        self._summary.add(packed.summary)
        self._index.add(packed.chrom, packed.sections, self._end)
        with self._path.open("ab") as out:
            out.writelines(packed.sections.data)
            self._end = out.tell()
        with self._spill.open("ab") as out:
            for index, blocks in zip(self._zooms, packed.zooms, strict=True):
                index.add(packed.chrom, blocks, self._spilled)
                out.writelines(blocks.data)
                self._spilled += sum(map(len, blocks.data))

    def close(self) -> None:
        """Write the index, the zoom levels and the header."""
        with self._path.open("r+b") as out, self._spill.open("rb") as spill:
            out.seek(self._end)
            index_at = self._end
            rows = self._index.rows
            out.write(_index(rows, index_at))
            zooms = []
            before = None
            for width, index in zip(self.widths, self._zooms, strict=True):
                if not index.n_items or (before is not None and index.n_items >= before):
                    continue
                before = index.n_items
                data_at = out.tell()
                out.write(struct.pack("<I", index.n_items))
                places = index.rows
                moved = places.copy()
                at = data_at + 4
                for i, (offset, size) in enumerate(
                    zip(places["offset"].tolist(), places["size"].tolist(), strict=True)
                ):
                    spill.seek(offset)
                    out.write(spill.read(size))
                    moved["offset"][i] = at
                    at += size
                out.write(_index(moved, at))
                zooms.append((width, data_at, at))
            out.write(struct.pack("<I", MAGIC))
            out.seek(0)
            fixed = (self._data_at, index_at, 0, 0, 0, SUMMARY_AT, self._largest, 0)
            out.write(struct.pack("<IHHQQQHHQQIQ", MAGIC, 4, len(zooms), SUMMARY_AT + 40, *fixed))
            for width, data_at, zoom_index_at in zooms:
                out.write(struct.pack("<IIQQ", width, 0, data_at, zoom_index_at))
            out.seek(SUMMARY_AT)
            s = self._summary
            extremes = (s.low, s.high) if s.covered else (0.0, 0.0)
            out.write(struct.pack("<Q4d", s.covered, *extremes, s.total, s.squares))
            out.seek(self._data_at)
            out.write(struct.pack("<Q", len(rows)))
        self._spill.unlink()

    def _sections(self, number: int, start: np.ndarray, end: np.ndarray, value: np.ndarray) -> Blocks:
        n = -(-start.size // PER_SECTION)
        words = np.empty(n * SECTION_WORDS + 3 * start.size, np.uint32)
        bounds = np.empty((n, 3), np.int64)
        host().encoding.pack_sections(number, start, end, value, PER_SECTION, words, words.view(np.float32), bounds)
        return self._compressed(words, bounds[:, 0], bounds[:, 1].tolist(), bounds[:, 2].tolist(), start.size)

    def _records(self, number: int, parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> list[Blocks]:
        if not parts:
            return [Blocks([], [], [], 0, 0) for _ in self.widths]
        bounds, extremes, sums = (np.concatenate([part[k] for part in parts]) for k in range(3))
        out = []
        for width in self.widths:
            n = host().encoding.join_cells(width, bounds, extremes, sums)
            bounds, extremes, sums = bounds[:n], extremes[:n], sums[:n]
            words = np.empty(n * RECORD_WORDS, np.uint32)
            host().encoding.pack_records(number, bounds, extremes, sums, words, words.view(np.float32))
            stops = np.append(np.arange(PER_SECTION, n, PER_SECTION), n)
            starts = np.append(0, stops[:-1])
            first, last = bounds[starts, 0].tolist(), bounds[stops - 1, 1].tolist()
            out.append(self._compressed(words, stops * RECORD_WORDS, first, last, n))
        return out

    def _compressed(
        self, words: np.ndarray, stops: np.ndarray, start: list[int], end: list[int], n_items: int
    ) -> Blocks:
        data = words.view(np.uint8)
        at = [0, *(4 * stops).tolist()]
        blocks = [isal_zlib.compress(data[lo:hi], self._level) for lo, hi in pairwise(at)]
        return Blocks(blocks, start, end, n_items, int(np.diff(at).max(initial=0)))


@contextmanager
def bigwig(
    path: str | Path,
    chroms: Iterable[tuple[str, int]],
    *,
    force: bool = False,
    first_zoom: int = 640,
    tempdir: str | Path | None = None,
) -> Iterator[BigWigWriter]:
    """A writer whose file stands at ``path`` once the block has ended well, and never by half.

    Raises
    ------
    OutputExistsError
        When ``path`` exists and ``force`` is not set.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from pathlib import Path
    >>> from gpuatac.io.tracks.bigwig import bigwig
    >>> path = Path(tempfile.mkdtemp(), "a.bw")
    >>> with bigwig(path, [("chr1", 1000)]) as out:
    ...     out.append(out.pack("chr1", [(np.array([0, 50]), np.array([10, 60]), np.array([1.5, 2]))]))
    >>> path.stat().st_size > 400
    True
    """
    with TemporaryDirectory(dir=tempdir, prefix="gpuatac-") as folder, replacing(Path(path), force=force) as partial:
        writer = BigWigWriter(partial, chroms, spill=Path(folder, "zooms"), first_zoom=first_zoom)
        yield writer
        writer.close()


def _zoom_widths(first: int, largest_size: int) -> list[int]:
    """Widths of the zoom levels, up to the first that covers the largest chromosome in one record."""
    widths = [max(2, first)]
    while len(widths) < MOST_ZOOMS and widths[-1] < largest_size:
        widths.append(4 * widths[-1])
    return [width for width in widths if width < 2**32]


def _check(chrom: str, size: int, reached: int, start: np.ndarray, end: np.ndarray, value: np.ndarray) -> None:
    ordered = start[0] >= reached and (start < end).all() and (start[1:] >= end[:-1]).all() and end[-1] <= size
    if not ordered or not np.isfinite(value).all():
        msg = (
            f"runs of {chrom} must ascend without overlap within [0, {size}) and have finite values; sort them, cut them to the "
            "chromosome and drop what is no number."
        )
        raise InputError(msg)


def _cells(
    start: np.ndarray, end: np.ndarray, value: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = host().encoding.zoom_size(start, end, width)
    held = np.empty((n, 3), np.int32), np.empty((n, 2), np.float32), np.empty((n, 2), np.float64)
    host().encoding.zoom_cells(start, end, value, width, *held)
    return held


def _summary(start: np.ndarray, end: np.ndarray, value: np.ndarray) -> Summary:
    length = (end - start).astype(np.float64)
    exact = value.astype(np.float64)
    weighted = exact * length
    total, squares = float(weighted.sum()), float((weighted * exact).sum())
    return Summary(int(length.sum()), float(value.min()), float(value.max()), total, squares)


def _joined(a: Blocks, b: Blocks) -> Blocks:
    if not a.data:
        return b
    return Blocks(a.data + b.data, a.start + b.start, a.end + b.end, a.n_items + b.n_items, max(a.largest, b.largest))


def _chromosome_tree(chroms: Sequence[tuple[bytes, int]], at: int) -> bytes:
    """The B+ tree from names to (number, size), as it stands at file offset ``at``."""
    key = max((len(name) for name, _ in chroms), default=1)
    out = struct.pack("<IIIIQQ", TREE_MAGIC, min(PER_NODE, max(1, len(chroms))), key, 8, len(chroms), 0)
    items = [name.ljust(key, b"\0") + struct.pack("<II", i, size) for i, (name, size) in enumerate(chroms)]
    levels = [[items[i : i + PER_NODE] for i in range(0, len(items), PER_NODE)] or [[]]]
    while len(levels[0]) > 1:
        firsts = [node[0][:key] for node in levels[0]]
        levels.insert(0, [firsts[i : i + PER_NODE] for i in range(0, len(firsts), PER_NODE)])
    per_node = 4 + PER_NODE * (key + 8) if len(levels) > 1 else 4 + len(items) * (key + 8)
    first_child = at + len(out)
    for depth, nodes in enumerate(levels):
        leaf = depth == len(levels) - 1
        first_child += per_node * len(nodes)
        child = first_child
        for node in nodes:
            body = b""
            for item in node:
                body += item if leaf else item + struct.pack("<Q", child)
                child += 0 if leaf else per_node
            out += (_NODE.pack(leaf, 0, len(node)) + body).ljust(per_node, b"\0")
    return out


def _index(rows: np.ndarray, at: int) -> bytes:
    """The R-tree over sorted blocks, as it stands at file offset ``at``."""
    levels = [rows]
    while len(levels[0]) > PER_NODE:
        below = levels[0]
        firsts = np.arange(0, len(below), PER_NODE)
        lasts = np.minimum(firsts + PER_NODE, len(below)) - 1
        nodes = np.zeros(len(firsts), BRANCH)
        nodes["chrom"], nodes["start"] = below["chrom"][firsts], below["start"][firsts]
        nodes["end_chrom"], nodes["end"] = below["end_chrom"][lasts], below["end"][lasts]
        levels.insert(0, nodes)
    whole = (0, 0, 0, 0)
    if len(rows):
        whole = (rows["chrom"][0], rows["start"][0], rows["end_chrom"][-1], rows["end"][-1])
    out = [struct.pack("<IIQ4IQII", INDEX_MAGIC, PER_NODE, len(rows), *map(int, whole), at, PER_SECTION, 0)]
    node_at = at + 48
    for depth, level in enumerate(levels):
        starts = range(0, max(1, len(level)), PER_NODE)
        sizes = [4 + level[i : i + PER_NODE].nbytes for i in starts]
        below_at = node_at + sum(sizes)
        if depth < len(levels) - 1:
            following = levels[depth + 1]
            lengths = [4 + following[i : i + PER_NODE].nbytes for i in range(0, len(following), PER_NODE)]
            level["offset"] = below_at + np.cumsum([0, *lengths[:-1]])
        for i in starts:
            node = level[i : i + PER_NODE]
            out.append(_NODE.pack(level.dtype == LEAF, 0, len(node)) + node.tobytes())
        node_at = below_at
    return b"".join(out)
