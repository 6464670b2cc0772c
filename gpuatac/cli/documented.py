"""What is declared of a parameter where it is declared: type, default and help, from a function or a dataclass."""

from __future__ import annotations

import dataclasses
import inspect
import re
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from gpuatac.cli.hints import Hint, hint_of, resolved

if TYPE_CHECKING:
    from collections.abc import Callable

NONE = inspect.Parameter.empty
#: Of a docstring entry that only points elsewhere.
POINTERS = ("As in ", "See ", "as in ", "see ")


class Declared(NamedTuple):
    """One parameter as its function or dataclass declares it."""

    name: str
    hint: Hint
    default: Any  # NONE where it must be given
    help: str
    positional: bool = False


def declared_in(source: Callable[..., Any] | type) -> dict[str, Declared]:
    """The parameters of a function, or the fields of a dataclass or NamedTuple, by name."""
    if dataclasses.is_dataclass(source):
        return _fields(source)
    docs = docs_of(source)
    found = {}
    for p in inspect.signature(source).parameters.values():
        if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL):
            continue
        owner = getattr(source, "__declared_in__", {}).get(p.name, source)
        if owner is not source:
            found[p.name] = declared_in(owner)[p.name]._replace(positional=False)
            continue
        hint = hint_of(resolved(p.annotation, inspect.unwrap(source).__module__))
        found[p.name] = Declared(p.name, hint, p.default, docs.get(p.name, ""), p.kind is p.POSITIONAL_OR_KEYWORD)
    return found


def _fields(source: Any) -> dict[str, Declared]:
    docs = docs_of(source)
    found = {}
    for field in dataclasses.fields(source):
        default = field.default
        if default is dataclasses.MISSING:
            default = NONE if field.default_factory is dataclasses.MISSING else field.default_factory()
        hint = hint_of(resolved(field.type, source.__module__))
        found[field.name] = Declared(field.name, hint, default, field.metadata.get("help") or docs.get(field.name, ""))
    return found


@cache
def docs_of(source: Callable[..., Any] | type) -> dict[str, str]:
    """The text of each parameter or attribute in a numpydoc docstring; an entry of several names counts for each of them."""
    found: dict[str, str] = {}
    for section in re.split(r"\n(?=\w[\w ]*\n-{3,}\n)", (inspect.getdoc(source) or "")):
        title, _, body = section.partition("\n")
        if title.strip() not in ("Parameters", "Attributes"):
            continue
        for entry in re.split(r"\n(?=\S)", body.partition("\n")[2]):
            names, _, text = entry.partition("\n")
            said = _as_plain(text)
            if said and not said.startswith(POINTERS):
                said = _in_a_row(said)
                found |= {name.strip(): said for name in names.split(",")}
    return found


def summary_of(source: Callable[..., Any] | type) -> str:
    """The first paragraph of a docstring as one line."""
    return _as_plain((inspect.getdoc(source) or "").partition("\n\n")[0])


def _as_plain(text: str) -> str:
    return " ".join(text.split())


def _in_a_row(text: str) -> str:
    """A sentence as one of many rows: its first letter small, unless it is a name or an abbreviation."""
    first = re.split(r"[\s/,.:]", text)[0]
    return text[:1].lower() + text[1:] if first[1:] == first[1:].lower() else text
