"""Arguments that several commands have."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_log(sub: argparse.ArgumentParser) -> None:
    """``-q`` and ``--log``."""
    sub.add_argument("-q", "--quiet", action="store_true", help="no progress bars, warnings only")
    sub.add_argument("--log", metavar="FILE", help="also write a full log to FILE")


def add_machine(sub: argparse.ArgumentParser) -> None:
    """``--device``, ``--threads`` and ``--memory``."""
    sub.add_argument(
        "--device", choices=("auto", "cpu", "gpu"), default="auto", help="where to compute (default: auto)"
    )
    sub.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    sub.add_argument(
        "--memory",
        metavar="SIZE",
        help="about how much memory to use at most, such as 4G: what does not fit stays on disk and is read by parts "
        "(default: 70 %% of what is available)",
    )
