"""The figure of noisy, denoised and clean tracks: the numbers that are drawn, and their peaks."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.patches import StepPatch

from gpuatac import Genome, pl
from gpuatac.errors import InputError

GENOME = Genome("toy", {"chr1": 50_000, "chr2": 9_000})
REGION = ("chr1", 20_000, 26_000)


def tracks():
    rng = np.random.default_rng(0)
    noisy = rng.poisson(1.0, 6000).astype(np.float32)
    return {
        "noisy": noisy,
        "denoised": np.linspace(0, 40, 6000),
        "P(peak)": np.linspace(0, 1, 6000),
        "clean": noisy * 16,
    }


def axes(figure):
    return {ax.get_label().removeprefix("track:"): ax for ax in figure.axes if ax.get_label().startswith("track:")}


def drawn(ax):
    return next(p for p in ax.patches + ax.artists if isinstance(p, StepPatch)).get_data()


def test_each_track_is_drawn_as_means_of_bins_in_the_order_given():
    made = tracks()
    found = axes(pl.denoised(made, REGION, genome=GENOME, bin_size=100))
    assert list(found) == list(made)
    for name, track in made.items():
        data = drawn(found[name])
        np.testing.assert_allclose(data.values, track.reshape(60, 100).mean(axis=1), rtol=1e-6)
        np.testing.assert_array_equal(data.edges, np.arange(20_000, 26_001, 100))


def test_each_track_has_its_own_scale_unless_asked_for_one():
    tops = {name: ax.get_ylim()[1] for name, ax in axes(pl.denoised(tracks(), REGION, genome=GENOME)).items()}
    assert tops["clean"] > 10 * tops["P(peak)"]
    shared = pl.denoised(tracks(), REGION, genome=GENOME, shared_scale=True)
    assert len({ax.get_ylim() for ax in axes(shared).values()}) == 1


def test_files_give_what_arrays_give(tmp_path):
    values = np.zeros(50_000)
    values[21_000:21_500], values[21_500:22_000] = 3, 7
    path = tmp_path / "denoised.bedGraph"
    path.write_text("chr1\t21000\t21500\t3\nchr1\t21500\t22000\t7\n")
    file = axes(pl.denoised({"a": path}, "chr1:20,000-26,000", genome=GENOME, bin_size=50))["a"]
    array = axes(pl.denoised({"a": values[20_000:26_000]}, REGION, genome=GENOME, bin_size=50))["a"]
    np.testing.assert_array_equal(drawn(file).values, drawn(array).values)


def test_peaks_lie_under_their_track():
    figure = pl.denoised(
        tracks(), REGION, genome=GENOME, peaks={"clean": ["chr1:20100-20400", "chr2:5-9"], "noisy": []}
    )
    found = axes(figure)
    bars = {name: [c for c in ax.collections if c.get_gid() == "peaks"] for name, ax in found.items()}
    assert [name for name, some in bars.items() if some] == ["clean"]
    corners = bars["clean"][0].get_paths()[0].vertices[:, 0]
    assert (corners.min(), corners.max()) == (20_100, 20_400)
    assert len(bars["clean"][0].get_paths()) == 1


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_it_is_saved(tmp_path, suffix):
    path = tmp_path / f"locus{suffix}"
    pl.denoised({"noisy": tracks()["noisy"]}, REGION, genome=GENOME, save=path)
    assert path.stat().st_size > 1000


def test_bad_arguments_are_refused():
    with pytest.raises(InputError, match="tracks is empty"):
        pl.denoised({}, REGION, genome=GENOME)
    with pytest.raises(InputError, match=r"track 'a' has shape \(5,\), the region 6,000 bases"):
        pl.denoised({"a": np.zeros(5)}, REGION, genome=GENOME)
    with pytest.raises(InputError, match="peaks are given for 'b', which is no track; allowed: 'a'"):
        pl.denoised({"a": np.zeros(6000)}, REGION, genome=GENOME, peaks={"b": ["chr1:1-2"]})
    with pytest.raises(InputError, match="genome is None, and arrays do not tell it"):
        pl.denoised({"a": np.zeros(6000)}, REGION)
    with pytest.raises(InputError, match="0 <= start < end"):
        pl.denoised({"a": np.zeros(6000)}, "chr1:49,000-55,000", genome=GENOME)


@pytest.mark.parametrize("groups", [["T"], ["T", "B"]])
def test_what_denoised_tracks_returns_is_drawn_as_it_is(groups):
    from gpuatac.tl._denoise import DenoisedTracks

    noisy = np.arange(len(groups) * 1000, dtype=np.float32).reshape(len(groups), 1000)
    found = DenoisedTracks(groups, np.ones(len(groups)), "chr1", 5000, 6000, noisy, noisy * 2, noisy / noisy.max())
    figure = pl.denoised(found, genome="hg38")
    names = [ax.get_label() for ax in figure.axes if ax.get_label().startswith("track")]
    of = [""] if len(groups) == 1 else ["T, ", "B, "]
    assert names == [f"track:{group}{what}" for group in of for what in ("noisy", "denoised")]
    with pytest.raises(InputError, match="region is not given"):
        pl.denoised({"noisy": noisy[0]}, genome="hg38")
