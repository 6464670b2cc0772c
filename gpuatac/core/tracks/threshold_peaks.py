"""Peaks of a track by a cutoff, as MACS2's bdgpeakcall cuts them, from a chromosome that comes in pieces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpuatac.errors import InputError

COLUMNS = {
    "start": np.int64,
    "end": np.int64,
    "length": np.int64,
    "mean": np.float64,
    "max": np.float32,
    "summit": np.int64,
}


@dataclass
class _Open:
    """A region that may go on: its signal's sum and first maximum; and those of the bases seen behind its end."""

    start: int
    end: int
    total: float
    top: float
    summit: int
    behind_total: float = 0.0
    behind_top: float = -np.inf
    behind_summit: int = 0

    def see(self, start: int, signal: np.ndarray) -> None:
        """Take note of bases behind the end, from ``start`` on."""
        if signal.size:
            self.behind_total += float(signal.sum(dtype=np.float64))
            at = int(np.argmax(signal))
            if signal[at] > self.behind_top:
                self.behind_top, self.behind_summit = float(signal[at]), start + at

    def go_on(self, end: int, total: float, top: float, summit: int) -> None:
        """Reach to ``end``, over the bases behind and those that ``total``, ``top`` and ``summit`` speak of."""
        self.total += self.behind_total + total
        for height, at in ((self.behind_top, self.behind_summit), (top, summit)):
            if height > self.top:
                self.top, self.summit = height, at
        self.end, self.behind_total, self.behind_top = end, 0.0, -np.inf


class ThresholdPeaks:
    """Peaks of one chromosome: runs of bases at ``cutoff`` or above, joined over gaps of at most ``max_gap`` bp, and kept where
    they are ``min_length`` bp or longer.

    Pieces of any length give the same peaks. Bases between two pieces are below the cutoff and have no signal.

    Parameters
    ----------
    cutoff
        Least value of the probability (or whatever track decides).
    min_length, max_gap
        bp, from 0.

    Source: MACS2's ``bdgpeakcall`` (-c, -l, -g); AtacWorks calls peaks of its probabilities by it with -c 0.5 and MACS2's defaults of
    200 and 30. Cost: some passes over each piece; memory for the peaks alone.

    Examples
    --------
    >>> import numpy as np
    >>> peaks = ThresholdPeaks(0.5, min_length=3, max_gap=1)
    >>> peaks.add(100, np.array([0, 1, 0, 1], "f4"), np.array([0, 2, 5, 5], "f4"))
    >>> peaks.add(104, np.array([1, 0, 0], "f4"), np.array([4, 9, 9], "f4"))
    >>> {name: column.tolist() for name, column in peaks.finish().items()}
    {'start': [101], 'end': [105], 'length': [4], 'mean': [4.0], 'max': [5.0], 'summit': [102]}
    """

    def __init__(self, cutoff: float = 0.5, min_length: int = 200, max_gap: int = 30) -> None:
        self.cutoff, self.min_length, self.max_gap = cutoff, min_length, max_gap
        self._begin()

    def _begin(self) -> None:
        self._open: _Open | None = None
        self._position = 0
        self._found: list[tuple[np.ndarray, ...]] = []

    def add(self, start: int, probability: np.ndarray, signal: np.ndarray) -> None:
        """Take in the bases from ``start`` on: one-dimensional host arrays of one length, behind those before.

        Raises
        ------
        InputError
            When the piece begins before the end of the last one, or the arrays differ in length.
        """
        if start < self._position or probability.shape != signal.shape or probability.ndim != 1:
            msg = (
                f"a piece of {probability.shape} probabilities and {signal.shape} signals at base {start} does not follow base "
                f"{self._position}; give pieces of equal length in ascending order."
            )
            raise InputError(msg)
        size = probability.size
        self._position = start + size
        above = np.zeros(size + 2, bool)
        np.greater_equal(probability, self.cutoff, out=above[1:-1])
        edges = np.flatnonzero(above[1:] != above[:-1])
        begins, ends = edges[::2], edges[1::2]
        first = int(begins[0]) if begins.size else size
        if self._open is not None:
            if start + first - self._open.end > self.max_gap:
                self._close()
            else:
                self._open.see(start, signal[:first])
        if begins.size:
            self._add_runs(start, begins, ends, signal)

    def _add_runs(self, start: int, begins: np.ndarray, ends: np.ndarray, signal: np.ndarray) -> None:
        parted = begins[1:] - ends[:-1] > self.max_gap
        begins, ends = begins[np.append(True, parted)], ends[np.append(parted, True)]
        bounds = np.empty(2 * begins.size, np.intp)
        bounds[::2], bounds[1::2] = begins, ends
        bounds = bounds[:-1] if ends[-1] == signal.size else bounds
        total = np.add.reduceat(signal, bounds, dtype=np.float64)[::2]
        top = np.maximum.reduceat(signal, bounds)[::2]
        at = 0
        if self._open is not None:
            self._open.go_on(
                start + int(ends[0]), float(total[0]), float(top[0]), start + _summit(signal, begins[0], ends[0])
            )
            at = 1
            if begins.size > 1:
                self._close()
        if at < begins.size:
            self._keep(start, begins[at:-1], ends[at:-1], total[at:-1], top[at:-1], signal)
            summit = start + _summit(signal, begins[-1], ends[-1])
            self._open = _Open(start + int(begins[-1]), start + int(ends[-1]), float(total[-1]), float(top[-1]), summit)
        assert self._open is not None
        if signal.size - int(ends[-1]) > self.max_gap:
            self._close()
        else:
            self._open.see(start + int(ends[-1]), signal[ends[-1] :])

    def _keep(
        self, start: int, begins: np.ndarray, ends: np.ndarray, total: np.ndarray, top: np.ndarray, signal: np.ndarray
    ) -> None:
        """Note the closed regions that are long enough."""
        long = np.flatnonzero(ends - begins >= self.min_length)
        if long.size:
            begins, ends, total, top = begins[long], ends[long], total[long], top[long]
            summit = np.array([_summit(signal, a, b) for a, b in zip(begins, ends, strict=True)], np.int64)
            self._found.append((begins + start, ends + start, total, top, summit + start))

    def _close(self) -> None:
        region, self._open = self._open, None
        if region is not None and region.end - region.start >= self.min_length:
            row = (region.start, region.end, region.total, region.top, region.summit)
            self._found.append(tuple(np.array([value]) for value in row))

    def finish(self) -> dict[str, np.ndarray]:
        """The peaks, and a new start at base 0: host arrays start, end, length (int64 bp), mean (float64) and max (float32) of the
        signal from start to end, gaps included, and summit (int64): where the signal is highest, the first such base.
        """
        self._close()
        columns = [np.concatenate([np.zeros(0), *parts]) for parts in zip(*self._found, strict=True)] or [
            np.zeros(0)
        ] * 5
        start, end, total, top, summit = columns
        self._begin()
        values = (start, end, end - start, total / np.maximum(end - start, 1), top, summit)
        return {name: value.astype(kind) for (name, kind), value in zip(COLUMNS.items(), values, strict=True)}


def _summit(signal: np.ndarray, begin: int, end: int) -> int:
    """The first base of [begin, end) where the signal is highest."""
    return int(begin) + int(np.argmax(signal[begin:end]))
