"""Called peaks as tables, named and scored as MACS3 names and scores them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gpuatac.core.peaks import Blocks, CalledPeaks

MOST_SCORE = 1000
LETTERS = 26


def peak_frame(
    peaks: CalledPeaks, blocks: Blocks | None, chroms: list[str], *, name: str, by_p: bool = False
) -> pd.DataFrame:
    """One group's peaks; ``chroms`` names the numbers in ``peaks.chrom``. ``score`` is of q, or of p with ``by_p``."""
    new = np.ones(peaks.start.size, bool)
    new[1:] = (peaks.chrom[1:] != peaks.chrom[:-1]) | (peaks.end[1:] != peaks.end[:-1])
    score = ((peaks.p if by_p else peaks.q).astype(np.float64) * 10).astype(np.int64)
    frame = pd.DataFrame(
        {
            "chrom": pd.Categorical.from_codes(peaks.chrom, chroms),
            "start": peaks.start,
            "end": peaks.end,
            "name": _names(new, name),
            "score": np.minimum(score, MOST_SCORE).astype(np.int32),
            "strand": pd.Categorical.from_codes(np.zeros(peaks.start.size, np.int8), ["."]),
            "signal_value": peaks.fold.astype(np.float64),
            "p_value": peaks.p.astype(np.float64),
            "q_value": peaks.q.astype(np.float64),
            "peak": np.where(peaks.summit < 0, -1, peaks.summit - peaks.start).astype(np.int32),
        }
    )
    if blocks is not None:
        frame["block_sizes"], frame["block_starts"] = _block_texts(peaks, blocks)
    return frame


def _names(new: np.ndarray, name: str) -> np.ndarray:
    """``<name>_peak_<n>``, with a letter where a region has several rows."""
    number = np.cumsum(new)
    size = np.bincount(number)[number] if number.size else number
    first = np.flatnonzero(new)
    sub = np.arange(new.size) - first[number - 1]
    letter = np.array([_letters(k) for k in range(int(sub.max(initial=0)) + 1)], dtype=object)
    prefix = f"{name}_peak_"
    out = np.array([f"{prefix}{k}" for k in number.tolist()], dtype=object)
    several = size > 1
    out[several] += letter[sub[several]]
    return out


def _letters(k: int) -> str:
    """a, b, ..., z, ba, bb, ...: as MACS3 counts subpeaks."""
    return chr(97 + k) if k < LETTERS else _letters(k // LETTERS) + chr(97 + k % LETTERS)


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
    return region_start[at] < chrom * span + end
