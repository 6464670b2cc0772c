"""Mates joined by name, copies collapsed and rows written as text, on the CPU in Numba; see ``bam``."""

# Kernels take their arrays by position.
from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from gpuatac.backend.cpu.reading.bam import FNV_OFFSET, FNV_PRIME
from gpuatac.backend.protocol.records import (
    CHIMERIC,
    FIVE,
    FIVE_UNCLIPPED,
    FLAG,
    NAME_AT,
    NAME_LEN,
    P_BARCODE,
    P_KIND,
    P_LEFT,
    P_LEFT_ALIGNED,
    P_LEFT_QUALITY,
    P_REF,
    P_RIGHT,
    P_RIGHT_ALIGNED,
    P_RIGHT_QUALITY,
    P_UMI,
    QUALITY,
    REF,
    REPEATED,
    UMI_MISMATCH,
    USED,
)

MIX_OFFSET, MIX_PRIME = np.uint64(0x2545F4914F6CDD1D), np.uint64(0x9E3779B97F4A7C15)


@nb.njit(cache=True, nogil=True)
def hashes(b: Any, located: Any, status: Any, barcode: Any, out: Any) -> None:
    """128-bit hash of (name, barcode) of the reads still used: uint64 (n, 2), the first word never zero."""
    for i in range(status.size):
        if status[i] != USED:
            continue
        one, two = FNV_OFFSET ^ np.uint64(barcode[i]), MIX_OFFSET + np.uint64(barcode[i])
        for j in range(located[i, NAME_AT], located[i, NAME_AT] + located[i, NAME_LEN]):
            one = (one ^ np.uint64(b[j])) * FNV_PRIME
            two = (two ^ np.uint64(b[j])) * MIX_PRIME
            two = two << np.uint64(31) | two >> np.uint64(33)
        out[i, 0] = one ^ one >> np.uint64(32) | np.uint64(1)
        out[i, 1] = two ^ two >> np.uint64(29)


@nb.njit(cache=True, nogil=True)
def rehash(keys: Any, values: Any, new_keys: Any, new_values: Any) -> None:
    """Put the waiting mates into a larger empty table."""
    mask = new_keys.shape[0] - 1
    for i in range(keys.shape[0]):
        if keys[i, 0]:
            slot = np.int64(keys[i, 1] & np.uint64(mask))
            while new_keys[slot, 0]:
                slot = (slot + 1) & mask
            new_keys[slot] = keys[i]
            new_values[slot] = values[i]


@nb.njit(cache=True, nogil=True)
def _take_out(keys, values, slot):  # type: ignore[no-untyped-def]
    """Empty a slot and move up what was pushed past it, so that no probe meets a gap."""
    mask = keys.shape[0] - 1
    hole, probe = slot, slot
    while True:
        probe = (probe + 1) & mask
        if not keys[probe, 0]:
            break
        home = np.int64(keys[probe, 1] & np.uint64(mask))
        if (probe - home) & mask >= (probe - hole) & mask:
            keys[hole] = keys[probe]
            values[hole] = values[probe]
            hole = probe
    keys[hole, 0] = 0


@nb.njit(cache=True, nogil=True)
def pair_up(
    read: Any, key: Any, barcode: Any, umi: Any, status: Any, keys: Any, values: Any, pairs: Any, dropped: Any
) -> Any:
    """Join each read with its waiting mate. (pairs written to ``pairs``, change in the number waiting).

    ``keys`` (uint64 (size, 2)) and ``values`` (int32 (size, 9): the columns of ``judge``, barcode, UMI) are
    an open-addressing table with linear probing. The left mate is the one whose unclipped 5' end is smaller;
    where they are equal, the forward one. Kind: 0 FR, 1 RF, 2 FF, 3 RR (the last two by whether the left mate
    is read 1).
    """
    mask = keys.shape[0] - 1
    n, waiting = 0, 0
    for i in range(status.size):
        if status[i] != USED:
            continue
        slot = np.int64(key[i, 1] & np.uint64(mask))
        while keys[slot, 0] and not (keys[slot, 0] == key[i, 0] and keys[slot, 1] == key[i, 1]):
            slot = (slot + 1) & mask
        if not keys[slot, 0]:
            keys[slot] = key[i]
            values[slot, :7] = read[i]
            values[slot, 7], values[slot, 8] = barcode[i], umi[i]
            waiting += 1
            continue
        other = values[slot]
        if (other[FLAG] ^ read[i, FLAG]) & 192 != 192:  # not read 1 with read 2
            dropped[REPEATED] += 1
            continue
        if other[8] != umi[i]:
            dropped[UMI_MISMATCH] += 2
        elif other[REF] != read[i, REF]:
            dropped[CHIMERIC] += 2
        else:
            mine_reverse, its_reverse = read[i, FLAG] & 16 != 0, other[FLAG] & 16 != 0
            gap = read[i, FIVE_UNCLIPPED] - other[FIVE_UNCLIPPED]
            mine_left = gap < 0 or (gap == 0 and not mine_reverse)
            left = read[i] if mine_left else other[:7]
            right = other[:7] if mine_left else read[i]
            if mine_reverse != its_reverse:
                kind = 1 if left[FLAG] & 16 else 0
            else:
                kind = 3 if mine_reverse == (left[FLAG] & 64 != 0) else 2
            row = pairs[n]
            row[P_REF], row[P_KIND], row[P_BARCODE], row[P_UMI] = left[REF], kind, barcode[i], umi[i]
            row[P_LEFT], row[P_RIGHT] = left[FIVE_UNCLIPPED], right[FIVE_UNCLIPPED]
            row[P_LEFT_ALIGNED], row[P_RIGHT_ALIGNED] = left[FIVE], right[FIVE]
            row[P_LEFT_QUALITY], row[P_RIGHT_QUALITY] = left[QUALITY], right[QUALITY]
            n += 1
        _take_out(keys, values, slot)
        waiting -= 1
    return n, waiting


@nb.njit(cache=True, nogil=True, forceinline=True)
def _differ(p: Any, r: Any, a: Any) -> bool:
    """Whether two rows differ in left end, kind, barcode or UMI."""
    return (
        p[r, P_LEFT] != p[a, P_LEFT]
        or p[r, P_KIND] != p[a, P_KIND]
        or p[r, P_BARCODE] != p[a, P_BARCODE]
        or p[r, P_UMI] != p[a, P_UMI]
    )


@nb.njit(cache=True, nogil=True)
def distinct_pairs(p: Any, order: Any, start: Any, end: Any, barcode: Any, count: Any) -> int:
    """One fragment for each run of equal (left, right, kind, barcode, UMI) in ``order``; the number of them.

    Left and right end come from the mates of the highest quality there, with equal quality from the one with
    the fewest clipped bases: the outcome does not depend on the order of the reads.
    """
    n, i = 0, 0
    while i < order.size:
        a = order[i]
        left, right, j = a, a, i
        while j < order.size:
            r = order[j]
            if p[r, P_RIGHT] != p[a, P_RIGHT] or _differ(p, r, a):
                break
            gain = p[r, P_LEFT_QUALITY] - p[left, P_LEFT_QUALITY]
            clip = abs(p[r, P_LEFT_ALIGNED] - p[r, P_LEFT]) - abs(p[left, P_LEFT_ALIGNED] - p[left, P_LEFT])
            if gain > 0 or (gain == 0 and clip < 0):
                left = r
            gain = p[r, P_RIGHT_QUALITY] - p[right, P_RIGHT_QUALITY]
            clip = abs(p[r, P_RIGHT_ALIGNED] - p[r, P_RIGHT]) - abs(p[right, P_RIGHT_ALIGNED] - p[right, P_RIGHT])
            if gain > 0 or (gain == 0 and clip < 0):
                right = r
            j += 1
        one, two = p[left, P_LEFT_ALIGNED], p[right, P_RIGHT_ALIGNED]
        start[n], end[n] = min(one, two), max(one, two) + 1
        barcode[n], count[n] = p[a, P_BARCODE], j - i
        n += 1
        i = j
    return n


@nb.njit(cache=True, nogil=True)
def distinct_singles(p: Any, order: Any, start: Any, end: Any, barcode: Any, count: Any, strand: Any) -> int:
    """As ``distinct_pairs`` for single reads: P_LEFT is the unclipped 5' end, P_KIND 1 on the - strand.

    The best read has the highest quality, then the longest alignment, then the smallest start.
    """
    n, i = 0, 0
    while i < order.size:
        a = order[i]
        best, j = a, i
        while j < order.size:
            r = order[j]
            if _differ(p, r, a):
                break
            gain = p[r, P_LEFT_QUALITY] - p[best, P_LEFT_QUALITY]
            longer = (p[r, P_RIGHT_ALIGNED] - p[r, P_LEFT_ALIGNED]) - (
                p[best, P_RIGHT_ALIGNED] - p[best, P_LEFT_ALIGNED]
            )
            before = p[best, P_LEFT_ALIGNED] - p[r, P_LEFT_ALIGNED]
            if gain > 0 or (gain == 0 and (longer > 0 or (longer == 0 and before > 0))):
                best = r
            j += 1
        start[n], end[n] = p[best, P_LEFT_ALIGNED], p[best, P_RIGHT_ALIGNED]
        barcode[n], count[n], strand[n] = p[a, P_BARCODE], j - i, -1 if p[a, P_KIND] else 1
        n += 1
        i = j
    return n


@nb.njit(cache=True, nogil=True, inline="always")
def _digits(out, at, value):  # type: ignore[no-untyped-def]
    size, rest = 1, value // 10
    while rest:
        size += 1
        rest //= 10
    for i in range(size):
        out[at + size - 1 - i] = 48 + value % 10
        value //= 10
    return at + size


@nb.njit(cache=True, nogil=True)
def format_rows(
    chrom: Any, start: Any, end: Any, cell: Any, count: Any, strand: Any, pool: Any, ends: Any, out: Any
) -> int:
    """Lines ``chrom start end barcode count[ strand]`` as text in ``out``; returns the bytes written."""
    at = 0
    for i in range(start.size):
        for j in range(chrom.size):
            out[at + j] = chrom[j]
        at += chrom.size
        out[at] = 9
        at = _digits(out, at + 1, start[i])
        out[at] = 9
        at = _digits(out, at + 1, end[i])
        out[at] = 9
        at += 1
        for j in range(ends[cell[i]], ends[cell[i] + 1]):
            out[at] = pool[j]
            at += 1
        out[at] = 9
        at = _digits(out, at + 1, count[i])
        if strand.size:
            out[at], out[at + 1] = 9, 45 if strand[i] < 0 else 43
            at += 2
        out[at] = 10
        at += 1
    return at
