"""Fragments guessed from cuts: which two cuts of a coverage track may be the ends of one fragment.

Paired-end reads come and go together when a library is thinned, so that noise at a given depth is larger than that of single cuts.
A coverage track does not tell which cuts belong together; a matching with plausible lengths does as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac.core.tracks.cut_tracks import mixed

if TYPE_CHECKING:
    from gpuatac.backend.protocol import Backend

#: Rounds of matching: how far the partner may lie from where the drawn length puts it, bp.
TOLERANCES = (4, 8, 16, 32, 64, 128, 256, 512)
#: Quantiles (0, 1/8, ..., 1) of fragment lengths in ATAC-seq, bp, between which lengths are drawn.
LENGTHS = (25, 44, 58, 76, 110, 170, 205, 330, 700)


def partners(position: np.ndarray, seed: int = 0) -> np.ndarray:
    """The number of the fragment each cut belongs to.

    In each round, every cut without a partner is by a hash of its rank an opening or a closing one; each opening cut draws a
    length and takes the closing cut nearest to that place, if it is free and near enough, the first to ask going first.

    Parameters
    ----------
    position
        int64 (n,): cuts in ascending order, repeated where several lie on one base. On the host.
    seed
        Of the lengths.

    Returns
    -------
    int64 (n,): equal for the two cuts of a fragment, otherwise different; a cut without a partner stands alone.

    Cost: O(n log n) for each of eight rounds.

    Examples
    --------
    >>> import numpy as np
    >>> from gpuatac.core.tracks.cut_pairs import partners
    >>> len(set(partners(np.array([100, 150, 9_000, 9_060]), seed=1)))
    2
    """
    n = position.size
    fragment = np.arange(n, dtype=np.int64)
    free = np.arange(n)
    for number, tolerance in enumerate(TOLERANCES):
        if free.size < 2:
            break
        draws = mixed(mixed(seed, number), free.astype(np.uint64))
        opening = (draws >> np.uint64(63)).astype(bool)
        left, right = free[opening], free[~opening]
        if not left.size or not right.size:
            continue
        share = (draws[opening] & np.uint64(0xFFFFFFFF)).astype(np.float64) / 2**32 * (len(LENGTHS) - 1)
        wanted = position[left] + np.interp(share, np.arange(len(LENGTHS)), LENGTHS)
        taken = _nearest(position[right], wanted)
        far = np.abs(position[right][taken] - wanted) > tolerance
        ok = ~far & (position[right][taken] > position[left])
        left, taken = left[ok], taken[ok]
        _, first = np.unique(taken, return_index=True)
        fragment[right[taken[first]]] = left[first]
        matched = np.zeros(n, bool)
        matched[right[taken[first]]] = matched[left[first]] = True
        free = free[~matched[free]]
    return fragment


def fragments_of(bk: Backend, position: Any, count: Any) -> tuple[Any, Any]:
    """Of each position (int64, ascending) with ``count`` cuts the number of cuts before it, and behind them all their total; and of
    each cut in turn its fragment (``partners``). int64, on the backend.
    """
    first = bk.xp.concatenate([bk.xp.zeros(1, np.int64), bk.xp.cumsum(count, dtype=np.int64)])
    return first, bk.asarray(partners(np.repeat(bk.to_host(position), bk.to_host(count))))


def _nearest(values: np.ndarray, wanted: Any) -> np.ndarray:
    """Of each wanted number the index of the nearest in ascending ``values``."""
    after = np.clip(np.searchsorted(values, wanted), 1, max(values.size - 1, 1))
    before = after - 1
    after = np.minimum(after, values.size - 1)
    return np.where(np.abs(values[before] - wanted) <= np.abs(values[after] - wanted), before, after)
