"""Neighbours and batch correction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from gpuatac import check, slots
from gpuatac.backend import backend_of
from gpuatac.core.embedding import neighbors
from gpuatac.errors import InputError
from gpuatac.pp.neighbor_slots import neighbor_space
from gpuatac.provenance import records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


@records("pp.knn")
def knn(
    adata: AnnData,
    *,
    n_neighbors: int | None = None,
    use_rep: str | None = None,
    use_dims: int | Sequence[int] | None = None,
    drop_depth: bool = True,
    shrink: bool = True,
    weights: Literal["shared", "count"] = "shared",
) -> None:
    """Exact nearest neighbours and the graph that clusters are found in.

    Reads   obsm[use_rep]; for "X_spectral" also uns["spectral_eigenvalue"] and uns["spectral"].
    Writes  obsp["distances"]: CSR float32 (n_cells, n_cells), n_neighbors Euclidean distances per row, self excluded;
            obsp["connectivities"]: symmetric CSR float32; uns["neighbors"]: parameters, and the components used.

    Components of the spectral embedding that follow depth (|r| >= 0.9 to log total counts, and the trivial one of eigenvalue
    1) are left out. The first m = round(sqrt(n)) components, within 5 and 30, are used, the eigenvalues shrunk to
    sqrt(lambda^2 - lambda_m^2), which takes the last for the edge of the noise. An edge weighs the share of
    neighbours that its two cells have in common, twice when they are mutual neighbours.

    SnapATAC2's graph is ``n_neighbors=50, drop_depth=False, shrink=False, weights="count"``.

    Parameters
    ----------
    adata
        Cells with an embedding.
    n_neighbors
        Neighbours of each cell; None: round(1.75 sqrt(n)), within 5 and 50.
    use_rep
        Embedding; None: "X_spectral_harmony" where it is, else "X_spectral".
    use_dims
        Columns to use: the first so many, or a list; None chooses as above.
    drop_depth
        False puts the components that follow depth back.
    shrink
        False uses every column as it stands, scaled by sqrt(eigenvalue).
    weights
        "shared" as above, or "count": 1 for each list entry, 2 where it is mutual.

    Raises
    ------
    InputError
        When n_neighbors is not below the number of cells.

    Cost: exact; O(n^2 d) by brute force in blocks.

    Examples
    --------
    >>> import gpuatac as ga
    >>> ga.pp.knn(adata, n_neighbors=15)  # doctest: +SKIP
    """
    check.one_of("weights", weights, ("shared", "count"))
    n = adata.n_obs
    if n < 2:
        msg = f"knn needs 2 cells or more, got {n}; loosen the cell filters."
        raise InputError(msg)
    k = neighbors.default_n_neighbors(n) if n_neighbors is None else check.integer("n_neighbors", n_neighbors, 1, n - 1)
    rep = use_rep or (slots.X_HARMONY if slots.X_HARMONY in adata.obsm else slots.X_SPECTRAL)
    points, used = neighbor_space(adata, rep, use_dims=use_dims, drop_depth=drop_depth, shrink=shrink)
    bk = backend_of(points)
    indices, distances = bk.graph.knn(points, k)
    adata.obsp[slots.CONNECTIVITIES] = neighbors.connectivities(bk, indices, shared=weights == "shared")
    adata.obsp[slots.DISTANCES] = _distance_matrix(bk, indices, distances)
    adata.uns[slots.NEIGHBORS] = {
        "connectivities_key": slots.CONNECTIVITIES,
        "distances_key": slots.DISTANCES,
        "params": {"n_neighbors": k, "method": weights, "metric": "euclidean", "use_rep": rep},
        "components": used,
        "drop_depth": drop_depth,
        "shrink": shrink,
    }


def _distance_matrix(bk: Any, indices: Any, distances: Any) -> Any:
    xp = bk.xp
    n, k = indices.shape
    indptr = xp.arange(0, n * k + 1, k)
    order = bk.graph.order_in_rows(indices)
    columns = xp.take_along_axis(indices, order, 1).ravel()
    values = xp.take_along_axis(distances, order, 1).ravel()
    return bk.sparse.csr_matrix((values, columns, indptr), shape=(n, n))


@records("pp.harmony")
def harmony(
    adata: AnnData,
    *,
    batch: str = slots.SAMPLE,
    use_rep: str = slots.X_SPECTRAL,
    use_dims: int | Sequence[int] | None = None,
    drop_depth: bool = True,
    shrink: bool = True,
    max_iter: int = 20,
    theta: float = 2.0,
    sigma: float = 0.1,
    seed: int = 0,
    key_added: str = slots.X_HARMONY,
) -> None:
    """Remove batch effects from the embedding (Korsunsky et al., Nature Methods 2019).

    Reads   obsm[use_rep], obs[batch].
    Writes  obsm[key_added]: float32 (n_cells, n_used): the components that ``knn`` would use, corrected; ``knn`` takes it
            from then on.

    Parameters
    ----------
    adata
        Cells with an embedding.
    batch
        Column of obs that tells batches apart.
    use_rep, use_dims, drop_depth, shrink
        As in ``knn``.
    max_iter
        Iterations at most.
    theta
        Diversity penalty; 0 asks for none.
    sigma
        Width of the soft clusters.
    seed
        For the k-means start.
    key_added
        Name of the result in obsm.

    Raises
    ------
    InputError
        When obs[batch] holds one batch only.

    Examples
    --------
    >>> import gpuatac as ga
    >>> ga.pp.harmony(adata, batch="sample")  # doctest: +SKIP
    """
    check.integer("seed", seed, 0, 2**32 - 1)
    missing = int(pd.isna(adata.obs[batch]).sum()) if batch in adata.obs else 0
    if missing:
        msg = f"{missing} of {adata.n_obs} cells have no obs[{batch!r}]; give every cell a batch or remove them."
        raise InputError(msg)
    labels = slots.obs_of(adata, batch, writer="pp.import_fragments with several files").astype(str)
    if np.unique(labels).size < 2:
        msg = f"obs[{batch!r}] holds one batch, {str(labels[0])!r}; harmony needs two or more: leave the step out."
        raise InputError(msg)
    points, _ = neighbor_space(adata, use_rep, use_dims=use_dims, drop_depth=drop_depth, shrink=shrink)
    bk = backend_of(points)
    adata.obsm[key_added] = bk.graph.harmony(
        points, labels, seed=seed, max_iter=check.integer("max_iter", max_iter, 1), theta=theta, sigma=sigma
    )
