"""The matrix of an AnnData in the one form that verbs compute on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from gpuatac import slots
from gpuatac.backend import is_device_array
from gpuatac.errors import InputError

if TYPE_CHECKING:
    from anndata import AnnData


def canonical_matrix(adata: AnnData) -> Any:
    """X as CSR without duplicates or explicit zeros, counts non-negative; X itself when it is so already.

    CSC, dense and int64-indexed matrices are converted here once, instead of slowly in every product.
    """
    if adata.is_view:
        adata._init_as_actual(adata.copy())
    x = slots.matrix_of(adata)
    if is_device_array(x):
        return canonical(x)
    if adata.isbacked:
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
    clean = x.has_canonical_format and not bool((values == 0).any())
    if not clean:
        x = x.copy()
        x.sum_duplicates()
        x.eliminate_zeros()
    return x


def selected_columns(adata: AnnData, features: str | np.ndarray | None) -> Any:
    """The columns that ``features`` selects, canonical CSR on X's device."""
    mask = slots.mask_of(adata, features)
    x = canonical_matrix(adata)
    if mask is None or mask.all():
        return x
    if is_device_array(x):
        return x[:, np.flatnonzero(mask)]
    return _keep_columns(x, mask)


def _keep_columns(x: Any, mask: np.ndarray) -> Any:
    """x[:, mask] by one pass over the non-zeros: SciPy's own indexing builds a column map per call and is slower."""
    new_index = np.cumsum(mask, dtype=np.int64) - 1
    keep = mask[x.indices]
    counted = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])
    indptr = counted[x.indptr]
    indices = new_index[x.indices[keep]].astype(np.int32)
    out = sp.csr_matrix((x.data[keep], indices, indptr), shape=(x.shape[0], int(mask.sum())))
    out.has_sorted_indices = True
    out.has_canonical_format = True
    return out
