"""A denoising network for tracks of any depth: cuts in 8-bp bins, seen at five scales, mixed by weights that the network gives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

from gpuatac import check
from gpuatac.errors import InputError
from gpuatac.nn.contract import Denoised
from gpuatac.nn.denoising.networks.layers import up_to_multiple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpuatac.nn.contract import Batch, Losses, LossWeights

BIN = 8  # bp
BOX = 25  # bins: 200 bp, about the window of coverage
#: Bins of the boxes that are applied twice (a triangle of sd sqrt((w^2 - 1) / 6) bins): 29 to 3766 bp.
TRIANGLES = (9, 29, 97, 385, 1153)
STEM = 9  # taps
BACKGROUND = 0.02  # cuts within the window per million reads: keeps logarithms finite
LEAST = 1e-4
MOST_SHAPE = 20.0
PER_DEPTH = 1e6  # depth is counted in millions of reads
THRESHOLD = 0.2  # where the log odds of a peak begin to rise before anything is learnt, cuts per million reads
UNTOLD = 0.3  # of the training examples keep their fragment lengths to themselves
LENGTHS = 3  # classes of fragment lengths, ``core.track_source.LENGTH_CLASSES``


class ResidualPair(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, channels: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2)
        self.second = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2)
        self.dropout = nn.Dropout1d(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, bins) to the same."""
        return functional.relu(x + self.second(self.dropout(functional.relu(self.first(x)))))


class MultiscaleDenoiser(nn.Module):
    """A denoiser for any depth: one set of weights from a few hundred thousand reads to tens of millions.

    Smoothings S_k of the cut rate (cuts within 200 bp per million reads; a box and triangles of sd 29 to 3766 bp) and a constant are
    mixed at each bin, with weights w_k >= 0 that a small encoder and decoder over five scales gives from their logarithms,
    the counts and the depth d. The mixture m is the mean of a Gamma law of shape s < 20, also given by the network, and the
    count n of the bin's own window makes it a posterior mean:

        m = sum_k w_k S_k,    rate = m (s + n) / (s + m d),    log odds of a peak = (log rate - threshold) softplus(a) + b

    so that signal and peaks come from one head, and where counts are high the track is what was measured, however unlike anything
    seen in training it is. Values lie at the middle of bins and are interpolated to bases. Signal is the rate times the depth of the
    clean library.

    Parameters
    ----------
    target_depth
        Reads of the clean library that ``signal`` is scaled to.
    filters
        Channels at 8, 16, 32, ... bp.
    kernel_sizes
        Taps of the convolutions at each scale, odd.
    dropout
        Share of channels left out in training.
    by_length
        Read cuts by length of their fragment too (``core.track_source.LENGTH_CLASSES``); where a source does not know
        them, the model works without.

    Raises
    ------
    InputError
        When an option is out of range.

    Cost: about 9 kFLOP a base, a fiftieth of the published network's 439; in CPU time a fiftieth of that network layer by layer,
    and a thirteenth of it on interleaved tracks, as it runs here.

    Examples
    --------
    >>> import torch
    >>> from gpuatac.nn.denoising.networks.multiscale import MultiscaleDenoiser
    >>> model = MultiscaleDenoiser(target_depth=50e6).eval()
    >>> cuts = torch.zeros(1, 1, (2 * model.halo + 1024) // 8)
    >>> model.predict(cuts, torch.tensor([5e6])).signal.shape
    torch.Size([1, 1024])
    """

    kind: ClassVar[str] = "multiscale"
    inputs: ClassVar[str] = "cuts"
    bin_size = BIN
    n_extra = 0

    def __init__(
        self,
        *,
        target_depth: float = 50e6,
        filters: Sequence[int] = (16, 24, 32, 48, 48),
        kernel_sizes: Sequence[int] = (7, 7, 7, 5, 5),
        dropout: float = 0.1,
        by_length: bool = False,
    ) -> None:
        super().__init__()
        filters = tuple(check.integer("filters", f, 1) for f in filters)
        kernel_sizes = tuple(check.integer("kernel_sizes", k, 1) for k in kernel_sizes)
        if len(filters) != len(kernel_sizes) or not filters or any(k % 2 == 0 for k in kernel_sizes):
            msg = (
                f"filters {filters} and kernel_sizes {kernel_sizes} must be as many, at least one, and kernels odd; "
                "give one of each for every scale."
            )
            raise InputError(msg)
        check.between("target_depth", target_depth, 1)
        check.between("dropout", dropout, 0, 0.9)
        self.options: Mapping[str, Any] = {
            "target_depth": float(target_depth),
            "filters": filters,
            "kernel_sizes": kernel_sizes,
            "dropout": float(dropout),
            "by_length": bool(by_length),
        }
        self.by_length = bool(by_length)
        self.target = float(target_depth) / PER_DEPTH
        self.align = BIN * 2 ** (len(filters) - 1)
        self.halo = up_to_multiple(BIN * _radius(kernel_sizes), self.align)
        self.n_mixed = len(TRIANGLES) + 2
        n_features = self.n_mixed + 2 + (LENGTHS + 1 if by_length else 0)
        wide, deep = filters[:-1], filters[1:]
        pair = [ResidualPair(f, k, dropout) for f, k in zip(filters, kernel_sizes, strict=True)]
        self.stem = nn.Conv1d(n_features, filters[0], STEM, padding=STEM // 2)
        self.encoder = nn.ModuleList(pair)
        self.down = nn.ModuleList(nn.Conv1d(a, b, 4, stride=2, padding=1) for a, b in zip(wide, deep, strict=True))
        self.up = nn.ModuleList(nn.Conv1d(b, a, 1) for a, b in zip(wide, deep, strict=True))
        self.decoder = nn.ModuleList(ResidualPair(f, k, dropout) for f, k in zip(wide, kernel_sizes[:-1], strict=True))
        self.head = nn.Conv1d(filters[0], self.n_mixed + 3, 1)
        nn.init.zeros_(self.head.weight)
        equal = math.log(math.expm1(0.25))
        with torch.no_grad():
            self.head.bias.copy_(torch.tensor([equal] * self.n_mixed + [2.0, 0.0, 0.0]))
        self.threshold = nn.Parameter(torch.tensor(math.log(THRESHOLD)))

    def features(self, x: torch.Tensor, depth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the network reads, and what it mixes: float32 (n, channels, bins) each.

        Boxes are differences of a float64 running sum: of whole counts exact, whatever the tile.
        """
        cuts = x.sum(1, keepdim=True)
        millions = (depth.to(torch.float32) / PER_DEPTH).view(-1, 1, 1)
        smooth = [box(cuts, BOX), *(box(box(cuts, w), w) * (BOX / w**2) for w in TRIANGLES)]
        counts = torch.cat([s.float() for s in smooth], 1)
        rate = counts / millions
        mixed = torch.cat([rate, torch.full_like(cuts, BACKGROUND)], 1)
        read = [
            torch.log1p(cuts),
            torch.log1p(counts[:, :1]),
            torch.log(rate + BACKGROUND),
            torch.log(millions).expand_as(cuts),
        ]
        if self.by_length:
            told = x.shape[1] == LENGTHS
            known = x.new_full((x.shape[0], 1, 1), float(told))
            if self.training:
                known = known * (torch.rand_like(known) >= UNTOLD)
            parts = box(x, BOX).float() if told else x.new_zeros((x.shape[0], LENGTHS, x.shape[2]))
            read += [torch.log1p(parts) * known, known.expand_as(cuts)]
        return torch.cat(read, 1), mixed

    def forward(self, x: torch.Tensor, depth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, 1 or 3, bins) cuts to the rate (cuts per base's window and million reads) and the log odds, (n, bins) each."""
        read, mixed = self.features(x, depth)
        h = self.encoder[0](functional.relu(self.stem(read)))
        skips = [h]
        for down, pair in zip(self.down, self.encoder[1:], strict=True):
            h = pair(functional.relu(down(h)))
            skips.append(h)
        for i in reversed(range(len(self.up))):
            h = self.decoder[i](functional.relu(self.up[i](h).repeat_interleave(2, dim=-1) + skips[i]))
        out = self.head(h).float()
        mean = (functional.softplus(out[:, : self.n_mixed]) * mixed).sum(1)
        steep, shift, shape = out[:, self.n_mixed :].unbind(1)
        shape, millions = MOST_SHAPE * torch.sigmoid(shape), (depth / PER_DEPTH).view(-1, 1)
        rate = mean * (shape + mixed[:, 0] * millions) / (shape + mean * millions)
        steep = functional.softplus(steep)
        return rate, (torch.log(rate + LEAST) - self.threshold) * steep + shift

    def predict(self, x: torch.Tensor, depth: torch.Tensor) -> Denoised:
        """As ``contract.Denoiser.predict``: signal at ``target_depth``."""
        beyond = x.shape[-1] * BIN - 2 * self.halo if x.ndim == 3 else -1
        if x.ndim != 3 or x.shape[1] not in (1, LENGTHS) or beyond < 1 or beyond % self.align:
            msg = (
                f"{self.kind} was given an input of shape {tuple(x.shape)}; it takes (n, 1 or {LENGTHS}, (L + {2 * self.halo}) / 8), "
                f"L a multiple of {self.align}; extend the input by {self.halo} bp on each side, no cuts beyond a chromosome."
            )
            raise InputError(msg)
        rate, logit = self.forward(x, depth)
        at = self.halo // BIN - 1
        values = torch.stack([rate * self.target, torch.sigmoid(logit)], 1)[..., at : x.shape[-1] - at]
        values = functional.interpolate(values, scale_factor=float(BIN), mode="linear", align_corners=False)
        values = values[..., BIN:-BIN]
        return Denoised(values[:, 0], values[:, 1])

    @torch.no_grad()
    def empty_output(self, depth: torch.Tensor) -> Denoised:
        """As ``contract.Denoiser.empty_output``: (n, 1) each."""
        x = depth.new_zeros((depth.shape[0], 1, (2 * self.halo + self.align) // BIN), dtype=torch.float32)
        out = self.predict(x, depth)
        return Denoised(out.signal[:, :1], out.probability[:, :1])

    def loss(self, x: torch.Tensor, depth: torch.Tensor, batch: Batch, weights: LossWeights) -> Losses:
        """As ``contract.Denoiser.loss``: ``nn.denoising.networks.rate_loss.rate_loss`` on bins."""
        from gpuatac.nn.denoising.networks.rate_loss import rate_loss

        bins = batch.signal.shape[-1] // BIN
        beyond = x.shape[-1] - bins
        if beyond * BIN < 2 * self.halo or beyond % 2 or batch.signal.shape[-1] % BIN:
            msg = (
                f"training inputs of {x.shape[-1]} bins stand beside targets of {batch.signal.shape[-1]} bases; {self.kind} needs "
                f"{self.halo} bp more on each side; pad the inputs by that."
            )
            raise InputError(msg)
        rate, logit = self.forward(x, depth)
        inside = slice(beyond // 2, beyond // 2 + bins)
        binned = type(batch)(*(field.view(*field.shape[:-1], bins, BIN).mean(-1) for field in batch))
        return rate_loss(rate[:, inside] * self.target, logit[:, inside], binned, weights)


def box(x: torch.Tensor, width: int) -> torch.Tensor:
    """Sums over ``width`` (odd) bins around each, zeros beyond the ends: float64."""
    running = functional.pad(x, (width // 2 + 1, width // 2)).cumsum(-1, dtype=torch.float64)
    return running[..., width:] - running[..., :-width]


def _radius(kernel_sizes: Sequence[int]) -> int:
    """Bins on each side that an output may depend on, rounded up where bins of a coarse scale straddle."""
    network = STEM // 2
    for level, k in enumerate(kernel_sizes):
        last = level == len(kernel_sizes) - 1
        network += 2 * (k // 2) * 2**level * (1 if last else 2)
        if not last:
            network += 3 * 2**level + 2**level  # the strided convolution, and the doubling
    return network + 2 * (max(TRIANGLES) // 2) + 1
