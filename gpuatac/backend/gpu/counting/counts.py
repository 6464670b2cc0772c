"""Fragments of one chromosome to counts on a GPU.

A matrix is counted as keys ``row * n_columns + column``: a kernel writes one key per count, a radix sort
brings equal keys together, and run lengths are the counts. That needs no atomics and no dense row, and sorted
keys are CSR.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac.backend.gpu.counting import quality
from gpuatac.backend.gpu.launch import SHARED_BYTES
from gpuatac.backend.protocol import STRATEGIES, Csr, Quality, Strategy, TssCounts
from gpuatac.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuatac.backend.gpu.launch import Launcher

NO_KEY = np.iinfo(np.int64).max  # as in common.cuh
MAX_COUNT = 1 << 24  # float32 holds every whole number up to here
MAX_REGIONS = 1 << 30
COUNT_DTYPE = np.float32


class Counting:
    """The GPU side of ``protocol.Counting``.

    Keys are made for ``chunk`` fragments at a time (16 bytes each when counting cuts, as much again while
    sorting).
    """

    def __init__(self, xp: Any, launch: Launcher, *, chunk: int = 1 << 26) -> None:
        self._xp = xp
        self._launch = launch
        self._chunk = chunk

    def tile_counts(
        self, start: Any, end: Any, row: Any, *, n_rows: int, bin_size: int, n_bins: int, strategy: Strategy
    ) -> Csr:
        """See ``protocol.Counting.tile_counts``."""
        xp, launch = self._xp, self._launch

        def cuts(part: tuple[Any, Any, Any, int]) -> Any:
            n = part[-1]
            key = xp.empty(2 * n, np.int64)
            launch("tile_cut_keys", n, *part, bin_size, n_bins, int(strategy == "paired-insertion"), key)
            return key

        def spans(part: tuple[Any, Any, Any, int]) -> Any:
            n = part[-1]
            size = xp.empty(n, np.int32)
            launch("tile_span_sizes", n, *part, bin_size, n_bins, size)
            offset, key = self._room(size)
            launch("tile_span_keys", n, *part, bin_size, n_bins, offset, key)
            return key

        return self._matrix(start, end, row, spans if strategy == "fragment" else cuts, n_rows, n_bins)

    def region_counts(
        self,
        start: Any,
        end: Any,
        row: Any,
        *,
        n_rows: int,
        region_start: Any,
        region_end: Any,
        strategy: Strategy,
    ) -> Csr:
        """See ``protocol.Counting.region_counts``."""
        xp, launch = self._xp, self._launch
        region_start, region_end = self._int32(region_start), self._int32(region_end)
        n_regions = int(region_start.size)
        if n_regions > MAX_REGIONS:
            msg = f"got {n_regions} regions; at most {MAX_REGIONS} are allowed; count them in parts."
            raise InputError(msg)
        regions = (
            region_start,
            region_end,
            self._running_max(region_end),
            n_regions,
            STRATEGIES.index(strategy),
        )

        def hits(part: tuple[Any, Any, Any, int]) -> Any:
            n = part[-1]
            size = xp.empty(n, np.int32)
            launch("region_hit_sizes", n, *part, *regions, size)
            offset, key = self._room(size)
            launch("region_hit_keys", n, *part, *regions, offset, key)
            return key

        return self._matrix(start, end, row, hits, n_rows, n_regions)

    def overlap_any(
        self,
        start: Any,
        end: Any,
        row: Any,
        *,
        n_rows: int,
        region_start: Any,
        region_end: Any,
        as_insertion: bool,
    ) -> Any:
        """See ``protocol.Counting.overlap_any``."""
        hits = self._xp.zeros(n_rows, np.int64)
        columns = self._columns(start, end, row)
        region_start, region_end = self._int32(region_start), self._int32(region_end)
        self._launch(
            "overlap_any",
            columns[-1],
            *columns,
            region_start,
            region_end,
            int(region_start.size),
            int(as_insertion),
            hits,
        )
        return hits

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
        xp = self._xp
        center, flank = xp.zeros(n_rows, np.int64), xp.zeros(n_rows, np.int64)
        profile, totals = xp.zeros(2 * window + 1, np.int64), xp.zeros(2, np.int64)
        columns = self._columns(start, end, row)
        shared_bytes = _shared_bytes(2 * window + 1)
        self._launch(
            "tss_counts",
            columns[-1],
            *columns,
            self._int32(tss),
            xp.ascontiguousarray(reverse, dtype=np.uint8),
            int(tss.size),
            window,
            half_center,
            edge,
            int(shared_bytes > 0),
            center,
            flank,
            profile,
            totals,
            shared_bytes=shared_bytes,
        )
        n_inside, n_insertions = totals.tolist()
        return TssCounts(center, flank, profile, int(n_inside), int(n_insertions))

    def length_histogram(self, start: Any, end: Any, row: Any, *, max_length: int) -> Any:
        """See ``protocol.Counting.length_histogram``."""
        hist = self._xp.zeros(max_length + 1, np.int64)
        columns = self._columns(start, end, row)
        shared_bytes = _shared_bytes(max_length + 1)
        self._launch(
            "length_histogram",
            columns[-1],
            *columns,
            max_length,
            int(shared_bytes > 0),
            hist,
            shared_bytes=shared_bytes,
        )
        return hist

    def length_classes(self, start: Any, end: Any, row: Any, *, n_rows: int, bounds: tuple[int, ...]) -> Any:
        """See ``protocol.Counting.length_classes``."""
        xp = self._xp
        classes = xp.zeros((n_rows, len(bounds) + 1), np.int64)
        columns = self._columns(start, end, row)
        self._launch(
            "length_classes",
            columns[-1],
            *columns,
            xp.asarray(np.array(bounds, np.int32)),
            len(bounds),
            classes,
        )
        return classes

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
        return quality.quality(
            self._xp,
            self._launch,
            self._columns(start, end, row),
            n_rows=n_rows,
            max_length=max_length,
            bounds=bounds,
            sites=None if tss is None else (self._int32(tss), reverse),
            window=window,
            half_center=half_center,
            edge=edge,
            regions=[(self._int32(low), self._int32(high)) for low, high in regions],
            as_insertion=as_insertion,
        )

    def row_sums(self, row: Any, values: Any | None, *, n_rows: int) -> Any:
        """See ``protocol.Counting.row_sums``."""
        sums = self._xp.zeros(n_rows, np.int64)
        n = int(row.size)
        values = None if values is None else self._int32(values)
        self._launch("row_sums", n, self._int32(row), values, n, sums)
        return sums

    def hstack(self, parts: list[Csr], widths: list[int]) -> Csr:
        """See ``protocol.Counting.hstack``."""
        xp = self._xp
        if sum(widths) > np.iinfo(np.int32).max:
            msg = f"the joined matrix has {sum(widths)} columns; at most 2^31 - 1 are allowed; use wider bins."
            raise InputError(msg)
        n_rows = int(parts[0].indptr.size) - 1
        indptr = xp.zeros(n_rows + 1, np.int64)
        for part in parts:
            indptr += part.indptr
        del part
        nnz = int(indptr[-1])
        indices, data = xp.empty(nnz, np.int32), xp.empty(nnz, COUNT_DTYPE)
        cursor = indptr[:-1].copy()
        shift = 0
        for width in widths:
            part = parts.pop(0)
            self._launch("copy_rows", n_rows * 32, *part, n_rows, shift, cursor, indices, data)
            del part  # to the memory pool, where the caller holds it nowhere else
            shift += width
        return Csr(indptr, indices, data)

    def max_over_groups(self, counts: Csr, group: Any, *, n_groups: int) -> Csr:
        """See ``protocol.Counting.max_over_groups``."""
        xp = self._xp
        n_rows = int(counts.indptr.size) - 1
        key = xp.empty(counts.indices.size, np.int64)
        self._launch(
            "group_keys",
            n_rows * 32,
            counts.indptr,
            counts.indices,
            self._int32(group),
            n_rows,
            n_groups,
            key,
        )
        order = xp.argsort(key)
        key, segment = self._runs(key[order])
        data = xp.empty(key.size, COUNT_DTYPE)
        self._launch("segment_max", int(key.size), counts.data, order, segment, int(key.size), data)
        return self._csr(key, data, n_rows, n_groups)

    def _int32(self, values: Any) -> Any:
        """``values`` as the kernels take them: contiguous int32 on the device (itself, as a rule)."""
        return self._xp.ascontiguousarray(values, dtype=np.int32)

    def _columns(self, start: Any, end: Any, row: Any) -> tuple[Any, Any, Any, int]:
        """The first arguments of every fragment kernel: three columns and their length."""
        return self._int32(start), self._int32(end), self._int32(row), int(start.size)

    def _running_max(self, values: Any) -> Any:
        """max(values[0..j]) for each j, by doubling steps (CuPy has no maximum.accumulate)."""
        out = values.copy()
        step = 1
        while step < out.size:
            out[step:] = self._xp.maximum(out[step:], out[:-step])
            step *= 2
        return out

    def _room(self, size: Any) -> tuple[Any, Any]:
        """Where each fragment's keys go (int64), and the space for all of them."""
        stop = self._xp.cumsum(size, dtype=np.int64)
        return stop - size, self._xp.empty(int(stop[-1]), np.int64)

    def _matrix(
        self,
        start: Any,
        end: Any,
        row: Any,
        keys_of: Callable[[tuple[Any, Any, Any, int]], Any],
        n_rows: int,
        n_columns: int,
    ) -> Csr:
        """Count the keys of all fragments, ``chunk`` fragments at a time."""
        xp = self._xp
        key, count = xp.empty(0, np.int64), xp.empty(0, np.int64)
        for low in range(0, int(start.size), self._chunk):
            part = slice(low, low + self._chunk)
            new_key, new_count = self._count(keys_of(self._columns(start[part], end[part], row[part])))
            key, count = (new_key, new_count) if low == 0 else self._merge(key, count, new_key, new_count)
        top = int(count.max()) if count.size else 0
        if top > MAX_COUNT:
            msg = (
                f"a matrix entry counts {top}; a GPU matrix (float32) holds counts up to {MAX_COUNT}; "
                "use device='cpu', or leave the feature (often chrM) out."
            )
            raise InputError(msg)
        return self._csr(key, count.astype(COUNT_DTYPE), n_rows, n_columns)

    def _count(self, key: Any) -> tuple[Any, Any]:
        """The distinct keys, ascending, without NO_KEY, and how often each occurs; sorts ``key`` in place."""
        key.sort()
        key, edge = self._runs(key)
        return key, edge[1:] - edge[:-1]

    def _runs(self, key: Any) -> tuple[Any, Any]:
        """The distinct values of a sorted array but NO_KEY, and int64 (n_distinct + 1,), the edges of their runs."""
        xp = self._xp
        opens = key != NO_KEY
        opens[1:] &= key[1:] != key[:-1]
        first = xp.flatnonzero(opens)
        edge = xp.empty(first.size + 1, np.int64)
        edge[:-1] = first
        edge[-1:] = xp.searchsorted(key, xp.full(1, NO_KEY, dtype=np.int64))  # the last of them, which sorts behind every key
        return key[first], edge

    def _merge(self, key: Any, count: Any, more_key: Any, more_count: Any) -> tuple[Any, Any]:
        """Add two lists of counted keys."""
        xp = self._xp
        both = xp.concatenate([key, more_key])
        order = xp.argsort(both)
        until = xp.zeros(both.size + 1, np.int64)
        until[1:] = xp.cumsum(xp.concatenate([count, more_count])[order])
        distinct, edge = self._runs(both[order])
        return distinct, until[edge[1:]] - until[edge[:-1]]

    def _csr(self, key: Any, data: Any, n_rows: int, n_columns: int) -> Csr:
        xp = self._xp
        row_edge = xp.arange(n_rows + 1, dtype=np.int64) * n_columns
        indptr = xp.searchsorted(key, row_edge).astype(np.int64)
        return Csr(indptr, (key % max(n_columns, 1)).astype(np.int32), data)


def _shared_bytes(n_counters: int) -> int:
    """Bytes of shared memory for that many u32 counters, 0 when they do not fit."""
    return 4 * n_counters if 4 * n_counters <= SHARED_BYTES else 0
