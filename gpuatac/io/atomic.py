"""Nothing is half written: a temporary name beside the target, then one rename."""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gpuatac import check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def replacing(target: Path, *, force: bool = False) -> Iterator[Path]:
    """A temporary path that takes the place of ``target`` (file or folder) when the block ends well.

    Raises
    ------
    OutputExistsError
        When ``target`` exists and ``force`` is not set.
    """
    check.may_write(target, force=force)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        yield partial
        if target.is_dir() and not target.is_symlink():
            old = partial.with_name(partial.name + ".old")
            target.rename(old)
            partial.rename(target)
            shutil.rmtree(old)
        else:
            partial.replace(target)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)
