"""Text on an embedding: one label per category at its median, moved apart where labels would overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib import patheffects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text


def separable(xy: np.ndarray, codes: np.ndarray, n_groups: int) -> bool:
    """Whether categories have places of their own: their medians explain a third of the positions' spread."""
    shown = codes >= 0
    xy, codes = xy[shown], codes[shown]
    if len(xy) == 0:
        return False
    centers = np.array([np.median(xy[codes == g], axis=0) if (codes == g).any() else [0, 0] for g in range(n_groups)])
    within = ((xy - centers[codes]) ** 2).sum()
    total = ((xy - xy.mean(axis=0)) ** 2).sum()
    return bool(total == 0 or within < total * 2 / 3)


class Labels(NamedTuple):
    """The labels of one axes and, for each, the cells it names (data coordinates)."""

    ax: Axes
    texts: list[Text]
    members: list[np.ndarray]


def place_labels(ax: Axes, xy: np.ndarray, codes: np.ndarray, names: Sequence[str]) -> Labels:
    """Write each category's name at the cell nearest to its median."""
    labels, size = Labels(ax, [], []), 7.5 if len(names) <= 20 else 6.5
    for g, name in enumerate(names):
        members = xy[codes == g]
        if len(members) == 0:
            continue
        center = np.median(members, axis=0)
        x, y = members[((members - center) ** 2).sum(axis=1).argmin()]
        text = ax.text(x, y, name, ha="center", va="center", fontsize=size, fontweight="bold", zorder=5)
        text.set_path_effects([patheffects.withStroke(linewidth=2, foreground="white")])
        text.set_gid("label")
        labels.texts.append(text)
        labels.members.append(members)
    return labels


def spread_labels(figure: Figure, labels: list[Labels]) -> None:
    """Move labels off the groups they would cover and off each other, and into the axes.

    A label moved by more than its size keeps a line to its place.
    """
    if not any(part.texts for part in labels):
        return
    figure.draw_without_rendering()  # fixes the layout, so that text extents are final
    for ax, texts, members in labels:
        if not texts:
            continue
        boxes = [t.get_window_extent() for t in texts]
        half = np.array([[b.width / 2 + 1, b.height / 2] for b in boxes])
        home = ax.transData.transform([t.get_position() for t in texts])
        frame = ax.get_window_extent()
        low, high = np.array([frame.x0, frame.y0]) + half + 3, np.array([frame.x1, frame.y1]) - half
        low, high = np.minimum(low, high), np.maximum(low, high)
        cells = [ax.transData.transform(m) for m in members]
        start = np.array([_off_group(g, home[g], half[g], cells, (low[g], high[g])) for g in range(len(texts))])
        at = _apart(np.clip(start, low, high), half, low, high)
        moved = np.linalg.norm(at - start, axis=1)
        for text, new, old, distance, size in zip(texts, at, home, moved, half, strict=True):
            x, y = ax.transData.inverted().transform(new)
            text.set_position((x, y))
            if distance > 2 * size[1] + size.max():
                (x0, y0), (x1, y1) = ax.transData.inverted().transform([old, new])
                ax.plot([x0, x1], [y0, y1], color="#333333", linewidth=0.5, zorder=4)


def _off_group(
    g: int, home: np.ndarray, half: np.ndarray, cells: list[np.ndarray], frame: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """``home``, or a free place above or below group ``g`` where the label would cover a third of it."""

    def inside(members: np.ndarray, at: np.ndarray) -> int:
        return int((np.abs(members - at) < half).all(axis=1).sum())

    own = cells[g]
    if inside(own, home) < len(own) / 3:
        return home
    distance = np.linalg.norm(own - home, axis=1)
    near = own[distance <= 3 * np.median(distance), 1]  # leaves out cells strayed far from the group
    bottom, top = near.min(), near.max()
    for y in (top + half[1] + 3, bottom - half[1] - 3):
        at = np.array([np.clip(home[0], frame[0][0], frame[1][0]), y])
        others = sum(inside(members, at) for k, members in enumerate(cells) if k != g)
        if frame[0][1] <= y <= frame[1][1] and others <= 0.02 * len(own):
            return at
    return home


def _apart(at: np.ndarray, half: np.ndarray, low: np.ndarray, high: np.ndarray, *, n_steps: int = 200) -> np.ndarray:
    """Centres of boxes pushed apart, along the axis that needs less, until none overlaps or steps run out."""
    for _ in range(n_steps):
        gap = at[:, None] - at[None]
        over = half[:, None] + half[None] - np.abs(gap)
        hit = (over > 0).all(axis=2)
        np.fill_diagonal(hit, val=False)
        if not hit.any():
            break
        axis = (over[..., 1] < over[..., 0]).astype(int)
        i, j = np.nonzero(np.triu(hit))
        along = axis[i, j]
        push = np.where(gap[i, j, along] >= 0, 1.0, -1.0) * (over[i, j, along] / 2 + 0.5)
        at = at.copy()
        np.add.at(at, (i, along), push)
        np.add.at(at, (j, along), -push)
        at = np.clip(at, low, high)
    return at
