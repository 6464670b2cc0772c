"""Replacing the matrix or the cells of an AnnData in place.

AnnData offers ``_inplace_subset_obs`` and a constructor, which both check that names are unique; on the six million
tiles of a genome each check takes seconds, twice per call. Here the names are known to be unique, and the check is
switched off on the one object concerned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac.memory import give_back

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

MANY = 1 << 20  # names


def rebuild(adata: AnnData, **parts: Any) -> None:
    """Give ``adata`` the parts X, obs, var, obsm, obsp, varm, varp, layers, uns; names must be unique."""
    vars(adata).pop("_layers", None)  # anndata 0.13 keeps X there and would warn that it goes
    adata._check_uniqueness = lambda: None
    var, x = parts["var"], parts["X"]
    # AnnData looks through millions of Arrow strings for missing ones: it gets them when it has looked
    later = var.index.dtype != object and len(var) > MANY and not parts.get("varm") and not parts.get("varp")
    if later:
        parts = {**parts, "var": var.iloc[:0], "X": None}
    try:
        adata._init_as_actual(**parts)
        if later:
            adata._var = var
            adata.X = x
    finally:
        del adata._check_uniqueness
    give_back()  # of the matrix before, and of what made the new one


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
