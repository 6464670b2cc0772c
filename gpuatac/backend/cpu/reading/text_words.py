"""Text as words of 8 bytes and masks of 64, in Numba: what ``text_lines`` reads lines with.

64 bytes are compared at once and give 64-bit masks, one bit a byte: where tabs are, and where bytes are that are not
printable. Words are little-endian, as are all machines that Numba runs on.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from llvmlite import ir
from numba import extending

NEWLINE, TAB, SPACE = 10, 9, 32
WINDOW = 64  # bytes compared at once
KEY = 24  # bytes of a name that are kept as three words: 16 bases and "-1" fit
FULL = np.uint64(0xFFFFFFFFFFFFFFFF)
ONE, EIGHT, HALF, LOW_HALF = np.uint64(1), np.uint64(8), np.uint64(32), np.uint64(0xFFFFFFFF)
HIGH_BITS, ZEROS = np.uint64(0x8080808080808080), np.uint64(0x3030303030303030)
MIX_0, MIX_1, MIX_2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0xD6E8FEB86659FD93)
_intrinsic: Any = extending.intrinsic  # Numba adds the first argument of what it makes; mypy does not know


@_intrinsic
def load_word(typing, address):  # type: ignore[no-untyped-def]
    """The 8 bytes from ``address`` on, which need not be aligned, as one uint64: a single load."""

    def code(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.load(builder.inttoptr(args[0], ir.IntType(64).as_pointer()), align=1)

    return nb.uint64(nb.int64), code


def _mask_of(compare: Any) -> Any:
    """An intrinsic: uint64 with bit i set where ``compare`` holds for byte i of the 64 bytes from an address on."""

    def typed(typing, address):  # type: ignore[no-untyped-def]
        def code(context, builder, signature, args):  # type: ignore[no-untyped-def]
            vector = ir.VectorType(ir.IntType(8), WINDOW)
            window = builder.load(builder.inttoptr(args[0], vector.as_pointer()), align=1)
            found = compare(builder, window, lambda value: ir.Constant(vector, [value] * WINDOW))
            return builder.bitcast(found, ir.IntType(64))

        return nb.uint64(nb.int64), code

    return _intrinsic(typed)


#: Where tabs are among the 64 bytes from an address on, one bit a byte.
tab_mask = _mask_of(lambda builder, v, constant: builder.icmp_unsigned("==", v, constant(TAB)))
#: Where newlines are.
newline_mask = _mask_of(lambda builder, v, constant: builder.icmp_unsigned("==", v, constant(NEWLINE)))
#: Where bytes are that are not printable: v - 32 wraps around for bytes below 32, so one comparison tests both bounds.
unprintable_mask = _mask_of(
    lambda builder, v, constant: builder.icmp_unsigned(">", builder.sub(v, constant(SPACE)), constant(126 - SPACE))
)


@_intrinsic
def lowest_bit(typing, mask):  # type: ignore[no-untyped-def]
    """Number of the lowest bit that is set; 64 when there is none."""

    def code(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return nb.int64(nb.uint64), code


@_intrinsic
def count_bits(typing, mask):  # type: ignore[no-untyped-def]
    """How many bits are set."""

    def code(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.ctpop(args[0])

    return nb.int64(nb.uint64), code


@nb.njit(cache=True, nogil=True, inline="always")
def _first_bytes(n):  # type: ignore[no-untyped-def]
    """Mask of the first ``n`` bytes of a word; none for n <= 0, all for n >= 8."""
    if n >= 8:
        return FULL
    if n <= 0:
        return np.uint64(0)
    return FULL >> (np.uint64(64) - EIGHT * np.uint64(n))


@nb.njit(cache=True, nogil=True, inline="always")
def name_key(address, n):  # type: ignore[no-untyped-def]
    """The first ``n`` bytes (24 at most) from ``address`` on as three words, zeros after them, and their masks."""
    a, b, c = _first_bytes(n), _first_bytes(n - 8), _first_bytes(n - 16)
    return (load_word(address) & a, load_word(address + 8) & b, load_word(address + 16) & c), (a, b, c)


@nb.njit(cache=True, nogil=True)
def key_word(text, at, n):  # type: ignore[no-untyped-def]
    """The first ``n`` bytes from ``at`` on (8 at most), then zeros; reads no byte beyond them."""
    word = np.uint64(0)
    for i in range(min(n, 8)):
        word |= np.uint64(text[at + i]) << (EIGHT * np.uint64(i))
    return word


@nb.njit(cache=True, nogil=True, inline="always")
def digits_before(stop, n):  # type: ignore[no-untyped-def]
    """The ``n`` (1 to 8) digits before the address ``stop``, one a byte, zeros before them."""
    return (load_word(stop - 8) ^ ZEROS) & (FULL << (np.uint64(64) - EIGHT * np.uint64(n)))


@nb.njit(cache=True, nogil=True, inline="always")
def non_digits(digits):  # type: ignore[no-untyped-def]
    """Bits that are set when a byte is above 9: 10 + 0x76 sets the highest bit, which bytes from 128 on have anyway."""
    return ((digits + np.uint64(0x7676767676767676)) | digits) & HIGH_BITS


@nb.njit(cache=True, nogil=True, inline="always")
def number_of(digits):  # type: ignore[no-untyped-def]
    """The number of 8 digits, the first in the lowest byte: pairs, then four and eight by two multiplications."""
    pairs = digits * np.uint64(10) + (digits >> EIGHT)
    low = (pairs & np.uint64(0x000000FF000000FF)) * np.uint64(0x000F424000000064)  # 100 and 10^6
    high = ((pairs >> np.uint64(16)) & np.uint64(0x000000FF000000FF)) * np.uint64(0x0000271000000001)  # 1 and 10^4
    return np.int64((low + high) >> HALF)


@nb.njit(cache=True, nogil=True, inline="always")
def mixed_hash(a, b, c):  # type: ignore[no-untyped-def]
    """64 bits in which every bit of the three words counts."""
    h = a * MIX_0
    h = ((h ^ (h >> HALF)) + b) * MIX_1
    h = ((h ^ (h >> HALF)) + c) * MIX_2
    return h ^ (h >> HALF)


@nb.njit(cache=True, nogil=True)
def mixed_hash_rest(h, text, at, length):  # type: ignore[no-untyped-def]
    """``h`` with the bytes of a long barcode beyond its key worked in."""
    for i in range(KEY, length, 8):
        h = mixed_hash(h, key_word(text, at + i, length - i), np.uint64(i))
    return h
