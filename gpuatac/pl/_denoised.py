"""Noisy, denoised and clean tracks at a locus, over their peaks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac import check, slots
from gpuatac.core.tracks.locus import bin_edges, nice_bin
from gpuatac.errors import InputError
from gpuatac.io.genome.bed import regions_frame
from gpuatac.io.genome.gene_models import genes_in
from gpuatac.io.genome.sizes import read_genome
from gpuatac.io.tracks.signal_files import open_signal
from gpuatac.pl import _style, _track_data
from gpuatac.pl._palette import colors_for
from gpuatac.pl._track_draw import Scene, draw

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.figure import Figure

    from gpuatac.genome import Genome
    from gpuatac.pl._palette import Palette

#: Rows of these names have these colours, others those of the palette in turn.
COLORS = {"noisy": _style.GREY, "clean": _style.DARK}


def denoised(
    tracks: Any,
    region: str | tuple[str, int, int] | None = None,
    *,
    genome: str | Path | Genome | None = None,
    peaks: Mapping[str, Any] | None = None,
    genes: Genome | str | Path | pd.DataFrame | None = None,
    highlight: Any = None,
    palette: Palette | None = None,
    shared_scale: bool = False,
    bin_size: int | None = None,
    title: str | None = None,
    save: str | Path | None = None,
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """Tracks at a locus one under the other, such as noisy, denoised and clean, each over its peaks.

    Returns a Figure, from the top: title and window; the chromosome with the window marked; one track for each entry, its mean
            in bins, with its peaks under it; genes; positions. Also written to ``save``.

    Parameters
    ----------
    tracks
        By name, in the order to draw: a bigWig or bedGraph file, or an array (n,) of the n bases of the region. Or what
        ``tl.denoised_tracks`` returns, of which the noisy and the denoised track of each group are drawn.
    region
        "chr11:118,300,000-118,400,000" or (chrom, start, end), 0-based half-open; ``tl.denoised_tracks`` tells its own.
    genome
        Name, chrom.sizes file or Genome; None: what a bigWig among the tracks says.
    peaks
        By name of a track: a BED file, a frame, or names of regions (an empty list: none).
    genes
        Genes to draw, as for ``tracks``.
    highlight
        Regions to shade: names, a frame, or a BED file.
    palette
        Colours of the tracks, as for ``embedding``; a dict may name some of them. "noisy" is grey and "clean" black unless
        said otherwise.
    shared_scale
        One scale for all tracks, or one for each: noisy and clean libraries differ in depth.
    bin_size
        bp; default the smallest of 1, 2, 5, 10, ... that gives at most 1,500 bins.
    title
        Default the place.
    save
        A .png, .pdf or .svg file to write as well.
    figsize
        Inches; by default as large as tracks and names need.

    Raises
    ------
    InputError
        No tracks; an array of another length than the region; peaks of a track that is not drawn; a region beyond its chromosome;
        no genome.

    Cost: the bases of the region in each file.

    Examples
    --------
    >>> import numpy as np
    >>> import gpuatac as ga
    >>> noisy = np.repeat([0, 3, 0, 1, 0], 200)
    >>> figure = ga.pl.denoised({"noisy": noisy, "denoised": noisy * 15.5}, ("chr1", 5000, 6000), genome="hg38")
    >>> [ax.get_label() for ax in figure.axes if ax.get_label().startswith("track")]
    ['track:noisy', 'track:denoised']
    >>> found = ga.tl.denoised_tracks(adata, "leiden", region="chr1:5000-6000")  # doctest: +SKIP
    >>> ga.pl.denoised(found, genome="hg38", save="denoised.png")  # doctest: +SKIP
    """
    if hasattr(tracks, "_fields"):
        region = (tracks.chrom, tracks.start, tracks.end) if region is None else region
        tracks = _by_name(tracks)
    if not tracks:
        msg = "tracks is empty; give at least one track by name."
        raise InputError(msg)
    if region is None:
        msg = 'region is not given, and arrays and files do not tell it; pass one, such as region="chr1:5000-6000".'
        raise InputError(msg)
    bin_size = None if bin_size is None else check.integer("bin_size", bin_size, 1)
    opened = {name: _opened(track, genome) for name, track in tracks.items()}
    found = None if genome is None else read_genome(genome)
    if found is None:
        found = next((track.genome for track in opened.values() if hasattr(track, "genome")), None)
    if found is None:
        msg = "genome is None, and arrays do not tell it; pass genome='hg38' or a chrom.sizes file."
        raise InputError(msg)
    window, _ = _track_data.window_of(found, None, gene=None, region=region, upstream=0, downstream=0)
    edges = bin_edges(window.start, window.end, bin_size or nice_bin(window.end - window.start))
    values = np.stack([_means(name, track, window, edges) for name, track in opened.items()])
    given = {name: rows for name, rows in (peaks or {}).items() if not (isinstance(rows, list | tuple) and not rows)}
    unknown = [name for name in given if name not in tracks]
    if unknown:
        msg = f"peaks are given for {unknown[0]!r}, which is no track; allowed: {', '.join(map(repr, tracks))}."
        raise InputError(msg)
    default = iter(slots.default_colors(len(tracks)))
    own = {str(name): COLORS[name] if name in COLORS else next(default) for name in tracks}
    if palette is None:
        palette = own
    elif hasattr(palette, "items"):
        palette = {**own, **{str(name): color for name, color in palette.items()}}
    transcripts = _track_data.annotation(genes)
    scene = Scene(
        chrom=found.names[window.code],
        chrom_size=int(found.sizes[window.code]),
        genome=found.name,
        window=window,
        title=title,
        coverage=_track_data.Coverage(list(tracks), np.zeros(len(tracks), np.int64), edges, values, None),
        unit=f"coverage, mean of {int(edges[1] - edges[0]):,} bp" if edges[1] - edges[0] > 1 else "coverage",
        colors=colors_for(list(own), list(own), palette, of="tracks"),
        shared_scale=shared_scale,
        genes=None if transcripts is None else genes_in(transcripts, found, *window, merge=True),
        gene=None,
        peaks={name: _track_data.bars_in(regions_frame(rows, found), found, window) for name, rows in given.items()},
        consensus=None,
        bands=[],
        links=None,
        highlight=_track_data.shaded(highlight, found, window),
    )
    return draw(scene, save, figsize)


def _opened(track: Any, genome: Any) -> Any:
    if not isinstance(track, str | Path):
        return np.asarray(track)
    return open_signal(track, None if genome is None else read_genome(genome))


def _means(name: str, track: Any, window: Any, edges: np.ndarray) -> np.ndarray:
    if hasattr(track, "genome"):
        track = track.values(window.code, window.start, window.end)
    if track.shape != (window.end - window.start,):
        msg = f"track {name!r} has shape {track.shape}, the region {window.end - window.start:,} bases; give one value for each base."
        raise InputError(msg)
    return np.add.reduceat(track.astype(np.float64), edges[:-1] - window.start) / np.diff(edges)


def _by_name(found: Any) -> dict[str, Any]:
    """The tracks of ``tl.denoised_tracks`` by name: of one group "noisy" and "denoised", of several each with its group."""
    tracks: dict[str, Any] = {}
    for k, group in enumerate(found.groups):
        of = "" if len(found.groups) == 1 else f"{group}, "
        tracks |= {f"{of}noisy": found.noisy[k], f"{of}denoised": found.signal[k]}
    return tracks
