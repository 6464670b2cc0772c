"""Export: coverage tracks, fragments and peaks of groups of cells."""

from functools import partial

from gpuatac.ex._coverage import export_coverage
from gpuatac.ex._fragments import export_fragments
from gpuatac.ex._peaks import export_peaks

__all__ = ["export_coverage", "export_fragments", "export_peaks"]
__dir__ = partial(list[str], __all__)
