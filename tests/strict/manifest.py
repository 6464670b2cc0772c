"""What the installed CuPy and RAPIDS wheels have, names and signatures, as JSON; no GPU is needed.

python -P tests/strict/manifest.py FILE
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import warnings
from pathlib import Path
from typing import Any

MANIFEST = Path(__file__).parent / "manifest.json"
CLASSES = {
    "cupy": ("ndarray", "ufunc", "RawModule"),
    "cupyx.scipy.sparse": ("csr_matrix", "csc_matrix", "coo_matrix"),
    "cudf": ("DataFrame", "Series", "Index", "CategoricalIndex"),
}
MODULES = (
    "cupy", "cupy.linalg", "cupy.fft", "cupy.random", "cupy.cuda", "cupyx.scipy.sparse", "rmm", "rmm.mr", "rmm.statistics",
    "rmm.allocators.cupy", "cuvs.neighbors.brute_force", "pylibcugraph", "cuml.manifold", "rapids_singlecell.pp", "cudf",
)  # fmt: skip
#: Parameters: name, kind (as ``inspect.Parameter.kind``), whether it has a default.
Signature = list[list[Any]]


def signature(found: Any) -> Signature | None:
    """The parameters of a function or class, or None where compiled code does not tell them."""
    try:
        parameters = inspect.signature(found).parameters.values()
    except (ValueError, TypeError):
        return None
    return [[p.name, int(p.kind), p.default is not p.empty] for p in parameters]


def described(name: str) -> dict[str, dict[str, Any]]:
    """A module's public names with their signatures, and those of its classes that the stand-in has."""
    module = importlib.import_module(name)
    names = [key for key in dir(module) if not key.startswith("_") and hasattr(module, key)]
    out: dict[str, dict[str, Any]] = {name: {}}
    for key in names:
        value = getattr(module, key)
        if inspect.ismodule(value):  # which parts are there depends on what was imported
            continue
        out[name][key] = ["class" if inspect.isclass(value) else type(value).__name__, signature(value)]
    for key in CLASSES.get(name, ()):
        kind = getattr(module, key)
        out[f"{name}:{key}"] = {a: signature(getattr(kind, a)) for a in dir(kind)}
    return out


def installed() -> dict[str, dict[str, Any]]:
    """The manifest of this environment."""
    out: dict[str, dict[str, Any]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in MODULES:
            out |= described(name)
    return out


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(installed(), separators=(",", ":"), sort_keys=True) + "\n", encoding="utf-8")
