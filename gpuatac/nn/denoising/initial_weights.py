"""The model that a training run starts from."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

import torch

from gpuatac.errors import InputError
from gpuatac.nn.checkpoints import KINDS, load_model, make_model, pretrained
from gpuatac.threads import get_threads

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SHIPPED = "shipped"


def new_model(
    kind: str,
    *,
    options: Mapping[str, Any],
    suggested: Mapping[str, Any] | None = None,
    init: str | Path | None = None,
    seed: int = 0,
    device: torch.device | None = None,
) -> torch.nn.Module:
    """A model of a kind with random weights from a seed, or with those of a checkpoint.

    Parameters
    ----------
    kind, options
        As for ``nn.checkpoints.make_model``.
    suggested
        Further options, each taken where the model's class has it and ``options`` does not say otherwise.
    init
        A checkpoint of the same kind whose weights to start from; ``SHIPPED`` for those of the package
        (``nn.checkpoints.pretrained``), whose options are then the defaults.
    seed
        Of the weights; PyTorch's own generator is left as it was.
    device
        Where the model goes. On the CPU PyTorch is told to use as many threads as the package (``set_threads``).

    Raises
    ------
    InputError
        When the checkpoint is of another kind or shape.

    Examples
    --------
    >>> import torch
    >>> from gpuatac.nn.denoising.initial_weights import new_model
    >>> a, b = (new_model("linear", options={"field": 5}, suggested={"target_depth": 1e6}, seed=3) for _ in range(2))
    >>> all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))
    True
    """
    device = torch.device("cpu") if device is None else device
    if device.type == "cpu":
        torch.set_num_threads(get_threads())
    module, name = KINDS[kind]
    takes = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    more = {option: value for option, value in (suggested or {}).items() if option in takes and value is not None}
    start = None
    if init == SHIPPED:
        start, _ = pretrained()
        options = {**start.options, **more, **options} if start.kind == kind else {**more, **options}
    else:
        options = {**more, **options}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = make_model(kind, **options)
    if init is not None:
        start = _start(init, kind, options) if start is None else start
        try:
            net.load_state_dict(start.state_dict())
        except RuntimeError as error:
            what = str(error).splitlines()[-1].strip()
            msg = f"the weights of {init} do not fit the model ({what}); give the options they were trained with."
            raise InputError(msg) from error
    return net.to(device)


def check_options(kind: str, options: Mapping[str, Any]) -> None:
    """Raise InputError unless a model of that kind can be made with ``options``: before anything is read for it."""
    with torch.random.fork_rng(devices=[]):
        make_model(kind, **options)


def _start(init: str | Path, kind: str, options: Mapping[str, Any]) -> torch.nn.Module:
    """The model of a file."""
    named = {option: options[option] for option in ("dilation", "dilation_class") if option in options}
    try:
        return load_model(init, kind=kind)[0]
    except InputError:  # a published checkpoint, which does not tell its dilation
        if not named:
            raise
        return load_model(init, kind=kind, **named)[0]
