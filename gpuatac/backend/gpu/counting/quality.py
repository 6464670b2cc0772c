"""Every quality measure of one chromosome in one kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac.backend.gpu.launch import SHARED_BYTES
from gpuatac.backend.protocol import Quality, TssCounts

if TYPE_CHECKING:
    from gpuatac.backend.gpu.launch import Launcher

#: Counters of a table that blocks keep in shared memory: beyond it atomics spread over enough addresses.
SMALL_TABLE = 1024


def shared_counters(*sizes: int) -> list[int]:
    """Which of several arrays of u32 counters fit into shared memory together, the first ones first: 1 or 0 each."""
    room, fits = SHARED_BYTES // 4, []
    for size in sizes:
        fits.append(int(0 < size <= room))
        room -= size * fits[-1]
    return fits


def quality(
    xp: Any,
    launch: Launcher,
    columns: tuple[Any, Any, Any, int],
    *,
    n_rows: int,
    max_length: int,
    bounds: tuple[int, ...],
    sites: tuple[Any, Any] | None,
    window: int,
    half_center: int,
    edge: int,
    regions: list[tuple[Any, Any]],
    as_insertion: bool,
) -> Quality:
    """See ``protocol.Counting.quality``; ``sites`` are the TSSs and whether they lie on the reverse strand."""
    tss, reverse = (xp.empty(0, np.int32), xp.empty(0, np.uint8)) if sites is None else sites
    n_classes = len(bounds) + 1
    sets = n_classes if sites is None else n_classes + 2
    n_columns = sets + len(regions)
    n_profile = 0 if sites is None else 2 * window + 1
    lengths, profile = xp.zeros(max_length + 1, np.int64), xp.zeros(n_profile, np.int64)
    table, n_inside = xp.zeros((n_rows, n_columns), np.int64), xp.zeros(1, np.int64)
    nothing = [xp.empty(0, np.int32)]
    small = n_rows * n_columns if n_rows * n_columns <= SMALL_TABLE else 0
    edges = np.cumsum([0, *(int(low.size) for low, _ in regions)])
    small_numbers = xp.asarray(np.concatenate([edges, bounds]).astype(np.int64))
    shared_lengths, shared_profile, shared_table = shared_counters(max_length + 1, n_profile, small)
    launch(
        "quality",
        columns[-1],
        *columns,
        small_numbers[edges.size :].astype(np.int32),
        len(bounds),
        tss,
        xp.ascontiguousarray(reverse, dtype=np.uint8),
        int(tss.size),
        window,
        half_center,
        edge,
        xp.concatenate([*nothing, *(low for low, _ in regions)]),
        xp.concatenate([*nothing, *(high for _, high in regions)]),
        small_numbers[: edges.size],
        len(regions),
        int(as_insertion),
        max_length,
        shared_lengths,
        n_profile,
        shared_profile,
        n_rows,
        n_columns,
        shared_table,
        lengths,
        profile,
        table,
        n_inside,
        shared_bytes=4 * ((max_length + 1) * shared_lengths + n_profile * shared_profile + small * shared_table),
    )
    around = None
    if sites is not None:
        inside, n_kept = xp.concatenate([n_inside, lengths.sum()[None]]).tolist()
        around = TssCounts(table[:, n_classes], table[:, n_classes + 1], profile, inside, 2 * n_kept)
    return Quality(lengths, table[:, :n_classes], around, table[:, sets:].T)
