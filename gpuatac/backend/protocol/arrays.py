"""What every part of the protocol passes on: a sparse matrix as three arrays."""

from __future__ import annotations

from typing import Any, NamedTuple


class Csr(NamedTuple):
    """Compressed rows: indptr int64 (n_rows + 1,), indices int32 (nnz,), data (nnz,)."""

    indptr: Any
    indices: Any
    data: Any
