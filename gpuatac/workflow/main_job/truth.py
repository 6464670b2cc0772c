"""The table of known cells: read and checked before a run, compared with its clusters afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac import slots
from gpuatac.errors import FileFormatError
from gpuatac.io.tables.barcode_lists import why_nothing_matches
from gpuatac.io.tables.by_barcode import read_by_barcode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

ALLOWED = "a table with the columns barcode and cell_type (is_doublet and is_cell if known)"
YES, NO = ("1", "1.0", "true", "True", "TRUE"), ("0", "0.0", "false", "False", "FALSE")


def read_truth(path: Path) -> pd.DataFrame:
    """The table by barcode: cell_type, and is_doublet and is_cell (bool) where the file has them."""
    remedy = "give the table of known cells"
    repeated = "remove the line, or name the cells sample#barcode when there are several samples"
    table, lines = read_by_barcode(
        path, role="truth table", allowed=ALLOWED, remedy=remedy, named=("cell_type",), repeated=repeated
    )
    if "cell_type" not in table:
        found = f"no column 'cell_type' (but {', '.join(map(str, table.columns[:6]))})"
        raise FileFormatError(path, found, ALLOWED, "name the columns in the first line", line=1)
    for column in ("is_doublet", "is_cell"):
        if column in table:
            values = table[column]
            bad = ~(values.isin([*YES, *NO]) | values.isna()).to_numpy()
            if bad.any():
                found = f"{column} that is neither 1 nor 0"
                line = lines[int(np.flatnonzero(bad)[0])]
                raise FileFormatError(path, found, ALLOWED, "write 1 for yes and 0 for no", line=line)
            table[column] = values.isin(YES)
    return table.rename_axis("barcode")


def known_cells(table: pd.DataFrame, adata: AnnData, samples: Sequence[str], imported: pd.DataFrame) -> tuple[Any, int]:
    """The line of ``table`` for each cell (NaN where it has none), and how many barcodes fit cells of several samples.

    A cell is named ``sample#barcode``, or by its barcode alone where no other sample has it; ``imported`` is obs of
    all barcodes, before any filter.
    """
    if slots.BARCODE in adata.obs:
        full = [str(name) for name in adata.obs_names]
        barcodes = [str(b) for b in adata.obs[slots.BARCODE]]
        held = imported[slots.BARCODE].astype(str)
        shared = set(held[held.duplicated()])
    else:
        barcodes = [str(b) for b in adata.obs_names]
        full = [f"{samples[0]}#{b}" for b in barcodes]
        shared = set()
    named = set(table.index)
    keys = [f if f in named else b if b not in shared else None for f, b in zip(full, barcodes, strict=True)]
    ambiguous = len(named & shared)
    return table.reindex(keys), ambiguous


def compare(adata: AnnData, table: pd.DataFrame, samples: Sequence[str], imported: pd.DataFrame) -> dict[str, Any]:
    """Agreement of clusters and doublet calls with the table of known cells."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    known, ambiguous = known_cells(table, adata, samples, imported)
    labelled = known["cell_type"].notna().to_numpy(copy=True)
    if "is_cell" in known:
        labelled &= (known["is_cell"] == True).to_numpy()  # noqa: E712  (NaN where the table has no line)
    out: dict[str, Any] = {"n_labelled": int(labelled.sum()), "n_not_cells": int((~labelled).sum())}
    if ambiguous:
        out["n_ambiguous"] = ambiguous
    if not set(table.index) & set(known.index) and not ambiguous and adata.n_obs:
        seen = [str(name) for name in (adata.obs[slots.BARCODE] if slots.BARCODE in adata.obs else adata.obs_names)]
        out["why_none"] = why_nothing_matches(list(table.index), seen, of_list="the truth", of_data="the data")
    doublet = (known["is_doublet"] == True).to_numpy() if "is_doublet" in known else None  # noqa: E712
    if slots.LEIDEN in adata.obs and labelled.any():
        types = known["cell_type"].astype(str).to_numpy()
        clusters = adata.obs[slots.LEIDEN].astype(str).to_numpy()
        out["n_types"] = int(np.unique(types[labelled]).size)
        out["ari"] = float(adjusted_rand_score(types[labelled], clusters[labelled]))
        out["nmi"] = float(normalized_mutual_info_score(types[labelled], clusters[labelled]))
        if doublet is not None:
            single = labelled & ~doublet
            out["ari_without_doublets"] = float(adjusted_rand_score(types[single], clusters[single]))
    if doublet is not None:
        out["n_true_doublets"] = int(table["is_doublet"].sum())
        out["n_true_doublets_left"] = int(doublet.sum())
    return out


def as_lines(t: dict[str, Any]) -> list[str]:
    """The comparison in words."""
    lines = [
        f"compared with the truth: {t['n_labelled']:,} cells with a known type, {t['n_not_cells']:,} barcodes without"
    ]
    if "n_ambiguous" in t:
        lines.append(
            f"  {t['n_ambiguous']:,} barcodes of the truth are in several samples and were left out; name them sample#barcode"
        )
    if "why_none" in t:
        lines.append(f"  no barcode of the truth is that of a cell: {t['why_none']}")
    if t.get("ari") is not None:
        single = f" ({t['ari_without_doublets']:.3f} without true doublets)" if "ari_without_doublets" in t else ""
        lines.append(f"  ARI {t['ari']:.3f}{single}, NMI {t['nmi']:.3f}, {t['n_types']} true types")
    if "n_true_doublets" in t:
        lines.append(
            f"  true doublets: {t['n_true_doublets']:,}, of these still among the cells: {t['n_true_doublets_left']:,}"
        )
    return lines
