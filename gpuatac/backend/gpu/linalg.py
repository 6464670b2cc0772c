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
        """See ``protocol.Linalg.eigsh_la``. "LM" solves for the square, then rotates within the space found."""
        if which == "LA":
            return largest_eigenpairs(self._xp, matvec, n, k, v0=v0, tol=tol)
        xp = self._xp
        _, space = largest_eigenpairs(xp, lambda v: matvec(matvec(v)), n, k, v0=v0, tol=tol)
        image = xp.stack([matvec(space[:, j]) for j in range(space.shape[1])], axis=1)
        inner = space.T @ image
        values, rotation = xp.linalg.eigh((inner + inner.T) / 2)
        order = xp.argsort(-values)
        return values[order], space @ rotation[:, order]
