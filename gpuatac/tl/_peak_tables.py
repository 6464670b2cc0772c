"""Called peaks as tables, scored as MACS3 scores them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from gpuatac.core.peaks.scores import Blocks, CalledPeaks

MOST_SCORE = 1000


def peak_frame(peaks: CalledPeaks, blocks: Blocks | None, chroms: list[str], *, by_p: bool = False) -> pd.DataFrame:
    """One group's peaks; ``chroms`` names the numbers in ``peaks.chrom``. Scores are of q, or of p with ``by_p``."""
    score = ((peaks.p if by_p else peaks.q).astype(np.float64) * 10).astype(np.int32)
    frame = pd.DataFrame(
        {
            "chrom": pd.Categorical.from_codes(peaks.chrom, chroms),
            "start": peaks.start,
            "end": peaks.end,
            "score": np.minimum(score, MOST_SCORE),
            "strand": pd.Categorical.from_codes(np.zeros(peaks.start.size, np.int8), ["."]),
            "signal_value": peaks.fold,
            "p_value": peaks.p,
            "q_value": peaks.q,
            "peak": np.where(peaks.summit < 0, -1, peaks.summit - peaks.start).astype(np.int32),
            "raw_score": score,
        },
        copy=False,
    )
    if blocks is not None:
        frame["block_sizes"], frame["block_starts"] = _block_texts(peaks, blocks)
    return frame


def joined(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One frame of all groups, with the group first. The frames are emptied, column by column, as it grows."""
    sizes = [len(frame) for frame in frames.values()]
    group = pd.Categorical.from_codes(np.repeat(np.arange(len(sizes), dtype=np.int32), sizes), list(frames))
    columns: dict[str, object] = {"group": group}
    for name in list(next(iter(frames.values()))):
        parts = [frame.pop(name) for frame in frames.values()]
        if isinstance(parts[0].dtype, pd.CategoricalDtype):
            codes = np.concatenate([part.cat.codes.to_numpy() for part in parts])
            columns[name] = pd.Categorical.from_codes(codes, parts[0].cat.categories)
        else:
            columns[name] = np.concatenate([part.to_numpy() for part in parts])
    return pd.DataFrame(columns, copy=False)


def _block_texts(peaks: CalledPeaks, blocks: Blocks) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and starts (from the region's start) of the blocks of each region; 1 bp at each end where none lies there."""
    sizes, starts = [], []
    lo, hi = np.searchsorted(blocks.region, [np.arange(peaks.start.size), np.arange(1, peaks.start.size + 1)])
    for i in range(peaks.start.size):
        start, end = int(peaks.start[i]), int(peaks.end[i])
        own = [(int(a), int(b)) for a, b in zip(blocks.start[lo[i] : hi[i]], blocks.end[lo[i] : hi[i]], strict=True)]
        if not own or own[0][0] != start:
            own.insert(0, (start, start + 1))
        if own[-1][1] != end:
            own.append((end - 1, end))
        sizes.append(",".join(str(b - a) for a, b in own))
        starts.append(",".join(str(a - start) for a, _ in own))
    return np.array(sizes, dtype=object), np.array(starts, dtype=object)


def intervals_overlap(
    chrom: np.ndarray, start: np.ndarray, end: np.ndarray, regions: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> np.ndarray:
    """bool (n,): intervals that share a base with one of the sorted disjoint regions (chromosome code, start, end)."""
    span = np.int64(1) << 33
    far = span * (1 << 20)
    region_start = np.append(regions[0] * span + regions[1], far)
    region_end = regions[0] * span + regions[2]
    at = np.searchsorted(region_end, chrom * span + start, side="right")
    overlap: np.ndarray = region_start[at] < chrom * span + end
    return overlap
