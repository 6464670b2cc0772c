"""One number for each name of a file, on the device: a hash table that blocks of rows are added to (kernels/names.cu)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpuatac.backend.protocol import BarcodeTotals

if TYPE_CHECKING:
    from gpuatac.backend.gpu.launch import Launcher
    from gpuatac.backend.protocol import ParsedBlock

FREE = np.iinfo(np.int64).max  # a slot without a name, as in names.cu
ALL_BITS = (1 << 64) - 1
FIRST_SLOTS = 1 << 12


class RowNames(NamedTuple):
    """The names of a block's rows: where they stand in its text, and their hashes."""

    text: Any  # uint8
    at: Any  # int64 (n,)
    length: Any  # int32 (n,)
    hash: Any  # uint64 (n,)


class NameTable:
    """Distinct names by first appearance: their bytes, one after the other."""

    def __init__(self, xp: Any, launch: Launcher, hash_mask: int = ALL_BITS) -> None:
        self._xp = xp
        self._launch = launch
        self._hash_mask = hash_mask
        self.n = 0
        self.n_bytes = 0
        self._slot = xp.full(FIRST_SLOTS, FREE, dtype=np.int64)
        self._text = xp.empty(0, np.uint8)
        self._ptr = xp.zeros(1, np.int64)

    def add(self, names: RowNames) -> Any:
        """int32 (n_rows,): the number of each row's name. One transfer."""
        xp = self._xp
        n = int(names.at.size)
        if not n:
            return xp.empty(0, np.int32)
        self._make_slots(self.n + n)
        of = xp.empty(n, np.int64)
        mask = int(self._slot.size) - 1
        places = names.text, names.at, names.length
        self._launch("find_names", n, *places, names.hash, n, self._text, self._ptr, self._slot, mask, of)
        opens, new_bytes = xp.empty(n, np.uint8), xp.empty(n, np.int32)
        self._launch("first_names", n, self._slot, of, names.length, n, opens, new_bytes)
        rank, stop = xp.cumsum(opens, dtype=np.int64), xp.cumsum(new_bytes, dtype=np.int64)
        n_new, n_bytes = xp.concatenate([rank[-1:], stop[-1:]]).tolist()
        self._text = _longer(xp, self._text, self.n_bytes, self.n_bytes + n_bytes)
        self._ptr = _longer(xp, self._ptr, self.n + 1, self.n + 1 + n_new)
        self._launch(
            "keep_names", n, *places, of, opens, rank, stop, n, self.n, self.n_bytes, self._slot, self._text, self._ptr
        )
        self.n += n_new
        self.n_bytes += n_bytes
        return self._slot[of].astype(np.int32)

    def _make_slots(self, n: int) -> None:
        """At least twice as many slots as the ``n`` names that there may be."""
        size = int(self._slot.size)
        if size >= 2 * n:
            return
        while size < 2 * n:
            size *= 2
        self._slot = self._xp.full(size, FREE, dtype=np.int64)
        self._launch("place_names", self.n, self._text, self._ptr, self.n, self._hash_mask, self._slot, size - 1)

    def text(self) -> Any:
        """uint8: the names, on the device."""
        return self._text[: self.n_bytes]

    def ptr(self) -> Any:
        """int64 (n + 1,): where each begins, on the device."""
        return self._ptr[: self.n + 1]


class Barcodes:
    """The GPU side of ``protocol.Barcodes``: a table of names, and rows, mitochondrial rows and copies of each."""

    def __init__(self, xp: Any, launch: Launcher, is_mito: np.ndarray, hash_mask: int = ALL_BITS) -> None:
        self._xp = xp
        self._launch = launch
        self._names = NameTable(xp, launch, hash_mask)
        self._is_mito = xp.asarray(np.asarray(is_mito).astype(np.uint8))
        self._totals = [xp.zeros(0, np.int64) for _ in range(3)]
        self._n_bulk = 0
        self._bulk_mito: Any = xp.zeros(1, np.int64)

    def add(self, block: ParsedBlock) -> Any:
        """See ``protocol.Barcodes.add``. One transfer; none for a block of one sample without barcodes."""
        xp = self._xp
        n = int(block.chrom.size)
        if block.names is None:
            self._n_bulk += n
            self._bulk_mito += (self._is_mito[block.chrom] != 0).sum()
            return xp.zeros(n, np.int32)
        before = self._names.n
        number = self._names.add(block.names)
        self._totals = [_longer(xp, total, before, self._names.n) for total in self._totals]
        if n:
            self._launch("add_totals", n, number, block.chrom, block.count, self._is_mito, n, *self._totals)
        return number

    def totals(self) -> BarcodeTotals:
        """See ``protocol.Barcodes.totals``. Two transfers."""
        xp, n = self._xp, self._names.n
        if self._n_bulk:
            rows = np.array([self._n_bulk])
            mito = np.array(self._bulk_mito.tolist())
            return BarcodeTotals(np.frombuffer(b"bulk", np.uint8), np.array([0, 4]), rows, mito, rows)
        numbers = xp.concatenate([self._names.ptr(), *(total[:n] for total in self._totals)])
        text = np.frombuffer(self._names.text().tobytes(), np.uint8)
        host = np.frombuffer(numbers.tobytes(), np.int64)
        return BarcodeTotals(text, host[: n + 1], *host[n + 1 :].reshape(3, n))


def _longer(xp: Any, array: Any, n: int, wanted: int) -> Any:
    """``array`` with room for ``wanted`` entries, of which the first ``n`` are kept and new ones are zero."""
    if wanted <= int(array.size):
        return array
    out = xp.zeros(max(wanted, 2 * n), array.dtype)
    out[:n] = array[:n]
    return out
