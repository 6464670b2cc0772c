"""Tools: spectral embedding, UMAP and Leiden clusters; peaks, their consensus, markers and differential tests."""

from functools import partial

from gpuatac.tl._aggregates import neighbor_aggregates, random_aggregates
from gpuatac.tl._cluster import leiden, umap
from gpuatac.tl._consensus import merge_peaks
from gpuatac.tl._denoise import denoise, denoised_tracks
from gpuatac.tl._diff import diff_test
from gpuatac.tl._groups import aggregate, marker_regions
from gpuatac.tl._peaks import call_peaks, peaks_by_group
from gpuatac.tl._spectral import spectral
from gpuatac.tl._track_differences import differential_tracks

__all__ = [
    "aggregate",
    "call_peaks",
    "denoise",
    "denoised_tracks",
    "diff_test",
    "differential_tracks",
    "leiden",
    "marker_regions",
    "merge_peaks",
    "neighbor_aggregates",
    "peaks_by_group",
    "random_aggregates",
    "spectral",
    "umap",
]
__dir__ = partial(list[str], __all__)
