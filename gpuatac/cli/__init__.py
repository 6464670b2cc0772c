"""The command line: find the command, parse, call its function, print."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from gpuatac.cli.app import COMMANDS, command_of, given_to, summaries
from gpuatac.cli.shared import PACKAGE, TerminatedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

DONE, BAD, INTERRUPTED, TERMINATED = 0, 2, 130, 143


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code: 0 done, 2 bad input, 130 interrupted, 143 terminated."""
    tokens = [str(token) for token in (sys.argv[1:] if argv is None else argv)]
    from gpuatac.errors import GpuatacError

    try:
        return _main(tokens)
    except UsageError as error:
        print(f"{_program(tokens)}: error: {error}", file=sys.stderr)
    except GpuatacError as error:
        print(f"gpuatac: error: {error}", file=sys.stderr)
        logging.getLogger(PACKAGE).debug("traceback", exc_info=True)
    except BrokenPipeError:  # the reader of a pipe, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:  # a full disk, a folder without permission
        print(f"gpuatac: error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("gpuatac: interrupted; nothing half written was left", file=sys.stderr)
        return INTERRUPTED
    except TerminatedError:
        print("gpuatac: terminated; nothing half written was left", file=sys.stderr)
        return TERMINATED
    return BAD


def _main(tokens: list[str]) -> int:
    if not tokens:
        msg = f"the following arguments are required: COMMAND; allowed: {', '.join(COMMANDS)}; see gpuatac --help."
        raise UsageError(msg)
    first, rest = tokens[0], tokens[1:]
    if first == "help" and rest:
        first, rest = rest[0], ["--help"]
    if first in ("-h", "--help", "--help-all", "help"):
        from gpuatac._version import __version__
        from gpuatac.cli.help import overview

        print(overview(summaries(), __version__), flush=True)
        return DONE
    if first == "--version":
        from gpuatac._version import __version__

        print(f"gpuatac {__version__}", flush=True)
        return DONE
    flag, equals, shell = first.partition("=")
    if flag == "--install-completion":
        from gpuatac.cli.completion import install

        print(install(shell if equals else next(iter(rest), None)))
        return DONE
    command = command_of(first)
    before_end = rest[: rest.index("--")] if "--" in rest else rest
    asked = {"-h", "--help", "--help-all"} & set(before_end)
    if asked:
        from gpuatac.cli.help import help_of

        print(help_of(command, everything="--help-all" in asked), flush=True)
        return DONE
    given = given_to(command, rest)
    from gpuatac.cli.shared import logs, machine

    quiet = bool(given.pop("quiet", False))
    logs(quiet=quiet, log=given.pop("log", None))
    if machine in command.beside:
        machine(given.pop("threads", None))
    told = command.run(given)
    if told and not quiet:
        print(told, flush=True)
    return DONE


def _program(tokens: list[str]) -> str:
    return f"gpuatac {tokens[0]}" if tokens and tokens[0] in COMMANDS else "gpuatac"
