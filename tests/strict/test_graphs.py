"""CUDA graphs of the networks, captured and replayed on the stand-in for PyTorch's."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the denoiser needs PyTorch (gpuatac[nn])")

from gpuatac.errors import InputError  # noqa: E402
from gpuatac.nn import cuda_graphs  # noqa: E402
from gpuatac.nn.denoising.networks.multiscale import MultiscaleDenoiser  # noqa: E402
from gpuatac.nn.denoising.networks.resnet import DenoisingResNet  # noqa: E402
from gpuatac.nn.denoising.networks.unet import UNet  # noqa: E402

from . import torch_graphs  # noqa: E402

CUDA = torch.device("cuda")
DEPTH = torch.tensor([1e6])


def resnet():
    return DenoisingResNet(num_blocks=1, num_blocks_class=1, kernel_size=9, kernel_size_class=9)


def multiscale():
    return MultiscaleDenoiser(filters=(4,), kernel_sizes=(3,), target_depth=1e6)


MODELS = {"resnet": resnet, "multiscale": multiscale, "unet": UNet}


def a_model(kind):
    torch.manual_seed(0)
    return MODELS[kind]().eval()


def an_input(seed, model, length=256):
    n = length + 2 * model.halo
    n += -n % model.align
    return torch.randint(0, 3, (1, 1, n), generator=torch.Generator().manual_seed(seed)).float()


def graph_of(model):
    return cuda_graphs._graphs[model].graph


@pytest.mark.parametrize("kind", MODELS)
def test_a_replay_gives_what_the_network_gives(kind, monkeypatch):
    torch_graphs.install(monkeypatch)
    model = a_model(kind)
    predict = cuda_graphs.captured(model, CUDA)
    kept = []
    with torch.no_grad():
        for seed in range(3):
            x = an_input(seed, model)
            found, expected = predict(x, DEPTH), model.predict(x, DEPTH)
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
            kept.append((found, expected))
        for found, expected in kept:  # the caller's to keep: later replays do not write to them
            torch.testing.assert_close(found.signal, expected.signal, rtol=1e-5, atol=1e-6)
    assert graph_of(model).replays == 3


def test_another_shape_and_changed_weights_are_captured_anew(monkeypatch):
    torch_graphs.install(monkeypatch)
    model = a_model("resnet")
    predict = cuda_graphs.captured(model, CUDA)
    graphs = []
    with torch.no_grad():
        for x, change in ((an_input(0, model), 0.0), (an_input(0, model, 512), 0.0), (an_input(1, model, 512), 0.1)):
            for weights in model.parameters():
                weights.add_(change) if change else None
            torch.testing.assert_close(predict(x, DEPTH).signal, model.predict(x, DEPTH).signal, rtol=1e-5, atol=1e-6)
            graphs.append(graph_of(model))
    assert len(set(map(id, graphs))) == 3


def test_an_allocator_without_pools_for_graphs_is_told_or_refused(monkeypatch, caplog):
    torch_graphs.install(monkeypatch, allocator="pluggable")
    model = a_model("multiscale")
    x = an_input(0, model)
    with torch.no_grad():
        with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):  # what the check saves users from
            cuda_graphs.Graph(model, x, DEPTH)
        with pytest.raises(InputError, match="pluggable allocator"):
            cuda_graphs.captured(model, CUDA, "graph")
        predict = cuda_graphs.captured(model, CUDA)
        assert "each kernel is launched by itself" in caplog.text
        torch.testing.assert_close(predict(x, DEPTH).signal, model.predict(x, DEPTH).signal)
