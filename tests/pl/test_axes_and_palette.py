"""Axes of one's own, palettes, and colours that scanpy draws as well: a list of hex colours in the order of the categories."""

from __future__ import annotations

import anndata as ad
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from scipy import sparse

from gpuatac import pl
from gpuatac.errors import InputError
from gpuatac.pl._style import PALETTE

N = 90
TYPES = ("T", "B", "NK")


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 2], N // 3)
    obs = pd.DataFrame(
        {
            "type": pd.Categorical(np.array(TYPES)[group], categories=TYPES),
            "sample": pd.Categorical(np.where(np.arange(N) % 2, "late", "early"), categories=["late", "early"]),
            "n_fragment": rng.integers(500, 20_000, N),
            "tsse": rng.uniform(1, 20, N),
            "doublet_score": rng.beta(1, 9, N),
        },
        index=[f"c{i}" for i in range(N)],
    )
    var = pd.DataFrame(index=[f"chr1:{1000 * i}-{1000 * i + 500}" for i in range(12)])
    adata = ad.AnnData(sparse.csr_matrix(rng.poisson(2, (N, 12)).astype(np.int32)), obs=obs, var=var)
    adata.obsm["X_umap"] = np.array([[0, 0], [9, 0], [0, 9]])[group] + rng.normal(size=(N, 2))
    adata.uns |= {
        "frag_size_distr": np.arange(1001),
        "TSS_profile": np.full(4001, 7),
        "scrublet": {"sim_doublet_score": rng.beta(3, 5, 200), "threshold": 0.3},
        "spectral_eigenvalue": np.array([0.9, 0.2, 0.1]),
        "spectral": {"used": np.array([False, True, True]), "depth_correlation": np.array([0.97, 0.1, 0.0])},
    }
    return adata


ONE_PANEL = {
    "umap": lambda adata, **kwargs: pl.umap(adata, "type", **kwargs),
    "embedding": lambda adata, **kwargs: pl.embedding(adata, color="n_fragment", **kwargs),
    "frag_size_distr": pl.frag_size_distr,
    "tss_profile": pl.tss_profile,
    "tsse": pl.tsse,
    "knee": pl.knee,
    "doublet_scores": pl.doublet_scores,
    "spectral_eigenvalues": pl.spectral_eigenvalues,
    "regions": lambda adata, **kwargs: pl.regions(adata, "type", list(adata.var_names), **kwargs),
}


def drawn_on(ax):
    """Positions of all that holds data: points, lines and images."""
    points = [np.asarray(c.get_offsets(), float) for c in ax.collections]
    of_data = [line for line in ax.lines if any(line.get_transform().contains_branch_seperately(ax.transData))]
    lines = [np.column_stack(line.get_data()).astype(float) for line in of_data]
    images = [np.asarray(i.get_array(), float) for i in ax.images]
    return [*points, *lines, *images]


# ---------------------------------------------------------------------------------------------- axes of one's own


@pytest.mark.parametrize("name", ONE_PANEL)
def test_a_panel_is_drawn_into_the_axes_given_as_in_a_figure_of_its_own(cells, name):
    draw = ONE_PANEL[name]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
    try:
        assert draw(cells, ax=right) is figure
        assert not left.has_data()
        alone = draw(cells).axes[0]
        assert (right.get_xlabel(), right.get_ylabel()) in (
            (alone.get_xlabel(), alone.get_ylabel()),
            ("Component", "Eigenvalue"),
        )
        assert drawn_on(right)
        for ours, theirs in zip(drawn_on(right), drawn_on(alone), strict=True):
            np.testing.assert_allclose(ours, theirs)
        figure.draw_without_rendering()
    finally:
        plt.close(figure)


def test_axes_in_a_subfigure_give_the_whole_figure():
    figure = Figure()
    ax = figure.subfigures(1, 2)[1].subplots()
    assert pl.frag_size_distr(ad.AnnData(uns={"frag_size_distr": np.arange(1001)}), ax=ax) is figure


def test_a_figure_with_axes_given_is_saved_whole(cells, tmp_path):
    figure = Figure()
    left, right = figure.subplots(1, 2)
    pl.knee(cells, ax=left)
    pl.tsse(cells, ax=right, save=tmp_path / "both.svg")
    text = (tmp_path / "both.svg").read_text()
    assert "Barcode rank" in text
    assert "TSS enrichment" in text


def test_drawing_into_axes_leaves_the_settings_of_matplotlib_alone(cells):
    before = dict(mpl.rcParams)
    pl.umap(cells, "type", ax=Figure().subplots())
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda a, ax: pl.umap(a, ["type", "sample"], ax=ax), r"there are 2 \(color 'type', color 'sample'\); call once"),
        (lambda a, ax: pl.knee(a, ax=[ax]), r"ax must be one matplotlib Axes, got list; pass one of them"),
        (lambda a, ax: pl.tsse(a, ax=ax, figsize=(3, 3)), r"figsize \(3, 3\) cannot be had with ax.*leave one of them out"),
        (lambda a, ax: pl.tsse(a, ax=ax, save="x.bmp"), "save must end in"),
    ],
    ids=["two panels", "a list", "figsize", "suffix"],
)
def test_axes_that_cannot_be_drawn_on_are_refused_before_anything_is_drawn(cells, draw, message):
    ax = Figure().subplots()
    with pytest.raises(InputError, match=message):
        draw(cells, ax)
    assert not ax.has_data()


def test_polar_and_removed_axes_and_sizes_that_are_none_are_refused(cells):
    polar = Figure().subplots(subplot_kw={"projection": "polar"})
    removed = Figure().subplots()
    removed.remove()
    for name, draw in ONE_PANEL.items():
        with pytest.raises(InputError, match=r"ax has the projection 'polar'; allowed: plain axes"):
            draw(cells, ax=polar)
        with pytest.raises(InputError, match=r"ax was removed from its figure; .* make new ones"):
            draw(cells, ax=removed)
        if name != "regions":
            for figsize in (3, (1, 2, 3), ("a", "b"), (4, 0)):
                with pytest.raises(InputError, match=r"figsize must be \(width, height\) in inches"):
                    draw(cells, figsize=figsize)


def test_doublets_of_several_samples_do_not_fit_one_axes(cells):
    one = cells.uns["scrublet"]
    cells.uns["scrublet"] = {"samples": {"late": one, "early": one}}
    with pytest.raises(InputError, match=r"there are 2 \(sample late, sample early\); call once for each .* leave ax out"):
        pl.doublet_scores(cells, ax=Figure().subplots())


# ------------------------------------------------------------------------------------------------------ palettes


def color_by_type(figure, cells):
    points = figure.axes[0].collections[0]
    at = {tuple(np.round(xy, 6)): to_hex(c) for xy, c in zip(points.get_offsets(), points.get_facecolors(), strict=True)}
    found = {}
    for name, xy in zip(cells.obs["type"], cells.obsm["X_umap"], strict=True):
        found.setdefault(str(name), set()).add(at[tuple(np.round(xy, 6))])
    return found


@pytest.mark.parametrize(
    ("palette", "expected"),
    [
        (["red", "#00FF00", (0, 0, 1)], ["#ff0000", "#00ff00", "#0000ff"]),
        ({"NK": "blue", "T": "red", "B": "lime"}, ["#ff0000", "#00ff00", "#0000ff"]),
        ("tab10", ["#1f77b4", "#ff7f0e", "#2ca02c"]),  # its first colours, as matplotlib's own cycle
        ("gray", ["#000000", "#808080", "#ffffff"]),  # both ends and the middle
        (mpl.colormaps["gray"], ["#000000", "#808080", "#ffffff"]),
        (None, [c.lower() for c in PALETTE[:3]]),
    ],
    ids=["list", "dict", "distinct colours", "scale", "colormap", "default"],
)
def test_palette_is_a_list_a_dict_or_a_colormap(cells, palette, expected):
    figure = pl.umap(cells, "type", palette=palette)
    assert color_by_type(figure, cells) == {name: {color} for name, color in zip(TYPES, expected, strict=True)}


@pytest.mark.parametrize(
    ("palette", "message"),
    [
        (["red", "blue"], r"palette has 2 colours for 3 categories of obs\['type'\] \('T', 'B', 'NK'\); give one for each"),
        (["red"] * 4, r"palette has 4 colours for 3 categories"),
        ({"T": "red", "B": "blue"}, r"palette lacks 'NK' of obs\['type'\]; give a colour for each"),
        ({"T": "red", "B": "blue", "NK": "k", "Tcell": "r"}, r"palette names 'Tcell', which obs\['type'\] lacks; .* 'T', 'B', 'NK'"),
        (["red", "blurple", "blue"], r"palette holds 'blurple', which is no colour; allowed: names such as"),
        ({"T": "red", "B": "blue", "NK": 3}, r"palette holds 3, which is no colour"),
        (3, r"palette must be a list of colours, .* got 3 \(int\); pass one of them"),
        ("virids", r"name of a matplotlib colormap such as 'tab20', got 'virids'; did you mean 'viridis'\?"),
        ("red", r"got 'red'; for one colour pass a list of it"),
    ],
)
def test_palette_that_does_not_fit_is_refused_with_a_remedy(cells, palette, message):
    with pytest.raises(InputError, match=message):
        pl.umap(cells, "type", palette=palette)


def test_colormap_with_fewer_colours_than_categories_is_refused(cells):
    cells.obs["many"] = pd.Categorical(np.arange(N) % 11)
    with pytest.raises(InputError, match=r"palette 'tab10' has 10 colours for 11 categories .* choose one with more"):
        pl.umap(cells, "many", palette="tab10")


def test_palette_of_numbers_is_refused_and_beside_categories_ignored(cells):
    with pytest.raises(InputError, match=r"palette colours categories, and color 'n_fragment' has none"):
        pl.umap(cells, "n_fragment", palette="tab10")
    assert color_by_type(pl.umap(cells, ["type", "n_fragment"], palette="tab10"), cells)["B"] == {"#ff7f0e"}


def test_samples_of_the_knee_and_blocks_of_regions_take_the_palette(cells):
    curves = pl.knee(cells, palette={"late": "red", "early": "blue"}).axes[0].lines
    assert {line.get_label().partition(":")[0]: to_hex(line.get_color()) for line in curves} == {
        "late": "#ff0000",
        "early": "#0000ff",
    }
    marked = {name: [cells.var_names[i]] for i, name in enumerate(TYPES)}
    heat = pl.regions(cells, "type", marked, palette=["red", "lime", "blue"]).axes[0]
    assert [to_hex(p.get_facecolor()) for p in heat.patches if p.get_gid() == "block"] == ["#ff0000", "#00ff00", "#0000ff"]


def test_list_for_the_groups_drawn_is_taken_as_well(cells):
    marked = {"B": [cells.var_names[0]], "NK": [cells.var_names[1]]}
    heat = pl.regions(cells, "type", marked, selections=["NK", "B"], palette=["lime", "blue"]).axes[0]
    assert [to_hex(p.get_facecolor()) for p in heat.patches if p.get_gid() == "block"] == ["#00ff00", "#0000ff"]


def test_denoised_tracks_take_a_palette_for_some_of_them():
    track = np.arange(1000.0)
    given = {"noisy": track, "denoised": track}
    figure = pl.denoised(given, ("chr1", 0, 1000), genome="hg38", palette={"denoised": "red"})
    at = {ax.get_label(): to_hex(ax.patches[0].get_facecolor()) for ax in figure.axes if ax.get_label().startswith("track")}
    assert at == {"track:noisy": "#8c8c8c", "track:denoised": "#ff0000"}


# ----------------------------------------------------------------------------------------- colours kept in uns


def test_stored_colours_are_those_of_the_categories_in_every_figure(cells):
    cells.uns["type_colors"] = np.array(["#ff0000", "#00ff00", "#0000ff"], dtype=object)  # as an .h5ad gives them back
    cells.uns["sample_colors"] = ["#111111", "#222222"]
    assert color_by_type(pl.umap(cells, "type"), cells) == {"T": {"#ff0000"}, "B": {"#00ff00"}, "NK": {"#0000ff"}}
    curves = {line.get_label().partition(":")[0]: to_hex(line.get_color()) for line in pl.knee(cells).axes[0].lines}
    assert curves == {"late": "#111111", "early": "#222222"}


def test_stored_colours_stay_with_their_categories_when_cells_go_and_names_change(cells):
    cells.uns["type_colors"] = ["#ff0000", "#00ff00", "#0000ff"]
    few = cells[cells.obs["type"] != "B"].copy()  # anndata drops the category and its colour
    assert color_by_type(pl.umap(few, "type"), few) == {"T": {"#ff0000"}, "NK": {"#0000ff"}}
    cells.obs["type"] = cells.obs["type"].cat.rename_categories({"B": "B cells"})
    assert color_by_type(pl.umap(cells, "type"), cells)["B cells"] == {"#00ff00"}


@pytest.mark.parametrize("stored", [["#ff0000", "#00ff00"], ["a", "b", "c"], "#ff0000"])
def test_stored_colours_that_do_not_fit_the_categories_are_not_used_and_nothing_is_stored(cells, stored):
    cells.uns["type_colors"] = stored
    expected = {name: {color.lower()} for name, color in zip(TYPES, PALETTE, strict=False)}
    assert color_by_type(pl.umap(cells, "type"), cells) == expected
    assert cells.uns["type_colors"] == stored
    del cells.uns["type_colors"]
    pl.umap(cells, "type")
    assert "type_colors" not in cells.uns
