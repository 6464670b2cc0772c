"""RAPIDS, library by library: a GPU with CuPy alone reads, counts, embeds and calls peaks; some primitives need more."""

from __future__ import annotations

import importlib.util

from gpuatac.errors import MissingExtraError

#: What each module belongs to.
LIBRARIES = {
    "cudf": "cuDF",
    "cuml": "cuML",
    "cuvs": "cuVS",
    "pylibcugraph": "cuGraph",
    "rapids_singlecell": "rapids-singlecell",
    "rmm": "RMM",
}


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
