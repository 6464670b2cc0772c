"""Eigenvalues on a GPU: our own Lanczos, since CuPy's divides by zero when the Krylov space is exhausted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gpuatac.core.lanczos import largest_eigenpairs

if TYPE_CHECKING:
    from collections.abc import Callable


class Linalg:
    """The GPU side of ``protocol.Linalg``."""

    def __init__(self, xp: Any) -> None:
        self._xp = xp

    def gram(self, x: Any, weights: Any) -> Callable[[Any], Any]:
        """See ``protocol.Linalg.gram``. cuSPARSE wants one dtype: X and X' become float64 once."""
        rows = x.astype(np.float64)
        columns = rows.T.tocsr()
        return lambda u: rows @ (weights * (columns @ u))

    def squared_norms(self, x: Any, weights: Any) -> Any:
        """See ``protocol.Linalg.squared_norms``."""
        squares = x.astype(np.float64)
        squares.data *= squares.data
        return squares @ weights

    def eigsh_la(
        self, matvec: Any, n: int, k: int, *, v0: Any, tol: float = 0.0, which: Literal["LA", "LM"] = "LA"
    ) -> tuple[Any, Any]:
        """See ``protocol.Linalg.eigsh_la``."""
        return largest_eigenpairs(self._xp, matvec, n, k, v0=v0, tol=tol, which=which)
