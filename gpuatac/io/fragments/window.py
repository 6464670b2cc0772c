"""Fragments of one window of the genome: from memory, or of a data set that is not loaded only the parts that reach it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from gpuatac import check
from gpuatac.backend import get, resolve
from gpuatac.core.tracks import locus
from gpuatac.core.tracks.pseudobulk import FragmentFilter, GroupedSample
from gpuatac.fragments import Columns
from gpuatac.io.fragments import attach, store
from gpuatac.io.fragments.pseudobulk import grouped_samples
from gpuatac.io.fragments.store import StoredFragments

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from gpuatac.backend.protocol import Backend
    from gpuatac.core.tracks.locus import Intervals, Window
    from gpuatac.genome import Genome


class WindowOfStore:
    """A data set of which ``columns`` gives the row groups that may overlap the window, and no others.

    Row groups carry the least start and the greatest end of their rows, so that the others are never read.
    """

    def __init__(self, stored: StoredFragments, window: Window) -> None:
        self.genome, self.barcodes, self.chrom_ptr = stored.genome, stored.barcodes, stored.chrom_ptr
        self.device = stored.device
        self._stored, self._window = stored, window

    def columns(self, code: int) -> Columns:
        """Start, end and cell of those rows, sorted by start, on the device of the data set."""
        import pyarrow.parquet as pq

        name = quote(self.genome.names[code], safe="")
        file = self._stored.path / f"chrom={name}" / "part-0.parquet"
        check.existing_file(file, "part of a fragment data set")
        parts: list[list[np.ndarray]] = [[np.empty(0, np.int32)] for _ in range(3)]
        with store.refusing_damage(file), pq.ParquetFile(file, read_dictionary=["barcode"]) as parquet:
            for i in range(parquet.num_row_groups):
                if self._reached(parquet.metadata.row_group(i)):
                    table = parquet.read_row_group(i, columns=["start", "end", "barcode"], use_threads=False)
                    for batch in table.to_batches():
                        codes = self._stored.codes_of(batch["barcode"].dictionary)
                        parts[0].append(batch["start"].to_numpy())
                        parts[1].append(batch["end"].to_numpy())
                        parts[2].append(codes[batch["barcode"].indices.to_numpy()])
        move = get(self.device).asarray
        start, end, cell = (move(np.concatenate(part).astype(np.int32, copy=False)) for part in parts)
        return Columns(start, end, cell, None)

    def _reached(self, group: Any) -> bool:
        """Whether rows of the group may overlap the window; yes where their bounds are not known."""
        bounds = {group.column(j).path_in_schema: group.column(j).statistics for j in range(group.num_columns)}
        start, end = bounds.get("start"), bounds.get("end")
        if start is None or end is None or not (start.has_min_max and end.has_min_max):
            return True
        return bool(start.min < self._window.end and end.max > self._window.start)


def window_fragments(adata: AnnData, group_of_row: np.ndarray, window: Window, keep: FragmentFilter) -> Intervals:
    """The fragments of each group of cells that overlap ``window``.

    Samples whose columns are in memory are looked up there; data sets on disk stay there.
    """
    found = _from_stores(adata, group_of_row, window)
    bk, samples = grouped_samples(adata, group_of_row)[:2] if found is None else found
    return locus.fragments_in(bk, samples, window, keep)


def _from_stores(
    adata: AnnData, group_of_row: np.ndarray, window: Window
) -> tuple[Backend, list[GroupedSample]] | None:
    """Samples as windows of their data sets; None where one is in memory already, is no data set, or does not fit."""
    genome = attach.genome_of(adata)
    records = attach.records_of(adata)
    barcodes, sample_of_row = attach.barcodes_of(adata, records)
    backends, samples = [], []
    for record in records:
        path = attach.path_of(adata, record)
        if not store.is_store(path) or attach.is_held(path, record):
            return None
        bk = resolve("cpu" if record["device"] == "cpu" else "auto")
        stored = _opened(path, genome, bk)
        if stored is None:
            return None
        rows = np.flatnonzero(sample_of_row == record["sample"]) if len(records) > 1 else np.arange(adata.n_obs)
        group_of = dict(zip(barcodes[rows].tolist(), group_of_row[rows].tolist(), strict=True))
        group = np.fromiter((group_of.get(b, -1) for b in stored.barcodes.tolist()), np.int32, stored.n_cells)
        known = set(stored.barcodes.tolist())
        if len(group_of) < len(rows) or any(b not in known for b in group_of):
            return None  # attach.attached says what is wrong
        samples.append(GroupedSample(WindowOfStore(stored, window), bk.asarray(group)))  # type: ignore[arg-type]
        backends.append(bk)
    return (backends[0], samples) if len({bk.name for bk in backends}) == 1 else None


def _opened(path: Path, genome: Genome, bk: Backend) -> StoredFragments | None:
    """The data set, None if it was made with other chromosomes."""
    stored = StoredFragments(path, device=bk.name)
    return stored if dict(stored.genome.chrom_sizes) == dict(genome.chrom_sizes) else None
