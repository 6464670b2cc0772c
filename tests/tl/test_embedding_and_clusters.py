"""spectral, umap and leiden as verbs: slots, arguments, kinds of matrix, reproducibility, errors."""

from __future__ import annotations

import anndata as ad
import numpy as np
import oracles
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.metrics import adjusted_rand_score

import gpuatac as ga
from gpuatac.errors import InputError, MissingSlotError


def planted(seed=0, n=150, n_features=400, n_groups=3):
    rng = np.random.default_rng(seed)
    group = rng.integers(0, n_groups, n)
    own = rng.random((n_groups, n_features)) < 0.3
    rate = 0.3 * np.where(own, 3.0, 0.3)[group] * rng.uniform(0.6, 1.6, n)[:, None]
    return rng.poisson(rate), group


def make(table):
    obs = pd.DataFrame(index=[f"c{i}" for i in range(table.shape[0])])
    return ad.AnnData(sp.csr_matrix(table.astype(np.float32)), obs=obs)


def cosines(a, b):
    return np.abs((a * b).sum(0) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0))


@pytest.fixture(scope="module")
def walked():
    """Matrix to clusters, once."""
    table, group = planted()
    adata = make(table)
    ga.tl.spectral(adata, features=None, n_comps=10)
    ga.pp.knn(adata, n_neighbors=12)
    ga.tl.umap(adata, n_epochs=100)
    ga.tl.leiden(adata, resolution=0.5)
    return adata, group


# --------------------------------------------------------------------------------------------------- spectral


def test_embedding_is_eigenvectors_scaled_by_the_root_of_the_eigenvalue():
    table, _ = planted(1)
    adata = make(table)
    ga.tl.spectral(adata, features=None, n_comps=6)
    values, expected = oracles.spectral(table, 6)
    found = adata.obsm["X_spectral"]
    assert found.dtype == np.float32
    assert adata.uns["spectral_eigenvalue"].dtype == np.float64
    np.testing.assert_allclose(adata.uns["spectral_eigenvalue"], values, atol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), np.sqrt(values), rtol=1e-5)
    np.testing.assert_allclose(cosines(found, expected)[:3], 1, atol=1e-5)  # float32; three groups: 3 gaps


def test_depth_correlation_is_reported_and_says_what_is_used():
    table, _ = planted(2)
    adata = make(table)
    ga.tl.spectral(adata, features=None, n_comps=5)
    told = adata.uns["spectral"]
    vectors = adata.obsm["X_spectral"]
    expected = [np.corrcoef(vectors[:, i], np.log(table.sum(1)))[0, 1] for i in range(5)]
    np.testing.assert_allclose(told["depth_correlation"], expected, atol=1e-5)
    assert told["used"].dtype == bool
    assert not told["used"][0]  # the trivial component, of eigenvalue 1
    assert vectors.shape[1] == 5  # all stay in the slot


@pytest.mark.parametrize(
    "convert",
    [
        sp.csc_matrix,
        lambda x: x.toarray(),
        lambda x: x.astype(np.int64),
        lambda x: (x > 0).astype(np.float32),
    ],
    ids=["csc", "dense", "int64", "binary"],
)
def test_other_matrices_go_the_whole_way(convert):
    table, group = planted(3, n=80)
    binary = "float32" in str(convert(sp.csr_matrix(table)).dtype)
    adata = make(table)
    adata.X = convert(adata.X)
    ga.pp.select_features(adata, n_features=350)
    ga.tl.spectral(adata, n_comps=8)
    ga.pp.knn(adata, n_neighbors=10)
    ga.tl.leiden(adata, resolution=0.5)
    assert adjusted_rand_score(group, adata.obs["leiden"]) > 0.9
    if not binary:
        mask = adata.var["selected"].to_numpy()
        values, _ = oracles.spectral(table[:, mask], 8)
        np.testing.assert_allclose(adata.uns["spectral_eigenvalue"], values, atol=1e-9)


def test_features_are_chosen_by_column_array_or_all():
    table, _ = planted(4, n=60)
    adata = make(table)
    mask = np.arange(400) < 250
    adata.var["mine"] = mask
    for features, columns in (("mine", mask), (mask, mask), (None, np.ones(400, bool))):
        ga.tl.spectral(adata, features=features, n_comps=4)
        values, _ = oracles.spectral(table[:, columns], 4)
        np.testing.assert_allclose(adata.uns["spectral_eigenvalue"], values, atol=1e-10)
    with pytest.raises(MissingSlotError, match=r"adata\.var has no 'selected'; call pp.select_features first"):
        ga.tl.spectral(adata)


def test_more_components_than_cells_give_what_there_is():
    table, _ = planted(5, n=12)
    adata = make(table)
    ga.tl.spectral(adata, features=None, n_comps=30)
    values, _ = oracles.spectral(table, 11)
    assert adata.obsm["X_spectral"].shape == (12, len(values))
    assert (adata.uns["spectral_eigenvalue"] > 0).all()


def test_all_cells_as_sample_give_the_exact_embedding():
    table, _ = planted(6)
    exact, sampled = make(table), make(table)
    ga.tl.spectral(exact, features=None, n_comps=3)
    ga.tl.spectral(sampled, features=None, n_comps=3, sample_size=150, key_added="X_mine")
    np.testing.assert_allclose(
        sampled.uns["spectral_eigenvalue:X_mine"], exact.uns["spectral_eigenvalue"], atol=1e-10
    )
    np.testing.assert_allclose(cosines(sampled.obsm["X_mine"], exact.obsm["X_spectral"]), 1, atol=1e-5)
    assert "X_spectral" not in sampled.obsm


def test_sample_may_be_a_share_or_a_number_and_follows_the_seed():
    table, _ = planted(7)
    results = {}
    for name, options in {
        "share": {"sample_size": 0.5, "seed": 1},
        "number": {"sample_size": 75, "seed": 1},
        "more than there are": {"sample_size": 10_000, "seed": 1},
        "other seed": {"sample_size": 75, "seed": 2},
    }.items():
        adata = make(table)
        ga.tl.spectral(adata, features=None, n_comps=3, **options)
        results[name] = adata.uns["spectral_eigenvalue"]
    np.testing.assert_array_equal(results["share"], results["number"])
    assert not np.allclose(results["number"], results["other seed"], atol=1e-6)
    np.testing.assert_allclose(results["more than there are"], oracles.spectral(table, 3)[0], atol=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_comps": 0}, "n_comps must be at least 1, got 0"),
        ({"n_comps": 2.5}, "n_comps must be a whole number, got 2.5"),
        ({"sample_size": -3}, "sample_size must be at least 0, got -3"),
        ({"sample_size": 5, "n_comps": 10}, "sample_size in cells must be at least 11, got 5"),
        ({"features": np.ones(3, bool)}, "features must be a bool mask of 400 columns"),
    ],
)
def test_bad_spectral_arguments_are_refused(options, message):
    adata = make(planted(n=40)[0])
    with pytest.raises(InputError, match=message):
        ga.tl.spectral(adata, **{"features": None, **options})
    assert "X_spectral" not in adata.obsm
    assert ga.pp.history(adata) == []


def test_empty_cells_are_counted_in_the_error():
    table, _ = planted(n=40)
    table[[4, 9, 30]] = 0
    with pytest.raises(InputError, match="3 of 40 cells have no informative feature; filter them first"):
        ga.tl.spectral(make(table), features=None)


def test_one_cell_cannot_be_embedded():
    with pytest.raises(InputError, match="number of cells must be at least 2, got 1"):
        ga.tl.spectral(make(planted(n=1)[0]), features=None)


# ------------------------------------------------------------------------------------------------------- umap


def test_layout_is_float32_and_keeps_groups_together(walked):
    adata, group = walked
    layout = adata.obsm["X_umap"]
    assert layout.dtype == np.float32
    assert layout.shape == (150, 2)
    near, _ = oracles.knn(layout, 5)
    assert (group[near] == group[:, None]).mean() > 0.95


def test_layout_arguments_change_what_they_say(walked):
    adata = walked[0].copy()
    ga.tl.umap(adata, n_comps=3, n_epochs=11, seed=1, key_added="X_a")
    ga.tl.umap(adata, n_comps=3, n_epochs=11, seed=1, key_added="X_b")
    ga.tl.umap(adata, n_comps=3, n_epochs=11, seed=2, key_added="X_c")
    ga.tl.umap(adata, n_comps=3, n_epochs=11, seed=1, min_dist=0.9, spread=2.0, key_added="X_d")
    assert adata.obsm["X_a"].shape == (150, 3)
    np.testing.assert_array_equal(adata.obsm["X_a"], adata.obsm["X_b"])
    for other in ("X_c", "X_d"):
        assert not np.allclose(adata.obsm["X_a"], adata.obsm[other])
    assert ga.pp.history(adata)[-1]["parameters"]["min_dist"] == 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_dist": -0.1}, r"min_dist must be in \[0, 1\], got -0.1"),
        ({"min_dist": 3.0, "spread": 2.0}, r"min_dist must be in \[0, 2\], got 3.0"),
        ({"n_comps": 0}, r"n_comps must be in \[1, 148\], got 0"),
    ],
)
def test_bad_layout_arguments_are_refused(walked, options, message):
    adata = walked[0].copy()
    with pytest.raises(InputError, match=message):
        ga.tl.umap(adata, key_added="X_z", **options)
    assert "X_z" not in adata.obsm


def test_layout_needs_whole_neighbour_lists(walked):
    with pytest.raises(InputError, match=r"adata\.obsp has no 'distances'; call pp.knn first"):
        ga.tl.umap(make(planted(n=20)[0]))
    part = walked[0][:100].copy()
    with pytest.raises(InputError, match=r"neighbours \(cells were removed\); call pp\.knn again"):
        ga.tl.umap(part)


# ----------------------------------------------------------------------------------------------------- leiden


def test_clusters_recover_planted_groups_by_falling_size(walked):
    adata, group = walked
    labels = adata.obs["leiden"]
    assert adjusted_rand_score(group, labels) > 0.95
    assert isinstance(labels.dtype, pd.CategoricalDtype)
    assert list(labels.cat.categories) == [str(i) for i in range(len(labels.cat.categories))]
    sizes = labels.value_counts(sort=False).to_numpy()
    assert (np.diff(sizes) <= 0).all()
    told = adata.uns["leiden"]
    assert told["n_clusters"] == len(sizes)
    assert told["params"] == {"resolution": 0.5, "n_iterations": -1, "random_state": 0, "flavor": "auto"}


def test_modularity_is_that_of_the_weighted_graph(walked):
    adata, _ = walked
    a = adata.obsp["connectivities"].toarray().astype(float)
    labels = adata.obs["leiden"].to_numpy()
    degree, m2 = a.sum(1), a.sum()
    same = labels[:, None] == labels[None, :]
    expected = ((a - np.outer(degree, degree) / m2) * same).sum() / m2
    assert adata.uns["leiden"]["modularity"] == pytest.approx(expected, abs=1e-6)


def test_igraph_clusters_are_fixed_by_the_seed(walked):
    adata = walked[0].copy()
    found = []
    for seed in (4, 4, *range(10, 18)):
        ga.tl.leiden(adata, resolution=3.0, flavor="igraph", seed=seed, n_iterations=2, key_added="x")
        found.append(adata.obs["x"].astype(int).to_numpy())
    np.testing.assert_array_equal(found[0], found[1])
    assert any(not np.array_equal(found[0], other) for other in found[2:])


def test_higher_resolution_gives_more_clusters(walked):
    adata = walked[0].copy()
    numbers = []
    for resolution in (0.0, 0.5, 5.0):
        ga.tl.leiden(adata, resolution=resolution, key_added="x")
        numbers.append(adata.uns["x"]["n_clusters"])
    n_parts = sp.csgraph.connected_components(adata.obsp["connectivities"])[0]
    assert numbers[0] == n_parts  # resolution 0 cuts no edge
    assert numbers[0] <= numbers[1] < numbers[2]


def test_small_clusters_are_marked(walked):
    adata = walked[0].copy()
    ga.tl.leiden(adata, resolution=5.0, key_added="every")
    sizes = adata.obs["every"].value_counts()
    at = int(np.median(sizes)) + 1
    ga.tl.leiden(adata, resolution=5.0, min_cluster_size=at, key_added="large")
    small = adata.obs["every"].map(sizes).astype(int).to_numpy() < at
    assert (adata.obs["large"][small] == "-1").all()
    assert (adata.obs["large"][~small].astype(str) == adata.obs["every"][~small].astype(str)).all()
    assert adata.uns["large"]["n_clusters"] == int((sizes >= at).sum())
    assert adata.obs["large"].cat.categories[-1] == "-1"


def test_weights_of_edges_can_be_ignored():
    heavy = sp.csr_matrix(np.array([[0, 9, 1, 1], [9, 0, 1, 1], [1, 1, 0, 9], [1, 1, 9, 0]], np.float32))
    adata = ad.AnnData(np.zeros((4, 1), np.float32), obs=pd.DataFrame(index=list("abcd")))
    adata.obsp["connectivities"] = heavy
    ga.tl.leiden(adata)
    assert adata.obs["leiden"].tolist() == ["0", "0", "1", "1"]
    ga.tl.leiden(adata, use_weights=False)
    assert adata.obs["leiden"].nunique() == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": -1}, "resolution must be at least 0, got -1"),
        ({"resolution": float("nan")}, "resolution must be at least 0, got nan"),
        ({"flavor": "louvain"}, "flavor must be one of 'auto', 'igraph', 'cugraph', got 'louvain'"),
        ({"min_cluster_size": 0}, "min_cluster_size must be at least 1, got 0"),
        ({"flavor": "cugraph"}, "flavor='cugraph' needs the graph on a GPU; call gpuatac.to_device"),
    ],
)
def test_bad_cluster_arguments_are_refused(walked, options, message):
    adata = walked[0].copy()
    with pytest.raises(InputError, match=message):
        ga.tl.leiden(adata, key_added="y", **options)
    assert "y" not in adata.obs


def test_clusters_need_neighbours():
    with pytest.raises(MissingSlotError, match=r"adata\.obsp has no 'connectivities'; call pp.knn first"):
        ga.tl.leiden(make(planted(n=20)[0]))


# -------------------------------------------------------------------------------------------------- real matrices


@pytest.mark.parametrize(("name", "at_least"), [("leukemia_apec", 0.4), ("schep", 0.5)])
def test_peak_matrices_of_papers_cluster_by_cell_type(data_dir, name, at_least):
    adata = ga.io.read_h5ad(data_dir / "matrices" / f"{name}.h5ad")
    ga.pp.select_features(adata)
    ga.tl.spectral(adata)
    ga.pp.knn(adata)
    ga.tl.leiden(adata)
    assert adjusted_rand_score(adata.obs["cell_type"].astype(str), adata.obs["leiden"]) > at_least
