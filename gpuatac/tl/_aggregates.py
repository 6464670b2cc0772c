"""Aggregates: a cell and its nearest neighbours, taken together as one small sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gpuatac import check, slots
from gpuatac.backend import as_host, backend_of
from gpuatac.errors import InputError
from gpuatac.pp.neighbor_slots import neighbor_space

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


def neighbor_aggregates(
    adata: AnnData, cells: Sequence[Any] | np.ndarray, *, n_neighbors: int = 50, use_rep: str = slots.X_SPECTRAL
) -> dict[str, np.ndarray]:
    """Each chosen cell with the cells most similar to it.

    Reads   obsm[use_rep]; for "X_spectral" also uns["spectral_eigenvalue"] and uns["spectral"].
    Returns {name of the chosen cell: int64 (n_neighbors,) rows of the AnnData, itself first, then by distance}.

    The distances are those of ``pp.knn``: Euclidean, components that follow depth left out, the rest weighted.

    Parameters
    ----------
    adata
        Cells with an embedding.
    cells
        Names of cells, row numbers, or a bool for each cell.
    n_neighbors
        Cells of an aggregate, the chosen one counted in: 2 to the number of cells.
    use_rep
        Embedding in obsm.

    Raises
    ------
    InputError
        For unknown cells, no cells, or more neighbours than there are cells.

    Cost: exact; O(n^2 d) by brute force in blocks, whatever the number of chosen cells.

    Source: Lal et al., Nature Communications 12:1507 (2021), which denoises aggregates of 50 cells.

    Examples
    --------
    >>> import anndata, numpy as np, gpuatac as ga
    >>> adata = anndata.AnnData(obs={"x": [0, 1, 2, 3]}, obsm={"X_pca": np.array([[0.0], [5.0], [1.0], [7.0]])})
    >>> ga.tl.neighbor_aggregates(adata, [0, 3], n_neighbors=2, use_rep="X_pca")
    {'0': array([0, 2]), '3': array([3, 1])}
    """
    rows = rows_of(adata, cells, what="cells")
    n = adata.n_obs
    if n < 2:
        msg = f"an aggregate needs 2 cells or more, and there is {n}; loosen the cell filters."
        raise InputError(msg)
    n_neighbors = check.integer("n_neighbors", n_neighbors, 2, n)
    points, _ = neighbor_space(adata, use_rep, use_dims=None, drop_depth=True, shrink=True)
    bk = backend_of(points)
    indices, _ = bk.graph.knn(points, n_neighbors - 1)
    others = as_host(indices[bk.asarray(rows)]).astype(np.int64)
    return {
        str(name): np.concatenate([[row], near])
        for name, row, near in zip(adata.obs_names[rows], rows, others, strict=True)
    }


def random_aggregates(
    adata: AnnData, n: int = 1000, *, n_neighbors: int = 50, use_rep: str = slots.X_SPECTRAL, seed: int = 0
) -> dict[str, np.ndarray]:
    """Aggregates of cells chosen by chance, each with the cells most similar to it.

    Reads   as ``neighbor_aggregates``.
    Returns {name of the chosen cell: int64 (n_neighbors,) rows}; the chosen cells differ, aggregates may overlap.

    Parameters
    ----------
    adata
        Cells with an embedding.
    n
        How many; every cell once when there are fewer cells.
    n_neighbors, use_rep
        As in ``neighbor_aggregates``.
    seed
        Of the choice.

    Raises
    ------
    InputError
        As ``neighbor_aggregates``.

    Cost: as ``neighbor_aggregates``.

    Source: Lal et al., Nature Communications 12:1507 (2021): 1,000 aggregates of 50 of 9,974 stem cells.

    Examples
    --------
    >>> import anndata, numpy as np, gpuatac as ga
    >>> adata = anndata.AnnData(obs={"x": [0, 1, 2, 3]}, obsm={"X_pca": np.array([[0.0], [5.0], [1.0], [7.0]])})
    >>> len(ga.tl.random_aggregates(adata, 3, n_neighbors=2, use_rep="X_pca"))
    3
    """
    n = min(check.integer("n", n, 1), adata.n_obs)
    rng = np.random.default_rng(check.integer("seed", seed, 0, 2**32 - 1))
    chosen = np.sort(rng.choice(adata.n_obs, n, replace=False))
    return neighbor_aggregates(adata, chosen, n_neighbors=n_neighbors, use_rep=use_rep)


def rows_of(adata: AnnData, cells: Any, *, what: str) -> np.ndarray:
    """int64: the rows that names, numbers or a mask choose, each once, in the order given."""
    given = np.atleast_1d(np.asarray(cells))
    if given.dtype == bool:
        if given.shape != (adata.n_obs,):
            msg = f"{what} is a mask of {given.size} for {adata.n_obs} cells; give one value for each cell."
            raise InputError(msg)
        given = np.flatnonzero(given)
    if not given.size:
        msg = f"{what} names no cell; name at least one."
        raise InputError(msg)
    if given.dtype.kind in "iu":
        rows = given.astype(np.int64)
        bad = (rows < 0) | (rows >= adata.n_obs)
        check.none_true(bad, f"row numbers of {what} lie outside [0, {adata.n_obs - 1}]", "correct them")
    else:
        rows = adata.obs_names.get_indexer(pd.Index(given.astype(str))).astype(np.int64)
        unknown = given[rows < 0]
        if unknown.size:
            msg = (
                f"{unknown.size} of {given.size} {what} are not in obs_names ({unknown[0]}); name cells of the AnnData."
            )
            raise InputError(msg)
    return np.array(list(dict.fromkeys(rows.tolist())), np.int64)
