"""Files to Fragments, Genome and AnnData, and back."""

from functools import partial

from gpuatac.io.fragments.attach import forget, set_fragments_path
from gpuatac.io.fragments.bam import read_bam_fragments
from gpuatac.io.fragments.frames import from_frame, to_frame
from gpuatac.io.fragments.snapatac2 import read_snapatac2_fragments
from gpuatac.io.fragments.store import open_fragments, write_fragments
from gpuatac.io.fragments.text import read_fragments
from gpuatac.io.genome.bed import read_bed
from gpuatac.io.genome.sizes import read_genome
from gpuatac.io.genome.transcripts import read_transcripts
from gpuatac.io.matrices.count_files import read_10x_h5, read_10x_mtx
from gpuatac.io.matrices.h5ad import read_h5ad, write_h5ad

__all__ = [
    "forget",
    "from_frame",
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
__dir__ = partial(list[str], __all__)
