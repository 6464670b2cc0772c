"""The state of a training run on disk: enough to go on after a kill as if nothing had happened."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from gpuatac import check
from gpuatac.errors import FileFormatError, InputError
from gpuatac.io.files.atomic import replacing

FORMAT = "gpuatac training state 1"


def save_state(path: str | Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers, strings and containers of them in place of what is at ``path``; whole or not at all."""
    save_tensors(path, {"format": FORMAT, **state}, force=True)


def save_tensors(path: str | Path, content: dict[str, Any], *, force: bool = False) -> None:
    """``torch.save``, whole or not at all; a full disk is an OSError with the file's name, not PyTorch's own RuntimeError."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with replacing(Path(path), force=force) as partial:
        try:
            partial.write_bytes(buffer.getbuffer())
        except OSError as error:
            what = f"{error.strerror or error}; it was not written: make room, or choose another folder"
            raise OSError(error.errno, what, str(path)) from error


def load_state(path: str | Path, *, options: dict[str, Any] | None = None) -> dict[str, Any]:
    """Read what ``save_state`` wrote; nothing in the file is executed.

    Parameters
    ----------
    path
        The file.
    options
        What the run is asked to do now; the state must have been written under the same (its "options").

    Raises
    ------
    FileFormatError
        When the file is no such state, or holds anything but tensors and plain values.
    InputError
        When the options differ, naming which.
    """
    path = Path(path)
    check.existing_file(path, "training state")
    allowed = "a training state written by gpuatac (last.pt)"
    remedy = "train anew without resume (--resume)"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise FileFormatError(path, f"no such file ({str(error).splitlines()[0]})", allowed, remedy) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise FileFormatError(path, "another kind of file", allowed, remedy)
    if options is not None:
        before = state["options"]
        other = [
            f"{name} was {before.get(name)!r} and is {options.get(name)!r}"
            for name in sorted({*before, *options})
            if before.get(name) != options.get(name)
        ]
        if other:
            msg = f"{path} was written under other options: {'; '.join(other[:4])}; give the same ones or {remedy}."
            raise InputError(msg)
    return state


def to_cpu(value: Any) -> Any:
    """A copy with every tensor on the host, out of reach of later steps."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: to_cpu(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(to_cpu, value))
    return value
