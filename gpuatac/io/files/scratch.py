"""Folders for what does not fit into memory; those that a killed process left are swept by the next."""

from __future__ import annotations

import tempfile
from pathlib import Path

from gpuatac.io.files.atomic import mark, sweep

SCRATCH = ".gpuatac-scratch"


def new_scratch(parent: Path | None) -> Path:
    """A new folder in ``parent``, or where the system keeps temporary files; those of ended processes go."""
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent, SCRATCH)
    scratch = parent / f"{SCRATCH}-{mark()}"
    scratch.mkdir()
    return scratch
