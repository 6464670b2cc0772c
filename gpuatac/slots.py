"""Every result slot of an AnnData, named once, and the ways to read them with a clear error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac.errors import InputError, MissingSlotError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from anndata import AnnData

# obs
N_FRAGMENT = "n_fragment"  # int64: fragments not on the mitochondrial chromosome
FRAC_DUP = "frac_dup"  # float64
FRAC_MITO = "frac_mito"  # float64
TSSE = "tsse"  # float64
NUCLEOSOME_SIGNAL = "nucleosome_signal"  # float64: mononucleosomal / nucleosome-free fragments
FRIP = "frip"  # float64
BLACKLIST_FRACTION = "blacklist_fraction"  # float64
DOUBLET_SCORE = "doublet_score"  # float64
DOUBLET_PROBABILITY = "doublet_probability"  # float64
SAMPLE = "sample"  # categorical
BARCODE = "barcode"  # str: the barcode as it stands in the file
LEIDEN = "leiden"  # categorical of "0", "1", ..., by falling size

# var
CHROM, START, END = "chrom", "start", "end"  # categorical, int32, int32
SELECTED = "selected"  # bool
COUNT = "count"  # float64: column sums

# obsm, obsp
X_SPECTRAL = "X_spectral"  # float32 (n_cells, k)
X_UMAP = "X_umap"  # float32 (n_cells, 2)
X_HARMONY = "X_spectral_harmony"  # float32 (n_cells, k)
GENE_ACTIVITY = "gene_activity"  # CSR (n_cells, n_genes); names in uns[GENE_ACTIVITY]["genes"]
DISTANCES = "distances"  # CSR (n_cells, n_cells)
CONNECTIVITIES = "connectivities"  # CSR (n_cells, n_cells)

# uns
TSS_PROFILE = "TSS_profile"  # int64 (4001,)
LIBRARY_TSSE = "library_tsse"  # float64
FRAC_OVERLAP_TSS = "frac_overlap_TSS"  # float64
FRAG_SIZE_DISTR = "frag_size_distr"  # int64 (max + 1,), entry 0 = longer than max
SPECTRAL_EIGENVALUE = "spectral_eigenvalue"  # float64 (k,)
SPECTRAL = "spectral"  # dict: depth_correlation float64 (k,), used bool (k,)
SCRUBLET = "scrublet"  # dict: sim_doublet_score, threshold, rates
NEIGHBORS = "neighbors"  # dict: params, as scanpy keeps it
FRAGMENTS = "fragments"  # dict: where the fragments of each sample lie
GENOME = "genome"  # dict: name, contigs, chrom_names, chrom_sizes
READ_SUMMARY = "read_summary"  # dict by sample: JSON of ReadSummary
CELL_CALLS = "cell_calls"  # dict by sample: JSON of what call_cells did
FILTERS = "filters"  # list of JSON: cells removed by each rule
PEAKS = "peaks"  # frame: group (categorical), chrom, start, end, score, strand, signal_value, p_value, q_value, peak, raw_score
DENOISED = (
    "denoised"  # frame: group (categorical), chrom, start, end, length, mean, max, peak, summit; and DENOISED_record
)
HISTORY = "gpuatac_history"  # array of JSON: one record for each verb


#: Okabe and Ito's six colours, then each next the one farthest (OKLab) from all before it, to normal eyes and
#: as protanopes and deuteranopes see it (Machado 2009).
PALETTE = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#5A1E00", "#2D0096",
    "#5AF0A5", "#690FFF", "#A5005A", "#8778FF", "#5A005A", "#874B00", "#96B487", "#B4D2FF",
    "#D200B4", "#D2D200", "#005A69", "#000FD2", "#00D2C3", "#FF2D69", "#4B3C87", "#964B96",
    "#0F3C2D", "#C33C4B", "#F01EF0", "#FFC378", "#96E1D2", "#78003C", "#FF694B", "#FF87FF",
    "#5A5AD2", "#FF96A5", "#8796C3", "#3C784B", "#8700A5", "#4B87D2", "#2D8787", "#871E00",
)  # fmt: skip


def of_colors(column: str) -> str:
    """The uns slot of the colours of ``obs[column]``, as scanpy keeps them: one hex colour for each category, in their order."""
    return f"{column}_colors"


def default_colors(n: int) -> list[str]:
    """n colours; those beyond the palette repeat it."""
    return [PALETTE[i % len(PALETTE)] for i in range(n)]


def colors_of(stored: Any, n: int) -> tuple[list[Any] | None, str]:
    """The first ``n`` of the colours ``stored`` in uns, or None; and what is wrong with them, or "".

    As in scanpy, colours stay in use as long as there are enough of them and each is valid.
    """
    from matplotlib.colors import is_color_like

    if stored is None:
        return None, ""
    if isinstance(stored, str | bytes | dict) or np.ndim(stored) == 0:
        return None, f"is {stored!r} ({type(stored).__name__}), not a list of {n} colours"
    colors = list(stored)
    if len(colors) < n:
        return None, f"has {len(colors)} colours for {n} categories"
    bad = next((color for color in colors[:n] if not is_color_like(color)), None)
    return (colors[:n], "") if bad is None else (None, f"holds {bad!r}, which is no colour")


def of_embedding(slot: str, key: str) -> str:
    """The uns slot that belongs to embedding ``key``: the plain name for "X_spectral", with the key for others."""
    return slot if key == X_SPECTRAL else f"{slot}:{key}"


def obs_of(adata: AnnData, key: str, *, writer: str) -> np.ndarray:
    """``adata.obs[key]`` as an array; ``writer`` names the verb that should have written it."""
    if key not in adata.obs:
        msg = f"adata.obs has no {key!r}; call {writer} first."
        raise MissingSlotError(msg)
    column: np.ndarray = adata.obs[key].to_numpy()
    return column


def obsm_of(adata: AnnData, key: str, *, writer: str) -> Any:
    """``adata.obsm[key]``."""
    if key not in adata.obsm:
        found = ", ".join(map(repr, adata.obsm)) or "nothing"
        msg = f"adata.obsm has no {key!r} (it has {found}); call {writer} first."
        raise MissingSlotError(msg)
    return adata.obsm[key]


def uns_of(adata: AnnData, key: str, *, writer: str) -> Any:
    """``adata.uns[key]``."""
    if key not in adata.uns:
        msg = f"adata.uns has no {key!r}; call {writer} first."
        raise MissingSlotError(msg)
    return adata.uns[key]


def mask_of(adata: AnnData, features: str | np.ndarray | None) -> np.ndarray | None:
    """The feature mask: a bool column of ``var``, a bool array, or None for every feature."""
    if features is None:
        return None
    if isinstance(features, str):
        if features not in adata.var:
            msg = f"adata.var has no {features!r}; call pp.select_features first or pass features=None."
            raise MissingSlotError(msg)
        mask: np.ndarray = adata.var[features].to_numpy()
    else:
        mask = np.asarray(features)
    if mask.dtype != bool or mask.shape != (adata.n_vars,):
        msg = f"features must be a bool mask of {adata.n_vars} columns, got {mask.dtype} of shape {mask.shape}."
        raise InputError(msg)
    if not mask.any():
        msg = "no feature is selected; choose other quantiles or pass features=None."
        raise InputError(msg)
    return mask


def matrix_of(adata: AnnData) -> Any:
    """``adata.X``; raises when there is none."""
    if adata.X is None or adata.n_vars == 0:
        msg = "adata.X holds no matrix; call pp.add_tile_matrix first or start from a peak matrix."
        raise MissingSlotError(msg)
    return adata.X


def groups_of(
    adata: AnnData,
    groupby: str | Sequence[str] | None,
    selections: Collection[str] | None = None,
    *,
    whole: str = "all",
) -> tuple[list[str], np.ndarray]:
    """Group names and, for each cell, the number of its group: int32 (n_obs,), -1 for none.

    ``groupby`` names a column of ``obs`` or gives one label for each cell; None: all cells in one group, named ``whole``.
    Categories come in their order, other labels by first appearance; groups without cells are left out. Missing labels are
    in no group. With ``selections`` only the groups it names are kept.
    """
    import pandas as pd

    if groupby is None:
        return [whole], np.zeros(adata.n_obs, np.int32)
    if isinstance(groupby, str):
        if groupby not in adata.obs:
            found = ", ".join(map(repr, adata.obs.columns)) or "no columns"
            msg = (
                f"adata.obs has no {groupby!r} (it has {found}); name one of its columns or give a label for each cell."
            )
            raise MissingSlotError(msg)
        labels = adata.obs[groupby]
    elif not hasattr(groupby, "__len__"):
        msg = f"groupby must name a column of obs or give a label for each cell, got {groupby!r} ({type(groupby).__name__})."
        raise InputError(msg)
    else:
        labels = pd.Series(groupby, dtype=None if len(groupby) else object)
    if len(labels) != adata.n_obs:
        msg = f"groupby has {len(labels)} labels for {adata.n_obs} cells; give one for each cell, in the order of obs."
        raise InputError(msg)
    if isinstance(labels.dtype, pd.CategoricalDtype):
        labels = labels.cat.remove_unused_categories()
        codes, names = labels.cat.codes.to_numpy(), [str(name) for name in labels.cat.categories]
    else:
        codes, found = pd.factorize(labels)
        names = [str(name) for name in found]
    if len(set(names)) < len(names):
        msg = f"{len(names)} groups have {len(set(names))} names once written as text; make their names distinct."
        raise InputError(msg)
    codes = codes.astype(np.int32)
    if selections is None:
        return names, codes
    wanted = [str(name) for name in ([selections] if isinstance(selections, str) else selections)]
    unknown = [name for name in wanted if name not in names]
    if unknown:
        msg = f"selections names {', '.join(map(repr, unknown))}; the groups are {', '.join(names)}."
        raise InputError(msg)
    kept = [name for name in names if name in wanted]
    number = np.full(len(names) + 1, -1, np.int32)
    number[[names.index(name) for name in kept]] = np.arange(len(kept), dtype=np.int32)
    return kept, number[codes]
