"""Peaks of a clean track, which the models learn to find."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac.backend import as_host
from gpuatac.core.counting.regions import coordinates
from gpuatac.core.tracks.threshold_peaks import ThresholdPeaks
from gpuatac.io.genome.bed import regions_frame
from gpuatac.nn.contract import PeakRule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gpuatac.core.track_source import TrackSource
    from gpuatac.genome import Genome

PIECE = 4_000_000  # bases at a time
SIGNIFICANT = 1e-3  # of the Poisson rule: -log10 p > 3

Peaks = dict[int, np.ndarray]  # by code: int64 (n, 2), ascending, disjoint


def peaks_of_bed(regions: Any, genome: Genome) -> Peaks:
    """Peaks of a BED file or frame by chromosome, overlapping ones joined.

    Examples
    --------
    >>> from gpuatac import Genome
    >>> from gpuatac.nn.denoising.examples.clean_peaks import peaks_of_bed
    >>> peaks_of_bed(["chr1:10-30", "chr1:20-50"], Genome("toy", {"chr1": 100}))[0].tolist()
    [[10, 50]]
    """
    code, start, end = (np.asarray(part) for part in coordinates(regions_frame(regions, genome), genome, what="peaks"))
    out = {}
    for one in np.unique(code[code >= 0]):
        of = code == one
        out[int(one)] = joined(start[of], end[of])
    return out


def joined(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Intervals that overlap or touch as one: int64 (n, 2), ascending."""
    order = np.argsort(start, kind="stable")
    start, last = start[order].astype(np.int64), np.maximum.accumulate(end[order].astype(np.int64))
    first = np.ones(len(start), bool)
    first[1:] = start[1:] > last[:-1]
    return np.stack([start[first], last[np.flatnonzero(np.append(first[1:], True))] if len(start) else last], axis=1)


def poisson_cutoff(mean: float, *, p: float = SIGNIFICANT) -> int:
    """The smallest coverage T with P(X >= T) < p under Poisson(mean), at least 1.

    Coverage of a whole chromosome at its mean is what MACS2's ``bdgcmp -m ppois`` tests against in AtacWorks' recipe, with a
    cutoff of 3 on -log10 p.

    Examples
    --------
    >>> from gpuatac.nn.denoising.examples.clean_peaks import poisson_cutoff
    >>> poisson_cutoff(5.2)
    15
    """
    from scipy.stats import poisson

    t = max(int(poisson.isf(p, mean)), 0)
    while poisson.sf(t - 1, mean) >= p:
        t += 1
    return max(t, 1)


def peaks_of_track(source: TrackSource, codes: Iterable[int], *, row: int = 0, rule: PeakRule | None = None) -> Peaks:
    """Peaks of row ``row`` of a clean track: runs of coverage at or over a cutoff, by MACS2's bdgpeakcall.

    Parameters
    ----------
    source
        Coverage; bases that are unknown are below any cutoff.
    codes
        Chromosomes.
    row
        The group.
    rule
        Cutoff in coverage, shortest peak and widest gap; None: ``poisson_cutoff`` of the mean of each chromosome's known bases,
        200 bp, 30 bp.

    Cost: two passes over the coverage.

    References: Zhang et al. 2008, Genome Biology 9, R137 (MACS); Lal et al. 2021, Nature Communications 12, 1507.
    """
    out = {}
    for code in codes:
        if rule is None:
            found = PeakRule(cutoff=poisson_cutoff(mean_coverage(source, code, row=row)))
        else:
            found = rule
        peaks = ThresholdPeaks(found.cutoff, min_length=found.min_length, max_gap=found.max_gap)
        for start, values in pieces(source, code, row=row):
            filled = np.nan_to_num(values)
            peaks.add(start, filled, filled)
        table = peaks.finish()
        out[int(code)] = np.stack([np.asarray(table[name], np.int64) for name in ("start", "end")], axis=1)
    return out


def mean_coverage(source: TrackSource, code: int, *, row: int = 0) -> float:
    """Mean coverage of the known bases of a chromosome."""
    total, n = 0.0, 0
    for _, values in pieces(source, code, row=row):
        known = ~np.isnan(values)
        total += float(values.sum(dtype=np.float64, where=known))
        n += int(known.sum())
    return total / max(n, 1)


def pieces(source: TrackSource, code: int, *, row: int = 0) -> Iterator[tuple[int, np.ndarray]]:
    """(start, host float32 coverage) of a chromosome in pieces, ascending."""
    size = int(source.genome.sizes[code])
    for start in range(0, size, PIECE):
        yield start, as_host(source.coverage(code, start, min(start + PIECE, size))[row])


def labels(peaks: Mapping[int, np.ndarray], code: int, start: int, stop: int) -> np.ndarray:
    """float32 (stop - start,): 1 in a peak, 0 elsewhere."""
    out = np.zeros(stop - start, np.float32)
    own = peaks.get(code)
    if own is not None and len(own):
        first, last = np.searchsorted(own[:, 1], start, "right"), np.searchsorted(own[:, 0], stop, "left")
        for a, b in own[first:last]:
            out[max(a - start, 0) : b - start] = 1
    return out
