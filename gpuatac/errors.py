"""The errors a user can meet. Each message says what was found, what is allowed and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class GpuatacError(Exception):
    """Base of every error that gpuatac raises on purpose."""


class InputError(GpuatacError, ValueError):
    """An argument or a data set that does not fit the verb it was given to."""


class FileFormatError(InputError):
    """A file that cannot be read as what it was taken for.

    ``line`` is the 1-based line of the decompressed text, ``offset`` the byte offset in the file where the
    compression is broken; at most one of them is set.
    """

    def __init__(
        self,
        path: str | Path,
        found: str,
        allowed: str,
        remedy: str,
        *,
        line: int | None = None,
        offset: int | None = None,
    ) -> None:
        self.path, self.line, self.offset = str(path), line, offset
        where = f", line {line}" if line is not None else f", byte offset {offset}" if offset is not None else ""
        super().__init__(f"{path}{where}: found {found}; allowed: {allowed}; {remedy}.")


class MissingFileError(GpuatacError, FileNotFoundError):
    """A file that an argument or an .h5ad refers to and that is not there."""


class OutputExistsError(GpuatacError, FileExistsError):
    """An output that exists already and may not be replaced without being told so."""


class MissingSlotError(GpuatacError, KeyError):
    """A result that an earlier verb should have written is absent."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class DeviceUnavailableError(GpuatacError, RuntimeError):
    """A GPU was asked for and none can be used; the message says why."""


class MissingExtraError(GpuatacError, ImportError):
    """A library that an extra of gpuatac brings is not installed; the message names the extra."""
