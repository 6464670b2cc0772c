"""The published U-Net baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from gpuatac import check
from gpuatac.errors import InputError
from gpuatac.nn.denoising.networks.layers import ACTIVATIONS, ConvAct1d, CoverageModel, up_to_multiple

if TYPE_CHECKING:
    from collections.abc import Sequence


class UNet(CoverageModel):
    """The U-Net that was published as a baseline (AtacWorks): two convolutions at each of five scales, with skips across.

    On the way down each scale ends in the maximum of two neighbours; on the way up positions are doubled (nearest), convolved to
    the channels of the scale, and stacked after what the way down left there. Two 1x1 convolutions give the signal, never
    negative, and the log odds of lying in a peak. 25.9 million parameters by default.

    Translation-invariant in steps of ``align``, the product of the strides.

    Parameters
    ----------
    in_channels
        1 + number of extra tracks.
    channels, kernel_sizes
        Filters and taps of each scale on the way down.
    bottleneck_channels, bottleneck_kernel_size
        The same of the lowest scale.
    up_kernel_size
        Taps on the way up.
    bn
        Batch normalisation after each convolution but the heads.
    afunc
        "relu" or "prelu".

    Raises
    ------
    InputError
        When an option is out of range, or channels and kernel_sizes differ in number.

    Reference: as of ``DenoisingResNet``.

    Examples
    --------
    >>> from gpuatac.nn.denoising.networks.unet import UNet
    >>> UNet(channels=(4, 8), kernel_sizes=(5, 5), bottleneck_channels=8, bottleneck_kernel_size=9).align
    4
    """

    kind = "unet"

    def __init__(
        self,
        *,
        in_channels: int = 1,
        channels: Sequence[int] = (16, 32, 64, 128),
        kernel_sizes: Sequence[int] = (5, 5, 25, 25),
        bottleneck_channels: int = 256,
        bottleneck_kernel_size: int = 250,
        up_kernel_size: int = 5,
        bn: bool = False,
        afunc: str = "relu",
    ) -> None:
        super().__init__()
        check.one_of("afunc", afunc, ACTIVATIONS)
        if not channels or len(channels) != len(kernel_sizes):
            msg = f"{len(channels)} channels stand beside {len(kernel_sizes)} kernel_sizes; give one of each for every scale."
            raise InputError(msg)
        channels = tuple(check.integer("channels", c, 1) for c in channels)
        kernel_sizes = tuple(check.integer("kernel_sizes", k, 1) for k in kernel_sizes)
        numbers = {
            "in_channels": in_channels, "bottleneck_channels": bottleneck_channels,
            "bottleneck_kernel_size": bottleneck_kernel_size, "up_kernel_size": up_kernel_size,
        }  # fmt: skip
        numbers = {name: check.integer(name, value, 1) for name, value in numbers.items()}
        self.options = {
            **numbers, "channels": channels, "kernel_sizes": kernel_sizes, "bn": bool(bn), "afunc": afunc,
        }  # fmt: skip

        def conv(c_in: int, c_out: int, k: int) -> ConvAct1d:
            return ConvAct1d(c_in, c_out, kernel_size=k, bias=True, bn=bn, afunc=afunc)

        def pair(c_in: int, c_out: int, k: int) -> nn.Sequential:
            return nn.Sequential(conv(c_in, c_out, k), conv(c_out, c_out, k))

        into = (in_channels, *channels[:-1])
        self.down = nn.ModuleList(map(pair, into, channels, kernel_sizes))
        self.bottleneck = pair(channels[-1], bottleneck_channels, bottleneck_kernel_size)
        above = (*channels[1:], bottleneck_channels)
        self.up = nn.ModuleList(conv(a, c, up_kernel_size) for a, c in zip(above, channels, strict=True))
        self.merge = nn.ModuleList(pair(2 * c, c, up_kernel_size) for c in channels)
        self.regressor = ConvAct1d(channels[0], 1, bias=True, afunc="relu")
        self.classifier = ConvAct1d(channels[0], 1, bias=True)
        self.n_extra = in_channels - 1
        self.align = 2 ** len(channels)
        # taps - 1 covers either half; the way up has three convolutions, and a position of the scale below stands for two
        each = [2 * (k - 1) + 3 * (up_kernel_size - 1) + 2 for k in kernel_sizes]
        reach = 2 * (bottleneck_kernel_size - 1) * self.align + sum(n << scale for scale, n in enumerate(each))
        self.halo = up_to_multiple(-(-reach // 2) + self.align, self.align)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, in_channels, L) to signal and log odds, (n, L) each; L is filled up with zeros to a multiple of ``align``."""
        length = x.shape[-1]
        x = functional.pad(x, (0, -length % self.align))
        left = []
        for scale in self.down:
            x = scale(x)
            left.append(x)
            x = functional.max_pool1d(x, 2)
        x = self.bottleneck(x)
        for up, merge, skip in zip(reversed(self.up), reversed(self.merge), reversed(left), strict=True):
            x = merge(torch.cat([skip, up(functional.interpolate(x, scale_factor=2.0, mode="nearest"))], 1))
        return self.regressor(x).squeeze(1)[:, :length], self.classifier(x).squeeze(1)[:, :length]
