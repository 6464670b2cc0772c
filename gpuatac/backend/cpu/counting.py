"""Counting on the CPU, in Numba: one sweep along the sorted fragments of a chromosome for each question.

Every function releases the GIL, so that chromosomes are counted side by side in threads.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from gpuatac.backend.protocol import Csr, Strategy, TssCounts

INSERTION, FRAGMENT, PAIRED = range(3)
_njit = nb.njit(cache=True, nogil=True)


@_njit
def _emit_tiles(start, end, row, bin_size, strategy, ptr, at, out):  # type: ignore[no-untyped-def]
    """Count entries per row into ``ptr[row + 1]`` when ``out`` is empty, else write bins at ``at[row]``."""
    fill = out.size > 0
    for i in range(start.size):
        r = row[i]
        if r < 0:
            continue
        first, last = start[i] // bin_size, (end[i] - 1) // bin_size
        if strategy == FRAGMENT:
            if fill:
                k = at[r]
                for b in range(first, last + 1):
                    out[k] = b
                    k += 1
                at[r] = k
            else:
                ptr[r + 1] += last - first + 1
        elif strategy == PAIRED and first == last:
            if fill:
                out[at[r]] = first
                at[r] += 1
            else:
                ptr[r + 1] += 1
        elif fill:
            k = at[r]
            out[k], out[k + 1] = first, last
            at[r] = k + 2
        else:
            ptr[r + 1] += 2


@_njit
def _emit_regions(start, end, row, lo, hi, strategy, ptr, at, out):  # type: ignore[no-untyped-def]
    """As ``_emit_tiles`` for regions [lo, hi): those open at the fragment's start, then those it runs into."""
    fill = out.size > 0
    open_regions = np.empty(lo.size, np.int32)
    n_open, nxt = 0, 0
    for i in range(start.size):
        r = row[i]
        if r < 0:
            continue
        s, last = start[i], end[i] - 1
        while nxt < lo.size and lo[nxt] <= s:
            open_regions[n_open] = nxt
            n_open += 1
            nxt += 1
        kept = 0
        for j in range(n_open):
            k = open_regions[j]
            if hi[k] <= s:
                continue
            open_regions[kept] = k
            kept += 1
            n = 2 if strategy == INSERTION and last < hi[k] else 1
            if fill:
                for _ in range(n):
                    out[at[r]] = k
                    at[r] += 1
            else:
                ptr[r + 1] += n
        n_open = kept
        k = nxt
        while k < lo.size and lo[k] <= last:
            if strategy == FRAGMENT or last < hi[k]:
                if fill:
                    out[at[r]] = k
                    at[r] += 1
                else:
                    ptr[r + 1] += 1
            k += 1


@_njit
def _compress(ptr, entries):  # type: ignore[no-untyped-def]
    """Sorted, run-length encoded rows from the entries of each row (rows are nearly sorted already)."""
    n_rows = ptr.size - 1
    indptr = np.zeros(n_rows + 1, np.int64)
    counts = np.empty(entries.size, np.int32)
    out = 0
    for r in range(n_rows):
        low, high = ptr[r], ptr[r + 1]
        budget = 8 * (high - low)
        sorted_here = True
        for i in range(low + 1, high):
            v = entries[i]
            j = i - 1
            while j >= low and entries[j] > v:
                entries[j + 1] = entries[j]
                j -= 1
                budget -= 1
            entries[j + 1] = v
            if budget < 0:
                sorted_here = False
                break
        if not sorted_here:
            entries[low:high] = np.sort(entries[low:high])
        i = low
        while i < high:
            v = entries[i]
            n = 1
            i += 1
            while i < high and entries[i] == v:
                n += 1
                i += 1
            entries[out] = v
            counts[out] = n
            out += 1
        indptr[r + 1] = out
    return indptr, entries[:out].copy(), counts[:out].copy()


@_njit
def _overlap_any(start, end, row, lo, hi, as_insertion, n_rows):  # type: ignore[no-untyped-def]
    out = np.zeros(n_rows, np.int64)
    first = 0
    for i in range(start.size):
        r = row[i]
        if r < 0:
            continue
        s, last = start[i], end[i] - 1
        while first < lo.size and hi[first] <= s:
            first += 1
        if as_insertion:
            if first < lo.size and lo[first] <= s:
                out[r] += 1
            k = first
            while k < lo.size and hi[k] <= last:
                k += 1
            if k < lo.size and lo[k] <= last:
                out[r] += 1
        elif first < lo.size and lo[first] <= last:
            out[r] += 1
    return out


@_njit
def _tss_counts(start, end, row, tss, reverse, window, half_center, edge, n_rows):  # type: ignore[no-untyped-def]
    center, flank = np.zeros(n_rows, np.int64), np.zeros(n_rows, np.int64)
    profile = np.zeros(2 * window + 1, np.int64)
    n_inside, n_cuts, first = 0, 0, 0
    for i in range(start.size):
        r = row[i]
        if r < 0:
            continue
        n_cuts += 2
        while first < tss.size and tss[first] < start[i] - window:
            first += 1
        for side in range(2):
            cut = start[i] if side == 0 else end[i] - 1
            inside = False
            k = first
            while k < tss.size and tss[k] <= cut + window:
                offset = cut - tss[k]
                if offset <= window:
                    inside = True
                    at = window - offset if reverse[k] else window + offset
                    profile[at] += 1
                    if abs(offset) <= half_center:
                        center[r] += 1
                    if at < edge or at > 2 * window - edge:
                        flank[r] += 1
                k += 1
            n_inside += inside
    return center, flank, profile, n_inside, n_cuts


@_njit
def _length_histogram(start, end, row, max_length):  # type: ignore[no-untyped-def]
    out = np.zeros(max_length + 1, np.int64)
    for i in range(start.size):
        if row[i] >= 0:
            length = end[i] - start[i]
            out[length if length <= max_length else 0] += 1
    return out


@_njit
def _length_classes(start, end, row, bounds, n_rows):  # type: ignore[no-untyped-def]
    out = np.zeros((n_rows, bounds.size + 1), np.int64)
    for i in range(start.size):
        if row[i] >= 0:
            length = end[i] - start[i]
            k = 0
            while k < bounds.size and length >= bounds[k]:
                k += 1
            out[row[i], k] += 1
    return out


@_njit
def _row_sums(row, values, n_rows):  # type: ignore[no-untyped-def]
    out = np.zeros(n_rows, np.int64)
    for i in range(row.size):
        if row[i] >= 0:
            out[row[i]] += values[i] if values.size else 1
    return out


@_njit
def _place(indptr, indices, data, shift, at, out_indices, out_data):  # type: ignore[no-untyped-def]
    for r in range(indptr.size - 1):
        k = at[r]
        for i in range(indptr[r], indptr[r + 1]):
            out_indices[k] = indices[i] + shift
            out_data[k] = data[i]
            k += 1
        at[r] = k


@_njit
def _max_over_groups(indptr, indices, data, group, n_groups):  # type: ignore[no-untyped-def]
    n_rows = indptr.size - 1
    best = np.zeros(n_groups, data.dtype)
    touched = np.empty(n_groups, np.int32)
    out_ptr = np.zeros(n_rows + 1, np.int64)
    out_indices = np.empty(indices.size, np.int32)
    out_data = np.empty(indices.size, data.dtype)
    k = 0
    for r in range(n_rows):
        n = 0
        for i in range(indptr[r], indptr[r + 1]):
            g = group[indices[i]]
            if best[g] == 0:
                touched[n] = g
                n += 1
            best[g] = max(best[g], data[i])
        touched[:n].sort()
        for j in range(n):
            g = touched[j]
            out_indices[k] = g
            out_data[k] = best[g]
            best[g] = 0
            k += 1
        out_ptr[r + 1] = k
    return out_ptr, out_indices[:k].copy(), out_data[:k].copy()


_NOTHING = np.empty(0, np.int32)


class Counting:
    """The CPU side of ``protocol.Counting``."""

    def tile_counts(
        self, start: Any, end: Any, row: Any, *, n_rows: int, bin_size: int, n_bins: int, strategy: Strategy
    ) -> Csr:
        """See ``protocol.Counting.tile_counts``."""
        code = {"insertion": INSERTION, "fragment": FRAGMENT, "paired-insertion": PAIRED}[strategy]
        ptr = np.zeros(n_rows + 1, np.int64)
        _emit_tiles(start, end, row, bin_size, code, ptr, ptr, _NOTHING)
        ptr = np.cumsum(ptr)
        entries = np.empty(ptr[-1], np.int32)
        if entries.size:
            _emit_tiles(start, end, row, bin_size, code, ptr, ptr[:-1].copy(), entries)
        return Csr(*_compress(ptr, entries))

    def region_counts(
        self, start: Any, end: Any, row: Any, *, n_rows: int, region_start: Any, region_end: Any, strategy: Strategy
    ) -> Csr:
        """See ``protocol.Counting.region_counts``."""
        code = {"insertion": INSERTION, "fragment": FRAGMENT, "paired-insertion": PAIRED}[strategy]
        ptr = np.zeros(n_rows + 1, np.int64)
        _emit_regions(start, end, row, region_start, region_end, code, ptr, ptr, _NOTHING)
        ptr = np.cumsum(ptr)
        entries = np.empty(ptr[-1], np.int32)
        if entries.size:
            _emit_regions(start, end, row, region_start, region_end, code, ptr, ptr[:-1].copy(), entries)
        return Csr(*_compress(ptr, entries))

    def overlap_any(
        self, start: Any, end: Any, row: Any, *, n_rows: int, region_start: Any, region_end: Any, as_insertion: bool
    ) -> Any:
        """See ``protocol.Counting.overlap_any``."""
        return _overlap_any(start, end, row, region_start, region_end, as_insertion, n_rows)

    def tss_counts(
        self,
        start: Any,
        end: Any,
        row: Any,
        *,
        n_rows: int,
        tss: Any,
        reverse: Any,
        window: int,
        half_center: int,
        edge: int,
    ) -> TssCounts:
        """See ``protocol.Counting.tss_counts``."""
        return TssCounts(*_tss_counts(start, end, row, tss, reverse, window, half_center, edge, n_rows))

    def length_histogram(self, start: Any, end: Any, row: Any, *, max_length: int) -> Any:
        """See ``protocol.Counting.length_histogram``."""
        return _length_histogram(start, end, row, max_length)

    def length_classes(self, start: Any, end: Any, row: Any, *, n_rows: int, bounds: tuple[int, ...]) -> Any:
        """See ``protocol.Counting.length_classes``."""
        return _length_classes(start, end, row, np.array(bounds, np.int64), n_rows)

    def row_sums(self, row: Any, values: Any | None, *, n_rows: int) -> Any:
        """See ``protocol.Counting.row_sums``."""
        return _row_sums(row, _NOTHING if values is None else values, n_rows)

    def hstack(self, parts: list[Csr], widths: list[int]) -> Csr:
        """See ``protocol.Counting.hstack``."""
        indptr = np.zeros(parts[0].indptr.size, np.int64)
        for part in parts:
            indptr += part.indptr
        indices = np.empty(int(indptr[-1]), np.int32)
        data = np.empty(int(indptr[-1]), parts[0].data.dtype)
        at = indptr[:-1].copy()
        shift = 0
        for part, width in zip(parts, widths, strict=True):
            _place(part.indptr, part.indices, part.data, np.int32(shift), at, indices, data)
            shift += width
        return Csr(indptr, indices, data)

    def max_over_groups(self, counts: Csr, group: Any, *, n_groups: int) -> Csr:
        """See ``protocol.Counting.max_over_groups``."""
        return Csr(*_max_over_groups(counts.indptr, counts.indices, counts.data, group, n_groups))
