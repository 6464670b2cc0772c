"""Files to Fragments, Genome and AnnData, and back."""

from gpuatac.io.attach import forget, set_fragments_path
from gpuatac.io.bam import read_bam_fragments
from gpuatac.io.bed import read_bed
from gpuatac.io.fragments_text import read_fragments
from gpuatac.io.genes import read_transcripts
from gpuatac.io.genome_files import read_genome
from gpuatac.io.h5ad import read_h5ad, write_h5ad
from gpuatac.io.matrices import read_10x_h5, read_10x_mtx
from gpuatac.io.snapatac import read_snapatac2_fragments
from gpuatac.io.store import open_fragments, to_frame, write_fragments

__all__ = [
    "forget",
    "open_fragments",
    "read_10x_h5",
    "read_10x_mtx",
    "read_bam_fragments",
    "read_bed",
    "read_fragments",
    "read_genome",
    "read_h5ad",
    "read_snapatac2_fragments",
    "read_transcripts",
    "set_fragments_path",
    "to_frame",
    "write_fragments",
    "write_h5ad",
]
