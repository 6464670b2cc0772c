"""Eigenvalues of the spectral embedding and how far each component follows depth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gpuatac import slots
from gpuatac.backend import as_host
from gpuatac.errors import InputError
from gpuatac.pl import _style

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.figure import Figure


def spectral_eigenvalues(
    adata: AnnData, *, save: str | Path | None = None, figsize: tuple[float, float] = (3.2, 3.0)
) -> Figure:
    """Eigenvalue of each spectral component and |r| of the component with depth; those left out are marked.

    Reads   uns["spectral_eigenvalue"]: float64 (k,); uns["spectral"]["used"]: bool (k,) and
            uns["spectral"]["depth_correlation"]: float64 (k,), each where it exists.
    Returns a Figure; also written to ``save``. Components are numbered from 1. Without correlations there is
            one panel.

    Raises
    ------
    MissingSlotError
        The eigenvalues are absent.
    InputError
        The arrays differ in length, or ``save`` has another suffix.

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
    with _style.canvas(save, figsize) as figure:
        axes = figure.subplots(1 if r is None else 2, 1, sharex=True, squeeze=False,
                               height_ratios=None if r is None else (3, 2)).ravel()  # fmt: skip
        ax = axes[0]
        ax.plot(number, values, color=_style.LIGHT, zorder=1)
        ax.scatter(number[used], values[used], s=14, color=_style.BLUE, linewidths=0, label="used", zorder=2)
        if not used.all():
            left_out = {"facecolor": "white", "edgecolor": _style.RED, "linewidths": 1.0}
            ax.scatter(number[~used], values[~used], s=16, label="left out (follows depth)", zorder=2, **left_out)
            ax.legend(loc="upper right")
        if values.min() > 0:
            ax.set_yscale("log")
            _style.thousands(ax.yaxis)
        ax.set_ylabel("Eigenvalue")
        if r is not None:
            colors = np.where(used, _style.BLUE, _style.RED)
            axes[1].bar(number, r, width=0.7, color=colors)
            axes[1].set_ylim(0, 1.12)
            axes[1].set_yticks([0, 0.5, 1])
            axes[1].set_ylabel("|r| with depth")
            for x, height in zip(number[~used], r[~used], strict=True):
                axes[1].text(x + 0.55, height, f"{height:.2f}", ha="left", va="center", fontsize=7, color=_style.RED)
        axes[-1].set_xlabel("Component")
        step = max(1, len(values) // 6 // 5 * 5)
        axes[-1].set_xticks([1, *range(step, len(values) + 1, step)] if step > 1 else number)
        axes[-1].set_xlim(0.2, len(values) + 0.8)
    return figure
