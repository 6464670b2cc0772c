"""Fragments of groups of cells."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gpuatac import slots
from gpuatac.backend import get
from gpuatac.errors import InputError, MissingSlotError
from gpuatac.ex._coverage import length_filter
from gpuatac.io.fragments.attach import attached, genome_of
from gpuatac.io.fragments.store import backend_holding
from gpuatac.io.tracks import outputs
from gpuatac.io.tracks.text_tracks import TextWriter, fragment_text, texts_of
from gpuatac.progress import bar
from gpuatac.provenance import records
from gpuatac.threads import COUNTING_THREAD, get_threads

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData

    from gpuatac.core.tracks.pseudobulk import FragmentFilter
    from gpuatac.io.fragments.attach import Attached


@records("ex.export_fragments")
def export_fragments(
    adata: AnnData,
    groupby: str | Sequence[str] | None,
    *,
    selections: Sequence[str] | None = None,
    ids: str | Sequence[str] | None = None,
    min_frag_length: int | None = None,
    max_frag_length: int | None = None,
    out_dir: str | Path = "./",
    prefix: str = "",
    suffix: str | None = None,
    compression: Literal["gzip", "zstandard"] | None = None,
    compression_level: int | None = None,
) -> dict[str, str]:
    """Write the fragments of each group of cells to a file.

    Reads   fragments; obs[groupby].
    Returns {group: path of its file}, named as by ``export_coverage``. Existing files are replaced, each at once and only
            when every file is whole.

    Columns, split at tabs: chromosome, start, end (0-based half-open), cell, copies. Rows are sorted by chromosome, start
    and end. SnapATAC2 2.9.0 sorts by cell and writes 1 for the copies.

    Parameters
    ----------
    adata
        Cells with fragments.
    groupby
        A column of ``obs``, one label for each cell, or None for one file of all cells, named "all".
    selections
        Groups to export; None for all.
    ids
        Names of the cells: a column of ``obs``, one name for each cell, or None for ``obs_names``.
    min_frag_length, max_frag_length
        Shortest and longest fragment written, in bp; None for no bound.
    out_dir, prefix, suffix
        Where the files go and how they are named; by default the suffix is .bed.zst, or .bed.gz where compression is "gzip".
    compression
        "gzip" (as BGZF, so that tabix can index it) or "zstandard"; None for what ``suffix`` says: .gz, .zst, else none.
    compression_level
        1 to 9 for gzip (default 6), 1 to 22 for zstandard (default 3).

    Raises
    ------
    InputError
        When an argument is out of range or a name of a cell holds a tab or a line end.

    Cost: one pass over the fragments. Memory holds one chromosome at a time.

    Examples
    --------
    >>> import gpuatac as ga
    >>> ga.ex.export_fragments(adata, "leiden", out_dir="fragments")  # doctest: +SKIP
    """
    if suffix is None:
        suffix = ".bed.gz" if compression == "gzip" else ".bed.zst"
    compression = outputs.compression_of(suffix, compression)
    compression_level = outputs.level_of(compression, compression_level)
    keep = length_filter(min_frag_length, max_frag_length)
    groups, group_of_row = slots.groups_of(adata, groupby, selections)
    names = texts_of([name + "\t" for name in _cell_names(adata, ids)])
    paths = outputs.targets(out_dir, outputs.file_names(groups, prefix, suffix))
    parts = attached(adata)
    genome = genome_of(adata)
    codes = sorted({code for part in parts for code, _ in part.fragments.chromosomes()})
    with ExitStack() as stack:
        partials = outputs.partials(stack, paths)
        writers = [TextWriter(path, compression=compression, level=compression_level) for path in partials]
        pool = ThreadPoolExecutor(get_threads(), COUNTING_THREAD)
        try:
            with bar("fragments", len(codes), unit="chromosome") as advance:
                for code in codes:
                    columns, ptr = _by_group(parts, code, group_of_row, keep, len(groups))

                    def put(g: int, code: int = code, columns: Any = columns, ptr: Any = ptr) -> None:
                        start, end, row, count = (column[ptr[g] : ptr[g + 1]] for column in columns)
                        text = fragment_text(genome.names[code], start, end, row, count, names)
                        writers[g].append(writers[g].pack(text))

                    list(pool.map(put, range(len(groups))))
                    advance(1)
            for writer in writers:
                writer.close()
        finally:  # before the stack removes what the threads write
            pool.shutdown(cancel_futures=True)
    return {group: str(path) for group, path in zip(groups, paths, strict=True)}


def _cell_names(adata: AnnData, ids: Any) -> list[str]:
    if isinstance(ids, str):
        if ids not in adata.obs:
            found = ", ".join(map(repr, adata.obs.columns)) or "no columns"
            msg = f"adata.obs has no {ids!r} (it has {found}); name one of its columns or give a name for each cell."
            raise MissingSlotError(msg)
        ids = adata.obs[ids]
    names = [str(name) for name in (adata.obs_names if ids is None else ids)]
    if len(names) != adata.n_obs:
        msg = f"ids has {len(names)} names for {adata.n_obs} cells; give one for each cell, in the order of obs."
        raise InputError(msg)
    broken = next((name for name in names if "\t" in name or "\n" in name or "\r" in name), None)
    if broken is not None:
        msg = (
            f"the name {broken!r} of a cell holds a tab or a line end, which a BED file cannot; rename it or pass ids."
        )
        raise InputError(msg)
    return names


def _by_group(
    parts: Sequence[Attached], code: int, group_of_row: np.ndarray, keep: FragmentFilter, n_groups: int
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """(start, end, row of the cell, copies) of the kept fragments of one chromosome by group, and where each group begins."""
    found: list[tuple[np.ndarray, ...]] = []
    for part in parts:
        bk = backend_holding(part.fragments)
        columns = part.fragments.columns(code)
        start, end, cell, count = (bk.to_host(column) for column in columns[:4])
        row = part.row_of_cell[cell]
        group = np.where(row >= 0, group_of_row[row], np.int32(-1))
        group = keep.group_of(get("cpu"), code, start, end, group)
        kept = np.flatnonzero(group >= 0)
        found.append(tuple(column[kept] for column in (start, end, row, count, group)))
    start, end, row, count, group = (np.concatenate([part[k] for part in found]) for k in range(5))
    order = np.lexsort((end, start, group)) if len(found) > 1 else np.argsort(group, kind="stable")
    ptr = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=n_groups))])
    return tuple(column[order] for column in (start, end, row, count)), ptr
