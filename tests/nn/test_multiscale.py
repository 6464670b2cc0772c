"""The model of any depth: features by hand, invariances, what it does without cuts, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import convolve1d

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra nn)")

from gpuatac.errors import InputError  # noqa: E402
from gpuatac.nn.contract import Batch, LossWeights  # noqa: E402
from gpuatac.nn.denoising.networks.multiscale import BACKGROUND, TRIANGLES, MultiscaleDenoiser, box  # noqa: E402


@pytest.fixture(scope="module")
def model():
    """Small, with a head that is not at its start, in double precision where a test asks for it."""
    torch.manual_seed(0)
    made = MultiscaleDenoiser(target_depth=80e6, filters=(6, 8, 8), kernel_sizes=(5, 3, 3)).eval()
    with torch.no_grad():
        made.head.weight.normal_(std=0.3)
    return made


def cuts_of(model, length, seed=0, rate=0.3, classes=1):
    rng = np.random.default_rng(seed)
    bins = (length + 2 * model.halo) // 8
    return torch.from_numpy(rng.poisson(rate, (2, classes, bins)).astype(np.float32))


def test_boxes_are_sums_of_neighbours():
    x = np.random.default_rng(1).poisson(2, (2, 1, 300)).astype(float)
    for width in (9, 25, 97):
        expected = convolve1d(x, np.ones(width), axis=-1, mode="constant")
        np.testing.assert_array_equal(box(torch.from_numpy(x).float(), width).numpy(), expected)


def test_mixed_rates_are_triangles_of_the_cuts_per_million_reads(model):
    x = cuts_of(model, 1024)
    depth = torch.tensor([2e6, 5e6])
    _, mixed = model.features(x, depth)
    bins = x.numpy().astype(float)[:, 0]
    for k, width in enumerate(TRIANGLES, start=1):
        once = convolve1d(bins, np.ones(width), axis=-1, mode="constant")
        twice = convolve1d(once, np.ones(width), axis=-1, mode="constant") * 25 / width**2
        np.testing.assert_allclose(mixed[:, k].numpy(), twice / np.array([[2.0], [5.0]]), rtol=1e-6, atol=1e-7)
    assert (mixed[:, -1] == BACKGROUND).all()


def test_nothing_beyond_the_halo_matters(model):
    x = cuts_of(model, model.align)
    depth = torch.tensor([1e6, 5e6])
    inside = model.predict(x, depth)
    far = torch.nn.functional.pad(x, (64, 64), value=7.0)
    further = MultiscaleDenoiser.predict(model, far, depth)
    middle = slice(512, 512 + model.align)
    torch.testing.assert_close(further.signal[:, middle], inside.signal, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(further.probability[:, middle], inside.probability, rtol=1e-5, atol=1e-6)


def test_every_base_reads_its_own_surroundings(model):
    """A cut that moves by ``align`` moves the output with it."""
    x = torch.zeros(1, 1, (2 * model.halo + 64 * model.align) // 8)
    x[0, 0, x.shape[-1] // 2] = 5
    depth = torch.tensor([1e6])
    here = model.predict(x, depth).signal
    there = model.predict(torch.roll(x, model.align // 8, -1), depth).signal
    torch.testing.assert_close(there[:, model.align :], here[:, : -model.align], rtol=1e-5, atol=1e-5)


def test_tiles_give_what_the_whole_gives(model):
    length = 40 * model.align
    x = cuts_of(model, length)
    depth = torch.tensor([1e6, 5e6])
    whole = model.predict(x, depth)
    step = 8 * model.align
    for a in range(0, length, step):
        part = model.predict(x[..., a // 8 : (a + step + 2 * model.halo) // 8], depth)
        for got, expected in zip(part, whole, strict=True):
            worst = (got - expected[:, a : a + step]).abs().max() / expected.abs().max()
            assert worst <= 1e-5


def test_without_cuts_the_output_is_the_empty_one(model):
    depth = torch.tensor([1e6, 5e6])
    nothing = model.empty_output(depth)
    out = model.predict(torch.zeros_like(cuts_of(model, 512)), depth)
    torch.testing.assert_close(out.signal, nothing.signal.expand(2, 512))
    torch.testing.assert_close(out.probability, nothing.probability.expand(2, 512))


def test_signal_grows_with_the_target_depth():
    torch.manual_seed(0)
    low = MultiscaleDenoiser(target_depth=10e6).eval()
    high = MultiscaleDenoiser(target_depth=50e6).eval()
    high.load_state_dict(low.state_dict())
    x, depth = cuts_of(low, 256), torch.tensor([1e6, 5e6])
    torch.testing.assert_close(high.predict(x, depth).signal, 5 * low.predict(x, depth).signal)


def test_lengths_are_read_where_they_are_known():
    torch.manual_seed(0)
    model = MultiscaleDenoiser(by_length=True).eval()
    with torch.no_grad():
        model.head.weight.normal_(std=0.3)
    x, depth = cuts_of(model, 256, classes=3), torch.tensor([1e6, 5e6])
    known = model.predict(x, depth).signal
    unknown = model.predict(x.sum(1, keepdim=True), depth).signal
    moved = model.predict(x.roll(1, 1), depth).signal
    assert (known - unknown).abs().max() > 1e-3
    assert (known - moved).abs().max() > 1e-3


def test_it_learns_a_rate():
    """Poisson cuts of a rate with steps: after some steps the loss is well below its start."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = MultiscaleDenoiser(target_depth=50e6, filters=(6, 8), kernel_sizes=(5, 3), dropout=0.0)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    bins = 512
    n = bins + 2 * model.halo // 8
    losses = []
    for _ in range(25):
        rate = np.repeat(rng.choice([0.02, 0.5], n // 32 + 1, p=[0.8, 0.2]), 32)[:n]
        x = torch.from_numpy(rng.poisson(rate, (4, 1, n)).astype(np.float32))
        inside = slice(model.halo // 8, -model.halo // 8)
        clean = torch.from_numpy(np.repeat(rate[inside] * 25 * 10, 8).astype(np.float32)).expand(4, -1)
        batch = Batch(clean, (clean > 50).float(), torch.ones_like(clean))
        loss = model.loss(x, torch.full((4,), 5e6), batch, LossWeights()).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.6 * losses[0]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"filters": (8, 8), "kernel_sizes": (5,)}, "kernel_sizes"),
        ({"kernel_sizes": (7, 7, 7, 5, 4)}, "odd"),
        ({"target_depth": 0}, "target_depth"),
        ({"dropout": 1}, "dropout"),
    ],
)
def test_options_out_of_range_are_named(options, named):
    with pytest.raises(InputError, match=named):
        MultiscaleDenoiser(**options)


def test_a_wrong_shape_is_named(model):
    with pytest.raises(InputError, match=r"extend the input"):
        model.predict(torch.zeros(1, 1, 100), torch.tensor([1e6]))


def test_high_counts_stay_as_measured(model):
    """A plateau of a thousand times what was ever seen: within the shape's share of the measured count."""
    x = torch.zeros(1, 1, (2 * model.halo + 16 * model.align) // 8)
    middle = x.shape[-1] // 2
    x[0, 0, middle - 60 : middle + 60] = 400.0
    out = model.predict(x, torch.tensor([80e6])).signal[0]
    assert out[out.shape[0] // 2].item() == pytest.approx(400 * 25, rel=0.02)


def test_cost_is_about_a_fiftieth_of_the_published_network():
    """Operations of the default models for one base of input."""
    from torch.utils.flop_counter import FlopCounterMode

    from gpuatac.nn.denoising.networks.resnet import DenoisingResNet

    cost = {}
    for made, bases_an_entry in ((MultiscaleDenoiser(target_depth=80e6), 8), (DenoisingResNet(), 1)):
        n = 2 * made.halo + 32_768
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            made.eval().predict(torch.zeros(1, 1, n // bases_an_entry), torch.tensor([5e6]))
        cost[made.kind] = counter.get_total_flops() / n
    assert 8_000 < cost["multiscale"] < 10_000
    assert 45 < cost["denoising_resnet"] / cost["multiscale"] < 60
