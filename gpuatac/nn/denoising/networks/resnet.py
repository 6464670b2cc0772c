"""The published denoising network: residual blocks of dilated convolutions, for the signal and then for the peaks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gpuatac import check
from gpuatac.errors import InputError
from gpuatac.nn.denoising.networks.interleaved import Interleaved, device_stacks
from gpuatac.nn.denoising.networks.layers import (
    ACTIVATIONS,
    ConvAct1d,
    CoverageModel,
    ResBlock,
    same_padding,
    up_to_multiple,
    whole,
)

if TYPE_CHECKING:
    from gpuatac.nn.contract import Batch, Losses, LossWeights


class DenoisingResNet(CoverageModel):
    """The published residual network (AtacWorks), with every option of it; 219,706 parameters by default.

    ``num_blocks`` blocks without biases and a 1x1 convolution give the signal, never negative; ``num_blocks_class`` blocks with
    biases read that signal and give the log odds of lying in a peak. Layers are initialised as PyTorch does.

    ``predict`` and ``loss`` run the network on interleaved tracks (``nn.denoising.networks.interleaved``), equal to ``forward`` but for
    rounding and three to five times faster on a CPU; only training with batch normalisation runs ``forward``. Under
    ``torch.autocast`` they compute in its dtype.

    Parameters
    ----------
    in_channels
        1 + number of extra tracks.
    out_channels
        Filters of the blocks for the signal.
    num_blocks
        Number of these blocks.
    kernel_size
        Taps of their convolutions. Where kernel_size - 1 times dilation is odd, the smaller half of the padding is in front.
    dilation
        bp between their taps.
    bn
        Batch normalisation after each convolution of a block.
    afunc
        "relu" or "prelu".
    num_blocks_class, kernel_size_class, dilation_class, out_channels_class
        The same of the blocks for peaks.
    classifier_channels
        Input channels of the last layer; None for ``out_channels_class``. The published code builds it with ``out_channels``,
        so that where the two differ its peaks cannot be computed: such a network loads, and its probabilities are NaN.

    Raises
    ------
    InputError
        When an option is out of range.

    Reference: Lal et al. 2021, Nature Communications 12, 1507.

    Examples
    --------
    >>> import torch
    >>> from gpuatac.nn.denoising.networks.resnet import DenoisingResNet
    >>> model = DenoisingResNet(num_blocks=1, kernel_size=5, kernel_size_class=5).eval()
    >>> model.halo, model.align
    (144, 8)
    >>> model.predict(torch.zeros(1, 1, 16 + 2 * 144), torch.ones(1)).signal.shape
    torch.Size([1, 16])
    """

    kind = "denoising_resnet"

    def __init__(
        self,
        *,
        in_channels: int = 1,
        out_channels: int = 15,
        num_blocks: int = 5,
        kernel_size: int = 51,
        dilation: int = 8,
        bn: bool = False,
        afunc: str = "relu",
        num_blocks_class: int = 2,
        kernel_size_class: int = 51,
        dilation_class: int = 8,
        out_channels_class: int = 15,
        classifier_channels: int | None = None,
    ) -> None:
        super().__init__()
        check.one_of("afunc", afunc, ACTIVATIONS)
        numbers = {
            "in_channels": in_channels, "out_channels": out_channels, "num_blocks": num_blocks, "kernel_size": kernel_size,
            "dilation": dilation, "num_blocks_class": num_blocks_class, "kernel_size_class": kernel_size_class,
            "dilation_class": dilation_class, "out_channels_class": out_channels_class,
            "classifier_channels": out_channels_class if classifier_channels is None else classifier_channels,
        }  # fmt: skip
        self.options = {**whole(numbers, **dict.fromkeys(numbers, 1)), "bn": bool(bn), "afunc": afunc}
        shared = {"bn": bn, "afunc": afunc}
        self.res_blocks = _blocks(in_channels, out_channels, num_blocks, kernel_size, dilation, bias=False, **shared)
        self.regressor = ConvAct1d(out_channels, 1, afunc="relu")
        self.res_blocks_class = _blocks(
            1, out_channels_class, num_blocks_class, kernel_size_class, dilation_class, bias=True, **shared
        )
        self.classifier = ConvAct1d(self.options["classifier_channels"], 1, bias=True)
        self.n_extra = in_channels - 1
        self.align = math.lcm(dilation, dilation_class)
        self.grain = 16 * self.align  # as many rows of every track as are ever one (nn.denoising.networks.interleaved)
        before, after = (
            3 * (num_blocks * one + num_blocks_class * other)
            for one, other in zip(
                same_padding(kernel_size, dilation), same_padding(kernel_size_class, dilation_class), strict=True
            )
        )
        self.halo = up_to_multiple(max(before, after), self.align)
        self._packed: tuple[object, Interleaved] | None = None

    @property
    def has_classes(self) -> bool:
        """Whether the classifier takes what the blocks before it give."""
        fits: bool = self.options["classifier_channels"] == self.options["out_channels_class"]
        return fits

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, in_channels, L) to signal and log odds, (n, L) each, layer by layer as published."""
        for block in self.res_blocks:
            x = block(x)
        signal = x = self.regressor(x)
        if not self.has_classes:
            return signal.squeeze(1), torch.full_like(signal.squeeze(1), torch.nan)
        for block in self.res_blocks_class:
            x = block(x)
        return signal.squeeze(1), self.classifier(x).squeeze(1)

    def outputs(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Signal and log odds of the middle of ``x``, its halo cut off: float32 (n, L) each."""
        if self.training and self.options["bn"]:
            return super().outputs(x)  # statistics of the batch, as published: over the padded layers
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
        with torch.autocast(kind, enabled=False):
            network: Interleaved = self.interleaved(dtype)
            return network(x, self.halo)

    @torch.compiler.disable
    def interleaved(self, dtype: torch.dtype = torch.float32) -> Interleaved:
        """The network on interleaved tracks in ``dtype``; made anew where gradients are wanted or a weight has changed."""
        if torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters()):
            return Interleaved(self, dtype)
        tensors = [*self.parameters(), *self.buffers()]
        if any(t.is_inference() for t in tensors):  # these do not say when they change
            return Interleaved(self, dtype)
        state = (dtype, device_stacks(tensors[0].device), [(t.data_ptr(), t._version, t.device) for t in tensors])
        if self._packed is None or self._packed[0] != state:
            with torch.inference_mode(mode=False), torch.no_grad():
                self._packed = (state, Interleaved(self, dtype))
        return self._packed[1]

    def loss(self, x: torch.Tensor, depth: torch.Tensor, batch: Batch, weights: LossWeights) -> Losses:
        """As ``contract.Denoiser.loss``: the published loss. What ``x`` holds beyond the halo is cut off."""
        if not self.has_classes:
            msg = (
                f"the classifier takes {self.options['classifier_channels']} channels and is given "
                f"{self.options['out_channels_class']}; it cannot be trained; make the network without classifier_channels."
            )
            raise InputError(msg)
        return super().loss(x, depth, batch, weights)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": None}


def _blocks(in_channels: int, channels: int, n: int, kernel_size: int, dilation: int, **shared: Any) -> nn.ModuleList:
    return nn.ModuleList(
        ResBlock(
            channels if i else in_channels,
            channels,
            kernel_size=kernel_size,
            dilation=dilation,
            conv_input=i == 0,
            **shared,
        )
        for i in range(n)
    )
