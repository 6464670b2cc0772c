"""A stand-in for CuPy and RAPIDS on NumPy, so that the GPU side of gpuatac runs where no GPU is.

It is strict rather than kind. It refuses what CuPy refuses: NumPy arrays among device arrays, silent ways back to the host,
names and keywords that the real wheels do not have (``manifest.json``), whole numbers in sparse matrices. It refuses more where CuPy
would go on with something undefined: an index out of range, a scatter whose repeated indices get different values, an array of
another device. ``empty`` gives garbage. Kernels are the real ones, compiled for the CPU and called through the real launcher. Every
crossing between host and device, every kernel and every byte is counted (``ledger.py``).

It does not know streams, races, speed, or how CuPy rounds: those a GPU alone can show.

``installed(library)`` puts it in place for a while; the fixtures ``strict`` and ``bk`` of ``conftest.py`` do so for a test.
"""

from __future__ import annotations

from .device import DEVICES, GIB, Device
from .install import Strict, installed, introduce
from .ledger import LEDGER, Ledger, StrictError

__all__ = ["DEVICES", "GIB", "LEDGER", "Device", "Ledger", "Strict", "StrictError", "installed", "introduce"]
