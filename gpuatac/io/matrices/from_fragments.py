"""Count matrices of the fragments of an AnnData, by parts where they would not fit into memory."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac import progress
from gpuatac.backend.protocol import Csr
from gpuatac.core.counting import counts
from gpuatac.core.rows import MAX_NNZ, splits
from gpuatac.io.fragments.attach import Attached, attached, path_of, records_of
from gpuatac.io.fragments.store import backend_holding, is_store
from gpuatac.io.matrices.csr_file import DiskBuilder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData

    from gpuatac.backend.protocol import Backend

logger = logging.getLogger(__name__)
BUILD_SHARE = 2  # entries of a block of rows may take this part of the limit while they are counted
BUILD_BYTES = {"cpu": 10, "gpu": 64}  # an entry, while it is counted: int32 column and count, and what is being joined
HELD_SHARE = 4  # a matrix stays in memory up to this part of the limit
ENTRY_BYTES = 8


def count_matrix(
    adata: AnnData, question: Callable[[Backend, counts.Sample, int], Csr], n_columns: int, *, per_fragment: float = 2.0
) -> Any:
    """One CSR from the Csr answers of all samples: int32 on a CPU, float32 on a GPU.

    ``per_fragment`` is about how many entries a fragment can add. Where they would take more than a share of the memory
    limit the question is asked for blocks of rows, each in a pass of its own over the fragments; where the whole would,
    the matrix is left on disk, as anndata shows CSR matrices of an HDF5 file: int32 from either device, and verbs take its
    blocks to the device of the fragments.
    """
    parts = attached(adata)
    bk = backend_holding(parts[0].fragments)
    blocks = _row_blocks(bk, parts, adata.n_obs, per_fragment)
    most = sum(len(part.fragments) for part in parts) * per_fragment
    with (
        _RowJoiner(bk, n_columns, _scratch_parent(adata), most=most) as joined,
        progress.bar("rows", adata.n_obs) as done,
    ):
        for low, high in blocks:
            answers = []
            for part in parts:
                row = part.row_of_cell
                here = np.where((row >= low) & (row < high), row - low, -1) if len(blocks) > 1 else row
                answers.append(question(bk, counts.sample_rows(bk, part.fragments, here), high - low))
            if len(blocks) == 1 and len(answers) == 1:
                return bk.csr(answers[0], (adata.n_obs, n_columns))
            joined.append(counts.add_rows(bk, answers, (high - low, n_columns)))
            done(high - low)
        return joined.finish()


def _row_blocks(bk: Backend, parts: list[Attached], n_rows: int, per_fragment: float) -> list[tuple[int, int]]:
    """Ranges of rows whose entries fit into their share of memory while they are counted."""
    most = min(int(bk.limit() // BUILD_SHARE // BUILD_BYTES[bk.name]), MAX_NNZ)
    if sum(len(part.fragments) for part in parts) * per_fragment <= most:
        return [(0, n_rows)]
    entries = np.zeros(n_rows)
    for part in parts:
        totals = part.fragments.totals
        if totals is None:
            everyone = counts.sample_rows(bk, part.fragments, np.arange(part.fragments.n_cells, dtype=np.int32))
            totals = counts.cell_totals(bk, everyone, part.fragments.n_cells, mito_codes=[])
        kept = part.row_of_cell >= 0
        entries[part.row_of_cell[kept]] += totals.rows[kept] * per_fragment
    return splits(np.concatenate([[0], np.cumsum(entries)]).astype(np.int64), most)


def _scratch_parent(adata: AnnData) -> Path | None:
    """Beside the fragments' data set; None (the system's place for temporary files) where there is none."""
    path = path_of(adata, records_of(adata)[0])
    return path.parent if is_store(path) else None


class _RowJoiner:
    """Puts blocks of rows below each other: in memory while they fit, in an HDF5 file beyond that."""

    def __init__(self, bk: Backend, n_columns: int, scratch_parent: Path | None, *, most: float) -> None:
        self._most = most
        self._bk = bk
        self._n_columns = n_columns
        self._scratch_parent = scratch_parent
        self._held: list[Any] = []
        self._limit = int(bk.limit() // HELD_SHARE // ENTRY_BYTES)
        if bk.name == "gpu":  # no index of its libraries goes beyond
            self._limit = min(self._limit, MAX_NNZ)
        self._builder: DiskBuilder | None = None

    def __enter__(self) -> _RowJoiner:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self._builder is not None:
            self._builder.__exit__(kind)

    def append(self, block: Any) -> None:
        """The next rows, a CSR matrix of the backend."""
        self._held.append(block)
        if self._builder is not None or sum(b.nnz for b in self._held) > self._limit:
            self._to_disk()

    def _to_disk(self) -> None:
        if self._builder is None:
            streamed = "; what is computed on it goes through the GPU by blocks of rows" if self._bk.name == "gpu" else ""
            logger.info(
                "memory: the matrix has more than %s non-zeros, its share of the limit, and is kept on disk%s",
                f"{self._limit:,}",
                streamed,
            )
            self._builder = DiskBuilder(
                self._scratch_parent, self._n_columns, np.int32, most=self._most, device=self._bk.name
            )
        while self._held:
            block = self._bk.csr_to_host(self._held.pop(0))
            self._builder.append(block.indptr, block.indices, block.data)

    def finish(self) -> Any:
        """The whole matrix."""
        if self._builder is not None:
            return self._builder.finish()
        if self._bk.name == "gpu":
            return self._bk.sparse.vstack(self._held, format="csr")
        n_rows = sum(b.shape[0] for b in self._held)
        nnz = sum(b.nnz for b in self._held)
        indptr = np.zeros(n_rows + 1, np.int64)
        indices, data = np.empty(nnz, np.int32), np.empty(nnz, self._bk.count_dtype)
        row = at = 0
        while self._held:  # each block goes as soon as it is copied
            block = self._held.pop(0)
            indptr[row + 1 : row + 1 + block.shape[0]] = block.indptr[1:].astype(np.int64) + at
            indices[at : at + block.nnz], data[at : at + block.nnz] = block.indices, block.data
            row += block.shape[0]
            at += block.nnz
        return self._bk.csr(Csr(indptr, indices, data), (n_rows, self._n_columns))
