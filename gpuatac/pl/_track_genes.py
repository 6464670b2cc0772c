"""Genes of a track figure: rows as crowded as they must be, then bodies, exons, arrows and names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.patches import Rectangle
from matplotlib.path import Path as Outline

from gpuatac.pl import _style
from gpuatac.pl._track_layout import PlacedGene, arrow_positions, place_genes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from gpuatac.io.genome.gene_models import GeneModel

SIZES = ((7.0, 0.22), (6.0, 0.195), (5.0, 0.175))  # points of a name, inches of its row: the first that is not crowded
CROWDED = 8  # rows
NAMED_ROWS = 40  # more rows than these would be a page of names: bodies only, one row for each strand
BARE_ROW = 0.1  # inches, without names
THIN, THICK = 0.02, 0.035  # inches: half the height of an exon and of its coding part
COLOR = "#1F3F7A"
_CORNERS = [Outline.MOVETO, Outline.LINETO, Outline.LINETO]
_MARKERS = {
    "+": Outline([(-0.5, 1.0), (0.5, 0.0), (-0.5, -1.0)], _CORNERS),
    "-": Outline([(0.5, 1.0), (-0.5, 0.0), (0.5, -1.0)], _CORNERS),
}


class GeneRows(NamedTuple):
    """Genes with their rows; ``size``: points of names, 0 where there are too many genes for names."""

    placed: list[PlacedGene]
    n_rows: int
    size: float
    row: float  # inches

    @property
    def height(self) -> float:
        """Inches."""
        return self.n_rows * self.row


def gene_rows(genes: Sequence[GeneModel], start: int, end: int, width: float, *, bold: str | None) -> GeneRows:
    """Rows for [start, end) in ``width`` inches: names smaller where genes are crowded.

    Beyond ``NAMED_ROWS`` bodies lie on one row for each strand, over each other and without names."""
    rows = GeneRows([], 1, *SIZES[0])
    for size, row in SIZES:
        placed = place_genes(genes, start, end, width, size=size, bold=bold)
        rows = GeneRows(placed, max([p.row + 1 for p in placed], default=1), size, row)
        if rows.n_rows <= CROWDED:
            return rows
    if rows.n_rows <= NAMED_ROWS:
        return rows
    bare = [p._replace(row=int(p.gene.strand == "-")) for p in rows.placed]
    return GeneRows(bare, 2, 0.0, BARE_ROW)


def draw_genes(ax: Axes, rows: GeneRows, start: int, end: int, width: float, *, bold: str | None) -> None:
    """A line from end to end, exons as boxes, coding parts as higher ones, arrows along the strand, names above.

    The y axis is in inches from the top.
    """
    ax.set(xlim=(start, end), ylim=(rows.height, 0))
    if not rows.placed:
        none = "none in this window"
        ax.text(0.5, 0.5, none, transform=ax.transAxes, ha="center", va="center", fontsize=6, color=_style.GREY)
        return
    per_inch = (end - start) / width
    lines, boxes = [], []
    beside: dict[str, list[tuple[float, float]]] = {"+": [], "-": []}
    within: dict[str, list[tuple[float, float]]] = {"+": [], "-": []}
    for item in rows.placed:
        y = (item.row + 1) * rows.row - (0.06 if rows.size else rows.row / 2)
        lines.append([(start + item.left * per_inch, y), (start + item.right * per_inch, y)])
        if not rows.size:
            lines[-1][1] = (max(lines[-1][1][0], lines[-1][0][0] + 0.3 / 72 * per_inch), y)
        else:
            boxes += _boxes(item.gene, y, start, end, least=0.5 / 72 * per_inch)
            _name(ax, item, start + (item.text_left + item.text_right) / 2 * per_inch, y, size=rows.size, bold=bold)
            _arrows(item, y, start, per_inch, beside[item.gene.strand], within[item.gene.strand])
    if not rows.size:
        for y, strand in ((0.75, "+"), (0.25, "\N{MINUS SIGN}")):
            where: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
            ax.annotate(strand, (1, y), xytext=(4, 0), va="center", fontsize=6, **where)
    ax.add_collection(LineCollection(lines, colors=COLOR, linewidths=0.6 if rows.size else 4, gid="introns"))
    ax.add_collection(PatchCollection(boxes, facecolors=COLOR, linewidths=0, gid="exons"))
    for color, places, order in ((COLOR, beside, 1.5), ("white", within, 3)):
        for strand, xy in places.items():
            if xy:
                arrows = ax.plot(
                    *np.array(xy).T, ls="", marker=_MARKERS[strand], ms=3.2, mfc="none", mec=color, mew=0.6
                )
                arrows[0].set(zorder=order, gid=f"arrows{strand}")


def _boxes(gene: GeneModel, y: float, start: int, end: int, *, least: float) -> list[Rectangle]:
    """Exons and coding parts as far as in the window; a gene whose exons are unknown is one low box."""
    exons = gene.exons if len(gene.exons) else np.array([[gene.start, gene.end]])
    out = []
    for pieces, half in ((exons, THIN), (gene.coding, THICK)):
        low, high = np.maximum(pieces[:, 0], start), np.minimum(pieces[:, 1], end)
        for a, b in zip(low[low < high].tolist(), high[low < high].tolist(), strict=True):
            out.append(Rectangle((a, y - half), max(b - a, least), 2 * half))
    return out


def _arrows(
    item: PlacedGene,
    y: float,
    start: int,
    per_inch: float,
    beside: list[tuple[float, float]],
    within: list[tuple[float, float]],
) -> None:
    """Adds the places of a gene's arrows: beside its exons, or within them (white); a short gene has one behind its end."""
    gene = item.gene
    exons = gene.exons if len(gene.exons) else np.array([[gene.start, gene.end]])
    along = arrow_positions(item.left, item.right)
    if not along.size:
        beyond = item.right + 0.045 if gene.strand == "+" else item.left - 0.045
        beside.append((start + beyond * per_inch, y))
    for x in (start + along * per_inch).tolist():
        near = exons[(exons[:, 0] < x + 0.025 * per_inch) & (exons[:, 1] > x - 0.025 * per_inch)]
        if not len(near):
            beside.append((x, y))
        elif ((near[:, 0] <= x - 0.03 * per_inch) & (near[:, 1] >= x + 0.03 * per_inch)).any():
            within.append((x, y))  # on the edge of an exon it could not be told from it, and is left out


def _name(ax: Axes, item: PlacedGene, x: float, y: float, *, size: float, bold: str | None) -> None:
    weight = "bold" if item.gene.name == bold else "normal"
    text = ax.text(x, y - 0.045, item.gene.label, ha="center", va="bottom", fontsize=size, fontweight=weight)
    text.set_parse_math(False)
    text.set_gid("gene")
