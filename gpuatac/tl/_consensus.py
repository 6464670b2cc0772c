"""Peaks of many groups to one set of regions."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from gpuatac import check, slots
from gpuatac.backend import host
from gpuatac.core.counting.counts import merge_intervals
from gpuatac.core.counting.regions import coordinates
from gpuatac.core.peaks import consensus
from gpuatac.core.peaks.consensus import Peaks, Regions
from gpuatac.errors import InputError
from gpuatac.io.fragments.attach import genome_of
from gpuatac.io.genome.bed import regions_frame
from gpuatac.io.genome.peak_rows import BLOCKS, genome_given
from gpuatac.io.matrices.feature_names import coordinate_names
from gpuatac.provenance import records

if TYPE_CHECKING:
    from gpuatac.genome import Genome

logger = logging.getLogger(__name__)
PEAK_NAMES = "Peaks"  # as SnapATAC2 calls them
_GROUP = "group"
OF_GROUP = " (group)"  # behind the name of a group that is called like another column


class _Group(NamedTuple):
    name: str
    replicates: list[Peaks]

    @property
    def all(self) -> Peaks:
        return consensus.joined(self.replicates)


@records("tl.merge_peaks", in_frame=True)
def merge_peaks(
    peaks: Any,
    chrom_sizes: Any = None,
    *,
    half_width: int = 250,
    flavor: Literal["snapatac2", "archr"] = "snapatac2",
    by: str = "p_value",
    blacklist: Any = None,
    reproducibility: int = 2,
    n_cells: Mapping[str, int] | None = None,
    peaks_per_cell: int = 500,
    max_peaks: int = 150_000,
) -> pd.DataFrame:
    """Merge the peaks of groups into disjoint regions of one width.

    A peak stands for the window [summit - half_width, summit + half_width + 1). Of overlapping windows the best one stays
    and drops those it overlaps, then the next best of the rest, and so on; equal scores fall to the last one by position.

    "snapatac2" does so with all peaks at once, scored by ``by`` as they are. Starts are cut at base 0 before, ends at the
    end of the chromosome after. Rows, their order and the group columns equal SnapATAC2 2.9.0.

    "archr" drops windows that leave the chromosome or meet the blacklist, thins each replicate by itself, and ranks what is
    left: floor(mean rank) / number, 1 for the best. The replicates of a group are thinned together by that rank, kept where
    windows of ``reproducibility`` of them overlap, ranked anew and cut to the group's ``peaks_per_cell * n_cells`` and
    ``max_peaks`` best. Last, the groups are thinned together by rank. (ArchR rounds its ranks to three digits; here
    they are not rounded.)

    Parameters
    ----------
    peaks
        One frame for each group in a dict; or one frame with a column "group"; or an AnnData whose ``uns["peaks"]`` is such
        a frame. Columns: chrom, start, end (0-based half-open), peak (summit, counted from start; one before base 0 counts as
        base 0) and ``by``; broad regions, which have no summit, count from their middle. In place of a frame a group may have a
        dict of frames by replicate. Groups may be empty.
    chrom_sizes
        A Genome, or a dict of sizes in bp; an AnnData brings its own.
    half_width
        bp on either side of the summit.
    flavor
        "snapatac2" or "archr".
    by
        Column that ranks peaks, largest first; "p_value" holds -log10 p.
    blacklist
        archr: regions to avoid, as ``pp.make_peak_matrix`` takes them.
    reproducibility
        archr: replicates a peak must be seen in; without meaning for groups of one replicate.
    n_cells
        archr: cells of each group, which limit its peaks; None leaves ``max_peaks`` alone.
    peaks_per_cell, max_peaks
        archr: most peaks of a group, per cell and in all.

    Returns
    -------
    DataFrame: "Peaks" ("chr:start-end"), "chrom" (categorical), "start", "end" (int64), and for each group, in the order
    given, a bool column: True where one of its peaks, from start to end, overlaps the region ("start (group)" for a group of the
    name of another column). Rows go by position of the chain of overlapping windows they come from, within a chain by
    significance. ``pp.history`` of it tells the parameters.

    Raises
    ------
    InputError
        When a column is missing, a chromosome is not in the genome, or there is no peak.

    Source: Corces et al. 2018 (iterative overlap); Granja et al. 2021 (ArchR). Cost: n log n for n peaks.

    Examples
    --------
    >>> import pandas as pd, gpuatac as ga
    >>> one = pd.DataFrame({"chrom": ["chr1"], "start": [900], "end": [1100], "peak": [100], "p_value": [50.0]})
    >>> two = pd.DataFrame({"chrom": ["chr1"], "start": [1200], "end": [1300], "peak": [10], "p_value": [5.0]})
    >>> ga.tl.merge_peaks({"B": one, "T": two}, {"chr1": 10_000})[["Peaks", "B", "T"]].values.tolist()
    [['chr1:750-1251', True, True]]
    """
    half_width = check.integer("half_width", half_width, 0, 2**28)
    check.one_of("flavor", flavor, ("snapatac2", "archr"))
    genome = _genome(peaks, chrom_sizes)
    groups = _groups(peaks, genome, by)
    if flavor == "snapatac2":
        pool = consensus.joined([peaks for group in groups for peaks in group.replicates])
        regions = consensus.best_windows(host().windows, pool, half_width)
    else:
        check.integer("reproducibility", reproducibility, 1)
        avoid = _avoided(blacklist, genome)
        best = []
        for group in groups:
            n = None if n_cells is None else _cells_of(n_cells, group.name)
            most = max_peaks if n is None else min(max_peaks, peaks_per_cell * n)
            best.append(_archr(group, genome, half_width, avoid, reproducibility, most))
        regions = consensus.best_windows(host().windows, consensus.joined(best), half_width)
    return _table(consensus.clipped(regions, genome.sizes), groups, genome)


def _genome(peaks: Any, chrom_sizes: Any) -> Genome:
    """The genome given as such or by its sizes, or that of an AnnData."""
    if chrom_sizes is None and hasattr(peaks, "uns"):
        return genome_of(peaks)
    return genome_given(chrom_sizes)


def _archr(group: _Group, genome: Genome, half_width: int, avoid: Any, reproducibility: int, most: int) -> Peaks:
    replicates = []
    for peaks in group.replicates:
        keep = consensus.inside(peaks, half_width, genome.sizes)
        if avoid is not None:
            keep &= consensus.outside_of(peaks, half_width, avoid)
        replicates.append(peaks.take(np.flatnonzero(keep)))
    return consensus.reproducible(
        host().windows,
        replicates,
        half_width=half_width,
        n_chroms=len(genome.names),
        reproducibility=reproducibility,
        most=most,
    )


def _cells_of(n_cells: Mapping[str, int], name: str) -> int:
    if name not in n_cells:
        msg = f"n_cells has no group {name!r}; give the number of cells of every group or pass n_cells=None."
        raise InputError(msg)
    return check.integer(f"n_cells[{name!r}]", n_cells[name], 0)


def _avoided(blacklist: Any, genome: Genome) -> Any:
    if blacklist is None:
        return None
    at = coordinates(regions_frame(blacklist, genome, may_be_empty=True), genome, what="blacklisted regions")
    return merge_intervals(at.chrom, at.start, at.end)


# --------------------------------------------------------------------------------------------- peaks as they come


def _groups(peaks: Any, genome: Genome, by: str) -> list[_Group]:
    """The peaks of each group and replicate, in the order given."""
    if type(peaks).__name__ == "AnnData":
        peaks = slots.uns_of(peaks, slots.PEAKS, writer="tl.call_peaks")
    if not isinstance(peaks, Mapping):
        return _of_frame(_frame(peaks, "peaks"), genome, by)
    groups = []
    for name, given in peaks.items():
        parts = list(given.items()) if isinstance(given, Mapping) else [(None, given)]
        replicates = []
        for replicate, part in parts:
            what = f"peaks of group {name!r}" + ("" if replicate is None else f", replicate {replicate!r}")
            replicates.append(_peaks(_frame(part, what), genome, by, what))
        groups.append(_Group(str(name), replicates or [_nothing()]))
    return _checked(groups)


def _of_frame(frame: pd.DataFrame, genome: Genome, by: str) -> list[_Group]:
    if _GROUP not in frame:
        msg = f"peaks has no column {_GROUP!r} (it has {_names(frame)}); add one or pass a dict of frames by group."
        raise InputError(msg)
    column = frame[_GROUP]
    check.none_true(column.isna().to_numpy(), "peaks have no group", "correct the peaks")
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes, names = column.cat.codes.to_numpy(), column.cat.categories
    else:
        codes, names = pd.factorize(column)
    everything = _peaks(frame, genome, by, "peaks")
    order = np.argsort(codes, kind="stable")
    ends = np.searchsorted(codes[order], np.arange(len(names) + 1))
    parts = [everything.take(order[a:b]) for a, b in itertools.pairwise(ends.tolist())]
    return _checked([_Group(str(name), [part]) for name, part in zip(names, parts, strict=True)])


def _checked(groups: list[_Group]) -> list[_Group]:
    names = [group.name for group in groups]
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        msg = f"group names must differ from each other, got {twice[0]!r} twice; rename one."
        raise InputError(msg)
    if not any(peaks.chrom.size for group in groups for peaks in group.replicates):
        msg = f"none of the {len(groups)} groups has a peak; call peaks with a weaker cut-off."
        raise InputError(msg)
    return groups


def _frame(given: Any, what: str) -> pd.DataFrame:
    frame = given.to_pandas() if hasattr(given, "to_pandas") else given
    if not isinstance(frame, pd.DataFrame):
        msg = f"{what} must be a frame with columns chrom, start, end, peak, got {type(given).__name__}; see tl.call_peaks."
        raise InputError(msg)
    return frame


def _names(frame: pd.DataFrame) -> str:
    return ", ".join(map(str, frame.columns)) or "no column"


def _nothing() -> Peaks:
    none = np.empty(0, np.int32)
    return Peaks(none, none, none, np.empty(0, np.int64), np.empty(0))


def _peaks(frame: pd.DataFrame, genome: Genome, by: str, what: str) -> Peaks:
    if not len(frame):
        return _nothing()
    missing = [c for c in (slots.CHROM, slots.START, slots.END, "peak", by) if c not in frame]
    if missing:
        msg = f"{what} lack the column {', '.join(missing)} (found {_names(frame)}); add it, or pass by=... for the score."
        raise InputError(msg)
    chrom = _codes(frame[slots.CHROM], genome, what)
    start, end, offset = (frame[c].to_numpy(np.int64) for c in (slots.START, slots.END, "peak"))
    if set(BLOCKS) <= set(frame):
        offset = np.where(offset < 0, (end - start) // 2, offset)
    score = frame[by].to_numpy(np.float64)
    check.none_true(np.isnan(score), f"{what} have no {by}", "correct or remove them")
    check.none_true((start < 0) | (start > end), f"{what} have start < 0 or start > end", "correct or remove them")
    beyond = start >= genome.sizes[chrom]
    if beyond.all():
        check.none_true(beyond, f"{what} begin behind the end of their chromosome", "give the sizes of the same assembly")
    if beyond.any():
        told = "%d of %d %s begin behind the end of their chromosome and are left out; are the sizes of the same assembly?"
        logger.warning(told, int(beyond.sum()), beyond.size, what)
        chrom, start, end, offset, score = (column[~beyond] for column in (chrom, start, end, offset, score))
    end = np.minimum(end, np.iinfo(np.int32).max)
    summit = np.maximum(start + offset, 0)
    far = summit > genome.sizes[chrom] + np.int64(1 << 20)
    check.none_true(
        far, f"{what} have their summit behind the end of their chromosome", "count it from the start of the peak"
    )
    return Peaks(chrom, start.astype(np.int32), end.astype(np.int32), summit, score)


def _codes(column: pd.Series, genome: Genome, what: str) -> np.ndarray:
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes, names = column.cat.codes.to_numpy(), column.cat.categories
    else:
        codes, names = pd.factorize(column)
    of_name = np.append(genome.codes_of(map(str, names)), np.int32(-1))
    chrom: np.ndarray = of_name[codes]
    if (chrom < 0).any():
        wrong = [str(name) for name in dict.fromkeys(column[chrom < 0].astype(object))]
        msg = (
            f"{int((chrom < 0).sum()):,} of {chrom.size:,} {what} lie on chromosomes without a size "
            f"({', '.join(wrong[:5])}); sizes are known for {', '.join(genome.names[:5])}, ...: remove the peaks or add the sizes."
        )
        raise InputError(msg)
    return chrom


def _table(regions: Regions, groups: list[_Group], genome: Genome) -> pd.DataFrame:
    real = np.flatnonzero(regions.start < regions.end)
    regions = Regions(*(column[real] for column in regions))
    table = consensus.membership(host().windows, regions, len(genome.names), [group.all for group in groups])
    chrom = pd.Categorical.from_codes(regions.chrom, list(genome.names))
    columns = {
        PEAK_NAMES: coordinate_names(chrom, regions.start, regions.end).to_numpy(object),
        slots.CHROM: chrom,
        slots.START: regions.start.astype(np.int64),
        slots.END: regions.end.astype(np.int64),
    }
    taken = {*columns, *(group.name for group in groups)}
    for group, row in zip(groups, table, strict=True):
        name = group.name
        while name in columns or (name != group.name and name in taken):
            name += OF_GROUP
        columns[name] = row
    return pd.DataFrame(columns, copy=False)
