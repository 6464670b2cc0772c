"""Every quality measure of a sample in one pass over its fragments."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpuatac.backend.protocol import Quality, TssCounts
from gpuatac.core.counting.counts import TSS_EDGE, TSS_HALF_CENTER, TSS_WINDOW, merge_intervals, over_chromosomes

if TYPE_CHECKING:
    from gpuatac.backend.protocol import Backend
    from gpuatac.core.counting.counts import Sample
    from gpuatac.core.counting.regions import Coordinates


class Sites(NamedTuple):
    """Transcription start sites, in any order: code of the chromosome, 0-based position, whether on the - strand."""

    chrom: np.ndarray
    pos: np.ndarray
    reverse: np.ndarray


@dataclass(frozen=True)
class Question:
    """What to count; what is left at its default costs nothing.

    Attributes
    ----------
    max_length
        Longest fragment (bp) with an entry of its own in the histogram of lengths; 0: no histogram.
    bounds
        Lengths (bp) at which the length classes of each row begin; none: one class of all fragments.
    sites
        TSSs to count cuts around.
    regions
        Sets of regions; overlaps within a set are merged first.
    as_insertion
        Count cuts inside the regions instead of fragments that overlap one.
    """

    max_length: int = 0
    bounds: tuple[int, ...] = ()
    sites: Sites | None = None
    regions: tuple[Coordinates, ...] = ()
    as_insertion: bool = False


def quality(bk: Backend, sample: Sample, n_rows: int, question: Question) -> Quality:
    """The answer summed over all chromosomes, on the host: one call of ``over_chromosomes``."""
    sites = None
    if question.sites is not None:
        order = np.lexsort((question.sites.pos, question.sites.chrom))
        sites = Sites(*(column[order] for column in question.sites))
    merged = [merge_intervals(*regions) for regions in question.regions]
    total: list[Quality] = []
    lock = Lock()

    def work(code: int, start: Any, end: Any, row: Any) -> None:
        regions = []
        for c, s, e in merged:
            lo, hi = np.searchsorted(c, [code, code + 1])
            regions.append((bk.asarray(s[lo:hi]), bk.asarray(e[lo:hi])))
        tss = reverse = None
        if sites is not None:
            lo, hi = np.searchsorted(sites.chrom, [code, code + 1])
            tss, reverse = bk.asarray(sites.pos[lo:hi].astype(np.int32)), bk.asarray(sites.reverse[lo:hi].astype(bool))
        part = bk.counting.quality(
            start,
            end,
            row,
            n_rows=n_rows,
            max_length=question.max_length,
            bounds=question.bounds,
            tss=tss,
            reverse=reverse,
            window=TSS_WINDOW,
            half_center=TSS_HALF_CENTER,
            edge=TSS_EDGE,
            regions=regions,
            as_insertion=question.as_insertion,
        )
        with lock:  # one running sum: a table for each chromosome would be held to the end
            total[:] = [_sum(total[0], part) if total else part]

    over_chromosomes(bk, sample, work)
    return _on_host(bk, total[0]) if total else _nothing(question, n_rows)


def add(parts: list[Quality]) -> Quality:
    """The sum over samples."""
    total = parts[0]
    for part in parts[1:]:
        total = _sum(total, part)
    return total


def _sum(total: Quality, part: Quality) -> Quality:
    """``total`` with ``part`` added, in the arrays of ``total``."""
    total.lengths[...] += part.lengths
    total.classes[...] += part.classes
    total.in_regions[...] += part.in_regions
    if total.tss is None or part.tss is None:
        return total
    for mine, more in zip(total.tss[:3], part.tss[:3], strict=True):
        mine[...] += more
    tss = total.tss._replace(
        n_inside=total.tss.n_inside + part.tss.n_inside, n_insertions=total.tss.n_insertions + part.tss.n_insertions
    )
    return total._replace(tss=tss)


def _on_host(bk: Backend, found: Quality) -> Quality:
    tss = None
    if found.tss is not None:
        center, flank, profile = map(bk.to_host, found.tss[:3])
        tss = TssCounts(center, flank, profile, found.tss.n_inside, found.tss.n_insertions)
    return Quality(bk.to_host(found.lengths), bk.to_host(found.classes), tss, bk.to_host(found.in_regions))


def _nothing(question: Question, n_rows: int) -> Quality:
    """The answer of a sample without fragments."""
    zeros = np.zeros(n_rows, np.int64)
    tss = TssCounts(zeros, zeros.copy(), np.zeros(2 * TSS_WINDOW + 1, np.int64), 0, 0)
    return Quality(
        np.zeros(question.max_length + 1, np.int64),
        np.zeros((n_rows, len(question.bounds) + 1), np.int64),
        None if question.sites is None else tss,
        np.zeros((len(question.regions), n_rows), np.int64),
    )
