"""Feature choice, quality scores, cell calls, doublet scores and neighbour graphs against their formulas."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuatac.core.counting import cell_scores
from gpuatac.core.counting.counts import CellTotals
from gpuatac.core.embedding import doublets, neighbors
from gpuatac.core.embedding.features import dispersion_score, select_by_rank


def on(bk, table):
    return bk.csr_from_host(sp.csr_matrix(np.asarray(table, np.float32)))


# ------------------------------------------------------------------------------------------------- features


def chosen(score, n, *, lower=0.0, upper=0.0, eligible=None):
    score = np.asarray(score, float)
    eligible = np.ones(score.size, bool) if eligible is None else np.asarray(eligible)
    return select_by_rank(score, n, lower=lower, upper=upper, eligible=eligible)


def test_of_equal_scores_the_first_in_the_matrix_is_taken():
    assert np.flatnonzero(chosen([5, 7, 5, 5, 0], 2)).tolist() == [0, 1]
    assert np.flatnonzero(chosen([5, 7, 5, 5, 0], 3)).tolist() == [0, 1, 2]


def test_of_equal_scores_the_first_is_dropped_by_the_upper_quantile():
    assert np.flatnonzero(chosen([5, 5, 5, 5], 9, upper=0.25)).tolist() == [1, 2, 3]
    assert np.flatnonzero(chosen([5, 5, 5, 5], 9, lower=0.25)).tolist() == [0, 1, 2]


def test_features_without_counts_are_never_chosen():
    assert not chosen([0, 0, 0], 3).any()
    assert not chosen([1, 2, 3], 3, lower=0.7, upper=0.7).any()


def test_ineligible_features_leave_before_the_cut_so_that_n_means_n():
    mask = chosen([9, 8, 7, 6], 2, eligible=[False, True, True, True])
    assert np.flatnonzero(mask).tolist() == [1, 2]


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=50),
    st.integers(1, 60),
    st.sampled_from([0, 0.005, 0.1, 0.34, 1]),
    st.sampled_from([0, 0.005, 0.1, 0.34, 1]),
    st.data(),
)
def test_choice_by_rank_follows_the_definition(counts, n, lower, upper, data):
    black = np.array(data.draw(st.lists(st.booleans(), min_size=len(counts), max_size=len(counts))))
    expected = oracles.select_features(counts, n_features=n, lower=lower, upper=upper, blacklisted=black)
    np.testing.assert_array_equal(chosen(counts, n, lower=lower, upper=upper, eligible=~black), expected)


def test_dispersion_equals_the_dense_formula_and_is_minus_infinity_without_counts(bk):
    rng = np.random.default_rng(0)
    table = rng.poisson(rng.uniform(0.2, 2, 30), (25, 30))
    table[:, 4] = 0
    pi, c = table.sum(1) / table.sum(), table.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mu = np.outer(pi, c)
        q = ((table - mu) ** 2 / mu).sum(0)
        expected = (q - 24) / np.sqrt(2 * 24 + ((1 / pi).sum() - 25**2 - 50 + 2) / c)
    expected[c == 0] = -np.inf
    np.testing.assert_allclose(dispersion_score(bk, on(bk, table)), expected, rtol=1e-9)


def test_dispersion_has_the_mean_and_spread_of_chance_over_random_placements(bk):
    # the moments against simulation: 60 counts of one feature thrown into 20 cells of unequal depth
    rng = np.random.default_rng(3)
    pi = rng.dirichlet(np.full(20, 3.0))
    q = ((rng.multinomial(60, pi, 40_000) - 60 * pi) ** 2 / (60 * pi)).sum(1)
    assert q.mean() == pytest.approx(19, rel=0.01)
    assert q.var() == pytest.approx(2 * 19 + ((1 / pi).sum() - 400 - 40 + 2) / 60, rel=0.05)


def test_dispersion_judges_rare_and_common_poisson_features_alike(bk):
    rng = np.random.default_rng(1)
    rate = np.repeat([0.02, 0.2, 2.0], 200)
    score = dispersion_score(bk, on(bk, rng.poisson(rate, (400, 600))))
    for part in np.split(score, 3):
        assert abs(np.median(part)) < 0.3
        assert 0.7 < part.std() < 1.4


# -------------------------------------------------------------------------------------------------- quality


def test_fractions_of_cells_without_rows_are_zero_not_nan():
    totals = CellTotals(np.array([4, 0]), np.array([1, 0]), np.array([10, 0]))
    assert cell_scores.frac_dup(totals).tolist() == [1 - 4 / 10, 0]
    assert cell_scores.frac_mito(totals).tolist() == [0.25, 0]


def test_tss_enrichment_equals_the_score_of_the_profile():
    rng = np.random.default_rng(1)
    profile = rng.poisson(2, 4001)
    center, flank = profile[1995:2006].sum(), profile[:100].sum() + profile[-100:].sum()
    assert cell_scores.tss_enrichment(center, flank) == pytest.approx(oracles.tss_score(profile), abs=1e-12)
    assert cell_scores.tss_enrichment(11, 0) == pytest.approx(10)  # 1 / 0.1: never infinite


def test_nucleosome_signal_is_inf_or_nan_where_free_fragments_are_missing():
    found = cell_scores.nucleosome_signal(np.array([[2, 3, 9], [0, 1, 0], [0, 0, 4]]))
    assert found[0] == 1.5
    assert found[1] == math.inf
    assert math.isnan(found[2])


# ----------------------------------------------------------------------------------------------- cell calls


def planted_barcodes(n_cells=300, n_empty=5000, seed=0):
    rng = np.random.default_rng(seed)
    cells = rng.lognormal(np.log(8000), 0.35, n_cells)
    empty = rng.lognormal(np.log(150), 0.4, n_empty)
    counts = np.rint(np.concatenate([cells, empty])).astype(np.int64)
    order = rng.permutation(counts.size)
    return counts[order], (np.arange(counts.size) < n_cells)[order]


def agreement(found, truth):
    return (found & truth).sum() / (found | truth).sum()


@pytest.mark.parametrize("seed", range(3))
def test_ordmag_finds_planted_cells(seed):
    counts, truth = planted_barcodes(seed=seed)
    assert agreement(cell_scores.ordmag(counts, seed=seed).is_cell, truth) > 0.95
    assert agreement(cell_scores.ordmag(counts, expected_cells=300).is_cell, truth) > 0.95


@pytest.mark.parametrize("seed", range(3))
def test_knee_calls_no_empty_droplet_and_most_planted_cells(seed):
    # the knee lies on the shoulder of the curve: the shallower cells are below it
    counts, truth = planted_barcodes(seed=seed)
    found = cell_scores.knee(counts).is_cell
    assert not (found & ~truth).any()
    assert (found & truth).sum() > 0.5 * truth.sum()


def knee_by_definition(counts, lower=100):
    """(fragments at the knee, threshold), from the sentences of ``knee`` on a list of barcodes and without binning."""
    ranked = sorted((int(c) for c in counts if c >= lower), reverse=True)
    points = [(math.log(ranked.count(c) + ranked.index(c)), math.log(c)) for c in sorted(set(ranked), reverse=True)]
    (x0, y0), (x1, y1) = points[0], points[-1]
    _, bend = max(points, key=lambda p: p[1] - (y0 + (y1 - y0) * (p[0] - x0) / (x1 - x0)))
    logs = np.log(ranked)

    def drop(at):
        density = np.exp(-0.5 * ((logs - at) / 0.1) ** 2).sum() / (0.1 * math.sqrt(2 * math.pi))
        return np.sum(logs >= at) / (density + 1e-9)

    grid = np.linspace(y1, bend, 400)
    return math.exp(bend), math.exp(max(grid, key=drop))


@pytest.mark.parametrize("outliers", [[], [2_000_000], [60_000, 1_000_000]], ids=["none", "one", "two"])
@pytest.mark.parametrize("seed", range(3))
def test_knee_and_threshold_are_as_defined_with_and_without_outlier_barcodes(seed, outliers):
    """A barcode of a hundred times a cell's fragments, as clumped nuclei give, is the first point of the chord."""
    rng = np.random.default_rng(seed)
    cells, empty = rng.lognormal(np.log(8000), 0.25, 120), rng.lognormal(np.log(300), 0.3, 800)
    counts = np.rint(np.concatenate([cells, empty, outliers])).astype(np.int64)
    rng.shuffle(counts)
    found = cell_scores.knee(counts)
    bend, threshold = knee_by_definition(counts)
    assert found.details["knee"] == pytest.approx(bend, rel=1e-9)
    assert found.threshold == pytest.approx(threshold, rel=0.03)  # the density is binned
    assert found.is_cell[counts > 100_000].all()
    assert not found.is_cell[counts < 900].any()


@pytest.mark.parametrize("least", [102, 200, 500])
def test_a_file_without_the_smallest_barcodes_has_the_same_cells(least):
    """Nothing between ``lower`` and the smallest barcode: that end is no drop of the curve."""
    counts, truth = planted_barcodes()
    found = cell_scores.knee(counts[counts >= least]).is_cell
    assert agreement(found, truth[counts >= least]) > 0.95


def test_calls_are_those_at_or_above_their_threshold():
    counts, _ = planted_barcodes()
    for call in (cell_scores.knee(counts), cell_scores.ordmag(counts)):
        np.testing.assert_array_equal(call.is_cell, counts >= call.threshold)
        assert 200 < call.threshold < 8000


def test_ordmag_is_fixed_by_its_seed():
    counts, _ = planted_barcodes()
    assert cell_scores.ordmag(counts, seed=4).threshold == cell_scores.ordmag(counts, seed=4).threshold
    many = {cell_scores.ordmag(counts, seed=s, n_bootstrap=2).threshold for s in range(10)}
    assert len(many) > 1


@pytest.mark.parametrize("counts", [[], [0, 0], [5], [100, 100, 100], [3000, 1], [150, 120, 101]])
def test_calls_on_few_or_equal_barcodes_do_not_fail(counts):
    counts = np.array(counts, np.int64)
    for call in (cell_scores.knee(counts), cell_scores.ordmag(counts)):
        assert call.is_cell.shape == counts.shape
        assert np.isfinite(call.threshold)
        assert not call.is_cell[counts == 0].any()


def test_barcodes_below_the_lower_bound_do_not_move_the_knee():
    counts, _ = planted_barcodes()
    more = np.concatenate([counts, np.full(10_000, 50)])
    assert cell_scores.knee(counts, lower=100).threshold == cell_scores.knee(more, lower=100).threshold


# ------------------------------------------------------------------------------------------------- doublets


def test_doublet_scores_equal_the_formula(bk):
    rng = np.random.default_rng(2)
    points = rng.standard_normal((90, 4))
    found, simulated = doublets.scores(bk, bk.asarray(points), 30, expected_rate=0.08)
    expected, of_simulated = oracles.scrublet_scores(points, 30, expected_doublet_rate=0.08)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(simulated, of_simulated, rtol=1e-12)


def test_a_cell_among_simulated_doublets_only_scores_highest(bk):
    cells = np.random.default_rng(3).standard_normal((40, 2))
    cells[0] = 100
    simulated = np.vstack([np.full((40, 2), 100.0), 50 + np.random.default_rng(4).standard_normal((40, 2))])
    found, _ = doublets.scores(bk, bk.asarray(np.vstack([cells, simulated])), 40, expected_rate=0.1)
    assert np.argmax(found) == 0
    assert found[0] > 5 * np.median(found)


def test_joint_embedding_equals_the_oracle_on_given_pairs(bk):
    rng = np.random.default_rng(5)
    table = rng.poisson(0.5, (40, 150))
    pairs = rng.integers(0, 40, (80, 2))
    points = doublets.embed_jointly(bk, on(bk, table), pairs, n_comps=6, seed=0)
    both = np.vstack([table, table[pairs[:, 0]] + table[pairs[:, 1]]])
    # steps of SnapATAC2: the largest in magnitude, of these the positive ones
    values, vectors = np.linalg.eigh(oracles.laplacian(both))
    kept = np.argsort(-np.abs(values))[:6]
    kept = kept[values[kept] > 0]
    kept = kept[np.argsort(-values[kept])]
    gram = bk.to_host(points) @ bk.to_host(points).T
    np.testing.assert_allclose(gram, (vectors[:, kept] * values[kept]) @ vectors[:, kept].T, atol=1e-8)


def test_pairs_are_drawn_by_the_seed_within_the_cells():
    pairs = doublets.draw_pairs(50, 2.5, 1)
    assert pairs.shape == (125, 2)
    assert pairs.min() >= 0
    assert pairs.max() < 50
    np.testing.assert_array_equal(pairs, doublets.draw_pairs(50, 2.5, 1))
    assert not np.array_equal(pairs, doublets.draw_pairs(50, 2.5, 2))


def test_probability_is_that_of_the_higher_of_two_modes():
    rng = np.random.default_rng(6)
    simulated = np.concatenate([rng.normal(0.1, 0.02, 300), rng.normal(0.6, 0.05, 300)])
    probability, threshold = doublets.classify(np.array([0.1, 0.12, 0.55, 0.65]), simulated)
    assert (probability[:2] < 0.01).all()
    assert (probability[2:] > 0.99).all()
    assert 0.15 < threshold < 0.5


def test_scores_of_one_value_have_no_threshold():
    probability, threshold = doublets.classify(np.array([0.1, 0.2]), np.array([0.3, 0.3, 0.3]))
    assert probability.tolist() == [0, 0]
    assert math.isnan(threshold)


# ----------------------------------------------------------------------------------------- neighbour graph


@pytest.mark.parametrize(("n", "expected"), [(2, 5), (25, 5), (39, 6), (150, 12), (900, 30), (10**6, 30)])
def test_default_components_follow_the_root_of_the_cells(n, expected):
    assert neighbors.default_n_components(n, 100) == expected
    assert neighbors.default_n_components(n, 4) == 4


@pytest.mark.parametrize(("n", "expected"), [(2, 1), (5, 4), (6, 5), (39, 11), (500, 39), (802, 50), (10**6, 50)])
def test_default_neighbours_follow_the_root_of_the_cells(n, expected):
    assert neighbors.default_n_neighbors(n) == expected


def test_component_weights_shrink_eigenvalues_as_documented():
    values = np.array([1.0, 0.8, 0.5, 0.3, 0.1])
    found = neighbors.component_weights(values, 4, shrink=True)
    # the column sqrt(lambda) v times the weight has the length (lambda^2 - lambda_m^2)^(1/4)
    length = (values[:4] ** 2 - 0.3**2) ** 0.25
    np.testing.assert_allclose(found[:4] * np.sqrt(values[:4]), length, atol=1e-12)
    assert found[3] == found[4] == 0
    assert neighbors.component_weights(values, 4, shrink=False).tolist() == [1, 1, 1, 1, 0]
    few = neighbors.component_weights(values, 3, shrink=True)  # too few to shrink
    assert few.tolist() == [1, 1, 1, 0, 0]
    assert neighbors.component_weights(values, 9, shrink=False).tolist() == [1] * 5


def test_components_that_follow_depth_are_those_at_the_bound_and_the_trivial_one():
    values = np.array([1.0, 0.5, 0.4, 0.3])
    r = np.array([0.2, 0.9, -0.95, 0.89])
    assert neighbors.follows_depth(values, r).tolist() == [True, True, True, False]
    assert neighbors.follows_depth(values * 0.9, r).tolist() == [False, True, True, False]
    assert neighbors.follows_depth(np.empty(0), np.empty(0)).tolist() == []


@pytest.mark.parametrize("shared", [False, True])
def test_connectivities_equal_the_dense_formula(bk, shared):
    points = np.random.default_rng(7).standard_normal((40, 3))
    lists, _ = oracles.knn(points, 6)
    found = bk.csr_to_host(neighbors.connectivities(bk, bk.asarray(lists.astype(np.int32)), shared=shared))
    closed = [{i, *row.tolist()} for i, row in enumerate(lists)]
    expected = np.zeros((40, 40))
    for i in range(40):
        for j in lists[i]:
            weight = len(closed[i] & closed[j]) / 7 if shared else 1
            expected[i, j] += weight
            expected[j, i] += weight
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.toarray(), expected, rtol=1e-6)
    np.testing.assert_array_equal(found.toarray(), found.toarray().T)
    assert found.diagonal().sum() == 0


def planted_doublets(n_cells=160, n_features=3000, n_doublets=12, seed=0):
    """Four types with their own features; the last cells are sums of two cells of different types that are not there."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n_cells) % 4
    rate = np.full((4, n_features), 0.02)
    for t in range(4):
        rate[t, t * 500 : (t + 1) * 500] = 0.12
    singles = rng.poisson(rate[kind])
    first = rng.integers(0, 4, n_doublets)
    second = (first + rng.integers(1, 4, n_doublets)) % 4
    return np.vstack([singles, rng.poisson(rate[first] + rate[second])]), np.arange(n_cells + n_doublets) >= n_cells


def test_projected_doublets_equal_the_dense_formula(bk):
    table, _ = planted_doublets(60, 400, 4)
    n, k = table.shape[0], 6
    pairs = np.array([[0, 1], [5, 2], [7, 30], [9, 9]])
    df = (table > 0).sum(0)
    weighted = table * np.log(n / np.clip(df, 1, n - 1))
    unit = weighted / np.linalg.norm(weighted, axis=1, keepdims=True)
    degree = unit @ unit.sum(0) - 1
    values, vectors = np.linalg.eigh((unit @ unit.T - np.eye(n)) / np.sqrt(np.outer(degree, degree)))
    values, vectors = values[::-1][:k], vectors[:, ::-1][:, :k]
    expected = []
    for i, j in pairs:
        y = weighted[i] + weighted[j]
        likeness = unit @ (y / np.linalg.norm(y))
        likeness[[i, j]] = 0  # parents are left out
        expected.append((likeness / np.sqrt(degree) @ vectors) / (values * np.sqrt(likeness.sum())))
    found = bk.to_host(doublets.embed_by_projection(bk, on(bk, table), pairs, n_comps=k, seed=0))
    # columns are scaled, and those that follow depth left out: each must be proportional to one of the formula's
    cells, projected = found[:n], found[n:]
    for c in range(found.shape[1]):
        cosines = np.abs(vectors.T @ cells[:, c]) / np.linalg.norm(cells[:, c])
        match = int(np.argmax(cosines))
        assert cosines[match] == pytest.approx(1, abs=1e-8)
        factor = cells[:, c] @ vectors[:, match]
        np.testing.assert_allclose(projected[:, c], factor * np.array(expected)[:, match], rtol=1e-6, atol=1e-9)


def test_projection_finds_planted_doublets_that_the_joint_embedding_misses(bk):
    from sklearn.metrics import roc_auc_score

    table, truth = planted_doublets()
    x = on(bk, table)
    area = {}
    for embed in (doublets.embed_by_projection, doublets.embed_jointly):
        pairs = doublets.draw_pairs(table.shape[0], 2.0, 0)
        points = embed(bk, x, pairs, n_comps=15, seed=0)
        score, _ = doublets.scores(bk, points, table.shape[0], expected_rate=0.1)
        area[embed.__name__] = roc_auc_score(truth, score)
    assert area["embed_by_projection"] > 0.95
    assert area["embed_by_projection"] > area["embed_jointly"] + 0.1  # measured: SnapATAC2's way finds fewer


def test_drawn_pairs_join_different_cells():
    pairs = doublets.draw_pairs(5, 200.0, 0)
    assert pairs.shape == (1000, 2)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert set(np.unique(pairs)) == set(range(5))
