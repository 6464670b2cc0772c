"""Sparse linear algebra, neighbours, layout and clusters. Conventions as in ``protocol``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np


class Packed(Protocol):
    """Counts X of chosen rows and columns in a compact copy, numbered anew: what an embedding computes from them.

    ``shape`` counts the chosen rows and columns. Vectors may be float64 (n,) or blocks (n, b); a block costs less than b
    vectors.
    """

    shape: tuple[int, int]
    nnz: int

    def document_frequency(self) -> Any:
        """int64 (n_columns,): rows with a non-zero entry."""
        ...

    def row_sums(self) -> Any:
        """float64 (n_rows,), exact for counts."""
        ...

    def squared_norms(self, weights: Any) -> Any:
        """float64 (n_rows,): sum of weights_j x_ij^2."""
        ...

    def times(self, s: Any) -> Any:
        """X s."""
        ...

    def transposed_times(self, u: Any) -> Any:
        """X' u."""
        ...

    def gram(self, weights: Any) -> Callable[[Any], Any]:
        """The function u -> X (weights * (X' u)), in float64."""
        ...

    def similarities(self, weights: Any) -> Any:
        """X diag(weights) X' (n_rows, n_rows) float64, new and contiguous, where it is cheaper to write it out than to take
        the products of an eigen-solver; else None.
        """
        ...

    def pair_products(self, left: Any, right: Any, weights: Any) -> Any:
        """float64 (n_pairs,): sum_j weights_j x_ij x_kj for the rows i = left[p], k = right[p] (int64)."""
        ...

    def union_frequency(self, left: Any, right: Any) -> Any:
        """int64 (n_columns,): pairs (left[p], right[p]) of which one or both rows are non-zero there."""
        ...


class Linalg(Protocol):
    """Sparse linear algebra. ``x`` is CSR of the backend, or has ``shape`` and ``row_blocks`` (``core.rows``)."""

    block: int  # vectors that a product of ``Packed`` should take at once

    def pack(self, x: Any, columns: Any = None, rows: Any = None) -> Packed:
        """A compact copy of the columns of a bool mask and of ``rows`` (host int64, ascending); None for all."""
        ...

    def gram(self, x: Any, weights: Any) -> Any:
        """The function u -> X (weights * (X' u)) for float64 weights of the columns of X, in float64.

        Neither the product X X' nor, on a CPU, a float64 copy of X is made; columns of weight 0 are left out.
        """
        ...

    def document_frequency(self, x: Any) -> Any:
        """int64 (n_columns,): rows with a non-zero entry in each column."""
        ...

    def column_sums(self, x: Any) -> Any:
        """float64 (n_columns,), exact for counts."""
        ...

    def row_sums(self, x: Any) -> Any:
        """float64 (n_rows,), exact for counts."""
        ...

    def squared_norms(self, x: Any, weights: Any) -> Any:
        """float64 (n_rows,): sum of x_ij^2 weights_j over each row."""
        ...

    def eigsh_la(
        self,
        matvec: Any,
        n: int,
        k: int,
        *,
        v0: Any,
        tol: float = 0.0,
        which: Literal["LA", "LM"] = "LA",
        block: int = 1,
    ) -> tuple[Any, Any]:
        """The k eigenpairs of a symmetric operator that are largest algebraically ("LA") or in magnitude ("LM").

        ``matvec`` takes and gives (n,), or (n, block) when ``block`` > 1. Values descend: float64 (k,), (n, k).
        """
        ...

    def eigh_largest(self, matrix: Any, k: int) -> tuple[Any, Any]:
        """The k algebraically largest eigenpairs of a dense symmetric matrix, which is overwritten."""
        ...


class Graph(Protocol):
    """Neighbours, layout and clusters."""

    def knn(self, points: Any, k: int) -> tuple[Any, Any]:
        """Exact Euclidean neighbours without self: int32 (n, k) and float32 distances, by (distance, index)."""
        ...

    def neighbour_blocks(self, points: Any, k: int) -> Iterator[tuple[int, Any, Any]]:
        """``knn`` by blocks of rows: the first row of each, indices and distances; what is held at once does not grow with n."""
        ...

    def order_in_rows(self, values: Any) -> Any:
        """int64 (n, m): the stable order of each row's values, int32, float32 or float64, none of them negative."""
        ...

    def shared_neighbors(self, indices: Any) -> Any:
        """int32 (n, k): for the list entry i -> j, how many cells N+(i) and N+(j) share (N+: list and the cell itself)."""
        ...

    def umap(
        self,
        points: Any,
        indices: Any,
        distances: Any,
        *,
        n_components: int,
        min_dist: float,
        spread: float,
        n_epochs: int | None,
        seed: int,
    ) -> Any:
        """float32 (n, n_components) layout from the given neighbours (self not included)."""
        ...

    def leiden(
        self, adjacency: Any, *, resolution: float, n_iterations: int, seed: int, weighted: bool
    ) -> tuple[Any, float]:
        """int32 labels (host, by falling size) and modularity of a symmetric CSR adjacency."""
        ...

    def harmony(self, points: Any, batches: np.ndarray, *, seed: int, max_iter: int, theta: float, sigma: float) -> Any:
        """float32 (n, d): the points after Harmony's batch correction."""
        ...
