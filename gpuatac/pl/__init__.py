"""Figures of stored results, and of fragments at a locus; each function returns a matplotlib ``Figure`` and stores no result."""

from functools import partial

from gpuatac.pl._denoised import denoised
from gpuatac.pl._doublets import doublet_scores
from gpuatac.pl._embedding import embedding, umap
from gpuatac.pl._qc import frag_size_distr, knee, qc, tss_profile, tsse
from gpuatac.pl._regions import regions
from gpuatac.pl._spectral import spectral_eigenvalues
from gpuatac.pl._tracks import tracks

__all__ = [
    "denoised",
    "doublet_scores",
    "embedding",
    "frag_size_distr",
    "knee",
    "qc",
    "regions",
    "spectral_eigenvalues",
    "tracks",
    "tss_profile",
    "tsse",
    "umap",
]
__dir__ = partial(list[str], __all__)
