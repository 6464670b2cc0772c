"""What the classes of the denoising networks take, as one table: it needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal


@dataclass(frozen=True)
class ModelOptions:
    """Options of a denoising network; each is for the models that its text begins with. None: the class's own default.

    Attributes
    ----------
    num_blocks
        resnet: residual blocks for the signal (default: 5).
    out_channels
        resnet: filters of their layers (default: 15).
    kernel_size
        resnet: taps of their filters (default: 51).
    dilation
        resnet: bp between taps (default: 8).
    num_blocks_class
        resnet: blocks for the peaks (default: 2).
    out_channels_class
        resnet: filters of these (default: 15).
    kernel_size_class
        resnet: taps of these (default: 51).
    dilation_class
        resnet: bp between the taps of these (default: 8).
    bn
        resnet, unet: normalise over batches.
    afunc
        resnet, unet: activation (default: relu).
    field
        linear, logistic: bp looked at (default: 8401).
    """

    num_blocks: int | None = None
    out_channels: int | None = None
    kernel_size: int | None = None
    dilation: int | None = None
    num_blocks_class: int | None = None
    out_channels_class: int | None = None
    kernel_size_class: int | None = None
    dilation_class: int | None = None
    bn: bool | None = None
    afunc: Literal["relu", "prelu"] | None = None
    field: int | None = None

    def given(self) -> dict[str, Any]:
        """Those that are set, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}
