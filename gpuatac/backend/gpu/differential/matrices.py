"""Count matrices on a GPU, in array operations: columns taken, sums by group, regressions by column."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac.backend.protocol import Csr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

CHUNK = 1 << 26  # entries looked at together
CELLS = 1 << 25  # entries of the dense (rows, columns) tables of a batch of regressions
TOLERANCE = 1e-9  # of a log-likelihood
MOST_STEPS = 200
MOST_HALVINGS = 40


class Matrices:
    """The GPU side of ``protocol.Matrices``."""

    def __init__(self, xp: Any) -> None:
        self._xp = xp

    def take_columns(self, counts: Csr, source: Any, *, n_columns: int) -> Csr:
        """See ``protocol.Matrices.take_columns``."""
        sparse = importlib.import_module("scipy.sparse" if self._xp is np else "cupyx.scipy.sparse")
        n_rows, n_out = int(counts.indptr.shape[0]) - 1, int(source.shape[0])
        ones, at = self._xp.ones(n_out, counts.data.dtype), self._xp.arange(n_out, dtype=np.int32)
        pick = sparse.csr_matrix((ones, (source, at)), shape=(n_columns, n_out))
        taken = sparse.csr_matrix((counts.data, counts.indices, counts.indptr), shape=(n_rows, n_columns)) @ pick
        taken.sort_indices()
        return Csr(taken.indptr.astype(np.int64), taken.indices.astype(np.int32), taken.data)

    def _entries(self, blocks: Iterable[Any], number: Any) -> Iterator[tuple[Any, Any, Any]]:
        """(number of its row, column, value) of the values that are not zero, in rows numbered >= 0."""
        xp = self._xp
        number = xp.asarray(number)
        for block in blocks:
            indptr = xp.asarray(block.indptr)
            for low in range(0, int(block.indices.shape[0]), CHUNK):
                indices, data = (xp.asarray(part[low : low + CHUNK]) for part in (block.indices, block.data))
                at = xp.arange(low, low + int(indices.shape[0]), dtype=np.int64)
                row = number[block.low + xp.searchsorted(indptr, at, side="right") - 1]
                keep = (row >= 0) & (data != 0)
                yield row[keep], indices[keep], data[keep]

    def group_sums(self, blocks: Iterable[Any], group: Any, *, shape: tuple[int, int]) -> tuple[Any, Any]:
        """See ``protocol.Matrices.group_sums``."""
        xp, size = self._xp, shape[0] * shape[1]
        sums, found = xp.zeros(size), xp.zeros(size, np.int64)
        for row, column, value in self._entries(blocks, group):
            key = row.astype(np.int64) * shape[1] + column
            xp.add.at(sums, key, value.astype(np.float64))
            found += xp.bincount(key, minlength=size)
        return sums.reshape(shape), found.reshape(shape)

    def columns(self, blocks: Callable[[], Iterable[Any]], row: Any, column: Any) -> Csr:
        """See ``protocol.Matrices.columns``."""
        xp = self._xp
        n_columns = int(column.max(initial=-1)) + 1
        renumber = xp.asarray(column)
        rows, columns, values = [xp.empty(0, np.int32)], [xp.empty(0, np.int32)], []
        for r, c, v in self._entries(blocks(), row):
            new = renumber[c]
            keep = new >= 0
            rows.append(r[keep].astype(np.int32))
            columns.append(new[keep].astype(np.int32))
            values.append(v[keep])
        of_entry = xp.concatenate(columns)
        order = xp.argsort(of_entry, kind="stable")
        indptr = xp.zeros(n_columns + 1, np.int64)
        indptr[1:] = xp.cumsum(xp.bincount(of_entry, minlength=n_columns)[:n_columns])
        data = xp.concatenate(values) if values else xp.empty(0, np.float32)
        return Csr(indptr, xp.concatenate(rows)[order], data[order])

    def logistic_fits(self, design: Any, trials: Any, successes: Csr, start: Any) -> tuple[Any, Any]:
        """See ``protocol.Matrices.logistic_fits``."""
        xp = self._xp
        n, m = int(successes.indptr.shape[0]) - 1, int(design.shape[0])
        step = max(1, CELLS // max(m, 1))
        ptr = successes.indptr.get() if hasattr(successes.indptr, "get") else successes.indptr
        likelihood, found = xp.empty(n), xp.array(start, dtype=np.float64)
        for low in range(0, n, step):
            high = min(low + step, n)
            a, b = int(ptr[low]), int(ptr[high])
            of_entry = xp.searchsorted(successes.indptr[low : high + 1] - a, xp.arange(b - a), side="right") - 1
            table = xp.bincount(of_entry * m + successes.indices[a:b], minlength=(high - low) * m)
            batch = _Batch(xp, design, trials, table.reshape(high - low, m).astype(np.float64))
            likelihood[low:high], found[low:high] = batch.fit(found[low:high])
        return likelihood, found


class _Batch:
    """Regressions of some columns at once: dense (columns, rows) tables and small systems side by side."""

    def __init__(self, xp: Any, design: Any, trials: Any, successes: Any) -> None:
        self._xp, self._design, self._trials, self._successes = xp, design, trials, successes
        k = int(design.shape[1])
        self._k = k
        self._pairs = (design[:, :, None] * design[:, None, :]).reshape(-1, k * k)

    def fit(self, start: Any) -> tuple[Any, Any]:
        xp = self._xp
        b, value = start.copy(), self._value(start, slice(None))
        active = xp.arange(int(b.shape[0]))
        for _ in range(MOST_STEPS):
            step, gain = self._newton(b[active], active)
            going = gain > 2 * TOLERANCE
            active, step = active[going], step[going]
            waiting = xp.arange(int(active.shape[0]))
            moved = xp.zeros(int(active.shape[0]), bool)
            for _ in range(MOST_HALVINGS):
                if not int(waiting.shape[0]):
                    break
                rows = active[waiting]
                trial = b[rows] + step[waiting]
                new = self._value(trial, rows)
                better = new > value[rows]
                b[rows[better]], value[rows[better]] = trial[better], new[better]
                moved[waiting[better]] = True
                waiting = waiting[~better]
                step[waiting] *= 0.5
            active = active[moved]
            if not int(active.shape[0]):
                break
        return value, b

    def _value(self, b: Any, rows: Any) -> Any:
        xp, success = self._xp, self._successes[rows]
        eta = b @ self._design.T
        return (success * eta).sum(axis=1) - (xp.maximum(eta, 0) + xp.log1p(xp.exp(-xp.abs(eta)))) @ self._trials

    def _newton(self, b: Any, rows: Any) -> tuple[Any, Any]:
        xp, k = self._xp, self._k
        eta = b @ self._design.T
        e = xp.exp(-xp.abs(eta))
        p = xp.where(eta >= 0, 1.0, e) / (1.0 + e)
        gradient = (self._successes[rows] - p * self._trials) @ self._design
        hessian = ((e / (1.0 + e) ** 2 * self._trials) @ self._pairs).reshape(-1, k, k)
        diagonal = xp.arange(k)
        scale = xp.sqrt(xp.maximum(hessian[:, diagonal, diagonal], 1e-300))
        # scaled to a unit diagonal, so that directions whose curvature vanishes keep their digits
        unit = hessian / scale[:, :, None] / scale[:, None, :] + 1e-13 * xp.eye(k)
        step = xp.linalg.solve(unit, (gradient / scale)[:, :, None])[:, :, 0] / scale
        return step, (step * gradient).sum(axis=1)
