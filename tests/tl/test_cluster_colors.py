"""Colours of clusters, in scanpy's convention: uns[column + "_colors"], one hex colour for each category in their order."""

from __future__ import annotations

import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from matplotlib.colors import to_hex

import gpuatac as ga

N_CLUSTERS, SIZE = 5, 8


@pytest.fixture
def cells():
    """Five cliques of eight cells, the k-th of which gets cluster k at any resolution."""
    graph = np.kron(np.eye(N_CLUSTERS), np.ones((SIZE, SIZE))) - np.eye(N_CLUSTERS * SIZE)
    n = len(graph)
    obs = pd.DataFrame({"n_fragment": np.arange(n) + 1000}, index=[f"c{i}" for i in range(n)])
    adata = ad.AnnData(np.ones((n, 1), np.float32), obs=obs)
    adata.obsp["connectivities"] = sp.csr_matrix(graph.astype(np.float32))
    angle = np.repeat(np.arange(N_CLUSTERS), SIZE) * 2 * np.pi / N_CLUSTERS
    adata.obsm["X_umap"] = 9 * np.c_[np.cos(angle), np.sin(angle)] + np.random.default_rng(0).normal(0, 0.3, (n, 2))
    return adata


def drawn(adata, column="leiden"):
    """{category: colour} as the figure shows them, cell by cell."""
    points = ga.pl.umap(adata, column).axes[0].collections[0]
    at = {tuple(np.round(xy, 6)): to_hex(c) for xy, c in zip(points.get_offsets(), points.get_facecolors(), strict=True)}
    found = {}
    for name, xy in zip(adata.obs[column], adata.obsm["X_umap"], strict=True):
        found.setdefault(name, set()).add(at[tuple(np.round(xy, 6))])
    assert all(len(colors) == 1 for colors in found.values())
    return {name: colors.pop() for name, colors in found.items()}


def stored(adata, column="leiden"):
    colors = [str(c).lower() for c in adata.uns[f"{column}_colors"]]
    return dict(zip(adata.obs[column].cat.categories, colors, strict=True))


def test_leiden_stores_one_hex_colour_for_each_cluster_and_figures_draw_them(cells):
    ga.tl.leiden(cells)
    colors = cells.uns["leiden_colors"]
    assert isinstance(colors, list)
    assert len(colors) == len(set(colors)) == N_CLUSTERS
    assert all(re.fullmatch("#[0-9A-Fa-f]{6}", color) for color in colors)
    assert drawn(cells) == stored(cells)


def test_clusters_under_another_name_have_colours_of_that_name(cells):
    ga.tl.leiden(cells, min_cluster_size=SIZE + 1, key_added="coarse")
    assert len(cells.uns["coarse_colors"]) == len(cells.obs["coarse"].cat.categories) == 1  # "-1"
    assert "leiden_colors" not in cells.uns


OWN = ["#123456", "red", "#00ff00", "steelblue", "k", "gold"]


@pytest.mark.parametrize("own", [OWN[:N_CLUSTERS], np.array(OWN, dtype=object)], ids=["as many", "more"])
def test_colours_of_the_user_stay_when_clusters_are_found_again(cells, own, caplog):
    cells.uns["leiden_colors"] = own
    ga.tl.leiden(cells)
    assert cells.uns["leiden_colors"] == OWN[:N_CLUSTERS]
    assert drawn(cells) == {str(k): to_hex(color) for k, color in enumerate(OWN[:N_CLUSTERS])}
    assert not caplog.records


@pytest.mark.parametrize(
    ("own", "found"),
    [
        (["#123456"] * 2, "has 2 colours for 5 categories"),
        (["#123456"] * 4 + ["blurple"], "holds 'blurple', which is no colour"),
        ("red", "is 'red' (str), not a list of 5 colours"),
        (3, "is 3 (int), not a list of 5 colours"),
        ({"0": "red"}, "is {'0': 'red'} (dict), not a list of 5 colours"),
    ],
    ids=["too few", "no colour", "text", "number", "dict"],
)
def test_colours_that_do_not_fit_are_replaced_with_a_warning(cells, own, found, caplog):
    ga.tl.leiden(cells)
    default = list(cells.uns["leiden_colors"])
    cells.uns["leiden_colors"] = own
    assert list(drawn(cells).values()) == [color.lower() for color in default]
    assert caplog.messages == [f"uns['leiden_colors'] {found}; the default colours are drawn"]
    caplog.clear()
    ga.tl.leiden(cells)
    assert cells.uns["leiden_colors"] == default
    assert caplog.messages == [f"tl.leiden: uns['leiden_colors'] {found}; the default colours replace it"]


def test_default_colours_of_fewer_clusters_are_replaced_without_a_warning(cells, caplog):
    cells.uns["leiden_colors"] = ga.slots.default_colors(2)
    ga.tl.leiden(cells)
    assert cells.uns["leiden_colors"] == ga.slots.default_colors(N_CLUSTERS)
    assert not caplog.records


def test_clusters_keep_their_colours_when_cells_are_filtered(cells):
    ga.tl.leiden(cells)
    before = drawn(cells)
    ga.pp.filter_cells(cells, min_counts=1000 + 2 * SIZE, min_tsse=None)  # the first two cliques go, the categories stay
    left = drawn(cells)
    assert len(left) == N_CLUSTERS - 2
    assert left == {name: before[name] for name in left}


def test_clusters_keep_their_colours_in_a_part_of_the_cells_and_under_new_names(cells):
    ga.tl.leiden(cells)
    before = drawn(cells)
    part = cells[cells.obs["leiden"].isin(["1", "4"])].copy()
    assert drawn(part) == stored(part) == {"1": before["1"], "4": before["4"]}
    cells.rename_categories("leiden", [f"type {name}" for name in "abcde"])
    assert drawn(cells)["type a"] == before["0"]


def test_clusters_keep_their_colours_in_a_file(cells, tmp_path):
    ga.tl.leiden(cells)
    cells.uns["leiden_colors"] = cells.uns["leiden_colors"][::-1]
    before = drawn(cells)
    ga.io.write_h5ad(cells, tmp_path / "a.h5ad")
    assert drawn(ga.io.read_h5ad(tmp_path / "a.h5ad")) == before


def test_a_matrix_of_the_same_cells_has_their_colours(tmp_path):
    (tmp_path / "f.tsv").write_text("chr1\t100\t300\tA\t1\nchr1\t250\t400\tB\t1\n")
    cells = ga.pp.import_fragments(tmp_path / "f.tsv", ga.Genome("g", {"chr1": 1000}), min_num_fragments=1, device="cpu")
    cells.obs["leiden"] = pd.Categorical(["0", "1"])
    cells.uns |= {"leiden_colors": ["#111111", "#222222"], "gone_colors": ["#333333"]}
    for matrix in (ga.pp.make_peak_matrix(cells, ["chr1:0-500"]), ga.pp.add_tile_matrix(cells, inplace=False)):
        assert matrix.uns["leiden_colors"] == ["#111111", "#222222"]
        assert "gone_colors" not in matrix.uns
