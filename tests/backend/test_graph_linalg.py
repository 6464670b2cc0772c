"""Eigenvalues, neighbours, layout, clusters and batch correction of each backend."""

from __future__ import annotations

import igraph
import numpy as np
import oracles
import pytest
import scipy.sparse as sp
from sklearn.metrics import adjusted_rand_score

from gpuatac.backend import as_host, backend_of, get, gpu_problem, resolve
from gpuatac.backend.cpu.embedding import graph as cpu_graph
from gpuatac.core.embedding.partition import by_falling_size
from gpuatac.errors import DeviceUnavailableError, InputError


def groups(n_per_group=40, n_groups=3, dims=6, seed=0, spread=8.0):
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_groups), n_per_group)
    centres = spread * rng.standard_normal((n_groups, dims))
    return centres[group] + rng.standard_normal((group.size, dims)), group


# ----------------------------------------------------------------------------------------------- eigenvalues


@pytest.mark.parametrize("which", ["LA", "LM"])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 1), (2, 2), (10, 3), (64, 30), (70, 5), (200, 10)])
def test_eigenpairs_equal_those_of_dense_linear_algebra(bk, n, k, which):
    rng = np.random.default_rng(n)
    a = rng.standard_normal((n, n))
    a = a + a.T
    on_device = bk.asarray(a)
    values, vectors = bk.linalg.eigsh_la(
        lambda v: on_device @ v, n, k, v0=bk.asarray(rng.standard_normal(n)), which=which
    )
    expected, basis = np.linalg.eigh(a)
    order = np.argsort(-(np.abs(expected) if which == "LM" else expected))[:k]
    order = order[np.argsort(-expected[order])]
    values, vectors = bk.to_host(values), bk.to_host(vectors)
    assert values.dtype == vectors.dtype == np.float64
    np.testing.assert_allclose(values, expected[order], atol=1e-9 * np.abs(expected).max())
    cosine = np.abs((vectors * basis[:, order]).sum(0))
    np.testing.assert_allclose(cosine, 1, atol=1e-8)


def test_largest_in_magnitude_takes_negative_eigenvalues_and_still_descends(bk):
    a = bk.asarray(np.diag([3.0, -5.0, 1.0, -4.0] + [0.0] * 100))
    start = bk.asarray(np.random.default_rng(0).standard_normal(104))
    values, _ = bk.linalg.eigsh_la(lambda v: a @ v, 104, 3, v0=start, which="LM")
    np.testing.assert_allclose(bk.to_host(values), [3, -4, -5], atol=1e-9)
    values, _ = bk.linalg.eigsh_la(lambda v: a @ v, 104, 2, v0=start, which="LA")
    np.testing.assert_allclose(bk.to_host(values), [3, 1], atol=1e-9)


# ------------------------------------------------------------------------------------------------ neighbours


@pytest.mark.parametrize(
    ("n", "dims", "k"), [(2, 1, 1), (5, 2, 4), (60, 3, 10), (300, 20, 50), (300, 2, 7)]
)
def test_neighbours_are_those_of_brute_force(bk, n, dims, k):
    points = np.random.default_rng(n + dims).standard_normal((n, dims))
    indices, distances = (bk.to_host(a) for a in bk.graph.knn(bk.asarray(points), k))
    expected, far = oracles.knn(points, k)
    assert (indices.dtype, distances.dtype) == (np.int32, np.float32)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(distances, far, rtol=1e-6)


@pytest.mark.parametrize("k", [1, 3, 8, 29])
def test_ties_between_duplicate_points_go_to_the_lower_index(bk, k):
    rng = np.random.default_rng(1)
    points = np.repeat(rng.integers(0, 3, (6, 2)).astype(float), 5, axis=0)  # 30 points in few places
    indices, distances = (bk.to_host(a) for a in bk.graph.knn(bk.asarray(points), k))
    expected, far = oracles.knn(points, k)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(distances, far, atol=1e-6)


def test_points_all_at_one_place_find_the_first_others(bk):
    indices, distances = (bk.to_host(a) for a in bk.graph.knn(bk.asarray(np.ones((40, 3))), 5))
    assert (distances == 0).all()
    assert not (indices == np.arange(40)[:, None]).any()
    assert indices[39].tolist() == [0, 1, 2, 3, 4]
    assert indices[2].tolist() == [0, 1, 3, 4, 5]


def test_the_tree_and_brute_force_find_the_same_neighbours():
    # above 4,096 points of few dimensions the CPU takes a tree; compared with brute force on some rows
    points = np.random.default_rng(3).standard_normal((4200, 3))
    indices, distances = get("cpu").graph.knn(points, 6)
    for i in range(0, 4200, 100):
        far = np.sqrt(((points - points[i]) ** 2).sum(1))
        far[i] = np.inf
        order = np.lexsort((np.arange(4200), far))[:6]
        np.testing.assert_array_equal(indices[i], order)
        np.testing.assert_allclose(distances[i], far[order], rtol=1e-6)


@pytest.mark.parametrize("k", [1, 12])
def test_blocks_of_rows_hold_what_the_whole_holds(bk, k, monkeypatch):
    points = bk.asarray(np.random.default_rng(6).standard_normal((230, 4)).round(1))  # some ties
    whole = [bk.to_host(part) for part in bk.graph.knn(points, k)]
    if bk.name == "cpu":
        monkeypatch.setattr(cpu_graph, "BLOCK_BYTES", 2_000)
    else:
        monkeypatch.setattr(bk.graph, "_block_bytes", 100_000)
    blocks = list(bk.graph.neighbour_blocks(points, k))
    assert len(blocks) > 2
    assert [low for low, *_ in blocks] == [0, *np.cumsum([near.shape[0] for _, near, _ in blocks])[:-1].tolist()]
    for part, joined in zip(whole, ([bk.to_host(b[i]) for b in blocks] for i in (1, 2)), strict=True):
        assert {b.dtype for b in joined} == {part.dtype}
        np.testing.assert_array_equal(np.concatenate(joined), part)
    for part, again in zip(whole, bk.graph.knn(points, k), strict=True):
        np.testing.assert_array_equal(bk.to_host(again), part)


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
def test_the_order_within_rows_is_stable(bk, dtype):
    values = np.random.default_rng(7).integers(0, 9, (20, 31)).astype(dtype)
    if dtype != np.int32:
        values *= 0.37
        values[3, 5:9] = np.inf
    found = bk.to_host(bk.graph.order_in_rows(bk.asarray(values)))
    np.testing.assert_array_equal(found, np.argsort(values, axis=1, kind="stable"))


def test_distances_far_from_the_origin_are_not_lost_to_cancellation(bk):
    points = np.random.default_rng(4).standard_normal((50, 4)) + 1e6
    indices, distances = (bk.to_host(a) for a in bk.graph.knn(bk.asarray(points), 5))
    expected, far = oracles.knn(points, 5)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(distances, far, rtol=1e-5)


def test_shared_neighbours_count_the_two_closed_neighbourhoods(bk):
    lists = np.array([[1, 2], [0, 2], [0, 3], [2, 4], [3, 2]], np.int32)
    found = bk.to_host(bk.graph.shared_neighbors(bk.asarray(lists)))
    closed = [{i, *row.tolist()} for i, row in enumerate(lists)]
    expected = [[len(closed[i] & closed[int(j)]) for j in row] for i, row in enumerate(lists)]
    assert found.tolist() == expected
    assert found.dtype == np.int32


def test_shared_neighbours_of_random_lists_follow_the_definition(bk):
    lists, _ = oracles.knn(np.random.default_rng(5).standard_normal((80, 3)), 12)
    found = bk.to_host(bk.graph.shared_neighbors(bk.asarray(lists.astype(np.int32))))
    closed = [{i, *row.tolist()} for i, row in enumerate(lists)]
    expected = [[len(closed[i] & closed[int(j)]) for j in row] for i, row in enumerate(lists)]
    np.testing.assert_array_equal(found, expected)


# -------------------------------------------------------------------------------------- layout and clusters


def test_layout_is_fixed_by_its_seed_and_keeps_groups_apart():
    points, group = groups()
    graph = get("cpu").graph
    lists = graph.knn(points, 10)
    options = {"n_components": 2, "min_dist": 0.3, "spread": 1.0, "n_epochs": 50}
    first = graph.umap(points, *lists, seed=1, **options)
    again = graph.umap(points, *lists, seed=1, **options)
    other = graph.umap(points, *lists, seed=2, **options)
    assert first.dtype == np.float32
    assert first.shape == (120, 2)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    near, _ = oracles.knn(first, 5)
    assert (group[near] == group[:, None]).mean() > 0.99


def ring_of_cliques(n_cliques=4, size=6):
    blocks = np.kron(np.eye(n_cliques), np.ones((size, size)) - np.eye(size))
    for c in range(n_cliques):
        a, b = c * size, ((c + 1) % n_cliques) * size + 1
        blocks[a, b] = blocks[b, a] = 1
    return sp.csr_matrix(blocks.astype(np.float32)), np.repeat(np.arange(n_cliques), size)


def test_clusters_are_the_cliques_and_modularity_follows_its_formula():
    graph, truth = ring_of_cliques()
    labels, modularity = get("cpu").graph.leiden(
        graph, resolution=1.0, n_iterations=-1, seed=0, weighted=True
    )
    assert labels.dtype == np.int32
    assert adjusted_rand_score(truth, labels) == 1
    a = graph.toarray().astype(float)
    degree, m2 = a.sum(1), a.sum()
    same = labels[:, None] == labels[None, :]
    expected = ((a - np.outer(degree, degree) / m2) * same).sum() / m2
    assert modularity == pytest.approx(expected, abs=1e-12)


def test_clusters_depend_on_the_seed_alone():
    points, _ = groups(n_per_group=60, spread=0.5, seed=3)
    graph = get("cpu").graph
    lists, _ = graph.knn(points, 10)
    rows = np.repeat(np.arange(180), 10)
    directed = sp.csr_matrix((np.ones(1800, np.float32), (rows, lists.ravel())), shape=(180, 180))
    adjacency = (directed + directed.T).tocsr()
    options = {"resolution": 1.0, "n_iterations": 2, "weighted": True}
    first, _ = graph.leiden(adjacency, seed=5, **options)
    igraph.Graph.Erdos_Renyi(20, 0.3)  # somebody else draws from igraph's generator
    again, _ = graph.leiden(adjacency, seed=5, **options)
    np.testing.assert_array_equal(first, again)
    others = [graph.leiden(adjacency, seed=s, **options)[0] for s in range(8)]
    assert any(not np.array_equal(first, other) for other in others)


def test_weights_matter_only_when_they_are_asked_for():
    # two pairs tied by heavy edges, all four by light ones
    heavy = np.array([[0, 9, 1, 1], [9, 0, 1, 1], [1, 1, 0, 9], [1, 1, 9, 0]], np.float32)
    leiden = get("cpu").graph.leiden
    options = {"resolution": 1.0, "n_iterations": -1, "seed": 0}
    with_weights, _ = leiden(sp.csr_matrix(heavy), weighted=True, **options)
    without, _ = leiden(sp.csr_matrix(heavy), weighted=False, **options)
    assert with_weights.tolist() == [0, 0, 1, 1]
    assert len(set(without.tolist())) == 1


def test_graph_without_edges_gives_one_cluster_per_cell():
    labels, modularity = get("cpu").graph.leiden(
        sp.csr_matrix((4, 4), dtype=np.float32), resolution=1.0, n_iterations=-1, seed=0, weighted=True
    )
    assert labels.tolist() == [0, 1, 2, 3]
    assert modularity == 0


def test_labels_are_ordered_by_size_then_by_first_member():
    assert by_falling_size(np.array([7, 3, 3, 9, 7, 3])).tolist() == [1, 0, 0, 2, 1, 0]
    assert by_falling_size(np.array([5, 2, 2, 5])).tolist() == [0, 1, 1, 0]
    assert by_falling_size(np.array([5, 2])).dtype == np.int32


def test_harmony_brings_shifted_batches_together():
    points, group = groups(n_per_group=60, dims=5, seed=2)
    batch = np.tile(["a", "b"], 90)
    shifted = points + np.where(batch == "b", 3.0, 0.0)[:, None]
    corrected = get("cpu").graph.harmony(shifted, batch, seed=0, max_iter=10, theta=2.0, sigma=0.1)
    assert corrected.shape == shifted.shape
    assert corrected.dtype == np.float32
    mixing = [
        (batch[oracles.knn(p, 15)[0]] != batch[:, None]).mean() for p in (shifted, corrected)
    ]
    assert mixing[0] < 0.1
    assert mixing[1] > 0.3
    near, _ = oracles.knn(corrected, 15)
    assert (group[near] == group[:, None]).mean() > 0.95


# ---------------------------------------------------------------------------------------------- the one door


def test_asking_for_a_gpu_where_there_is_none_says_why():
    problem = gpu_problem()
    if problem is None:
        pytest.skip("there is a GPU")
    for ask in (lambda: resolve("gpu"), lambda: get("gpu")):
        with pytest.raises(DeviceUnavailableError, match="device 'gpu' is not available") as caught:
            ask()
        assert problem in str(caught.value)
        assert "device='cpu'" in str(caught.value)
    assert resolve("auto").name == "cpu"


def test_unknown_device_is_refused_with_what_is_allowed():
    with pytest.raises(InputError, match="device must be one of 'auto', 'cpu', 'gpu', got 'tpu'"):
        resolve("tpu")


def test_backend_is_found_from_the_arrays(bk):
    there = bk.asarray(np.arange(3))
    assert backend_of(there, None) is bk
    np.testing.assert_array_equal(as_host(there), [0, 1, 2])
    assert as_host([1, 2]).tolist() == [1, 2]


def test_rows_are_scaled_with_new_data_and_the_same_pattern(bk):
    host = sp.random_array((6, 9), density=0.4, rng=0, format="csr")
    matrix = bk.csr_from_host(sp.csr_matrix(host))
    scaled = bk.csr_to_host(bk.scale_rows(matrix, bk.asarray(np.arange(6.0))))
    np.testing.assert_allclose(scaled.toarray(), host.toarray() * np.arange(6.0)[:, None])
    np.testing.assert_allclose(bk.csr_to_host(matrix).toarray(), host.toarray())


def test_memory_is_told_in_bytes(bk):
    held = bk.xp.zeros(1 << 18)
    memory = bk.memory()
    assert held.nbytes == 2**21
    assert 0 < memory["free"] <= memory["total"]
    assert memory["peak"] > 2**20
