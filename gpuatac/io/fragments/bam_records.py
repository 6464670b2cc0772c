"""The records of a BAM file, streamed, paired and collapsed, for io.fragments.bam to write or return."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gpuatac import check
from gpuatac.backend import host
from gpuatac.backend.protocol import records as layout
from gpuatac.errors import FileFormatError, InputError
from gpuatac.io.files import compression
from gpuatac.io.fragments.bam_summary import DROP_REASONS, BamSummary, library_metrics

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable
    from pathlib import Path

    from gpuatac.genome import Genome

_ALLOWED = "a complete BAM file"
_FETCH = "the file was cut off or damaged: make or fetch it again"
_CHUNK = 16 << 20


@dataclass(frozen=True)
class Choices:
    """What the two public functions share."""

    tag: bytes
    regex: re.Pattern[str] | None
    umi_tag: bytes
    umi_regex: re.Pattern[str] | None
    bulk: bool
    min_mapq: int
    paired: bool
    shift_left: int
    shift_right: int
    mito: frozenset[str]
    threads: int


class Strings:
    """Distinct byte strings with codes in order of appearance (the arrays of ``Records.intern``)."""

    def __init__(self, *first: bytes) -> None:
        self.n = len(first)
        self.pool = np.frombuffer(b"".join(first) + bytes(1 << 16), np.uint8).copy()
        self.ends = np.zeros(1 << 12, np.int64)
        self.ends[1 : self.n + 1] = np.cumsum([len(f) for f in first])
        self.slots = np.zeros(1 << 13, np.int32)

    def codes(self, text: np.ndarray, at: np.ndarray, length: np.ndarray) -> np.ndarray:
        """int32 code of each string, -1 where its length is -1."""
        kernels = host().records
        used, new = int(self.ends[self.n]), at.size
        room = used + int(np.maximum(length, 0).sum())
        if room > self.pool.size:
            self.pool = np.concatenate([self.pool, np.zeros(room, np.uint8)])
        if self.n + new + 2 > self.ends.size:
            self.ends = np.concatenate([self.ends, np.zeros(self.n + new + 2, np.int64)])
        if 2 * (self.n + new) > self.slots.size:
            self.slots = np.zeros(1 << int(2 * (self.n + new)).bit_length(), np.int32)
            kernels.refill(self.slots, self.pool, self.ends, self.n)
        out = np.empty(new, np.int32)
        self.n = kernels.intern(text, at, length, self.slots, self.pool, self.ends, self.n, out)
        return out

    def bytes(self) -> list[bytes]:
        """The strings in code order."""
        raw, ends = self.pool.tobytes(), self.ends.tolist()
        return [raw[ends[i] : ends[i + 1]] for i in range(self.n)]


@dataclass
class Table:
    """Fragments by reference, each (start, end, barcode, count, strand), unsorted; the distinct barcodes."""

    names: list[str]
    sizes: np.ndarray
    parts: dict[int, tuple[np.ndarray, ...]]
    strings: Strings
    summary: BamSummary


class _Stream:
    """The inflated bytes of a BAM file, with the file offset they came from."""

    def __init__(self, path: Path, pool: ThreadPoolExecutor, threads: int) -> None:
        self.path, self.offset, self._next = path, 0, 0
        self._chunks = compression.bgzf_chunks(path, _CHUNK, pool, threads, self._advance)
        self.bytes = np.empty(0, np.uint8)

    def _advance(self, n: int) -> None:
        self._next += n

    def more(self, keep: int) -> bool:
        """Append the next bytes to ``bytes[keep:]``; False at the end of the file."""
        chunk = next(self._chunks, None)
        self.offset = self._next
        if chunk is None:
            self.bytes = self.bytes[keep:]
            return False
        self.bytes = np.concatenate([self.bytes[keep:], chunk[compression.HEAD_ROOM :]])
        return True

    def slice(self, low: int, high: int) -> bytes:
        """Bytes of the header; raises when the file ends before."""
        while self.bytes.size < high:
            if not self.more(0):
                found = "the end of the file within the header"
                raise self.broken(found)
        return self.bytes[low:high].tobytes()

    def word(self, at: int) -> int:
        """The little-endian int32 at ``at`` of the header."""
        value = int.from_bytes(self.slice(at, at + 4), "little", signed=True)
        if value < 0:
            found = f"a length of {value} in the header"
            raise self.broken(found)
        return value

    def broken(self, found: str) -> FileFormatError:
        """The error for what was found near the current offset."""
        return FileFormatError(self.path, found, _ALLOWED, _FETCH, offset=self.offset)


def _header(stream: _Stream) -> tuple[list[str], np.ndarray, int]:
    """(reference names, sizes, offset of the first record); the text of the header is not looked at."""
    if stream.slice(0, 4) != b"BAM\1":
        found = "BGZF data that are no BAM"
        raise stream.broken(found)
    at = 8 + stream.word(4)
    n_refs = stream.word(at)
    at += 4
    names, sizes = [], []
    for _ in range(n_refs):
        length = stream.word(at)
        names.append(stream.slice(at + 4, at + 3 + length).decode(errors="replace"))
        sizes.append(stream.word(at + 4 + length))
        at += 8 + length
    return names, np.array(sizes, np.int64), at


def _open_check(path: Path) -> None:
    check.existing_file(path, "BAM file")
    with path.open("rb") as handle:
        head = handle.read(4)
    kinds = {
        b"CRAM": "a CRAM file",
        b"@HD\t": "SAM text",
        b"@SQ\t": "SAM text",
        b"BAM\1": "an uncompressed BAM file",
    }
    if head[:2] != b"\x1f\x8b":
        remedy = "convert it with samtools view -b"
        raise FileFormatError(path, kinds.get(head, "bytes that are no BAM"), _ALLOWED, remedy, offset=0)


class _Pass:
    """One pass over the records: what accumulates on the way."""

    def __init__(self, choices: Choices, names: list[str], wanted: np.ndarray, path: Path) -> None:
        self.kernels, self.pairing = host().records, host().pairs
        self.choices, self.wanted = choices, wanted
        self.n_refs = len(names)
        self.mito = np.array([n in choices.mito for n in names], bool)
        stem = path.name.removesuffix(".bam").encode("ascii", "replace")
        self.barcodes = Strings(stem) if choices.bulk else Strings()
        self.umis = Strings()
        self.counters = np.zeros(layout.N_COUNTERS, np.int64)
        self.dropped = np.zeros(len(DROP_REASONS) + 1, np.int64)
        self.keys, self.values = np.zeros((1 << 16, 2), np.uint64), np.zeros((1 << 16, 9), np.int32)
        self.waiting = 0
        self.rows: dict[int, list[np.ndarray]] = {}

    def add(self, stream: _Stream, offsets: np.ndarray) -> None:
        """Take in the whole records at ``offsets`` of the stream's bytes."""
        k, m, c, n = self.kernels, self.pairing, self.choices, offsets.size
        data, located = stream.bytes, np.empty((n, 6), np.int64)
        tag, umi_tag = (np.frombuffer(t, np.uint8) for t in (c.tag, c.umi_tag))
        bad = k.locate(data, offsets, self.n_refs, tag, umi_tag, located)
        if bad >= 0:
            found = "a BAM record that does not hold together"
            raise stream.broken(found)
        if c.bulk:
            barcode = np.zeros(n, np.int32)
        else:
            barcode = self._codes(self.barcodes, c.regex, data, located, layout.BC_AT)
        if c.umi_regex is None and c.umi_tag == b"\0\0":
            umi = np.full(n, -1, np.int32)
        else:
            umi = self._codes(self.umis, c.umi_regex, data, located, layout.UMI_AT)
        read, status = np.zeros((n, 7), np.int32), np.empty(n, np.uint8)
        k.judge(data, offsets, barcode, c.paired, c.min_mapq, self.wanted, self.mito, read, status, self.counters)
        self.dropped += np.bincount(status, minlength=self.dropped.size)
        if not c.paired:
            self._keep(self._singles(read, barcode, umi, status))
            return
        key = np.empty((n, 2), np.uint64)
        m.hashes(data, located, status, barcode, key)
        if 2 * (self.waiting + n) > self.keys.shape[0]:
            size = 1 << int(2 * (self.waiting + n)).bit_length()
            keys, values = np.zeros((size, 2), np.uint64), np.zeros((size, 9), np.int32)
            m.rehash(self.keys, self.values, keys, values)
            self.keys, self.values = keys, values
        pairs = np.empty((n, layout.N_PAIR), np.int32)
        made, change = m.pair_up(read, key, barcode, umi, status, self.keys, self.values, pairs, self.dropped)
        self.waiting += change
        self._keep(pairs[:made].copy())

    def _codes(
        self, strings: Strings, regex: re.Pattern[str] | None, data: np.ndarray, located: np.ndarray, at: int
    ) -> np.ndarray:
        if regex is None:
            return strings.codes(data, located[:, at].copy(), located[:, at + 1].copy())
        found = []
        for low, size in located[:, :2].tolist():
            match = regex.search(data[low : low + size].tobytes().decode("ascii", "replace"))
            found.append((match[1] or "").encode("ascii", "replace") if match else b"")
        length = np.array([len(f) for f in found], np.int64)
        text = np.frombuffer(b"".join(found) + b"\0", np.uint8)
        return strings.codes(text, np.cumsum(length) - length, np.where(length > 0, length, -1))

    def _singles(self, read: np.ndarray, barcode: np.ndarray, umi: np.ndarray, status: np.ndarray) -> np.ndarray:
        used = np.flatnonzero(status == layout.USED)
        rows = np.zeros((used.size, layout.N_PAIR), np.int32)
        taken = read[used]
        rows[:, layout.P_REF], rows[:, layout.P_LEFT] = taken[:, layout.REF], taken[:, layout.FIVE_UNCLIPPED]
        rows[:, layout.P_KIND] = (taken[:, layout.FLAG] & 16) >> 4
        rows[:, layout.P_BARCODE], rows[:, layout.P_UMI] = barcode[used], umi[used]
        rows[:, layout.P_LEFT_ALIGNED], rows[:, layout.P_RIGHT_ALIGNED] = taken[:, layout.START], taken[:, layout.END]
        rows[:, layout.P_LEFT_QUALITY] = taken[:, layout.QUALITY]
        return rows

    def _keep(self, rows: np.ndarray) -> None:
        """Put rows with their reference; a chunk of a sorted file has one or two."""
        refs = rows[:, 0]
        for ref in np.unique(refs).tolist():
            mine = rows if (refs == ref).all() else rows[refs == ref]
            self.rows.setdefault(ref, []).append(mine)

    def collapse(self, ref: int, size: int) -> tuple[tuple[np.ndarray, ...], int]:
        """(start, end, barcode, count, strand) of the distinct fragments of a reference, and their copies."""
        m, c = self.pairing, self.choices
        rows = np.concatenate(self.rows.pop(ref))
        n = len(rows)
        order = np.lexsort(tuple(rows[:, i] for i in (layout.P_UMI, layout.P_BARCODE, layout.P_KIND, layout.P_RIGHT, layout.P_LEFT)))
        start, end, barcode, count = (np.empty(n, np.int32) for _ in range(4))
        strand = np.empty(0 if c.paired else n, np.int8)
        if c.paired:
            made = m.distinct_pairs(rows, order, start, end, barcode, count)
            start[:made] = np.maximum(start[:made] + c.shift_left, 0)
            end[:made] = end[:made] + c.shift_right
        else:
            made = m.distinct_singles(rows, order, start, end, barcode, count, strand)
        end[:made] = np.minimum(end[:made], size)
        keep = end[:made] > start[:made]
        self.dropped[layout.EMPTY] += int(count[:made][~keep].sum()) * (2 if c.paired else 1)
        columns = tuple(
            column[:made][keep] if column.size else column for column in (start, end, barcode, count, strand)
        )
        return columns, int(columns[3].sum())


def read_table(path: Path, choices: Choices, contigs: Iterable[str] | None, genome: Genome | None = None) -> Table:
    """Drop, pair and collapse the reads of a BAM file by the rules of ``io.fragments.bam.make_fragment_file``."""
    _open_check(path)
    with ThreadPoolExecutor(choices.threads) as pool:
        stream = _Stream(path, pool, choices.threads)
        names, sizes, at = _header(stream)
        run = _Pass(choices, names, _wanted(path, names, sizes, contigs, genome), path)
        while True:
            offsets, stop, bad = run.kernels.record_offsets(stream.bytes, at)
            if bad >= 0:
                found = "a BAM record of an impossible size"
                raise stream.broken(found)
            if offsets.size:
                run.add(stream, offsets)
            at = 0
            if not stream.more(stop):
                break
        if stream.bytes.size:
            found = "the end of the file within a record"
            raise stream.broken(found)
    summary = BamSummary(source=str(path), reads=int(run.counters[layout.Q_READS]))
    run.dropped[layout.NO_MATE] += run.waiting
    parts, each = {}, 2 if choices.paired else 1
    for ref in sorted(run.rows):
        part, copies = run.collapse(ref, int(sizes[ref]))
        if part[0].size:
            parts[ref] = part
        summary.used += copies * each
        summary.fragments += part[0].size
    summary.duplicates = summary.used // each - summary.fragments
    summary.dropped = dict(zip(DROP_REASONS, run.dropped[1:].tolist(), strict=True))
    used = np.unique(np.concatenate([np.empty(0, np.int32), *(p[2] for p in parts.values())]))
    summary.barcodes = used.size
    summary.metrics = library_metrics(run.counters, run.mito, parts, summary)
    _refuse_empty(path, choices, run, summary)
    _check_printable(path, run.barcodes, used)
    return Table(names, sizes, parts, run.barcodes, summary)


def _wanted(
    path: Path, names: list[str], sizes: np.ndarray, contigs: Iterable[str] | None, genome: Genome | None
) -> np.ndarray:
    """Which references to keep (bool)."""
    if contigs is not None:
        asked = list(contigs)
        absent = [c for c in asked if c not in names]
        if absent:
            msg = (
                f"{len(absent)} of {len(asked)} contigs are absent from {path} "
                f"({', '.join(absent[:5])}; it has "
                f"{', '.join(names[:3])}); give names as they stand in the BAM."
            )
            raise InputError(msg)
        return np.isin(names, asked)
    if genome is None:
        return np.ones(len(names), bool)
    codes = genome.codes_of(names)
    wanted = np.array(
        [c >= 0 and (genome.names[c] == n or genome.names[c] not in names) for c, n in zip(codes, names, strict=True)],
        bool,
    )
    if not wanted.any():
        msg = (
            f"{len(names)} of {len(names)} contigs in {path} are absent from genome {genome.name} "
            f"({', '.join(names[:3])}); pass the genome the reads were aligned to."
        )
        raise InputError(msg)
    for i in np.flatnonzero(wanted & (genome.sizes[np.maximum(codes, 0)] != sizes)):
        msg = (
            f"{names[i]} has {sizes[i]:,} bp in {path} and {genome.sizes[codes[i]]:,} bp in "
            f"genome {genome.name}; "
            "pass the genome the reads were aligned to."
        )
        raise InputError(msg)
    return wanted


def _refuse_empty(path: Path, choices: Choices, run: _Pass, summary: BamSummary) -> None:
    if summary.fragments:
        return
    q = run.counters
    if summary.reads and choices.paired and not q[layout.Q_FLAG_PAIRED]:
        msg = (
            f"none of {summary.reads:,} reads in {path} is paired; pass is_paired=False (--single-end) for "
            "single-end reads."
        )
    elif summary.reads and not q[layout.Q_BC_READS]:
        how = f"tag {choices.tag.decode()}" if choices.regex is None else f"a match of {choices.regex.pattern!r}"
        msg = (
            f"none of {summary.reads:,} reads in {path} has {how}; pass another barcode_tag "
            "or barcode_regex, or "
            "barcode_tag=None (--bulk) for bulk data."
        )
    else:
        top = sorted(((n, r) for r, n in summary.dropped.items() if n), reverse=True)
        why = ", ".join(f"{n:,} {r}" for n, r in top) or "the file holds no reads"
        msg = f"none of {summary.reads:,} reads in {path} gives a fragment ({why}); check the alignment or min_mapq."
    raise InputError(msg)


def _check_printable(path: Path, strings: Strings, used: np.ndarray) -> None:
    names = strings.bytes()
    for i in used.tolist():
        if not all(0x20 <= byte <= 0x7E for byte in names[i]):
            found, allowed = f"barcode {names[i]!r}", "printable ASCII"
            raise FileFormatError(path, found, allowed, "correct the tag or the regular expression")
