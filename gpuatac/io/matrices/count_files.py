"""Count matrices made elsewhere (10x mtx and h5, MAESTRO, h5ad) as AnnData with cells in rows."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gpuatac import check
from gpuatac.errors import FileFormatError, InputError
from gpuatac.io.files.compression import read_bytes
from gpuatac.io.genome.bed_rows import numbered_lines
from gpuatac.io.genome.regions import parse_regions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

logger = logging.getLogger(__name__)
_FEATURE_FILES = ("features.tsv", "peaks.bed", "genes.tsv")


def as_counts(matrix: Any) -> Any:
    """CSR with sorted indices: int32 when every value is a whole number, otherwise float32 (float64 kept).

    Values are whole when they equal their floor and lie within int32. Cost: one pass over the non-zeros.
    """
    import scipy.sparse as sp

    out = matrix if sp.issparse(matrix) and matrix.format == "csr" else sp.csr_matrix(matrix)
    data = out.data
    step = 1 << 22
    parts = (data[i : i + step] for i in range(0, data.size, step))
    limit = 2**31 - 1
    if all(bool(np.all((np.abs(p) <= limit) & (np.floor(p) == p))) for p in parts):
        out = out.astype(np.int32)
    elif data.dtype != np.float64:
        out = out.astype(np.float32)
    out.sum_duplicates()
    out.sort_indices()
    return out


def add_coordinates(var: pd.DataFrame, names: Sequence[str] | None = None) -> pd.DataFrame:
    """A copy of ``var`` with ``chrom`` (categorical), ``start`` and ``end`` (int32, bp, 0-based half-open).

    They come from columns of these names (``chr`` and ``seqnames`` count as chrom), otherwise from ``names``
    or the index when *every* name reads chr1:1-2, chr1-1-2 or chr1_1_2; names of another kind leave ``var``
    alone.
    """
    var = var.copy()
    chrom = next((c for c in ("chrom", "chr", "seqnames") if c in var), None)
    if chrom is not None and "start" in var and "end" in var:
        found = pd.DataFrame({"chrom": var[chrom].astype(str), "start": var["start"], "end": var["end"]})
        numbers = found[["start", "end"]].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
        if not (np.isfinite(numbers) & (numbers >= 0) & (numbers < 2**31)).all():
            return var
        found[["start", "end"]] = numbers.astype(np.int64)
    else:
        made = parse_regions([str(n) for n in (var.index if names is None else names)])
        if made is None:
            return var
        found = made
    var["chrom"] = pd.Categorical(found["chrom"].to_numpy(object))
    for key in ("start", "end"):
        var[key] = found[key].to_numpy(np.int32)
    return var


def _anndata(x: Any, barcodes: Sequence[str], var: pd.DataFrame, source: Path) -> AnnData:
    from anndata import AnnData

    if x.shape != (len(barcodes), len(var)):
        found = f"{len(barcodes)} barcodes and {len(var)} features for a matrix of {x.shape[0]} x {x.shape[1]}"
        raise FileFormatError(
            source,
            found,
            "one barcode for each row and one feature for each column",
            "give files that were written together",
        )
    repeated = pd.Index(barcodes)
    if repeated.has_duplicates:
        first = repeated[repeated.duplicated()][0]
        raise FileFormatError(source, f"barcode {first} more than once", "each barcode once", "make them unique")
    if var.index.has_duplicates:
        logger.warning("%s: feature names are not unique; repeated ones get -1, -2, ... appended", source)
    adata = AnnData(
        X=x,
        obs=pd.DataFrame(index=pd.Index(barcodes, dtype=object)),
        var=var.set_axis(_unique(var.index.to_list()), axis=0),
    )
    return adata


def _unique(names: list[str]) -> list[str]:
    taken, seen, out = set(names), dict.fromkeys(names, 0), []
    given: set[str] = set()
    for name in names:
        new = name
        while new in given or (new != name and new in taken):
            seen[name] += 1
            new = f"{name}-{seen[name]}"
        given.add(new)
        out.append(new)
    return out


def _select_type(x: Any, var: pd.DataFrame, feature_type: str | None, source: Path) -> tuple[Any, pd.DataFrame]:
    """Columns of ``feature_type`` where the file holds several types; everything where it holds one."""
    if feature_type is None or "feature_types" not in var:
        return x, var
    types = var["feature_types"].astype(str)
    if types.nunique() <= 1:
        return x, var
    keep = (types == feature_type).to_numpy()
    if not keep.any():
        found = ", ".join(sorted(types.unique()))
        msg = f"{source} holds no feature of type {feature_type!r}; pass feature_type={found!r} (one), or None for all."
        raise InputError(msg)
    return x[:, np.flatnonzero(keep)], var[keep]


def read_10x_h5(path: str | Path, *, feature_type: str | None = "Peaks", genome: str | None = None) -> AnnData:
    """Read a Cell Ranger HDF5 matrix (ATAC, multiome or version 2), or MAESTRO's file of the same layout.

    Parameters
    ----------
    path
        ``*_peak_bc_matrix.h5`` or ``*_feature_bc_matrix.h5``.
    feature_type
        The type to keep when the file holds several ("Peaks", "Gene Expression"); None keeps all.
    genome
        Version 2 only: the group to read when there are several.

    Returns
    -------
    AnnData (n_cells, n_features): X CSR, int32 when all values are whole; obs_names barcodes in file order;
    var: gene_ids, feature_types, genome where the file has them, and chrom (categorical), start, end (int32)
    where the names are coordinates.

    Raises
    ------
    FileFormatError
        When the file is no HDF5 or has another layout.
    InputError
        When no feature has the type, or a version 2 file holds several genomes and none is named.

    Source: 10x Genomics, "Feature-barcode HDF5". Cost: one read of the file.

    Examples
    --------
    >>> import h5py, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "m.h5"
    >>> with h5py.File(path, "w") as h:
    ...     for key, value in {"data": [2], "indices": [0], "indptr": [0, 1], "shape": [1, 1]}.items():
    ...         h[f"matrix/{key}"] = value
    ...     h["matrix/barcodes"], h["matrix/features/id"] = [b"AAC-1"], [b"chr1:5-9"]
    >>> from gpuatac.io.matrices.count_files import read_10x_h5
    >>> read_10x_h5(path).to_df().to_dict()
    {'chr1:5-9': {'AAC-1': 2}}
    """
    import h5py
    import scipy.sparse as sp

    path = Path(path)
    check.existing_file(path, "matrix")
    allowed = "a 10x HDF5 matrix: a group with barcodes, data, indices, indptr, shape and features or genes"
    if not h5py.is_hdf5(path):
        raise FileFormatError(path, "no HDF5 file", allowed, "give the .h5 file of Cell Ranger")
    with h5py.File(path) as file:
        group = file[_matrix_group(path, file, genome, allowed)]
        wanted = [
            "barcodes",
            "data",
            "indices",
            "indptr",
            "shape",
            "features" if "features" in group else "genes",
        ]
        missing = [key for key in wanted if key not in group]
        if missing:
            found = f"{group.name} without {', '.join(missing)}"
            raise FileFormatError(path, found, allowed, "give the .h5 file of Cell Ranger")
        shape = tuple(int(n) for n in group["shape"][:])
        parts = (group["data"][:], group["indices"][:], group["indptr"][:])
        barcodes = _strings(group["barcodes"])
        var = _h5_features(group)
    try:
        x = sp.csr_matrix(parts, shape=shape[::-1])
        x.check_format()
    except ValueError as err:
        raise FileFormatError(
            path, f"a matrix that does not hold together ({err})", allowed, "write the file again"
        ) from err
    _check_sides(path, x, barcodes, var)
    x, var = _select_type(x, var, feature_type, path)
    return _anndata(as_counts(x), barcodes, add_coordinates(var), path)


def _check_sides(path: Path, x: Any, barcodes: Sequence[str], var: pd.DataFrame) -> None:
    if x.shape != (len(barcodes), len(var)):
        found = f"{len(barcodes)} barcodes and {len(var)} features for a matrix of {x.shape[0]} x {x.shape[1]}"
        allowed = "one barcode for each cell and one name for each feature"
        raise FileFormatError(path, found, allowed, "give files that were written together")


def _matrix_group(path: Path, file: Any, genome: str | None, allowed: str) -> str:
    if "matrix" in file:
        return "matrix"
    if "X" in file and "obs" in file:
        raise FileFormatError(path, "an .h5ad file", allowed, "read it with read_h5ad")
    groups = [str(name) for name in file if f"{name}/indptr" in file]
    if genome is not None and genome in groups:
        return genome
    if len(groups) == 1 and genome is None:
        return groups[0]
    if groups:
        msg = f"{path} holds the genomes {', '.join(groups)}, asked for {genome!r}; pass genome= one of them."
        raise InputError(msg)
    found = f"an HDF5 file with {', '.join(list(file)[:5]) or 'nothing in it'}"
    raise FileFormatError(path, found, allowed, "give the .h5 file of Cell Ranger")


def _strings(dataset: Any) -> list[str]:
    return [v.decode() if isinstance(v, bytes) else str(v) for v in dataset[:]]


def _h5_features(group: Any) -> pd.DataFrame:
    if "genes" in group:
        ids, names = (
            _strings(group["genes"]),
            _strings(group["gene_names" if "gene_names" in group else "genes"]),
        )
        return pd.DataFrame({"gene_ids": ids}, index=pd.Index(names, dtype=object))
    features = group["features"]
    ids = _strings(features["id"])
    var = pd.DataFrame(
        {"gene_ids": ids},
        index=pd.Index(_strings(features["name" if "name" in features else "id"]), dtype=object),
    )
    for key, column in (("feature_type", "feature_types"), ("genome", "genome")):
        if key in features:
            var[column] = pd.Categorical(_strings(features[key]))
    return var


def read_10x_mtx(path: str | Path, *, feature_type: str | None = "Peaks") -> AnnData:
    """Read a Matrix Market folder of Cell Ranger (ATAC, multiome, RNA), plain or gzip.

    Parameters
    ----------
    path
        The folder with matrix.mtx, barcodes.tsv and features.tsv, peaks.bed or genes.tsv (each also .gz); or
        the matrix file, whose companions stand beside it with the same prefix (``GSM1_matrix.mtx.gz``).
    feature_type
        The type to keep when the file holds several ("Peaks", "Gene Expression"); None keeps all.

    Returns
    -------
    AnnData (n_cells, n_features): X CSR, int32 when all values are whole; obs_names barcodes in file order;
    var: gene_ids and feature_types where given, and chrom (categorical), start, end (int32) of peaks. Peaks
    of a peaks.bed are named chr:start-end. A matrix with cells in rows already is taken as it is; a square
    one is taken as 10x writes it, features in rows.

    Raises
    ------
    MissingFileError
        When one of the files is absent (the names looked for are given).
    FileFormatError
        When the matrix cannot be read or the sizes differ.

    Source: 10x Genomics, "Matrix Exchange format". Cost: one parse of the file (SciPy's mmread).

    Examples
    --------
    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> head = "%%MatrixMarket matrix coordinate integer general\\n"
    >>> _ = (folder / "matrix.mtx").write_text(head + "1 2 1\\n1 2 3\\n")
    >>> _ = (folder / "barcodes.tsv").write_text("AAC-1\\nAAG-1\\n")
    >>> _ = (folder / "peaks.bed").write_text("chr1\\t5\\t9\\n")
    >>> from gpuatac.io.matrices.count_files import read_10x_mtx
    >>> read_10x_mtx(folder).to_df().to_dict()
    {'chr1:5-9': {'AAC-1': 0, 'AAG-1': 3}}
    """
    path = Path(path)
    check.existing_file(path, "matrix")
    folder, prefix = (path, "") if path.is_dir() else (path.parent, path.name.partition("matrix.mtx")[0])
    matrix_file = _companion(folder, prefix, ("matrix.mtx",)) if path.is_dir() else path
    x = _read_mtx(matrix_file)
    barcode_file = _companion(folder, prefix, ("barcodes.tsv",))
    barcodes = [f[0] for f in _table(barcode_file)]
    var = _features(_companion(folder, prefix, _FEATURE_FILES))
    if x.shape != (len(barcodes), len(var)) or len(barcodes) == len(var):
        x = x.T
    _check_sides(matrix_file, x, barcodes, var)
    x, var = _select_type(x.tocsr(), var, feature_type, matrix_file)
    return _anndata(as_counts(x), barcodes, add_coordinates(var), matrix_file)


def _companion(folder: Path, prefix: str, names: Sequence[str]) -> Path:
    tried = [folder / f"{prefix}{name}{suffix}" for name in names for suffix in ("", ".gz")]
    for candidate in tried:
        if candidate.exists():
            return candidate
    roles = " or ".join(names)
    check.existing_file(folder / f"{prefix}{names[0]}", f"{roles} (plain or .gz) in {folder}: at least")
    raise AssertionError  # the line above raised


def _read_mtx(path: Path) -> Any:
    import io

    import scipy.sparse as sp
    from scipy.io import mmread

    try:
        return sp.coo_matrix(mmread(io.BytesIO(read_bytes(path)), spmatrix=False))
    except (ValueError, OverflowError) as err:
        if isinstance(err, FileFormatError):
            raise
        raise FileFormatError(
            path,
            f"no readable Matrix Market file ({err})",
            "a coordinate matrix as 10x writes it",
            "check the file",
        ) from err


def _table(path: Path) -> list[list[str]]:
    return [line.decode(errors="replace").strip().split("\t") for _, line in numbered_lines(read_bytes(path))]


def _features(path: Path) -> pd.DataFrame:
    rows = _table(path)
    width = min(map(len, rows), default=0)
    bed = path.name.removesuffix(".gz").endswith(".bed")
    if not rows or (bed and width < 3):
        raise FileFormatError(path, f"{width} column(s)", "3 columns for peaks.bed, 1 or more otherwise", "check it")
    if bed:
        return pd.DataFrame(index=pd.Index([f"{r[0]}:{r[1]}-{r[2]}" for r in rows], dtype=object))
    var = pd.DataFrame(
        {"gene_ids": [r[0] for r in rows]}, index=pd.Index([r[min(1, width - 1)] for r in rows], dtype=object)
    )
    if width > 2:
        var["feature_types"] = pd.Categorical([r[2] for r in rows])
    return var


def read_h5ad(path: str | Path) -> AnnData:
    """Read an .h5ad count matrix and put it in the shape that gpuatac's verbs expect.

    Parameters
    ----------
    path
        Any .h5ad, also of AnnData 0.7 and older. Files of SnapATAC2 that hold only fragments have no X: read
        them with :func:`gpuatac.io.fragments.snapatac2.read_snapatac2_fragments`.

    Returns
    -------
    AnnData as stored, except: X is CSR, int32 when all values are whole (a dense X is made sparse); var has
    chrom (categorical), start, end (int32) when columns of that kind or coordinate names provide them; names
    that are no coordinates leave var alone.

    Raises
    ------
    FileFormatError
        When the file is no HDF5 or AnnData cannot read it.

    Source: AnnData's on-disk format. Cost: one read of the file into memory.

    Examples
    --------
    >>> import anndata, numpy as np, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.h5ad"
    >>> made = anndata.AnnData(np.array([[0.0, 2.0]], "f4"))
    >>> made.obs_names, made.var_names = ["c"], ["chr1:0-5", "chr1:5-9"]
    >>> made.write_h5ad(path)
    >>> from gpuatac.io.matrices.count_files import read_h5ad
    >>> read_h5ad(path).var["end"].tolist()
    [5, 9]
    """
    import anndata
    import h5py

    path = Path(path)
    check.existing_file(path, "matrix")
    if not path.is_file() or not h5py.is_hdf5(path):
        kind = "a folder" if path.is_dir() else "no HDF5 file"
        raise FileFormatError(path, kind, "an .h5ad file", "give the file that AnnData.write_h5ad made")
    with h5py.File(path) as file:
        if "obs" not in file or "var" not in file:
            found = f"an HDF5 file with {', '.join(list(file)[:5]) or 'nothing in it'}"
            if "matrix" in file:
                raise FileFormatError(path, "a 10x HDF5 matrix", "an .h5ad file", "read it with read_10x_h5")
            if "mod" in file:
                raise FileFormatError(path, "an .h5mu file", "an .h5ad file", "read it with mudata.read_h5mu")
            if "obsm" in file and any(k.startswith("fragment_") for k in file["obsm"]):
                remedy = "read it with read_snapatac2_fragments"
                raise FileFormatError(path, "a SnapATAC2 file of fragments", "an .h5ad matrix", remedy)
            raise FileFormatError(path, found, "an .h5ad file (obs, var, X)", "give another file")
    with warnings.catch_warnings():  # old encodings are read, and what is not unique is logged below
        warnings.filterwarnings("ignore", category=getattr(anndata, "OldFormatWarning", FutureWarning))
        warnings.filterwarnings("ignore", message=r"(?i)(observation|variable) names are not unique")
        try:
            adata = anndata.read_h5ad(path)
        except (OSError, KeyError, ValueError, TypeError) as err:
            remedy = "write it again with a current AnnData, or install hdf5plugin if a filter is missing"
            raise FileFormatError(path, f"what AnnData cannot read ({err})", "a complete .h5ad file", remedy) from err
    for axis, index in (("observation", adata.obs_names), ("variable", adata.var_names)):
        if index.has_duplicates:
            logger.warning("%s: %d %s names are not unique", path, index.duplicated().sum(), axis)
    if adata.X is not None:
        adata.X = as_counts(adata.X)
    adata.var = add_coordinates(adata.var)
    return adata
