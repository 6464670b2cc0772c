"""Small delimited tables as R, Excel, pandas and shells write them: separator, quotes, row names and header are found."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuatac.errors import FileFormatError
from gpuatac.io.files.compression import read_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

MISSING = frozenset(("", "NA", "N/A", "nan", "NaN", "<NA>"))
_LOOKED_AT = 50  # rows that decide how the table is separated
_QUOTED = re.compile(r' *"((?:""|\\"|[^"])*)" *')
_BASES = re.compile(r"[ACGTN]{8,}")
_SPACE = re.compile(r"[ \t]+")


@dataclass(frozen=True)
class Table:
    """Rows of text; a field is None where it is empty or says, without quotes, that it is not available (``MISSING``)."""

    path: Path
    columns: list[str] | None  # None without a header
    rows: list[list[str | None]]  # of one width, that of the columns
    numbers: list[int]  # 1-based lines of the rows
    separator: str  # "" where there is one column


def split_fields(line: str, separator: str, missing: Collection[str] = ()) -> list[str | None]:
    """The fields of one line, white space around them taken off; None for one of ``missing`` without quotes.

    ``separator`` is one character, " " for any run of blanks, or "" for a single field. Quotes are those around a whole
    field, doubled or after a backslash inside; any other quote is a letter like others, and a line always ends a row.

    Examples
    --------
    >>> from gpuatac.io.tables.delimited import split_fields
    >>> split_fields('"a,b",5\\' UTR,c "d" e', ",")
    ['a,b', "5' UTR", 'c "d" e']
    """
    if '"' not in line:
        parts = [line] if not separator else _SPACE.split(line.strip()) if separator == " " else line.split(separator)
        return [None if (text := part.strip()) in missing else text for part in parts]
    fields: list[str | None] = []
    at, n = 0, len(line)
    while at <= n:
        if separator == " ":
            while at < n and line[at] in " \t":
                at += 1
            if at == n and fields:
                break
        quoted = _QUOTED.match(line, at)
        stop = quoted.end() if quoted is not None else at
        ends = quoted is not None and (
            stop == n or (line[stop] == separator if separator != " " else line[stop] == "\t" or line[stop - 1] == " ")
        )
        if quoted is not None and ends:
            fields.append(re.sub(r'""|\\"', '"', quoted[1]))
        else:
            stop = _end_of_field(line, separator, at)
            text = line[at:stop].strip()
            fields.append(None if text in missing else text)
        at = stop if separator == " " and stop < n else stop + 1
    return fields


def _end_of_field(line: str, separator: str, at: int) -> int:
    if separator == " ":
        blank = _SPACE.search(line, at)
        return blank.start() if blank is not None else len(line)
    stop = line.find(separator, at) if separator else -1
    return len(line) if stop < 0 else stop


def decoded_lines(path: Path, text: bytes, allowed: str) -> list[tuple[int, str]]:
    """(1-based number, line without its end) of the lines that are not blank; bytes that are no UTF-8 raise with their line."""
    try:
        words = text.decode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        found = f"bytes that are no UTF-8 text ({text[error.start : error.start + 1]!r})"
        raise FileFormatError(path, found, allowed, "save it as text in UTF-8", line=line) from None
    if "\0" in words:
        line = words.count("\n", 0, words.index("\0")) + 1
        raise FileFormatError(path, "a zero byte", allowed, "give a text file", line=line)
    if "\r" in words:
        words = words.replace("\r\n", "\n").replace("\r", "\n")
    return [(n, line) for n, line in enumerate(words.split("\n"), 1) if line.strip()]


def read_table(
    path: Path, *, is_header: Callable[[list[str]], bool], allowed: str, remedy: str, one_column: bool = False
) -> Table:
    """Read a table, plain or gzip, in UTF-8 with or without byte order mark, of any line ends.

    Parameters
    ----------
    path
        Columns are split at tabs, else at commas, semicolons or blanks. Lines that begin with ``#`` are comments; the last
        one before the first row is the header where it looks like one.
    is_header
        Whether the fields of the first line name columns. A first line with one field less than the second names them
        too, as R writes tables with row names: these get a first column named "".
    allowed, remedy
        What a table is and what to do, for messages.
    one_column
        Whether a table of one column is one.

    Raises
    ------
    FileFormatError
        No UTF-8 text, no rows, a row with more fields than the first (with its line), or one column.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "t.txt"
    >>> _ = path.write_text('"type"\\n"AAAC-1" "T cell"\\n"AAAG-1" NA\\n')
    >>> table = read_table(path, is_header=lambda names: False, allowed="a table", remedy="check it")
    >>> table.columns, table.rows
    (['', 'type'], [['AAAC-1', 'T cell'], ['AAAG-1', None]])
    """
    text = read_bytes(path, may_be_empty=True)
    if not text:
        raise FileFormatError(path, "an empty file", allowed, remedy)
    lines = decoded_lines(path, text, allowed)
    rows = [(n, line) for n, line in lines if not line.startswith("#")]
    before = [line for n, line in lines if line.startswith("#") and (not rows or n < rows[0][0])]
    if not rows:
        raise FileFormatError(path, "no row, comments alone", allowed, remedy)
    separator = _separator([line for _, line in rows[:_LOOKED_AT]])
    if not separator and not one_column:
        where = "separate the columns by a tab"
        raise FileFormatError(path, "one column", allowed, where, line=rows[0][0])
    numbers = [n for n, _ in rows]
    fields = [split_fields(line, separator, MISSING) for _, line in rows]
    columns: list[str] | None = None
    first = [name or "" for name in split_fields(rows[0][1], separator)]
    if is_header(first) or _names_of_r(first, fields[1:]):
        columns, fields, numbers = first, fields[1:], numbers[1:]
    elif before and separator:
        commented = [name or "" for name in split_fields(before[-1].lstrip("#").strip(), separator)]
        columns = commented if is_header(commented) and len(commented) == len(first) else None
    if columns is not None and fields and len(fields[0]) == len(columns) + 1:
        columns = ["", *columns]
    width = len(columns) if columns is not None else len(fields[0])
    for number, row in zip(numbers, fields, strict=True):
        if len(row) > width or (len(row) < width and separator == " "):
            found = f"{len(row)} columns where the first line has {width}"
            how = "separate the columns by tabs, and put quotes around a text that holds the separator"
            raise FileFormatError(path, found, allowed, how, line=number)
        row.extend([None] * (width - len(row)))
    return Table(path, columns, fields, numbers, separator)


def _names_of_r(first: list[str], rows: list[list[str | None]]) -> bool:
    """Whether the first line names the columns of rows that begin with a name, as R writes them."""
    return bool(rows) and not looks_like_barcode(first[0]) and all(len(row) == len(first) + 1 for row in rows)


def looks_like_barcode(text: str) -> bool:
    """Whether the text has a run of eight bases or more, as barcodes have."""
    return _BASES.search(text) is not None


def _separator(lines: list[str]) -> str:
    """What splits the rows; "" where nothing does."""
    if any("\t" in line.strip() for line in lines):
        return "\t"
    rows = lines[1:] or lines  # a header may have one field less
    for separator in (",", ";", " "):
        if all(len(split_fields(line, separator)) > 1 for line in rows):
            return separator
    for separator in (",", ";"):
        if sum(separator in line for line in rows) * 2 > len(rows):
            return separator
    return ""
