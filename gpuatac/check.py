"""Argument checks at the door of a verb; each failure says what was found, what is allowed and what to do."""

from __future__ import annotations

import difflib
import importlib.util
import math
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuatac.errors import InputError, MissingExtraError, MissingFileError, OutputExistsError

if TYPE_CHECKING:
    from collections.abc import Iterable


def _shown(number: float) -> str:
    return f"{number}" if isinstance(number, int) else f"{number:g}"


def between(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raise unless ``low <= value <= high``."""
    if isinstance(value, str) or value is None:
        msg = f"{name} must be a number, got {value!r}."
        raise InputError(msg)
    if not low <= value <= high:
        allowed = f"at least {_shown(low)}" if high == float("inf") else f"in [{_shown(low)}, {_shown(high)}]"
        msg = f"{name} must be {allowed}, got {value!r}."
        raise InputError(msg)


def integer(name: str, value: Any, low: int, high: float = float("inf")) -> int:
    """Return ``value`` as an int; raise unless it is a whole number in [low, high]."""
    whole = isinstance(value, Integral) or (isinstance(value, Real) and math.isfinite(value) and value % 1 == 0)
    if isinstance(value, bool) or not whole:
        msg = f"{name} must be a whole number, got {value!r}."
        raise InputError(msg)
    between(name, value, low, high)
    return int(value)


def one_of(name: str, value: object, allowed: Iterable[object]) -> None:
    """Raise unless ``value`` is one of ``allowed``."""
    choices = list(allowed)
    if value not in choices:
        msg = f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}."
        raise InputError(msg)


def known_names(what: str, given: Iterable[object], allowed: Iterable[str]) -> None:
    """Raise where ``given`` holds a name that is not allowed; the message has the allowed name that is most like it.

    Examples
    --------
    >>> from gpuatac import check
    >>> check.known_names("recipe", ["epochs"], ["epochs", "lr"])
    """
    known = list(allowed)
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None:
        near = difflib.get_close_matches(str(unknown), known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        msg = (
            f"{what} has no {unknown!r}{hint}; allowed: {', '.join(known) or 'none'}; correct the name or leave it out."
        )
        raise InputError(msg)


def several(name: str, value: Any, *, what: str = "a path") -> list[Any]:
    """One text, path or number, or several of them, as a list; None is an empty one."""
    if value is None:
        return []
    if isinstance(value, str | Path | Real):
        return [value]
    if isinstance(value, bytes) or not hasattr(value, "__iter__"):
        msg = f"{name} must be {what} or a list of them, got {value!r} ({type(value).__name__}); pass it so."
        raise InputError(msg)
    return list(value)


def none_true(bad: Any, found: str, remedy: str) -> None:
    """Raise when any element of the boolean array ``bad`` is set, naming how many are."""
    n_bad = int(bad.sum())
    if n_bad:
        msg = f"{n_bad} of {bad.shape[0]} {found}; {remedy}."
        raise InputError(msg)


def existing_file(path: Path, role: str) -> None:
    """Raise unless ``path`` is a file (or a folder that holds a data set)."""
    if not path.exists():
        msg = f"{role} {path} does not exist; check the path."
        raise MissingFileError(msg)


def may_write(path: Path, *, force: bool, remedy: str = "pass force=True (--force) to replace it") -> None:
    """Raise when ``path`` exists and may not be replaced."""
    if path.exists() and not force:
        msg = f"{path} exists already; {remedy} or choose another name."
        raise OutputExistsError(msg)


def extra(module: str, name: str, what: str) -> None:
    """Raise when the library ``module`` of the extra ``name`` is not installed; ``what`` needs it."""
    if importlib.util.find_spec(module) is None:
        library = {"torch": "PyTorch"}.get(module, module)
        msg = f"{what} needs {library}, which is not installed; install gpuatac with it: pip install 'gpuatac[{name}]'."
        raise MissingExtraError(msg)
