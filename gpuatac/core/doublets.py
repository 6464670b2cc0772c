"""Scrublet on a spectral embedding (Wolock, Lopez and Klein, Cell Systems 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac.core.neighbors import component_weights, follows_depth
from gpuatac.core.spectral import cosine_graph, depth_correlation, idf, laplacian_eigs, leading_pairs, row_sums

if TYPE_CHECKING:
    from gpuatac.backend.protocol import Backend


def draw_pairs(n_cells: int, ratio: float, seed: int) -> np.ndarray:
    """Pairs of different cells to add up: int64 (ratio * n_cells, 2)."""
    rng = np.random.default_rng(seed)
    left = rng.integers(0, n_cells, int(n_cells * ratio))
    right = (left + rng.integers(1, n_cells, left.size)) % n_cells
    return np.column_stack([left, right])


def embed_jointly(bk: Backend, x: Any, pairs: np.ndarray, *, n_comps: int, seed: int) -> Any:
    """sqrt(lambda)-scaled joint embedding of the cells and, below them, of the simulated doublets (SnapATAC2)."""
    left, right = bk.asarray(pairs[:, 0]), bk.asarray(pairs[:, 1])
    both = bk.sparse.vstack([x, x[left] + x[right]], format="csr")
    found = laplacian_eigs(bk, both, min(n_comps, both.shape[0] - 1), seed=seed, which="LM")
    return found.vectors * found.values**0.5


def embed_by_projection(bk: Backend, x: Any, pairs: np.ndarray, *, n_comps: int, seed: int) -> Any:
    """Embedding of the cells alone and, below them, the simulated doublets projected into it.

    A doublet of cells i, j has the unit row y = (w x_i + w x_j) / L. Its place is that of a cell outside the graph,
    u = (y Y' - s_i e_i - s_j e_j) D^-1/2 V / (lambda sqrt(d)), d = y Y' 1 - s_i - s_j, where its likeness s to its own two
    parents is left out: a real doublet has no parents among the cells, and what it shares with them by
    construction would hold it next to them. All of it follows from products with X already at hand and from the
    dot products x_i . x_j of the pairs; no doublet's counts are formed. Components that follow depth are left out
    and the others shrunk, as for the neighbours of cells.
    """
    xp, n = bk.xp, x.shape[0]
    weights = idf(bk, x)
    graph = cosine_graph(bk, x, weights)
    found = leading_pairs(bk, graph, n, min(n_comps, n - 1), seed=seed)
    left, right = bk.asarray(pairs[:, 0]), bk.asarray(pairs[:, 1])
    norm = 1.0 / graph.length  # |w x_i|
    dots = pair_products(bk, x, pairs, weights**2)
    length = xp.sqrt(norm[left] ** 2 + norm[right] ** 2 + 2 * dots)
    like_left = (norm[left] ** 2 + dots) / (length * norm[left])
    like_right = xp.where(left == right, 0.0, (norm[right] ** 2 + dots) / (length * norm[right]))
    towards_all = graph.gram(graph.length)  # w x_i . sum of the unit rows
    degree = (towards_all[left] + towards_all[right]) / length - like_left - like_right
    basis = (graph.degree**-0.5)[:, None] * found.vectors
    images = xp.stack([graph.gram(graph.length * basis[:, c]) for c in range(basis.shape[1])], axis=1)
    overlap = (images[left] + images[right]) / length[:, None]
    overlap -= like_left[:, None] * basis[left] + like_right[:, None] * basis[right]
    reached = degree > 1e-12  # a pair that shares nothing with a third cell stays at the origin
    scale = xp.where(reached, 1.0 / xp.sqrt(xp.where(reached, degree, 1.0)), 0.0)
    projected = overlap * scale[:, None] / found.values[None, :]
    values = bk.to_host(found.values)
    kept = ~follows_depth(values, depth_correlation(bk, found.vectors, row_sums(bk, x)))
    factors = component_weights(values, values.size, shrink=True)
    factors = factors * kept if (factors * kept).any() else np.ones(values.size)
    columns = np.flatnonzero(factors)
    points = xp.concatenate([found.vectors, projected])[:, bk.asarray(columns)]
    return points * (found.values**0.5 * bk.asarray(factors))[bk.asarray(columns)]


def pair_products(bk: Backend, x: Any, pairs: np.ndarray, weights: Any, chunk: int = 20_000) -> Any:
    """sum_j weights_j x_ij x_kj for each pair (i, k) of rows: float64 (n_pairs,)."""
    out = bk.xp.empty(len(pairs), np.float64)
    for low in range(0, len(pairs), chunk):
        part = pairs[low : low + chunk]
        shared = x[bk.asarray(part[:, 0])].multiply(x[bk.asarray(part[:, 1])]).tocsr()
        out[low : low + chunk] = shared.astype(np.float64) @ weights
    return out


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
