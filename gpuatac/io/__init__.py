"""Files to Fragments, Genome and AnnData, and back."""

from gpuatac.io.attach import forget, set_fragments_path
from gpuatac.io.fragments_text import read_fragments
from gpuatac.io.h5ad import read_h5ad, write_h5ad
from gpuatac.io.store import open_fragments, write_fragments

__all__ = [
    "forget",
    "open_fragments",
    "read_fragments",
    "read_h5ad",
    "set_fragments_path",
    "write_fragments",
    "write_h5ad",
]
