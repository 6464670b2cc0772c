"""Sweeps over sorted peak windows, in Numba: which survive, and which meet the peaks of each group.

Peak tables are host tables, so these have no GPU side. Windows of one call have one width, but for those cut at base 0,
so that sorted by (chromosome, start, end) their ends ascend too.
"""

from __future__ import annotations

import numba as nb
import numpy as np

_njit = nb.njit(cache=True, nogil=True)
DIGIT = 11  # bits by which a pass sorts: its 2,048 places fit into a first-level cache


@_njit
def sorted_order(key):  # type: ignore[no-untyped-def]
    """int32 (n,): the stable order of keys >= 0 (int64, overwritten), by DIGIT bits at a time from the lowest.

    Linear: 30 million keys of 33 bits take three passes, where a sort by comparisons takes 25 steps for each.
    """
    n = key.size
    highest = np.int64(0)
    for i in range(n):
        highest = max(highest, key[i])
    order, other = np.arange(n).astype(np.int32), np.empty(n, np.int32)
    keys, moved = key, np.empty(n, np.int64)
    at = np.empty(1 << DIGIT, np.int64)
    shift = 0
    while highest >> shift:
        at[:] = 0
        for i in range(n):
            at[(keys[i] >> shift) & ((1 << DIGIT) - 1)] += 1
        total = np.int64(0)
        for d in range(at.size):
            count = at[d]
            at[d] = total
            total += count
        for i in range(n):
            d = (keys[i] >> shift) & ((1 << DIGIT) - 1)
            k = at[d]
            moved[k], other[k] = keys[i], order[i]
            at[d] = k + 1
        keys, moved = moved, keys
        order, other = other, order
        shift += DIGIT
    return order


@_njit
def suppress(chrom, start, end, score):  # type: ignore[no-untyped-def]
    """Positions of the windows that no better one overlaps: block by block, best first.

    chrom int32, start and end int32, score float64, sorted as said above. A block is a chain of windows each of which
    meets or touches the next. Within it the best window is taken and those it overlaps are dropped, again and again; of
    equal scores the last one in order is best. Every window overlaps at most two that are kept (three at base 0), so the
    walks of all blocks together are linear; the sorts are those of the blocks.
    """
    n = chrom.size
    kept = np.empty(n, np.int64)
    gone = np.zeros(n, np.bool_)
    n_kept, low = 0, 0
    while low < n:
        high = low + 1
        while high < n and chrom[high] == chrom[low] and start[high] <= end[high - 1]:
            high += 1
        if high == low + 1:
            kept[n_kept] = low
            n_kept += 1
            low = high
            continue
        order = np.argsort(score[low:high], kind="mergesort")
        for k in range(high - low - 1, -1, -1):
            i = low + order[k]
            if gone[i]:
                continue
            kept[n_kept] = i
            n_kept += 1
            j = i - 1
            while j >= low and end[j] > start[i]:
                gone[j] = True
                j -= 1
            j = i + 1
            while j < high and start[j] < end[i]:
                gone[j] = True
                j += 1
        low = high
    return kept[:n_kept].copy()


@_njit
def mark(chrom_ptr, start, end, column, peak_chrom, peak_start, peak_end, table):  # type: ignore[no-untyped-def]
    """Set ``table[column]`` where a peak overlaps the region of that column.

    Regions: disjoint, sorted; those of chromosome c are [chrom_ptr[c], chrom_ptr[c + 1]). Peaks come in any order; each
    is looked for from where the last one was, which is near when they come sorted.
    """
    k, last = np.int64(0), -1
    for i in range(peak_chrom.size):
        c, s = peak_chrom[i], peak_start[i]
        low, high = chrom_ptr[c], chrom_ptr[c + 1]
        if c != last:
            k, last = low, c
        step = np.int64(1)
        if k < high and end[k] <= s:  # the first region that ends behind s lies further on: gallop, then halve
            low = k + 1
            while k < high and end[k] <= s:
                low = k + 1
                k += step
                step *= 2
            high = min(k, high)
        else:
            high = k
            while k > low and end[k - 1] > s:
                high = k - 1
                k -= step
                step *= 2
                k = max(k, low)
            low = k
        while low < high:
            middle = (low + high) >> 1
            if end[middle] <= s:
                low = middle + 1
            else:
                high = middle
        k = low
        j = k
        while j < chrom_ptr[c + 1] and start[j] < peak_end[i]:
            table[column[j]] = True
            j += 1
