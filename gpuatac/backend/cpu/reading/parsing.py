# mypy: disable-error-code="assignment"
"""Fragment lines to columns on the CPU, in Numba: one pass over well-formed lines, a careful one over the rest.

``_parse`` reads a well-formed line without a loop over its bytes. 64 bytes are compared at once and give two 64-bit
masks, one bit a byte: where tabs are, and where bytes are that are not printable. The lowest bits are the ends of the
fields, and a line whose unprintable bytes are just its tabs and its end has only printable bytes in its fields. Names,
numbers and barcodes are then handled as words of 8 bytes. At the first surprise the line goes to ``slow_line``, which
alone knows the rules of ``Parsing.parse_block`` and their order.

Per line of 10x (45 bytes): 45 bytes read, 18 written, one entry of 32 bytes of the barcode table looked up. Positions
are int64. Words are little-endian, as are all machines that Numba runs on. Reference: tests/kernels/oracle.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba as nb
import numpy as np

from gpuatac.backend.cpu.reading.barcodes import BarcodeTable, BlockNames
from gpuatac.backend.cpu.reading.text_lines import (
    BC_AT,
    BC_LEN,
    CHROM,
    COUNT,
    END,
    FORE,
    NAME_AT,
    NAME_LEN,
    NEWLINE,
    NEXT,
    NO_SIGN,
    REACH,
    START,
    STATUS,
    STRAND,
    fast_line,
    same_bytes,
    slow_line,
)
from gpuatac.backend.cpu.reading.text_words import (
    HALF,
    KEY,
    LOW_HALF,
    ONE,
    WINDOW,
    count_bits,
    key_word,
    lowest_bit,
    mixed_hash,
    mixed_hash_rest,
    name_key,
    newline_mask,
    tab_mask,
)
from gpuatac.backend.protocol import ChromRun, ParsedBlock
from gpuatac.backend.protocol.reading import KEPT, LAST_DROP, MANY_RUNS, UNKNOWN_CHROM

MAX_UNKNOWN = 256  # distinct unknown chromosome names remembered for each block
SEEN = 64  # chromosome names kept at hand for files that are not sorted by chromosome
BATCH = 256  # rows read before their barcodes are looked up
# Where ``_read_lines`` is, why it stopped (or an error code), and what is known of a barcode.
LINE, AT, ROW = range(3)
MORE, DONE, FIRST_STRAND = -1, -2, -3
KNOWN_AT, KNOWN_LEN, KNOWN_ROWS, KNOWN_COPIES, KNOWN_HASH = range(5)


@nb.njit(cache=True, nogil=True)
def _count_lines(text):  # type: ignore[no-untyped-def]
    n, at = 0, 0
    while at + WINDOW <= text.size:
        n += count_bits(newline_mask(text.ctypes.data + at))
        at += WINDOW
    for i in range(at, text.size):
        n += text[i] == NEWLINE
    return n


@nb.njit(cache=True, nogil=True)
def _count_unknown(text, at, length, unknown):  # type: ignore[no-untyped-def]
    """One more line of the chromosome name at ``at``; ``unknown`` holds (at, length, lines) and last the rest."""
    k = 0
    while unknown[k, 2] > 0 and k < MAX_UNKNOWN and not same_bytes(text, at, length, text, unknown[k, 0], unknown[k, 1]):
        k += 1
    unknown[k, 0], unknown[k, 1] = at, length
    unknown[k, 2] += 1


@nb.njit(cache=True, nogil=True)
def _read_lines(  # type: ignore[no-untyped-def]
    text, reach, n_lines, names, name_ptr, codes, sizes, bulk, chrom, start, end, count, strand,
    dropped, unknown, seen, bc_at, bc_len, state,
):  # fmt: skip
    """Lines from ``state`` on into the columns, until BATCH rows are kept or something else has to be done.

    No array is made or replaced here: Numba would then count references in each turn of the loop, half of its time.
    """
    base = text.ctypes.data
    out = np.zeros(11, np.int64)
    name_len, code, size = -1, 0, 0  # the chromosome of the line before
    name = masks = (np.uint64(0), np.uint64(0), np.uint64(0))
    line, at, row = state[LINE], state[AT], state[ROW]
    n, reason = 0, MORE
    while n < BATCH:
        if line == n_lines:
            reason = DONE
            break
        taken = 0
        if FORE <= at <= text.size - reach:
            taken, low, high, barcode, length, copies, sign = fast_line(base + at, name_len, name, masks, size, bulk)
            barcode += at
            if taken == 0:  # perhaps it is on another of the chromosomes seen lately
                key_len = lowest_bit(tab_mask(base + at))
                key, key_masks = name_key(base + at, key_len)
                slot = mixed_hash(key[0], key[1], key[2]) & np.uint64(SEEN - 1)
                if (
                    0 < key_len
                    and (key_len != name_len or key != name)
                    and seen[slot, 3] & LOW_HALF == key_len
                    and (seen[slot, 0], seen[slot, 1], seen[slot, 2]) == key
                ):
                    name_len, name, masks, code = key_len, key, key_masks, np.int64(seen[slot, 3] >> HALF)
                    size = sizes[code]
                    continue
        if taken == 0:
            slow_line(text, at, names, name_ptr, codes, sizes, bulk, out)
            status = out[STATUS]
            if status > LAST_DROP:
                reason = status
                break
            if status != KEPT:
                if status == UNKNOWN_CHROM:
                    _count_unknown(text, out[NAME_AT], out[NAME_LEN], unknown)
                dropped[status] += 1
                at = out[NEXT]
                line += 1
                continue
            low, high, barcode, length = out[START], out[END], out[BC_AT], out[BC_LEN]
            copies, sign = out[COUNT], out[STRAND]
            code, name_len = out[CHROM], out[NAME_LEN]
            size = sizes[code]
            if name_len <= KEY and out[NAME_AT] + KEY <= text.size:
                name, masks = name_key(base + out[NAME_AT], name_len)
                slot = mixed_hash(name[0], name[1], name[2]) & np.uint64(SEEN - 1)
                seen[slot, 0], seen[slot, 1], seen[slot, 2] = name
                seen[slot, 3] = np.uint64(name_len) | np.uint64(code) << HALF
            else:
                name_len = -1
            taken = out[NEXT] - at
        if sign != NO_SIGN:
            if strand.size == 0:
                reason = FIRST_STRAND  # this line is read again
                break
            strand[row] = sign
        chrom[row], start[row], end[row], count[row] = code, low, high, copies
        bc_at[n], bc_len[n] = barcode, length
        n += 1
        row += 1
        line += 1
        at += taken
    state[LINE], state[AT], state[ROW] = line, at, row
    return reason


@nb.njit(cache=True, nogil=True)
def _bigger_table(table, known):  # type: ignore[no-untyped-def]
    """The entries of ``table`` in one of four times the size."""
    bigger = np.zeros((table.shape[0] * 4, 4), np.uint64)
    mask = np.uint64(bigger.shape[0] - 1)
    for i in range(table.shape[0]):
        if table[i, 3] != 0:
            slot = np.uint64(known[np.int64(table[i, 3] & LOW_HALF) - 1, KNOWN_HASH]) & mask
            while bigger[slot, 3] != 0:
                slot = (slot + ONE) & mask
            for j in range(4):
                bigger[slot, j] = table[i, j]
    return bigger


@nb.njit(cache=True, nogil=True)
def _number_barcodes(text, bc_at, bc_len, first, n, count, barcode, table, known, n_known):  # type: ignore[no-untyped-def]
    """Numbers of the barcodes of ``n`` rows from ``first`` on; returns how many barcodes are known then.

    A loop of its own over a few hundred rows: the look-ups do not depend on one another, so that the processor
    waits for several lines of the table at once, and the text is still in its cache.
    """
    base = text.ctypes.data
    mask = np.uint64(table.shape[0] - 1)
    for i in range(n):
        at, length = bc_at[i], bc_len[i]
        if at + KEY <= text.size:
            key, _ = name_key(base + at, length)
        else:
            key = (
                key_word(text, at, length),
                key_word(text, at + 8, length - 8),
                key_word(text, at + 16, length - 16),
            )
        h = mixed_hash(key[0], key[1], key[2])
        if length > KEY:
            h = mixed_hash_rest(h, text, at, length)
        slot = h & mask
        while True:
            entry = table[slot, 3]
            if entry == 0:
                k = n_known
                n_known += 1
                known[k, KNOWN_AT], known[k, KNOWN_LEN], known[k, KNOWN_HASH] = at, length, np.int64(h)
                known[k, KNOWN_ROWS] = known[k, KNOWN_COPIES] = 0
                table[slot, 0], table[slot, 1], table[slot, 2] = key
                table[slot, 3] = np.uint64(n_known) | np.uint64(length) << HALF
                break
            differs = (table[slot, 0] ^ key[0]) | (table[slot, 1] ^ key[1]) | (table[slot, 2] ^ key[2])
            if differs == 0 and np.int64(entry >> HALF) == length:
                k = np.int64(entry & LOW_HALF) - 1
                if length <= KEY or same_bytes(text, at, length, text, known[k, KNOWN_AT], length):
                    break
            slot = (slot + ONE) & mask
        barcode[first + i] = k
        known[k, KNOWN_ROWS] += 1
        known[k, KNOWN_COPIES] += count[first + i]
    return n_known


@nb.njit(cache=True, nogil=True)
def _parse(text, n_lines, names, name_ptr, codes, sizes, bulk, reach):  # type: ignore[no-untyped-def]
    """Columns of ``text``. Lines of which ``reach`` bytes from their start on may be read are tried the fast way."""
    chrom = np.empty(n_lines, np.int16)
    start = np.empty(n_lines, np.int32)
    end = np.empty(n_lines, np.int32)
    count = np.empty(n_lines, np.int32)
    strand = np.empty(0, np.int8)  # made when the first strand is seen
    barcode = np.empty(n_lines, np.int32)
    dropped = np.zeros(LAST_DROP + 1, np.int64)
    unknown = np.zeros((MAX_UNKNOWN + 1, 3), np.int64)
    seen = np.zeros((SEEN, 4), np.uint64)  # chromosome names: three words, length | code << 32
    # An entry holds the first 24 bytes of a barcode and number + 1 | length << 32 (0: free): one cache line to read.
    table = np.zeros((1 << 11, 4), np.uint64)
    known = np.empty((1 << 10, 5), np.int64)
    n_known = 0
    bc_at, bc_len = np.empty(BATCH, np.int64), np.empty(BATCH, np.int64)
    state = np.zeros(3, np.int64)
    while True:
        first = state[ROW]
        reason = _read_lines(
            text, reach, n_lines, names, name_ptr, codes, sizes, bulk, chrom, start, end, count, strand,
            dropped, unknown, seen, bc_at, bc_len, state,
        )  # fmt: skip
        if bulk:
            barcode[first : state[ROW]] = 0
        else:
            if n_known + BATCH > known.shape[0]:
                table = _bigger_table(table, known)
                more = np.empty((table.shape[0] // 2, 5), np.int64)
                more[: known.shape[0]] = known
                known = more
            n_known = _number_barcodes(
                text, bc_at, bc_len, first, state[ROW] - first, count, barcode, table, known, n_known
            )
        if reason == FIRST_STRAND:
            strand = np.zeros(n_lines, np.int8)
        elif reason != MORE:
            break
    if bulk and state[ROW] > 0:
        n_known = 1
        known[0, KNOWN_ROWS], known[0, KNOWN_COPIES] = state[ROW], state[ROW]
    error_line, error_code = (-1, 0) if reason == DONE else (state[LINE], reason)
    rows = chrom, start, end, count, strand, barcode
    return state[ROW], rows, known[:n_known], dropped, unknown, error_line, error_code


@nb.njit(cache=True, nogil=True)
def _gather_names(text, at, length):  # type: ignore[no-untyped-def]
    ptr = np.zeros(at.size + 1, np.int64)
    for k in range(at.size):
        ptr[k + 1] = ptr[k] + length[k]
    out = np.empty(ptr[-1], np.uint8)
    for k in range(at.size):
        out[ptr[k] : ptr[k + 1]] = text[at[k] : at[k] + length[k]]
    return out, ptr


def _runs(chrom: np.ndarray) -> list[ChromRun] | None:
    """Where the chromosome changes."""
    if not chrom.size:
        return []
    change = np.flatnonzero(chrom[1:] != chrom[:-1])
    if change.size > MANY_RUNS:
        return None
    edges = [0, *(change + 1).tolist(), int(chrom.size)]
    return list(map(ChromRun, chrom[edges[:-1]].tolist(), edges[:-1], edges[1:]))


class Chromosomes(NamedTuple):
    """The known chromosomes: their names one after the other, where each begins, its code; and sizes by code."""

    text: np.ndarray
    ptr: np.ndarray
    codes: np.ndarray
    sizes: np.ndarray


class Parsing:
    """The CPU side of ``protocol.Parsing``."""

    def chromosomes(self, names: list[bytes], codes: np.ndarray, sizes: np.ndarray) -> Chromosomes:
        """See ``protocol.Parsing.chromosomes``."""
        ptr = np.concatenate([[0], np.cumsum([len(n) for n in names], dtype=np.int64)])
        return Chromosomes(np.frombuffer(b"".join(names), np.uint8), ptr, codes.astype(np.int32), sizes.astype(np.int64))

    def barcodes(self, is_mito: np.ndarray) -> BarcodeTable:
        """See ``protocol.Parsing.barcodes``."""
        return BarcodeTable(is_mito)

    def parse_block(self, text: Any, chromosomes: Any, *, bulk: bool) -> ParsedBlock:
        """See ``protocol.Parsing.parse_block``."""
        return self._parse_block(text, chromosomes, bulk=bulk, reach=REACH)

    def _parse_block(self, text: Any, chromosomes: Chromosomes, *, bulk: bool, reach: int) -> ParsedBlock:
        text = np.ascontiguousarray(text)  # it is read by address
        if text.size and text[-1] != NEWLINE:
            text = np.concatenate([text, np.array([NEWLINE], np.uint8)])
        n_lines = _count_lines(text)
        n, rows, known, dropped, unknown_names, error_line, error_code = _parse(
            text, n_lines, *chromosomes, bulk, reach
        )
        chrom, start, end, count, strand, barcode = rows
        if bulk:
            name_text = np.frombuffer(b"bulk" if n else b"", np.uint8)
            name_ptr = np.array([0, 4] if n else [0], np.int64)
        else:
            name_text, name_ptr = _gather_names(text, known[:, KNOWN_AT], known[:, KNOWN_LEN])
        unknown = {text[a : a + m].tobytes(): k for a, m, k in unknown_names[:MAX_UNKNOWN].tolist() if k}
        if unknown_names[MAX_UNKNOWN, 2]:
            unknown[b"(other names)"] = int(unknown_names[MAX_UNKNOWN, 2])
        return ParsedBlock(
            n_lines=n_lines,
            chrom=chrom[:n],
            start=start[:n],
            end=end[:n],
            count=count[:n],
            strand=strand[:n] if strand.size else np.zeros(n, np.int8),
            names=BlockNames(
                barcode[:n], name_text, name_ptr, known[:, KNOWN_ROWS].copy(), known[:, KNOWN_COPIES].copy()
            ),
            runs=_runs(chrom[:n]),
            dropped=dropped,
            unknown_chroms=unknown,
            error_line=error_line,
            error_code=error_code,
            has_strand=strand.size > 0,
        )
