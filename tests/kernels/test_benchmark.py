"""The kernel benchmark, as far as it runs without a GPU: it reaches every kernel and knows its traffic."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import scipy.sparse

from gpuatac.backend.gpu import launch

from .cpu_run import CpuLauncher

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "gpu_kernels.py"


def test_the_benchmark_times_every_kernel(library):
    spec = importlib.util.spec_from_file_location("gpu_kernels", BENCHMARK)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    recorder = benchmark.Recorder(CpuLauncher(library, block=256))
    n_keys = benchmark.run_every_kernel(np, scipy.sparse, 20_000, recorder)
    assert set(recorder.calls) == set(launch.kernels())
    traffic = benchmark.traffic(recorder.calls, n_keys)
    assert set(traffic) == set(launch.kernels())
    for items, n_bytes in traffic.values():
        assert 0 < items <= n_bytes
    assert traffic["tile_cut_keys"] == (20_000, 28 * 20_000)
