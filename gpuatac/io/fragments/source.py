"""Fragments from whatever kind of source a path is: text, BAM, a data set or other Parquet, an .h5ad of SnapATAC2; names of samples."""

from __future__ import annotations

import hashlib
import json
import tempfile
import weakref
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gpuatac import check, progress
from gpuatac.backend import get, resolve
from gpuatac.core.counting.counts import cell_totals, sample_rows
from gpuatac.errors import InputError
from gpuatac.fragments import DROP_REASONS, CellTotals, ReadSummary
from gpuatac.genome import MITO_NAMES, Genome
from gpuatac.io.files.atomic import replacing
from gpuatac.io.fragments.collect import ROW_BYTES, Collector, resident_limit
from gpuatac.io.fragments.frames import is_parquet, read_parquet
from gpuatac.io.fragments.store import META, StoredFragments, StoreWriter, is_store
from gpuatac.io.fragments.text import Wanted, collect_text, note, stem_of
from gpuatac.io.tables.barcode_lists import read_whitelist

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from gpuatac.backend import Device
    from gpuatac.fragments import Fragments

HDF5_MAGIC = b"\x89HDF"
LONGEST_NAME = 200  # bytes of a sample's name: file systems take 255, with the suffixes
BAM_MAGIC = b"BAM\x01"


def load_source(
    path: Path,
    genome: Genome,
    *,
    sample: str,
    min_num_fragments: int = 0,
    whitelist: str | Path | Iterable[str] | None = None,
    chr_m: Collection[str] = MITO_NAMES,
    device: Device = "auto",
    bam_options: Mapping[str, Any] | None = None,
    place: Path | None = None,
    force: bool = False,
    source: dict[str, Any] | None = None,
) -> Fragments | StoredFragments:
    """The fragments of ``path``, told apart by content, with whitelist and threshold applied.

    They come in memory, unless they would take more than their share of the memory limit: then a data set is opened as it
    lies on disk, and a text file is written to ``place`` (by default a folder that goes when it is no longer used), with
    ``source`` as the note of what it was imported from.
    """
    check.existing_file(path, "fragment file")
    bk = resolve(device)
    wanted = Wanted.of(genome, min_num_fragments=min_num_fragments, whitelist=whitelist, chr_m=chr_m, sample=sample)
    head = _head(path)
    if path.is_dir() and is_store(path):
        return _from_store(path, genome, wanted, device=bk.name)
    scratch = None if place is None else place.parent
    with Collector(bk, genome, mito_codes=wanted.mito_codes, scratch=scratch) as rows:
        if head == HDF5_MAGIC:
            from gpuatac.io.fragments.snapatac2 import read_snapatac2_fragments

            fragments = read_snapatac2_fragments(path, genome).on(bk)
        elif is_bam(path):
            from gpuatac.io.fragments.bam import read_bam_fragments

            fragments = read_bam_fragments(path, genome, **dict(bam_options or {})).on(bk)
        elif is_parquet(path):
            fragments = read_parquet(path, genome, bk)
        else:
            summary = collect_text(path, rows)
            barcodes, totals = wanted.choose(rows, summary, bulk_name=sample)
            if rows.on_disk:
                return _through_disk(rows, barcodes, summary, totals, place=place, force=force, source=source)
            return rows.fragments(barcodes, summary, totals)
        summary = _carried_on(fragments.summary)
        rows.add_fragments(fragments)
        barcodes, totals = wanted.choose(rows, summary)
        return rows.fragments(barcodes, summary, totals)


def _from_store(
    path: Path, genome: Genome, wanted: Wanted, *, device: Literal["cpu", "gpu"]
) -> Fragments | StoredFragments:
    """A data set, with barcodes left out as ``wanted`` says."""
    stored = StoredFragments(path, device=device)
    _same_genome(path, stored.genome, genome)
    if not wanted.everything:
        row_of = np.arange(stored.n_cells, dtype=np.int32)
        bk = get(device)
        totals = cell_totals(bk, sample_rows(bk, stored, row_of), stored.n_cells, mito_codes=wanted.mito_codes)
        summary = _carried_on(stored.summary)
        keep = wanted.mask(lambda numbers: stored.barcodes[numbers].tolist(), totals, summary)
        summary.kept = int(totals.rows[keep].sum())
        note(summary, genome)
        stored = StoredFragments(path, device=device, keep=keep)
        stored.summary = summary
        stored.totals = CellTotals(*(column[keep] for column in totals))
    return resident(stored)


def resident(stored: StoredFragments) -> Fragments | StoredFragments:
    """The data set in memory, if its columns fit into their share of the limit; else as it lies on disk."""
    return stored.load() if len(stored) * ROW_BYTES <= resident_limit(get(stored.device)) else stored


def origin(
    path: Path,
    genome: Genome,
    *,
    min_num_fragments: int,
    whitelist: str | Path | Iterable[str] | None,
    chr_m: Collection[str],
    bam_options: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What decides the content of an import, to recognise one that was finished before an interruption."""
    check.existing_file(path, "fragment file")
    stat = (path / META if is_store(path) else path).stat()
    listed = None if whitelist is None else sorted(read_whitelist(whitelist))
    decides = [dict(genome.chrom_sizes), sorted(chr_m), listed, sorted((bam_options or {}).items())]
    return {
        "name": path.name,
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "min_num_fragments": min_num_fragments,
        "options": hashlib.sha256(json.dumps(decides, default=str).encode()).hexdigest()[:16],
    }


def _carried_on(summary: ReadSummary) -> ReadSummary:
    """A summary to add to, of the same lines."""
    dropped = {**dict.fromkeys(DROP_REASONS, 0), **summary.dropped}
    return replace(summary, dropped=dropped, notes=list(summary.notes))


def _through_disk(
    rows: Collector,
    barcodes: np.ndarray,
    summary: ReadSummary,
    totals: CellTotals,
    *,
    place: Path | None,
    force: bool,
    source: dict[str, Any] | None,
) -> StoredFragments:
    """Sort chromosome by chromosome from the scratch folder into a data set."""
    temporary = None
    if place is None:
        temporary = tempfile.TemporaryDirectory(prefix="gpuatac-")
        place = Path(temporary.name) / "sample.fragments"
    with (
        replacing(place, force=force) as partial,
        progress.bar(f"sorting and writing {place.name}", summary.kept, scale=True) as done,
    ):
        store = StoreWriter(partial, rows.genome, barcodes, with_strand=rows.has_strand)
        for code in range(len(rows.genome.names)):
            columns, was_sorted = rows.chromosome(code)
            summary.sorted_input &= was_sorted
            done(store.write(code, columns))
        store.finish(summary, totals, source=source)
    stored = StoredFragments(place, device=rows.bk.name)
    stored.summary = summary
    if temporary is not None:
        weakref.finalize(stored, temporary.cleanup)
    return stored


def _head(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as handle:
        return handle.read(4)


def is_bam(path: Path) -> bool:
    """Whether the file inflates to the BAM magic."""
    if _head(path)[:2] != b"\x1f\x8b":
        return False
    with path.open("rb") as handle:
        compressed = handle.read(65536)
    try:
        return zlib.decompressobj(wbits=31).decompress(compressed, 4) == BAM_MAGIC
    except zlib.error:
        return False


def _same_genome(path: Path, stored: Genome, given: Genome) -> None:
    if dict(stored.chrom_sizes) != dict(given.chrom_sizes):
        msg = (
            f"data set {path.name} was made with genome {stored.name} ({len(stored.names)} chromosomes, contigs: "
            f"{stored.contigs}), and genome {given.name} ({len(given.names)} chromosomes, contigs: {given.contigs}) is "
            "given; pass the same genome, or import the fragment file again."
        )
        raise InputError(msg)


def sample_names(
    files: list[Path], sample: str | Sequence[str] | None, *, of_files: str = "fragment_file", of_names: str = "sample"
) -> list[str]:
    """One name for each file, checked; ``of_files`` and ``of_names`` are what the caller calls the two."""
    if not files:
        msg = f"{of_files} names no file; give at least one."
        raise InputError(msg)
    flag = " (--names)" if of_names == "names" else ""
    if isinstance(sample, str) and len(files) > 1:
        msg = f"{of_names} is one name, {sample!r}, for {len(files)} files; pass a list of {len(files)} names, {of_names}=[...]{flag}."
        raise InputError(msg)
    if sample is None:
        names = [stem_of(f) for f in files]
    else:
        names = [sample] if isinstance(sample, str) else list(sample)
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        msg = f"sample names must be text, got {wrong[0]!r} ({type(wrong[0]).__name__}); pass strings, {of_names}=[...]."
        raise InputError(msg)
    if len(names) != len(files):
        msg = f"{len(names)} sample names for {len(files)} files; give one name for each file."
        raise InputError(msg)
    repeated = [n for n, k in Counter(names).items() if k > 1]
    if repeated:
        msg = f"sample names must differ, got {', '.join(map(repr, repeated))} more than once; pass {of_names}=[...]{flag}."
        raise InputError(msg)
    long = [n for n in names if len(n.encode()) > LONGEST_NAME]
    if long:
        msg = (
            f"sample names may have {LONGEST_NAME} bytes, as they name files, got one of {len(long[0].encode())} ({long[0][:30]}...); "
            f"pass {of_names}=[...]{flag}."
        )
        raise InputError(msg)
    bad = [n for n in names if not n or any(c in n for c in "/\\#\0") or n.startswith(".")]
    if bad:
        msg = f"sample names must not be empty, start with '.' or hold '/', '\\' or '#', got {bad[0]!r}; choose others."
        raise InputError(msg)
    return names
