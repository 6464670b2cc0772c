"""Tools: spectral embedding, UMAP and Leiden clusters."""

from gpuatac.tl._cluster import leiden, umap
from gpuatac.tl._spectral import spectral

__all__ = ["leiden", "spectral", "umap"]
