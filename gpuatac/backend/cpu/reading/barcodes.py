"""One number for each barcode of a file: blocks are parsed side by side, their barcodes joined here in file order."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numba as nb
import numpy as np

from gpuatac.backend.protocol import BarcodeTotals

if TYPE_CHECKING:
    from gpuatac.backend.protocol import ParsedBlock

_njit = nb.njit(cache=True, nogil=True)


@_njit
def _hash(text, low, high):  # type: ignore[no-untyped-def]
    h = np.uint64(1469598103934665603)
    for i in range(low, high):
        h = (h ^ np.uint64(text[i])) * np.uint64(1099511628211)
    return h ^ (h >> np.uint64(29))


@_njit
def _rehash(hashes, n, size):  # type: ignore[no-untyped-def]
    table = np.full(size, -1, np.int32)
    mask = np.uint64(size - 1)
    for k in range(n):
        slot = hashes[k] & mask
        while table[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        table[slot] = k
    return table


@_njit
def _merge(table, hashes, text, ptr, n, block_text, block_ptr, out):  # type: ignore[no-untyped-def]
    """Number the names of a block, new ones from ``n`` on; there is room for all. Returns how many are known now."""
    mask = np.uint64(table.size - 1)
    for j in range(block_ptr.size - 1):
        low, high = block_ptr[j], block_ptr[j + 1]
        h = _hash(block_text, low, high)
        slot = h & mask
        while True:
            k = table[slot]
            if k < 0:
                k = n
                table[slot] = k
                hashes[k] = h
                at = ptr[k]
                for i in range(low, high):
                    text[at + i - low] = block_text[i]
                ptr[k + 1] = at + high - low
                n += 1
                break
            if hashes[k] == h and ptr[k + 1] - ptr[k] == high - low:
                at = ptr[k]
                same = True
                for i in range(low, high):
                    if text[at + i - low] != block_text[i]:
                        same = False
                        break
                if same:
                    break
            slot = (slot + np.uint64(1)) & mask
        out[j] = k
    return n


class BlockNames(NamedTuple):
    """The barcodes of one block, numbered by first appearance in it."""

    number: np.ndarray  # int32 (n_rows,): of each row's barcode
    text: np.ndarray  # uint8: the distinct barcodes one after the other
    ptr: np.ndarray  # int64 (n_names + 1,): where each of them begins
    rows: np.ndarray  # int64 (n_names,): kept rows of each barcode
    copies: np.ndarray  # int64 (n_names,): the sum of their counts

    @property
    def barcodes(self) -> list[bytes]:
        """The distinct barcodes."""
        raw, ptr = self.text.tobytes(), self.ptr.tolist()
        return [raw[a:b] for a, b in itertools.pairwise(ptr)]


class BarcodeTable:
    """The CPU side of ``protocol.Barcodes``."""

    def __init__(self, is_mito: np.ndarray) -> None:
        self.n = 0
        self._is_mito = is_mito
        self._table = np.full(1 << 14, -1, np.int32)
        self._hashes = np.empty(1 << 13, np.uint64)
        self._ptr = np.zeros((1 << 13) + 1, np.int64)
        self._text = np.empty(1 << 18, np.uint8)
        self._totals = np.zeros((3, 1 << 13), np.int64)

    def totals(self) -> BarcodeTotals:
        """See ``protocol.Barcodes.totals``."""
        ptr = self._ptr[: self.n + 1]
        return BarcodeTotals(self._text[: ptr[-1]], ptr, *self._totals[:, : self.n])

    def add(self, block: ParsedBlock) -> Any:
        """See ``protocol.Barcodes.add``."""
        names: BlockNames = block.names
        numbers = self.add_names(names.text, names.ptr, names.rows, self._mito_rows(block), names.copies)
        return numbers[names.number]

    def _mito_rows(self, block: ParsedBlock) -> np.ndarray:
        """Mitochondrial rows of each of the block's barcodes."""
        names: BlockNames = block.names
        n = names.rows.size
        if block.runs is None:
            return np.bincount(names.number[self._is_mito[block.chrom]], minlength=n)
        rows = np.zeros(n, np.int64)
        for code, low, high in block.runs:
            if self._is_mito[code]:
                rows += np.bincount(names.number[low:high], minlength=n)
        return rows

    def add_names(
        self, text: np.ndarray, ptr: np.ndarray, rows: np.ndarray, mito_rows: np.ndarray, copies: np.ndarray
    ) -> np.ndarray:
        """The number of each name, given by their bytes and where each begins; names are distinct, totals added up."""
        n_names = ptr.size - 1
        self._make_room(n_names, int(ptr[-1]))
        numbers = np.empty(n_names, np.int32)
        self.n = _merge(self._table, self._hashes, self._text, self._ptr, self.n, _writable(text), ptr, numbers)
        self._totals[0, numbers] += rows
        self._totals[1, numbers] += mito_rows
        self._totals[2, numbers] += copies
        return numbers

    def _make_room(self, n_names: int, n_bytes: int) -> None:
        wanted = self.n + n_names
        if wanted > self._hashes.size:
            size = max(wanted, 2 * self._hashes.size)
            self._hashes = np.resize(self._hashes, size)
            self._ptr = np.resize(self._ptr, size + 1)
            totals = np.zeros((3, size), np.int64)
            totals[:, : self.n] = self._totals[:, : self.n]
            self._totals = totals
        used = int(self._ptr[self.n])
        if used + n_bytes > self._text.size:
            text = np.empty(max(used + n_bytes, 2 * self._text.size), np.uint8)
            text[:used] = self._text[:used]
            self._text = text
        if 2 * wanted > self._table.size:
            size = self._table.size
            while size < 4 * wanted:
                size *= 2
            self._table = _rehash(self._hashes, self.n, size)


def _writable(text: np.ndarray) -> np.ndarray:
    """``text`` in the one form that the compiled function takes."""
    return text if text.flags.writeable and text.flags.c_contiguous else np.array(text)
