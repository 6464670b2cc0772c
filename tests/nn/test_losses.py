"""The published loss against NumPy's formulas."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the nn extra")

from gpuatac.nn.contract import Batch, LossWeights  # noqa: E402
from gpuatac.nn.denoising.networks.losses import published_loss  # noqa: E402
from gpuatac.nn.denoising.networks.multiscale import MultiscaleDenoiser  # noqa: E402
from gpuatac.nn.denoising.networks.rate_loss import rate_loss  # noqa: E402


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


def rate_by_formula(x, z, y, p, w, *, mse=0.0005, pearson=1.0, bce=1.0):
    """Ten times the weight on peaks, and half the weighted distance of square roots."""
    mean_y, mean_x, total = (w * y).sum() / w.sum(), (w * x).sum() / w.sum(), w.sum()
    covariance = (w * (x - mean_x) * (y - mean_y)).sum()
    r = covariance / np.sqrt((w * (x - mean_x) ** 2).sum() * (w * (y - mean_y) ** 2).sum())
    entropy = (w * (np.logaddexp(0, z) - p * z)).sum() / total
    squares = (w * (x - y) ** 2).sum() / total
    roots = (w * (np.sqrt(x + 0.5) - np.sqrt(y + 0.5)) ** 2).sum() / total
    return mse * squares + pearson * (1 - r) + 10 * bce * entropy + 0.5 * roots, roots


def test_the_loss_of_rates_follows_its_formula_and_weights():
    x, z, y, p, w = example(3)
    w *= np.random.default_rng(0).random(w.shape)
    found = rate_loss(*tensors(x, z, y, p, w))
    total, roots = rate_by_formula(x, z, y, p, w)
    assert found.total.item() == pytest.approx(total, rel=1e-5)
    assert found.parts["roots"].item() == pytest.approx(roots, rel=1e-5)
    other = {"mse": 0.01, "pearson": 0.5, "bce": 0.2}
    found = rate_loss(*tensors(x, z, y, p, w), LossWeights(**other))
    assert found.total.item() == pytest.approx(rate_by_formula(x, z, y, p, w, **other)[0], rel=1e-5)
    with_poisson = LossWeights(bce=0.5, poisson=2)
    published = published_loss(*tensors(x, z, y, p, w), with_poisson._replace(bce=5.0))
    assert rate_loss(*tensors(x, z, y, p, w), with_poisson).total.item() == pytest.approx(
        published.total.item(), rel=1e-6
    )


def test_the_multiscale_model_learns_from_means_of_bins_inside_its_context():
    torch.manual_seed(0)
    model = MultiscaleDenoiser(target_depth=3e7, filters=(4, 6), kernel_sizes=(3, 3)).eval()
    with torch.no_grad():
        model.head.weight.normal_(std=0.2)
    bins, more = 48, 16  # more context than the model needs, on each side
    rng = np.random.default_rng(4)
    cuts = torch.from_numpy(rng.poisson(0.4, (2, 1, bins + 2 * (model.halo // 8 + more))).astype(np.float32))
    depth = torch.tensor([2e6, 9e6])
    y = rng.poisson(20, (2, 8 * bins)).astype(np.float32)
    p, w = ((rng.random((2, 8 * bins)) < share).astype(np.float32) for share in (0.3, 0.8))
    found = model.loss(cuts, depth, Batch(*map(torch.from_numpy, (y, p, w))), LossWeights())
    with torch.inference_mode():
        rate, logit = (out.numpy().astype(float)[:, model.halo // 8 + more :][:, :bins] for out in model(cuts, depth))
    binned = [values.reshape(2, bins, 8).mean(axis=-1).astype(float) for values in (y, p, w)]
    assert found.total.item() == pytest.approx(rate_by_formula(30 * rate, logit, *binned)[0], rel=1e-4)


def test_in_training_three_of_ten_examples_keep_their_fragment_lengths_to_themselves():
    torch.manual_seed(0)
    model = MultiscaleDenoiser(filters=(2, 2), kernel_sizes=(1, 1), by_length=True)
    x, depth = torch.ones(4000, 3, 2), torch.full((4000,), 1e6)
    known = model.train().features(x, depth)[0][:, -1]
    assert torch.equal(known[:, 0], known[:, 1])
    assert abs(float(known[:, 0].mean()) - 0.7) < 5 * np.sqrt(0.21 / 4000)
    parts = model.features(x[:5], depth[:5])[0][:, -4:]
    assert torch.equal(parts[:, :3].amax((1, 2)) > 0, parts[:, 3, 0] > 0)
    assert (model.eval().features(x, depth)[0][:, -1] == 1).all()


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
