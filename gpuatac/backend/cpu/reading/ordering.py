"""Rows in file order to rows sorted by (chromosome, start, end, cell), on the CPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numba as nb
import numpy as np

from gpuatac.threads import get_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

SHORT_RUN = 64  # runs of equal starts up to this length are sorted by insertion


@nb.njit(cache=True, nogil=True)
def _rows_by_chrom(chrom, cell, n_chroms):  # type: ignore[no-untyped-def]
    counts = np.zeros(n_chroms, np.int64)
    for i in range(chrom.size):
        if cell[i] >= 0:
            counts[chrom[i]] += 1
    return counts


@nb.njit(cache=True, nogil=True)
def _scatter(chrom, start, end, cell, count, strand, ptr):  # type: ignore[no-untyped-def]
    n = ptr[-1]
    at = ptr.copy()
    out_start, out_end = np.empty(n, np.int32), np.empty(n, np.int32)
    out_cell, out_count = np.empty(n, np.int32), np.empty(n, np.int32)
    out_strand = np.empty(n if strand.size else 0, np.int8)
    for i in range(chrom.size):
        if cell[i] >= 0:
            k = at[chrom[i]]
            at[chrom[i]] = k + 1
            out_start[k], out_end[k], out_cell[k], out_count[k] = start[i], end[i], cell[i], count[i]
            if strand.size:
                out_strand[k] = strand[i]
    return out_start, out_end, out_cell, out_count, out_strand


@nb.njit(cache=True, nogil=True)
def _ascending(start):  # type: ignore[no-untyped-def]
    for i in range(1, start.size):
        if start[i] < start[i - 1]:
            return False
    return True


@nb.njit(cache=True, nogil=True)
def _order_ties(start, end, cell, count, strand):  # type: ignore[no-untyped-def]
    """Order rows of equal start by (end, cell), in place; stable."""
    n = start.size
    low = 0
    while low < n:
        high = low + 1
        while high < n and start[high] == start[low]:
            high += 1
        if high - low > SHORT_RUN:
            key = end[low:high].astype(np.int64) * np.int64(2147483648) + cell[low:high]
            order = np.argsort(key, kind="mergesort")
            end[low:high] = end[low:high][order]
            cell[low:high] = cell[low:high][order]
            count[low:high] = count[low:high][order]
            if strand.size:
                strand[low:high] = strand[low:high][order]
        else:
            for i in range(low + 1, high):
                e, c, k = end[i], cell[i], count[i]
                s = strand[i] if strand.size else np.int8(0)
                j = i - 1
                while j >= low and (end[j] > e or (end[j] == e and cell[j] > c)):
                    end[j + 1], cell[j + 1], count[j + 1] = end[j], cell[j], count[j]
                    if strand.size:
                        strand[j + 1] = strand[j]
                    j -= 1
                end[j + 1], cell[j + 1], count[j + 1] = e, c, k
                if strand.size:
                    strand[j + 1] = s
        low = high


@nb.njit(cache=True, nogil=True)
def _count_kept(cell, new_code):  # type: ignore[no-untyped-def]
    n = 0
    for i in range(cell.size):
        n += new_code[cell[i]] >= 0
    return n


@nb.njit(cache=True, nogil=True)
def _append(at, start, end, cell, count, strand, new_code, o_start, o_end, o_cell, o_count, o_strand):  # type: ignore[no-untyped-def]
    """Copy the kept rows to ``at`` and on; where they end, and whether starts ascend from the row before ``at`` on."""
    ascending = True
    last = o_start[at - 1] if at > 0 else np.int32(-1)
    for i in range(start.size):
        c = new_code[cell[i]]
        if c >= 0:
            s = start[i]
            ascending &= s >= last
            last = s
            o_start[at], o_end[at], o_cell[at], o_count[at] = s, end[i], c, count[i]
            if o_strand.size:
                o_strand[at] = strand[i] if strand.size else np.int8(0)
            at += 1
    return at, ascending


@nb.njit(cache=True, nogil=True)
def _radix_order(key):  # type: ignore[no-untyped-def]
    """Stable order of non-negative int32 keys: passes of 11 bits, as many as the largest key needs."""
    n = key.size
    order, other = np.arange(n, dtype=np.int64), np.empty(n, np.int64)
    largest = 0
    for i in range(n):
        largest = max(largest, key[i])
    shift = 0
    while largest >> shift:
        at = np.zeros(2049, np.int64)
        for i in range(n):
            at[((key[i] >> shift) & 2047) + 1] += 1
        for b in range(2048):
            at[b + 1] += at[b]
        for i in range(n):
            k = order[i]
            b = (key[k] >> shift) & 2047
            other[at[b]] = k
            at[b] += 1
        order, other = other, order
        shift += 11
    return order


_NO_STRAND = np.empty(0, np.int8)


class Ordering:
    """The CPU side of ``protocol.Ordering``."""

    def count_kept(self, groups: Sequence[Sequence[Any]], new_code: Any) -> list[int]:
        """See ``protocol.Ordering.count_kept``."""
        return [sum(int(_count_kept(cell, new_code)) for cell in cells) for cells in groups]

    def merge_segments(self, segments: list[Any], new_code: Any, out: Any) -> bool:
        """See ``protocol.Ordering.merge_segments``."""
        strand = _NO_STRAND if out.strand is None else out.strand
        columns = (out.start, out.end, out.cell, out.count)
        at, came_sorted = 0, True
        while segments:
            part = segments.pop(0)
            theirs = _NO_STRAND if part.strand is None else part.strand
            rows = (part.start, part.end, part.cell, part.count, theirs, new_code)
            at, ascending = _append(at, *rows, *columns, strand)
            came_sorted &= bool(ascending)
        if not came_sorted:
            order = _radix_order(out.start)
            for column in (*columns, *([] if out.strand is None else [strand])):
                column[:] = column[order]
        _order_ties(*columns, strand)
        return came_sorted

    def sort_fragments(
        self, chrom: Any, start: Any, end: Any, cell: Any, count: Any, strand: Any | None, *, n_chroms: int
    ) -> tuple[np.ndarray, Any, Any, Any, Any, Any | None, bool]:
        """See ``protocol.Ordering.sort_fragments``."""
        counts = _rows_by_chrom(chrom, cell, n_chroms)
        ptr = np.concatenate([[0], np.cumsum(counts)])
        columns = _scatter(chrom, start, end, cell, count, np.empty(0, np.int8) if strand is None else strand, ptr)

        def finish(c: int) -> bool:
            s, e, b, k, d = (col[ptr[c] : ptr[c + 1]] for col in columns)
            was_sorted = bool(_ascending(s))
            if not was_sorted:
                order = _radix_order(s)
                for col in (s, e, b, k, *([d] if strand is not None else [])):
                    col[:] = col[order]
            _order_ties(s, e, b, k, d)
            return was_sorted

        with ThreadPoolExecutor(get_threads()) as pool:
            all_sorted = all(list(pool.map(finish, range(n_chroms))))
        out_start, out_end, out_cell, out_count, out_strand = columns
        return ptr, out_start, out_end, out_cell, out_count, None if strand is None else out_strand, all_sorted
