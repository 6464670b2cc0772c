"""RMM, cuVS, cuML, cuGraph and rapids-singlecell: what gpuatac calls of them, with their checks of types and layouts."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import scipy.sparse as sp

from . import device
from .arrays import ndarray
from .calls import check_arguments, check_call, names_of
from .functions import new_module
from .ledger import LEDGER

ROWS = 512  # of distances formed together by the stand-in's neighbours


def _need(fits: bool, what: str) -> None:
    if not fits:
        raise ValueError(what)


# ------------------------------------------------------------------------------------------------------------ RMM
class CudaMemoryResource:
    """cudaMalloc."""


class CudaAsyncMemoryResource:
    """cudaMallocAsync."""


class ManagedMemoryResource:
    """cudaMallocManaged."""


class PoolMemoryResource:
    """A pool that grows from its initial size up to its maximum, and never shrinks."""

    def __init__(self, upstream: Any, initial_pool_size: int | None = None, maximum_pool_size: int | None = None) -> None:
        size = int(initial_pool_size or 0)
        for given in (size, maximum_pool_size or 0):
            _need(given % 256 == 0, f"Error, pool size required to be a multiple of 256 bytes (got {given})")
        here = device.current()
        if maximum_pool_size is not None:
            _need(size <= maximum_pool_size, "Initial pool size exceeds the maximum pool size")
        if size > here.free():
            msg = f"std::bad_alloc: out_of_memory: CUDA error (initial pool of {size:,} bytes)"
            raise MemoryError(msg)
        self.upstream_mr = upstream
        self._device = here
        here.pool, here.pool_limit = max(size, here.live), maximum_pool_size

    def pool_size(self) -> int:
        return self._device.pool


class StatisticsResourceAdaptor:
    """Counts what passes through to another resource."""

    def __init__(self, upstream: Any) -> None:
        self.upstream_mr = upstream


def make_rmm() -> None:
    """The modules of ``rmm``."""
    resources: dict[int, Any] = {}

    def current() -> Any:
        return resources.setdefault(device.current().number, CudaMemoryResource())

    def set_current(mr: Any) -> None:
        resources[device.current().number] = mr

    def reinitialize(**kw: Any) -> None:
        check_call("rmm", "reinitialize", (), kw)
        devices = kw.get("devices", 0)
        for number in devices if isinstance(devices, list | tuple) else [devices]:
            where = device.DEVICES[int(number)]
            where.pool, where.pool_limit = 0, None
            base = ManagedMemoryResource() if kw.get("managed_memory") else CudaMemoryResource()
            if kw.get("pool_allocator"):
                base = PoolMemoryResource(base, kw.get("initial_pool_size"), kw.get("maximum_pool_size"))
            resources[int(number)] = base

    def enable_statistics() -> None:
        if not isinstance(current(), StatisticsResourceAdaptor):
            set_current(StatisticsResourceAdaptor(current()))

    def get_statistics() -> Any:
        if not isinstance(current(), StatisticsResourceAdaptor):
            return None
        return SimpleNamespace(
            current_bytes=LEDGER.live, current_count=0, peak_bytes=LEDGER.peak, peak_count=0, total_bytes=0, total_count=0
        )

    def rmm_cupy_allocator(nbytes: int) -> Any:
        raise NotImplementedError

    new_module("rmm", reinitialize=reinitialize)
    new_module(
        "rmm.mr", get_current_device_resource=current, set_current_device_resource=set_current,
        CudaMemoryResource=CudaMemoryResource, CudaAsyncMemoryResource=CudaAsyncMemoryResource,
        ManagedMemoryResource=ManagedMemoryResource, PoolMemoryResource=PoolMemoryResource,
        StatisticsResourceAdaptor=StatisticsResourceAdaptor,
    )  # fmt: skip
    new_module("rmm.statistics", enable_statistics=enable_statistics, get_statistics=get_statistics)
    new_module("rmm.allocators")
    new_module("rmm.allocators.cupy", rmm_cupy_allocator=rmm_cupy_allocator)
    new_module("rmm.allocators.torch", rmm_torch_allocator=None)  # as where PyTorch has no CUDA


# ----------------------------------------------------------------------------------------------------------- cuVS
class DeviceNdarray:
    """As pylibraft's ``device_ndarray``: the interface of CUDA arrays and nothing else."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        device.own(array)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        array = self._array
        return {"shape": array.shape, "typestr": array.dtype.str, "data": (array.ctypes.data, False), "version": 3, "array": array}


def build(dataset: ndarray, **kw: Any) -> Any:
    check_call("cuvs.neighbors.brute_force", "build", (dataset,), kw)
    _need(isinstance(dataset, ndarray), "dataset must be a device array")
    _need(dataset.dtype in (np.float32, np.float16) and dataset.flags.c_contiguous, "dtype and layout of the dataset")
    _need(kw.get("metric", "sqeuclidean") == "sqeuclidean", "the stand-in has squared Euclidean distances alone")
    return SimpleNamespace(points=dataset.on_device())


def search(index: Any, queries: ndarray, k: int, **kw: Any) -> tuple[DeviceNdarray, DeviceNdarray]:
    check_call("cuvs.neighbors.brute_force", "search", (index, queries, k), kw)
    points, wanted = index.points, queries.on_device()
    _need(wanted.dtype == points.dtype and wanted.flags.c_contiguous, "dtype and layout of the queries")
    _need(type(k) is int and 0 < k <= len(points), "k")
    squared, near = np.empty((len(wanted), k), np.float32), np.empty((len(wanted), k), np.int64)
    norms = (points * points).sum(1)
    for low in range(0, len(wanted), ROWS):
        part = wanted[low : low + ROWS]
        all_of_them = np.maximum((part * part).sum(1)[:, None] - 2 * part @ points.T + norms, 0).astype(np.float32)
        found = np.argpartition(all_of_them, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(all_of_them, found, 1)
        order = np.argsort(values, axis=1)
        near[low : low + ROWS] = np.take_along_axis(found, order, 1)
        squared[low : low + ROWS] = np.take_along_axis(values, order, 1)
    return DeviceNdarray(squared), DeviceNdarray(near)


# ----------------------------------------------------------------------------------------------------------- cuML
class UMAP:
    """Checks what cuML checks, and lays the points out along their principal axes."""

    def __init__(self, **kw: Any) -> None:
        check_arguments("UMAP", names_of("cuml.manifold")["UMAP"][1], (), kw)
        self._kw = kw

    def fit_transform(self, X: ndarray) -> ndarray:
        points = X.on_device()
        near, far = (part.on_device() for part in self._kw["precomputed_knn"])
        _need(points.dtype == np.float32 and points.flags.c_contiguous, "points must be float32, row by row")
        _need(near.shape == far.shape == (len(points), self._kw["n_neighbors"]), "shape of the neighbours")
        _need(near.dtype == np.int64 and far.dtype == np.float32, "dtypes of the neighbours")
        _need(bool((near[:, 0] == np.arange(len(points))).all()), "each point comes first among its own neighbours")
        left, scale, _ = np.linalg.svd(points - points.mean(0), full_matrices=False)
        wanted = self._kw["n_components"]
        out = np.zeros((len(points), wanted), np.float32)
        out[:, : left.shape[1]] = (left * scale)[:, :wanted]
        return ndarray.over(np.asfortranarray(out))  # cuML gives its layout column by column


# -------------------------------------------------------------------------------------------------------- cuGraph
class SGGraph:
    """A symmetric graph in CSR without loops."""

    def __init__(
        self, resource_handle: Any, graph_properties: Any, src_or_offset_array: ndarray, dst_or_index_array: ndarray,
        weight_array: ndarray | None = None, edge_id_array: Any = None, edge_type_array: Any = None, store_transposed: bool = False,
        renumber: bool = False, do_expensive_check: bool = False, input_array_format: str = "COO", vertices_array: Any = None,
        drop_self_loops: bool = False, drop_multi_edges: bool = False, symmetrize: bool = False,
    ) -> None:  # fmt: skip
        offsets, indices = src_or_offset_array.on_device(), dst_or_index_array.on_device()
        assert weight_array is not None
        weights = weight_array.on_device()
        _need(offsets.dtype == indices.dtype == np.int32 and weights.dtype == np.float32, "dtypes of the graph")
        _need(input_array_format == "CSR" and not renumber, "the stand-in takes CSR")
        n = offsets.size - 1
        self.matrix = sp.csr_matrix((weights, indices, offsets), shape=(n, n))
        _need(bool(self.matrix.has_canonical_format), "an edge occurs twice")
        _need(abs(self.matrix - self.matrix.T).max() < 1e-6, "the graph is not symmetric")
        _need(not self.matrix.diagonal().any(), "the graph has loops")


def leiden(
    resource_handle: Any, random_state: Any, graph: SGGraph, max_level: int, resolution: float, theta: float, do_expensive_check: bool
) -> tuple[ndarray, ndarray, float]:
    import igraph

    upper = sp.triu(graph.matrix, 1).tocoo()
    n = graph.matrix.shape[0]
    made = igraph.Graph(n=n, edges=np.column_stack([upper.row, upper.col]).tolist())
    random.seed(int(random_state))
    found = made.community_leiden("modularity", weights=upper.data.tolist(), resolution=resolution, n_iterations=-1)
    order = np.random.default_rng(0).permutation(n)  # cuGraph's vertices come in no order
    labels = np.asarray(found.membership, np.int32)
    return ndarray.over(order.astype(np.int32)), ndarray.over(labels[order]), float(found.modularity)


def harmony_integrate(adata: Any, key: str, **kw: Any) -> None:
    check_call("rapids_singlecell.pp", "harmony_integrate", (adata, key), kw)
    import harmonypy

    _need(kw["flavor"] == "harmony2", "the stand-in has harmony2 alone")
    points = adata.obsm[kw["basis"]].on_device().astype(np.float64)
    done = harmonypy.run_harmony(
        points, adata.obs, key, max_iter_harmony=kw["max_iter_harmony"], theta=kw["theta"], sigma=kw["sigma"],
        nclust=kw["n_clusters"], random_state=kw["rng"], verbose=False,
    )  # fmt: skip
    corrected = np.asarray(done.Z_corr)
    corrected = corrected if corrected.shape[0] == adata.n_obs else corrected.T
    adata.obsm[kw["adjusted_basis"]] = ndarray.over(corrected.astype(kw["dtype"]))


def make_rapids() -> None:
    """All of them."""
    make_rmm()
    new_module("cuvs")
    new_module("cuvs.neighbors")
    new_module("cuvs.neighbors.brute_force", build=build, search=search)
    new_module("cuml")
    new_module("cuml.manifold", UMAP=UMAP)
    new_module(
        "pylibcugraph", SGGraph=SGGraph, ResourceHandle=type("ResourceHandle", (), {}), leiden=leiden,
        GraphProperties=lambda is_symmetric, is_multigraph: None,
    )  # fmt: skip
    new_module("rapids_singlecell")
    new_module("rapids_singlecell.pp", harmony_integrate=harmony_integrate)
