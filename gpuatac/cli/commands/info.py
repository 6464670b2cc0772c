"""``gpuatac info``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuatac.cli.command import Command, Section
from gpuatac.cli.information import info
from gpuatac.cli.shared import logs

if TYPE_CHECKING:
    from collections.abc import Mapping


def _told(text: str, _given: Mapping[str, Any]) -> str:
    return text


COMMAND = Command(
    name="info",
    job=info,
    report=_told,
    beside=(logs,),
    examples=("gpuatac info", "gpuatac info results/pbmc.h5ad"),
    flags={"file": "FILE.h5ad"},
    metavars={"log": "FILE"},
    sections=(Section("Input", ("file",)), Section("Output", ("quiet", "log"))),
)
