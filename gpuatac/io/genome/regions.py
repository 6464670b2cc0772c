"""Regions in words, such as "chr1:1,000-2,000": the one place that reads them, against the names of a genome."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from gpuatac import check
from gpuatac.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpuatac.genome import Genome

MAX_COORDINATE = 2**31 - 1
_NUMBER = r"(\d{1,3}(?:,\d{3})+|\d+)"
_BEHIND_THE_NAME = re.compile(rf":{_NUMBER}(?:(-){_NUMBER}?)?|[-_](\d+)[-_](\d+)")
_SPELLED_OUT = re.compile(rf"(.+?)(?::{_NUMBER}-{_NUMBER}|[-_](\d+)[-_](\d+))")


class Region(NamedTuple):
    """A stretch of a contig, bp, 0-based half-open."""

    chrom: str
    start: int
    end: int


def parse_region(text: str, genome: Genome | None = None) -> Region | None:
    """The region that ``text`` names, or None where it names none; coordinates are 0-based and half-open.

    ``chr1:1,000-2,000``, ``chr1-1000-2000`` and ``chr1_1000_2000`` are bases 1000 to 1999. With a genome also ``chr1``, the
    whole contig, and ``chr1:500`` or ``chr1:500-``, from base 500 to its end. Numbers may have commas by threes.

    Names of contigs may hold any character (``HLA-A*01:01:01:01``, ``scaffold:1-2``): with a genome the longest of its names
    that the text begins with, and whose rest reads as above, is the contig (``1`` is ``chr1``, too, as everywhere); ``scaffold:1-2``
    is then the contig of that name where there is one, and bases 1 to 2 of ``scaffold`` where there is none. Without a genome,
    or where no name of it fits, what stands before the last two numbers is the contig. Sizes are not checked here.

    Examples
    --------
    >>> from gpuatac import Genome
    >>> genome = Genome("toy", {"chr1": 5000, "HLA-A*01:01": 300})
    >>> tuple(parse_region("chr1:1,000-2,000", genome)), tuple(parse_region("HLA-A*01:01:5-", genome))
    (('chr1', 1000, 2000), ('HLA-A*01:01', 5, 300))
    """
    text = text.strip()
    if genome is not None and (found := _of_genome(text, genome)) is not None:
        return found
    spelled = _SPELLED_OUT.fullmatch(text)
    if spelled is None:
        return None
    name, a, b, c, d = spelled.groups()
    return _checked(name, a or c, b or d)


def _of_genome(text: str, genome: Genome) -> Region | None:
    if text in genome.code:
        return Region(text, 0, int(genome.sizes[genome.code[text]]))
    for at in range(len(text) - 1, 0, -1):
        if text[at] not in ":-_" or text[:at] not in genome.code:
            continue
        rest = _BEHIND_THE_NAME.fullmatch(text[at:])
        if rest is None:
            continue
        start, _, end, start_too, end_too = rest.groups()
        return _checked(text[:at], start or start_too, end or end_too or str(genome.sizes[genome.code[text[:at]]]))
    return None


def _checked(name: str, start: str, end: str) -> Region | None:
    region = Region(name, int(start.replace(",", "")), int(end.replace(",", "")))
    return region if region.start <= region.end <= MAX_COORDINATE else None


def parse_regions(names: Iterable[str], genome: Genome | None = None) -> pd.DataFrame | None:
    """Frame ``chrom`` (str), ``start``, ``end`` (int64) of names as ``parse_region`` reads them; None where one is no region."""
    found = [parse_region(name, genome) if isinstance(name, str) else None for name in names]
    regions = [region for region in found if region is not None]
    if not found or len(regions) < len(found):
        return None
    chrom, start, end = zip(*regions, strict=True)
    return pd.DataFrame({"chrom": list(chrom), "start": np.array(start, np.int64), "end": np.array(end, np.int64)})


def window_on(genome: Genome, text: str, *, what: str = "region") -> tuple[int, int, int]:
    """(code, start, end) of the region that ``text`` names: one base or more, all of them on the genome.

    Raises :class:`InputError` where it does not name one.
    """
    region = parse_region(text, genome)
    if region is None:
        msg = (
            f"{what} must look like chr11:118,300,000-118,400,000 (0-based, the end not included), or be a contig of genome "
            f"{genome.name}, got {text!r}."
        )
        raise InputError(msg)
    return checked_window(genome, *region, what=what)


def checked_window(genome: Genome, chrom: str, start: int, end: int, *, what: str = "region") -> tuple[int, int, int]:
    """(code, start, end) of a region of one base or more that lies on the genome; raises :class:`InputError` otherwise."""
    if chrom not in genome.code:
        msg = f"{what} lies on {chrom!r}, which genome {genome.name} lacks ({', '.join(genome.names[:4])}, ...); correct it."
        raise InputError(msg)
    code = genome.code[chrom]
    size = int(genome.sizes[code])
    if not 0 <= start < end <= size:
        msg = f"{what} must have 0 <= start < end <= {size:,} (the size of {chrom}), got {start:,}-{end:,}; correct it."
        raise InputError(msg)
    return code, int(start), int(end)


def window_of(genome: Genome, region: Any, *, what: str = "region") -> tuple[int, int, int]:
    """(code, start, end) of a region in words or as (chrom, start, end), as ``window_on`` checks it.

    Examples
    --------
    >>> from gpuatac import Genome
    >>> from gpuatac.io.genome.regions import window_of
    >>> genome = Genome("toy", {"chr1": 5000})
    >>> window_of(genome, "chr1:1,000-2,000") == window_of(genome, ("chr1", 1000, 2000))
    True
    """
    if isinstance(region, str):
        return window_on(genome, region, what=what)
    try:
        chrom, start, end = region
        chrom, start, end = str(chrom), int(start), int(end)
    except (TypeError, ValueError):
        msg = f"{what} must look like chr11:118,300,000-118,400,000 or be (chrom, start, end), got {region!r}; write one stretch so."
        raise InputError(msg) from None
    return checked_window(genome, chrom, start, end, what=what)


def refuse_beyond(frame: pd.DataFrame, genome: Genome, *, what: str = "regions") -> None:
    """Raise for a region that ends behind the end of its chromosome; those on other chromosomes are passed over."""
    codes = {name: genome.code.get(str(name), -1) for name in frame["chrom"].unique()}
    code = frame["chrom"].map(codes).to_numpy(np.int64)
    sizes = np.append(genome.sizes, MAX_COORDINATE).astype(np.int64)[code]
    beyond = np.flatnonzero(frame["end"].to_numpy(np.int64) > sizes)
    if beyond.size:
        chrom, start, end = (frame[name].iloc[beyond[0]] for name in ("chrom", "start", "end"))
        size = int(sizes[beyond[0]])
        msg = (
            f"{what} name {chrom}:{start:,}-{end:,}, which ends behind the end of {chrom} in genome {genome.name}; allowed: up to "
            f"{size:,}, its length; correct it, write {chrom}:{min(start, size - 1):,}- up to the end, or give its genome."
        )
        raise InputError(msg)


def lengths_of(var: pd.DataFrame, *, what: str, remedy: str) -> np.ndarray:
    """float64: bp of each row, by its "start" and "end" or else its name.

    Raises InputError where rows have neither, saying that ``what`` have no length and what to do, or are empty.
    """
    if "start" not in var or "end" not in var:
        parsed = parse_regions(var.index)
        if parsed is None:
            msg = f'{what} have no length: var has no "start" and "end", and names are not like chr1:1-2; {remedy}.'
            raise InputError(msg)
        var = parsed
    lengths: np.ndarray = var["end"].to_numpy(np.float64) - var["start"].to_numpy(np.float64)
    check.none_true(lengths <= 0, f"{what} have no length", "remove them")
    return lengths
