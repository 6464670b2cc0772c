"""Heat map of regions: values, order, names, and what is refused."""

from __future__ import annotations

import itertools

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from anndata.io import sparse_dataset, write_elem
from scipy import sparse

from gpuatac import pl
from gpuatac.errors import InputError, MissingSlotError
from gpuatac.pl._regions import spread

N_PEAKS = 60
NAMES = [f"chr1:{i * 1000}-{i * 1000 + 200 + 10 * i}" for i in range(N_PEAKS)]
GROUPS = ("T", "B", "NK")


@pytest.fixture(scope="module")
def peaks():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, 90)
    rate = np.full((3, N_PEAKS), 0.4)
    for g in range(3):
        rate[g, g * 10 : g * 10 + 10] = 3
    counts = rng.poisson(rate[group])
    counts[:, 50] = 0
    obs = pd.DataFrame(
        {"type": pd.Categorical(np.array(GROUPS)[group], [*GROUPS, "nobody"])}, index=[f"c{i}" for i in range(90)]
    )
    return ad.AnnData(sparse.csr_matrix(counts.astype(np.int32)), obs=obs, var=pd.DataFrame(index=NAMES))


def values_by_hand(adata, groups=GROUPS):
    """log2(1 + RPKM), regions x groups, loop by loop."""
    counts = adata.X.toarray().astype(float)
    out = np.zeros((N_PEAKS, len(groups)))
    for j, g in enumerate(groups):
        total = counts[(adata.obs["type"] == g).to_numpy()].sum(axis=0)
        for i in range(N_PEAKS):
            length = 200 + 10 * i
            out[i, j] = np.log2(1 + total[i] / (total.sum() / 1e6) / (length / 1e3))
    return out


def z_of(values):
    z = np.zeros_like(values)
    for i, row in enumerate(values):
        if row.std() > 0:
            z[i] = (row - row.mean()) / row.std()
    return z


MARKERS = {"B": NAMES[10:20], "T": NAMES[:10], "other": [NAMES[50], NAMES[40]]}


def image(figure):
    return figure.axes[0].images[0].get_array().data


def block_names(figure):
    return [t.get_text() for t in figure.axes[0].texts if t.get_gid() == "block"]


def test_rows_are_z_scores_in_blocks_of_the_groups_order_and_fall_within_a_block(peaks):
    figure = pl.regions(peaks, "type", MARKERS)
    z = z_of(values_by_hand(peaks))
    rows = [*sorted(range(10), key=lambda i: -z[i, 0]), *sorted(range(10, 20), key=lambda i: -z[i, 1]), 50, 40]
    np.testing.assert_allclose(image(figure), z[rows], rtol=1e-9, atol=1e-12)
    assert block_names(figure) == ["T (10)", "B (10)", "other (2)"]
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == list(GROUPS)
    assert not image(figure)[20].any()  # a region without counts


def test_values_can_be_shown_as_they_are(peaks):
    figure = pl.regions(peaks, "type", NAMES[30:35], zscore=False)
    np.testing.assert_allclose(image(figure), values_by_hand(peaks)[30:35], rtol=1e-9)
    assert block_names(figure) == ["5 regions"]
    assert figure.axes[0].child_axes[0].get_ylabel() == "log2(1 + RPKM)"
    assert pl.regions(peaks, "type", NAMES[:5]).axes[0].child_axes[0].get_ylabel() == "z-score of log2(1 + RPKM)"


@pytest.mark.parametrize("kind", ["dense", "csc", "float32", "disk", "view"])
def test_every_kind_of_matrix_gives_the_same_values(peaks, kind, tmp_path):
    expected = image(pl.regions(peaks, "type", MARKERS))
    adata = peaks.copy()
    if kind == "disk":
        with h5py.File(tmp_path / "x.h5", "w") as file:
            write_elem(file, "X", peaks.X)
        adata.X = sparse_dataset(h5py.File(tmp_path / "x.h5", "r")["X"])
    elif kind == "view":
        twice = ad.concat([peaks, peaks], index_unique="-")
        twice.var = peaks.var
        adata = twice[: peaks.n_obs]
        assert adata.is_view
    else:
        adata.X = {"dense": peaks.X.toarray(), "csc": peaks.X.tocsc(), "float32": peaks.X.astype(np.float32)}[kind]
    np.testing.assert_allclose(image(pl.regions(adata, "type", MARKERS)), expected, rtol=1e-6)


def test_selections_limit_the_groups_and_the_scores(peaks):
    figure = pl.regions(peaks, "type", {"B": NAMES[10:20]}, selections=["NK", "B"])
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["B", "NK"]
    z = z_of(values_by_hand(peaks, ("B", "NK")))[10:20]
    np.testing.assert_allclose(np.sort(image(figure)[:, 0]), np.sort(z[:, 0]))


def test_lengths_come_from_var_where_it_has_them(peaks):
    adata = peaks.copy()
    adata.var_names = [f"peak{i}" for i in range(N_PEAKS)]
    adata.var["start"] = 1000 * np.arange(N_PEAKS)
    adata.var["end"] = adata.var["start"] + 200 + 10 * np.arange(N_PEAKS)
    shown = image(pl.regions(adata, "type", ["peak3", "peak44"], zscore=False))
    np.testing.assert_allclose(shown, values_by_hand(peaks)[[3, 44]])


def test_scale_is_symmetric_and_says_where_values_lie_beyond_it(peaks):
    figure = pl.regions(peaks, "type", MARKERS, vmax=1.0)
    assert figure.axes[0].images[0].get_clim() == (-1.0, 1.0)
    assert figure.axes[0].images[0].colorbar.extend == "both"


def test_thousands_of_regions_and_forty_groups_are_drawn_with_their_names_apart():
    rng = np.random.default_rng(0)
    names = [f"chr2:{i * 10}-{i * 10 + 9}" for i in range(4000)]
    adata = ad.AnnData(sparse.csr_matrix(rng.poisson(0.5, (200, 4000)).astype(np.int32)), var=pd.DataFrame(index=names))
    adata.obs["g"] = pd.Categorical([f"a long name of group {i % 40}" for i in range(200)])
    blocks = {f"a long name of group {i}": names[i * 90 : i * 90 + (90 if i < 30 else 2)] for i in range(40)}
    figure = pl.regions(adata, "g", blocks)
    figure.draw_without_rendering()
    boxes = sorted((t.get_window_extent() for t in figure.axes[0].texts if t.get_gid() == "block"), key=lambda b: b.y0)
    assert len(boxes) == 40
    assert all(b.y0 - a.y0 > 0.8 * a.height for a, b in itertools.pairwise(boxes))
    assert min(b.x0 for b in boxes) >= 0
    ticks = [t.get_window_extent() for t in figure.axes[0].get_xticklabels()]
    assert min(t.y0 for t in ticks) >= 0
    assert all(b.x0 >= a.x1 - 1 for a, b in itertools.pairwise(ticks))
    assert image(figure).shape == (30 * 90 + 20, 40)


def test_positions_move_apart_as_little_as_needed():
    np.testing.assert_allclose(spread(np.array([1.0, 5.0, 9.0]), 1, 10), [1, 5, 9])
    np.testing.assert_allclose(spread(np.array([5.0, 5.0, 5.0]), 1, 10), [4, 5, 6])
    np.testing.assert_allclose(spread(np.array([0.0, 0.1, 9.0]), 1, 10), [0.5, 1.5, 9.0])
    np.testing.assert_allclose(spread(np.array([9.8, 9.9, 10.0]), 1, 10), [7.5, 8.5, 9.5])


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_figure_is_saved(peaks, tmp_path, suffix):
    pl.regions(peaks, "type", MARKERS, title="Markers", save=tmp_path / f"r.{suffix}")
    assert (tmp_path / f"r.{suffix}").stat().st_size > 3000


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"peaks": {}}, InputError, "peaks names no region"),
        ({"peaks": {"T": []}}, InputError, "peaks names no region"),
        ({"peaks": {"T": [NAMES[0], "chr1:1-2"]}}, InputError, "1 of 2 regions are not in adata.var_names"),
        ({"groupby": "nothing"}, MissingSlotError, "adata.obs has no 'nothing'"),
        ({"selections": ["Q"]}, InputError, "selections names 'Q'"),
        ({"vmax": 0}, InputError, "vmax must be at least"),
        ({"figsize": (1, 1)}, InputError, "figsize must be at least"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(peaks, options, error, match):
    with pytest.raises(error, match=match):
        pl.regions(peaks, **{"groupby": "type", "peaks": MARKERS, **options})


def test_regions_without_a_length_or_a_matrix_are_refused(peaks):
    nameless = peaks.copy()
    nameless.var_names = [f"p{i}" for i in range(N_PEAKS)]
    with pytest.raises(InputError, match="regions have no length"):
        pl.regions(nameless, "type", ["p1"])
    with pytest.raises(MissingSlotError, match="holds no matrix"):
        pl.regions(ad.AnnData(obs=peaks.obs), "type", NAMES[:2])
