"""From spectral components to a neighbour graph: which components, how many neighbours, which edge weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from gpuatac.backend.protocol import Backend

DEPTH_CORRELATION = 0.9  # components with |r| to log depth from here on are left out


def default_n_components(n_cells: int, available: int) -> int:
    """round(sqrt(n)), within [5, 30] and what there is: few cells support few components."""
    return min(int(np.clip(round(n_cells**0.5), 5, 30)), available)


def default_n_neighbors(n_cells: int) -> int:
    """round(1.75 sqrt(n)), within [5, 50] and below n: 39 cells get 11, 500 get 39, 802 and more get 50."""
    return max(1, min(n_cells - 1, int(np.clip(round(1.75 * n_cells**0.5), 5, 50))))


def follows_depth(values: np.ndarray, correlation: np.ndarray) -> np.ndarray:
    """Components that say how deep a cell was sequenced: |r| >= 0.9, or the trivial one.

    The eigenvalue 1 of the normalised graph belongs to the vector sqrt(degree), which holds no structure.
    """
    out = np.abs(correlation) >= DEPTH_CORRELATION
    if out.size:
        out[0] |= values[0] >= 1 - 1e-6
    return out


def component_weights(values: np.ndarray, n_components: int, *, shrink: bool) -> np.ndarray:
    """Factor for each column sqrt(lambda_j) v_j of the embedding, 0 from ``n_components`` on.

    With ``shrink``, (1 - (lambda_m / lambda_j)^2)^(1/4): eigenvalues are shrunk as those of a signal in Wigner noise with
    the last component m at the edge of the noise, lambda -> sqrt(lambda^2 - lambda_m^2). Otherwise 1.
    """
    weights = np.zeros(values.size)
    m = min(n_components, values.size)
    weights[:m] = 1.0
    if shrink and m >= 4:
        weights[:m] = np.maximum(1.0 - (values[m - 1] / values[:m]) ** 2, 0.0) ** 0.25
    return weights


def connectivities(bk: Backend, indices: Any, *, shared: bool) -> Any:
    """Symmetric CSR float32 (n, n) from neighbour lists (int32 (n, k), self excluded).

    Each list entry i -> j adds a weight to the edge {i, j}, so mutual neighbours count twice. The weight is 1, or, with
    ``shared``, |N+(i) & N+(j)| / (k + 1), N+ the neighbours and the cell itself (shared nearest neighbours).
    """
    xp = bk.xp
    n, k = indices.shape
    if shared:
        weights = bk.graph.shared_neighbors(indices).astype(np.float32).ravel() / np.float32(k + 1)
    else:
        weights = xp.ones(n * k, np.float32)
    rows = xp.repeat(xp.arange(n, dtype=np.int32), k)
    directed = bk.sparse.csr_matrix((weights, (rows, indices.ravel())), shape=(n, n))
    graph = (directed + directed.T).tocsr()
    graph.sort_indices()
    return graph
