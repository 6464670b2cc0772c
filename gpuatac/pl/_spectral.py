"""Eigenvalues of the spectral embedding and how far each component follows depth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac import slots
from gpuatac.backend import as_host
from gpuatac.errors import InputError
from gpuatac.pl import _style

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def spectral_eigenvalues(
    adata: AnnData,
    *,
    ax: Axes | None = None,
    save: str | Path | None = None,
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """Eigenvalue of each spectral component and |r| of the component with depth; those left out are marked.

    Reads   uns["spectral_eigenvalue"]: float64 (k,); uns["spectral"]["used"]: bool (k,) and
            uns["spectral"]["depth_correlation"]: float64 (k,), each where it exists.
    Returns a Figure; also written to ``save``. Components are numbered from 1. Without correlations there is
            one panel. ``ax``: axes to draw the eigenvalues alone on, whose Figure is returned.

    Raises
    ------
    InputError
        The arrays differ in length, or ``save`` has another suffix.
    MissingSlotError
        uns has no eigenvalues; call ``tl.spectral``.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from gpuatac import pl
    >>> uns = {"spectral_eigenvalue": np.array([0.9, 0.5, 0.4]), "spectral": {
    ...     "used": np.array([False, True, True]), "depth_correlation": np.array([-0.98, 0.1, 0.0])}}
    >>> [ax.get_ylabel() for ax in pl.spectral_eigenvalues(AnnData(uns=uns)).axes]
    ['Eigenvalue', '|r| with depth']
    """
    values = as_host(slots.uns_of(adata, slots.SPECTRAL_EIGENVALUE, writer="tl.spectral"))
    record = adata.uns.get(slots.SPECTRAL, {})
    used = as_host(record.get("used", np.ones(len(values), bool))).astype(bool)
    depth = record.get("depth_correlation")
    r = None if depth is None else np.abs(as_host(depth))
    if len(used) != len(values) or (r is not None and len(r) != len(values)):
        found = f"{len(values)} eigenvalues, {len(used)} marks and {0 if r is None else len(r)} correlations"
        msg = f"uns holds {found}; allowed: as many of each; call tl.spectral again."
        raise InputError(msg)
    number = np.arange(1, len(values) + 1)
    if r is None or ax is not None:
        with _style.panel(ax, save, figsize, default=(3.2, 3.0)) as on:
            _draw_values(on, number, values, used)
            _components_axis(on, number)
        return _style.figure_of(on)
    with _style.canvas(save, (3.2, 3.0) if figsize is None else figsize) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        _draw_values(upper, number, values, used)
        lower.bar(number, r, width=0.7, color=np.where(used, _style.BLUE, _style.RED))
        lower.set_ylim(0, 1.12)
        lower.set_yticks([0, 0.5, 1])
        lower.set_ylabel("|r| with depth")
        for x, height in zip(number[~used], r[~used], strict=True):
            lower.text(x + 0.55, height, f"{height:.2f}", ha="left", va="center", fontsize=7, color=_style.RED)
        _components_axis(lower, number)
    return figure


def _draw_values(ax: Axes, number: np.ndarray, values: np.ndarray, used: np.ndarray) -> None:
    ax.plot(number, values, color=_style.LIGHT, zorder=1)
    ax.scatter(number[used], values[used], s=14, color=_style.BLUE, linewidths=0, label="used", zorder=2)
    if not used.all():
        left_out: dict[str, Any] = {"facecolor": "white", "edgecolor": _style.RED, "linewidths": 1.0}
        ax.scatter(number[~used], values[~used], s=16, label="left out (follows depth)", zorder=2, **left_out)
        ax.legend(loc="upper right")
    if values.min() > 0:
        ax.set_yscale("log")
        _style.thousands(ax.yaxis)
    ax.set_ylabel("Eigenvalue")


def _components_axis(ax: Axes, number: np.ndarray) -> None:
    ax.set_xlabel("Component")
    step = max(1, len(number) // 6 // 5 * 5)
    ax.set_xticks([1, *range(step, len(number) + 1, step)] if step > 1 else number)
    ax.set_xlim(0.2, len(number) + 0.8)
