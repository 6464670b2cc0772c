"""Denoised tracks and peaks of groups of cells."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from gpuatac import check, slots
from gpuatac.io.fragments.attach import genome_of
from gpuatac.io.genome.regions import window_of
from gpuatac.provenance import records
from gpuatac.tl.denoising import (
    PROBABILITY_DECIMALS,
    TRACKS,
    backend_of_fragments,
    checked_outputs,
    denoise_source,
    extra_of,
    fragment_tracks,
    members_of,
    peak_rule,
    region_set,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData


class DenoisedTracks(NamedTuple):
    """Tracks over one region, bp by bp: host float32 (n_groups, end - start)."""

    groups: list[str]
    depth: np.ndarray  # float64 (n_groups,): cuts of each library
    chrom: str
    start: int
    end: int
    noisy: np.ndarray
    signal: np.ndarray
    probability: np.ndarray


@records("tl.denoise")
def denoise(
    adata: AnnData,
    groupby: str | Sequence[str] | None = None,
    *,
    model: str | Path | tuple[Any, Any] | None = None,
    selections: Collection[str] | None = None,
    regions: Any = None,
    blacklist: Any = None,
    cutoff: float = 0.5,
    max_gap: int = 30,
    min_length: int = 200,
    out_dir: str | Path | None = None,
    prefix: str = "",
    output_format: Literal["bigwig", "bedgraph"] = "bigwig",
    tracks: Sequence[str] = TRACKS,
    decimals: int = 1,
    probability_decimals: int = PROBABILITY_DECIMALS,
    resolution: int = 1,
    signal_depth: float | None = None,
    extra: Any = None,
    dilation: int | tuple[int, int] | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    compiled: bool = False,
    key_added: str = slots.DENOISED,
    inplace: bool = True,
) -> pd.DataFrame | None:
    """Denoise the track of each group of cells by a neural network and call peaks on it, all groups in one batch.

    Reads   fragments; obs[groupby].
    Writes  uns[key_added]: one frame, rows by group, chromosome and position: group (categorical), chrom (categorical), start,
            end (int32, 0-based half-open), length (int32, bp), mean, max (float32: of the signal over the peak), peak (int32:
            summit - start), summit (int32: position of the first maximum). ``peaks_by_group`` gives it by group.
            uns[key_added + "_record"]: groups, depth (float64: cuts of each), n_peaks, model (JSON of its card), files.
            With ``out_dir``: {prefix}{group}.signal.bw, .probability.bw and .peaks.bed; all take their places together, existing
            files are replaced.

    A peak is a run of bases of probability ``cutoff`` or more, runs joined over gaps of at most ``max_gap`` bp, ``min_length``
    bp or longer (MACS2's bdgpeakcall). The signal is coverage, cuts within 100 bp (or what the model was trained on), of a library
    of the depth the model was trained to give.

    Parameters
    ----------
    adata, groupby
        Cells with fragments and their groups, as in ``call_peaks``.
    model
        A checkpoint, of gpuatac or as AtacWorks published them; or (module, ModelCard); None for the weights that ship.
    selections
        Groups to denoise; None for all.
    regions
        What to denoise: chromosomes and regions such as ["chr1", "chr2:1000-9000"] (0-based half-open), a BED file or a
        frame (rows that end behind their chromosome end there); None for every chromosome with a fragment, from end to end.
    blacklist
        Fragments that overlap these regions are left out: a BED file, a frame or names.
    cutoff
        Lowest probability of a base in a peak, in (0, 1].
    max_gap
        Widest gap bridged, in bp.
    min_length
        Shortest peak, in bp.
    out_dir
        Folder of the files; None: no files.
    prefix
        Start of the file names.
    output_format
        Format of the tracks: "bigwig" or "bedgraph".
    tracks
        Which tracks are written: "signal", "probability", both, or none (an empty list).
    decimals
        Digits of the signal behind the point, 0 to 4.
    probability_decimals
        Digits of the probability behind the point, 0 to 4; each makes its file about four times as large.
    resolution
        Bases that are averaged to one value of the tracks, 1 to 10,000.
    signal_depth
        Reads of a library to scale the signal to; by default that of the model.
    extra
        Extra input tracks of models trained with them, in that order: BED (by strand), bigWig or bedGraph.
    dilation
        Of a published checkpoint, whose file does not tell it: one (8), or two where the blocks for peaks have another (8 10).
    precision
        "float32", or "bfloat16" for about half the time on hardware that has it.
    compiled
        Compile the network first; pays on large genomes.
    key_added
        Where in uns the results go.
    inplace
        False returns the frame and writes nothing to ``adata``.

    Raises
    ------
    InputError
        For options out of range, and where data and model do not fit. A warning tells of depths far from the model's.

    Cost: that of the network, ``gpuatac info`` names the device; files are written while computing.

    Source: Lal et al., Nature Communications 12:1507 (2021).

    Examples
    --------
    >>> import gpuatac as ga
    >>> ga.tl.denoise(adata, "leiden", model="model.pt", out_dir="denoised")  # doctest: +SKIP
    """
    check.extra("torch", "nn", "tl.denoise")
    from gpuatac.nn.denoising.inference import ready_model

    rule = peak_rule(cutoff, max_gap, min_length)
    out = None
    if out_dir is not None:
        out = checked_outputs(
            out_dir,
            prefix=prefix,
            form=output_format,
            tracks=tracks,
            decimals=decimals,
            probability_decimals=probability_decimals,
            resolution=resolution,
        )
    genome = genome_of(adata)
    wanted = region_set(regions, genome)
    groups, members = members_of(adata, groupby, selections)
    network, card = ready_model(model, backend_of_fragments(adata), dilation=dilation)
    source = fragment_tracks(adata, members, groups, half_width=card.half_width, blacklist=blacklist)
    frame, files = denoise_source(
        source, network, card, out=out, rule=rule, regions=wanted, extra=extra_of(extra, genome, card),
        precision=precision, signal_depth=signal_depth, compiled=compiled,
    )  # fmt: skip
    if not inplace:
        return frame
    adata.uns[key_added] = frame
    adata.uns[f"{key_added}_record"] = {
        "groups": np.array(groups, dtype=object),
        "depth": np.asarray(source.depth, np.float64),
        "n_peaks": frame["group"].value_counts(sort=False).to_numpy(np.int64),
        "model": json.dumps(card._asdict(), default=str),
        "files": np.array([str(path) for by_group in files.values() for path in by_group.values()], dtype=object),
    }
    return None


def denoised_tracks(
    adata: AnnData,
    groupby: str | Sequence[str] | None = None,
    *,
    region: str | tuple[str, int, int],
    model: str | Path | tuple[Any, Any] | None = None,
    selections: Collection[str] | None = None,
    blacklist: Any = None,
    signal_depth: float | None = None,
    extra: Any = None,
    dilation: int | tuple[int, int] | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
) -> DenoisedTracks:
    """The noisy and the denoised tracks of each group over one region, for figures.

    Reads   fragments; obs[groupby].
    Returns a named tuple: groups, depth, chrom, start, end, and host float32 (n_groups, bases) noisy (coverage as it is), signal and
            probability.

    Parameters
    ----------
    adata, groupby, model, selections, blacklist, signal_depth, extra, dilation, precision
        As in ``denoise``.
    region
        "chr1:1,000-9,000" or (chrom, start, end), 0-based half-open; "chr1:1000-" up to the end, or the name of a chromosome.

    Raises
    ------
    InputError
        As ``denoise``, and for a region that is not one stretch of the genome: a BED file, a list, an end behind the chromosome's.

    Cost: that of the region with the network's reach on both sides.

    Examples
    --------
    >>> import gpuatac as ga
    >>> at = ga.tl.denoised_tracks(adata, "leiden", region="chr1:1000000-1050000", model="model.pt")  # doctest: +SKIP
    """
    check.extra("torch", "nn", "tl.denoised_tracks")
    from gpuatac.nn.denoising.inference import ready_model, tracks_at

    genome = genome_of(adata)
    code, start, end = window_of(genome, region)
    groups, members = members_of(adata, groupby, selections)
    network, card = ready_model(model, backend_of_fragments(adata), dilation=dilation)
    source = fragment_tracks(adata, members, groups, half_width=card.half_width, blacklist=blacklist)
    found = tracks_at(
        network, card, source, (code, start, end), extra=extra_of(extra, genome, card), precision=precision,
        signal_depth=signal_depth,
    )  # fmt: skip
    return DenoisedTracks(groups, np.asarray(source.depth), genome.names[code], start, end, *found)
