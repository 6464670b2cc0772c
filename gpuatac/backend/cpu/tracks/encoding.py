"""Tracks to bytes: the sections and zoom levels of a bigWig, and the lines of bedGraph and BED files.

A bigWig section is 24 bytes (chromosome, start, end, step, span, type and number of items) and its items, whichever of the
three types takes fewest bytes: fixedStep (a value), variableStep (start, value) or bedGraph (start, end, value). A zoom record
is 32 bytes: chromosome, start, end, covered bases, least, greatest, sum and sum of squares of the values over its bases.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from gpuatac.backend.protocol.host import RECORD_WORDS, SECTION_WORDS

BEDGRAPH, VARIABLE_STEP, FIXED_STEP = 1, 2, 3
NEWLINE, TAB = 10, 9


@njit(cache=True, nogil=True)
def pack_sections(chrom, start, end, value, per_section, words, floats, bounds):  # type: ignore[no-untyped-def]
    """Sections of the runs into ``words``; ``floats`` is the same memory as float32. Returns words used.

    ``bounds`` int64 (n_sections, 3): where the section's words end, its first and last base.
    """
    at = 0
    for k in range(bounds.shape[0]):
        lo = k * per_section
        hi = min(lo + per_section, start.size)
        span = end[lo] - start[lo]
        step = start[lo + 1] - start[lo] if hi - lo > 1 else span
        same_span = same_step = True
        for i in range(lo, hi):
            if end[i] - start[i] != span:
                same_span = False
                break
            if i > lo and start[i] - start[i - 1] != step:
                same_step = False
        kind = BEDGRAPH if not same_span else FIXED_STEP if same_step else VARIABLE_STEP
        words[at], words[at + 1], words[at + 2] = chrom, start[lo], end[hi - 1]
        words[at + 3] = step if kind == FIXED_STEP else 0
        words[at + 4] = 0 if kind == BEDGRAPH else span
        words[at + 5] = kind | (hi - lo) << 16
        at += SECTION_WORDS
        for i in range(lo, hi):
            if kind != FIXED_STEP:
                words[at] = start[i]
                at += 1
            if kind == BEDGRAPH:
                words[at] = end[i]
                at += 1
            floats[at] = value[i]
            at += 1
        bounds[k, 0], bounds[k, 1], bounds[k, 2] = at, start[lo], end[hi - 1]
    return at


@njit(cache=True, nogil=True)
def zoom_size(start, end, width):  # type: ignore[no-untyped-def]
    """Number of cells of ``width`` bp that the sorted runs touch."""
    n = 0
    last = np.int64(-1)
    for i in range(start.size):
        first = np.int64(start[i]) // width
        stop = np.int64(end[i] - 1) // width
        n += stop - first + (0 if first == last else 1)
        last = stop
    return n


@njit(cache=True, nogil=True)
def zoom_cells(start, end, value, width, bounds, extremes, sums):  # type: ignore[no-untyped-def]
    """The summary of each touched cell of ``width`` bp, in as many rows as ``zoom_size`` says; returns that number.

    ``bounds`` int32 (n, 3): first and last covered base, covered bases; ``extremes`` float32 (n, 2): least and greatest
    value; ``sums`` float64 (n, 2): of the values and of their squares over the covered bases.
    """
    k = -1
    last = np.int64(-1)
    for i in range(start.size):
        v = value[i]
        at, stop = np.int64(start[i]), np.int64(end[i])
        cell = at // width
        while at < stop:
            until = min(stop, (cell + 1) * width)
            n = until - at
            if cell != last:
                k += 1
                last = cell
                bounds[k, 0], bounds[k, 1], bounds[k, 2] = at, until, n
                extremes[k, 0], extremes[k, 1] = v, v
                sums[k, 0] = np.float64(v) * n
                sums[k, 1] = np.float64(v) * np.float64(v) * n
            else:
                bounds[k, 1] = until
                bounds[k, 2] += n
                extremes[k, 0] = min(extremes[k, 0], v)
                extremes[k, 1] = max(extremes[k, 1], v)
                sums[k, 0] += np.float64(v) * n
                sums[k, 1] += np.float64(v) * np.float64(v) * n
            at = until
            cell += 1
    return k + 1


@njit(cache=True, nogil=True)
def join_cells(width, bounds, extremes, sums):  # type: ignore[no-untyped-def]
    """Join in place the rows that lie in one cell of ``width`` bp; returns how many are left, at the front."""
    k = -1
    last = np.int64(-1)
    for i in range(bounds.shape[0]):
        cell = np.int64(bounds[i, 0]) // width
        if cell != last:
            k += 1
            last = cell
            bounds[k] = bounds[i]
            extremes[k] = extremes[i]
            sums[k] = sums[i]
        else:
            bounds[k, 1] = bounds[i, 1]
            bounds[k, 2] += bounds[i, 2]
            extremes[k, 0] = min(extremes[k, 0], extremes[i, 0])
            extremes[k, 1] = max(extremes[k, 1], extremes[i, 1])
            sums[k, 0] += sums[i, 0]
            sums[k, 1] += sums[i, 1]
    return k + 1


@njit(cache=True, nogil=True)
def pack_records(chrom, bounds, extremes, sums, words, floats):  # type: ignore[no-untyped-def]
    """Zoom records into ``words``; ``floats`` is the same memory as float32."""
    for i in range(bounds.shape[0]):
        at = RECORD_WORDS * i
        words[at] = chrom
        words[at + 1], words[at + 2], words[at + 3] = bounds[i, 0], bounds[i, 1], bounds[i, 2]
        floats[at + 4], floats[at + 5] = extremes[i, 0], extremes[i, 1]
        floats[at + 6], floats[at + 7] = sums[i, 0], sums[i, 1]


@njit(cache=True, nogil=True)
def distinct(values, slots, found):  # type: ignore[no-untyped-def]
    """Number the distinct int64 ``values`` by first appearance into ``found``; returns (numbers, how many).

    ``slots`` int32, a power of two long and filled with -1, is the hash table; -1 comes back as the count when it is too
    small (more than half full).
    """
    numbers = np.empty(values.size, np.int32)
    mask = np.int64(slots.size - 1)
    n = 0
    for i in range(values.size):
        v = values[i]
        h = np.uint64(v) * np.uint64(0x9E3779B97F4A7C15)
        at = np.int64(h >> np.uint64(32)) & mask
        while slots[at] >= 0 and found[slots[at]] != v:
            at = (at + 1) & mask
        if slots[at] < 0:
            if n >= found.size:
                return numbers, -1
            slots[at] = n
            found[n] = v
            n += 1
        numbers[i] = slots[at]
    return numbers, n


@njit(cache=True, nogil=True, inline="always")
def _put_number(out, at, number):  # type: ignore[no-untyped-def]
    """The decimal digits of a number >= 0; returns the position behind them."""
    width = 1
    rest = number
    while rest >= 10:
        rest //= 10
        width += 1
    for i in range(at + width - 1, at - 1, -1):
        quotient = number // 10
        out[i] = 48 + (number - 10 * quotient)
        number = quotient
    return at + width


@njit(cache=True, nogil=True, inline="always")
def _put_text(out, at, text, lo, hi):  # type: ignore[no-untyped-def]
    for i in range(lo, hi):
        out[at] = text[i]
        at += 1
    return at


@njit(cache=True, nogil=True, inline="always")
def _put_row(out, at, name, start, end, text, lo, hi):  # type: ignore[no-untyped-def]
    at = _put_text(out, at, name, 0, name.size)
    at = _put_number(out, at, np.uint32(start))
    out[at] = TAB
    at = _put_number(out, at + 1, np.uint32(end))
    out[at] = TAB
    return _put_text(out, at + 1, text, lo, hi)


@njit(cache=True, nogil=True)
def bedgraph_lines(name, start, end, number, text, text_ptr, out):  # type: ignore[no-untyped-def]
    """Lines "name start end value" split at tabs, the value being text ``number``; returns the bytes written.

    ``name`` ends with a tab, each text with a newline; ``out`` has room for len(name) + 22 + the longest text a line.
    """
    at = 0
    for i in range(start.size):
        at = _put_row(out, at, name, start[i], end[i], text, text_ptr[number[i]], text_ptr[number[i] + 1])
    return at


@njit(cache=True, nogil=True)
def fragment_lines(name, start, end, cell, count, text, text_ptr, out):  # type: ignore[no-untyped-def]
    """Lines "name start end cell count" split at tabs, the cell being its text; returns the bytes written.

    ``name`` ends with a tab, each text with one too; ``out`` has room for len(name) + 33 + the longest text a line.
    """
    at = 0
    for i in range(start.size):
        at = _put_row(out, at, name, start[i], end[i], text, text_ptr[cell[i]], text_ptr[cell[i] + 1])
        at = _put_number(out, at, np.uint32(count[i]))
        out[at] = NEWLINE
        at += 1
    return at
