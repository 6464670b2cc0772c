"""The training job: inputs to examples, a model to weights, with everything on disk that going on and judging take."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from gpuatac import check
from gpuatac.backend import resolve
from gpuatac.errors import InputError
from gpuatac.io.files.atomic import replacing
from gpuatac.memory import set_memory
from gpuatac.nn.denoising.model_options import ModelOptions
from gpuatac.workflow.denoiser.training_data import Asked, TrainingData
from gpuatac.workflow.denoiser.training_inputs import material_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpuatac.backend import Device
    from gpuatac.nn.recipes import Recipe
    from gpuatac.workflow.denoiser.training_inputs import Material

logger = logging.getLogger(__name__)
MODELS = {
    "resnet": "denoising_resnet",
    "unet": "unet",
    "linear": "linear",
    "logistic": "logistic",
    "multiscale": "multiscale",
}
MODEL, STATE, HISTORY, FIGURE = "model.pt", "last.pt", "history.tsv", "training.png"


class TrainedDenoiser(NamedTuple):
    """What the job made. ``history`` is as in ``nn.training.Trained``; ``best_epoch`` counts from 1.

    ``first``: this process wrote the files (under ``torchrun`` one of several does).
    """

    files: dict[str, Path]
    history: list[dict[str, float]]
    best_epoch: int
    n_examples: int
    n_parameters: int
    seconds: float
    first: bool = True


def train_denoiser(
    out: str | Path,
    data: TrainingData,
    *,
    model: Literal["multiscale", "resnet", "unet", "linear", "logistic"] = "multiscale",
    model_options: ModelOptions | Mapping[str, Any] | None = None,
    preset: Literal["published", "multiscale", "cpu"] | None = None,
    recipe: Recipe | Mapping[str, Any] | None = None,
    extra: Sequence[str | Path] = (),
    init: str | Path | None = None,
    val_intervals: int | None = None,
    resume: bool = False,
    force: bool = False,
    seed: int = 0,
    device: Device = "auto",
    memory: str | int | None = None,
) -> TrainedDenoiser:
    """A network that denoises tracks, trained on tracks or on groups of cells.

    Writes  into ``out``: model.pt (the best epoch so far), last.pt (the state after each epoch, to go on from), history.tsv (a row
            for each epoch), training.png (the curves).

    Parameters
    ----------
    out
        Output folder, made when it is not there.
    data
        What to train on.
    model
        "multiscale" takes any depth, "resnet" is the network that AtacWorks published, "unet", "linear" and "logistic" its baselines.
    model_options
        What the model's class takes: ``ModelOptions``, or any of its keywords by name.
    preset
        Recipe: "published", "multiscale", or "cpu", a short one for two cores; by default as the model asks.
    recipe
        The whole ``nn.recipes.Recipe``; or those of its fields that are to differ from the preset, by name.
    extra
        Extra input tracks, for models of coverage: BED (by strand), bigWig or bedGraph.
    init
        Checkpoint whose weights to start from; "shipped" for those of the package, "none" for random ones. By default the shipped ones
        for a multiscale model whose shape is not asked to be another, random ones for others.
    val_intervals
        Validate on this many intervals, evenly chosen; by default on all.
    resume
        Go on from last.pt if it is there, after a stop or a kill.
    force
        Replace what an earlier run left.
    seed
        Seed of everything random.
    device
        Where to compute: "auto" takes a GPU where there is one. Under ``torchrun`` each process takes its own GPU.
    memory
        About how much memory to use at most, such as 4G; by default 70 % of what is available. On a GPU also the limit of the
        tracks' memory there, by default 80 % of it; PyTorch's own is not bounded by it.

    Raises
    ------
    InputError
        When the inputs do not fit one another or the model.
    MissingExtraError
        When PyTorch is not installed.
    OutputExistsError
        When ``out`` holds a model and neither ``force`` nor ``resume`` is set.

    Examples
    --------
    >>> from gpuatac.workflow import TrainingData, train_denoiser
    >>> train_denoiser("trained", TrainingData(clean="deep.bw", clean_depth=80e6), preset="cpu")  # doctest: +SKIP
    """
    check.extra("torch", "nn", "training a denoiser")
    from gpuatac.nn import distributed
    from gpuatac.nn.denoising.initial_weights import check_options
    from gpuatac.nn.recipes import Recipe
    from gpuatac.nn.recipes import preset as preset_of

    if not isinstance(data, TrainingData) or not isinstance(out, str | Path):
        found = f"out {type(out).__name__} and data {type(data).__name__}"
        msg = f"{found} are given; allowed: a folder, then a TrainingData; write train_denoiser(folder, TrainingData(clean=...))."
        raise InputError(msg)
    began, out = time.monotonic(), Path(out)
    check.one_of("model", model, MODELS)
    if memory is not None:
        set_memory(memory)
    refuse_extra(model, extra)
    chosen = preset_of(preset or ("multiscale" if model == "multiscale" else "published"))
    changed = recipe if isinstance(recipe, Recipe) else None
    given: dict[str, Any] = {} if recipe is None or isinstance(recipe, Recipe) else dict(recipe)
    check.known_names("recipe", given, Recipe.__dataclass_fields__)
    chosen = changed or replace(chosen, **given)
    pad = changed.pad if changed is not None else given.get("pad")
    options = model_options.given() if isinstance(model_options, ModelOptions) else dict(model_options or {})
    check_options(MODELS[model], options)
    distributed.own_gpu()
    backend = resolve(device)
    backend.make_room()
    asked = Asked.of(data, pad=pad, seed=seed, device=backend.name)
    asked.kind()
    out_files = {name: out / name for name in (MODEL, STATE, HISTORY, FIGURE)}
    if not resume:
        for path in out_files.values():
            check.may_write(
                path, force=force, remedy="pass resume=True (--resume) to go on, force=True (--force) to replace it"
            )
    where = distributed.local_device(backend.name)
    with distributed.joined(where) as ranks:
        if not ranks.first:
            logging.getLogger("gpuatac").setLevel(logging.ERROR)
        return _job(asked, chosen, out_files, where, ranks, model, options, extra, init, val_intervals, resume, began)


def refuse_extra(model: str, extra: Sequence[str | Path]) -> None:
    """Raise for extra tracks of a model that reads none."""
    if extra and model == "multiscale":
        msg = "multiscale reads cuts and takes no extra tracks (--extra); choose a model of coverage, such as --model resnet."
        raise InputError(msg)


def _job(
    asked: Asked,
    recipe: Recipe,
    files: dict[str, Path],
    device: Any,
    ranks: Any,
    kind: str,
    options: dict[str, Any],
    extra: Sequence[str | Path],
    init: str | Path | None,
    most: int | None,
    resume: bool,  # noqa: FBT001
    began: float,
) -> TrainedDenoiser:
    from gpuatac.nn.checkpoints import save_model
    from gpuatac.nn.contract import ModelCard
    from gpuatac.nn.denoising.initial_weights import new_model
    from gpuatac.nn.training import train

    for path in (*asked.clean, *asked.noisy, *asked.peaks, *asked.h5, *asked.intervals, *asked.inputs):
        check.existing_file(path, "input")
    material = material_of(asked, recipe)
    names, reader = _extra(extra, material)
    if names:
        options.setdefault("in_channels", 1 + len(names))
    target = material.target_depth
    if target is not None and material.samples:
        target *= float(np.median([sample.clean.denser for sample in material.samples]))
    suggested = {"target_depth": target, "half_width": asked.half_width}
    start = _start(init, kind, options)
    net = new_model(MODELS[kind], options=options, suggested=suggested, init=start, seed=asked.seed, device=device)
    examples, held = _examples(net, recipe, material, asked, device, reader, most)
    card = ModelCard(
        half_width=asked.half_width,
        input_depth=None if net.inputs == "cuts" else material.input_depth,
        target_depth=material.target_depth,
        trained_on=", ".join(material.names),
        genome="" if material.genome is None else material.genome.name,
        extra_tracks=tuple(names),
    )
    n_parameters = sum(p.numel() for p in net.parameters())
    logger.info(
        "%s of %d parameters, %d training examples, %d for validation", net.kind, n_parameters, len(examples), len(held)
    )
    done = train(
        net,
        examples,
        validation=held,
        recipe=recipe,
        seed=asked.seed,
        state_path=files[STATE],
        resume=resume,
        ranks=ranks,
        on_best=lambda best, _epoch: save_model(files[MODEL], best, card, force=True),
        history_path=files[HISTORY],
    )
    if ranks.first:
        save_model(files[MODEL], net, card, force=True)
        _figure(files[FIGURE], done.history, done.best_epoch)
    seconds = time.monotonic() - began
    return TrainedDenoiser(files, done.history, done.best_epoch, len(examples), n_parameters, seconds, ranks.first)


def _start(init: str | Path | None, kind: str, options: Mapping[str, Any]) -> str | Path | None:
    """Where the first weights come from: ``new_model``'s ``init``."""
    from gpuatac.nn.denoising.initial_weights import SHIPPED

    if init is None:
        alike = kind == "multiscale" and not set(options) - {"target_depth", "dropout"}
        init = SHIPPED if alike else "none"
    logger.info("first weights: %s", "random" if init == "none" else init)
    return None if init == "none" else init


def _extra(paths: Sequence[str | Path], material: Material) -> tuple[list[str], Any]:
    from gpuatac.nn.denoising.examples.extra_tracks import extra_tracks

    if not paths:
        return [], None
    if material.genome is None:
        msg = "extra tracks are given, and the HDF5 files do not say where their examples lie; give their intervals too (--intervals)."
        raise InputError(msg)
    return extra_tracks(paths, material.genome)


def _examples(
    net: Any, recipe: Recipe, material: Material, asked: Asked, device: Any, reader: Any, most: int | None
) -> tuple[Any, Any]:
    from gpuatac.nn.denoising.examples.from_h5 import H5Rows
    from gpuatac.nn.denoising.examples.from_tracks import Shape, TrackExamples, TrackValidation, Windows

    shape = Shape.of(net)
    if material.rows is not None:
        train, held, pad = material.rows
        common: dict[str, Any] = {
            "depth": material.input_depth or 1.0, "pad": pad, "nonzero": recipe.nonzero, "seed": asked.seed, "device": device,
        }  # fmt: skip
        return H5Rows(train, shape, flip=recipe.flip, **common), H5Rows(held, shape, most=most, **common)
    assert material.split is not None
    plain = Windows(recipe.interval, recipe.pad if asked.pad is None else asked.pad, recipe.nonzero)
    moved = replace(plain, random_starts=recipe.random_starts, flip=recipe.flip)
    examples = TrackExamples(material.samples, material.split, shape, moved, asked.seed, device, reader)
    held_out = TrackValidation(
        material.samples,
        material.split,
        shape=shape,
        windows=plain,
        most=most,
        seed=asked.seed,
        device=device,
        extra=reader,
    )
    return examples, held_out


def _figure(path: Path, history: list[dict[str, float]], best: int) -> None:
    """Loss, and the measures of validation, by epoch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    epochs = [row["epoch"] for row in history]
    panels = (("loss", "training loss"), ("pearson", "Pearson"), ("auroc", "AUROC"), ("auprc", "AUPRC"), ("mse", "MSE"))
    figure = Figure(figsize=(12, 2.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, title) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axes.plot(epochs, [row[name] for row in history], marker=".", color="#1f6fb4")
        axes.axvline(best, color="0.75", lw=1, zorder=0)
        axes.set_title(title if name == "loss" else f"{title}, validation", fontsize=9)
        axes.set_xlabel("epoch", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(path, force=True) as partial:
        figure.savefig(partial, format="png", dpi=150)
