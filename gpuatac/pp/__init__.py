"""Preprocessing verbs: fragments to cells, matrices, features, doublets and neighbours."""

from functools import partial

from gpuatac.io.fragments.bam import make_fragment_file
from gpuatac.pp._cells import call_cells, filter_cells, filter_doublets, filter_reports
from gpuatac.pp._doublets import scrublet
from gpuatac.pp._features import select_features
from gpuatac.pp._graph import harmony, knn
from gpuatac.pp._import import import_fragments, read_summaries
from gpuatac.pp._matrices import add_tile_matrix, make_gene_matrix, make_peak_matrix
from gpuatac.provenance import history

__all__ = [
    "add_tile_matrix",
    "call_cells",
    "filter_cells",
    "filter_doublets",
    "filter_reports",
    "harmony",
    "history",
    "import_fragments",
    "knn",
    "make_fragment_file",
    "make_gene_matrix",
    "make_peak_matrix",
    "read_summaries",
    "scrublet",
    "select_features",
]
__dir__ = partial(list[str], __all__)
