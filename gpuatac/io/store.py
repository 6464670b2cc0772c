"""The fragment data set on disk: one Parquet folder split by chromosome.

``NAME.fragments/chrom=chr1/part-0.parquet`` and so on, with columns ``start``, ``end`` (int32), ``barcode``
(dictionary of strings), ``count`` (int32) and, where the source had it, ``strand`` (int8), sorted by
(start, end, barcode); ``_gpuatac.json`` holds genome, barcodes and the read summary. pandas, polars, cuDF, DuckDB
and Dask read the folder as a hive-partitioned data set.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from gpuatac import check, progress
from gpuatac.backend import as_host, backend_of, resolve
from gpuatac.errors import FileFormatError, GpuatacError
from gpuatac.fragments import Fragments, ReadSummary
from gpuatac.genome import Genome
from gpuatac.io.atomic import replacing
from gpuatac.threads import get_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuatac.backend import Device

FORMAT_VERSION = 1
META = "_gpuatac.json"
ROW_GROUP = 1 << 20


def is_store(path: Path) -> bool:
    """Whether ``path`` is a fragment data set."""
    return (path / META).is_file()


def write_fragments(fragments: Fragments, path: str | Path, *, force: bool = False) -> Path:
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
        When the folder exists and ``force`` is not set.

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
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    columns = {name: as_host(getattr(fragments, name)) for name in ("start", "end", "cell", "count")}
    strand = None if fragments.strand is None else as_host(fragments.strand)
    barcodes = pa.array(fragments.barcodes.tolist(), pa.string())
    with replacing(path, force=force) as partial:
        partial.mkdir()

        def write(item: tuple[int, slice]) -> int:
            code, rows = item
            table = {
                "start": columns["start"][rows],
                "end": columns["end"][rows],
                "barcode": pa.DictionaryArray.from_arrays(pa.array(columns["cell"][rows]), barcodes),
                "count": columns["count"][rows],
            }
            if strand is not None:
                table["strand"] = strand[rows]
            folder = partial / f"chrom={quote(fragments.genome.names[code], safe='')}"
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
            return rows.stop - rows.start

        with (
            ThreadPoolExecutor(get_threads()) as pool,
            progress.bar(f"writing {path.name}", len(fragments), scale=True) as done,
        ):
            for n in pool.map(write, list(fragments.chromosomes())):
                done(n)
        meta = {
            "format": FORMAT_VERSION,
            "genome": {
                "name": fragments.genome.name,
                "contigs": fragments.genome.contigs,
                "chrom_sizes": dict(fragments.genome.chrom_sizes),
            },
            "barcodes": fragments.barcodes.tolist(),
            "rows": np.diff(fragments.chrom_ptr).tolist(),
            "strand": strand is not None,
            "summary": asdict(fragments.summary),
        }
        (partial / META).write_text(json.dumps(meta))
    return path


@contextmanager
def _refusing_damage(file: Path) -> Iterator[None]:
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
    with _refusing_damage(path / META):
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
    import pyarrow.parquet as pq

    path = Path(path)
    meta = read_meta(path)
    bk = resolve(device)
    with _refusing_damage(path / META):
        genome = Genome(meta["genome"]["name"], meta["genome"]["chrom_sizes"], contigs=meta["genome"]["contigs"])
        rows = np.array(meta["rows"], np.int64)
        summary = ReadSummary(**meta["summary"])
    ptr = np.concatenate([[0], np.cumsum(rows)])
    code_of = {b: i for i, b in enumerate(meta["barcodes"])}
    out = {name: np.empty(ptr[-1], np.int32) for name in ("start", "end", "cell", "count")}
    strand = np.empty(ptr[-1], np.int8) if meta["strand"] else None

    def load(code: int) -> int:
        if not rows[code]:
            return 0
        file = path / f"chrom={quote(genome.names[code], safe='')}" / "part-0.parquet"
        check.existing_file(file, "part of a fragment data set")
        with _refusing_damage(file):
            return fill(file, code)

    def fill(file: Path, code: int) -> int:
        table = pq.ParquetFile(file, read_dictionary=["barcode"]).read()
        if table.num_rows != rows[code]:
            raise FileFormatError(
                file, f"{table.num_rows:,} rows", f"{rows[code]:,} rows", "import the fragment file again"
            )
        at = ptr[code]
        for name in ("start", "end", "count"):
            out[name][at : ptr[code + 1]] = table[name].to_numpy()
        for chunk in table["barcode"].chunks:
            remap = np.fromiter((code_of[b] for b in chunk.dictionary.to_pylist()), np.int32, len(chunk.dictionary))
            out["cell"][at : at + len(chunk)] = remap[chunk.indices.to_numpy()]
            at += len(chunk)
        if strand is not None:
            strand[ptr[code] : ptr[code + 1]] = table["strand"].to_numpy()
        return int(rows[code])

    with (
        ThreadPoolExecutor(get_threads()) as pool,
        progress.bar(f"loading {path.name}", int(ptr[-1]), scale=True) as done,
    ):
        for n in pool.map(load, range(len(rows))):
            done(n)
    fragments = Fragments(
        genome,
        np.array(meta["barcodes"], dtype=object),
        ptr,
        out["start"],
        out["end"],
        out["cell"],
        out["count"],
        strand,
        summary,
    )
    return fragments.on(bk)


def to_frame(fragments: Fragments) -> Any:
    """The fragments as a table: pandas on a CPU, cuDF on a GPU.

    Returns
    -------
    DataFrame
        ``chrom`` and ``barcode`` (categorical), ``start``, ``end``, ``count`` (int32) and, where the source had it,
        ``strand`` (int8), in the order of ``fragments``; on a GPU the columns are not copied through the host.

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
    columns = {
        "chrom": bk.categorical(bk.asarray(fragments.chrom_codes()), list(fragments.genome.names)),
        "start": fragments.start,
        "end": fragments.end,
        "barcode": bk.categorical(fragments.cell, fragments.barcodes.tolist()),
        "count": fragments.count,
    }
    if fragments.strand is not None:
        columns["strand"] = fragments.strand
    return bk.frame(columns)
