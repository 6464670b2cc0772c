"""Spectral embedding of the cosine-similarity graph of cells (SnapATAC2), without ever forming the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from gpuatac import check

if TYPE_CHECKING:
    from gpuatac.backend.protocol import Backend

TOLERANCE = 1e-9  # of the residual, relative to the eigenvalue; eigenvalues are then right to its square


class Embedding(NamedTuple):
    """values: float64 (k,), positive, descending; vectors: float64 (n_cells, k), of unit length."""

    values: Any
    vectors: Any


def column_sums(bk: Backend, x: Any) -> Any:
    """Sum of each column: float64 (n_columns,); counts are exact below 2^53 and never copied whole."""
    xp = bk.xp
    if x.nnz == 0:
        return xp.zeros(x.shape[1])
    total = xp.zeros(x.shape[1], np.float64)
    step = 1 << 26
    for low in range(0, int(x.nnz), step):
        part = slice(low, min(low + step, int(x.nnz)))
        total += xp.bincount(x.indices[part], weights=x.data[part].astype(np.float64), minlength=x.shape[1])
    return total


def document_frequency(bk: Backend, x: Any) -> Any:
    """Cells with a non-zero entry in each column: int64 (n_columns,)."""
    return bk.xp.bincount(x.indices, minlength=x.shape[1]).astype(np.int64)


def row_sums(bk: Backend, x: Any) -> Any:
    """Sum of each row: float64 (n_rows,), exact for counts."""
    xp = bk.xp
    running = xp.concatenate([xp.zeros(1), xp.cumsum(x.data, dtype=np.float64)])
    return running[x.indptr[1:]] - running[x.indptr[:-1]]


def idf(bk: Backend, x: Any) -> Any:
    """ln(n / df) with df clipped to [1, n - 1]; all ones when every feature has the same df (SnapATAC2)."""
    xp, n = bk.xp, x.shape[0]
    df = document_frequency(bk, x).astype(np.float64)
    if bool((df == df[0]).all()):
        return xp.ones(df.shape[0])
    return xp.log(n / xp.clip(df, 1, max(n - 1, 1)))


def unit_rows(bk: Backend, x: Any, weights: Any) -> Any:
    """Rows of x * weights scaled to Euclidean length 1: CSR float64, one copy of the data."""
    y = bk.sparse.csr_matrix((x.data * weights[x.indices], x.indices, x.indptr), shape=x.shape)
    squares = bk.sparse.csr_matrix((y.data * y.data, x.indices, x.indptr), shape=x.shape)
    squared = squares @ bk.xp.ones(x.shape[1])
    check.none_true(squared <= 0, "cells have no informative feature", "filter them first, or select more features")
    return bk.scale_rows(y, squared**-0.5)


class CosineGraph(NamedTuple):
    """D^-1/2 (Y Y' - I) D^-1/2 as an operator, Y the unit rows of x * idf and D the row sums of Y Y' - I."""

    gram: Any  # u -> X (idf^2 * (X' u))
    length: Any  # float64 (n,): 1 / |x_i * idf|
    degree: Any  # float64 (n,)

    def product(self, v: Any) -> Any:
        """The operator times v; counts are scaled on the fly."""
        scale = self.length * self.degree**-0.5
        return scale * self.gram(scale * v) - v / self.degree


def cosine_graph(bk: Backend, x: Any, weights: Any) -> CosineGraph:
    """The operator of ``x``; cells without a shared feature raise."""
    squared = bk.linalg.squared_norms(x, weights**2)
    check.none_true(squared <= 0, "cells have no informative feature", "filter them first, or select more features")
    length = squared**-0.5
    gram = bk.linalg.gram(x, weights**2)
    degree = length * gram(length) - 1.0
    check.none_true(degree <= 1e-12, "cells share no feature with another cell", "filter them first")
    return CosineGraph(gram, length, degree)


def laplacian_eigs(
    bk: Backend, x: Any, k: int, *, seed: int = 0, which: Literal["LA", "LM"] = "LA", v0: Any = None
) -> Embedding:
    """Leading k eigenpairs of D^-1/2 (Y Y' - I) D^-1/2, Y the unit rows of x * idf, D its row sums.

    The n_cells x n_cells similarity is never formed: each step is two sparse products, O(nnz). Pairs with
    eigenvalue <= 0 are left out. ``which="LM"`` takes the k largest in magnitude before that, as SnapATAC2 does.
    """
    return leading_pairs(bk, cosine_graph(bk, x, idf(bk, x)), x.shape[0], k, seed=seed, which=which, v0=v0)


def leading_pairs(
    bk: Backend, graph: CosineGraph, n: int, k: int, *, seed: int, which: Literal["LA", "LM"] = "LA", v0: Any = None
) -> Embedding:
    """The positive ones of the leading k eigenpairs of ``graph``."""
    start = bk.asarray(np.random.default_rng(seed).standard_normal(n) if v0 is None else v0)
    values, vectors = bk.linalg.eigsh_la(graph.product, n, k, v0=start, which=which, tol=TOLERANCE)
    kept = values > 0
    return Embedding(values[kept], vectors[:, kept])


def nystrom(bk: Backend, x: Any, k: int, *, n_landmarks: int, seed: int = 0, chunk: int = 20_000) -> Embedding:
    """The same embedding from ``n_landmarks`` cells drawn with ``seed``, extended to the others.

    With landmarks L: (lambda, V) are the leading pairs of D_L^-1/2 (Y_L Y_L' - I) D_L^-1/2; a cell with unit row y and
    degree d = y Y_L' 1 (less 1 for a landmark, its own similarity) gets (y Y_L' - its own term) D_L^-1/2 V / (lambda sqrt(d)).
    For a landmark that is its eigenvector again. Memory: O(nnz of the landmarks + chunk).
    """
    xp, n = bk.xp, x.shape[0]
    drawn = np.sort(np.random.default_rng(seed).choice(n, n_landmarks, replace=False))
    weights = idf(bk, x)
    chosen = x[bk.asarray(drawn)]
    graph = cosine_graph(bk, chosen, weights)
    start = bk.asarray(np.random.default_rng(seed).standard_normal(n_landmarks))
    values, v = bk.linalg.eigsh_la(graph.product, n_landmarks, k, v0=start, tol=TOLERANCE)
    kept = values > 0
    values, v = values[kept], v[:, kept]
    landmarks = unit_rows(bk, chosen, weights)
    project = landmarks.T @ ((graph.degree**-0.5)[:, None] * v)  # features x k
    total = landmarks.T @ xp.ones(n_landmarks)
    out = xp.empty((n, values.shape[0]))
    for low in range(0, n, chunk):
        rows = unit_rows(bk, x[low : low + chunk], weights)
        degree = rows @ total
        check.none_true(
            degree <= 1e-12, "cells share no feature with a landmark", "draw more landmarks or filter them first"
        )
        out[low : low + chunk] = (rows @ project) / (values[None, :] * xp.sqrt(degree)[:, None])
    out[bk.asarray(drawn)] = v
    return Embedding(values, out)


def depth_correlation(bk: Backend, vectors: Any, depth: Any) -> np.ndarray:
    """Pearson r of each component with ln(depth): float64 (k,) on the host; 0 where either is constant."""
    xp = bk.xp
    log_depth = xp.log(xp.maximum(depth, 1e-300))
    a = vectors - vectors.mean(0)
    b = log_depth - log_depth.mean()
    scale = xp.sqrt((a * a).sum(0) * (b * b).sum())
    return bk.to_host(xp.where(scale > 0, (a * b[:, None]).sum(0) / xp.where(scale > 0, scale, 1.0), 0.0))
