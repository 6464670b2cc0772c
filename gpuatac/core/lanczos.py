"""Leading eigenpairs of a symmetric operator: Lanczos with full reorthogonalisation and thick restarts.

Wu and Simon, "Thick-restart Lanczos method for large symmetric eigenvalue problems", SIAM J. Matrix Anal.
Appl. 22(2), 2000. Written against the array module alone, so that one solver serves every device. Three
points beyond the paper:

- When the Krylov space is exhausted (low rank, a start inside an invariant subspace) it goes on from a random
  direction orthogonal to what is known, instead of dividing by the vanished residual.
- A Krylov space holds one vector of each eigenspace. When all wanted pairs have converged, one more cycle
  from a random direction, orthogonal to them, looks for copies that were missed (a graph of several
  components has them).
- The projected matrix is filled from the very coefficients of the orthogonalisation, so arrows, restarts and
  random directions need no case of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from gpuatac.errors import GpuatacError

if TYPE_CHECKING:
    from collections.abc import Callable

DENSE_UP_TO = 64  # rows; below, and when k is close to n, the operator is written out as a matrix
EPS = float(np.finfo(np.float64).eps)
MAX_CYCLES = 3000


class NoConvergenceError(GpuatacError, RuntimeError):
    """The eigen-solver gave up; the message says how far it came."""


class _Space(NamedTuple):
    """Orthonormal rows ``basis`` (m + 1, n) and the projected matrix ``t`` (m, m) = basis A basis'."""

    basis: Any
    t: Any


def largest_eigenpairs(
    xp: Any,
    matvec: Callable[[Any], Any],
    n: int,
    k: int,
    *,
    v0: Any,
    tol: float = 0.0,
    which: Literal["LA", "LM"] = "LA",
    max_cycles: int = MAX_CYCLES,
) -> tuple[Any, Any]:
    """The k eigenpairs of a symmetric operator that are largest, algebraically (LA) or in magnitude (LM).

    Parameters
    ----------
    xp
        The array module (NumPy, CuPy) that ``matvec`` takes and gives vectors of.
    matvec
        float64 (n,) -> float64 (n,): the product with the operator.
    n, k
        Size of the operator; how many pairs, 1 <= k <= n.
    v0
        float64 (n,): where the iteration starts. A fixed ``v0`` gives the same result each time.
    tol
        A pair has converged when its residual is below ``tol`` times the operator's largest seen eigenvalue;
        0 asks for machine precision.

    Returns
    -------
    Values float64 (k,), descending, and orthonormal vectors float64 (n, k), free up to sign and to rotation
    within an eigenspace.

    Cost: one ``matvec`` and two passes over the basis, (2 k + 20) x n float64, per step.
    """
    m = min(n, max(2 * k + 20, 40))
    if n <= DENSE_UP_TO or m + 1 >= n:
        return _dense(xp, matvec, n, k, which)
    tol = max(tol, 4 * EPS)
    rng = np.random.default_rng(0)  # for directions that the operator leaves open
    space = _Space(xp.zeros((m + 1, n), np.float64), xp.zeros((m, m), np.float64))
    first = xp.asarray(v0, dtype=np.float64)
    length = float(xp.linalg.norm(first))
    if length > 0:
        space.basis[0] = first / length
    else:
        _random_direction(xp, space.basis, 0, rng)
    known, scale, found = 0, 0.0, None
    for _ in range(max_cycles):
        beta, scale = _extend(xp, matvec, space, known, scale, rng)
        theta, s = xp.linalg.eigh(space.t)
        order = _order(xp, theta, which)
        theta, s = theta[order], s[:, order]
        scale = max(scale, float(xp.abs(theta).max()))
        n_converged = int((beta * xp.abs(s[-1, :k]) <= tol * scale).sum())
        if n_converged < k:
            # more than k are kept: they speed up the pairs at the border
            keep = k + min((m - k) // 3, n_converged // 2 + 5)
            _restart(space, theta, s, keep, m)
            known = keep
            continue
        ascending = xp.argsort(theta[:k])
        wanted = theta[ascending]
        if found is not None and float(xp.abs(wanted - found).max()) <= max(tol, 1e-13) * scale * 10:
            return wanted[::-1].copy(), _rotate(space.basis, s, k, m)[ascending[::-1]].T.copy()
        found = wanted
        _restart(space, theta, s, k, m)
        _random_direction(xp, space.basis, k, rng)
        known = k
    msg = (
        f"the eigen-solver found {n_converged} of {k} eigenpairs to {tol:g} in {max_cycles} cycles; "
        "ask for fewer pairs or a larger tol."
    )
    raise NoConvergenceError(msg)


def _order(xp: Any, theta: Any, which: str) -> Any:
    """The order of eigenvalues that puts the wanted ones first."""
    return xp.argsort(-xp.abs(theta) if which == "LM" else -theta)


def _dense(xp: Any, matvec: Callable[[Any], Any], n: int, k: int, which: str) -> tuple[Any, Any]:
    matrix = xp.stack([matvec(column) for column in xp.eye(n, dtype=np.float64)])
    values, vectors = xp.linalg.eigh((matrix + matrix.T) / 2)
    kept = _order(xp, values, which)[:k]
    kept = kept[xp.argsort(-values[kept])]
    return values[kept], vectors[:, kept]


def _extend(
    xp: Any, matvec: Callable[[Any], Any], space: _Space, known: int, scale: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Grow the space from ``known + 1`` vectors to m + 1: the last residual's length, the scale."""
    basis, t = space
    m = int(t.shape[0])
    beta = 0.0
    for j in range(known, m):
        w = matvec(basis[j])
        so_far = basis[: j + 1]
        scale = max(scale, float(xp.linalg.norm(w)))
        h = so_far @ w
        w = w - h @ so_far
        correction = so_far @ w
        w = w - correction @ so_far
        h = h + correction
        t[: j + 1, j] = h
        t[j, : j + 1] = h
        beta = float(xp.linalg.norm(w))
        if beta <= 4 * EPS * scale:
            beta = 0.0
            _random_direction(xp, basis, j + 1, rng)
            continue
        w = w / beta
        if beta < 1e-6 * scale:  # little is left of w: clean it once more
            w = w - (so_far @ w) @ so_far
            w = w / xp.linalg.norm(w)
        basis[j + 1] = w
    return beta, scale


def _random_direction(xp: Any, basis: Any, j: int, rng: np.random.Generator) -> None:
    """Put a random unit vector, orthogonal to the first j, at row j."""
    w = xp.asarray(rng.standard_normal(int(basis.shape[1])))
    for _ in range(3):
        w = w - (basis[:j] @ w) @ basis[:j]
        w = w / xp.linalg.norm(w)
    basis[j] = w


def _rotate(basis: Any, s: Any, keep: int, m: int) -> Any:
    return s[:, :keep].T @ basis[:m]


def _restart(space: _Space, theta: Any, s: Any, keep: int, m: int) -> None:
    """Keep the leading Ritz vectors and the residual direction; the rest of the space is built anew."""
    basis, t = space
    basis[:keep] = _rotate(basis, s, keep, m)
    basis[keep] = basis[m]
    t[:] = 0.0
    for i in range(keep):
        t[i, i] = theta[i]
