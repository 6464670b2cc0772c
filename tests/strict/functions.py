"""The functions of the module ``cupy`` and of ``cupy.linalg``, ``fft`` and ``random``: NumPy's, with CuPy's refusals."""

from __future__ import annotations

import importlib.machinery
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from .arrays import SCALARS, garbage, ndarray, on_device, on_host, unsupported
from .calls import check_call, names_of
from .ledger import LEDGER

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION = "14.2.0"
#: What CuPy takes from NumPy as it is.
SHARED = (
    "bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64", "complex64",
    "complex128", "intp", "dtype", "iinfo", "finfo", "integer", "floating", "inf", "nan", "pi", "newaxis", "result_type",
    "can_cast", "promote_types", "issubdtype", "generic",
)  # fmt: skip
AT = ("add", "subtract", "maximum", "minimum", "bitwise_and", "bitwise_or", "bitwise_xor")
ADD_AT = (
    np.int32, np.uint32, np.uint64, np.float16, np.float32, np.float64, np.complex64, np.complex128,
)  # fmt: skip
JOINS = ("concatenate", "stack", "vstack", "hstack")
#: Functions that are not NumPy's with the arguments looked at, by name.
OWN: dict[str, Callable[..., Any]] = {}


def own(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that CuPy has differently from NumPy."""
    OWN[function.__name__] = function
    return function


class Ufunc:
    """As ``cupy.ufunc``: device arrays and scalars, few methods beside the call."""

    def __init__(self, name: str) -> None:
        self.__name__ = name
        self._ufunc = getattr(np, name)

    def __call__(self, *args: Any, out: Any = None, dtype: Any = None, casting: str = "same_kind") -> Any:
        LEDGER.calls[self.__name__] += 1
        given = [on_host(a) for a in args]
        if not all(isinstance(a, (np.ndarray, *SCALARS)) for a in given):
            raise unsupported(next(a for a in given if not isinstance(a, (np.ndarray, *SCALARS))))
        options = {} if dtype is None else {"dtype": dtype}
        if out is None:
            return on_device(self._ufunc(*given, **options))
        self._ufunc(*given, out=out.on_device(), casting=casting, **options)
        return out

    def _only(self, method: str, names: tuple[str, ...]) -> None:
        if self.__name__ not in names:
            msg = f"`{self.__name__}.{method}` is not supported yet"
            raise NotImplementedError(msg)

    def at(self, a: ndarray, indices: Any, b: Any = None) -> None:
        self._only("at", AT)
        if self.__name__ == "add" and a.dtype not in ADD_AT:
            msg = f"cupy.add.at only supports int32, uint32, uint64 and floats (got {a.dtype})"
            raise TypeError(msg)
        self._ufunc.at(a.on_device(), on_host(indices), on_host(b))

    def reduce(self, array: ndarray, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        self._only("reduce", ("add", "multiply"))
        return on_device(self._ufunc.reduce(array.on_device(), axis=axis, dtype=dtype, keepdims=keepdims))

    def accumulate(self, array: ndarray, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
        self._only("accumulate", ("add", "multiply"))
        return on_device(self._ufunc.accumulate(array.on_device(), axis=axis, dtype=dtype))

    def outer(self, A: Any, B: Any) -> Any:
        return on_device(self._ufunc.outer(on_host(A), on_host(B)))


def _taken(name: str, value: Any, dtype: Any, order: str, *, copy: bool) -> ndarray:
    """A value as a device array: itself, a copy on the device, or data sent from the host."""
    layout = {"ascontiguousarray": "C", "asfortranarray": "F"}.get(name)
    if isinstance(value, ndarray):
        array = value.on_device()
        kind = array.dtype if dtype is None else np.dtype(dtype)
        laid_out = layout is None or array.flags[f"{layout}_CONTIGUOUS"]
        if array.dtype == kind and laid_out and not copy:
            return value
        return ndarray.over(np.array(array, dtype=kind, order=layout or order, copy=True))
    interface = getattr(value, "__cuda_array_interface__", None)
    if interface is not None:
        array = interface["array"]
        return ndarray.over(array if dtype is None else array.astype(dtype, copy=False))
    if isinstance(value, list | tuple) and any(isinstance(x, ndarray) for x in value):
        return ndarray.over(np.array([x.on_device() if isinstance(x, ndarray) else x for x in value], dtype=dtype))
    if sp.issparse(value) or type(value).__module__.startswith("cupyx"):
        msg = "Unsupported dtype object"
        raise ValueError(msg)
    array = np.array(value, dtype=dtype, order=layout or "C")
    LEDGER.cross(f"H2D {name}", array.nbytes)
    return ndarray.over(array)


@own
def asarray(a: Any, dtype: Any = None, order: Any = None, *, blocking: bool = False, copy: Any = None) -> ndarray:
    return _taken("asarray", a, dtype, "K", copy=bool(copy))


@own
def array(
    obj: Any, dtype: Any = None, copy: bool = True, order: str = "K", subok: bool = False, ndmin: int = 0, *, blocking: bool = False
) -> ndarray:
    return _taken("array", obj, dtype, order, copy=copy)


@own
def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    return _taken("ascontiguousarray", a, dtype, "C", copy=False)


@own
def asfortranarray(a: Any, dtype: Any = None) -> ndarray:
    return _taken("asfortranarray", a, dtype, "F", copy=False)


@own
def asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True) -> np.ndarray:
    return a.get(order=order) if hasattr(a, "get") else np.asarray(a)


@own
def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return ndarray.over(garbage(np.empty(shape, dtype, order)))


@own
def empty_like(prototype: ndarray, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None) -> ndarray:
    return ndarray.over(garbage(np.empty_like(prototype.on_device(), dtype=dtype, shape=shape)))


@own
def from_dlpack(array: Any, *, device: Any = None, copy: Any = None) -> ndarray:
    return ndarray.over(array.numpy() if hasattr(array, "numpy") else np.from_dlpack(array))


@own
def bincount(x: ndarray, weights: ndarray | None = None, minlength: int | None = None) -> ndarray:
    for given in (x, *(() if weights is None else (weights,))):
        if not isinstance(given, ndarray):
            raise unsupported(given)
    if x.dtype.kind not in "biu":
        msg = "x must be int array"
        raise TypeError(msg)
    LEDGER.cross("sync bincount", 1)  # is any negative?
    LEDGER.cross("sync bincount", 8)  # how long is the result?
    values = x.on_device()
    if (values < 0).any():
        msg = "The first argument of bincount must be non-negative"
        raise ValueError(msg)
    return ndarray.over(np.bincount(values, None if weights is None else weights.on_device(), minlength or 0))


@own
def searchsorted(a: ndarray, v: Any, side: str = "left", sorter: Any = None) -> ndarray:
    if not isinstance(a, ndarray):
        msg = "Only int or ndarray are supported for a"
        raise NotImplementedError(msg)
    if not isinstance(v, ndarray | int | float | complex):
        msg = "Only python scalars or ndarrays are supported for v"
        raise NotImplementedError(msg)
    found = np.searchsorted(a.on_device(), v.on_device() if isinstance(v, ndarray) else v, side)
    return ndarray.over(np.asarray(found, np.int64))


def _stable(kind: Any) -> None:
    if kind not in (None, "stable"):
        msg = "kind can only be None or 'stable'"
        raise ValueError(msg)


@own
def argsort(a: ndarray, axis: int = -1, kind: Any = None) -> ndarray:
    _stable(kind)
    return a.argsort(axis)


@own
def sort(a: ndarray, axis: int = -1, kind: Any = None) -> ndarray:
    _stable(kind)
    out: ndarray = a.copy()  # type: ignore[attr-defined]
    out.sort(axis)
    return out


@own
def flatnonzero(a: ndarray) -> ndarray:
    LEDGER.cross("sync nonzero", 8)
    return ndarray.over(np.flatnonzero(a.on_device()))


@own
def nonzero(a: ndarray) -> tuple[ndarray, ...]:
    return a.nonzero()


@own
def repeat(a: ndarray, repeats: Any, axis: int | None = None) -> ndarray:
    if isinstance(repeats, np.ndarray):
        msg = "'repeats' does not accept numpy.ndarray; it takes an int, a sequence or a cupy.ndarray"
        raise TypeError(msg)
    if isinstance(repeats, list | tuple):
        LEDGER.cross("H2D repeats", 8 * len(repeats))
    return ndarray.over(np.repeat(a.on_device(), on_host(repeats), axis))


@own
def get_array_module(*args: Any) -> Any:
    from .sparse import spmatrix

    return sys.modules["cupy"] if any(isinstance(a, ndarray | spmatrix) for a in args) else np


def _numpys(module: str, name: str, function: Any) -> Callable[..., Any]:
    """NumPy's function, called as the wheel's signature allows and on device arrays alone."""

    def call(*args: Any, **kw: Any) -> Any:
        LEDGER.calls[name] += 1
        check_call(module, name, args, kw)
        if name in JOINS and not all(isinstance(x, ndarray) for x in args[0]):
            msg = "Only cupy arrays can be concatenated"
            raise TypeError(msg)
        return on_device(function(*map(on_host, args), **{key: on_host(value) for key, value in kw.items()}))

    call.__name__ = name
    return call


def new_module(name: str, **attributes: Any) -> ModuleType:
    """An empty package of that name in ``sys.modules``, and on the module it is part of."""
    module = ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.__path__ = []
    for key, value in attributes.items():
        setattr(module, key, value)
    sys.modules[name] = module
    above, _, last = name.rpartition(".")
    if above in sys.modules:
        setattr(sys.modules[above], last, module)
    return module


def _looked_up(module: ModuleType, name: str) -> Any:
    """A function of the stand-in, made when it is first asked for; names that the wheel lacks raise AttributeError."""
    path = module.__name__
    known = {} if name.startswith("__") else names_of(path)
    if name not in known:
        msg = f"module {path!r} has no attribute {name!r} (CuPy {VERSION})"
        raise AttributeError(msg)
    numpys = getattr(np if path == "cupy" else getattr(np, path.rpartition(".")[2]), name, None)
    if path == "cupy" and name in OWN:
        value: Any = OWN[name]
    elif isinstance(numpys, np.ufunc):
        value = Ufunc(name)
    elif numpys is not None:
        value = _numpys(path, name, numpys)
    else:
        msg = f"the stand-in lacks {path}.{name}: add it to tests/strict/functions.py"
        raise NotImplementedError(msg)
    setattr(module, name, value)
    return value


def make_cupy() -> ModuleType:
    """The module ``cupy``."""
    cupy = new_module("cupy", ndarray=ndarray, bool=np.bool_, __version__=VERSION, **{name: getattr(np, name) for name in SHARED})
    for module in (cupy, *(new_module(f"cupy.{part}") for part in ("linalg", "fft", "random"))):
        module.__getattr__ = lambda name, module=module: _looked_up(module, name)  # type: ignore[method-assign]
    return cupy
