"""How long kernels were compiled: at the first use on a machine; afterwards they come from the disk."""

from __future__ import annotations

import time
from typing import Any

_state: dict[str, Any] = {"seconds": 0.0, "listening": False}


def seconds() -> float:
    """Seconds spent on compiling by this process: by NVRTC in all, by Numba since the first call of this function."""
    if not _state["listening"]:
        _state["listening"] = True
        _listen()
    return float(_state["seconds"])


def record(spent: float) -> None:
    """Count ``spent`` seconds as compiling."""
    _state["seconds"] += spent


def _listen() -> None:
    from numba.core import event

    class Listener(event.Listener):
        """Times the outermost compilations; what Numba finds in its cache is none."""

        depth, began = 0, 0.0

        def on_start(self, event: Any) -> None:
            if self.depth == 0:
                self.began = time.perf_counter()
            self.depth += 1

        def on_end(self, event: Any) -> None:
            self.depth -= 1
            if self.depth == 0:
                record(time.perf_counter() - self.began)

    event.register("numba:compile", Listener())  # type: ignore[no-untyped-call]
