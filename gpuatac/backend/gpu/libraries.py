"""RAPIDS, library by library: a GPU with CuPy alone reads, counts, embeds and calls peaks; some primitives need more."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import threading
from typing import TYPE_CHECKING

from gpuatac.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: What each module belongs to.
LIBRARIES = {
    "cudf": "cuDF",
    "cuml": "cuML",
    "cuvs": "cuVS",
    "pylibcugraph": "cuGraph",
    "rapids_singlecell": "rapids-singlecell",
    "rmm": "RMM",
}
#: What neighbours, layout and clusters take, as they import it.
LATER = ("cuvs.neighbors.brute_force", "cuml.manifold", "pylibcugraph")


def is_installed(module: str) -> bool:
    """Whether ``module`` can be imported."""
    return importlib.util.find_spec(module) is not None


def require(module: str, what: str) -> None:
    """Raise MissingExtraError unless ``module`` is installed; ``what`` needs it."""
    if not is_installed(module):
        msg = (
            f"{what} on a GPU needs {LIBRARIES[module]} (module {module}), which is not installed; install gpuatac[cuda13] on Python "
            "3.12 or newer, or pass device='cpu'."
        )
        raise MissingExtraError(msg)


def load_ahead(modules: Sequence[str] = LATER, prepare: Callable[[], None] = lambda: None) -> threading.Thread:
    """Import what later steps take, in a thread of its own that calls ``prepare`` first; what fails is met where it is needed."""

    def load() -> None:
        prepare()
        for module in modules:
            if is_installed(module.partition(".")[0]):
                with contextlib.suppress(Exception):
                    importlib.import_module(module)

    thread = threading.Thread(target=load, name="gpuatac-imports")
    thread.start()
    return thread
