"""Broad regions: weak segments joined over wide gaps, with the strong stretches nested in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gpuatac.backend.protocol import Segments
from gpuatac.core.peaks.scores import FEWEST_FOLD, Blocks, CalledPeaks, Scores, fold_change, segments_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpuatac.backend.protocol import Backend, Cutoffs, Geometry, GroupEnds


def call(
    bk: Backend,
    sources: Sequence[Callable[[], GroupEnds]],
    geometry: Geometry,
    weak: Cutoffs,
    strong: Cutoffs,
    scores: list[Scores],
    spans: list[tuple[int, ...]],
) -> list[tuple[CalledPeaks, Blocks]]:
    """For each group its broad regions and the strong blocks in them; chromosomes without a strong block have no region."""
    n_groups = len(scores)
    found: list[list[tuple[CalledPeaks, Blocks]]] = [[] for _ in range(n_groups)]
    for code in range(len(sources)):  # chromosome by chromosome: the segments of one are all that is held
        part = bk.peaks.above([sources[code]], geometry, weak)[0]
        part = Segments(*(bk.to_host(column) for column in part))
        for g in range(n_groups):
            own = segments_of(part, g)
            found[g].append(_regions(own, code, scores[g], _strong(own, strong, g), spans[g]))
    return [_joined(parts) for parts in found]


def _strong(segments: Segments, cutoffs: Cutoffs, group: int) -> np.ndarray:
    """bool: which of the weak segments are above the strong cutoff too."""
    least = cutoffs.least[cutoffs.ptr[group] : cutoffs.ptr[group + 1]]
    above = segments.t >= least[segments.n]
    if cutoffs.holes:
        above &= ~np.isin(segments.n.astype(np.int64) << 32 | segments.t, cutoffs.holes[group])
    return above


def _spans(start: np.ndarray, end: np.ndarray, max_gap: int, min_length: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last + 1 segment of each stretch, joined over gaps and long enough."""
    if not start.size:
        none = np.empty(0, np.int64)
        return none, none
    first = np.flatnonzero(np.concatenate([[True], start[1:].astype(np.int64) - end[:-1] > max_gap]))
    last = np.append(first[1:], start.size)
    keep = end[last - 1].astype(np.int64) - start[first] >= min_length
    return first[keep], last[keep]


def _mean(values: np.ndarray, length: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """float32 means over segments weighted by length; summed in order, in float64, as MACS3 does."""
    weighted = values.astype(np.float64) * length
    out = np.empty(first.size, np.float32)
    for i, (a, b) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        out[i] = np.cumsum(weighted[a:b])[-1] / length[a:b].sum()
    return out


def _regions(
    segments: Segments, code: int, scores: Scores, strong: np.ndarray, span: tuple[int, ...]
) -> tuple[CalledPeaks, Blocks]:
    min_length, max_gap, wide_gap = span
    s_first, s_last = _spans(segments.start[strong], segments.end[strong], max_gap, min_length)
    b_start, b_end = segments.start[strong][s_first], segments.end[strong][s_last - 1]
    first, last = _spans(segments.start, segments.end, wide_gap, min_length)
    if not b_start.size:
        first = last = first[:0]
    start, end = segments.start[first], segments.end[last - 1]
    length = (segments.end - segments.start).astype(np.int64)
    at = scores.at(segments.n, segments.t)
    fold = fold_change(segments.t, scores.rate[at])
    values = (segments.t.astype(np.float32), scores.p[at], scores.q[at], fold)
    pileup, p, q, fc = (_mean(v, length, first, last) for v in values)
    none = np.full(start.size, -1, np.int32)
    peaks = CalledPeaks(np.full(start.size, code, np.int32), start, end, none, none * 0, pileup, p, q, fc)
    region = np.searchsorted(start, b_start, side="right") - 1
    keep = fc >= FEWEST_FOLD
    number = np.cumsum(keep) - 1
    b_keep = keep[region]
    blocks = Blocks(number[region[b_keep]].astype(np.int64), b_start[b_keep], b_end[b_keep])
    return CalledPeaks(*(column[keep] for column in peaks)), blocks


def _joined(parts: list[tuple[CalledPeaks, Blocks]]) -> tuple[CalledPeaks, Blocks]:
    shift = np.cumsum([0, *(len(peaks.start) for peaks, _ in parts)])
    peaks = CalledPeaks(*(np.concatenate(columns) for columns in zip(*(p for p, _ in parts), strict=True)))
    region = np.concatenate([blocks.region + k for (_, blocks), k in zip(parts, shift, strict=False)])
    start, end = (np.concatenate([blocks[k] for _, blocks in parts]) for k in (1, 2))
    return peaks, Blocks(region, start, end)
