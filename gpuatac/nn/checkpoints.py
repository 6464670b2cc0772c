"""Models in files: the project's own format, and the published one. Nothing in a file is ever run."""

from __future__ import annotations

import importlib
import inspect
import logging
import pickle
import re
import zipfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gpuatac import check
from gpuatac.errors import FileFormatError, InputError
from gpuatac.nn.contract import ModelCard
from gpuatac.nn.state import FORMAT as TRAINING_STATE
from gpuatac.nn.state import save_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = "gpuatac-denoiser"
VERSION = 1
#: Kinds of models, and where each is defined.
KINDS = {
    "denoising_resnet": ("gpuatac.nn.denoising.networks.resnet", "DenoisingResNet"),
    "unet": ("gpuatac.nn.denoising.networks.unet", "UNet"),
    "linear": ("gpuatac.nn.denoising.networks.linear", "Linear"),
    "logistic": ("gpuatac.nn.denoising.networks.linear", "Logistic"),
    "multiscale": ("gpuatac.nn.denoising.networks.multiscale", "MultiscaleDenoiser"),
}
ALLOWED = "a checkpoint of gpuatac, or a published one of AtacWorks (state_dict)"
#: First bytes of files that are taken for checkpoints by mistake.
MAGIC = {
    b"\x26\xfc\x8f\x88": "a bigWig track",
    b"\x88\x8f\xfc\x26": "a bigWig track",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip file",
    b"BAM\x01": "a BAM file",
    b"\x28\xb5\x2f\xfd": "a zstandard file",
}

logger = logging.getLogger(__name__)


def make_model(kind: str, **options: Any) -> torch.nn.Module:
    """A new model of a kind, with PyTorch's random weights.

    Parameters
    ----------
    kind
        "denoising_resnet", "unet", "linear", "logistic" or "multiscale".
    options
        What its class takes.

    Raises
    ------
    InputError
        When there is no such kind or option, or an option is out of range.

    Examples
    --------
    >>> from gpuatac.nn.checkpoints import make_model
    >>> sum(p.numel() for p in make_model("denoising_resnet").parameters())
    219706
    """
    check.one_of("kind", kind, KINDS)
    module, name = KINDS[kind]
    made = getattr(importlib.import_module(module), name)
    check.known_names(f"a model of kind {kind!r}", options, inspect.signature(made).parameters)
    try:
        return made(**options)
    except TypeError as problem:
        msg = f"a model of kind {kind!r} cannot be made with the options {options}: {problem}; see the class {name}."
        raise InputError(msg) from problem


def save_model(path: str | Path, model: torch.nn.Module, card: ModelCard, *, force: bool = False) -> None:
    """Write a model's kind, options, weights and card to one file, which appears only when whole.

    Parameters
    ----------
    path
        The file.
    model
        A model of ``make_model``, on any device.
    card
        What is known of it.
    force
        Replace a file that exists.

    Raises
    ------
    OutputExistsError
        As ``io.write_h5ad``.

    Examples
    --------
    >>> from gpuatac.nn.checkpoints import make_model, save_model
    >>> from gpuatac.nn.contract import ModelCard
    >>> save_model("model.pt", make_model("linear", field=401), ModelCard())  # doctest: +SKIP
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "kind": model.kind,
        "options": dict(model.options),
        "card": {**card._asdict(), "extra_tracks": list(card.extra_tracks)},
        "state_dict": {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()},
    }
    save_tensors(path, content, force=force)


def load_model(
    path: str | Path,
    *,
    dilation: int | tuple[int, int] | None = None,
    dilation_class: int | None = None,
    kind: str | None = None,
) -> tuple[torch.nn.Module, ModelCard]:
    """Read a model from a file of ``save_model``, or from a published checkpoint.

    A published checkpoint holds weights alone. Filters, kernel sizes and numbers of blocks follow from their shapes; the
    dilation does not, and another one loads without a sign and predicts nonsense: it must be named. Files are read as tensors and
    plain values; whatever else a file holds is refused, and none of its code is run.

    Parameters
    ----------
    path
        The file.
    dilation
        bp between taps, for a published checkpoint only: one number for all blocks, or those for the signal and for the peaks.
        The published default is 8; the v0.1.0 weights trained on seven cell types have (8, 10).
    dilation_class
        bp between taps of the blocks for peaks, where it differs from ``dilation``.
    kind
        What the file must hold; None for whatever it says.

    Returns
    -------
    The model, on the CPU and in ``eval`` mode, and its card (that of a published checkpoint says little).

    Raises
    ------
    MissingFileError
        When there is no such file.
    FileFormatError
        When the file is no checkpoint, is cut short, would run code, or was written by a later version.
    InputError
        When shapes do not fit, or ``dilation`` is missing or of no use.

    Examples
    --------
    >>> from gpuatac.nn.checkpoints import load_model
    >>> model, card = load_model("bulk.pth.tar", dilation=8)  # doctest: +SKIP
    """
    path = Path(path)
    check.existing_file(path, "checkpoint")
    if path.is_dir():
        raise FileFormatError(path, "a folder", ALLOWED, "name the checkpoint in it (model.pt)")
    content = _read(path)
    if isinstance(content, dict) and content.get("format") == TRAINING_STATE:
        raise FileFormatError(path, "the state of a training run", ALLOWED, "give the model beside it (model.pt)")
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        found = f"a {type(content).__name__}" + (f" of {_some(content)}" if isinstance(content, dict) else "")
        raise FileFormatError(path, found, ALLOWED, "name a checkpoint file")
    state = _tensors(path, content["state_dict"])
    if "format" in content:
        if dilation is not None or dilation_class is not None:
            msg = f"{path} says by itself what its dilation is; leave dilation and dilation_class out."
            raise InputError(msg)
        model, card = _own(path, content)
    else:
        state = {name.removeprefix("module."): value for name, value in state.items()}
        model, card = _published(path, state, dilation, dilation_class), ModelCard()
    if kind is not None and model.kind != kind:
        msg = f"{path} holds a model of kind {model.kind!r} and {kind!r} is asked for; name another file or kind."
        raise InputError(msg)
    _fill(path, model, state)
    return model.eval(), card


def pretrained() -> tuple[torch.nn.Module, ModelCard]:
    """The model that ships with the package: for any depth, trained on libraries of ``simulate_library`` alone.

    No data of anyone went into it; what it was trained on and its licence stand in its card. Training on real data from
    its weights (``gpuatac train-denoiser``, the default) makes it better.

    Examples
    --------
    >>> from gpuatac.nn.checkpoints import pretrained
    >>> model, card = pretrained()
    >>> model.kind, card.trained_on
    ('multiscale', 'simulated libraries')
    """
    with resources.as_file(resources.files("gpuatac").joinpath("data", "denoiser.pt")) as path:
        return load_model(path)


def _read(path: Path) -> Any:
    """The tensors and plain values of a file."""
    with path.open("rb") as file:
        head = file.read(8)
    for magic, name in MAGIC.items():
        if head.startswith(magic):
            raise FileFormatError(path, name, ALLOWED, "tracks and other data are given by arguments of their own")
    if not head.startswith((b"PK", b"\x80")):  # an archive of torch.save, or a pickle as it was before
        found = "an empty file" if not head else f"a file that begins with {head!r}"
        raise FileFormatError(path, found, ALLOWED, "name a checkpoint file")
    if head.startswith(b"PK") and not zipfile.is_zipfile(path):
        raise FileFormatError(path, "a checkpoint that is cut short", ALLOWED, "copy or download the file again")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (
        EOFError,
        RuntimeError,
        KeyError,
        ValueError,
        AttributeError,
        IndexError,
        OverflowError,
        MemoryError,
    ) as problem:
        found = f"what PyTorch cannot read ({_first_line(problem)})"
        raise FileFormatError(path, found, ALLOWED, "name a checkpoint file; a copy may be cut short") from problem
    except pickle.UnpicklingError as problem:
        unsafe = re.search(r"GLOBAL (\S+)", str(problem))
        if unsafe is None:
            found = f"no checkpoint, or one cut short ({_first_line(problem)})"
            raise FileFormatError(path, found, ALLOWED, "name a checkpoint file") from problem
        found = f"a reference to {unsafe[1]}, which might run code; nothing was run"
        remedy = "do not trust the file, or save its state_dict alone, as tensors"
        raise FileFormatError(path, found, ALLOWED, remedy) from problem


def _first_line(problem: Exception) -> str:
    lines = str(problem).strip().splitlines()
    return (lines[0] if lines else type(problem).__name__)[:120].rstrip(".")


def _some(names: Any) -> str:
    shown = sorted(map(str, names))
    return ", ".join(map(repr, shown[:3])) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def _tensors(path: Path, state: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    wrong = [name for name, value in state.items() if not isinstance(name, str) or not isinstance(value, torch.Tensor)]
    if wrong or not state:
        found = f"a state_dict where {_some(wrong)} is no tensor" if wrong else "an empty state_dict"
        raise FileFormatError(path, found, ALLOWED, "save the model's state_dict() as it is")
    return dict(state)


def _own(path: Path, content: dict[str, Any]) -> tuple[torch.nn.Module, ModelCard]:
    if content["format"] != FORMAT or not isinstance(content.get("version"), int):
        found = f"format {content['format']!r}, version {content.get('version')!r}"
        raise FileFormatError(path, found, ALLOWED, "name another file")
    if content["version"] > VERSION:
        found = f"version {content['version']} of the format"
        raise FileFormatError(path, found, f"up to {VERSION}", "install a newer gpuatac")
    options, said = content.get("options"), content.get("card")
    known = isinstance(said, dict) and set(said) <= set(ModelCard._fields)
    if not isinstance(options, dict) or not isinstance(said, dict) or not known or content.get("kind") not in KINDS:
        found = f"kind {content.get('kind')!r}, options {type(options).__name__} and a card of {_some(said or ())}"
        raise FileFormatError(path, found, f"kinds {', '.join(KINDS)}", "write the file with save_model")
    card = ModelCard(**said)
    return make_model(content["kind"], **options), card._replace(extra_tracks=tuple(card.extra_tracks))


_CONV = "{trunk}.{i}.conv_act1.conv_layer.weight"


def _published(
    path: Path, state: dict[str, torch.Tensor], dilation: int | tuple[int, int] | None, dilation_class: int | None
) -> torch.nn.Module:
    """The network that the shapes of a published ``state_dict`` tell of."""
    blocks = {
        trunk: sum(bool(re.fullmatch(rf"{trunk}\.\d+\.conv_act1\.conv_layer\.weight", name)) for name in state)
        for trunk in ("res_blocks", "res_blocks_class")
    }
    first = [state.get(_CONV.format(trunk=trunk, i=0)) for trunk in blocks]
    shapes = [tuple(weight.shape) for weight in first if weight is not None and weight.ndim == 3]
    if len(shapes) < len(first):
        found = f"a state_dict of {_some(state)}, without res_blocks.0.conv_act1.conv_layer.weight (out, in, taps) and its like"
        raise FileFormatError(path, found, ALLOWED, "other networks load from files of save_model only")
    if dilation is None:
        msg = (
            f"{path} is a published checkpoint, which does not say its dilation; pass dilation (the published default is 8), and "
            "dilation_class where the blocks for peaks have another."
        )
        raise InputError(msg)
    both = dilation if isinstance(dilation, tuple | list) else (dilation, dilation)
    if len(both) != 2:
        msg = f"dilation must be one number or two, got {dilation!r}."
        raise InputError(msg)
    (channels, in_channels, taps), (channels_class, _, taps_class) = shapes
    head = state.get("classifier.conv_layer.weight")
    fits = head is None or head.ndim != 3 or head.shape[1] == channels_class
    as_published = head is not None and not fits and head.shape[1] == channels
    if as_published:
        logger.warning(
            "%s: its classifier takes %d channels and the blocks before it give %d (a slip of the published code); the signal can be "
            "computed, probabilities are NaN.",
            path, channels, channels_class,
        )  # fmt: skip
    return make_model(
        "denoising_resnet",
        in_channels=in_channels,
        out_channels=channels,
        num_blocks=blocks["res_blocks"],
        kernel_size=taps,
        dilation=both[0],
        bn="res_blocks.0.conv_act1.bn_layer.weight" in state,
        afunc="prelu" if "res_blocks.0.conv_act1.act_layer.weight" in state else "relu",
        num_blocks_class=blocks["res_blocks_class"],
        kernel_size_class=taps_class,
        dilation_class=both[1] if dilation_class is None else dilation_class,
        out_channels_class=channels_class,
        classifier_channels=channels if as_published else None,
    )


def _fill(path: Path, model: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Copy ``state`` into the model; raise naming the first tensor that does not fit."""
    wanted = model.state_dict()
    remedy = f"the file is not of a {model.kind} with these options, or it is damaged"
    for names, found in (
        (set(wanted) - set(state), "the checkpoint lacks"), (set(state) - set(wanted), "the checkpoint holds, beside its network,")
    ):  # fmt: skip
        if names:
            msg = f"{path}: {found} {_some(names)}; {remedy}."
            raise InputError(msg)
    for name, value in state.items():
        if value.shape != wanted[name].shape:
            msg = f"{path}: {name} has shape {tuple(value.shape)} where {tuple(wanted[name].shape)} is expected; {remedy}."
            raise InputError(msg)
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            msg = f"{path}: {name} holds NaN or infinite weights; {remedy}."
            raise InputError(msg)
    model.load_state_dict(state)
