"""Leading eigenpairs of a symmetric operator: block Lanczos with full reorthogonalisation and thick restarts.

Wu and Simon, "Thick-restart Lanczos method for large symmetric eigenvalue problems", SIAM J. Matrix Anal.
Appl. 22(2), 2000, for blocks of vectors. Written against the array module alone, so that one solver serves every
device. Points beyond the paper:

- A product with b vectors at once costs less than b products (a sparse matrix is read once), so the space grows by
  ``block`` vectors a step.
- Directions that the operator leaves open (low rank, a start inside an invariant subspace) are filled with random
  ones orthogonal to what is known, instead of dividing by the vanished residual.
- A Krylov space holds at most b vectors of an eigenspace, one fewer when the start misses it. When all wanted pairs
  have converged and so many of them are equal, one more cycle from random directions, orthogonal to them, looks for
  copies that were missed (a graph of several components has them).
- The projected matrix is filled from the very coefficients of the orthogonalisation, so arrows, restarts and
  random directions need no case of their own. It is small and lies on the host.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from gpuatac.errors import GpuatacError

if TYPE_CHECKING:
    from collections.abc import Callable

DENSE_UP_TO = 64  # rows; below, and when k is close to n, the operator is written out as a matrix
EPS = float(np.finfo(np.float64).eps)
MAX_CYCLES = 3000
BASIS_BYTES = 96 << 20  # a basis of this size is kept before the first restart; a larger one only where k needs it
SMALL = 1e-6  # of the operator's scale: what is left of a new row is cleaned once more
TINY = 1e-300  # a length that may be divided by
EQUAL = 1e-6  # of the largest: wanted values this close to each other may be copies of one


class NoConvergenceError(GpuatacError, RuntimeError):
    """The eigen-solver gave up; the message says how far it came."""


class _Space(NamedTuple):
    """Orthonormal rows ``basis`` (m + b, n) and, on the host, the projected matrix ``t`` (m, m) = basis A basis'."""

    basis: Any
    t: np.ndarray


def largest_eigenpairs(
    xp: Any,
    matvec: Callable[[Any], Any],
    n: int,
    k: int,
    *,
    v0: Any,
    tol: float = 0.0,
    which: Literal["LA", "LM"] = "LA",
    block: int = 1,
    max_cycles: int = MAX_CYCLES,
) -> tuple[Any, Any]:
    """The k eigenpairs of a symmetric operator that are largest, algebraically (LA) or in magnitude (LM).

    Parameters
    ----------
    xp
        The array module (NumPy, CuPy) that ``matvec`` takes and gives vectors of.
    matvec
        The product with the operator: float64 (n,) -> (n,), or (n, block) -> (n, block) when ``block`` > 1.
    n, k
        Size of the operator; how many pairs, 1 <= k <= n.
    v0
        float64 (n,): where the iteration starts. A fixed ``v0`` gives the same result each time.
    tol
        A pair has converged when its residual is below ``tol`` times its eigenvalue, or at machine precision of the
        operator's largest seen eigenvalue; 0 asks for the latter.
    block
        Vectors per product.

    Returns
    -------
    Values float64 (k,), descending, and orthonormal vectors float64 (n, k), free up to sign and to rotation
    within an eigenspace.

    Cost: one product and two passes over the basis per step. The basis has at most 6 k + 16 b vectors of which
    BASIS_BYTES hold, and at least 2 k + 20.
    """
    b = block
    m = _basis_size(n, k, b)
    if n <= DENSE_UP_TO or m + b >= n:
        return _dense(xp, matvec, n, k, which, b)
    floor = _floor(b)
    tol = max(tol, floor)
    rng = np.random.default_rng(0)  # for directions that v0 and the operator leave open
    space = _Space(xp.zeros((m + b, n), np.float64), np.zeros((m, m), np.float64))
    _start(xp, space.basis, xp.asarray(v0, dtype=np.float64), b, rng)
    known, scale, found = 0, 0.0, None
    n_converged, cycle = 0, 0
    size = 0  # of the projected matrix so far
    while cycle < max_cycles:
        rest, scale = _extend(xp, matvec, space, size, b, scale, rng)
        size += b
        full = size == m
        # a look before the basis is full, every other step; the search for copies takes a whole cycle
        if not full and (found is not None or size < max(2 * k, known + 2 * b) or (size // b) % 2):
            continue
        theta, s = np.linalg.eigh(space.t[:size, :size])
        _separate(theta, s, rest, b)
        order = _order(theta, which)
        theta, s = theta[order], s[:, order]
        scale = max(scale, float(np.abs(theta).max()))
        residuals = np.linalg.norm(rest.T @ s[size - b :, :k], axis=0)
        n_converged = int((residuals <= np.maximum(tol * np.abs(theta[:k]), floor * scale)).sum())
        if n_converged < k:
            if full:
                known = size = _keep(m, k, b, n_converged)
                _restart(xp, space, theta, s, known, m, b)
                cycle += 1
            continue
        descending = np.argsort(-theta[:k], kind="stable")
        wanted = theta[:k][descending]
        again = found is not None and float(np.abs(wanted - found).max()) <= max(tol, 1e-13) * scale * 10
        if again or (b > 1 and not _has_copies(wanted, b - 1, scale)):
            return xp.asarray(wanted), _rotate(xp, space.basis, s[:, :k][:, descending]).T.copy()
        found = wanted
        cycle += 1
        known = size = m - b * ((m - k) // b)
        _restart(xp, space, theta, s, known, min(m, theta.size), b)
        for i in range(b):
            _random_direction(xp, space.basis, known + i, rng)
    msg = (
        f"the eigen-solver found {n_converged} of {k} eigenpairs to {tol:g} in {max_cycles} cycles; "
        "ask for fewer pairs or a larger tol."
    )
    raise NoConvergenceError(msg)


def _basis_size(n: int, k: int, b: int) -> int:
    """Vectors of the basis, a multiple of b: as many as BASIS_BYTES hold within bounds that k and b set."""
    least = max(2 * k + 20, 40) + (2 * b if b > 1 else 0)
    m = max(least, min(6 * k + 16 * b, BASIS_BYTES // (8 * max(n, 1)), n // 2)) if b > 1 else least
    return min(n, -(-m // b) * b)


def _separate(theta: np.ndarray, s: np.ndarray, rest: np.ndarray, b: int) -> None:
    """Within equal Ritz values turn the vectors, in place, so that those of the smallest residual come first.

    A further copy of an eigenvalue appears with a residual r when its value is already exact to r^2: the rotation that
    LAPACK happens to return would smear r over the copies that have converged.
    """
    near = np.diff(theta) <= 64 * EPS * float(np.abs(theta).max())
    cuts = np.flatnonzero(~np.concatenate([[False], near, [False]]))
    for low, high in pairwise(cuts.tolist()):
        if high - low > 1:
            found = np.linalg.svd(rest.T @ s[-b:, low:high])[2][::-1]
            s[:, low:high] = s[:, low:high] @ found.T
            theta[low:high] = theta[low:high].mean()


def _floor(b: int) -> float:
    """Below this, relative to the operator's scale, a residual is rounding; that of a block is larger."""
    return 4 * EPS if b == 1 else 8 * b * EPS


def _keep(m: int, k: int, b: int, n_converged: int) -> int:
    """Vectors kept at a restart: more than k, to speed up the pairs at the border; whole blocks fit behind them."""
    keep = k + min((m - k) // 3, n_converged // 2 + 5)
    return m - b * ((m - keep) // b)


def _has_copies(descending: np.ndarray, n: int, scale: float) -> bool:
    """Whether ``n`` + 1 or more values, or n where n is 1, lie within EQUAL of each other."""
    n = max(n, 2)
    return bool(
        descending.size >= n and (descending[: descending.size - n + 1] - descending[n - 1 :] <= EQUAL * scale).any()
    )


def _order(theta: np.ndarray, which: str) -> np.ndarray:
    """The order of eigenvalues that puts the wanted ones first."""
    return np.argsort(-np.abs(theta) if which == "LM" else -theta, kind="stable")


def _host(array: Any) -> np.ndarray:
    return np.asarray(array.get() if hasattr(array, "get") else array)


def _apply(xp: Any, matvec: Callable[[Any], Any], rows: Any) -> Any:
    """The operator times each of the rows (b, n), as rows; a single one goes as a vector."""
    if rows.shape[0] == 1:
        return matvec(rows[0])[None]
    return xp.ascontiguousarray(matvec(xp.ascontiguousarray(rows.T)).T)


def _dense(xp: Any, matvec: Callable[[Any], Any], n: int, k: int, which: str, b: int) -> tuple[Any, Any]:
    eye = xp.zeros((-(-n // b) * b, n), np.float64)
    eye[:n] = xp.eye(n)
    matrix = xp.concatenate([_apply(xp, matvec, eye[i : i + b]) for i in range(0, n, b)])[:n]
    values, vectors = xp.linalg.eigh((matrix + matrix.T) / 2)
    kept = xp.asarray(_order(_host(values), which)[:k])
    kept = kept[xp.argsort(-values[kept])]
    return values[kept], vectors[:, kept]


def _start(xp: Any, basis: Any, v0: Any, b: int, rng: np.random.Generator) -> None:
    """The first block: v0, where it has a length, and random directions."""
    length = float(xp.linalg.norm(v0))
    if length > 0:
        basis[0] = v0 / length
    for i in range(int(length > 0), b):
        _random_direction(xp, basis, i, rng)


def _extend(
    xp: Any, matvec: Callable[[Any], Any], space: _Space, j: int, b: int, scale: float, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Apply the operator to block j ... j + b and append what is new in it as the next block.

    Returns R (b, b) with A Q_j = (its part in the space) + R Q_next, rows as vectors, and the scale.
    """
    basis, t = space
    so_far = basis[: j + b]
    w = _apply(xp, matvec, so_far[j:])
    longest = xp.sqrt((w * w).sum(1).max())
    h = so_far @ w.T
    w = w - h.T @ so_far
    correction = so_far @ w.T
    w -= correction.T @ so_far
    factor = _orthonormal(xp, basis, j + b, w)
    numbers = _host(xp.concatenate([(h + correction).ravel(), factor.ravel(), longest.reshape(1)]))  # the one transfer of a step
    column, r = numbers[: -b * b - 1].reshape(-1, b), numbers[-b * b - 1 : -1].reshape(b, b)
    scale = max(scale, float(numbers[-1]))
    t[: j + b, j : j + b] = column
    t[j : j + b, : j + b] = column.T
    t[j : j + b, j : j + b] = (column[j:] + column[j:].T) / 2
    if (np.diag(r) <= max(_floor(b), SMALL) * scale).any():  # little or nothing is left of a row
        r = _append(xp, basis, j + b, w, scale, rng)
    return r, scale


def _orthonormal(xp: Any, basis: Any, j: int, w: Any) -> Any:
    """Gram-Schmidt of the rows of w, orthogonal to the first j of the basis, into rows j ...: their factor R (b, b).

    Nothing is looked at on the way, so that a device is not waited for; rows of which too little is left are garbage.
    """
    b = int(w.shape[0])
    r = xp.zeros((b, b))
    for i in range(b):
        v, new = w[i], basis[j : j + i]
        for _ in range(2 if i else 0):
            part = new @ v
            v = v - part @ new
            r[i, :i] += part
        length = xp.linalg.norm(v)
        r[i, i] = length
        basis[j + i] = v / xp.maximum(length, TINY)
    return r


def _append(xp: Any, basis: Any, j: int, w: Any, scale: float, rng: np.random.Generator) -> np.ndarray:
    """As ``_orthonormal``, row by row: one that has vanished gives way to a random direction, one of little length is cleaned."""
    b = int(w.shape[0])
    r = np.zeros((b, b))
    for i in range(b):
        v, new = w[i], basis[j : j + i]
        for _ in range(2 if i else 0):
            part = new @ v
            v = v - part @ new
            r[i, :i] += _host(part)
        length = float(xp.linalg.norm(v))
        if length <= _floor(b) * scale:
            _random_direction(xp, basis, j + i, rng)
            continue
        r[i, i] = length
        v = v / length
        if length < SMALL * scale:  # little is left of it: clean it once more
            v = v - (basis[: j + i] @ v) @ basis[: j + i]
            v = v / xp.linalg.norm(v)
        basis[j + i] = v
    return r


def _random_direction(xp: Any, basis: Any, j: int, rng: np.random.Generator) -> None:
    """Put a random unit vector, orthogonal to the first j, at row j."""
    w = xp.asarray(rng.standard_normal(int(basis.shape[1])))
    for _ in range(3):
        w = w - (basis[:j] @ w) @ basis[:j]
        w = w / xp.linalg.norm(w)
    basis[j] = w


def _rotate(xp: Any, basis: Any, s: np.ndarray) -> Any:
    """Combinations s (size, kept) of the first ``size`` basis vectors, as rows."""
    return xp.asarray(np.ascontiguousarray(s.T)) @ basis[: s.shape[0]]


def _restart(xp: Any, space: _Space, theta: np.ndarray, s: np.ndarray, keep: int, size: int, b: int) -> None:
    """Keep the leading Ritz vectors and the residual block; the rest of the space is built anew."""
    basis, t = space
    basis[:keep] = _rotate(xp, basis, s[:, :keep])
    basis[keep : keep + b] = basis[size : size + b].copy()
    t[:] = 0.0
    t[np.arange(keep), np.arange(keep)] = theta[:keep]
