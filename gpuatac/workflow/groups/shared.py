"""What jobs on groups have in common: cells and their groups from what is given, targets that may be written, and the result."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuatac import check
from gpuatac.backend import resolve
from gpuatac.errors import InputError
from gpuatac.memory import set_memory
from gpuatac.workflow.groups.inputs import Given, cells_and_groups

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpuatac.backend import Device


@dataclass(frozen=True)
class Written:
    """What a job on groups wrote."""

    files: dict[str, Path]  # by group
    n_cells: dict[str, int]
    n_peaks: dict[str, int] = field(default_factory=dict)
    consensus: Path | None = None
    n_consensus: int = 0
    matrix: Path | None = None


def read_cells(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    device: Device,
    memory: str | int | None,
    files: list[Path],
    groups: str | Path | None,
    genome: str | Path | None,
    bam_options: Mapping[str, Any] | None,
    **how: Any,
) -> tuple[Given, list[Path]]:
    """The cells and their groups, and the files that were read."""
    if memory is not None:
        set_memory(memory)
    for name in ("groupby", "replicate"):
        _refuse_other_than(str, name, how.get(name), "the name of one column")
    _refuse_other_than(str | Path, "groups", groups, "the path of a table")
    if Path(out).exists() and not Path(out).is_dir():
        msg = f"out {out} is a file; allowed: a folder, made when it is not there; choose another name."
        raise InputError(msg)
    paths = input_paths(inputs)
    given = cells_and_groups(
        paths,
        groups=None if groups is None else Path(groups),
        genome=None if genome is None else str(genome),
        bam=dict(bam_options or {}),
        device=resolve(device).name,
        **how,
    )
    return given, [*paths, *files, *([Path(groups)] if groups is not None else [])]


def _refuse_other_than(kind: Any, name: str, value: Any, allowed: str) -> None:
    if value is not None and not isinstance(value, kind):
        msg = f"{name} must be {allowed}, got {value!r:.60} ({type(value).__name__}); pass it as text, or leave it out."
        raise InputError(msg)


def files_named(options: Mapping[str, Any], which: Sequence[str]) -> list[Path]:
    """The files named in the options, which must be there."""
    found = []
    for name in which:
        value = options.get(name)
        if isinstance(value, str | Path):
            check.existing_file(Path(value), name)
            found.append(Path(value))
    return found


def check_targets(targets: list[Path], inputs: list[Path], *, force: bool) -> None:
    """Raise when a file may not be replaced, would be written twice, or is an input."""
    read = {path.resolve() for path in inputs}
    for path in targets:
        if path.resolve() in read:
            msg = f"{path} is an input and would be replaced; allowed: outputs beside the inputs; choose another folder (out, --out)."
            raise InputError(msg)
        check.may_write(path, force=force)
    folded = [str(path).casefold() for path in targets]  # one file on a disk that does not tell case
    twice = next((path for path, name in zip(targets, folded, strict=True) if folded.count(name) > 1), None)
    if twice is not None:
        msg = f"{twice.name} would be written twice; allowed: groups of other names; rename the group or pass prefix (--prefix)."
        raise InputError(msg)


def input_paths(inputs: str | Path | Sequence[str | Path]) -> list[Path]:
    """One path or several, as a list."""
    return [Path(path) for path in ([inputs] if isinstance(inputs, str | Path) else inputs)]


def refuse_unknown(options: Mapping[str, Any], allowed: Sequence[str]) -> None:
    """Raise for an option that no verb takes."""
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        msg = f"unknown option {unknown[0]!r}; allowed: {', '.join(allowed)}."
        raise InputError(msg)
