"""Replacing the matrix or the cells of an AnnData in place.

AnnData offers ``_inplace_subset_obs`` and a constructor, which both check that names are unique; on the six million
tiles of a genome each check takes seconds, twice per call. Here the names are known to be unique, and the check is
switched off on the one object concerned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gpuatac.memory import give_back

if TYPE_CHECKING:
    from anndata import AnnData

MANY = 1 << 20  # names


def rebuild(adata: AnnData, **parts: Any) -> None:
    """Give ``adata`` the parts X, obs, var, obsm, obsp, varm, varp, layers, uns; names must be unique."""
    vars(adata).pop("_layers", None)  # anndata 0.13 keeps X there and would warn that it goes
    adata._check_uniqueness = lambda: None  # type: ignore[method-assign]
    var = parts["var"]
    if var.index.dtype != object and len(var) > MANY:  # AnnData copies Arrow strings to look for missing ones
        parts["var"] = pd.DataFrame(index=_empty_names(len(var)))
    try:
        adata._init_as_actual(**parts)
        if parts["var"] is not var:
            adata._var = var
    finally:
        del adata._check_uniqueness
    give_back()  # of the matrix before, and of what made the new one


def _empty_names(n: int) -> pd.Index:
    """``n`` empty Arrow strings, which cost AnnData next to nothing to look at."""
    import pyarrow as pa

    text = pa.LargeStringArray.from_buffers(n, pa.py_buffer(np.zeros(n + 1, np.int64)), pa.py_buffer(b""))
    return pd.Index(pd.arrays.ArrowStringArray(text))


def set_matrix(adata: AnnData, x: Any, var: pd.DataFrame) -> None:
    """Replace X and var; what belonged to the old columns (varm, varp, layers, raw) goes with them."""
    rebuild(adata, X=x, obs=adata.obs, var=var, uns=dict(adata.uns), obsm=dict(adata.obsm), obsp=dict(adata.obsp))


def keep_cells(adata: AnnData, mask: np.ndarray, x: Any = None) -> None:
    """Keep the rows of ``mask`` (bool) in place; ``x`` is X cut already, where its owner cuts it otherwise (on disk)."""
    rows = np.flatnonzero(mask)
    raw = None if adata.raw is None else adata.raw.to_adata()[rows].copy()
    layers = {key: value[rows] for key, value in adata.layers.items() if key is not None}  # anndata 0.13: None is X
    pairs = {key: value[rows][:, rows] for key, value in adata.obsp.items()}
    rebuild(
        adata,
        X=None if adata.X is None else adata.X[rows] if x is None else x,
        obs=adata.obs.iloc[rows].copy(),
        var=adata.var,
        uns=dict(adata.uns),
        obsm={key: value.iloc[rows] if hasattr(value, "iloc") else value[rows] for key, value in adata.obsm.items()},
        obsp=pairs,
        varm=dict(adata.varm),
        varp=dict(adata.varp),
    )
    for key, value in layers.items():
        adata.layers[key] = value
    if raw is not None:
        adata.raw = raw
