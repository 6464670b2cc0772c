"""UMAP and Leiden."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from gpuatac import check, slots
from gpuatac.backend import backend_of, get
from gpuatac.errors import InputError, MissingSlotError
from gpuatac.pp.neighbor_slots import neighbor_lists, neighbor_space
from gpuatac.provenance import records

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)


@records("tl.umap")
def umap(
    adata: AnnData,
    *,
    n_comps: int = 2,
    min_dist: float = 0.3,
    spread: float = 1.0,
    n_epochs: int | None = None,
    seed: int = 0,
    key_added: str = slots.X_UMAP,
) -> None:
    """Lay cells out in two dimensions from the neighbours that ``pp.knn`` found.

    Reads   obsp["distances"], uns["neighbors"] and the embedding named there.
    Writes  obsm[key_added]: float32 (n_cells, n_comps), on the neighbours' device.

    The same neighbours serve clusters and layout (SnapATAC2 searches anew for each). On a CPU the layout depends on
    ``seed`` alone; on a GPU it is reproducible only in its structure.

    Parameters
    ----------
    adata
        Cells with neighbours.
    n_comps
        Dimensions of the layout.
    min_dist, spread
        UMAP's shape parameters.
    n_epochs
        Optimisation epochs; None lets UMAP choose by size.
    seed
        For the layout.
    key_added
        Name of the layout in obsm.

    Source: McInnes, Healy and Melville 2018; umap-learn on a CPU, cuML on a GPU.

    Examples
    --------
    >>> import gpuatac as ga
    >>> ga.tl.umap(adata)  # doctest: +SKIP
    """
    check.integer("seed", seed, 0, 2**32 - 1)
    n_comps = check.integer("n_comps", n_comps, 1, max(adata.n_obs - 2, 1))
    check.between("min_dist", min_dist, 0, spread)
    indices, distances = neighbor_lists(adata)
    stored = slots.uns_of(adata, slots.NEIGHBORS, writer="pp.knn")
    rep = str(stored["params"]["use_rep"])
    points, _ = neighbor_space(
        adata, rep, use_dims=[int(c) for c in stored["components"]], drop_depth=False, shrink=False
    )
    bk = backend_of(indices)
    adata.obsm[key_added] = bk.graph.umap(
        points, indices, distances, n_components=n_comps, min_dist=min_dist, spread=spread, n_epochs=n_epochs, seed=seed
    )


@records("tl.leiden")
def leiden(
    adata: AnnData,
    *,
    resolution: float = 1.0,
    n_iterations: int = -1,
    use_weights: bool = True,
    min_cluster_size: int = 1,
    flavor: Literal["auto", "igraph", "cugraph"] = "auto",
    seed: int = 0,
    key_added: str = slots.LEIDEN,
) -> None:
    """Clusters of cells by the Leiden algorithm, maximising modularity.

    Reads   obsp["connectivities"].
    Writes  obs[key_added]: categorical "0", "1", ... by falling size; uns[key_added]: {"modularity", "n_clusters", and the
            parameters}; uns[key_added + "_colors"]: a list of one hex colour for each category, which our figures and scanpy's
            draw the clusters in.

    Parameters
    ----------
    adata
        Cells with neighbours.
    resolution
        Higher gives more clusters.
    n_iterations
        Iterations; -1 goes on until nothing changes. igraph only: cuGraph always goes on.
    use_weights
        Use the edge weights; otherwise every edge weighs 1.
    min_cluster_size
        Cells of smaller clusters get "-1" (SnapATAC2 takes 5).
    flavor
        "igraph" is deterministic and works on any device; "cugraph" is fast on a GPU but not bit-reproducible; "auto"
        takes cugraph where the graph lies on a GPU.
    seed
        For the order in which nodes are visited.
    key_added
        Name of the column.

    Source: Traag, Waltman and van Eck, Scientific Reports 2019.

    Examples
    --------
    >>> import gpuatac as ga
    >>> ga.tl.leiden(adata, resolution=1.0)  # doctest: +SKIP
    """
    check.integer("seed", seed, 0, 2**32 - 1)
    check.between("resolution", resolution, 0)
    check.one_of("flavor", flavor, ("auto", "igraph", "cugraph"))
    min_cluster_size = check.integer("min_cluster_size", min_cluster_size, 1)
    if slots.CONNECTIVITIES not in adata.obsp:
        msg = f"adata.obsp has no {slots.CONNECTIVITIES!r}; call pp.knn first."
        raise MissingSlotError(msg)
    graph = adata.obsp[slots.CONNECTIVITIES]
    bk = backend_of(graph)
    if flavor == "cugraph" and bk.name == "cpu":
        msg = "flavor='cugraph' needs the graph on a GPU; call gpuatac.to_device(adata) first or pass flavor='igraph'."
        raise InputError(msg)
    if flavor == "igraph" and bk.name == "gpu":
        graph, bk = bk.csr_to_host(graph), get("cpu")
    labels, modularity = bk.graph.leiden(
        graph, resolution=resolution, n_iterations=n_iterations, seed=seed, weighted=use_weights
    )
    n_clusters = int(labels.max()) + 1 if labels.size else 0
    names = [str(c) for c in range(n_clusters)]
    sizes = np.bincount(labels, minlength=n_clusters)
    text = np.array(names, dtype=object)[labels]
    text[sizes[labels] < min_cluster_size] = "-1"
    kept = [name for name, size in zip(names, sizes, strict=True) if size >= min_cluster_size]
    categories = kept + (["-1"] if len(kept) < n_clusters else [])
    adata.obs[key_added] = pd.Categorical(text, categories=categories)
    _color(adata, slots.of_colors(key_added), len(categories))
    adata.uns[key_added] = {
        "modularity": modularity,
        "n_clusters": len(kept),
        "params": {"resolution": resolution, "n_iterations": n_iterations, "random_state": seed, "flavor": flavor},
    }


def _color(adata: AnnData, key: str, n: int) -> None:
    """Keep the ``n`` colours in ``uns[key]`` where there are as many valid ones, else put the default ones there."""
    stored = adata.uns.get(key)
    kept, wrong = slots.colors_of(stored, n)
    if wrong and (np.ndim(stored) == 0 or list(stored) != slots.default_colors(len(stored))):
        logger.warning("tl.leiden: uns[%r] %s; the default colours replace it", key, wrong)
    adata.uns[key] = slots.default_colors(n) if kept is None else kept
