"""Rows in any order, block by block, to sorted fragments: in memory, or chromosome by chromosome through disk.

Blocks are split by chromosome as they come. While they fit into a share of the memory limit they are kept; beyond it
they are written to a scratch folder, one file for each chromosome, and later sorted one chromosome at a time.
"""

from __future__ import annotations

import logging
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac import progress
from gpuatac.backend.protocol import BarcodeTotals, ChromRun, Segment
from gpuatac.fragments import CellTotals, Columns, Fragments, ReadSummary
from gpuatac.io.files.scratch import new_scratch
from gpuatac.memory import give_back
from gpuatac.threads import get_threads

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from gpuatac.backend.protocol import Backend, ParsedBlock
    from gpuatac.genome import Genome

logger = logging.getLogger(__name__)
ROW_BYTES = 16  # start, end, cell and count
KEPT_SHARE = 5  # columns stay in memory up to this part of the limit


def resident_limit(bk: Backend) -> int:
    """Bytes of columns that may stay in memory."""
    return bk.limit() // KEPT_SHARE


class Collector:
    """Takes parsed blocks in file order; ``finish`` says which barcodes are kept; then come the sorted columns.

    Use it as a context manager: the scratch folder (made in ``scratch``, or where the system keeps temporary files) goes
    when the block ends. ``keep_all`` holds everything in memory, whatever the limit.
    """

    def __init__(
        self,
        bk: Backend,
        genome: Genome,
        *,
        mito_codes: Collection[int],
        scratch: Path | None,
        keep_all: bool = False,
    ) -> None:
        self.bk = bk
        self.genome = genome
        self.has_strand = False
        self.n_rows = 0
        self._is_mito = np.zeros(len(genome.names), bool)
        self._is_mito[list(mito_codes)] = True
        self._table = bk.parsing.barcodes(self._is_mito)
        self._totals: BarcodeTotals | None = None
        self._segments: list[list[Segment]] = [[] for _ in genome.names]
        self._held = 0
        self._limit = sys.maxsize if keep_all else resident_limit(bk)
        self._scratch_parent = scratch
        self._scratch: Path | None = None
        self._spilled: list[list[tuple[int, bool]]] = [[] for _ in genome.names]  # (rows, with strand) of each record
        self._new_code: Any = None

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, *_: object) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    @property
    def on_disk(self) -> bool:
        """Whether columns went to disk, so that they should not be gathered in memory again."""
        return self._scratch is not None

    @property
    def barcodes(self) -> BarcodeTotals:
        """The barcodes of all rows taken, and their totals; they come to the host when first asked for."""
        if self._totals is None:
            self._totals = self._table.totals()
        return self._totals

    def add(self, block: ParsedBlock) -> None:
        """Take the rows of the next block."""
        self._totals = None
        n = int(block.start.shape[0])
        cell = self._table.add(block)
        if not n:
            return
        for code, piece in self._by_chromosome(block, cell):
            self._segments[code].append(piece)
        self._account(n, with_strand=block.has_strand)

    def add_fragments(self, fragments: Fragments) -> None:
        """Take the rows of a table; nothing else is taken then."""
        bk, xp = self.bk, self.bk.xp
        n = fragments.n_cells
        rows, mito, copies = (np.zeros(n, np.int64) for _ in range(3))
        for code, _ in fragments.chromosomes():
            part = fragments.columns(code)
            count = bk.to_host(xp.bincount(part.cell, minlength=n)).astype(np.int64)
            rows += count
            mito += count * self._is_mito[code]
            copies += bk.to_host(xp.bincount(part.cell, weights=part.count, minlength=n)).astype(np.int64)
            self._segments[code].append(Segment(*part))
        names = [name.encode() for name in fragments.barcodes.tolist()]
        text = np.frombuffer(b"".join(names), np.uint8)
        self._totals = BarcodeTotals(text, np.cumsum([0, *map(len, names)], dtype=np.int64), rows, mito, copies)
        self.n_rows += len(fragments)
        self.has_strand |= fragments.strand is not None

    def _by_chromosome(self, block: ParsedBlock, cell: Any) -> Iterator[tuple[int, Segment]]:
        xp = self.bk.xp
        strand = block.strand if block.has_strand else None
        columns: tuple[Any, ...] = (block.start, block.end, cell, block.count, strand)
        runs = block.runs
        if runs is None:
            order = xp.argsort(block.chrom, kind="stable")
            columns = tuple(None if c is None else c[order] for c in columns)
            codes = xp.arange(len(self.genome.names) + 1, dtype=block.chrom.dtype)
            edges = self.bk.to_host(xp.searchsorted(block.chrom[order], codes)).tolist()
            runs = [ChromRun(code, *edges[code : code + 2]) for code in range(len(edges) - 1)]
        for code, low, high in runs:
            if low < high:
                yield code, Segment(*(None if c is None else c[low:high] for c in columns))

    def _account(self, n: int, *, with_strand: bool) -> None:
        self.n_rows += n
        self.has_strand |= with_strand
        self._held += n * (ROW_BYTES + with_strand)
        if self._held > self._limit:
            self._spill()

    def _spill(self) -> None:
        """Move the rows held to the scratch folder."""
        if self._scratch is None:
            self._scratch = new_scratch(self._scratch_parent)
            logger.info(
                "memory: %d MB of fragments in memory, the share of the limit (%d MB): they go to disk from here on",
                self._held >> 20,
                self.bk.limit() >> 20,
            )
        for code, segments in enumerate(self._segments):
            if not segments:
                continue
            with (self._scratch / f"{code}.bin").open("ab") as out:
                for segment in segments:
                    self._spilled[code].append((int(segment.start.shape[0]), segment.strand is not None))
                    for column in segment:
                        if column is not None:
                            np.ascontiguousarray(self.bk.to_host(column)).tofile(out)
            segments.clear()
        self._held = 0
        give_back()

    def finish(self, keep: np.ndarray, order: np.ndarray) -> None:
        """Keep the barcodes ``order`` (numbers, in their final order); ``keep`` is their mask."""
        new_code = np.full(max(keep.size, 1), -1, np.int32)
        new_code[order] = np.arange(order.size, dtype=np.int32)
        self._new_code = self.bk.asarray(new_code)
        if self.on_disk:
            self._spill()

    def totals(self, order: np.ndarray) -> CellTotals:
        """Rows, mitochondrial rows and copies of the barcodes ``order``."""
        table = self.barcodes
        return CellTotals(table.rows[order], table.mito_rows[order], table.copies[order])

    def _take(self, code: int) -> list[Segment]:
        """The rows of one chromosome, which the collector forgets."""
        segments, self._segments[code] = self._segments[code], []
        if self._scratch is None or not self._spilled[code]:
            return segments
        path = self._scratch / f"{code}.bin"
        with path.open("rb") as file:
            for n, with_strand in self._spilled[code]:
                start, end, cell, count = (self.bk.asarray(np.fromfile(file, np.int32, n)) for _ in range(4))
                strand = self.bk.asarray(np.fromfile(file, np.int8, n)) if with_strand else None
                segments.append(Segment(start, end, cell, count, strand))
        path.unlink()
        return segments

    def chromosome(self, code: int) -> tuple[Columns, bool]:
        """Kept rows of one chromosome, sorted by (start, end, cell), and whether they came sorted by start; once only."""
        segments = self._take(code)
        (n,) = self.bk.ordering.count_kept([[s.cell for s in segments]], self._new_code)
        out = self._empty(n)
        return out, self.bk.ordering.merge_segments(segments, self._new_code, out)

    def _empty(self, n: int) -> Columns:
        xp = self.bk.xp
        start, end, cell, count = (xp.empty(n, np.int32) for _ in range(4))
        return Columns(start, end, cell, count, xp.empty(n, np.int8) if self.has_strand else None)

    def fragments(self, barcodes: np.ndarray, summary: ReadSummary, totals: CellTotals) -> Fragments:
        """Everything in memory."""
        bk = self.bk
        n_chroms = len(self.genome.names)
        kept = bk.ordering.count_kept([[s.cell for s in segments] for segments in self._segments], self._new_code)
        ptr = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])
        flat = self._empty(int(ptr[-1]))
        whole = Fragments(self.genome, barcodes, ptr, *flat, summary, totals)

        def fill(code: int) -> bool:
            return bk.ordering.merge_segments(self._take(code), self._new_code, whole.columns(code))

        with (
            ThreadPoolExecutor(get_threads() if bk.name == "cpu" else 1, initializer=bk.use) as pool,
            progress.bar("sorting", int(ptr[-1]), scale=True) as done,
        ):
            for code, was_sorted in enumerate(pool.map(fill, range(n_chroms))):
                summary.sorted_input &= was_sorted
                done(int(kept[code]))
                if kept[code]:
                    give_back()
        return whole
