"""Fragment lines to columns on a GPU: three kernel passes over the text, a sort to name the barcodes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac.backend.protocol import ParsedBlock
from gpuatac.backend.protocol.reading import KEPT, LAST_DROP, UNKNOWN_CHROM

if TYPE_CHECKING:
    from gpuatac.backend.gpu.launch import Launcher

TILE = 1024  # bytes a warp looks through for newlines, as in lines.cu
WITH_STRAND, FIRST_ERROR, N_TOTALS = 6, 7, 8  # entries of fragments.cu's totals
MAX_UNKNOWN = 256  # distinct unknown chromosome names reported for each block
LAST = np.iinfo(np.int64).max
ALL_BITS = (1 << 64) - 1


def hash_bytes(name: bytes) -> int:
    """What ``hash_bytes`` of common.cuh gives: 64-bit FNV-1a with a final mix."""
    h = 0xCBF29CE484222325
    for byte in name:
        h = ((h ^ byte) * 0x100000001B3) & ALL_BITS
    h ^= h >> 32
    h = (h * 0xD6E8FEB86659FD93) & ALL_BITS
    return h ^ (h >> 32)


def named(names: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Names as ``ParsedBlock`` holds them."""
    return np.frombuffer(b"".join(names), np.uint8), np.cumsum([0, *map(len, names)], dtype=np.int64)


class Parsing:
    """The GPU side of ``protocol.Parsing``.

    ``hash_mask`` keeps that many bits of each name's hash. Names are told apart by their bytes, whatever the
    mask; the tests pass few bits so that names collide.
    """

    def __init__(self, xp: Any, launch: Launcher, *, hash_mask: int = ALL_BITS) -> None:
        self._xp = xp
        self._launch = launch
        self._hash_mask = hash_mask

    def parse_block(
        self, text: Any, chrom_names: list[bytes], chrom_codes: np.ndarray, sizes: np.ndarray, *, bulk: bool
    ) -> ParsedBlock:
        """See ``protocol.Parsing.parse_block``."""
        xp = self._xp
        text = xp.ascontiguousarray(text)
        line_end = self.line_ends(text)
        n = int(line_end.size)
        status = xp.empty(n, np.uint8)
        chrom, strand = xp.empty(n, np.int16), xp.empty(n, np.int8)
        start, end, count = (xp.empty(n, np.int32) for _ in range(3))
        hashes, name_at, name_length = xp.empty(n, np.uint64), xp.empty(n, np.int64), xp.empty(n, np.int32)
        totals = xp.zeros(N_TOTALS, np.int64)
        totals[FIRST_ERROR] = LAST
        self._launch(
            "parse_lines", n, text, line_end, n, *self._chrom_table(chrom_names, chrom_codes),
            xp.asarray(sizes, dtype=np.int64), int(bulk), self._hash_mask,
            status, chrom, start, end, count, strand, hashes, name_at, name_length, totals,
        )  # fmt: skip
        total = [int(x) for x in totals.tolist()]
        dropped = np.array(total[: LAST_DROP + 1], dtype=np.int64)
        dropped[KEPT] = 0
        unknown: dict[bytes, int] = {}
        error_line = -1 if total[FIRST_ERROR] == LAST else total[FIRST_ERROR]
        if error_line >= 0:
            kept = xp.empty(0, np.int64)
            error_code = int(status[error_line])
        else:
            kept = xp.flatnonzero(status == KEPT)
            error_code = 0
            if total[UNKNOWN_CHROM]:
                unknown = self._unknown(text, xp.flatnonzero(status == UNKNOWN_CHROM), hashes, name_at, name_length)
        if bulk:
            barcode = xp.zeros(kept.size, np.int32)
            names = named([b"bulk"] if kept.size else [])
        else:
            barcode, first = self.distinct_names(text, kept, hashes, name_at, name_length)
            names = self._names(text, first, name_at, name_length)
        copies = xp.bincount(barcode, weights=count[kept], minlength=names[1].size - 1)  # exact below 2^53
        return ParsedBlock(
            n_lines=n,
            chrom=chrom[kept],
            start=start[kept],
            end=end[kept],
            count=count[kept],
            strand=strand[kept],
            barcode=barcode,
            name_text=names[0],
            name_ptr=names[1],
            rows=np.array(xp.bincount(barcode, minlength=names[1].size - 1).tolist(), np.int64),
            copies=np.array(copies.tolist(), np.float64).astype(np.int64),
            dropped=dropped,
            unknown_chroms=unknown,
            error_line=error_line,
            error_code=error_code,
            has_strand=total[WITH_STRAND] > 0,
        )

    def line_ends(self, text: Any) -> Any:
        """int64 (n_lines,): where each line's newline is; for a last line without one, the text's length."""
        xp = self._xp
        n = int(text.size)
        n_tiles = -(-n // TILE)
        found = xp.zeros(n_tiles, np.int32)
        self._launch("count_newlines", n_tiles * 32, text, n, n_tiles, found)
        until = xp.cumsum(found, dtype=np.int64)
        n_newlines = int(until[-1]) if n_tiles else 0
        open_end = n > 0 and int(text[-1]) != ord("\n")
        line_end = xp.empty(n_newlines + open_end, np.int64)
        self._launch("find_line_ends", n_tiles * 32, text, n, n_tiles, until - found, line_end)
        if open_end:
            line_end[-1] = n
        return line_end

    def distinct_names(self, text: Any, item: Any, hashes: Any, name_at: Any, name_length: Any) -> tuple[Any, Any]:
        """Number the distinct names of the lines ``item`` in order of first appearance.

        Returns int32 (n_items,), the number of each item's name, and int64 (n_names,), the first line of
        each. Items are grouped by hash; those whose bytes differ from the first of their group are grouped
        again.
        """
        xp = self._xp
        n = int(item.size)
        group = xp.empty(n, np.int64)
        waiting = xp.arange(n, dtype=np.int64)
        firsts: list[Any] = []
        n_groups = 0
        while waiting.size:
            here = item[waiting]
            by_hash = xp.argsort(hashes[here])
            ordered = hashes[here[by_hash]]
            opens = xp.ones(ordered.size, np.int64)
            opens[1:] = ordered[1:] != ordered[:-1]
            of_sorted = xp.cumsum(opens) - 1
            found = xp.empty_like(of_sorted)
            found[by_hash] = of_sorted
            first = xp.full(int(of_sorted[-1]) + 1, LAST, dtype=np.int64)
            self._launch("first_of_group", here.size, found, here, here.size, first)
            differs = xp.empty(here.size, np.uint8)
            self._launch("names_differ", here.size, text, name_at, name_length, found, here, first, here.size, differs)
            group[waiting] = found + n_groups
            n_groups += int(first.size)
            firsts.append(first)
            waiting = waiting[differs != 0]
        if not firsts:
            return xp.empty(0, np.int32), xp.empty(0, np.int64)
        first = xp.concatenate(firsts)
        by_appearance = xp.argsort(first)
        number = xp.empty(n_groups, np.int32)
        number[by_appearance] = xp.arange(n_groups, dtype=np.int32)
        return number[group], first[by_appearance]

    def _names(self, text: Any, item: Any, name_at: Any, name_length: Any) -> tuple[np.ndarray, np.ndarray]:
        """The names of the lines ``item`` on the host: their bytes, and where each begins (with the end of the last)."""
        xp = self._xp
        if not item.size:
            return named([])
        length = name_length[item].astype(np.int64)
        stop = xp.cumsum(length)
        out = xp.empty(int(stop[-1]), np.uint8)
        self._launch("gather_names", item.size, text, name_at, name_length, item, stop - length, item.size, out)
        return np.frombuffer(out.tobytes(), np.uint8), np.array([0, *stop.tolist()], np.int64)

    def _unknown(self, text: Any, item: Any, hashes: Any, name_at: Any, name_length: Any) -> dict[bytes, int]:
        """Lines by unknown chromosome name: the first ``MAX_UNKNOWN`` names, the rest together."""
        number, first = self.distinct_names(text, item, hashes, name_at, name_length)
        lines = self._xp.bincount(number, minlength=int(first.size)).tolist()
        raw, ptr = self._names(text, first[:MAX_UNKNOWN], name_at, name_length)
        names = [raw[a:b].tobytes() for a, b in itertools.pairwise(ptr.tolist())]
        out = {name: int(n) for name, n in zip(names, lines, strict=False)}
        if len(lines) > MAX_UNKNOWN:
            out[b"(other names)"] = int(sum(lines[MAX_UNKNOWN:]))
        return out

    def _chrom_table(self, names: list[bytes], codes: np.ndarray) -> tuple[Any, Any, Any, Any, int]:
        """The known chromosomes as parse_lines takes them: by hash, of equal names the first in front."""
        xp = self._xp
        hashes = np.array([hash_bytes(name) & self._hash_mask for name in names], dtype=np.uint64)
        order = np.argsort(hashes, kind="stable")
        sorted_names = [names[i] for i in order]
        ptr = np.zeros(len(names) + 1, np.int64)
        np.cumsum([len(name) for name in sorted_names], out=ptr[1:])
        text = np.frombuffer(b"".join(sorted_names), np.uint8)
        return (
            xp.asarray(text), xp.asarray(ptr), xp.asarray(hashes[order]),
            xp.asarray(np.asarray(codes)[order].astype(np.int32)), len(names),
        )  # fmt: skip
