"""How peaks are called and scored: the model, what is found, and p and q of every (pileup, background) that occurs."""

from __future__ import annotations

from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gpuatac.backend.protocol import Geometry, SegmentLengths, Segments

if TYPE_CHECKING:
    from gpuatac.backend.protocol import Backend
    from gpuatac.core.tracks.pseudobulk import Totals

LOCAL = 10_000  # bp of the background window
BROAD_GAPS = 4  # gaps of broad regions are so many times wider
NEVER = np.iinfo(np.int32).max
SURE = 0.31  # P(X > t) > 1/2 for t < rate - 2, so -log10 p is below this there
FEWEST_FOLD = 1.0


@dataclass(frozen=True)
class PeakModel:
    """How peaks are called; lengths in bp.

    ``whole``: the pileup is of fragments, else of cuts, each made ``extsize`` wide after a shift by ``shift``. ``copies``: a
    fragment counts as often as it was copied. ``min_length`` and ``max_gap`` None: MACS3's own values. Cutoffs are on q, or
    on p where ``pvalue`` is given.
    """

    qvalue: float = 0.05
    pvalue: float | None = None
    whole: bool = False
    copies: bool = False
    shift: int = -100
    extsize: int = 200
    min_length: int | None = None
    max_gap: int | None = None
    nolambda: bool = False
    call_summits: bool = True
    broad: bool = False
    broad_cutoff: float = 0.1

    @property
    def geometry(self) -> Geometry:
        """What the passes need to know."""
        wide = 0 if self.nolambda else LOCAL
        return Geometry(self.whole, self.shift, self.extsize, wide, clip=not (self.whole and self.copies))

    def lengths(self, mean_length: float) -> tuple[int, ...]:
        """(min_length, max_gap): ``extsize`` and 30 for cuts, the mean length of a fragment for fragments.

        For broad regions a third follows: the gap between weak stretches.
        """
        least = int(mean_length) if self.whole else self.extsize
        gap: float = mean_length if self.whole else 30
        if self.max_gap is not None:
            gap = self.max_gap
        least = least if self.min_length is None else self.min_length
        return (least, int(gap), int(BROAD_GAPS * gap)) if self.broad else (least, int(gap))


class CalledPeaks(NamedTuple):
    """Peaks of one group by chromosome, position and summit: host arrays (n,).

    Of a broad region pileup, p, q and fold are means over its bases above the cutoff, and ``summit`` is -1.
    """

    chrom: np.ndarray  # int32: index into the sources
    start: np.ndarray  # int32
    end: np.ndarray  # int32
    summit: np.ndarray  # int32
    sub: np.ndarray  # int32: number within the region
    pileup: np.ndarray  # float32
    p: np.ndarray  # float32: -log10 p
    q: np.ndarray  # float32: -log10 q
    fold: np.ndarray  # float32: (t + 1) / (rate + 1)


class Blocks(NamedTuple):
    """The strong stretches of broad regions: host arrays (n,)."""

    region: np.ndarray  # int64: row of the region
    start: np.ndarray  # int32
    end: np.ndarray  # int32


def no_blocks() -> Blocks:
    """Blocks of no region."""
    return Blocks(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int32))


class Scores:
    """Rates, p and q of every (n, t) of one group."""

    def __init__(self, lengths: SegmentLengths, group: int, rate: np.ndarray) -> None:
        rows = slice(int(lengths.ptr[group]), int(lengths.ptr[group + 1]))
        self.t, self.n, self.length = lengths.t[rows], lengths.n[rows], lengths.length[rows]
        self.rate = rate[rows]
        self.p = np.zeros(self.t.size, np.float32)
        self.q = np.zeros(self.t.size, np.float32)
        self._key = self.n.astype(np.int64) << 32 | self.t

    def at(self, n: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Where these pairs stand."""
        return np.searchsorted(self._key, n.astype(np.int64) << 32 | t)

    def least(self, score: np.ndarray, cutoff: np.float32) -> tuple[np.ndarray, np.ndarray]:
        """int32 (largest n + 1,): for each n the smallest t above the cutoff; and keys of higher t that are not (``Cutoffs``)."""
        out = np.full(int(self.n.max(initial=-1)) + 1, NEVER, np.int32)
        above = score > cutoff  # False for NaN
        np.minimum.at(out, self.n[above], self.t[above])
        return out, self._key[~above & (self.t > out[self.n])]


def fixed_rates(model: PeakModel, totals: Totals, genome_size: float) -> tuple[np.ndarray, np.ndarray]:
    """(background rate, rate of one background count), float32 (n_groups,), rounded where MACS3 rounds."""
    if not model.whole:
        cuts = 2.0 * (totals.copies if model.copies else totals.rows)
        scale = np.full(cuts.size, model.extsize / LOCAL)
        return (model.extsize * cuts / genome_size).astype(np.float32), scale.astype(np.float32)
    bases = (totals.copied_bases if model.copies else totals.bases).astype(np.float64)
    rows = (totals.copies if model.copies else totals.rows).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (bases / genome_size).astype(np.float32), (bases / (LOCAL * rows * 2)).astype(np.float32)


def q_values(p: np.ndarray, length: np.ndarray, known: np.ndarray) -> np.ndarray:
    """float32 q of each p: -log10 of p N / rank, with every base a test and ranks by falling p.

    ``known`` marks where p was worked out; the others rank below all of these.
    """
    q = np.zeros(p.size, np.float32)
    values, which = np.unique(p[known], return_inverse=True)
    if not values.size:
        return q
    total = np.zeros(values.size, np.int64)
    np.add.at(total, which, length[known])
    values, total = values[::-1], total[::-1]
    rank = 1 + np.concatenate([[0], np.cumsum(total)[:-1]])
    offset = float(np.float32(-log10(int(length.sum()))))
    with np.errstate(invalid="ignore", divide="ignore"):  # ranks can be negative where a first segment is
        falling = (values.astype(np.float64) + (np.log10(rank) + offset)).astype(np.float32)
    falling = np.fmin.accumulate(falling) if (rank > 0).all() else _running_least(falling)
    falling[np.maximum.accumulate(falling <= 0)] = 0
    if known.all():
        falling[-1] = 0
    q[known] = falling[::-1][which]
    return q


def _running_least(values: np.ndarray) -> np.ndarray:
    """The running minimum in which a NaN is kept and forgotten, as comparisons in C do."""
    out = values.copy()
    for i in range(1, out.size):
        out[i] = min(out[i], out[i - 1])
    return out


def scores_of(
    bk: Backend, lengths: SegmentLengths, background: np.ndarray, unit: np.ndarray, *, lowest: float
) -> list[Scores]:
    """p and q of each group's pairs; where they could not reach ``lowest`` both stay 0."""
    group = np.repeat(np.arange(background.size), np.diff(lengths.ptr))
    rate = np.maximum(lengths.n.astype(np.float32) * unit[group], background[group])
    known = (lengths.t >= rate - 2) if lowest >= SURE else np.ones(rate.size, bool)
    p = np.zeros(rate.size, np.float32)
    p[known] = bk.peaks.poisson_scores(lengths.t[known], rate[known].astype(np.float64))
    out = []
    for g in range(background.size):
        scores = Scores(lengths, g, rate)
        rows = slice(int(lengths.ptr[g]), int(lengths.ptr[g + 1]))
        scores.p = p[rows]
        if scores.length.size and scores.length.sum() > 0:
            scores.q = q_values(scores.p, scores.length, known[rows])
        out.append(scores)
    return out


def fold_change(t: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """float32 (t + 1) / (rate + 1)."""
    return ((t.astype(np.float64) + 1) / (rate.astype(np.float64) + 1)).astype(np.float32)


def segments_of(part: Segments, group: int) -> Segments:
    """One group's segments."""
    rows = slice(*np.searchsorted(part.group, [group, group + 1]))
    return Segments(*(column[rows] for column in part))
