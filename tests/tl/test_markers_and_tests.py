"""aggregate, marker_regions and diff_test: by hand, against slow definitions, against SciPy and scikit-learn, at edges."""

from __future__ import annotations

import itertools
import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import chi2, mannwhitneyu, norm, zscore
from sklearn.linear_model import LogisticRegression

import gpuatac as ga
from gpuatac.core.differential import glm, ranks, two_groups
from gpuatac.core.differential.groups import features_by_cells, marker_pvalue
from gpuatac.core.differential.multitest import benjamini_hochberg
from gpuatac.errors import InputError, MissingSlotError

COLUMNS = ["feature name", "log2(fold_change)", "p-value", "adjusted p-value"]


def planted(seed=0, n=120, n_features=60, n_groups=3):
    """Cells of groups "B", "T", "M" in turns, each with its own fifth of the features, of uneven depth."""
    rng = np.random.default_rng(seed)
    group = np.arange(n) % n_groups
    own = np.arange(n_features)[None, :] % 5 == np.arange(n_groups)[:, None]
    rate = np.where(own, 1.2, 0.25)[group] * rng.uniform(0.3, 2.0, n)[:, None]
    rate[:, -1] = 0
    start = np.arange(n_features) * 1000
    end = start + 200 + 50 * (np.arange(n_features) % 3)
    obs = pd.DataFrame({"type": np.array(["T", "B", "M"])[group]}, index=[f"c{i}" for i in range(n)])
    obs["quality"] = rng.standard_normal(n)
    obs["batch"] = pd.Categorical(rng.choice(["x", "y", "z"], n))
    var = pd.DataFrame(index=[f"chr1:{a}-{b}" for a, b in zip(start, end, strict=True)])
    return ad.AnnData(sp.csr_matrix(rng.poisson(rate).astype(np.float32)), obs=obs, var=var)


@pytest.fixture
def adata():
    return planted()


def sums(adata, labels):
    x = adata.X.toarray().astype(float)
    return np.array([x[adata.obs["type"] == label].sum(axis=0) for label in labels])


# ---------------------------------------------------------------------------------------------------- aggregate


def test_groups_come_in_order_of_appearance_with_their_sums(adata):
    found = ga.tl.aggregate(adata, "type")
    assert found.obs_names.tolist() == ["T", "B", "M"]
    assert found.obs["n_cells"].tolist() == [40, 40, 40]
    assert found.X.dtype == np.float64
    np.testing.assert_array_equal(found.X, sums(adata, "TBM"))
    assert found.var_names.tolist() == adata.var_names.tolist()
    assert [record["verb"] for record in ga.pp.history(found)] == ["tl.aggregate"]


def test_rates_are_per_million_of_the_group_and_per_kb(adata):
    counts = sums(adata, "TBM")
    million = counts / counts.sum(axis=1, keepdims=True) * 1e6
    np.testing.assert_allclose(ga.tl.aggregate(adata, "type", normalize="RPM").X, million, rtol=1e-14)
    kb = np.array([200, 250, 300])[np.arange(adata.n_vars) % 3] / 1000
    np.testing.assert_allclose(ga.tl.aggregate(adata, "type", normalize="RPKM").X, million / kb, rtol=1e-14)


def test_labels_may_be_given_and_cells_without_one_are_left_out(adata):
    labels = [None, 7] + [3] * (adata.n_obs - 2)
    found = ga.tl.aggregate(adata, labels)
    assert found.obs_names.tolist() == ["7", "3"]
    np.testing.assert_array_equal(found.X, [adata.X[1].toarray()[0], adata.X[2:].toarray().sum(axis=0)])


def test_group_without_counts_stays_zero():
    adata = ad.AnnData(
        sp.csr_matrix([[0, 0], [1, 3]], dtype=np.float32), obs=pd.DataFrame({"g": ["a", "b"]}, index=["0", "1"])
    )
    np.testing.assert_array_equal(ga.tl.aggregate(adata, "g", normalize="RPM").X, [[0, 0], [250_000, 750_000]])


def test_matrix_on_disk_gives_the_same_sums(adata, tmp_path):
    ga.io.write_h5ad(adata, tmp_path / "a.h5ad")
    stored = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    np.testing.assert_array_equal(ga.tl.aggregate(stored, "type").X, sums(adata, "TBM"))


def test_errors_of_aggregate(adata):
    with pytest.raises(MissingSlotError, match="no 'nonsense'"):
        ga.tl.aggregate(adata, "nonsense")
    with pytest.raises(InputError, match="a label for each of 120 cells, got 2"):
        ga.tl.aggregate(adata, ["a", "b"])
    with pytest.raises(InputError, match="no cell a group"):
        ga.tl.aggregate(adata, [None] * adata.n_obs)
    adata.var_names = [f"f{i}" for i in range(adata.n_vars)]
    with pytest.raises(InputError, match="features have no length"):
        ga.tl.aggregate(adata, "type", normalize="RPKM")


# ----------------------------------------------------------------------------------------------- marker_regions


@pytest.mark.parametrize("pvalue", [0.01, 0.15, 0.5])
def test_markers_are_where_the_zscore_among_groups_is_high(adata, pvalue):
    rpkm = ga.tl.aggregate(adata, "type", normalize="RPKM").X
    table = zscore(np.log2(1 + rpkm[:, :-1]), axis=0)
    expected = {}
    for name, z in zip("TBM", table, strict=True):
        names = adata.var_names[:-1][norm.sf(z) < pvalue].tolist()
        expected |= {name: names} if names else {}
    found = ga.tl.marker_regions(adata, "type", pvalue=pvalue)
    assert {name: index.tolist() for name, index in found.items()} == expected


def test_constant_feature_marks_no_group(adata):
    """The last feature has no count: its z-scores are 0 / 0."""
    found = ga.tl.marker_regions(adata, "type", pvalue=1.0)
    assert all(adata.var_names[-1] not in index for index in found.values())
    assert ga.tl.marker_regions(adata[:, -1:].copy(), "type", pvalue=1.0) == {}


@pytest.mark.parametrize("k", [3, 4, 5, 6, 7, 12])
def test_unset_bound_finds_what_is_open_in_one_group_alone_of_any_number_of_groups(k):
    """Feature i is open in group i alone; the last one in all of them."""
    x = np.vstack([np.diag(np.full(k, 50.0)), np.diag(np.full(k, 50.0))])
    adata = ad.AnnData(np.hstack([x, np.full((2 * k, 1), 50.0)]).astype(np.float32))
    adata.var_names = [f"chr1:{1000 * i}-{1000 * i + 500}" for i in range(k + 1)]
    adata.obs["type"] = [f"g{i % k}" for i in range(2 * k)]
    found = ga.tl.marker_regions(adata, "type")
    assert {name: list(index) for name, index in found.items()} == {f"g{i}": [adata.var_names[i]] for i in range(k)}


def test_unset_bound_is_one_that_a_zscore_can_reach():
    for k in range(3, 30):
        p = marker_pvalue(None, k)
        assert p >= 0.01
        assert norm.isf(p) < np.sqrt(k - 1)
        if k <= 6:
            assert p == pytest.approx(norm.sf(0.95 * np.sqrt(k - 1)), rel=1e-12)  # as README's fixed rules say
        else:
            assert p == 0.01
    assert marker_pvalue(0.001, 3) == 0.001


def test_bounds_that_nothing_can_reach_warn_with_what_to_do(adata, caplog):
    caplog.set_level(logging.WARNING)
    assert ga.tl.marker_regions(adata, "type", pvalue=0.01) == {}
    assert "no feature can have p < 0.01 among 3 groups, where the lowest is 0.0786; pass a larger pvalue=" in caplog.text
    caplog.clear()
    assert ga.tl.marker_regions(adata, np.where(adata.obs["type"] == "T", "T", "other")) == {}
    assert "no feature stands out among 2 groups; pass pvalue=, or compare them by tl.diff_test" in caplog.text
    caplog.clear()
    assert ga.tl.marker_regions(adata, "type")
    assert caplog.text == ""


# ------------------------------------------------------------------------------------------------ the statistics


def test_benjamini_hochberg_by_hand():
    np.testing.assert_allclose(benjamini_hochberg(np.array([0.01, 0.04, 0.03, 0.5])), [0.04, 0.16 / 3, 0.16 / 3, 0.5])
    np.testing.assert_array_equal(benjamini_hochberg(np.array([0.9, 1.0])), [1.0, 1.0])
    assert benjamini_hochberg(np.empty(0)).shape == (0,)


@pytest.mark.parametrize("seed", range(3))
def test_benjamini_hochberg_is_the_least_level_at_which_each_is_rejected(seed):
    rng = np.random.default_rng(seed)
    p = np.round(rng.random(30) ** 3, 3)
    adjusted = benjamini_hochberg(p)
    ranked = np.sort(p)
    for i, own in enumerate(p):
        least = min(ranked[j] * p.size / (j + 1) for j in range(p.size) if ranked[j] >= own)
        assert adjusted[i] == pytest.approx(min(1, least), rel=1e-12)


def rank_sum(table, second, bk):
    x = sp.csr_matrix(table)
    found = features_by_cells(bk, bk.csr_from_host(x), np.arange(x.shape[0]), np.arange(x.shape[1]))
    return ranks.rank_sum_pvalues(bk, found._replace(data=found.data.astype(np.float64)), second)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_rank_sum_equals_scipy(bk, seed, levels):
    rng = np.random.default_rng(seed)
    table = np.where(rng.random((90, 25)) < rng.random(25), rng.integers(1, levels + 1, (90, 25)), 0) / 7.0
    second = rng.random(90) < 0.3
    table[second, :5] *= 3
    table[:, 7] = 0
    table[:, 8] = 2.5
    found = rank_sum(table, second, bk)
    kwargs = {"alternative": "two-sided", "method": "asymptotic", "use_continuity": False}
    expected = [
        1.0 if np.ptp(column) == 0 else mannwhitneyu(column[~second], column[second], **kwargs).pvalue
        for column in table.T
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found[7] == found[8] == 1.0


def test_rank_sum_of_far_groups_does_not_underflow(bk):
    k = 880
    p = rank_sum(np.arange(2.0 * k)[:, None], np.arange(2 * k) >= k, bk)[0]
    z = k * k / 2 / np.sqrt(k * k * (2 * k + 1) / 12)
    assert np.log10(p) == pytest.approx((norm.logsf(z) + np.log(2)) / np.log(10), rel=1e-9)
    assert 0 < p < 1e-285


def sklearn_pvalue(y, null, full):
    """With scikit-learn's Newton solver, unpenalised, run to the end."""

    def value(x):
        model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12, max_iter=10_000).fit(x, y)
        eta = x @ model.coef_[0] + model.intercept_[0]
        return y @ eta - np.logaddexp(0, eta).sum()

    return chi2.sf(2 * (value(full) - value(null)), 1)


def detected(table, bk):
    x = bk.csr_from_host(sp.csr_matrix(table.astype(np.float32)))
    return features_by_cells(bk, x, np.arange(table.shape[0]), np.arange(table.shape[1]))


@pytest.mark.parametrize("seed", range(2))
def test_likelihood_ratio_equals_scikit_learn(bk, seed):
    rng = np.random.default_rng(seed)
    n = 150
    covariates = np.column_stack([rng.normal(8, 0.5, n), rng.standard_normal(n)])
    second = rng.random(n) < 0.4
    logit = (covariates[:, :1] - 8) + rng.normal(0, 1, 15) * second[:, None] - 0.4
    table = rng.random((n, 15)) < 1 / (1 + np.exp(-logit))
    found = glm.likelihood_ratio_pvalues(bk, detected(table, bk), covariates, second)
    centred = (covariates - covariates.mean(axis=0)) / covariates.std(axis=0)
    full = np.column_stack([centred, second])
    expected = [sklearn_pvalue(y, centred, full) for y in table.T]
    np.testing.assert_allclose(np.log10(found), np.log10(expected), atol=1e-6)


def test_separated_group_has_the_likelihood_of_its_limit(bk):
    """Without covariates the models are shares: 40 of 40 against 0 of 60, 10 of 40 against 0 of 60."""
    table = np.zeros((100, 2))
    table[:40, 0] = table[:10, 1] = 1
    found = glm.likelihood_ratio_pvalues(bk, detected(table, bk), np.zeros((100, 1)), np.arange(100) >= 40)
    null = [40 * np.log(0.4) + 60 * np.log(0.6), 10 * np.log(0.1) + 90 * np.log(0.9)]
    full = [0.0, 10 * np.log(0.25) + 30 * np.log(0.75)]
    np.testing.assert_allclose(found, chi2.sf(2 * (np.array(full) - null), 1), rtol=1e-6)


def test_pvalues_reach_far_below_what_floats_of_one_exponent_hold(bk):
    n = 1000
    table = (np.arange(n) < n // 2)[:, None].astype(float)
    p = glm.likelihood_ratio_pvalues(bk, detected(table, bk), np.zeros((n, 1)), np.arange(n) >= n // 2)[0]
    assert np.log10(p) == pytest.approx(np.log10(chi2.sf(2 * n * np.log(2), 1)), abs=1e-6)
    assert 0 < p < 1e-290


def test_group_that_the_covariates_tell_already_gains_nothing(bk):
    second = np.arange(30) >= 12
    table = np.random.default_rng(0).random((30, 4)) < 0.5
    covariates = np.column_stack([np.linspace(0, 1, 30), 3.0 - 2 * second])
    np.testing.assert_array_equal(glm.likelihood_ratio_pvalues(bk, detected(table, bk), covariates, second), 1.0)


def test_equal_cells_as_one_row_with_trials_give_the_same(bk):
    """Depths of few levels are put together; a tiny jitter keeps every cell its own row."""
    rng = np.random.default_rng(3)
    depth = rng.integers(1, 4, 200).astype(float)[:, None]
    second = rng.random(200) < 0.5
    given = detected(rng.random((200, 10)) < 0.2 + 0.2 * second[:, None], bk)
    together = glm.likelihood_ratio_pvalues(bk, given, depth, second)
    apart = glm.likelihood_ratio_pvalues(bk, given, depth + rng.normal(0, 1e-9, depth.shape), second)
    np.testing.assert_allclose(together, apart, rtol=1e-5)


def test_categorical_covariates_become_indicators_of_all_levels_but_the_first():
    np.testing.assert_array_equal(glm.design_columns(["b", "a", "c", "b"]), [[1, 0], [0, 0], [0, 1], [1, 0]])
    np.testing.assert_array_equal(glm.design_columns([1, 2.5]), [[1], [2.5]])


# ---------------------------------------------------------------------------------------------------- diff_test


def by_definition(
    adata, first, second, *, direction="both", min_log_fc=0.25, min_pct=0.05, features=None, covariates=()
):
    """{feature: (log2 fold change, p)} one feature at a time."""
    x = adata.X.toarray().astype(float)
    a, b = x[first], x[second]
    rpm = [(side.sum(axis=0) + 1) / (side.sum(axis=0) + 1).sum() for side in (a, b)]
    fold = np.log2(rpm[0] / rpm[1])
    both = np.vstack([a, b])
    depth = np.log1p(both.sum(axis=1))
    null = np.column_stack([(depth - depth.mean()) / depth.std(), *(c[[*first, *second]] for c in covariates)])
    full = np.column_stack([null, np.repeat([0.0, 1.0], [len(first), len(second)])])
    out = {}
    for i in range(adata.n_vars) if features is None else features:
        size = {"both": abs(fold[i]), "positive": fold[i], "negative": -fold[i]}[direction]
        if max((a[:, i] > 0).mean(), (b[:, i] > 0).mean()) >= min_pct and size >= min_log_fc:
            out[adata.var_names[i]] = (fold[i], sklearn_pvalue((both[:, i] > 0).astype(float), null, full))
    return out


def check_against(found, expected):
    assert set(found["feature name"]) == set(expected)
    fold, p = np.array([expected[name] for name in found["feature name"]]).T
    np.testing.assert_allclose(found["log2(fold_change)"], fold, rtol=1e-12)
    np.testing.assert_allclose(np.log10(found["p-value"]), np.log10(p), atol=1e-5)
    np.testing.assert_allclose(found["adjusted p-value"], benjamini_hochberg(p), rtol=1e-4)
    assert (np.diff(found["adjusted p-value"]) >= 0).all()


@pytest.mark.parametrize("direction", ["both", "positive", "negative"])
def test_features_and_pvalues_are_as_defined(adata, direction):
    first, second = (np.flatnonzero(adata.obs["type"] == t) for t in "TB")
    options = {"direction": direction, "min_log_fc": 0.4, "min_pct": 0.3}
    found = ga.tl.diff_test(adata, first, cell_group2=second, **options)
    assert found.columns.tolist() == COLUMNS
    check_against(found, by_definition(adata, first, second, **options))
    sign = {"both": {-1.0, 1.0}, "positive": {1.0}, "negative": {-1.0}}[direction]
    assert set(np.sign(found["log2(fold_change)"])) == sign


def test_covariates_join_the_depth(adata):
    first, second = np.arange(50), np.arange(50, 120)
    found = ga.tl.diff_test(adata, first, cell_group2=second, covariates=["quality", "batch"], min_log_fc=0)
    batch = adata.obs["batch"].to_numpy()
    columns = [adata.obs["quality"].to_numpy(), (batch == "y").astype(float), (batch == "z").astype(float)]
    check_against(found, by_definition(adata, first, second, min_log_fc=0, covariates=columns))


def test_cells_and_features_may_be_names_indices_or_masks(adata):
    mask = (adata.obs["type"] == "T").to_numpy()
    at = np.flatnonzero(mask)
    picked = [40, 3, 11]
    expected = ga.tl.diff_test(adata, at, features=picked, min_log_fc=0, min_pct=0)
    assert set(expected["feature name"]) == set(adata.var_names[picked])
    of_features = np.isin(np.arange(adata.n_vars), picked)
    for cells, features in ((mask, of_features), (adata.obs_names[at], adata.var_names[picked]), (list(at), picked)):
        found = ga.tl.diff_test(adata, cells, features=features, min_log_fc=0, min_pct=0)
        pd.testing.assert_frame_equal(found, expected)


def test_without_a_second_group_it_is_all_other_cells(adata):
    first = np.arange(30)
    pd.testing.assert_frame_equal(
        ga.tl.diff_test(adata, first), ga.tl.diff_test(adata, first, cell_group2=np.arange(30, adata.n_obs))
    )


@pytest.mark.parametrize("method", ["lrt", "wilcoxon"])
def test_every_group_against_the_rest_and_every_pair(adata, method):
    at = {t: np.flatnonzero(adata.obs["type"] == t) for t in "TBM"}
    rest = ga.tl.diff_test(adata, groupby="type", method=method)
    assert rest.columns.tolist() == ["group1", "group2", *COLUMNS]
    assert list(dict.fromkeys(rest["group1"])) == ["T", "B", "M"]
    for t in "TBM":
        part = rest[rest["group1"] == t].reset_index(drop=True)
        assert set(part["group2"]) == {"rest"}
        pd.testing.assert_frame_equal(part[COLUMNS], ga.tl.diff_test(adata, at[t], method=method))
    pairs = ga.tl.diff_test(adata, groupby="type", comparison="pairwise", method=method)
    for a, b in itertools.combinations("TBM", 2):
        part = pairs[(pairs["group1"] == a) & (pairs["group2"] == b)].reset_index(drop=True)
        expected = ga.tl.diff_test(adata, at[a], cell_group2=at[b], method=method)
        pd.testing.assert_frame_equal(part[COLUMNS], expected)


def test_wilcoxon_is_on_shares_of_the_cell(adata):
    first, second = np.arange(40), np.arange(40, 100)
    found = ga.tl.diff_test(adata, first, cell_group2=second, method="wilcoxon", min_log_fc=0)
    x = adata.X.toarray().astype(float)
    share = pd.DataFrame(x / x.sum(axis=1, keepdims=True), columns=adata.var_names)
    for name, p in zip(found["feature name"], found["p-value"], strict=True):
        test = mannwhitneyu(share.loc[first, name], share.loc[second, name], method="asymptotic", use_continuity=False)
        assert p == pytest.approx(test.pvalue, rel=1e-9)


def test_planted_features_are_found(adata):
    found = ga.tl.diff_test(adata, groupby="type", direction="positive")
    for i, t in enumerate("TBM"):
        best = found[(found["group1"] == t) & (found["adjusted p-value"] < 0.01)]["feature name"]
        truth = set(adata.var_names[np.arange(adata.n_vars) % 5 == i])
        assert len(set(best) & truth) >= 8
        assert set(best) <= truth


def test_matrix_of_another_kind_gives_the_same(adata, tmp_path):
    expected = ga.tl.diff_test(adata, np.arange(50))
    for convert in (sp.csc_matrix, lambda x: x.toarray(), lambda x: x.astype(np.int64)):
        other = adata.copy()
        other.X = convert(other.X)
        pd.testing.assert_frame_equal(ga.tl.diff_test(other, np.arange(50)), expected)
    ga.io.write_h5ad(adata, tmp_path / "a.h5ad")
    stored = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    pd.testing.assert_frame_equal(ga.tl.diff_test(stored, np.arange(50)), expected)


@pytest.mark.parametrize("method", ["lrt", "wilcoxon"])
@pytest.mark.parametrize("at_once", [1, 100])
def test_features_in_blocks_give_the_same(bk, adata, method, at_once):
    x = bk.csr_from_host(adata.X)
    features, cells = np.array([7, 3, 30, 3, 12]), np.arange(10, 90)
    given = {
        "method": method,
        "totals": bk.linalg.row_sums(x)[10:90],
        "covariates": np.empty((80, 0)),
        "weight": np.full(adata.n_vars, 40),
    }
    whole = two_groups.compare(bk, x, features, cells, cells > 40, **given)
    parts = two_groups.compare(bk, x, features, cells, cells > 40, **given, at_once=at_once)
    np.testing.assert_allclose(parts, whole, rtol=1e-9)
    assert whole[1] == whole[3]


def test_nothing_left_to_test_is_an_empty_frame_and_a_warning(adata, caplog):
    with caplog.at_level(logging.WARNING):
        found = ga.tl.diff_test(adata, np.arange(50), min_log_fc=99)
    assert found.columns.tolist() == COLUMNS
    assert len(found) == 0
    assert "no feature is left" in caplog.text


def test_adata_is_left_as_it_is(adata):
    before = adata.copy()
    ga.tl.diff_test(adata, groupby="type")
    assert list(adata.uns) == list(before.uns)
    assert (adata.X != before.X).nnz == 0
    pd.testing.assert_frame_equal(adata.obs, before.obs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either cell_group1"),
        ({"cell_group1": [1], "groupby": "type"}, "either cell_group1"),
        ({"cell_group2": [1], "groupby": "type"}, "either cell_group1"),
        ({"cell_group1": [1, 2], "cell_group2": [2, 3]}, "1 cells are in both groups"),
        ({"cell_group1": []}, "cell_group1 has no cell"),
        ({"cell_group1": range(120)}, "cell_group2 has no cell"),
        ({"cell_group1": ["c1", "nobody"]}, r"1 of 2 names of cell_group1 are not in adata \(nobody\)"),
        ({"cell_group1": [1, 120]}, r"indices of cell_group1 are not in \[0, 120\)"),
        ({"cell_group1": [True, False]}, "a mask must have 120 values, got 2"),
        ({"cell_group1": [1], "features": ["x"]}, "names of features"),
        ({"cell_group1": [1], "method": "t"}, "method must be one of"),
        ({"cell_group1": [1], "direction": "up"}, "direction must be one of"),
        ({"groupby": "type", "comparison": "all"}, "comparison must be one of"),
        ({"groupby": ["a"] * 120}, "one group 'a'"),
        ({"cell_group1": [1], "covariates": ["nonsense"]}, "no 'nonsense'"),
        ({"cell_group1": [1], "covariates": ["batch"], "method": "wilcoxon"}, "covariates belong to method 'lrt'"),
    ],
)
def test_bad_arguments_of_diff_test_are_named(adata, options, message):
    with pytest.raises((InputError, MissingSlotError), match=message):
        ga.tl.diff_test(adata, **options)


def test_missing_covariate_matters_in_compared_cells_alone(adata):
    adata.obs.loc["c5", "quality"] = np.nan
    found = ga.tl.diff_test(adata, np.arange(6, 40), cell_group2=np.arange(40, 90), covariates=["quality"])
    assert found["p-value"].notna().all()
    with pytest.raises(InputError, match="1 of 120 cells have no 'quality'"):
        ga.tl.diff_test(adata, np.arange(40), covariates=["quality"])


def test_negative_counts_are_refused():
    adata = ad.AnnData(np.array([[1.0, -1.0], [0.0, 2.0]], np.float32))
    with pytest.raises(InputError, match="negative"):
        ga.tl.diff_test(adata, [0])


def test_device_matrix_agrees_with_the_host(bk, adata):
    if bk.name == "gpu":
        ga.to_device(adata)
    for method in ("lrt", "wilcoxon"):
        ours = ga.tl.diff_test(adata, np.arange(50), method=method)
        expected = ga.tl.diff_test(planted(), np.arange(50), method=method)
        assert ours["feature name"].tolist() == expected["feature name"].tolist()
        np.testing.assert_allclose(np.log10(ours["p-value"]), np.log10(expected["p-value"]), atol=1e-6)
