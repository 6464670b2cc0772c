"""Fragments to counts, chromosome by chromosome; parts add up or join by columns."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np

from gpuatac.backend.protocol import Backend, Csr, Strategy
from gpuatac.fragments import CellTotals, Columns, Fragments
from gpuatac.threads import COUNTING_THREAD, get_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gpuatac.genome import Genome

T = TypeVar("T")
LOADING_BYTES = 48  # a fragment takes while its chromosome is loaded and counted
REPEATED = 16  # 1 / this of the regions must be repeats for them to be counted once and copied
TSS_WINDOW, TSS_HALF_CENTER, TSS_EDGE = 2000, 5, 100  # bp
NUCLEOSOME_BOUNDS = (147, 294)  # bp: nucleosome-free below, mononucleosomal between


class OnDisk(Protocol):
    """Fragments whose columns are loaded chromosome by chromosome (``io.fragments.store.StoredFragments``)."""

    genome: Genome
    barcodes: np.ndarray
    chrom_ptr: np.ndarray
    device: Literal["cpu", "gpu"]

    @property
    def n_cells(self) -> int:
        """Number of barcodes."""
        ...

    def __len__(self) -> int:
        """Number of fragments."""
        ...

    def chromosomes(self) -> Iterator[tuple[int, slice]]:
        """As ``Fragments.chromosomes``."""
        ...

    def columns(self, code: int) -> Columns:
        """As ``Fragments.columns``."""
        ...


Table = Fragments | OnDisk


class Sample(NamedTuple):
    """Fragments and, for each of their barcodes, the matrix row of that cell (int32, -1: not in the matrix)."""

    fragments: Table
    row_of_cell: Any


def sample_rows(bk: Backend, fragments: Table, row_of_cell: np.ndarray) -> Sample:
    """Fragments on ``bk`` with the rows of their cells."""
    if isinstance(fragments, Fragments):
        fragments = fragments.on(bk)
    return Sample(fragments, bk.asarray(np.asarray(row_of_cell, np.int32)))


def over_chromosomes(
    bk: Backend,
    sample: Sample,
    work: Callable[..., T],
    codes: Iterable[int] | None = None,
    *,
    with_count: bool = False,
) -> dict[int, T]:
    """``work(code, start, end, row)`` for each chromosome that has fragments, with ``count`` last where asked.

    On a CPU chromosomes are counted side by side. Fragments that stay on disk are loaded one chromosome at a time and
    thread, with fewer threads where two chromosomes would not fit into the memory limit.
    """
    wanted = None if codes is None else set(codes)
    f = sample.fragments
    jobs = [(c, s.stop - s.start) for c, s in f.chromosomes() if wanted is None or c in wanted]
    jobs.sort(key=lambda job: -job[1])

    def one(job: tuple[int, int]) -> T:
        columns = f.columns(job[0])
        row = sample.row_of_cell[columns.cell]
        extra = (columns.count,) if with_count else ()
        return work(job[0], columns.start, columns.end, row, *extra)

    n_threads = get_threads()
    if not isinstance(f, Fragments) and jobs:
        n_threads = max(1, min(n_threads, bk.limit() // 4 // (jobs[0][1] * LOADING_BYTES)))
    if bk.name == "gpu" or len(jobs) < 2 or n_threads == 1:
        results = [one(job) for job in jobs]
    else:
        with ThreadPoolExecutor(n_threads, COUNTING_THREAD, initializer=bk.use) as pool:
            results = list(pool.map(one, jobs))
    return {code: result for (code, _), result in zip(jobs, results, strict=True)}


def empty_csr(bk: Backend, n_rows: int) -> Csr:
    """A block without entries."""
    xp = bk.xp
    return Csr(xp.zeros(n_rows + 1, np.int64), xp.empty(0, np.int32), xp.empty(0, bk.count_dtype))


def add_rows(bk: Backend, parts: Sequence[Csr], shape: tuple[int, int]) -> Any:
    """Sum of matrices of one shape whose rows do not meet (one per sample)."""
    total = bk.csr(parts[0], shape)
    for part in parts[1:]:
        total = total + bk.csr(part, shape)
    return total


def n_bins(size: int, bin_size: int) -> int:
    """ceil(size / bin_size)."""
    return -(-size // bin_size)


def tile_matrix(
    bk: Backend,
    sample: Sample,
    n_rows: int,
    *,
    codes: Sequence[int],
    sizes: np.ndarray,
    bin_size: int,
    strategy: Strategy,
) -> Csr:
    """Counts of rows x tiles over the chromosomes ``codes``, joined in that order."""
    widths = {c: n_bins(int(sizes[c]), bin_size) for c in codes}

    def work(code: int, start: Any, end: Any, row: Any) -> Csr:
        return bk.counting.tile_counts(
            start, end, row, n_rows=n_rows, bin_size=bin_size, n_bins=widths[code], strategy=strategy
        )

    parts = over_chromosomes(bk, sample, work, codes)
    blank = empty_csr(bk, n_rows)
    return bk.counting.hstack([parts.pop(c, blank) for c in codes], [widths[c] for c in codes])


def region_matrix(
    bk: Backend,
    sample: Sample,
    n_rows: int,
    *,
    chrom: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    strategy: Strategy,
    lengths: tuple[int, int] | None = None,
) -> Csr:
    """Counts of rows x regions, regions in the order given (chrom -1: a column of zeros).

    ``lengths`` are the shortest and longest fragment that counts, in bp; None for all.

    Equal regions are counted once and copied where they are many, so that transcripts of one span cost nothing.
    """
    # chromosomes by first appearance: a sorted list keeps its order whatever the order of its chromosomes
    codes, first, appearance = np.unique(chrom, return_index=True, return_inverse=True)
    rank = np.empty(codes.size, np.int64)
    rank[np.argsort(first)] = np.arange(codes.size)
    order = np.lexsort((end, start, rank[appearance]))
    c, s, e = chrom[order], start[order], end[order]
    fresh = np.ones(order.size, bool)
    fresh[1:] = (c[1:] != c[:-1]) | (s[1:] != s[:-1]) | (e[1:] != e[:-1])
    if order.size - np.count_nonzero(fresh) < order.size // REPEATED:
        fresh[:] = True  # as regions of their own
    distinct = np.cumsum(fresh) - 1
    c, s, e = c[fresh], s[fresh].astype(np.int32), e[fresh].astype(np.int32)
    edges = np.append(np.flatnonzero(np.r_[True, c[1:] != c[:-1]]), c.size) if c.size else np.zeros(1, np.int64)
    span = {int(c[lo]): (int(lo), int(hi)) for lo, hi in itertools.pairwise(edges)}

    def work(code: int, f_start: Any, f_end: Any, row: Any) -> Csr:
        lo, hi = span[code]
        if lengths is not None:
            length = f_end - f_start
            row = bk.xp.where((length >= lengths[0]) & (length <= lengths[1]), row, np.int32(-1))
        return bk.counting.region_counts(
            f_start,
            f_end,
            row,
            n_rows=n_rows,
            region_start=bk.asarray(s[lo:hi]),
            region_end=bk.asarray(e[lo:hi]),
            strategy=strategy,
        )

    parts = over_chromosomes(bk, sample, work, [code for code in span if code >= 0])
    blank = empty_csr(bk, n_rows)
    widths = [hi - lo for lo, hi in span.values()]
    joined = bk.counting.hstack([blank, *(parts.pop(k, blank) for k in span)], [0, *widths])
    if fresh.all() and (order == np.arange(order.size)).all():
        return joined
    source = np.empty(order.size, np.int32)
    source[order] = distinct
    return bk.matrices.take_columns(joined, bk.asarray(source), n_columns=int(fresh.sum()))


def merge_intervals(chrom: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorted disjoint intervals (int32) covering the same bases; codes below 0 and empty intervals are left out."""
    keep = (chrom >= 0) & (end > start)
    chrom, start, end = chrom[keep].astype(np.int64), start[keep].astype(np.int64), end[keep].astype(np.int64)
    order = np.lexsort((end, start, chrom))
    chrom, start, end = chrom[order], start[order], end[order]
    if not order.size:
        none = np.empty(0, np.int32)
        return none, none, none
    span = np.int64(1) << 32
    reach = np.maximum.accumulate(chrom * span + end)
    fresh = np.ones(order.size, bool)
    fresh[1:] = chrom[1:] * span + start[1:] > reach[:-1]
    last = np.append(np.flatnonzero(fresh)[1:] - 1, order.size - 1)
    return chrom[fresh].astype(np.int32), start[fresh].astype(np.int32), (reach[last] % span).astype(np.int32)


def cell_totals(bk: Backend, sample: Sample, n_rows: int, *, mito_codes: Sequence[int]) -> CellTotals:
    """Rows, mitochondrial rows and copies of each cell."""

    def work(_code: int, _start: Any, _end: Any, row: Any, count: Any) -> tuple[Any, Any]:
        return bk.counting.row_sums(row, None, n_rows=n_rows), bk.counting.row_sums(row, count, n_rows=n_rows)

    rows, mito_rows, copies = (bk.xp.zeros(n_rows, np.int64) for _ in range(3))
    for code, (n, c) in over_chromosomes(bk, sample, work, with_count=True).items():
        rows += n
        copies += c
        if code in mito_codes:
            mito_rows += n
    return CellTotals(bk.to_host(rows), bk.to_host(mito_rows), bk.to_host(copies))
