"""The options of peak calling, checked: for cells and for files."""

from __future__ import annotations

import logging
from typing import Any

from gpuatac import check
from gpuatac.core.peaks.scores import PeakModel
from gpuatac.errors import InputError

logger = logging.getLogger(__name__)
LEAST_P = 1e-300
QVALUE, BROAD_CUTOFF = 0.05, 0.1  # what holds where nothing is given


def checked_model(**values: Any) -> PeakModel:
    """The checked parameters of a call."""
    for name in ("qvalue", "broad_cutoff", "pvalue"):
        if values[name] is not None:
            check.between(name, values[name], LEAST_P, 1.0)
            values[name] = float(values[name])
    if values["pvalue"] is not None and values["qvalue"] != QVALUE:
        msg = (
            f"pvalue ({values['pvalue']:g}) is a bound instead of qvalue, and qvalue ({values['qvalue']:g}) is given as well; leave "
            "one of them out."
        )
        raise InputError(msg)
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


def warn_unused(verb: str, unused: dict[str, tuple[bool, str]]) -> None:
    """Say which options have no effect: {option: (given in vain, what it needs)}."""
    for name, (in_vain, needed) in unused.items():
        if in_vain:
            logger.warning("%s: %s has no effect without %s", verb, name, needed)
