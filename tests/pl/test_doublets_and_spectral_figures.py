"""Doublet scores and eigenvalues: shares, thresholds, marks."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_hex

from gpuatac import pl
from gpuatac.errors import InputError, MissingSlotError
from gpuatac.pl._style import BLUE, RED


@pytest.fixture
def scored():
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"doublet_score": rng.beta(1, 9, 200)}, index=[f"c{i}" for i in range(200)])
    return AnnData(obs=obs, uns={"scrublet": {"sim_doublet_score": rng.beta(3, 5, 400), "threshold": 0.3}})


@pytest.fixture
def embedded():
    uns = {
        "spectral_eigenvalue": np.array([0.95, 0.2, 0.1, 0.05]),
        "spectral": {
            "used": np.array([False, True, True, True]),
            "depth_correlation": np.array([-0.97, 0.1, 0.0, 0.2]),
        },
    }
    return AnnData(uns=uns)


def shares(ax):
    return {p.get_label(): p.get_data().values for p in ax.patches if p.get_label()[:1].isalpha()}


def test_doublet_histograms_are_shares_that_sum_to_one_hundred(scored):
    ax = pl.doublet_scores(scored, bins=20).axes[0]
    found = shares(ax)
    assert set(found) == {"cells", "simulated doublets"}
    for values in found.values():
        assert len(values) == 20
        assert values.sum() == pytest.approx(100)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Doublet score", "Share (%)")


def test_doublet_threshold_is_drawn_and_counted_even_beyond_the_scores(scored):
    ax = pl.doublet_scores(scored).axes[0]
    assert ax.lines[0].get_xdata()[0] == 0.3
    n = (scored.obs["doublet_score"] >= 0.3).sum()
    assert ax.texts[0].get_text() == f"{n} of 200 cells ≥ 0.30"
    scored.uns["scrublet"]["threshold"] = 5.0
    assert pl.doublet_scores(scored).axes[0].get_xlim()[1] >= 5
    del scored.uns["scrublet"]["threshold"]
    assert len(pl.doublet_scores(scored).axes[0].lines) == 0


def test_each_sample_has_its_panel_threshold_and_cells(scored):
    scored.obs["sample"] = pd.Categorical(["a"] * 150 + ["b"] * 50)
    one = scored.uns["scrublet"]
    scored.uns["scrublet"] = {"samples": {"a": one, "b": {**one, "threshold": 0.5}}}
    axes = pl.doublet_scores(scored).axes
    assert [ax.get_title(loc="left") for ax in axes] == ["a", "b"]
    assert [ax.lines[0].get_xdata()[0] for ax in axes] == [0.3, 0.5]
    assert [ax.texts[0].get_text().split(" of ")[1].split()[0] for ax in axes] == ["150", "50"]


def test_one_named_sample_needs_no_sample_column(scored):
    scored.uns["scrublet"] = {"samples": {"only": scored.uns["scrublet"]}}
    assert pl.doublet_scores(scored).axes[0].get_title(loc="left") == "only"


def test_doublet_samples_that_no_cell_has_are_refused(scored):
    scored.obs["sample"] = "a"
    scored.uns["scrublet"] = {"samples": {"a": scored.uns["scrublet"], "b": scored.uns["scrublet"]}}
    with pytest.raises(InputError, match=r"holds b, which no cell has in obs\['sample'\] \(a\); call pp"):
        pl.doublet_scores(scored)


def test_doublet_scores_before_scrublet_name_the_verb(scored):
    with pytest.raises(MissingSlotError, match=r"no 'doublet_score'; call pp.scrublet first"):
        pl.doublet_scores(AnnData(np.ones((2, 2))))
    scored.obs["doublet_score"] = np.nan
    scored.uns["scrublet"] = {}
    with pytest.raises(InputError, match="holds no finite score"):
        pl.doublet_scores(scored)


def test_left_out_components_are_hollow_and_their_correlation_is_written(embedded):
    top, bottom = pl.spectral_eigenvalues(embedded).axes
    used, left_out = top.collections
    np.testing.assert_allclose(used.get_offsets()[:, 0], [2, 3, 4])
    np.testing.assert_allclose(left_out.get_offsets(), [[1, 0.95]])
    assert to_hex(left_out.get_facecolors()[0]) == "#ffffff"
    assert [bar.get_height() for bar in bottom.patches] == [0.97, 0.1, 0.0, 0.2]
    assert [to_hex(bar.get_facecolor()) for bar in bottom.patches] == [RED.lower()] + [BLUE.lower()] * 3
    assert [t.get_text() for t in bottom.texts] == ["0.97"]
    assert bottom.get_xlabel() == "Component"
    assert top.get_yscale() == "log"


def test_eigenvalues_without_correlations_are_one_panel(embedded):
    del embedded.uns["spectral"]
    axes = pl.spectral_eigenvalues(embedded).axes
    assert len(axes) == 1
    assert len(axes[0].collections) == 1
    assert axes[0].get_legend() is None


def test_negative_eigenvalues_keep_a_linear_axis(embedded):
    embedded.uns["spectral_eigenvalue"][-1] = -0.01
    assert pl.spectral_eigenvalues(embedded).axes[0].get_yscale() == "linear"


def test_component_ticks_start_at_one(embedded):
    embedded.uns = {"spectral_eigenvalue": np.linspace(1, 0.1, 30)}
    assert list(pl.spectral_eigenvalues(embedded).axes[0].get_xticks()) == [1, 5, 10, 15, 20, 25, 30]


def test_eigenvalue_arrays_of_different_length_are_refused(embedded):
    embedded.uns["spectral"]["used"] = np.array([True])
    with pytest.raises(InputError, match="4 eigenvalues, 1 marks and 4 correlations; allowed: as many of"):
        pl.spectral_eigenvalues(embedded)
    with pytest.raises(MissingSlotError, match=r"call tl\.spectral first"):
        pl.spectral_eigenvalues(AnnData(np.ones((2, 2))))
