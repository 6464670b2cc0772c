"""Fragments from whatever kind of source a path is: text, BAM, a Parquet data set, an .h5ad of SnapATAC2."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from gpuatac import check
from gpuatac.backend import resolve
from gpuatac.errors import InputError
from gpuatac.genome import MITO_NAMES, Genome
from gpuatac.io.fragments_text import read_fragments, reassemble
from gpuatac.io.store import is_store, open_fragments

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from gpuatac.backend import Device
    from gpuatac.fragments import Fragments

HDF5_MAGIC = b"\x89HDF"
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
) -> Fragments:
    """The fragments of ``path``, told apart by content, with whitelist and threshold applied."""
    check.existing_file(path, "fragment file")
    head = _head(path)
    if path.is_dir() and is_store(path):
        fragments = open_fragments(path, device=device)
        _same_genome(path, fragments.genome, genome)
    elif head == HDF5_MAGIC:
        from gpuatac.io.snapatac import read_snapatac2_fragments

        fragments = read_snapatac2_fragments(path, genome).on(resolve(device))
    elif is_bam(path):
        from gpuatac.io.bam import read_bam_fragments

        fragments = read_bam_fragments(path, genome, **dict(bam_options or {})).on(resolve(device))
    else:
        return read_fragments(
            path,
            genome,
            min_num_fragments=min_num_fragments,
            whitelist=whitelist,
            chrM=chr_m,
            device=device,
            bulk_name=sample,
        )
    return reassemble(fragments, min_num_fragments=min_num_fragments, whitelist=whitelist, chrM=chr_m)


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
