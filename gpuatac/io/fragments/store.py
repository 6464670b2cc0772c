"""The fragment data set on disk: one Parquet folder split by chromosome.

``NAME.fragments/chrom=chr1/part-0.parquet`` and so on, with columns ``start``, ``end`` (int32), ``barcode``
(dictionary of strings), ``count`` (int32) and, where the source had it, ``strand`` (int8), sorted by
(start, end, barcode); ``_gpuatac.json`` holds genome, barcodes and the read summary. It is a hive-partitioned data
set: pandas and Dask (``read_parquet(folder)``; cuDF's function is the same, no test runs it) take the folder, DuckDB and polars the
files in it, ``folder/*/*.parquet`` with ``hive_partitioning``, which makes the column ``chrom`` of the folders' names. polars refuses
the folder itself, as ``_gpuatac.json`` is no Parquet file.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import numpy as np

from gpuatac import check, progress
from gpuatac.backend import as_host, backend_of, get, resolve
from gpuatac.errors import FileFormatError, GpuatacError
from gpuatac.fragments import CellTotals, Columns, Fragments, ReadSummary
from gpuatac.genome import Genome
from gpuatac.io.files.atomic import replacing
from gpuatac.threads import get_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuatac.backend import Device
    from gpuatac.backend.protocol import Backend

FORMAT_VERSION = 1
META = "_gpuatac.json"
ROW_GROUP = 1 << 20


def is_store(path: Path) -> bool:
    """Whether ``path`` is a fragment data set."""
    return (path / META).is_file()


def write_fragments(fragments: Fragments | StoredFragments, path: str | Path, *, force: bool = False) -> Path:
    """Write ``fragments`` as a Parquet data set split by chromosome.

    Parameters
    ----------
    fragments
        What to write, from any device.
    path
        The folder; by custom its name ends in ``.fragments``.
    force
        Replace an existing folder.

    Returns
    -------
    Path
        The folder. It appears complete or not at all.

    Raises
    ------
    OutputExistsError
        A folder or file of this name is there, and no ``force``.

    Examples
    --------
    >>> import gpuatac as ga, pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "f.tsv").write_text("chr1\\t100\\t300\\tAAAC-1\\t2\\n")
    >>> fragments = ga.io.read_fragments(folder / "f.tsv", ga.Genome.builtin("hg38"), device="cpu")
    >>> path = ga.io.write_fragments(fragments, folder / "f.fragments")
    >>> ga.io.open_fragments(path, device="cpu")
    Fragments: 1 fragments of 1 barcodes on hg38
    """
    return save(fragments, Path(path), force=force)


def save(
    fragments: Fragments | StoredFragments, path: Path, *, force: bool = False, source: dict[str, Any] | None = None
) -> Path:
    """``write_fragments``, with a note of what the fragments were imported from."""
    n_threads = get_threads() if isinstance(fragments, Fragments) else 1  # one chromosome in memory at a time
    with (
        replacing(path, force=force) as partial,
        progress.bar(f"writing {path.name}", len(fragments), scale=True) as done,
        ThreadPoolExecutor(n_threads, initializer=backend_holding(fragments).use) as pool,
    ):
        store = StoreWriter(partial, fragments.genome, fragments.barcodes, with_strand=fragments.has_strand)

        def write(job: tuple[int, slice]) -> int:
            return store.write(job[0], fragments.columns(job[0]))

        for n in pool.map(write, list(fragments.chromosomes())):
            done(n)
        store.finish(fragments.summary, fragments.totals, source=source)
    return path


class StoreWriter:
    """Writes a data set chromosome by chromosome into a new folder; until ``finish`` it is none."""

    def __init__(self, folder: Path, genome: Genome, barcodes: np.ndarray, *, with_strand: bool) -> None:
        import pyarrow as pa

        self._folder = folder
        self._genome = genome
        self._barcodes = barcodes.tolist()
        self._dictionary = pa.array(self._barcodes, pa.string())
        self._rows = [0] * len(genome.names)
        self._with_strand = with_strand
        folder.mkdir()

    def write(self, code: int, columns: Columns) -> int:
        """Write the rows of one chromosome, sorted; how many they are."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        start, end, cell, count = (as_host(column) for column in columns[:4])
        table = {
            "start": start,
            "end": end,
            "barcode": pa.DictionaryArray.from_arrays(pa.array(cell), self._dictionary),
            "count": count,
        }
        if columns.strand is not None:
            table["strand"] = as_host(columns.strand)
        self._rows[code] = int(start.size)
        if not start.size:
            return 0
        folder = self._folder / f"chrom={quote(self._genome.names[code], safe='')}"
        folder.mkdir()
        pq.write_table(
            pa.table(table),
            folder / "part-0.parquet",
            compression="zstd",
            row_group_size=ROW_GROUP,
            use_dictionary=["barcode"],
            dictionary_pagesize_limit=64 << 20,
            data_page_version="1.0",
            write_statistics=["start", "end"],
        )
        return int(start.size)

    def finish(self, summary: ReadSummary, totals: CellTotals | None, *, source: dict[str, Any] | None = None) -> None:
        """Write the description, which makes the folder a data set; ``source`` says what it was imported from."""
        meta = {
            "format": FORMAT_VERSION,
            "genome": {
                "name": self._genome.name,
                "contigs": self._genome.contigs,
                "chrom_sizes": dict(self._genome.chrom_sizes),
            },
            "barcodes": self._barcodes,
            "rows": self._rows,
            "strand": self._with_strand,
            "summary": asdict(summary),
        }
        if totals is not None:
            meta["totals"] = {name: column.tolist() for name, column in totals._asdict().items()}
        if source is not None:
            meta["source"] = source
        (self._folder / META).write_text(json.dumps(meta))


@contextmanager
def refusing_damage(file: Path) -> Iterator[None]:
    """Say of any failure to decode ``file`` that it is damaged."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, GpuatacError):
            raise
        found = f"damaged data ({type(error).__name__}: {str(error)[:120]})"
        raise FileFormatError(
            file, found, "what gpuatac.io.write_fragments wrote", "import the fragment file again"
        ) from error


def read_meta(path: Path) -> dict[str, Any]:
    """The description of a data set, checked."""
    check.existing_file(path, "fragment data set")
    if not is_store(path):
        raise FileFormatError(
            path,
            f"a folder without {META}",
            "a folder written by gpuatac.io.write_fragments",
            "import the fragment file again",
        )
    with refusing_damage(path / META):
        meta: dict[str, Any] = json.loads((path / META).read_text())
        _ = [meta[key] for key in ("genome", "barcodes", "rows", "strand", "summary", "format")]
    if meta.get("format") != FORMAT_VERSION:
        raise FileFormatError(
            path,
            f"format version {meta.get('format')}",
            f"version {FORMAT_VERSION}",
            "import the fragment file again or update gpuatac",
        )
    return meta


def open_fragments(path: str | Path, *, device: Device = "auto") -> Fragments:
    """Load a data set that ``write_fragments`` wrote.

    Parameters
    ----------
    path
        The folder.
    device
        Where the columns shall lie: "auto", "cpu" or "gpu".

    Returns
    -------
    Fragments
        Equal to what was written.

    Raises
    ------
    FileFormatError
        When the folder is no data set, of another version, or lacks rows.

    Examples
    --------
    See ``write_fragments``.
    """
    return StoredFragments(Path(path), device=resolve(device).name).load()


class StoredFragments:
    """Fragments that stay on disk; a chromosome's columns are read when they are asked for.

    It has what ``Fragments`` has but the flat columns. ``keep`` (bool, one for each stored barcode) leaves barcodes out.
    """

    def __init__(self, path: Path, *, device: Literal["cpu", "gpu"], keep: np.ndarray | None = None) -> None:
        import pyarrow as pa

        meta = read_meta(path)
        with refusing_damage(path / META):
            self.genome = Genome(
                meta["genome"]["name"], meta["genome"]["chrom_sizes"], contigs=meta["genome"]["contigs"]
            )
            self._rows = np.array(meta["rows"], np.int64)
            self.summary = ReadSummary(**meta["summary"])
            totals = meta.get("totals")
            self.totals = (
                None if totals is None else CellTotals(*(np.array(totals[k], np.int64) for k in CellTotals._fields))
            )
            self.source: dict[str, Any] | None = meta.get("source")
            barcodes = np.array(meta["barcodes"], dtype=object)
        self.path = path
        self.device = device
        self.has_strand = bool(meta["strand"])
        self._code_of = {b: i for i, b in enumerate(meta["barcodes"])}
        self._dictionary = pa.array(meta["barcodes"], pa.string())
        self._identity = np.arange(len(self._dictionary), dtype=np.int32)
        self._new_code: np.ndarray | None = None
        kept_rows = self._rows
        if keep is not None:
            self._new_code = np.where(keep, np.cumsum(keep) - 1, -1).astype(np.int32)
            barcodes = barcodes[keep]
            if self.totals is not None:
                self.totals = CellTotals(*(column[keep] for column in self.totals))
            kept_rows = np.array([int((self._stored(c).cell >= 0).sum()) for c in range(self._rows.size)], np.int64)
        self.barcodes = barcodes
        self.chrom_ptr = np.concatenate([[0], np.cumsum(kept_rows)])

    def __len__(self) -> int:
        return int(self.chrom_ptr[-1])

    def __repr__(self) -> str:
        return (
            f"StoredFragments: {len(self):,} fragments of {len(self.barcodes):,} barcodes on {self.genome.name}, in "
            f"{self.path.name}"
        )

    @property
    def n_cells(self) -> int:
        """Number of barcodes."""
        return len(self.barcodes)

    def chromosomes(self) -> Iterator[tuple[int, slice]]:
        """(code, row slice) of each chromosome that has fragments."""
        for c in range(len(self.chrom_ptr) - 1):
            if self.chrom_ptr[c + 1] > self.chrom_ptr[c]:
                yield c, slice(int(self.chrom_ptr[c]), int(self.chrom_ptr[c + 1]))

    def columns(self, code: int) -> Columns:
        """The rows of one chromosome, read now and put on the device."""
        part = self._stored(code)
        if self._new_code is not None:
            kept = part.cell >= 0
            part = Columns(*(None if column is None else column[kept] for column in part))
        move = get(self.device).asarray
        return Columns(*(None if column is None else move(column) for column in part))

    def _stored(self, code: int) -> Columns:
        """The rows of one chromosome on the host, cells renamed; those left out have cell -1."""
        n = int(self._rows[code])
        out = self._empty(n)
        if n:
            file = self.path / f"chrom={quote(self.genome.names[code], safe='')}" / "part-0.parquet"
            check.existing_file(file, "part of a fragment data set")
            with refusing_damage(file):
                self._fill(file, out)
        return out

    def _empty(self, n: int) -> Columns:
        start, end, cell, count = (np.empty(n, np.int32) for _ in range(4))
        return Columns(start, end, cell, count, np.empty(n, np.int8) if self.has_strand else None)

    def _fill(self, file: Path, out: Columns) -> None:
        """Read row group by row group, so that decoding takes little beside the columns."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(file, read_dictionary=["barcode"]) as parquet:
            n = parquet.metadata.num_rows
            if n != out.start.size:
                raise FileFormatError(file, f"{n:,} rows", f"{out.start.size:,} rows", "import the fragment file again")
            at = 0
            for batch in parquet.iter_batches(batch_size=ROW_GROUP, use_threads=False):
                rows = slice(at, at + len(batch))
                for name in ("start", "end", "count"):
                    getattr(out, name)[rows] = batch[name].to_numpy()
                codes = self.codes_of(batch["barcode"].dictionary)
                out.cell[rows] = codes[batch["barcode"].indices.to_numpy()]
                if out.strand is not None:
                    out.strand[rows] = batch["strand"].to_numpy()
                at += len(batch)

    def codes_of(self, dictionary: Any) -> np.ndarray:
        """The code of each barcode of a row group's Arrow dictionary."""
        if dictionary.equals(self._dictionary):  # as we write it
            codes = self._identity
        else:
            codes = np.fromiter((self._code_of[b] for b in dictionary.to_pylist()), np.int32, len(dictionary))
        return codes if self._new_code is None else self._new_code[codes]

    def load(self) -> Fragments:
        """All columns in memory, on the device."""
        n = len(self)
        whole = Fragments(self.genome, self.barcodes, self.chrom_ptr, *self._empty(n), self.summary, self.totals)

        def fill(job: tuple[int, slice]) -> int:
            part = self._stored(job[0])
            kept = slice(None) if self._new_code is None else part.cell >= 0
            for target, column in zip(whole.columns(job[0]), part, strict=True):
                if target is not None:
                    target[:] = column[kept]
            rows: int = job[1].stop - job[1].start
            return rows

        with (
            ThreadPoolExecutor(get_threads()) as pool,
            progress.bar(f"loading {self.path.name}", n, scale=True) as done,
        ):
            for n_done in pool.map(fill, list(self.chromosomes())):
                done(n_done)
        return whole.on(get(self.device))


def backend_holding(fragments: Fragments | StoredFragments) -> Backend:
    """The backend on which the columns of ``fragments`` lie, or are put when they are loaded from disk."""
    return backend_of(fragments.start) if isinstance(fragments, Fragments) else get(fragments.device)
