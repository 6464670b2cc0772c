"""Rows in file order to rows sorted by (chromosome, start, end, cell), on the CPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba as nb
import numpy as np

from gpuatac.threads import get_threads

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


class Ordering:
    """The CPU side of ``protocol.Ordering``."""

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
                order = np.argsort(s, kind="stable")
                for col in (s, e, b, k, *([d] if strand is not None else [])):
                    col[:] = col[order]
            _order_ties(s, e, b, k, d)
            return was_sorted

        with ThreadPoolExecutor(get_threads()) as pool:
            all_sorted = all(list(pool.map(finish, range(n_chroms))))
        out_start, out_end, out_cell, out_count, out_strand = columns
        return ptr, out_start, out_end, out_cell, out_count, None if strand is None else out_strand, all_sorted
