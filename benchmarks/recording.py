"""Results line by line, as they come: what a program has measured is on disk before it measures the next."""

from __future__ import annotations

import json
import os
from pathlib import Path

#: Names the file; without it nothing is recorded.
VARIABLE = "GPUATAC_RECORD"


def record(kind: str, **fields: object) -> None:
    """Append one line of JSON to the file that the environment names, and see it on the disk; no number (NaN) is null."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    values = {name: None if isinstance(value, float) and value != value else value for name, value in fields.items()}
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"kind": kind, **values}, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def recorded(path: Path) -> list[dict]:
    """The lines that are whole; the last of a program that was ended may not be."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
    return [json.loads(line) for line in lines]
