"""``cupy.ndarray`` on NumPy."""

from __future__ import annotations

import operator
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np

from . import device
from .calls import names_of
from .ledger import LEDGER, StrictError

SCALARS = (bool, int, float, complex, np.generic)
GARBAGE = 0xA5


def unsupported(value: Any) -> TypeError:
    """The error that CuPy raises for what is not on the device."""
    return TypeError(f"Unsupported type {type(value)}")


def on_host(value: Any) -> Any:
    """Device arrays of an argument as NumPy, in lists and tuples too; NumPy arrays are refused."""
    if isinstance(value, ndarray):
        return value.on_device()
    if isinstance(value, np.ndarray):
        raise unsupported(value)
    if isinstance(value, list | tuple) and any(isinstance(x, ndarray | np.ndarray | list | tuple) for x in value):
        return type(value)(on_host(x) for x in value)
    return value


def on_device(value: Any) -> Any:
    """NumPy results as device arrays, in lists and tuples too."""
    if isinstance(value, np.ndarray | np.generic):
        return ndarray.over(np.asarray(value))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(on_device, value))
    if isinstance(value, list | tuple):
        return type(value)(map(on_device, value))
    return value


def garbage(array: np.ndarray) -> np.ndarray:
    """``array`` filled with what nobody should read."""
    if array.dtype.kind in "fc":
        array.fill(np.nan)
    elif array.dtype.kind == "b":
        array.fill(True)
    else:
        array.view(np.uint8).fill(GARBAGE) if array.size else None
    return array


def _index(key: Any) -> Any:
    """An index as NumPy takes it; what the host has to send is counted."""
    if isinstance(key, tuple):
        return tuple(map(_index, key))
    if isinstance(key, ndarray):
        return key.on_device()
    if isinstance(key, np.ndarray):
        LEDGER.cross("H2D index", key.nbytes)
        return key
    if isinstance(key, list):
        LEDGER.cross("H2D index", 8 * len(key))
        return np.asarray(key, None if key else np.int32)
    if key is None or key is Ellipsis or isinstance(key, slice | int | np.integer | bool | np.bool_):
        return key
    msg = f"only integers, slices, ellipsis, newaxis and arrays are valid indices (got {type(key)})"
    raise IndexError(msg)


def _arrays(key: Any) -> list[np.ndarray]:
    return [part for part in (key if isinstance(key, tuple) else (key,)) if isinstance(part, np.ndarray)]


def _refuse_repeats(array: np.ndarray, key: Any, value: Any) -> None:
    """A scatter must not give unlike values to one place: on a GPU any of them may stay."""
    indices = [part for part in _arrays(key) if part.dtype.kind in "iu" and part.ndim]
    if not indices or np.ndim(value) == 0 or np.size(value) <= 1:
        return
    scattered = np.empty(array.shape, array.dtype)
    with np.errstate(all="ignore"):
        scattered[key] = value
        read_back = scattered[key]
        meant = np.broadcast_to(np.asarray(value), read_back.shape).astype(array.dtype)
    same = (read_back == meant) | ((read_back != read_back) & (meant != meant))
    if not same.all():
        msg = f"a scatter gives {int((~same).sum())} unlike values to places that occur more than once"
        raise StrictError(msg)
    places = np.zeros(array.shape, np.int32)
    np.add.at(places, key, 1)
    if places.max(initial=0) > 1:
        LEDGER.remark("a scatter to places that occur more than once")


class ndarray:
    """A device array. Whatever CuPy's has and this one lacks raises AttributeError: add it here when it is needed."""

    __module__ = "cupy"
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    _a: np.ndarray
    _device: device.Device

    def __new__(cls, shape: Any, dtype: Any = float, memptr: Any = None, strides: Any = None, order: str = "C") -> ndarray:
        if memptr is not None or strides is not None:
            msg = "the stand-in makes arrays of memory of their own"
            raise NotImplementedError(msg)
        return cls.over(garbage(np.empty(shape, dtype, order)))

    @classmethod
    def over(cls, array: np.ndarray) -> ndarray:
        """A device array whose memory is that of ``array``."""
        if array.dtype.kind not in "biufc":
            msg = f"Unsupported dtype {array.dtype}"
            raise ValueError(msg)
        self = object.__new__(cls)
        self._a = array
        self._device = device.current()
        device.own(array)
        return self

    def on_device(self) -> np.ndarray:
        """The memory, for the code of a kernel or a library; raises on a thread that is on another device."""
        if self._device is not device.current():
            msg = f"Array device must be same as the current device: {self._device.number} != {device.current().number}"
            raise ValueError(msg)
        return self._a

    # ---------------------------------------------------------------------------------------------- what it is
    shape = property(lambda self: self._a.shape)
    dtype = property(lambda self: self._a.dtype)
    ndim = property(lambda self: self._a.ndim)
    size = property(lambda self: self._a.size)
    nbytes = property(lambda self: self._a.nbytes)
    itemsize = property(lambda self: self._a.itemsize)
    strides = property(lambda self: self._a.strides)
    T = property(lambda self: self._view(self._a.T))
    real = property(lambda self: self._view(self._a.real))
    imag = property(lambda self: self._view(self._a.imag))
    data = property(lambda self: SimpleNamespace(ptr=self._a.ctypes.data))
    device = property(lambda self: SimpleNamespace(id=self._device.number))

    @property
    def flags(self) -> Any:
        """C and F contiguity, and whether it owns its memory: all that CuPy tells (nothing of ``writeable``)."""
        flags = self._a.flags
        return SimpleNamespace(
            c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, owndata=flags.owndata, forc=flags.forc, fnc=flags.fnc
        )

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape, "typestr": self._a.dtype.str, "data": (self._a.ctypes.data, False), "version": 3, "array": self._a,
        }  # fmt: skip

    def _view(self, array: np.ndarray) -> ndarray:
        out = ndarray.over(array)
        out._device = self._device
        return out

    def __len__(self) -> int:
        if not self._a.ndim:
            msg = "len() of unsized object"
            raise TypeError(msg)
        return len(self._a)

    def __iter__(self) -> Any:
        if not self._a.ndim:
            msg = "iteration over a 0-d array"
            raise TypeError(msg)
        LEDGER.remark("iteration over a device array")
        return iter([self._view(np.asarray(x)) for x in self._a])

    def __deepcopy__(self, memo: Any) -> ndarray:
        return self._view(self._a.copy())

    def __repr__(self) -> str:
        return f"cupy.{self._a!r}"

    # ------------------------------------------------------------------------------------ to the host, in words
    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        msg = "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
        raise TypeError(msg)

    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> np.ndarray:
        LEDGER.cross("D2H get", self.nbytes)
        copied = np.array(self._a, order="C" if order == "A" else order)
        if out is None:
            return copied
        out[...] = copied
        return out

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray) or arr.dtype != self.dtype or arr.shape != self.shape:
            msg = "only numpy.ndarray of the same type and shape can be set to a cupy.ndarray"
            raise TypeError(msg)
        LEDGER.cross("H2D set", arr.nbytes)
        self.on_device()[...] = arr

    def tolist(self) -> Any:
        LEDGER.cross("D2H tolist", self.nbytes)
        return self._a.tolist()

    def tobytes(self, order: str = "C") -> bytes:
        LEDGER.cross("D2H tobytes", self.nbytes)
        return self._a.tobytes(order)

    def item(self, *args: Any) -> Any:
        LEDGER.cross("D2H item", self.itemsize)
        return self._a.item(*args)

    def _number(self) -> Any:
        if self._a.size != 1:
            msg = "only size-1 arrays can be converted to Python scalars"
            raise TypeError(msg)
        LEDGER.cross("D2H number", self.itemsize)
        return self._a.item()

    def __int__(self) -> int:
        return int(self._number())

    def __float__(self) -> float:
        return float(self._number())

    def __complex__(self) -> complex:
        return complex(self._number())

    def __index__(self) -> int:
        return operator.index(self._number())

    def __bool__(self) -> bool:
        if self._a.size != 1:
            msg = "The truth value of an array with more than one element is ambiguous. Use a.any() or a.all()"
            raise ValueError(msg)
        return bool(self._number())

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: Any = None) -> Any:
        return self.on_device().__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._a.__dlpack_device__()

    # ------------------------------------------------------------------------------------------------- indexing
    def __getitem__(self, key: Any) -> ndarray:
        found = _index(key)
        if any(part.dtype.kind == "b" and part.ndim for part in _arrays(found)):
            LEDGER.cross("sync mask", 8)
        return self._view(np.asarray(self.on_device()[found]))

    def __setitem__(self, key: Any, value: Any) -> None:
        found = _index(key)
        if isinstance(value, ndarray):
            value = value.on_device()
        elif isinstance(value, np.ndarray) and value.ndim:
            if not _arrays(found):
                msg = "non-scalar numpy.ndarray cannot be used for fill"
                raise ValueError(msg)
            LEDGER.cross("H2D value", value.nbytes)
        elif not isinstance(value, (*SCALARS, np.ndarray)):
            raise unsupported(value)
        array = self.on_device()
        _refuse_repeats(array, found, value)
        with np.errstate(all="ignore"):
            array[found] = value

    def take(self, indices: Any, axis: int | None = None, out: Any = None) -> ndarray:
        return self._view(self.on_device().take(on_host(indices), axis))

    # ----------------------------------------------------------------------------------------------- new arrays
    def astype(self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None, copy: bool = True) -> ndarray:
        if np.dtype(dtype) == self.dtype and not copy:
            return self
        if self.dtype.kind == "c" and np.dtype(dtype).kind != "c":
            LEDGER.remark("complex values cast to real ones")
        with np.errstate(all="ignore"):
            return self._view(self.on_device().astype(dtype, order=order, copy=True))

    def view(self, dtype: Any = None) -> ndarray:
        return self._view(self._a.view() if dtype is None else self._a.view(dtype))

    def reshape(self, *shape: Any, order: str = "C", copy: Any = None) -> ndarray:
        return self._view(self._a.reshape(*shape, order=order))

    def ravel(self, order: str = "C") -> ndarray:
        return self._view(self._a.ravel(order))

    def fill(self, value: Any) -> None:
        self.on_device().fill(value.on_device() if isinstance(value, ndarray) else value)

    def sort(self, axis: int = -1, kind: Any = None) -> None:
        if not self._a.flags.c_contiguous:
            msg = "Sorting non-contiguous array is not supported."
            raise NotImplementedError(msg)
        LEDGER.calls["sort"] += 1
        _remark_rows("sort", self._a)
        LEDGER.pass_through(self.nbytes)
        self.on_device().sort(axis=axis, kind="stable")

    def argsort(self, axis: int = -1, kind: Any = None) -> ndarray:
        LEDGER.calls["argsort"] += 1
        _remark_rows("argsort", self._a)
        indices = 8 * self.size
        LEDGER.pass_through(2 * (self.nbytes + indices) + (indices if self.ndim > 1 else 0))
        return self._view(self.on_device().argsort(axis=axis, kind="stable"))

    def nonzero(self) -> tuple[ndarray, ...]:
        LEDGER.cross("sync nonzero", 8)
        return tuple(map(self._view, self.on_device().nonzero()))

    def repeat(self, repeats: Any, axis: int | None = None) -> ndarray:
        out: ndarray = sys.modules["cupy"].repeat(self, repeats, axis)
        return out

    # -------------------------------------------------------------------------------------------------- algebra
    def __matmul__(self, other: Any) -> Any:
        if not isinstance(other, ndarray):
            return NotImplemented
        return on_device(self.on_device() @ other.on_device())

    def __neg__(self) -> Any:
        return on_device(-self.on_device())

    def __pos__(self) -> Any:
        return on_device(+self.on_device())

    def __invert__(self) -> Any:
        return on_device(~self.on_device())

    def __abs__(self) -> Any:
        return on_device(abs(self.on_device()))

    # ----------------------------------------------------------------------------- NumPy's functions called on it
    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kw: Any) -> Any:
        if ufunc.__name__ not in names_of("cupy"):
            return NotImplemented
        LEDGER.remark(f"numpy.{ufunc.__name__} of a device array")
        found = getattr(sys.modules["cupy"], ufunc.__name__)
        if "out" in kw:
            kw["out"] = kw["out"][0]
        return (found if method == "__call__" else getattr(found, method))(*inputs, **kw)

    def __array_function__(self, func: Any, types: Any, args: Any, kw: Any) -> Any:
        if func.__name__ not in names_of("cupy") or any(kind is not ndarray for kind in types):
            return NotImplemented
        LEDGER.remark(f"numpy.{func.__name__} of a device array")
        return getattr(sys.modules["cupy"], func.__name__)(*args, **kw)


def _remark_rows(what: str, array: np.ndarray) -> None:
    if array.ndim > 1:
        LEDGER.remark(f"{what} of rows (a comparison sort, not by radix)")


def _same_as_numpy(name: str, parameters: tuple[str, ...]) -> None:
    """A method that does what NumPy's does and takes ``parameters`` in this order."""

    def method(self: ndarray, *args: Any, **kw: Any) -> Any:
        unknown = set(kw) - set(parameters)
        if unknown or len(args) > len(parameters):
            msg = f"{name}() got an unexpected argument {sorted(unknown)}"
            raise TypeError(msg)
        given = dict(zip(parameters, args, strict=False)) | kw
        given = {key: on_host(value) for key, value in given.items() if value is not None}
        if "out" in given:
            msg = f"the stand-in's {name} has no out="
            raise NotImplementedError(msg)
        return on_device(np.asarray(getattr(self.on_device(), name)(**given)))

    setattr(ndarray, name, method)


_AXES = ("axis", "dtype", "out", "keepdims")
for _name in ("sum", "prod", "mean"):
    _same_as_numpy(_name, _AXES)
for _name in ("max", "min", "all", "any"):
    _same_as_numpy(_name, ("axis", "out", "keepdims"))
for _name in ("argmax", "argmin"):
    _same_as_numpy(_name, ("axis", "out", "dtype", "keepdims"))
for _name in ("std", "var"):
    _same_as_numpy(_name, ("axis", "dtype", "out", "ddof", "keepdims"))
for _name in ("cumsum", "cumprod"):
    _same_as_numpy(_name, ("axis", "dtype", "out"))
for _name, _parameters in {
    "clip": ("min", "max", "out"), "round": ("decimals", "out"), "copy": ("order",), "flatten": ("order",), "squeeze": ("axis",),
    "swapaxes": ("axis1", "axis2"), "dot": ("b",), "conj": (), "diagonal": ("offset", "axis1", "axis2"),
}.items():  # fmt: skip
    _same_as_numpy(_name, _parameters)


def _transpose(self: ndarray, *axes: Any) -> ndarray:
    return self._view(self._a.transpose(*axes))


ndarray.transpose = _transpose  # type: ignore[attr-defined]


def _operand(value: Any) -> Any:
    if isinstance(value, ndarray):
        return value.on_device()
    if isinstance(value, SCALARS):
        return value
    if isinstance(value, np.ndarray):
        raise unsupported(value)
    return NotImplemented


def _operators(name: str, ufunc: np.ufunc, *, comparison: bool = False) -> None:
    """``a + b``, ``b + a`` and ``a += b`` for one operator."""

    def forward(self: ndarray, other: Any) -> Any:
        value = _operand(other)
        return NotImplemented if value is NotImplemented else on_device(ufunc(self.on_device(), value))

    def reflected(self: ndarray, other: Any) -> Any:
        value = _operand(other)
        return NotImplemented if value is NotImplemented else on_device(ufunc(value, self.on_device()))

    def in_place(self: ndarray, other: Any) -> Any:
        value = _operand(other)
        if value is NotImplemented:
            return NotImplemented
        ufunc(self.on_device(), value, out=self._a)
        return self

    setattr(ndarray, f"__{name}__", forward)
    if not comparison:
        setattr(ndarray, f"__r{name}__", reflected)
        setattr(ndarray, f"__i{name}__", in_place)


for _name, _ufunc in {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide, "floordiv": np.floor_divide,
    "mod": np.remainder, "pow": np.power, "lshift": np.left_shift, "rshift": np.right_shift, "xor": np.bitwise_xor,
    "and": np.bitwise_and, "or": np.bitwise_or,
}.items():  # fmt: skip
    _operators(_name, _ufunc)
for _name, _ufunc in {
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal,
}.items():  # fmt: skip
    _operators(_name, _ufunc, comparison=True)
