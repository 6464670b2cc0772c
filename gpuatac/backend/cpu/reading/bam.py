"""BAM records to fragments on the CPU, in Numba: locate, intern, judge, pair, deduplicate, write as text.

Inputs are decompressed BAM bytes (uint8) with the offsets of whole records (SAM v1 specification, section
4.2). Coordinates inside are 0-based; a *5' end* is the first base a read covers on the reference in its own
direction: the alignment start of a forward read, the last aligned base of a reverse one; *unclipped* adds the
soft and hard clips before it. Read names are compared by a 128-bit hash of name and barcode, so that mates
wait for each other in 56 bytes whatever their names; two different names meet with a chance below 1e-20 for
1e9 reads.
"""

# Kernels take their arrays by position, and Numba compiles chains of == better than sets.
# ruff: noqa: FBT001, PLR0911, PLR1714
from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from gpuatac.backend.protocol.records import (
    BC_AT,
    BC_LEN,
    DUPLICATE,
    END,
    FIVE,
    FIVE_UNCLIPPED,
    FLAG,
    LOW_MAPQ,
    MATE_UNMAPPED,
    NAME_AT,
    NAME_LEN,
    NO_BARCODE,
    NOT_PROPER,
    OTHER_CONTIG,
    Q_BASES1,
    Q_BASES2,
    Q_BC_MAPPED,
    Q_BC_MATE_MAPPED,
    Q_BC_PAIRED,
    Q_BC_READS,
    Q_FLAG_PAIRED,
    Q_HQ_PAIRED,
    Q_HQ_READS,
    Q_MITO_PAIRED,
    Q_MITO_READS,
    Q_PAIRED,
    Q_Q30_1,
    Q_Q30_2,
    Q_READS,
    QC_FAIL,
    QUALITY,
    REF,
    SECONDARY,
    START,
    SUPPLEMENTARY,
    UMI_AT,
    UMI_LEN,
    UNMAPPED,
    USED,
)

FNV_OFFSET, FNV_PRIME = np.uint64(1469598103934665603), np.uint64(1099511628211)


@nb.njit(cache=True, nogil=True, inline="always")
def _i32(b, at):  # type: ignore[no-untyped-def]
    word = np.uint32(b[at]) | np.uint32(b[at + 1]) << np.uint32(8)
    word = word | np.uint32(b[at + 2]) << np.uint32(16) | np.uint32(b[at + 3]) << np.uint32(24)
    return np.int64(np.int32(word))


@nb.njit(cache=True, nogil=True, inline="always")
def _u16(b, at):  # type: ignore[no-untyped-def]
    return np.int64(b[at]) | np.int64(b[at + 1]) << 8


@nb.njit(cache=True, nogil=True)
def record_offsets(b: Any, at: int) -> Any:
    """(offsets int64 of the whole records from ``at``, offset after the last, offset of a bad one or -1)."""
    n, pos = 0, at
    while pos + 4 <= b.size:
        size = _i32(b, pos)
        if size < 32:
            return np.empty(0, np.int64), pos, pos
        if pos + 4 + size > b.size:
            break
        n += 1
        pos += 4 + size
    offsets = np.empty(n, np.int64)
    pos = at
    for i in range(n):
        offsets[i] = pos
        pos += 4 + _i32(b, pos)
    return offsets, pos, -1


@nb.njit(cache=True, nogil=True, inline="always")
def _tag_size(b, at, stop):  # type: ignore[no-untyped-def]
    """Bytes of the value of the tag at ``at`` (after its two letters and type), -1 when it is malformed."""
    kind = b[at + 2]
    if kind == 65 or kind == 99 or kind == 67:  # A c C
        return 1
    if kind == 115 or kind == 83:  # s S
        return 2
    if kind == 105 or kind == 73 or kind == 102:  # i I f
        return 4
    if kind == 90 or kind == 72:  # Z H
        pos = at + 3
        while pos < stop and b[pos] != 0:
            pos += 1
        return pos - at - 2 if pos < stop else -1
    if kind == 66 and at + 8 <= stop:  # B
        width = 1
        if b[at + 3] == 115 or b[at + 3] == 83:
            width = 2
        elif b[at + 3] == 105 or b[at + 3] == 73 or b[at + 3] == 102:
            width = 4
        n = _i32(b, at + 4)
        return 5 + n * width if n >= 0 else -1
    return -1


@nb.njit(cache=True, nogil=True)
def locate(b: Any, offsets: Any, n_refs: int, tag: Any, umi_tag: Any, out: Any) -> int:
    """Fill ``out`` (int64 (n, 6)) with the places of name, barcode and UMI; index of a broken record or -1.

    ``tag`` and ``umi_tag`` are two uint8, zeros for none; only string (Z) tags that are not empty count.
    """
    for i in range(offsets.size):
        at = offsets[i] + 4
        stop = at + _i32(b, offsets[i])
        n_name, n_cigar, n_bases = np.int64(b[at + 8]), _u16(b, at + 12), _i32(b, at + 16)
        pos = at + 32 + n_name + 4 * n_cigar + (n_bases + 1) // 2 + n_bases
        ref = _i32(b, at)
        if n_name < 1 or n_bases < 0 or pos > stop or ref < -1 or ref >= n_refs:
            return i
        out[i, NAME_AT], out[i, NAME_LEN] = at + 32, n_name - 1
        out[i, BC_AT], out[i, BC_LEN], out[i, UMI_AT], out[i, UMI_LEN] = 0, -1, 0, -1
        while pos < stop:
            size = _tag_size(b, pos, stop) if pos + 4 <= stop else -1
            if size < 0 or pos + 3 + size > stop:
                return i
            if b[pos + 2] == 90 and size > 1:
                if b[pos] == tag[0] and b[pos + 1] == tag[1]:
                    out[i, BC_AT], out[i, BC_LEN] = pos + 3, size - 1
                if b[pos] == umi_tag[0] and b[pos + 1] == umi_tag[1]:
                    out[i, UMI_AT], out[i, UMI_LEN] = pos + 3, size - 1
            pos += 3 + size
    return -1


@nb.njit(cache=True, nogil=True)
def intern(text: Any, at: Any, length: Any, slots: Any, pool: Any, ends: Any, n: int, codes: Any) -> int:
    """Give equal strings equal codes (int32, -1 for length < 0); returns how many are distinct so far.

    ``slots`` (int32, a power of two, at least twice the strings to come) holds code + 1; string k is
    ``pool[ends[k]:ends[k + 1]]``. The caller has made room.
    """
    mask = np.uint64(slots.size - 1)
    for i in range(at.size):
        size = length[i]
        if size < 0:
            codes[i] = -1
            continue
        h = FNV_OFFSET
        for j in range(at[i], at[i] + size):
            h = (h ^ np.uint64(text[j])) * FNV_PRIME
        h ^= h >> np.uint64(29)
        slot = np.int64(h & mask)
        while True:
            code = slots[slot] - 1
            if code < 0:
                slots[slot] = n + 1
                low = ends[n]
                for j in range(size):
                    pool[low + j] = text[at[i] + j]
                ends[n + 1] = low + size
                codes[i] = n
                n += 1
                break
            low = ends[code]
            same = ends[code + 1] - low == size
            j = 0
            while same and j < size:
                same = pool[low + j] == text[at[i] + j]
                j += 1
            if same:
                codes[i] = code
                break
            slot = (slot + 1) & (slots.size - 1)
    return n


@nb.njit(cache=True, nogil=True)
def refill(slots: Any, pool: Any, ends: Any, n: int) -> None:
    """Put the ``n`` strings of ``pool`` into empty ``slots`` of another size."""
    for code in range(n):
        h = FNV_OFFSET
        for j in range(ends[code], ends[code + 1]):
            h = (h ^ np.uint64(pool[j])) * FNV_PRIME
        h ^= h >> np.uint64(29)
        slot = np.int64(h & np.uint64(slots.size - 1))
        while slots[slot]:
            slot = (slot + 1) & (slots.size - 1)
        slots[slot] = code + 1


@nb.njit(cache=True, nogil=True, inline="always")
def _status(flag, mapq, ref, pos, has_barcode, paired, min_mapq, wanted):  # type: ignore[no-untyped-def]
    if flag & 4 or ref < 0 or pos < 0:
        return UNMAPPED
    if flag & 8:
        return MATE_UNMAPPED
    if flag & 256:
        return SECONDARY
    if flag & 2048:
        return SUPPLEMENTARY
    if flag & 512:
        return QC_FAIL
    if flag & 1024:
        return DUPLICATE
    if paired and not (flag & 2 and flag & 1):
        return NOT_PROPER
    if mapq < min_mapq:
        return LOW_MAPQ
    if not has_barcode:
        return NO_BARCODE
    return USED if wanted[ref] else OTHER_CONTIG


@nb.njit(cache=True, nogil=True)
def judge(
    b: Any,
    offsets: Any,
    barcode: Any,
    paired: bool,
    min_mapq: int,
    wanted: Any,
    mito: Any,
    out: Any,
    status: Any,
    counters: Any,
) -> None:
    """Fill ``out`` (int32 (n, 7)) and ``status`` (uint8) of each record and add to ``counters``.

    Quality is the sum of the base qualities of at least 15. ``wanted`` and ``mito`` are bool by reference.
    """
    for i in range(offsets.size):
        at = offsets[i] + 4
        ref, pos = _i32(b, at), _i32(b, at + 4)
        n_name, mapq = np.int64(b[at + 8]), np.int64(b[at + 9])
        n_cigar, flag, n_bases = _u16(b, at + 12), _u16(b, at + 14), _i32(b, at + 16)
        quality, q30 = 0, 0
        low = at + 32 + n_name + 4 * n_cigar + (n_bases + 1) // 2
        if n_bases and b[low] != 255:
            for j in range(low, low + n_bases):
                quality += b[j] if b[j] >= 15 else 0
                q30 += b[j] >= 30
        _count(flag, mapq, ref, barcode[i] >= 0, n_bases, q30, mito, counters)
        status[i] = _status(flag, mapq, ref, pos, barcode[i] >= 0, paired, min_mapq, wanted)
        if status[i] != USED:
            continue
        span, head, tail, inside = 0, 0, 0, False
        for j in range(n_cigar):
            word = _i32(b, at + 32 + n_name + 4 * j) & 0xFFFFFFFF
            op, size = word & 15, word >> 4
            if op == 4 or op == 5:  # S, H
                if inside:
                    tail += size
                else:
                    head += size
            else:
                inside = True
                if op == 0 or op == 2 or op == 3 or op == 7 or op == 8:  # M D N = X
                    span += size
        reverse = flag & 16 != 0
        out[i, REF], out[i, FLAG], out[i, START], out[i, END] = ref, flag, pos, pos + span
        out[i, FIVE] = pos + span - 1 if reverse else pos
        out[i, FIVE_UNCLIPPED] = pos + span - 1 + tail if reverse else pos - head
        out[i, QUALITY] = quality


@nb.njit(cache=True, nogil=True, inline="always")
def _count(flag, mapq, ref, has_barcode, n_bases, q30, mito, counters):  # type: ignore[no-untyped-def]
    primary = flag & (256 | 2048) == 0
    pair = 1 if primary and flag & 1 else 0
    hq = mapq >= 30
    counters[Q_READS] += 1
    counters[Q_PAIRED] += pair
    counters[Q_FLAG_PAIRED] += flag & 1
    if pair and flag & 128:
        counters[Q_BASES2] += n_bases
        counters[Q_Q30_2] += q30
    else:
        counters[Q_BASES1] += n_bases
        counters[Q_Q30_1] += q30
    if hq:
        counters[Q_HQ_READS] += 1
        counters[Q_HQ_PAIRED] += pair
    if has_barcode:
        counters[Q_BC_READS] += 1
        counters[Q_BC_PAIRED] += pair
        counters[Q_BC_MAPPED] += flag & 4 == 0
        counters[Q_BC_MATE_MAPPED] += 1 if pair and flag & 4 == 0 and flag & 8 == 0 else 0
        if hq and ref >= 0 and mito[ref]:
            counters[Q_MITO_READS] += 1
            counters[Q_MITO_PAIRED] += pair
