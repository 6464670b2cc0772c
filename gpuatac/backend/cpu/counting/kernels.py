"""What ``Counting`` sweeps along the sorted fragments of a chromosome with, in Numba; every function releases the GIL."""

from __future__ import annotations

import numba as nb
import numpy as np

INSERTION, FRAGMENT, PAIRED = range(3)
_njit = nb.njit(cache=True, nogil=True)
_inlined = nb.njit(cache=True, nogil=True, forceinline=True)


@_njit
def row_starts(row, per_fragment, n_rows):  # type: ignore[no-untyped-def]
    """Where each row's entries begin when every fragment of row >= 0 takes ``per_fragment`` places."""
    ptr = np.zeros(n_rows + 1, np.int64)
    for i in range(row.size):
        if row[i] >= 0:
            ptr[row[i] + 1] += per_fragment
    for r in range(n_rows):
        ptr[r + 1] += ptr[r]
    return ptr


@_inlined
def _bins(start, end, bin_size, first, stop):  # type: ignore[no-untyped-def]
    """The bin of a fragment's first base and where it ends, given those of the fragment before, and the bin of its last base.

    Starts ascend, so the bin of the last start is kept with its end: one comparison where a division would stand. The last
    base nearly always lies in the same bin or the next.
    """
    s, last, width = np.int64(start), np.int64(end) - 1, np.int64(bin_size)
    if s >= stop:
        first = s // width
        stop = (first + 1) * width
    final = first
    if last >= stop:
        final = first + 1 if last < stop + width else last // width
    return first, stop, final


@_njit
def emit_cut_tiles(start, end, row, bin_size, paired, at, out):  # type: ignore[no-untyped-def]
    """Write the bins of both cuts at ``at[row]``, which moves on; once when ``paired`` and both lie in one bin."""
    first, stop = np.int64(-1), np.int64(0)
    for i in range(start.size):
        r = row[i]
        if r < 0:
            continue
        first, stop, final = _bins(start[i], end[i], bin_size, first, stop)
        k = at[r]
        out[k] = first
        k += 1
        if final > first or not paired:
            out[k] = final
            k += 1
        at[r] = k


@_njit
def emit_span_tiles(start, end, row, bin_size, ptr, at, out):  # type: ignore[no-untyped-def]
    """Count entries per row into ``ptr[row + 1]`` when ``out`` is empty, else write every bin a fragment overlaps."""
    first, stop = np.int64(-1), np.int64(0)
    fill = out.size > 0
    for i in range(start.size):
        r = row[i]
        if r < 0:
            continue
        first, stop, final = _bins(start[i], end[i], bin_size, first, stop)
        if fill:
            k = at[r]
            for b in range(first, final + 1):
                out[k] = b
                k += 1
            at[r] = k
        else:
            ptr[r + 1] += final - first + 1


@_njit
def emit_cut_regions(start, end, row, lo, hi, paired, at, out):  # type: ignore[no-untyped-def]
    """As ``emit_cut_tiles`` for disjoint regions: at most one holds each cut."""
    n = lo.size
    first = 0
    for i in range(start.size):
        r = row[i]
        if r < 0:
            continue
        s, last = start[i], end[i] - 1
        while first < n and hi[first] <= s:
            first += 1
        if first == n:
            break
        if lo[first] > last:
            continue
        k = at[r]
        inside = lo[first] <= s
        if inside:
            out[k] = first
            k += 1
        j = first
        while j < n and hi[j] <= last:
            j += 1
        if j < n and lo[j] <= last and not (paired and inside and j == first):
            out[k] = j
            k += 1
        at[r] = k


@_njit
def emit_regions(start, end, row, lo, hi, strategy, ptr, at, out):  # type: ignore[no-untyped-def]
    """As ``emit_span_tiles`` for regions [lo, hi) that may overlap: those open at the fragment's start, then those it runs into."""
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
def _merge_rest(entries, counts, begin, out, low, high):  # type: ignore[no-untyped-def]
    """Join the counted entries [begin, out) with those of [low, high), sorted first; where the row ends."""
    rest = np.sort(entries[low:high])
    values, times = entries[begin:out].copy(), counts[begin:out].copy()
    a, b, k = 0, 0, begin
    while a < values.size or b < rest.size:
        if b == rest.size or (a < values.size and values[a] <= rest[b]):
            v, n = values[a], times[a]
            a += 1
        else:
            v, n = rest[b], 0
        while b < rest.size and rest[b] == v:
            n += 1
            b += 1
        entries[k], counts[k] = v, n
        k += 1
    return k


@_njit
def count_runs(ptr, stop, entries, counts):  # type: ignore[no-untyped-def]
    """Sort and count the entries [ptr[r], stop[r]) of each row, moving them to the front of ``entries``; the row ends.

    Rows are nearly sorted: an entry goes back a few places at most, to its equal or in between. A row that takes
    many steps is sorted. What is read lies never before what is written.
    """
    indptr = np.zeros(stop.size + 1, np.int64)
    out = 0
    for r in range(stop.size):
        begin, high = out, stop[r]
        budget = 8 * (high - ptr[r])
        for i in range(ptr[r], high):
            v = entries[i]
            j = out - 1
            while j >= begin and entries[j] > v:
                j -= 1
            if j >= begin and entries[j] == v:
                counts[j] += 1
            else:
                for k in range(out, j + 1, -1):
                    entries[k], counts[k] = entries[k - 1], counts[k - 1]
                entries[j + 1], counts[j + 1] = v, 1
                out += 1
            budget -= out - j
            if budget < 0:
                out = _merge_rest(entries, counts, begin, out, i + 1, high)
                break
        indptr[r + 1] = out
    return indptr


@_njit
def row_sums(row, values, n_rows):  # type: ignore[no-untyped-def]
    """Number of rows >= 0, or the sum of their values where there are values."""
    out = np.zeros(n_rows, np.int64)
    for i in range(row.size):
        if row[i] >= 0:
            out[row[i]] += values[i] if values.size else 1
    return out


@_njit
def place(indptr, indices, data, low, high, shift, at, out_indices, out_data):  # type: ignore[no-untyped-def]
    """Copy rows [low, high) to ``at``, which moves on."""
    for r in range(low, high):
        k = at[r - low]
        for i in range(indptr[r], indptr[r + 1]):
            out_indices[k] = indices[i] + shift
            out_data[k] = data[i]
            k += 1
        at[r - low] = k


@_njit
def max_over_groups(indptr, indices, data, group, n_groups, out_indices, out_data):  # type: ignore[no-untyped-def]
    """Write the largest count of each row and group, groups ascending; the row ends."""
    n_rows = indptr.size - 1
    best = np.zeros(n_groups, data.dtype)
    out_ptr = np.zeros(n_rows + 1, np.int64)
    k = 0
    for r in range(n_rows):
        begin = k
        ascending = True
        for i in range(indptr[r], indptr[r + 1]):
            g = group[indices[i]]
            if best[g] == 0:
                ascending &= k == begin or out_indices[k - 1] < g
                out_indices[k] = g
                k += 1
            best[g] = max(best[g], data[i])
        if not ascending:
            out_indices[begin:k].sort()
        for j in range(begin, k):
            out_data[j] = best[out_indices[j]]
            best[out_indices[j]] = 0
        out_ptr[r + 1] = k
    return out_ptr
