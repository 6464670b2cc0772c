"""Counting on the CPU, in Numba: sweeps along the sorted fragments of a chromosome, and matrices made of their entries.

Every function releases the GIL, so that chromosomes are counted side by side in threads.
"""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np

from gpuatac.backend.cpu.counting import quality
from gpuatac.backend.cpu.counting.kernels import (
    FRAGMENT,
    INSERTION,
    PAIRED,
    count_runs,
    emit_cut_regions,
    emit_cut_tiles,
    emit_regions,
    emit_span_tiles,
    max_over_groups,
    place,
    row_starts,
    row_sums,
)
from gpuatac.backend.protocol import Csr, Quality, Strategy, TssCounts
from gpuatac.threads import COUNTING_THREAD, get_threads

_NOTHING = np.empty(0, np.int32)


SMALL_COUNT = 255  # parts that wait to be joined hold their counts in a byte where they fit
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
    indptr = count_runs(ptr, stop, entries, counts)
    if entries.base is not None:
        counts = counts[: int(indptr[-1])]
        small = counts.size > 0 and int(counts.max()) <= SMALL_COUNT
        return Csr(indptr, entries[: int(indptr[-1])].copy(), counts.astype(np.uint8 if small else np.int32))
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
            ptr = row_starts(row, 2, n_rows)
            stop, entries = ptr[:-1].copy(), _room("entries", int(ptr[-1]))
            emit_cut_tiles(start, end, row, bin_size, strategy == "paired-insertion", stop, entries)
            return _counted(ptr, stop, entries)
        ptr = np.zeros(n_rows + 1, np.int64)
        emit_span_tiles(start, end, row, bin_size, ptr, ptr, _NOTHING)
        ptr = np.cumsum(ptr)
        stop, entries = ptr[:-1].copy(), _room("entries", int(ptr[-1]))
        if entries.size:
            emit_span_tiles(start, end, row, bin_size, ptr, stop, entries)
        return _counted(ptr, stop, entries)

    def region_counts(
        self, start: Any, end: Any, row: Any, *, n_rows: int, region_start: Any, region_end: Any, strategy: Strategy
    ) -> Csr:
        """See ``protocol.Counting.region_counts``."""
        if strategy != "fragment" and (region_end[:-1] <= region_start[1:]).all():
            ptr = row_starts(row, 2, n_rows)
            stop, entries = ptr[:-1].copy(), _room("entries", int(ptr[-1]))
            paired = strategy == "paired-insertion"
            emit_cut_regions(start, end, row, region_start, region_end, paired, stop, entries)
            return _counted(ptr, stop, entries)
        code = {"insertion": INSERTION, "fragment": FRAGMENT, "paired-insertion": PAIRED}[strategy]
        ptr = np.zeros(n_rows + 1, np.int64)
        emit_regions(start, end, row, region_start, region_end, code, ptr, ptr, _NOTHING)
        ptr = np.cumsum(ptr)
        stop, entries = ptr[:-1].copy(), _room("entries", int(ptr[-1]))
        if entries.size:
            emit_regions(start, end, row, region_start, region_end, code, ptr, stop, entries)
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
        return row_sums(row, _NOTHING if values is None else values, n_rows)

    def hstack(self, parts: list[Csr], widths: list[int]) -> Csr:
        """See ``protocol.Counting.hstack``."""
        indptr = np.zeros(parts[0].indptr.size, np.int64)
        for part in parts:
            indptr += part.indptr
        nnz = int(indptr[-1])
        dtype = np.result_type(np.int32, *{part.data.dtype for part in parts})
        indices, data = np.empty(nnz, np.int32), np.empty(nnz, dtype)
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

        def join(rows: tuple[int, int]) -> None:
            at = indptr[rows[0] : rows[1]].copy()
            for pointer, own, shift in zip(pointers, columns, shifts.tolist(), strict=True):
                held = (pointer, own[0], own[1], rows[0], rows[1], np.int32(shift), at)
                place(*held, indices, data)

        with ThreadPoolExecutor(n_threads) as pool:
            for low, high in zip(edges[-2::-1].tolist(), edges[:0:-1].tolist(), strict=True):
                cuts = np.unique(np.linspace(low, high, n_threads + 1).astype(np.int64)).tolist()
                list(pool.map(join, itertools.pairwise(cuts)))
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
        indptr = max_over_groups(counts.indptr, counts.indices, counts.data, group, n_groups, indices, data)
        indices.resize(int(indptr[-1]), refcheck=False)
        data.resize(int(indptr[-1]), refcheck=False)
        return Csr(indptr, indices, data)
