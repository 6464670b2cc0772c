"""The colours of categories: as asked for, else as stored beside the cells, else the default ones."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import Colormap, ListedColormap, is_color_like, to_hex

from gpuatac import slots
from gpuatac.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

    #: What ``palette`` may be: colours in the order of the categories, by category, or a colormap.
    Palette = str | Colormap | Mapping[str, Any] | Sequence[Any]

logger = logging.getLogger(__name__)
FEW = 64  # colours of a colormap with which it is a list of distinct ones (tab10, Set2), not a scale (viridis)


def category_colors(adata: AnnData, groupby: Any, names: list[str], palette: Palette | None) -> list[str]:
    """A hex colour for each of ``names``, groups of ``groupby`` (a column of obs, a label for each cell, or None).

    Every category of the column has its colour, drawn or not, so that a group looks the same in each figure.
    """
    if not isinstance(groupby, str):
        return colors_for(names, names, palette, of="the groups")
    labels = adata.obs[groupby]
    if not isinstance(labels.dtype, pd.CategoricalDtype):
        labels = labels.astype("category")
    every = [str(c) for c in labels.cat.categories]
    stored, wrong = slots.colors_of(adata.uns.get(slots.of_colors(groupby)), len(every))
    if wrong and palette is None:
        logger.warning("uns[%r] %s; the default colours are drawn", slots.of_colors(groupby), wrong)
    return colors_for(every, names, palette, of=f"obs[{groupby!r}]", stored=stored)


def colors_for(
    every: list[str], names: list[str], palette: Palette | None, *, of: str, stored: list[Any] | None = None
) -> list[str]:
    """A hex colour for each of ``names`` out of the categories ``every``, which are those of ``of``.

    Without ``palette`` the colours ``stored``, one for each category, are taken, else the default ones.
    """
    if palette is None:
        chosen = slots.default_colors(len(every)) if stored is None else stored
    elif hasattr(palette, "items"):  # a dict or a Series
        return _by_name(every, names, {str(name): color for name, color in palette.items()}, of)
    elif isinstance(palette, str | Colormap):
        chosen = _of_colormap(palette, len(every), of)
    elif not isinstance(palette, Iterable):
        msg = (
            f"palette must be a list of colours, colours by category, or a colormap or its name, got {palette!r} "
            f"({type(palette).__name__}); pass one of them, or leave it out."
        )
        raise InputError(msg)
    else:
        chosen = [_hex(c) for c in palette]
        if len(chosen) not in (len(every), len(names)):
            drawn = "" if len(every) == len(names) else f" (or each of the {len(names)} drawn)"
            msg = (
                f"palette has {len(chosen)} colours for {len(every)} categories of {of} ({_few(every)}); give one for each of them"
                f"{drawn}, in their order."
            )
            raise InputError(msg)
        every = every if len(chosen) == len(every) else names
    by_name = dict(zip(every, map(to_hex, chosen), strict=True))
    return [by_name[name] for name in names]


def _by_name(every: list[str], names: list[str], given: dict[str, Any], of: str) -> list[str]:
    unknown = [name for name in given if name not in every]
    if unknown:
        msg = f"palette names {_few(unknown)}, which {of} lacks; its categories are {_few(every)}: correct or leave out the others."
        raise InputError(msg)
    missing = [name for name in names if name not in given]
    if missing:
        msg = f"palette lacks {_few(missing)} of {of}; give a colour for each category drawn."
        raise InputError(msg)
    return [_hex(given[name]) for name in names]


def _of_colormap(palette: str | Colormap, n: int, of: str) -> list[str]:
    """n colours of a colormap: the first ones of a list of distinct colours, evenly spaced ones of a scale."""
    if isinstance(palette, str):
        if palette not in mpl.colormaps:
            near = difflib.get_close_matches(palette, list(mpl.colormaps), n=1, cutoff=0.7)
            hint = f"did you mean {near[0]!r}?" if near else "for one colour pass a list of it." if is_color_like(palette) else ""
            msg = (
                f"palette must be a list of colours, colours by category, or the name of a matplotlib colormap such as 'tab20', "
                f"got {palette!r}; {hint or 'choose one of matplotlib.colormaps.'}"
            )
            raise InputError(msg)
        palette = mpl.colormaps[palette]
    if not (isinstance(palette, ListedColormap) and palette.N < FEW):
        return [to_hex(c) for c in palette(np.linspace(0, 1, n))]
    if palette.N < n:
        msg = (
            f"palette {palette.name!r} has {palette.N} colours for {n} categories of {of}; choose one with more, or one that is "
            "continuous such as 'turbo', or leave palette out."
        )
        raise InputError(msg)
    return [to_hex(palette(i)) for i in range(n)]


def _hex(color: Any) -> str:
    if not is_color_like(color):
        msg = f"palette holds {color!r}, which is no colour; allowed: names such as 'steelblue', '#1f77b4', or (red, green, blue)."
        raise InputError(msg)
    return str(to_hex(color))


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:8])) + (", ..." if len(names) > 8 else "")
