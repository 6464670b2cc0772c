"""Between cuts and their coverage: the sliding sum, its exact inverse, bins, and thinning that no window changes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpuatac.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuatac.backend.protocol import Backend

_WORD = (1 << 64) - 1
_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # of splitmix64
_FACTOR_PARTS = 6  # the least value of a scaled track may stand for up to so many cuts


class Inverted(NamedTuple):
    """The cuts behind a stretch of coverage.

    ``cuts`` int32 (half_width + n + half_width,): at every base that the stretch tells of, from ``half_width`` before its first
    to ``half_width`` behind its last. ``certain``: no other cuts have this coverage.
    """

    cuts: Any
    certain: bool


def coverage_of(bk: Backend, cuts: Any, half_width: int, *, inner: bool = False) -> Any:
    """Number of cuts in [i - half_width, i + half_width] along the last axis: int64 (float64 for floats), exact.

    One running sum C gives it as C(i + half_width) - C(i - half_width - 1). Beyond the array is no cut; with ``inner`` only
    the positions come out whose window lies within it, 2 * half_width fewer.
    """
    xp, width = bk.xp, 2 * half_width + 1
    dtype = np.float64 if cuts.dtype.kind == "f" else np.int64
    if not inner:
        beside = xp.zeros((*cuts.shape[:-1], half_width), cuts.dtype)
        cuts = xp.concatenate([beside, cuts, beside], axis=-1)
    total = xp.cumsum(cuts, axis=-1, dtype=dtype)
    out = total[..., width - 1 :].copy()
    out[..., 1:] -= total[..., : total.shape[-1] - width]
    return out


def coverage_at(bk: Backend, row: Any, position: Any, shape: tuple[int, int], *, start: int, half_width: int) -> Any:
    """float32 ``shape`` (n_rows, n): number of each row's cuts within ``half_width`` of the bases from ``start`` on.

    ``row`` and ``position`` (int64) of each cut, in any order; those too far away are passed over. Each adds 1 where it
    enters and takes 1 where it leaves, and the running sum is the coverage: whole numbers below 2^24, exact in any order.
    """
    xp, size = bk.xp, shape[1]
    out = xp.zeros(shape, np.float32)
    enters, leaves = position - (start + half_width), position + (half_width + 1 - start)
    for at, step in ((xp.maximum(enters, 0), 1), (leaves, -1)):
        inside = xp.flatnonzero((at < size) & (leaves > 0))
        xp.add.at(out.reshape(-1), row[inside] * size + at[inside], np.float32(step))
    return xp.cumsum(out, axis=-1, out=out)


def cuts_of_coverage(
    bk: Backend, coverage: Any, half_width: int, *, before: Any = None, outside: tuple[int, int] = (0, 0)
) -> Inverted:
    """The cuts of an unbroken stretch of coverage, such that ``coverage_of(cuts, inner=True)`` is that coverage.

    With w = 2 * half_width + 1 the cut at base i + half_width enters at base i and leaves at i + w: e(i) = c(i) - c(i - 1) +
    e(i - w), a running sum in each of the w phases of i. What entered before the stretch is in no difference; in each phase
    it is at least h = max(0, -least running sum), and where the h of all phases add up to the first value of the
    coverage, nothing else fits. That holds as soon as every phase has one base without a cut, so wherever coverage is 0 once.
    A rest, as in a short stretch at great depth, is spread evenly, and ``certain`` is not set.

    Parameters
    ----------
    bk, coverage
        The backend and whole numbers (n,) of any type, n >= 1.
    half_width
        bp on each side of a cut.
    before
        Cuts at the 2 * half_width bases around the stretch's first, where known: the last ones of the stretch before it.
    outside
        How many of the first and of the last bases of the result lie outside the chromosome and so hold no cut.

    Raises
    ------
    InputError
        Where the coverage is no such sum: a value is broken or negative, or a number of cuts would be.

    Examples
    --------
    >>> import numpy as np
    >>> from gpuatac.backend import get
    >>> cuts = np.array([0, 0, 2, 0, 0, 1, 0, 0, 0])
    >>> coverage = coverage_of(get("cpu"), cuts, 1, inner=True)
    >>> coverage, cuts_of_coverage(get("cpu"), coverage, 1).cuts
    (array([2, 2, 2, 1, 1, 1, 0]), array([0, 0, 2, 0, 0, 1, 0, 0, 0], dtype=int32))
    """
    xp, width = bk.xp, 2 * half_width + 1
    size = int(coverage.size)
    whole = coverage.astype(np.int64)
    if coverage.dtype.kind == "f":
        _refuse(xp, whole != coverage, "is no whole number")
    _refuse(xp, whole < 0, "is negative")
    n_rows = -(-size // width)
    steps = xp.zeros(n_rows * width, np.int64)
    steps[1:size] = whole[1:] - whole[:-1]
    entered = xp.cumsum(steps.reshape(n_rows, width), axis=0)
    first = int(whole[0])
    certain = True
    if before is None:
        history, certain = _history(bk, entered, first, size, half_width, outside)
    else:
        history = xp.concatenate([xp.zeros(1, np.int64), xp.asarray(before).astype(np.int64)])
        history[0] = first - history.sum()
    entered += history
    entered = entered.ravel()[:size]
    _refuse(xp, entered < 0, "is no sum of whole cuts over the bases around")
    cuts = xp.concatenate([history[1:], entered]).astype(np.int32)
    low, high = outside
    beyond = bool(cuts[:low].any()) or bool(cuts[cuts.size - high :].any())
    if beyond:
        msg = f"the coverage needs cuts outside the chromosome; it is no sum of cuts within {half_width} bp."
        raise InputError(msg)
    return Inverted(cuts, certain)


def _history(
    bk: Backend, entered: Any, first: int, size: int, half_width: int, outside: tuple[int, int]
) -> tuple[Any, bool]:
    """int64 (w,): what entered at the stretch's first base and, phase by phase, before it; and whether nothing else fits."""
    xp, width = bk.xp, entered.shape[1]
    least = xp.maximum(0, -entered.min(axis=0))
    rest = first - int(least.sum())
    if rest < 0:
        msg = f"coverage begins with {first}, less than leaves it later; it is no sum of cuts within {half_width} bp."
        raise InputError(msg)
    if not rest:
        return least, True
    low, high = outside
    free = np.ones(width, bool)  # phases in which no base is known to be without a cut
    free[1 : 1 + min(low, width - 1)] = False
    free[np.arange(max(size - high, 0), size) % width] = False
    places = np.flatnonzero(free)
    if not places.size:
        msg = f"coverage begins with {first}, more than ever leaves it; it is no sum of cuts within {half_width} bp."
        raise InputError(msg)
    share = np.zeros(width, np.int64)
    share[places] = np.diff(np.arange(places.size + 1) * rest // places.size)
    return least + bk.asarray(share), places.size == 1


def _refuse(xp: Any, bad: Any, what: str) -> None:
    if bool(bad.any()):
        msg = f"the coverage {int(xp.argmax(bad))} bp into the stretch {what}; cuts cannot be told from it."
        raise InputError(msg)


def factor_of(values: np.ndarray) -> float | None:
    """The number that every value is a whole multiple of, up to float32's or the text's rounding; None if there is none.

    1 for counts, the scale of a normalised track (CPM, say). ``values``: host, positive, in any order, some 10,000 of them.
    From the least value upwards, each gives a multiple, and all so far a better estimate of the factor by least squares.
    """
    values = np.unique(np.asarray(values, np.float64))
    if not values.size or values[0] <= 0:
        return None
    if (values == np.floor(values)).all():
        return 1.0
    for part in range(1, _FACTOR_PARTS + 1):
        factor, fits, done = values[0] / part, True, 0
        while fits and done < values.size:
            # the estimate is good for multiples up to some times those it rests on
            reached = int(np.searchsorted(values, 4 * values[max(done - 1, 0)], side="right"))
            done = max(reached, done + 1)
            some = values[:done]
            multiple = np.rint(some / factor)
            factor = float((some * multiple).sum() / (multiple * multiple).sum())
            fits = bool((np.abs(some - multiple * factor) <= 1e-3 * factor + 2e-7 * some).all())
        if fits:
            return factor
    return None


def binned(bk: Backend, cuts: Any, bin_size: int) -> Any:
    """Sums over bins of ``bin_size`` along the last axis, whose length is a multiple of it; the type stays."""
    if bin_size == 1:
        return cuts
    shape = (*cuts.shape[:-1], cuts.shape[-1] // bin_size, bin_size)
    return cuts.reshape(shape).sum(axis=-1, dtype=cuts.dtype)


def mixed(key: Any, *parts: Any) -> Any:
    """A 64-bit hash of ``key`` and ``parts`` in turn, each an int or an array of integers: splitmix64's finaliser.

    An int for ints alone, else uint64 of the arrays' shape: a pure function of the values, whatever else is in the arrays.
    """
    key = _finished(key)
    for part in parts:
        if isinstance(key, int):
            key = _finished(key ^ (part & _WORD) if isinstance(part, int) else part.astype(np.uint64) ^ np.uint64(key))
        else:
            key = _finished(key ^ (np.uint64(part & _WORD) if isinstance(part, int) else part.astype(np.uint64)))
    return key


def _finished(x: Any) -> Any:
    """The next number of splitmix64 from state ``x``."""
    if isinstance(x, int):
        x = (x + _GOLDEN) & _WORD
        x = ((x ^ (x >> 30)) * _FIRST) & _WORD
        x = ((x ^ (x >> 27)) * _SECOND) & _WORD
        return x ^ (x >> 31)
    x = x + np.uint64(_GOLDEN)
    x ^= x >> np.uint64(30)
    x *= np.uint64(_FIRST)
    x ^= x >> np.uint64(27)
    x *= np.uint64(_SECOND)
    return x ^ (x >> np.uint64(31))


def below(key: Any, share: Any) -> Any:
    """bool: whether each hash, as a number in [0, 1), lies below ``share`` (a number, or an array of the same shape)."""
    return (key >> np.uint64(11)).astype(np.float64) * 2.0**-53 < share


def key_of(*names: str) -> int:
    """64 bits that stand for names."""
    return int.from_bytes(hashlib.blake2b("\n".join(names).encode(), digest_size=8).digest(), "little")


def staying(bk: Backend, read: Any, group: Any, thinnings: Sequence[tuple[np.ndarray, int]]) -> Any:
    """The numbers of the reads that every thinning (share of each group, seed) keeps; ``read`` is the hash of what each is."""
    kept = bk.xp.ones(group.size, bool)
    for share, seed in thinnings:
        kept &= below(mixed(seed, read), bk.asarray(share)[group])
    return bk.xp.flatnonzero(kept)


def repeated(bk: Backend, times: Any) -> tuple[Any, Any]:
    """int64: for ``times`` (n,) copies of each of n items, the item and the number (0, 1, ...) of every copy."""
    xp = bk.xp
    stop = xp.cumsum(times, dtype=np.int64)
    copy = xp.arange(int(stop[-1]) if stop.size else 0)
    item = xp.searchsorted(stop, copy, side="right")
    return item, copy - (stop - times)[item]


def rank_among_equals(bk: Backend, *columns: Any) -> Any:
    """int64 (n,): how many rows right before each are equal to it in all ``columns``."""
    xp = bk.xp
    size = columns[0].size
    new = xp.ones(size, bool)
    if size:
        equal = columns[0][1:] == columns[0][:-1]
        for column in columns[1:]:
            equal &= column[1:] == column[:-1]
        new[1:] = ~equal
    at = xp.arange(size)
    if bool(new.all()):
        return xp.zeros(size, np.int64)
    return at - xp.flatnonzero(new)[xp.cumsum(new) - 1]


def empty_stretches(bk: Backend, occupied: Any, bin_size: int, *, start: int, half_width: int) -> np.ndarray:
    """Host int64 (n, 2): stretches without coverage, given which bins from base ``start`` on hold cuts: bool (n_bins,).

    Coverage is known to be 0 where the ``half_width`` bases on both sides are known to be without a cut.
    """
    held = bk.to_host(occupied)
    edges = np.flatnonzero(np.diff(np.concatenate([[True], held, [True]]).astype(np.int8)))
    bounds = edges.reshape(-1, 2).astype(np.int64) * bin_size + start
    bounds += np.array([half_width, -half_width])
    return bounds[bounds[:, 1] > bounds[:, 0]]
