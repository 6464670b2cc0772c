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
