"""Observed and simulated doublet scores, one panel for each sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from gpuatac import check, slots
from gpuatac.backend import as_host
from gpuatac.errors import InputError
from gpuatac.pl import _style

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def doublet_scores(
    adata: AnnData,
    *,
    bins: int = 30,
    ax: Axes | None = None,
    save: str | Path | None = None,
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """Histograms of the doublet scores of the cells and of simulated doublets, with the threshold.

    Reads   obs["doublet_score"]; uns["scrublet"] with "sim_doublet_score" (float, one per simulated doublet)
            and "threshold" (optional), or {"samples": {name: such a dict}}; then obs["sample"] tells cells
            apart.
    Returns a Figure with one panel per sample, shares in % of the cells and of the simulated doublets; also
            written to ``save``. ``bins``: most bars over the range of all scores. ``ax``: axes to draw one sample
            on, whose Figure is returned.

    Raises
    ------
    MissingSlotError
        A slot is absent.
    InputError
        Samples and cells do not fit each other, ``ax`` is given for several samples, or ``save`` has another suffix.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from anndata import AnnData
    >>> from gpuatac import pl
    >>> obs = pd.DataFrame({"doublet_score": [0.1, 0.1, 0.6]}, index=["a", "b", "c"])
    >>> uns = {"scrublet": {"sim_doublet_score": np.array([0.2, 0.5, 0.7]), "threshold": 0.4}}
    >>> pl.doublet_scores(AnnData(obs=obs, uns=uns)).axes[0].get_xlabel()
    'Doublet score'
    """
    scores = slots.obs_of(adata, slots.DOUBLET_SCORE, writer="pp.scrublet").astype(np.float64)
    bins = check.integer("bins", bins, 2)
    parts = _samples(adata, slots.uns_of(adata, slots.SCRUBLET, writer="pp.scrublet"))
    _style.one_panel(ax, [f"sample {name}" for name, _, _ in parts])
    if len(parts) == 1:
        with _style.panel(ax, save, figsize, default=(3.2, 2.4)) as on:
            _draw_panel(on, *parts[0], scores=scores, bins=bins)
            on.set_ylabel("Share (%)")
            _legend(on)
        return _style.figure_of(on)
    ncols = min(3, len(parts))
    nrows = -(-len(parts) // ncols)
    with _style.canvas(save, figsize or (2.9 * ncols + 0.3, 2.3 * nrows + 0.1)) as figure:
        grid = figure.subplots(nrows, ncols, squeeze=False, sharex=True, sharey=True).ravel()
        for one, part in zip(grid, parts, strict=False):
            _draw_panel(one, *part, scores=scores, bins=bins)
            one.xaxis.set_tick_params(labelbottom=True)
        for one in grid[::ncols]:
            one.set_ylabel("Share (%)")
        for one in grid[len(parts) :]:
            one.remove()
        _legend(grid[0])
    return figure


def _draw_panel(
    ax: Axes, name: str, rows: np.ndarray, record: dict[str, Any], *, scores: np.ndarray, bins: int
) -> None:
    _draw(ax, scores[rows], record, bins=bins)
    if name != "all":  # what pp.scrublet calls the cells of a data set without samples
        ax.set_title(name)
    ax.set_xlabel("Doublet score")


def _legend(ax: Axes) -> None:
    ax.legend(loc="upper right", frameon=True, facecolor="white", edgecolor="none", framealpha=1)


def _samples(adata: AnnData, record: dict[str, Any]) -> list[tuple[str, np.ndarray, dict[str, Any]]]:
    """(name, rows, scrublet record) of each sample; one without a name for a flat record."""
    if "samples" not in record:
        return [("", np.ones(adata.n_obs, bool), record)]
    parts = record["samples"]
    if len(parts) == 1 and slots.SAMPLE not in adata.obs:
        return [(name, np.ones(adata.n_obs, bool), one) for name, one in parts.items()]
    sample = slots.obs_of(adata, slots.SAMPLE, writer="pp.import_fragments").astype(str)
    absent = [name for name in parts if name not in set(sample)]
    if absent or not parts:
        msg = (
            f"uns[{slots.SCRUBLET!r}]['samples'] holds {', '.join(absent) or 'no sample'}, which no cell has "
            f"in obs['sample'] ({', '.join(sorted(set(sample)))}); call pp.scrublet again."
        )
        raise InputError(msg)
    return [(name, sample == name, one) for name, one in parts.items()]


def _draw(ax: Axes, scores: np.ndarray, record: dict[str, Any], *, bins: int) -> None:
    scores = scores[np.isfinite(scores)]
    simulated = as_host(record.get("sim_doublet_score", np.empty(0))).astype(np.float64)
    both = np.concatenate([scores, simulated])
    if len(both) == 0:
        msg = "obs['doublet_score'] holds no finite score; allowed: at least one; call pp.scrublet again."
        raise InputError(msg)
    # Scores of few cells take few values; narrower bars than these would leave gaps between them.
    bins = min(bins, max(5, len(np.unique(both)) // 2))
    edges = np.linspace(min(0.0, both.min()), both.max() or 1.0, bins + 1)
    for values, color, label, filled in (
        (scores, _style.BLUE, "cells", True),
        (simulated, _style.ORANGE, "simulated doublets", False),
    ):
        if len(values):
            share = 100 * np.histogram(values, edges)[0] / len(values)
            ax.stairs(share, edges, fill=True, color=color, alpha=0.45 if filled else 0.25, linewidth=0)
            ax.stairs(share, edges, color=color, linewidth=1.0, label=label)
    threshold = record.get("threshold")
    if threshold is not None and np.isfinite(float(threshold)):
        n = int((scores >= float(threshold)).sum())
        label = f"{n:,} of {len(scores):,} cells ≥ {float(threshold):.2f}"
        ax.axvline(float(threshold), color=_style.DARK, linewidth=0.8, dashes=(4, 2))
        ax.text(1.0, 1.02, label, transform=ax.transAxes, ha="right", va="bottom", fontsize=7)
    ax.set_ylim(bottom=0)
    ax.set_xlim(edges[0], max(edges[-1], ax.get_xlim()[1]))
    ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
