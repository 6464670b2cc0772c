"""Segments above the cutoff to regions and their summits on a GPU (kernels/summits.cu)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpuatac.backend.gpu.peaks.segments import to_host
from gpuatac.backend.protocol import Summits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuatac.backend.gpu.launch import Launcher
    from gpuatac.backend.protocol import Segments

CHUNK = 32  # values of a signal in one chunk, as in summits.cu
PADDING = 10  # bp that MACS3 puts on both sides of a region


class Regions(NamedTuple):
    """Regions: segments first .. last (exclusive) and where their signals begin; arrays of the device, (n_regions,)."""

    first: Any  # int64
    last: Any  # int64
    base: Any  # int32: the position that the padded signal begins at
    shift: Any  # int32: the padding that fits in front of the region
    length: Any  # int64: bp
    size: Any  # int64: values of the signal


class Maxima(NamedTuple):
    """Maxima of the smoothed signals, and which of them are subpeaks: those of region r are ptr[r] .. ptr[r + 1]."""

    ptr: Any | None
    place: Any | None
    kept: Any | None
    chunk_ptr: Any | None  # where the signal of each region lies, in chunks


NO_MAXIMA = Maxima(None, None, None, None)


def call(
    xp: Any, launch: Launcher, segments: Segments, *, max_gap: int, min_length: int, subpeaks: bool, bases: int
) -> Iterator[np.ndarray]:
    """The rows of ``Summits``, int32 (7, n) on the host, for regions of about ``bases`` bp at a time."""
    if not segments.start.size:
        return
    for regions in _split(xp, _regions(xp, segments, max_gap, min_length), bases):
        n_regions = int(regions.first.size)
        found = _maxima(xp, launch, segments, regions, min_length // 2) if subpeaks else NO_MAXIMA
        number = xp.ones(n_regions, np.int64)
        if found.kept is not None:
            kept = running(xp, found.kept)[found.ptr]
            number = xp.maximum(kept[1:] - kept[:-1], 1)
        out_ptr = running(xp, number)
        n_out = int(out_ptr[-1])
        out = xp.empty((len(Summits._fields), n_out), np.int32)
        launch(
            "write_summits", n_regions, *segments, regions.first, regions.last, regions.base, regions.shift,
            found.chunk_ptr, found.place, found.kept, found.ptr, out_ptr, n_regions, out.reshape(-1), n_out,
        )  # fmt: skip
        yield to_host(out)


def running(xp: Any, sizes: Any) -> Any:
    """int64 (n + 1,): the sum of the sizes before each."""
    out = xp.zeros(int(sizes.size) + 1, np.int64)
    if sizes.size:
        out[1:] = xp.cumsum(sizes, dtype=np.int64)
    return out


def _regions(xp: Any, segments: Segments, max_gap: int, min_length: int) -> Regions:
    """Segments of one group joined over gaps of ``max_gap`` or less, where they span ``min_length`` or more."""
    group, start, end = segments.group, segments.start, segments.end
    n = int(start.size)
    opens = xp.ones(n, bool)
    opens[1:] = (group[1:] != group[:-1]) | (start[1:] - end[:-1] > max_gap)
    first = xp.flatnonzero(opens)
    last = xp.concatenate([first[1:], xp.full(1, n, first.dtype)])
    length = end[last - 1].astype(np.int64) - start[first]
    long_enough = xp.flatnonzero(length >= min_length)
    first, last, length = (column[long_enough].astype(np.int64) for column in (first, last, length))
    low, high = start[first], end[last - 1]
    base = xp.maximum(low - np.int32(PADDING), np.int32(0))
    size = xp.maximum(high.astype(np.int64) + PADDING - base, 0)
    return Regions(first, last, base, xp.minimum(low, np.int32(PADDING)), length, size)


def _split(xp: Any, regions: Regions, bases: int) -> Iterator[Regions]:
    """Runs of regions whose signals have ``bases`` values or less, or of one region."""
    until = to_host(running(xp, regions.size))
    at, n = 0, until.size - 1
    while at < n:
        after = max(int(np.searchsorted(until, until[at] + bases, side="right")) - 1, at + 1)
        yield regions if after - at == n else Regions(*(column[at:after] for column in regions))
        at = after


def _maxima(xp: Any, launch: Launcher, segments: Segments, regions: Regions, half: int) -> Maxima:
    """Where the smoothed signals turn downward, and which of these places stand out."""
    n_regions = int(regions.first.size)
    chunk_ptr = running(xp, (regions.size + (CHUNK - 1)) // CHUNK)
    n_chunks = int(chunk_ptr[-1])
    shape = (chunk_ptr, n_regions, n_chunks)
    signal = xp.empty(n_chunks * CHUNK, np.int32)
    launch(
        "region_signal", n_chunks, segments.start, segments.end, segments.t, regions.first, regions.last, regions.base,
        regions.shift, regions.size, *shape, signal,
    )  # fmt: skip
    mask, count = xp.empty(n_chunks, np.uint32), xp.empty(n_chunks, np.int32)
    launch("region_maxima", n_chunks, signal, regions.shift, regions.length, regions.size, *shape, half, mask, count)
    until = running(xp, count)
    n_maxima = int(until[-1])
    place, region = xp.empty(n_maxima, np.int64), xp.empty(n_maxima, np.int32)
    valley, kept = xp.empty(n_maxima, np.int64), xp.empty(n_maxima, np.int32)
    ptr = until[chunk_ptr]
    if n_maxima:
        launch("list_maxima", n_chunks, mask, count, until[1:], *shape, place, region)
        launch("find_valleys", n_maxima, signal, place, region, n_maxima, valley)
        launch("find_subpeaks", n_maxima, signal, place, region, valley, n_maxima, regions.size, chunk_ptr, ptr, kept)
    return Maxima(ptr, place, kept, chunk_ptr)
