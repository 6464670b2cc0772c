"""One memory pool for the arrays on a GPU: CuPy, cuDF and cuML draw from RMM; PyTorch keeps an allocator of its own.

Without a pool each library keeps one of its own, and a device that is half empty runs out of memory. PyTorch stays outside
because RMM offers it nothing but ``alloc`` and ``free``: a CUDA graph needs a pool that is the graph's own, which PyTorch's
allocator alone has. So the device is divided instead, by a maximum of RMM's pool: nine tenths of what is free, the rest being
for what no pool gives (kernels' code, workspaces of cuBLAS, cuSPARSE and cuDNN), or half where PyTorch is loaded, which needs
the other half for weights, activations and captured graphs: they grow with the batch, as the tracks do that it reads and
writes. PyTorch is never imported here.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from gpuatac.backend.gpu.libraries import is_installed
from gpuatac.memory import given_memory

logger = logging.getLogger(__name__)

POOL_SHARE = 0.9  # of the free device memory: the pool grows up to it
SHARE_BESIDE_NETWORKS = 0.5  # the same where PyTorch is loaded
INITIAL_SHARE = 0.5  # of the pool's maximum: taken at once
LIMIT_SHARE = 0.8  # of the device: the limit of data where none is given
ALIGNMENT = 256  # bytes: RMM asks for pool sizes in these units
_maximum: dict[int, int] = {}  # bytes that the pool made here may grow to, by device


def pool_sizes(free: int, *, beside_networks: bool) -> tuple[int, int]:
    """The initial and the greatest size of the pool on a device with so many free bytes."""
    maximum = int(free * (SHARE_BESIDE_NETWORKS if beside_networks else POOL_SHARE)) // ALIGNMENT * ALIGNMENT
    return int(maximum * INITIAL_SHARE) // ALIGNMENT * ALIGNMENT, maximum


def set_up_pool(cupy: Any) -> None:
    """Make RMM's pool the allocator of this process on the current device.

    A memory resource that the caller (or a dask-cuda worker) has put in place already is kept.
    """
    device = int(cupy.cuda.runtime.getDevice())
    _maximum.pop(device, None)
    if not is_installed("rmm"):
        logger.info("memory: RMM is not installed; CuPy's own pool is used, and PyTorch has one of its own")
        return
    import rmm
    import rmm.statistics
    from rmm.allocators.cupy import rmm_cupy_allocator

    if type(rmm.mr.get_current_device_resource()) is rmm.mr.CudaMemoryResource:
        _make_pool(cupy, device, beside_networks="torch" in sys.modules)
    rmm.statistics.enable_statistics()
    cupy.cuda.set_allocator(rmm_cupy_allocator)


def _make_pool(cupy: Any, device: int, *, beside_networks: bool) -> None:
    import rmm

    free, _ = cupy.cuda.runtime.memGetInfo()
    initial, maximum = pool_sizes(int(free), beside_networks=beside_networks)
    rmm.reinitialize(pool_allocator=True, initial_pool_size=initial, maximum_pool_size=maximum, devices=device)
    _maximum[device] = maximum
    logger.info(
        "memory: one pool for the GPU's arrays, of %.1f GiB, up to %.1f GiB%s",
        initial / 2**30,
        maximum / 2**30,
        "; the rest is PyTorch's" if beside_networks else "",
    )


def make_room(cupy: Any) -> None:
    """Hold the pool to the share that it has beside a network. A pool that is in use already stays as it is, which is logged."""
    device = int(cupy.cuda.runtime.getDevice())
    if device not in _maximum:
        return
    import rmm
    import rmm.statistics

    held = rmm.statistics.get_statistics()
    here = usage(cupy)
    if _maximum[device] <= pool_sizes(here["total"], beside_networks=True)[1]:
        return
    if held is not None and held.current_bytes == 0:
        rmm.reinitialize(pool_allocator=False, devices=device)  # the device has its memory back before the pool is made anew
        _make_pool(cupy, device, beside_networks=True)
        rmm.statistics.enable_statistics()
        return
    outside, _ = cupy.cuda.runtime.memGetInfo()
    logger.warning(
        "memory: arrays of this process are in a pool that may grow to %.1f GiB of the GPU's %.1f, and a network has what is "
        "outside it (%.1f GiB now); if that is too little import torch before the first step on the GPU, or run the network in "
        "a process of its own",
        _maximum[device] / 2**30,
        here["total"] / 2**30,
        outside / 2**30,
    )


def usage(cupy: Any) -> dict[str, int]:
    """Bytes of the current device: total, free, and at this process's peak.

    Free is what arrays can still take: what the pool has unused, and what it may grow by.
    """
    if not is_installed("rmm"):
        return _own_pool_usage(cupy)
    import rmm
    import rmm.statistics

    outside, total = (int(n) for n in cupy.cuda.runtime.memGetInfo())
    statistics = rmm.statistics.get_statistics()
    peak = 0 if statistics is None else int(statistics.peak_bytes)
    resource = rmm.mr.get_current_device_resource()
    while resource is not None and not isinstance(resource, rmm.mr.PoolMemoryResource):
        resource = getattr(resource, "upstream_mr", None)
    free = outside
    if resource is not None and statistics is not None:
        size = int(resource.pool_size())
        most = _maximum.get(int(cupy.cuda.runtime.getDevice()))
        grows = outside if most is None else max(min(outside, most - size), 0)
        free = size - int(statistics.current_bytes) + grows
    return {"total": total, "free": free, "peak": peak}


def _own_pool_usage(cupy: Any) -> dict[str, int]:
    """The same of CuPy's pool, which keeps what it once took: its size is the peak."""
    free, total = cupy.cuda.runtime.memGetInfo()
    pool = cupy.get_default_memory_pool()
    return {"total": int(total), "free": int(free) + int(pool.free_bytes()), "peak": int(pool.total_bytes())}


def limit(cupy: Any) -> int:
    """Bytes that data may take on the current device; see ``protocol.Backend.limit``."""
    _, total = cupy.cuda.runtime.memGetInfo()
    most = int(total * LIMIT_SHARE)
    most = min(most, _maximum.get(int(cupy.cuda.runtime.getDevice()), most))
    given = given_memory()
    return most if given is None else min(given, most)
