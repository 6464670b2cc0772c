"""Cells that rules mark are removed, and how many each marked is recorded."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac import slots
from gpuatac.backend import is_on_disk
from gpuatac.errors import InputError
from gpuatac.inplace import keep_cells
from gpuatac.io.matrices.csr_file import is_canonical, rows_on_disk

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)


def remove_cells(adata: AnnData, verb: str, rules: dict[str, np.ndarray], *, inplace: bool) -> np.ndarray | None:
    """Drop the cells that any rule marks; record how many each marked and how many it alone removed."""
    bad = np.zeros(adata.n_obs, bool)
    report: dict[str, Any] = {"verb": verb, "before": adata.n_obs, "rules": {}}
    for rule, marked in rules.items():
        others = np.zeros(adata.n_obs, bool)
        for name, other in rules.items():
            if name != rule:
                others |= other
        report["rules"][rule] = {"fail": int(marked.sum()), "fail_this_alone": int((marked & ~others).sum())}
        bad |= marked
    report["after"] = int((~bad).sum())
    logger.info("%s: %s", verb, filter_text(report))
    if not inplace:
        return ~bad
    if bad.all():
        msg = f"no cell passes: {filter_text(report)}; loosen the thresholds, or check the file."
        raise InputError(msg)
    held = [str(r) for r in np.atleast_1d(adata.uns.get(slots.FILTERS, np.empty(0, dtype=object)))]
    adata.uns[slots.FILTERS] = np.array([*held, json.dumps(report)], dtype=object)
    if bad.any():
        on_disk = adata.X is not None and is_on_disk(adata.X) and is_canonical(adata.X)
        keep_cells(adata, ~bad, rows_on_disk(adata.X, ~bad) if on_disk else None)
    return None


def filter_text(report: dict[str, Any]) -> str:
    """One line: cells before and after, and how many fail each rule."""
    rules = "; ".join(f"{rule}: {n['fail']:,} fail" for rule, n in report["rules"].items())
    return f"{report['before']:,} cells -> {report['after']:,} ({rules or 'no rule'})"
