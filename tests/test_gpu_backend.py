"""The GPU backend on a GPU or on the stand-in: the cases of the CPU-run kernels again, and what needs RAPIDS."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
from devices import GPU, on_device
from kernels.cases import CASES, run
from kernels.test_linalg_and_graph import neighbours_by_definition, symmetric

from gpuatac.backend import get
from gpuatac.backend.protocol import Cutoffs, Geometry

pytestmark = pytest.mark.filterwarnings("default")  # warnings of RAPIDS are not ours
VERBS = sorted({case.verb for case in CASES})


@pytest.fixture(scope="module", params=[GPU])
def gpu(request):
    with on_device(request) as device:
        yield get(device)


@pytest.fixture(scope="module")
def clusters():
    """Points of four well separated groups, and the groups."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(4), [400, 300, 200, 100])
    centre = 10 * rng.standard_normal((4, 12))
    return (centre[group] + rng.standard_normal((1_000, 12))).astype(np.float32), group


@pytest.mark.parametrize("verb", VERBS)
def test_wrapper_and_kernels_agree_with_the_oracle(gpu, verb):
    for case in (c for c in CASES if c.verb == verb):
        try:
            run(gpu, case)
        except Exception as error:
            error.add_note(f"case: {case}")
            raise


@pytest.mark.parametrize("hash_mask", [0, 0xFF])
def test_barcodes_with_equal_hashes_stay_apart(gpu, hash_mask, monkeypatch):
    monkeypatch.setattr(gpu.parsing, "_hash_mask", hash_mask)
    for case in CASES:
        if case.verb in ("parse_block", "barcodes") and ("random" in case.name or "alike" in case.name):
            run(gpu, case)


def test_counting_in_parts_gives_the_same_matrix(gpu, monkeypatch):
    monkeypatch.setattr(gpu.counting, "_chunk", 37)
    for case in CASES:
        if case.verb in ("tile_counts", "region_counts"):
            run(gpu, case)


def test_a_long_column_of_fragments_agrees_with_the_cpu_backend(gpu):
    cpu = get("cpu")
    rng = np.random.default_rng(1)
    n = 3_000_000
    start = np.sort(rng.integers(0, 100_000_000, n)).astype(np.int32)
    columns = (
        start,
        start + rng.integers(20, 900, n).astype(np.int32),
        rng.integers(-1, 500, n).astype(np.int32),
    )
    keywords = {"n_rows": 500, "bin_size": 500, "n_bins": 200_002, "strategy": "paired-insertion"}
    expected = cpu.counting.tile_counts(*columns, **keywords)
    found = gpu.counting.tile_counts(*map(gpu.asarray, columns), **keywords)
    for part, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(gpu.to_host(part), wanted)


def test_peaks_of_many_cuts_agree_with_the_cpu_backend(gpu):
    cpu = get("cpu")
    rng = np.random.default_rng(2)
    n, n_groups = 1_000_000, 5
    place = rng.integers(0, 40_000_000, 3_000)[rng.integers(0, 3_000, n)] + rng.normal(0, 120, n)
    start = np.sort(np.where(rng.random(n) < 0.4, np.abs(place), rng.integers(0, 40_000_000, n))).astype(np.int32)
    end = start + rng.integers(20, 700, n).astype(np.int32)
    group = rng.integers(-1, n_groups, n).astype(np.int32)
    copies = rng.integers(1, 4, n).astype(np.int32)
    for geometry, weight in ((Geometry(), None), (Geometry(whole=True), copies)):
        found = []
        for bk in (cpu, gpu):
            columns = [bk.asarray(column) for column in (start, end, group)]
            own = None if weight is None else bk.asarray(weight)
            ends = bk.pileup.group_ends(*columns, n_groups=n_groups, weight=own)
            lengths = bk.peaks.segment_lengths([lambda ends=ends: ends], geometry)
            sizes = [int(lengths.n[a:b].max()) + 1 for a, b in pairwise(lengths.ptr.tolist())]
            least = np.concatenate([8 + np.arange(size) // 12 for size in sizes]).astype(np.int32)
            cutoffs = Cutoffs(np.cumsum([0, *sizes]), least)
            rules = {"max_gap": 30, "min_length": 200, "subpeaks": True}
            (summits,) = bk.peaks.summits([lambda ends=ends: ends], geometry, cutoffs, **rules)
            runs = bk.pileup.coverage(ends, bin_size=10, size=40_001_000)
            found.append([*lengths, *summits, *map(bk.to_host, runs)])
        assert found[0][4].size > 1_000
        for a, b in zip(*found, strict=True):
            np.testing.assert_array_equal(a, b)


def test_poisson_scores_of_many_pairs_agree_with_the_cpu_backend(gpu):
    """The GPU's exp and log1p differ in the last bit: one pair in a million may fall on the other side of a fifth decimal."""
    rng = np.random.default_rng(3)
    t = rng.integers(0, 400, 1_000_000).astype(np.int32)
    rate = rng.uniform(0.2, 300, t.size).astype(np.float32).astype(np.float64)
    found, expected = gpu.peaks.poisson_scores(t, rate), get("cpu").peaks.poisson_scores(t, rate)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1.1e-5)
    assert (found != expected).sum() <= 20


def test_a_matrix_goes_to_the_gpu_and_back(gpu):
    host = sp.random_array((40, 30), density=0.2, rng=2, format="csr", data_sampler=lambda size: np.arange(1, size + 1))
    there = gpu.csr_from_host(sp.csr_matrix(host.astype(np.int32)))
    assert there.dtype == np.float32
    back = gpu.csr_to_host(there)
    assert isinstance(back, sp.csr_matrix)
    np.testing.assert_array_equal(back.toarray(), host.toarray())


def test_eigenpairs_equal_those_of_lapack(gpu):
    matrix = symmetric(np.linspace(-1, 1, 300) ** 3)
    there = gpu.asarray(matrix)
    values, vectors = gpu.linalg.eigsh_la(lambda v: there @ v, 300, 10, v0=gpu.asarray(np.ones(300)))
    np.testing.assert_allclose(gpu.to_host(values), np.linalg.eigvalsh(matrix)[::-1][:10], atol=1e-10)
    found = gpu.to_host(vectors)
    np.testing.assert_allclose(matrix @ found, found * gpu.to_host(values), atol=1e-9)


@pytest.mark.parametrize("k", [1, 15, 50])
def test_neighbours_are_exact(gpu, clusters, k):
    points, _ = clusters
    indices, distances = gpu.graph.knn(gpu.asarray(points), k)
    expected_indices, expected_distances = neighbours_by_definition(points, k)
    np.testing.assert_array_equal(gpu.to_host(indices), expected_indices)
    np.testing.assert_allclose(gpu.to_host(distances), expected_distances, rtol=1e-6)


def test_neighbours_of_duplicates_come_by_index(gpu):
    points = np.repeat(np.random.default_rng(3).standard_normal((10, 5)), 40, axis=0).astype(np.float32)
    indices, _ = gpu.graph.knn(gpu.asarray(points), 20)
    np.testing.assert_array_equal(gpu.to_host(indices), neighbours_by_definition(points, 20)[0])


def neighbour_graph(gpu, points, k=15):
    indices = gpu.to_host(gpu.graph.knn(gpu.asarray(points), k)[0])
    rows = np.repeat(np.arange(len(points)), k)
    graph = sp.csr_matrix((np.ones(rows.size, np.float32), (rows, indices.ravel())), shape=(len(points),) * 2)
    return gpu.csr_from_host(((graph + graph.T) > 0).astype(np.float32).tocsr())


@pytest.mark.parametrize("weighted", [False, True])
def test_leiden_finds_the_groups(gpu, clusters, weighted):
    from sklearn.metrics import adjusted_rand_score

    points, group = clusters
    labels, quality = gpu.graph.leiden(
        neighbour_graph(gpu, points), resolution=0.1, n_iterations=-1, seed=0, weighted=weighted
    )
    assert labels.dtype == np.int32
    assert (np.diff(np.bincount(labels)) <= 0).all()
    assert adjusted_rand_score(group, labels) > 0.95
    assert 0.5 < quality < 0.8


def test_umap_keeps_the_groups_apart(gpu, clusters):
    from sklearn.metrics import silhouette_score

    points, group = clusters
    there = gpu.asarray(points)
    near = gpu.graph.knn(there, 15)
    keywords = {"n_components": 2, "min_dist": 0.3, "spread": 1.0, "n_epochs": 200, "seed": 0}
    layout = gpu.to_host(gpu.graph.umap(there, *near, **keywords))
    assert layout.shape == (1_000, 2)
    assert layout.dtype == np.float32
    assert silhouette_score(layout, group) > 0.5


def test_harmony_removes_a_shift_between_batches(gpu, clusters):
    points, group = clusters
    batch = np.random.default_rng(4).integers(0, 2, 1_000)
    shifted = points + 2.0 * batch[:, None].astype(np.float32)
    corrected = gpu.to_host(gpu.graph.harmony(gpu.asarray(shifted), batch, seed=0, max_iter=10, theta=2.0, sigma=0.1))
    assert corrected.shape == points.shape
    assert corrected.dtype == np.float32

    def shift(x):
        means = [[x[(group == g) & (batch == b)].mean(axis=0) for b in (0, 1)] for g in range(4)]
        return np.mean([np.linalg.norm(a - b) for a, b in means])

    assert shift(corrected) < 0.5 * shift(shifted)


def test_memory_is_one_pool(gpu):
    import cupy
    import rmm

    before = gpu.memory()
    block = cupy.zeros(1 << 28, np.uint8)
    during = gpu.memory()
    assert set(before) == {"total", "free", "peak"}
    assert 0 < before["free"] <= before["total"]
    assert during["peak"] >= 1 << 28
    assert during["free"] <= before["free"] - block.nbytes + (1 << 20)
    assert cupy.cuda.get_allocator().__name__ == "rmm_cupy_allocator"
    assert isinstance(rmm.mr.get_current_device_resource(), rmm.mr.StatisticsResourceAdaptor)
