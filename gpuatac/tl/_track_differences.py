"""Regions where the denoised track of a few cells differs from those of random aggregates."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from gpuatac import check, progress, slots
from gpuatac.core.differential import track_differences as core
from gpuatac.errors import InputError
from gpuatac.io.fragments.attach import genome_of
from gpuatac.io.genome.annotation import transcripts_of
from gpuatac.io.genome.transcripts import tss_table
from gpuatac.provenance import records
from gpuatac.tl._aggregates import random_aggregates, rows_of
from gpuatac.tl.denoising import backend_of_fragments, extra_of, fragment_tracks, region_set

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from anndata import AnnData

    from gpuatac.core.differential.track_differences import Background, Differences, Stretches
    from gpuatac.genome import Genome

logger = logging.getLogger(__name__)
MOST_AT_ONCE = 64  # aggregates
SHARE = 8  # of the memory that tracks of aggregates may take


@records("tl.differential_tracks")
def differential_tracks(
    adata: AnnData,
    samples: Mapping[str, Any],
    *,
    model: str | Path | tuple[Any, Any] | None = None,
    regions: Any = None,
    genes: str | Path | pd.DataFrame | None = None,
    gene_names: Sequence[str] | None = None,
    flank: int = 100_000,
    n_random: int = 1000,
    n_held_out: int = 0,
    n_neighbors: int = 50,
    use_rep: str = slots.X_SPECTRAL,
    cutoff: float = 2.0,
    max_gap: int = 200,
    fdr: float = 0.05,
    min_coverage: float = 1.0,
    total: float | None = None,
    extra: Any = None,
    dilation: int | tuple[int, int] | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    seed: int = 0,
) -> pd.DataFrame:
    """Find regulatory regions of small samples of cells: denoised tracks compared with those of random aggregates.

    Reads   fragments; obsm[use_rep] and what belongs to it, for the random aggregates.
    Returns a frame, rows by sample, chromosome and position: sample (categorical), chrom (categorical), start, end (int32, 0-based
            half-open), z (float64: the largest |z|, with its sign: > 0 more open than at random), p, q (float64, two-sided,
            Benjamini-Hochberg over the sample's regions), coverage, background (float64: means over the region of the scaled track
            and of the random ones), summit (int32: position of that z), with ``n_held_out`` also empirical_q (float64). Regions of q
            (and empirical_q) < ``fdr`` that reach ``min_coverage``.

    ``n_random`` cells are chosen by chance, each taken together with its nearest neighbours, and denoised as the samples are.
    All tracks are scaled to a common total over ``regions``; z at a base is the sample's value less the mean of the random ones,
    over their standard deviation. Bases of |z| > ``cutoff`` with at most ``max_gap`` bp between two of them are a region, its
    top z makes p. This is the published rule. Each of its regions holds a base of |z| > ``cutoff``, and 2 is p = 0.046 already: at the
    defaults q < 0.05 keeps every region, and regions that chance makes are among them. ``n_held_out`` counts those, and empirical_q is
    a rate of false discoveries in truth.

    Parameters
    ----------
    adata
        Cells with fragments and an embedding.
    samples
        {name: names, row numbers or a mask of its cells}, such as ``neighbor_aggregates`` gives. Of as many cells as the random
        aggregates: the spread of a track follows the number of its reads.
    model, extra, dilation, precision
        As in ``denoise``.
    regions
        What is compared, as in ``denoise``. None: what ``genes`` says, else the genome.
    genes, gene_names, flank
        An annotation (GTF, GFF3, BED or a frame of transcripts): the transcription start sites of ``gene_names`` (gene names or
        ids; None for all) with ``flank`` bp on both sides are compared.
    n_random, n_neighbors, use_rep, seed
        Random aggregates of the background, see ``random_aggregates``; at least 3.
    n_held_out
        More random aggregates (50, say), kept out of the background: the regions that they have by the same rule say how many of a
        sample's are by chance. 0 for none, as published.
    cutoff, max_gap
        |z| above which a base is of a region, and bp between two of them at most.
    fdr
        q that regions lie below, in (0, 1].
    min_coverage
        Lowest mean coverage of a region, in the sample or in the background, as a multiple of the mean of the track; 0 for any.
    total
        Sum that tracks are scaled to in ``coverage`` and ``background`` (the authors of AtacWorks took 2.5e9); None: the mean sum
        of the random tracks, so that both are in the model's coverage. z does not depend on it.

    Raises
    ------
    InputError
        For options out of range, unknown cells, and where data and model do not fit.

    Cost: ``n_random`` + samples tracks over the regions through the network; 16 bytes of memory for each base, and 4 for each
    aggregate of a batch, as many as fit an eighth of the memory.

    Source: Lal et al., Nature Communications 12:1507 (2021).

    Examples
    --------
    >>> import gpuatac as ga
    >>> samples = ga.tl.neighbor_aggregates(adata, ["AAAC-1", "TTTG-1"])  # doctest: +SKIP
    >>> ga.tl.differential_tracks(adata, samples, model="model.pt", genes="genes.gtf", gene_names=["GATA1"])  # doctest: +SKIP
    """
    check.extra("torch", "nn", "tl.differential_tracks")
    from gpuatac.nn.denoising.inference import ready_model, signal_over, whole_chromosomes

    check.between("cutoff", cutoff, 0.0)
    check.between("fdr", fdr, 1e-300, 1.0)
    check.between("min_coverage", min_coverage, 0.0)
    max_gap = check.integer("max_gap", max_gap, 0, 10**8)
    n_random = check.integer("n_random", n_random, 3)
    n_held_out = check.integer("n_held_out", n_held_out, 0)
    if total is not None:
        check.between("total", total, 1e-300, 1e300)
    members = {str(name): rows_of(adata, cells, what=f"cells of sample {name!r}") for name, cells in samples.items()}
    if not members:
        msg = "samples is empty; name at least one sample with its cells."
        raise InputError(msg)
    genome = genome_of(adata)
    at = _compared(regions, genes, gene_names, flank, genome)
    drawn = random_aggregates(adata, n_random + n_held_out, n_neighbors=n_neighbors, use_rep=use_rep, seed=seed)
    held_out = _taken_out(drawn, n_held_out, seed)
    if len(drawn) < 3:
        msg = f"{len(drawn)} random aggregates have no spread; allowed: 3 or more, of as many cells; give more cells."
        raise InputError(msg)
    _tell_sizes(members, n_neighbors)
    bk = backend_of_fragments(adata)
    network, card = ready_model(model, bk, dilation=dilation)
    read = extra_of(extra, genome, card)
    if at is None:
        at = whole_chromosomes(
            fragment_tracks(adata, list(members.values()), list(members), half_width=card.half_width)
        )

    def tracks(part: Mapping[str, np.ndarray]) -> Any:
        source = fragment_tracks(adata, list(part.values()), list(part), half_width=card.half_width)
        return signal_over(network, card, source, at, extra=read, precision=precision)

    size = _batch_size(bk, at.n_bases)
    background, mean_total = _background(bk, tracks, drawn, at.n_bases, size)
    level = (mean_total if total is None else total) / at.n_bases  # what a mean of 1 stands for

    def found_in(part: Mapping[str, np.ndarray]) -> Iterator[tuple[str, Differences, np.ndarray]]:
        """(name, regions, those that are kept) of each sample."""
        for some in _batches(part, size):
            values = tracks(some)
            for name, row, factor in zip(some, values, _factors(bk, values, some), strict=True):
                found = core.differences(bk, row, float(factor), background, at, cutoff=cutoff, max_gap=max_gap)
                yield name, found, core.significant(found, fdr=fdr, min_coverage=min_coverage)

    null = [np.abs(found.z[kept]) for _, found, kept in found_in(held_out)]
    frames = []
    for name, found, kept in found_in(members):
        frame = _frame(name, found, kept, level, genome)
        if null:
            frame["empirical_q"] = core.empirical_q(np.abs(found.z[kept]), null)
            frame = frame[frame["empirical_q"] < fdr]
        logger.info("tl.differential_tracks: %s: %d of %d regions", name, len(frame), kept.size)
        frames.append(frame)
    joined = pd.concat(frames, ignore_index=True)
    joined["sample"] = pd.Categorical(joined["sample"], categories=list(members))
    return joined


def _taken_out(drawn: dict[str, np.ndarray], n: int, seed: int) -> dict[str, np.ndarray]:
    """``n`` aggregates by chance, which leave ``drawn``."""
    rng = np.random.default_rng([seed, n])
    names = list(drawn)
    return {names[i]: drawn.pop(names[i]) for i in rng.choice(len(names), min(n, len(names)), replace=False)}


def _background(
    bk: Any, tracks: Callable[[Mapping[str, np.ndarray]], Any], drawn: Mapping[str, np.ndarray], n_bases: int, size: int
) -> tuple[Background, float]:
    """Mean and spread of the random tracks, scaled to a mean of 1, and the mean of their sums."""
    background = core.Background(bk, n_bases)
    totals = 0.0
    with progress.bar("random aggregates", len(drawn), unit="aggregate") as done:
        for part in _batches(drawn, size):
            values = tracks(part)
            factors = _factors(bk, values, part)
            totals += float((n_bases / factors).sum())
            background.add(values, factors)
            done(len(part))
    return background, totals / len(drawn)


def _compared(
    regions: Any, genes: Any, gene_names: Sequence[str] | None, flank: int, genome: Genome
) -> Stretches | None:
    """The stretches that are compared; None for all."""
    if genes is None:
        if gene_names is not None:
            msg = "gene_names is given without genes; pass the annotation (genes) as well."
            raise InputError(msg)
        return region_set(regions, genome)
    if regions is not None:
        msg = "regions and genes are both given; allowed: one of them; leave the other out."
        raise InputError(msg)
    flank = check.integer("flank", flank, 1, 10**9)
    transcripts = transcripts_of(genes, named=gene_names is not None)
    if gene_names is not None:
        wanted = [gene_names] if isinstance(gene_names, str) else [str(name) for name in gene_names]
        named = transcripts["gene_name"].isin(wanted) | transcripts["gene_id"].isin(wanted)
        unknown = set(wanted) - set(transcripts["gene_name"]) - set(transcripts["gene_id"])
        if unknown:
            shown = ", ".join(sorted(unknown)[:3])
            if not named.any():
                msg = (
                    f"none of the {len(wanted)} gene_names is in the annotation ({shown}); give its gene names or ids."
                )
                raise InputError(msg)
            logger.warning("%d of %d gene_names are not in the annotation (%s)", len(unknown), len(wanted), shown)
        transcripts = transcripts[named]
    sites = tss_table(transcripts, genome)
    code, position = sites["chrom_code"].to_numpy(np.int64), sites["pos"].to_numpy(np.int64)
    low, high = np.maximum(position - flank, 0), np.minimum(position + flank + 1, genome.sizes[code])
    return core.stretches_of(code, low, high)


def _tell_sizes(members: Mapping[str, np.ndarray], n_neighbors: int) -> None:
    other = [
        f"{name} {rows.size}" for name, rows in members.items() if not n_neighbors / 2 <= rows.size <= n_neighbors * 2
    ]
    if other:
        logger.warning(
            "tl.differential_tracks: random aggregates have %d cells, %d samples far more or fewer (%s): their z is not on one scale",
            n_neighbors, len(other), ", ".join(other[:3]),
        )  # fmt: skip


def _factors(bk: Any, values: Any, names: Mapping[str, Any]) -> np.ndarray:
    factors = core.scale_factors(bk, values)
    flat = [name for name, factor in zip(names, factors, strict=True) if not np.isfinite(factor)]
    if flat:
        msg = f"the denoised track of {flat[0]} is 0 over all the regions; give regions with fragments, or more cells."
        raise InputError(msg)
    return factors


def _batch_size(bk: Any, n_bases: int) -> int:
    """Aggregates denoised side by side: their tracks take up to an eighth of the memory."""
    return int(np.clip(bk.limit() // SHARE // max(1, 4 * n_bases), 1, MOST_AT_ONCE))


def _batches(members: Mapping[str, np.ndarray], size: int) -> list[dict[str, np.ndarray]]:
    items = list(members.items())
    return [dict(items[i : i + size]) for i in range(0, len(items), size)]


def _frame(name: str, found: Differences, kept: np.ndarray, level: float, genome: Genome) -> pd.DataFrame:
    one = type(found)(*(column[kept] for column in found))
    return pd.DataFrame(
        {
            "sample": np.full(one.start.size, name, dtype=object),
            "chrom": pd.Categorical.from_codes(one.chrom, list(genome.names)),
            "start": one.start,
            "end": one.end,
            "z": one.z,
            "p": one.p,
            "q": one.q,
            "coverage": one.coverage * level,
            "background": one.background * level,
            "summit": one.summit,
        }
    )
