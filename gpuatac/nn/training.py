"""Training of denoising models: steps, validation, the best epoch, and going on after a kill."""

from __future__ import annotations

import csv
import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from gpuatac.errors import InputError
from gpuatac.io.files.atomic import replacing
from gpuatac.nn.distributed import Ranks
from gpuatac.nn.recipes import LOWER_IS_BETTER, Recipe
from gpuatac.nn.state import load_state, save_state, to_cpu
from gpuatac.nn.validation import autocast, validate
from gpuatac.progress import bar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpuatac.nn.contract import Examples, Validation

logger = logging.getLogger(__name__)
FALL_BACK = "pearson"  # where the best epoch cannot be told by ranking, since validation has one class
SHOWN = ("loss", "mse", "pearson", "auroc", "auprc")


class Trained(NamedTuple):
    """What training gives.

    ``history``: a row for each epoch: epoch, lr, seconds, the mean training "loss" and its parts ("train_mse", ...), and the
    measures of validation, as means over its inputs ("mse", "auroc", ...) and for each input ("auroc[1M]", ...).
    """

    history: list[dict[str, float]]
    best_epoch: int


def train(
    model: torch.nn.Module,
    examples: Examples,
    *,
    validation: Validation,
    recipe: Recipe | None = None,
    seed: int = 0,
    state_path: str | Path | None = None,
    resume: bool = False,
    ranks: Ranks | None = None,
    on_best: Callable[[torch.nn.Module, int], None] | None = None,
    history_path: str | Path | None = None,
) -> Trained:
    """Train a denoising model and leave the best epoch's weights in it.

    Parameters
    ----------
    model
        A model as in ``nn.contract``, on the device of the examples.
    examples, validation
        What to learn from, and what to choose the best epoch by.
    recipe
        Every number of the run; None: the published one. With a validation set of one class the best epoch is that of the highest
        Pearson correlation where AUROC or AUPRC was asked for.
    seed
        Of the order of the examples and of dropout.
    state_path
        Where the state is written after each epoch, whole or not at all.
    resume
        Go on from ``state_path`` if it is there; the weights are then those of a run that was never stopped.
    ranks
        This process among several (``nn.distributed.joined``). Each takes its part of every step; gradients are averaged. Means and
        correlations of the loss are over a process's own part, as in the published code.
    on_best
        Called with the model and the epoch (from 1) when an epoch is the best so far; in the first process alone.
    history_path
        A TSV that gets a row after each epoch.

    Raises
    ------
    InputError
        When the loss is no longer finite, or the state to go on from was written under other options.

    Cost: of each step a forward and a backward pass.

    References: Lal et al. 2021, Nature Communications 12, 1507.

    Examples
    --------
    >>> from gpuatac.nn.training import train
    >>> done = train(model, examples, validation=held_out)  # doctest: +SKIP
    >>> done.history[done.best_epoch - 1]["auroc"]  # doctest: +SKIP
    """
    recipe, ranks = recipe or Recipe.published(), ranks or Ranks()
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        run = _Run(model, examples, recipe, seed, ranks)
        if resume and state_path is not None and Path(state_path).exists():
            run.load(load_state(state_path, options=run.options))
        while run.epoch < recipe.epochs:
            began = time.monotonic()
            row = {"epoch": run.epoch + 1, **run.pass_over()}
            ranks.share(model)  # running means of normalisation are each process's own
            with run.averaged():
                ranks.share(model)
                measured = validate(
                    model, validation, batch_size=recipe.batch_size, precision=recipe.precision, ranks=ranks
                )
                row |= _columns(measured)
                row["seconds"] = time.monotonic() - began
                if run.is_best(row) and ranks.first and on_best is not None:
                    on_best(model, run.epoch)
            if ranks.first:
                if history_path is not None:
                    write_history(history_path, run.history)
                if state_path is not None:
                    save_state(state_path, run.state())
                _log(row, best=run.best_epoch == run.epoch, first=len(run.history) == 1)
            ranks.wait()
        model.load_state_dict(run.best_weights)
    return Trained(run.history, run.best_epoch)


class _Run:
    """The state of one training run; an epoch is counted once its steps are done."""

    def __init__(self, model: Any, examples: Examples, recipe: Recipe, seed: int, ranks: Ranks) -> None:
        self.model, self.examples, self.recipe, self.seed, self.ranks = model, examples, recipe, seed, ranks
        self.device = next(model.parameters()).device
        self.steps = recipe.steps_per_epoch or -(-len(examples) // recipe.batch_size)
        self.options = {
            **recipe.as_dict(), "seed": seed, "processes": ranks.world, "examples": len(examples), "kind": str(model.kind),
        }  # fmt: skip
        if recipe.schedule == "constant":  # more epochs than before may follow
            del self.options["epochs"]
        ranks.share(model)
        self.optimiser = _optimiser(model, recipe)
        self.schedule = None
        if recipe.schedule == "one-cycle":
            steps = recipe.epochs * self.steps
            rise = min(recipe.warmup, 1 - 1e-6)  # nothing but a rise, or a rise of one step, is 0 / 0 in PyTorch
            rise = (1 - 1e-6) / steps if rise * steps == 1 else rise
            self.schedule = torch.optim.lr_scheduler.OneCycleLR(
                self.optimiser, recipe.lr, total_steps=steps, pct_start=rise
            )
        self.average = copied(model.state_dict()) if recipe.ema else None
        self.epoch, self.step, self.best_epoch, self.best_score = 0, 0, 0, -math.inf
        self.best_weights: dict[str, torch.Tensor] = to_cpu(model.state_dict())
        self.history: list[dict[str, float]] = []
        self._before: dict[str, torch.Tensor] = {}

    def pass_over(self) -> dict[str, float]:
        """The steps of one epoch; the mean loss and its parts."""
        recipe, ranks = self.recipe, self.ranks
        torch.manual_seed(int(np.random.default_rng([self.seed, self.epoch, ranks.rank]).integers(2**62)))
        order = _order(len(self.examples), self.steps * recipe.batch_size, self.seed, self.epoch)
        if recipe.steps_per_epoch is None:
            order = order[: len(self.examples)]
        self.model.train()
        lr = self.optimiser.param_groups[0]["lr"]
        total: Any = None
        names: Sequence[str] = ()
        with bar(f"epoch {self.epoch + 1} of {recipe.epochs}", self.steps, unit="step") as advance:
            for number in range(self.steps):
                first = number * recipe.batch_size
                positions = ranks.own(range(first, min(first + recipe.batch_size, len(order))))
                picks = [int(order[p]) for p in positions]
                example = self.examples.batch(picks, epoch=self.epoch, positions=positions)
                with autocast(self.device, recipe.precision):
                    losses = self.model.loss(example.x, example.depth, example.batch, recipe.weights)
                self._descend(losses.total)
                names = ("loss", *(f"train_{name}" for name in losses.parts))
                values = torch.stack(
                    [losses.total.detach(), *(part.detach().float() for part in losses.parts.values())]
                )
                total = values if total is None else total + values
                if number % 100 == 0 or number + 1 == self.steps:
                    self._check_finite(total, number)
                advance(1)
        self.epoch += 1
        means = ranks.mean(total / self.steps).tolist()
        return {"lr": lr, **dict(zip(names, means, strict=True))}

    def _descend(self, loss: torch.Tensor) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.ranks.average_gradients(self.model)
        if self.recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimiser.step()
        if self.schedule is not None:
            self.schedule.step()
        self.step += 1
        if self.average is not None:
            decay = min(self.recipe.ema, self.step / (9 + self.step))  # the first steps count for little
            with torch.no_grad():
                for name, value in self.model.state_dict().items():
                    if value.is_floating_point():
                        self.average[name].lerp_(value, 1 - decay)
                    else:
                        self.average[name].copy_(value)

    def _check_finite(self, total: torch.Tensor, number: int) -> None:
        finite = bool(self.ranks.mean(total).isfinite().all())
        if not finite:
            msg = (
                f"the loss is not finite by step {number + 1} of epoch {self.epoch + 1}; choose a lower learning rate (--lr), clip the "
                "gradient (--clip), or check the tracks for extreme values; --resume goes on from the last whole epoch."
            )
            raise InputError(msg)

    def averaged(self) -> _Averaged:
        """A context in which the model has the averaged weights, where there are any."""
        return _Averaged(self.model, self.average)

    def is_best(self, row: dict[str, float]) -> bool:
        """Note the row; whether it is the best so far, whose weights (those the model has now) are kept."""
        self.history.append(row)
        name: str = self.recipe.best
        if math.isnan(row[name]) and name in ("auroc", "auprc"):
            if len(self.history) == 1:
                logger.warning(
                    "validation has no peak, or nothing else: the best epoch is told by %s, not %s", FALL_BACK, name
                )
            name = FALL_BACK
        score = -row[name] if name in LOWER_IS_BETTER else row[name]
        if self.best_epoch and not score > self.best_score:
            return False
        self.best_epoch, self.best_score = self.epoch, score if not math.isnan(score) else -math.inf
        self.best_weights = to_cpu(self.model.state_dict())
        return True

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on: its order and dropout follow from the seed and its number."""
        state: dict[str, Any] = to_cpu(
            {
                "options": self.options,
                "epoch": self.epoch,
                "step": self.step,
                "model": dict(self.model.state_dict()),
                "optimiser": self.optimiser.state_dict(),
                "schedule": None if self.schedule is None else self.schedule.state_dict(),
                "average": self.average,
                "history": self.history,
                "best_epoch": self.best_epoch,
                "best_score": self.best_score,
                "best_weights": self.best_weights,
            }
        )
        return state

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what ``state`` gave."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        if self.average is not None:
            self.average = {name: value.to(self.device) for name, value in state["average"].items()}
        for name in ("epoch", "step", "history", "best_epoch", "best_score", "best_weights"):
            setattr(self, name, state[name])
        logger.info("going on after epoch %d of %d", self.epoch, self.recipe.epochs)


class _Averaged:
    """Swaps averaged weights into a model and the model's own back."""

    def __init__(self, model: torch.nn.Module, average: dict[str, torch.Tensor] | None) -> None:
        self.model, self.average = model, average
        self.own: dict[str, torch.Tensor] | None = None

    def __enter__(self) -> None:
        if self.average is not None:
            self.own = copied(self.model.state_dict())
            self.model.load_state_dict(self.average)

    def __exit__(self, *_: object) -> None:
        if self.own is not None:
            self.model.load_state_dict(self.own)


def copied(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A copy of each tensor where it lies."""
    return {name: value.detach().clone() for name, value in state.items()}


def _optimiser(model: torch.nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    kind = torch.optim.AdamW if recipe.optimiser == "adamw" else torch.optim.Adam
    parameters = [p for p in model.parameters() if p.requires_grad]
    return kind(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)


def _order(n: int, wanted: int, seed: int, epoch: int) -> np.ndarray:
    """Numbers of the examples in a random order, in as many rounds as ``wanted`` takes."""
    rng = np.random.default_rng([seed, epoch, 0x0DE2])
    rounds = [rng.permutation(n) for _ in range(max(1, -(-wanted // n)))]
    return np.concatenate(rounds)[:wanted]


def _columns(measured: dict[str, dict[str, float]]) -> dict[str, float]:
    out = dict(measured["mean"])
    inputs = {name: found for name, found in measured.items() if name != "mean"}
    if len(inputs) > 1:
        out |= {f"{key}[{name}]": value for name, found in inputs.items() for key, value in found.items()}
    return out


def write_history(path: str | Path, history: Sequence[dict[str, float]]) -> None:
    """The rows as a TSV with a header, whole or not at all."""
    with replacing(Path(path), force=True) as partial, partial.open("w", newline="") as file:
        names = list(dict.fromkeys(name for row in history for name in row))
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_shown(row.get(name, math.nan)) for name in names] for row in history)


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def _log(row: dict[str, float], *, best: bool, first: bool) -> None:
    """One line of the table of epochs."""
    if first:
        logger.info("%5s %9s %9s %8s %8s %8s %8s", "epoch", *SHOWN, "seconds")
    logger.info(
        "%5d %9.4f %9.4g %8.4f %8.4f %8.4f %8.1f%s",
        row["epoch"], *(row[name] for name in SHOWN), row["seconds"], "  best" if best else "",
    )  # fmt: skip
