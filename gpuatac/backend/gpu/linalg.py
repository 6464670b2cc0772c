"""Eigenvalues on a GPU: our own Lanczos, since CuPy's divides by zero when the Krylov space is exhausted."""

from __future__ import annotations

from typing import Any, Literal

from gpuatac.core.lanczos import largest_eigenpairs


class Linalg:
    """The GPU side of ``protocol.Linalg``."""

    def __init__(self, xp: Any) -> None:
        self._xp = xp

    def eigsh_la(
        self, matvec: Any, n: int, k: int, *, v0: Any, tol: float = 0.0, which: Literal["LA", "LM"] = "LA"
    ) -> tuple[Any, Any]:
        """See ``protocol.Linalg.eigsh_la``."""
        return largest_eigenpairs(self._xp, matvec, n, k, v0=v0, tol=tol, which=which)
