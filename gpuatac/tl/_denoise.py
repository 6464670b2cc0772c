"""Denoised tracks and peaks of groups of cells."""

from __future__ import annotations

import itertools
import json
import logging
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from gpuatac import check, slots
from gpuatac.core.counting.regions import coordinates
from gpuatac.core.differential.track_differences import Stretches, stretches_of
from gpuatac.errors import InputError
from gpuatac.ex import _outputs as outputs
from gpuatac.io.fragments.attach import attached, genome_of
from gpuatac.io.fragments.store import backend_holding
from gpuatac.io.genome.bed import regions_frame
from gpuatac.io.genome.regions import parse_regions
from gpuatac.io.tracks.fragment_tracks import FragmentTracks
from gpuatac.provenance import records

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from anndata import AnnData

    from gpuatac.core.track_source import TrackSource
    from gpuatac.genome import Genome

logger = logging.getLogger(__name__)
TRACKS = ("signal", "probability")
ENDS = {"bigwig": ".bw", "bedgraph": ".bedgraph"}
BED_HEADER = "#chrom\tstart\tend\tlength\tmean\tmax\trelative_summit\tsummit\n"
PROBABILITY_DECIMALS = 3
Model = Any  # a path, a (module, ModelCard), or None


class Outputs(NamedTuple):
    """Which files are written and how."""

    out_dir: Path
    prefix: str = ""
    form: Literal["bigwig", "bedgraph"] = "bigwig"
    tracks: tuple[Any, ...] = TRACKS
    decimals: int = 1
    probability_decimals: int = PROBABILITY_DECIMALS
    resolution: int = 1

    def paths(self, groups: Sequence[str]) -> dict[str, dict[str, Path]]:
        """{"signal", "probability" or "peaks": {group: path}}."""
        ends = {**{what: f".{what}{ENDS[self.form]}" for what in self.tracks}, "peaks": ".peaks.bed"}
        return {
            what: dict(
                zip(groups, outputs.targets(self.out_dir, outputs.file_names(groups, self.prefix, end)), strict=True)
            )
            for what, end in ends.items()
        }


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
    adata
        Cells with fragments.
    groupby
        A column of obs, or a label for each cell; None: all cells as one group, named "all".
    model
        A checkpoint, of gpuatac or as AtacWorks published them; or (module, ModelCard); None for the weights that ship.
    selections
        Groups to denoise; None for all.
    regions
        What to denoise: chromosomes and regions such as ["chr1", "chr2:1000-9000"] (0-based half-open), a BED file or a
        frame; None for every chromosome with a fragment, from end to end.
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
    region: str,
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
        "chr1:1,000-9,000" (0-based half-open), "chr1:1000-" up to the end, or the name of a chromosome.

    Raises
    ------
    InputError
        As ``denoise``, and for a region that is not one stretch of the genome.

    Cost: that of the region with the network's reach on both sides.

    Examples
    --------
    >>> import gpuatac as ga
    >>> at = ga.tl.denoised_tracks(adata, "leiden", region="chr1:1000000-1050000", model="model.pt")  # doctest: +SKIP
    """
    from gpuatac.nn.denoising.inference import ready_model, tracks_at

    genome = genome_of(adata)
    one = region_set([region], genome)
    assert one is not None
    groups, members = members_of(adata, groupby, selections)
    network, card = ready_model(model, backend_of_fragments(adata), dilation=dilation)
    source = fragment_tracks(adata, members, groups, half_width=card.half_width, blacklist=blacklist)
    code, start, end = int(one.chrom[0]), int(one.start[0]), int(one.end[0])
    found = tracks_at(
        network, card, source, (code, start, end), extra=extra_of(extra, genome, card), precision=precision,
        signal_depth=signal_depth,
    )  # fmt: skip
    return DenoisedTracks(groups, np.asarray(source.depth), genome.names[code], start, end, *found)


def denoise_source(
    source: TrackSource, network: Any, card: Any, *, out: Outputs | None, **options: Any
) -> tuple[pd.DataFrame, dict[str, dict[str, Path]]]:
    """Peaks of every group, and the files written: {"signal", "probability", "peaks": {group: path}}."""
    from gpuatac.io.tracks.denoised_files import DenoisedWriter
    from gpuatac.nn.denoising.inference import check_fit, factor_of
    from gpuatac.nn.denoising.inference import denoise as engine

    check_fit(network, card, source, extra=options.get("extra"))  # before a folder is made
    factor_of(card, options.get("signal_depth"))
    groups = [str(name) for name in source.groups]
    files = {} if out is None else out.paths(groups)
    with ExitStack() as stack:
        writers = {}
        if out is not None:
            beds = outputs.partials(stack, list(files["peaks"].values()))
            for what in out.tracks:
                decimals = out.decimals if what == "signal" else out.probability_decimals
                writer = DenoisedWriter(
                    files[what],
                    source.genome,
                    what=what,
                    form=out.form,
                    decimals=decimals,
                    resolution=out.resolution,
                    force=True,
                )
                writers[what] = stack.enter_context(writer)
        frame = engine(network, card, source, writers=writers, **options)
        if out is not None:
            for group, path in zip(groups, beds, strict=True):
                path.write_text(bed_text(frame[frame["group"] == group]))
    frame.insert(frame.columns.get_loc("summit"), "peak", (frame["summit"] - frame["start"]).astype(np.int32))
    logger.info(
        "tl.denoise: %s", ", ".join(f"{g} {n:,} peaks" for g, n in frame["group"].value_counts(sort=False).items())
    )
    return frame, files


def bed_text(frame: pd.DataFrame) -> str:
    """Peaks as AtacWorks summarises them: chrom, start, end, length, mean, max, relative summit, summit."""
    columns = [frame[name].to_list() for name in ("chrom", "start", "end", "length", "mean", "max", "summit")]
    lines = [
        f"{chrom}\t{start}\t{end}\t{length}\t{mean:.6g}\t{top:.6g}\t{summit - start}\t{summit}\n"
        for chrom, start, end, length, mean, top, summit in zip(*columns, strict=True)
    ]
    return BED_HEADER + "".join(lines)


def members_of(
    adata: AnnData, groupby: str | Sequence[str] | None, selections: Collection[str] | None
) -> tuple[list[str], list[np.ndarray]]:
    """Groups and the rows of each."""
    groups, number = slots.groups_of(adata, groupby, selections)
    if not groups:
        msg = "no cell has a group; give a column or labels that name some."
        raise InputError(msg)
    order = np.argsort(number, kind="stable")
    edges = np.searchsorted(number[order], np.arange(len(groups) + 1))
    return groups, [order[a:b] for a, b in itertools.pairwise(edges)]


def fragment_tracks(
    adata: AnnData, members: Sequence[np.ndarray], groups: Sequence[str], *, half_width: int, blacklist: Any = None
) -> Any:
    """Tracks of the groups' fragments."""
    return FragmentTracks(adata, members, groups, half_width=half_width, blacklist=blacklist)


def backend_of_fragments(adata: AnnData) -> Any:
    """The backend that the fragments lie on."""
    return backend_holding(attached(adata)[0].fragments)


def extra_of(extra: Any, genome: Genome, card: Any) -> Any:
    """The callable of extra input tracks: of files, or as given; None for none."""
    if extra is None or callable(extra):
        return extra
    from gpuatac.nn.denoising.examples.extra_tracks import check_names, extra_tracks

    paths = [extra] if isinstance(extra, str | Path) else list(extra)
    if not paths:
        return None
    names, read = extra_tracks(paths, genome)
    check_names(names, card)
    return read


def region_set(regions: Any, genome: Genome) -> Stretches | None:
    """Chromosomes and regions as disjoint ascending stretches; None for all of the genome."""
    if regions is None:
        return None
    if isinstance(regions, str) and not Path(regions).exists():
        regions = [regions]
    if isinstance(regions, str | Path | pd.DataFrame) or hasattr(regions, "to_pandas"):
        frame = regions_frame(regions, genome)
    else:
        frame = _named(list(regions), genome)
    at = coordinates(frame, genome, what="regions")
    absent = sorted({str(name) for name, code in zip(frame["chrom"], at.chrom, strict=True) if code < 0})
    if absent:
        msg = f"regions name {', '.join(absent[:3])}, which genome {genome.name} lacks (it has {', '.join(genome.names[:3])}, ...)."
        raise InputError(msg)
    sizes = genome.sizes[at.chrom]
    check.none_true(
        at.start >= sizes, "regions begin behind the end of their chromosome", "give regions of the same assembly"
    )
    found = stretches_of(at.chrom, at.start, np.minimum(at.end, sizes))
    if not found.n_bases:
        msg = "regions hold no base; give at least one of 1 bp or more."
        raise InputError(msg)
    return found


def _named(names: list[Any], genome: Genome) -> pd.DataFrame:
    """A frame of "chr1", "chr2:1000-2000" and paths of BED files."""
    if not names:
        msg = "regions is an empty list; name chromosomes or regions, or leave it out for the whole genome."
        raise InputError(msg)
    parts = []
    for name in names:
        if (one := parse_regions([str(name)], genome)) is not None:
            parts.append(one)
        elif Path(str(name)).exists():
            parts.append(regions_frame(Path(str(name)))[["chrom", "start", "end"]])
        else:
            msg = (
                f"region {name!r} is no chromosome of genome {genome.name}, no region and no file; allowed: names like chr1 or "
                "chr1:1000-9000 with start <= end, or a BED file; correct it."
            )
            raise InputError(msg)
    return pd.concat(parts, ignore_index=True)


def peak_rule(cutoff: float, max_gap: int, min_length: int) -> Any:
    """The checked rule of peaks."""
    from gpuatac.nn.contract import PeakRule

    check.between("cutoff", cutoff, 1e-6, 1.0)
    return PeakRule(
        float(cutoff), check.integer("min_length", min_length, 1, 10**8), check.integer("max_gap", max_gap, 0, 10**8)
    )


def checked_outputs(out_dir: str | Path, **options: Any) -> Outputs:
    """The checked options of files."""
    check.one_of("output_format", options["form"], tuple(ENDS))
    kinds = (options["tracks"],) if isinstance(options["tracks"], str) else tuple(options["tracks"])
    for what in kinds:
        check.one_of("tracks", what, TRACKS)
    for name in ("decimals", "probability_decimals"):
        options[name] = check.integer(name, options[name], 0, 4)
    options["resolution"] = check.integer("resolution", options["resolution"], 1, 10_000)
    if Path(out_dir).exists() and not Path(out_dir).is_dir():
        msg = f"out_dir {out_dir} is a file; allowed: a folder, made when it is not there; choose another name."
        raise InputError(msg)
    return Outputs(Path(out_dir), **{**options, "tracks": tuple(dict.fromkeys(kinds))})
