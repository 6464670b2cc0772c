"""cuDF: columns over the memory of device arrays, text that stays on the device, and cuDF's refusals.

A column of numbers made of a device array shares its memory, as cuDF's does, and gives it back by ``to_cupy``. Text and categories are
kept by pandas, which nobody sees; what brings them to the host is counted.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from .arrays import ndarray
from .calls import check_call
from .functions import new_module
from .ledger import LEDGER

MOST_ROWS = 2**31 - 1


def unasked(what: Any) -> TypeError:
    """The error of cuDF for data that would come to the host without a word."""
    kind = type(what).__name__
    return TypeError(f"Implicit conversion of a {kind} to a host array is not allowed; consider to_pandas()")


def code_dtype(n: int) -> type:
    """cuDF keeps codes in the smallest unsigned type that holds the number of categories."""
    return next(kind for kind in (np.uint8, np.uint16, np.uint32, np.uint64) if n <= np.iinfo(kind).max)


def signed_dtype(n: int) -> type:
    """What ``cat.codes`` gives: the type of pandas."""
    return next(kind for kind in (np.int8, np.int16, np.int32, np.int64) if n < np.iinfo(kind).max)


class Column:
    """Numbers (``values``, with ``names`` the codes of a category) or text (``text``), and which are missing."""

    def __init__(
        self, values: ndarray | None = None, *, text: pd.Series | None = None, names: Column | None = None,
        null: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        self.values, self.text, self.names = values, text, names
        self.null = None if null is None or not null.any() else null
        if len(self) > MOST_ROWS:
            msg = "CUDF failure: total size of output is too large for a cudf column"
            raise OverflowError(msg)

    def __len__(self) -> int:
        return len(self.values if self.text is None else self.text)

    @classmethod
    def of(cls, data: Any, dtype: Any = None) -> Column:
        """A column of whatever ``cudf.Series`` takes."""
        if isinstance(data, Series | Index):
            return data._column if dtype is None else data._column.cast(dtype)
        if isinstance(data, ndarray):
            if data.ndim != 1:
                msg = "Data must be 1-dimensional"
                raise ValueError(msg)
            values = data if data._a.flags.c_contiguous else data.copy()
            made = cls(values, null=np.isnan(values.on_device()) if values.dtype.kind == "f" else None)
        elif isinstance(data, list | np.ndarray | pd.Series | pd.Index):
            made = cls.sent(pd.Series(data), len(data))
        else:
            msg = f"cannot make a Series of {type(data)}"
            raise TypeError(msg)
        return made if dtype is None else made.cast(dtype)

    @classmethod
    def sent(cls, series: pd.Series, n: int) -> Column:
        """A column of the host's data."""
        null = series.isna().to_numpy()
        if isinstance(series.dtype, pd.CategoricalDtype):
            names = cls.sent(pd.Series(series.cat.categories), len(series.cat.categories))
            codes = series.cat.codes.to_numpy().astype(code_dtype(len(names)))
            LEDGER.cross("H2D cudf", codes.nbytes)
            return cls(ndarray.over(codes), names=names, null=null)
        if series.dtype.kind in "iufb" and isinstance(series.dtype, np.dtype):
            LEDGER.cross("H2D cudf", series.to_numpy().nbytes)
            return cls(ndarray.over(series.to_numpy().copy()), null=null)
        text = series.reset_index(drop=True).astype(object)
        if not all(isinstance(value, str) for value in text[~null]):
            kinds = sorted({type(value).__name__ for value in text[~null]})
            msg = f"could not convert a column of {', '.join(kinds)}: mixed types are not supported"
            raise TypeError(msg)
        LEDGER.cross("H2D cudf", 4 * (n + 1) + int(text[~null].str.len().sum()))
        return cls(text=text, null=null)

    @property
    def dtype(self) -> Any:
        if self.names is not None:
            return SimpleNamespace(kind="O", name="category")
        return pd.StringDtype() if self.text is not None else self.values.dtype

    def cast(self, dtype: Any) -> Column:
        """As ``astype``."""
        if isinstance(dtype, str) and dtype == "category":
            return self if self.names is not None else self.encoded()
        if isinstance(dtype, str) and dtype in ("str", "object"):
            if self.text is None and len(self):
                msg = "the stand-in casts no numbers to text"
                raise NotImplementedError(msg)
            return Column(text=pd.Series([], dtype=object) if self.text is None else self.text, null=self.null)
        if self.values is None or self.names is not None:
            msg = "Could not convert strings to numbers"
            raise ValueError(msg)
        return Column(self.values.astype(dtype), null=self.null)

    def encoded(self) -> Column:
        """Codes by the order of the values, on the device."""
        found = pd.Categorical(self.pandas())
        if self.text is None:
            names = Column(ndarray.over(found.categories.to_numpy().copy()))
        else:
            names = Column(text=pd.Series(found.categories, dtype=object))
        codes = np.asarray(found.codes).astype(code_dtype(len(names)))
        return Column(ndarray.over(codes), names=names, null=self.null)

    def pandas(self) -> pd.Series:
        """What is in it, as the host sees it."""
        if self.names is not None:
            codes = self.values.on_device().astype(np.int64)
            codes = codes if self.null is None else np.where(self.null, -1, codes)
            return pd.Series(pd.Categorical.from_codes(codes, pd.Index(self.names.pandas())))
        values = self.text if self.text is not None else pd.Series(self.values.on_device().copy())
        return values if self.null is None else values.mask(pd.Series(self.null))

    def nbytes(self) -> int:
        """Bytes that it takes on the device."""
        if self.text is None:
            return self.values.nbytes
        return 4 * (len(self) + 1) + int(self.text.dropna().str.len().sum())


class OneColumn:
    """What a Series and an Index share."""

    _column: Column

    @property
    def dtype(self) -> Any:
        return self._column.dtype

    def __len__(self) -> int:
        return len(self._column)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise unasked(self)

    def __iter__(self) -> Any:
        msg = f"{type(self).__name__} object is not iterable. Consider using `.to_arrow()`, `.to_pandas()` or `.values_host`"
        raise TypeError(msg)

    def __bool__(self) -> bool:
        msg = f"The truth value of a {type(self).__name__} is ambiguous. Use a.empty, a.bool(), a.item(), a.any() or a.all()."
        raise ValueError(msg)

    def to_cupy(self, dtype: Any = None, copy: bool = False, na_value: Any = None) -> ndarray:
        """The column's own memory, where nothing is missing and nothing is cast."""
        column = self._column
        if column.values is None or column.names is not None:
            msg = f"cupy does not support {column.dtype}"
            raise TypeError(msg)
        if column.null is not None:
            msg = "cupy does not support NaN/NA"
            raise ValueError(msg)
        values = column.values if dtype is None else column.values.astype(dtype, copy=False)
        return values.copy() if copy else values._view(values._a)

    def to_arrow(self) -> Any:
        import pyarrow as pa

        LEDGER.cross("D2H cudf", self._column.nbytes())
        return pa.array(self._column.pandas(), from_pandas=True)

    def to_pandas(self) -> Any:
        LEDGER.cross("D2H cudf", self._column.nbytes())
        return self._column.pandas()


class Index(OneColumn):
    """As ``cudf.Index``."""

    __module__ = "cudf.core.index"

    def __init__(self, column: Column) -> None:
        self._column = column


class CategoricalIndex(Index):
    """As ``cudf.CategoricalIndex``."""

    __module__ = "cudf.core.index"

    @classmethod
    def from_codes(cls, codes: Any, categories: Any, ordered: bool, name: Any = None) -> CategoricalIndex:
        names, numbers = Column.of(categories), Column.of(codes)
        if numbers.values is None or numbers.values.dtype.kind not in "iu":
            msg = "codes must be integers"
            raise ValueError(msg)
        if numbers.values.dtype != code_dtype(len(names)):
            numbers = numbers.cast(code_dtype(len(names)))
        if len(numbers) and int(numbers.values.on_device().max()) >= len(names):
            msg = "a code beyond the categories: cuDF reads past the end of them"
            raise IndexError(msg)
        return cls(Column(numbers.values, names=names))


class Accessor:
    """As ``Series.cat``."""

    def __init__(self, column: Column) -> None:
        self._column = column

    @property
    def codes(self) -> Series:
        """New, of pandas' signed type."""
        assert self._column.names is not None
        signed = signed_dtype(len(self._column.names))
        return Series._over(Column(self._column.values.astype(signed), null=self._column.null))

    @property
    def categories(self) -> Index:
        assert self._column.names is not None
        return Index(self._column.names)


class Series(OneColumn):
    """As ``cudf.Series``."""

    __module__ = "cudf.core.series"

    def __init__(self, data: Any = None, **kw: Any) -> None:
        check_call("cudf", "Series", (data,), kw)
        self._column = Column.of(data, kw.get("dtype"))

    @classmethod
    def _over(cls, column: Column) -> Series:
        out = object.__new__(cls)
        out._column = column
        return out

    @property
    def cat(self) -> Accessor:
        if self._column.names is None:
            msg = "Can only use .cat accessor with a 'category' dtype"
            raise AttributeError(msg)
        return Accessor(self._column)

    def astype(self, dtype: Any, copy: bool | None = None, errors: str = "raise") -> Series:
        return self._over(self._column.cast(dtype))

    def isna(self) -> Series:
        null = self._column.null
        return self._over(Column(ndarray.over(np.zeros(len(self), bool) if null is None else null.copy())))

    def any(self) -> Any:
        LEDGER.cross("D2H cudf", 1)
        return bool(self._column.values.on_device().any())

    def sum(self) -> Any:
        LEDGER.cross("D2H cudf", 8)
        return self._column.values.on_device().sum()


class DataFrame:
    """As ``cudf.DataFrame``."""

    __module__ = "cudf.core.dataframe"

    def __init__(self, data: Any = None, **kw: Any) -> None:
        check_call("cudf", "DataFrame", (data,), kw)
        if not isinstance(data, dict | pd.DataFrame):
            msg = "data must be a dict of columns or a pandas DataFrame"
            raise TypeError(msg)
        self._columns = {name: Column.of(column) for name, column in data.items()}
        if len({len(column) for column in self._columns.values()}) > 1:
            msg = "All columns must be of equal length"
            raise ValueError(msg)

    @property
    def columns(self) -> pd.Index:
        return pd.Index(list(self._columns))

    def __len__(self) -> int:
        return next((len(column) for column in self._columns.values()), 0)

    def __getitem__(self, name: Any) -> Series:
        return Series._over(self._columns[name])

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise unasked(self)

    def to_pandas(self) -> pd.DataFrame:
        LEDGER.cross("D2H cudf", sum(column.nbytes() for column in self._columns.values()))
        return pd.DataFrame({name: column.pandas() for name, column in self._columns.items()})


def read_parquet(filepath_or_buffer: Any, **kw: Any) -> DataFrame:
    """As ``cudf.read_parquet``: columns by which a folder is split come last and are categories."""
    check_call("cudf", "read_parquet", (filepath_or_buffer,), kw)
    import pyarrow.parquet as pq

    return DataFrame(pq.read_table(filepath_or_buffer).to_pandas(ignore_metadata=True))


def make_cudf() -> None:
    """The module ``cudf``."""
    new_module(
        "cudf", Series=Series, DataFrame=DataFrame, Index=Index, CategoricalIndex=CategoricalIndex, read_parquet=read_parquet
    )  # fmt: skip
