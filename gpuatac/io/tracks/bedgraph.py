"""Read bedGraph tracks (plain, gzip, bgzip) as runs of equal values, every line checked; and what all tracks have to fulfil."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gpuatac import progress
from gpuatac.errors import FileFormatError
from gpuatac.genome import Genome
from gpuatac.io.files.compression import line_blocks

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

logger = logging.getLogger(__name__)

_SKIPPED = (b"#", b"track", b"browser")
_OTHER_GENOME = "it is a track of another genome: give the genome it was made with, or the right track"


class Runs(NamedTuple):
    """Host arrays, ascending and disjoint: int32 start and end, float32 value."""

    start: np.ndarray
    end: np.ndarray
    value: np.ndarray


class BedGraphSignal:
    """A bedGraph, kept as runs; see ``SignalFile``."""

    def __init__(self, path: Path, genome: Genome) -> None:
        self.path, self.genome = path, genome
        self._runs = _bedgraph_runs(path, genome)
        self.codes = sorted(self._runs)
        if not self.codes:
            raise FileFormatError(path, "no values", "at least one line", "check how the file was made")

    def runs(self, code: int) -> Runs:
        """The runs of one chromosome."""
        return self._runs.get(code) or Runs(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))

    def values(self, code: int, start: int, stop: int) -> np.ndarray:
        """See ``SignalFile``."""
        runs = self.runs(code)
        low, high = np.searchsorted(runs.end, start, side="right"), np.searchsorted(runs.start, stop)
        bounds = np.full(2 * (high - low) + 2, start, np.int64)
        bounds[1:-1:2], bounds[2:-1:2] = runs.start[low:high], runs.end[low:high]
        bounds[-1] = stop
        levels = np.zeros(bounds.size - 1, np.float32)
        levels[1::2] = runs.value[low:high]
        lengths: np.ndarray = np.diff(np.clip(bounds, start, stop))
        return np.repeat(levels, lengths)

    def extent(self, code: int) -> tuple[int, int]:
        """See ``SignalFile``."""
        runs = self.runs(code)
        there = np.flatnonzero(runs.value)
        return (int(runs.start[there[0]]), int(runs.end[there[-1]])) if there.size else (0, 0)

    def total(self, code: int) -> float:
        """See ``SignalFile``."""
        runs = self.runs(code)
        return float(((runs.end - runs.start) * runs.value.astype(np.float64)).sum())


def bad_values(path: Path, name: str, value: float, line: int | None = None) -> FileFormatError:
    """The error for a value that no coverage has."""
    return FileFormatError(
        path,
        f"the value {value:g} on {name}",
        "finite values from 0",
        "give a track of coverage, no ratio or logarithm",
        line=line,
    )


def code_of(path: Path, genome: Genome, name: str, size: int | None, *, has_values: bool) -> int | None:
    """The chromosome's code; None where the genome leaves it out or it has no values; ``size`` None: not known."""
    code = genome.code.get(name)
    if code is None:
        if not has_values:
            return None
        if genome.contigs == "main" and not _looks_main(name):
            logger.info("%s: %s is no main chromosome of %s and is passed over", path.name, name, genome.name)
            return None
        length = "" if size is None else f" of {size:,} bp"
        found = f"chromosome {name}{length}"
        raise FileFormatError(path, found, f"the chromosomes of genome {genome.name}", _OTHER_GENOME)
    expected = int(genome.sizes[code])
    if size is not None and size != expected:
        raise FileFormatError(
            path,
            f"chromosome {name} of {size:,} bp",
            f"{expected:,} bp as in genome {genome.name}",
            _OTHER_GENOME,
        )
    return code


def _looks_main(name: str) -> bool:
    """Whether a main genome would keep a chromosome of this name."""
    return list(Genome("", {name: 1, "chr1": 1}).select_contigs("main").names).count(name) == 1


class _Rows(NamedTuple):
    """Rows of a block of lines, and the line each came from."""

    chrom: np.ndarray  # number among ``names``
    names: list[str]
    start: np.ndarray
    end: np.ndarray
    value: np.ndarray
    line: np.ndarray


def _bedgraph_runs(path: Path, genome: Genome) -> dict[int, Runs]:
    """The checked runs of every chromosome."""
    parts: dict[int, list[Runs]] = {}
    passed_over: set[str] = set()
    done: set[str] = set()
    last, reached = "", (0, 0)  # chromosome, start and end of the row before
    n_lines = 0
    with (
        ThreadPoolExecutor(1) as pool,
        progress.bar(f"reading {path.name}", path.stat().st_size, unit="B", scale=True) as advance,
    ):
        for block in line_blocks(path, pool, advance=advance):
            text = block.tobytes()
            rows = _arrow_rows(text, n_lines) or _split_rows(path, text, n_lines)
            n_lines += text.count(b"\n")
            edges = np.flatnonzero(np.diff(rows.chrom)) + 1
            for low, high in zip([0, *edges.tolist()], [*edges.tolist(), rows.chrom.size], strict=True):
                if low == high:
                    continue
                name, some = rows.names[rows.chrom[low]], slice(low, high)
                if name != last:
                    done.add(last)
                    last, reached = name, (0, 0)
                    if name in done:
                        raise FileFormatError(
                            path, f"{name} again", "each chromosome in one place", "sort it", line=int(rows.line[low])
                        )
                reached = _check_rows(path, name, rows, some, reached)
                if name in passed_over:
                    continue
                code = code_of(path, genome, name, None, has_values=True)
                if code is None:
                    passed_over.add(name)
                    continue
                if rows.end[high - 1] > genome.sizes[code]:
                    at = low + int(np.argmax(rows.end[some] > genome.sizes[code]))
                    raise FileFormatError(
                        path,
                        f"{name}:{rows.start[at]:,}-{rows.end[at]:,}",
                        f"ends up to {genome.sizes[code]:,}, the size of {name} in genome {genome.name}",
                        _OTHER_GENOME,
                        line=int(rows.line[at]),
                    )
                start, end = (column[some].astype(np.int32) for column in (rows.start, rows.end))
                parts.setdefault(code, []).append(Runs(start, end, rows.value[some].astype(np.float32)))
    return {code: Runs(*map(np.concatenate, zip(*runs, strict=True))) for code, runs in parts.items()}


def _check_rows(path: Path, name: str, rows: _Rows, some: slice, reached: tuple[int, int]) -> tuple[int, int]:
    """Raise at the first line that is out of order or whose value is none; the last row's start and end."""
    start, end, value = rows.start[some], rows.end[some], rows.value[some]
    before_start, before_end = (np.append(r, c[:-1]) for r, c in zip(reached, (start, end), strict=True))
    bad_value = ~(np.isfinite(value) & (value >= 0) & (value < np.finfo(np.float32).max))
    bad = (start < 0) | (start >= end) | (start < before_end) | bad_value
    if bad.any():
        k = int(np.argmax(bad))
        line = int(rows.line[some][k])
        if bad_value[k]:
            raise bad_values(path, name, float(value[k]), line)
        found = f"{name}:{start[k]:,}-{end[k]:,}"
        if start[k] < 0 or start[k] >= end[k]:
            raise FileFormatError(path, found, "0 <= start < end", "correct the line", line=line)
        what = "is out of order" if start[k] < before_start[k] else "overlaps the line before"
        remedy = "sort it (sort -k1,1 -k2,2n) and give every base one value"
        raise FileFormatError(path, f"{found}, which {what}", "sorted lines without overlap", remedy, line=line)
    return int(start[-1]), int(end[-1])


def _arrow_rows(text: bytes, n_lines: int) -> _Rows | None:
    """The rows of a block as programs write it; None for anything else, errors included."""
    import pyarrow as pa
    from pyarrow import csv

    skipped = 0
    while text.startswith(_SKIPPED):
        skipped += 1
        text = text.partition(b"\n")[2]
    unusual = (b"\n#", b"\ntrack", b"\nbrowser", b"\n\n", b"\r", b"0x", b"0X", b"\t ", b" \t")
    if not text or text.startswith(b"\n") or any(word in text for word in unusual):
        return None
    names = ["chrom", "start", "end", "value"]
    types = [pa.dictionary(pa.int32(), pa.string()), pa.int64(), pa.int64(), pa.float64()]
    try:
        table = csv.read_csv(
            pa.BufferReader(text),
            read_options=csv.ReadOptions(use_threads=False, column_names=names),
            parse_options=csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(column_types=dict(zip(names, types, strict=True)), null_values=[]),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError):
        return None
    chrom = table["chrom"].unify_dictionaries().combine_chunks()
    chrom = chrom.chunk(0) if isinstance(chrom, pa.ChunkedArray) else chrom
    line = np.arange(table.num_rows) + n_lines + skipped + 1
    start, end, value = (table[name].to_numpy() for name in names[1:])
    return _Rows(chrom.indices.to_numpy(), chrom.dictionary.to_pylist(), start, end, value, line)


def _split_rows(path: Path, text: bytes, n_lines: int) -> _Rows:
    """The rows of a block, line by line; raises at the first that is none."""
    number: dict[str, int] = {}
    rows: list[tuple[int, int, int, float, int]] = []
    for i, line in enumerate(text.splitlines(), n_lines + 1):
        if not line.strip() or line.startswith(_SKIPPED):
            continue
        fields = line.split()
        try:
            if len(fields) != 4:
                raise ValueError
            name = fields[0].decode("ascii")
            rows.append((number.setdefault(name, len(number)), *_numbers(fields[1:]), i))
        except ValueError as err:
            shown = line[:60].decode("ascii", "replace")
            allowed = "four columns: chromosome, start, end, value"
            raise FileFormatError(path, repr(shown), allowed, "correct the line", line=i) from err
    columns = list(zip(*rows, strict=True)) or [()] * 5
    types = (np.int64, np.int64, np.int64, np.float64, np.int64)
    chrom, start, end, value, line_of = (np.array(c, t) for c, t in zip(columns, types, strict=True))
    return _Rows(chrom, list(number), start, end, value, line_of)


def _numbers(fields: Iterable[bytes]) -> tuple[int, int, float]:
    start, end, value = fields
    if not (start.isdigit() and end.isdigit()) or len(start) > 18 or len(end) > 18:
        raise ValueError
    return int(start), int(end), float(value)
