"""Figures of quality: what is drawn, where the lines are, what the words say."""

import json
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.figure import Figure

import gpuatac as ga
from gpuatac import pl
from gpuatac.errors import InputError, MissingSlotError


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    n = 300
    depth = np.concatenate([rng.lognormal(8.5, 0.3, 100), rng.lognormal(4, 0.5, 200)]).astype(np.int64) + 1
    score = np.concatenate([rng.normal(15, 2, 100), rng.normal(1, 0.3, 200).clip(0)])
    obs = pd.DataFrame({"n_fragment": depth, "tsse": score}, index=[f"c{i}" for i in range(n)])
    position = np.arange(-2000, 2001)
    sizes = (1e5 * np.exp(-0.5 * ((np.arange(1001) - 200) / 30) ** 2)).astype(np.int64)
    sizes[0] = int(0.02 * sizes[1:].sum() / 0.98)
    uns = {
        "TSS_profile": (100 + 900 * np.exp(-0.5 * (position / 100) ** 2)).astype(np.int64),
        "library_tsse": 9.99,
        "frag_size_distr": sizes,
        "cell_calls": {"s": json.dumps({"threshold": 1000, "method": "knee"})},
    }
    return AnnData(obs=obs, uns=uns)


def words(ax):
    return [t.get_text() for t in ax.texts]


def vertical(ax):
    return [line.get_xdata()[0] for line in ax.lines if len(set(line.get_xdata())) == 1]


def horizontal(ax):
    return [line.get_ydata()[0] for line in ax.lines if len(set(line.get_ydata())) == 1]


def test_fragment_sizes_start_at_one_bp_and_state_the_share_of_longer_ones(sample):
    ax = pl.frag_size_distr(sample).axes[0]
    x, y = ax.lines[0].get_data()
    assert (x[0], x[-1], len(x)) == (1, 1000, 1000)
    counts = sample.uns["frag_size_distr"]
    np.testing.assert_allclose(y, 100 * counts[1:] / counts.sum())
    assert vertical(ax) == [147, 294]
    assert words(ax)[:2] == ["147", "294"]
    assert words(ax)[2].endswith("2.0 % longer than 1,000 bp")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Fragment length (bp)", "Fragments (%)")


def test_fragment_sizes_can_be_logarithmic_and_skip_lengths_that_do_not_occur(sample):
    ax = pl.frag_size_distr(sample, log_y=True).axes[0]
    assert ax.get_yscale() == "log"
    assert np.isnan(ax.lines[0].get_ydata()[-1])


@pytest.mark.parametrize(("longer", "text"), [(0, "none"), (1, "< 0.1 %"), (10_000, "9.1 %")])
def test_share_of_longer_fragments_is_never_rounded_to_zero(longer, text):
    sizes = np.full(1001, 100)
    sizes[0] = longer
    assert words(pl.frag_size_distr(AnnData(uns={"frag_size_distr": sizes})).axes[0])[2].split("\n")[1] == (
        f"{text} longer than 1,000 bp"
    )


def test_tss_profile_is_relative_to_the_mean_of_the_outer_positions(sample):
    ax = pl.tss_profile(sample, smooth=1).axes[0]
    curve = next(line for line in ax.lines if len(line.get_xdata()) == 4001)
    np.testing.assert_allclose(curve.get_ydata(), sample.uns["TSS_profile"] / 100)
    np.testing.assert_array_equal(curve.get_xdata()[[0, 2000, 4000]], [-2000, 0, 2000])
    assert "10.0" in words(ax)[0]
    assert ax.get_xlabel() == "Distance from TSS (bp)"


def test_tss_profile_of_a_constant_stays_one_to_its_ends_when_smoothed():
    ax = pl.tss_profile(AnnData(uns={"TSS_profile": np.full(4001, 7)}), smooth=101).axes[0]
    curve = next(line for line in ax.lines if len(line.get_xdata()) == 4001)
    np.testing.assert_allclose(curve.get_ydata(), 1)
    assert words(ax) == []  # no library TSSe stored, none shown


def test_tsse_draws_every_cell_and_counts_those_that_pass(sample):
    sample.obs.loc["c0", "tsse"] = np.nan
    sample.obs.loc["c1", "n_fragment"] = 0
    figure = pl.tsse(sample, min_counts=1000, min_tsse=5)
    ax = figure.axes[0]
    assert len(ax.collections[0].get_offsets()) == 298
    passing = ((sample.obs["n_fragment"] >= 1000) & (sample.obs["tsse"] >= 5)).sum()
    assert words(ax) == [f"{passing} of 300 cells pass"]
    assert vertical(ax) == [1000]
    assert horizontal(ax) == [5]
    assert ax.get_xscale() == "log"
    density = ax.collections[0].get_array()
    assert 0 < density.min() <= density.max() == 1
    assert (np.diff(density) >= 0).all()  # the densest last, on top


def test_tsse_without_thresholds_says_nothing_and_one_cell_is_enough(sample):
    ax = pl.tsse(sample[:1].copy()).axes[0]
    assert words(ax) == []
    assert len(ax.collections[0].get_offsets()) == 1


def test_many_points_are_rasterised_and_few_are_not(sample):
    assert not pl.tsse(sample).axes[0].collections[0].get_rasterized()
    n = 100_000
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"n_fragment": rng.integers(1, 10**5, n), "tsse": rng.random(n)})
    obs.index = obs.index.astype(str)
    assert pl.tsse(AnnData(obs=obs)).axes[0].collections[0].get_rasterized()


def test_knee_marks_the_called_barcodes(sample):
    ax = pl.knee(sample).axes[0]
    assert horizontal(ax) == [1000]
    called = (sample.obs["n_fragment"] >= 1000).sum()
    assert words(ax) == [f"{called} of 300 barcodes\nhave ≥ 1,000 fragments (knee)"]
    tail, head = ax.lines[0], ax.lines[1]
    assert len(head.get_xdata()) == called
    assert head.get_ydata().min() >= 1000
    assert (np.diff(np.concatenate([head.get_ydata(), tail.get_ydata()[1:]])) <= 0).all()
    assert len(head.get_xdata()) + len(tail.get_xdata()) - 1 == 300


def test_knee_shows_the_empty_droplets_that_the_call_removed():
    counts = np.r_[np.linspace(9000, 11_000, 50), np.linspace(100, 200, 500)].astype(int)
    adata = AnnData(obs=pd.DataFrame({"n_fragment": counts}, index=[f"b{i}" for i in range(550)]))
    ga.pp.call_cells(adata)
    assert adata.n_obs == 50
    ax = pl.knee(adata).axes[0]
    threshold = horizontal(ax)[0]
    assert 200 < threshold < 9000
    assert words(ax) == [f"50 of 550 barcodes\nhave ≥ {threshold:,.0f} fragments (knee)"]
    tail, head = (line.get_data() for line in ax.lines[:2])
    whole = np.sort(counts)[::-1]
    for rank, fragments in (tail, head):
        np.testing.assert_array_equal(fragments, whole[np.asarray(rank) - 1])
    assert (tail[0][-1], head[0][0], head[0][-1]) == (550, 1, 50)


def test_knee_without_a_call_is_one_curve_and_with_samples_one_each(sample):
    del sample.uns["cell_calls"]
    assert len(pl.knee(sample).axes[0].lines) == 1
    sample.obs["sample"] = ["a", "b"] * 150
    sample.uns["cell_calls"] = {"a": {"threshold": 500}, "b": {"threshold": 2000}}
    ax = pl.knee(sample).axes[0]
    assert sorted(horizontal(ax)) == [500, 2000]
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert [label.split(":")[0] for label in labels] == ["a", "b"]
    assert all(label.endswith("of 150") for label in labels)


def test_qc_has_the_panels_whose_results_are_there(sample):
    titles = [ax.get_title(loc="left") for ax in pl.qc(sample, min_tsse=5).axes]
    assert [t for t in titles if t] == ["a", "b", "c", "d"]
    del sample.uns["TSS_profile"], sample.obs["tsse"]
    assert [ax.get_xlabel() for ax in pl.qc(sample).axes] == ["Barcode rank", "Fragment length (bp)"]
    with pytest.raises(MissingSlotError, match="holds no quality result"):
        pl.qc(AnnData(np.ones((2, 2))))


@pytest.mark.parametrize(
    ("draw", "writer"),
    [
        (pl.frag_size_distr, "metrics.frag_size_distr"),
        (pl.tss_profile, "metrics.tsse"),
        (pl.tsse, "pp.import_fragments"),
        (pl.knee, "pp.import_fragments"),
    ],
)
def test_missing_result_names_the_verb_that_writes_it(draw, writer):
    with pytest.raises(MissingSlotError, match=f"call {writer} first"):
        draw(AnnData(np.ones((2, 2))))


def of_obs(**columns):
    return AnnData(obs=pd.DataFrame(columns, index=["a"]))


def of_uns(**uns):
    return AnnData(uns=uns)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: pl.frag_size_distr(of_uns(frag_size_distr=np.zeros(11, int))), "holds no fragment"),
        (lambda: pl.tss_profile(of_uns(TSS_profile=np.zeros(4001, int))), "no insertion in its outer"),
        (lambda: pl.tss_profile(of_uns(TSS_profile=np.ones(4001, int)), smooth=10), "smooth must be odd"),
        (lambda: pl.knee(of_obs(n_fragment=[0])), "none of 1 barcodes"),
        (lambda: pl.tsse(of_obs(n_fragment=[5], tsse=[np.nan])), "none of 1 "),
    ],
)
def test_data_that_cannot_be_drawn_are_refused_with_the_reason(draw, message):
    with pytest.raises(InputError, match=message):
        draw()


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_figure_is_saved_by_suffix_with_text_as_text(sample, tmp_path, suffix):
    path = tmp_path / f"knee.{suffix}"
    figure = pl.knee(sample, save=str(path))
    assert isinstance(figure, Figure)
    data = path.read_bytes()
    if suffix == "svg":
        assert "Barcode rank" in data.decode()
    if suffix == "pdf":
        assert b"/Type3" not in data
        assert b"TrueType" in data or b"/CIDFontType2" in data
    if suffix == "png":
        width = int.from_bytes(data[16:20], "big")
        assert width == pytest.approx(3.2 * 300, abs=1)


def test_figure_keeps_its_style_when_the_caller_saves_it(sample, tmp_path):
    pl.knee(sample).savefig(tmp_path / "later.svg")
    assert "Barcode rank" in (tmp_path / "later.svg").read_text()
    assert pl.knee(sample)._repr_png_().startswith(b"\x89PNG")


def test_style_leaves_matplotlib_as_it_was(sample):
    before = dict(mpl.rcParams)
    pl.qc(sample)
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"save": "figure.jpg"}, r"save must end in .png, .pdf or .svg, got 'figure.jpg'; change the suffix"),
        ({"save": "nowhere/figure.png"}, "save needs a folder that exists, got 'nowhere'"),
        ({"figsize": (3, 0)}, "figsize must be"),
    ],
)
def test_wrong_file_or_size_is_refused_before_drawing(sample, options, message):
    with pytest.raises(InputError, match=message):
        pl.knee(sample, **options)


def test_figures_leave_pyplot_alone():
    code = "import sys, gpuatac.pl; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
