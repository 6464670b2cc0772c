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
    from collections.abc import Callable, Iterator

    from gpuatac.backend.gpu.launch import Launcher

EXTRA_NEIGHBOURS = 8  # candidates beyond k, k / EXTRA_SHARE and self, so that rounding cannot push a true neighbour out
EXTRA_SHARE = 16
BLOCK_BYTES = 1 << 30  # of what neighbours are found with, at once
ROOM_SHARE = 4  # 1 / this of the free memory at most is a block's
CANDIDATE_BYTES = 128  # of a candidate of a row, while its block is in work
ELEMENT_BYTES = 32  # of a coordinate of a candidate, while distances are recomputed
EPS32 = float(np.finfo(np.float32).eps)
MAX_LEVELS = 100  # of Leiden: enough to run until it converges
LEIDEN_THETA = 1.0
ROWS_WITH_ALL = 1024  # that are compared with all points at once
HALF = 32  # bits of a packed key that hold what is sorted within a row


def neighbour_blocks(
    xp: Any, points: Any, k: int, index: Callable[[Any], Callable[[Any, int], tuple[Any, Any]]], block_bytes: int
) -> Iterator[tuple[int, Any, Any]]:
    """The k nearest other points of each point by (Euclidean distance, index), by blocks of rows: int32 and float32 (n_rows, k).

    ``index(points32)(queries, m)`` gives m near points of each query (indices, float32 squared distances), with
    the errors that come with |x|^2 - 2 xy + |y|^2. Their distances are recomputed in float64. A row whose
    k-th distance is not clearly below its farthest candidate's (ties, duplicates) is compared with all
    points. ``block_bytes`` bounds what is held beside the points.
    """
    n, n_dims = (int(size) for size in points.shape)
    if n == 0 or k == 0:
        return
    exact = points.astype(np.float64, copy=False)
    centred = xp.ascontiguousarray((exact - exact.mean(axis=0)).astype(np.float32))
    m = min(n, k + 1 + EXTRA_NEIGHBOURS + k // EXTRA_SHARE)
    candidates = index(centred)
    rounding = (2 * n_dims + 16) * EPS32  # of a squared distance, relative to |x|^2 + |y|^2
    elements = max(1, block_bytes // (2 * ELEMENT_BYTES))
    step = max(1, block_bytes // (2 * m * CANDIDATE_BYTES))
    for low in range(0, n, step):
        own = centred[low : low + step]
        near, approximate = candidates(own, m)
        rows = xp.arange(low, low + int(own.shape[0]))
        near = sorted_in_rows(xp, near)  # by index, so that a stable sort by distance breaks ties by index
        squared = _squared(xp, exact, rows, near, elements)
        near, squared = _nearest(xp, near, squared, k)
        if m < n:
            # a point y left out but nearer than d has |y| < |x| + d, which bounds the error of its distance
            norm = xp.sqrt((own.astype(np.float64) ** 2).sum(axis=1))
            slack = rounding * (norm**2 + (norm + xp.sqrt(squared[:, -1])) ** 2)
            unsure = xp.flatnonzero(squared[:, -1] >= approximate.max(axis=1).astype(np.float64) - slack)
            for first in range(0, int(unsure.size), ROWS_WITH_ALL):
                some = unsure[first : first + ROWS_WITH_ALL]
                near[some], squared[some] = _nearest_of_all(xp, exact, rows[some], k, block_bytes)
        yield low, near.astype(np.int32), xp.sqrt(squared).astype(np.float32)


def exact_neighbours(
    xp: Any,
    points: Any,
    k: int,
    index: Callable[[Any], Callable[[Any, int], tuple[Any, Any]]],
    block_bytes: int = BLOCK_BYTES,
) -> tuple[Any, Any]:
    """``neighbour_blocks`` together: int32 and float32 (n, k)."""
    n = int(points.shape[0])
    indices, distances = xp.empty((n, k), np.int32), xp.empty((n, k), np.float32)
    for low, near, far in neighbour_blocks(xp, points, k, index, block_bytes):
        indices[low : low + int(near.shape[0])] = near
        distances[low : low + int(near.shape[0])] = far
    return indices, distances


def _squared(xp: Any, points: Any, rows: Any, near: Any, elements: int) -> Any:
    """Squared distances of ``rows`` to ``near``; a point is not its own neighbour. ``elements`` coordinates at once."""
    out = xp.empty(near.shape, np.float64)
    step = max(1, elements // (int(near.shape[1]) * int(points.shape[1]) + 1))
    for low in range(0, int(near.shape[0]), step):
        difference = points[near[low : low + step]]
        difference -= points[rows[low : low + step]][:, None, :]
        difference *= difference
        out[low : low + step] = difference.sum(axis=2)
    out[near == rows[:, None]] = np.inf
    return out


def _nearest(xp: Any, near: Any, squared: Any, k: int) -> tuple[Any, Any]:
    """The k nearest of each row by (distance, place), and their squared distances."""
    m = int(near.shape[1])
    order = order_in_rows(xp, squared)[:, :k] + xp.arange(0, near.size, m)[:, None]
    return near.ravel()[order], squared.ravel()[order]


def _nearest_of_all(xp: Any, points: Any, rows: Any, k: int, block_bytes: int) -> tuple[Any, Any]:
    """The k nearest of all points for a few rows: as many points at once as ``block_bytes`` hold, the nearest so far kept."""
    n, n_dims = (int(size) for size in points.shape)
    n_rows = int(rows.size)
    step = max(1, block_bytes // (2 * n_rows * max(n_dims * ELEMENT_BYTES, CANDIDATE_BYTES)))
    near, squared = xp.empty((n_rows, 0), np.int64), xp.empty((n_rows, 0), np.float64)
    for low in range(0, n, step):
        more = xp.broadcast_to(xp.arange(low, min(low + step, n)), (n_rows, min(step, n - low)))
        far = _squared(xp, points, rows, more, n_rows * step * n_dims)
        near, squared = xp.concatenate([near, more], axis=1), xp.concatenate([squared, far], axis=1)
        near, squared = _nearest(xp, near, squared, min(k, int(near.shape[1])))
    return near, squared


def sorted_in_rows(xp: Any, values: Any) -> Any:
    """int64: each row's values, below 2^31 and not negative, in ascending order: one radix sort of (row, value)."""
    keys = (xp.arange(int(values.shape[0]), dtype=np.int64)[:, None] << HALF) | values
    keys = keys.ravel()
    keys.sort()
    keys &= (1 << HALF) - 1
    return keys.reshape(values.shape)


def order_in_rows(xp: Any, values: Any) -> Any:
    """See ``protocol.Graph.order_in_rows``: radix sorts of whole numbers, which the bits of a float are that is not negative."""
    n, m = (int(size) for size in values.shape)
    bits = xp.ascontiguousarray(values).view(f"i{values.dtype.itemsize}")
    row = xp.arange(n, dtype=np.int64)[:, None]
    if bits.dtype.itemsize == 4:
        order = xp.argsort(((row << HALF) | bits).ravel(), kind="stable")
    else:
        by_value = xp.argsort(bits.ravel(), kind="stable")
        order = by_value[xp.argsort((by_value // m).astype(np.int32), kind="stable")]
    return order.reshape(n, m) - row * m


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

    def __init__(self, xp: Any, launch: Launcher, room: Callable[[], int] | None = None) -> None:
        self._xp = xp
        self._launch = launch
        self._room = room
        self._block_bytes = BLOCK_BYTES

    def _block(self) -> int:
        """Bytes of a block: less where little memory is free."""
        return self._block_bytes if self._room is None else max(min(self._block_bytes, self._room() // ROOM_SHARE), 1)

    def knn(self, points: Any, k: int) -> tuple[Any, Any]:
        """See ``protocol.Graph.knn``."""
        return exact_neighbours(self._xp, self._xp.asarray(points), k, self._index, self._block())

    def neighbour_blocks(self, points: Any, k: int) -> Iterator[tuple[int, Any, Any]]:
        """See ``protocol.Graph.neighbour_blocks``."""
        return neighbour_blocks(self._xp, self._xp.asarray(points), k, self._index, self._block())

    def _index(self, points32: Any) -> Callable[[Any, int], tuple[Any, Any]]:
        """What asks cuVS for near points: the nearest but for rounding."""
        require("cuvs", "Search for neighbours (pp.knn, pp.scrublet)")
        from cuvs.neighbors import brute_force

        xp = self._xp
        index = brute_force.build(points32, metric="sqeuclidean")

        def candidates(queries: Any, m: int) -> tuple[Any, Any]:
            squared, near = brute_force.search(index, queries, m)
            return xp.asarray(near), xp.asarray(squared)

        return candidates

    def order_in_rows(self, values: Any) -> Any:
        """See ``protocol.Graph.order_in_rows``."""
        return order_in_rows(self._xp, values)

    def shared_neighbors(self, indices: Any) -> Any:
        """See ``protocol.Graph.shared_neighbors``."""
        xp = self._xp
        indices = xp.ascontiguousarray(indices, dtype=np.int32)
        n, k = (int(size) for size in indices.shape)
        own = xp.arange(n, dtype=np.int32)[:, None]
        closed = sorted_in_rows(xp, xp.concatenate([own, indices], axis=1)).astype(np.int32)
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
            flavor="harmony2",  # as harmonypy, which the CPU has
            n_clusters=max(1, min(100, round(n / 30))),
            max_iter_harmony=max_iter,
            theta=theta,
            sigma=sigma,
            rng=seed,
            dtype=np.float32,
        )
        return self._xp.asarray(adata.obsm["corrected"], dtype=np.float32)
