"""The shipped model: what it gives for given cuts, against its definition in NumPy and against stored numbers.

The stored numbers are those of the weights that ship. New weights (``make pretrain``) have others: ``python
tests/nn/test_shipped_model.py`` writes them again, from the definition in NumPy and not from the package.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra nn)")

from oracle_networks import multiscale, multiscale_bases  # noqa: E402

from gpuatac.nn.checkpoints import pretrained  # noqa: E402
from gpuatac.nn.denoising.networks.multiscale import MultiscaleDenoiser  # noqa: E402

GOLDEN = Path(__file__).parent / "golden_shipped_model.tsv"
LENGTH = 2048  # bp that are given out
DEPTHS = (4e5, 5e6, 4e7)
EVERY = 32  # bp between stored numbers


@pytest.fixture(scope="module")
def shipped():
    return pretrained()[0]


def state_of(model):
    return {name: value.detach().numpy() for name, value in model.state_dict().items()}


def uneven_cuts(halo, depth, classes=3):
    """(classes, bins): a steep peak, a broad one, single cuts and deserts; whole numbers, in proportion to the depth.

    Made of sines and thresholds alone, so that they are the same wherever they are made.
    """
    at = np.arange((LENGTH + 2 * halo) // 8) - halo // 8
    peaks = 4 * np.exp(-(((at - 70) / 6.0) ** 2)) + 0.6 * np.exp(-(((at - 150) / 20.0) ** 2)) + 0.004
    cuts = np.floor(peaks * depth / 1e6 + _uneven(at))
    cuts[(at > 215) & (at < 240)] = 0
    short = np.floor(cuts * 0.6 + _uneven(at + 0.3) * 0.999)
    middle = np.floor((cuts - short) * 0.7 + _uneven(at + 0.7) * 0.999)
    by_class = np.array([short, middle, cuts - short - middle])
    return by_class if classes == 3 else by_class.sum(axis=0, keepdims=True)


def _uneven(at):
    """Numbers in [0, 1) without order."""
    return (np.sin(12.9898 * at) * 43758.5453) % 1.0


def predicted(model, cuts, depth):
    with torch.inference_mode():
        out = model.predict(torch.from_numpy(cuts[None]).float(), torch.tensor([depth]))
    return out.signal[0].numpy(), out.probability[0].numpy()


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("depth", DEPTHS)
def test_the_shipped_model_gives_what_its_definition_gives(shipped, depth, classes):
    cuts = uneven_cuts(shipped.halo, depth, classes)
    signal, probability = multiscale_bases(
        state_of(shipped), cuts, depth, target=shipped.options["target_depth"], halo=shipped.halo
    )
    assert signal.max() > 10 * signal.min()  # what is compared is no plateau
    found = predicted(shipped, cuts, depth)
    np.testing.assert_allclose(found[0], signal, rtol=2e-4)
    np.testing.assert_allclose(found[1], probability, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("classes", [1, 3])
def test_a_model_of_any_weights_gives_what_its_definition_gives_to_the_end_of_its_input(classes):
    torch.manual_seed(0)
    model = MultiscaleDenoiser(filters=(5, 7, 6), kernel_sizes=(5, 3, 3), by_length=True, target_depth=2e7).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    cuts = uneven_cuts(1024, 3e6, classes)
    rate, logit = multiscale(state_of(model), cuts, 3e6)
    with torch.inference_mode():
        found = model(torch.from_numpy(cuts[None]).float(), torch.tensor([3e6]))
    np.testing.assert_allclose(found[0][0], rate, rtol=1e-4)
    np.testing.assert_allclose(found[1][0], logit, rtol=1e-4, atol=1e-4)


def stored():
    return np.genfromtxt(GOLDEN, delimiter="\t", comments="#", names=True)


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_shipped_model_gives_the_stored_numbers(shipped, depth):
    table = stored()
    at = table["base"].astype(int)
    signal, probability = predicted(shipped, uneven_cuts(shipped.halo, depth), depth)
    np.testing.assert_allclose(signal[at], table[f"signal_{depth:.0f}"], rtol=5e-4)
    np.testing.assert_allclose(probability[at], table[f"probability_{depth:.0f}"], rtol=5e-4, atol=2e-5)


def test_the_stored_numbers_follow_what_was_planted(shipped):
    """Peak over desert rises with the depth, and of a deep library's peak the signal is what was counted there."""
    table = stored()
    steep, desert = np.searchsorted(table["base"], (576, 1824))
    contrast = [table[f"signal_{depth:.0f}"][steep] / table[f"signal_{depth:.0f}"][desert] for depth in DEPTHS]
    assert 10 < contrast[0] < contrast[1] < contrast[2]
    deepest = DEPTHS[-1]
    assert table[f"probability_{deepest:.0f}"][steep] > 0.99 > 0.2 > table[f"probability_{deepest:.0f}"][desert]
    cuts = uneven_cuts(shipped.halo, deepest, classes=1)[0]
    at = (shipped.halo + 576) // 8
    counted = (cuts[at - 13 : at + 12].sum() + cuts[at - 12 : at + 13].sum()) / 2 * 50e6 / deepest
    assert table[f"signal_{deepest:.0f}"][steep] == pytest.approx(counted, rel=0.03)


def write_stored() -> None:
    """The table of the definition in NumPy and the weights that ship now."""
    model, _ = pretrained()
    columns = {"base": np.arange(0, LENGTH, EVERY)}
    for depth in DEPTHS:
        both = multiscale_bases(
            state_of(model),
            uneven_cuts(model.halo, depth),
            depth,
            target=model.options["target_depth"],
            halo=model.halo,
        )
        for name, values in zip(("signal", "probability"), both, strict=True):
            columns[f"{name}_{depth:.0f}"] = values[::EVERY]
    rows = ["\t".join(columns)]
    rows += ["\t".join([str(row[0]), *(f"{v:.6g}" for v in row[1:])]) for row in zip(*columns.values(), strict=True)]
    GOLDEN.write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    write_stored()
