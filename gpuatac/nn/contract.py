"""What every denoising model offers to inference, training and evaluation, and what examples offer to training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch

Inputs = Literal["coverage", "cuts"]


class Denoised(NamedTuple):
    """Model output. ``signal`` in coverage of the target depth (cuts within the half width), ``probability`` of lying in a peak."""

    signal: torch.Tensor  # float32 (n, L)
    probability: torch.Tensor  # float32 (n, L)


class Denoiser(Protocol):
    """A ``torch.nn.Module`` with this beside ``forward``.

    Attributes
    ----------
    kind
        Name under which ``nn.checkpoints`` makes it: "denoising_resnet", "unet", "linear", "logistic", "multiscale".
    options
        What its constructor takes, as plain numbers, strings, booleans and tuples.
    inputs
        "coverage" (n, channels, bases) at single bases, or "cuts" (n, classes, bins) in bins of ``bin_size`` bp.
    bin_size
        bp of one input position: 1 for coverage.
    n_extra
        Extra input tracks stacked after the first channel (motifs, say); coverage models only.
    halo
        bp on each side that an output depends on: a multiple of ``align``.
    align
        Starts and lengths of what is predicted are multiples of this many bp (8 for interleaved tracks and 8-bp bins).
    """

    kind: str
    options: Mapping[str, Any]
    inputs: Inputs
    bin_size: int
    n_extra: int
    halo: int
    align: int
    training: bool

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """As ``torch.nn.Module``."""
        ...

    def buffers(self) -> Iterator[torch.Tensor]:
        """As ``torch.nn.Module``."""
        ...

    def train(self, mode: bool = True) -> Any:  # noqa: FBT001, FBT002
        """As ``torch.nn.Module``."""
        ...

    def eval(self) -> Any:
        """As ``torch.nn.Module``."""
        ...

    def predict(self, x: torch.Tensor, depth: torch.Tensor) -> Denoised:
        """Outputs for the middle of ``x`` (halo on both sides cut off), as if the track went on beyond it with what ``x`` holds.

        ``x``: float32 (n, channels, (halo + L + halo) / bin_size), ``depth``: float32 (n,) cuts of each whole library.
        Exactly translation-invariant in steps of ``align``; so tiles of any length give the same numbers.
        """
        ...

    def empty_output(self, depth: torch.Tensor) -> Denoised:
        """(n, 1): what comes out where the input is 0 all through the halo."""
        ...

    def loss(self, x: torch.Tensor, depth: torch.Tensor, batch: Batch, weights: LossWeights) -> Losses:
        """The training loss on a batch, with its parts."""
        ...


class Batch(NamedTuple):
    """Training examples, (n, L) float32 each unless said otherwise."""

    signal: torch.Tensor  # clean coverage
    peak: torch.Tensor  # 0 or 1: the base lies in a peak of the clean track
    weight: torch.Tensor  # 0 where the clean track is unknown or held out


class LossWeights(NamedTuple):
    """Weights of the parts of the published loss; ``poisson`` > 0 takes the place of ``mse`` and ``pearson``."""

    mse: float = 0.0005
    pearson: float = 1.0
    bce: float = 1.0
    poisson: float = 0.0


class Losses(NamedTuple):
    """The loss to descend, and its unweighted parts by name."""

    total: torch.Tensor
    parts: Mapping[str, torch.Tensor]


class PeakRule(NamedTuple):
    """How peaks are cut from a probability or coverage track (MACS2's bdgpeakcall): runs >= ``cutoff``, joined over gaps of at most
    ``max_gap`` bp, ``min_length`` bp or longer.
    """

    cutoff: float = 0.5
    min_length: int = 200
    max_gap: int = 30


class ModelCard(NamedTuple):
    """What a checkpoint says of itself beside weights and options."""

    half_width: int = 100
    input_depth: float | None = None  # reads; None: any
    target_depth: float | None = None  # reads of the clean library the signal is scaled to
    trained_on: str = ""
    genome: str = ""
    extra_tracks: Sequence[str] = ()
    license: str = ""


class Example(NamedTuple):
    """What a step takes: input, cuts of each library, and what to predict."""

    x: torch.Tensor  # float32 (n, channels, (halo + L + halo) / bin_size)
    depth: torch.Tensor  # float32 (n,)
    batch: Batch


class Examples(Protocol):
    """Examples of one part of the data. ``batch`` gives the same ones for the same arguments, in any order and process."""

    def __len__(self) -> int:
        """Examples of an epoch."""
        ...

    def batch(self, picks: Sequence[int], *, epoch: int, positions: Sequence[int]) -> Example:
        """The examples of numbers ``picks`` in [0, len), made with randomness of (epoch, position)."""
        ...


class Validation(Protocol):
    """Examples without randomness, by the name of their noisy input."""

    names: Sequence[str]

    def batches(self, name: str, batch_size: int, *, rank: int = 0, world: int = 1) -> Iterator[Example]:
        """All of them in order; of several processes, each every ``world``-th batch."""
        ...
