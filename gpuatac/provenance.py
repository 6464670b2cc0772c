"""Every verb records its name, parameters, version, device and seconds in ``uns``."""

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
    from collections.abc import Callable

    from anndata import AnnData

P = ParamSpec("P")
R = TypeVar("R")


def records(verb: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a verb whose first argument is an AnnData, or which returns one, so that its call is recorded."""

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
            target = result if _is_anndata(result) else first
            if _is_anndata(target):
                if _is_anndata(first):
                    given.pop(next(iter(given)))
                append(target, verb, given, time.perf_counter() - began)
            return result

        return recorded

    return decorate


def _is_anndata(value: object) -> bool:
    return type(value).__name__ == "AnnData"


def append(adata: AnnData, verb: str, parameters: dict[str, Any], seconds: float) -> None:
    """Add one record to ``adata.uns``."""
    from gpuatac._version import __version__

    record = {
        "verb": verb,
        "parameters": {k: _plain(v) for k, v in parameters.items()},
        "version": __version__,
        "device": device_of(adata),
        "seconds": round(seconds, 4),
    }
    held = [str(r) for r in np.atleast_1d(adata.uns.get(slots.HISTORY, np.empty(0, dtype=object)))]
    adata.uns[slots.HISTORY] = np.array([*held, json.dumps(record)], dtype=object)


def history(adata: AnnData) -> list[dict[str, Any]]:
    """The records of ``adata``, oldest first.

    Reads   adata.uns["gpuatac_history"].

    Examples
    --------
    >>> import anndata, numpy, gpuatac as ga
    >>> adata = anndata.AnnData(numpy.array([[1, 0, 2], [0, 3, 1]], "float32"))
    >>> ga.pp.select_features(adata, n_features=2)
    >>> [record["verb"] for record in ga.pp.history(adata)]
    ['pp.select_features']
    """
    return [
        json.loads(str(record)) for record in np.atleast_1d(adata.uns.get(slots.HISTORY, np.empty(0, dtype=object)))
    ]


def device_of(adata: AnnData) -> str:
    """ "gpu" or "cpu": where X lies; without X the embeddings and graphs; without those the fragments."""
    from gpuatac.backend import gpu_problem, is_device_array

    if adata.X is not None and adata.n_vars:
        return "gpu" if is_device_array(adata.X) else "cpu"
    arrays = [*adata.obsm.values(), *adata.obsp.values()]
    if arrays:
        return "gpu" if any(map(is_device_array, arrays)) else "cpu"
    if slots.FRAGMENTS in adata.uns:
        held = [json.loads(str(r))["device"] for r in np.atleast_1d(adata.uns[slots.FRAGMENTS]["samples"])]
        return "gpu" if "gpu" in held and gpu_problem() is None else "cpu"  # read where there is no GPU: see io.fragments.attach
    return "cpu"


def _plain(value: Any) -> Any:  # noqa: PLR0911
    """A JSON value that says what was passed: scalars as they are, arrays and tables by their size."""
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
        return f"{type(value).__name__} {tuple(value.shape)}"
    name = getattr(value, "name", None)
    return f"{type(value).__name__} {name}" if name else type(value).__name__
