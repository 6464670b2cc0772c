"""Spectral embedding."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from gpuatac import check, slots
from gpuatac.backend import backend_of
from gpuatac.core.embedding import neighbors
from gpuatac.core.embedding import spectral as core
from gpuatac.io.matrices.canonical import canonical_matrix
from gpuatac.provenance import records

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)


@records("tl.spectral")
def spectral(
    adata: AnnData,
    *,
    n_comps: int = 30,
    features: str | np.ndarray | None = "selected",
    sample_size: float | None = None,
    seed: int = 0,
    key_added: str = slots.X_SPECTRAL,
) -> None:
    """Embed cells by the leading eigenvectors of their cosine-similarity graph.

    Reads   X: counts, CSR (n_cells, n_features), host or device; var[features]: bool.
    Writes  obsm[key_added]: float32 (n_cells, k), k <= n_comps, on X's device, columns scaled by sqrt(eigenvalue);
            uns["spectral_eigenvalue"]: float64 (k,), descending, positive; uns["spectral"]: {"depth_correlation": float64
            (k,), Pearson r of each component with the log of the cells' counts; "used": bool (k,), False for those
            that ``pp.knn`` leaves out because they follow depth}.

    With Y the unit rows of counts x ln(n / df), the graph is D^-1/2 (Y Y' - I) D^-1/2. The largest eigenvalues are
    taken algebraically; SnapATAC2 2.9.0 takes the largest in magnitude and drops the negative, so it often returns
    fewer columns. For those it returns, eigenvalues agree to 1e-8. All components stay in the slot.

    Parameters
    ----------
    adata
        Cells x tiles or peaks.
    n_comps
        Components at most; fewer come back when fewer eigenvalues are positive.
    features
        Feature mask: a bool column of var, an array, or None for all.
    sample_size
        None: exact. A number of cells, or a share in (0, 1): the Nystrom method from so many landmark cells drawn with
        ``seed``, for millions of cells.
    seed
        For the solver's start and for the landmarks.
    key_added
        Name of the embedding in obsm; with another name than "X_spectral" the two uns slots get ":" and the name.

    Raises
    ------
    InputError
        For cells that share no feature with another cell.

    Source: Zhang et al., Nature Methods 2024 (SnapATAC2). Cost: the selected counts are copied at 3 bytes a non-zero (to
    temporary files beyond a third of the memory limit), then up to about 2,500 cells by the matrix of their similarities,
    more by about 100 sparse products with blocks of vectors, O(nnz) each.

    Examples
    --------
    >>> import anndata, numpy, gpuatac as ga
    >>> x = numpy.random.default_rng(0).poisson(0.3, (50, 200)).astype("float32")
    >>> adata = anndata.AnnData(x)
    >>> ga.tl.spectral(adata, n_comps=5, features=None)
    >>> adata.obsm["X_spectral"].shape
    (50, 5)
    """
    check.integer("seed", seed, 0, 2**32 - 1)
    columns = slots.mask_of(adata, features)
    x = canonical_matrix(adata)
    n = x.shape[0]
    n_comps = min(check.integer("n_comps", n_comps, 1), max(n - 1, 1))
    check.integer("number of cells", n, 2)
    bk = backend_of(x)
    if sample_size is None:
        found = core.laplacian_eigs(bk, x, n_comps, columns=columns, seed=seed)
    else:
        check.between("sample_size", sample_size, 0)
        landmarks = round(sample_size * n) if sample_size < 1 else int(sample_size)
        landmarks = min(check.integer("sample_size in cells", landmarks, n_comps + 1), n)
        found = core.nystrom(bk, x, n_comps, n_landmarks=landmarks, columns=columns, seed=seed)
    values = bk.to_host(found.values)
    correlation = core.depth_correlation(bk, found.vectors, found.depth)
    used = ~neighbors.follows_depth(values, correlation)
    if not used.all():
        left = ", ".join(f"{i + 1} (r = {correlation[i]:.2f})" for i in np.flatnonzero(~used))
        logger.info(
            "spectral: components left out of neighbours (they follow depth, or are the trivial first): %s", left
        )
    adata.obsm[key_added] = (found.vectors * found.values**0.5).astype(np.float32)
    adata.uns[slots.of_embedding(slots.SPECTRAL_EIGENVALUE, key_added)] = values
    adata.uns[slots.of_embedding(slots.SPECTRAL, key_added)] = {"depth_correlation": correlation, "used": used}
    if key_added == slots.X_SPECTRAL and slots.X_HARMONY in adata.obsm:
        del adata.obsm[slots.X_HARMONY]  # the correction of an embedding that is no more
        logger.info("spectral: obsm[%r] of the embedding before was removed", slots.X_HARMONY)
