"""Fragments as a data frame and back: pandas on a CPU, cuDF on a GPU, and Parquet files of such frames.

What is shared and what is copied on a GPU is said by ``to_frame`` and ``from_frame``; nothing but names of barcodes and chromosomes,
and counts of what was left out, crosses between host and device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac.backend import backend_of, get, resolve
from gpuatac.errors import FileFormatError, InputError
from gpuatac.fragments import DROP_REASONS, Fragments, ReadSummary
from gpuatac.io.fragments.text import note

if TYPE_CHECKING:
    from pathlib import Path

    from gpuatac.backend import Device
    from gpuatac.backend.protocol import Backend
    from gpuatac.genome import Genome

NEEDED = ("chrom", "start", "end", "barcode")
ALLOWED = "columns chrom, start, end, barcode and, where there are any, count and strand"
MOST = 2**31 - 1  # a coordinate, a count; rows of a cuDF column
STRANDS = {"+": 1, "-": -1, ".": 0, "1": 1, "-1": -1, "0": 0}
_MAGIC = b"PAR1"


def to_frame(fragments: Fragments) -> Any:
    """The fragments as a table: pandas on a CPU, cuDF on a GPU.

    On a GPU nothing but the names crosses from the host. ``start``, ``end``, ``count`` and ``strand`` are the columns of
    ``fragments`` themselves: frame and fragments share their memory, so copy the frame (``frame.copy()``) before you
    write into it. ``barcode`` shares the codes where there are more than 65,535 barcodes; with fewer, cuDF wants them in 1 or
    2 bytes, and they are narrowed on the device. ``chrom`` is made new, 1 or 2 bytes a row. Not a row is sorted or encoded again.

    Parameters
    ----------
    fragments
        What to show, from any device.

    Returns
    -------
    DataFrame
        ``chrom`` and ``barcode`` (categorical), ``start``, ``end``, ``count`` (int32) and, where the source had it,
        ``strand`` (int8), in the order of ``fragments``.

    Raises
    ------
    InputError
        When fragments on a GPU have more rows than a cuDF column can (2,147,483,647).

    Examples
    --------
    >>> import gpuatac as ga, pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "f.tsv"
    >>> _ = file.write_text("chr1\\t100\\t300\\tAAAC-1\\t2\\n")
    >>> fragments = ga.io.read_fragments(file, ga.Genome.builtin("hg38"), device="cpu")
    >>> ga.io.to_frame(fragments).values.tolist()
    [['chr1', 100, 300, 'AAAC-1', 2]]
    """
    bk = backend_of(fragments.start)
    if bk.name == "gpu" and len(fragments) > MOST:
        msg = (
            f"{len(fragments):,} fragments are more than the {MOST:,} rows of a cuDF column; write them with io.write_fragments and "
            "read the data set chromosome by chromosome."
        )
        raise InputError(msg)
    names = list(fragments.genome.names)
    chrom = bk.xp.empty(len(fragments), np.uint8 if len(names) <= np.iinfo(np.uint8).max else np.uint16)
    for code, rows in fragments.chromosomes():
        chrom[rows] = code
    columns = {
        "chrom": bk.categorical(chrom, names),
        "start": fragments.start,
        "end": fragments.end,
        "barcode": bk.categorical(fragments.cell, fragments.barcodes.tolist()),
        "count": fragments.count,
    }
    if fragments.strand is not None:
        columns["strand"] = fragments.strand
    return bk.frame(columns)


def from_frame(frame: Any, genome: Genome, *, device: Device = "auto") -> Fragments:
    """Take the fragments in a data frame.

    Rows may come in any order; they are checked, counted and left out as those of a fragment file are (``read_fragments``),
    and sorted. A cuDF frame is taken on the GPU: its numbers are read where they lie, and text is encoded there; a
    categorical column is taken by its codes.

    Parameters
    ----------
    frame
        A cuDF or pandas frame, or any object that gives one by ``to_pandas()``, as polars frames do. Columns ``chrom`` and ``barcode``
        (text or categorical), ``start`` and ``end`` (whole numbers, 0-based half-open) and, where there are any, ``count``
        (from 1; 1 where the column is absent) and ``strand`` ("+", "-", "." or 1, -1, 0). Others are left alone.
    genome
        Chromosome sizes. ``1`` and ``chr1`` are taken as the same chromosome.
    device
        Where the columns shall lie: "cpu", "gpu" or "auto", which leaves a cuDF frame on its GPU.

    Returns
    -------
    Fragments
        New columns; ``summary`` accounts for every row.

    Raises
    ------
    InputError
        When a column is absent, holds missing values or something that it must not.

    Notes
    -----
    Cost: one sort. On a GPU 110 bytes a row at most beside the frame, the result being 16 of them.

    Examples
    --------
    >>> import gpuatac as ga, pandas as pd
    >>> frame = pd.DataFrame({"chrom": ["2", "1"], "start": [5, 9], "end": [60, 99], "barcode": ["AAAC-1", "AAAG-1"]})
    >>> fragments = ga.io.from_frame(frame, ga.Genome("tiny", {"chr1": 500, "chr2": 400}), device="cpu")
    >>> ga.io.to_frame(fragments).values.tolist()
    [['chr1', 9, 99, 'AAAG-1', 1], ['chr2', 5, 60, 'AAAC-1', 1]]
    """
    if _is_cudf(frame) and device == "auto":
        device = "gpu"
    return _taken(frame, genome, resolve(device), source="a data frame", compression="")


def is_parquet(path: Path) -> bool:
    """Whether ``path`` is a Parquet file, or a folder of them."""
    file = next(iter(sorted(path.rglob("*.parquet"))), None) if path.is_dir() else path
    if file is None or not file.is_file():
        return False
    with file.open("rb") as handle:
        return handle.read(len(_MAGIC)) == _MAGIC


def read_parquet(path: Path, genome: Genome, bk: Backend) -> Fragments:
    """The fragments in a Parquet file that has the columns of ``to_frame``, whoever wrote it, or in a folder split by a column."""
    import pyarrow as pa

    try:
        frame = bk.read_parquet(path)
    except (pa.ArrowException, OSError, RuntimeError, ValueError) as error:
        found = f"damaged data ({type(error).__name__}: {str(error)[:120]})"
        raise FileFormatError(path, found, f"Parquet with the {ALLOWED}", "write the file again") from error
    try:
        return _taken(frame, genome, bk, source=path.name, compression="parquet")
    except InputError as error:
        msg = f"{path}: {error}"
        raise InputError(msg) from error


def _is_cudf(frame: Any) -> bool:
    return type(frame).__module__.partition(".")[0] == "cudf"


def _taken(frame: Any, genome: Genome, bk: Backend, *, source: str, compression: str) -> Fragments:
    """Read the columns where the frame lies, and sort them on ``bk``."""
    import pandas as pd

    if not (_is_cudf(frame) and bk.name == "gpu") and not isinstance(frame, pd.DataFrame):
        if not hasattr(frame, "to_pandas"):
            msg = f"frame is a {type(frame).__name__}; pass a cuDF or pandas frame, or an object that has to_pandas()."
            raise InputError(msg)
        frame = frame.to_pandas()
    home = get("gpu") if _is_cudf(frame) else get("cpu")
    absent = [name for name in NEEDED if name not in frame.columns]
    if absent:
        found = ", ".join(map(repr, frame.columns)) or "none"
        msg = f"the frame lacks {', '.join(map(repr, absent))} (its columns: {found}); give it {ALLOWED}: rename(columns={{...}})."
        raise InputError(msg)
    columns = Columns(frame, home)
    summary = ReadSummary(source=source, lines=len(frame), compression=compression)
    summary.n_columns = len(NEEDED) + ("count" in frame.columns) + ("strand" in frame.columns)
    chrom, start, end, barcode, count, strand = columns.read(genome, summary)
    barcodes, cell = columns.number(barcode)
    summary.n_barcodes_seen = barcodes.size
    strand = None if strand is None else bk.asarray(strand)
    chrom, start, end, cell, count = (bk.asarray(column) for column in (chrom, start, end, cell, count))
    rows = (chrom, start, end, cell, count, strand)
    ptr, start, end, cell, count, strand, in_order = bk.ordering.sort_fragments(*rows, n_chroms=len(genome.names))
    summary.kept, summary.sorted_input = int(ptr[-1]), in_order
    note(summary, genome)
    return Fragments(genome, barcodes, ptr, start, end, cell, count, strand, summary)


class Columns:
    """The columns of a frame as arrays of ``bk``, checked."""

    def __init__(self, frame: Any, bk: Backend) -> None:
        self._frame, self._bk = frame, bk
        self._names: list[str] = []

    def read(self, genome: Genome, summary: ReadSummary) -> tuple[Any, ...]:
        """chrom, start, end, barcode (-1 in rows that are left out), count and strand; what is left out goes into ``summary``."""
        bk, xp, n = self._bk, self._bk.xp, len(self._frame)
        code, names = self._encoded("chrom")
        code_of = genome.codes_of(names).astype(np.int16)
        chrom = bk.asarray(np.append(code_of, np.int16(-1)))[code]
        start, end = self._whole("start"), self._whole("end")
        unknown = chrom < 0
        empty = ~unknown & (end <= start)
        size = bk.asarray(genome.sizes)[xp.maximum(chrom, 0)]
        outside = ~(unknown | empty) & ((start < 0) | (end > size))
        dropped = unknown | empty | outside
        summary.dropped = dict.fromkeys(DROP_REASONS, 0)
        for reason, rows in zip(DROP_REASONS[2:], (unknown, empty, outside), strict=False):
            summary.dropped[reason] = int(rows.sum())
        per_name = bk.to_host(xp.bincount(code, minlength=len(names))).tolist()
        lost = [(name, rows) for name, rows, c in zip(names, per_name, code_of, strict=True) if c < 0 and rows]
        summary.unknown_chroms = dict(lost[:1000])
        count = xp.ones(n, np.int32)
        if "count" in self._frame.columns:
            count = self._within("count", self._whole("count"), 1, MOST, but=dropped).astype(np.int32)
        strand = self._strand(dropped) if "strand" in self._frame.columns else None
        barcode, self._names = self._encoded("barcode")
        barcode = xp.where(dropped, barcode.dtype.type(-1), barcode)
        start, end = (xp.where(dropped, 0, column).astype(np.int32) for column in (start, end))
        return xp.maximum(chrom, 0), start, end, barcode, count, strand

    def number(self, barcode: Any) -> tuple[np.ndarray, Any]:
        """The barcodes that have rows, in byte order, and the number of each row's (int32, -1 as before)."""
        bk, names = self._bk, self._names
        used = bk.to_host(bk.xp.bincount(barcode + 1, minlength=len(names) + 1))[1:]
        order = sorted(np.flatnonzero(used).tolist(), key=lambda i: names[i].encode())
        wrong = [names[i] for i in order if not names[i] or not names[i].isascii() or not names[i].isprintable()]
        if wrong:
            msg = f"column 'barcode' holds {wrong[0]!r}; barcodes are printable ASCII: correct or remove its rows."
            raise InputError(msg)
        number = np.full(len(names) + 1, -1, np.int32)  # the last stands for rows left out
        number[order] = np.arange(len(order), dtype=np.int32)
        return np.array([names[i] for i in order], dtype=object), bk.asarray(number)[barcode]

    def _series(self, name: str) -> Any:
        series = self._frame[name]
        if bool(series.isna().any()):
            msg = f"column {name!r} holds {int(series.isna().sum()):,} missing values; remove these rows (dropna) or fill them."
            raise InputError(msg)
        return series

    def _encoded(self, name: str) -> tuple[Any, list[str]]:
        codes, names = self._bk.encoded(self._series(name))
        return codes.astype(np.int32), names

    def _whole(self, name: str) -> Any:
        series = self._series(name)
        if getattr(series.dtype, "kind", "O") not in "iu":
            msg = f"column {name!r} is of type {series.dtype}; give it whole numbers (astype('int64'))."
            raise InputError(msg)
        return self._bk.column(series).astype(np.int64)

    def _within(self, name: str, values: Any, low: int, high: int, *, but: Any) -> Any:
        wrong = ((values < low) | (values > high)) & ~but
        if bool(wrong.any()):
            row = int(self._bk.xp.argmax(wrong))
            msg = (
                f"column {name!r} holds {int(wrong.sum()):,} values outside [{low}, {high}], the first in row {row} "
                f"({int(values[row])}); correct or remove these rows."
            )
            raise InputError(msg)
        return self._bk.xp.where(but, low, values)

    def _strand(self, dropped: Any) -> Any:
        series = self._series("strand")
        if getattr(series.dtype, "kind", "O") in "iu":
            return self._within("strand", self._bk.column(series).astype(np.int64), -1, 1, but=dropped).astype(np.int8)
        codes, names = self._encoded("strand")
        wrong = [name for name in names if name not in STRANDS]
        if wrong:
            msg = f"column 'strand' holds {wrong[0]!r}; allowed are '+', '-', '.' and 1, -1, 0: correct or remove these rows."
            raise InputError(msg)
        return self._bk.asarray(np.array([STRANDS[name] for name in names] + [0], np.int8))[codes]
