"""``cupyx.scipy.sparse`` on SciPy: floats and bool alone, int32 indices where they fit, checks that CuPy makes on the device."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp

from .arrays import SCALARS, ndarray, on_device, on_host
from .functions import new_module
from .ledger import LEDGER

MOST32 = np.iinfo(np.int32).max


def _check_dtype(dtype: Any) -> None:
    if np.dtype(dtype).char not in "?fdFD":
        msg = f"Only bool, float32, float64, complex64 and complex128 are supported (got {np.dtype(dtype)})"
        raise ValueError(msg)


def _index_dtype(arrays: tuple[ndarray, ...], largest: int) -> type:
    """int32 where every index fits; int64 arrays are looked through, which the host waits for."""
    for array in arrays:
        if array.dtype == np.int64:
            LEDGER.cross("sync csr indices", 16)
            values = array.on_device()
            if values.size and (values.max() > MOST32 or values.min() < -MOST32 - 1):
                return np.int64
    return np.int64 if largest > MOST32 else np.int32


def _on_device_vector(array: Any) -> ndarray:
    if not isinstance(array, ndarray) or array.ndim != 1:
        msg = "data, indices, and indptr must be 1-D cupy arrays"
        raise ValueError(msg)
    return array


class spmatrix:
    """What the three formats share."""

    __module__ = "cupyx.scipy.sparse._base"
    __array_priority__ = 101
    __hash__ = None  # type: ignore[assignment]
    ndim = 2
    format: ClassVar[str] = ""
    _scipy: ClassVar[Any] = None

    shape: tuple[int, int]
    data: ndarray

    def __init__(
        self, arg1: Any, shape: tuple[int, int] | None = None, dtype: Any = None, copy: bool = False, *, maxprint: Any = None
    ) -> None:
        if isinstance(arg1, tuple) and len(arg1) == 2 and not isinstance(arg1[1], tuple):  # a shape
            arg1 = self._scipy(tuple(map(int, arg1)), dtype=dtype or np.float64)
        elif isinstance(arg1, spmatrix):
            arg1 = arg1.scipy()
        elif sp.issparse(arg1):
            LEDGER.cross("H2D sparse", 2 * arg1.data.nbytes)
        elif isinstance(arg1, ndarray):
            arg1 = arg1.on_device()
        elif isinstance(arg1, tuple) and len(arg1) == 2:
            arg1 = self._coordinates(*arg1, shape)
        else:
            msg = "Unsupported initializer format"
            raise ValueError(msg)
        matrix = self._scipy(arg1)
        _check_dtype(matrix.dtype if dtype is None else dtype)
        self._take(matrix if dtype is None else matrix.astype(dtype))

    @staticmethod
    def _coordinates(data: Any, places: tuple[Any, Any], shape: Any) -> sp.coo_matrix:
        row, column = (_on_device_vector(part).on_device() for part in places)
        values = _on_device_vector(data).on_device()
        _check_dtype(values.dtype)
        if shape is None or (row.size and (row.max() >= shape[0] or column.max() >= shape[1])):
            msg = "a shape is needed, and no index may exceed it"
            raise ValueError(msg)
        return sp.coo_matrix((values, (row, column)), shape=shape)

    # ---------------------------------------------------------------------------------------- to SciPy and back
    def _take(self, matrix: Any) -> None:
        raise NotImplementedError

    def scipy(self) -> Any:
        """The same memory as a SciPy matrix."""
        raise NotImplementedError

    @classmethod
    def over(cls, matrix: Any, *, canonical: bool | None = None) -> Any:
        """A device matrix over the memory of a SciPy one."""
        _check_dtype(matrix.dtype)
        self = object.__new__(cls)
        self._take(matrix)
        self._canonical = canonical
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self.copy()

    # ---------------------------------------------------------------------------------------------- what it is
    _canonical: bool | None = None
    dtype = property(lambda self: self.data.dtype)
    nnz = property(lambda self: int(self.data.size))
    size = property(lambda self: int(self.data.size))
    T = property(lambda self: self.transpose())

    def __len__(self) -> int:
        msg = "sparse matrix length is ambiguous; use getnnz()"
        raise TypeError(msg)

    def __bool__(self) -> bool:
        msg = "The truth value of an array with more than one element is ambiguous"
        raise ValueError(msg)

    def __array__(self, *_: Any, **__: Any) -> Any:
        msg = "Implicit conversion to a host NumPy array via __array__ is not allowed, use `.get()`."
        raise TypeError(msg)

    def eliminate_zeros(self) -> None:
        canonical = self._canonical
        self._changed("eliminate_zeros")
        self._canonical = canonical

    def _changed(self, how: str) -> None:
        matrix = self.scipy().copy()
        getattr(matrix, how)()
        self._take(matrix)
        self._canonical = None

    def sum_duplicates(self) -> None:
        self._changed("sum_duplicates")

    # -------------------------------------------------------------------------------------------------- copies
    def get(self, stream: Any = None) -> Any:
        LEDGER.cross("D2H sparse", 2 * self.data.nbytes)
        return self.scipy().copy()

    def copy(self) -> Any:
        return self.over(self.scipy().copy(), canonical=self._canonical)

    def astype(self, dtype: Any, casting: Any = None, copy: bool = True) -> Any:
        _check_dtype(dtype)
        if np.dtype(dtype) == self.dtype:
            return self.copy() if copy else self
        return self.over(self.scipy().astype(dtype, copy=True), canonical=self._canonical)

    def asformat(self, format: str | None) -> Any:
        return self if format in (None, self.format) else FORMATS[format].over(self.scipy().asformat(format))

    def tocsr(self, copy: bool = False) -> Any:
        return self.asformat("csr")

    def tocsc(self, copy: bool = False) -> Any:
        return self.asformat("csc")

    def tocoo(self, copy: bool = False) -> Any:
        return self.asformat("coo")

    def transpose(self, axes: Any = None, copy: bool = False) -> Any:
        other = {"csr": "csc", "csc": "csr", "coo": "coo"}[self.format]
        return FORMATS[other].over(self.scipy().T, canonical=self._canonical)

    def toarray(self, order: Any = None, out: Any = None) -> ndarray:
        return ndarray.over(self.scipy().toarray())

    def sum(self, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
        return on_device(np.asarray(self.scipy().sum(axis=axis)))

    def diagonal(self, k: int = 0) -> ndarray:
        return ndarray.over(self.scipy().diagonal(k))

    def __getitem__(self, key: Any) -> Any:
        def one(part: Any) -> Any:
            if isinstance(part, np.ndarray):
                LEDGER.cross("H2D index", part.nbytes)
                return part
            return on_host(part)

        found = self.scipy()[tuple(map(one, key)) if isinstance(key, tuple) else one(key)]
        return self.over(found) if sp.issparse(found) else on_device(found)

    # ------------------------------------------------------------------------------------------------- algebra
    def __matmul__(self, other: Any) -> Any:
        if isinstance(other, SCALARS):
            return self.over(self.scipy() * other)
        if isinstance(other, spmatrix):
            return csr_matrix.over(sp.csr_matrix(self.scipy() @ other.scipy()))
        if not isinstance(other, ndarray):
            msg = f"unsupported operand type {type(other)}"
            raise TypeError(msg)
        if self.format == "csc":
            LEDGER.remark("CSC @ dense (cuSPARSE with a transposed operand)")
        if self.format != "coo":
            self.sum_duplicates()
        dtype = np.promote_types(self.dtype, other.dtype)
        return on_device(np.asarray(self.scipy() @ other.on_device()).astype(dtype, copy=False))

    __mul__ = __matmul__
    dot = __matmul__

    def __rmul__(self, other: Any) -> Any:
        return self @ other

    def __rmatmul__(self, other: Any) -> Any:
        LEDGER.remark("dense @ sparse (cuSPARSE with a transposed operand)")
        return on_device(on_host(other) @ self.scipy())

    def multiply(self, other: Any) -> Any:
        if isinstance(other, SCALARS):
            return self.over(self.scipy() * other)
        if not isinstance(other, spmatrix | ndarray):
            msg = "expected scalar, dense matrix/vector or csr matrix"
            raise TypeError(msg)
        factor = other.scipy() if isinstance(other, spmatrix) else other.on_device()
        return csr_matrix.over(sp.csr_matrix(self.scipy().multiply(factor)))

    def __add__(self, other: Any) -> Any:
        return self._sum(other, lambda a, b: a + b)

    def __sub__(self, other: Any) -> Any:
        return self._sum(other, lambda a, b: a - b)

    def __ne__(self, other: Any) -> Any:
        return self._sum(other, lambda a, b: a != b)

    def _sum(self, other: Any, combine: Any) -> Any:
        if not isinstance(other, spmatrix):
            return NotImplemented
        return csr_matrix.over(sp.csr_matrix(combine(self.scipy(), other.scipy())))

    def __neg__(self) -> Any:
        return self.over(-self.scipy())


class _compressed(spmatrix):
    """CSR and CSC."""

    indices: ndarray
    indptr: ndarray

    def __init__(
        self, arg1: Any, shape: tuple[int, int] | None = None, dtype: Any = None, copy: bool = False, *, maxprint: Any = None
    ) -> None:
        if not (isinstance(arg1, tuple) and len(arg1) == 3):
            super().__init__(arg1, shape, dtype, copy, maxprint=maxprint)
            return
        data, indices, indptr = map(_on_device_vector, arg1)
        _check_dtype(data.dtype if dtype is None else dtype)
        if len(data) != len(indices):
            msg = "indices and data should have the same size"
            raise ValueError(msg)
        LEDGER.cross("sync csr edges", 16)  # the first and the last pointer are looked at
        edges = indptr.on_device()
        if edges.size and edges[0] != 0:
            msg = f"index pointer should start with 0 (got {edges[0]})"
            raise ValueError(msg)
        if edges.size and edges[-1] > data.size:
            msg = "the last index pointer exceeds the number of entries"
            raise ValueError(msg)
        if shape is None:
            msg = "the stand-in wants a shape"
            raise NotImplementedError(msg)
        self.shape = (int(shape[0]), int(shape[1]))
        if len(indptr) != self.shape[self.format == "csc"] + 1:
            msg = f"index pointer size ({len(indptr)}) should be ({self.shape[self.format == 'csc'] + 1})"
            raise ValueError(msg)
        columns = indices.on_device()
        if columns.size and not 0 <= columns.min() <= columns.max() < self.shape[self.format == "csr"]:
            msg = "an index lies outside the shape"
            raise ValueError(msg)
        kind = _index_dtype((indices, indptr), max(self.shape))
        self.data = data.astype(data.dtype if dtype is None else dtype, copy=copy)
        self.indices, self.indptr = indices.astype(kind, copy=copy), indptr.astype(kind, copy=copy)

    @property
    def has_canonical_format(self) -> bool:
        if self._canonical is None:
            LEDGER.cross("sync canonical", 1)
            self._canonical = bool(self.scipy().has_canonical_format)
        return self._canonical

    @has_canonical_format.setter
    def has_canonical_format(self, value: bool) -> None:
        if value and not self.scipy().has_canonical_format:
            LEDGER.remark("has_canonical_format is set on a matrix that has it not")
        self._canonical = bool(value)

    @property
    def has_sorted_indices(self) -> bool:
        LEDGER.cross("sync sorted", 1)
        return bool(self.scipy().has_sorted_indices)

    @has_sorted_indices.setter
    def has_sorted_indices(self, value: bool) -> None:
        if value and not self.scipy().has_sorted_indices:
            LEDGER.remark("has_sorted_indices is set on a matrix that has them not")

    def sum_duplicates(self) -> None:
        if not self.has_canonical_format:
            self._changed("sum_duplicates")
            self._canonical = True

    def sort_indices(self) -> None:
        self._changed("sort_indices")

    def _take(self, matrix: Any) -> None:
        self.shape = (int(matrix.shape[0]), int(matrix.shape[1]))
        kind = np.int64 if matrix.indptr[-1] > MOST32 or max(matrix.shape) > MOST32 else np.int32
        self.data = ndarray.over(matrix.data)
        self.indices = ndarray.over(matrix.indices.astype(kind, copy=False))
        self.indptr = ndarray.over(matrix.indptr.astype(kind, copy=False))

    def scipy(self) -> Any:
        parts = (self.data.on_device(), self.indices.on_device(), self.indptr.on_device())
        return self._scipy(parts, shape=self.shape, copy=False)


class csr_matrix(_compressed):
    __module__ = "cupyx.scipy.sparse._csr"
    format = "csr"
    _scipy = sp.csr_matrix


class csc_matrix(_compressed):
    __module__ = "cupyx.scipy.sparse._csc"
    format = "csc"
    _scipy = sp.csc_matrix


class coo_matrix(spmatrix):
    __module__ = "cupyx.scipy.sparse._coo"
    format = "coo"
    _scipy = sp.coo_matrix
    row: ndarray
    col: ndarray

    def _take(self, matrix: Any) -> None:
        self.shape = (int(matrix.shape[0]), int(matrix.shape[1]))
        self.data, self.row, self.col = map(ndarray.over, (matrix.data, matrix.row, matrix.col))

    def scipy(self) -> Any:
        return sp.coo_matrix((self.data.on_device(), (self.row.on_device(), self.col.on_device())), shape=self.shape)


FORMATS: dict[str, Any] = {"csr": csr_matrix, "csc": csc_matrix, "coo": coo_matrix}


def vstack(blocks: Any, format: str | None = None, dtype: Any = None) -> Any:
    return _joined(sp.vstack, blocks, format)


def hstack(blocks: Any, format: str | None = None, dtype: Any = None) -> Any:
    return _joined(sp.hstack, blocks, format)


def _joined(how: Any, blocks: Any, kind: str | None) -> Any:
    if not all(isinstance(block, spmatrix) for block in blocks):
        msg = "only matrices of cupyx can be joined"
        raise TypeError(msg)
    kind = kind or "csr"
    return FORMATS[kind].over(how([block.scipy() for block in blocks], format=kind))


def issparse(x: Any) -> bool:
    return isinstance(x, spmatrix)


def make_cupyx() -> None:
    """The modules ``cupyx.scipy.sparse`` is in, and itself."""
    new_module("cupyx")
    new_module("cupyx.scipy")
    new_module(
        "cupyx.scipy.sparse", csr_matrix=csr_matrix, csc_matrix=csc_matrix, coo_matrix=coo_matrix, spmatrix=spmatrix,
        issparse=issparse, isspmatrix=issparse, vstack=vstack, hstack=hstack,
    )  # fmt: skip
