"""Options that every command has, and what they do."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from pathlib import Path

PACKAGE = "gpuatac"


class UsageError(Exception):
    """A command line that cannot be understood."""


class TerminatedError(BaseException):
    """SIGTERM, raised where the program stands so that temporary files go."""


def logs(quiet: bool = False, log: str | Path | None = None) -> None:  # noqa: FBT001, FBT002 (a command line gives names)
    """What is told while a command works.

    Parameters
    ----------
    quiet
        Print nothing but warnings and errors.
    log
        Also write a full log to this file.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)
    logger = logging.getLogger(PACKAGE)
    for handler in logger.handlers:
        handler.close()
    logger.handlers.clear()
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    screen = logging.StreamHandler(sys.stderr)
    screen.setLevel(logging.WARNING if quiet else logging.INFO)
    screen.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(screen)
    if log is not None:
        path = Path(log)
        path.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(path, mode="w")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger.addHandler(file)
    from gpuatac import progress

    progress.quiet(quiet)


def machine(threads: int | None = None) -> None:
    """How much of the machine a command takes.

    Parameters
    ----------
    threads
        CPU threads; all cores by default.
    """
    if threads is not None:
        from gpuatac.threads import set_threads

        set_threads(threads)


def _terminated(_number: int, _frame: object) -> None:
    raise TerminatedError
