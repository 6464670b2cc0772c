"""Quality scores from counts, and which barcodes are cells. Plain NumPy: a few numbers per cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from gpuatac.fragments import CellTotals


def frac_dup(totals: CellTotals) -> np.ndarray:
    """1 - rows / sum of copies, the mitochondrial rows in both."""
    return 1.0 - np.divide(totals.rows, totals.copies, out=np.ones(totals.rows.size), where=totals.copies > 0)


def frac_mito(totals: CellTotals) -> np.ndarray:
    """Mitochondrial rows / rows."""
    return np.divide(totals.mito_rows, totals.rows, out=np.zeros(totals.rows.size), where=totals.rows > 0)


def tss_enrichment(center: np.ndarray | int, flank: np.ndarray | int) -> np.ndarray:
    """Mean cuts at the 11 central positions over (mean cuts at the 200 outer ones + 0.1), as SnapATAC2."""
    return np.asarray(center, np.float64) / 11.0 / (np.asarray(flank, np.float64) / 200.0 + 0.1)


def nucleosome_signal(classes: np.ndarray) -> np.ndarray:
    """Fragments of 147 to 293 bp over those below 147 bp (as Signac); NaN for cells that have neither."""
    free, mono = classes[:, 0].astype(np.float64), classes[:, 1].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return mono / free


class CellCall(NamedTuple):
    """What was called, and why."""

    is_cell: np.ndarray
    threshold: float
    details: dict[str, float]


def knee(counts: np.ndarray, *, lower: int = 100) -> CellCall:
    """Barcodes above the steepest drop of the log-log rank curve that follows its knee.

    The knee is the point farthest above the chord between the first barcode and the last with at least ``lower``
    fragments (barcodeRanks of DropletUtils, without its spline). Cells end where the curve falls fastest below it:
    with g the density of barcodes over ln(fragments) and r the rank, the slope is -r / g, so the threshold is where
    r / g is largest between the knee and that last barcode; g is a Gaussian kernel estimate of width 0.1 (10 %).
    """
    ranked = np.sort(counts[counts >= lower])[::-1].astype(np.float64)
    if ranked.size < 3 or ranked[0] == ranked[-1]:
        threshold = float(ranked[-1]) if ranked.size else float(lower)
        return CellCall(counts >= threshold, threshold, {"lower": lower})
    last_of_run = np.append(np.flatnonzero(np.diff(ranked)), ranked.size - 1)
    x, y = np.log(last_of_run + 1.0), np.log(ranked[last_of_run])
    slope = (y[-1] - y[0]) / (x[-1] - x[0]) if x[-1] > x[0] else 0.0
    bend = float(y[int(np.argmax(y - (y[0] + slope * (x - x[0]))))])
    grid = np.linspace(y[-1], bend, 400)  # below the last barcode there is no curve: its density of 0 is no drop
    rank = np.searchsorted(-ranked, -np.exp(grid), side="right")
    drop = rank / (_density(np.log(ranked), grid) + 1e-9)
    steepest = np.flatnonzero(drop >= 0.999 * drop.max())
    threshold = float(np.exp(grid[steepest[steepest.size // 2]]))
    return CellCall(counts >= threshold, threshold, {"lower": lower, "knee": float(np.exp(bend))})


def _density(values: np.ndarray, grid: np.ndarray, width: float = 0.1) -> np.ndarray:
    """Values per unit at each point of ``grid``: a Gaussian kernel estimate on bins of a tenth of its width."""
    step = width / 10
    bins = np.bincount(((values - values.min()) / step).astype(np.int64))
    kernel = np.exp(-0.5 * (np.arange(-40, 41) * step / width) ** 2)
    smooth = np.convolve(bins, kernel / kernel.sum() / step, mode="full")[40 : 40 + bins.size]
    at = ((grid - values.min()) / step).astype(np.int64)
    inside = (at >= 0) & (at < bins.size)
    return np.where(inside, smooth[np.clip(at, 0, bins.size - 1)], 0.0)


def ordmag(
    counts: np.ndarray,
    *,
    expected_cells: int | None = None,
    quantile: float = 0.99,
    ratio: float = 10.0,
    n_bootstrap: int = 100,
    seed: int = 0,
) -> CellCall:
    """10x's OrdMag: barcodes within a factor ``ratio`` of the ``quantile`` of the expected cells.

    With ``expected_cells`` None, the number is the one that minimises (found - expected)^2 / expected over a log
    grid, as Cell Ranger since 3.0 estimates it; the cut is the mean over bootstrap samples of the non-zero barcodes.
    """
    nonzero = np.sort(counts[counts > 0])[::-1]
    if not nonzero.size:
        return CellCall(counts > 0, 1.0, {"expected_cells": 0.0})
    rng = np.random.default_rng(seed)

    def cut(ranked: np.ndarray, n: float) -> float:
        top = ranked[: max(1, round(n))]
        return max(1.0, round(float(np.quantile(top, quantile)) / ratio))

    def estimate(ranked: np.ndarray) -> float:
        grid = np.unique(np.logspace(1, np.log10(max(ranked.size, 11)), 200).astype(int))
        found = np.array([np.searchsorted(-ranked, -cut(ranked, n), side="right") for n in grid])
        return float(grid[int(np.argmin((found - grid) ** 2 / grid))])

    cuts, expectations = [], []
    for _ in range(n_bootstrap):
        sample = np.sort(rng.choice(nonzero, nonzero.size))[::-1]
        n = float(expected_cells) if expected_cells else estimate(sample)
        expectations.append(n)
        cuts.append(np.searchsorted(-sample, -cut(sample, n), side="right"))
    n_cells = max(1, round(float(np.mean(cuts))))
    threshold = float(nonzero[n_cells - 1])
    return CellCall(counts >= threshold, threshold, {"expected_cells": float(np.mean(expectations))})
