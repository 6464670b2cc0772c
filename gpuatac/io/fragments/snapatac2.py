"""Fragments that SnapATAC2 stored in an .h5ad, without going through AnnData or a 3-billion-column matrix."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac import check
from gpuatac.errors import FileFormatError, InputError
from gpuatac.fragments import Fragments, ReadSummary
from gpuatac.genome import Genome

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = 1 << 22  # non-zeros read at a time: 32 MB of indices
_ALLOWED = "obsm['fragment_paired'] or ['fragment_single'] (CSR) and uns['reference_sequences'] of SnapATAC2 2.x"
_FILTERS = {32001: "blosc", 32004: "lz4", 32015: "zstd", 32026: "blosc2"}


def read_snapatac2_fragments(path: str | Path, genome: Genome | None = None) -> Fragments:
    """Read the fragments of an .h5ad written by ``snapatac2.pp.import_fragments``.

    Parameters
    ----------
    path
        Backed or in-memory .h5ad of SnapATAC2 2.x with ``obsm['fragment_paired']`` or
        ``['fragment_single']``. Compressed with blosc or zstd (what SnapATAC2 does by default) it needs the
        package hdf5plugin.
    genome
        Chromosomes to keep and the codes to use; names are matched as chr1/1. None takes the file's own.

    Returns
    -------
    Fragments on the host, sorted by (chromosome, start, end, cell), 0-based half-open in bp, barcodes in byte
    order. ``count`` is 1 throughout: SnapATAC2 does not keep the number of copies. ``strand`` is set for
    single reads (+1 or -1) and None for pairs. ``summary`` counts what was left out: chromosomes not in
    ``genome`` and fragments that stick out of their chromosome.

    Raises
    ------
    InputError
        When hdf5plugin is needed and absent, or ``genome`` and the file share no chromosome or differ in a
        size.
    FileFormatError
        When the file has another layout or its columns lie outside the reference.

    Notes
    -----
    Layout: column = (sum of the sizes of the chromosomes before, by name) + start, value = length. Single
    reads: + strand column start and value +length; - strand column end - 1 and value -length.

    Source: SnapATAC2 2.9.0. Cost: one read in blocks of 4 million, then one sort; about 40 bytes per
    fragment.

    Examples
    --------
    >>> import h5py, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "sample.h5ad"
    >>> with h5py.File(path, "w") as h:  # one fragment, chr2:5-60, of one cell
    ...     h["obs/_index"] = ["AAC-1"]
    ...     for key, value in {"data": [55], "indices": [1005], "indptr": [0, 1]}.items():
    ...         h[f"obsm/fragment_paired/{key}"] = value
    ...     h["uns/reference_sequences/reference_seq_name"] = ["chr1", "chr2"]
    ...     h["uns/reference_sequences/reference_seq_length"] = [1000, 500]
    >>> from gpuatac.io.fragments.snapatac2 import read_snapatac2_fragments
    >>> frags = read_snapatac2_fragments(path)
    >>> frags.chrom_ptr.tolist(), int(frags.start[0]), int(frags.end[0])
    ([0, 0, 1], 5, 60)
    """
    import h5py

    path = Path(path)
    check.existing_file(path, "SnapATAC2 file")
    if not path.is_file() or not h5py.is_hdf5(path):
        raise FileFormatError(path, "no HDF5 file", _ALLOWED, "give the .h5ad that SnapATAC2 wrote")
    with h5py.File(path) as file:
        paired = _layout(path, file)
        _need_filters(path, file)
        names = _strings(file["uns/reference_sequences/reference_seq_name"])
        sizes = file["uns/reference_sequences/reference_seq_length"][:].astype(np.int64)
        obs = file["obs"]
        barcodes = np.array(_strings(obs[obs.attrs.get("_index", "_index")]), dtype=object)
        own = _reference(path, names, sizes)
        target = own if genome is None else genome
        code_of = _codes(path, own, target)
        rank, ordered = _byte_order(path, barcodes)
        group = file["obsm/fragment_paired" if paired else "obsm/fragment_single"]
        summary = ReadSummary(
            source=str(path),
            n_barcodes_seen=len(barcodes),
            sorted_input=False,
            compression="hdf5",
            n_columns=4 if paired else 6,
        )
        blocks = list(_blocks(path, group, own, code_of, target, paired=paired, summary=summary))
    return _assemble(target, ordered, rank, blocks, summary, paired=paired)


def _layout(path: Path, file: Any) -> bool:
    """Whether the fragments are pairs; raises when there are none."""
    obsm = list(file["obsm"]) if "obsm" in file else []
    if "obs" in file and "uns/reference_sequences/reference_seq_name" in file:
        for key, paired in (("fragment_paired", True), ("fragment_single", False)):
            if key in obsm and all(k in file["obsm"][key] for k in ("data", "indices", "indptr")):
                return paired
    found = f"obsm with {', '.join(map(repr, obsm)) or 'nothing'}"
    raise FileFormatError(path, found, _ALLOWED, "give an .h5ad of snapatac2.pp.import_fragments, or the fragment file")


def _need_filters(path: Path, file: Any) -> None:
    """Make the HDF5 filters of the file available, or say what to install."""
    import h5py

    used: set[int] = set()

    def note(_name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            plist = item.id.get_create_plist()
            used.update(plist.get_filter(i)[0] for i in range(plist.get_nfilters()))

    for key in ("obs", "obsm", "uns/reference_sequences"):
        file[key].visititems(note)
    third_party = {code for code in used if code >= 256}  # those below belong to HDF5 itself
    if third_party and importlib.util.find_spec("hdf5plugin") is not None:
        importlib.import_module("hdf5plugin")  # registers its filters with HDF5
    lacking = [code for code in sorted(third_party) if not h5py.h5z.filter_avail(code)]
    if lacking:
        kinds = ", ".join(f"{_FILTERS.get(code, 'filter')} ({code})" for code in lacking)
        msg = f"{path} is compressed with the HDF5 filter {kinds}, which is not installed; pip install hdf5plugin."
        raise InputError(msg)


def _strings(dataset: Any) -> list[str]:
    return [v.decode() if isinstance(v, bytes) else str(v) for v in dataset[:]]


def _reference(path: Path, names: list[str], sizes: np.ndarray) -> Genome:
    in_order = all(a.encode() < b.encode() for a, b in itertools.pairwise(names))
    if not names or len(names) != sizes.size or not in_order:
        found = f"{len(names)} chromosome names, {sizes.size} sizes" + ("" if in_order else ", names not in byte order")
        raise FileFormatError(
            path, found, "one size for each name, names sorted", "write the file again with SnapATAC2"
        )
    return Genome(path.stem, dict(zip(names, sizes.tolist(), strict=True)))


def _codes(path: Path, own: Genome, target: Genome) -> np.ndarray:
    """Code in ``target`` of each chromosome of the file, -1 for those it lacks."""
    code_of = target.codes_of(own.names)
    if (code_of < 0).all():
        msg = (
            f"{len(own.names)} of {len(own.names)} chromosomes in {path} are absent from "
            f"genome {target.name} "
            f"({', '.join(own.names[:3])}); pass the genome the file was made with."
        )
        raise InputError(msg)
    for i in np.flatnonzero(code_of >= 0):
        if own.sizes[i] != target.sizes[code_of[i]]:
            msg = (
                f"{own.names[i]} has {own.sizes[i]:,} bp in {path} and "
                f"{target.sizes[code_of[i]]:,} bp in genome "
                f"{target.name}; pass the genome the file was made with."
            )
            raise InputError(msg)
    return code_of


def _byte_order(path: Path, barcodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(new row of each old one, barcodes in byte order)."""
    keys = [b.encode() for b in barcodes]
    if len(set(keys)) != len(keys):
        repeated = next(b for i, b in enumerate(keys) if b in keys[:i]).decode()
        raise FileFormatError(path, f"barcode {repeated} more than once", "each barcode once", "make them unique")
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
    rank = np.empty(len(keys), np.int32)
    rank[order] = np.arange(len(keys), dtype=np.int32)
    return rank, barcodes[order]


def _blocks(
    path: Path,
    group: Any,
    own: Genome,
    code_of: np.ndarray,
    target: Genome,
    *,
    paired: bool,
    summary: ReadSummary,
) -> Iterator[tuple[np.ndarray, ...]]:
    """(chromosome code, start, end, old row, strand) of the fragments kept, block by block."""
    indptr = group["indptr"][:].astype(np.int64)
    if indptr.size != summary.n_barcodes_seen + 1:
        found = f"{summary.n_barcodes_seen} barcodes for a matrix of {indptr.size - 1} rows"
        raise FileFormatError(path, found, "one barcode for each row", "write the file again with SnapATAC2")
    n = int(group["data"].shape[0])
    if group["indices"].shape[0] != n or indptr[0] != 0 or indptr[-1] != n or (np.diff(indptr) < 0).any():
        found = f"a CSR matrix of {n} values whose row pointer ends at {indptr[-1]}"
        raise FileFormatError(path, found, "a complete CSR matrix", "write the file again with SnapATAC2")
    offsets = np.concatenate([[0], np.cumsum(own.sizes)])
    for low in range(0, n, _BLOCK):
        high = min(n, low + _BLOCK)
        column = group["indices"][low:high].astype(np.int64)
        length = group["data"][low:high].astype(np.int64)
        if column.min() < 0 or column.max() >= offsets[-1]:
            found = f"a column outside [0, {offsets[-1] - 1}]"
            raise FileFormatError(path, found, "columns within the reference", "write the file again with SnapATAC2")
        row = (np.searchsorted(indptr, np.arange(low, high), side="right") - 1).astype(np.int32)
        chrom = np.searchsorted(offsets, column, side="right") - 1
        at = column - offsets[chrom]
        forward = (length > 0) if not paired else np.ones(length.size, bool)
        start = np.where(forward, at, at + 1 + length)
        end = np.where(forward, at + length, at + 1)
        code = code_of[chrom]
        unknown = code < 0
        empty = ~unknown & (end <= start)
        outside = ~unknown & ~empty & ((start < 0) | (end > target.sizes[np.maximum(code, 0)]))
        for name, count in zip(*np.unique(chrom[unknown], return_counts=True), strict=True):
            known = summary.unknown_chroms
            known[own.names[name]] = known.get(own.names[name], 0) + int(count)
        keep = ~(unknown | empty | outside)
        counted = {
            "unknown chromosome": unknown,
            "zero or negative length": empty,
            "outside the chromosome": outside,
        }
        for reason, mask in counted.items():
            summary.dropped[reason] = summary.dropped.get(reason, 0) + int(mask.sum())
        summary.lines += high - low
        summary.kept += int(keep.sum())
        strand = np.where(forward, 1, -1).astype(np.int8)
        yield (
            code[keep].astype(np.int16),
            start[keep].astype(np.int32),
            end[keep].astype(np.int32),
            row[keep],
            strand[keep],
        )


def _assemble(
    genome: Genome,
    barcodes: np.ndarray,
    rank: np.ndarray,
    blocks: list[tuple[np.ndarray, ...]],
    summary: ReadSummary,
    *,
    paired: bool,
) -> Fragments:
    kinds = (np.int16, np.int32, np.int32, np.int32, np.int8)
    columns = [np.concatenate([b[i] for b in blocks]) if blocks else np.empty(0, t) for i, t in enumerate(kinds)]
    chrom, start, end, row, strand = columns
    cell = rank[row] if row.size else row
    order = np.lexsort((cell, end, start, chrom))
    chrom_ptr = np.searchsorted(chrom[order], np.arange(len(genome.names) + 1)).astype(np.int64)
    return Fragments(
        genome=genome,
        barcodes=barcodes,
        chrom_ptr=chrom_ptr,
        start=start[order],
        end=end[order],
        cell=cell[order],
        count=np.ones(order.size, np.int32),
        strand=None if paired else strand[order],
        summary=summary,
    )
