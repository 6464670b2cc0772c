"""Regions of a frame as codes and coordinates of a genome, and the spans that gene activity counts in."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gpuatac.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from gpuatac.genome import Genome

logger = logging.getLogger(__name__)
TRANSCRIPTS = "transcripts"
MOST_LEFT_OUT = 0.5  # of rows on chromosomes that contigs="main" may have left out; more are of another assembly


class Coordinates(NamedTuple):
    """chrom: int32 codes (-1 where the genome lacks the chromosome); start, end: int64, 0-based half-open."""

    chrom: np.ndarray
    start: np.ndarray
    end: np.ndarray


def coordinates(frame: pd.DataFrame, genome: Genome, *, what: str) -> Coordinates:
    """Codes and coordinates of ``frame``; raises when no row lies on a chromosome of the genome.

    Rows on chromosomes that the genome lacks, and rows that reach beyond the end of theirs, are counted in a warning, once
    for a frame whose ``attrs["told"]`` names the genome.
    """
    codes_of_name = {name: genome.code.get(str(name), -1) for name in frame["chrom"].unique()}
    chrom = frame["chrom"].map(codes_of_name).to_numpy(np.int32)
    if len(frame) and (chrom < 0).all():
        found = ", ".join(map(str, list(codes_of_name)[:3]))
        msg = (
            f"none of the {len(frame):,} {what} lies on a chromosome of genome {genome.name} (found {found}; the genome has "
            f"{', '.join(genome.names[:3])}, ...); give regions of the same assembly."
        )
        raise InputError(msg)
    at = Coordinates(chrom, frame["start"].to_numpy(np.int64), frame["end"].to_numpy(np.int64))
    if frame.attrs.get("told") != genome.name:
        _tell_outside(frame, at, genome, what)
    return at


def _tell_outside(frame: pd.DataFrame, at: Coordinates, genome: Genome, what: str) -> None:
    of = f"{Path(frame.attrs['source']).name}: " if "source" in frame.attrs else ""
    absent = at.chrom < 0
    if absent.any():
        expected = what == TRANSCRIPTS or (genome.contigs == "main" and absent.mean() < MOST_LEFT_OUT)
        names = ", ".join(map(str, frame["chrom"][absent].unique()[:3]))
        message = "%s%d of %d %s lie on chromosomes that genome %s lacks (%s) and are passed over"
        told = (of, absent.sum(), len(absent), what, genome.name, names)
        logger.log(logging.INFO if expected else logging.WARNING, message, *told)
    beyond = np.flatnonzero(at.end > np.append(genome.sizes, np.iinfo(np.int64).max)[at.chrom])
    if beyond.size:
        chrom, start, end = frame["chrom"].iloc[beyond[0]], at.start[beyond[0]], at.end[beyond[0]]
        logger.warning(
            "%s%d of %d %s reach beyond the end of their chromosome (%s:%d-%d of %d bp): is %s their assembly?",
            of, beyond.size, len(absent), what, chrom, start, end, genome.sizes[at.chrom[beyond[0]]], genome.name,
        )  # fmt: skip


def gene_spans(
    transcripts: pd.DataFrame,
    genome: Genome,
    *,
    upstream: int,
    downstream: int,
    include_gene_body: bool,
    interval_rule: str,
) -> Coordinates:
    """The span of each transcript in which its gene's activity is counted.

    With L, R the 0-based half-open transcript: + strand [L - upstream, R + downstream), - strand
    [L - downstream, R + upstream). ``interval_rule="snapatac2"`` takes the last base as the exclusive end (R - 1), as
    SnapATAC2 2.9.0 does, and so loses it. Without the gene body both ends are the TSS base: [t - upstream,
    t + 1 + downstream) on +, mirrored on -; under the SnapATAC2 rule without the 1. Clipped to the chromosome.
    """
    at = coordinates(transcripts, genome, what=TRANSCRIPTS)
    plus = (transcripts["strand"] == "+").to_numpy()
    last = at.end - (1 if interval_rule == "snapatac2" else 0)
    first = at.start
    if not include_gene_body:
        tss = np.where(plus, at.start, at.end - 1)
        first, last = tss, tss + (0 if interval_rule == "snapatac2" else 1)
    start = first - np.where(plus, upstream, downstream)
    end = last + np.where(plus, downstream, upstream)
    sizes = np.append(genome.sizes, np.iinfo(np.int32).max)[at.chrom]
    return Coordinates(at.chrom, np.clip(start, 0, sizes), np.clip(end, 0, sizes))
