"""What a model sees in training: measured shallow tracks, thinned deep ones, and random cells of a group."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from gpuatac import check
from gpuatac.core.track_source import denser
from gpuatac.errors import InputError
from gpuatac.io.tracks.atacworks_h5 import H5Tracks
from gpuatac.io.tracks.fragment_tracks import FragmentTracks, thinned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from gpuatac.core.track_source import TrackSource

logger = logging.getLogger(__name__)
KEPT_DRAWS = 32  # sets of cells kept ready


class Track(NamedTuple):
    """One row of a source; ``reads`` says its depth where that is known already."""

    source: TrackSource
    row: int = 0
    reads: float | None = None

    @property
    def depth(self) -> float:
        """Reads of the whole library."""
        return float(self.source.depth[self.row]) if self.reads is None else self.reads

    @property
    def denser(self) -> float:
        """See ``core.track_source.denser``."""
        depth = self.source.depth if self.reads is None else np.full(len(self.source.groups), self.reads)
        return float(denser(self.source, depth)[self.row])


class NoisyInput(Protocol):
    """Noisy versions of one clean track."""

    def draw(self, rng: np.random.Generator, epoch: int) -> Track:
        """One of them at random."""
        ...

    def fixed(self, seed: int) -> list[tuple[str, Track]]:
        """The ones that validation looks at, the same each time, by name."""
        ...


class Measured:
    """A noisy track as it was measured.

    Parameters
    ----------
    track
        The track.
    name
        What it is called in the history.
    """

    def __init__(self, track: Track, name: str = "noisy") -> None:
        self.track, self.name = track, name

    def draw(self, rng: np.random.Generator, epoch: int) -> Track:
        """The track."""
        del rng, epoch
        return self.track

    def fixed(self, seed: int) -> list[tuple[str, Track]]:
        """The track."""
        del seed
        return [(self.name, self.track)]


class Thinned:
    """A deep track of which each read is kept with one probability, anew for each example.

    Parameters
    ----------
    deep
        The deep track; it must have cuts.
    depth
        Lowest and highest depth in reads, drawn log-uniformly. The highest is lowered to the depth of ``deep``.
    depths
        Depths to draw from instead, each below that of ``deep``.
    paired
        Share of the draws in which cuts of a coverage track go by two, as paired-end reads do; those of fragments always do.

    Raises
    ------
    InputError
        When ``deep`` has no cuts or is shallower than what is asked for.
    """

    def __init__(
        self,
        deep: Track,
        *,
        depth: tuple[float, float] = (0.2e6, 20e6),
        depths: Sequence[float] = (),
        paired: float = 0.0,
    ) -> None:
        check.between("paired", paired, 0, 1)
        name = deep.source.groups[deep.row]
        if not deep.source.has_cuts:
            msg = (
                f"the clean track {name} gives no cuts (it is binned, smoothed or scaled), so it cannot be thinned; allowed: "
                "fragments, or coverage that counts cuts at single bases; give noisy tracks instead."
            )
            raise InputError(msg)
        lowest, highest = (min(depths), max(depths)) if depths else depth
        if lowest >= deep.depth or (depths and highest >= deep.depth):
            msg = (
                f"{name} has {deep.depth:,.0f} reads and cannot be thinned to {highest if depths else lowest:,.0f}; give lower "
                "depths (--thin), or the depth of the whole library where the file holds a part of it (--clean-depth)."
            )
            raise InputError(msg)
        if highest > deep.depth:
            logger.warning("%s: thinned to %.3g reads at most, which is all it has", name, deep.depth)
        self.deep = deep
        self.depth = (lowest, min(highest, deep.depth))
        self.depths = tuple(depths)
        self.paired = paired

    def draw(self, rng: np.random.Generator, epoch: int) -> Track:
        """Thinned to a random depth, by a random seed."""
        del epoch
        if self.depths:
            depth = float(rng.choice(np.asarray(self.depths, np.float64)))
        else:
            depth = math.exp(rng.uniform(math.log(self.depth[0]), math.log(self.depth[1])))
        return self._thinned(depth, int(rng.integers(2**31)), paired=bool(rng.random() < self.paired))

    def fixed(self, seed: int) -> list[tuple[str, Track]]:
        """Each of ``depths``; else the lowest depth, the highest, and their geometric mean."""
        low, high = self.depth
        depths = self.depths or tuple(dict.fromkeys((low, math.sqrt(low * high), high)))
        paired = self.paired >= 0.5
        return [
            (f"{depth / 1e6:.3g}M", self._thinned(depth, seed + k, paired=paired))
            for k, depth in enumerate(sorted(depths))
        ]

    def _thinned(self, depth: float, seed: int, *, paired: bool) -> Track:
        source, share = self.deep.source, depth / self.deep.depth
        if share >= 1:
            return self.deep
        if isinstance(source, H5Tracks):
            return Track(source.thin(share, seed, paired=paired), self.deep.row, depth)
        return Track(thinned(source, share, seed=seed, paired=paired), self.deep.row, depth)


class Cells:
    """Random cells of a group.

    Parameters
    ----------
    adata
        Cells with fragments.
    members
        int64: row numbers of the group's cells.
    counts
        How many cells, drawn from at random; each at most the cells of the group.
    resamples
        Sets of cells of each count, drawn anew each epoch.
    half_width, blacklist
        As for :class:`gpuatac.io.tracks.fragment_tracks.FragmentTracks`.
    seed
        Of the sets.

    Raises
    ------
    InputError
        When a count is larger than the group.
    """

    def __init__(
        self,
        adata: AnnData,
        members: np.ndarray,
        counts: Sequence[int],
        *,
        resamples: int = 5,
        half_width: int = 100,
        blacklist: Any = None,
        seed: int = 0,
    ) -> None:
        if not counts or max(counts) > len(members) or min(counts) < 1:
            msg = (
                f"{', '.join(map(str, counts)) or 'no'} cells are to be drawn of a group of {len(members)}; allowed: 1 to "
                f"{len(members)}; draw fewer (--cells) or leave the group out (--select)."
            )
            raise InputError(msg)
        self.adata, self.members, self.counts = adata, np.asarray(members, np.int64), tuple(map(int, counts))
        self.resamples, self.seed = resamples, seed
        self.options = {"half_width": half_width, "blacklist": blacklist}
        self._ready: dict[tuple[int, int, int], Track] = {}
        names = [str(row) for row in self.members]
        self._reads = FragmentTracks(adata, [np.array([row]) for row in self.members], names, **self.options).depth

    def draw(self, rng: np.random.Generator, epoch: int) -> Track:
        """One set of one of the counts."""
        return self._track(int(rng.choice(self.counts)), epoch + 1, int(rng.integers(self.resamples)))

    def fixed(self, seed: int) -> list[tuple[str, Track]]:
        """One set of each count."""
        del seed
        return [(f"{n} cells" if n > 1 else "1 cell", self._track(n, 0, 0)) for n in self.counts]

    def _track(self, n: int, epoch: int, resample: int) -> Track:
        """The same cells for the same numbers, whenever asked for."""
        key = (n, epoch, resample)
        if key not in self._ready:
            for old in [k for k in self._ready if k[1] not in (0, epoch)][: max(0, len(self._ready) - KEPT_DRAWS + 1)]:
                del self._ready[old]
            rng = np.random.default_rng([self.seed, *key])
            drawn = np.sort(rng.choice(len(self.members), n, replace=False))
            source: Any = FragmentTracks(self.adata, [self.members[drawn]], [f"{n} cells"], **self.options)
            self._ready[key] = Track(source, 0, float(self._reads[drawn].sum()))
        return self._ready[key]
