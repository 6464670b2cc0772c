"""Loops over count matrices, in Numba; every function releases the GIL."""

from __future__ import annotations

import math

import numba as nb
import numpy as np

_njit = nb.njit(cache=True, nogil=True)
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)  # the upper six bits of its product with 2^i differ for all i
_EXPONENT = np.empty(64, np.int32)
_EXPONENT[[(0x03F79D71B4CB0A89 << i) % (1 << 64) >> 58 for i in range(64)]] = np.arange(64)

TOLERANCE = 1e-9  # of a log-likelihood
MOST_STEPS = 200
MOST_HALVINGS = 40


@_njit
def taken_rows(indptr, indices, ptr):  # type: ignore[no-untyped-def]
    """Where each row ends when its column c becomes ``ptr[c + 1] - ptr[c]`` columns."""
    out = np.zeros(indptr.size, np.int64)
    for r in range(indptr.size - 1):
        n = np.int64(0)
        for i in range(indptr[r], indptr[r + 1]):
            n += ptr[indices[i] + 1] - ptr[indices[i]]
        out[r + 1] = out[r] + n
    return out


@_njit
def take_columns(indptr, indices, data, ptr, columns, out_ptr, low, high, out_indices, out_data):  # type: ignore[no-untyped-def]
    """Rows [low, high) with every entry of column c at the columns ``columns[ptr[c] : ptr[c + 1]]`` instead, ascending.

    Where the new order is nearly the old one an entry goes back a few places at most. A row that takes many steps is
    sorted: by a bit for each of its columns, read in order, or by comparisons where its entries are few for that.
    """
    n_words = (columns.size + 63) >> 6
    bits = np.zeros(n_words, np.uint64)
    value = np.empty(columns.size, data.dtype)
    for r in range(low, high):
        begin, end = out_ptr[r], out_ptr[r + 1]
        budget = 8 * (end - begin)
        k = begin
        for i in range(indptr[r], indptr[r + 1]):
            v = data[i]
            for j in range(ptr[indices[i]], ptr[indices[i] + 1]):
                c = columns[j]
                at = k
                if budget >= 0:
                    while at > begin and out_indices[at - 1] > c:
                        out_indices[at], out_data[at] = out_indices[at - 1], out_data[at - 1]
                        at -= 1
                    budget -= k - at
                out_indices[at], out_data[at] = c, v
                k += 1
        if budget < 0:
            for k in range(begin, end):
                value[out_indices[k]] = out_data[k]
            if (end - begin) * 8 < n_words:
                out_indices[begin:end].sort()
            else:
                _sort_bits(out_indices, begin, end, bits)
            for k in range(begin, end):
                out_data[k] = value[out_indices[k]]


@_njit
def _sort_bits(values, begin, end, bits):  # type: ignore[no-untyped-def]
    """Sort distinct ``values[begin:end]`` by way of ``bits``, which are zero before and after."""
    for k in range(begin, end):
        bits[values[k] >> 6] |= np.uint64(1) << np.uint64(values[k] & 63)
    k = begin
    for w in range(bits.size):
        word = bits[w]
        bits[w] = 0
        while word != 0:
            lowest = word & (~word + np.uint64(1))
            values[k] = (w << 6) + _EXPONENT[(lowest * _DE_BRUIJN) >> np.uint64(58)]
            k += 1
            word ^= lowest


@_njit
def add_by_group(indptr, indices, data, group, sums, found):  # type: ignore[no-untyped-def]
    """Add the rows of each group >= 0 to ``sums`` and how many of their values are not zero to ``found``."""
    for r in range(group.size):
        g = group[r]
        if g < 0:
            continue
        total, seen = sums[g], found[g]
        for i in range(indptr[r], indptr[r + 1]):
            if data[i] != 0:
                total[indices[i]] += data[i]
                seen[indices[i]] += 1


@_njit
def count_columns(indptr, indices, data, row, column, out):  # type: ignore[no-untyped-def]
    """Add the values that are not zero of column c >= 0 to ``out[c + 1]``, over rows >= 0."""
    for r in range(row.size):
        if row[r] < 0:
            continue
        for i in range(indptr[r], indptr[r + 1]):
            c = column[indices[i]]
            if c >= 0 and data[i] != 0:
                out[c + 1] += 1


@_njit
def fill_columns(indptr, indices, data, row, column, at, out_rows, out_data):  # type: ignore[no-untyped-def]
    """Write what ``count_columns`` counted to ``at[c]``, which moves on."""
    for r in range(row.size):
        if row[r] < 0:
            continue
        for i in range(indptr[r], indptr[r + 1]):
            c = column[indices[i]]
            if c >= 0 and data[i] != 0:
                k = at[c]
                out_rows[k], out_data[k] = row[r], data[i]
                at[c] = k + 1


@_njit
def _evaluate(design, trials, success, b, eta, gradient, hessian, derive):  # type: ignore[no-untyped-def]
    """Log-likelihood at b; where ``derive``, its gradient and minus its second derivatives (lower half) as well.

    With e = exp(-|eta|), ln(1 + exp(eta)) = max(eta, 0) + ln(1 + e). The logarithms of rows of one trial are taken of
    products of up to 512 terms in [1, 2].
    """
    k, m = design.shape
    for i in range(m):
        eta[i] = 0.0
    for a in range(k):
        scale = b[a]
        if scale != 0.0:
            for i in range(m):
                eta[i] += scale * design[a, i]
    value, product, n_terms = 0.0, 1.0, 0
    if derive:
        gradient[:] = 0.0
        hessian[:] = 0.0
    for i in range(m):
        x, t = eta[i], trials[i]
        e = math.exp(-abs(x))
        value += success[i] * x - t * max(x, 0.0)
        if t == 1.0:
            product *= 1.0 + e
            n_terms += 1
            if n_terms == 512:
                value -= math.log(product)
                product, n_terms = 1.0, 0
        else:
            value -= t * math.log1p(e)
        if derive:
            inverse = 1.0 / (1.0 + e)
            p = inverse if x >= 0 else e * inverse
            residual, weight = success[i] - t * p, t * e * inverse * inverse
            for a in range(k):
                z = design[a, i]
                gradient[a] += z * residual
                z *= weight
                for c in range(a + 1):
                    hessian[a, c] += z * design[c, i]
    return value - math.log(product)


@_njit
def _solve(hessian, gradient, step):  # type: ignore[no-untyped-def]
    """Solve hessian step = gradient by Cholesky, in place; directions without curvature are held to a tiny one."""
    k = gradient.size
    least = 0.0
    for a in range(k):
        least += hessian[a, a]
    least = max(least * 1e-14, 1e-300)
    for a in range(k):
        for c in range(a + 1):
            total = hessian[a, c]
            for d in range(c):
                total -= hessian[a, d] * hessian[c, d]
            if a == c:
                hessian[a, a] = math.sqrt(max(total, least))
            else:
                hessian[a, c] = total / hessian[c, c]
    for a in range(k):
        total = gradient[a]
        for d in range(a):
            total -= hessian[a, d] * step[d]
        step[a] = total / hessian[a, a]
    for a in range(k - 1, -1, -1):
        total = step[a]
        for d in range(a + 1, k):
            total -= hessian[d, a] * step[d]
        step[a] = total / hessian[a, a]


@_njit
def logistic_fits(design, trials, indptr, rows, low, high, found, likelihood):  # type: ignore[no-untyped-def]
    """Fit columns [low, high); ``found`` holds the starts and takes the coefficients. ``design``: (k, m)."""
    k, m = design.shape
    success, eta = np.zeros(m), np.empty(m)
    gradient, step, hessian, trial = np.empty(k), np.empty(k), np.empty((k, k)), np.empty(k)
    for f in range(low, high):
        for i in range(indptr[f], indptr[f + 1]):
            success[rows[i]] += 1.0
        b = found[f]
        value = _evaluate(design, trials, success, b, eta, gradient, hessian, True)
        for _ in range(MOST_STEPS):
            _solve(hessian, gradient, step)
            gain = 0.0
            for a in range(k):
                gain += step[a] * gradient[a]
            if not gain > 2 * TOLERANCE:
                break
            better = False
            for _halving in range(MOST_HALVINGS):
                for a in range(k):
                    trial[a] = b[a] + step[a]
                new = _evaluate(design, trials, success, trial, eta, gradient, hessian, True)
                if new > value:
                    better = True
                    break
                for a in range(k):
                    step[a] *= 0.5
            if not better:
                break
            b[:] = trial
            value = new
        likelihood[f] = value
        for i in range(indptr[f], indptr[f + 1]):
            success[rows[i]] = 0.0
