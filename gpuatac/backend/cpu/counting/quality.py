"""Quality measures of fragments on the CPU: each is one sweep over a run of one chromosome's rows.

All of them count into ``table`` (int64, n_rows x columns), so that one row's numbers share a cache line. ``sweep`` asks
for all of them in blocks that stay in the cache: the columns come from memory once, and every measure keeps its own
tight loop and its own moving pointer. Fragments are sorted by start, so a pointer never goes back.
"""

from __future__ import annotations

import numba as nb
import numpy as np

_njit = nb.njit(cache=True, nogil=True)
BLOCK = 1 << 13  # fragments: 96 KiB of columns


@_njit
def add_histogram(start, end, row, lengths):  # type: ignore[no-untyped-def]
    """Count lengths alone."""
    top = lengths.size - 1
    for i in range(start.size):
        if row[i] >= 0:
            length = end[i] - start[i]
            lengths[length if length <= top else 0] += 1


@_njit
def add_lengths(start, end, row, bounds, lengths, table):  # type: ignore[no-untyped-def]
    """Count lengths (those above the last entry in entry 0), and each row's length classes in columns 0, 1, ..."""
    top = lengths.size - 1
    for i in range(start.size):
        r = row[i]
        if r >= 0:
            length = end[i] - start[i]
            lengths[length if length <= top else 0] += 1
            k = 0
            for b in range(bounds.size):
                k += length >= bounds[b]
            table[r, k] += 1


@_njit
def add_cuts(  # type: ignore[no-untyped-def]
    start, end, row, first, tss, reverse, window, half_center, edge, profile, table, column
):
    """Count cuts around TSSs: the profile, and per row those in the centre and at the edges in two columns.

    ``first`` is the first TSS that a cut may reach; returns it for the next block, and the cuts near at least one TSS.
    """
    n_inside = 0
    for i in range(start.size):
        r = row[i]
        if r < 0:
            continue
        s, last = start[i], end[i] - 1
        while first < tss.size and tss[first] < s - window:
            first += 1
        if first == tss.size:
            break
        if tss[first] > last + window:
            continue
        for side in range(2):
            cut = last if side else s
            inside = False
            for k in range(first, tss.size):
                offset = cut - tss[k]
                if offset < -window:
                    break
                if offset <= window:
                    inside = True
                    at = window - offset if reverse[k] else window + offset
                    profile[at] += 1
                    if abs(offset) <= half_center:
                        table[r, column] += 1
                    if at < edge or at > 2 * window - edge:
                        table[r, column + 1] += 1
            n_inside += inside
    return first, n_inside


@_njit
def add_overlaps(start, end, row, first, lo, hi, as_insertion, table, column):  # type: ignore[no-untyped-def]
    """Count each row's fragments that meet a disjoint region (or its cuts inside one) in one column.

    ``first`` is the first region that ends behind the fragments so far; returns it for the next block.
    """
    for i in range(start.size):
        r = row[i]
        if r < 0:
            continue
        s, last = start[i], end[i] - 1
        while first < lo.size and hi[first] <= s:
            first += 1
        if first == lo.size:
            break
        if as_insertion:
            n = int(lo[first] <= s)
            k = first
            while k < lo.size and hi[k] <= last:
                k += 1
            if k < lo.size and lo[k] <= last:
                n += 1
            table[r, column] += n
        elif lo[first] <= last:
            table[r, column] += 1
    return first


@_njit
def sweep(  # type: ignore[no-untyped-def]
    start,
    end,
    row,
    bounds,
    lengths,
    tss,
    reverse,
    window,
    half_center,
    edge,
    profile,
    lo,
    hi,
    set_edge,
    as_insertion,
    table,
):
    """All measures, block by block; returns the cuts near at least one TSS.

    Columns of ``table``: the length classes; with a profile centre and edges; then one for each region set, whose regions
    are ``lo``, ``hi`` [set_edge[k]:set_edge[k + 1]].
    """
    n_sets = set_edge.size - 1
    first_region = np.zeros(n_sets, np.int64)
    first_tss, n_inside = 0, 0
    cuts = bounds.size + 1
    sets = cuts + 2 if profile.size else cuts
    for low in range(0, start.size, BLOCK):
        block = slice(low, low + BLOCK)
        at_start, at_end, at_row = start[block], end[block], row[block]
        add_lengths(at_start, at_end, at_row, bounds, lengths, table)
        if tss.size:
            first_tss, inside = add_cuts(
                at_start, at_end, at_row, first_tss, tss, reverse, window, half_center, edge, profile, table, cuts
            )
            n_inside += inside
        for k in range(n_sets):
            a, b = set_edge[k], set_edge[k + 1]
            first_region[k] = add_overlaps(
                at_start, at_end, at_row, first_region[k], lo[a:b], hi[a:b], as_insertion, table, sets + k
            )
    return n_inside
