"""Spectral embedding of the cosine-similarity graph of cells (SnapATAC2), without ever forming the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from gpuatac import check
from gpuatac.core.rows import row_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuatac.backend.protocol import Backend, Packed
    from gpuatac.core.rows import RowBlock

TOLERANCE = 1e-9  # of the residual, relative to the eigenvalue; eigenvalues are then right to its square


class Embedding(NamedTuple):
    """values: float64 (k,), positive, descending; vectors: float64 (n_cells, k), of unit length; depth: float64 (n_cells,),
    counts of each cell in the columns used.
    """

    values: Any
    vectors: Any
    depth: Any


def column_sums(bk: Backend, x: Any) -> Any:
    """Sum of each column: float64 (n_columns,); counts are exact below 2^53 and never copied whole."""
    return bk.linalg.column_sums(x)


def document_frequency(bk: Backend, x: Any) -> Any:
    """Cells with a non-zero entry in each column: int64 (n_columns,)."""
    return bk.linalg.document_frequency(x)


def row_sums(bk: Backend, x: Any) -> Any:
    """Sum of each row: float64 (n_rows,), exact for counts."""
    return bk.linalg.row_sums(x)


def idf(bk: Backend, x: Any) -> Any:
    """ln(n / df) of the columns of ``x``; see ``idf_of``."""
    return idf_of(bk, document_frequency(bk, x), x.shape[0])


def idf_of(bk: Backend, df: Any, n: int) -> Any:
    """ln(n / df) with df clipped to [1, n - 1]; all ones when every feature has the same df (SnapATAC2)."""
    xp = bk.xp
    df = df.astype(np.float64)
    if bool((df == df[0]).all()):
        return xp.ones(df.shape[0])
    return xp.log(n / xp.clip(df, 1, max(n - 1, 1)))


def _along(scale: Any, v: Any) -> Any:
    """``scale`` (n,) so that it multiplies the rows of v, (n,) or (n, b)."""
    return scale if v.ndim == 1 else scale[:, None]


class CosineGraph(NamedTuple):
    """D^-1/2 (Y Y' - I) D^-1/2 as an operator, Y the unit rows of x * idf and D the row sums of Y Y' - I."""

    gram: Any  # u -> X (idf^2 * (X' u)), for (n,) and (n, b)
    length: Any  # float64 (n,): 1 / |x_i * idf|
    degree: Any  # float64 (n,)
    similarities: Any = None  # X diag(idf^2) X' (n, n), where it is written out

    def product(self, v: Any) -> Any:
        """The operator times v, (n,) or (n, b); counts are scaled on the fly."""
        scale = _along(self.length * self.degree**-0.5, v)
        return scale * self.gram(scale * v) - v / _along(self.degree, v)

    def matrix(self, xp: Any) -> Any:
        """The operator written out, from the similarities."""
        scale = self.length * self.degree**-0.5
        out = self.similarities * scale[:, None]
        out *= scale[None, :]
        i = xp.arange(scale.size)
        out[i, i] = 0.0  # Y Y' has ones there
        return out


def graph_of(gram: Any, squared: Any, similarities: Any = None) -> CosineGraph:
    """The operator from the products and from the squared lengths of x * idf; cells without a shared feature raise."""
    check.none_true(squared <= 0, "cells have no informative feature", "filter them first, or select more features")
    length = squared**-0.5
    degree = length * gram(length) - 1.0
    check.none_true(degree <= 1e-12, "cells share no feature with another cell", "filter them first")
    return CosineGraph(gram, length, degree, similarities)


def cosine_graph(cells: Packed, weights: Any) -> CosineGraph:
    """The operator of packed counts and the idf of their columns."""
    similarities = cells.similarities(weights**2)
    gram = cells.gram(weights**2) if similarities is None else similarities.__matmul__
    return graph_of(gram, cells.squared_norms(weights**2), similarities)


def laplacian_eigs(
    bk: Backend,
    x: Any,
    k: int,
    *,
    columns: Any = None,
    seed: int = 0,
    which: Literal["LA", "LM"] = "LA",
    v0: Any = None,
) -> Embedding:
    """Leading k eigenpairs of D^-1/2 (Y Y' - I) D^-1/2, Y the unit rows of x * idf, D its row sums.

    ``x`` is CSR or gives ``row_blocks``; ``columns`` is a bool mask of those used. They are copied once, at about 3 bytes a
    non-zero. The n_cells x n_cells similarity is formed for few cells alone: each step is two sparse products with
    a block of vectors, O(nnz). Pairs with eigenvalue <= 0 are left out. ``which="LM"`` takes the k largest in magnitude
    before that, as SnapATAC2 does.
    """
    cells = bk.linalg.pack(x, columns)
    n = cells.shape[0]
    graph = cosine_graph(cells, idf_of(bk, cells.document_frequency(), n))
    values, vectors = leading_pairs(bk, graph, n, k, seed=seed, which=which, v0=v0)
    return Embedding(values, vectors, cells.row_sums())


def leading_pairs(
    bk: Backend, graph: CosineGraph, n: int, k: int, *, seed: int, which: Literal["LA", "LM"] = "LA", v0: Any = None
) -> tuple[Any, Any]:
    """The positive ones of the leading k eigenpairs of ``graph``: values (k,), vectors (n, k)."""
    if graph.similarities is not None and which == "LA":
        values, vectors = bk.linalg.eigh_largest(graph.matrix(bk.xp), k)
    else:
        start = bk.asarray(np.random.default_rng(seed).standard_normal(n) if v0 is None else v0)
        block = bk.linalg.block
        values, vectors = bk.linalg.eigsh_la(graph.product, n, k, v0=start, which=which, tol=TOLERANCE, block=block)
    kept = values > 0
    return values[kept], vectors[:, kept]


class _Part:
    """A block of rows as a matrix of its own."""

    def __init__(self, block: RowBlock, n_columns: int) -> None:
        self._block = block._replace(low=0)
        self.shape = (block.n_rows, n_columns)

    def row_blocks(self, *, max_nnz: int) -> Iterator[RowBlock]:
        """The block itself."""
        yield self._block


def nystrom(
    bk: Backend, x: Any, k: int, *, n_landmarks: int, columns: Any = None, seed: int = 0, chunk: int = 1 << 24
) -> Embedding:
    """The same embedding from ``n_landmarks`` cells drawn with ``seed``, extended to the others.

    With landmarks L: (lambda, V) are the leading pairs of D_L^-1/2 (Y_L Y_L' - I) D_L^-1/2; a cell with unit row y and
    degree d = y Y_L' 1 (less 1 for a landmark, its own similarity) gets (y Y_L' - its own term) D_L^-1/2 V / (lambda sqrt(d)).
    For a landmark that is its eigenvector again. ``x`` may lie on disk: it is read three times by blocks of rows, those of
    at most ``chunk`` non-zeros for the last. Memory: O(nnz of the landmarks + chunk + k n_columns).
    """
    xp, n = bk.xp, x.shape[0]
    drawn = np.sort(np.random.default_rng(seed).choice(n, n_landmarks, replace=False))
    df = document_frequency(bk, x)
    weights = idf_of(bk, df if columns is None else df[bk.asarray(columns)], n)
    chosen = bk.linalg.pack(x, columns, drawn)
    graph = cosine_graph(chosen, weights)
    values, v = leading_pairs(bk, graph, n_landmarks, k, seed=seed)
    sources = xp.concatenate([(graph.degree**-0.5)[:, None] * v, xp.ones((n_landmarks, 1))], axis=1)
    features = (weights**2)[:, None] * chosen.transposed_times(
        graph.length[:, None] * sources
    )  # Y_L' as seen by counts
    out, depth = xp.empty((n, values.shape[0])), xp.empty(n)
    for block in row_blocks(x, max_nnz=chunk):
        rows = slice(block.low, block.low + block.n_rows)
        cells = bk.linalg.pack(_Part(block, x.shape[1]), columns)
        squared = cells.squared_norms(weights**2)
        check.none_true(squared <= 0, "cells have no informative feature", "filter them first, or select more features")
        likeness = (squared**-0.5)[:, None] * cells.times(features)
        degree = likeness[:, -1]
        check.none_true(
            degree <= 1e-12, "cells share no feature with a landmark", "draw more landmarks or filter them first"
        )
        out[rows] = likeness[:, :-1] / (values[None, :] * xp.sqrt(degree)[:, None])
        depth[rows] = cells.row_sums()
    out[bk.asarray(drawn)] = v
    return Embedding(values, out, depth)


def depth_correlation(bk: Backend, vectors: Any, depth: Any) -> np.ndarray:
    """Pearson r of each component with ln(depth): float64 (k,) on the host; 0 where either is constant."""
    xp = bk.xp
    log_depth = xp.log(xp.maximum(depth, 1e-300))
    a = vectors - vectors.mean(0)
    b = log_depth - log_depth.mean()
    scale = xp.sqrt((a * a).sum(0) * (b * b).sum())
    return bk.to_host(xp.where(scale > 0, (a * b[:, None]).sum(0) / xp.where(scale > 0, scale, 1.0), 0.0))
