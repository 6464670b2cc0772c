"""Verbs record their name, parameters, version, device and seconds: in ``uns`` of the AnnData that they write, make or export from;
those that return one frame and write nothing, in its ``attrs``.
"""

from __future__ import annotations

import functools
import inspect
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from gpuatac import slots

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd
    from anndata import AnnData

P = ParamSpec("P")
R = TypeVar("R")


def records(verb: str, *, in_frame: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a verb whose first argument is an AnnData, or which returns one, so that its call is recorded.

    ``in_frame``: it returns a pandas frame, and the record goes into ``attrs`` of that; the AnnData is left alone.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def recorded(*args: P.args, **kwargs: P.kwargs) -> R:
            began = time.perf_counter()
            result = function(*args, **kwargs)
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            given = dict(bound.arguments)
            first = next(iter(given.values()))
            if _is_anndata(first):
                given.pop(next(iter(given)))
            seconds = time.perf_counter() - began
            if in_frame:
                device = device_of(first) if _is_anndata(first) else "cpu"
                result.attrs[slots.HISTORY] = [_record(verb, given, device, seconds)]  # type: ignore[attr-defined]
                return result
            target = result if _is_anndata(result) else first
            if _is_anndata(target):
                append(target, verb, given, seconds)
            return result

        return recorded

    return decorate


def _is_anndata(value: object) -> bool:
    return type(value).__name__ == "AnnData"


def append(adata: AnnData, verb: str, parameters: dict[str, Any], seconds: float) -> None:
    """Add one record to ``adata.uns``."""
    adata.uns[slots.HISTORY] = with_records(adata.uns, [_record(verb, parameters, device_of(adata), seconds)])


def with_records(uns: Mapping[str, Any], records: list[dict[str, Any]]) -> np.ndarray:
    """The history in ``uns``, followed by ``records``, as ``uns`` holds it."""
    held = [str(r) for r in np.atleast_1d(uns.get(slots.HISTORY, np.empty(0, dtype=object)))]
    return np.array([*held, *map(json.dumps, records)], dtype=object)


def _record(verb: str, parameters: dict[str, Any], device: str, seconds: float) -> dict[str, Any]:
    from gpuatac._version import __version__

    return {
        "verb": verb,
        "parameters": {k: _plain(v) for k, v in parameters.items()},
        "version": __version__,
        "device": device,
        "seconds": round(seconds, 4),
    }


def history(adata: AnnData | pd.DataFrame) -> list[dict[str, Any]]:
    """The records of an AnnData, or of a frame that a verb returned, oldest first.

    Reads   adata.uns["gpuatac_history"]; of a frame attrs["gpuatac_history"], which files do not keep.

    Verbs that write to an AnnData, make one, or export its fragments, coverage or peaks are recorded in it; ``tl.merge_peaks`` and
    ``tl.diff_test`` in the frame that they return, and a peak matrix made of such a frame begins with its records. What
    returns dicts, arrays or figures and writes nothing is not recorded.

    Examples
    --------
    >>> import anndata, numpy, gpuatac as ga
    >>> adata = anndata.AnnData(numpy.array([[1, 0, 2], [0, 3, 1]], "float32"))
    >>> ga.pp.select_features(adata, n_features=2)
    >>> [record["verb"] for record in ga.pp.history(adata)]
    ['pp.select_features']
    """
    if hasattr(adata, "attrs"):
        return list(adata.attrs.get(slots.HISTORY, ()))
    return [
        json.loads(str(record)) for record in np.atleast_1d(adata.uns.get(slots.HISTORY, np.empty(0, dtype=object)))
    ]


def device_of(adata: AnnData) -> str:
    """ "gpu" or "cpu": where X lies or its blocks go; without X the embeddings and graphs; without those the fragments."""
    from gpuatac.backend import device_name, gpu_problem, is_device_array

    if adata.X is not None and adata.n_vars:
        return device_name(adata.X)
    arrays = [*adata.obsm.values(), *adata.obsp.values()]
    if arrays:
        return "gpu" if any(map(is_device_array, arrays)) else "cpu"
    if slots.FRAGMENTS in adata.uns:
        held = [json.loads(str(r))["device"] for r in np.atleast_1d(adata.uns[slots.FRAGMENTS]["samples"])]
        return "gpu" if "gpu" in held and gpu_problem() is None else "cpu"  # read where there is no GPU: see io.fragments.attach
    return "cpu"


def _plain(value: Any) -> Any:  # noqa: PLR0911
    """A JSON value that says what was passed: scalars as they are, arrays and tables by their size and the file they are of."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return value.name
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and len(value) <= 20:
        return [_plain(v) for v in value]
    if hasattr(value, "shape"):
        return f"{type(value).__name__} {tuple(value.shape)}{_of_file(value, ' of ')}"
    name = getattr(value, "name", None)
    about = f"{type(value).__name__} {name}" if name else type(value).__name__
    return about + "".join(_of_file(getattr(value, part, None), f", {part} of ") for part in ("transcripts", "blacklist"))


def _of_file(frame: Any, words: str) -> str:
    """The file that a table was read from, by its name; nothing where it is not known."""
    source = getattr(frame, "attrs", {}).get("source")
    return f"{words}{Path(source).name}" if source else ""
