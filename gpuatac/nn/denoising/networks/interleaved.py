"""The published network on interleaved tracks: the same sums, as dense convolutions over contiguous memory.

A convolution of dilation d never mixes positions of different residue mod d: it is an undilated one on d tracks, base i being
row i // d of track i % d. Rows of one track lie one after the other, so that m rows of C channels are one row of m C channels
without a copy: a kernel of k taps becomes one of ceil((m + k - 1) / m) taps on m C channels, a banded (Toeplitz) matrix of the
same weights. Vector and matrix units are filled by m C = 32 or 64 channels where 15 leave them idle; for k = 51 and
m = 2 the zeros of the band cost 2 % more multiplications.

    out[j C + o, r] = sum over b, i, c of W[o, c, b m + i - j] in[i C + c, r + b],   W = 0 outside its k taps

Layout: activations (n d, rows, channels), contiguous; channels are filled up with zeros to a multiple of 8. No layer pads:
each is computed where its input is whole, and the halo shrinks from layer to layer. Rows of left context that even kernels
shift by parts of d move a residual to another track.

Cost for the default options: 439 kFLOP per base (1.16 times as many with 16 channels for 15).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch.nn import functional

from gpuatac.nn.denoising.networks.layers import same_padding, up_to_multiple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from gpuatac.nn.denoising.networks.layers import ConvAct1d, ResBlock

    Act = Callable[[torch.Tensor], torch.Tensor]


class Stacks(NamedTuple):
    """Rows that make one: in the first convolution of a trunk, which has few input channels, and in the others."""

    first: int
    other: int


#: The fastest measured on a CPU, forward and with gradients (a step of training: 1.0 s with 2 rows in one, 0.7 s with 4, 6.1 s for
#: the plain network); on a GPU 4 x 16 channels fill the tensor cores (benchmarks/denoiser_forward.py).
_FORWARD = {"cpu": Stacks(16, 2)}
_OTHERWISE = Stacks(4, 4)


def device_stacks(device: torch.device, *, gradients: bool = False) -> Stacks:
    """Rows that make one, on this kind of device."""
    return _OTHERWISE if gradients else _FORWARD.get(device.type, _OTHERWISE)


class _Conv(NamedTuple):
    weight: torch.Tensor  # (m C_out, m C_in, 1, taps)
    bias: torch.Tensor | None  # (m C_out,)
    stack: int

    @property
    def lost(self) -> int:
        """Rows that the output is shorter."""
        taps: int = self.weight.shape[-1]
        return (taps - 1) * self.stack

    def __call__(self, h: torch.Tensor) -> torch.Tensor:
        n, rows, channels = h.shape
        wide = h.view(n, 1, rows // self.stack, channels * self.stack).permute(0, 3, 1, 2)
        out = functional.conv2d(wide, self.weight, self.bias).permute(0, 2, 3, 1)
        return out.reshape(n, rows - self.lost, -1)


def folded(layer: ConvAct1d) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weight and bias of a convolution with its batch normalisation, by running statistics, multiplied in."""
    weight, bias, norm = layer.conv_layer.weight, layer.conv_layer.bias, layer.bn_layer
    if norm is None:
        return weight, bias
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    return weight * scale[:, None, None], shift if bias is None else shift + bias * scale


def banded(weight: torch.Tensor, stack: int) -> torch.Tensor:
    """The kernel (C_out, C_in, k) for ``stack`` rows at once: (stack C_out, stack C_in, 1, ceil((stack + k - 1) / stack))."""
    c_out, c_in, k = weight.shape
    n_taps = -(-(stack + k - 1) // stack)
    padded = functional.pad(weight, (stack - 1, n_taps * stack - k))
    one = torch.arange(stack, device=weight.device)
    tap = torch.arange(n_taps, device=weight.device)[:, None, None] * stack + one[:, None] - one + stack - 1
    out = padded[:, :, tap]  # c_out, c_in, block b, row in i, row out j
    return out.permute(4, 0, 3, 1, 2).reshape(stack * c_out, stack * c_in, 1, n_taps)


def _widened(tensor: torch.Tensor, *shape: int) -> torch.Tensor:
    """``tensor`` with its first axes filled up with zeros to ``shape``."""
    short = [0, 0] * (tensor.ndim - len(shape))
    for have, wanted in zip(reversed(tensor.shape[: len(shape)]), reversed(shape), strict=True):
        short += [0, wanted - have]
    return functional.pad(tensor, short)


def _conv(layer: ConvAct1d, stack: int, c_in: int, c_out: int, dtype: torch.dtype) -> _Conv:
    weight, bias = folded(layer)
    weight = banded(_widened(weight, c_out, c_in), stack).to(dtype).contiguous(memory_format=torch.channels_last)
    return _Conv(weight, None if bias is None else _widened(bias, c_out).repeat(stack).to(dtype), stack)


def _activation(module: Any) -> Act:
    """In place where it may be."""
    if isinstance(module, torch.nn.PReLU):
        return lambda x: functional.prelu(x, module.weight.to(x.dtype))
    rectify: Act = torch.relu_
    return rectify


class _Block(NamedTuple):
    convs: tuple[_Conv, ...]  # three
    acts: tuple[Act, ...]  # one after each
    skip: tuple[torch.Tensor, torch.Tensor | None, Act] | None


class Trunk:
    """Residual blocks of one dilation and the 1x1 convolution after them: (n, channels, L + context) to (n, L)."""

    def __init__(
        self, blocks: Iterable[ResBlock], head: ConvAct1d, *, dilation: int, stacks: Stacks, dtype: torch.dtype
    ) -> None:
        self.dilation, self.dtype = dilation, dtype
        self.blocks: list[_Block] = []
        taps = 1
        for i, block in enumerate(blocks):
            c_out, c_in, taps = block.conv_act1.conv_layer.weight.shape
            wide = up_to_multiple(c_out, 8)
            sizes = (
                (stacks.other if i else stacks.first, wide if i else c_in),
                (stacks.other, wide),
                (stacks.other, wide),
            )
            layers = (block.conv_act1, block.conv_act2, block.conv_act3)
            convs = tuple(_conv(one, m, c, wide, dtype) for one, (m, c) in zip(layers, sizes, strict=True))
            acts = tuple(map(_activation, (block.conv_act1.act_layer, block.conv_act2.act_layer, block.activation)))
            skip = None
            if block.conv_input is not None:
                weight, bias = folded(block.conv_input)
                weight = _widened(weight.squeeze(2), wide, c_in).to(dtype)
                bias = None if bias is None else _widened(bias, wide).to(dtype)
                skip = (weight, bias, _activation(block.conv_input.act_layer))
            self.blocks.append(_Block(convs, acts, skip))
        before, after = same_padding(taps, dilation)
        n_convs = 3 * len(self.blocks)
        self.before, self.after = n_convs * before, n_convs * after
        self.shift = 3 * before  # bp between a block's output and the residual that is added to it
        self.rows_lost = sum(conv.lost for block in self.blocks for conv in block.convs)
        self.step = max(stacks)
        self.head_weight = _widened(
            head.conv_layer.weight.reshape(1, -1).T, up_to_multiple(head.conv_layer.in_channels, 8)
        )
        self.head_bias = head.conv_layer.bias
        self.head_act = None if head.act_layer is None else _activation(head.act_layer)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """What the head gives; float32."""
        n, channels, length = x.shape
        d, wanted = self.dilation, length - self.before - self.after
        rows = up_to_multiple(-(-wanted // d) + self.rows_lost, self.step)
        x = functional.pad(x, (0, rows * d - length)).to(self.dtype)
        h = x.reshape(n, channels, rows, d).permute(0, 3, 2, 1).contiguous().view(n * d, rows, channels)
        for block in self.blocks:
            h = self._block(block, h, n)
        out = torch.matmul(h.float(), self.head_weight.float())
        if self.head_bias is not None:
            out = out + self.head_bias
        if self.head_act is not None:
            out = self.head_act(out)
        return out.view(n, d, -1).transpose(1, 2).reshape(n, -1)[:, :wanted]

    def _block(self, block: _Block, h: torch.Tensor, n: int) -> torch.Tensor:
        y = h
        for conv, act in zip(block.convs[:2], block.acts, strict=False):
            y = act(conv(y))
        y = block.convs[2](y)
        rows = y.shape[1]
        for to, source in self._shifted(y.view(n, self.dilation, rows, -1), h.view(n, self.dilation, h.shape[1], -1)):
            to.add_(_skipped(block.skip, source))
        return block.acts[2](y)

    def _shifted(self, y: torch.Tensor, h: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Parts of ``y`` beside the parts of ``h`` that lie ``shift`` bases further on; (n, d, rows, channels) both."""
        first, off = divmod(self.shift, self.dilation)
        rows = y.shape[2]
        same = (y[:, : self.dilation - off], h[:, off:, first : first + rows])
        if off == 0:
            return [same]
        return [same, (y[:, self.dilation - off :], h[:, :off, first + 1 : first + 1 + rows])]


def _skipped(skip: tuple[torch.Tensor, torch.Tensor | None, Act] | None, h: torch.Tensor) -> torch.Tensor:
    if skip is None:
        return h
    weight, bias, act = skip
    out = h * weight[:, 0] if weight.shape[1] == 1 else torch.matmul(h, weight.T)
    return act(out if bias is None else out + bias)


class TwoTrunks(Protocol):
    """What is asked of the network: the blocks of each trunk and the convolution after them (``networks.resnet``)."""

    options: Mapping[str, Any]
    has_classes: bool
    res_blocks: Iterable[ResBlock]
    regressor: ConvAct1d
    res_blocks_class: Iterable[ResBlock]
    classifier: ConvAct1d

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """The weights."""
        ...


class Interleaved:
    """The network as it is now, in ``dtype``; gradients reach its parameters where they are enabled."""

    def __init__(
        self, model: TwoTrunks, dtype: torch.dtype = torch.float32, stacks: Stacks | None = None
    ) -> None:
        options = model.options
        if stacks is None:
            stacks = device_stacks(next(model.parameters()).device, gradients=torch.is_grad_enabled())
        shared = {"stacks": stacks, "dtype": dtype}
        self.signal = Trunk(model.res_blocks, model.regressor, dilation=options["dilation"], **shared)
        self.classes = None
        self.before = self.after = 0
        if model.has_classes:
            self.classes = Trunk(model.res_blocks_class, model.classifier, dilation=options["dilation_class"], **shared)
            self.before, self.after = self.classes.before, self.classes.after

    def __call__(self, x: torch.Tensor, halo: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Signal and log odds, float32 (n, L) each, of the middle of ``x`` (n, channels, halo + L + halo)."""
        length = x.shape[-1] - 2 * halo
        start, stop = halo - self.signal.before - self.before, halo + length + self.signal.after + self.after
        wide = self.signal(x[..., start:stop])
        signal = wide[:, self.before : self.before + length]
        if self.classes is None:
            return signal, torch.full_like(signal, torch.nan)
        return signal, self.classes(wide[:, None])
