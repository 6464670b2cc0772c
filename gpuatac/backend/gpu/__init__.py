"""The GPU backend: CuPy, RAPIDS and our own CUDA kernels. It agrees with the CPU backend.

The classes take the array module and the kernel launcher as arguments, so that the tests run them on NumPy
with the kernels compiled for the CPU; only ``make_backend`` brings in CuPy.
"""

from __future__ import annotations

from typing import Any, Literal

from gpuatac.backend.gpu import libraries, memory
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
from gpuatac.errors import DeviceUnavailableError


class GpuBackend(Arrays):
    """See ``protocol.Backend``. It belongs to the device that was current when it was made, where its memory pool lies."""

    name: Literal["cpu", "gpu"] = "gpu"
    count_dtype: Any = COUNT_DTYPE

    def __init__(self, xp: Any, sparse: Any, launch: Launcher) -> None:
        super().__init__(xp, sparse, launch)
        self.device = int(xp.cuda.runtime.getDevice())
        self.parsing = Parsing(xp, launch)
        self.ordering = Ordering(xp)
        self.counting = Counting(xp, launch)
        self.pileup = Pileup(xp, launch)
        self.peaks = Peaks(xp, launch)
        self.linalg = Linalg(xp, self._room)
        self.graph = Graph(xp, launch, self._room)
        self.matrices = Matrices(xp)

    def _room(self) -> int:
        """Bytes that may be taken now."""
        return min(self.memory()["free"], self.limit())

    def synchronize(self) -> None:
        """See ``protocol.Backend.synchronize``."""
        self.xp.cuda.get_current_stream().synchronize()

    def memory(self) -> dict[str, int]:
        """See ``protocol.Backend.memory``."""
        return memory.usage(self.xp)

    def limit(self) -> int:
        """See ``protocol.Backend.limit``."""
        return memory.limit(self.xp)

    def use(self) -> None:
        """See ``protocol.Backend.use``."""
        self.xp.cuda.Device(self.device).use()

    def check_device(self) -> None:
        """See ``protocol.Backend.check_device``."""
        current = int(self.xp.cuda.runtime.getDevice())
        if current != self.device:
            msg = (
                f"this thread is on GPU {current}, and this process has its memory pool and data on GPU {self.device}; gpuatac works "
                f"with one GPU a process: call cupy.cuda.Device({self.device}).use() in this thread, or start another process for "
                f"GPU {current} (CUDA_VISIBLE_DEVICES={current})."
            )
            raise DeviceUnavailableError(msg)

    def load_ahead(self) -> None:
        """See ``protocol.Backend.load_ahead``."""
        libraries.load_ahead(prepare=self.use)

    def make_room(self) -> None:
        """See ``protocol.Backend.make_room``."""
        memory.make_room(self.xp)


def make_backend() -> GpuBackend:
    """The GPU backend on the current device, with one memory pool for all GPU libraries of this process."""
    import cupy
    import cupyx.scipy.sparse

    memory.set_up_pool(cupy)
    return GpuBackend(cupy, cupyx.scipy.sparse, CudaLauncher(cupy))
