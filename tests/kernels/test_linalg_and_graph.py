"""The GPU backend's array code on NumPy: eigen-solver, exact neighbours, modularity."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from scipy.linalg import eigh
from scipy.sparse import csr_matrix, random_array
from scipy.sparse.linalg import LinearOperator, eigsh

from gpuatac.backend.gpu.arrays import Arrays
from gpuatac.backend.gpu.embedding import packed as gpu_packed
from gpuatac.backend.gpu.embedding.graph import BLOCK_BYTES, exact_neighbours, modularity
from gpuatac.backend.protocol import Csr
from gpuatac.core.embedding import lanczos
from gpuatac.core.embedding.lanczos import NoConvergenceError, largest_eigenpairs


def symmetric(values, seed=0):
    """A dense symmetric matrix with these eigenvalues."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))
    return (q * np.asarray(values)) @ q.T


def check_pairs(matrix, k, *, v0=None, tol=1e-10, which="LA"):
    n = matrix.shape[0]
    v0 = np.random.default_rng(1).standard_normal(n) if v0 is None else v0
    values, vectors = largest_eigenpairs(np, lambda v: matrix @ v, n, k, v0=v0, which=which)
    expected = eigh(matrix, eigvals_only=True)[::-1]
    if which == "LM":
        expected = np.sort(expected[np.argsort(-np.abs(expected), kind="stable")][:k])[::-1]
    expected = expected[:k]
    scale = max(1.0, np.abs(expected).max())
    assert values.shape == (k,)
    assert vectors.shape == (n, k)
    np.testing.assert_allclose(values, expected, atol=tol * scale, rtol=0)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(k), atol=1e-12)
    np.testing.assert_allclose(matrix @ vectors, vectors * values, atol=1e-9 * scale)
    return values, vectors


@pytest.mark.parametrize(
    ("n", "k"), [(n, k) for n in (1, 2, 3, 10, 64, 65, 70, 150, 250) for k in (1, 2, 5, 30) if k <= n]
)
def test_eigenpairs_equal_those_of_lapack(n, k):
    check_pairs(symmetric(np.random.default_rng(n).standard_normal(n)), k)


@pytest.mark.parametrize("n_less", [0, 1, 2, 20])
def test_almost_all_pairs(n_less):
    check_pairs(symmetric(np.random.default_rng(2).standard_normal(120)), 120 - n_less)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("low rank", [3.0, 2.0, 1.0] + [0.0] * 297),
        ("low rank, indefinite", [5.0, 1.0] + [0.0] * 290 + [-9.0] * 8),
        ("identity", [1.0] * 300),
        ("zero", [0.0] * 300),
        ("six-fold largest", [1.0] * 6 + list(np.linspace(0.9, -1, 294))),
        ("degenerate at the border", [4.0, 3.0] + [2.0] * 40 + list(np.linspace(1, 0, 258))),
        ("pairs", np.repeat(np.linspace(3, -3, 150), 2)),
        ("clustered", 1 - 1e-7 * np.arange(300)),
        ("small gaps under a large negative one", [*(1 - 1e-4 * np.arange(299)), -1e3]),
        ("decaying", 0.8 ** np.arange(300)),
        ("all negative", -np.arange(1.0, 301.0)),
        ("huge", 1e12 * np.linspace(1, 2, 300)),
        ("tiny", 1e-12 * np.linspace(1, 2, 300)),
    ],
)
def test_hard_spectra(name, values):
    for k in (1, 5, 12):
        check_pairs(symmetric(values, seed=3), k)


@pytest.mark.parametrize("k", [1, 4, 11, 30])
@pytest.mark.parametrize("n", [40, 65, 300])
def test_largest_in_magnitude_keeps_both_ends(n, k):
    values = np.linspace(-1.001, 1, n) ** 3
    found, _ = check_pairs(symmetric(values), k, which="LM")
    assert (found < 0).any()
    assert k == 1 or (found > 0).any()


def test_largest_in_magnitude_with_opposite_pairs():
    check_pairs(symmetric([3, -3, 2, -2, 2, -2, *np.linspace(-1, 1, 294)]), 6, which="LM")


@pytest.mark.parametrize("start", ["eigenvector", "invariant subspace", "zero"])
def test_a_start_that_misses_the_wanted_vectors(start):
    matrix = np.diag(np.arange(200.0))
    v0 = np.zeros(200)
    if start == "eigenvector":
        v0[3] = 1.0
    elif start == "invariant subspace":
        v0[:50] = 1.0
    check_pairs(matrix, 4, v0=v0)


def test_a_graph_of_components_has_as_many_leading_vectors():
    blocks = [random_array((40, 40), density=0.3, rng=i).toarray() for i in range(5)]
    matrix = np.zeros((200, 200))
    for i, drawn in enumerate(blocks):
        block = (drawn + drawn.T > 0).astype(float) + np.eye(40)
        d = block.sum(1) ** -0.5
        matrix[40 * i : 40 * i + 40, 40 * i : 40 * i + 40] = d[:, None] * block * d
    values, _ = check_pairs(matrix, 8)
    np.testing.assert_allclose(values[:5], 1.0, atol=1e-12)
    assert values[5] < 0.9


def test_a_sparse_operator_as_arpack_sees_it():
    z = random_array((3_000, 5_000), density=0.004, rng=4).tocsr()
    shift = np.random.default_rng(5).random(3_000)

    def matvec(v):
        return z @ (z.T @ v) - shift * v

    v0 = np.random.default_rng(6).standard_normal(3_000)
    values, vectors = largest_eigenpairs(np, matvec, 3_000, 20, v0=v0)
    arpack, arpack_vectors = eigsh(
        LinearOperator((3_000, 3_000), matvec=matvec, dtype=np.float64), k=20, which="LA", v0=v0
    )
    np.testing.assert_allclose(values, arpack[::-1], rtol=1e-10)
    np.testing.assert_allclose(np.abs((vectors * arpack_vectors[:, ::-1]).sum(0)), 1.0, atol=1e-8)


def test_one_start_gives_one_result():
    matrix = symmetric(np.linspace(0, 1, 300))
    v0 = np.random.default_rng(7).standard_normal(300)
    first, second = (largest_eigenpairs(np, lambda v: matrix @ v, 300, 6, v0=v0) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_giving_up_says_how_far_it_came():
    matrix = symmetric(np.linspace(0, 1, 300) ** 9)
    with pytest.raises(NoConvergenceError, match=r"found \d+ of 5 eigenpairs .* in 1 cycles"):
        largest_eigenpairs(np, lambda v: matrix @ v, 300, 5, v0=np.ones(300), max_cycles=1)


# ------------------------------------------------------------------------------------- eigen-solver, by blocks

SPECTRA = {
    "low rank": [3.0, 2.0, 1.0] + [0.0] * 297,
    "low rank, indefinite": [5.0, 1.0] + [0.0] * 290 + [-9.0] * 8,
    "identity": [1.0] * 300,
    "zero": [0.0] * 300,
    "six-fold largest": [1.0] * 6 + list(np.linspace(0.9, -1, 294)),
    "twenty-fold, apart": [2.0] + [1.0] * 20 + list(np.linspace(0.9, -1, 279)),
    "degenerate at the border": [4.0, 3.0] + [2.0] * 40 + list(np.linspace(1, 0, 258)),
    "pairs": np.repeat(np.linspace(3, -3, 150), 2),
    "clustered": 1 - 1e-7 * np.arange(300),
    "small gaps under a large negative one": [*(1 - 1e-4 * np.arange(299)), -1e3],
    "decaying": 0.8 ** np.arange(300),
    "all negative": -np.arange(1.0, 301.0),
    "huge": 1e12 * np.linspace(1, 2, 300),
    "one above a bulk": [1.0, 0.1, *np.sort(np.random.default_rng(20).normal(0, 0.002, 298))[::-1]],
}


def check_blocks(matrix, k, block, *, which="LA", v0=None, tol=0.0):
    n = matrix.shape[0]
    v0 = np.random.default_rng(1).standard_normal(n) if v0 is None else v0
    widths = set()

    def product(v):
        widths.add(v.shape)
        return matrix @ v

    values, vectors = largest_eigenpairs(np, product, n, k, v0=v0, which=which, block=block, tol=tol)
    assert widths == {(n, block)}
    expected = eigh(matrix, eigvals_only=True)[::-1]
    assert (np.diff(values) <= 0).all()
    # of v and -v either may be the last of the k largest in magnitude
    expected = np.sort(np.abs(expected))[::-1][:k] if which == "LM" else expected[:k]
    found = np.sort(np.abs(values))[::-1] if which == "LM" else values
    scale = np.abs(expected).max() or 1.0
    np.testing.assert_allclose(found, expected, atol=1e-12 * scale, rtol=1e-12)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(k), atol=1e-12)
    np.testing.assert_allclose(matrix @ vectors, vectors * values, atol=max(1e-11, 2 * tol) * scale)


@pytest.mark.parametrize("block", [2, 4, 8])
@pytest.mark.parametrize("which", ["LA", "LM"])
@pytest.mark.parametrize("name", SPECTRA)
def test_hard_spectra_by_blocks(name, which, block):
    for k in (1, 5, 12):
        check_blocks(symmetric(SPECTRA[name], seed=3), k, block, which=which)


@pytest.mark.parametrize("block", [3, 4])
@pytest.mark.parametrize(
    ("n", "k"), [(n, k) for n in (2, 10, 65, 120, 250) for k in (1, 2, 30, n - 1, n) if k <= n]
)
def test_all_sizes_by_blocks(n, k, block):
    check_blocks(symmetric(np.random.default_rng(n).standard_normal(n)), k, block)


@pytest.mark.parametrize("start", ["eigenvector", "invariant subspace", "zero"])
@pytest.mark.parametrize("name", ["six-fold largest", "pairs", "decaying"])
def test_a_start_that_misses_the_wanted_vectors_by_blocks(name, start):
    matrix = symmetric(SPECTRA[name], seed=4)
    vectors = eigh(matrix)[1]
    v0 = {"eigenvector": vectors[:, 3], "invariant subspace": vectors[:, :50].sum(1), "zero": np.zeros(300)}[start]
    check_blocks(matrix, 5, 4, v0=v0)


def test_an_operator_that_keeps_a_few_directions_by_blocks():
    # a reducible operator: each step of the iteration stays within 5 vectors until it breaks down
    matrix = np.zeros((200, 200))
    for i in range(0, 200, 5):
        matrix[i : i + 5, i : i + 5] = symmetric(np.arange(5.0) + i // 50, seed=i)
    for k in (3, 11, 40):
        check_blocks(matrix, k, 4)


def test_residuals_below_the_tolerance_give_eigenvalues_to_its_square():
    check_blocks(symmetric(SPECTRA["one above a bulk"], seed=5), 12, 4, tol=1e-9)


def test_one_start_gives_one_result_by_blocks():
    matrix = symmetric(np.linspace(0, 1, 300))
    v0 = np.random.default_rng(7).standard_normal(300)
    first, second = (largest_eigenpairs(np, lambda v: matrix @ v, 300, 6, v0=v0, block=4) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_a_small_basis_restarts_and_ends_with_the_same_pairs(monkeypatch):
    monkeypatch.setattr(lanczos, "BASIS_BYTES", 0)
    for name in ("one above a bulk", "six-fold largest", "clustered"):
        check_blocks(symmetric(SPECTRA[name], seed=6), 9, 4)


# --------------------------------------------------------------------------------- packed counts, on NumPy


@pytest.mark.parametrize("room", [0, 16, 1 << 30], ids=["on the host", "converted for each product", "X and X' in float64"])
@pytest.mark.parametrize("split", [False, True])
def test_packed_counts_of_the_gpu_backend_equal_dense_products(room, split, monkeypatch):
    if split:
        monkeypatch.setattr(gpu_packed, "BLOCK_NNZ", 300)
        monkeypatch.setattr(gpu_packed, "PIECE_NNZ", 100)
    monkeypatch.setattr(gpu_packed, "PAIR_NNZ", 200)
    rng = np.random.default_rng(13)
    table = rng.poisson(0.2, (40, 300)).astype(np.float32)
    columns, rows = rng.random(300) < 0.6, np.sort(rng.choice(40, 30, replace=False))
    x = csr_matrix(table)
    x.data[3] = 0  # a stored zero
    table = x.toarray()
    dense = table[rows][:, columns].astype(np.float64)
    packed = gpu_packed.Packed(np, scipy.sparse, x, columns, rows, room=room * np.count_nonzero(dense))
    assert {(block.on_host, block.transposed is None) for block in packed._blocks} == {(room == 0, room < 24)}
    weights, u = rng.random(dense.shape[1]), rng.standard_normal((30, 4))
    assert packed.nnz == np.count_nonzero(dense)
    np.testing.assert_allclose(packed.gram(weights)(u), dense @ (weights[:, None] * (dense.T @ u)), rtol=1e-10)
    np.testing.assert_allclose(packed.gram(weights)(u[:, 0]), dense @ (weights * (dense.T @ u[:, 0])), rtol=1e-10)
    np.testing.assert_array_equal(packed.document_frequency(), (dense > 0).sum(0))
    np.testing.assert_array_equal(packed.row_sums(), dense.sum(1))
    np.testing.assert_allclose(packed.squared_norms(weights), dense**2 @ weights, rtol=1e-12)
    left, right = rng.integers(0, 30, (2, 50))
    right[:3] = left[:3]
    np.testing.assert_allclose(
        packed.pair_products(left, right, weights), (dense[left] * dense[right]) @ weights, rtol=1e-12, atol=1e-12
    )
    np.testing.assert_array_equal(
        packed.union_frequency(left, right), ((dense[left] > 0) | (dense[right] > 0)).sum(0)
    )
    assert packed.similarities(weights) is None
    np.testing.assert_array_equal(x.toarray(), table)


# ---------------------------------------------------------------------------------------------- neighbours


def expansion(points):
    """What a GPU library does: |x|^2 - 2 xy + |y|^2 in float32, ties in no order."""

    def candidates(queries, m):
        norm = (points * points).sum(1)
        squared = (queries * queries).sum(1)[:, None] - 2 * queries @ points.T + norm[None]
        shuffle = np.random.default_rng(8).permutation(len(points))
        near = shuffle[np.argsort(squared[:, shuffle], axis=1, kind="stable")[:, :m]]
        return near, np.take_along_axis(squared, near, 1)

    return candidates


def neighbours_by_definition(points, k):
    points = points.astype(np.float64)
    squared = ((points[:, None] - points[None]) ** 2).sum(-1)
    np.fill_diagonal(squared, np.inf)
    order = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return order, np.sqrt(np.take_along_axis(squared, order, 1))


@pytest.mark.parametrize("block_bytes", [BLOCK_BYTES, 100_000, 1])
@pytest.mark.parametrize("k", [1, 5, 29])
@pytest.mark.parametrize(
    "kind", ["random", "far from the origin", "grid", "duplicates", "all equal", "an outlier"]
)
def test_neighbours_are_exact_in_order_and_distance(kind, k, block_bytes):
    rng = np.random.default_rng(9)
    points = {
        "random": rng.standard_normal((150, 8)),
        "far from the origin": 1e4 + rng.standard_normal((150, 3)),
        "grid": np.stack(np.meshgrid(np.arange(12.0), np.arange(12.0)), -1).reshape(-1, 2),
        "duplicates": np.repeat(rng.standard_normal((10, 4)), 15, axis=0),
        "all equal": np.ones((60, 3)),
        "an outlier": np.concatenate([rng.standard_normal((100, 4)), [[1e6] * 4]]),
    }[kind].astype(np.float32)
    indices, distances = exact_neighbours(np, points, k, expansion, block_bytes)
    assert (indices.dtype, distances.dtype) == (np.int32, np.float32)
    expected_indices, expected_distances = neighbours_by_definition(points, k)
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_array_equal(distances, expected_distances.astype(np.float32))


def test_all_other_points_as_neighbours():
    points = np.random.default_rng(10).standard_normal((20, 2)).astype(np.float32)
    indices, _ = exact_neighbours(np, points, 19, expansion)
    np.testing.assert_array_equal(indices, neighbours_by_definition(points, 19)[0])


def test_few_rows_need_the_comparison_with_all_points():
    points = np.random.default_rng(11).standard_normal((600, 10)).astype(np.float32)
    asked = []

    def index(x):
        def candidates(queries, m):
            asked.append(m)
            return expansion(x)(queries, m)

        return candidates

    indices, _ = exact_neighbours(np, points, 15, index)
    assert asked == [15 + 1 + 8]
    np.testing.assert_array_equal(indices, neighbours_by_definition(points, 15)[0])


# ---------------------------------------------------------------------------------------------- modularity


@pytest.mark.parametrize("weighted", [False, True])
def test_modularity_is_that_of_igraph(weighted):
    igraph = pytest.importorskip("igraph")
    rng = np.random.default_rng(12)
    upper = np.triu(rng.random((60, 60)) < 0.15, 1) * (rng.random((60, 60)) + 0.1 if weighted else 1.0)
    adjacency = csr_matrix(upper + upper.T)
    labels = rng.integers(0, 5, 60)
    edges = np.argwhere(upper)
    graph = igraph.Graph(n=60, edges=edges.tolist())
    expected = graph.modularity(labels.tolist(), weights=upper[tuple(edges.T)].tolist())
    found = modularity(np, adjacency.indptr, adjacency.indices, adjacency.data, labels)
    assert found == pytest.approx(expected, abs=1e-12)


def test_modularity_of_a_graph_without_edges_is_zero():
    assert modularity(np, np.zeros(4, int), np.empty(0, int), np.empty(0), np.zeros(3, int)) == 0.0


# ---------------------------------------------------------------------------------------------- arrays


def test_a_matrix_of_whole_numbers_becomes_float32_and_comes_back():
    arrays = Arrays(np, scipy.sparse, None)
    host = csr_matrix(np.array([[0, 2, 0], [1, 0, 3]], np.int32))
    there = arrays.csr_from_host(host)
    assert there.dtype == np.float32
    assert arrays.csr_from_host(host.astype(np.float64)).dtype == np.float64
    parts = Csr(host.indptr.astype(np.int64), host.indices, host.data.astype(np.float32))
    for matrix in (there, arrays.csr(parts, (2, 3))):
        np.testing.assert_array_equal(arrays.csr_to_host(matrix).toarray(), host.toarray())
