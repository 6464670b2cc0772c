"""Command lines that cannot be understood: what is wrong with them, in the words of the other errors."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyclopts import CycloptsError

    from gpuatac.cli.command import Command

KINDS = {int: "a whole number", float: "a number", str: "text"}


def refusal_of(  # noqa: PLR0911 (one for each kind)
    error: CycloptsError, command: Command | None, tokens: list[str]) -> str:
    """The message for a parse that failed."""
    import cyclopts

    argument = getattr(error, "argument", None)
    name = _flag(argument, command)
    token = getattr(error, "token", None)
    if isinstance(error, cyclopts.CoercionError):
        value = token.value if token is not None else ""
        flag = token.keyword if token is not None and token.keyword else name
        option = (
            next((o for o in command.options().values() if flag in (o.flag, o.unset, o.short)), None)
            if command
            else None
        )
        choices = option.declared.hint.choices if option else ()
        if choices:
            return f"argument {flag}: invalid choice: {value!r}{_like(value, choices)}; allowed: {', '.join(choices)}."
        kind = option.declared.hint.kind if option else str
        if kind is bool:
            return f"argument {flag}: takes no value, got {value!r}; allowed: the option by itself."
        return f"argument {flag}: invalid {getattr(kind, '__name__', 'text')} value: {value!r}; allowed: {KINDS.get(kind, 'text')}."
    if isinstance(error, cyclopts.UnknownOptionError):
        typed = error.token.keyword or error.token.value
        known = [flag for o in command.options().values() for flag in (o.flag, o.unset) if flag] if command else []
        return f"unrecognized arguments: {typed}{_like(typed, known)}; allowed: {_help(command)} lists every option."
    if isinstance(error, cyclopts.UnusedCliTokensError):
        unused = " ".join(error.unused_tokens or [])
        return f"unrecognized arguments: {unused}; allowed: inputs in one place; put them behind the command."
    if isinstance(error, cyclopts.MissingArgumentError):
        return _missing(error, name, command, tokens)
    if isinstance(error, cyclopts.RepeatArgumentError):
        return f"{error.token.keyword} is given twice; give it once."
    return str(error)


def _missing(error: Any, name: str, command: Command | None, tokens: list[str]) -> str:
    if error.keyword:
        option = (
            next((o for o in command.options().values() if error.keyword in (o.flag, o.short)), None)
            if command
            else None
        )
        number = "at least one value"
        if option is not None and not option.declared.hint.is_list:
            number = "a value"
        elif option is not None and option.declared.hint.many is not None:
            hint = option.declared.hint
            number = f"{hint.many} values" if hint.few == hint.many else f"{hint.few} to {hint.many} values"
        told = f"argument {error.keyword}: expected {number}, got {len(error.tokens_so_far)}"
        at = tokens.index(error.keyword) if error.keyword in tokens else len(tokens)
        dashed = next((token for token in tokens[at + 1 : at + 2] if token.startswith("-")), None)
        return f"{told}; a value that begins with a dash is given as {error.keyword}={dashed}." if dashed else f"{told}."
    missing = [name]
    if command is not None:
        missing = [
            o.flag for o in command.options().values()
            if o.required and (o.flag == name or (not o.is_positional and not any(t.partition("=")[0] == o.flag for t in tokens)))
        ]  # fmt: skip
    taken = _list_that_took(command, tokens) if name in missing and not name.startswith("-") else ""
    return f"the following arguments are required: {', '.join(missing)}{taken}; see {_help(command)}."


def _list_that_took(command: Command | None, tokens: list[str]) -> str:
    """A hint, where the values of a list may have been meant for the inputs."""
    for option in command.options().values() if command is not None else ():
        if option.declared.hint.is_list and option.flag in tokens:
            return f" ({option.flag} takes all that follows it: put the inputs before it)"
    return ""


def no_such_command(typed: str, names: list[str]) -> str:
    """The message for a command that is none."""
    return f"argument COMMAND: invalid choice: {typed!r}{_like(typed, names)}; allowed: {', '.join(names)}."


def _flag(argument: Any, command: Command | None) -> str:
    if argument is None:
        return ""
    option = command.options().get(argument.field_info.name) if command is not None else None
    return option.flag if option is not None and option.flag else argument.name


def _like(typed: str, known: Any) -> str:
    near = difflib.get_close_matches(typed.partition("=")[0], list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _help(command: Command | None) -> str:
    return f"gpuatac {command.name} --help-all" if command is not None else "gpuatac --help"
