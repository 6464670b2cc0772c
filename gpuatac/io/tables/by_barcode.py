"""Tables of cells by barcode: groups, replicates, known types."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from gpuatac import check
from gpuatac.errors import FileFormatError, InputError
from gpuatac.io.tables.barcode_lists import HEADER_BARCODE, NAMED_BARCODE, barcode_column
from gpuatac.io.tables.delimited import looks_like_barcode, read_table

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path


class ByBarcode(NamedTuple):
    """Text columns by barcode, NaN where a field is missing, and the line of each row."""

    frame: pd.DataFrame
    lines: list[int]


def read_by_barcode(
    path: Path, *, role: str, allowed: str, remedy: str, named: Collection[str] = (), repeated: str = ""
) -> ByBarcode:
    """Read a table of cells as :func:`gpuatac.io.tables.delimited.read_table` does; barcodes are in the column called so, else
    in the first.

    Parameters
    ----------
    path, role, allowed, remedy
        The file, what it is called, what it has to be and what to do, for messages.
    named
        Names of other columns, in lower case, that show that the first line is a header.
    repeated
        What to do about a barcode that stands there twice.

    Raises
    ------
    FileFormatError
        An empty barcode or one that stands there twice, with its line; no row.
    """
    check.existing_file(path, role)
    if path.is_dir():
        msg = f"{role} {path} is a folder; allowed: {allowed}; pass the file's path."
        raise InputError(msg)

    def is_header(names: list[str]) -> bool:
        if looks_like_barcode(names[0]):
            return False
        lower = [name.lower() for name in names]
        known = lower[0] in HEADER_BARCODE or any(name in named for name in lower)
        return known or any(name in NAMED_BARCODE for name in lower)

    table = read_table(path, is_header=is_header, allowed=allowed, remedy=remedy)
    if not table.rows:
        raise FileFormatError(path, "no cell below the header", allowed, remedy)
    at = barcode_column(table)
    columns = table.columns or ["barcode", "group", *(f"column_{k}" for k in range(3, len(table.rows[0]) + 1))]
    names = [name or f"column_{k}" for k, name in enumerate(columns, 1)]
    repeated_names = [name for k, name in enumerate(names) if name in names[:k]]
    if repeated_names:
        found = f"two columns called {repeated_names[0]!r}"
        raise FileFormatError(path, found, allowed, "give each its own name", line=table.numbers[0] - 1)
    barcodes = [row[at] for row in table.rows]
    first: dict[str, int] = {}
    for name, line in zip(barcodes, table.numbers, strict=True):
        if name is None:
            raise FileFormatError(path, "an empty barcode", allowed, "fill it in or remove the line", line=line)
        if name in first:
            how = repeated or "remove the line"
            raise FileFormatError(path, f"barcode {name!r} a second time", allowed, how, line=line)
        first[name] = line
    kept = [k for k in range(len(names)) if k != at and not (k == 0 and table.columns is not None and not columns[0])]
    data = {names[k]: np.array([np.nan if row[k] is None else row[k] for row in table.rows], object) for k in kept}
    return ByBarcode(pd.DataFrame(data, index=pd.Index(np.array(barcodes, object))), table.numbers)
