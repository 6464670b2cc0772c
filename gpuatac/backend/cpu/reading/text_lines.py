# mypy: disable-error-code="assignment"
"""One line of a fragment file: fast where every byte is as expected, by the book where not.

``fast_line`` finds the ends of the fields in masks of 64 bytes and handles names, numbers and barcodes as words of 8; at
the first surprise the line goes to ``slow_line``, which alone knows the rules of ``Parsing.parse_block`` and their order.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from gpuatac.backend.cpu.reading.text_words import (
    ONE,
    WINDOW,
    digits_before,
    load_word,
    lowest_bit,
    non_digits,
    number_of,
    tab_mask,
    unprintable_mask,
)
from gpuatac.backend.protocol.reading import (
    BAD_LENGTH,
    BLANK,
    COMMENT,
    ERR_BARCODE,
    ERR_CHROM,
    ERR_COLUMNS,
    ERR_COUNT,
    ERR_END,
    ERR_EXTRA,
    ERR_START,
    ERR_STRAND,
    KEPT,
    OUTSIDE,
    UNKNOWN_CHROM,
)

NEWLINE, TAB, CR, HASH, MINUS, PLUS, DOT, SPACE = 10, 9, 13, 35, 45, 43, 46, 32
SATURATED = 1 << 62
FORE = 16  # a line is read fast where so many bytes stand before its start
REACH = 2 * WINDOW + 8  # and so many from its start on; longer lines are read slowly
NO_SIGN = -2  # no sixth column

# Fields of the scratch array that ``slow_line`` reads a line into.
STATUS, CHROM, START, END, BC_AT, BC_LEN, COUNT, STRAND, NEXT, NAME_AT, NAME_LEN = range(11)


@nb.njit(cache=True, nogil=True, inline="always")
def same_bytes(a, at, length, b, b_at, b_length):  # type: ignore[no-untyped-def]
    """Whether ``length`` bytes of ``a`` from ``at`` on are the ``b_length`` bytes of ``b`` from ``b_at`` on."""
    if length != b_length:
        return False
    for i in range(length):
        if a[at + i] != b[b_at + i]:
            return False
    return True


@nb.njit(cache=True, nogil=True)
def _chrom_code(text, at, length, names, name_ptr, codes):  # type: ignore[no-untyped-def]
    for k in range(codes.size):
        if same_bytes(text, at, length, names, name_ptr[k], name_ptr[k + 1] - name_ptr[k]):
            return codes[k]
    return -1


@nb.njit(cache=True, nogil=True)
def _whole_number(text, at, stop, signed):  # type: ignore[no-untyped-def]
    """(ok, value) of the bytes at:stop; values saturate."""
    negative = signed and at < stop and text[at] == MINUS
    if negative:
        at += 1
    if at == stop:
        return False, 0
    value = 0
    for i in range(at, stop):
        digit = np.int64(text[i]) - 48
        if digit < 0 or digit > 9:
            return False, 0
        value = SATURATED if value >= SATURATED // 16 else value * 10 + digit
    return True, -value if negative else value


@nb.njit(cache=True, nogil=True)
def _printable(text, at, stop):  # type: ignore[no-untyped-def]
    if at == stop:
        return False
    for i in range(at, stop):
        if text[i] < SPACE or text[i] > 126:
            return False
    return True


@nb.njit(cache=True, nogil=True)
def slow_line(text, at, names, name_ptr, codes, sizes, bulk, out):  # type: ignore[no-untyped-def] # noqa: PLR0911
    """Read the line at ``at`` by the book into ``out``."""
    stop = at
    while text[stop] != NEWLINE:
        stop += 1
    out[NEXT] = stop + 1
    if stop > at and text[stop - 1] == CR:
        stop -= 1
    out[STATUS] = BLANK
    for i in range(at, stop):
        if text[i] not in (SPACE, TAB, CR):
            out[STATUS] = KEPT
            break
    if out[STATUS] == BLANK:
        return
    if text[at] == HASH:
        out[STATUS] = COMMENT
        return
    field_at = np.empty(7, np.int64)
    field_stop = np.empty(7, np.int64)
    n = 0
    low = at
    for i in range(at, stop + 1):
        if i == stop or text[i] == TAB:
            if n < 7:
                field_at[n], field_stop[n] = low, i
            n += 1
            low = i + 1
    if n < (3 if bulk else 4):
        out[STATUS] = ERR_COLUMNS
        return
    if n > (3 if bulk else 6):
        out[STATUS] = ERR_EXTRA
        return
    if not _printable(text, field_at[0], field_stop[0]):
        out[STATUS] = ERR_CHROM
        return
    ok, start = _whole_number(text, field_at[1], field_stop[1], True)
    if not ok:
        out[STATUS] = ERR_START
        return
    ok, end = _whole_number(text, field_at[2], field_stop[2], True)
    if not ok:
        out[STATUS] = ERR_END
        return
    out[BC_AT], out[BC_LEN], out[COUNT], out[STRAND] = 0, 0, 1, NO_SIGN
    if not bulk:
        if not _printable(text, field_at[3], field_stop[3]):
            out[STATUS] = ERR_BARCODE
            return
        out[BC_AT], out[BC_LEN] = field_at[3], field_stop[3] - field_at[3]
        if n > 4 and not (field_stop[4] - field_at[4] == 1 and text[field_at[4]] == DOT):
            ok, count = _whole_number(text, field_at[4], field_stop[4], False)
            if not ok or count < 1 or count > 2147483647:
                out[STATUS] = ERR_COUNT
                return
            out[COUNT] = count
        if n > 5:
            sign = text[field_at[5]] if field_stop[5] - field_at[5] == 1 else np.uint8(0)
            if sign == PLUS:
                out[STRAND] = 1
            elif sign == MINUS:
                out[STRAND] = -1
            elif sign == DOT:
                out[STRAND] = 0
            else:
                out[STATUS] = ERR_STRAND
                return
    code = _chrom_code(text, field_at[0], field_stop[0] - field_at[0], names, name_ptr, codes)
    out[NAME_AT], out[NAME_LEN] = field_at[0], field_stop[0] - field_at[0]
    if code < 0:
        out[STATUS] = UNKNOWN_CHROM
    elif end <= start:
        out[STATUS] = BAD_LENGTH
    elif start < 0 or end > sizes[code]:
        out[STATUS] = OUTSIDE
    else:
        out[CHROM], out[START], out[END] = code, start, end


@nb.njit(cache=True, nogil=True, inline="always")
def fast_line(at, name_len, name, masks, size, bulk):  # type: ignore[no-untyped-def] # noqa: PLR0911
    """(bytes of the line, start, end, barcode's place in it, its length, count, strand) of the line at address ``at``.

    The first is 0 at anything unexpected, another chromosome than ``name`` included. Touches at most FORE bytes
    before ``at`` and REACH from there on.
    """
    tabs = tab_mask(at)
    ends = unprintable_mask(at) & ~tabs
    more = np.uint64(0)  # the tabs of a second window
    stop = lowest_bit(ends)
    tabs &= (ends - ONE) & ~ends  # those below the lowest end
    if stop == WINDOW:
        more = tab_mask(at + WINDOW)
        ends = unprintable_mask(at + WINDOW) & ~more
        stop += lowest_bit(ends)
        more &= (ends - ONE) & ~ends
    ending = load_word(at + stop)
    if ending & np.uint64(0xFF) == NEWLINE:
        taken = stop + 1
    elif ending & np.uint64(0xFFFF) == CR | NEWLINE << 8:
        taken = stop + 2
    else:
        return 0, 0, 0, 0, 0, 0, 0
    tab_1 = lowest_bit(tabs)
    tabs &= tabs - ONE
    tab_2 = lowest_bit(tabs)
    tabs &= tabs - ONE
    if bulk:
        tab_3 = stop
        if tab_2 == WINDOW or tabs | more != 0:
            return 0, 0, 0, 0, 0, 0, 0
    else:
        tab_3 = lowest_bit(tabs)
        if tabs == 0:
            return 0, 0, 0, 0, 0, 0, 0
        tabs &= tabs - ONE
    differs = (load_word(at) & masks[0]) ^ name[0]
    differs |= (load_word(at + 8) & masks[1]) ^ name[1]
    differs |= (load_word(at + 16) & masks[2]) ^ name[2]
    if differs != 0 or tab_1 != name_len:
        return 0, 0, 0, 0, 0, 0, 0

    start_len, end_len = tab_2 - tab_1 - 1, tab_3 - tab_2 - 1
    if start_len < 1 or end_len < 1 or start_len > 16 or end_len > 16:
        return 0, 0, 0, 0, 0, 0, 0
    digits = digits_before(at + tab_2, min(start_len, 8))
    start, wrong = number_of(digits), non_digits(digits)
    if start_len > 8:
        digits = digits_before(at + tab_2 - 8, start_len - 8)
        start += number_of(digits) * 100_000_000
        wrong |= non_digits(digits)
    digits = digits_before(at + tab_3, min(end_len, 8))
    end = number_of(digits)
    wrong |= non_digits(digits)
    if end_len > 8:
        digits = digits_before(at + tab_3 - 8, end_len - 8)
        end += number_of(digits) * 100_000_000
        wrong |= non_digits(digits)
    if wrong != 0 or end <= start or end > size:
        return 0, 0, 0, 0, 0, 0, 0
    if bulk:
        return taken, start, end, 0, 0, 1, NO_SIGN

    tab_4 = stop
    if tabs != 0:
        tab_4 = lowest_bit(tabs)
        tabs &= tabs - ONE
    elif more != 0:
        tab_4 = WINDOW + lowest_bit(more)
        more &= more - ONE
    bc_at, bc_len = tab_3 + 1, tab_4 - tab_3 - 1
    if bc_len == 0:
        return 0, 0, 0, 0, 0, 0, 0
    if tab_4 == stop:
        return taken, start, end, bc_at, bc_len, 1, NO_SIGN
    tab_5 = stop
    if tabs != 0:
        tab_5 = lowest_bit(tabs)
    elif more != 0:
        tab_5 = WINDOW + lowest_bit(more)
    count_len = tab_5 - tab_4 - 1
    if count_len < 1 or count_len > 8:
        return 0, 0, 0, 0, 0, 0, 0
    digits = digits_before(at + tab_5, count_len)
    count = number_of(digits)
    if non_digits(digits) != 0 or count == 0:
        if count_len > 1 or load_word(at + tab_4 + 1) & np.uint64(0xFF) != DOT:
            return 0, 0, 0, 0, 0, 0, 0
        count = 1
    strand = NO_SIGN
    if tab_5 != stop:
        sign = load_word(at + tab_5 + 1) & np.uint64(0xFF)
        if stop - tab_5 != 2 or sign not in (PLUS, MINUS, DOT):
            return 0, 0, 0, 0, 0, 0, 0
        strand = 1 if sign == PLUS else -1 if sign == MINUS else 0  # a further tab is none of these
    return taken, start, end, bc_at, bc_len, count, strand
