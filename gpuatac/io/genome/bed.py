"""BED files and other ways to name regions: to one frame with 0-based half-open coordinates."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gpuatac import check
from gpuatac.errors import FileFormatError, InputError, MissingFileError
from gpuatac.io.files.compression import is_heading, read_bytes
from gpuatac.io.genome.bed_rows import COLUMN_NAMES, checked_intervals, read_rows
from gpuatac.io.genome.regions import MAX_COORDINATE, parse_regions, refuse_beyond

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuatac.genome import Genome

logger = logging.getLogger(__name__)
_SKIPPED = (b"#", b"track", b"browser")


def read_bed(path: str | Path, *, may_be_empty: bool = False) -> pd.DataFrame:
    """Read a BED, narrowPeak or broadPeak file (plain, gzip or bgzip).

    Parameters
    ----------
    path
        Rows of at least three columns, split at tabs (at commas or runs of spaces when the first row has no tab), quoted or
        not. Blank lines and those that start with ``#`` are skipped, and so are ``track`` and ``browser`` lines. A header
        row that names chrom, start and end (or seqnames, chromStart, ...) says which columns these are; row names, as R
        writes them, are passed over. Where it also names a ``width`` that is end - start + 1 in every row, as in tables of
        GRanges, starts are 1-based and are converted.
    may_be_empty
        Whether a file without rows is one of no regions.

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
    text = read_bytes(path, may_be_empty=may_be_empty)
    plain = _plain_table(text)
    frame = _read_lines(path, text, may_be_empty=may_be_empty) if plain is None else plain
    frame.attrs["source"] = str(path.resolve())  # provenance tells its name
    return frame


def _plain_table(text: bytes) -> pd.DataFrame | None:
    """What ``_read_lines`` makes of a table as programs write it, by Arrow; None for anything else, errors included.

    Such a table is printable ASCII, rows of one width split at tabs; what is skipped stands above its first row.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    body = _plain_body(text)
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


def _plain_body(text: bytes) -> bytes:
    """The rows of a plain table without what stands above them; nothing where the text is none."""
    codes = np.frombuffer(text, np.uint8)
    if np.count_nonzero((codes < 0x20) | (codes > 0x7E)) != text.count(b"\t") + text.count(b"\n"):
        return b""
    begin, first = 0, b""
    while begin < len(text):
        stop = text.find(b"\n", begin)
        stop = len(text) if stop < 0 else stop
        first = text[begin:stop]
        if first.strip() and not first.startswith(b"#") and not is_heading(first):
            break
        begin, first = stop + 1, b""
    body = text[begin:]
    # Arrow reads 0x1f as a number; a comment further down may have the width of a row
    if any(word in body for word in (b"0x", b"0X", b'"', *(b"\n" + word for word in _SKIPPED))):
        return b""
    header = [field.strip().lower() for field in first.split(b"\t")]
    if header[1:3] in ([b"start", b"end"], [b"chromstart", b"chromend"]):
        further = (b"name", b"score", b"strand")
        if b"width" in header or any(f in header and header.index(f) != 3 + k for k, f in enumerate(further)):
            return b""
        body = body[len(first) + 1 :]
    return body


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


def _read_lines(path: Path, text: bytes, *, may_be_empty: bool = False) -> pd.DataFrame:
    """``read_bed`` line by line: every kind of row, and errors with their line."""
    rows = read_rows(path, text)
    if not rows.chrom and not may_be_empty:
        raise FileFormatError(path, "no regions", "at least one row of chrom, start, end", "check the file")
    start, end = checked_intervals(path, rows.numbers, rows.start, rows.end, base=rows.base)
    frame = pd.DataFrame({"chrom": _text(rows.chrom), "start": start, "end": end})
    if rows.name is not None:
        frame["name"] = _text(rows.name)
    if rows.score is not None:
        frame["score"] = [_number(v) for v in rows.score]
    if rows.strand is not None:
        frame["strand"] = [s if s in ("+", "-") else "." for s in _text(rows.strand)]
    return frame


def _text(column: Sequence[bytes]) -> list[str]:
    return [v.decode(errors="replace").strip() for v in column]


def _number(value: bytes | str) -> float:
    try:
        return float(value)
    except ValueError:
        return float("nan")


def regions_frame(
    regions: Any, genome: Genome | None = None, *, beyond: bool = False, may_be_empty: bool = False
) -> pd.DataFrame:
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
        also name contigs (``"chr1"``, ``"chr1:100-"``), and a name that ends behind the end of its contig is refused. Rows
        of files and of frames are not held against it.
    beyond
        Names may end behind the end of their contig, as those of other programs' peaks do.
    may_be_empty
        Whether no regions are regions, too, as of a blacklist.

    Returns
    -------
    DataFrame with a fresh index: ``chrom`` (str), ``start``, ``end`` (int64, bp); ``name``, ``score`` and
    ``strand`` where the source has them.

    Raises
    ------
    InputError
        When there are no regions, a column is missing, or a row or name is no region (the first is named), or a name ends
        behind the end of its contig.
    MissingFileError
        When a path does not exist.

    Source: BED coordinates as in UCSC's format page. Cost: linear in the number of regions.

    Examples
    --------
    >>> from gpuatac.io.genome.bed import regions_frame
    >>> regions_frame(["chr2:5-9", "chr1_100_200"]).values.tolist()
    [['chr2', 5, 9], ['chr1', 100, 200]]
    """
    if isinstance(regions, str) and not regions.strip():
        msg = f"regions is an empty text ({regions!r}); allowed: a BED file, a frame or a list of names; correct it or leave it out."
        raise InputError(msg)
    if isinstance(regions, (str, Path)):
        if not Path(regions).exists():
            hint = (
                f"; for one region pass [{str(regions)!r}]" if parse_regions([str(regions)], genome) is not None else ""
            )
            msg = f"regions {regions} does not exist; check the path{hint}."
            raise MissingFileError(msg)
        return read_bed(regions, may_be_empty=may_be_empty)
    if hasattr(regions, "to_pandas"):
        regions = regions.to_pandas()
    if isinstance(regions, pd.DataFrame):
        return _from_frame(regions, may_be_empty=may_be_empty)
    names = check.several("regions", regions, what="a BED file, a frame, a region such as chr1:100-200,")
    if may_be_empty and not names:
        return pd.DataFrame({"chrom": np.empty(0, object), "start": np.empty(0, np.int64), "end": np.empty(0, np.int64)})
    frame = parse_regions(names, genome)
    if frame is None:
        wrong = next((n for n in names if parse_regions([n], genome) is None), None)
        found = "an empty list" if wrong is None else repr(wrong)
        msg = f"regions must be names like chr1:100-200 with start <= end, got {found}; correct it or pass a BED file."
        raise InputError(msg)
    if genome is not None and not beyond:
        refuse_beyond(frame, genome)
    return frame


def _one_less(start: np.ndarray) -> np.ndarray:
    """0-based starts of 1-based ones."""
    logger.info("regions: widths are end - start + 1, so starts are 1-based; 1 is taken from each")
    check.none_true(start < 1, "regions with 1-based starts begin below 1", "correct the regions")
    return start - 1


def _from_frame(regions: pd.DataFrame, *, may_be_empty: bool) -> pd.DataFrame:
    lower = {str(c).lower(): c for c in reversed(list(regions.columns))}
    taken = {key: next((lower[a] for a in names if a in lower), None) for key, names in COLUMN_NAMES.items()}
    missing = [key for key, column in taken.items() if column is None]
    if missing:
        have = ", ".join(map(repr, regions.columns))
        msg = f"regions has no column {' or '.join(missing)} (it has {have}); rename its columns to chrom, start, end."
        raise InputError(msg)
    if not len(regions) and not may_be_empty:
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
    if len(regions) and "width" in lower:
        width = pd.to_numeric(regions[lower["width"]].astype(object), errors="coerce").to_numpy(np.float64)
        if (width == coordinates["end"] - coordinates["start"] + 1).all():
            coordinates["start"] = _one_less(coordinates["start"])
    frame = pd.DataFrame({"chrom": chrom.astype(str).to_numpy(object), **coordinates})
    frame.attrs = dict(regions.attrs)
    for key in ("name", "score", "strand"):
        if key in lower:
            frame[key] = regions[lower[key]].to_numpy()
    return frame
