"""How an AnnData refers to its fragments, and how they come back on first use.

``uns["fragments"]`` holds, for each sample, the path of its data set or source file (relative to the .h5ad once
it is written) and how the file is to be read. Columns are cached per process; an AnnData may be copied, cut or reordered
freely, because fragments are joined to its rows by barcode each time.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpuatac import slots
from gpuatac.backend import resolve
from gpuatac.errors import InputError, MissingFileError, MissingSlotError
from gpuatac.fragments import Fragments
from gpuatac.genome import Genome
from gpuatac.io.fragments.collect import ROW_BYTES, resident_limit
from gpuatac.io.fragments.source import load_source
from gpuatac.io.fragments.store import META, backend_holding
from gpuatac.provenance import records

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

    from gpuatac.io.fragments.store import StoredFragments

CacheKey = tuple[str, int, int, str, str]
CACHE_SIZE = 8  # samples whose columns are kept in memory
_cache: OrderedDict[CacheKey, Fragments | StoredFragments] = OrderedDict()


class Attached(NamedTuple):
    """One sample's fragments and, per barcode code, the AnnData row (int32, -1 for barcodes it lacks)."""

    sample: str
    fragments: Fragments | StoredFragments
    row_of_cell: np.ndarray


def remember(key: CacheKey, fragments: Fragments | StoredFragments) -> None:
    """Keep ``fragments`` for the next use; the longest unused go when there are many or they fill their share of memory."""
    _cache[key] = fragments
    _cache.move_to_end(key)
    limit = resident_limit(backend_holding(fragments))
    while len(_cache) > CACHE_SIZE or (len(_cache) > 1 and _bytes_held() > limit):
        _cache.popitem(last=False)


def _bytes_held() -> int:
    return sum(len(f) * ROW_BYTES for f in _cache.values() if isinstance(f, Fragments))


def forget() -> None:
    """Drop every cached fragment column from memory."""
    _cache.clear()


def is_held(path: Path, record: dict[str, str]) -> bool:
    """Whether the columns of the sample at ``path`` are in memory."""
    return cache_key(path, record) in _cache


def cache_key(path: Path, record: dict[str, str]) -> CacheKey:
    """Identifies a file's content (path, time, size), what was kept of it and where its columns lie."""
    path = path / META if path.is_dir() else path
    stat = path.stat()
    return (str(path.resolve()), stat.st_mtime_ns, stat.st_size, record["device"], record["content"])


def describe(
    path: Path,
    fragments: Fragments | StoredFragments,
    *,
    sample: str,
    device: str,
    bam_options: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """The record of one sample for ``uns["fragments"]``."""
    content = hashlib.sha256("\n".join(fragments.barcodes.tolist()).encode())
    content.update(json.dumps(dict(fragments.genome.chrom_sizes)).encode())
    record = {"sample": sample, "path": str(path.absolute()), "device": device, "content": content.hexdigest()[:16]}
    if bam_options:
        record["bam_options"] = json.dumps(dict(bam_options))
    return record


def records_of(adata: AnnData) -> list[dict[str, str]]:
    """The records of ``uns["fragments"]``, one for each sample."""
    if slots.FRAGMENTS not in adata.uns:
        msg = (
            f"adata.uns has no {slots.FRAGMENTS!r}: this data set has no fragments; import them with "
            "pp.import_fragments, or use verbs that start from a matrix."
        )
        raise MissingSlotError(msg)
    return [json.loads(record) for record in np.atleast_1d(adata.uns[slots.FRAGMENTS]["samples"])]


def set_records(adata: AnnData, records: list[dict[str, str]], base: str = "") -> None:
    """Write ``uns["fragments"]``; ``base`` is the folder that relative paths refer to (never stored in a file)."""
    adata.uns[slots.FRAGMENTS] = {
        "samples": np.array([json.dumps(record) for record in records], dtype=object),
        "base": base,
    }


def genome_of(adata: AnnData) -> Genome:
    """The chromosome sizes the fragments were read with."""
    stored = slots.uns_of(adata, slots.GENOME, writer="pp.import_fragments")
    sizes = dict(zip(map(str, stored["chrom_names"]), map(int, stored["chrom_sizes"]), strict=True))
    return Genome(str(stored["name"]), sizes, contigs=str(stored["contigs"]))


def set_genome(adata: AnnData, genome: Genome) -> None:
    """Write ``uns["genome"]``."""
    adata.uns[slots.GENOME] = {
        "name": genome.name,
        "contigs": genome.contigs,
        "chrom_names": np.array(genome.names, dtype=object),
        "chrom_sizes": genome.sizes,
    }


def path_of(adata: AnnData, record: dict[str, str]) -> Path:
    """Where the sample's fragments lie now."""
    path = Path(record["path"])
    base = str(adata.uns[slots.FRAGMENTS].get("base", ""))
    full = path if path.is_absolute() else Path(base or ".") / path
    if not full.exists():
        msg = (
            f"the fragments of sample {record['sample']!r} are not at {full}; an .h5ad refers to them by a path relative to "
            "itself: open it with gpuatac.io.read_h5ad and keep both in their places, or name the new place with "
            "gpuatac.io.set_fragments_path(adata, path)."
        )
        raise MissingFileError(msg)
    return full


@records("io.set_fragments_path")
def set_fragments_path(adata: AnnData, path: str | Path, *, sample: str | None = None) -> None:
    """Tell ``adata`` where the fragments of a sample lie now.

    Writes  adata.uns["fragments"].

    Parameters
    ----------
    adata
        Cells whose fragments were moved.
    path
        The new place of the fragment file or data set.
    sample
        Which sample; needed only when there are several.

    Examples
    --------
    >>> import gpuatac as ga
    >>> ga.io.set_fragments_path(adata, "pbmc.fragments")  # doctest: +SKIP
    """
    records = records_of(adata)
    names = [r["sample"] for r in records]
    if sample is None and len(names) == 1:
        sample = names[0]
    if sample not in names:
        msg = f"sample must be one of {', '.join(map(repr, names))}, got {sample!r}."
        raise InputError(msg)
    records[names.index(sample)]["path"] = str(Path(path).resolve())
    set_records(adata, records, str(adata.uns[slots.FRAGMENTS].get("base", "")))


def attached(adata: AnnData) -> list[Attached]:
    """The fragments of each sample, loaded on first use, with the rows of ``adata`` they belong to."""
    genome = genome_of(adata)
    records = records_of(adata)
    barcodes, samples = barcodes_of(adata, records)
    out = []
    for record in records:
        fragments = _load(adata, record, genome)
        rows = np.flatnonzero(samples == record["sample"]) if len(records) > 1 else np.arange(adata.n_obs)
        row_of = dict(zip(barcodes[rows].tolist(), rows.tolist(), strict=True))
        if len(row_of) < len(rows):
            msg = (
                f"{len(rows) - len(row_of)} of {len(rows)} cells of sample {record['sample']!r} repeat a barcode; fragments are "
                "joined by barcode: keep each cell once."
            )
            raise InputError(msg)
        row_of_cell = np.fromiter((row_of.pop(b, -1) for b in fragments.barcodes.tolist()), np.int32, fragments.n_cells)
        if row_of:
            missing = ", ".join(list(row_of)[:3])
            msg = (
                f"{len(row_of)} of {len(rows)} cells of sample {record['sample']!r} have no fragments ({missing}, ...); give "
                "the fragment file these cells came from."
            )
            raise InputError(msg)
        out.append(Attached(record["sample"], fragments, row_of_cell))
    return out


def barcodes_of(adata: AnnData, records: list[dict[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """The barcode and the sample of each row of ``adata``, as the fragment files name them."""
    if slots.BARCODE in adata.obs:
        barcodes = adata.obs[slots.BARCODE].to_numpy().astype(object)
    else:
        barcodes = adata.obs_names.to_numpy().astype(object)
    if len(records) == 1:
        return barcodes, np.full(adata.n_obs, records[0]["sample"], dtype=object)
    return barcodes, slots.obs_of(adata, slots.SAMPLE, writer="pp.import_fragments").astype(object)


def _load(adata: AnnData, record: dict[str, str], genome: Genome) -> Fragments | StoredFragments:
    path = path_of(adata, record)
    key = cache_key(path, record)
    if key not in _cache:
        backend = resolve(
            "cpu" if record["device"] == "cpu" else "auto"
        )  # made on a GPU: read where there is none, too
        fragments = load_source(
            path,
            genome,
            sample=record["sample"],
            device=backend.name,
            bam_options=json.loads(record.get("bam_options", "{}")),
        )
        remember(key, fragments)
    _cache.move_to_end(key)
    return _cache[key]
