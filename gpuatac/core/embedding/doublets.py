"""Scrublet on a spectral embedding (Wolock, Lopez and Klein, Cell Systems 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac.core.embedding.neighbors import component_weights, follows_depth
from gpuatac.core.embedding.spectral import cosine_graph, depth_correlation, graph_of, idf_of, leading_pairs

if TYPE_CHECKING:
    from gpuatac.backend.protocol import Backend


def draw_pairs(n_cells: int, ratio: float, seed: int) -> np.ndarray:
    """Pairs of different cells to add up: int64 (ratio * n_cells, 2)."""
    rng = np.random.default_rng(seed)
    left = rng.integers(0, n_cells, int(n_cells * ratio))
    right = (left + rng.integers(1, n_cells, left.size)) % n_cells
    return np.column_stack([left, right])


def embed_jointly(
    bk: Backend, x: Any, pairs: np.ndarray, *, n_comps: int, seed: int, columns: Any = None, rows: Any = None
) -> Any:
    """sqrt(lambda)-scaled joint embedding of the cells and, below them, of the simulated doublets (SnapATAC2).

    The doublets P X, P the sums of two rows, are not formed: with S = [I; P] the products of the stacked matrix are
    S X W X' S' u, and a feature's document frequency there is that among the cells and that of the pairs' unions.
    """
    xp = bk.xp
    cells = bk.linalg.pack(x, columns, rows)
    n, n_both = cells.shape[0], cells.shape[0] + len(pairs)
    left, right = bk.asarray(pairs[:, 0]), bk.asarray(pairs[:, 1])
    df = cells.document_frequency() + cells.union_frequency(left, right)
    weights = idf_of(bk, df, n_both) ** 2
    numbers = xp.arange(len(pairs))
    entries = (xp.ones(2 * len(pairs)), (xp.concatenate([left, right]), xp.concatenate([numbers, numbers])))
    back = bk.sparse.csr_matrix(entries, shape=(n, len(pairs)))  # P'
    similarities = cells.similarities(weights)
    of_cells = cells.gram(weights) if similarities is None else similarities.__matmul__

    def gram(v: Any) -> Any:
        u = of_cells(v[:n] + back @ v[n:])
        return xp.concatenate([u, u[left] + u[right]])

    squared = cells.squared_norms(weights)
    dots = cells.pair_products(left, right, weights) if similarities is None else similarities[left, right]
    graph = graph_of(gram, xp.concatenate([squared, squared[left] + squared[right] + 2 * dots]))
    values, vectors = leading_pairs(bk, graph, n_both, min(n_comps, n_both - 1), seed=seed, which="LM")
    return vectors * values**0.5


def embed_by_projection(
    bk: Backend, x: Any, pairs: np.ndarray, *, n_comps: int, seed: int, columns: Any = None, rows: Any = None
) -> Any:
    """Embedding of the cells alone and, below them, the simulated doublets projected into it.

    A doublet of cells i, j has the unit row y = (w x_i + w x_j) / L. Its place is that of a cell outside the graph,
    u = (y Y' - s_i e_i - s_j e_j) D^-1/2 V / (lambda sqrt(d)), d = y Y' 1 - s_i - s_j, where its likeness s to its own two
    parents is left out: a real doublet has no parents among the cells, and what it shares with them by
    construction would hold it next to them. All of it follows from products with X and from the dot products x_i . x_j
    of the pairs; no doublet's counts are formed. Components that follow depth are left out and the others shrunk, as
    for the neighbours of cells.

    ``columns`` (a bool mask) and ``rows`` (ascending) choose from ``x``; None for all.
    """
    xp = bk.xp
    cells = bk.linalg.pack(x, columns, rows)
    n = cells.shape[0]
    weights = idf_of(bk, cells.document_frequency(), n)
    graph = cosine_graph(cells, weights)
    eigenvalues, vectors = leading_pairs(bk, graph, n, min(n_comps, n - 1), seed=seed)
    left, right = bk.asarray(pairs[:, 0]), bk.asarray(pairs[:, 1])
    norm = 1.0 / graph.length  # |w x_i|
    if graph.similarities is None:
        dots = cells.pair_products(left, right, weights**2)
    else:
        dots = graph.similarities[left, right]
    length = xp.sqrt(norm[left] ** 2 + norm[right] ** 2 + 2 * dots)
    like_left = (norm[left] ** 2 + dots) / (length * norm[left])
    like_right = xp.where(left == right, 0.0, (norm[right] ** 2 + dots) / (length * norm[right]))
    basis = (graph.degree**-0.5)[:, None] * vectors
    towards = graph.gram(graph.length[:, None] * xp.concatenate([basis, xp.ones((n, 1))], axis=1))
    images, towards_all = towards[:, :-1], towards[:, -1]  # w x_i . combinations, and the sum, of the unit rows
    degree = (towards_all[left] + towards_all[right]) / length - like_left - like_right
    overlap = (images[left] + images[right]) / length[:, None]
    overlap -= like_left[:, None] * basis[left] + like_right[:, None] * basis[right]
    reached = degree > 1e-12  # a pair that shares nothing with a third cell stays at the origin
    scale = xp.where(reached, 1.0 / xp.sqrt(xp.where(reached, degree, 1.0)), 0.0)
    projected = overlap * scale[:, None] / eigenvalues[None, :]
    values = bk.to_host(eigenvalues)
    kept = ~follows_depth(values, depth_correlation(bk, vectors, cells.row_sums()))
    factors = component_weights(values, values.size, shrink=True)
    factors = factors * kept if (factors * kept).any() else np.ones(values.size)
    chosen = np.flatnonzero(factors)
    points = xp.concatenate([vectors, projected])[:, bk.asarray(chosen)]
    return points * (eigenvalues**0.5 * bk.asarray(factors))[bk.asarray(chosen)]


def scores(bk: Backend, points: Any, n_cells: int, *, expected_rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Scrublet's likelihood ratio for the cells and for the simulated doublets.

    With r simulated doublets per cell, k = round(0.5 sqrt(n)) and K = round(k (1 + r)) neighbours of which s are simulated,
    q = (s + 1) / (K + 2) and the score is q rho / r / (1 - rho - q (1 - rho - rho / r)).
    """
    ratio = (points.shape[0] - n_cells) / n_cells
    k = round(round(0.5 * n_cells**0.5) * (1 + ratio))
    k = max(1, min(k, points.shape[0] - 1))
    parts = [(indices >= n_cells).sum(1) for _, indices, _ in bk.graph.neighbour_blocks(points, k)]
    simulated = bk.to_host(bk.xp.concatenate(parts))
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
