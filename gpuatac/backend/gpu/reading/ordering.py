"""Rows in file order to rows sorted by (chromosome, start, end, cell), on a GPU: stable radix sorts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuatac.backend.protocol import Segment

BITS = 31  # of a coordinate or a cell, none of them negative


class Ordering:
    """The GPU side of ``protocol.Ordering``."""

    def __init__(self, xp: Any) -> None:
        self._xp = xp

    def count_kept(self, groups: Sequence[Sequence[Any]], new_code: Any) -> list[int]:
        """See ``protocol.Ordering.count_kept``. One transfer."""
        xp = self._xp
        cells = [cell for group in groups for cell in group]
        if not cells:
            return [0] * len(groups)
        kept = iter(xp.stack([(new_code[cell] >= 0).sum() for cell in cells]).tolist())
        return [sum(next(kept) for _ in group) for group in groups]

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
        cell = new_code[cell]
        if int(out.start.size) < int(cell.size):
            kept = xp.flatnonzero(cell >= 0)
            start, end, cell, count = (column[kept] for column in (start, end, cell, count))
            strand = None if strand is None else strand[kept]
        came_sorted = bool((start[1:] >= start[:-1]).all())
        order = self._order(start, end, cell)
        for target, column in zip(out, (start, end, cell, count, strand), strict=True):
            if target is not None:
                target[...] = column[order]
        return came_sorted

    def _order(self, place: Any, end: Any, cell: Any) -> Any:
        """The order by (place, end, cell), ties as they come."""
        xp = self._xp
        by_tie = xp.argsort((end.astype(np.int64) << BITS) | cell, kind="stable")
        return by_tie[xp.argsort(place[by_tie], kind="stable")]

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
        order = kept[self._order(place, end[kept], cell[kept])]
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
