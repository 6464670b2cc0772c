"""Embeddings: colours, labels, legends, and what is said when a name does not exist."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_hex
from scipy import sparse

from gpuatac import pl
from gpuatac.errors import InputError, MissingSlotError
from gpuatac.pl._style import PALETTE


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    n = 120
    group = np.repeat([0, 1, 2], 40)
    center = np.array([[0, 0], [8, 0], [0, 8]])
    obs = pd.DataFrame(
        {
            "leiden": pd.Categorical(group.astype(str)),
            "sample": rng.choice(["s1", "s2"], n),
            "n_fragment": rng.integers(1000, 20000, n),
            "flag": rng.random(n) < 0.5,
        },
        index=[f"c{i}" for i in range(n)],
    )
    var = pd.DataFrame(index=["chr1:0-500", "chr1:500-1000"])
    adata = AnnData(sparse.csr_matrix(rng.poisson(1, (n, 2)).astype(np.int32)), obs=obs, var=var)
    adata.obsm["X_umap"] = (center[group] + rng.normal(size=(n, 2))).astype(np.float32)
    adata.obsm["gene_activity"] = sparse.csr_matrix(rng.poisson(3, (n, 3)).astype(np.int32))
    adata.uns["gene_activity"] = {"genes": np.array(["CD4", "CD8A", "MS4A1"])}
    return adata


def labels(ax):
    return [t for t in ax.texts if t.get_gid() == "label"]


def test_categories_take_the_palette_in_order_and_every_cell_is_drawn(cells):
    ax = pl.umap(cells, "leiden").axes[0]
    points = ax.collections[0]
    assert len(points.get_offsets()) == 120
    faces = zip(points.get_offsets(), points.get_facecolors(), strict=True)
    drawn = {tuple(np.round(xy, 4)): to_hex(c) for xy, c in faces}
    expected = [PALETTE[int(code)].lower() for code in cells.obs["leiden"].cat.codes]
    assert [drawn[tuple(np.round(xy, 4))] for xy in cells.obsm["X_umap"].astype(float)] == expected


def test_names_of_separate_groups_stand_on_the_data_and_mixed_ones_in_a_legend(cells):
    leiden, sample = pl.umap(cells, ["leiden", "sample"]).axes
    assert [t.get_text() for t in labels(leiden)] == ["0", "1", "2"]
    assert leiden.get_legend() is None
    assert labels(sample) == []
    assert [t.get_text() for t in sample.get_legend().get_texts()] == ["s1", "s2"]


def test_legend_and_labels_can_be_chosen(cells):
    ax = pl.umap(cells, "leiden", labels_on_data=False).axes[0]
    assert labels(ax) == []
    assert len(ax.get_legend().get_texts()) == 3
    assert pl.umap(cells, "sample", legend="none").axes[0].get_legend() is None
    both = pl.umap(cells, "leiden", legend="right").axes[0]
    assert len(labels(both)) == 3
    assert both.get_legend() is not None


def test_labels_do_not_overlap_and_stay_inside(cells):
    rng = np.random.default_rng(1)
    names = np.array([f"a long cell type {i}" for i in range(12)])
    center = rng.normal(0, 1.5, (12, 2))
    group = rng.integers(0, 12, 120)
    cells.obs["leiden"] = pd.Categorical(names[group])
    cells.obsm["X_umap"] = center[group] + rng.normal(0, 0.1, (120, 2))
    figure = pl.umap(cells, "leiden", figsize=(4, 4))
    ax = figure.axes[0]
    figure.draw_without_rendering()
    boxes = [t.get_window_extent() for t in labels(ax)]
    assert len(boxes) == 12
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    frame = ax.get_window_extent()
    assert all(frame.x0 <= b.x0 and b.x1 <= frame.x1 and frame.y0 <= b.y0 and b.y1 <= frame.y1 for b in boxes)


def test_label_that_would_hide_its_group_stands_beside_it(cells):
    center = np.array([[0.0, 0.0], [8, 0], [0, 8]])
    noise = np.random.default_rng(0).normal(0, 0.01, (120, 2))
    cells.obsm["X_umap"] = center[cells.obs["leiden"].cat.codes] + noise
    figure = pl.umap(cells, "leiden")
    ax = figure.axes[0]
    for text, at in zip(labels(ax), center, strict=True):
        assert not text.get_window_extent().contains(*ax.transData.transform(at))


def test_numbers_get_a_colour_bar_over_their_range_highest_on_top(cells):
    figure = pl.umap(cells, "n_fragment")
    points = figure.axes[0].collections[0]
    assert points.get_clim() == (cells.obs["n_fragment"].min(), cells.obs["n_fragment"].max())
    assert (np.diff(points.get_array()) >= 0).all()
    assert len(figure.axes[0].child_axes) == 1


def test_gene_activity_is_log_normalised_and_the_colour_bar_says_so(cells):
    ax = pl.umap(cells, "CD8A").axes[0]
    activity = cells.obsm["gene_activity"].toarray()
    expected = np.log1p(1e4 * activity[:, 1] / activity.sum(axis=1))
    np.testing.assert_allclose(ax.collections[0].get_array(), np.sort(expected))
    low, high = ax.collections[0].get_clim()
    assert (low, high) == (0, pytest.approx(np.percentile(expected, 99)))
    assert ax.child_axes[0].get_ylabel() == "log1p(counts per 10k)"
    assert ax.get_title(loc="left") == "CD8A"


def test_feature_of_x_is_shown_as_stored(cells):
    ax = pl.umap(cells, "chr1:500-1000").axes[0]
    np.testing.assert_array_equal(ax.collections[0].get_array(), np.sort(cells.X.toarray()[:, 1]))
    assert ax.child_axes[0].get_ylabel() == "counts"


def test_missing_values_are_grey_below_the_others(cells):
    cells.obs.loc[cells.obs.index[:10], "leiden"] = np.nan
    points = pl.umap(cells, "leiden", legend="right").axes[0].collections[0]
    assert [to_hex(c) for c in points.get_facecolors()[:10]] == ["#d4d4d4"] * 10
    cells.obs["n_fragment"] = cells.obs["n_fragment"].astype(float)
    cells.obs.loc[cells.obs.index[:10], "n_fragment"] = np.nan
    missing, known = pl.umap(cells, "n_fragment").axes[0].collections[:2]
    assert (len(missing.get_offsets()), len(known.get_offsets())) == (10, 110)


def test_colours_stored_in_uns_are_used(cells):
    cells.uns["leiden_colors"] = ["#111111", "#222222", "#333333"]
    faces = pl.umap(cells, "leiden").axes[0].collections[0].get_facecolors()
    assert {to_hex(c) for c in faces} == {"#111111", "#222222", "#333333"}


def test_panels_fill_rows_and_booleans_are_categories(cells):
    figure = pl.umap(cells, ["leiden", "flag", "n_fragment"], ncols=2)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["leiden", "flag", "n_fragment"]
    assert [t.get_text() for t in figure.axes[1].get_legend().get_texts()] == ["False", "True"]
    grid = figure.axes[0].get_subplotspec().get_gridspec()
    assert (grid.nrows, grid.ncols) == (2, 2)


def test_without_colour_leiden_is_taken_or_one_colour(cells):
    assert pl.umap(cells).axes[0].get_title(loc="left") == "leiden"
    del cells.obs["leiden"]
    ax = pl.umap(cells).axes[0]
    assert len(np.unique(ax.collections[0].get_facecolors(), axis=0)) == 1


def test_other_components_and_bases_are_named_on_the_axes(cells):
    cells.obsm["X_spectral"] = np.random.default_rng(0).normal(size=(120, 5))
    ax = pl.embedding(cells, "X_spectral", components=(1, 3)).axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Spectral 2", "Spectral 4")
    drawn = ax.collections[0].get_offsets()
    assert set(np.round(drawn[:, 1], 6)) == set(np.round(cells.obsm["X_spectral"][:, 3], 6))


def test_unknown_name_is_answered_with_close_ones(cells):
    with pytest.raises(MissingSlotError, match=r"'leidn' is neither .*3 genes.*did you mean 'leiden'\?"):
        pl.umap(cells, "leidn")
    with pytest.raises(MissingSlotError, match=r"did you mean 'CD8A'"):
        pl.umap(cells, "cd8a")
    with pytest.raises(MissingSlotError, match=r"'zzzz' is neither a column of obs \('leiden', 'sample'"):
        pl.umap(cells, "zzzz")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"legend": "left"}, "legend must be one of 'auto', 'right', 'none', got 'left'"),
        ({"components": (0, 2)}, r"components must be two columns of obsm\['X_umap'\] of shape \(120, 2\)"),
        ({"color": []}, "color must name at least one"),
        ({"ncols": 0}, "ncols must be at least 1"),
    ],
)
def test_wrong_option_is_refused(cells, options, message):
    with pytest.raises(InputError, match=message):
        pl.embedding(cells, **options)


def test_missing_embedding_names_those_there_are(cells):
    with pytest.raises(MissingSlotError, match=r"no 'X_tsne' \(it has 'X_umap', 'gene_activity'\)"):
        pl.embedding(cells, "X_tsne")


def test_many_cells_are_rasterised(cells):
    n = 5000
    big = AnnData(obsm={"X_umap": np.random.default_rng(0).normal(size=(n, 2))})
    assert pl.umap(big).axes[0].collections[0].get_rasterized()
    assert not pl.umap(cells, "leiden").axes[0].collections[0].get_rasterized()


def test_palette_has_forty_distinct_colours_that_stay_apart_for_colour_blind_eyes():
    assert len(set(PALETTE)) == 40
    deuteranope = np.array(  # Machado 2009
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    )
    rgb = np.array([mpl.colors.to_rgb(c) for c in PALETTE])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ deuteranope.T, 0, 1) ** (1 / 2.4)
    for colours, least in ((rgb, 0.1), (seen, 0.03)):
        gap = np.linalg.norm(colours[:, None] - colours[None], axis=2) + 9 * np.eye(40)
        assert gap.min() > least
