"""The published loss against NumPy's formulas."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the nn extra")

from gpuatac.nn.contract import Batch, LossWeights  # noqa: E402
from gpuatac.nn.denoising.networks.losses import published_loss  # noqa: E402


def example(seed=0, shape=(3, 50)):
    rng = np.random.default_rng(seed)
    x, y = rng.gamma(2, 5, shape), rng.poisson(8, shape).astype(float)
    z, p = rng.normal(0, 2, shape), (rng.random(shape) < 0.3).astype(float)
    w = (rng.random(shape) < 0.7).astype(float)
    return x, z, y, p, w


def tensors(x, z, y, p, w):
    x, z, y, p, w = (torch.tensor(v, dtype=torch.float32) for v in (x, z, y, p, w))
    return x.requires_grad_(), z.requires_grad_(), Batch(y, p, w)


def test_parts_and_total_follow_the_formulas():
    x, z, y, p, w = example()
    found = published_loss(*tensors(x, z, y, p, w))
    m = w > 0
    mse = ((x - y)[m] ** 2).mean()
    pearson = 1 - np.corrcoef(x[m], y[m])[0, 1]
    q = 1 / (1 + np.exp(-z[m]))
    bce = -(p[m] * np.log(q) + (1 - p[m]) * np.log(1 - q)).mean()
    expected = {"mse": mse, "pearson": pearson, "bce": bce}
    assert {k: v.item() for k, v in found.parts.items()} == pytest.approx(expected, rel=1e-5)
    assert found.total.item() == pytest.approx(0.0005 * mse + pearson + bce, rel=1e-5)


def test_weights_are_options_and_poisson_takes_the_place_of_regression():
    x, z, y, p, w = example(1)
    m = w > 0
    nll = (x - y * np.log(x))[m].mean()
    found = published_loss(*tensors(x, z, y, p, w), LossWeights(mse=3, pearson=5, bce=0.5, poisson=2))
    assert set(found.parts) == {"poisson", "bce"}
    assert found.parts["poisson"].item() == pytest.approx(nll, rel=1e-5)
    assert found.total.item() == pytest.approx(2 * nll + 0.5 * found.parts["bce"].item(), rel=1e-5)
    plain = published_loss(*tensors(x, z, y, p, w), LossWeights(mse=3, pearson=5, bce=0.5))
    parts = {k: v.item() for k, v in plain.parts.items()}
    assert plain.total.item() == pytest.approx(3 * parts["mse"] + 5 * parts["pearson"] + 0.5 * parts["bce"], rel=1e-5)


def test_bases_without_weight_change_nothing():
    x, z, y, p, w = example(2)
    before = published_loss(*tensors(x, z, y, p, w))
    off = w == 0
    for values in (x, z, y, p):
        values[off] = 77
    after = published_loss(*tensors(x, z, y, p, w))
    assert before.total.item() == pytest.approx(after.total.item(), rel=1e-6)


def test_the_correlation_is_over_the_whole_batch_not_row_by_row():
    y = np.array([[1.0, 2, 3], [11, 12, 13]])
    x = np.array([[3.0, 2, 1], [13, 12, 11]])
    found = published_loss(*tensors(x, x * 0, y, y * 0, y * 0 + 1))
    assert found.parts["pearson"].item() == pytest.approx(1 - np.corrcoef(x.ravel(), y.ravel())[0, 1], abs=1e-6)


@pytest.mark.parametrize("poisson", [0.0, 1.0])
def test_flat_and_empty_batches_have_finite_losses_and_gradients(poisson):
    weights = LossWeights(poisson=poisson)
    for x, y, w in ((0.0, 0.0, 1.0), (3.0, 3.0, 1.0), (2.0, 5.0, 0.0), (0.0, 4.0, 1.0)):
        shape = (2, 20)
        signal, logit, batch = tensors(*(np.full(shape, v) for v in (x, 0.0, y, 0.0, w)))
        found = published_loss(signal, logit, batch, weights)
        found.total.backward()
        assert torch.isfinite(found.total)
        assert torch.isfinite(signal.grad).all()
        assert torch.isfinite(logit.grad).all()
        if not w:
            assert found.total.item() == 0
