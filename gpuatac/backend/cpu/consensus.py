"""Sweeps over sorted peak windows, in Numba: which survive, and which meet the peaks of each group.

Peak tables are host tables, so these have no GPU side. Windows of one call have one width, but for those cut at base 0,
so that sorted by (chromosome, start, end) their ends ascend too.
"""

from __future__ import annotations

import numba as nb
import numpy as np

_njit = nb.njit(cache=True, nogil=True)


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
def mark(chrom_ptr, start, end, column, peak_chrom, peak_start, peak_end, peak_group, table):  # type: ignore[no-untyped-def]
    """Set ``table[group, column]`` where a peak of the group overlaps the region of that column.

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
                if k < low:
                    k = low
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
            table[peak_group[i], column[j]] = True
            j += 1
