"""Every result slot of an AnnData, named once, and the ways to read them with a clear error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac.errors import InputError, MissingSlotError

if TYPE_CHECKING:
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
HISTORY = "gpuatac_history"  # array of JSON: one record for each verb


def of_embedding(slot: str, key: str) -> str:
    """The uns slot that belongs to embedding ``key``: the plain name for "X_spectral", with the key for others."""
    return slot if key == X_SPECTRAL else f"{slot}:{key}"


def obs_of(adata: AnnData, key: str, *, writer: str) -> np.ndarray:
    """``adata.obs[key]`` as an array; ``writer`` names the verb that should have written it."""
    if key not in adata.obs:
        msg = f"adata.obs has no {key!r}; call {writer} first."
        raise MissingSlotError(msg)
    return adata.obs[key].to_numpy()


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
        mask = adata.var[features].to_numpy()
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
