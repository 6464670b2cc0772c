"""Building blocks of the published networks, and what their classes share.

Names of submodules are those of the published checkpoints, so that a ``state_dict`` fits without renaming.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

from gpuatac import check
from gpuatac.errors import InputError
from gpuatac.nn.contract import Denoised

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuatac.nn.contract import Batch, Inputs, Losses, LossWeights

ACTIVATIONS = {"relu": nn.ReLU, "prelu": nn.PReLU}


def same_padding(kernel_size: int, dilation: int) -> tuple[int, int]:
    """Zeros before and after a sequence that keep its length; the smaller half goes before."""
    total = (kernel_size - 1) * dilation
    return total // 2, total - total // 2


class ConvAct1d(nn.Module):
    """Zero padding to the same length, a convolution, then batch normalisation and an activation where asked for."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 1,
        dilation: int = 1,
        bias: bool = False,
        bn: bool = False,
        afunc: str | None = None,
    ) -> None:
        super().__init__()
        self.padding = same_padding(kernel_size, dilation)
        self.conv_layer = nn.Conv1d(in_channels, out_channels, kernel_size, dilation=dilation, bias=bias)
        self.bn_layer = nn.BatchNorm1d(out_channels) if bn else None
        self.act_layer = ACTIVATIONS[afunc]() if afunc else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, in_channels, L) to (n, out_channels, L)."""
        x = self.conv_layer(functional.pad(x, self.padding))
        if self.bn_layer is not None:
            x = self.bn_layer(x)
        return x if self.act_layer is None else self.act_layer(x)


class ResBlock(nn.Module):
    """Three convolutions beside a skip connection, which is a 1x1 convolution where ``conv_input`` is set."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int,
        dilation: int,
        bias: bool,
        bn: bool,
        afunc: str,
        conv_input: bool,
    ) -> None:
        super().__init__()
        wide: dict[str, Any] = {"kernel_size": kernel_size, "dilation": dilation, "bias": bias, "bn": bn}
        self.conv_input = ConvAct1d(in_channels, out_channels, bn=bn, afunc=afunc) if conv_input else None
        self.conv_act1 = ConvAct1d(in_channels, out_channels, **wide, afunc=afunc)
        self.conv_act2 = ConvAct1d(out_channels, out_channels, **wide, afunc=afunc)
        self.conv_act3 = ConvAct1d(out_channels, out_channels, **wide)
        self.activation = ACTIVATIONS[afunc]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, in_channels, L) to (n, out_channels, L)."""
        skip = x if self.conv_input is None else self.conv_input(x)
        return self.activation(self.conv_act3(self.conv_act2(self.conv_act1(x))) + skip)


class CoverageModel(nn.Module):
    """A model of single-base coverage: follows ``contract.Denoiser``, given ``forward`` and the sizes below.

    ``forward`` maps (n, 1 + n_extra, L) to the signal and the log odds of lying in a peak, (n, L) each, with zeros beyond both
    ends of every layer's input.
    """

    kind: ClassVar[str]
    inputs: Inputs = "coverage"
    bin_size = 1
    n_extra = 0
    halo: int
    align = 1
    options: Mapping[str, Any]

    def outputs(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Signal and log odds of the middle of ``x``, its halo cut off: float32 (n, L) each."""
        signal, logit = self.forward(x)
        inside = slice(self.halo, x.shape[-1] - self.halo)
        return signal[:, inside].float(), logit[:, inside].float()

    def predict(self, x: torch.Tensor, depth: torch.Tensor) -> Denoised:
        """As ``contract.Denoiser.predict``; ``depth`` has no influence."""
        del depth
        length = x.shape[-1] - 2 * self.halo
        if x.ndim != 3 or x.shape[1] != 1 + self.n_extra or length < 1 or length % self.align:
            msg = (
                f"{self.kind} was given an input of shape {tuple(x.shape)}; it takes (n, {1 + self.n_extra}, L + {2 * self.halo}), "
                f"L a multiple of {self.align}; extend the input by {self.halo} bases on each side, zeros beyond a chromosome."
            )
            raise InputError(msg)
        signal, logit = self.outputs(x)
        return Denoised(signal, torch.sigmoid(logit))

    @torch.no_grad()
    def empty_output(self, depth: torch.Tensor) -> Denoised:
        """As ``contract.Denoiser.empty_output``: (n, 1) each."""
        x = depth.new_zeros((1, 1 + self.n_extra, 2 * self.halo + self.align), dtype=torch.float32)
        signal, probability = self.predict(x, depth)
        n = depth.shape[0]
        return Denoised(signal[:, :1].expand(n, 1), probability[:, :1].expand(n, 1))

    def loss(self, x: torch.Tensor, depth: torch.Tensor, batch: Batch, weights: LossWeights) -> Losses:
        """As ``contract.Denoiser.loss``: the published loss. What ``x`` holds beyond the halo is cut off."""
        from gpuatac.nn.denoising.networks.losses import published_loss

        del depth
        beyond = x.shape[-1] - batch.signal.shape[-1] - 2 * self.halo
        if beyond < 0 or beyond % 2:
            msg = (
                f"training inputs of {x.shape[-1]} bases stand beside targets of {batch.signal.shape[-1]}; {self.kind} needs "
                f"at least {self.halo} more on each side; pad the inputs by {self.halo}."
            )
            raise InputError(msg)
        signal, logit = self.outputs(x[..., beyond // 2 : x.shape[-1] - beyond // 2])
        return published_loss(signal, logit, batch, weights)


def whole(options: Mapping[str, Any], **lowest: int) -> dict[str, Any]:
    """``options`` with those named in ``lowest`` checked to be whole numbers of at least so many."""
    return {
        name: check.integer(name, value, lowest[name]) if name in lowest else value for name, value in options.items()
    }


def up_to_multiple(value: int, step: int) -> int:
    """The least multiple of ``step`` that is not below ``value``."""
    return -(-value // step) * step
