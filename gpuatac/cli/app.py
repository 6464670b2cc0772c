"""The commands, found and loaded when they are asked for, and the parsing of a command line."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuatac._version import __version__
from gpuatac.cli.refusals import no_such_command, refusal_of
from gpuatac.cli.shared import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts import App

    from gpuatac.cli.command import Command

#: Command: the function behind it, whose docstring's first line is its line in the overview.
COMMANDS = {
    "run": "gpuatac.workflow.main_job.job:run",
    "peaks": "gpuatac.workflow.groups.peaks:peaks",
    "coverage": "gpuatac.workflow.groups.coverage:coverage",
    "denoise": "gpuatac.workflow.denoiser.denoise:denoise",
    "train-denoiser": "gpuatac.workflow.denoiser.train:train_denoiser",
    "evaluate-denoiser": "gpuatac.workflow.denoiser.evaluate:evaluate_denoiser",
    "simulate": "gpuatac.simulate.samples:simulate_fragments",
    "fragments": "gpuatac.io.fragments.bam:make_fragment_file",
    "info": "gpuatac.cli.information:info",
}
HOW: dict[str, Any] = {"help_flags": [], "version_flags": [], "result_action": "return_value"}


def command_of(name: str) -> Command:
    """One command, its module imported now."""
    if name not in COMMANDS:
        raise UsageError(no_such_command(name, list(COMMANDS)))
    found: Command = importlib.import_module(f"gpuatac.cli.commands.{name.replace('-', '_')}").COMMAND
    return found


def summaries() -> dict[str, str]:
    """The line of each command, read from its function's source: nothing is imported."""
    return {name: _first_line(*where.split(":")) for name, where in COMMANDS.items()}


def _first_line(module: str, function: str) -> str:
    path = Path(__file__).parents[2].joinpath(*module.split(".")).with_suffix(".py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            first = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
            return (first[:1].lower() + first[1:] if first[1:2].islower() else first).rstrip(".").replace("``", "")
    raise LookupError(function)


def given_to(command: Command, tokens: Sequence[str]) -> dict[str, Any]:
    """What the tokens behind a command say, by parameter; only what was given."""
    import cyclopts

    counted = _last_of_each(command, [str(token) for token in tokens])
    try:
        _, bound, _ = command.app(**HOW).parse_args(counted, exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        raise UsageError(refusal_of(error, command, counted)) from error
    options = command.options()
    return {name: value if options[name].flag else not value for name, value in bound.arguments.items()}


def _last_of_each(command: Command, tokens: list[str]) -> list[str]:
    """Of an option that is given twice the last counts, as everywhere; so an alias or a script can be overruled."""
    arity: dict[str, tuple[str, int | None]] = {}
    for option in command.options().values():
        hint = option.declared.hint
        most = 0 if option.is_flag else None if hint.is_list and hint.few != hint.many else hint.many or 1
        arity |= {
            flag: (option.name, most)
            for flag in (option.flag, option.unset, option.short)
            if flag and not option.repeats
        }
    spans: dict[str, tuple[int, int]] = {}
    dropped: set[int] = set()
    k = 0
    while k < len(tokens) and tokens[k] != "--":
        flag, equals, _ = tokens[k].partition("=")
        name, most = arity.get(flag, ("", 0))
        stop = k + 1
        while (
            name
            and not equals
            and stop < len(tokens)
            and (most is None or stop - k <= most)
            and not _is_option(tokens[stop])
        ):
            stop += 1
        if name in spans:
            dropped.update(range(*spans[name]))
        if name:
            spans[name] = (k, stop)
        k = stop
    return [token for k, token in enumerate(tokens) if k not in dropped]


def _is_option(token: str) -> bool:
    if not token.startswith("-") or token == "-":
        return False
    try:
        float(token)
    except ValueError:
        return True
    return False


def whole_app() -> App:
    """Every command as one app, for shell completion."""
    from cyclopts import App

    how = {**HOW, "help_flags": ["-h", "--help", "--help-all"]}
    app = App(name="gpuatac", version=__version__, **how)
    for name in COMMANDS:
        app.command(command_of(name).app(**how))
    return app
