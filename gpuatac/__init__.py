"""gpuatac: GPU-native ATAC-seq analysis, with the same numbers on a CPU.

Verbs live in ``pp`` (preprocessing), ``metrics`` (quality), ``tl`` (tools), ``pl`` (figures), ``ex`` (export) and ``io`` (files);
``workflow`` holds whole jobs. They are imported on first use, so that ``import gpuatac`` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gpuatac._version import __version__
from gpuatac.fragments import Fragments, ReadSummary
from gpuatac.genome import Genome
from gpuatac.memory import get_memory, set_memory
from gpuatac.progress import quiet
from gpuatac.threads import get_threads, set_threads

if TYPE_CHECKING:
    from gpuatac import ex, io, metrics, pl, pp, tl, workflow
    from gpuatac.device import to_device, to_host
    from gpuatac.simulate import simulate_fragments, simulate_library
    from gpuatac.workflow import run

__all__ = [
    "Fragments",
    "Genome",
    "ReadSummary",
    "__version__",
    "ex",
    "get_memory",
    "get_threads",
    "io",
    "metrics",
    "pl",
    "pp",
    "quiet",
    "run",
    "set_memory",
    "set_threads",
    "simulate_fragments",
    "simulate_library",
    "tl",
    "to_device",
    "to_host",
    "workflow",
]

_MODULES = ("ex", "io", "metrics", "pl", "pp", "tl", "workflow")
_FUNCTIONS = {
    "to_device": "device",
    "to_host": "device",
    "simulate_fragments": "simulate",
    "simulate_library": "simulate",
    "run": "workflow",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"gpuatac.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"gpuatac.{_FUNCTIONS[name]}"), name)
    msg = f"module 'gpuatac' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
