"""What the kernels compute, from the definitions in gpuatac/backend/protocol.py: slow, plain, of NumPy alone.

Matrices are dense int64 arrays. Statuses are numbers here on purpose: the oracle shares no constant with the
code.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Parsed(NamedTuple):
    n_lines: int
    rows: list[tuple[int, int, int, int, int, bytes]]  # chrom, start, end, count, strand, barcode
    dropped: dict[int, int]
    unknown: dict[bytes, int]
    error: tuple[int, int]  # line, code; (-1, 0) for none
    has_strand: bool


def line_ends(text: bytes) -> list[int]:
    ends = [i for i, byte in enumerate(text) if byte == 10]
    return ends if not text or text.endswith(b"\n") else [*ends, len(text)]


def _number(field: bytes, negative: bool) -> int | None:
    digits = field[1:] if negative and field[:1] == b"-" else field
    if not digits or any(c not in b"0123456789" for c in digits):
        return None
    return int(field)


def _printable(field: bytes) -> bool:
    return len(field) > 0 and all(0x20 <= c <= 0x7E for c in field)


def parse_line(line: bytes, codes: dict[bytes, int], sizes, bulk: bool):
    """(status, row or unknown name, whether it has a strand)."""
    if line.endswith(b"\r"):
        line = line[:-1]
    if not line.strip(b" \t\r"):
        return 2, None, False
    if line.startswith(b"#"):
        return 1, None, False
    fields = line.split(b"\t")
    if len(fields) < (3 if bulk else 4):
        return 10, None, False
    if len(fields) > (3 if bulk else 6):
        return 11, None, False
    if not _printable(fields[0]):
        return 17, None, False
    start, end = _number(fields[1], True), _number(fields[2], True)
    if start is None:
        return 12, None, False
    if end is None:
        return 13, None, False
    barcode, count, strand = b"bulk", 1, 0
    if not bulk:
        barcode = fields[3]
        if not _printable(barcode):
            return 16, None, False
        if len(fields) > 4 and fields[4] != b".":
            number = _number(fields[4], False)
            if number is None or not 1 <= number <= 2**31 - 1:
                return 14, None, False
            count = number
        if len(fields) > 5:
            if fields[5] not in (b"+", b"-", b"."):
                return 15, None, False
            strand = {b"+": 1, b"-": -1, b".": 0}[fields[5]]
    if fields[0] not in codes:
        return 3, fields[0], False
    code = codes[fields[0]]
    if end <= start:
        return 4, None, False
    if start < 0 or end > sizes[code]:
        return 5, None, False
    return 0, (code, start, end, count, strand, barcode), len(fields) > 5


def parse_block(text: bytes, names: list[bytes], codes, sizes, bulk: bool) -> Parsed:
    table = {name: int(code) for name, code in reversed(list(zip(names, codes, strict=True)))}
    lines = text.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    rows, dropped, unknown = [], dict.fromkeys(range(6), 0), {}
    has_strand = False
    for i, line in enumerate(lines):
        status, found, with_strand = parse_line(line, table, sizes, bulk)
        if status > 5:
            return Parsed(len(lines), [], {}, {}, (i, status), False)
        if status == 0:
            rows.append(found)
            has_strand |= with_strand
        else:
            dropped[status] += 1
        if status == 3:
            unknown[found] = unknown.get(found, 0) + 1
    return Parsed(len(lines), rows, dropped, unknown, (-1, 0), has_strand)


def distinct_names(names: list[bytes]) -> tuple[list[int], list[bytes]]:
    known: dict[bytes, int] = {}
    return [known.setdefault(name, len(known)) for name in names], list(known)


def _fragments(start, end, row):
    return [(int(s), int(e), int(r)) for s, e, r in zip(start, end, row, strict=True) if r >= 0]


def tile_counts(start, end, row, *, n_rows, bin_size, n_bins, strategy):
    out = np.zeros((n_rows, n_bins), np.int64)
    for s, e, r in _fragments(start, end, row):
        first, last = s // bin_size, (e - 1) // bin_size
        if strategy == "fragment":
            out[r, first : last + 1] += 1
        else:
            out[r, first] += 1
            out[r, last] += strategy == "insertion" or first != last
    return out


def region_counts(start, end, row, *, n_rows, region_start, region_end, strategy):
    out = np.zeros((n_rows, len(region_start)), np.int64)
    for s, e, r in _fragments(start, end, row):
        for j, (low, high) in enumerate(zip(region_start, region_end, strict=True)):
            inside = [low <= cut < high for cut in (s, e - 1)]
            if strategy == "insertion":
                out[r, j] += sum(inside)
            elif strategy == "fragment":
                out[r, j] += low < e and s < high
            else:
                out[r, j] += any(inside)
    return out


def overlap_any(start, end, row, *, n_rows, region_start, region_end, as_insertion):
    out = np.zeros(n_rows, np.int64)
    regions = list(zip(region_start, region_end, strict=True))
    for s, e, r in _fragments(start, end, row):
        if as_insertion:
            out[r] += sum(any(low <= cut < high for low, high in regions) for cut in (s, e - 1))
        else:
            out[r] += any(low < e and s < high for low, high in regions)
    return out


def tss_counts(start, end, row, *, n_rows, tss, reverse, window, half_center, edge):
    center, flank = np.zeros(n_rows, np.int64), np.zeros(n_rows, np.int64)
    profile = np.zeros(2 * window + 1, np.int64)
    inside = total = 0
    for s, e, r in _fragments(start, end, row):
        for cut in (s, e - 1):
            total += 1
            near = [
                (int(t), bool(back))
                for t, back in zip(tss, reverse, strict=True)
                if abs(cut - int(t)) <= window
            ]
            inside += bool(near)
            for t, back in near:
                position = window + (t - cut if back else cut - t)
                profile[position] += 1
                center[r] += abs(cut - t) <= half_center
                flank[r] += position in range(edge) or position in range(
                    2 * window + 1 - edge, 2 * window + 1
                )
    return center, flank, profile, inside, total


def length_histogram(start, end, row, *, max_length):
    out = np.zeros(max_length + 1, np.int64)
    for s, e, _ in _fragments(start, end, row):
        out[e - s if e - s <= max_length else 0] += 1
    return out


def length_classes(start, end, row, *, n_rows, bounds):
    out = np.zeros((n_rows, len(bounds) + 1), np.int64)
    for s, e, r in _fragments(start, end, row):
        out[r, sum(e - s >= bound for bound in bounds)] += 1
    return out


def row_sums(row, values, *, n_rows):
    out = np.zeros(n_rows, np.int64)
    for i, r in enumerate(row):
        if r >= 0:
            out[r] += 1 if values is None else int(values[i])
    return out


def quality(
    start,
    end,
    row,
    *,
    n_rows,
    max_length,
    bounds,
    tss,
    reverse,
    window,
    half_center,
    edge,
    regions,
    as_insertion,
):
    """(lengths, classes, tss_counts or None, in_regions, fragments of each row): the other oracles together."""
    columns = (start, end, row)
    around = None
    if tss is not None:
        sites = {
            "tss": tss,
            "reverse": reverse,
            "window": window,
            "half_center": half_center,
            "edge": edge,
        }
        around = tss_counts(*columns, n_rows=n_rows, **sites)
    inside = [
        overlap_any(
            *columns, n_rows=n_rows, region_start=low, region_end=high, as_insertion=as_insertion
        )
        for low, high in regions
    ]
    return (
        length_histogram(*columns, max_length=max_length),
        length_classes(*columns, n_rows=n_rows, bounds=bounds),
        around,
        np.array(inside, np.int64).reshape(len(regions), n_rows),
        row_sums(row, None, n_rows=n_rows),
    )


def max_over_groups(dense, group, *, n_groups):
    out = np.zeros((dense.shape[0], n_groups), np.int64)
    for column, g in enumerate(group):
        out[:, g] = np.maximum(out[:, g], dense[:, column])
    return out


def sort_fragments(chrom, start, end, cell, count, strand, *, n_chroms):
    columns = (chrom, start, end, cell, count) + (() if strand is None else (strand,))
    rows = [tuple(int(c[i]) for c in columns) for i in range(len(chrom)) if cell[i] >= 0]
    starts = {c: [r[1] for r in rows if r[0] == c] for c in range(n_chroms)}
    came_sorted = all(s == sorted(s) for s in starts.values())
    rows.sort(key=lambda r: r[:4])
    ptr = np.cumsum([0, *(len(starts[c]) for c in range(n_chroms))])
    return ptr, rows, came_sorted


def shared_neighbors(indices):
    closed = [{i, *row} for i, row in enumerate(indices.tolist())]
    shared = [[len(closed[i] & closed[j]) for j in row] for i, row in enumerate(indices.tolist())]
    return np.array(shared, np.int64).reshape(indices.shape)
