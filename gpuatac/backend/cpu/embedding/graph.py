"""Neighbours, layout and clusters on the CPU: scikit-learn, umap-learn, igraph and harmonypy."""

from __future__ import annotations

import random
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

import numba as nb
import numpy as np

from gpuatac.core.embedding.partition import by_falling_size
from gpuatac.threads import get_threads

if TYPE_CHECKING:
    from collections.abc import Iterator


@nb.njit(cache=True, nogil=True)
def _shared(lists):  # type: ignore[no-untyped-def]
    n, k = lists.shape[0], lists.shape[1]
    own = np.empty((n, k + 1), np.int32)
    for i in range(n):
        own[i, :k] = lists[i]
        own[i, k] = i
        own[i].sort()
    out = np.empty((n, k), np.int32)
    for i in range(n):
        for slot in range(k):
            j = lists[i, slot]
            a, b, common = 0, 0, 0
            while a <= k and b <= k:
                if own[i, a] == own[j, b]:
                    common += 1
                    a += 1
                    b += 1
                elif own[i, a] < own[j, b]:
                    a += 1
                else:
                    b += 1
            out[i, slot] = common
    return out


BLOCK_BYTES = 1 << 29  # of candidates that are looked at together
DIMENSIONS_FOR_TREE = 15  # a k-d tree wins below, blocked brute force above


class Graph:
    """The CPU side of ``protocol.Graph``."""

    def knn(self, points: Any, k: int) -> tuple[Any, Any]:
        """See ``protocol.Graph.knn``."""
        blocks = list(self.neighbour_blocks(points, k))
        if len(blocks) == 1:
            return blocks[0][1:]
        return np.concatenate([near for _, near, _ in blocks]), np.concatenate([far for *_, far in blocks])

    def neighbour_blocks(self, points: Any, k: int) -> Iterator[tuple[int, Any, Any]]:
        """See ``protocol.Graph.neighbour_blocks``."""
        from sklearn.neighbors import NearestNeighbors

        x = np.ascontiguousarray(points, np.float64)
        method = "kd_tree" if x.shape[1] <= DIMENSIONS_FOR_TREE and x.shape[0] > 4096 else "brute"
        ask = min(k + 2, x.shape[0])  # self, and one more so that a tie at the border is seen
        index = NearestNeighbors(n_neighbors=ask, algorithm=method, n_jobs=get_threads()).fit(x)
        step = max(1, BLOCK_BYTES // (16 * ask))
        for low in range(0, x.shape[0], step):
            found = index.kneighbors(x[low : low + step], return_distance=False)
            yield low, *_exact_order(x, low, found, k)

    def order_in_rows(self, values: Any) -> Any:
        """See ``protocol.Graph.order_in_rows``."""
        return np.argsort(values, axis=1, kind="stable")

    def shared_neighbors(self, indices: Any) -> Any:
        """See ``protocol.Graph.shared_neighbors``."""
        return _shared(np.ascontiguousarray(indices, np.int32))

    def umap(
        self,
        points: Any,
        indices: Any,
        distances: Any,
        *,
        n_components: int,
        min_dist: float,
        spread: float,
        n_epochs: int | None,
        seed: int,
    ) -> Any:
        """See ``protocol.Graph.umap``."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImportWarning)  # umap-learn says that it finds no TensorFlow
            from umap.umap_ import UMAP

        _keep_compiled()
        n = points.shape[0]
        own = np.arange(n, dtype=np.int64)[:, None]
        knn_indices = np.hstack([own, np.asarray(indices, np.int64)])
        knn_distances = np.hstack([np.zeros((n, 1), np.float32), np.asarray(distances, np.float32)])
        small = n <= n_components + 2
        with warnings.catch_warnings():
            # umap-learn warns of its own single thread under a seed, of small graphs and of unused precomputed neighbours
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("ignore", FutureWarning)
            layout = UMAP(
                n_neighbors=knn_indices.shape[1],
                n_components=n_components,
                min_dist=min_dist,
                spread=spread,
                n_epochs=n_epochs,
                random_state=seed,
                init="random" if small else "spectral",
                precomputed_knn=(knn_indices, knn_distances),
                force_approximation_algorithm=True,
            ).fit_transform(np.asarray(points, np.float32))
        return layout.astype(np.float32)

    def leiden(
        self, adjacency: Any, *, resolution: float, n_iterations: int, seed: int, weighted: bool
    ) -> tuple[Any, float]:
        """See ``protocol.Graph.leiden``."""
        import igraph

        upper = adjacency.tocoo()
        keep = upper.row < upper.col
        edges = np.column_stack([upper.row[keep], upper.col[keep]])
        graph = igraph.Graph(n=adjacency.shape[0], edges=edges, directed=False)
        weights = upper.data[keep].astype(np.float64).tolist() if weighted else None
        igraph.set_random_number_generator(random.Random(seed))
        try:
            clusters = graph.community_leiden(
                objective_function="modularity",
                weights=weights,
                resolution=resolution,
                beta=0.01,
                n_iterations=n_iterations,
            )
        finally:
            igraph.set_random_number_generator(random)
        labels = np.asarray(clusters.membership, np.int64)
        quality = graph.modularity(clusters.membership, weights=weights) if graph.ecount() else 0.0
        return by_falling_size(labels), float(quality)

    def harmony(self, points: Any, batches: np.ndarray, *, seed: int, max_iter: int, theta: float, sigma: float) -> Any:
        """See ``protocol.Graph.harmony``."""
        import harmonypy
        import pandas as pd

        meta = pd.DataFrame({"batch": pd.Series(batches).astype(str)})
        result = harmonypy.run_harmony(
            np.asarray(points, np.float64),
            meta,
            ["batch"],
            theta=theta,
            sigma=sigma,
            max_iter_harmony=max_iter,
            random_state=seed,
            verbose=False,
        )
        corrected = np.asarray(result.Z_corr, np.float32)
        return corrected.T if corrected.shape[0] != points.shape[0] else corrected


@cache
def _keep_compiled() -> None:
    """Have Numba keep umap-learn's functions on disk, which umap-learn compiles anew in every process (seconds)."""
    import umap.layouts
    import umap.umap_
    import umap.utils
    from numba.core.registry import CPUDispatcher

    for module in (umap.utils, umap.layouts, umap.umap_):
        for function in vars(module).values():
            if isinstance(function, CPUDispatcher) and function.py_func.__module__ == module.__name__:
                function.enable_caching()


def _exact_order(x: np.ndarray, first: int, candidates: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of ``candidates`` without self, by (exact distance, index), for the rows from ``first`` on.

    A row whose k-th distance is not below that of its farthest candidate may tie with points outside; it is compared
    with all points.
    """
    n, (n_rows, m) = x.shape[0], candidates.shape
    indices, distances = np.empty((n_rows, k), np.int32), np.empty((n_rows, k), np.float32)
    block = max(1, (1 << 24) // max(m * x.shape[1], 1))
    for low in range(0, n_rows, block):
        near = candidates[low : low + block]
        rows = np.arange(first + low, first + low + near.shape[0])
        squared = ((x[rows, None, :] - x[near]) ** 2).sum(-1)
        farthest = squared.max(1)
        indices[low : low + block], distances[low : low + block] = _take(near, squared, rows, k)
        if m < n:
            last = distances[low : low + block, k - 1].astype(np.float64) ** 2
            for i in rows[last >= farthest * (1 - 1e-6)]:
                everyone = np.arange(n)[None, :]
                one = slice(i - first, i - first + 1)
                indices[one], distances[one] = _take(everyone, ((x[i] - x) ** 2).sum(-1)[None, :], np.array([i]), k)
    return indices, distances


def _take(near: np.ndarray, squared: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of ``near`` for ``rows`` and their distances; a point is not its own neighbour."""
    squared[near == rows[:, None]] = np.inf
    order = np.lexsort((near, squared), axis=1)[:, :k]
    return np.take_along_axis(near, order, 1), np.sqrt(np.take_along_axis(squared, order, 1))
