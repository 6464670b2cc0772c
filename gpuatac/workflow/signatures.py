"""A job that passes its other keywords on to a verb shows them as its own."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

F = TypeVar("F", bound="Callable[..., Any]")
#: The entry of ``**options`` in a docstring, in whose place those of the verb are shown.
OPTIONS = re.compile(r"^    options\n(?:        .*\n)+", re.M)


def also_takes(source: Callable[..., Any] | type, *, without: Collection[str] = ()) -> Callable[[F], F]:
    """Show the keywords of ``source``, a verb or a dataclass, in the signature of a job in place of its ``**options``.

    Names, types, defaults and texts are declared there alone; ``inspect.signature``, the notebook's completion and the command line
    read them from the job.
    """

    def decorated(job: F) -> F:
        own = [p for p in inspect.signature(job).parameters.values() if p.kind is not p.VAR_KEYWORD]
        taken = [p for p in _parameters(source) if p.name not in without and p.name not in {p.name for p in own}]
        returns = inspect.signature(job).return_annotation
        job.__signature__ = inspect.Signature([*own, *taken], return_annotation=returns)  # type: ignore[attr-defined]
        if job.__doc__ and OPTIONS.search(job.__doc__):
            texts = "".join(f"    {p.name}\n{_text_of(source, p.name)}" for p in taken)
            job.__doc__ = OPTIONS.sub(lambda _: texts, job.__doc__)
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


def _text_of(source: Callable[..., Any] | type, name: str) -> str:
    """The entry of a parameter in the docstring of a verb, or the help of a dataclass's field, indented as an entry is."""
    if dataclasses.is_dataclass(source):
        text = next(f.metadata.get("help", "") for f in dataclasses.fields(source) if f.name == name)
        return textwrap.indent(textwrap.fill(f"{text[:1].upper()}{text[1:]}.", 116), " " * 8) + "\n"
    found = re.search(rf"^    {name}\n((?:        .*\n)+)", source.__doc__ or "", re.M)
    return found[1] if found else ""
