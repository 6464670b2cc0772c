"""The published network in NumPy, float64, one tap after the other: written from its description, for small inputs."""

from __future__ import annotations

import numpy as np


def _activated(state: dict, name: str, x: np.ndarray) -> np.ndarray:
    slope = state.get(f"{name}.weight")
    return np.where(x > 0, x, 0.0 if slope is None else slope.item() * x)


def _convolved(state: dict, name: str, x: np.ndarray, dilation: int = 1) -> np.ndarray:
    """Zeros beyond both ends of ``x`` (channels, L); the smaller half of them in front."""
    weight = state[f"{name}.conv_layer.weight"]
    c_out, _, k = weight.shape
    before = (k - 1) * dilation // 2
    length = x.shape[1]
    wide = np.zeros((x.shape[0], length + (k - 1) * dilation))
    wide[:, before : before + length] = x
    out = np.zeros((c_out, length))
    for tap in range(k):
        out += weight[:, :, tap] @ wide[:, tap * dilation : tap * dilation + length]
    if f"{name}.conv_layer.bias" in state:
        out += state[f"{name}.conv_layer.bias"][:, None]
    if f"{name}.bn_layer.weight" in state:
        norm = {
            part: state[f"{name}.bn_layer.{part}"][:, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        }
        out = (out - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-5) * norm["weight"] + norm["bias"]
    return out


def _block(state: dict, name: str, x: np.ndarray, dilation: int) -> np.ndarray:
    skip = x
    if f"{name}.conv_input.conv_layer.weight" in state:
        skip = _activated(state, f"{name}.conv_input.act_layer", _convolved(state, f"{name}.conv_input", x))
    y = x
    for i in (1, 2, 3):
        y = _convolved(state, f"{name}.conv_act{i}", y, dilation)
        if i < 3:
            y = _activated(state, f"{name}.conv_act{i}.act_layer", y)
    return _activated(state, f"{name}.activation", y + skip)


def resnet(
    state: dict, x: np.ndarray, *, dilation: int, dilation_class: int, pad: int
) -> tuple[np.ndarray, np.ndarray]:
    """Signal and log odds, float64 (L,) each, of a track x (channels, L) that is 0 for ``pad`` bases beyond both ends."""
    state = {name: np.asarray(value, np.float64) for name, value in state.items()}
    h = np.pad(np.asarray(x, np.float64), ((0, 0), (pad, pad)))
    for trunk, head, d in (("res_blocks", "regressor", dilation), ("res_blocks_class", "classifier", dilation_class)):
        for i in range(sum(f"{trunk}.{i}.conv_act1.conv_layer.weight" in state for i in range(99))):
            h = _block(state, f"{trunk}.{i}", h, d)
        h = _convolved(state, head, h)
        if trunk == "res_blocks":
            signal = h = _activated(state, f"{head}.act_layer", h)
    return signal[0, pad:-pad], h[0, pad:-pad]


# ------------------------------------------------------------------------------------------- the model of any depth


def _plain(state: dict, name: str, x: np.ndarray, *, stride: int = 1, pad: int = 0) -> np.ndarray:
    """A convolution of x (channels, n) by the weights ``name``, ``pad`` zeros beyond both ends, every ``stride`` places."""
    weight = state[f"{name}.weight"]
    wide = np.pad(x, ((0, 0), (pad, pad)))
    at = np.arange(0, wide.shape[1] - weight.shape[2] + 1, stride)
    return sum(weight[:, :, tap] @ wide[:, at + tap] for tap in range(weight.shape[2])) + state[f"{name}.bias"][:, None]


def _same(state: dict, name: str, x: np.ndarray) -> np.ndarray:
    return _plain(state, name, x, pad=state[f"{name}.weight"].shape[2] // 2)


def _pair(state: dict, name: str, x: np.ndarray) -> np.ndarray:
    inner = np.maximum(_same(state, f"{name}.first", x), 0)
    return np.maximum(x + _same(state, f"{name}.second", inner), 0)


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


def multiscale(state: dict, cuts: np.ndarray, depth: float) -> tuple[np.ndarray, np.ndarray]:
    """Rate (cuts within 200 bp per million reads) and log odds, float64 (bins,) each, of cuts (1 or 3, bins) of 8 bp.

        m = sum_k w_k S_k,    rate = m (s + n) / (s + m d),    log odds = (log rate - threshold) softplus(a) + b

    with n the cuts in the 25 bins around, S_0 = n / d, five triangles of boxes applied twice, and a constant.
    """
    state = {name: np.asarray(value, np.float64) for name, value in state.items()}
    cuts, d = np.asarray(cuts, np.float64), depth / 1e6
    total = cuts.sum(axis=0)

    def window(row: np.ndarray, width: int = 25) -> np.ndarray:
        return np.convolve(row, np.ones(width))[width // 2 : len(row) + width // 2]

    counts = [window(total)]
    counts += [25 * window(window(total, width) / width, width) / width for width in (9, 29, 97, 385, 1153)]
    smoothed = np.array([*(row / d for row in counts), np.full(len(total), 0.02)])
    read = [np.log1p(total), np.log1p(counts[0]), *np.log(smoothed[:-1] + 0.02), np.full(len(total), np.log(d))]
    if state["stem.weight"].shape[1] > len(read):  # reads fragment lengths where they are told
        told = len(cuts) == 3
        read += [np.log1p(window(row)) if told else 0 * total for row in (cuts if told else (0, 0, 0))]
        read.append(np.full(len(total), float(told)))
    h = _pair(state, "encoder.0", np.maximum(_same(state, "stem", np.array(read)), 0))
    n_down = sum(name.startswith("down.") and name.endswith(".weight") for name in state)
    skips = [h]
    for i in range(n_down):
        halved = _plain(state, f"down.{i}", h, stride=2, pad=1)
        h = _pair(state, f"encoder.{i + 1}", np.maximum(halved, 0))
        skips.append(h)
    for i in range(n_down - 1, -1, -1):
        doubled = np.repeat(_plain(state, f"up.{i}", h), 2, axis=1)
        h = _pair(state, f"decoder.{i}", np.maximum(doubled + skips[i], 0))
    out = _plain(state, "head", h)
    *weights, steep, shift, shape = out
    mean = np.sum(_softplus(np.array(weights)) * smoothed, axis=0)
    shape = 20 / (1 + np.exp(-shape))
    rate = mean * (shape + counts[0]) / (shape + mean * d)
    return rate, (np.log(rate + 1e-4) - state["threshold"]) * _softplus(steep) + shift


def multiscale_bases(
    state: dict, cuts: np.ndarray, depth: float, *, target: float, halo: int
) -> tuple[np.ndarray, np.ndarray]:
    """Signal at ``target`` reads and probability of each base, ``halo`` bp cut off at both ends."""
    rate, logit = multiscale(state, cuts, depth)
    middles = 8 * np.arange(len(rate)) + 4.0
    bases = np.arange(halo, 8 * len(rate) - halo) + 0.5
    return np.interp(bases, middles, rate * target / 1e6), np.interp(bases, middles, 1 / (1 + np.exp(-logit)))
