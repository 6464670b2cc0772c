"""Which barcodes are cells, and which cells to keep. Every rule says how many it removed."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gpuatac import check, slots
from gpuatac.core.counting import cell_scores
from gpuatac.pp.cell_filters import remove_cells
from gpuatac.provenance import records

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)


def samples_of(adata: AnnData) -> dict[str, np.ndarray]:
    """Rows of each sample; one entry "" when there is one sample."""
    if slots.SAMPLE not in adata.obs:
        return {"": np.arange(adata.n_obs)}
    names = adata.obs[slots.SAMPLE].astype(str).to_numpy()
    return {name: np.flatnonzero(names == name) for name in dict.fromkeys(names)}


def filter_reports(adata: AnnData) -> list[dict[str, Any]]:
    """What each filter removed, oldest first.

    Reads   adata.uns["filters"].
    Returns dicts with "verb", "before", "after" and "rules": {rule: {"fail", "fail_this_alone"}}.

    Examples
    --------
    >>> import anndata, numpy, pandas, gpuatac as ga
    >>> obs = pandas.DataFrame({"n_fragment": [10, 5000]}, index=["a", "b"])
    >>> adata = anndata.AnnData(numpy.ones((2, 1), "float32"), obs=obs)
    >>> ga.pp.filter_cells(adata, min_tsse=None)
    >>> ga.pp.filter_reports(adata)[0]["rules"]
    {'n_fragment < 1000': {'fail': 1, 'fail_this_alone': 1}}
    """
    return [json.loads(str(r)) for r in np.atleast_1d(adata.uns.get(slots.FILTERS, np.empty(0, dtype=object)))]


@records("pp.filter_cells")
def filter_cells(
    adata: AnnData,
    *,
    min_counts: float | None = 1000,
    min_tsse: float | None = 5.0,
    max_counts: float | None = None,
    max_tsse: float | None = None,
    max_frac_mito: float | None = None,
    max_nucleosome_signal: float | None = None,
    max_blacklist_fraction: float | None = None,
    min_frip: float | None = None,
    inplace: bool = True,
) -> np.ndarray | None:
    """Keep the cells within all bounds; each bound is inclusive, None asks nothing.

    Reads   obs["n_fragment"], and "tsse", "frac_mito", "nucleosome_signal", "blacklist_fraction", "frip" where a bound
            on them is given.
    Writes  the cells kept; uns["filters"]: how many cells fail each rule.

    A cell whose measure is NaN fails the bound on it.

    Parameters
    ----------
    adata
        Cells with quality measures.
    min_counts, max_counts
        Fragments outside the mitochondrial chromosome.
    min_tsse, max_tsse, max_frac_mito, max_nucleosome_signal, max_blacklist_fraction, min_frip
        Bounds on the measures of those names.
    inplace
        False returns a bool mask of the cells that pass and changes nothing.

    Raises
    ------
    MissingSlotError
        When a measure is asked for that was not computed.
    InputError
        When no cell passes.

    Examples
    --------
    See ``filter_reports``.
    """
    bounds = [
        (slots.N_FRAGMENT, "<", min_counts, "pp.import_fragments"),
        (slots.N_FRAGMENT, ">", max_counts, "pp.import_fragments"),
        (slots.TSSE, "<", min_tsse, "metrics.tsse"),
        (slots.TSSE, ">", max_tsse, "metrics.tsse"),
        (slots.FRAC_MITO, ">", max_frac_mito, "pp.import_fragments"),
        (slots.NUCLEOSOME_SIGNAL, ">", max_nucleosome_signal, "metrics.nucleosome_signal"),
        (slots.BLACKLIST_FRACTION, ">", max_blacklist_fraction, "metrics.blacklist_fraction"),
        (slots.FRIP, "<", min_frip, "metrics.frip"),
    ]
    rules = {}
    for key, sign, bound, writer in bounds:
        if bound is not None:
            values = slots.obs_of(adata, key, writer=writer).astype(np.float64)
            rules[f"{key} {sign} {bound:g}"] = ~(values >= bound if sign == "<" else values <= bound)
    return remove_cells(adata, "pp.filter_cells", rules, inplace=inplace)


@records("pp.filter_doublets")
def filter_doublets(
    adata: AnnData,
    *,
    probability_threshold: float | None = 0.5,
    score_threshold: float | None = None,
    inplace: bool = True,
) -> np.ndarray | None:
    """Remove cells that scrublet calls doublets.

    Reads   obs["doublet_probability"], obs["doublet_score"].
    Writes  the cells kept; uns["filters"].

    Parameters
    ----------
    adata
        Cells with doublet scores.
    probability_threshold
        Cells with a higher probability are removed; None asks nothing.
    score_threshold
        Cells with a higher score are removed; None asks nothing.
    inplace
        False returns a bool mask of the cells that pass and changes nothing.

    Examples
    --------
    >>> import anndata, numpy, pandas, gpuatac as ga
    >>> obs = pandas.DataFrame({"doublet_probability": [0.1, 0.9]}, index=["a", "b"])
    >>> adata = anndata.AnnData(numpy.ones((2, 1), "float32"), obs=obs)
    >>> ga.pp.filter_doublets(adata)
    >>> adata.obs_names.tolist()
    ['a']
    """
    rules = {}
    if probability_threshold is not None:
        check.between("probability_threshold", probability_threshold, 0, 1)
        values = slots.obs_of(adata, slots.DOUBLET_PROBABILITY, writer="pp.scrublet")
        rules[f"{slots.DOUBLET_PROBABILITY} > {probability_threshold:g}"] = values > probability_threshold
    if score_threshold is not None:
        values = slots.obs_of(adata, slots.DOUBLET_SCORE, writer="pp.scrublet")
        rules[f"{slots.DOUBLET_SCORE} > {score_threshold:g}"] = values > score_threshold
    return remove_cells(adata, "pp.filter_doublets", rules, inplace=inplace)


@records("pp.call_cells")
def call_cells(
    adata: AnnData,
    *,
    method: Literal["knee", "ordmag"] = "knee",
    expected_cells: int | None = None,
    lower: int = 100,
    seed: int = 0,
    inplace: bool = True,
) -> np.ndarray | None:
    """Tell cells from empty droplets in an unfiltered file, sample by sample.

    Reads   obs["n_fragment"], obs["sample"] where there are several.
    Writes  the cells kept; uns["cell_calls"]: JSON by sample with method, threshold and number of cells, and the rank
            curve that the knee figure draws; uns["filters"].

    Import with a small ``min_num_fragments`` (1 or 10) beforehand, so that the empty droplets are there to see.

    Parameters
    ----------
    adata
        All barcodes.
    method
        "knee": the steepest drop of the log-log rank curve below its knee; "ordmag": 10x's order-of-magnitude rule.
    expected_cells
        For "ordmag": expected number of cells of each sample; None estimates it as Cell Ranger does.
    lower
        For "knee": barcodes with fewer fragments do not count towards the curve.
    seed
        For the bootstrap of "ordmag".
    inplace
        False returns a bool mask of the cells and changes nothing.

    Examples
    --------
    >>> import anndata, numpy, pandas, gpuatac as ga
    >>> n = numpy.r_[numpy.linspace(9000, 11000, 50), numpy.linspace(100, 200, 500)].astype(int)
    >>> adata = anndata.AnnData(obs=pandas.DataFrame({"n_fragment": n}, index=[f"b{i}" for i in range(550)]))
    >>> ga.pp.call_cells(adata)
    >>> adata.n_obs
    50
    """
    check.integer("seed", seed, 0, 2**32 - 1)
    check.one_of("method", method, ("knee", "ordmag"))
    counts = slots.obs_of(adata, slots.N_FRAGMENT, writer="pp.import_fragments").astype(np.int64)
    is_cell = np.zeros(adata.n_obs, bool)
    calls = {}
    for name, rows in samples_of(adata).items():
        of_sample = counts[rows]
        call = (
            cell_scores.knee(of_sample, lower=lower)
            if method == "knee"
            else cell_scores.ordmag(of_sample, expected_cells=expected_cells, seed=seed)
        )
        is_cell[rows] = call.is_cell
        ranked = np.sort(of_sample)[::-1]
        shown = np.unique(np.geomspace(1, max(ranked.size, 1), 500).astype(int)) if ranked.size else np.empty(0, int)
        calls[name or "all"] = json.dumps(
            {
                "method": method,
                "threshold": call.threshold,
                "n_cells": int(call.is_cell.sum()),
                "n_barcodes": int(rows.size),
                "rank": shown.tolist(),
                "n_fragment": ranked[shown - 1].tolist(),
                **call.details,
            }
        )
    if not inplace:
        return is_cell
    adata.uns[slots.CELL_CALLS] = calls
    return remove_cells(adata, "pp.call_cells", {f"below the {method} threshold": ~is_cell}, inplace=True)
