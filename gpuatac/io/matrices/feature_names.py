"""Names of features, "chrom:start-end", without six million Python strings."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba as nb
import numpy as np
import pandas as pd

from gpuatac.threads import get_threads

ARROW_FROM = 1 << 20  # names; above, they are kept as Arrow strings (20 bytes a name instead of 80)


@nb.njit(cache=True, nogil=True)
def _digits(value):  # type: ignore[no-untyped-def]
    n = 1
    while value >= 10:
        value //= 10
        n += 1
    return n


@nb.njit(cache=True, nogil=True)
def _offsets(chrom, start, end, name_ptr, out):  # type: ignore[no-untyped-def]
    out[0] = 0
    for i in range(chrom.size):
        c = chrom[i]
        out[i + 1] = out[i] + name_ptr[c + 1] - name_ptr[c] + _digits(start[i]) + _digits(end[i]) + 2


@nb.njit(cache=True, nogil=True)
def _fill(chrom, start, end, names, name_ptr, offsets, low, high, out):  # type: ignore[no-untyped-def]
    for i in range(low, high):
        at = offsets[i]
        for k in range(name_ptr[chrom[i]], name_ptr[chrom[i] + 1]):
            out[at] = names[k]
            at += 1
        last = offsets[i + 1] - 1
        value = end[i]
        for _ in range(_digits(end[i])):
            out[last] = 48 + value % 10
            value //= 10
            last -= 1
        out[last] = 45  # -
        last -= 1
        value = start[i]
        while last > at:
            out[last] = 48 + value % 10
            value //= 10
            last -= 1
        out[at] = 58  # :


def coordinate_names(chrom: pd.Categorical, start: np.ndarray, end: np.ndarray) -> pd.Index:
    """An index of "chrom:start-end" for int32 coordinates, none of them negative.

    Up to 1,048,576 names are Python strings (object); more are Arrow strings, which pandas and AnnData take as well.
    """
    import pyarrow as pa

    text = [str(name).encode() for name in chrom.categories]
    raw = np.frombuffer(b"".join(text) or b" ", np.uint8).copy()
    ptr = np.cumsum([0, *map(len, text)], dtype=np.int64)
    columns = (chrom.codes, np.asarray(start, np.int32), np.asarray(end, np.int32))
    offsets = np.empty(len(chrom) + 1, np.int64)
    _offsets(*columns, ptr, offsets)
    data = np.empty(int(offsets[-1]), np.uint8)
    n_threads = get_threads() if len(chrom) > ARROW_FROM else 1
    cuts = np.linspace(0, len(chrom), n_threads + 1).astype(np.int64).tolist()
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(lambda low, high: _fill(*columns, raw, ptr, offsets, low, high, data), cuts[:-1], cuts[1:]))
    names = pa.LargeStringArray.from_buffers(len(chrom), pa.py_buffer(offsets), pa.py_buffer(data))
    return _index(names)


def from_fixed_width(text: np.ndarray) -> pd.Index:
    """An index of names kept as bytes of fixed length (dtype S), padded with zeros."""
    import pyarrow as pa

    if not text.size:
        return pd.Index([], dtype=object)
    raw = np.ascontiguousarray(text).view(np.uint8).reshape(text.size, text.dtype.itemsize)
    used = raw != 0
    offsets = np.concatenate([[0], np.cumsum(used.sum(1), dtype=np.int64)])
    return _index(pa.LargeStringArray.from_buffers(text.size, pa.py_buffer(offsets), pa.py_buffer(raw[used])))


def _index(names: Any) -> pd.Index:
    if len(names) <= ARROW_FROM:
        return pd.Index(names.to_numpy(zero_copy_only=False), dtype=object)
    return pd.Index(_as_pandas(names))


def _as_pandas(names: Any) -> Any:
    """pandas' own string type from version 3 on; before, its Arrow strings, which anndata must be told it may write."""
    if int(pd.__version__.partition(".")[0]) >= 3:
        return pd.array(names, dtype="str")
    import anndata

    anndata.settings.allow_write_nullable_strings = True
    return pd.arrays.ArrowStringArray(names)


def storable(names: list[str]) -> list[str]:
    """Names of columns as an .h5ad can hold them: "/" becomes "_", and so does what HDF5 or AnnData keeps; repeats get a number."""
    kept = ("", ".", "..", "_index")
    safe = [(name.replace("/", "_") if name not in kept else f"_{name}_").replace("\0", "_") for name in names]
    taken = {new for new, name in zip(safe, names, strict=True) if new == name}
    out = []
    for new, name in zip(safe, names, strict=True):
        number, free = 2, new
        while new != name and free in taken:
            free, number = f"{new}_{number}", number + 1
        taken.add(free)
        out.append(free)
    return out
