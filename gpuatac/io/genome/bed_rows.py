"""The rows of a BED however it was saved: with or without header, row names and quotes; and what every interval has to fulfil."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gpuatac.errors import FileFormatError
from gpuatac.io.files.compression import is_heading
from gpuatac.io.genome.regions import MAX_COORDINATE
from gpuatac.io.tables.delimited import split_fields

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

logger = logging.getLogger(__name__)
COLUMN_NAMES = {
    "chrom": ("chrom", "chr", "chromosome", "seqnames", "seqname"),
    "start": ("start", "chromstart", "chrom_start"),
    "end": ("end", "chromend", "chrom_end", "stop"),
}
_FURTHER = ("name", "score", "strand")
_ALLOWED = "at least chrom, start and end, split at tabs"


class Rows(NamedTuple):
    """Columns of a BED as they are written, and the line of each row; None for a column that not every row has."""

    numbers: list[int]
    base: int  # what the first base of a chromosome is called
    chrom: Sequence[bytes]
    start: Sequence[bytes]
    end: Sequence[bytes]
    name: Sequence[bytes] | None = None
    score: Sequence[bytes] | None = None
    strand: Sequence[bytes] | None = None


def numbered_lines(text: bytes) -> list[tuple[int, bytes]]:
    """(1-based line number, line without its end) of the lines that are neither blank nor comments."""
    lines = text.splitlines() if b"\r" in text else text.split(b"\n")
    return [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith(b"#")]


def whole_numbers(values: Sequence[bytes]) -> np.ndarray | None:
    """``values`` as int64, or None when one of them is not a run of digits with an optional sign."""
    try:
        return np.array([int(v) for v in values], np.int64)
    except (ValueError, OverflowError):
        return None


def checked_intervals(
    path: str | Path, numbers: Sequence[int], start: Sequence[bytes], end: Sequence[bytes], *, base: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """int64 0-based half-open start and end of rows whose start is written ``base``-based.

    Raises :class:`FileFormatError` with the line of the first row where they are no whole numbers, lie
    outside [base, 2^31 - 1], or have start > end.
    """
    lo, hi = whole_numbers(start), whole_numbers(end)
    allowed = f"whole numbers with {base} <= start <= end <= {MAX_COORDINATE}"
    if lo is not None and hi is not None:
        low = lo - base
        bad = (low < 0) | (low > hi) | (hi > MAX_COORDINATE)
        if not bad.any():
            return low, hi
        first = int(bad.argmax())
        found = f"start {lo[first]} and end {hi[first]}"
        raise FileFormatError(path, found, allowed, "correct or remove the line", line=int(numbers[first]))
    for number, a, b in zip(numbers, start, end, strict=True):
        if whole_numbers([a, b]) is None:
            found = f"start {_shown(a)} and end {_shown(b)}"
            raise FileFormatError(path, found, allowed, "correct or remove the line", line=number)
    raise AssertionError  # one of the rows did not convert above


def _shown(value: bytes) -> str:
    return repr(value.decode(errors="replace"))


def read_rows(path: Path, text: bytes) -> Rows:
    """The rows of a BED, see :func:`gpuatac.io.genome.bed.read_bed`; raises with the line of a row of too few columns."""
    lines = [(n, line) for n, line in numbered_lines(text) if not is_heading(line)]
    if not lines:
        return Rows([], 0, [], [], [])
    fields = _fields([line for _, line in lines])
    numbers = [n for n, _ in lines]
    at, header = _columns(fields[: min(2, len(fields))])
    if header:
        fields, numbers = fields[1:], numbers[1:]
    if not fields:
        return Rows([], 0, [], [], [])
    width = min(map(len, fields))
    needed = 1 + max(at["chrom"], at["start"], at["end"])
    if width < needed:
        short = next(i for i, f in enumerate(fields) if len(f) < needed)
        found = f"{len(fields[short])} column(s)"
        raise FileFormatError(path, found, _ALLOWED, "correct or remove the line", line=numbers[short])
    columns = {name: [f[k] for f in fields] for name, k in at.items() if k < width}
    widths = columns.pop("width", None)
    base = 0 if widths is None else _base(path, columns["start"], columns["end"], widths)
    return Rows(numbers, base, **columns)


def _fields(lines: list[bytes]) -> list[list[bytes]]:
    first = lines[0]
    separator = b"\t" if b"\t" in first else b"," if first.count(b",") >= 2 and not first.partition(b",")[0].count(b" ") else None
    if not any(b'"' in line for line in lines):
        return [line.split(separator) for line in lines]
    mark = " " if separator is None else separator.decode()
    return [[(f or "").encode() for f in split_fields(line.decode(errors="replace"), mark)] for line in lines]


def _columns(first: list[list[bytes]]) -> tuple[dict[str, int], bool]:
    """Where each column is, by the first row or two; and whether the first is a header."""
    names = [f.strip().lower().decode(errors="replace") for f in first[0]]
    found = {key: next((names.index(n) for n in known if n in names), None) for key, known in COLUMN_NAMES.items()}
    header = None not in found.values()
    if not header:
        usual = names[1:3] in (["start", "end"], ["chromstart", "chromend"])
        row = first[0]
        named = len(row) > 3 and _whole(row[0]) and not _whole(row[1]) and _whole(row[2]) and _whole(row[3])
        return {key: k + named for k, key in enumerate((*COLUMN_NAMES, *_FURTHER))}, usual
    at = {key: k for key, k in found.items() if k is not None}
    extra = {key: names.index(key) for key in (*_FURTHER, "width") if key in names}
    if list(at.values()) == [0, 1, 2] and not extra:
        extra = {key: 3 + k for k, key in enumerate(_FURTHER)}
    below = first[-1]  # R's row names have no name
    shift = int(len(below) == len(names) + 1 and not (_whole(below[at["start"]]) and _whole(below[at["end"]])))
    return {key: k + shift for key, k in {**at, **extra}.items()}, True


def _whole(value: bytes) -> bool:
    return whole_numbers([value]) is not None


def _base(path: Path, start: Sequence[bytes], end: Sequence[bytes], width: Sequence[bytes]) -> int:
    """1 where widths say that starts are 1-based, else 0."""
    low, high, wide = whole_numbers(start), whole_numbers(end), whole_numbers(width)
    if low is None or high is None or wide is None or not (high - low + 1 == wide).all():
        return 0
    logger.info("%s: widths are end - start + 1, so starts are 1-based; 1 is taken from each", path.name)
    return 1
