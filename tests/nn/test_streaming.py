"""Chromosomes in tiles: every base once, the same numbers whatever the tile, nothing computed where nothing is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from devices import torch_device

torch = pytest.importorskip("torch", reason="the denoiser needs PyTorch (extra nn)")

from gpuatac.backend import get  # noqa: E402
from gpuatac.core.track_source import HUMAN  # noqa: E402
from gpuatac.errors import InputError  # noqa: E402
from gpuatac.genome import Genome  # noqa: E402
from gpuatac.nn.checkpoints import make_model  # noqa: E402
from gpuatac.nn.contract import Denoised  # noqa: E402
from gpuatac.nn.denoising import streaming  # noqa: E402
from gpuatac.nn.denoising.networks.layers import CoverageModel  # noqa: E402
from gpuatac.nn.denoising.networks.linear import Linear  # noqa: E402
from gpuatac.nn.denoising.networks.multiscale import MultiscaleDenoiser  # noqa: E402
from gpuatac.nn.denoising.networks.resnet import DenoisingResNet  # noqa: E402
from gpuatac.nn.denoising.networks.unet import UNet  # noqa: E402
from gpuatac.nn.denoising.streaming import denoise_chromosome  # noqa: E402
from gpuatac.nn.dlpack import as_array, as_tensor  # noqa: E402

SIZES = {"chr1": 20_011, "chrM": 37}


class ArrayTracks:
    """A track source over arrays of cuts (n_groups, bases) in memory."""

    has_lengths = False

    def __init__(self, bk, cuts: dict[int, np.ndarray], *, half_width: int = 100, has_cuts: bool = True) -> None:
        self.bk, self.half_width, self.has_cuts = bk, half_width, has_cuts
        self.genome = Genome("two", SIZES)
        n_groups = next(iter(cuts.values())).shape[0]
        self.groups = [f"group {g}" for g in range(n_groups)]
        self.depth = 1e6 * (1.0 + np.arange(n_groups))
        self.codes = sorted(cuts)
        self.host_cuts = cuts
        self.host = {code: covered(c, half_width) for code, c in cuts.items()}
        self.asked: list[tuple[int, int]] = []

    def coverage(self, code, start, stop):
        assert 0 <= start < stop <= self.genome.sizes[code]
        self.asked.append((start, stop))
        return self.bk.asarray(np.ascontiguousarray(self.host[code][:, start:stop]))

    def cuts(self, code, start, stop, *, bin_size=1, by_length=False):
        assert self.has_cuts
        assert start % bin_size == stop % bin_size == 0
        assert 0 <= start < stop
        assert not by_length
        wide = np.pad(self.host_cuts[code], ((0, 0), (0, bin_size)))[:, start:stop]
        binned = wide[:, : wide.shape[1] // bin_size * bin_size].reshape(wide.shape[0], 1, -1, bin_size).sum(3)
        return self.bk.asarray(binned.astype(np.float32))

    def empty(self, code, start, stop):
        bare = np.pad(~self.host[code][:, start:stop].any(0), 1).astype(np.int8)
        runs = np.flatnonzero(np.diff(bare)).reshape(-1, 2) + start
        return runs[np.diff(runs)[:, 0] >= 1000].astype(np.int64)


class TracksWithLengths(ArrayTracks):
    """Cuts at positions of one remainder by 3 are of fragments of one class of lengths."""

    has_lengths = True

    def cuts(self, code, start, stop, *, bin_size=1, by_length=False):
        if not by_length:
            return super().cuts(code, start, stop, bin_size=bin_size)
        whole, classes = self.host_cuts, []
        for k in range(3):
            self.host_cuts = {code: np.where(np.arange(whole[code].shape[1]) % 3 == k, whole[code], 0)}
            classes.append(self.bk.to_host(super().cuts(code, start, stop, bin_size=bin_size)))
        self.host_cuts = whole
        return self.bk.asarray(np.concatenate(classes, axis=1))


class BinnedMean(torch.nn.Module):
    """A model of cuts in bins of 8 bp: the mean count of 2 bins on either side, over all bases of the bin."""

    kind, inputs, bin_size, n_extra, halo, align = "mean", "cuts", 8, 0, 16, 16

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((1, 1, 5), 0.2))

    def predict(self, x, depth):
        out = torch.nn.functional.conv1d(x, self.weight)[:, 0].repeat_interleave(8, 1)
        return Denoised(out / depth[:, None], torch.sigmoid(out))

    def empty_output(self, depth):
        return Denoised(torch.zeros(len(depth), 1), torch.full((len(depth), 1), 0.5))


def a_model_of_lengths() -> MultiscaleDenoiser:
    torch.manual_seed(0)
    model = MultiscaleDenoiser(filters=(4,), kernel_sizes=(3,), by_length=True, target_depth=1e6).eval()
    with torch.no_grad():
        model.head.weight.normal_(std=0.5)
    return model


def covered(cuts: np.ndarray, half_width: int) -> np.ndarray:
    total = np.pad(cuts.cumsum(1), ((0, 0), (1, 0)))
    at = np.arange(cuts.shape[1])
    above, below = np.minimum(at + half_width + 1, cuts.shape[1]), np.maximum(at - half_width, 0)
    return (total[:, above] - total[:, below]).astype(np.float32)


def some_cuts(seed: int = 0, n_groups: int = 3, gaps=()) -> dict[int, np.ndarray]:
    rng = np.random.default_rng(seed)
    cuts = {code: rng.poisson(0.02, (n_groups, size)) for code, size in enumerate(SIZES.values())}
    for start, stop in gaps:
        cuts[0][:, start:stop] = 0
    return cuts


def a_model(**options) -> DenoisingResNet:
    torch.manual_seed(0)
    model = DenoisingResNet(
        **{"num_blocks": 1, "num_blocks_class": 1, "kernel_size": 9, "kernel_size_class": 9, **options}
    )
    model.regressor.conv_layer.weight.data.abs_()
    return model


def whole_of(model, source, code=0):
    """Signal and probability of a whole chromosome at once, by the plain network on zeros beyond its ends."""
    x = torch.from_numpy(source.host[code])[:, None]
    beyond = model.halo + (-x.shape[-1]) % model.align
    with torch.no_grad():
        signal, logit = CoverageModel.outputs(model.eval(), torch.nn.functional.pad(x, (model.halo, beyond)))
    return [out[:, : x.shape[-1]].numpy() for out in (signal, torch.sigmoid(logit))]


def joined(stretches, start, stop):
    """The stretches one after the other; they must cover [start, stop) without a gap."""
    stretches = list(stretches)
    assert [s.start for s in stretches] == [start, *(s.stop for s in stretches[:-1])]
    assert stretches[-1].stop == stop
    for s in stretches:
        assert s.signal.shape == s.probability.shape == (s.signal.shape[0], s.stop - s.start)
        assert s.signal.dtype == s.probability.dtype == torch.float32
        assert not s.signal.requires_grad
    return [torch.cat([s[i] for s in stretches], 1).cpu().numpy() for i in (2, 3)]


def assert_near(found, expected, tolerance=1e-5):
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= tolerance * np.abs(other).max()


# ------------------------------------------------------------------------------------------------ tiles


@pytest.mark.parametrize("tile", [None, 500, 4096, 10**7])
@pytest.mark.parametrize("skip_empty", [True, False])
def test_tiled_is_whole_for_any_tile(tile, skip_empty, monkeypatch):
    monkeypatch.setattr(streaming, "LEAST_SKIPPED", 200)
    source = ArrayTracks(get("cpu"), some_cuts(gaps=[(0, 3000), (7000, 9000), (19_000, 20_011)]))
    model = a_model()
    found = joined(denoise_chromosome(model, source, 0, tile=tile, skip_empty=skip_empty), 0, SIZES["chr1"])
    assert_near(found, whole_of(model, source))
    assert model.training is False


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (5, 6), (13, 1501), (19_000, 20_011), (7, 20_011), (20_010, 20_011)]
)
def test_any_part_is_that_part_of_the_whole(start, stop):
    source, model = ArrayTracks(get("cpu"), some_cuts()), a_model(dilation_class=3)
    found = joined(denoise_chromosome(model, source, 0, start=start, stop=stop, tile=3000), start, stop)
    assert_near(found, [out[:, start:stop] for out in whole_of(model, source)])


def test_a_chromosome_shorter_than_the_halo_is_predicted_whole():
    source, model = ArrayTracks(get("cpu"), some_cuts()), a_model()
    assert model.halo > SIZES["chrM"]
    assert_near(joined(denoise_chromosome(model, source, 1), 0, 37), whole_of(model, source, 1))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("options", [{}, {"kernel_size": 8, "dilation_class": 3}], ids=str)
def test_numbers_do_not_depend_on_the_part_and_bits_do_not_where_tiles_are_as_long(options, precision, monkeypatch):
    monkeypatch.setattr(streaming, "LEAST_SKIPPED", 200)
    source, model = ArrayTracks(get("cpu"), some_cuts(gaps=[(7000, 9000)])), a_model(**options)

    def denoised(start, stop, **how):
        return joined(
            denoise_chromosome(model, source, 0, start=start, stop=stop, precision=precision, **how), start, stop
        )

    tile = 16 * 384
    whole = denoised(0, 3 * tile, skip_empty=False, tile=tile)
    part = denoised(tile, 3 * tile, skip_empty=False, tile=tile)
    for found, expected in zip(part, whole, strict=True):
        assert np.array_equal(found, expected[:, tile:])
    for start, stop, how in ((0, 3 * tile, {"tile": 1000}), (4011, 12_345, {"tile": 3000}), (5, 12_345, {})):
        expected = [out[:, start:stop] for out in whole]
        assert_near(denoised(start, stop, **how), expected, 1e-5 if precision == "float32" else 0.02)


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_groups_in_parts_are_the_groups_together(at_once, monkeypatch):
    monkeypatch.setitem(streaming.POSITIONS_AT_ONCE, "cpu", at_once * 2000)
    source, model = ArrayTracks(get("cpu"), some_cuts(n_groups=5)), a_model()
    assert_near(joined(denoise_chromosome(model, source, 0, tile=2000), 0, SIZES["chr1"]), whole_of(model, source))


def test_unet_is_tiled_in_steps_of_its_stride():
    torch.manual_seed(0)
    model = UNet(channels=(3, 4), kernel_sizes=(5, 5), bottleneck_channels=5, bottleneck_kernel_size=6)
    source = ArrayTracks(get("cpu"), some_cuts(n_groups=1))
    found = joined(denoise_chromosome(model, source, 0, start=1001, stop=5003, tile=1500), 1001, 5003)
    assert_near(found, [out[:, 1001:5003] for out in whole_of(model, source)])


@pytest.mark.parametrize("tile", [None, 100, 5000])
def test_a_model_of_binned_cuts_is_given_cuts_beyond_the_ends(tile):
    source, model = ArrayTracks(get("cpu"), some_cuts(n_groups=2)), BinnedMean()
    found = joined(denoise_chromosome(model, source, 0, tile=tile), 0, SIZES["chr1"])
    bins = np.pad(source.host_cuts[0], ((0, 0), (0, -SIZES["chr1"] % 8))).reshape(2, -1, 8).sum(2)
    mean = np.stack([np.convolve(one, np.full(5, 0.2), "same") for one in bins]).repeat(8, 1)[:, : SIZES["chr1"]]
    np.testing.assert_allclose(found[0], mean / source.depth[:, None], rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(found[1], 1 / (1 + np.exp(-mean)), rtol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_multiscale_model_gives_the_same_whatever_the_tile(precision):
    torch.manual_seed(0)
    model = make_model("multiscale")
    source = ArrayTracks(get("cpu"), some_cuts(n_groups=2, gaps=[(6000, 20_011)]))
    whole, parts, dense = (
        joined(denoise_chromosome(model, source, 0, precision=precision, **how), 0, SIZES["chr1"])
        for how in ({}, {"tile": 2000}, {"skip_empty": False})
    )
    assert_near(parts, whole, 1e-5 if precision == "float32" else 0.02)
    assert_near(dense, whole, 1e-5 if precision == "float32" else 0.02)


# ---------------------------------------------------------------------------------------------- skipping


def test_an_empty_stretch_is_skipped_and_what_comes_out_is_exact(monkeypatch):
    monkeypatch.setattr(streaming, "LEAST_SKIPPED", 1000)
    cuts = some_cuts(gaps=[(5000, 12_000)])
    cuts[0][:, [4999, 12_000]] = 1
    source, model = ArrayTracks(get("cpu"), cuts), a_model()
    stretches = list(denoise_chromosome(model, source, 0, tile=2000))
    inner = [s for s in stretches if 5100 + model.halo <= s.start and s.stop <= 11_900 - model.halo]
    assert sum(s.stop - s.start for s in inner) >= 6800 - 2 * model.halo - model.align - model.grain
    for s in inner:
        assert not s.signal.any()
        assert len(torch.unique(s.probability)) == 1
    computed = sum(stop - start for start, stop in source.asked)
    assert computed < 14_000 + 2 * model.halo * len(source.asked)
    source.asked.clear()
    dense = joined(denoise_chromosome(model, source, 0, tile=2000, skip_empty=False), 0, SIZES["chr1"])
    assert_near(joined(stretches, 0, SIZES["chr1"]), dense)


def test_a_chromosome_without_a_cut_is_not_computed_at_all():
    source = ArrayTracks(get("cpu"), {0: np.zeros((2, SIZES["chr1"]), np.int64)})
    found = joined(denoise_chromosome(a_model(), source, 0, tile=4000), 0, SIZES["chr1"])
    assert source.asked == []
    assert not found[0].any()
    assert len(np.unique(found[1])) == 1
    assert_near(found[1:], whole_of(a_model(), source)[1:])


def test_a_cut_at_an_end_is_felt_as_far_as_the_halo_and_no_cut_is_missed():
    cuts = {0: np.zeros((1, SIZES["chr1"]), np.int64)}
    cuts[0][0, [0, 9000, SIZES["chr1"] - 1]] = 50
    source, model = ArrayTracks(get("cpu"), cuts), a_model()
    assert_near(joined(denoise_chromosome(model, source, 0, tile=1000), 0, SIZES["chr1"]), whole_of(model, source))


# ------------------------------------------------------------------------------- precision, extra tracks


def test_bfloat16_is_near_float32():
    source, model = ArrayTracks(get("cpu"), some_cuts()), a_model()
    exact = joined(denoise_chromosome(model, source, 0, stop=4000), 0, 4000)
    rough = joined(denoise_chromosome(model, source, 0, stop=4000, precision="bfloat16"), 0, 4000)
    assert 0 < np.abs(exact[0] - rough[0]).max() <= 0.03 * exact[0].max()
    assert np.abs(exact[1] - rough[1]).max() <= 0.03


def test_extra_tracks_are_stacked_after_the_coverage():
    source, model = ArrayTracks(get("cpu"), some_cuts(n_groups=2)), a_model(in_channels=3)
    tracks = np.random.default_rng(3).random((2, SIZES["chr1"])).astype(np.float32)
    found = joined(
        denoise_chromosome(model, source, 0, extra=lambda _, a, b: tracks[:, a:b], tile=3000), 0, SIZES["chr1"]
    )
    x = np.stack([np.concatenate([one[None], tracks]) for one in source.host[0]])
    wide = torch.nn.functional.pad(torch.from_numpy(x), (model.halo, model.halo + 5))
    with torch.no_grad():
        signal, logit = CoverageModel.outputs(model, wide)
    assert_near(found, [signal[:, :-5].numpy(), torch.sigmoid(logit)[:, :-5].numpy()])


# ---------------------------------------------------------------------------------------------- no copy


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.float64])
def test_array_and_tensor_are_one_memory(bk, dtype):
    array = bk.asarray(np.arange(12, dtype=dtype).reshape(3, 4))
    tensor = as_tensor(array)
    pointer = array.ctypes.data if bk.name == "cpu" else array.data.ptr
    assert tensor.data_ptr() == pointer
    assert tensor.device.type == torch_device(bk).type
    tensor[1, 2] = 77
    back = as_array(tensor, bk)
    assert float(array[1, 2]) == float(back[1, 2]) == 77
    if bk.name == "cpu" or tensor.is_cuda:  # the stand-in's tensors are PyTorch's of the host
        assert (back.ctypes.data if bk.name == "cpu" else back.data.ptr) == pointer


def test_a_read_only_array_is_copied_and_stays_as_it_is():
    array = np.arange(3.0)
    array.flags.writeable = False
    tensor = as_tensor(array)
    tensor[0] = 9
    assert array[0] == 0


def test_coverage_reaches_the_model_without_a_copy(bk):
    seen, given = [], []

    class Watching(Linear):
        def predict(self, x, depth):
            seen.append(x.data_ptr())
            return super().predict(x, depth)

    class Remembering(ArrayTracks):
        def coverage(self, code, start, stop):
            given.append(super().coverage(code, start, stop))
            return given[-1]

    model = Watching(field=51).to(torch_device(bk))
    list(denoise_chromosome(model, Remembering(bk, some_cuts()), 0, start=1000, stop=6000, tile=2000))
    assert len(seen) == 3
    assert seen == [a.ctypes.data if bk.name == "cpu" else a.data.ptr for a in given]


@pytest.mark.parametrize("options", [{}, {"kernel_size": 50, "kernel_size_class": 50, "dilation_class": 10}], ids=str)
def test_each_device_gives_what_the_plain_network_gives_on_the_cpu(bk, options):
    model = a_model(**options)
    expected = whole_of(model, ArrayTracks(get("cpu"), some_cuts()))
    source, model = ArrayTracks(bk, some_cuts()), model.to(torch_device(bk))
    for compiled in (False, True) if torch_device(bk).type == "cuda" else (False,):
        for tile in (3000, 3000, 5000):  # captured, replayed, captured anew
            found = joined(denoise_chromosome(model, source, 0, tile=tile, compiled=compiled), 0, SIZES["chr1"])
            assert_near(found, expected)


# -------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": -1}, "start must be in"),
        ({"stop": 20_012}, "stop must be in"),
        ({"start": 9, "stop": 9}, "stop must be in"),
        ({"tile": 0}, "tile must be at least 1"),
        ({"precision": "float16"}, "precision must be one of 'float32', 'bfloat16'"),
        ({"compiled": "graph"}, "a CUDA graph needs a model on a GPU"),
        ({"extra": lambda *_: None}, "the model reads 0 extra tracks, and some were given"),
    ],
)
def test_arguments_out_of_range_are_refused_before_anything_is_read(arguments, message):
    source = ArrayTracks(get("cpu"), some_cuts())
    with pytest.raises(InputError, match=message):
        denoise_chromosome(a_model(), source, 0, **arguments)
    assert source.asked == []


def test_tracks_that_do_not_hold_what_the_model_reads_are_refused():
    source = ArrayTracks(get("cpu"), some_cuts(), has_cuts=False)
    with pytest.raises(InputError, match="reads cuts"):
        denoise_chromosome(BinnedMean(), source, 0)
    with pytest.raises(InputError, match="reads 1 extra tracks, and none was given"):
        denoise_chromosome(a_model(in_channels=2), source, 0)
    stretches = denoise_chromosome(a_model(in_channels=2), source, 0, extra=lambda *_: np.zeros((2, 5), np.float32))
    with pytest.raises(InputError, match="extra tracks of"):
        list(stretches)


def test_training_mode_is_given_back_even_after_an_error():
    source, model = ArrayTracks(get("cpu"), some_cuts()), a_model(in_channels=2).train()
    for extra in (lambda *_: np.zeros((9, 9), np.float32), lambda _, a, b: np.zeros((1, b - a), np.float32)):
        stretches = denoise_chromosome(model, source, 0, extra=extra, stop=100)
        try:
            next(stretches)
        except InputError:
            pass
        assert model.training
        assert torch.is_grad_enabled()
    assert list(itertools.islice(stretches, 1)) == []


def test_a_model_of_fragment_lengths_takes_a_track_that_does_not_know_them():
    cuts = some_cuts(n_groups=1)
    without, model = ArrayTracks(get("cpu"), cuts), a_model_of_lengths()
    signal, _ = joined(denoise_chromosome(model, without, 0), 0, SIZES["chr1"])
    x = np.pad(cuts[0], ((0, 0), (model.halo, model.halo + 8 - SIZES["chr1"] % 8)))
    with torch.no_grad():
        expected = model.predict(
            torch.from_numpy(x.reshape(1, 1, -1, 8).sum(3).astype(np.float32)), torch.tensor([1e6])
        )
    np.testing.assert_allclose(signal, expected.signal[:, : SIZES["chr1"]].numpy(), rtol=1e-5)
    other, _ = joined(denoise_chromosome(model, TracksWithLengths(get("cpu"), cuts), 0), 0, SIZES["chr1"])
    assert np.abs(signal - other).max() > 1e-3


def test_what_is_skipped_is_as_if_computed_where_lengths_are_known():
    source, model = TracksWithLengths(get("cpu"), some_cuts(gaps=[(9000, 20_011)])), a_model_of_lengths()
    skipped, computed = (
        joined(denoise_chromosome(model, source, 0, skip_empty=skip), 0, SIZES["chr1"]) for skip in (True, False)
    )
    assert_near(skipped, computed, 1e-6)


def test_a_model_of_any_depth_is_told_how_dense_reads_lie():
    """The same cuts on a small genome, as a whole library and as a part of a human one of the same density."""
    torch.manual_seed(0)
    model = MultiscaleDenoiser(filters=(6, 8), kernel_sizes=(5, 3)).eval()
    cuts = {0: np.random.default_rng(0).poisson(0.02, (1, SIZES["chr1"]))}
    reads = float(cuts[0].sum())
    signals = []
    for depth in (reads, reads * HUMAN / sum(SIZES.values())):
        source = ArrayTracks(get("cpu"), cuts)
        source.depth, source.cuts_held = np.array([depth]), np.array([reads])
        signals.append(torch.cat([stretch.signal for stretch in denoise_chromosome(model, source, 0)], 1))
    assert signals[0].max() > 0
    torch.testing.assert_close(*signals)
