"""Draws a track figure: every part in axes of its own, placed in inches from the top."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import PatchCollection, PathCollection
from matplotlib.patches import Polygon, Rectangle, StepPatch
from matplotlib.path import Path as Outline

from gpuatac.errors import InputError
from gpuatac.pl import _style
from gpuatac.pl._track_genes import draw_genes, gene_rows
from gpuatac.pl._track_layout import rounded_up, shortened, text_width, ticks

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.patches import Patch

    from gpuatac.core.tracks.locus import Window
    from gpuatac.io.genome.gene_models import GeneModel
    from gpuatac.pl._style import StyledFigure
    from gpuatac.pl._track_data import Band, Bars, Coverage

# inches
MARGIN = 0.08
TITLE, IDEOGRAM, UNIT, LINKS, CONSENSUS, AXIS = 0.2, 0.2, 0.17, 0.4, 0.13, 0.4
PEAK_STRIP = 0.055  # under a track
TRACK_GAP = 0.03
LABELS_MOST = 3.0
RIGHT = 0.42  # for the scale
TRACKS_WIDTH = 4.9
TEXT = 7.0  # points
SMALL = 6.0
HEADING = 8.5
PLACE = 0.16  # inches more where the place stands under the title
GENES_GAP = 0.06
HIGHLIGHT = "#FFE9A8"
STAINS = {
    "gneg": "#FFFFFF", "gpos25": "#D0D0D0", "gpos33": "#BEBEBE", "gpos50": "#A0A0A0", "gpos66": "#808080",
    "gpos75": "#6E6E6E", "gpos100": "#3C3C3C", "gvar": "#DDE3EE", "stalk": "#8FA3C0", "acen": "#B5453C",
}  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """All that a track figure shows."""

    chrom: str
    chrom_size: int
    genome: str
    window: Window
    title: str | None  # None: the place stands there
    coverage: Coverage
    unit: str
    colors: list[str]
    shared_scale: bool
    genes: list[GeneModel] | None  # None: no row of genes
    gene: str | None  # written in bold
    peaks: dict[str, Bars]
    consensus: Bars | None
    bands: list[Band]
    links: pd.DataFrame | None
    highlight: Bars | None


class _Page:
    """Places axes at inches from the upper left corner."""

    def __init__(self, figure: StyledFigure, width: float, height: float, left: float, right: float) -> None:
        self.figure, self.width, self.height = figure, width, height
        self.left, self.inner = left, width - left - right
        self.y = MARGIN  # where the next part begins

    def axes(self, label: str, height: float, *, y: float | None = None) -> Axes:
        top = self.y if y is None else y
        box = (self.left / self.width, 1 - (top + height) / self.height, self.inner / self.width, height / self.height)
        ax = self.figure.add_axes(box, label=label)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
        ax.patch.set_visible(False)
        return ax


def draw(scene: Scene, save: Any, figsize: tuple[float, float] | None) -> StyledFigure:
    """The figure; ``figsize`` None takes what the parts need."""
    import matplotlib as mpl

    with mpl.rc_context(_style.RC):
        n = len(scene.coverage.names)
        track = 0.42 if n <= 6 else 0.3 if n <= 15 else 0.19
        strip = PEAK_STRIP if scene.peaks else 0.0
        size = float(np.clip((track + strip + TRACK_GAP) * 72 * 0.8, 4.5, TEXT + 0.5))
        most = LABELS_MOST if figsize is None else min(LABELS_MOST, 0.45 * figsize[0])
        names = [shortened(name, size, most) for name in scene.coverage.names]
        left = (
            MARGIN + 0.1 + max([text_width(t, size) for t in names] + [text_width(t, TEXT) for t in _row_names(scene)])
        )
        width = left + TRACKS_WIDTH + RIGHT if figsize is None else figsize[0]
        inner = width - left - RIGHT
        if inner < 1.0:
            msg = f"figsize must be at least {left + RIGHT + 1:.1f} inches wide for these group names, got {width:g}."
            raise InputError(msg)
        window = scene.window
        rows = None
        if scene.genes is not None:
            rows = gene_rows(scene.genes, window.start, window.end, inner, bold=scene.gene)
        genes_height = 0.0 if rows is None else GENES_GAP + rows.height
        fixed = (
            MARGIN
            + TITLE
            + (0.0 if _heading(scene, inner)[2] else PLACE)
            + IDEOGRAM
            + UNIT
            + n * (strip + TRACK_GAP)
            + genes_height
            + AXIS
        )
        fixed += (0.0 if scene.links is None else LINKS) + (0.0 if scene.consensus is None else CONSENSUS)
        height = fixed + n * track if figsize is None else figsize[1]
        track = (height - fixed) / n
        if track < 0.05:
            least = fixed + n * 0.05
            parts = f"{n} groups and {0 if rows is None else rows.n_rows} rows of genes"
            msg = f"figsize must be at least {least:.1f} inches high for {parts}, got {height:g}; or leave figsize out."
            raise InputError(msg)
    size = min(size, max((track + strip + TRACK_GAP) * 72 * 0.85, 3.5))
    with _style.canvas(save, (width, height)) as figure:
        figure.set_layout_engine("none")
        page = _Page(figure, width, height, left, RIGHT)
        _header(page, scene)
        below = page.axes("highlight", height - AXIS - page.y - UNIT, y=page.y + UNIT)
        _unit(page, scene)
        _tracks(page, scene, names, track=track, strip=strip, size=size)
        _links(page, scene)
        _consensus(page, scene)
        if rows is not None:
            page.y += GENES_GAP
            ax = page.axes("genes", rows.height)
            _row_name(ax, "Genes", y=1 - 0.5 / rows.n_rows)
            draw_genes(ax, rows, window.start, window.end, inner, bold=scene.gene)
            page.y += rows.height
        _axis(page, scene)
        _shade(below, scene)
    return figure


def _row_names(scene: Scene) -> list[str]:
    rows = [scene.chrom]
    rows += ["Consensus"] if scene.consensus is not None else []
    rows += ["Genes"] if scene.genes is not None else []
    rows += ["Links"] if scene.links is not None else []
    return rows


def _row_name(ax: Axes, text: str, *, y: float = 0.5, size: float = TEXT, **style: Any) -> None:
    """The name of a row, left of it."""
    offset: dict[str, Any] = {"xytext": (-5, 0), "textcoords": "offset points", "xycoords": "axes fraction", "annotation_clip": False}
    label = ax.annotate(text, (0, y), ha="right", va="center", fontsize=size, **offset, **style)
    label.set_parse_math(False)
    label.set_gid("row")


def _header(page: _Page, scene: Scene) -> None:
    """Title, place and length of the window; the chromosome with the window marked."""
    window = scene.window
    ax = page.axes("title", TITLE)
    heading, place, beside = _heading(scene, page.inner)
    name = ax.text(0, 0.55, heading, fontsize=HEADING, fontweight="bold", va="center", ha="left")
    name.set_parse_math(False)
    if not beside:
        page.y += PLACE
        ax = page.axes("place", TITLE)
    ax.text(float(beside), 0.55, place, fontsize=TEXT, va="center", ha="right" if beside else "left", color=_style.DARK)
    page.y += TITLE
    ax = page.axes("chromosome", 0.11, y=page.y + 0.02)
    ax.set(xlim=(0, scene.chrom_size), ylim=(0, 1))
    _row_name(ax, scene.chrom)
    _ideogram(ax, scene, page.inner)
    least = scene.chrom_size / page.inner * 0.025
    middle, half = (window.start + window.end) / 2, max((window.end - window.start) / 2, least / 2)
    mark = Rectangle(
        (middle - half, -0.25), 2 * half, 1.5, facecolor="none", edgecolor=_style.RED, linewidth=1.1, zorder=4
    )
    mark.set(clip_on=False, gid="window")
    ax.add_patch(mark)
    size = f"{scene.chrom_size / 1e6:,.0f} Mb" if scene.chrom_size >= 1e7 else _length(scene.chrom_size)
    ax.annotate(size, (1, 0.5), xycoords="axes fraction", xytext=(4, 0), textcoords="offset points", va="center",
                fontsize=SMALL, color=_style.DARK, annotation_clip=False)  # fmt: skip
    page.y += IDEOGRAM


def _heading(scene: Scene, inner: float) -> tuple[str, str, bool]:
    """Title, place, and whether both stand on one line."""
    window = scene.window
    place, length = f"{scene.chrom}:{window.start:,}–{window.end:,}", _length(window.end - window.start)
    heading, place = (place, length) if scene.title is None else (scene.title, f"{place} ({length})")
    heading = shortened(heading, HEADING, inner / 1.15)  # bold is wider
    taken = text_width(heading, HEADING, bold=True) + text_width(place, TEXT) + 0.15
    return heading, place, not heading or taken <= inner


def _ideogram(ax: Axes, scene: Scene, width: float) -> None:
    """A bar with its bands; centromeres as two triangles that meet."""
    outline: dict[str, Any] = {"facecolor": "none" if scene.bands else "#EFEFEF", "edgecolor": _style.DARK, "linewidth": 0.5}
    centromere = [b for b in scene.bands if b.stain == "acen"]
    if not centromere:
        ax.add_patch(Rectangle((0, 0), scene.chrom_size, 1, clip_on=False, **outline))
    else:
        low, high = min(b.start for b in centromere), max(b.end for b in centromere)
        for a, b in ((0, low), (high, scene.chrom_size)):
            if b > a:
                ax.add_patch(Rectangle((a, 0), b - a, 1, clip_on=False, zorder=3, **outline))
    patches: list[Patch] = []
    colors = []
    for band in scene.bands:
        if band.stain == "acen":
            point, base = (band.end, band.start) if band is centromere[0] else (band.start, band.end)
            patches.append(Polygon([(base, 0), (base, 1), (point, 0.5)]))
        else:
            patches.append(Rectangle((band.start, 0), band.end - band.start, 1))
        colors.append(STAINS.get(band.stain, "#FFFFFF"))
    if patches:
        drawn = PatchCollection(patches, facecolors=colors, linewidths=0, zorder=2)
        drawn.set_gid("bands")
        ax.add_collection(drawn)


def _length(bp: int) -> str:
    if bp < 10_000:
        return f"{bp:,} bp"
    return f"{bp / 1e3:,.4g} kb" if bp < 1_000_000 else f"{bp / 1e6:,.4g} Mb"


def _unit(page: _Page, scene: Scene) -> None:
    """What heights mean, above the tracks."""
    ax = page.axes("unit", UNIT)
    suffix = ", same scale for all" if scene.shared_scale else ", a scale for each"
    text = scene.unit if len(scene.coverage.names) == 1 else scene.unit + suffix
    size = (SMALL + 0.5) * min(1.0, page.inner / text_width(text, SMALL + 0.5))
    if size < 5:
        text, size = scene.unit, (SMALL + 0.5) * min(1.0, page.inner / text_width(scene.unit, SMALL + 0.5))
    ax.text(0, 0.45, text, fontsize=size, va="center", ha="left", color=_style.DARK)
    page.y += UNIT


def _tracks(page: _Page, scene: Scene, names: Sequence[str], *, track: float, strip: float, size: float) -> None:
    coverage, window = scene.coverage, scene.window
    top = rounded_up(float(coverage.values.max(initial=0)))
    for g, (full, name) in enumerate(zip(coverage.names, names, strict=True)):
        ax = page.axes(f"track:{full}", track)
        values = coverage.values[g]
        high = top if scene.shared_scale else rounded_up(float(values.max(initial=0)))
        ax.set(xlim=(window.start, window.end), ylim=(0, high))
        # as ax.stairs, which looks at every corner for limits that are known already
        area = StepPatch(values, coverage.edges, facecolor=scene.colors[g], linewidth=0)
        ax.add_artist(area)
        area.set_gid("coverage")
        ax.spines["bottom"].set(visible=True, linewidth=0.4, color=_style.GREY)
        _row_name(ax, name, size=size)
        if g == 0 or not scene.shared_scale:
            _scale(ax, high, track=track)
        if full in scene.peaks:
            bars = scene.peaks[full]
            _bars(
                ax, bars, scene.colors[g], page.inner, y=-0.9 * strip / track, height=0.65 * strip / track, gid="peaks"
            )
        page.y += track + strip + TRACK_GAP


def _scale(ax: Axes, high: float, *, track: float) -> None:
    """The scale on the right: 0 and the top where both have room."""
    size = float(np.clip(track * 72 / 2.2, 4.0, SMALL))
    at = [0.0, high] if track >= 0.16 else [high]
    ax.yaxis.tick_right()
    ax.spines["right"].set(visible=True, linewidth=0.4, color=_style.DARK)
    ax.set_yticks(at, [_style.number_text(v) for v in at])
    ax.tick_params(axis="y", labelsize=size, length=2, width=0.4, pad=1.5)
    for label in ax.get_yticklabels():
        label.set_verticalalignment("bottom" if label.get_text() == "0" else "top")


def _bars(ax: Axes, bars: Bars, color: str, width: float, *, y: float, height: float, gid: str) -> None:
    """Regions as bars at ``y`` of the axes (fraction), each at least half a point wide."""
    if not bars.start.size:
        return
    low, high = ax.get_xlim()
    least = (high - low) / (width * 72) * 0.5
    wide = np.maximum(bars.end - bars.start, least)
    corners = [
        [(a, y), (a + w, y), (a + w, y + height), (a, y + height)] for a, w in zip(bars.start, wide, strict=True)
    ]
    drawn = PatchCollection(
        [Polygon(c) for c in corners], facecolors=color, linewidths=0, transform=ax.get_xaxis_transform()
    )
    drawn.set(clip_on=False, gid=gid)
    ax.add_collection(drawn, autolim=False)


def _links(page: _Page, scene: Scene) -> None:
    """Arcs between the two ends of each link; the wider, the higher its absolute score."""
    if scene.links is None:
        return
    ax = page.axes("links", LINKS)
    ax.set(xlim=(scene.window.start, scene.window.end), ylim=(0, 1))
    _row_name(ax, "Links")
    span = max(float((scene.links["end"] - scene.links["start"]).max()) if len(scene.links) else 1.0, 1.0)
    paths = [
        Outline(
            [(a, 0.98), ((a + b) / 2, 0.98 - 1.9 * max(0.25, (b - a) / span)), (b, 0.98)],
            [Outline.MOVETO, Outline.CURVE3, Outline.CURVE3],
        )
        for a, b in zip(scene.links["start"], scene.links["end"], strict=True)
    ]
    score = scene.links["score"].abs().to_numpy(np.float64)
    most = np.nanmax(score) if np.isfinite(score).any() else 1.0
    widths = np.where(np.isfinite(score), 0.3 + 1.2 * score / (most or 1.0), 0.8)
    arcs = PathCollection(paths, facecolors="none", edgecolors=_style.DARK, linewidths=widths, alpha=0.7)
    arcs.set_gid("links")
    ax.add_collection(arcs)
    page.y += LINKS


def _consensus(page: _Page, scene: Scene) -> None:
    if scene.consensus is None:
        return
    ax = page.axes("consensus", CONSENSUS)
    ax.set_xlim(scene.window.start, scene.window.end)
    _row_name(ax, "Consensus")
    _bars(ax, scene.consensus, _style.DARK, page.inner, y=0.25, height=0.5, gid="consensus")
    page.y += CONSENSUS


def _axis(page: _Page, scene: Scene) -> None:
    start, end = scene.window.start, scene.window.end
    ax = page.axes("position", 0.02, y=page.y + 0.03)
    at, labels, unit = ticks(start, end, page.inner, TEXT)
    ax.set_xlim(start, end)
    ax.spines["bottom"].set_visible(True)
    ax.set_xticks(at, labels)
    ax.tick_params(axis="x", labelsize=TEXT)
    ax.set_xlabel(f"Position on {scene.chrom} of {scene.genome} ({unit})", fontsize=TEXT)


def _shade(ax: Axes, scene: Scene) -> None:
    ax.set(xlim=(scene.window.start, scene.window.end), ylim=(0, 1))
    ax.set_zorder(-1)
    if scene.highlight is not None:
        for a, b in zip(scene.highlight.start.tolist(), scene.highlight.end.tolist(), strict=True):
            ax.axvspan(a, b, color=HIGHLIGHT, linewidth=0, gid="highlight")
