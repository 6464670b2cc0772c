"""Progress bars on long steps: shown on a terminal, silent in logs, pipes and with quiet(True)."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_state = {"quiet": False}


def quiet(on: bool = True) -> None:  # noqa: FBT001, FBT002 - a switch
    """Show no progress bars (quiet(False): show them on a terminal again)."""
    _state["quiet"] = bool(on)


@contextmanager
def bar(title: str, total: int | None, *, unit: str = "it", scale: bool = False) -> Iterator[Callable[[int], None]]:
    """A context whose value is called with each advance."""
    from tqdm import tqdm

    hidden = _state["quiet"] or not sys.stderr.isatty()
    with tqdm(
        total=total,
        desc=title,
        unit=unit,
        unit_scale=scale,
        unit_divisor=1024 if unit == "B" else 1000,
        disable=hidden,
        leave=False,
        dynamic_ncols=True,
    ) as shown:
        yield lambda n: None if hidden else shown.update(n) and None
