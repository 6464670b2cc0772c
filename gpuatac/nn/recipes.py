"""How a model is trained: every number of a training run in one place, with presets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from gpuatac import check
from gpuatac.nn.contract import LossWeights

Schedule = Literal["constant", "one-cycle"]
Optimiser = Literal["adam", "adamw"]
Best = Literal["auroc", "auprc", "pearson", "spearman", "mse", "bce"]
LOWER_IS_BETTER = ("mse", "bce")
BEST = ("auroc", "auprc", "pearson", "spearman", "mse", "bce")


@dataclass(frozen=True)
class Recipe:
    """Options of a training run.

    Attributes
    ----------
    epochs
        Passes, each followed by validation.
    steps_per_epoch
        Optimiser steps of a pass; by default every example once.
    batch_size
        Examples of a step (of all GPUs together).
    interval
        bp predicted of each example, rounded up to what the model is aligned to.
    pad
        bp of context on each side, at most what the model looks at, beyond which zeros stand (None: all of it); of HDF5 files the
        padding of their rows.
    nonzero
        Leave out intervals without noisy coverage.
    random_starts
        Move each interval by up to half its length, any number of bases.
    flip
        Reverse half of the examples.
    depth
        Lowest and highest depth in reads that clean tracks are thinned to, drawn log-uniformly.
    depths
        Depths in reads to draw from, in place of ``depth``.
    real_share
        Share of the examples whose input is the measured noisy track, where a clean track has one and is thinned as well.
    paired
        Share of the thinned examples of a coverage track in which cuts go by two, as those of paired-end reads do; cuts of fragments
        do so in all.
    optimiser
        "adam", or "adamw" (decay apart from the gradient).
    lr
        Learning rate, the highest of a cycle.
    weight_decay
        Decay of the weights.
    schedule
        Of the learning rate: "constant", or "one-cycle", which rises over the first ``warmup`` share of the steps and then falls to
        nothing.
    warmup
        Share of a cycle in which the learning rate rises.
    clip
        Largest norm of the gradient; None: any.
    ema
        Decay per step of an average of the weights, which is validated and kept; 0: the weights themselves.
    weights
        Of the parts of the loss.
    best
        Measure of validation whose best epoch is kept.
    precision
        "float32", or "bfloat16" for automatic mixed precision.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from gpuatac.nn.recipes import Recipe
    >>> replace(Recipe.published(), epochs=25).lr
    0.0002
    """

    epochs: int = 10
    steps_per_epoch: int | None = None
    batch_size: int = 64
    interval: int = 50_000
    pad: int | None = 5_000
    nonzero: bool = True
    random_starts: bool = False
    flip: bool = False
    depth: tuple[float, float] = (0.2e6, 20e6)
    depths: tuple[float, ...] = ()
    real_share: float = 1.0
    paired: float = 0.0
    optimiser: Optimiser = "adam"
    lr: float = 2e-4
    weight_decay: float = 0.0
    schedule: Schedule = "constant"
    warmup: float = 0.1
    clip: float | None = None
    ema: float = 0.0
    weights: LossWeights = field(default_factory=LossWeights)
    best: Best = "auroc"
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        check.integer("epochs", self.epochs, 1)
        check.integer("batch_size", self.batch_size, 1)
        check.integer("interval", self.interval, 1)
        if self.steps_per_epoch is not None:
            check.integer("steps_per_epoch", self.steps_per_epoch, 1)
        if self.pad is not None:
            check.integer("pad", self.pad, 0)
        for name, low, high in (("real_share", 0, 1), ("weight_decay", 0, 1), ("ema", 0, 1), ("warmup", 0, 1), ("paired", 0, 1)):
            check.between(name, getattr(self, name), low, high)
        check.between("lr", self.lr, 1e-12, 10)
        if self.clip is not None:
            check.between("clip", self.clip, 1e-12)
        check.between("depth", self.depth[0], 1)
        check.between("depth", self.depth[1], self.depth[0])
        for depth in self.depths:
            check.between("depths", depth, 1)
        for name, value in self.weights._asdict().items():
            check.between(f"weight of {name}", value, 0)
        check.one_of("optimiser", self.optimiser, ("adam", "adamw"))
        check.one_of("schedule", self.schedule, ("constant", "one-cycle"))
        check.one_of("best", self.best, BEST)
        check.one_of("precision", self.precision, ("float32", "bfloat16"))

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, tuples and dicts."""
        return {**asdict(self), "weights": self.weights._asdict()}

    @classmethod
    def published(cls) -> Recipe:
        """As AtacWorks was trained (Lal et al. 2021), with the 25 epochs of the paper's models."""
        return cls(epochs=25)

    @classmethod
    def multiscale(cls) -> Recipe:
        """For the model of any depth: windows of 32 kb at random places, thinned to 0.1-20 M reads, mostly by two, and measured
        ones mixed in.
        """
        return cls(
            epochs=20,
            steps_per_epoch=100,
            batch_size=8,
            interval=32_768,
            pad=None,
            random_starts=True,
            flip=True,
            depth=(0.1e6, 20e6),
            real_share=0.3,
            paired=0.7,
            optimiser="adamw",
            lr=1e-3,
            weight_decay=1e-2,
            schedule="one-cycle",
            clip=1.0,
            ema=0.995,
            best="bce",  # over depths AUPRC is ruled by the noise of the lowest
        )

    @classmethod
    def cpu(cls) -> Recipe:
        """``multiscale`` in 800 steps: some five minutes on two cores."""
        return cls(**{**vars(cls.multiscale()), "epochs": 8})


PRESETS = ("published", "multiscale", "cpu")


def preset(name: str) -> Recipe:
    """The recipe of that name."""
    check.one_of("preset", name, PRESETS)
    made: Recipe = getattr(Recipe, name)()
    return made
