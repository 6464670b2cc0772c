"""Denoising of groups of cells or of files: its options checked, the source opened, peaks and files written."""

from __future__ import annotations

import itertools
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
from gpuatac.io.fragments.attach import attached
from gpuatac.io.fragments.store import backend_holding
from gpuatac.io.genome.bed import regions_frame
from gpuatac.io.genome.regions import parse_regions, refuse_beyond
from gpuatac.io.tracks import outputs
from gpuatac.io.tracks.fragment_tracks import FragmentTracks

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
    """Chromosomes and regions as disjoint ascending stretches; None for all of the genome.

    Rows of a BED file or a frame that end behind the end of their chromosome end there; regions in words must not.
    """
    if regions is None:
        return None
    if isinstance(regions, str) and not regions.strip():
        regions = [regions]
    if isinstance(regions, str) and not Path(regions).exists():
        regions = [regions]
    if isinstance(regions, str | Path | pd.DataFrame) or hasattr(regions, "to_pandas"):
        frame = regions_frame(regions, genome)
    else:
        frame = _named(check.several("regions", regions, what="a region such as chr1:1000-9000, a BED file,"), genome)
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
        if not isinstance(name, str | Path) or not str(name).strip():
            found = "is empty" if isinstance(name, str) else f"is no text ({type(name).__name__})"
            msg = (
                f"region {name!r} {found}; allowed: names like chr1 or chr1:1000-9000, or a BED file; correct it, or leave regions out "
                "(--regions) for the whole genome."
            )
            raise InputError(msg)
        if (one := parse_regions([str(name)], genome)) is not None:
            refuse_beyond(one, genome)
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
