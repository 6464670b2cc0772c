"""Tools: spectral embedding, UMAP and Leiden clusters; peaks, their consensus, markers and differential tests."""

from gpuatac.tl._cluster import leiden, umap
from gpuatac.tl._consensus import merge_peaks
from gpuatac.tl._diff import diff_test
from gpuatac.tl._groups import aggregate, marker_regions
from gpuatac.tl._peaks import call_peaks, peaks_by_group
from gpuatac.tl._spectral import spectral

__all__ = [
    "aggregate",
    "call_peaks",
    "diff_test",
    "leiden",
    "marker_regions",
    "merge_peaks",
    "peaks_by_group",
    "spectral",
    "umap",
]
