"""What every track of Tn5 cuts offers, wherever it comes from: the contract between sources, models and evaluation.

Conventions. A *cut* is one Tn5 insertion, at ``start`` or at ``end - 1`` of a fragment. *Coverage* at base i is the number of cuts
in [i - half_width, i + half_width]. *Depth* is the number of cuts (reads) of the whole library, also where a file
holds a part of the genome. Positions are 0-based, half-open; arrays lie on the backend ``bk``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuatac.backend.protocol import Backend
    from gpuatac.genome import Genome

HALF_WIDTH = 100  # bp on each side of a cut: 201 in all, as AtacWorks
FOOTPRINT_HALF_WIDTH = 5
#: Fragment lengths in bp, half-open, that cuts are split by where they are known: free of nucleosomes, one, more.
LENGTH_CLASSES = ((0, 120), (120, 260), (260, 2**31 - 1))
HUMAN = 3.1e9  # bp
DENSER = 2.0  # genomes of more than about half of that are taken as human ones


class TrackSource(Protocol):
    """Tracks of one or more groups of cells over one genome.

    Attributes
    ----------
    bk
        The backend that arrays lie on.
    genome
        Names and sizes of chromosomes; ``codes`` index them.
    depth
        host float64 (n_groups,): cuts of the whole library.
    half_width
        bp on each side of a cut that coverage counts.
    has_lengths
        Whether cuts come with fragment lengths.

    A source may also have ``cuts_held``, host float64 (n_groups,): the cuts that it holds; see ``denser``.
    """

    bk: Backend
    genome: Genome
    depth: np.ndarray
    half_width: int
    has_lengths: bool

    @property
    def groups(self) -> Sequence[str]:
        """Names of the groups (rows of every array)."""
        ...

    @property
    def has_cuts(self) -> bool:
        """Whether ``cuts`` can be had. A binned, smoothed or scaled track has coverage alone."""
        ...

    @property
    def codes(self) -> Sequence[int]:
        """Chromosomes that have data, ascending."""
        ...

    def coverage(self, code: int, start: int, stop: int) -> Any:
        """float32 (n_groups, stop - start): cuts within ``half_width`` of each base. 0 <= start < stop <= chromosome size."""
        ...

    def cuts(self, code: int, start: int, stop: int, *, bin_size: int = 1, by_length: bool = False) -> Any:
        """float32 (n_groups, n_classes, (stop - start) / bin_size): cuts in each bin, of all fragments (n_classes 1), or by
        ``LENGTH_CLASSES`` (n_classes 3). ``start`` and ``stop`` are multiples of ``bin_size``; ``stop`` may lie beyond the
        chromosome's end, where there is no cut.
        """
        ...

    def empty(self, code: int, start: int, stop: int) -> Any:
        """Stretches without any cut of any group are cheap to name: host int64 (n, 2), disjoint, ascending, within
        [start, stop), such that coverage is 0 there for every group. May leave out short ones (under 1 kb).
        """
        ...


def denser(source: TrackSource, depth: Any = None) -> np.ndarray:
    """float64 (n_groups,): how many times denser reads lie than those of as deep a library do on a human genome; 1 up to twice.

    What a model of any depth goes by is reads per base. On a small genome it is told the depth that a human library of the same
    density has: ``depth * denser(source)``. A file that holds a part of a large genome, of a library whose depth is given, is
    as dense as that. Sources that do not tell what they hold count as of a large genome.

    ``depth``: that of the libraries where it is not ``source.depth``.
    """
    depth = np.asarray(source.depth if depth is None else depth, np.float64)
    held = getattr(source, "cuts_held", None)
    if held is None:
        return np.ones(len(source.groups))
    span = float(source.genome.sizes.sum())
    ratio = np.divide(np.asarray(held) * HUMAN, span * depth, out=np.ones(len(source.groups)), where=depth > 0)
    return np.where(ratio > DENSER, ratio, 1.0)
