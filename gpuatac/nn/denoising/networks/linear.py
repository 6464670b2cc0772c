"""The published baselines of one convolution: a linear model of the signal, a logistic one of the peaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from gpuatac import check
from gpuatac.nn.denoising.networks.layers import CoverageModel, same_padding

if TYPE_CHECKING:
    from collections.abc import Mapping


class OneConvolution(CoverageModel):
    """What the two models share: a weighted sum of the ``field`` bases around, and ``scalars`` to learn, as they are at first.

    Parameters
    ----------
    field
        Taps, bp.
    in_channels
        1 + number of extra tracks.

    Raises
    ------
    InputError
        When an option is out of range.
    """

    scalars: ClassVar[Mapping[str, float]]

    def __init__(self, *, field: int = 8401, in_channels: int = 1) -> None:
        super().__init__()
        field, in_channels = check.integer("field", field, 1), check.integer("in_channels", in_channels, 1)
        self.options = {"field": field, "in_channels": in_channels}
        self.conv_layer = nn.Conv1d(in_channels, 1, field)
        for name, value in self.scalars.items():
            self.register_parameter(name, nn.Parameter(torch.full((1,), value)))
        self.n_extra = in_channels - 1
        self.halo = max(same_padding(field, 1))

    def summed(self, x: torch.Tensor) -> torch.Tensor:
        """The sum at each base, (n, in_channels, L) to (n, L)."""
        return self.conv_layer(nn.functional.pad(x, same_padding(self.conv_layer.kernel_size[0], 1))).squeeze(1)


class Linear(OneConvolution):
    """The signal as a weighted sum of the bases around (AtacWorks' linear baseline).

        signal[i] = b + sum over channels c and taps t of W[c, t] x[c, i + t - (field - 1) // 2]

    The log odds of lying in a peak are a straight line of the signal with a slope and an intercept of their own, which do not
    move the weights of the signal when they are trained. Options and errors: see ``OneConvolution``.

    Examples
    --------
    >>> from gpuatac.nn.denoising.networks.linear import Linear
    >>> Linear(field=401).halo
    200
    """

    kind = "linear"
    scalars: ClassVar = {"slope": 1.0, "intercept": 0.0}

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, in_channels, L) to signal and log odds, (n, L) each."""
        signal = self.summed(x)
        return signal, self.slope * signal.detach() + self.intercept


class Logistic(OneConvolution):
    """The log odds of lying in a peak as a weighted sum of the bases around (AtacWorks' logistic baseline).

    The signal is the noisy coverage times a scale of its own, 1 at first. Options and errors: see ``OneConvolution``.

    Examples
    --------
    >>> from gpuatac.nn.denoising.networks.linear import Logistic
    >>> Logistic(field=400).scale.item()
    1.0
    """

    kind = "logistic"
    scalars: ClassVar = {"scale": 1.0}

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, in_channels, L) to signal and log odds, (n, L) each."""
        return self.scale * x[:, 0], self.summed(x)
