"""What noisy inputs are drawn: measured, thinned, random cells; and the model a run starts from."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the nn extra")

import gpuatac as ga  # noqa: E402
from gpuatac.errors import InputError  # noqa: E402
from gpuatac.io.tracks.fragment_tracks import FragmentTracks  # noqa: E402
from gpuatac.nn.checkpoints import make_model, save_model  # noqa: E402
from gpuatac.nn.contract import ModelCard  # noqa: E402
from gpuatac.nn.denoising.examples.noisy_inputs import Cells, Measured, Thinned, Track  # noqa: E402
from gpuatac.nn.denoising.initial_weights import new_model  # noqa: E402

SIZES = {"chr1": 400_000, "chr2": 200_000}


@pytest.fixture(scope="module")
def adata(tmp_path_factory):
    """40 cells of about 300 fragments."""
    files = ga.simulate_fragments(
        tmp_path_factory.mktemp("cells") / "s", n_cells=40, n_types=2, fragments_per_cell=300,
        genome=ga.Genome("toy", SIZES), n_genes=10, n_distal_peaks=60, doublet_rate=0.0, seed=3,
    )  # fmt: skip
    return ga.pp.import_fragments(
        files.fragments, ga.Genome("toy", SIZES), min_num_fragments=100, sample="s", device="cpu"
    )


@pytest.fixture(scope="module")
def deep(adata):
    return Track(FragmentTracks(adata, [np.arange(adata.n_obs)], ["all"]))


def cuts(track, code=0):
    return track.source.bk.to_host(track.source.cuts(code, 0, 400_000))[track.row, 0]


def test_thinned_depths_are_log_uniform_and_seeds_give_other_reads(deep):
    low, high = deep.depth / 50, deep.depth / 2
    thinned = Thinned(deep, depth=(low, high))
    rng = np.random.default_rng(0)
    drawn = [thinned.draw(rng, 0) for _ in range(400)]
    logs = np.log([track.depth for track in drawn])
    assert logs.min() >= np.log(low) - 1e-9
    assert logs.max() <= np.log(high) + 1e-9
    assert np.mean(logs) == pytest.approx((np.log(low) + np.log(high)) / 2, abs=0.15)
    whole = cuts(deep)
    one, same, other = (cuts(thinned.fixed(seed)[2][1]) for seed in (0, 0, 9))
    assert (one <= whole).all()
    assert one.sum() / whole.sum() == pytest.approx(0.5, abs=0.05)
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_fixed_depths_are_the_ends_and_the_middle_or_those_named(deep):
    ends = [track.depth for _, track in Thinned(deep, depth=(100, 1600)).fixed(0)]
    np.testing.assert_allclose(ends, [100, 400, 1600])
    named = Thinned(deep, depths=(2000, 500)).fixed(0)
    assert [name for name, _ in named] == ["0.0005M", "0.002M"]
    drawn = {Thinned(deep, depths=(2000, 500)).draw(np.random.default_rng(k), 0).depth for k in range(20)}
    assert sorted(round(d) for d in drawn) == [500, 2000]


def test_a_range_that_ends_above_the_depth_is_lowered_and_one_that_begins_there_refused(deep, caplog):
    with caplog.at_level("WARNING"):
        thinned = Thinned(deep, depth=(1000, 1e9))
    assert thinned.depth == (1000, deep.depth)
    assert "reads at most" in caplog.text
    assert thinned.fixed(0)[-1][1] is deep
    for wrong in ({"depth": (1e8, 1e9)}, {"depths": (1000, 1e9)}):
        with pytest.raises(InputError, match=r"cannot be thinned to 1[0,]*00,000,000"):
            Thinned(deep, **wrong)


def test_cells_are_members_drawn_anew_each_epoch_and_their_depth_is_theirs(adata):
    members = np.arange(5, 35)
    cells = Cells(adata, members, [1, 7], resamples=3, seed=1)
    rng = np.random.default_rng(0)
    per_cell = FragmentTracks(adata, [[r] for r in range(adata.n_obs)], list(map(str, range(adata.n_obs))))
    rows = per_cell.cuts(0, 0, 400_000)[:, 0]
    for _ in range(10):
        track = cells.draw(rng, 2)
        found = cuts(track)
        assert track.depth == pytest.approx(float(track.source.depth[0]))
        assert (found <= rows[members].sum(0)).all()
    one = {
        cuts(Cells(adata, members, [1], resamples=3, seed=1).draw(np.random.default_rng(k), 0)).tobytes()
        for k in range(30)
    }
    assert len(one) == 3
    assert all(any(np.array_equal(np.frombuffer(b, np.float32), rows[m]) for m in members) for b in one)
    later = {
        cuts(Cells(adata, members, [1], resamples=3, seed=1).draw(np.random.default_rng(k), 1)).tobytes()
        for k in range(30)
    }
    assert one != later
    assert [name for name, _ in cells.fixed(0)] == ["1 cell", "7 cells"]
    for _, track in cells.fixed(0):
        assert cuts(track).sum() > 0
    with pytest.raises(InputError, match="50 cells are to be drawn of a group of 30"):
        Cells(adata, members, [50])


def test_a_measured_track_is_itself(deep):
    measured = Measured(deep, "mine")
    assert measured.draw(np.random.default_rng(0), 3) is deep
    assert measured.fixed(0) == [("mine", deep)]


def test_a_model_starts_from_a_seed_or_a_checkpoint(tmp_path):
    before = torch.get_rng_state()
    small = {"num_blocks": 1, "num_blocks_class": 1, "out_channels": 2, "kernel_size": 5}
    kind = "denoising_resnet"
    a, b, c = (new_model(kind, options=small, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    first = [next(iter(m.parameters())) for m in (a, b, c)]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])
    save_model(tmp_path / "m.pt", c, ModelCard())
    again = new_model(kind, options=small, init=tmp_path / "m.pt", seed=1)
    assert all(torch.equal(x, y) for x, y in zip(again.parameters(), c.parameters(), strict=True))
    with pytest.raises(InputError, match=r"do not fit the model \(.*size mismatch"):
        new_model(kind, options={**small, "kernel_size": 7}, init=tmp_path / "m.pt")
    multiscale = new_model("multiscale", options={}, suggested={"target_depth": 3e6, "half_width": 5})
    assert multiscale.options["target_depth"] == 3e6
    save_model(tmp_path / "l.pt", make_model("logistic", field=9), ModelCard())
    with pytest.raises(InputError, match="logistic"):
        new_model("linear", options={"field": 9}, init=tmp_path / "l.pt")


def test_a_part_of_a_library_is_thinned_to_the_depth_of_the_whole(deep):
    """A track that says to be of 100 M reads: half of it is of 50 M, whatever its file holds."""
    part = Track(deep.source, deep.row, 1e8)
    track = Thinned(part, depths=(5e7,)).draw(np.random.default_rng(0), 0)
    assert track.depth == 5e7
    assert cuts(track).sum() / cuts(deep).sum() == pytest.approx(0.5, abs=0.05)
