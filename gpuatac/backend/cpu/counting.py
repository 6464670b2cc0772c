"""Counting on the CPU, in Numba: sweeps along the sorted fragments of a chromosome, and matrices made of their entries.

Every function releases the GIL, so that chromosomes are counted side by side in threads.
"""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numba as nb
import numpy as np

from gpuatac.backend.cpu import quality
from gpuatac.backend.protocol import Csr, Quality, Strategy, TssCounts
from gpuatac.threads import COUNTING_THREAD, get_threads

INSERTION, FRAGMENT, PAIRED = range(3)
_njit = nb.njit(cache=True, nogil=True)


@_njit
def _row_starts(row, per_fragment, n_rows):  # type: ignore[no-untyped-def]
    """Where each row's entries begin when every fragment of row >= 0 takes ``per_fragment`` places."""
    ptr = np.zeros(n_rows + 1, np.int64)
    for i in range(row.size):
        if row[i] >= 0:
            ptr[row[i] + 1] += per_fragment
    for r in range(n_rows):
        ptr[r + 1] += ptr[r]
    return ptr


@_njit
def _emit_cut_tiles(start, end, row, bin_size, paired, at, out):  # type: ignore[no-untyped-def]
    """Write the bins of both cuts at ``at[row]``, which moves on; once when ``paired`` and both lie in one bin.

    Starts ascend, so the bin of the last start is kept with its end: one comparison where a division would stand.
    """
    width = np.int64(bin_size)
    first, stop = np.int64(-1), np.int64(0)
    for i in range(start.size):
        r = row[i]
        if r < 0:
            continue
        s, last = np.int64(start[i]), np.int64(end[i]) - 1
        if s >= stop:
            first = s // width
            stop = (first + 1) * width
        k = at[r]
        out[k] = first
        k += 1
        if last >= stop:
            out[k] = first + 1 if last < stop + width else last // width
            k += 1
        elif not paired:
            out[k] = first
            k += 1
        at[r] = k


@_njit
def _emit_span_tiles(start, end, row, bin_size, ptr, at, out):  # type: ignore[no-untyped-def]
    """Count entries per row into ``ptr[row + 1]`` when ``out`` is empty, else write every bin a fragment overlaps."""
    fill = out.size > 0
    width = np.int64(bin_size)
    first, stop = np.int64(-1), np.int64(0)
    for i in range(start.size):
        r = row[i]
        if r < 0:
            continue
        s, last = np.int64(start[i]), np.int64(end[i]) - 1
        if s >= stop:
            first = s // width
            stop = (first + 1) * width
        final = first
        if last >= stop:
            final = first + 1 if last < stop + width else last // width
        if fill:
            k = at[r]
            for b in range(first, final + 1):
                out[k] = b
                k += 1
            at[r] = k
        else:
            ptr[r + 1] += final - first + 1


@_njit
def _emit_cut_regions(start, end, row, lo, hi, paired, at, out):  # type: ignore[no-untyped-def]
    """As ``_emit_cut_tiles`` for disjoint regions: at most one holds each cut."""
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
def _emit_regions(start, end, row, lo, hi, strategy, ptr, at, out):  # type: ignore[no-untyped-def]
    """As ``_emit_span_tiles`` for regions [lo, hi) that may overlap: those open at the fragment's start, then those it runs into."""
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
def _count_runs(ptr, stop, entries, counts):  # type: ignore[no-untyped-def]
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
def _row_sums(row, values, n_rows):  # type: ignore[no-untyped-def]
    out = np.zeros(n_rows, np.int64)
    for i in range(row.size):
        if row[i] >= 0:
            out[row[i]] += values[i] if values.size else 1
    return out


@_njit
def _place(indptr, indices, data, low, high, shift, at, out_indices, out_data):  # type: ignore[no-untyped-def]
    """Copy rows [low, high) to ``at``, which moves on."""
    for r in range(low, high):
        k = at[r - low]
        for i in range(indptr[r], indptr[r + 1]):
            out_indices[k] = indices[i] + shift
            out_data[k] = data[i]
            k += 1
        at[r - low] = k


@_njit
def _max_over_groups(indptr, indices, data, group, n_groups, out_indices, out_data):  # type: ignore[no-untyped-def]
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


_NOTHING = np.empty(0, np.int32)


HSTACK_BLOCKS = 16
HSTACK_WHOLE = 1 << 20  # entries: a matrix up to here is joined in one block


_scratch = threading.local()


def _room(name: str, n: int) -> Any:
    """int32 (n,), uninitialised; in a counting thread the same memory again for the next chromosome, as fresh pages cost."""
    if not threading.current_thread().name.startswith(COUNTING_THREAD):
        return np.empty(n, np.int32)
    if not hasattr(_scratch, name) or getattr(_scratch, name).size < n:
        setattr(_scratch, name, np.empty(n + n // 8, np.int32))
    return getattr(_scratch, name)[:n]


def _counted(ptr: Any, stop: Any, entries: Any) -> Csr:
    """Rows of counts from the entries [ptr[r], stop[r]) of each row, in the memory of ``entries`` unless it is scratch."""
    counts = _room("counts", int((stop - ptr[:-1]).sum()))
    indptr = _count_runs(ptr, stop, entries, counts)
    if entries.base is not None:
        return Csr(indptr, entries[: int(indptr[-1])].copy(), counts[: int(indptr[-1])].copy())
    # nobody else knows these two arrays yet; giving their ends back copies nothing where they are large
    entries.resize(int(indptr[-1]), refcheck=False)
    counts.resize(int(indptr[-1]), refcheck=False)
    return Csr(indptr, entries, counts)


class Counting:
    """The CPU side of ``protocol.Counting``."""

    def tile_counts(
        self, start: Any, end: Any, row: Any, *, n_rows: int, bin_size: int, n_bins: int, strategy: Strategy
    ) -> Csr:
        """See ``protocol.Counting.tile_counts``."""
        if strategy != "fragment":
            ptr = _row_starts(row, 2, n_rows)
            stop, entries = ptr[:-1].copy(), _room("entries", int(ptr[-1]))
            _emit_cut_tiles(start, end, row, bin_size, strategy == "paired-insertion", stop, entries)
            return _counted(ptr, stop, entries)
        ptr = np.zeros(n_rows + 1, np.int64)
        _emit_span_tiles(start, end, row, bin_size, ptr, ptr, _NOTHING)
        ptr = np.cumsum(ptr)
        stop, entries = ptr[:-1].copy(), _room("entries", int(ptr[-1]))
        if entries.size:
            _emit_span_tiles(start, end, row, bin_size, ptr, stop, entries)
        return _counted(ptr, stop, entries)

    def region_counts(
        self, start: Any, end: Any, row: Any, *, n_rows: int, region_start: Any, region_end: Any, strategy: Strategy
    ) -> Csr:
        """See ``protocol.Counting.region_counts``."""
        if strategy != "fragment" and (region_end[:-1] <= region_start[1:]).all():
            ptr = _row_starts(row, 2, n_rows)
            stop, entries = ptr[:-1].copy(), _room("entries", int(ptr[-1]))
            paired = strategy == "paired-insertion"
            _emit_cut_regions(start, end, row, region_start, region_end, paired, stop, entries)
            return _counted(ptr, stop, entries)
        code = {"insertion": INSERTION, "fragment": FRAGMENT, "paired-insertion": PAIRED}[strategy]
        ptr = np.zeros(n_rows + 1, np.int64)
        _emit_regions(start, end, row, region_start, region_end, code, ptr, ptr, _NOTHING)
        ptr = np.cumsum(ptr)
        stop, entries = ptr[:-1].copy(), _room("entries", int(ptr[-1]))
        if entries.size:
            _emit_regions(start, end, row, region_start, region_end, code, ptr, stop, entries)
        return _counted(ptr, stop, entries)

    def overlap_any(
        self, start: Any, end: Any, row: Any, *, n_rows: int, region_start: Any, region_end: Any, as_insertion: bool
    ) -> Any:
        """See ``protocol.Counting.overlap_any``."""
        table = np.zeros((n_rows, 1), np.int64)
        quality.add_overlaps(start, end, row, 0, region_start, region_end, as_insertion, table, 0)
        return table[:, 0]

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
        table = np.zeros((n_rows, 2), np.int64)
        profile = np.zeros(2 * window + 1, np.int64)
        _, n_inside = quality.add_cuts(start, end, row, 0, tss, reverse, window, half_center, edge, profile, table, 0)
        return TssCounts(table[:, 0], table[:, 1], profile, n_inside, 2 * int(np.count_nonzero(row >= 0)))

    def length_histogram(self, start: Any, end: Any, row: Any, *, max_length: int) -> Any:
        """See ``protocol.Counting.length_histogram``."""
        lengths = np.zeros(max_length + 1, np.int64)
        quality.add_histogram(start, end, row, lengths)
        return lengths

    def length_classes(self, start: Any, end: Any, row: Any, *, n_rows: int, bounds: tuple[int, ...]) -> Any:
        """See ``protocol.Counting.length_classes``."""
        table = np.zeros((n_rows, len(bounds) + 1), np.int64)
        quality.add_lengths(start, end, row, np.array(bounds, np.int64), np.zeros(1, np.int64), table)
        return table

    def quality(
        self,
        start: Any,
        end: Any,
        row: Any,
        *,
        n_rows: int,
        max_length: int,
        bounds: tuple[int, ...],
        tss: Any | None = None,
        reverse: Any | None = None,
        window: int,
        half_center: int,
        edge: int,
        regions: list[tuple[Any, Any]],
        as_insertion: bool = False,
    ) -> Quality:
        """See ``protocol.Counting.quality``."""
        n_classes, n_sets = len(bounds) + 1, len(regions)
        sets = n_classes if tss is None else n_classes + 2
        lengths = np.zeros(max_length + 1, np.int64)
        profile = np.zeros(0 if tss is None else 2 * window + 1, np.int64)
        table = np.zeros((n_rows, sets + n_sets), np.int64)
        n_inside = quality.sweep(
            start,
            end,
            row,
            np.array(bounds, np.int64),
            lengths,
            _NOTHING if tss is None else tss,
            np.zeros(0, np.bool_) if tss is None else reverse,
            window,
            half_center,
            edge,
            profile,
            np.concatenate([_NOTHING, *(lo for lo, _ in regions)]),
            np.concatenate([_NOTHING, *(hi for _, hi in regions)]),
            np.cumsum([0, *(lo.size for lo, _ in regions)]),
            as_insertion,
            table,
        )
        around = None
        if tss is not None:
            n_insertions = 2 * int(lengths.sum())
            around = TssCounts(table[:, n_classes], table[:, n_classes + 1], profile, int(n_inside), n_insertions)
        return Quality(lengths, table[:, :n_classes], around, table[:, sets:].T)

    def row_sums(self, row: Any, values: Any | None, *, n_rows: int) -> Any:
        """See ``protocol.Counting.row_sums``."""
        return _row_sums(row, _NOTHING if values is None else values, n_rows)

    def hstack(self, parts: list[Csr], widths: list[int]) -> Csr:
        """See ``protocol.Counting.hstack``."""
        indptr = np.zeros(parts[0].indptr.size, np.int64)
        for part in parts:
            indptr += part.indptr
        nnz = int(indptr[-1])
        indices, data = np.empty(nnz, np.int32), np.empty(nnz, parts[0].data.dtype)
        pointers, columns = [part.indptr for part in parts], [[part.indices, part.data] for part in parts]
        del part
        parts.clear()
        shifts = np.cumsum([0, *widths[:-1]])
        n_blocks = 1 if nnz <= HSTACK_WHOLE else HSTACK_BLOCKS
        edges = np.searchsorted(indptr, np.arange(1, n_blocks) * (nnz // n_blocks))
        edges = np.unique([0, *edges, indptr.size - 1])
        # Rows from the last to the first: what was copied stands at the end of each part and is given back, so that the
        # parts shrink as the pages of the result come into use.
        n_threads = get_threads() if n_blocks > 1 else 1

        def place(rows: tuple[int, int]) -> None:
            at = indptr[rows[0] : rows[1]].copy()
            for pointer, own, shift in zip(pointers, columns, shifts.tolist(), strict=True):
                _place(pointer, own[0], own[1], *rows, np.int32(shift), at, indices, data)

        with ThreadPoolExecutor(n_threads) as pool:
            for low, high in zip(edges[-2::-1].tolist(), edges[:0:-1].tolist(), strict=True):
                cuts = np.unique(np.linspace(low, high, n_threads + 1).astype(np.int64)).tolist()
                list(pool.map(place, itertools.pairwise(cuts)))
                if n_blocks == 1:
                    continue
                for pointer, own in zip(pointers, columns, strict=True):
                    for k in range(2):
                        with suppress(ValueError):  # somebody else holds it as well, or it is a view of a file
                            own[k].resize(int(pointer[low]))
        return Csr(indptr, indices, data)

    def max_over_groups(self, counts: Csr, group: Any, *, n_groups: int) -> Csr:
        """See ``protocol.Counting.max_over_groups``."""
        indices, data = np.empty(counts.indices.size, np.int32), np.empty(counts.indices.size, counts.data.dtype)
        indptr = _max_over_groups(counts.indptr, counts.indices, counts.data, group, n_groups, indices, data)
        indices.resize(int(indptr[-1]), refcheck=False)
        data.resize(int(indptr[-1]), refcheck=False)
        return Csr(indptr, indices, data)
