"""What ``--help`` and ``--help-all`` print: plain text, as wide as the terminal, the common options first."""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING

from gpuatac.cli.documented import NONE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gpuatac.cli.command import Command, Option, Section

LEFT = 26  # columns of the flags
NARROWEST, WIDEST = 60, 110


def width() -> int:
    """Columns to fill."""
    return min(max(shutil.get_terminal_size().columns, NARROWEST), WIDEST)


def help_of(command: Command, *, everything: bool) -> str:
    """The help of one command; without ``everything`` the common options alone."""
    options = command.options()
    shown = [section for section in command.sections if everything or not section.more]
    blocks = [command.summary, _usage(command, options)]
    blocks.append("Examples:\n" + "\n".join(_example(line) for line in command.examples))
    blocks += [_section(section, options) for section in shown]
    hidden = [section for section in command.sections if section.more]
    if hidden and not everything:
        titles = ", ".join(_lower(section.title) for section in hidden)
        blocks.append(_wrapped(f"More options with --help-all: {titles}.", ""))
    return "\n\n".join(blocks)


def overview(commands: Mapping[str, str], version: str) -> str:
    """The help of ``gpuatac`` itself."""
    rows = [_row(name, text) for name, text in commands.items()]
    rest = [
        _row("-h, --help", "show this help; gpuatac COMMAND --help shows that of a command, with examples"),
        _row("--version", f"show the version ({version})"),
        _row("--install-completion [SHELL]", "complete commands and options with the tab key, in bash, zsh or fish"),
    ]
    return "\n\n".join(
        [
            "Usage: gpuatac COMMAND [options]",
            _wrapped("ATAC-seq from fragment files to clusters, peaks and coverage, on a GPU or without one.", ""),
            "Commands:\n" + "\n".join(rows),
            "Options:\n" + "\n".join(rest),
        ]
    )


def _usage(command: Command, options: Mapping[str, Option]) -> str:
    parts = []
    for option in options.values():
        if option.is_positional:
            several = "..." if option.declared.hint.is_list else ""
            parts.append(f"{option.flag}{several}" if option.required else f"[{option.flag}{several}]")
    parts += [f"{o.flag} {o.metavar}" for o in options.values() if o.required and not o.is_positional]
    return f"Usage: gpuatac {command.name} {' '.join(parts)} [options]"


def _section(section: Section, options: Mapping[str, Option]) -> str:
    rows = [_row(_names(options[name]), described(options[name])) for name in section.names]
    return f"{section.title}:\n" + "\n".join(rows)


def _names(option: Option) -> str:
    if option.is_positional:
        return option.flag + ("..." if option.declared.hint.is_list else "")
    flags = ", ".join(filter(None, (option.short, option.flag, option.unset)))
    if option.is_flag:
        return flags
    hint = option.declared.hint
    value = _choices(option) or option.metavar
    if hint.is_list and hint.few == hint.many:
        return f"{flags} {' '.join([value] * int(hint.few or 1))}"
    return f"{flags} {value}{' ...' if hint.is_list else ''}"


def described(option: Option) -> str:
    """The help of an option with its choices and its default."""
    hint, default = option.declared.hint, option.declared.default
    text = option.help.rstrip(".")
    if hint.choices and not _choices(option) and not all(choice in text for choice in hint.choices):
        text += f": {', '.join(hint.choices)}"
    if option.default:
        return f"{text} ({option.default})"
    if _tells(default) and "default" not in text:
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
        text += f" (default: {shown})"
    return text


def _choices(option: Option) -> str:
    """The choices as the value of a flag, where they fit beside it."""
    shown = "{" + ",".join(option.declared.hint.choices) + "}"
    return shown if option.declared.hint.choices and len(f"  {option.flag} {shown} ") < LEFT else ""


def _tells(default: object) -> bool:
    """Whether a default is worth a word."""
    return default is not NONE and default is not None and not isinstance(default, bool) and default not in ("", (), [])


def _row(left: str, text: str) -> str:
    space = " " * LEFT
    lines = textwrap.wrap(text, width() - LEFT, break_on_hyphens=False, break_long_words=False) or [""]
    if len(left) + 4 > LEFT:
        return "\n".join([f"  {left}", *(space + line for line in lines)])
    return "\n".join([f"  {left:<{LEFT - 2}}{lines[0]}", *(space + line for line in lines[1:])])


def _example(line: str) -> str:
    """A command line, broken at options so that it can be pasted."""
    if len(line) + 2 <= width():
        return f"  {line}"
    parts: Iterable[str] = textwrap.wrap(line, width() - 6, break_on_hyphens=False, break_long_words=False)
    return " \\\n      ".join(f"  {part}" if k == 0 else part for k, part in enumerate(parts))


def _wrapped(text: str, indent: str) -> str:
    return textwrap.fill(text, width(), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _lower(title: str) -> str:
    return title[:1].lower() + title[1:] if title[1:2].islower() else title
