"""Cells in two dimensions, coloured by metadata, gene activity or a feature of X."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from gpuatac import check, slots
from gpuatac.backend import as_host, is_device_array, is_on_disk
from gpuatac.errors import InputError, MissingSlotError
from gpuatac.io.matrices.csr_file import column_and_totals
from gpuatac.pl import _style
from gpuatac.pl._embedding_labels import Labels, place_labels, separable, spread_labels
from gpuatac.pl._palette import category_colors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gpuatac.pl._palette import Palette

LEGENDS = ("auto", "right", "none")
LEGEND_ROWS = 14  # in a column
GENE_SCALE = "log1p(counts per 10k)"


class _Values(NamedTuple):
    """What a panel shows: numbers, or codes (-1 = missing) into category names with colours."""

    title: str
    unit: str
    numbers: np.ndarray | None = None
    codes: np.ndarray | None = None
    names: Sequence[str] = ()
    colors: Sequence[str] = ()
    clip: bool = False


def umap(adata: AnnData, color: str | Sequence[str] | None = None, **kwargs: Any) -> Figure:
    """``embedding`` of ``obsm["X_umap"]``; takes the same keywords.

    Reads   obsm["X_umap"] and what ``color`` names.
    Returns a Figure.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from gpuatac import pl
    >>> adata = AnnData(obsm={"X_umap": np.random.default_rng(0).normal(size=(50, 2))})
    >>> len(pl.umap(adata).axes)
    1
    """
    return embedding(adata, slots.X_UMAP, color=color, **kwargs)


def embedding(
    adata: AnnData,
    basis: str = slots.X_UMAP,
    *,
    color: str | Sequence[str] | None = None,
    components: tuple[int, int] = (0, 1),
    ncols: int | None = None,
    size: float | None = None,
    labels_on_data: bool = True,
    legend: str = "auto",
    palette: Palette | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    ax: Axes | None = None,
    save: str | Path | None = None,
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """Scatter plots of two components of an embedding, one panel for each entry of ``color``.

    Reads   obsm[basis] (n_cells, >= 2) on any device; for each entry of ``color`` the first that exists of
            obs[entry], the gene of that name in obsm["gene_activity"] (names in
            uns["gene_activity"]["genes"]; shown as log1p of counts per 10k of the cell's activity), or the
            feature of that name in X as stored; uns[entry + "_colors"], one colour for each category in their
            order (scanpy's convention), for the colours of categories.
    Returns a Figure. Cells are drawn in random order (numbers: the highest last).

    Parameters
    ----------
    basis
        A key of ``obsm``.
    color
        One name or several; None takes "leiden" where it exists and a single colour otherwise.
    components
        Columns of the embedding on the two axes, from 0.
    ncols
        Panels in a row; default at most 4.
    size
        Area of a point in pt^2; by default from the number of cells.
    labels_on_data
        Write category names on the cells at their medians. Categories without places of their own (a batch
        mixed over the whole embedding) get a legend instead.
    legend
        "auto" (where names are not on the data), "right" (always) or "none".
    palette
        Colours of categories: a list in the order of the categories, a dict by category, or a matplotlib colormap
        ("tab20": its first colours; "viridis": evenly spaced ones). Default: those in uns, else 40 that colour-blind
        eyes tell apart.
    vmin, vmax
        Ends of the colour scale of numbers; by default the range of the values, for genes and features 0 to
        the 99th percentile, with an arrow on the colour bar where values lie beyond.
    ax
        Axes to draw one panel on; their Figure is returned. Without it a new Figure is made.
    save
        A .png, .pdf or .svg file to write as well: the whole Figure.
    figsize
        Width and height in inches of a new Figure.

    Raises
    ------
    MissingSlotError
        The embedding or a colour does not exist; the message names close matches.
    InputError
        An argument outside its range; several panels with ``ax``; a palette that does not fit the categories.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from anndata import AnnData
    >>> from gpuatac import pl
    >>> obs = pd.DataFrame({"leiden": pd.Categorical(["0", "1"] * 25)}, index=[f"c{i}" for i in range(50)])
    >>> adata = AnnData(obs=obs, obsm={"X_umap": np.random.default_rng(0).normal(size=(50, 2))})
    >>> pl.embedding(adata, "X_umap", color="leiden").axes[0].get_title(loc="left")
    'leiden'
    """
    check.one_of("legend", legend, LEGENDS)
    xy = as_host(slots.obsm_of(adata, basis, writer="the verb that computes it (tl.umap, tl.spectral)"))
    if xy.ndim != 2 or max(components) >= xy.shape[1] or min(components) < 0:
        msg = f"components must be two columns of obsm[{basis!r}] of shape {xy.shape}, got {components}."
        raise InputError(msg)
    xy = np.asarray(xy[:, list(components)], np.float64)
    keys: Sequence[str | None]
    if color is None:
        keys = [slots.LEIDEN if slots.LEIDEN in adata.obs else None]
    else:
        keys = [color] if isinstance(color, str) else list(color)
    if not keys:
        msg = "color must name at least one column, gene or feature, got an empty list; pass None for one."
        raise InputError(msg)
    _style.one_panel(ax, [f"color {key!r}" for key in keys])
    panels = [_values(adata, key, palette) for key in keys]
    if palette is not None and all(panel.codes is None for panel in panels):
        what = ", ".join(map(repr, keys))
        msg = f"palette colours categories, and color {what} has none; name a column of categories or leave palette out."
        raise InputError(msg)
    ncols = min(4, len(panels)) if ncols is None else min(check.integer("ncols", ncols, 1), len(panels))
    nrows = -(-len(panels) // ncols)

    on_data = [_labels_here(labels_on_data, panel, xy) for panel in panels]
    beside = [
        p.codes is not None and (legend == "right" or (legend == "auto" and not on))
        for p, on in zip(panels, on_data, strict=True)
    ]
    extra = [_beside_width(p, on) for p, on in zip(panels, beside, strict=True)]
    wide = sum(2.3 + max(extra[column::ncols]) for column in range(ncols))

    def draw(figure: Figure, axes: Sequence[Axes]) -> None:
        labels: list[Labels] = []
        for i, (one, panel) in enumerate(zip(axes, panels, strict=True)):
            _axes_of(one, xy, basis, components, first=i == 0)
            _draw(one, xy, panel, size=size, legend=beside[i], limits=(vmin, vmax))
            if on_data[i] and panel.codes is not None:
                labels.append(place_labels(one, xy, panel.codes, panel.names))
        spread_labels(figure, labels)

    if len(panels) == 1:
        with _style.panel(ax, save, figsize, default=(wide, 2.4)) as on:
            draw(_style.figure_of(on), [on])
        return _style.figure_of(on)
    with _style.canvas(save, (wide, 2.4 * nrows) if figsize is None else figsize) as figure:
        grid = figure.subplots(nrows, ncols, squeeze=False).ravel()
        for unused in grid[len(panels) :]:
            unused.remove()
        draw(figure, list(grid[: len(panels)]))
    return figure


def _labels_here(wanted: bool, panel: _Values, xy: np.ndarray) -> bool:  # noqa: FBT001
    return wanted and panel.codes is not None and separable(xy, panel.codes, len(panel.names))


def _beside_width(panel: _Values, legend: bool) -> float:  # noqa: FBT001
    """Inches that the colour bar or the legend of a panel takes."""
    if panel.numbers is not None:
        return 0.6
    if not legend:
        return 0.0
    columns = -(-len(panel.names) // LEGEND_ROWS)
    return sum(0.25 + 0.06 * max(map(len, panel.names[c * LEGEND_ROWS :])) for c in range(columns))


def _axes_of(ax: Axes, xy: np.ndarray, basis: str, components: tuple[int, int], *, first: bool) -> None:
    """An embedding has no units: no ticks, equal scales unless it is long, axis names on one panel."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.margins(0.04)
    width, height = np.maximum(np.ptp(xy, axis=0), 1e-12) if len(xy) else (1.0, 1.0)
    ax.set_anchor("W")  # panels of a column start at the same place
    ax.set_box_aspect(float(np.clip(height / width, 0.75, 1.25)))
    name = {"X_umap": "UMAP ", "X_spectral": "Spectral ", "X_spectral_harmony": "Harmony "}.get(basis)
    name = basis.removeprefix("X_") + " " if name is None else name
    ax.set_xlabel(f"{name}{components[0] + 1}")
    ax.set_ylabel(f"{name}{components[1] + 1}")
    if not first:
        ax.xaxis.label.set_visible(False)
        ax.yaxis.label.set_visible(False)


def _draw(
    ax: Axes,
    xy: np.ndarray,
    panel: _Values,
    *,
    size: float | None,
    legend: bool,
    limits: tuple[float | None, float | None],
) -> None:
    """The points of one panel with their colour bar or legend."""
    ax.set_title(panel.title)
    if panel.numbers is not None:
        _draw_numbers(ax, xy, panel.numbers, panel, size=size, limits=limits)
        return
    if panel.codes is None:
        _style.points(ax, *xy.T, size=size, color=_style.BLUE)
        return
    order = np.random.default_rng(0).permutation(len(xy))
    order = order[np.argsort(panel.codes[order] >= 0, kind="stable")]  # missing ones lie below
    lookup = np.array([*panel.colors, _style.LIGHT])
    _style.points(ax, *xy[order].T, size=size, c=lookup[panel.codes[order]])
    if legend:
        names = [*panel.names, *(["missing"] if (panel.codes < 0).any() else [])]
        dots = [Line2D([], [], ls="", marker="o", ms=4, mew=0, color=c) for c in lookup[: len(names)]]
        style: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "columnspacing": 0.8}
        ax.legend(dots, names, ncols=-(-len(names) // LEGEND_ROWS), **style)


def _draw_numbers(
    ax: Axes,
    xy: np.ndarray,
    values: np.ndarray,
    panel: _Values,
    *,
    size: float | None,
    limits: tuple[float | None, float | None],
) -> None:
    known = np.isfinite(values)
    if not known.all():
        _style.points(ax, *xy[~known].T, size=size, color=_style.LIGHT)
    shown, xy = values[known], xy[known]
    low, high = limits
    if low is None:
        low = 0.0 if panel.clip else float(shown.min(initial=np.inf)) if len(shown) else 0.0
    if high is None:
        high = 0.0 if len(shown) == 0 else float(np.percentile(shown, 99)) if panel.clip else float(shown.max())
        if high <= low:  # fewer than 1 % of the cells have the gene
            high = float(shown.max(initial=low))
    high = high if high > low else low + 1.0
    order = np.argsort(shown, kind="stable")
    drawn = _style.points(ax, *xy[order].T, size=size, c=shown[order], cmap=_style.SEQUENTIAL, vmin=low, vmax=high)
    over, under = bool((shown > high).any()), bool((shown < low).any())
    extend = {(True, True): "both", (True, False): "max", (False, True): "min"}.get((over, under), "neither")
    bar = ax.figure.colorbar(drawn, cax=ax.inset_axes((1.03, 0.2, 0.04, 0.6)), extend=extend)
    bar.outline.set_visible(False)
    bar.ax.tick_params(width=0.4, length=2)
    if bar.solids is not None:
        bar.solids.set_rasterized(True)
    _style.thousands(bar.ax.yaxis)
    if panel.unit:
        bar.set_label(panel.unit, fontsize=7)


def _values(adata: AnnData, key: str | None, palette: Palette | None) -> _Values:
    """What ``key`` names, looked up in obs, then the genes, then the features of X."""
    if key is None:
        return _Values("", "")
    if key in adata.obs:
        return _of_obs(adata, key, palette)
    genes = _genes(adata)
    at = np.flatnonzero(genes == key)
    if len(at):
        activity = adata.obsm[slots.GENE_ACTIVITY]
        if is_on_disk(activity):
            counts, total = column_and_totals(activity, int(at[0]))
        else:
            total = _host_vector(activity.sum(axis=1))
            counts = _host_vector(activity[:, int(at[0])])
        scaled = np.log1p(1e4 * counts / np.maximum(total, 1))
        return _Values(key, GENE_SCALE, numbers=scaled, clip=True)
    if adata.X is not None and key in adata.var_names:
        j = adata.var_names.get_loc(key)
        column = column_and_totals(adata.X, j)[0] if is_on_disk(adata.X) else _host_vector(adata.X[:, j])
        return _Values(key, "counts", numbers=column.astype(np.float64), clip=True)
    known = [*map(str, adata.obs.columns), *genes, *(adata.var_names if adata.n_vars <= 100_000 else ())]
    lower = {name.lower(): name for name in reversed(known)}
    close = [lower[m] for m in difflib.get_close_matches(key.lower(), list(lower), n=5, cutoff=0.6)]
    columns = ", ".join(map(repr, adata.obs.columns)) or "none"
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "call the verb that computes it first."
    msg = (
        f"color {key!r} is neither a column of obs ({columns}), nor one of {len(genes):,} genes of the gene "
        f"activity, nor one of {adata.n_vars:,} features of X; {hint}"
    )
    raise MissingSlotError(msg)


def _of_obs(adata: AnnData, key: str, palette: Palette | None) -> _Values:
    column = adata.obs[key]
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return _Values(key, "", numbers=column.to_numpy(np.float64, na_value=np.nan))
    if not isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype("category")
    names = [str(c) for c in column.cat.categories]
    colors = category_colors(adata, key, names, palette)
    return _Values(key, "", codes=column.cat.codes.to_numpy(np.intp), names=names, colors=colors)


def _genes(adata: AnnData) -> np.ndarray:
    if slots.GENE_ACTIVITY not in adata.obsm or slots.GENE_ACTIVITY not in adata.uns:
        return np.empty(0, object)
    return np.asarray(adata.uns[slots.GENE_ACTIVITY]["genes"], object)


def _host_vector(values: Any) -> np.ndarray:
    """A column, dense or sparse, host or device, as a NumPy vector."""
    if hasattr(values, "toarray"):
        values = values.toarray()
    return as_host(values).ravel() if is_device_array(values) else np.asarray(values).ravel()
