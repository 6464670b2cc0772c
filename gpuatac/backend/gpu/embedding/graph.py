"""Neighbours, layout and clusters on a GPU: cuVS, cuML, cuGraph and rapids-singlecell.

What these libraries leave open (the order of ties, the rounding of distances, the numbering of clusters) is
settled here in array code that the tests run on NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac.backend.gpu.libraries import require
from gpuatac.core.embedding.partition import by_falling_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuatac.backend.gpu.launch import Launcher

EXTRA_NEIGHBOURS = 8  # candidates beyond k and self, so that rounding cannot push a true neighbour out
ROW_BLOCK_ELEMENTS = 1 << 26  # float64 values held at a time while distances are recomputed
EPS32 = float(np.finfo(np.float32).eps)
MAX_LEVELS = 100  # of Leiden: enough to run until it converges
LEIDEN_THETA = 1.0


def exact_neighbours(
    xp: Any, points: Any, k: int, candidates: Callable[[Any, int], tuple[Any, Any]]
) -> tuple[Any, Any]:
    """The k nearest other points of each point by (Euclidean distance, index): int32 and float32 (n, k).

    ``candidates(points32, m)`` gives m near points of each point (indices, float32 squared distances), with
    the errors that come with |x|^2 - 2 xy + |y|^2. Their distances are recomputed in float64. A row whose
    k-th distance is not clearly below its farthest candidate's (ties, duplicates) is compared with all
    points.
    """
    n = int(points.shape[0])
    exact = points.astype(np.float64)
    indices, distances = xp.empty((n, k), np.int32), xp.empty((n, k), np.float32)
    if n == 0 or k == 0:
        return indices, distances
    centred = xp.ascontiguousarray((exact - exact.mean(axis=0)).astype(np.float32))
    m = min(n, k + 1 + EXTRA_NEIGHBOURS)
    near, approximate = candidates(centred, m)
    near = xp.sort(near.astype(np.int64), axis=1)  # by index, so that a stable sort by distance breaks ties by index
    norm = xp.sqrt((centred.astype(np.float64) ** 2).sum(axis=1))
    border = approximate.max(axis=1).astype(np.float64)
    rounding = (2 * int(points.shape[1]) + 16) * EPS32  # of a squared distance, relative to |x|^2 + |y|^2
    unsure = []
    step = max(1, ROW_BLOCK_ELEMENTS // (m * int(points.shape[1]) + 1))
    for low in range(0, n, step):
        rows = xp.arange(low, min(low + step, n))
        squared = _nearest(xp, exact, rows, near[rows], k, indices, distances)
        if m < n:
            # a point y left out but nearer than d has |y| < |x| + d, which bounds the error of its distance
            slack = rounding * (norm[rows] ** 2 + (norm[rows] + xp.sqrt(squared)) ** 2)
            unsure.append(rows[squared >= border[rows] - slack])
    again = xp.concatenate(unsure) if unsure else xp.empty(0, np.int64)
    step = max(1, ROW_BLOCK_ELEMENTS // (n * int(points.shape[1])))
    for low in range(0, int(again.size), step):
        rows = again[low : low + step]
        everyone = xp.broadcast_to(xp.arange(n), (int(rows.size), n))
        _nearest(xp, exact, rows, everyone, k, indices, distances)
    return indices, distances


def _nearest(xp: Any, points: Any, rows: Any, near: Any, k: int, indices: Any, distances: Any) -> Any:
    """Write the k nearest of ``near`` (ascending indices) for ``rows``; the last's squared distance."""
    difference = points[rows][:, None, :] - points[near]
    squared = (difference * difference).sum(axis=2)
    squared[near == rows[:, None]] = np.inf
    order = xp.argsort(squared, axis=1, kind="stable")[:, :k]
    chosen = xp.take_along_axis(squared, order, axis=1)
    indices[rows] = xp.take_along_axis(near, order, axis=1).astype(np.int32)
    distances[rows] = xp.sqrt(chosen).astype(np.float32)
    return chosen[:, -1]


def modularity(xp: Any, indptr: Any, indices: Any, weights: Any, labels: Any) -> float:
    """Newman's modularity of a symmetric CSR graph: sum over clusters of in / 2m - (degree / 2m)^2."""
    n_clusters = int(labels.max()) + 1 if labels.size else 0
    row = xp.searchsorted(indptr, xp.arange(indices.size, dtype=indptr.dtype), side="right") - 1
    total = float(weights.sum())
    if total == 0:
        return 0.0
    weights = weights.astype(np.float64)
    inside = float(weights[labels[row] == labels[indices]].sum())
    degree = xp.bincount(labels[row], weights=weights, minlength=n_clusters)
    return inside / total - float(((degree / total) ** 2).sum())


class Graph:
    """The GPU side of ``protocol.Graph``."""

    def __init__(self, xp: Any, launch: Launcher) -> None:
        self._xp = xp
        self._launch = launch

    def knn(self, points: Any, k: int) -> tuple[Any, Any]:
        """See ``protocol.Graph.knn``."""
        require("cuvs", "Search for neighbours (pp.knn, pp.scrublet)")
        from cuvs.neighbors import brute_force

        xp = self._xp

        def candidates(points32: Any, m: int) -> tuple[Any, Any]:
            index = brute_force.build(points32, metric="sqeuclidean")
            squared, near = brute_force.search(index, points32, m)
            return xp.asarray(near), xp.asarray(squared)

        return exact_neighbours(xp, xp.asarray(points), k, candidates)

    def shared_neighbors(self, indices: Any) -> Any:
        """See ``protocol.Graph.shared_neighbors``."""
        xp = self._xp
        indices = xp.ascontiguousarray(indices, dtype=np.int32)
        n, k = (int(size) for size in indices.shape)
        own = xp.arange(n, dtype=np.int32)[:, None]
        closed = xp.sort(xp.concatenate([own, indices], axis=1), axis=1)
        shared = xp.empty((n, k), np.int32)
        self._launch("shared_neighbors", n * k, indices, closed, n * k, k, shared)
        return shared

    def umap(
        self, points: Any, indices: Any, distances: Any, *, n_components: int, min_dist: float, spread: float,
        n_epochs: int | None, seed: int,
    ) -> Any:  # fmt: skip
        """See ``protocol.Graph.umap``. A seed makes cuML's layout reproducible at some cost in speed."""
        require("cuml", "UMAP (tl.umap)")
        from cuml.manifold import UMAP

        xp = self._xp
        n = int(points.shape[0])
        own = xp.arange(n, dtype=np.int64)[:, None]  # cuML wants each point as its own first neighbour
        near = xp.concatenate([own, indices.astype(np.int64)], axis=1)
        far = xp.concatenate([xp.zeros((n, 1), np.float32), distances.astype(np.float32)], axis=1)
        layout = UMAP(
            n_neighbors=int(near.shape[1]), n_components=n_components, min_dist=min_dist, spread=spread,
            n_epochs=n_epochs, init="random" if n <= n_components + 2 else "spectral", random_state=seed,
            precomputed_knn=(near, far), output_type="cupy",
        ).fit_transform(xp.ascontiguousarray(points, dtype=np.float32))  # fmt: skip
        return layout.astype(np.float32)

    def leiden(
        self, adjacency: Any, *, resolution: float, n_iterations: int, seed: int, weighted: bool
    ) -> tuple[Any, float]:
        """See ``protocol.Graph.leiden``. cuGraph's Leiden is not bit-reproducible, even with a seed.

        It runs until it converges: what cuGraph can limit are levels of one pass, not the passes that
        ``n_iterations`` counts.
        """
        require("pylibcugraph", "Leiden clustering (tl.leiden)")
        import pylibcugraph

        xp = self._xp
        n = int(adjacency.shape[0])
        if adjacency.nnz == 0:
            return by_falling_size(np.arange(n)), 0.0
        weights = adjacency.data.astype(np.float32) if weighted else xp.ones(adjacency.nnz, np.float32)
        handle = pylibcugraph.ResourceHandle()
        graph = pylibcugraph.SGGraph(
            handle, pylibcugraph.GraphProperties(is_symmetric=True, is_multigraph=False),
            adjacency.indptr.astype(np.int32), adjacency.indices.astype(np.int32), weight_array=weights,
            store_transposed=False, renumber=False, do_expensive_check=False, input_array_format="CSR",
        )  # fmt: skip
        vertices, clusters, _ = pylibcugraph.leiden(
            resource_handle=handle,
            random_state=seed,
            graph=graph,
            max_level=MAX_LEVELS,
            resolution=resolution,
            theta=LEIDEN_THETA,
            do_expensive_check=False,
        )
        found = xp.empty(n, np.int64)
        found[vertices] = clusters
        labels = by_falling_size(np.asarray(found.tolist()))
        quality = modularity(xp, adjacency.indptr, adjacency.indices, weights, xp.asarray(labels))
        return labels, quality

    def harmony(self, points: Any, batches: np.ndarray, *, seed: int, max_iter: int, theta: float, sigma: float) -> Any:
        """See ``protocol.Graph.harmony``."""
        require("rapids_singlecell", "Harmony (batch correction)")
        import anndata
        import pandas as pd
        import rapids_singlecell

        n = int(points.shape[0])
        obs = pd.DataFrame({"batch": pd.Categorical(np.asarray(batches).astype(str))}, index=[str(i) for i in range(n)])
        adata = anndata.AnnData(obs=obs, obsm={"points": points})
        rapids_singlecell.pp.harmony_integrate(
            adata,
            "batch",
            basis="points",
            adjusted_basis="corrected",
            n_clusters=max(1, min(100, round(n / 30))),
            max_iter_harmony=max_iter,
            theta=theta,
            sigma=sigma,
            rng=seed,
            dtype=np.float32,
        )
        return self._xp.asarray(adata.obsm["corrected"], dtype=np.float32)
