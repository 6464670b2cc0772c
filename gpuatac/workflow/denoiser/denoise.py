"""The job behind ``gpuatac denoise``: cells, bulk samples or tracks to denoised tracks and peaks in files."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gpuatac import check
from gpuatac.backend import get, resolve
from gpuatac.core.track_source import FOOTPRINT_HALF_WIDTH
from gpuatac.errors import InputError
from gpuatac.io.genome.sizes import read_genome
from gpuatac.io.tracks.file_tracks import FileTracks
from gpuatac.memory import set_memory
from gpuatac.tl import denoising as shared
from gpuatac.workflow.groups.inputs import cells_and_groups
from gpuatac.workflow.groups.shared import check_targets, input_paths

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from gpuatac.backend import Device
    from gpuatac.genome import Genome


@dataclass(frozen=True)
class Denoised:
    """What was denoised and written."""

    files: dict[str, dict[str, Path]]  # "signal", "probability", "peaks": by group
    depth: dict[str, float]  # cuts of each group's library
    n_cells: dict[str, int]  # empty for tracks
    n_peaks: dict[str, int]
    peaks: pd.DataFrame
    seconds: float


def denoise(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    model: str | Path | tuple[Any, Any] | None = None,
    groupby: str | None = None,
    groups: str | Path | None = None,
    selections: Sequence[str] | None = None,
    genome: str | Path | None = None,
    contigs: Literal["main", "all"] | None = None,
    names: Sequence[str] | None = None,
    bulk: bool = False,
    bam_options: Mapping[str, Any] | None = None,
    depth: float | Sequence[float] | None = None,
    regions: Any = None,
    blacklist: str | Path | None = None,
    extra: Sequence[str | Path] | None = None,
    footprint: bool = False,
    dilation: int | tuple[int, int] | None = None,
    cutoff: float = 0.5,
    max_gap: int = 30,
    min_length: int = 200,
    prefix: str = "",
    output_format: Literal["bigwig", "bedgraph"] = "bigwig",
    tracks: Sequence[str] = shared.TRACKS,
    decimals: int = 1,
    probability_decimals: int = shared.PROBABILITY_DECIMALS,
    resolution: int = 1,
    signal_depth: float | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    compiled: bool = False,
    device: Device = "auto",
    memory: str | int | None = None,
    force: bool = False,
) -> Denoised:
    """Denoised tracks and peaks of groups of cells, bulk samples or tracks.

    Writes into ``out``: {prefix}{group}.signal.bw, .probability.bw and .peaks.bed (chrom, start, end, length, mean and maximum of the
    signal, summit as an offset and as a position). All take their places together at the end.

    Parameters
    ----------
    inputs
        An .h5ad written by gpuatac; or fragment files (10x fragments.tsv.gz, BED, BAM, a .fragments data set), one for each sample; or
        bigWig or bedGraph tracks of coverage at single bases, each one group.
    out
        Output folder, made when it is not there.
    model, blacklist, cutoff, max_gap, min_length, tracks, decimals, probability_decimals, resolution, signal_depth, dilation, \
precision, compiled
        As in ``tl.denoise``.
    selections
        Groups to denoise; by default all.
    prefix
        Start of the file names.
    output_format
        Format of the tracks: "bigwig" or "bedgraph".
    groupby
        Column of the .h5ad's cells, or of ``groups``, that holds the groups. Without groups each sample is one.
    groups, genome, contigs, names, bulk, bam_options, device, memory, force
        As in ``workflow.peaks``. ``names`` also names the groups of tracks.
    depth
        Of tracks: reads of each library, or of all; by default counted in the track, which must then hold the whole genome.
    regions
        What to denoise: chromosomes, regions such as chr2:1000-9000 (0-based, half-open) or BED files; by default the genome.
    extra
        Extra input tracks, in the order the model was trained with: BED (by strand), bigWig or bedGraph.
    footprint
        Coverage of 5 bp on each side of a cut, not 100, for a model trained on it.

    Raises
    ------
    OutputExistsError, InputError
        As in ``peaks``; nothing is written then.
    MissingExtraError
        When PyTorch is not installed.

    Examples
    --------
    >>> from gpuatac.workflow.denoiser.denoise import denoise
    >>> denoise("s.h5ad", "denoised", model="model.pt", groupby="leiden")  # doctest: +SKIP
    """
    check.extra("torch", "nn", "denoising")
    from gpuatac.nn.denoising.examples.extra_tracks import is_signal
    from gpuatac.nn.denoising.inference import ready_model

    began = time.perf_counter()
    rule = shared.peak_rule(cutoff, max_gap, min_length)
    asked = shared.checked_outputs(
        out,
        prefix=prefix,
        form=output_format,
        tracks=tracks,
        decimals=decimals,
        probability_decimals=probability_decimals,
        resolution=resolution,
    )
    if memory is not None:
        set_memory(memory)
    paths = input_paths(inputs)
    for path in paths:
        check.existing_file(path, "input")
    read = [*paths, *(Path(p) for p in (groups, blacklist, *(extra or ())) if p is not None)]
    if isinstance(model, str | Path):
        check.existing_file(Path(model), "model")
        read.append(Path(model))
    bk = get(resolve(device).name)
    network, card = ready_model(model, bk, dilation=dilation)
    if footprint:
        if dilation is None and card.half_width != FOOTPRINT_HALF_WIDTH:
            msg = (
                f"footprint asks for coverage within {FOOTPRINT_HALF_WIDTH} bp of a base, and the model was trained on "
                f"{card.half_width} bp; leave it out (--footprint), or take a model trained with it."
            )
            raise InputError(msg)
        card = card._replace(half_width=FOOTPRINT_HALF_WIDTH)  # what a published checkpoint does not tell
    half_width = card.half_width
    n_cells: dict[str, int] = {}
    if any(is_signal(path) for path in paths):
        beside = {"groupby": groupby, "groups": groups, "contigs": contigs, "blacklist": blacklist, "bulk": bulk or None,
                  "select": selections, **(bam_options or {})}  # fmt: skip
        source: Any = _file_tracks(
            paths,
            genome,
            names,
            depth,
            half_width=half_width,
            device=bk.name,
            beside=[name for name, value in beside.items() if value is not None],
        )
    else:
        if depth is not None:
            msg = "depth is given for fragments, whose reads are counted; allowed: for tracks; leave it out (--depth)."
            raise InputError(msg)
        given = cells_and_groups(
            paths, groupby=groupby, groups=None if groups is None else Path(groups), replicate=None,
            genome=None if genome is None else str(genome), contigs=contigs, names=names, bulk=bulk,
            bam=dict(bam_options or {}), device=bk.name,
        )  # fmt: skip
        found, members = shared.members_of(given.adata, given.groups, selections)
        n_cells = {name: int(rows.size) for name, rows in zip(found, members, strict=True)}
        source = shared.fragment_tracks(given.adata, members, found, half_width=half_width, blacklist=blacklist)
    files = asked.paths([str(name) for name in source.groups])
    check_targets([path for by_group in files.values() for path in by_group.values()], read, force=force)
    frame, files = shared.denoise_source(
        source, network, card, out=asked, rule=rule, regions=shared.region_set(regions, source.genome),
        extra=shared.extra_of(extra, source.genome, card), precision=precision, signal_depth=signal_depth, compiled=compiled,
    )  # fmt: skip
    return Denoised(
        files,
        {str(name): float(reads) for name, reads in zip(source.groups, source.depth, strict=True)},
        n_cells,
        {str(name): int(n) for name, n in frame["group"].value_counts(sort=False).items()},
        frame,
        time.perf_counter() - began,
    )


def _file_tracks(
    paths: list[Path],
    genome: str | Path | None,
    names: Sequence[str] | None,
    depth: float | Sequence[float] | None,
    *,
    half_width: int,
    device: Device,
    beside: list[str],
) -> FileTracks:
    from gpuatac.nn.denoising.examples.extra_tracks import is_signal

    other = [path.name for path in paths if not is_signal(path)]
    if other:
        msg = f"{other[0]} is no track and {len(paths) - len(other)} inputs are; allowed: tracks or fragments; give one kind."
        raise InputError(msg)
    if beside:
        msg = f"{', '.join(beside)} cannot be set for tracks, each of which is one group; allowed: for fragments; leave it out."
        raise InputError(msg)
    sizes: Genome | None = None if genome is None else read_genome(str(genome), contigs="all")
    depths = None
    if depth is not None:
        depths = [float(d) for d in ([depth] if isinstance(depth, int | float) else depth)]
        depths = depths * len(paths) if len(depths) == 1 else depths
        if len(depths) != len(paths):
            msg = f"{len(depths)} depths for {len(paths)} tracks; give one for each, or one for all (--depth)."
            raise InputError(msg)
    if names is not None and len(set(names)) != len(paths):
        msg = f"{len(set(names))} distinct names for {len(paths)} tracks; give one for each (--names)."
        raise InputError(msg)
    return FileTracks(paths, genome=sizes, groups=names, depth=depths, half_width=half_width, device=device)
