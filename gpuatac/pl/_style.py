"""One look for every figure: fonts, lines, colours, number formats, and how a figure is made and saved."""

from __future__ import annotations

from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from gpuatac.errors import InputError
from gpuatac.slots import PALETTE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SUFFIXES = (".png", ".pdf", ".svg")
DPI = 300
RASTERIZE_ABOVE = 2_000  # points; more than these make a PDF heavy

BLUE, ORANGE, GREEN, RED = PALETTE[0], PALETTE[1], PALETTE[2], PALETTE[5]
GREY, LIGHT, DARK = "#8C8C8C", "#D4D4D4", "#333333"
SEQUENTIAL = mpl.colormaps["viridis"]
DENSITY = mpl.colormaps["cividis"]

RC: dict[Any, Any] = {  # Matplotlib names the keys one by one in a type
    "font.family": "sans-serif",
    "font.sans-serif": ["Arial", "Helvetica", "Liberation Sans", "DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 5,
    "axes.labelsize": 8,
    "axes.labelpad": 3,
    "axes.linewidth": 0.6,
    "axes.edgecolor": DARK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.axisbelow": True,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "xtick.color": DARK,
    "ytick.color": DARK,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "lines.linewidth": 1.0,
    "patch.linewidth": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.2,
    "legend.handletextpad": 0.5,
    "legend.borderaxespad": 0.3,
    "figure.dpi": 150,
    "figure.facecolor": "white",
    "savefig.dpi": DPI,
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "none",
}


class StyledFigure(Figure):
    """A Figure that is always saved in our style, and shows itself in a notebook without pyplot."""

    def savefig(self, fname: Any, **kwargs: Any) -> None:
        """As ``Figure.savefig``, with text kept as text in PDF and SVG and 300 dpi."""
        with mpl.rc_context(RC):
            super().savefig(fname, **kwargs)

    def _repr_png_(self) -> bytes:
        from io import BytesIO

        image = BytesIO()
        self.savefig(image, format="png", dpi=150)
        return image.getvalue()


@contextmanager
def canvas(save: str | Path | None, figsize: tuple[float, float]) -> Iterator[StyledFigure]:
    """A figure to draw on, in inches; it is saved when the block ends without an error."""
    path = _target(save)
    numbers = np.array(figsize, dtype=object).ravel()
    if len(numbers) != 2 or not all(isinstance(number, Real) and float(number) > 0 for number in numbers):
        msg = f"figsize must be (width, height) in inches, both positive, got {figsize!r}."
        raise InputError(msg)
    with mpl.rc_context(RC):
        figure = StyledFigure(figsize=figsize, layout="constrained")
        yield figure
        if path is not None:
            figure.savefig(path)


@contextmanager
def panel(
    ax: Axes | None, save: str | Path | None, figsize: tuple[float, float] | None, *, default: tuple[float, float]
) -> Iterator[Axes]:
    """The axes to draw one panel on: ``ax``, else those of a new figure of ``figsize`` or ``default`` inches.

    The figure that the axes lie in is saved when the block ends without an error.
    """
    if ax is None:
        with canvas(save, default if figsize is None else figsize) as figure:
            yield figure.subplots()
        return
    path = _target(save)
    if not isinstance(ax, Axes):
        msg = f"ax must be one matplotlib Axes, got {type(ax).__name__}; pass one of them, as in figure, ax = plt.subplots()."
        raise InputError(msg)
    if ax.name != "rectilinear":
        msg = f"ax has the projection {ax.name!r}; allowed: plain axes, as plt.subplots() makes them; pass such axes."
        raise InputError(msg)
    if ax.figure is None:
        msg = "ax was removed from its figure; allowed: axes of a figure; make new ones, as in figure, ax = plt.subplots()."
        raise InputError(msg)
    if figsize is not None:
        msg = f"figsize {figsize!r} cannot be had with ax, whose figure has its size already; leave one of them out."
        raise InputError(msg)
    with mpl.rc_context(RC):
        yield ax
        if path is not None:
            figure_of(ax).savefig(path)


def figure_of(ax: Axes) -> Figure:
    """The whole figure that ``ax`` lies in, also where a subfigure is between them."""
    return ax.figure.canvas.figure


def one_panel(ax: Axes | None, panels: Sequence[str]) -> None:
    """Raise when ``ax`` is given for more than one panel; ``panels`` says what they show."""
    if ax is not None and len(panels) != 1:
        msg = (
            f"ax takes one panel and there are {len(panels)} ({', '.join(panels)}); call once for each of them with an ax of its "
            "own, or leave ax out."
        )
        raise InputError(msg)


def _target(save: str | Path | None) -> Path | None:
    path = None if save is None else Path(save)
    if path is not None and path.suffix.lower() not in SUFFIXES:
        msg = f"save must end in .png, .pdf or .svg, got {str(save)!r}; change the suffix."
        raise InputError(msg)
    if path is not None and not path.parent.is_dir():
        msg = f"save needs a folder that exists, got {str(path.parent)!r}; make it first."
        raise InputError(msg)
    return path


def number_text(value: float, _: int | None = None) -> str:
    """The number as tick labels write it: 1,000, 0.5, a true minus sign."""
    text = f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:g}"
    return text.replace("-", "\N{MINUS SIGN}")


def thousands(axis: Any) -> None:
    """Tick labels as 1,000 and 0.5, on a linear or logarithmic axis (labels at powers of ten)."""
    axis.set_major_formatter(FuncFormatter(number_text))
    if axis.get_scale() == "log":
        lo, hi = axis.get_view_interval()
        if hi / max(lo, 1e-300) < 30:  # so narrow that powers of ten alone would leave one label
            axis.get_major_locator().set_params(subs=(1, 2, 5))
            axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(FuncFormatter(lambda *_: ""))


def density(x: np.ndarray, y: np.ndarray, *, bins: int = 128) -> np.ndarray:
    """Cube root of the point density at each point, 0 to 1: a smoothed 2-D histogram, O(n + bins^2).

    The root lets a sparse group of cells show its own shape beside a dense heap of empty droplets.
    """
    from scipy.ndimage import gaussian_filter

    if len(x) == 0:
        return np.zeros(0)

    def cell(v: np.ndarray) -> np.ndarray:
        span = np.ptp(v) or 1.0
        at: np.ndarray = np.minimum((v - v.min()) / span * bins, bins - 1).astype(np.intp)
        return at

    ix, iy = cell(x), cell(y)
    grid = gaussian_filter(np.bincount(ix * bins + iy, minlength=bins * bins).reshape(bins, bins).astype(float), 2.5)
    found = grid[ix, iy]
    root: np.ndarray = np.cbrt(found / found.max())
    return root


def points(ax: Axes, x: np.ndarray, y: np.ndarray, *, size: float | None = None, **kwargs: Any) -> Any:
    """A scatter whose point area (pt^2) follows the number of points, rasterised when there are many."""
    if size is None:
        size = float(np.clip(4_000 / max(len(x), 1), 0.3, 6))
    return ax.scatter(x, y, s=size, linewidths=0, rasterized=len(x) > RASTERIZE_ABOVE, **kwargs)


def note(ax: Axes, text: str, *, x: float = 0.97, y: float = 0.97) -> None:
    """A few words in a corner of the axes, on a white ground so that lines under them stay readable."""
    ax.text(
        x,
        y,
        text,
        transform=ax.transAxes,
        ha="right" if x > 0.5 else "left",
        va="top" if y > 0.5 else "bottom",
        fontsize=7,
        linespacing=1.25,
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5},
    )
