"""cuDF on pandas: the few calls that gpuatac makes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .arrays import ndarray
from .functions import new_module
from .ledger import LEDGER


class Series:
    """As ``cudf.Series``; over the memory of a device array where it is made of one."""

    def __init__(self, data: Any = None, dtype: Any = None) -> None:
        if isinstance(data, pd.Series):
            self._series = data
        elif isinstance(data, ndarray):
            self._series = pd.Series(data.on_device(), dtype=dtype, copy=False)
        elif isinstance(data, list | np.ndarray):
            LEDGER.cross("H2D cudf.Series", 8 * len(data))
            self._series = pd.Series(data, dtype=dtype)
        else:
            msg = f"cannot make a Series of {type(data)}"
            raise TypeError(msg)

    def take(self, indices: Series) -> Series:
        return Series(self._series.take(indices._series.to_numpy()))

    def reset_index(self, drop: bool = False) -> Series:
        return Series(self._series.reset_index(drop=drop))

    def astype(self, dtype: Any) -> Series:
        return Series(self._series.astype(dtype))

    def to_pandas(self) -> pd.Series:
        LEDGER.cross("D2H cudf", 8 * len(self._series))
        return self._series


class DataFrame:
    """As ``cudf.DataFrame``."""

    def __init__(self, data: dict[str, Series]) -> None:
        self._frame = pd.DataFrame({name: column._series for name, column in data.items()})

    def to_pandas(self) -> pd.DataFrame:
        LEDGER.cross("D2H cudf", 8 * self._frame.size)
        return self._frame


def make_cudf() -> None:
    """The module ``cudf``."""
    new_module("cudf", Series=Series, DataFrame=DataFrame)
