"""The signatures of the real wheels, and the refusal of what does not fit them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from .manifest import MANIFEST


@cache
def wheels() -> dict[str, dict[str, Any]]:
    """What the wheels have, see ``manifest.py``."""
    found: dict[str, dict[str, Any]] = json.loads(MANIFEST.read_text(encoding="utf-8"))
    return found


def names_of(module: str) -> dict[str, Any]:
    """The public names of a module of the wheels."""
    return wheels()[module]


def check_call(module: str, name: str, args: tuple[Any, ...], kw: dict[str, Any]) -> None:
    """Raise TypeError where the real function would, by its signature."""
    check_arguments(f"{module}.{name}", names_of(module)[name][1], args, kw)


def check_arguments(name: str, parameters: list[list[Any]] | None, args: tuple[Any, ...], kw: dict[str, Any]) -> None:
    """Raise TypeError for arguments that a function of these parameters does not take; None: not known."""
    if parameters is None:
        return
    positional = [p for p, kind, _ in parameters if kind in (0, 1)]
    kinds = {kind for _, kind, _ in parameters}
    if len(args) > len(positional) and 2 not in kinds:
        msg = f"{name}() takes {len(positional)} positional arguments but {len(args)} were given"
        raise TypeError(msg)
    given = {*positional[: len(args)], *kw}
    unknown = set(kw) - {p for p, _, _ in parameters}
    if unknown and 4 not in kinds:
        msg = f"{name}() got an unexpected keyword argument {sorted(unknown)[0]!r}"
        raise TypeError(msg)
    missing = [p for p, kind, has_default in parameters if kind in (0, 1, 3) and not has_default and p not in given]
    if missing:
        msg = f"{name}() missing required arguments: {missing}"
        raise TypeError(msg)
