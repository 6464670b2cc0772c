"""``gpuatac train-denoiser``."""

from __future__ import annotations

import ast
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from gpuatac.cli.command import Command, Section
from gpuatac.cli.hints import Hint
from gpuatac.cli.shared import logs, machine
from gpuatac.core.track_source import FOOTPRINT_HALF_WIDTH
from gpuatac.errors import InputError
from gpuatac.nn.contract import LossWeights
from gpuatac.nn.denoising.model_options import ModelOptions
from gpuatac.nn.recipes import Recipe
from gpuatac.workflow import TrainingData, train_denoiser
from gpuatac.workflow.denoiser.train import refuse_extra

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpuatac.workflow.denoiser.train import TrainedDenoiser

SHOWN = ("mse", "pearson", "auroc", "auprc")
PUBLISHED = Recipe.published()
DATA = {field.name for field in fields(TrainingData)} - {"pad", "half_width"}
RECIPE = {field.name for field in fields(Recipe)} - {"weights", "depths"}
MODEL = {field.name for field in fields(ModelOptions)}
WEIGHTS = {f"weight_{name}": name for name in LossWeights._fields}
FLAGS = {
    "selections": "--select", "depth": "--thin-range", "steps_per_epoch": "--steps", "num_blocks": "--blocks",
    "out_channels": "--filters", "kernel_size": "--kernel", "num_blocks_class": "--blocks-class",
    "out_channels_class": "--filters-class", "kernel_size_class": "--kernel-class", "bn": "--batch-norm", "afunc": "--activation",
}  # fmt: skip


def more(
    footprint: bool = False,  # noqa: FBT001, FBT002 (a command line gives names)
    model_option: Sequence[str] = (),
    weight_mse: float = 0.0005,
    weight_pearson: float = 1.0,
    weight_bce: float = 1.0,
    weight_poisson: float = 0.0,
) -> None:
    """Options that stand for values of several kinds.

    Parameters
    ----------
    footprint
        Coverage of 5 bp on each side of a cut, not 100, to learn footprints.
    model_option
        Any option of the model's class, as NAME=VALUE, such as drop=0.1.
    weight_mse
        Weight of the mean squared error in the loss.
    weight_pearson
        Weight of the correlation in the loss.
    weight_bce
        Weight of the cross-entropy of the peaks in the loss.
    weight_poisson
        Weight of a Poisson likelihood in the loss; above 0 it takes the place of error and correlation.
    """


def _gathered(given: dict[str, Any]) -> dict[str, Any]:
    data, recipe, options = ({name: given.pop(name) for name in list(given) if name in of} for of in (DATA, RECIPE, MODEL))
    refuse_extra(given.get("model", "multiscale"), given.get("extra", ()))
    _refuse_of_other_models(options, given.get("model", "multiscale"))
    weights = {WEIGHTS[name]: given.pop(name) for name in set(WEIGHTS) & set(given)}
    if weights:
        recipe["weights"] = LossWeights(**weights)
    if given.pop("footprint", False):
        data["half_width"] = FOOTPRINT_HALF_WIDTH
    options |= dict(map(_option, given.pop("model_option", ())))
    return {**given, "data": TrainingData(**data), "recipe": recipe, "model_options": options}


def _refuse_of_other_models(options: Mapping[str, Any], model: str) -> None:
    """Raise for options of another model; the text of each begins with the models it is for."""
    declared = COMMAND.options()
    for name in options:
        models = declared[name].help.partition(":")[0].split(", ")
        if model not in models:
            msg = f"{declared[name].flag} is an option of {' and '.join(models)}, and the model is {model} (--model); leave it out."
            raise InputError(msg)


def _option(text: str) -> tuple[str, Any]:
    """NAME=VALUE, the value as a number, a tuple or True and False where it is one."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        msg = f"a model option must be NAME=VALUE, got {text!r}; write it so."
        raise InputError(msg)
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _shown(value: Any) -> str:
    """A number of a recipe in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(map(_shown, value))
    return "all" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _told(done: TrainedDenoiser, _given: Mapping[str, Any]) -> str:
    if not done.first:
        return ""
    best = done.history[done.best_epoch - 1]
    measures = ", ".join(f"{name} {best[name]:.4g}" for name in SHOWN)
    return "\n".join(
        [
            f"{done.n_parameters:,} parameters, {done.n_examples:,} training examples, {len(done.history)} epochs",
            f"best epoch {done.best_epoch}: {measures}",
            f"written in {done.seconds:.1f} s: {', '.join(map(str, done.files.values()))}",
        ]
    )


COMMAND = Command(
    name="train-denoiser",
    job=train_denoiser,
    report=_told,
    beside=(logs, machine, more),
    spread={"data": (TrainingData,), "recipe": (Recipe,), "model_options": (ModelOptions,)},
    gather=_gathered,
    examples=(
        "gpuatac train-denoiser --clean deep.bw --genome hg38 --clean-depth 80e6 --out model",
        "gpuatac train-denoiser results/pbmc.h5ad --groupby cell_type --cells 5 10 50 --out model",
    ),
    flags={"inputs": "INPUT", **FLAGS},
    metavars={
        "out": "DIR",
        "clean": "TRACK",
        "noisy": "TRACK",
        "peaks": "BED",
        "h5": "FILE",
        "intervals": "BED",
        "groupby": "COLUMN",
        "groups": "TSV",
        "selections": "GROUP",
        "blacklist": "BED",
        "thin": "READS",
        "clean_depth": "READS",
        "noisy_depth": "READS",
        "target_depth": "READS",
        "train_chroms": "NAME",
        "val_chroms": "NAME",
        "holdout_chroms": "NAME",
        "extra": "FILE",
        "init": "FILE",
        "memory": "SIZE",
        "log": "FILE",
        "model_option": "NAME=VALUE",
        "depth": "READS",
    },
    hints={
        "depth": Hint(float, few=2, many=2),
        "holdout_chroms": Hint(str, few=0),
        "selections": Hint(str, few=1),
    },
    switches=("nonzero", "random_starts", "flip"),
    defaults={name: f"published: {_shown(getattr(PUBLISHED, name))}" for name in RECIPE},
    repeats=("model_option",),
    sections=(
        Section("Input and output", ("inputs", "out", "clean", "noisy", "peaks", "genome", "force")),
        Section("Training", ("model", "preset", "resume", "epochs", "val_chroms", "device", "seed")),
        Section("Cells", ("groupby", "groups", "selections", "cells")),
        Section("Noisy inputs", ("thin", "depth", "real_share", "paired"), more=True),
        Section(
            "Data",
            (
                "peak_cutoff",
                "h5",
                "intervals",
                "contigs",
                "clean_depth",
                "noisy_depth",
                "target_depth",
                "blacklist",
                "extra",
                "footprint",
            ),
            more=True,
        ),
        Section("Parts", ("train_chroms", "holdout_chroms", "val_fraction", "val_intervals"), more=True),
        Section(
            "Recipe",
            (
                "steps_per_epoch",
                "batch_size",
                "interval",
                "pad",
                "nonzero",
                "random_starts",
                "flip",
                "optimiser",
                "lr",
                "weight_decay",
                "schedule",
                "warmup",
                "clip",
                "ema",
                "best",
                "precision",
                *WEIGHTS,
            ),
            more=True,
        ),
        Section("Model", ("init", *ModelOptions.__dataclass_fields__, "model_option"), more=True),
        Section("This machine", ("memory", "threads", "quiet", "log"), more=True),
    ),
)
