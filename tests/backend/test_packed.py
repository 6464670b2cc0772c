"""Packed counts: what the embedding computes from them, against dense linear algebra; in memory and on disk."""

from __future__ import annotations

import gc
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp

import gpuatac
from gpuatac.backend import get
from gpuatac.backend.cpu.embedding import packed as cpu_packed
from gpuatac.core.rows import MAX_NNZ, RowBlock, splits


class OnDisk:
    """A matrix that gives blocks of rows alone, as one on disk does."""

    def __init__(self, x, most=None):
        self._x, self.shape, self._most = sp.csr_matrix(x), x.shape, most

    def row_blocks(self, *, max_nnz):
        for low, high in splits(self._x.indptr.astype(np.int64), min(max_nnz, self._most or max_nnz)):
            a, b = self._x.indptr[low], self._x.indptr[high]
            indptr = self._x.indptr[low : high + 1].astype(np.int64) - a
            yield RowBlock(low, indptr, self._x.indices[a:b].copy(), self._x.data[a:b].copy())


def counts(seed=0, n=60, m=20_000, density=0.02, high=5):
    rng = np.random.default_rng(seed)
    table = np.where(rng.random((n, m)) < density, rng.integers(1, high, (n, m)), 0)
    table[3] = 0  # an empty cell
    table[:, 7] = 0
    return table


def on(bk, table):
    return bk.csr_from_host(sp.csr_matrix(table))


VALUES = {
    "uint8": (lambda t: t.astype(np.int32), np.uint8),
    "uint16": (lambda t: (t * 200).astype(np.int32), np.uint16),
    "int32": (lambda t: (t * 100_000).astype(np.int32), np.int32),
    "whole float32": (lambda t: t.astype(np.float32), np.uint8),
    "parts, float32": (lambda t: (t * 0.3).astype(np.float32), np.float32),
    "parts, float64": (lambda t: t * 0.3, np.float64),
    "beyond int32": (lambda t: t.astype(np.int64) << 33, np.float64),
    "negative": (lambda t: -t.astype(np.int32), np.int32),
    "bool": (lambda t: t > 0, np.uint8),
}


@pytest.mark.parametrize("kind", VALUES)
def test_values_are_kept_exactly_in_the_smallest_type(kind):
    convert, dtype = VALUES[kind]
    table = convert(counts(n=20, m=300))
    packed = get("cpu").linalg.pack(sp.csr_matrix(table))
    assert {c.vals.dtype for c in packed._chunks} == {np.dtype(dtype)}
    assert packed.nnz == np.count_nonzero(table)
    u = np.random.default_rng(1).standard_normal((20, 3))
    np.testing.assert_allclose(packed.transposed_times(u), table.T.astype(np.float64) @ u, rtol=1e-13)
    np.testing.assert_allclose(packed.row_sums(), table.astype(np.float64).sum(1), rtol=1e-14)


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("width", [None, 1, 3, 4, 9])
def test_products_equal_those_of_dense_matrices(bk, width, on_disk):
    table = counts(1)
    rng = np.random.default_rng(2)
    columns, rows = rng.random(table.shape[1]) < 0.8, np.sort(rng.choice(60, 45, replace=False))
    x = OnDisk(table.astype(np.float32), 3_000) if on_disk else on(bk, table.astype(np.float32))
    packed = bk.linalg.pack(x, columns, rows)
    dense = table[rows][:, columns].astype(np.float64)
    assert packed.shape == dense.shape
    weights = rng.random(dense.shape[1])
    u = rng.standard_normal((45,) if width is None else (45, width))
    s = rng.standard_normal((dense.shape[1],) if width is None else (dense.shape[1], width))
    on_device = bk.asarray(weights)
    along = weights if width is None else weights[:, None]
    for found, expected in (
        (packed.gram(on_device)(bk.asarray(u)), dense @ (along * (dense.T @ u))),
        (packed.times(bk.asarray(s)), dense @ s),
        (packed.transposed_times(bk.asarray(u)), dense.T @ u),
    ):
        assert found.shape == expected.shape
        np.testing.assert_allclose(bk.to_host(found), expected, atol=1e-11)
    np.testing.assert_array_equal(bk.to_host(packed.document_frequency()), (dense > 0).sum(0))
    np.testing.assert_array_equal(bk.to_host(packed.row_sums()), dense.sum(1))
    np.testing.assert_allclose(bk.to_host(packed.squared_norms(on_device)), dense**2 @ weights, rtol=1e-12)


@pytest.mark.parametrize("on_disk", [False, True])
def test_pairs_of_rows_share_what_the_definition_says(bk, on_disk):
    table = counts(3)
    x = OnDisk(table.astype(np.float32), 2_500) if on_disk else on(bk, table.astype(np.float32))
    packed = bk.linalg.pack(x)
    rng = np.random.default_rng(4)
    left, right = rng.integers(0, 60, (2, 500))
    right[:20] = left[:20]  # a row with itself
    weights = rng.random(table.shape[1])
    there = bk.asarray(left), bk.asarray(right)
    expected = ((table[left] * table[right]) * weights).sum(1)
    found = bk.to_host(packed.pair_products(*there, bk.asarray(weights)))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    union = ((table[left] > 0) | (table[right] > 0)).sum(0)
    np.testing.assert_array_equal(bk.to_host(packed.union_frequency(*there)), union)


@pytest.mark.parametrize("kind", ["uint8", "parts, float64"])
def test_similarities_written_out_equal_the_dense_product(kind, monkeypatch):
    table = VALUES[kind][0](counts(5))
    weights = np.random.default_rng(6).random(table.shape[1])
    expected = (table * weights) @ table.T
    for most in (None, 2_000):
        packed = get("cpu").linalg.pack(OnDisk(table, most))
        np.testing.assert_allclose(packed.similarities(weights), expected, rtol=1e-12)
    monkeypatch.setattr(cpu_packed, "EXPLICIT_UP_TO", 59)
    assert packed.similarities(weights) is None


def test_many_similar_cells_are_not_written_out_when_products_are_cheaper(monkeypatch):
    monkeypatch.setattr(cpu_packed, "_PER_SIMILARITY", 1.0)
    assert get("cpu").linalg.pack(sp.csr_matrix(counts())).similarities(np.ones(20_000)) is None


def test_rows_out_of_order_and_stored_zeros_do_not_matter():
    table = counts(7, n=12, m=400, density=0.3)
    rows, columns, data = [], [], []
    rng = np.random.default_rng(8)
    for i in range(12):
        for j in rng.permutation(400):
            if table[i, j] or j % 5 == 0:
                rows.append(i)
                columns.append(j)
                data.append(table[i, j])
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=12))])
    x = sp.csr_matrix((np.array(data), np.array(columns, np.int32), indptr), shape=table.shape)
    packed = get("cpu").linalg.pack(x)
    assert packed.nnz == np.count_nonzero(table)
    u = rng.standard_normal(12)
    np.testing.assert_allclose(packed.gram(np.ones(400))(u), table @ (table.T @ u), rtol=1e-12, atol=1e-10)
    np.testing.assert_array_equal(packed.document_frequency(), (table > 0).sum(0))
    np.testing.assert_array_equal(get("cpu").linalg.document_frequency(x), (table > 0).sum(0))


def test_beyond_a_share_of_memory_the_entries_lie_in_files_that_go_away(monkeypatch):
    table = counts(9)
    x = OnDisk(table, 4_000)
    inside = get("cpu").linalg.pack(x)
    one = inside._chunks[0].nbytes
    monkeypatch.setattr(cpu_packed, "get_memory", lambda: cpu_packed.MEMORY_SHARE * one)
    outside = get("cpu").linalg.pack(x)
    assert [isinstance(c.cols, np.memmap) for c in outside._chunks][:3] == [False, True, True]
    folder = outside._folder
    assert len(list(folder.iterdir())) == 2 * (len(outside._chunks) - 1)
    u = np.random.default_rng(10).standard_normal((60, 5))
    weights = np.ones(table.shape[1])
    np.testing.assert_array_equal(outside.gram(weights)(u), inside.gram(weights)(u))
    np.testing.assert_array_equal(outside.similarities(weights), inside.similarities(weights))
    del outside
    gc.collect()
    assert not folder.exists()


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch):
    monkeypatch.setattr(cpu_packed, "SMALL", 0)
    monkeypatch.setattr(cpu_packed, "SUMS_BYTES", 1)  # rounds of as few blocks as there are threads
    table = counts(11) * 0.7
    rng = np.random.default_rng(12)
    u, weights, pairs = rng.standard_normal((60, 6)), rng.random(table.shape[1]), rng.integers(0, 60, (2, 70))
    before, found = gpuatac.threads.get_threads(), []
    try:
        for n in (1, 2, 5):
            gpuatac.set_threads(n)
            packed = get("cpu").linalg.pack(sp.csr_matrix(table))
            results = (packed.gram(weights)(u), packed.gram(weights)(u[:, 0]), packed.similarities(weights))
            found.append((*results, packed.pair_products(*pairs, weights), packed.squared_norms(weights)))
    finally:
        gpuatac.set_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shape", [(0, 5), (4, 5), (1, 1)])
def test_empty_matrices_give_zeros(bk, shape):
    packed = bk.linalg.pack(on(bk, np.zeros(shape, np.float32)))
    assert packed.shape == shape
    assert packed.nnz == 0
    assert bk.to_host(packed.document_frequency()).tolist() == [0] * shape[1]
    assert (
        bk.to_host(packed.gram(bk.asarray(np.ones(shape[1])))(bk.asarray(np.ones(shape[0])))).tolist() == [0] * shape[0]
    )


def test_sums_of_a_matrix_on_disk_equal_those_in_memory(bk):
    table = counts(13, m=500, density=0.2)
    x, disk = on(bk, table.astype(np.float32)), OnDisk(table.astype(np.float32), 100)
    weights = bk.asarray(np.random.default_rng(14).random(500))
    for verb in ("document_frequency", "column_sums", "row_sums"):
        expected = (table > 0).sum(0) if verb[0] == "d" else table.sum(0 if verb[0] == "c" else 1)
        for matrix in (x, disk):
            np.testing.assert_array_equal(bk.to_host(getattr(bk.linalg, verb)(matrix)), expected)
    np.testing.assert_allclose(
        bk.to_host(bk.linalg.squared_norms(disk, weights)), bk.to_host(bk.linalg.squared_norms(x, weights)), rtol=1e-14
    )


# ------------------------------------------------------------------------------------------ beyond 2^31 entries


def test_matrices_beyond_two_to_the_31_entries_are_split_below_it():
    per_row = np.full(50_000, 100_000, np.int64)  # 5e9 entries
    per_row[17] = 2**31 + 5  # a row beyond the bound goes alone
    indptr = np.concatenate([[0], np.cumsum(per_row)])
    assert indptr[-1] > 7_000_000_000
    parts = splits(indptr)
    assert parts[0][0] == 0
    assert parts[-1][1] == 50_000
    assert all(a[1] == b[0] for a, b in pairwise(parts))
    sizes = np.array([indptr[b] - indptr[a] for a, b in parts])
    assert sizes.sum() == indptr[-1]
    assert (17, 18) in parts
    assert (np.delete(sizes, parts.index((17, 18))) <= MAX_NNZ).all()
    assert len(splits(indptr, cpu_packed.CHUNK_NNZ)) > 500


def test_a_part_of_a_matrix_beyond_two_to_the_31_entries_is_addressed_in_int64():
    class Far:
        """Two rows whose offsets lie beyond 2^32, of which the entries are made when asked for."""

        shape = (2, 9)

        def row_blocks(self, *, max_nnz):
            indptr = np.array([2**32 + 3, 2**32 + 5, 2**32 + 6], np.int64)
            for low, high in splits(indptr, min(max_nnz, 2)):
                part = indptr[low : high + 1] - indptr[low]
                yield RowBlock(low, part, np.array([1, 4] if low == 0 else [8], np.int32), np.ones(part[-1], np.int32))

    packed = get("cpu").linalg.pack(Far())
    assert packed.document_frequency().tolist() == [0, 1, 0, 0, 1, 0, 0, 0, 1]
    assert packed.row_sums().tolist() == [2, 1]
