"""Columns taken, sums by group and logistic regressions: each backend, and the GPU's array code on NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
from devices import GPU, on_device
from scipy.optimize import minimize

from gpuatac.backend import get
from gpuatac.backend.gpu.differential.matrices import Matrices as GpuMatrices
from gpuatac.backend.protocol import Csr
from gpuatac.core.rows import row_blocks


class Side:
    """The primitives of one side, and the moves to and from its memory."""

    def __init__(self, matrices, bk):
        self.matrices, self.asarray, self.to_host, self.csr = matrices, bk.asarray, bk.to_host, bk.csr_from_host


@pytest.fixture(params=["cpu", "gpu code on NumPy", GPU])
def side(request):
    if request.param == "gpu code on NumPy":
        yield Side(GpuMatrices(np), get("cpu"))
        return
    with on_device(request) as device:
        bk = get(device)
        yield Side(bk.matrices, bk)


def counts(seed, shape, density=0.2):
    x = sp.csr_matrix(np.random.default_rng(seed).random(shape) < density).astype(np.float32)
    x.data = (np.arange(x.nnz) % 5 + 1).astype(np.float32)
    return x


def csr_of(side, table):
    x = side.csr(sp.csr_matrix(table))
    return Csr(x.indptr.astype(np.int64), x.indices.copy(), x.data.copy())


def dense(side, found, n_columns):
    indptr, indices, data = (side.to_host(part) for part in found)
    assert (indptr.dtype, indices.dtype) == (np.int64, np.int32)
    for a, b in itertools.pairwise(indptr.tolist()):
        assert (np.diff(indices[a:b]) > 0).all()
    return sp.csr_matrix((data, indices, indptr), shape=(indptr.size - 1, n_columns)).toarray()


# ------------------------------------------------------------------------------------------------- take_columns


@pytest.mark.parametrize("source", [[2, 0, 1], [1, 1, 0, 2, 1], [0, 1, 2], [2], []], ids=str)
def test_columns_are_taken_in_the_order_and_number_given(side, source):
    table = np.array([[1, 0, 3], [0, 0, 0], [4, 5, 6]], np.float32)
    taken = side.matrices.take_columns(csr_of(side, table), side.asarray(np.array(source, np.int32)), n_columns=3)
    np.testing.assert_array_equal(dense(side, taken, len(source)), table[:, source])


@pytest.mark.parametrize("density", [0.002, 0.05, 0.6])
@pytest.mark.parametrize("kind", ["reversed", "shuffled", "nearly sorted", "repeated"])
def test_random_columns_equal_numpy_indexing(side, density, kind):
    """Few and many entries in a row, so that every way to sort it is taken."""
    rng = np.random.default_rng(0)
    n = 3000
    near = np.argsort(np.arange(n) + rng.uniform(0, 3, n))
    ways = {
        "reversed": np.arange(n)[::-1], "shuffled": rng.permutation(n), "nearly sorted": near,
        "repeated": rng.integers(0, n, 2 * n),
    }  # fmt: skip
    x = counts(1, (40, n), density)
    taken = side.matrices.take_columns(csr_of(side, x), side.asarray(ways[kind].astype(np.int32)), n_columns=n)
    np.testing.assert_array_equal(dense(side, taken, ways[kind].size), x.toarray()[:, ways[kind]])


# --------------------------------------------------------------------------------------------------- group_sums


@pytest.mark.parametrize("max_nnz", [1 << 20, 30])
def test_sums_and_numbers_of_each_group(side, max_nnz):
    rng = np.random.default_rng(2)
    x = counts(3, (50, 23))
    x.data[::7] = 0  # explicit zeros are no counts
    group = rng.integers(-1, 3, 50).astype(np.int32)  # group 3 is empty
    sums, found = side.matrices.group_sums(row_blocks(side.csr(x), max_nnz=max_nnz), group, shape=(4, 23))
    assert (sums.dtype, found.dtype) == (np.float64, np.int64)
    table = x.toarray().astype(np.float64)
    np.testing.assert_array_equal(side.to_host(sums), [table[group == g].sum(axis=0) for g in range(4)])
    np.testing.assert_array_equal(side.to_host(found), [(table[group == g] > 0).sum(axis=0) for g in range(4)])


def test_columns_come_transposed_in_their_new_order(side):
    x = counts(4, (30, 20))
    x.data[::5] = 0
    rows, picked = np.array([1, 4, 5, 22, 29]), np.array([13, 2, 19, 0])
    row, column = np.full(30, -1, np.int32), np.full(20, -1, np.int32)
    row[rows], column[picked] = np.arange(5), np.arange(4)
    for max_nnz in (1 << 20, 11):
        given = side.csr(x)
        found = side.matrices.columns(lambda: row_blocks(given, max_nnz=max_nnz), row, column)  # noqa: B023
        np.testing.assert_array_equal(dense(side, found, 5), x.toarray()[rows][:, picked].T)


def test_no_column_at_all(side):
    given = side.csr(counts(4, (30, 20)))
    found = side.matrices.columns(lambda: row_blocks(given), np.arange(30, dtype=np.int32), np.full(20, -1, np.int32))
    assert dense(side, found, 30).shape == (0, 30)


# ----------------------------------------------------------------------------------------------- logistic_fits


def likelihood(b, design, trials, success):
    eta = design @ b
    return success @ eta - trials @ np.logaddexp(0, eta)


def fitted(side, design, trials, tables, start=None):
    """``tables``: (n, m) successes."""
    tables = np.asarray(tables)
    indices = [np.repeat(np.arange(t.size), t.astype(int)) for t in tables]
    indptr = np.cumsum([0, *(i.size for i in indices)])
    flat = np.concatenate(indices).astype(np.int32)
    given = Csr(side.asarray(indptr), side.asarray(flat), side.asarray(np.ones(flat.size, np.float32)))
    start = np.zeros((len(tables), design.shape[1])) if start is None else start
    found = side.matrices.logistic_fits(
        side.asarray(design), side.asarray(trials.astype(float)), given, side.asarray(start)
    )
    return tuple(side.to_host(part) for part in found)


def test_intercept_alone_gives_the_share_of_successes(side):
    value, b = fitted(side, np.ones((4, 1)), np.ones(4), [[1, 0, 0, 0], [1, 1, 1, 0]])
    np.testing.assert_allclose(1 / (1 + np.exp(-b[:, 0])), [0.25, 0.75], atol=1e-5)
    np.testing.assert_allclose(value, 2 * [np.log(0.25) + 3 * np.log(0.75)], atol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_likelihood_is_that_of_a_general_optimiser(side, seed):
    rng = np.random.default_rng(seed)
    m, k = 60, 3
    design = np.column_stack([np.ones(m), rng.standard_normal((m, k - 1))])
    trials = rng.integers(1, 6, m)
    tables = rng.binomial(trials, 1 / (1 + np.exp(-design @ rng.normal(0, 1, k))), (20, m))
    value, b = fitted(side, design, trials, tables)
    for i, success in enumerate(tables):
        best = minimize(
            lambda c, s=success: -likelihood(c, design, trials, s), np.zeros(k), tol=1e-12,
            jac=lambda c, s=success: -design.T @ (s - trials / (1 + np.exp(-design @ c))),
        )  # fmt: skip
        assert value[i] == pytest.approx(-best.fun, abs=1e-7)
        assert likelihood(b[i], design, trials, success) == pytest.approx(value[i], abs=1e-10)


def test_separated_successes_reach_the_supremum(side):
    """All of one half and none of the other: the coefficients have no limit, the likelihood has 1."""
    x = np.linspace(-1, 1, 40)
    design = np.column_stack([np.ones(40), x, x > 0])
    value, b = fitted(side, design, np.ones(40), [x > 0, (x > 0) | (x < -0.5), np.zeros(40), np.ones(40)])
    assert np.isfinite(b).all()
    np.testing.assert_allclose(value[[0, 2, 3]], 0, atol=1e-7)
    assert (value <= 0).all()


def test_a_far_start_is_brought_back(side):
    rng = np.random.default_rng(5)
    design = np.column_stack([np.ones(80), rng.standard_normal(80)])
    table = [rng.random(80) < 0.3]
    near, _ = fitted(side, design, np.ones(80), table)
    far, _ = fitted(side, design, np.ones(80), table, start=np.array([[9.0, -14.0]]))
    np.testing.assert_allclose(far, near, atol=1e-7)


def test_nothing_to_fit(side):
    given = Csr(*(side.asarray(np.zeros(n, t)) for n, t in ((1, np.int64), (0, np.int32), (0, np.float32))))
    value, b = side.matrices.logistic_fits(
        side.asarray(np.ones((5, 1))), side.asarray(np.ones(5)), given, side.asarray(np.empty((0, 1)))
    )
    assert (value.shape, b.shape) == ((0,), (0, 1))
