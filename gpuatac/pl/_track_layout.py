"""Where things of a track figure stand: text widths, rows of genes, tick positions; no drawing."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuatac.io.genome.gene_models import GeneModel

GAP = 0.05  # inches between neighbours of a row
ARROW = 0.09  # inches that the arrow of a short gene takes beyond its end
ELLIPSIS = "…"
KB_FROM, MB_FROM = 20_000, 20_000_000  # bp: windows from which positions are written in kb and Mb


@cache
def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Width in inches of one line in the font that rcParams name; ``size`` in points."""
    font = FontProperties(size=size, weight="bold" if bold else "normal")
    width, _, _ = TextToPath().get_text_width_height_descent(text, font, ismath=False)
    return float(width) / 72


def shortened(text: str, size: float, room: float) -> str:
    """``text``, or its beginning and end with an ellipsis between them so that it fits into ``room`` inches."""
    if text_width(text, size) <= room:
        return text
    for kept in range(len(text) - 1, 1, -1):
        head = -(-kept // 2)
        short = text[:head] + ELLIPSIS + text[len(text) - (kept - head) :]
        if text_width(short, size) <= room:
            return short
    return ELLIPSIS


class PlacedGene(NamedTuple):
    """A gene in its row (0: the upper one); positions in inches from the left end of the window."""

    gene: GeneModel
    row: int
    left: float  # of the part inside the window
    right: float
    text_left: float
    text_right: float

    @property
    def footprint(self) -> tuple[float, float]:
        """What no neighbour in the row may touch: name, body and arrow."""
        return min(self.left - ARROW, self.text_left), max(self.right + ARROW, self.text_right)


def place_genes(
    genes: Sequence[GeneModel], start: int, end: int, width: float, *, size: float, bold: str | None = None
) -> list[PlacedGene]:
    """Rows of genes whose bodies and names do not touch, in as few rows as that takes.

    Footprints sorted by their left ends go to the first free row, which needs no more rows than the most footprints over
    one point. The window [start, end) is ``width`` inches wide. A name of ``size`` points stands over the visible part of
    its gene, centred, and moves to stay inside the window. ``bold``: the name written in bold.
    """
    scale = width / (end - start)
    unplaced = []
    for gene in genes:
        left, right = (max(gene.start, start) - start) * scale, (min(gene.end, end) - start) * scale
        wide = text_width(gene.label, size, bold=gene.name == bold)
        text_left = min(max((left + right - wide) / 2, 0.0), max(width - wide, 0.0))
        unplaced.append(PlacedGene(gene, 0, left, right, text_left, text_left + wide))
    placed: list[PlacedGene] = []
    free: list[float] = []  # of each row: where the next footprint may begin
    for item in sorted(unplaced, key=lambda p: (p.footprint, p.gene.label)):
        low, high = item.footprint
        row = next((r for r, edge in enumerate(free) if edge <= low), len(free))
        if row == len(free):
            free.append(0.0)
        free[row] = high + GAP
        placed.append(item._replace(row=row))
    return placed


def ticks(start: int, end: int, room: float, size: float) -> tuple[np.ndarray, list[str], str]:
    """Positions, labels and unit ("bp", "kb", "Mb") of an axis ``room`` inches long; labels do not touch."""
    span = end - start
    divisor, unit = (1, "bp") if span < KB_FROM else (1_000, "kb") if span < MB_FROM else (1_000_000, "Mb")
    for power in range(10):
        for factor in (1, 2, 5):
            step = factor * 10**power
            if step < divisor or span / step > 40:
                continue
            at = np.arange(math.ceil(start / step) * step, end + 1, step)
            labels = [f"{int(p) // divisor:,}" for p in at]
            widest = max((text_width(label, size) for label in labels), default=0.0)
            if span / step <= 8 and (len(at) <= 1 or widest + 0.12 <= room * step / span):
                return at, labels, unit
    return np.array([start]), [f"{start // divisor:,}"], unit


def rounded_up(value: float) -> float:
    """``value`` rounded up to two significant digits; 1 for 0."""
    if not value > 0:
        return 1.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.3g}")


def arrow_positions(left: float, right: float, *, step: float = 0.14) -> np.ndarray:
    """Inches at which the arrows of a gene body stand: evenly, none at its very ends; empty for a short body."""
    n = int((right - left) / step)
    return np.empty(0) if n < 1 else left + (np.arange(n) + 0.5) * (right - left) / n
