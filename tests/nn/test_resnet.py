"""The published residual network: its description in NumPy, its sizes, and its interleaved form, option by option."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the denoiser needs PyTorch (extra nn)")

from gpuatac.errors import InputError  # noqa: E402
from gpuatac.nn.contract import Batch, LossWeights  # noqa: E402
from gpuatac.nn.denoising.networks.interleaved import Interleaved, Stacks, banded  # noqa: E402
from gpuatac.nn.denoising.networks.layers import CoverageModel  # noqa: E402
from gpuatac.nn.denoising.networks.resnet import DenoisingResNet  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
oracle = importlib.import_module("oracle_networks")

SMALL = {"num_blocks": 2, "num_blocks_class": 1, "kernel_size": 7, "kernel_size_class": 5}
OPTIONS = {
    "published": {},
    "published, first weights": {"kernel_size": 50, "kernel_size_class": 50, "dilation_class": 10},
    "published, 12 filters of 201 taps without dilation": {
        "out_channels": 12, "out_channels_class": 12, "kernel_size": 201, "kernel_size_class": 201, "dilation": 1,
        "dilation_class": 1, "num_blocks": 2, "num_blocks_class": 1,
    },
    "extra tracks": {**SMALL, "in_channels": 3},
    "prelu": {**SMALL, "afunc": "prelu"},
    "batch normalisation": {**SMALL, "bn": True, "afunc": "prelu"},
    "other dilations": {**SMALL, "dilation": 3, "dilation_class": 4},
    "even kernels, odd dilation": {**SMALL, "kernel_size": 6, "kernel_size_class": 4, "dilation": 5, "dilation_class": 3},
    "other filters for peaks": {**SMALL, "out_channels": 5, "out_channels_class": 17},
    "one tap": {**SMALL, "kernel_size": 1, "kernel_size_class": 2},
}  # fmt: skip


def a_network(seed: int = 0, **options) -> DenoisingResNet:
    torch.manual_seed(seed)
    model = DenoisingResNet(**options)
    for module in model.modules():  # as after some training
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.normal_(module.bias, 0, 0.2)
        elif isinstance(module, torch.nn.PReLU):
            torch.nn.init.uniform_(module.weight, 0.1, 0.4)
    model.regressor.conv_layer.weight.data.abs_()  # so that there is a signal
    return model.eval()


def some_tracks(model: DenoisingResNet, n: int, length: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    x = rng.poisson(0.3, (n, 1 + model.n_extra, length)).astype(np.float32) * 7
    return x, torch.nn.functional.pad(torch.from_numpy(x), (model.halo, model.halo))


def worst(found, expected) -> float:
    expected = np.asarray(expected)
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


def expected_of(model: DenoisingResNet, x: np.ndarray):
    dilations = {name: model.options[name] for name in ("dilation", "dilation_class")}
    return oracle.resnet(model.state_dict(), x, **dilations, pad=model.halo + 3)


# ------------------------------------------------------------------------------------------- the network


def test_default_network_has_the_published_parameters_and_names():
    model = DenoisingResNet()
    assert sum(p.numel() for p in model.parameters()) == 219_706
    assert (model.halo, model.align) == (4200, 8)
    names = set(model.state_dict())
    assert len(names) == 7 * 3 + 2 + 1 + 2 * 3 + 2
    assert {
        "res_blocks.0.conv_input.conv_layer.weight", "res_blocks.4.conv_act3.conv_layer.weight",
        "res_blocks_class.0.conv_input.conv_layer.weight", "res_blocks_class.1.conv_act2.conv_layer.bias",
        "regressor.conv_layer.weight", "classifier.conv_layer.weight", "classifier.conv_layer.bias",
    } <= names  # fmt: skip
    assert not [n for n in names if n.endswith("bias") and not n.startswith(("res_blocks_class", "classifier"))]


def test_network_of_12_filters_and_201_taps_has_the_published_size():
    options = {"kernel_size": 201, "kernel_size_class": 201, "dilation": 1, "dilation_class": 1}
    model = DenoisingResNet(out_channels=12, out_channels_class=12, **options)
    assert sum(p.numel() for p in model.parameters()) == 554_881


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_outputs_are_those_of_the_description_in_numpy(options):
    model = a_network(**options)
    x, wide = some_tracks(model, 2, model.align * max(3, 40 // model.align))
    with torch.inference_mode():
        fast, plain = model.outputs(wide), CoverageModel.outputs(model, wide)
    for i in range(2):
        expected = expected_of(model, x[i])
        for found in (fast, plain):
            assert worst(found[0][i], expected[0]) <= 1e-5
            assert worst(found[1][i], expected[1]) <= 1e-5
    assert fast[0].min() >= 0
    assert fast[0].dtype == fast[1].dtype == torch.float32


@pytest.mark.parametrize("stacks", [Stacks(1, 1), Stacks(4, 4), Stacks(8, 2), Stacks(5, 5)], ids=str)
@pytest.mark.parametrize("name", ["published, first weights", "even kernels, odd dilation"])
def test_rows_in_one_do_not_change_what_comes_out(name, stacks):
    model = a_network(**OPTIONS[name])
    _, wide = some_tracks(model, 2, 7 * model.align)
    with torch.inference_mode():
        for found, expected in zip(
            Interleaved(model, stacks=stacks)(wide, model.halo), model.outputs(wide), strict=True
        ):
            assert worst(found, expected) <= 1e-5


def test_any_length_is_predicted_not_only_multiples_of_the_dilation():
    model = a_network(**SMALL)
    _, wide = some_tracks(model, 1, 101)
    with torch.inference_mode():
        for found, expected in zip(
            Interleaved(model)(wide, model.halo), CoverageModel.outputs(model, wide), strict=True
        ):
            assert found.shape == (1, 101)
            assert worst(found, expected) <= 1e-5


def test_banded_kernel_of_two_rows_is_written_out_by_hand():
    found = banded(torch.tensor([[[1.0, 2.0, 3.0]]]), 2)  # rows out by rows in by taps
    assert found.shape == (2, 2, 1, 2)
    assert found[0, :, 0].T.flatten().tolist() == [1, 2, 3, 0]
    assert found[1, :, 0].T.flatten().tolist() == [0, 1, 2, 3]


def test_tiles_give_what_the_whole_gives():
    model = a_network()
    _, wide = some_tracks(model, 1, 4000)
    with torch.inference_mode():
        whole = model.predict(wide, torch.ones(1))
        for start, stop in ((0, 800), (1600, 4000), (3992, 4000)):
            part = model.predict(wide[..., start : stop + 2 * model.halo], torch.ones(1))
            assert worst(part.signal, whole.signal[:, start:stop]) <= 1e-5
            assert worst(part.probability, whole.probability[:, start:stop]) <= 1e-5


def test_nothing_gives_no_signal_and_one_probability():
    model = a_network()
    signal, probability = model.empty_output(torch.ones(3))
    assert signal.tolist() == [[0.0]] * 3
    inside = expected_of(model, np.zeros((1, 16)))[1][8]
    assert probability[:, 0].tolist() == pytest.approx([1 / (1 + np.exp(-inside))] * 3, abs=1e-6)


def test_bfloat16_is_near_and_is_what_autocast_asks_for():
    model = a_network()
    _, wide = some_tracks(model, 1, 2000)
    with torch.inference_mode():
        exact = model.outputs(wide)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model.outputs(wide)
    difference = torch.linalg.norm(rough[0] - exact[0]) / torch.linalg.norm(exact[0])
    assert 1e-5 < difference < 0.02
    assert rough[0].dtype == torch.float32


def test_weights_that_change_change_what_is_predicted():
    model = a_network(**SMALL)
    _, wide = some_tracks(model, 1, 80)
    with torch.no_grad():
        before = model.predict(wide, torch.ones(1)).signal
        assert model.interleaved() is model.interleaved()
        model.regressor.conv_layer.weight.mul_(2.0)
        assert worst(model.predict(wide, torch.ones(1)).signal, 2 * before) <= 1e-6


# ---------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("name", ["prelu", "even kernels, odd dilation", "extra tracks"])
def test_gradients_of_the_interleaved_form_are_those_of_the_plain_one(name):
    model = a_network(**OPTIONS[name]).train()
    _, wide = some_tracks(model, 2, 4 * model.align)
    found = []
    for outputs in (model.outputs(wide), CoverageModel.outputs(model, wide)):
        (outputs[0].square().mean() + outputs[1].sin().mean()).backward()
        found.append({n: p.grad.clone() for n, p in model.named_parameters()})
        model.zero_grad()
    scale = max(float(g.abs().max()) for g in found[1].values())
    for parameter, expected in found[1].items():
        assert float((found[0][parameter] - expected).abs().max()) <= 1e-5 * scale, parameter


def test_batch_normalisation_trains_on_the_statistics_of_the_batch():
    model = a_network(**SMALL, bn=True).train()
    before = model.res_blocks[0].conv_act1.bn_layer.running_mean.clone()
    _, wide = some_tracks(model, 2, 80)
    model.outputs(wide)
    assert not torch.equal(before, model.res_blocks[0].conv_act1.bn_layer.running_mean)


def test_loss_falls_when_it_is_descended_and_reads_inputs_with_more_than_the_halo():
    model = a_network(**SMALL).train()
    x, _ = some_tracks(model, 2, 400)
    wide = torch.nn.functional.pad(torch.from_numpy(x), (model.halo + 5, model.halo + 5))
    clean = torch.from_numpy(x[:, 0]) * 3
    batch = Batch(clean, (clean > 10).float(), torch.ones_like(clean))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        loss = model.loss(wide, torch.ones(2), batch, LossWeights())
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        losses.append(loss.total.item())
    assert losses[-1] < losses[0]
    exact, cut = (model.loss(x, torch.ones(2), batch, LossWeights()).total.item() for x in (wide[..., 5:-5], wide))
    assert exact == pytest.approx(cut)
    with pytest.raises(InputError, match="pad the inputs"):
        model.loss(wide[..., 40:-40], torch.ones(2), batch, LossWeights())


def test_a_classifier_that_does_not_fit_is_not_trained():
    model = a_network(**SMALL, classifier_channels=3)
    batch = Batch(*torch.ones(3, 1, 8))
    with pytest.raises(InputError, match="takes 3 channels and is given 15"):
        model.loss(torch.ones(1, 1, 8 + 2 * model.halo), torch.ones(1), batch, LossWeights())


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"afunc": "gelu"}, "afunc must be one of 'relu', 'prelu'"),
        ({"num_blocks": 0}, "num_blocks must be at least 1"),
        ({"kernel_size": 2.5}, "kernel_size must be a whole number"),
        ({"dilation_class": 0}, "dilation_class must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        DenoisingResNet(**options)


@pytest.mark.parametrize("shape", [(1, 2, 8408), (1, 1, 8400), (1, 1, 8405), (1, 8408)], ids=str)
def test_inputs_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match=r"it takes \(n, 1, L \+ 8400\), L a multiple of 8"):
        a_network().predict(torch.zeros(shape), torch.ones(1))
