"""Aggregates of nearest neighbours: against scikit-learn, by name and by number, at edges."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestNeighbors

import gpuatac as ga
from gpuatac.errors import InputError, MissingSlotError


@pytest.fixture
def adata():
    rng = np.random.default_rng(0)
    names = [f"cell{i}" for i in range(90)]
    return ad.AnnData(obs=pd.DataFrame(index=names), obsm={"X_pca": rng.normal(size=(90, 6))})


def test_members_are_the_cell_and_its_nearest_as_scikit_learn_finds_them(adata):
    chosen = [4, 80, 17]
    found = ga.tl.neighbor_aggregates(adata, chosen, n_neighbors=12, use_rep="X_pca")
    points = adata.obsm["X_pca"]
    want = NearestNeighbors(n_neighbors=12).fit(points).kneighbors(points[chosen], return_distance=False)
    assert list(found) == ["cell4", "cell80", "cell17"]
    np.testing.assert_array_equal(np.stack(list(found.values())), want)


def test_cells_are_named_by_names_numbers_or_a_mask(adata):
    mask = np.isin(np.arange(90), [3, 8])
    by = [[3, 8], ["cell3", "cell8"], mask, np.array([3, 8, 3], np.int32), adata.obs_names[[3, 8]]]
    found = [ga.tl.neighbor_aggregates(adata, cells, n_neighbors=5, use_rep="X_pca") for cells in by]
    for other in found[1:]:
        assert list(other) == ["cell3", "cell8"]
        np.testing.assert_array_equal(other["cell8"], found[0]["cell8"])


def test_the_spectral_embedding_is_weighted_as_knn_weighs_it(adata):
    adata.obsm["X_spectral"] = adata.obsm.pop("X_pca")
    adata.uns["spectral_eigenvalue"] = np.array([1.0, 0.6, 0.5, 0.3, 0.2, 0.1])
    adata.uns["spectral"] = {"depth_correlation": np.array([0.99, 0.1, 0.95, 0, 0, 0])}
    found = ga.tl.neighbor_aggregates(adata, [0, 1], n_neighbors=9)
    ga.pp.knn(adata, n_neighbors=8)
    for row, members in zip((0, 1), found.values(), strict=True):
        assert set(members[1:].tolist()) == set(adata.obsp["distances"][row].indices.tolist())
        assert members[0] == row


def test_random_aggregates_follow_the_seed_and_differ_within_one_draw(adata):
    one, same, other = (ga.tl.random_aggregates(adata, 30, n_neighbors=5, use_rep="X_pca", seed=s) for s in (1, 1, 2))
    assert list(one) == list(same)
    assert len(one) == 30
    assert set(one) != set(other)
    everything = ga.tl.random_aggregates(adata, n_neighbors=5, use_rep="X_pca")
    assert list(everything) == adata.obs_names.tolist()


@pytest.mark.parametrize(
    ("cells", "options", "told"),
    [
        (["cell1", "nobody"], {}, r"1 of 2 cells are not in obs_names \(nobody\)"),
        ([1, 90], {}, r"1 of 2 row numbers of cells lie outside \[0, 89\]"),
        ([], {}, "names no cell"),
        (np.ones(3, bool), {}, "mask of 3 for 90 cells"),
        ([0], {"n_neighbors": 91}, r"n_neighbors must be in \[2, 90\], got 91"),
        ([0], {"n_neighbors": 1}, r"n_neighbors must be in \[2, 90\], got 1"),
    ],
)
def test_what_cannot_be_done_is_told(adata, cells, options, told):
    with pytest.raises(InputError, match=told):
        ga.tl.neighbor_aggregates(adata, cells, **{"n_neighbors": 5, "use_rep": "X_pca", **options})


def test_an_absent_embedding_is_told(adata):
    with pytest.raises(MissingSlotError, match="X_spectral"):
        ga.tl.neighbor_aggregates(adata, [0])
