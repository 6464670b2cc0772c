"""Heat map of regions by group of cells."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import scipy.sparse as sp

from gpuatac import check, slots
from gpuatac.backend import backend_of, is_device_array, is_on_disk
from gpuatac.core.differential import groups
from gpuatac.errors import InputError
from gpuatac.io.genome.regions import lengths_of
from gpuatac.io.matrices.csr_file import by_rows
from gpuatac.pl import _style
from gpuatac.pl._palette import category_colors
from gpuatac.pl._track_layout import shortened, text_width

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gpuatac.pl._palette import Palette

Z_LABEL, LOG_LABEL = "z-score of log2(1 + RPKM)", "log2(1 + RPKM)"
DIVERGING = "RdBu_r"
# inches
MARGIN, TOP, BAR, LABELS_MOST, STRIP = 0.1, 0.12, 0.75, 2.5, 0.07
TEXT = 7.0  # points


class HeatMap(NamedTuple):
    """What is drawn: ``values`` float64 (n_regions, n_groups); block b has rows ``starts[b]:starts[b + 1]``."""

    values: np.ndarray
    regions: list[str]
    groups: list[str]
    blocks: list[str]
    starts: np.ndarray


def regions(
    adata: AnnData,
    groupby: str | Sequence[str],
    peaks: Mapping[str, Collection[str]] | Collection[str],
    *,
    zscore: bool = True,
    selections: Collection[str] | None = None,
    vmax: float | None = None,
    palette: Palette | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    save: str | Path | None = None,
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """Heat map of the accessibility of regions (rows) in groups of cells (columns).

    Reads   X: counts, host, device or on disk; obs[groupby]; var: "start" and "end", or names "chr:start-end";
            uns[groupby + "_colors"].
    Returns a Figure; also written to ``save``. Counts are added up by group and divided by the millions of counts of the
            group and the kb of the region (RPKM); shown is log2(1 + RPKM), by default as z-score over the groups drawn
            (deviation from the mean over the standard deviation over n; 0 where a region does not vary).

    Parameters
    ----------
    adata, groupby
        Cells x peaks and their groups, as in ``tl.aggregate``.
    peaks
        Names of regions (var_names) by group, as ``tl.marker_regions`` gives them, or one list. Blocks come in the order of
        the groups, others behind them; within the block of a group regions come by falling value in that group.
    zscore
        Whether to show z-scores, which tell groups apart, or log2(1 + RPKM).
    selections
        Groups to draw; default all.
    vmax
        End of the colour scale (z-scores: of both ends); default the 99th percentile.
    palette
        Colours of the groups, as for ``embedding``.
    title
        Above the figure.
    ax
        Axes to draw on; their Figure is returned. Names stand left of them, the colour bar right.
    save
        A .png, .pdf or .svg file to write as well.
    figsize
        Inches of a new Figure.

    Raises
    ------
    InputError
        No regions, regions that adata lacks, or regions without coordinates; a palette that does not fit the groups.
    MissingSlotError
        No matrix or no obs[groupby].

    Cost: one pass over the counts.

    Examples
    --------
    >>> import anndata, numpy, pandas, gpuatac as ga
    >>> var = pandas.DataFrame(index=["chr1:0-500", "chr1:900-1400"])
    >>> adata = anndata.AnnData(numpy.array([[4, 0], [1, 3], [0, 5]], "float32"), var=var)
    >>> figure = ga.pl.regions(adata, ["T", "B", "B"], {"T": ["chr1:0-500"], "B": ["chr1:900-1400"]})
    >>> figure.axes[0].images[0].get_array().tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    table = heat_map(adata, groupby, peaks, zscore=zscore, selections=selections)
    if vmax is not None:
        check.between("vmax", vmax, 1e-12)
    colors = category_colors(adata, groupby, table.groups, palette)
    if ax is None:
        return _draw(table, colors, zscore=zscore, vmax=vmax, title=title, save=save, figsize=figsize)
    with _style.panel(ax, save, figsize, default=(1, 1)):
        _heat_map_on(ax, table, colors, zscore=zscore, vmax=vmax, title=title)
    return _style.figure_of(ax)


def heat_map(
    adata: AnnData,
    groupby: str | Sequence[str],
    peaks: Mapping[str, Collection[str]] | Collection[str],
    *,
    zscore: bool,
    selections: Collection[str] | None,
) -> HeatMap:
    """The values of ``regions``, in the order they are drawn."""
    names, codes = slots.groups_of(adata, groupby, selections)
    if not names:
        msg = f"groupby {groupby!r} puts no cell in a group; name a column with labels."
        raise InputError(msg)
    by_block = dict(peaks.items()) if hasattr(peaks, "items") and not isinstance(peaks, pd.Series) else {"": peaks}
    wanted = {str(block): [str(r) for r in chosen] for block, chosen in by_block.items()}
    wanted = {block: chosen for block, chosen in wanted.items() if chosen}
    blocks = [n for n in names if n in wanted] + [b for b in wanted if b not in names]
    if not blocks:
        msg = "peaks names no region; pass what tl.marker_regions returns (a larger pvalue gives more), or a list of names."
        raise InputError(msg)
    listed = [r for b in blocks for r in wanted[b]]
    x = _matrix(adata)
    at = _columns(adata, listed)
    sums, _ = groups.group_sums(backend_of(x), x, codes, len(names))
    lengths = lengths_of(adata.var.iloc[at], what="regions", remedy="add them to var")
    values = np.log2(1 + groups.rates(sums, "RPKM", None)[:, at] / (lengths / 1000.0)).T
    if zscore:
        spread = values.std(axis=1, keepdims=True)
        flat = spread <= 1e-9 * np.maximum(np.abs(values).max(axis=1, keepdims=True), 1.0)
        values = np.where(flat, 0.0, (values - values.mean(axis=1, keepdims=True)) / np.where(flat, 1.0, spread))
    starts = np.concatenate([[0], np.cumsum([len(wanted[b]) for b in blocks])])
    order = np.arange(len(listed))
    for block, low, high in zip(blocks, starts[:-1], starts[1:], strict=True):
        if block in names:
            order[low:high] = low + np.argsort(-values[low:high, names.index(block)], kind="stable")
    return HeatMap(values[order], [listed[i] for i in order], names, blocks, starts)


def _columns(adata: AnnData, listed: list[str]) -> np.ndarray:
    if not adata.var_names.is_unique:
        msg = "adata.var_names repeats a name; make the names of regions unique (var_names_make_unique)."
        raise InputError(msg)
    at = adata.var_names.get_indexer(listed)
    if (at < 0).any():
        absent = [r for r, i in zip(listed, at.tolist(), strict=True) if i < 0]
        near = difflib.get_close_matches(absent[0], adata.var_names[:100_000].tolist(), n=1, cutoff=0.7)
        hint = f"did you mean {near[0]!r}?" if near else "pass names of the matrix the regions were found in."
        msg = f"{len(absent)} of {len(listed)} regions are not in adata.var_names ({', '.join(map(repr, absent[:3]))}); {hint}"
        raise InputError(msg)
    return np.asarray(at, np.intp)


def _matrix(adata: AnnData) -> Any:
    """X as core.differential.groups takes it: CSR, on any device or on disk."""
    x = slots.matrix_of(adata)
    if is_on_disk(x):
        return by_rows(x)
    if is_device_array(x) or (sp.issparse(x) and x.format == "csr"):
        return x
    return sp.csr_matrix(x.to_memory() if hasattr(x, "to_memory") else x)


def _draw(
    table: HeatMap,
    colors: list[str],
    *,
    zscore: bool,
    vmax: float | None,
    title: str | None,
    save: Any,
    figsize: tuple[float, float] | None,
) -> Figure:
    n_regions, n_groups = table.values.shape
    with mpl.rc_context(_style.RC):
        labels, columns = _texts(table)
        left = MARGIN + max(text_width(t, TEXT) for t in labels) + 0.3
        widest = max(text_width(t, TEXT) for t in columns)
        width = left + float(np.clip(0.26 * n_groups, 1.6, 8.0)) + BAR if figsize is None else figsize[0]
        column = (width - left - BAR) / n_groups
        upright = widest > column - 0.06
        below = (widest if upright else 0.14) + 0.12 + MARGIN
        above = TOP + (0.2 if title else 0.0)
        tall = float(np.clip(max(0.13 * len(table.blocks), 0.004 * n_regions), 2.4, 6.0))
        height = above + tall + below if figsize is None else figsize[1]
        tall = height - above - below
        if column <= 0.02 or tall < 0.3:
            msg = f"figsize must be at least {left + BAR + 0.05 * n_groups:.1f} x {above + below + 0.5:.1f} inches for these "
            msg += f"names, got {width:g} x {height:g}; or leave figsize out."
            raise InputError(msg)
    with _style.canvas(save, (width, height)) as figure:
        figure.set_layout_engine("none")
        box = (left / width, below / height, (width - left - BAR) / width, tall / height)
        ax = figure.add_axes(box, label="regions")
        _heat_map_on(ax, table, colors, zscore=zscore, vmax=vmax, title=title)
    return figure


def _texts(table: HeatMap) -> tuple[list[str], list[str]]:
    """What stands beside the blocks and under the columns."""
    blocks = [shortened(b, TEXT, LABELS_MOST) for b in table.blocks]
    counts = [f"{int(n):,}" for n in np.diff(table.starts)]
    labels = [f"{b} ({n})" if b else f"{n} regions" for b, n in zip(blocks, counts, strict=True)]
    return labels, [shortened(g, TEXT, LABELS_MOST) for g in table.groups]


def _heat_map_on(
    ax: Axes, table: HeatMap, colors: list[str], *, zscore: bool, vmax: float | None, title: str | None
) -> None:
    labels, columns = _texts(table)
    extent, dpi = ax.get_window_extent(), _style.figure_of(ax).dpi
    wide, tall = extent.width / dpi, extent.height / dpi
    column = wide / len(columns)
    upright = max(text_width(t, TEXT) for t in columns) > column - 0.06
    _image(ax, table, zscore=zscore, vmax=vmax, tall=tall, wide=wide)
    size = float(np.clip(column * 72 * 0.95, 3.5, TEXT)) if upright else TEXT
    ax.set_xticks(range(len(columns)), columns, rotation=90 if upright else 0, fontsize=size)
    ax.set_yticks([])
    ax.tick_params(axis="x", length=0, pad=4)
    for text in ax.get_xticklabels():
        text.set_parse_math(False)
    ax.spines[:].set_visible(False)
    _block_labels(ax, table, labels, colors, tall=tall, wide=wide)
    if title:
        ax.set_title(title)


def _image(ax: Axes, table: HeatMap, *, zscore: bool, vmax: float | None, tall: float, wide: float) -> None:
    high = float(np.percentile(np.abs(table.values), 99)) if vmax is None else vmax
    high = high if high > 0 else float(np.abs(table.values).max()) or 1.0
    low = -high if zscore else 0.0
    cmap = DIVERGING if zscore else _style.SEQUENTIAL
    drawn = ax.imshow(table.values, aspect="auto", cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
    over, under = bool((table.values > high).any()), bool((table.values < low).any())
    extend = {(True, True): "both", (True, False): "max", (False, True): "min"}.get((over, under), "neither")
    share, inch = min(1.5 / tall, 1.0), 1 / wide
    bar = ax.figure.colorbar(drawn, cax=ax.inset_axes((1 + 0.12 * inch, 1 - share, 0.09 * inch, share)), extend=extend)
    bar.outline.set_visible(False)
    bar.ax.tick_params(width=0.4, length=2, labelsize=6)
    if bar.solids is not None:
        bar.solids.set_rasterized(True)
    _style.thousands(bar.ax.yaxis)
    bar.set_label(Z_LABEL if zscore else LOG_LABEL, fontsize=6.5)


def _block_labels(ax: Axes, table: HeatMap, labels: list[str], colors: list[str], *, tall: float, wide: float) -> None:
    """A strip in the colour of its group beside each block, lines between blocks, names moved apart where blocks are thin."""
    n = len(table.regions)
    for start in table.starts[1:-1]:
        ax.axhline(start - 0.5, color="white", linewidth=0.8)
    color_of = dict(zip(table.groups, colors, strict=True))
    middle = (table.starts[:-1] + table.starts[1:]) / 2 / n * tall  # inches from the top
    size = min(TEXT, tall * 72 / len(labels) / 1.15)
    place = spread(middle, size * 1.15 / 72, tall)
    for b, label in enumerate(labels):
        low, high = table.starts[b] / n, table.starts[b + 1] / n
        strip = mpl.patches.Rectangle(
            (-(STRIP + 0.03) / wide, 1 - high), STRIP / wide, high - low, transform=ax.transAxes, clip_on=False,
            facecolor=color_of.get(table.blocks[b], _style.GREY), edgecolor="white", linewidth=0.3, gid="block",
        )  # fmt: skip
        ax.add_patch(strip)
        end = -(STRIP + 0.04) / wide
        ax.plot([end - 0.12 / wide, end], [1 - place[b] / tall, 1 - middle[b] / tall], color=_style.GREY, linewidth=0.4,
                transform=ax.transAxes, clip_on=False)  # fmt: skip
        text = ax.text(
            end - 0.14 / wide,
            1 - place[b] / tall,
            label,
            transform=ax.transAxes,
            ha="right",
            va="center",
            fontsize=size,
        )
        text.set_parse_math(False)
        text.set_gid("block")


def spread(at: np.ndarray, gap: float, length: float) -> np.ndarray:
    """Ascending positions ``at`` moved as little as possible (least squares) so that neighbours are ``gap`` apart.

    They stay within [gap / 2, length - gap / 2], given that there is room for all.
    """
    steps = np.arange(at.size) * gap
    runs: list[list[float]] = []  # sum and number of positions that move together
    for value in at - steps:
        runs.append([float(value), 1])
        while len(runs) > 1 and runs[-2][0] / runs[-2][1] > runs[-1][0] / runs[-1][1]:
            total, number = runs.pop()
            runs[-1][0] += total
            runs[-1][1] += number
    level = np.concatenate([np.full(int(number), total / number) for total, number in runs])
    moved: np.ndarray = steps + np.clip(level, gap / 2, max(length - gap / 2 - (at.size - 1) * gap, gap / 2))
    return moved
