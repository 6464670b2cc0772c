"""One memory pool for everything on the GPU: CuPy, cuDF, cuML and PyTorch draw from RMM.

Without this each library keeps a pool of its own, and a device that is half empty runs out of memory.
"""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

from gpuatac.backend.gpu.libraries import is_installed

logger = logging.getLogger(__name__)

INITIAL_SHARE = 0.5  # of the free device memory; the pool grows beyond it when needed
ALIGNMENT = 256  # bytes: RMM asks for pool sizes in these units


def set_up_pool(cupy: Any) -> None:
    """Make RMM's pool the allocator of this process on the current device.

    A memory resource that the caller (or a dask-cuda worker) has put in place already is kept. PyTorch joins
    when it is installed with CUDA and has not used the device yet.
    """
    if not is_installed("rmm"):
        logger.info("memory: RMM is not installed; CuPy's own pool is used, and PyTorch has one of its own")
        return
    import rmm
    import rmm.statistics
    from rmm.allocators.cupy import rmm_cupy_allocator

    if type(rmm.mr.get_current_device_resource()) is rmm.mr.CudaMemoryResource:
        free, _ = cupy.cuda.runtime.memGetInfo()
        size = int(free * INITIAL_SHARE) // ALIGNMENT * ALIGNMENT
        rmm.reinitialize(pool_allocator=True, initial_pool_size=size, devices=cupy.cuda.runtime.getDevice())
        logger.info("memory: one pool of %.1f GiB for all GPU libraries", size / 2**30)
    rmm.statistics.enable_statistics()
    cupy.cuda.set_allocator(rmm_cupy_allocator)
    if importlib.util.find_spec("torch") is not None:
        _share_with_torch()


def _share_with_torch() -> None:
    import torch
    from rmm.allocators.torch import rmm_torch_allocator

    if rmm_torch_allocator is None:
        logger.info("memory: this PyTorch has no CUDA; it stays outside the pool")
    elif torch.cuda.is_initialized():
        logger.warning("memory: PyTorch has used the GPU already and keeps a pool of its own")
    else:
        torch.cuda.memory.change_current_allocator(rmm_torch_allocator)


def usage(cupy: Any) -> dict[str, int]:
    """Bytes of the current device: total, free (with the pool's unused part), at this process's peak."""
    if not is_installed("rmm"):
        return _own_pool_usage(cupy)
    import rmm
    import rmm.statistics

    free, total = cupy.cuda.runtime.memGetInfo()
    statistics = rmm.statistics.get_statistics()
    peak = 0 if statistics is None else int(statistics.peak_bytes)
    resource = rmm.mr.get_current_device_resource()
    while resource is not None and not isinstance(resource, rmm.mr.PoolMemoryResource):
        resource = getattr(resource, "upstream_mr", None)
    if resource is not None and statistics is not None:
        free += int(resource.pool_size()) - int(statistics.current_bytes)
    return {"total": int(total), "free": int(free), "peak": peak}


def _own_pool_usage(cupy: Any) -> dict[str, int]:
    """The same of CuPy's pool, which keeps what it once took: its size is the peak."""
    free, total = cupy.cuda.runtime.memGetInfo()
    pool = cupy.get_default_memory_pool()
    return {"total": int(total), "free": int(free) + int(pool.free_bytes()), "peak": int(pool.total_bytes())}
