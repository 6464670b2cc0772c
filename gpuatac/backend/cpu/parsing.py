# mypy: disable-error-code="assignment"
"""Fragment lines to columns on the CPU, in Numba: one pass over well-formed lines, a careful one over the rest.

``_fast_line`` reads a line whose every byte is as expected; at the first surprise the line goes to
``_slow_line``, which alone knows the rules of ``Parsing.parse_block`` and their order.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from gpuatac.backend.protocol import (
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
    LAST_DROP,
    OUTSIDE,
    UNKNOWN_CHROM,
    ParsedBlock,
)

NEWLINE, TAB, CR, HASH, MINUS, PLUS, DOT, SPACE = 10, 9, 13, 35, 45, 43, 46, 32
SATURATED = 1 << 62
MAX_UNKNOWN = 256  # distinct unknown chromosome names remembered for each block
FNV_OFFSET, FNV_PRIME = np.uint64(1469598103934665603), np.uint64(1099511628211)

# Fields of the scratch array that a line is read into.
STATUS, CHROM, START, END, BC_AT, BC_LEN, COUNT, STRAND, NEXT, NAME_AT, NAME_LEN = range(11)


@nb.njit(cache=True, nogil=True, inline="always")
def _hash(text, at, length):  # type: ignore[no-untyped-def]
    h = FNV_OFFSET
    for i in range(at, at + length):
        h = (h ^ np.uint64(text[i])) * FNV_PRIME
    return h


@nb.njit(cache=True, nogil=True, inline="always")
def _same(a, at, length, b, b_at, b_length):  # type: ignore[no-untyped-def]
    if length != b_length:
        return False
    for i in range(length):
        if a[at + i] != b[b_at + i]:
            return False
    return True


@nb.njit(cache=True, nogil=True)
def _chrom_code(text, at, length, names, name_ptr, codes):  # type: ignore[no-untyped-def]
    for k in range(codes.size):
        if _same(text, at, length, names, name_ptr[k], name_ptr[k + 1] - name_ptr[k]):
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
def _slow_line(text, at, names, name_ptr, codes, sizes, bulk, out):  # type: ignore[no-untyped-def] # noqa: PLR0911, PLR0912
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
    out[BC_AT], out[BC_LEN], out[COUNT], out[STRAND] = 0, 0, 1, -2
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


@nb.njit(cache=True, nogil=True)
def _fast_line(text, at, last_at, last_len, last_code, sizes, bulk, out):  # type: ignore[no-untyped-def] # noqa: PLR0911, PLR0912
    """Read a line on the chromosome of the line before it; False at anything unexpected."""
    i = at
    if last_len == 0 or i + last_len >= text.size:
        return False
    for j in range(last_len):
        if text[i + j] != text[last_at + j]:
            return False
    i += last_len
    if text[i] != TAB:
        return False
    i += 1
    start = 0
    low = i
    c = text[i]
    while 48 <= c <= 57:
        start = start * 10 + (np.int64(c) - 48)
        i += 1
        c = text[i]
    if c != TAB or i == low or i - low > 10:
        return False
    i += 1
    end = 0
    low = i
    c = text[i]
    while 48 <= c <= 57:
        end = end * 10 + (np.int64(c) - 48)
        i += 1
        c = text[i]
    if i == low or i - low > 10 or end <= start or end > sizes[last_code]:
        return False
    out[COUNT], out[STRAND] = 1, -2
    if not bulk:
        if c != TAB:
            return False
        i += 1
        low = i
        c = text[i]
        while SPACE <= c <= 126:
            i += 1
            c = text[i]
        if i == low:
            return False
        out[BC_AT], out[BC_LEN] = low, i - low
        if c == TAB:
            i += 1
            low = i
            count = 0
            c = text[i]
            while 48 <= c <= 57:
                count = count * 10 + (np.int64(c) - 48)
                i += 1
                c = text[i]
            if i == low or i - low > 9 or count < 1:
                return False
            out[COUNT] = count
            if c == TAB:
                i += 1
                if text[i] == PLUS:
                    out[STRAND] = 1
                elif text[i] == MINUS:
                    out[STRAND] = -1
                elif text[i] == DOT:
                    out[STRAND] = 0
                else:
                    return False
                i += 1
                c = text[i]
    if c != NEWLINE:
        return False
    out[CHROM], out[START], out[END], out[NEXT] = last_code, start, end, i + 1
    out[STATUS] = KEPT
    return True


@nb.njit(cache=True, nogil=True)
def _grow(table, hashes, n):  # type: ignore[no-untyped-def]
    bigger = np.full(table.size * 4, -1, np.int32)
    mask = np.uint64(bigger.size - 1)
    for k in range(n):
        slot = hashes[k] & mask
        while bigger[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        bigger[slot] = k
    return bigger


@nb.njit(cache=True, nogil=True)
def _count_lines(text):  # type: ignore[no-untyped-def]
    n = 0
    for i in range(text.size):
        n += text[i] == NEWLINE
    return n


@nb.njit(cache=True, nogil=True)
def _parse(text, n_lines, names, name_ptr, codes, sizes, bulk):  # type: ignore[no-untyped-def] # noqa: PLR0912
    chrom = np.empty(n_lines, np.int16)
    start = np.empty(n_lines, np.int32)
    end = np.empty(n_lines, np.int32)
    count = np.empty(n_lines, np.int32)
    strand = np.zeros(n_lines, np.int8)
    barcode = np.empty(n_lines, np.int32)
    dropped = np.zeros(LAST_DROP + 1, np.int64)
    table = np.full(1 << 12, -1, np.int32)
    known_hash = np.empty(1 << 11, np.uint64)
    known_at = np.empty(1 << 11, np.int64)
    known_len = np.empty(1 << 11, np.int64)
    n_known = 0
    unknown_at = np.empty(MAX_UNKNOWN, np.int64)
    unknown_len = np.empty(MAX_UNKNOWN, np.int64)
    unknown_n = np.zeros(MAX_UNKNOWN + 1, np.int64)
    n_unknown = 0
    out = np.zeros(11, np.int64)
    last_at, last_len, last_code = 0, 0, -1
    has_strand = False
    at, row = 0, 0
    for line in range(n_lines):
        if not _fast_line(text, at, last_at, last_len, last_code, sizes, bulk, out):
            _slow_line(text, at, names, name_ptr, codes, sizes, bulk, out)
            status = out[STATUS]
            if status > LAST_DROP:
                return (
                    row,
                    chrom,
                    start,
                    end,
                    count,
                    strand,
                    barcode,
                    known_at[:0],
                    known_len[:0],
                    dropped,
                    unknown_at[:0],
                    unknown_len[:0],
                    unknown_n,
                    line,
                    status,
                    has_strand,
                )
            if status == UNKNOWN_CHROM:
                k = 0
                while k < n_unknown and not _same(
                    text, out[NAME_AT], out[NAME_LEN], text, unknown_at[k], unknown_len[k]
                ):
                    k += 1
                if k == n_unknown and k < MAX_UNKNOWN:
                    unknown_at[k], unknown_len[k] = out[NAME_AT], out[NAME_LEN]
                    n_unknown += 1
                unknown_n[k] += 1
            if status != KEPT:
                dropped[status] += 1
                at = out[NEXT]
                continue
            last_at, last_len, last_code = out[NAME_AT], out[NAME_LEN], out[CHROM]
        chrom[row], start[row], end[row], count[row] = out[CHROM], out[START], out[END], out[COUNT]
        if out[STRAND] > -2:
            strand[row] = out[STRAND]
            has_strand = True
        bc_at, bc_len = out[BC_AT], out[BC_LEN]
        h = _hash(text, bc_at, bc_len)
        mask = np.uint64(table.size - 1)
        slot = (h ^ (h >> np.uint64(29))) & mask
        while True:
            k = table[slot]
            if k < 0:
                if n_known == known_hash.size:
                    bigger_hash = np.empty(n_known * 2, np.uint64)
                    bigger_at = np.empty(n_known * 2, np.int64)
                    bigger_len = np.empty(n_known * 2, np.int64)
                    bigger_hash[:n_known] = known_hash
                    bigger_at[:n_known] = known_at
                    bigger_len[:n_known] = known_len
                    known_hash, known_at, known_len = bigger_hash, bigger_at, bigger_len
                k = n_known
                known_hash[k], known_at[k], known_len[k] = h ^ (h >> np.uint64(29)), bc_at, bc_len
                table[slot] = k
                n_known += 1
                if n_known * 2 > table.size:
                    table = _grow(table, known_hash, n_known)
                break
            if known_hash[k] == (h ^ (h >> np.uint64(29))) and _same(
                text, bc_at, bc_len, text, known_at[k], known_len[k]
            ):
                break
            slot = (slot + np.uint64(1)) & mask
        barcode[row] = k
        row += 1
        at = out[NEXT]
    return (
        row,
        chrom,
        start,
        end,
        count,
        strand,
        barcode,
        known_at[:n_known],
        known_len[:n_known],
        dropped,
        unknown_at[:n_unknown],
        unknown_len[:n_unknown],
        unknown_n,
        -1,
        0,
        has_strand,
    )


@nb.njit(cache=True, nogil=True)
def _gather_names(text, at, length):  # type: ignore[no-untyped-def]
    ptr = np.zeros(at.size + 1, np.int64)
    for k in range(at.size):
        ptr[k + 1] = ptr[k] + length[k]
    out = np.empty(ptr[-1], np.uint8)
    for k in range(at.size):
        out[ptr[k] : ptr[k + 1]] = text[at[k] : at[k] + length[k]]
    return out, ptr


@nb.njit(cache=True, nogil=True)
def _tally(barcode, count, n, n_names):  # type: ignore[no-untyped-def]
    rows, copies = np.zeros(n_names, np.int64), np.zeros(n_names, np.int64)
    for i in range(n):
        rows[barcode[i]] += 1
        copies[barcode[i]] += count[i]
    return rows, copies


class Parsing:
    """The CPU side of ``protocol.Parsing``."""

    def parse_block(
        self, text: Any, chrom_names: list[bytes], chrom_codes: np.ndarray, sizes: np.ndarray, *, bulk: bool
    ) -> ParsedBlock:
        """See ``protocol.Parsing.parse_block``."""
        if text.size and text[-1] != NEWLINE:
            text = np.concatenate([text, np.array([NEWLINE], np.uint8)])
        names = np.frombuffer(b"".join(chrom_names), np.uint8)
        name_ptr = np.concatenate([[0], np.cumsum([len(n) for n in chrom_names], dtype=np.int64)])
        n_lines = _count_lines(text)
        (
            n,
            chrom,
            start,
            end,
            count,
            strand,
            barcode,
            known_at,
            known_len,
            dropped,
            unknown_at,
            unknown_len,
            unknown_n,
            error_line,
            error_code,
            has_strand,
        ) = _parse(text, n_lines, names, name_ptr, chrom_codes.astype(np.int32), sizes.astype(np.int64), bulk)
        if bulk:
            name_text = np.frombuffer(b"bulk" if n else b"", np.uint8)
            name_ptr = np.array([0, 4] if n else [0], np.int64)
        else:
            name_text, name_ptr = _gather_names(text, known_at, known_len)
        rows, copies = _tally(barcode, count, n, name_ptr.size - 1)
        unknown = {
            text[a : a + m].tobytes(): int(k)
            for a, m, k in zip(unknown_at.tolist(), unknown_len.tolist(), unknown_n.tolist(), strict=False)
        }
        if unknown_n[MAX_UNKNOWN]:
            unknown[b"(other names)"] = int(unknown_n[MAX_UNKNOWN])
        return ParsedBlock(
            n_lines=n_lines,
            chrom=chrom[:n],
            start=start[:n],
            end=end[:n],
            count=count[:n],
            strand=strand[:n],
            barcode=barcode[:n],
            name_text=name_text,
            name_ptr=name_ptr,
            rows=rows,
            copies=copies,
            dropped=dropped,
            unknown_chroms=unknown,
            error_line=error_line,
            error_code=error_code,
            has_strand=has_strand,
        )
