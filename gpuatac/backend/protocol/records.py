"""BAM records to fragments, which is work of the host: the columns of its tables, and the passes. Conventions as in ``protocol``."""

from __future__ import annotations

from typing import Any, Protocol

# What became of a read, in the order in which the reasons are tested.
(
    USED,
    UNMAPPED,
    MATE_UNMAPPED,
    SECONDARY,
    SUPPLEMENTARY,
    QC_FAIL,
    DUPLICATE,
    NOT_PROPER,
    LOW_MAPQ,
    NO_BARCODE,
    OTHER_CONTIG,
    NO_MATE,
    REPEATED,
    UMI_MISMATCH,
    CHIMERIC,
    EMPTY,
) = range(16)

# Columns of ``locate``: where the read name, barcode and UMI stand in the bytes; lengths are -1 when absent.
NAME_AT, NAME_LEN, BC_AT, BC_LEN, UMI_AT, UMI_LEN = range(6)

# Columns of ``judge``.
REF, FLAG, START, END, FIVE, FIVE_UNCLIPPED, QUALITY = range(7)

# Counters over all reads, as SnapATAC2's library metrics define them.
(
    Q_READS,
    Q_PAIRED,
    Q_BC_READS,
    Q_BC_PAIRED,
    Q_HQ_READS,
    Q_HQ_PAIRED,
    Q_MITO_READS,
    Q_MITO_PAIRED,
    Q_BC_MAPPED,
    Q_BC_MATE_MAPPED,
    Q_BASES1,
    Q_Q30_1,
    Q_BASES2,
    Q_Q30_2,
    Q_FLAG_PAIRED,
) = range(15)
N_COUNTERS = 15

# Columns of a pair, and of a single read (which has no right mate: START and END of the read instead).
(
    P_REF,
    P_LEFT,
    P_RIGHT,
    P_KIND,
    P_BARCODE,
    P_UMI,
    P_LEFT_ALIGNED,
    P_RIGHT_ALIGNED,
    P_LEFT_QUALITY,
    P_RIGHT_QUALITY,
) = range(10)
N_PAIR = 10


class Records(Protocol):
    """Decompressed BAM bytes (uint8) and offsets of whole records to what each record says."""

    def record_offsets(self, b: Any, at: int, /) -> Any:
        """(offsets int64 of the whole records from ``at``, offset after the last, offset of a bad one or -1)."""
        ...

    def locate(self, b: Any, offsets: Any, n_refs: int, tag: Any, umi_tag: Any, out: Any, /) -> int:
        """Fill ``out`` (int64 (n, 6)) with the places of name, barcode and UMI; index of a broken record or -1.

        ``tag`` and ``umi_tag`` are two uint8, zeros for none; only string (Z) tags that are not empty count.
        """
        ...

    def intern(self, text: Any, at: Any, length: Any, slots: Any, pool: Any, ends: Any, n: int, codes: Any, /) -> int:
        """Give equal strings equal codes (int32, -1 for length < 0); returns how many are distinct so far.

        ``slots`` (int32, a power of two, at least twice the strings to come) holds code + 1; string k is
        ``pool[ends[k]:ends[k + 1]]``. The caller has made room.
        """
        ...

    def refill(self, slots: Any, pool: Any, ends: Any, n: int, /) -> None:
        """Put the strings so far into larger empty ``slots``."""
        ...

    def judge(
        self, b: Any, offsets: Any, barcode: Any, paired: Any, min_mapq: int, wanted: Any, mito: Any,
        out: Any, status: Any, counters: Any, /,
    ) -> None:
        """Fill ``out`` (int32 (n, 7)) and ``status`` (uint8) of each record and add to ``counters``.

        Quality is the sum of the base qualities of at least 15. ``wanted`` and ``mito`` are bool by reference.
        """
        ...


class Pairs(Protocol):
    """Mates joined by name, copies collapsed, rows written as text."""

    def hashes(self, b: Any, located: Any, status: Any, barcode: Any, out: Any, /) -> None:
        """128-bit hash of (name, barcode) of the reads still used: uint64 (n, 2), the first word never zero."""
        ...

    def rehash(self, keys: Any, values: Any, new_keys: Any, new_values: Any, /) -> None:
        """Put the waiting mates into a larger empty table."""
        ...

    def pair_up(
        self, read: Any, key: Any, barcode: Any, umi: Any, status: Any, keys: Any, values: Any, pairs: Any, dropped: Any, /
    ) -> Any:
        """Join each read with its waiting mate. (pairs written to ``pairs``, change in the number waiting).

        ``keys`` (uint64 (size, 2)) and ``values`` (int32 (size, 9): the columns of ``judge``, barcode, UMI) are an open-addressing
        table with linear probing. The left mate is the one whose unclipped 5' end is smaller; where they are equal, the forward
        one. Kind: 0 FR, 1 RF, 2 FF, 3 RR (the last two by whether the left mate is read 1).
        """
        ...

    def distinct_pairs(self, p: Any, order: Any, start: Any, end: Any, barcode: Any, count: Any, /) -> int:
        """One fragment for each run of equal (left, right, kind, barcode, UMI) in ``order``; the number of them."""
        ...

    def distinct_singles(self, p: Any, order: Any, start: Any, end: Any, barcode: Any, count: Any, strand: Any, /) -> int:
        """The same of single reads, by their 5' ends."""
        ...

    def format_rows(
        self, chrom: Any, start: Any, end: Any, cell: Any, count: Any, strand: Any, pool: Any, ends: Any, out: Any, /
    ) -> int:
        """Lines ``chrom start end barcode count[ strand]`` as text in ``out``; returns the bytes written."""
        ...
