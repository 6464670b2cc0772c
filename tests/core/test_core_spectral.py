"""The spectral embedding against dense linear algebra on its definition."""

from __future__ import annotations

from functools import partial

import numpy as np
import oracles
import pytest
import scipy.sparse as sp

from gpuatac.backend import get
from gpuatac.backend.cpu.embedding import packed
from gpuatac.core.embedding import doublets
from gpuatac.core.embedding import spectral as core
from gpuatac.core.rows import row_blocks
from gpuatac.errors import InputError

# eigenvectors of gaps near 1e-3 carry errors near 1e-13 / gap; 1e-7 in |cosine| leaves room for the solver
COSINE = 1e-7


def planted(seed=0, n=120, n_features=400, n_groups=4, density=0.25):
    """Counts of cells of some groups, each with features of its own, depths varying by a factor of 4."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, n_groups, n)
    own = rng.random((n_groups, n_features)) < 0.3
    rate = density * np.where(own, 3.0, 0.4)[group] * rng.uniform(0.5, 2.0, n)[:, None]
    return rng.poisson(rate), group


def on(bk, table):
    return bk.csr_from_host(sp.csr_matrix(np.asarray(table, np.float32)))


def signed_cosines(a, b):
    return np.abs((a * b).sum(0) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0))


@pytest.mark.parametrize(("n", "k"), [(120, 10), (80, 1), (150, 30)])
def test_eigenpairs_equal_those_of_the_whole_laplacian(bk, n, k):
    table, _ = planted(n, n=n)
    found = core.laplacian_eigs(bk, on(bk, table), k)
    values, vectors = bk.to_host(found.values), bk.to_host(found.vectors)
    expected, embedding = oracles.spectral(table, k)
    np.testing.assert_allclose(values, expected, atol=1e-10)
    scaled = vectors * np.sqrt(values)
    np.testing.assert_allclose(np.linalg.norm(scaled, axis=0), np.linalg.norm(embedding, axis=0), rtol=1e-9)
    apart = np.append(np.diff(-expected), 1) > 1e-4  # nearly equal eigenvalues fix a plane, not a vector
    apart &= np.insert(np.diff(-expected), 0, 1) > 1e-4
    assert apart.mean() > 0.7
    np.testing.assert_allclose(signed_cosines(scaled, embedding)[apart], 1, atol=COSINE)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 13, 20])
def test_few_cells_give_what_the_definition_gives(bk, n):
    table = np.random.default_rng(n).poisson(0.8, (n, 60)) + np.eye(n, 60, dtype=int)
    table[:, -1] = 1
    table[:, -2] = np.arange(n) % 2
    table[:, -3] = 1 - np.arange(n) % 2
    found = core.laplacian_eigs(bk, on(bk, table), n - 1)
    expected, _ = oracles.spectral(table, n - 1)
    np.testing.assert_allclose(bk.to_host(found.values), expected, atol=1e-10)
    assert found.vectors.shape == (n, len(expected))


def test_trivial_eigenvalue_is_one_with_the_root_of_the_degree(bk):
    table, _ = planted(3)
    found = core.laplacian_eigs(bk, on(bk, table), 3)
    assert float(found.values[0]) == pytest.approx(1, abs=1e-10)
    weighted = table * oracles.idf(table)
    unit = weighted / np.linalg.norm(weighted, axis=1, keepdims=True)
    root = np.sqrt((unit @ unit.T).sum(1) - 1)
    assert signed_cosines(bk.to_host(found.vectors)[:, :1], root[:, None])[0] == pytest.approx(1, abs=1e-9)


def test_magnitude_rule_drops_negative_values_and_so_returns_fewer(bk):
    # SnapATAC2's "LM": the documented difference, both numbers of columns
    rng = np.random.default_rng(2)
    table = rng.poisson(0.02, (150, 900)) + np.eye(150, 900, dtype=int)
    table[:, 0] = rng.integers(0, 2, 150)
    table[:, 1] = 1 - table[:, 0]
    k = 30
    largest = bk.to_host(core.laplacian_eigs(bk, on(bk, table), k, which="LA").values)
    magnitude = bk.to_host(core.laplacian_eigs(bk, on(bk, table), k, which="LM").values)
    every = np.linalg.eigvalsh(oracles.laplacian(table))
    by_magnitude = every[np.argsort(-np.abs(every))][:k]
    expected = np.sort(by_magnitude[by_magnitude > 0])[::-1]
    np.testing.assert_allclose(magnitude, expected, atol=1e-9)
    assert len(magnitude) < len(largest) == k
    np.testing.assert_allclose(largest[: len(magnitude)], magnitude, atol=1e-9)


def test_starting_vector_does_not_change_the_result(bk):
    table, _ = planted(5)
    a, b = (core.laplacian_eigs(bk, on(bk, table), 5, seed=s) for s in (0, 1))
    np.testing.assert_allclose(bk.to_host(a.values), bk.to_host(b.values), atol=1e-10)
    np.testing.assert_allclose(
        signed_cosines(bk.to_host(a.vectors)[:, :4], bk.to_host(b.vectors)[:, :4]), 1, atol=COSINE
    )


def test_order_of_features_and_of_cells_does_not_matter(bk):
    table, _ = planted(6)
    rng = np.random.default_rng(0)
    cells, features = rng.permutation(len(table)), rng.permutation(table.shape[1])
    a = core.laplacian_eigs(bk, on(bk, table), 4)
    b = core.laplacian_eigs(bk, on(bk, table[cells][:, features]), 4)
    np.testing.assert_allclose(bk.to_host(a.values), bk.to_host(b.values), atol=1e-10)
    cosines = signed_cosines(bk.to_host(a.vectors)[cells], bk.to_host(b.vectors))
    np.testing.assert_allclose(cosines, 1, atol=COSINE)


# -------------------------------------------------------------------------------------------------- weights


def test_idf_clips_document_frequency_at_both_ends(bk):
    table = np.array([[1, 0, 1, 5], [1, 0, 0, 0], [2, 0, 0, 1]])
    found = bk.to_host(core.idf(bk, on(bk, table)))
    np.testing.assert_allclose(found, [np.log(3 / 2), np.log(3), np.log(3), np.log(3 / 2)])
    np.testing.assert_allclose(found, oracles.idf(table))


def test_equal_document_frequencies_weigh_one(bk):
    table = np.array([[1, 0, 3], [0, 2, 0], [0, 0, 0]])
    assert bk.to_host(core.idf(bk, on(bk, table))).tolist() == [1, 1, 1]
    # features that every cell has carry no information otherwise: all ones there, too
    assert bk.to_host(core.idf(bk, on(bk, np.ones((4, 3))))).tolist() == [1, 1, 1]


def test_equal_df_data_still_embed(bk):
    table = np.kron(np.eye(3), np.ones((2, 2))).astype(int)  # each feature in two cells
    found = core.laplacian_eigs(bk, on(bk, table), 3)
    np.testing.assert_allclose(bk.to_host(found.values), [1, 1, 1], atol=1e-10)  # three pairs


def test_sums_are_exact_for_counts(bk):
    table, _ = planted(7)
    x = on(bk, table)
    np.testing.assert_array_equal(bk.to_host(core.column_sums(bk, x)), table.sum(0))
    np.testing.assert_array_equal(bk.to_host(core.row_sums(bk, x)), table.sum(1))
    np.testing.assert_array_equal(bk.to_host(core.document_frequency(bk, x)), (table > 0).sum(0))
    empty = on(bk, np.zeros((3, 4)))
    assert bk.to_host(core.column_sums(bk, empty)).tolist() == [0] * 4


# --------------------------------------------------------------------------------------------------- errors


def test_cells_without_features_are_named_by_number(bk):
    table, _ = planted(8)
    table[[3, 50]] = 0
    with pytest.raises(InputError, match="2 of 120 cells have no informative feature; filter them first"):
        core.laplacian_eigs(bk, on(bk, table), 3)


def test_cells_that_share_no_feature_are_named_by_number(bk):
    table, _ = planted(9)
    alone = np.zeros((120, 1), int)
    alone[7] = 4
    table[7] = 0
    with pytest.raises(InputError, match="1 of 120 cells share no feature with another cell; filter them"):
        core.laplacian_eigs(bk, on(bk, np.hstack([table, alone])), 3)


# -------------------------------------------------------------------------------------------------- Nystrom


def test_all_cells_as_landmarks_give_the_exact_embedding(bk):
    table, _ = planted(10)
    exact = core.laplacian_eigs(bk, on(bk, table), 5)
    found = core.nystrom(bk, on(bk, table), 5, n_landmarks=120, chunk=50)
    np.testing.assert_allclose(bk.to_host(found.values), bk.to_host(exact.values), atol=1e-10)
    cosines = signed_cosines(bk.to_host(found.vectors)[:, :4], bk.to_host(exact.vectors)[:, :4])
    np.testing.assert_allclose(cosines, 1, atol=COSINE)


def test_half_the_cells_as_landmarks_find_the_leading_components(bk):
    table, _ = planted(11, n=400)
    exact = bk.to_host(core.laplacian_eigs(bk, on(bk, table), 4).vectors)
    found = bk.to_host(core.nystrom(bk, on(bk, table), 4, n_landmarks=200, seed=3).vectors)
    assert found.shape == (400, 4)
    # the planted groups span components 2 to 4: compared as a space, the first as a vector
    assert signed_cosines(found[:, :1], exact[:, :1])[0] > 0.9
    basis = np.linalg.qr(found[:, 1:])[0]
    overlap = np.linalg.svd(basis.T @ exact[:, 1:], compute_uv=False)
    assert overlap.min() > 0.9


def test_landmarks_are_drawn_by_the_seed_and_chunks_do_not_matter(bk):
    table, _ = planted(12, n=200)
    x = on(bk, table)
    first, again, other, chunked = (
        bk.to_host(core.nystrom(bk, x, 3, n_landmarks=80, seed=s, chunk=c).vectors)
        for s, c in ((1, 20_000), (1, 20_000), (2, 20_000), (1, 7))
    )
    np.testing.assert_allclose(first, again, atol=1e-12)
    np.testing.assert_allclose(first, chunked, atol=1e-10)
    assert np.abs(np.abs(first) - np.abs(other)).max() > 1e-3


# ------------------------------------------------------------------------------------------ depth correlation


def test_depth_correlation_is_pearson_with_the_log_of_depth(bk):
    rng = np.random.default_rng(13)
    depth = rng.lognormal(8, 1, 50)
    vectors = np.column_stack([np.log(depth), -2 * np.log(depth) + 7, rng.standard_normal(50), np.ones(50)])
    found = core.depth_correlation(bk, bk.asarray(vectors), bk.asarray(depth))
    expected = [np.corrcoef(vectors[:, i], np.log(depth))[0, 1] for i in range(3)]
    np.testing.assert_allclose(found[:3], expected, atol=1e-12)
    np.testing.assert_allclose(found[:2], [1, -1], atol=1e-12)
    assert found[3] == 0  # constant
    assert (core.depth_correlation(bk, bk.asarray(vectors), bk.asarray(np.ones(50))) == 0).all()


def test_result_does_not_depend_on_the_number_type_of_the_counts():
    bk = get("cpu")
    table, _ = planted(14)
    values = [
        core.laplacian_eigs(bk, sp.csr_matrix(table.astype(dtype)), 4).values
        for dtype in (np.int32, np.float32, np.float64, np.int64)
    ]
    for v in values[1:]:
        np.testing.assert_allclose(v, values[0], atol=1e-12)


# ------------------------------------------------------------------------------------ by products, and on disk


class OnDisk:
    """Blocks of rows alone, as a matrix on disk gives them."""

    def __init__(self, x):
        self._x, self.shape = x, x.shape

    def row_blocks(self, *, max_nnz):
        yield from row_blocks(self._x, max_nnz=min(max_nnz, 2_000))


@pytest.mark.parametrize(("n", "k"), [(120, 10), (300, 30), (300, 1), (90, 40)])
def test_eigenvalues_by_products_equal_those_of_lapack(n, k, monkeypatch):
    monkeypatch.setattr(packed, "EXPLICIT_UP_TO", 0)
    table, _ = planted(20 + n, n=n)
    for x in (sp.csr_matrix(table), OnDisk(sp.csr_matrix(table))):
        found = core.laplacian_eigs(get("cpu"), x, k)
        expected, embedding = oracles.spectral(table, k)
        np.testing.assert_allclose(found.values, expected, rtol=1e-12)
        np.testing.assert_array_equal(found.depth, table.sum(1))
        apart = np.append(np.diff(-expected), 1) > 1e-4
        apart &= np.insert(np.diff(-expected), 0, 1) > 1e-4
        np.testing.assert_allclose(signed_cosines(found.vectors, embedding)[apart], 1, atol=COSINE)


def test_columns_chosen_by_mask_are_those_of_the_smaller_matrix(bk):
    table, _ = planted(21)
    mask = np.random.default_rng(0).random(table.shape[1]) < 0.5
    for way in (core.laplacian_eigs, partial(core.nystrom, n_landmarks=70, seed=2)):
        a = way(bk, on(bk, table), 4, columns=mask)
        b = way(bk, on(bk, table[:, mask]), 4)
        np.testing.assert_allclose(bk.to_host(a.values), bk.to_host(b.values), rtol=1e-12)
        np.testing.assert_allclose(signed_cosines(bk.to_host(a.vectors), bk.to_host(b.vectors)), 1, atol=COSINE)
        np.testing.assert_array_equal(bk.to_host(a.depth), table[:, mask].sum(1))


@pytest.mark.parametrize("explicit", [False, True])
def test_embedding_of_a_matrix_on_disk_from_landmarks_equals_that_in_memory(explicit, monkeypatch):
    monkeypatch.setattr(packed, "EXPLICIT_UP_TO", 2_560 if explicit else 0)
    table, _ = planted(22, n=300)
    mask = np.random.default_rng(1).random(table.shape[1]) < 0.7
    x = sp.csr_matrix(table)
    a = core.nystrom(get("cpu"), x, 5, n_landmarks=120, columns=mask, seed=3)
    b = core.nystrom(get("cpu"), OnDisk(x), 5, n_landmarks=120, columns=mask, seed=3, chunk=500)
    np.testing.assert_allclose(a.values, b.values, rtol=1e-12)
    np.testing.assert_allclose(signed_cosines(a.vectors, b.vectors), 1, atol=1e-9)
    np.testing.assert_array_equal(a.depth, b.depth)


def test_groups_that_share_no_feature_have_an_eigenvalue_one_each(monkeypatch):
    monkeypatch.setattr(packed, "EXPLICIT_UP_TO", 0)
    rng = np.random.default_rng(23)
    table = sp.block_diag([sp.csr_matrix(rng.poisson(0.5, (30, 60))) for _ in range(8)]).toarray()
    found = core.laplacian_eigs(get("cpu"), sp.csr_matrix(table), 12)
    np.testing.assert_allclose(found.values, oracles.spectral(table, 12)[0], rtol=1e-12)
    np.testing.assert_allclose(found.values[:8], 1, atol=1e-12)


@pytest.mark.parametrize("embed", [doublets.embed_jointly, doublets.embed_by_projection])
def test_doublets_are_embedded_alike_with_and_without_written_similarities(embed, monkeypatch):
    table, _ = planted(24, n=100)
    x, mask = sp.csr_matrix(table), np.random.default_rng(2).random(table.shape[1]) < 0.8
    rows = np.arange(10, 90)
    pairs = doublets.draw_pairs(80, 2.0, 0)
    pairs[5] = [7, 7]
    distances = []
    for explicit, matrix in ((2_560, x), (0, x), (0, OnDisk(x)), (2_560, x[rows][:, mask])):
        monkeypatch.setattr(packed, "EXPLICIT_UP_TO", explicit)
        chosen = {} if matrix.shape[0] == 80 else {"columns": mask, "rows": rows}
        points = embed(get("cpu"), matrix, pairs, n_comps=4, seed=0, **chosen)
        assert points.shape[0] == 240
        distances.append(points @ points.T)
    for other in distances[1:]:
        np.testing.assert_allclose(other, distances[0], atol=1e-7)
