"""select_features, scrublet, knn and harmony on ready-made matrices: arguments, slots, kinds of matrix, errors."""

from __future__ import annotations

import anndata as ad
import numpy as np
import oracles
import pandas as pd
import pytest
import scipy.sparse as sp

import gpuatac as ga
from gpuatac.errors import InputError, MissingSlotError


def planted(seed=0, n=90, n_features=300, n_groups=3):
    rng = np.random.default_rng(seed)
    group = rng.integers(0, n_groups, n)
    own = rng.random((n_groups, n_features)) < 0.3
    rate = 0.3 * np.where(own, 3.0, 0.3)[group] * rng.uniform(0.6, 1.6, n)[:, None]
    return rng.poisson(rate), group


def with_int64(table):
    x = sp.csr_matrix(table.astype(np.float32))
    x.indices, x.indptr = x.indices.astype(np.int64), x.indptr.astype(np.int64)
    return x


def with_zeros(table):
    """Every fifth missing entry is stored as 0, and each row's columns are out of order."""
    rows, columns, data = [], [], []
    for i in range(table.shape[0]):
        for j in range(table.shape[1])[::-1]:
            if table[i, j] or (i + j) % 5 == 0:
                rows.append(i)
                columns.append(j)
                data.append(table[i, j])
    indptr = np.searchsorted(rows, np.arange(table.shape[0] + 1))
    return sp.csr_matrix((np.array(data, np.float32), np.array(columns), indptr), shape=table.shape)


KINDS = {
    "csr int32": lambda t: sp.csr_matrix(t.astype(np.int32)),
    "csr float32": lambda t: sp.csr_matrix(t.astype(np.float32)),
    "csc": lambda t: sp.csc_matrix(t.astype(np.float64)),
    "csr array": lambda t: sp.csr_array(t.astype(np.float32)),
    "dense": lambda t: t.astype(np.float32),
    "dense int": lambda t: t.astype(np.int64),
    "int64 indices": with_int64,
    "explicit zeros": with_zeros,
}


def make(table, kind="csr float32"):
    var = pd.DataFrame(
        {
            "chrom": pd.Categorical(["chr1"] * (table.shape[1] // 2) + ["2"] * (table.shape[1] - table.shape[1] // 2)),
            "start": np.arange(table.shape[1], dtype=np.int32) * 100,
            "end": np.arange(table.shape[1], dtype=np.int32) * 100 + 100,
        },
        index=[f"f{j}" for j in range(table.shape[1])],
    )
    obs = pd.DataFrame(index=[f"c{i}" for i in range(table.shape[0])])
    return ad.AnnData(KINDS[kind](table), obs=obs, var=var)


# ------------------------------------------------------------------------------------------- select_features


@pytest.mark.parametrize("kind", KINDS)
def test_selection_equals_the_oracle_for_every_kind_of_matrix(kind):
    table, _ = planted()
    table[:, [3, 7]] = 0
    adata = make(table, kind)
    ga.pp.select_features(adata, n_features=50, filter_lower_quantile=0.05, filter_upper_quantile=0.02)
    expected = oracles.select_features(table.sum(0), n_features=50, lower=0.05, upper=0.02)
    np.testing.assert_array_equal(adata.var["selected"], expected)
    np.testing.assert_array_equal(adata.var["count"], table.sum(0))
    assert adata.var["selected"].dtype == bool
    assert adata.var["count"].dtype == np.float64
    found = adata.X.toarray() if sp.issparse(adata.X) else adata.X
    np.testing.assert_array_equal(found, table)


def test_defaults_take_all_but_half_a_percent_at_either_end():
    table, _ = planted(n_features=1000)
    adata = make(table)
    ga.pp.select_features(adata)
    np.testing.assert_array_equal(adata.var["selected"], oracles.select_features(table.sum(0)))
    n = int((table.sum(0) > 0).sum())
    assert adata.var["selected"].sum() == n - 2 * int(0.005 * n)


def test_blacklisted_features_go_before_the_cut_and_n_means_n():
    # SnapATAC2 2.9.0 removes them after it: 20 chosen, fewer left; here 20 are left
    table, _ = planted()
    adata = make(table)
    options = {"n_features": 20, "filter_lower_quantile": 0.0, "filter_upper_quantile": 0.0}
    ga.pp.select_features(adata, **options)
    best = np.flatnonzero(adata.var["selected"])
    on = {"chr1" if j < 150 else "chr2": j for j in best}  # the chromosome is "2" in var and "chr2" here
    regions = [f"{c}:{100 * j + 99}-{100 * j + 100}" for c, j in on.items()]
    ga.pp.select_features(adata, blacklist=regions, **options)
    black = np.isin(np.arange(300), list(on.values()))
    assert adata.var["selected"].sum() == 20
    assert not adata.var["selected"][black].any()
    peers = np.zeros(300, bool)
    peers[best] = True
    assert (peers & ~black).sum() == 20 - len(on)
    expected = oracles.select_features(table.sum(0), n_features=20, lower=0, upper=0, blacklisted=black)
    np.testing.assert_array_equal(adata.var["selected"], expected)


def test_whitelisted_features_with_counts_are_selected_beside_the_others():
    table, _ = planted()
    table[:, 4] = 0
    adata = make(table)
    options = {"n_features": 20, "filter_lower_quantile": 0.0, "filter_upper_quantile": 0.0}
    ga.pp.select_features(adata, **options)
    without = adata.var["selected"].to_numpy(copy=True)
    regions = pd.DataFrame({"chrom": ["chr1"], "start": [250], "end": [601]})
    ga.pp.select_features(adata, whitelist=regions, **options)
    expected = without | np.isin(np.arange(300), [2, 3, 5, 6])  # feature 4 has no count
    np.testing.assert_array_equal(adata.var["selected"], expected)
    assert not without[[2, 3, 5, 6]].all()


def test_variability_prefers_features_that_differ_between_cells():
    rng = np.random.default_rng(1)
    group = np.repeat([0, 1], 60)
    flat = rng.poisson(1.5, (120, 40))  # as deep on average as the others, a little deeper
    variable = rng.poisson(np.where(group[:, None] == np.arange(40) % 2, 2.5, 0.1), (120, 40))
    adata = make(np.hstack([flat, variable]))
    options = {"n_features": 30, "filter_lower_quantile": 0.0, "filter_upper_quantile": 0.0}
    ga.pp.select_features(adata, method="count", **options)
    assert adata.var["selected"].to_numpy()[:40].sum() > 15
    ga.pp.select_features(adata, method="variability", **options)
    assert adata.var["selected"].to_numpy()[40:].sum() >= 25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_features": 0}, "n_features must be at least 1, got 0"),
        ({"method": "hvg"}, "method must be one of 'count', 'variability', got 'hvg'"),
        ({"filter_lower_quantile": -0.1}, r"filter_lower_quantile must be in \[0, 1\], got -0.1"),
        ({"filter_upper_quantile": 1.1}, r"filter_upper_quantile must be in \[0, 1\], got 1.1"),
        ({"filter_upper_quantile": 1.0}, r"no feature is left of 300 \(\d+ with counts, 300 eligible\)"),
        (
            {"blacklist": ["1:0-2147483647", "chr2:0-2147483647"]},
            r"no feature is left of 300 \(\d+ with counts, 0 eligible\); lower the quantiles or check blacklist",
        ),
    ],
)
def test_bad_selection_arguments_are_refused_and_write_nothing(options, message):
    adata = make(planted()[0])
    with pytest.raises(InputError, match=message):
        ga.pp.select_features(adata, **options)
    assert "selected" not in adata.var
    assert ga.pp.history(adata) == []


def test_regions_need_coordinates_and_counts_a_matrix():
    bare = ad.AnnData(np.ones((3, 3), np.float32))
    with pytest.raises(MissingSlotError, match=r"adata\.var has no chrom, start, end; features need coordinates"):
        ga.pp.select_features(bare, blacklist=["chr1:1-5"])
    with pytest.raises(MissingSlotError, match=r"adata\.X holds no matrix; call pp\.add_tile_matrix first"):
        ga.pp.select_features(ad.AnnData(obs=pd.DataFrame(index=["a"])))


@pytest.mark.parametrize("bad", [-1.0, np.nan])
def test_scaled_matrices_are_refused(bad):
    adata = make(planted()[0])
    adata.X.data[5] = bad
    with pytest.raises(InputError, match="X holds negative numbers or NaN; counts must be 0 or more"):
        ga.pp.select_features(adata)


# --------------------------------------------------------------------------------------------------- scrublet


@pytest.mark.parametrize("kind", ["csr float32", "csc", "dense", "explicit zeros"])
def test_scores_from_given_pairs_equal_the_oracle(kind):
    table, _ = planted(seed=2)
    # neither a pair twice nor a cell with itself: equal points would tie, and ties go by rounding
    every = np.array([(i, j) for i in range(90) for j in range(i)])
    pairs = every[np.random.default_rng(4).choice(len(every), 180, replace=False)]
    adata = make(table, kind)
    # 5 components: all of large positive eigenvalue, so that LM and LA choose the same
    ga.pp.scrublet(adata, features=None, sim_pairs=pairs, n_comps=5, expected_doublet_rate=0.06, simulation="joint")
    expected, simulated = oracles.scrublet(table, pairs, n_comps=5, expected_doublet_rate=0.06)
    np.testing.assert_allclose(adata.obs["doublet_score"], expected, atol=1e-12)
    (report,) = adata.uns["scrublet"]["samples"].values()
    np.testing.assert_allclose(report["sim_doublet_score"], simulated, atol=1e-12)


def test_doublet_slots_are_written_as_documented():
    table, _ = planted(seed=3)
    adata = make(table)
    ga.pp.select_features(adata)
    ga.pp.scrublet(adata, sim_doublet_ratio=1.5, expected_doublet_rate=0.07)
    assert adata.obs["doublet_score"].dtype == adata.obs["doublet_probability"].dtype == np.float64
    assert adata.obs["doublet_probability"].between(0, 1).all()
    report = adata.uns["scrublet"]["samples"]["all"]
    assert report["sim_doublet_score"].shape == (135,)
    assert report["expected_doublet_rate"] == 0.07
    assert report["detected_doublet_rate"] == (adata.obs["doublet_probability"] > 0.5).mean()


def test_planted_doublets_score_higher():
    table, group = planted(seed=4, n=200, n_features=800, n_groups=2)
    rng = np.random.default_rng(0)
    pairs = np.column_stack([
        rng.choice(np.flatnonzero(group == 0), 15), rng.choice(np.flatnonzero(group == 1), 15)
    ])  # fmt: skip
    both = np.vstack([table, table[pairs[:, 0]] + table[pairs[:, 1]]])
    adata = make(both)
    ga.pp.scrublet(adata, features=None, n_comps=5, expected_doublet_rate=0.07)
    score = adata.obs["doublet_score"].to_numpy()
    higher = (score[200:, None] > score[None, :200]).mean() + 0.5 * (score[200:, None] == score[:200]).mean()
    assert higher > 0.95  # area under the ROC curve


def test_scores_depend_on_the_seed_alone():
    scores = []
    for seed in (1, 1, 2):
        adata = make(planted(seed=5)[0])
        ga.pp.scrublet(adata, features=None, seed=seed)
        scores.append(adata.obs["doublet_score"].to_numpy())
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


def test_samples_are_scored_each_for_itself():
    a, b = planted(seed=6, n=40)[0], planted(seed=7, n=60)[0]
    adata = make(np.vstack([a, b]))
    adata.obs["sample"] = pd.Categorical(["a"] * 40 + ["b"] * 60)
    shuffled = adata[np.random.default_rng(0).permutation(100)].copy()
    ga.pp.scrublet(shuffled, features=None, seed=3)
    alone = shuffled[shuffled.obs["sample"] == "b"].copy()
    del alone.obs["sample"]
    ga.pp.scrublet(alone, features=None, seed=3)
    mine = (shuffled.obs["sample"] == "b").to_numpy()
    np.testing.assert_allclose(shuffled.obs["doublet_score"][mine], alone.obs["doublet_score"], atol=1e-9)
    assert list(shuffled.uns["scrublet"]["samples"]) == list(dict.fromkeys(shuffled.obs["sample"]))
    with pytest.raises(InputError, match="sim_pairs fits one sample, adata has 2"):
        ga.pp.scrublet(shuffled, features=None, sim_pairs=np.zeros((3, 2), int))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_comps": 0}, "n_comps must be at least 1, got 0"),
        ({"sim_doublet_ratio": 0}, r"sim_doublet_ratio must be in \[0.1, 100\], got 0"),
        ({"expected_doublet_rate": 1}, "expected_doublet_rate must be in"),
        ({"sim_pairs": np.array([[0, 90]])}, r"sim_pairs must have shape \(n, 2\) with numbers in \[0, 90\)"),
        ({"sim_pairs": np.zeros((0, 2))}, "sim_pairs must have shape"),
        ({"sim_pairs": np.zeros(4)}, r"got shape \(4,\)"),
        ({"features": "chosen"}, "adata.var has no 'chosen'; call pp.select_features first or pass features=None"),
        ({"features": np.ones(4, bool)}, r"features must be a bool mask of 300 columns, got bool of shape \(4,\)"),
        ({"features": np.zeros(300, bool)}, "no feature is selected"),
    ],
)
def test_bad_doublet_arguments_are_refused_and_write_nothing(options, message):
    adata = make(planted()[0])
    with pytest.raises((InputError, MissingSlotError), match=message):
        ga.pp.scrublet(adata, **{"features": None, **options})
    assert "doublet_score" not in adata.obs


def test_few_cells_have_no_doublet_score():
    with pytest.raises(InputError, match="has 9 cells; scrublet needs 10 or more"):
        ga.pp.scrublet(make(planted(n=9)[0]), features=None)


# -------------------------------------------------------------------------------------------------------- knn


def embedded(n=120, dims=8, seed=0):
    rng = np.random.default_rng(seed)
    adata = ad.AnnData(np.zeros((n, 1), np.float32), obs=pd.DataFrame(index=[f"c{i}" for i in range(n)]))
    adata.obsm["X_other"] = rng.standard_normal((n, dims)).astype(np.float32)
    return adata


def spectral_like(n=120, dims=8, seed=0):
    adata = embedded(n, dims, seed)
    values = np.linspace(0.9, 0.2, dims)
    adata.obsm["X_spectral"] = (adata.obsm["X_other"] * np.sqrt(values)).astype(np.float32)
    adata.uns["spectral_eigenvalue"] = values
    adata.uns["spectral"] = {"depth_correlation": np.full(dims, 0.1), "used": np.ones(dims, bool)}
    return adata


def lists_of(adata):
    d = adata.obsp["distances"]
    return d.indices.reshape(adata.n_obs, -1), d.data.reshape(adata.n_obs, -1)


@pytest.mark.parametrize("k", [1, 7, 119])
def test_distances_are_those_of_the_nearest_neighbours(k):
    adata = embedded()
    ga.pp.knn(adata, n_neighbors=k, use_rep="X_other")
    indices, distances = lists_of(adata)
    expected, far = oracles.knn(adata.obsm["X_other"], k)
    order = np.argsort(expected, axis=1)
    np.testing.assert_array_equal(indices, np.take_along_axis(expected, order, 1))
    np.testing.assert_allclose(distances, np.take_along_axis(far, order, 1), rtol=1e-5)
    for key in ("distances", "connectivities"):
        assert adata.obsp[key].format == "csr"
        assert adata.obsp[key].dtype == np.float32
        assert adata.obsp[key].shape == (120, 120)
    graph = adata.obsp["connectivities"]
    assert (graph != graph.T).nnz == 0


def test_neighbours_default_to_the_documented_number():
    adata = embedded(n=100)
    ga.pp.knn(adata, use_rep="X_other")
    assert adata.uns["neighbors"]["params"]["n_neighbors"] == 18
    assert lists_of(adata)[0].shape == (100, 18)


def test_duplicate_cells_keep_their_zero_distances():
    adata = embedded(n=20)
    adata.obsm["X_other"][:] = adata.obsm["X_other"][0]
    ga.pp.knn(adata, n_neighbors=4, use_rep="X_other")
    assert (np.diff(adata.obsp["distances"].indptr) == 4).all()
    assert (adata.obsp["distances"].data == 0).all()
    ga.tl.leiden(adata)


def test_edge_weights_are_shared_neighbours_or_counts():
    adata = embedded()
    ga.pp.knn(adata, n_neighbors=6, use_rep="X_other", weights="count")
    graph = adata.obsp["connectivities"]
    assert set(np.unique(graph.data)) == {1.0, 2.0}
    assert graph.sum() == 2 * 120 * 6
    ga.pp.knn(adata, n_neighbors=6, use_rep="X_other", weights="shared")
    lists, _ = oracles.knn(adata.obsm["X_other"], 6)
    closed = [{i, *row.tolist()} for i, row in enumerate(lists)]
    i, j = 0, int(lists[0][0])
    mutual = 1 + (0 in lists[j])
    assert adata.obsp["connectivities"][i, j] == pytest.approx(mutual * len(closed[i] & closed[j]) / 7)


def nearest(points, k):
    return np.sort(oracles.knn(points, k)[0], axis=1)


def test_components_can_be_chosen_by_number_or_by_list():
    adata = embedded()
    for dims, columns in ((3, [0, 1, 2]), ([1, 4], [1, 4]), (None, list(range(8)))):
        ga.pp.knn(adata, n_neighbors=5, use_rep="X_other", use_dims=dims)
        assert list(adata.uns["neighbors"]["components"]) == columns
        np.testing.assert_array_equal(lists_of(adata)[0], nearest(adata.obsm["X_other"][:, columns], 5))


def test_spectral_components_are_weighted_by_shrunk_eigenvalues():
    adata = spectral_like()
    ga.pp.knn(adata, n_neighbors=5, use_dims=6)
    values = adata.uns["spectral_eigenvalue"]
    weights = np.maximum(1 - (values[5] / values[:6]) ** 2, 0) ** 0.25
    expected = nearest(adata.obsm["X_spectral"][:, :6].astype(float) * weights, 5)
    np.testing.assert_array_equal(lists_of(adata)[0], expected)
    assert list(adata.uns["neighbors"]["components"]) == [0, 1, 2, 3, 4]  # the last weighs 0
    ga.pp.knn(adata, n_neighbors=5, shrink=False)
    np.testing.assert_array_equal(lists_of(adata)[0], nearest(adata.obsm["X_spectral"], 5))


def test_components_that_follow_depth_are_left_out_unless_put_back():
    adata = spectral_like()
    adata.uns["spectral"]["depth_correlation"][2] = -0.93
    ga.pp.knn(adata, n_neighbors=5, shrink=False)
    assert list(adata.uns["neighbors"]["components"]) == [0, 1, 3, 4, 5, 6, 7]
    kept = np.delete(adata.obsm["X_spectral"], 2, axis=1)
    np.testing.assert_array_equal(lists_of(adata)[0], nearest(kept, 5))
    ga.pp.knn(adata, n_neighbors=5, shrink=False, drop_depth=False)
    assert len(adata.uns["neighbors"]["components"]) == 8
    adata.uns["spectral"]["depth_correlation"][:] = 0.99
    ga.pp.knn(adata, n_neighbors=5)  # all of them: then nothing can be left out
    assert len(adata.uns["neighbors"]["components"]) > 0


def test_corrected_embedding_is_preferred_where_it_is():
    adata = spectral_like()
    adata.obsm["X_spectral_harmony"] = adata.obsm["X_other"][:, :2]
    ga.pp.knn(adata, n_neighbors=5)
    assert adata.uns["neighbors"]["params"]["use_rep"] == "X_spectral_harmony"
    np.testing.assert_array_equal(lists_of(adata)[0], nearest(adata.obsm["X_other"][:, :2], 5))
    ga.pp.knn(adata, n_neighbors=5, use_rep="X_spectral")
    assert adata.uns["neighbors"]["params"]["use_rep"] == "X_spectral"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_neighbors": 120}, r"n_neighbors must be in \[1, 119\], got 120"),
        ({"n_neighbors": 0}, r"n_neighbors must be in \[1, 119\], got 0"),
        ({"weights": "jaccard"}, "weights must be one of 'shared', 'count', got 'jaccard'"),
        ({"use_dims": 9}, r"use_dims must be in \[1, 8\], got 9"),
        ({"use_dims": [0, 8]}, r"use_dims must name columns from 0 to 7 of obsm\['X_other'\], got \[0, 8\]"),
        ({"use_dims": []}, "use_dims must name columns"),
        ({"use_rep": "X_pca"}, r"adata.obsm has no 'X_pca' \(it has 'X_other'\); call tl.spectral first"),
    ],
)
def test_bad_neighbour_arguments_are_refused(options, message):
    adata = embedded()
    with pytest.raises((InputError, MissingSlotError), match=message):
        ga.pp.knn(adata, **{"use_rep": "X_other", **options})
    assert "distances" not in adata.obsp


def test_one_cell_has_no_neighbours():
    with pytest.raises(InputError, match="knn needs 2 cells or more, got 1"):
        ga.pp.knn(embedded(n=1), use_rep="X_other")
    adata = embedded(n=2)
    ga.pp.knn(adata, use_rep="X_other")
    assert adata.obsp["distances"].indices.tolist() == [1, 0]


def test_eigenvalues_of_another_embedding_are_noticed():
    adata = spectral_like()
    adata.obsm["X_spectral"] = adata.obsm["X_spectral"][:, :5]
    with pytest.raises(InputError, match=r"has 5 columns and uns has 8 eigenvalues; call tl\.spectral again"):
        ga.pp.knn(adata)


# ---------------------------------------------------------------------------------------------------- harmony


def batches(adata, name):
    found = lists_of(adata)[0]
    labels = adata.obs[name].to_numpy()
    return (labels[found] != labels[:, None]).mean()


def test_harmony_mixes_a_planted_batch_effect_and_knn_takes_it():
    adata = spectral_like(n=240)
    group = np.repeat(np.arange(4), 60)
    adata.obs["sample"] = pd.Categorical(np.tile(["a", "b"], 120))
    adata.obs["donor"] = np.tile(["x", "y"], 120)
    centres = 6 * np.random.default_rng(1).standard_normal((4, 8))
    adata.obsm["X_spectral"] = (adata.obsm["X_spectral"] + centres[group]).astype(np.float32)
    adata.obsm["X_spectral"][1::2] += 2
    ga.pp.knn(adata, n_neighbors=15)
    before = batches(adata, "sample")
    ga.pp.harmony(adata)
    assert adata.obsm["X_spectral_harmony"].dtype == np.float32
    ga.pp.knn(adata, n_neighbors=15)
    assert adata.uns["neighbors"]["params"]["use_rep"] == "X_spectral_harmony"
    assert before < 0.1
    assert batches(adata, "sample") > 0.35
    assert (group[lists_of(adata)[0]] == group[:, None]).mean() > 0.95
    ga.pp.harmony(adata, batch="donor", key_added="X_mine", use_dims=4, shrink=False)
    assert adata.obsm["X_mine"].shape == (240, 4)


def test_harmony_is_fixed_by_its_seed():
    out = []
    for _ in range(2):
        adata = spectral_like(n=80)
        adata.obs["sample"] = np.tile(["a", "b"], 40)
        ga.pp.harmony(adata, seed=3, max_iter=3)
        out.append(adata.obsm["X_spectral_harmony"])
    np.testing.assert_array_equal(*out)


def test_harmony_needs_two_batches():
    adata = spectral_like()
    with pytest.raises(MissingSlotError, match=r"no 'sample'; call pp\.import_fragments with several files"):
        ga.pp.harmony(adata)
    adata.obs["sample"] = "only"
    with pytest.raises(InputError, match=r"obs\['sample'\] holds one batch, 'only'; harmony needs two or more"):
        ga.pp.harmony(adata)


def test_verbs_are_recorded_in_order_with_their_device():
    adata = make(planted()[0])
    ga.pp.select_features(adata, n_features=200)
    ga.pp.scrublet(adata, sim_pairs=oracles.simulated_pairs(90))
    ga.tl.spectral(adata, n_comps=6)
    ga.pp.knn(adata, n_neighbors=9)
    found = ga.pp.history(adata)
    assert [r["verb"] for r in found] == ["pp.select_features", "pp.scrublet", "tl.spectral", "pp.knn"]
    assert found[0]["parameters"]["n_features"] == 200
    assert found[1]["parameters"]["sim_pairs"] == "ndarray (180, 2)"
    assert found[3]["parameters"]["n_neighbors"] == 9
    assert {r["device"] for r in found} == {"cpu"}


# ------------------------------------------------------------------------------- state that must not go stale
def test_a_new_embedding_removes_the_batch_correction_of_the_old_one():
    table, _ = planted()
    adata = make(table)
    adata.obs["batch"] = np.where(np.arange(adata.n_obs) % 2, "a", "b")
    ga.tl.spectral(adata, features=None, n_comps=5)
    ga.pp.harmony(adata, batch="batch")
    ga.tl.spectral(adata, features=None, n_comps=6)
    assert "X_spectral_harmony" not in adata.obsm
    ga.pp.knn(adata)
    assert adata.uns["neighbors"]["params"]["use_rep"] == "X_spectral"


def test_cells_without_a_batch_are_refused_by_harmony():
    table, _ = planted()
    adata = make(table)
    adata.obs["batch"] = ["a", "b", None] + ["a"] * (adata.n_obs - 3)
    ga.tl.spectral(adata, features=None, n_comps=5)
    with pytest.raises(InputError, match=r"1 of \d+ cells have no obs\['batch'\]; give every cell a batch"):
        ga.pp.harmony(adata, batch="batch")


def test_an_embedding_of_another_name_keeps_eigenvalues_of_its_own():
    table, _ = planted()
    adata = make(table)
    ga.tl.spectral(adata, features=None, n_comps=6)
    before = adata.uns["spectral_eigenvalue"].copy()
    ga.tl.spectral(adata, features=np.arange(adata.n_vars) % 2 == 0, n_comps=6, key_added="X_half")
    np.testing.assert_array_equal(adata.uns["spectral_eigenvalue"], before)
    assert not np.allclose(adata.uns["spectral_eigenvalue:X_half"], before)
    ga.pp.knn(adata, use_rep="X_half")
    assert 0 not in adata.uns["neighbors"]["components"]  # the trivial first component is left out there, too


def test_verbs_work_on_a_view_and_leave_the_parent_alone():
    table, _ = planted()
    adata = make(table)
    view = adata[: adata.n_obs // 2]
    ga.pp.select_features(view, n_features=50)
    ga.tl.spectral(view, n_comps=4)
    assert view.obsm["X_spectral"].shape[0] == adata.n_obs // 2
    assert "selected" not in adata.var


@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_doublets_of_small_integers_do_not_wrap(dtype):
    table, _ = planted()
    table = table.astype(bool) if dtype is bool else table * 200 // max(table.max(), 1)
    small, wide = make(table.astype(dtype)), make(table.astype(np.float64))
    for adata in (small, wide):
        ga.pp.scrublet(adata, features=None, n_comps=5, simulation="joint")
    np.testing.assert_allclose(small.obs["doublet_score"], wide.obs["doublet_score"], atol=1e-12)


def test_removing_cells_keeps_raw():
    table, _ = planted()
    adata = make(table)
    adata.raw = adata.copy()
    adata.obs["doublet_probability"] = np.arange(adata.n_obs) / adata.n_obs
    ga.pp.filter_doublets(adata)
    assert adata.raw.shape[0] == adata.n_obs
    np.testing.assert_array_equal(adata.raw[:, :3].X.toarray(), adata.X[:, :3].toarray())
