"""What an evaluation of tracks found: its tables, and how they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gpuatac.core.tracks import track_metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuatac.core.tracks.smoothing import Tuned

OVERALL = "all"
MEASURES = (*track_metrics.REGRESSION, *track_metrics.RANKING, *track_metrics.AT_THRESHOLD)


@dataclass(frozen=True)
class Comparison:
    """What ``compare`` found.

    Attributes
    ----------
    table
        One row for each method, chromosome ("all": all of them together) and part ("whole", "inside" and "outside" the peaks of
        the clean track): bases, mse, pearson, spearman, and for the whole auroc, auprc, precision, recall and f1 of bases at the
        threshold; note says why one is NaN.
    intervals
        One row for each method, baseline and measure: difference (method - baseline), low, high, draws, blocks, and binning: how
        far the difference of binned scores was from the exact one, by which the bounds are shifted.
    peaks
        One row for each method with probabilities: peaks called by bdgpeakcall's rule, peaks of the clean track, how many of the
        called ones meet a clean one (precision), how many clean ones are met (recall), f1.
    tuned
        Factors and mixes of the smoothings; None without a noisy track.
    tuned_on, evaluated_on
        Names of chromosomes.
    """

    table: pd.DataFrame
    intervals: pd.DataFrame
    peaks: pd.DataFrame
    tuned: Tuned | None
    tuned_on: list[str]
    evaluated_on: list[str]

    def overall(self, part: str = "whole") -> pd.DataFrame:
        """Measures over all chromosomes by method: one part of ``table``."""
        of_all = self.table[(self.table["chromosome"] == OVERALL) & (self.table["part"] == part)]
        return of_all.set_index("method")[["bases", *MEASURES]]

    def text(self) -> str:
        """The tables as a person reads them."""
        shown = [f"Evaluated on {', '.join(self.evaluated_on)}"]
        if self.tuned is not None:
            shown[0] += f"; smoothings tuned on {', '.join(self.tuned_on)}"
        titles = {
            "whole": "All bases",
            "inside": "Bases in peaks of the clean track",
            "outside": "Bases outside those peaks",
        }
        for part, title in titles.items():
            found = self.overall(part).dropna(axis=1, how="all").drop(columns="bases")
            shown.append(f"{title} ({self.overall(part)['bases'].iloc[0]:,.0f})\n{_aligned(found)}")
        if len(self.evaluated_on) > 1:
            rows = self.table[(self.table["part"] == "whole") & (self.table["chromosome"] != OVERALL)]
            found = rows.set_index(["chromosome", "method"])[list(MEASURES)].dropna(axis=1, how="all")
            shown.append(f"All bases, by chromosome\n{_aligned(found)}")
        if len(self.peaks):
            shown.append(f"Called peaks\n{_aligned(self.peaks.set_index('method'))}")
        if len(self.intervals):
            first = self.intervals.iloc[0]
            level = self.intervals.attrs.get("level", 0.95)
            title = f"Differences with their {level:.0%} intervals, by {first['draws']:,} draws of {first['blocks']:,} blocks"
            shown.append(f"{title}\n{_aligned(_side_by_side(self.intervals))}")
        return "\n\n".join(shown)


def _side_by_side(intervals: pd.DataFrame) -> pd.DataFrame:
    """One row for each method and baseline, one column of text for each measure."""
    cells = [
        f"{_number(d, sign='+')} [{_number(low, sign='+')}, {_number(high, sign='+')}]"
        for d, low, high in intervals[["difference", "low", "high"]].itertuples(index=False)
    ]
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for (method, baseline, measure), cell in zip(
        intervals[["method", "baseline", "measure"]].itertuples(index=False), cells, strict=True
    ):
        rows.setdefault((method, baseline), {})[measure] = cell
    out = pd.DataFrame.from_dict(rows, orient="index")
    out.index = pd.MultiIndex.from_tuples(rows, names=["method", "minus"])
    return out


def _aligned(frame: pd.DataFrame) -> str:
    """Text on the left, numbers on the right of their columns."""
    shown = frame.reset_index()
    columns = []
    for name in shown.columns:
        values = shown[name].tolist()
        cells = [value if isinstance(value, str) else _number(value) for value in values]
        width = max(map(len, [str(name), *cells]))
        text = all(isinstance(value, str) for value in values)
        columns.append([cell.ljust(width) if text else cell.rjust(width) for cell in [str(name), *cells]])
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True))


def _number(value: float, *, sign: str = "") -> str:
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    return "-" if np.isnan(value) else f"{value:{sign},.{2 if abs(value) >= 10 else 4}f}"


def meets(peaks: Mapping[str, Any], others: Mapping[str, Any]) -> np.ndarray:
    """bool: which peaks overlap one of the others; both sorted and disjoint."""
    ended = np.searchsorted(others["end"], peaks["start"], "right")
    meets: np.ndarray = ended < np.searchsorted(others["start"], peaks["end"], "left")
    return meets
