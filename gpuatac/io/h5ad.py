"""Reading and writing .h5ad with the fragments beside it, and nothing half written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from gpuatac import slots
from gpuatac.backend import backend_of, is_device_array
from gpuatac.io import matrices
from gpuatac.io.atomic import replacing
from gpuatac.io.attach import records_of, set_records

if TYPE_CHECKING:
    from anndata import AnnData


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
    path = Path(path)
    adata = matrices.read_h5ad(path)
    if slots.FRAGMENTS in adata.uns:
        set_records(adata, records_of(adata), str(path.absolute().parent))
    return adata


def write_h5ad(adata: AnnData, path: str | Path, *, force: bool = False) -> Path:
    """Write ``adata`` so that it appears complete or not at all; device arrays are copied to the host.

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
                stored.write_h5ad(partial, compression="gzip", compression_opts=1)
        finally:
            stored.uns = kept_uns
        if not adata.is_view:  # a view's paths are absolute or have their base already
            set_records(adata, records, str(folder))
        return path
    with replacing(path, force=force) as partial:
        stored.write_h5ad(partial, compression="gzip", compression_opts=1)
    return path


def _on_host(adata: AnnData) -> AnnData:
    """``adata`` itself when it holds host arrays only, else a copy on the host."""
    parts = [adata.X, *adata.obsm.values(), *adata.obsp.values(), *adata.layers.values()]
    if not any(is_device_array(part) for part in parts if part is not None):
        return adata
    out = adata.copy()
    out.X = _host(out.X)
    for mapping in (out.obsm, out.obsp, out.layers):
        for key in list(mapping):
            mapping[key] = _host(mapping[key])
    return out


def _host(array):  # type: ignore[no-untyped-def]
    if array is None or not is_device_array(array):
        return array
    bk = backend_of(array)
    return bk.csr_to_host(array) if hasattr(array, "indptr") else bk.to_host(array)
