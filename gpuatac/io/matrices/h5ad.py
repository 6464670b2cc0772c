"""Reading and writing .h5ad with the fragments beside it, and nothing half written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

from gpuatac import slots
from gpuatac.backend import backend_of, is_device_array, is_on_disk
from gpuatac.core.rows import MAX_NNZ
from gpuatac.errors import FileFormatError
from gpuatac.inplace import rebuild
from gpuatac.io.files.atomic import replacing
from gpuatac.io.fragments.attach import records_of, set_records
from gpuatac.io.matrices import count_files
from gpuatac.io.matrices.csr_file import CANONICAL, DiskMatrix, write_csr
from gpuatac.io.matrices.feature_names import from_fixed_width
from gpuatac.memory import get_memory, give_back

if TYPE_CHECKING:
    from anndata import AnnData

NAMES_AT_ONCE = 1 << 18
SHARE_IN_MEMORY = 4  # a matrix is read whole up to this part of the memory limit
OWN_TYPES = (np.int32, np.float32)  # of X: counts, and what is no count
PLAIN = {"obs", "var", "uns", "obsm", "varm", "obsp", "varp", "layers", "X"}


def read_h5ad(path: str | Path) -> AnnData:
    """Read an .h5ad; fragments are found beside it even after the folder was moved.

    Peak names such as ``chr1:100-600`` (also with ``-`` or ``_``) become the columns ``chrom``, ``start`` and
    ``end`` of ``var`` where those are absent.

    Raises
    ------
    FileFormatError
        When the file is no .h5ad.
    MissingFileError
        When there is no such file.

    Examples
    --------
    >>> import gpuatac as ga
    >>> adata = ga.io.read_h5ad("pbmc.h5ad")  # doctest: +SKIP
    """
    return read_for(path, "cpu")


def read_for(path: str | Path, device: Literal["cpu", "gpu"]) -> AnnData:
    """``read_h5ad``; for a GPU a matrix of ours that no GPU library can index stays on disk."""
    path = Path(path)
    adata = _read_own(path, device) if _is_own(path) else count_files.read_h5ad(path)
    if slots.FRAGMENTS in adata.uns:
        set_records(adata, records_of(adata), str(path.absolute().parent))
    return adata


def _is_own(path: Path) -> bool:
    """Whether we wrote the file: its counts may stay on disk, and millions of names, which AnnData reads slowly, are ours."""
    if not path.is_file() or not h5py.is_hdf5(path):
        return False
    with h5py.File(path) as file:
        x = file.get("X")
        is_ours = isinstance(x, h5py.Group) and x.attrs.get(CANONICAL, False) and x["data"].dtype in OWN_TYPES
        return bool(is_ours) and set(file) <= PLAIN


def _names_of(var: h5py.Group) -> pd.Index:
    from anndata.io import read_elem

    name = var.attrs["_index"]
    stored = var[name]
    if isinstance(stored, h5py.Dataset):
        text = h5py.check_string_dtype(stored.dtype)
        if text is not None and text.length is not None:
            return from_fixed_width(stored[:])
    return pd.Index(read_elem(stored), name=None if name == "_index" else name)


def _read_own(path: Path, device: Literal["cpu", "gpu"]) -> AnnData:
    import anndata as ad
    from anndata.io import read_elem

    try:
        with h5py.File(path) as file:
            parts = {name: read_elem(file[name]) for name in file if name not in ("X", "var")}
            columns = file["var"].attrs["column-order"]
            var = {name: read_elem(file["var"][name]) for name in columns}
            names = _names_of(file["var"])
            x = _read_matrix(path, file, device)
    except (OSError, KeyError, ValueError, TypeError) as error:
        remedy = "write it again, or take a copy that is whole"
        raise FileFormatError(path, f"damaged data ({error})", "a complete .h5ad file", remedy) from error
    features = pd.DataFrame(var, index=names)
    if not {slots.CHROM, slots.START, slots.END} <= set(features):
        features = count_files.add_coordinates(features)
    adata = ad.AnnData(X=None, obs=parts.pop("obs"))
    layers = parts.pop("layers", {})
    rebuild(adata, X=x, obs=adata.obs, var=features, **parts)
    for name, layer in layers.items():
        adata.layers[name] = layer
    return adata


def _read_matrix(path: Path, file: h5py.File, device: Literal["cpu", "gpu"]) -> Any:
    """X in memory, whole counts as int32; or left on disk where it is larger than its share of the limit, or than ``device`` takes."""
    from anndata.io import read_elem, sparse_dataset

    if "X" not in file:
        return None
    group = file["X"]
    if isinstance(group, h5py.Group) and group.attrs.get(CANONICAL, False):
        nnz = group["data"].shape[0]
        n_bytes = nnz * (group["data"].dtype.itemsize + group["indices"].dtype.itemsize)
        if n_bytes > get_memory() // SHARE_IN_MEMORY or (device == "gpu" and nnz > MAX_NNZ):
            return sparse_dataset(h5py.File(path)["X"])
    x = read_elem(group)
    return count_files.as_counts(x) if x.dtype == np.float32 else x


def write_h5ad(adata: AnnData, path: str | Path, *, force: bool = False) -> Path:
    """Write ``adata`` so that it appears complete or not at all; device arrays are copied to the host.

    Counts of a GPU, which are float32 there, are written as int32, as a CPU writes them: X and matrices of obsm and layers whose
    values are whole. So a file does not tell where it was made.

    Parameters
    ----------
    adata
        What to write; it is not changed but for the place its fragment paths refer to.
    path
        The file. Fragment paths are stored relative to it.
    force
        Replace an existing file.

    Raises
    ------
    OutputExistsError
        When the file exists and ``force`` is not set.

    Examples
    --------
    >>> import anndata, numpy, gpuatac as ga, pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "a.h5ad"
    >>> ga.io.write_h5ad(anndata.AnnData(numpy.ones((2, 3), "float32")), file).name
    'a.h5ad'
    """
    path = Path(path)
    stored = _on_host(adata)
    if slots.FRAGMENTS in adata.uns:
        folder = path.absolute().parent.resolve()
        base = str(adata.uns[slots.FRAGMENTS].get("base", ""))
        records = records_of(adata)
        for record in records:
            full = Path(record["path"])
            full = full if full.is_absolute() else Path(base or ".") / full
            record["path"] = Path(os.path.relpath(full.resolve(), folder)).as_posix()
        stored = stored.copy() if stored.is_view else stored
        kept_uns = dict(stored.uns)
        set_records(stored, records)
        try:
            with replacing(path, force=force) as partial:
                _write(stored, partial)
        finally:
            stored.uns = kept_uns
        if not adata.is_view:  # a view's paths are absolute or have their base already
            set_records(adata, records, str(folder))
        return path
    with replacing(path, force=force) as partial:
        _write(stored, partial)
    return path


def _write(adata: AnnData, path: Path) -> None:
    """The parts of an .h5ad (anndata's on-disk format 0.1.0), its CSR matrices by our own writer."""
    from anndata.io import write_elem

    if not adata.is_view:
        adata.strings_to_categoricals()
    options = {"compression": "gzip", "compression_opts": 1}
    give_back()
    with h5py.File(path, "w") as file:
        file.attrs["encoding-type"] = "anndata"
        file.attrs["encoding-version"] = "0.1.0"
        if adata.X is not None:
            _write_matrix(file, "X", adata.X, options)
        write_elem(file, "obs", adata.obs, dataset_kwargs=options)
        _write_var(file, adata.var, options)
        for name in ("obsm", "varm", "obsp", "varp", "layers"):
            group = file.create_group(name)
            group.attrs["encoding-type"] = "dict"
            group.attrs["encoding-version"] = "0.1.0"
            for key, value in getattr(adata, name).items():
                if key is not None:  # anndata 0.13: X
                    _write_matrix(group, key, value, options)
        write_elem(file, "uns", dict(adata.uns), dataset_kwargs=options)
        if adata.raw is not None:
            write_elem(file, "raw", adata.raw, dataset_kwargs=options)


def _write_var(file: h5py.File, var: pd.DataFrame, options: dict[str, Any]) -> None:
    """The features; millions of names (Arrow strings) go as text of fixed length, part by part, instead of Python strings."""
    from anndata.io import write_elem

    if not len(var) or var.index.dtype == object or var.index.name is not None:
        write_elem(file, "var", var, dataset_kwargs=options)
        return
    write_elem(file, "var", var.iloc[:0].set_axis(pd.Index([], dtype=object)), dataset_kwargs=options)
    group = file["var"]
    del group["_index"]
    names = var.index.array
    parts = range(0, len(var), NAMES_AT_ONCE)
    width = max(1, *(int(pd.Series(names[low : low + NAMES_AT_ONCE]).str.len().max()) for low in parts))
    shape = {"shape": (len(var),), "chunks": (min(len(var), NAMES_AT_ONCE),), "shuffle": True}
    text = h5py.string_dtype("utf-8", width)
    out = group.create_dataset("_index", dtype=text, **shape, **options)
    out.attrs["encoding-type"] = "string-array"
    out.attrs["encoding-version"] = "0.2.0"
    for low in parts:
        part = names[low : low + NAMES_AT_ONCE]
        out[low : low + len(part)] = np.asarray(part, dtype=object).astype(text)
    for name in var.columns:
        del group[name]
        write_elem(
            group,
            name,
            var[name].array if var[name].dtype == "category" else var[name].to_numpy(),
            dataset_kwargs=options,
        )


def _write_matrix(group: h5py.Group, name: str, value: Any, options: dict[str, Any]) -> None:
    from anndata.io import write_elem

    if is_on_disk(value):
        write_csr(group, name, DiskMatrix(value))
    elif sp.issparse(value) and value.format == "csr" and value.shape[1] < 2**31 and value.dtype.kind in "iuf":
        write_csr(group, name, value)
    else:
        write_elem(group, name, value, dataset_kwargs=options)


def _on_host(adata: AnnData) -> AnnData:
    """``adata`` itself when it holds host arrays only, else a copy on the host."""
    parts = [adata.X, *adata.obsm.values(), *adata.obsp.values(), *adata.layers.values()]
    if not any(is_device_array(part) for part in parts if part is not None):
        return adata
    if adata.is_view or adata.raw is not None:
        adata = adata.copy()
    import anndata as ad

    out = ad.AnnData(X=None, obs=adata.obs.copy())
    parts_of = {name: dict(getattr(adata, name)) for name in ("uns", "varm", "varp")}
    obsm = {key: _host(value, counts=True) for key, value in adata.obsm.items()}
    obsp = {key: _host(value) for key, value in adata.obsp.items()}
    rebuild(out, X=_host(adata.X, counts=True), obs=out.obs, var=adata.var.copy(), obsm=obsm, obsp=obsp, **parts_of)
    for key, value in adata.layers.items():
        if key is not None:  # anndata 0.13: X
            out.layers[key] = _host(value, counts=True)
    if adata.raw is not None:
        out.raw = adata.raw.to_adata()
    return out


def _host(array: Any, *, counts: bool = False) -> Any:
    """A device array on the host; float32 counts, which a GPU holds for want of whole numbers in its matrices, as int32."""
    if array is None or not is_device_array(array):
        return array
    bk = backend_of(array)
    if not hasattr(array, "indptr"):
        return bk.to_host(array)
    matrix = bk.csr_to_host(array)
    return count_files.as_counts(matrix) if counts and matrix.dtype == np.float32 else matrix
