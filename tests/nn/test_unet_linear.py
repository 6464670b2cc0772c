"""The published baselines: what a hand-made loop or a translated input says of them."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the denoiser needs PyTorch (extra nn)")

from gpuatac.errors import InputError  # noqa: E402
from gpuatac.nn.contract import Batch, LossWeights  # noqa: E402
from gpuatac.nn.denoising.networks.linear import Linear, Logistic  # noqa: E402
from gpuatac.nn.denoising.networks.unet import UNet  # noqa: E402

TINY = {"channels": (3, 4, 5), "kernel_sizes": (5, 4, 7), "bottleneck_channels": 6, "bottleneck_kernel_size": 10}


def a_unet(**options) -> UNet:
    torch.manual_seed(0)
    return UNet(**{**TINY, **options}).eval()


def test_default_unet_has_the_published_scales():
    model = UNet()
    assert model.align == 16
    assert model.bottleneck[0].conv_layer.weight.shape == (256, 128, 250)
    shapes = [tuple(scale[0].conv_layer.weight.shape) for scale in model.down]
    assert shapes == [(16, 1, 5), (32, 16, 5), (64, 32, 25), (128, 64, 25)]


def test_unet_reads_no_further_than_its_halo():
    model = a_unet(afunc="prelu")
    x = torch.rand(1, 1, 2 * model.halo + model.align, requires_grad=True)
    _, logit = model.forward(x)
    for i in range(model.align):
        (gradient,) = torch.autograd.grad(logit[0, model.halo + i], x, retain_graph=True)
        reached = torch.nonzero(gradient[0, 0])
        assert 0 < reached.min() < model.halo
        assert model.halo + model.align < reached.max() < x.shape[-1] - 1


def test_unet_is_translation_invariant_in_steps_of_its_stride():
    model = a_unet()
    x = torch.rand(2, 1, 2 * model.halo + 10 * model.align)
    with torch.inference_mode():
        whole = model.predict(x, torch.ones(2))
        part = model.predict(x[..., 3 * model.align : -2 * model.align], torch.ones(2))
    for found, expected in zip(part, whole, strict=True):
        inside = expected[:, 3 * model.align : -2 * model.align]
        assert float((found - inside).abs().max()) <= 1e-5 * float(expected.abs().max())
    assert whole.signal.shape == (2, 10 * model.align)


def test_unet_output_over_an_empty_stretch_is_what_empty_output_says():
    model = a_unet(bn=True, afunc="prelu", in_channels=2)
    x = torch.zeros(1, 2, 2 * model.halo + 5 * model.align)
    with torch.inference_mode():
        dense, empty = model.predict(x, torch.ones(1)), model.empty_output(torch.ones(1))
    for found, expected in zip(dense, empty, strict=True):
        assert float((found - expected).abs().max()) <= 1e-6


def test_unet_learns():
    model = a_unet().train()
    x = torch.rand(2, 1, 2 * model.halo + 64)
    clean = x[:, 0, model.halo : -model.halo] * 2
    batch = Batch(clean, (clean > 1).float(), torch.ones_like(clean))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(6):
        loss = model.loss(x, torch.ones(2), batch, LossWeights()).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_unet_refuses_scales_that_do_not_match():
    with pytest.raises(InputError, match="4 channels stand beside 3 kernel_sizes"):
        UNet(kernel_sizes=(5, 5, 25))


@pytest.mark.parametrize("field", [1, 4, 9])
@pytest.mark.parametrize("kind", [Linear, Logistic])
def test_one_convolution_is_the_weighted_sum_of_its_formula(kind, field):
    torch.manual_seed(1)
    model = kind(field=field, in_channels=2).eval()
    length = 12
    x = np.random.default_rng(0).random((1, 2, length + 2 * model.halo)).astype(np.float32)
    with torch.inference_mode():
        signal, logit = model.outputs(torch.from_numpy(x))
    weight, bias = model.conv_layer.weight.detach().numpy()[0], model.conv_layer.bias.item()
    at = [i + model.halo - (field - 1) // 2 for i in range(length)]
    expected = [bias + float((weight * x[0, :, a : a + field]).sum()) for a in at]
    if kind is Linear:
        np.testing.assert_allclose(signal[0], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(logit, signal, rtol=1e-6)
    else:
        np.testing.assert_allclose(logit[0], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(signal[0], x[0, 0, model.halo : model.halo + length])


def test_calibration_of_the_linear_model_does_not_move_its_signal():
    model = Linear(field=9)
    _, logit = model.outputs(torch.rand(1, 1, 50))
    logit.sum().backward()
    assert model.conv_layer.weight.grad is None
    assert model.slope.grad is not None


def test_fields_below_one_base_are_refused():
    with pytest.raises(InputError, match="field must be at least 1"):
        Linear(field=0)
