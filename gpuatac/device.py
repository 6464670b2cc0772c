"""Moving an AnnData between host and device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import scipy.sparse as sp

from gpuatac import slots
from gpuatac.backend import backend_of, is_device_array, is_on_disk, resolve, stream_to
from gpuatac.core.rows import MAX_NNZ
from gpuatac.errors import InputError

if TYPE_CHECKING:
    from anndata import AnnData


def _moved(array: Any, bk: Any) -> Any:
    if array is None:
        return None
    if is_on_disk(array):
        stream_to(array, bk.name)
        return array
    if hasattr(array, "indptr"):
        if is_device_array(array):
            return array if bk.name == "gpu" else backend_of(array).csr_to_host(array)
        if bk.name == "gpu" and array.nnz > MAX_NNZ:
            msg = (
                f"a matrix of {array.nnz:,} non-zeros is to go to a GPU, which takes {MAX_NNZ:,} at most at once; leave it on disk, "
                "from where its rows go through the device by blocks: call gpuatac.set_memory with less than 32 bytes a non-zero "
                "and read the file again."
            )
            raise InputError(msg)
        return array if bk.name == "cpu" else bk.csr_from_host(array)
    return bk.asarray(array) if bk.name == "gpu" else backend_of(array).to_host(array)


def _move(adata: AnnData, bk: Any) -> None:
    if adata.X is not None:
        x = adata.X
        if bk.name == "gpu" and not is_device_array(x) and not is_on_disk(x) and not hasattr(x, "indptr"):
            x = sp.csr_matrix(x)  # verbs compute on CSR
        adata.X = _moved(x, bk)
    for key in (slots.X_SPECTRAL, slots.X_UMAP, slots.X_HARMONY):
        if key in adata.obsm:
            adata.obsm[key] = _moved(adata.obsm[key], bk)
    for key in (slots.DISTANCES, slots.CONNECTIVITIES):
        if key in adata.obsp:
            adata.obsp[key] = _moved(adata.obsp[key], bk)


def to_device(adata: AnnData) -> None:
    """Move X, the embeddings and the neighbour graphs of ``adata`` to the GPU; verbs then run there.

    Reads and writes X, obsm["X_spectral", "X_umap", "X_spectral_harmony"], obsp["distances", "connectivities"]. An X that lies
    on disk stays there: its rows go through the GPU by blocks.

    Raises
    ------
    DeviceUnavailableError
        When there is no GPU.
    InputError
        For a matrix of more than 2^31 - 1 non-zeros in the host's memory.

    Examples
    --------
    >>> import gpuatac as ga
    >>> ga.to_device(adata)  # doctest: +SKIP
    """
    _move(adata, resolve("gpu"))


def to_host(adata: AnnData) -> None:
    """Move what ``to_device`` moves back to the host; nothing happens when it is there.

    Reads and writes what ``to_device`` does.

    Examples
    --------
    >>> import anndata, numpy, gpuatac as ga
    >>> ga.to_host(anndata.AnnData(numpy.ones((2, 3), "float32")))
    """
    _move(adata, resolve("cpu"))
