"""Loops over packed counts: packing, sums, products with one vector or with LANES, similarities of cells.

Layout of a chunk of rows (see ``packed.Chunk``): ``cols`` and ``vals`` hold the entries by block of WIDTH kept
columns and, within one, by row; those of row i in block B are pos[B * n_rows + i] ... pos[B * n_rows + i + 1]. Offsets
and columns are unsigned, which spares the test for negative indices. A chunk holds less than 2^32 entries.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

SHIFT = 13
WIDTH = 1 << SHIFT  # columns of a block: the sums of LANES vectors over it (256 KiB) fit into an L2 cache
TURNS = 4  # sums of a row by turns, since each addition waits for the one before
LANES = 4  # vectors that a product takes at once; measured 4.4 ms a vector for 7.9 M entries, against 10.3 ms for one

_njit = nb.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
_exact = nb.njit(cache=True, nogil=True)


class _Rows:
    """What both row products emit: pieces of LLVM code for entries, and rows of LANES float64 as one vector."""

    vector = ir.VectorType(ir.DoubleType(), LANES)

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.context, self.builder = context, builder
        kinds = signature.args
        self.cols, self.vals, self.table, self.other = (
            context.make_array(kinds[i])(context, builder, args[i]).data for i in (0, 1, 4, 5)
        )
        self.kinds = kinds
        self.start, self.stop, self.at = (context.cast(builder, args[i], kinds[i], types.intp) for i in (2, 3, 6))

    def row(self, data: Any, index: Any) -> Any:
        """Pointer to row ``index`` of a float64 (., LANES) array."""
        offset = self.builder.mul(index, ir.Constant(index.type, LANES))
        return self.builder.bitcast(self.builder.gep(data, [offset]), self.vector.as_pointer())

    def load(self, pointer: Any) -> Any:
        loaded = self.builder.load(pointer)
        loaded.align = 8
        return loaded

    def store(self, value: Any, pointer: Any) -> None:
        self.builder.store(value, pointer).align = 8

    def entry(self, k: Any) -> tuple[Any, Any]:
        """Pointer to the table's row of entry k, and its count in every lane."""
        builder = self.builder
        column = builder.zext(builder.load(builder.gep(self.cols, [k])), ir.IntType(64))
        count = self.context.cast(
            builder, builder.load(builder.gep(self.vals, [k])), self.kinds[1].dtype, types.float64
        )
        undefined = ir.Constant(self.vector, ir.Undefined)
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        lanes = builder.insert_element(undefined, count, ir.Constant(ir.IntType(32), 0))
        return self.row(self.table, column), builder.shuffle_vector(lanes, undefined, zeros)

    def plus_scaled(self, total: Any, factor: Any, row: Any) -> Any:
        builder = self.builder
        return builder.fadd(total, builder.fmul(factor, row, flags=("contract",)), flags=("contract",))


@intrinsic
def _scatter_row(_context: Any, cols: Any, vals: Any, start: Any, stop: Any, sums: Any, u: Any, i: Any) -> Any:
    """sums[cols[k], :] += vals[k] * u[i, :] for start <= k < stop; u[i] stays in a register (Numba reads it each time)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows = _Rows(context, builder, signature, args)
        factor = rows.load(rows.row(rows.other, rows.at))
        one = ir.Constant(rows.start.type, 1)
        with cgutils.for_range_slice(builder, rows.start, rows.stop, one) as (k, _):
            place, count = rows.entry(k)
            rows.store(rows.plus_scaled(rows.load(place), count, factor), place)
        return context.get_dummy_value()

    return types.void(cols, vals, start, stop, sums, u, i), codegen


@intrinsic
def _gather_row(_context: Any, cols: Any, vals: Any, start: Any, stop: Any, sums: Any, out: Any, i: Any) -> Any:
    """out[i, :] += sum of vals[k] * sums[cols[k], :] for start <= k < stop: four sums by turns, all in registers."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows = _Rows(context, builder, signature, args)
        zero = ir.Constant(rows.vector, [0.0] * LANES)
        totals = [cgutils.alloca_once_value(builder, zero) for _ in range(TURNS)]  # type: ignore[no-untyped-call]
        for total in totals:
            builder.store(zero, total)
        kind = rows.start.type
        n = builder.sub(rows.stop, rows.start)
        turns = builder.mul(builder.sdiv(n, ir.Constant(kind, TURNS)), ir.Constant(kind, TURNS))
        middle = builder.add(rows.start, turns)

        def add(k: Any, total: Any) -> None:
            place, count = rows.entry(k)
            builder.store(rows.plus_scaled(builder.load(total), count, rows.load(place)), total)

        with cgutils.for_range_slice(builder, rows.start, middle, ir.Constant(kind, TURNS)) as (k, _):
            for turn, total in enumerate(totals):
                add(builder.add(k, ir.Constant(kind, turn)), total)
        with cgutils.for_range_slice(builder, middle, rows.stop, ir.Constant(kind, 1)) as (k, _):
            add(k, totals[0])
        first, second, third, fourth = (builder.load(total) for total in totals)
        found = builder.fadd(builder.fadd(first, second), builder.fadd(third, fourth))
        place = rows.row(rows.other, rows.at)
        rows.store(builder.fadd(rows.load(place), found), place)
        return context.get_dummy_value()

    return types.void(cols, vals, start, stop, sums, out, i), codegen


# ------------------------------------------------------------------------------------------------------ packing


@_exact
def value_range(data):  # type: ignore[no-untyped-def]
    """(lowest, highest, whether all are whole) of the values."""
    low, high, part = data[0], data[0], 0
    for k in range(data.size):
        low, high = min(low, data[k]), max(high, data[k])
        part |= data[k] != np.floor(data[k])
    return low, high, part == 0


@_exact
def _kept(row, code, where, rank):  # type: ignore[no-untyped-def]
    """Places in ``row`` of the kept columns and their codes; how many. Without a branch: others are written over.

    Four at a time, so that their look-ups overlap: 0.9 ns an entry against 3.3.
    """
    n = np.uint64(0)
    even = row.size - row.size % 4
    for k in range(0, even, 4):
        p = np.uint64(k)
        a = code[np.uint32(row[p])]
        b = code[np.uint32(row[p + np.uint64(1)])]
        c = code[np.uint32(row[p + np.uint64(2)])]
        d = code[np.uint32(row[p + np.uint64(3)])]
        where[n], rank[n] = p, a
        n += np.uint64(a >> np.uint8(7))
        where[n], rank[n] = p + np.uint64(1), b
        n += np.uint64(b >> np.uint8(7))
        where[n], rank[n] = p + np.uint64(2), c
        n += np.uint64(c >> np.uint8(7))
        where[n], rank[n] = p + np.uint64(3), d
        n += np.uint64(d >> np.uint8(7))
    for k in range(even, row.size):
        a = code[np.uint32(row[k])]
        where[n], rank[n] = k, a
        n += np.uint64(a >> np.uint8(7))
    return n


@_exact
def select_rows(start, stop, indices, data, code, base, low, high, put, cols, vals, pos):  # type: ignore[no-untyped-def]
    """Kept entries of rows low ... high: columns and values from put[i] on, entries by block into pos[1 + B * n_rows + i].

    code: uint8 per column, 128 for a kept one and its rank in its group of 128; base: kept ones before each group.
    """
    n_rows = start.size
    most = 0
    for i in range(low, high):
        most = max(most, stop[i] - start[i])
    where, column = np.empty(most + 1, np.uint32), np.empty(most + 1, np.int32)
    rank = np.empty(most + 1, np.uint8)
    for i in range(low, high):
        first = np.uint64(put[i])
        row, values = indices[start[i] : stop[i]], data[start[i] : stop[i]]
        n_chosen = _kept(row, code, where, rank)
        n = np.uint64(0)
        last: Any = np.int64(-1)
        out_of_order = 0
        for c in range(n_chosen):
            k = where[c]
            j = np.uint32(row[k])
            g = np.int64(base[j >> np.uint32(7)]) + np.int64(rank[c] & np.uint8(127))
            column[n] = g
            vals[first + n] = values[k]
            out_of_order += g < last
            last = g
            n += np.uint64(values[k] != 0)
        if out_of_order:
            order = np.argsort(column[:n], kind="mergesort")
            column[:n] = column[:n][order]
            vals[first : first + n] = vals[first : first + n][order]
        block, in_block = 0, 0
        for k in range(n):
            g = column[k]
            cols[first + k] = g & (WIDTH - 1)
            if g >> SHIFT != block:
                pos[1 + block * n_rows + i] = in_block
                block, in_block = g >> SHIFT, 0
            in_block += 1
        if n > 0:
            pos[1 + block * n_rows + i] = in_block


@_exact
def by_block(put, cols, vals, pos, low, high, to_cols, to_vals):  # type: ignore[no-untyped-def]
    """Move rows low ... high from their order to the order by block; ``pos`` as in the layout."""
    n_rows = put.size
    n_blocks = (pos.size - 1) // n_rows
    for i in range(low, high):
        k = np.uint64(put[i])
        for block in range(n_blocks):
            for p in range(pos[block * n_rows + i], pos[block * n_rows + i + 1]):
                to_cols[p] = cols[k]
                to_vals[p] = vals[k]
                k += np.uint64(1)


# --------------------------------------------------------------------------------------------------------- sums


@_exact
def add_document_frequency(indices, data, out):  # type: ignore[no-untyped-def]
    """out[j] += non-zero entries of column j."""
    for k in range(indices.size):
        out[indices[k]] += data[k] != 0


@_exact
def add_column_sums(indices, data, out):  # type: ignore[no-untyped-def]
    """out[j] += the values of column j, in float64."""
    for k in range(indices.size):
        out[indices[k]] += data[k]


@_exact
def row_totals(indptr, data, out):  # type: ignore[no-untyped-def]
    """out[i] = the values of row i, in float64."""
    for i in range(out.size):
        total = 0.0
        for k in range(indptr[i], indptr[i + 1]):
            total += data[k]
        out[i] = total


@_njit
def row_squares(indptr, indices, data, weights, out):  # type: ignore[no-untyped-def]
    """out[i] = sum of weights[j] x_ij^2."""
    for i in range(out.size):
        total = 0.0
        for k in range(indptr[i], indptr[i + 1]):
            value = np.float64(data[k])
            total += value * value * weights[indices[k]]
        out[i] = total


@_exact
def packed_frequency(pos, n_rows, block, cols, vals, out):  # type: ignore[no-untyped-def]
    """out[c] += rows with a non-zero entry in column c of the block."""
    for k in range(pos[block * n_rows], pos[(block + 1) * n_rows]):
        out[cols[k]] += vals[k] != 0


@_njit
def packed_rows(pos, n_rows, n_blocks, cols, vals, weights, squares, out):  # type: ignore[no-untyped-def]
    """out[i] = sum of x_ij, or of weights[j] x_ij^2 with ``squares``; weights (n_blocks, WIDTH)."""
    for block in range(n_blocks):
        for i in range(n_rows):
            total = 0.0
            for k in range(pos[block * n_rows + i], pos[block * n_rows + i + 1]):
                value = np.float64(vals[k])
                total += value * value * weights[block, cols[k]] if squares else value
            out[i] += total


# ----------------------------------------------------------------------------------------------------- products


@_njit
def scatter_one(pos, n_rows, block, cols, vals, u, sums):  # type: ignore[no-untyped-def]
    """sums += X_B' u for u (n_rows, 1), sums (WIDTH, 1)."""
    for i in range(n_rows):
        ui = u[i, 0]
        for k in range(pos[block * n_rows + i], pos[block * n_rows + i + 1]):
            sums[cols[k], 0] += vals[k] * ui


@_njit
def scatter_lanes(pos, n_rows, block, cols, vals, u, sums):  # type: ignore[no-untyped-def]
    """The same for u (n_rows, LANES), sums (WIDTH, LANES)."""
    for i in range(n_rows):
        _scatter_row(cols, vals, pos[block * n_rows + i], pos[block * n_rows + i + 1], sums, u, i)  # type: ignore[call-arg]


@_njit
def gather_one(pos, n_rows, first, cols, vals, sums, low, high, out):  # type: ignore[no-untyped-def]
    """out[low:high] += X_B s_B over the blocks first ... of sums (n, WIDTH, 1)."""
    for b in range(sums.shape[0]):
        block, s = first + b, sums[b]
        for i in range(low, high):
            total = 0.0
            for k in range(pos[block * n_rows + i], pos[block * n_rows + i + 1]):
                total += vals[k] * s[cols[k], 0]
            out[i, 0] += total


@_njit
def gather_lanes(pos, n_rows, first, cols, vals, sums, low, high, out):  # type: ignore[no-untyped-def]
    """The same for sums (n, WIDTH, LANES), out (n_rows, LANES)."""
    for b in range(sums.shape[0]):
        block, s = first + b, sums[b]
        for i in range(low, high):
            _gather_row(cols, vals, pos[block * n_rows + i], pos[block * n_rows + i + 1], s, out, i)  # type: ignore[call-arg]


# ----------------------------------------------------------------------------------------- similarities of cells


@_njit
def add_pair_products(left, right, weights, pos, cols, vals, pos2, cols2, vals2, out):  # type: ignore[no-untyped-def]
    """out[p] = sum_j weights_j x_ij x_kj, i = left[p] of the first chunk and k = right[p] of the second."""
    n_blocks = weights.shape[0]
    n_rows, n_rows2 = (pos.size - 1) // n_blocks, (pos2.size - 1) // n_blocks
    row = np.zeros(WIDTH)
    for p in range(left.size):
        total = 0.0
        for block in range(n_blocks):
            a, b = pos[block * n_rows + left[p]], pos[block * n_rows + left[p] + 1]
            for k in range(a, b):
                row[cols[k]] += weights[block, cols[k]] * vals[k]
            for k in range(pos2[block * n_rows2 + right[p]], pos2[block * n_rows2 + right[p] + 1]):
                total += row[cols2[k]] * vals2[k]
            for k in range(a, b):
                row[cols[k]] = 0.0
        out[p] = total


@_exact
def add_union_frequency(left, right, pos, cols, pos2, cols2, out):  # type: ignore[no-untyped-def]
    """out[B, c] += pairs of rows of which one or both have an entry in column c of block B."""
    n_blocks = out.shape[0]
    n_rows, n_rows2 = (pos.size - 1) // n_blocks, (pos2.size - 1) // n_blocks
    seen = np.zeros(WIDTH, np.int64)
    stamp = 0
    for p in range(left.size):
        for block in range(n_blocks):
            stamp += 1
            for k in range(pos[block * n_rows + left[p]], pos[block * n_rows + left[p] + 1]):
                seen[cols[k]] = stamp
                out[block, cols[k]] += 1
            for k in range(pos2[block * n_rows2 + right[p]], pos2[block * n_rows2 + right[p] + 1]):
                out[block, cols2[k]] += seen[cols2[k]] != stamp


@_exact
def count_columns(pos, n_rows, block, cols, column_ptr):  # type: ignore[no-untyped-def]
    """column_ptr[c + 1] += entries of column c."""
    for k in range(pos[block * n_rows], pos[(block + 1) * n_rows]):
        column_ptr[np.uint64(cols[k]) + np.uint64(1)] += np.uint32(1)


@_exact
def fill_columns(pos, n_rows, block, cols, vals, low, head, rows, values, place):  # type: ignore[no-untyped-def]
    """Entries by column: rows (shifted by ``low``) and values at head[c] on; place: where each entry went."""
    start = pos[block * n_rows]
    for i in range(n_rows):
        for k in range(pos[block * n_rows + i], pos[block * n_rows + i + 1]):
            p = head[cols[k]]
            head[cols[k]] = p + np.uint32(1)
            rows[p] = low + i
            values[p] = vals[k]
            place[k - start] = p


@_njit
def add_similarities(pos, n_rows, block, cols, place, low, a, b, column_ptr, rows, values, weights, out):  # type: ignore[no-untyped-def]
    """out[i, k] += sum over the block's columns j of weights_j x_ij x_kj, for k >= i and rows a <= i - low < b."""
    start = pos[block * n_rows]
    for i in range(a, b):
        row = out[low + i]
        for k in range(pos[block * n_rows + i], pos[block * n_rows + i + 1]):
            p, c = place[k - start], cols[k]
            factor = weights[c] * values[p]
            for q in range(p, column_ptr[np.uint64(c) + np.uint64(1)]):
                row[rows[q]] += factor * values[q]


@_exact
def mirror(matrix):  # type: ignore[no-untyped-def]
    """Copy the upper triangle to the lower, tile by tile."""
    n = matrix.shape[0]
    for a in range(0, n, 32):
        for b in range(a, n, 32):
            for i in range(a, min(a + 32, n)):
                for j in range(max(b, i + 1), min(b + 32, n)):
                    matrix[j, i] = matrix[i, j]
