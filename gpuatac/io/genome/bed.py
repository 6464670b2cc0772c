"""BED files and other ways to name regions: to one frame with 0-based half-open coordinates."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gpuatac import check
from gpuatac.errors import FileFormatError, InputError, MissingFileError
from gpuatac.io.files import compression
from gpuatac.io.genome.regions import MAX_COORDINATE, parse_regions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuatac.genome import Genome

_SKIPPED = (b"#", b"track", b"browser")
_COLUMN_NAMES = {
    "chrom": ("chrom", "chr", "chromosome", "seqnames", "seqname"),
    "start": ("start", "chromstart", "chrom_start"),
    "end": ("end", "chromend", "chrom_end", "stop"),
}


def read_bytes(path: str | Path) -> bytes:
    """The whole decompressed text of a plain, gzip or BGZF file.

    Raises :class:`FileFormatError` with the byte offset where the compression is broken.
    """
    with ThreadPoolExecutor(2) as pool:
        return b"".join(block.tobytes() for block in compression.line_blocks(Path(path), pool))


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


def read_bed(path: str | Path) -> pd.DataFrame:
    """Read a BED, narrowPeak or broadPeak file (plain, gzip or bgzip).

    Parameters
    ----------
    path
        Rows of at least three columns, split at tabs (at runs of spaces when the first row has no tab). Blank
        lines and those that start with ``#``, ``track`` or ``browser`` are skipped, and so is a header row
        whose second and third fields are ``start`` and ``end``.

    Returns
    -------
    DataFrame in file order, duplicates kept: ``chrom`` (str), ``start``, ``end`` (int64, bp, 0-based
    half-open), and as far as every row has them ``name`` (str), ``score`` (float64, NaN where it is no
    number) and ``strand`` ("+", "-" or "."). Further columns are not read.

    Raises
    ------
    FileFormatError
        With the line number: fewer than three columns, coordinates that are no whole numbers, start > end.

    Source: UCSC, "BED format". Cost: about 0.2 s per million rows as programs write
    them, 5 s where rows differ in width or are split at spaces.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> bed = pathlib.Path(tempfile.mkdtemp()) / "a.bed"
    >>> _ = bed.write_text("track name=x\\nchr1\\t100\\t200\\tfirst\\nchr2\\t5\\t9\\tsecond\\n")
    >>> from gpuatac.io.genome.bed import read_bed
    >>> read_bed(bed).values.tolist()
    [['chr1', 100, 200, 'first'], ['chr2', 5, 9, 'second']]
    """
    path = Path(path)
    text = read_bytes(path)
    plain = _plain_table(text)
    frame = _read_lines(path, text) if plain is None else plain
    frame.attrs["source"] = str(path.resolve())  # provenance tells its name
    return frame


def _plain_table(text: bytes) -> pd.DataFrame | None:
    """What ``_read_lines`` makes of a table as programs write it, by Arrow; None for anything else, errors included.

    Such a table is printable ASCII, rows of one width split at tabs; what is skipped stands above its first row.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    codes = np.frombuffer(text, np.uint8)
    if np.count_nonzero((codes < 0x20) | (codes > 0x7E)) != text.count(b"\t") + text.count(b"\n"):
        return None
    begin, first = 0, b""
    while begin < len(text):
        stop = text.find(b"\n", begin)
        stop = len(text) if stop < 0 else stop
        first = text[begin:stop]
        if first.strip() and not first.startswith(_SKIPPED):
            break
        begin, first = stop + 1, b""
    body = text[begin:]
    # Arrow reads 0x1f as a number; a comment further down may have the width of a row
    if any(word in body for word in (b"0x", b"0X", *(b"\n" + word for word in _SKIPPED))):
        return None
    if _is_header(first.split(b"\t")):
        body = body[len(first) + 1 :]
    width = body.partition(b"\n")[0].count(b"\t") + 1
    if width < 3:
        return None
    names = [f"f{i}" for i in range(min(width, 6))]
    try:
        table = csv.read_csv(
            pa.BufferReader(body),
            read_options=csv.ReadOptions(use_threads=False, autogenerate_column_names=True),
            parse_options=csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(
                include_columns=names,
                column_types={name: pa.int64() if name in ("f1", "f2") else pa.string() for name in names},
                null_values=[],
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError):
        return None
    start, end = table["f1"].to_numpy(), table["f2"].to_numpy()
    if not start.size or (start < 0).any() or (start > end).any() or (end > MAX_COORDINATE).any():
        return None
    frame: dict[str, Any] = {"chrom": _strings(table["f0"]), "start": start, "end": end}
    if width > 3:
        frame["name"] = _strings(table["f3"])
    if width > 4:
        frame["score"] = _numbers(table["f4"])
    if width > 5:
        strand = pc.utf8_trim_whitespace(table["f5"])
        frame["strand"] = _strings(pc.if_else(pc.is_in(strand, pa.array(["+", "-"])), strand, "."))
    return pd.DataFrame(frame)


def _strings(column: Any) -> np.ndarray:
    """An Arrow column as str objects without white space around them, one for each distinct value."""
    import pyarrow.compute as pc

    encoded = pc.utf8_trim_whitespace(column).combine_chunks().dictionary_encode()
    distinct = encoded.dictionary.to_numpy(zero_copy_only=False).astype(object)
    strings: np.ndarray = distinct[encoded.indices.to_numpy()]
    return strings


def _numbers(column: Any) -> np.ndarray:
    """float64, NaN where a value is no number."""
    import pyarrow as pa

    try:
        numbers: np.ndarray = column.cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        return np.array([_number(v) for v in column.to_pylist()])
    return numbers


def _is_header(fields: Sequence[bytes]) -> bool:
    return [f.strip().lower() for f in fields[1:3]] in ([b"start", b"end"], [b"chromstart", b"chromend"])


def _read_lines(path: Path, text: bytes) -> pd.DataFrame:
    """``read_bed`` line by line: every kind of row, and errors with their line."""
    rows = [(n, line) for n, line in numbered_lines(text) if not line.startswith(_SKIPPED)]
    separator = b"\t" if rows and b"\t" in rows[0][1] else None
    fields = [line.split(separator) for _, line in rows]
    numbers = [n for n, _ in rows]
    if fields and _is_header(fields[0]):
        fields, numbers = fields[1:], numbers[1:]
    if not fields:
        raise FileFormatError(path, "no regions", "at least one row of chrom, start, end", "check the file")
    width = min(map(len, fields))
    if width < 3:
        at = next(i for i, f in enumerate(fields) if len(f) < 3)
        found = f"{len(fields[at])} column(s)"
        allowed = "at least chrom, start and end, split at tabs"
        raise FileFormatError(path, found, allowed, "correct or remove the line", line=numbers[at])
    columns = list(zip(*(f[: min(width, 6)] for f in fields), strict=True))
    start, end = checked_intervals(path, numbers, columns[1], columns[2])
    frame = pd.DataFrame({"chrom": _text(columns[0]), "start": start, "end": end})
    if width > 3:
        frame["name"] = _text(columns[3])
    if width > 4:
        frame["score"] = [_number(v) for v in columns[4]]
    if width > 5:
        frame["strand"] = [s if s in ("+", "-") else "." for s in _text(columns[5])]
    return frame


def _text(column: Sequence[bytes]) -> list[str]:
    return [v.decode(errors="replace").strip() for v in column]


def _number(value: bytes | str) -> float:
    try:
        return float(value)
    except ValueError:
        return float("nan")


def regions_frame(regions: Any, genome: Genome | None = None) -> pd.DataFrame:
    """Turn any way to name regions into one frame; order and duplicates are kept.

    Parameters
    ----------
    regions
        Path of a BED or narrowPeak file; a pandas frame with columns chrom, start, end (or chr, seqnames,
        Chromosome, ...; 0-based half-open) or any object that gives one by ``to_pandas()``, as polars frames
        do; or a list, array or Index of names like ``"chr1:100-200"``, ``"chr1-100-200"`` or
        ``"chr1_100_200"``, 0-based half-open, too.
    genome
        Whose contigs the names are held against, see :func:`gpuatac.io.genome.regions.parse_region`; a list may then
        also name contigs (``"chr1"``, ``"chr1:100-"``).

    Returns
    -------
    DataFrame with a fresh index: ``chrom`` (str), ``start``, ``end`` (int64, bp); ``name``, ``score`` and
    ``strand`` where the source has them.

    Raises
    ------
    InputError
        When there are no regions, a column is missing, or a row or name is no region (the first is named).
    MissingFileError
        When a path does not exist.

    Source: BED coordinates as in UCSC's format page. Cost: linear in the number of regions.

    Examples
    --------
    >>> from gpuatac.io.genome.bed import regions_frame
    >>> regions_frame(["chr2:5-9", "chr1_100_200"]).values.tolist()
    [['chr2', 5, 9], ['chr1', 100, 200]]
    """
    if isinstance(regions, (str, Path)):
        if not Path(regions).exists():
            hint = f"; for one region pass [{str(regions)!r}]" if parse_regions([str(regions)], genome) is not None else ""
            msg = f"regions {regions} does not exist; check the path{hint}."
            raise MissingFileError(msg)
        return read_bed(regions)
    if hasattr(regions, "to_pandas"):
        regions = regions.to_pandas()
    if isinstance(regions, pd.DataFrame):
        return _from_frame(regions)
    if not isinstance(regions, Iterable):
        msg = (
            f"regions must be a BED file, a frame, or a list of names like chr1:100-200, got {regions!r} ({type(regions).__name__}); "
            "pass one of them."
        )
        raise InputError(msg)
    names = list(regions)
    frame = parse_regions(names, genome)
    if frame is None:
        wrong = next((n for n in names if parse_regions([n], genome) is None), None)
        found = "an empty list" if wrong is None else repr(wrong)
        msg = f"regions must be names like chr1:100-200 with start <= end, got {found}; correct it or pass a BED file."
        raise InputError(msg)
    return frame


def _from_frame(regions: pd.DataFrame) -> pd.DataFrame:
    lower = {str(c).lower(): c for c in reversed(list(regions.columns))}
    taken = {key: next((lower[a] for a in names if a in lower), None) for key, names in _COLUMN_NAMES.items()}
    missing = [key for key, column in taken.items() if column is None]
    if missing:
        have = ", ".join(map(repr, regions.columns))
        msg = f"regions has no column {' or '.join(missing)} (it has {have}); rename its columns to chrom, start, end."
        raise InputError(msg)
    if not len(regions):
        msg = "regions has no rows; give at least one region."
        raise InputError(msg)
    coordinates = {}
    for key in ("start", "end"):
        values = regions[taken[key]]
        numbers = pd.to_numeric(values.astype(object), errors="coerce").to_numpy(np.float64)
        bad = ~(np.isfinite(numbers) & (numbers == np.floor(numbers)) & (numbers >= 0) & (numbers <= MAX_COORDINATE))
        allowed = f"are no whole numbers in [0, {MAX_COORDINATE}]"
        check.none_true(bad, f"values of {taken[key]} {allowed}", "correct the regions")
        coordinates[key] = numbers.astype(np.int64)
    check.none_true(coordinates["start"] > coordinates["end"], "regions have start > end", "correct the regions")
    chrom = regions[taken["chrom"]]
    check.none_true(chrom.isna().to_numpy(), "regions have no chromosome", "correct the regions")
    frame = pd.DataFrame({"chrom": chrom.astype(str).to_numpy(object), **coordinates})
    for key in ("name", "score", "strand"):
        if key in lower:
            frame[key] = regions[lower[key]].to_numpy()
    return frame
