"""Tables of called peaks as files want them: no row beyond its chromosome, names that a line can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac.errors import InputError
from gpuatac.genome import Genome

if TYPE_CHECKING:
    import pandas as pd

BLOCKS = ("block_sizes", "block_starts")
LONGEST_NAME = 255  # of a BED line, as UCSC's tools take it
NUMBERED = 24  # of these for "_peak_<n>" and a letter


def genome_given(chrom_sizes: Any) -> Genome:
    """A Genome as it is, or made of a dict of sizes."""
    if isinstance(chrom_sizes, Genome):
        return chrom_sizes
    if not isinstance(chrom_sizes, Mapping) or not all(isinstance(n, int | np.integer) for n in chrom_sizes.values()):
        msg = (
            f"chrom_sizes must be a Genome or a dict of chromosome sizes in bp, got {type(chrom_sizes).__name__}; pass one, such as "
            "gpuatac.io.read_genome('hg38')."
        )
        raise InputError(msg)
    return Genome("chrom_sizes", {str(name): int(n) for name, n in chrom_sizes.items()})


def within(frame: pd.DataFrame, genome: Genome) -> pd.DataFrame:
    """Peaks cut at the end of their chromosome, with their summit and blocks; those that begin behind it are left out.

    Chromosomes that the genome lacks are not cut. The frame itself is not changed.
    """
    import pandas as pd

    if not len(frame):
        return frame
    which, names = pd.factorize(frame["chrom"])
    sizes = np.append(genome.sizes, np.iinfo(np.int64).max)[genome.codes_of(map(str, names))][which]
    start, end = (frame[name].to_numpy(np.int64) for name in ("start", "end"))
    if not (over := end > sizes).any():
        return frame
    frame = frame.assign(end=np.minimum(end, sizes).astype(frame["end"].dtype))
    if "peak" in frame:
        held = frame["peak"].to_numpy()
        frame["peak"] = np.where(over, np.minimum(held, np.maximum(sizes - start - 1, -1)), held).astype(held.dtype)
    if set(BLOCKS) <= set(frame):
        columns = {name: frame[name].to_numpy(object, copy=True) for name in BLOCKS}
        for i in np.flatnonzero(over & (start < sizes)).tolist():
            cut = _blocks_within(columns[BLOCKS[0]][i], columns[BLOCKS[1]][i], int(sizes[i] - start[i]))
            columns[BLOCKS[0]][i], columns[BLOCKS[1]][i] = cut
        frame = frame.assign(**columns)
    there = start < sizes
    return frame if there.all() else frame[there].reset_index(drop=True)


def _blocks_within(sizes: str, starts: str, length: int) -> tuple[str, str]:
    """Block sizes and starts of a region cut to ``length`` bp; the last block ends with the region, as BED asks."""
    own = [(int(a), int(a) + int(n)) for a, n in zip(starts.split(","), sizes.split(","), strict=True)]
    own = [(a, min(b, length)) for a, b in own if a < length]
    if own[-1][1] < length:
        own.append((length - 1, length))
    return ",".join(str(b - a) for a, b in own), ",".join(str(a) for a, _ in own)


def line_name(name: str, longest: int = LONGEST_NAME) -> str:
    """``name`` for a column of a file: tabs, line ends and the like become "_", and what is too long is cut."""
    return "".join(c if c.isprintable() else "_" for c in name)[:longest]
