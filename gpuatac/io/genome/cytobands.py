"""Bands of chromosomes as UCSC gives them (cytoBand.txt)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from gpuatac.errors import FileFormatError
from gpuatac.io.files.compression import read_bytes
from gpuatac.io.genome.bed_rows import checked_intervals, numbered_lines

COLUMNS = ("chrom", "start", "end", "name", "stain")


def read_cytobands(path: str | Path) -> pd.DataFrame:
    """Read a cytoBand file, plain or gzip: chrom, start, end (0-based half-open), name and stain, split at tabs.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from gpuatac.io.genome.cytobands import read_cytobands
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "cytoBand.txt"
    >>> _ = path.write_text("chr1\\t0\\t2300000\\tp36.33\\tgneg\\n")
    >>> read_cytobands(path).values.tolist()
    [['chr1', 0, 2300000, 'p36.33', 'gneg']]
    """
    path = Path(path)
    lines = numbered_lines(read_bytes(path))
    rows = [(n, line.rstrip(b"\r\n").split(b"\t")) for n, line in lines]
    if rows and len(rows[0][1]) > 2 and rows[0][1][1].lower() in (b"start", b"chromstart"):
        rows = rows[1:]
    allowed, remedy = "chrom, start, end, name and stain, split at tabs", "give UCSC's cytoBand.txt"
    if not rows:
        raise FileFormatError(path, "no bands", allowed, remedy)
    for number, fields in rows:
        if len(fields) < len(COLUMNS):
            raise FileFormatError(path, f"{len(fields)} column(s)", allowed, remedy, line=number)
    columns = list(zip(*(fields[:5] for _, fields in rows), strict=True))
    start, end = checked_intervals(path, [n for n, _ in rows], columns[1], columns[2])
    text = [[field.decode(errors="replace").strip() for field in columns[k]] for k in (0, 3, 4)]
    return pd.DataFrame(dict(zip(COLUMNS, (text[0], start, end, text[1], text[2]), strict=True)))
