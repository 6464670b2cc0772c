"""The matrix of an AnnData in the one form that verbs compute on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from gpuatac import slots
from gpuatac.backend import is_device_array, is_on_disk, streams_to
from gpuatac.errors import InputError
from gpuatac.io.matrices.csr_file import DiskMatrix, is_canonical
from gpuatac.memory import get_memory

if TYPE_CHECKING:
    from anndata import AnnData

BYTES_IN_MEMORY, SHARE_IN_MEMORY = 8, 4  # of a non-zero; a matrix is read whole up to this part of the memory limit


def canonical_matrix(adata: AnnData) -> Any:
    """X as CSR without duplicates or explicit zeros, counts non-negative; X itself when it is so already.

    CSC, dense and int64-indexed matrices are converted here once, instead of slowly in every product. A matrix on disk comes as
    ``DiskMatrix`` where it is too large for its share of the memory limit, or is computed on by a GPU, which takes its blocks.
    """
    if adata.is_view:
        adata._init_as_actual(adata.copy())
    x = slots.matrix_of(adata)
    if is_device_array(x):
        return canonical(x)
    if is_on_disk(x) and is_canonical(x):
        disk = DiskMatrix(x)
        if streams_to(disk) == "gpu" or disk.nnz * BYTES_IN_MEMORY > get_memory() // SHARE_IN_MEMORY:
            return disk
    if adata.isbacked or is_on_disk(x):
        x = x.to_memory() if hasattr(x, "to_memory") else x[:]
    return canonical(x if sp.issparse(x) and x.format == "csr" else sp.csr_matrix(x))


def canonical(x: Any) -> Any:
    """A CSR matrix checked and cleaned; the argument is never changed."""
    values = x.data
    lowest = float(values.min()) if values.size else 0.0  # NaN when any value is
    if not lowest >= 0:
        msg = "X holds negative numbers or NaN; counts must be 0 or more: pass raw counts, not a scaled or imputed matrix."
        raise InputError(msg)
    if values.dtype.kind in "bui" and values.dtype.itemsize < 4:
        x = x.astype(np.int32)  # sums of bool and uint8 would wrap
        values = x.data
    clean = x.has_canonical_format and lowest != 0
    if not clean:
        x = x.copy()
        x.sum_duplicates()
        x.eliminate_zeros()
    return x
