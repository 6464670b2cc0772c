"""The options of peak calling, checked: for cells and for files."""

from __future__ import annotations

from typing import Any

from gpuatac import check
from gpuatac.core.peaks.scores import PeakModel
from gpuatac.errors import InputError

LEAST_P = 1e-300


def checked_model(**values: Any) -> PeakModel:
    """The checked parameters of a call."""
    for name in ("qvalue", "broad_cutoff", "pvalue"):
        if values[name] is not None:
            check.between(name, values[name], LEAST_P, 1.0)
            values[name] = float(values[name])
    strong = values["qvalue"] if values["pvalue"] is None else values["pvalue"]
    if values["broad"] and strong > values["broad_cutoff"]:
        msg = f"broad_cutoff ({values['broad_cutoff']}) must not be stricter than the cutoff of strong peaks ({strong}); raise it."
        raise InputError(msg)
    values["extsize"] = check.integer("extsize", values["extsize"], 1, 1_000_000)
    values["shift"] = check.integer("shift", values["shift"], -1_000_000, 1_000_000)
    for name in ("min_length", "max_gap"):
        if values[name] is not None:
            values[name] = check.integer({"min_length": "min_len"}.get(name, name), values[name], 0, 100_000_000)
    return PeakModel(**values)


def checked_window(low: int | None, high: int | None) -> tuple[int | None, int | None]:
    """The checked shortest and longest fragment."""
    low = None if low is None else check.integer("min_frag_size", low, 0)
    high = None if high is None else check.integer("max_frag_size", high, max(low or 0, 1))
    return low, high
