"""Rows in file order to rows sorted by (chromosome, start, end, cell), on a GPU: three stable radix sorts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from gpuatac.backend.protocol import Segment

BITS = 31  # of a coordinate or a cell, none of them negative


class Ordering:
    """The GPU side of ``protocol.Ordering``."""

    def __init__(self, xp: Any) -> None:
        self._xp = xp

    def count_kept(self, cell: Any, new_code: Any) -> int:
        """See ``protocol.Ordering.count_kept``."""
        return int((new_code[cell] >= 0).sum())

    def merge_segments(self, segments: list[Segment], new_code: Any, out: Any) -> bool:
        """See ``protocol.Ordering.merge_segments``."""
        xp = self._xp
        if not segments:
            return True
        start, end, cell, count = (xp.concatenate([s[i] for s in segments]) for i in range(4))
        strand = None
        if out.strand is not None:
            strand = xp.concatenate(
                [xp.zeros(s.start.size, np.int8) if s.strand is None else s.strand for s in segments]
            )
        segments.clear()
        chrom = xp.zeros(start.size, np.int16)
        _, *columns, came_sorted = self.sort_fragments(chrom, start, end, new_code[cell], count, strand, n_chroms=1)
        for target, column in zip(out, columns, strict=True):
            if target is not None:
                target[...] = column
        return came_sorted

    def sort_fragments(
        self, chrom: Any, start: Any, end: Any, cell: Any, count: Any, strand: Any | None, *, n_chroms: int
    ) -> tuple[np.ndarray, Any, Any, Any, Any, Any | None, bool]:
        """See ``protocol.Ordering.sort_fragments``."""
        xp = self._xp
        kept = xp.flatnonzero(cell >= 0)
        place = (chrom[kept].astype(np.int64) << BITS) | start[kept]
        by_chrom = xp.argsort(chrom[kept], kind="stable")
        ordered = place[by_chrom]
        came_sorted = bool((ordered[1:] >= ordered[:-1]).all())
        ties = (end[kept].astype(np.int64) << BITS) | cell[kept]
        by_tie = xp.argsort(ties, kind="stable")
        order = kept[by_tie[xp.argsort(place[by_tie], kind="stable")]]
        ptr = np.zeros(n_chroms + 1, np.int64)
        ptr[1:] = np.cumsum(xp.bincount(chrom[kept], minlength=n_chroms).tolist())
        return (
            ptr,
            start[order],
            end[order],
            cell[order],
            count[order],
            None if strand is None else strand[order],
            came_sorted,
        )
