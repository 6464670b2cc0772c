"""What an AnnData holds of neighbours: the space in which they are sought, and those found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac import check, slots
from gpuatac.backend import as_host, backend_of
from gpuatac.core.embedding import neighbors
from gpuatac.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


def neighbor_space(
    adata: AnnData, use_rep: str, *, use_dims: int | Sequence[int] | None, drop_depth: bool, shrink: bool
) -> tuple[Any, np.ndarray]:
    """(points, columns used) in which distances are taken: an embedding's columns, chosen and weighted.

    Only the spectral embedding has eigenvalues; of any other all columns, or ``use_dims``, are taken as they are.
    """
    points = slots.obsm_of(adata, use_rep, writer="tl.spectral")
    bk = backend_of(points)
    k = points.shape[1]
    eigenvalues = slots.of_embedding(slots.SPECTRAL_EIGENVALUE, use_rep)
    spectral = eigenvalues in adata.uns
    values = np.asarray(adata.uns[eigenvalues], np.float64) if spectral else np.ones(k)
    if spectral and values.size != k:
        msg = f"obsm[{use_rep!r}] has {k} columns and uns has {values.size} eigenvalues; call tl.spectral again."
        raise InputError(msg)
    if use_dims is None:
        dims = np.arange(neighbors.default_n_components(adata.n_obs, k) if spectral and shrink else k)
    elif isinstance(use_dims, int | np.integer):
        dims = np.arange(check.integer("use_dims", use_dims, 1, k))
    else:
        dims = np.asarray(list(use_dims), np.int64)
        if not dims.size or dims.min() < 0 or dims.max() >= k:
            msg = f"use_dims must name columns from 0 to {k - 1} of obsm[{use_rep!r}], got {list(use_dims)}."
            raise InputError(msg)
    weights = np.zeros(k)
    weights[dims] = neighbors.component_weights(values[dims], dims.size, shrink=shrink and spectral)
    if drop_depth and spectral:
        correlation = np.asarray(
            adata.uns[slots.of_embedding(slots.SPECTRAL, use_rep)]["depth_correlation"], np.float64
        )
        kept = ~neighbors.follows_depth(values, correlation)
        if (weights * kept).any():
            weights *= kept
    used = np.flatnonzero(weights)
    chosen = points[:, bk.asarray(used)] * bk.asarray(weights[used].astype(np.float64))
    return chosen, used


def neighbor_lists(adata: AnnData) -> tuple[Any, Any]:
    """(indices int32, distances float32) of shape (n, k), nearest first, from obsp["distances"]."""
    if slots.DISTANCES not in adata.obsp:
        msg = f"adata.obsp has no {slots.DISTANCES!r}; call pp.knn first."
        raise InputError(msg)
    d = adata.obsp[slots.DISTANCES]
    bk = backend_of(d)
    xp = bk.xp
    n = d.shape[0]
    per_row = np.unique(np.diff(as_host(d.indptr)))
    if per_row.size != 1:
        msg = f"rows of obsp['distances'] hold {per_row.min()} to {per_row.max()} neighbours (cells were removed); call pp.knn again."
        raise InputError(msg)
    indices, distances = d.indices.reshape(n, -1), d.data.reshape(n, -1)
    order = bk.graph.order_in_rows(distances)
    return xp.take_along_axis(indices, order, 1), xp.take_along_axis(distances, order, 1)
