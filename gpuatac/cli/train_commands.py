"""``gpuatac train-denoiser``: call the job and print what came of it."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from gpuatac.errors import InputError

if TYPE_CHECKING:
    import argparse

FOOTPRINT_HALF_WIDTH = 5
SHOWN = ("mse", "pearson", "auroc", "auprc")


def train_denoiser(args: argparse.Namespace) -> int:
    """``gpuatac train-denoiser``."""
    from gpuatac.cli.train_arguments import DATA, MODEL, NOISE, RECIPE, SPLIT, WEIGHTS
    from gpuatac.memory import set_memory
    from gpuatac.workflow.denoiser.train import train_denoiser as job

    if args.memory is not None:
        set_memory(args.memory)
    data = _given(args, {**DATA, **NOISE, **SPLIT})
    if args.inputs:
        data["inputs"] = args.inputs
    if args.footprint:
        data["half_width"] = FOOTPRINT_HALF_WIDTH
    _check_model_options(args)
    recipe = _given(args, RECIPE)
    if "depth" in recipe:
        recipe["depth"] = tuple(recipe["depth"])
    if "pad" in recipe:
        data["pad"] = recipe["pad"]
    weights = {name: getattr(args, f"weight_{name}") for name in WEIGHTS}
    if any(value is not None for value in weights.values()):
        from gpuatac.nn.contract import LossWeights

        recipe["weights"] = LossWeights(**{name: value for name, value in weights.items() if value is not None})
    done = job(
        args.out,
        model=args.model,
        model_options={**_given(args, MODEL), **dict(map(_option, args.model_option))},
        preset=args.preset,
        recipe=recipe,
        extra=args.extra,
        init=args.init,
        val_intervals=args.val_intervals,
        resume=args.resume,
        force=args.force,
        seed=args.seed,
        device=args.device,
        **data,
    )
    if not done.first:
        return 0
    best = done.history[done.best_epoch - 1]
    measures = ", ".join(f"{name} {best[name]:.4g}" for name in SHOWN)
    print(f"{done.n_parameters:,} parameters, {done.n_examples:,} training examples, {len(done.history)} epochs")
    print(f"best epoch {done.best_epoch}: {measures}")
    print(f"written in {done.seconds:.1f} s: {', '.join(map(str, done.files.values()))}")
    return 0


def _check_model_options(args: argparse.Namespace) -> None:
    """Raise for options of another model; the help of each begins with the models it is for."""
    from gpuatac.cli.train_arguments import MODEL

    if args.extra and args.model == "multiscale":
        msg = "multiscale reads cuts and takes no extra tracks (--extra); choose a model of coverage, such as --model resnet."
        raise InputError(msg)
    for name, (flag, _, text) in MODEL.items():
        models = text.partition(":")[0].split(", ")
        if hasattr(args, name) and args.model not in models:
            msg = (
                f"{flag} is an option of {' and '.join(models)}, and the model is {args.model} (--model); leave it out."
            )
            raise InputError(msg)


def _given(args: argparse.Namespace, options: dict[str, Any]) -> dict[str, Any]:
    return {name: getattr(args, name) for name in options if hasattr(args, name)}


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
