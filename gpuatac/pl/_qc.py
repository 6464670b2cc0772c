"""Quality of a sample: fragment sizes, TSS profile, TSSe against depth, barcode ranks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac import check, slots
from gpuatac.backend import as_host
from gpuatac.errors import InputError, MissingSlotError
from gpuatac.pl import _style
from gpuatac.pl._palette import category_colors, colors_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gpuatac.pl._palette import Palette

NUCLEOSOME = 147  # bp of DNA wrapped around one nucleosome
FLANK = 100  # positions at each end of the TSS profile that stand for the background


def frag_size_distr(
    adata: AnnData,
    *,
    log_y: bool = False,
    ax: Axes | None = None,
    save: str | Path | None = None,
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """Share of fragments of each length, with marks at one and two nucleosomes (147 and 294 bp).

    Reads   uns["frag_size_distr"]: int64, entry i = fragments of i bp, entry 0 = longer than the last. Shares
            are of all fragments; those too long to be drawn are stated in the figure.
    Returns a Figure; also written to ``save`` (.png, .pdf or .svg). ``log_y``: logarithmic shares.
            ``ax``: axes to draw on, whose Figure is returned. ``figsize`` in inches, without ``ax``.

    Raises
    ------
    MissingSlotError
        The slot is absent.
    InputError
        It holds no fragment, or ``save`` has another suffix.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from gpuatac import pl
    >>> pl.frag_size_distr(AnnData(uns={"frag_size_distr": np.arange(1001)})).axes[0].get_xlabel()
    'Fragment length (bp)'
    """
    with _style.panel(ax, save, figsize, default=(3.2, 2.3)) as on:
        _draw_sizes(on, adata, log_y=log_y)
    return _style.figure_of(on)


def tss_profile(
    adata: AnnData,
    *,
    smooth: int = 11,
    ax: Axes | None = None,
    save: str | Path | None = None,
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """Insertions around transcription start sites, relative to the mean of the outer 100 + 100 positions.

    Reads   uns["TSS_profile"]: int64 (4001,), positions -2000 to 2000 bp; uns["library_tsse"] if present.
    Returns a Figure, that of ``ax`` where it is given; also written to ``save``. ``smooth``: odd width in bp of
            a running mean (1: none); where it meets an end of the profile it averages the positions there are.

    Raises
    ------
    MissingSlotError
        The slot is absent.
    InputError
        No insertion lies in the outer positions, ``smooth`` is even, or ``save`` has another suffix.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from gpuatac import pl
    >>> profile = 10 + 90 * (abs(np.arange(-2000, 2001)) < 50)
    >>> figure = pl.tss_profile(AnnData(uns={"TSS_profile": profile, "library_tsse": 9.9}))
    >>> float(figure.axes[0].lines[0].get_ydata().max())
    10.0
    """
    with _style.panel(ax, save, figsize, default=(3.2, 2.3)) as on:
        _draw_profile(on, adata, smooth=smooth)
    return _style.figure_of(on)


def tsse(
    adata: AnnData,
    *,
    min_counts: float | None = None,
    min_tsse: float | None = None,
    ax: Axes | None = None,
    save: str | Path | None = None,
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """TSS enrichment of each cell against its number of fragments, coloured by the density of cells.

    Reads   obs["n_fragment"], obs["tsse"]. Cells without a fragment or a finite TSSe are not drawn.
    Returns a Figure, that of ``ax`` where it is given; also written to ``save``. ``min_counts`` (fragments) and
            ``min_tsse`` are drawn as lines, with the number of cells at or above both. Cost: O(n_cells), under
            1 s for 100,000.

    Raises
    ------
    MissingSlotError
        A column is absent.
    InputError
        No cell can be drawn, or ``save`` has another suffix.

    Examples
    --------
    >>> import pandas as pd
    >>> from anndata import AnnData
    >>> from gpuatac import pl
    >>> obs = pd.DataFrame({"n_fragment": [500, 5000], "tsse": [2.0, 20.0]}, index=["a", "b"])
    >>> pl.tsse(AnnData(obs=obs), min_counts=1000).axes[0].texts[0].get_text()
    '1 of 2 cells pass'
    """
    with _style.panel(ax, save, figsize, default=(3.2, 2.6)) as on:
        _draw_tsse(on, adata, min_counts=min_counts, min_tsse=min_tsse)
    return _style.figure_of(on)


def knee(
    adata: AnnData,
    *,
    palette: Palette | None = None,
    ax: Axes | None = None,
    save: str | Path | None = None,
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """Fragments of each barcode by rank, on logarithmic axes, with the threshold where cells were called.

    Reads   obs["n_fragment"]; obs["sample"] (one curve each) and uns["cell_calls"] (by sample: JSON with
            "threshold" in fragments and "method", and the curve) if present. Of a sample whose cells ``pp.call_cells``
            called, the curve is that of all barcodes before the call, as 500 points that it kept at most; otherwise that
            of the barcodes in ``adata``.
    Returns a Figure, that of ``ax`` where it is given; also written to ``save``. ``palette``: colours of the samples, as
            for ``embedding``; uns["sample_colors"] without it.

    Raises
    ------
    MissingSlotError
        obs["n_fragment"] is absent.
    InputError
        No barcode has a fragment, ``palette`` does not fit the samples, or ``save`` has another suffix.

    Examples
    --------
    >>> import pandas as pd
    >>> from anndata import AnnData
    >>> from gpuatac import pl
    >>> obs = pd.DataFrame({"n_fragment": [5000, 4000, 20]}, index=["a", "b", "c"])
    >>> calls = {"s": '{"threshold": 1000, "method": "knee"}'}
    >>> pl.knee(AnnData(obs=obs, uns={"cell_calls": calls})).axes[0].get_yscale()
    'log'
    """
    with _style.panel(ax, save, figsize, default=(3.2, 2.6)) as on:
        _draw_knee(on, adata, palette)
    return _style.figure_of(on)


def qc(
    adata: AnnData,
    *,
    min_counts: float | None = None,
    min_tsse: float | None = None,
    save: str | Path | None = None,
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """One figure of the quality panels whose results are present.

    Reads   what ``frag_size_distr``, ``tss_profile``, ``tsse`` and ``knee`` read, as far as present.
    Returns a Figure of one to four panels, lettered; also written to ``save``. ``min_counts`` and
            ``min_tsse`` go to ``tsse``.

    Raises
    ------
    MissingSlotError
        Nothing to draw.
    InputError
        ``save`` has another suffix.

    Examples
    --------
    >>> import pandas as pd
    >>> from anndata import AnnData
    >>> from gpuatac import pl
    >>> obs = pd.DataFrame({"n_fragment": [500, 5000], "tsse": [2.0, 20.0]}, index=["a", "b"])
    >>> [ax.get_xlabel() for ax in pl.qc(AnnData(obs=obs)).axes[:2]]
    ['Barcode rank', 'Fragments per cell']
    """
    panels: list[Callable[[Axes], None]] = []
    if slots.N_FRAGMENT in adata.obs:
        panels.append(lambda ax: _draw_knee(ax, adata))
    if slots.N_FRAGMENT in adata.obs and slots.TSSE in adata.obs:
        panels.append(lambda ax: _draw_tsse(ax, adata, min_counts=min_counts, min_tsse=min_tsse))
    if slots.FRAG_SIZE_DISTR in adata.uns:
        panels.append(lambda ax: _draw_sizes(ax, adata, log_y=False))
    if slots.TSS_PROFILE in adata.uns:
        panels.append(lambda ax: _draw_profile(ax, adata, smooth=11))
    if not panels:
        msg = (
            "adata holds no quality result (obs['n_fragment'], obs['tsse'], uns['frag_size_distr'], "
            "uns['TSS_profile']); call pp.import_fragments, metrics.tsse or metrics.frag_size_distr first."
        )
        raise MissingSlotError(msg)
    ncols, nrows = min(2, len(panels)), -(-len(panels) // 2)
    with _style.canvas(save, figsize or (3.4 * ncols, 2.5 * nrows)) as figure:
        layout: Any = figure.get_layout_engine()
        layout.set(w_pad=0.08, h_pad=0.08)
        grid = figure.subplots(nrows, ncols, squeeze=False).ravel()
        for ax in grid[len(panels) :]:
            ax.remove()
        for ax, draw, letter in zip(grid, panels, "abcd", strict=False):
            draw(ax)
            ax.set_title(letter, fontsize=10, x=-0.16)
    return figure


def _draw_sizes(ax: Axes, adata: AnnData, *, log_y: bool) -> None:
    counts = as_host(slots.uns_of(adata, slots.FRAG_SIZE_DISTR, writer="metrics.frag_size_distr"))
    total = counts.sum()
    if len(counts) < 2 or total == 0:
        msg = f"uns[{slots.FRAG_SIZE_DISTR!r}] holds no fragment; allowed: at least one; check the import."
        raise InputError(msg)
    longest, share = len(counts) - 1, 100 * counts[1:] / total
    lengths = np.arange(1, longest + 1)
    if log_y:
        ax.set_yscale("log")
        share = np.where(share > 0, share, np.nan)
    else:
        ax.fill_between(lengths, share, color=_style.BLUE, alpha=0.15, linewidth=0)
    ax.plot(lengths, share, color=_style.BLUE)
    for i in (1, 2):
        ax.axvline(i * NUCLEOSOME, color=_style.GREY, linewidth=0.6, dashes=(4, 3), zorder=0)
        label = ax.text(i * NUCLEOSOME, 1.01, f"{i * NUCLEOSOME}", ha="center", va="bottom", fontsize=7)
        label.set_transform(ax.get_xaxis_transform())
    ax.set_xlim(0, longest)
    if not log_y:
        ax.set_ylim(bottom=0)
    _label(ax, "Fragment length (bp)", "Fragments (%)")
    over = counts[0] / total
    over_text = "none" if counts[0] == 0 else f"{100 * over:.1f} %" if over >= 5e-4 else "< 0.1 %"
    _style.note(ax, f"{total:,} fragments\n{over_text} longer than {longest:,} bp", y=0.97)


def _draw_profile(ax: Axes, adata: AnnData, *, smooth: int) -> None:
    profile = as_host(slots.uns_of(adata, slots.TSS_PROFILE, writer="metrics.tsse")).astype(np.float64)
    smooth = check.integer("smooth", smooth, 1, len(profile))
    if smooth % 2 == 0:
        msg = f"smooth must be odd, so that the mean stays centred, got {smooth}; pass {smooth + 1}."
        raise InputError(msg)
    background = (profile[:FLANK].sum() + profile[-FLANK:].sum()) / (2 * FLANK)
    if background == 0:
        msg = (
            f"uns[{slots.TSS_PROFILE!r}] has no insertion in its outer {FLANK} + {FLANK} positions; allowed: "
            "at least one, as the profile is relative to them; use a deeper sample."
        )
        raise InputError(msg)
    box = np.ones(smooth)
    shown = np.convolve(profile, box, "same") / np.convolve(np.ones(len(profile)), box, "same") / background
    half = len(profile) // 2
    ax.plot(np.arange(-half, half + 1), shown, color=_style.BLUE)
    ax.axhline(1, color=_style.GREY, linewidth=0.6, dashes=(4, 3), zorder=0)
    ax.set_xlim(-half, half)
    ax.set_ylim(bottom=0)
    ax.set_xticks([-half, -half // 2, 0, half // 2, half])
    _label(ax, "Distance from TSS (bp)", "Insertions relative to flanks")
    if slots.LIBRARY_TSSE in adata.uns:
        _style.note(ax, f"TSSe of the library\n{float(adata.uns[slots.LIBRARY_TSSE]):.1f}")


def _draw_tsse(ax: Axes, adata: AnnData, *, min_counts: float | None, min_tsse: float | None) -> None:
    depth = slots.obs_of(adata, slots.N_FRAGMENT, writer="pp.import_fragments").astype(np.float64)
    score = slots.obs_of(adata, slots.TSSE, writer="metrics.tsse").astype(np.float64)
    known = (depth > 0) & np.isfinite(score)
    if not known.any():
        msg = f"none of {len(depth)} cells has a fragment and a finite TSSe; allowed: one or more; check it."
        raise InputError(msg)
    x, y = depth[known], score[known]
    crowd = _style.density(np.log10(x), y)
    order = np.argsort(crowd, kind="stable")
    ax.set_xscale("log")
    drawn = _style.points(ax, x[order], y[order], c=crowd[order], cmap=_style.DENSITY, vmin=0, vmax=1)
    ax.set_ylim(bottom=0)
    if np.ptp(np.log10(x)) < 0.5:  # keep at least half a decade in view
        middle = np.sqrt(x.min() * x.max())
        ax.set_xlim(middle / 2, middle * 2)
    for at, line in ((min_counts, ax.axvline), (min_tsse, ax.axhline)):
        if at is not None:
            line(at, color=_style.RED, linewidth=0.8, dashes=(4, 2))
    if min_counts is not None or min_tsse is not None:
        passing = (depth >= (min_counts or 0)) & (score >= (-np.inf if min_tsse is None else min_tsse))
        _style.note(ax, f"{int(passing.sum()):,} of {len(depth):,} cells pass", x=0.03)
    _label(ax, "Fragments per cell", "TSS enrichment")
    bar = ax.figure.colorbar(drawn, ax=ax, ticks=[0, 1], shrink=0.5, aspect=12, pad=0.02)
    bar.ax.set_yticklabels(["low", "high"])
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)
    bar.set_label("Cell density", fontsize=7, labelpad=-10)


def _draw_knee(ax: Axes, adata: AnnData, palette: Palette | None = None) -> None:
    depth = slots.obs_of(adata, slots.N_FRAGMENT, writer="pp.import_fragments")
    calls = {name: _record(call) for name, call in adata.uns.get(slots.CELL_CALLS, {}).items()}
    if slots.SAMPLE in adata.obs:
        sample = adata.obs[slots.SAMPLE].astype(str).to_numpy()
        names = sorted(set(sample))
        colors = category_colors(adata, slots.SAMPLE, names, palette)
    else:
        names = [next(iter(calls)) if len(calls) == 1 else ""]
        sample = np.full(len(depth), names[0])
        colors = colors_for(names, names, palette, of="the sample")
    if not (depth > 0).any():
        msg = f"none of {len(depth)} barcodes has a fragment; allowed: at least one; check the import."
        raise InputError(msg)
    ax.set_xscale("log")
    ax.set_yscale("log")
    for name, color in zip(names, colors, strict=True):
        call = calls.get(name, {})
        rank, ranked, n_barcodes = _rank_curve(depth[sample == name], call)
        threshold = call.get("threshold")
        if threshold is None:
            ax.plot(rank, ranked, color=color, label=f"{name}: {n_barcodes:,} barcodes")
            continue
        above = int((ranked >= threshold).sum())
        n = int(call.get("n_cells", above))
        ax.plot(
            rank[max(above - 1, 0) :],
            ranked[max(above - 1, 0) :],
            color=_style.GREY if len(names) == 1 else color,
            alpha=0.5,
        )
        ax.plot(rank[:above], ranked[:above], color=color, linewidth=1.6, label=f"{name}: {n:,} of {n_barcodes:,}")
        ax.axhline(threshold, color=_style.RED if len(names) == 1 else color, linewidth=0.8, dashes=(4, 2))
        if len(names) == 1:
            method = calls[name].get("method")
            how = f" ({method})" if method else ""
            _style.note(
                ax,
                f"{n:,} of {n_barcodes:,} barcodes\nhave ≥ {threshold:,.0f} fragments{how}",
                x=0.03,
                y=0.03,
            )
    if len(names) > 1:
        ax.legend(loc="lower left")
    _label(ax, "Barcode rank", "Fragments per barcode")


def _label(ax: Axes, x: str, y: str) -> None:
    """Name both axes, their numbers as 1,000."""
    _style.thousands(ax.xaxis)
    _style.thousands(ax.yaxis)
    ax.set_xlabel(x)
    ax.set_ylabel(y)


def _rank_curve(depth: Any, call: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, int]:
    """(rank, fragments there, number of barcodes): as ``pp.call_cells`` kept them, else of these barcodes with a fragment."""
    if "rank" in call:
        rank, ranked = np.asarray(call["rank"], np.int64), np.asarray(call["n_fragment"], np.int64)
        return rank[ranked > 0], ranked[ranked > 0], int(call["n_barcodes"])
    ranked = np.sort(depth[depth > 0])[::-1]
    return np.arange(1, len(ranked) + 1), ranked, len(ranked)


def _record(call: Any) -> dict[str, Any]:
    """A call as it stands in memory (a dict) or in an .h5ad (its JSON)."""
    return dict(call) if isinstance(call, dict) else json.loads(call)
