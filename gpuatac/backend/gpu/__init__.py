"""The GPU backend: CuPy, RAPIDS and our own CUDA kernels. It agrees with the CPU backend.

The classes take the array module and the kernel launcher as arguments, so that the tests run them on NumPy
with the kernels compiled for the CPU; only ``make_backend`` brings in CuPy.
"""

from __future__ import annotations

from typing import Any, Literal

from gpuatac.backend.gpu import memory
from gpuatac.backend.gpu.arrays import COUNT_DTYPE, Arrays
from gpuatac.backend.gpu.counting.counts import Counting
from gpuatac.backend.gpu.differential.matrices import Matrices
from gpuatac.backend.gpu.embedding.graph import Graph
from gpuatac.backend.gpu.embedding.linalg import Linalg
from gpuatac.backend.gpu.launch import CudaLauncher, Launcher
from gpuatac.backend.gpu.peaks.calling import Peaks
from gpuatac.backend.gpu.reading.ordering import Ordering
from gpuatac.backend.gpu.reading.parsing import Parsing
from gpuatac.backend.gpu.tracks.pileup import Pileup


class GpuBackend(Arrays):
    """See ``protocol.Backend``."""

    name: Literal["cpu", "gpu"] = "gpu"
    count_dtype: Any = COUNT_DTYPE

    def __init__(self, xp: Any, sparse: Any, launch: Launcher) -> None:
        super().__init__(xp, sparse, launch)
        self.parsing = Parsing(xp, launch)
        self.ordering = Ordering(xp)
        self.counting = Counting(xp, launch)
        self.pileup = Pileup(xp, launch)
        self.peaks = Peaks(xp, launch)
        self.linalg = Linalg(xp)
        self.graph = Graph(xp, launch)
        self.matrices = Matrices(xp)

    def synchronize(self) -> None:
        """See ``protocol.Backend.synchronize``."""
        self.xp.cuda.get_current_stream().synchronize()

    def memory(self) -> dict[str, int]:
        """See ``protocol.Backend.memory``."""
        return memory.usage(self.xp)


def make_backend() -> GpuBackend:
    """The GPU backend on the current device, with one memory pool for all GPU libraries of this process."""
    import cupy
    import cupyx.scipy.sparse

    memory.set_up_pool(cupy)
    return GpuBackend(cupy, cupyx.scipy.sparse, CudaLauncher(cupy))
