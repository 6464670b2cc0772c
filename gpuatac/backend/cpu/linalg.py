"""Eigenvalues on the CPU: ARPACK through SciPy."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np


class Linalg:
    """The CPU side of ``protocol.Linalg``."""

    def eigsh_la(self, matvec: Any, n: int, k: int, *, v0: Any, tol: float = 0.0, which: Literal["LA", "LM"] = "LA"
                 ) -> tuple[Any, Any]:
        """See ``protocol.Linalg.eigsh_la``."""
        from scipy.linalg import eigh
        from scipy.sparse.linalg import LinearOperator, eigsh

        if n <= max(64, 2 * k + 2):  # ARPACK wants k well below n
            dense = np.column_stack([matvec(column) for column in np.eye(n)])
            values, vectors = eigh((dense + dense.T) / 2)
            kept = np.argsort(-(np.abs(values) if which == "LM" else values), kind="stable")[:k]
            values, vectors = values[kept], vectors[:, kept]
        else:
            values, vectors = eigsh(LinearOperator((n, n), matvec=matvec, dtype=np.float64), k=k, which=which, v0=v0, tol=tol)
        order = np.argsort(-values, kind="stable")
        return values[order], vectors[:, order]
