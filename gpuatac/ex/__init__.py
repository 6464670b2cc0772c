"""Export: coverage tracks and fragments of groups of cells."""

from gpuatac.ex._coverage import export_coverage
from gpuatac.ex._fragments import export_fragments

__all__ = ["export_coverage", "export_fragments"]
