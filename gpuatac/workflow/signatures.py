"""A job that passes its other keywords on to a verb shows them as its own."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

F = TypeVar("F", bound="Callable[..., Any]")


def also_takes(source: Callable[..., Any] | type, *, without: Collection[str] = ()) -> Callable[[F], F]:
    """Show the keywords of ``source``, a verb or a dataclass, in the signature of a job in place of its ``**options``.

    Names, types, defaults and texts are declared there alone; ``inspect.signature``, the notebook's completion and the command line
    read them from the job.
    """

    def decorated(job: F) -> F:
        own = [p for p in inspect.signature(job).parameters.values() if p.kind is not p.VAR_KEYWORD]
        taken = [p for p in _parameters(source) if p.name not in without and p.name not in {p.name for p in own}]
        job.__signature__ = inspect.Signature([*own, *taken])  # type: ignore[attr-defined]
        job.__declared_in__ = {p.name: source for p in taken}  # type: ignore[attr-defined]
        return job

    return decorated


def _parameters(source: Callable[..., Any] | type) -> list[inspect.Parameter]:
    kind = inspect.Parameter.KEYWORD_ONLY
    if dataclasses.is_dataclass(source):
        return [
            inspect.Parameter(f.name, kind, default=f.default, annotation=f.type) for f in dataclasses.fields(source)
        ]
    return [p.replace(kind=kind) for p in inspect.signature(source).parameters.values() if p.kind is not p.VAR_KEYWORD]
