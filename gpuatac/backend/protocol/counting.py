"""Fragments of one chromosome to counts and quality measures. Conventions as in ``protocol``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from gpuatac.backend.protocol.arrays import Csr

Strategy = Literal["insertion", "fragment", "paired-insertion"]
STRATEGIES: tuple[Strategy, ...] = ("insertion", "fragment", "paired-insertion")


class TssCounts(NamedTuple):
    """Insertions around TSSs. All int64; ``profile`` has 2 * window + 1 positions, 5' to 3'."""

    center: Any  # (n_rows,) insertions in the central 2 * half_center + 1 positions
    flank: Any  # (n_rows,) insertions in the first and last ``edge`` positions
    profile: Any  # (2 * window + 1,) over all rows
    n_inside: int  # insertions within at least one window, each counted once
    n_insertions: int  # all insertions of rows >= 0


class Quality(NamedTuple):
    """Every quality measure of one pass. All int64."""

    lengths: Any  # (max_length + 1,) fragments by length; entry 0 counts longer ones
    classes: Any  # (n_rows, n_bounds + 1) fragments by length class
    tss: TssCounts | None
    in_regions: Any  # (n_sets, n_rows) fragments (or cuts) that meet a region of each set

    @property
    def fragments(self) -> Any:
        """(n_rows,): all fragments of each row."""
        return self.classes.sum(axis=1)


class Counting(Protocol):
    """Fragments of one chromosome to counts. ``row`` < 0 leaves a fragment out everywhere."""

    def tile_counts(
        self, start: Any, end: Any, row: Any, *, n_rows: int, bin_size: int, n_bins: int, strategy: Strategy
    ) -> Csr:
        """Counts per (row, bin). insertion: +1 at bin(start) and at bin(end - 1); fragment: +1 in every bin it
        overlaps; paired-insertion: as insertion, but once when both ends share the bin.
        """
        ...

    def region_counts(
        self, start: Any, end: Any, row: Any, *, n_rows: int, region_start: Any, region_end: Any, strategy: Strategy
    ) -> Csr:
        """Counts per (row, region) for regions (int32, half-open, sorted by (start, end), free to overlap).

        insertion: each cut inside; fragment: 1 where the fragment overlaps by at least 1 bp;
        paired-insertion: 1 where at least one of the two cuts is inside.
        """
        ...

    def overlap_any(
        self, start: Any, end: Any, row: Any, *, n_rows: int, region_start: Any, region_end: Any, as_insertion: bool
    ) -> Any:
        """int64 (n_rows,): fragments overlapping any region (or cuts inside any); regions sorted and disjoint."""
        ...

    def tss_counts(
        self,
        start: Any,
        end: Any,
        row: Any,
        *,
        n_rows: int,
        tss: Any,
        reverse: Any,
        window: int,
        half_center: int,
        edge: int,
    ) -> TssCounts:
        """Cuts at positions tss - window ... tss + window of each TSS (int32, sorted; ``reverse`` bool: mirrored).

        A cut near several TSSs counts at each of them; n_inside counts it once. A window that sticks out of
        the chromosome start keeps its zero there (positions below 0 hold no cut).
        """
        ...

    def length_histogram(self, start: Any, end: Any, row: Any, *, max_length: int) -> Any:
        """int64 (max_length + 1,): fragments by length; entry 0 counts those longer than max_length."""
        ...

    def length_classes(self, start: Any, end: Any, row: Any, *, n_rows: int, bounds: tuple[int, ...]) -> Any:
        """int64 (n_rows, len(bounds) + 1): fragments with length < bounds[0], < bounds[1], ..., the rest."""
        ...

    def quality(
        self,
        start: Any,
        end: Any,
        row: Any,
        *,
        n_rows: int,
        max_length: int,
        bounds: tuple[int, ...],
        tss: Any | None = None,
        reverse: Any | None = None,
        window: int,
        half_center: int,
        edge: int,
        regions: list[tuple[Any, Any]],
        as_insertion: bool = False,
    ) -> Quality:
        """``length_histogram``, ``length_classes``, ``tss_counts`` (unless ``tss`` is None) and ``overlap_any`` of each
        (region_start, region_end) in ``regions``, in one pass; each number equals that of its own primitive.

        A part is left out by the argument that makes it nothing: max_length 0, no bounds (one class: all fragments), tss
        None, no regions. The arrays may be views of one table.
        """
        ...

    def row_sums(self, row: Any, values: Any | None, *, n_rows: int) -> Any:
        """int64 (n_rows,): number of fragments per row, or the sum of int32 ``values``."""
        ...

    def hstack(self, parts: list[Csr], widths: list[int]) -> Csr:
        """Join blocks of columns; column indices of part i are shifted by sum(widths[:i]).

        The list ``parts`` is emptied. Where the caller holds the parts nowhere else, their memory is given back while
        they are copied: on a CPU the parts and the result take hardly more than one of them at any time.
        """
        ...

    def max_over_groups(self, counts: Csr, group: Any, *, n_groups: int) -> Csr:
        """Per row and group the maximum over its columns; ``group`` int32 (n_columns,), any order."""
        ...
