"""Fragment lines to columns on a GPU: kernel passes over the text, with two transfers to the host for a block."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpuatac.backend.gpu.reading.barcodes import ALL_BITS, Barcodes, NameTable, RowNames
from gpuatac.backend.protocol import ChromRun, ParsedBlock
from gpuatac.backend.protocol.reading import KEPT, LAST_DROP, MANY_RUNS, UNKNOWN_CHROM

if TYPE_CHECKING:
    from gpuatac.backend.gpu.launch import Launcher

TILE = 1024  # bytes a warp looks through for newlines, as in lines.cu
WITH_STRAND, FIRST_ERROR, N_TOTALS = 6, 7, 8  # entries of fragments.cu's totals
MAX_RUNS = MANY_RUNS + 1
MAX_UNKNOWN = 256  # distinct unknown chromosome names reported for each block
SPARE = 0.75  # columns of fewer rows than this share of the lines are cut to their length
LAST = np.iinfo(np.int64).max


def hash_bytes(name: bytes) -> int:
    """What ``hash_bytes`` of common.cuh gives: 64-bit FNV-1a with a final mix."""
    h = 0xCBF29CE484222325
    for byte in name:
        h = ((h ^ byte) * 0x100000001B3) & ALL_BITS
    h ^= h >> 32
    h = (h * 0xD6E8FEB86659FD93) & ALL_BITS
    return h ^ (h >> 32)


class Chromosomes(NamedTuple):
    """The known chromosomes as parse_lines takes them: by hash, of equal names the first in front."""

    text: Any
    ptr: Any
    hash: Any
    code: Any
    n: int
    sizes: Any


class _Lines(NamedTuple):
    """What parse_lines writes for each line, or what keep_lines leaves of it for each row; None for what is left out."""

    chrom: Any
    start: Any
    end: Any
    count: Any
    strand: Any
    hash: Any
    name_at: Any
    name_length: Any

    @classmethod
    def empty(cls, xp: Any, n: int, *, columns: bool = True, names: bool = True) -> _Lines:
        types = (np.int16, np.int32, np.int32, np.int32, np.int8, np.uint64, np.int64, np.int32)
        taken = [columns] * 5 + [names] * 3
        return cls(*(xp.empty(n, dtype) if take else None for dtype, take in zip(types, taken, strict=True)))

    def cut(self, n: int) -> _Lines:
        """The first ``n`` rows: new arrays where much is left out, so that it is not held on to."""
        return _Lines(*(column if column is None else _cut(column, n) for column in self))


class Parsing:
    """The GPU side of ``protocol.Parsing``.

    ``hash_mask`` keeps that many bits of each name's hash. Names are told apart by their bytes, whatever the
    mask; the tests pass few bits so that names collide.
    """

    def __init__(self, xp: Any, launch: Launcher, *, hash_mask: int = ALL_BITS) -> None:
        self._xp = xp
        self._launch = launch
        self._hash_mask = hash_mask

    def chromosomes(self, names: list[bytes], codes: np.ndarray, sizes: np.ndarray) -> Chromosomes:
        """See ``protocol.Parsing.chromosomes``."""
        xp = self._xp
        hashes = np.array([hash_bytes(name) & self._hash_mask for name in names], dtype=np.uint64)
        order = np.argsort(hashes, kind="stable")
        sorted_names = [names[i] for i in order]
        ptr = np.zeros(len(names) + 1, np.int64)
        np.cumsum([len(name) for name in sorted_names], out=ptr[1:])
        text = np.frombuffer(b"".join(sorted_names), np.uint8)
        return Chromosomes(
            xp.asarray(text), xp.asarray(ptr), xp.asarray(hashes[order]),
            xp.asarray(np.asarray(codes)[order].astype(np.int32)), len(names), xp.asarray(sizes, dtype=np.int64),
        )  # fmt: skip

    def barcodes(self, is_mito: np.ndarray) -> Barcodes:
        """See ``protocol.Parsing.barcodes``."""
        return Barcodes(self._xp, self._launch, is_mito, self._hash_mask)

    def parse_block(self, text: Any, chromosomes: Any, *, bulk: bool) -> ParsedBlock:
        """See ``protocol.Parsing.parse_block``."""
        xp = self._xp
        text = xp.ascontiguousarray(xp.asarray(text))
        line_end = self.line_ends(text)
        n = int(line_end.size)
        status, lines = xp.empty(n, np.uint8), _Lines.empty(xp, n)
        totals = xp.zeros(N_TOTALS, np.int64)
        totals[FIRST_ERROR] = LAST
        self._launch(
            "parse_lines", n, text, line_end, n, *chromosomes, int(bulk), self._hash_mask, status, *lines, totals
        )
        place, rows = self._rows(status, KEPT, lines, names=not bulk)
        runs = xp.zeros(1 + 2 * MAX_RUNS, np.int64)
        self._launch("chrom_runs", n, place, n, rows.chrom, MAX_RUNS, runs)
        host = xp.concatenate([totals, runs]).tolist()
        total, (n_runs, *run) = host[:N_TOTALS], host[N_TOTALS:]
        failed = total[FIRST_ERROR] != LAST
        n_kept = 0 if failed else total[KEPT]
        dropped = np.array(total[: LAST_DROP + 1], dtype=np.int64)
        dropped[KEPT] = 0
        unknown: dict[bytes, int] = {}
        if total[UNKNOWN_CHROM] and not failed:
            unknown = self._unknown(text, status, lines, total[UNKNOWN_CHROM])
        del lines, place, line_end
        rows = rows.cut(n_kept)
        return ParsedBlock(
            n_lines=n,
            chrom=rows.chrom,
            start=rows.start,
            end=rows.end,
            count=rows.count,
            strand=rows.strand,
            names=None if bulk else RowNames(text, rows.name_at, rows.name_length, rows.hash),
            runs=None if n_runs > MAX_RUNS else _runs(run[: 2 * n_runs], n_kept) if n_kept else [],
            dropped=dropped,
            unknown_chroms=unknown,
            error_line=total[FIRST_ERROR] if failed else -1,
            error_code=int(status[total[FIRST_ERROR]]) if failed else 0,
            has_strand=total[WITH_STRAND] > 0,
        )

    def line_ends(self, text: Any) -> Any:
        """int64 (n_lines,): where each line's newline is; for a last line without one, the text's length. One transfer."""
        xp = self._xp
        n = int(text.size)
        if not n:
            return xp.empty(0, np.int64)
        n_tiles = -(-n // TILE)
        found = xp.zeros(n_tiles, np.int32)
        self._launch("count_newlines", n_tiles * 32, text, n, n_tiles, found)
        until = xp.cumsum(found, dtype=np.int64)
        n_newlines, last = xp.concatenate([until[-1:], text[-1:].astype(np.int64)]).tolist()
        open_end = last != ord("\n")
        line_end = xp.empty(n_newlines + open_end, np.int64)
        self._launch("find_line_ends", n_tiles * 32, text, n, n_tiles, until - found, line_end)
        if open_end:
            line_end[-1] = n
        return line_end

    def _rows(self, status: Any, wanted: int, lines: _Lines, *, names: bool, columns: bool = True) -> tuple[Any, _Lines]:
        """The running count of the lines of one status, and their columns and names behind one another.

        The arrays are as long as there are lines: how many rows they hold is known on the device alone.
        """
        xp = self._xp
        n = int(status.size)
        place = xp.cumsum(status == wanted, dtype=np.int64)
        rows = _Lines.empty(xp, n, columns=columns, names=names)
        given = (line if row is not None else None for line, row in zip(lines, rows, strict=True))
        self._launch("keep_lines", n, place, n, *given, *rows)
        return place, rows

    def _unknown(self, text: Any, status: Any, lines: _Lines, n: int) -> dict[bytes, int]:
        """Lines by unknown chromosome name: the first ``MAX_UNKNOWN`` names, the rest together. Three transfers."""
        xp = self._xp
        _, rows = self._rows(status, UNKNOWN_CHROM, lines, names=True, columns=False)
        table = NameTable(xp, self._launch, self._hash_mask)
        rows = rows.cut(n)
        number = table.add(RowNames(text, rows.name_at, rows.name_length, rows.hash))
        found = xp.zeros(table.n, np.int64)
        self._launch("add_totals", n, number, None, None, None, n, found, None, None)
        host = xp.concatenate([found, table.ptr()[: MAX_UNKNOWN + 1]]).tolist()
        counts, ptr = host[: table.n], host[table.n :]
        raw = table.text()[: ptr[-1]].tobytes()
        out = {raw[a:b]: k for (a, b), k in zip(itertools.pairwise(ptr), counts, strict=False)}
        if table.n > MAX_UNKNOWN:
            out[b"(other names)"] = sum(counts[MAX_UNKNOWN:])
        return out


def _cut(column: Any, n: int) -> Any:
    return column[:n].copy() if n < SPARE * int(column.size) else column[:n]


def _runs(found: list[int], n_rows: int) -> list[ChromRun]:
    """Runs of chromosomes from pairs of first row and code in any order."""
    pairs = sorted(zip(found[::2], found[1::2], strict=True))
    edges = [*(row for row, _ in pairs), n_rows]
    return [ChromRun(code, low, high) for (low, code), high in zip(pairs, edges[1:], strict=True)]
