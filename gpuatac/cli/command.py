"""A command: a function, and how its parameters are laid out as flags. What they are is declared where the function is.

``COMMAND`` of each file in ``cli.commands`` is one of these. The function's signature and docstring give flags, types, choices,
defaults and help; a ``Command`` says what only a command line has: which flags belong together, which of them the short help shows,
where a flag has another name than the parameter, and what is printed at the end.
"""

from __future__ import annotations

import inspect
import re
import types
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from gpuatac.cli.documented import NONE, Declared, declared_in, summary_of
from gpuatac.cli.hints import NUMBER_OR_NAME
from gpuatac.cli.shared import UsageError, logs, machine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cyclopts import App

#: What stands for a value in help where the parameter says no more.
METAVARS = {int: "N", float: "X", str: "TEXT", NUMBER_OR_NAME: "TEXT"}


class Section(NamedTuple):
    """Parameters that belong together, in the order of the help. ``more``: shown by ``--help-all`` alone."""

    title: str
    names: Sequence[str]
    more: bool = False


@dataclass(frozen=True)
class Option:
    """One parameter as a command line shows it."""

    declared: Declared
    flag: str  # what sets it: "--bin-size", or "INPUT" of a positional one
    metavar: str
    help: str
    unset: str = ""  # what sets it to False, where that is a flag of its own
    short: str = ""
    repeats: bool = False  # given again it adds, elsewhere the last one counts
    default: str = ""  # in words, where it is not the declared one
    takes_none: bool = False  # "none" beside the choices stands for None, where that is not the default

    @property
    def name(self) -> str:
        """The parameter's name."""
        return self.declared.name

    @property
    def is_flag(self) -> bool:
        """Whether it takes no value."""
        return self.declared.hint.kind is bool

    @property
    def is_positional(self) -> bool:
        """Whether it is told by its place."""
        return bool(self.flag) and not self.flag.startswith("-")

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.declared.default is NONE


@dataclass(frozen=True)
class Command:
    """One command of ``gpuatac``.

    Attributes
    ----------
    name
        As it is typed.
    job
        The function.
    sections
        Every parameter, in groups by purpose, the common ones first.
    examples
        Command lines that a test runs.
    report
        Called with the result and what was given; the text it returns is printed.
    spread
        Parameter of the job: dataclasses whose fields are flags; what was given of them becomes a dict (``gather`` may make it more).
    beside
        Functions of no effect whose parameters are flags that the job does not have.
    gather
        From all that was given by name to the keywords of the job.
    docs
        Where else a parameter may be described: functions to whose docstring an entry points.
    flags, metavars, helps, shorts
        Where a flag, its value in the help, or its text is not what the parameter's name and docstring make of it. A flag that starts
        with "--no-", or of a parameter that is True by default, sets it to False.
    switches
        Parameters with a flag to turn them on and one to turn them off.
    defaults
        In words, where the default is not the one that is declared: it depends on another option.
    hints
        Types where the signature says Any.
    repeats
        Lists that add up where their flag is given again; elsewhere the last one counts.
    optional
        Parameters that the job asks for and a command line need not give.
    exclusive
        Pairs of parameters of which one at most may be given.
    """

    name: str
    job: Callable[..., Any]
    sections: Sequence[Section]
    examples: Sequence[str]
    report: Callable[[Any, Mapping[str, Any]], str]
    spread: Mapping[str, Any] = field(default_factory=dict)
    beside: Sequence[Callable[..., Any]] = (logs, machine)
    gather: Callable[[dict[str, Any]], dict[str, Any]] = dict
    docs: Sequence[Callable[..., Any]] = ()
    flags: Mapping[str, str] = field(default_factory=dict)
    metavars: Mapping[str, str] = field(default_factory=dict)
    helps: Mapping[str, str] = field(default_factory=dict)
    shorts: Mapping[str, str] = field(default_factory=lambda: {"quiet": "-q"})
    switches: Sequence[str] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)
    hints: Mapping[str, Any] = field(default_factory=dict)
    repeats: Sequence[str] = ()
    optional: Sequence[str] = ()
    exclusive: Sequence[tuple[str, str]] = ()

    @property
    def summary(self) -> str:
        """What the command does, in one line."""
        return summary_of(self.job).replace("``", "")

    def options(self) -> dict[str, Option]:
        """Every parameter by name, in the order of the sections."""
        declared = self._declared()
        laid_out = [name for section in self.sections for name in section.names]
        return {name: self._option(declared[name]) for name in laid_out}

    def _declared(self) -> dict[str, Declared]:
        found: dict[str, Declared] = {}
        for source in (*self.beside, self.job):
            found |= declared_in(source)
        for name, sources in self.spread.items():
            del found[name]
            for source in sources:
                found |= {key: value for key, value in _of(source).items() if key not in found}
        for name, one in found.items():
            for other in self.docs if not one.help else ():
                if text := (declared_in(other).get(name) or one).help:
                    found[name] = found[name]._replace(help=text)
                    break
            if name in self.hints:
                found[name] = found[name]._replace(hint=self.hints[name])
            if name in self.optional:
                found[name] = found[name]._replace(default=None)
        return found

    def _option(self, declared: Declared) -> Option:
        name = declared.name
        flag = self.flags.get(name, f"--{name.replace('_', '-')}")
        hint = declared.hint
        takes_none = bool(hint.choices) and hint.optional and declared.default not in (None, NONE)
        if takes_none:
            declared = declared._replace(hint=hint._replace(choices=(*hint.choices, "none")))
        unset = ""
        if hint.kind is bool and (declared.default is True or flag.startswith("--no-")):
            on = f"--{name.replace('_', '-')}"
            flag, unset = (on, f"--no-{on[2:]}") if name not in self.flags else ("", flag)
        elif name in self.switches:
            unset = f"--no-{flag[2:]}"
        metavar = self.metavars.get(name) or (
            flag if not flag.startswith("-") and flag else METAVARS.get(hint.kind, "")
        )
        text = re.sub(r"``([^`]*)``", lambda found: self._shown(found[1]), self.helps.get(name, declared.help))
        if name in self.defaults:
            declared = declared._replace(default=None)
        short, default = self.shorts.get(name, ""), self.defaults.get(name, "")
        return Option(declared, flag, metavar, text, unset, short, name in self.repeats, default, takes_none)

    def _shown(self, name: str) -> str:
        """A parameter that a text names, as a command line knows it."""
        laid_out = {name for section in self.sections for name in section.names}
        return self.flags.get(name, f"--{name.replace('_', '-')}") if name in laid_out else name

    def app(self, **how: Any) -> App:
        """The command as cyclopts parses it."""
        from cyclopts import App

        def called(*_: Any, **__: Any) -> None:
            """Only its signature counts: ``parse_args`` tells what was given."""

        parameters = [_parameter(option) for option in self.options().values()]
        parameters.sort(key=lambda p: p.kind)
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {p.name: p.annotation for p in parameters}
        app = App(name=self.name, help=self.summary, **how)
        app.default(called)
        return app

    def run(self, given: dict[str, Any]) -> str:
        """Call the job with what was given; what is to be printed."""
        options = self.options()
        for name, other in self.exclusive:
            if name in given and other in given:
                msg = f"argument {options[other].flag or options[other].unset}: not allowed with argument {options[name].flag}"
                raise UsageError(msg)
        for name, value in given.items():
            if value == "none" and options[name].takes_none:
                given[name] = None
        return self.report(self.job(**self.gather(dict(given))), given)


def _of(source: Any) -> dict[str, Declared]:
    """Fields of a dataclass, or some parameters of a function: (function, names)."""
    if isinstance(source, tuple):
        function, names = source
        found = declared_in(function)
        return {name: found[name] for name in names}
    return declared_in(source)


def _parameter(option: Option) -> inspect.Parameter:
    from cyclopts import Parameter

    hint = option.declared.hint
    kind: Any = {NUMBER_OR_NAME: str}.get(hint.kind, hint.kind)
    if hint.choices:
        kind = Literal[hint.choices]
    how: dict[str, Any] = {"negative": (), "help": option.help}
    if hint.is_list:
        if hint.many is not None and hint.few == hint.many:
            kind = types.GenericAlias(tuple, (kind,) * hint.many)
        else:
            kind = types.GenericAlias(list, (kind,))
            how["consume_multiple"] = (hint.few, hint.many)
    names = tuple(filter(None, (option.flag, option.short))) or (option.unset,)  # the latter alone: given_to turns it round
    if option.flag and option.unset:
        how["negative"] = option.unset
    position = inspect.Parameter.POSITIONAL_ONLY if option.is_positional else inspect.Parameter.KEYWORD_ONLY
    default = inspect.Parameter.empty if option.required else option.declared.default
    annotation: Any = Annotated[kind if option.required else kind | None, Parameter(name=names, **how)]
    return inspect.Parameter(option.name, position, default=default, annotation=annotation)
