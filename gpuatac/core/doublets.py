"""Scrublet on a spectral embedding, as SnapATAC2 does it (Wolock, Lopez and Klein, Cell Systems 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpuatac.core.spectral import laplacian_eigs

if TYPE_CHECKING:
    from gpuatac.backend.protocol import Backend


class DoubletScores(NamedTuple):
    """Host float64 arrays and numbers."""

    score: np.ndarray  # (n_cells,)
    simulated: np.ndarray  # (n_pairs,)
    probability: np.ndarray  # (n_cells,) of belonging to the higher component of the simulated scores
    threshold: float  # lowest score with probability > 0.5; NaN when the scores have one mode


def draw_pairs(n_cells: int, ratio: float, seed: int) -> np.ndarray:
    """Cells to add up: int64 (ratio * n_cells, 2)."""
    return np.random.default_rng(seed).integers(0, n_cells, size=(int(n_cells * ratio), 2))


def embed_with_doublets(bk: Backend, x: Any, pairs: np.ndarray, *, n_comps: int, seed: int, v0: Any = None) -> Any:
    """sqrt(lambda)-scaled embedding of the cells and, below them, of the simulated doublets."""
    left, right = bk.asarray(pairs[:, 0]), bk.asarray(pairs[:, 1])
    both = bk.sparse.vstack([x, x[left] + x[right]], format="csr")
    k = min(n_comps, both.shape[0] - 1)
    found = laplacian_eigs(bk, both, k, seed=seed, which="LM", v0=v0)
    return found.vectors * found.values**0.5


def scores(bk: Backend, points: Any, n_cells: int, *, expected_rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Scrublet's likelihood ratio for the cells and for the simulated doublets.

    With r simulated doublets per cell, k = round(0.5 sqrt(n)) and K = round(k (1 + r)) neighbours of which s are simulated,
    q = (s + 1) / (K + 2) and the score is q rho / r / (1 - rho - q (1 - rho - rho / r)).
    """
    ratio = (points.shape[0] - n_cells) / n_cells
    k = round(round(0.5 * n_cells**0.5) * (1 + ratio))
    k = max(1, min(k, points.shape[0] - 1))
    indices, _ = bk.graph.knn(points, k)
    simulated = bk.to_host((indices >= n_cells).sum(1))
    q = (simulated + 1) / (k + 2)
    rho = expected_rate
    score = q * rho / ratio / (1 - rho - q * (1 - rho - rho / ratio))
    return score[:n_cells], score[n_cells:]


def classify(score: np.ndarray, simulated: np.ndarray) -> tuple[np.ndarray, float]:
    """Probability of the higher of two Gaussian components fitted to the simulated scores, and the score where it passes 0.5."""
    from sklearn.mixture import BayesianGaussianMixture

    if np.unique(simulated).size < 3:
        return np.zeros(score.size), float("nan")
    mixture = BayesianGaussianMixture(n_components=2, n_init=10, max_iter=1000, random_state=0).fit(simulated[:, None])
    high = int(np.argmax(mixture.means_.ravel()))
    grid = np.linspace(min(score.min(), simulated.min()), max(score.max(), simulated.max()), 2000)
    above = mixture.predict_proba(grid[:, None])[:, high] > 0.5
    middle = grid > mixture.means_.ravel().min()
    passing = np.flatnonzero(above & middle)
    threshold = float(grid[passing[0]]) if passing.size else float("nan")
    return mixture.predict_proba(score[:, None])[:, high], threshold
