"""The command line: parse, call verbs, print."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

PACKAGE = "gpuatac"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code: 0 done, 2 bad input, 130 interrupted."""
    from gpuatac.cli.parser import build_parser
    from gpuatac.errors import GpuatacError

    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        _prepare(args)
        return int(args.command(args) or 0)
    except GpuatacError as error:
        print(f"gpuatac: error: {error}", file=sys.stderr)
        logging.getLogger(PACKAGE).debug("traceback", exc_info=True)
        return 2
    except OSError as error:  # a full disk, a folder without permission
        print(f"gpuatac: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("gpuatac: interrupted; nothing half written was left", file=sys.stderr)
        return 130
    except Terminated:
        print("gpuatac: terminated; nothing half written was left", file=sys.stderr)
        return 143


class Terminated(BaseException):
    """SIGTERM, raised where the program stands so that temporary files go."""


def _terminated(_number: int, _frame: object) -> None:
    raise Terminated


def _prepare(args: argparse.Namespace) -> None:
    """Logging, threads and progress bars as the options say."""
    from pathlib import Path

    from gpuatac.progress import quiet
    from gpuatac.threads import set_threads

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)
    logger = logging.getLogger(PACKAGE)
    logger.handlers.clear()
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    screen = logging.StreamHandler(sys.stderr)
    screen.setLevel(logging.WARNING if args.quiet else logging.INFO)
    screen.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(screen)
    if args.log:
        path = Path(args.log)
        path.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(path, mode="w")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger.addHandler(file)
    quiet(args.quiet)
    if getattr(args, "threads", None) is not None:
        set_threads(args.threads)
