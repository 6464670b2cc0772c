"""From the annotation of a parameter to what a command line can take in its place."""

from __future__ import annotations

import ast
import collections.abc
import importlib
import inspect
import sys
import types
import typing
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple


class Hint(NamedTuple):
    """What one value is, and how many there may be.

    ``kind`` is bool, int, float, str or ``NUMBER_OR_NAME``; with ``choices`` it is str. ``few`` and ``many`` bound the number of values
    of a list (``many`` None: any), or are both None for a single value.
    """

    kind: Any
    choices: tuple[str, ...] = ()
    few: int | None = None
    many: int | None = None
    optional: bool = False  # None is among the values

    @property
    def is_list(self) -> bool:
        """Whether several values may follow."""
        return self.few is not None


NUMBER_OR_NAME = "number or name"


class _Names(dict[str, Any]):
    """Names of a module as its annotations see them: also those that it imports for the type checker alone, when they are asked for."""

    def __init__(self, module: types.ModuleType) -> None:
        super().__init__(vars(typing) | vars(collections.abc) | vars(module))
        self._later = _typing_imports(module.__name__)

    def __missing__(self, name: str) -> Any:
        source, wanted = self._later[name]
        self[name] = getattr(importlib.import_module(source), wanted)
        return self[name]


@cache
def _typing_imports(module: str) -> dict[str, tuple[str, str]]:
    """Name: (module, name there) of what stands below ``if TYPE_CHECKING``."""
    found: dict[str, tuple[str, str]] = {}
    for node in ast.walk(ast.parse(inspect.getsource(sys.modules[module]))):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for line in ast.walk(node):
                if isinstance(line, ast.ImportFrom) and line.module:
                    found |= {a.asname or a.name: (line.module, a.name) for a in line.names}
    return found


def resolved(annotation: Any, module: str) -> Any:
    """The type behind an annotation that is still text."""
    if not isinstance(annotation, str):
        return annotation
    return eval(annotation, {}, _Names(sys.modules[module]))


def hint_of(kind: Any) -> Hint:
    """What a command line takes for a value of this type; a frame, say, has no text form and is left out of a union."""
    members = _members(kind)
    optional = type(None) in members
    lists = [found for member in members if (found := _list_of(member)) is not None]
    single = [member for member in members if _is_plain(member)]
    if lists:
        element, few, many = lists[0]
        inner = hint_of(element)
        if any(_is_plain(member) for member in single) and many == few and few is not None:
            few = 1  # one for all, or as many as the tuple has
        return Hint(inner.kind, inner.choices, few, many, optional)
    choices = tuple(
        value for member in members if typing.get_origin(member) is Literal for value in typing.get_args(member)
    )
    if choices:
        return Hint(
            str, tuple(str(value) for value in choices if value is not None), optional=optional or None in choices
        )
    plain = set(single)
    if bool in plain:
        return Hint(bool, optional=optional)
    if plain & {str, Path}:
        return Hint(NUMBER_OR_NAME if float in plain else str, optional=optional)
    if float in plain:
        return Hint(float, optional=optional)
    return Hint(int if int in plain else str, optional=optional)


def _members(kind: Any) -> tuple[Any, ...]:
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return tuple(inner for member in typing.get_args(kind) for inner in _members(member))
    return (kind,)


def _is_plain(member: Any) -> bool:
    return member in (bool, int, float, str, Path)


def _list_of(member: Any) -> tuple[Any, int | None, int | None] | None:
    """(element, fewest, most) of a sequence or tuple."""
    origin, inside = typing.get_origin(member), typing.get_args(member)
    if origin is tuple and inside and inside[-1] is not Ellipsis:
        return (inside[0], len(inside), len(inside)) if all(part == inside[0] for part in inside) else None
    if (
        isinstance(origin, type)
        and issubclass(origin, collections.abc.Collection)
        and not issubclass(origin, collections.abc.Mapping)
    ):
        return (inside[0], 1, None)
    return None
