"""Nothing is half written: a temporary name beside the target, then one rename."""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import socket
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gpuatac import check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def mark() -> str:
    """Names this process, on this machine, in a temporary name."""
    return f"{_host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def sweep(folder: Path, prefix: str) -> None:
    """Remove what processes of this machine that are no more left under temporary names ``prefix``-``mark()``."""
    for path in folder.glob(f"{glob.escape(prefix)}-{_host()}-*"):
        pid = path.name.removeprefix(f"{prefix}-{_host()}-").partition("-")[0]
        if not pid.isdigit() or _is_alive(int(pid)):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # someone else's
        return True
    return True


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
    sweep(target.parent, f".{target.name}.partial")
    partial = target.with_name(f".{target.name}.partial-{mark()}")
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
