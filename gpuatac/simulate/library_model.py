"""The model behind ``simulate_library``: expected cuts along a chromosome, and fragments drawn from them.

Background is the product of three log-normal fields (100, 10 and 0.8 kb, by linear interpolation between normal values), so that it
is patchy as mappability and compartments make it. Peaks lie at random, half of them beside others; heights are log-normal
with a heavy tail; each has one to a few summits, Gaussians of sd 25 to 180 bp, and a low broad foot of sd 300 to
1500 bp. How dense, high and wide they are is drawn anew for each chromosome, so that no one library is imitated.

A fragment has one cut where the expected cuts say, and the other at its length to the left or right. Lengths mix
nucleosome-free fragments and those around one, two and three nucleosomes.
"""

from __future__ import annotations

import numpy as np

BIN = 8  # bp
WINDOW = 201  # bp: heights are coverage of this window
DEEP = 80e6  # reads of a library of HUMAN bp at which heights are stated
HUMAN = 3.1e9
FIELDS = (12_500, 1_250, 100)  # bins between the values of a field
HIGHEST = 4_000.0  # coverage
MONO = 195.0  # bp around one nucleosome


def expected_cuts(rng: np.random.Generator, n_bins: int) -> np.ndarray:
    """float64 (n_bins,): cuts of each 8-bp bin in a library of 80 M reads over a human genome."""
    rate = np.exp(sum(_field(rng, n_bins, scale, rng.uniform(0.2, 0.8)) for scale in FIELDS))
    rate *= _log_uniform(rng, 0.8, 4.0) / rate.mean()
    centre = rng.uniform(0, n_bins * BIN, rng.poisson(n_bins * BIN / _log_uniform(rng, 8e3, 4e4)))
    beside = np.flatnonzero(rng.random(centre.size) < 0.5)
    side = rng.choice([-1, 1], beside.size) * rng.exponential(rng.uniform(1500, 8000), beside.size)
    if beside.size:
        centre[beside] = rng.choice(centre, beside.size) + side
    median, spread = _log_uniform(rng, 15, 80), rng.uniform(0.9, 1.5)
    for at in centre:
        height = min(median * np.exp(rng.normal(0, spread)), HIGHEST)
        _add(rate, at, height, _log_uniform(rng, 25, 180))
        for _ in range(rng.poisson(0.8)):
            where = at + rng.normal(0, rng.uniform(80, 350))
            _add(rate, where, height * rng.uniform(0.1, 1), _log_uniform(rng, 25, 180))
        _add(rate, at + rng.normal(0, 200), height * _log_uniform(rng, 0.01, 0.2), _log_uniform(rng, 300, 1500))
    return rate * (BIN / WINDOW)


def fragments(rng: np.random.Generator, cuts: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(start, end) int64 of fragments whose cuts follow ``cuts``, sorted, inside [0, size)."""
    number = rng.poisson(cuts / 2)
    first = np.repeat(np.arange(cuts.size) * BIN, number) + rng.integers(0, BIN, number.sum())
    length = _lengths(rng, first.size)
    leftward = rng.random(first.size) < 0.5
    start = np.where(leftward, first + 1 - length, first)
    inside = (start >= 0) & (start + length <= size)
    start, length = start[inside], length[inside]
    order = np.lexsort((length, start))
    return start[order], (start + length)[order]


def _lengths(rng: np.random.Generator, n: int) -> np.ndarray:
    """int64 (n,): bp; how many fragments are free of nucleosomes differs from chromosome to chromosome."""
    free = rng.uniform(0.4, 0.7)
    nucleosomes = rng.choice(4, n, p=np.array([free, *(1 - free) * np.array([0.7, 0.22, 0.08])]))
    short = 25 + rng.gamma(2.2, 18, n)
    wrapped = rng.normal(MONO * np.maximum(nucleosomes, 1), 12 + 13 * nucleosomes)
    return np.clip(np.where(nucleosomes == 0, short, wrapped), 20, 900).astype(np.int64)


def _field(rng: np.random.Generator, n: int, scale: int, sd: float) -> np.ndarray:
    knots = n // scale + 2
    return sd * np.interp(np.arange(n) / scale, np.arange(knots), rng.normal(0, 1, knots))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _add(rate: np.ndarray, at: float, height: float, sd: float) -> None:
    low, high = max(int((at - 4 * sd) // BIN), 0), min(int((at + 4 * sd) // BIN) + 1, rate.size)
    if low < high:
        rate[low:high] += height * np.exp(-0.5 * ((np.arange(low, high) * BIN + BIN / 2 - at) / sd) ** 2)
