"""The files of an export: their names, their formats, and pieces that arrive in any order written in one."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from gpuatac import check
from gpuatac.errors import InputError
from gpuatac.io.files.atomic import replacing
from gpuatac.io.tracks.text_tracks import LEVELS
from gpuatac.threads import available

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

BIGWIG_ENDS = (".bw", ".bigwig")
BEDGRAPH_ENDS = (".bedgraph", ".bg", ".bdg")
COMPRESSED = {".gz": "gzip", ".zst": "zstandard"}
FORMATS = ("bedgraph", "bigwig")
LONGEST = 120  # bytes of a group in a file name: with suffix and temporary ending it stays below 255
_DEVICES = re.compile(r"(?i:con|prn|aux|nul|com[1-9]|lpt[1-9])")


def n_threads_of(n_jobs: int) -> int:
    """Threads of ``n_jobs``: 0 and below for every core."""
    n_jobs = check.integer("n_jobs", n_jobs, -(2**31))
    return n_jobs if n_jobs > 0 else available()


def compression_of(suffix: str, compression: Any) -> Any:
    """The compression given, or the one that ``suffix`` tells."""
    told = next((kind for end, kind in COMPRESSED.items() if suffix.lower().endswith(end)), None)
    if compression is None:
        return told
    check.one_of("compression", compression, LEVELS)
    if told not in (None, compression):
        refuse_contradiction(suffix, told, "compression", compression)
    return compression


def suffix_of(output_format: Any, compression: Any) -> str:
    """The end of the names of tracks that ``output_format`` and ``compression`` ask."""
    if output_format != "bedgraph":
        return BIGWIG_ENDS[0]
    return BEDGRAPH_ENDS[0] + next((end for end, kind in COMPRESSED.items() if kind == compression), "")


def format_of(suffix: str, output_format: Any) -> str:
    """The format given, or the one that ``suffix`` tells; raises where the two contradict each other."""
    told = _format_told(suffix.lower())
    if output_format is not None:
        check.one_of("output_format", output_format, FORMATS)
        if told not in (None, output_format):
            refuse_contradiction(suffix, told, "output_format", output_format)
        return str(output_format)
    if told is not None:
        return told
    msg = (
        f"suffix {suffix!r} tells no format; end it with {', '.join((*BIGWIG_ENDS, *BEDGRAPH_ENDS))} (the last three also with "
        ".gz or .zst), or pass output_format."
    )
    raise InputError(msg)


def _format_told(name: str) -> str | None:
    if name.endswith(BIGWIG_ENDS):
        return "bigwig"
    bare = next((name.removesuffix(end) for end in COMPRESSED if name.endswith(end)), name)
    return "bedgraph" if bare.endswith(BEDGRAPH_ENDS) else None


def refuse_contradiction(suffix: str | None, told: Any, name: str, given: Any) -> None:
    """Raise for a suffix that says ``told`` where the option ``name`` is ``given``."""
    msg = (
        f"suffix {suffix!r} says {told}, and {name} is {given!r}; allowed: a suffix that says the same or nothing of it; leave one of "
        "them out."
    )
    raise InputError(msg)


def level_of(compression: Any, level: int | None) -> int | None:
    """The checked compression level."""
    if level is None:
        return None
    if compression is None:
        msg = f"compression_level is {level!r}, but nothing is compressed; pass compression or leave it out."
        raise InputError(msg)
    return check.integer("compression_level", level, *LEVELS[compression])


def file_names(groups: Sequence[str], prefix: str, suffix: str) -> list[str]:
    """One file name for each group, which every disk takes: ``_safe`` of its name, repeats with a number.

    Names count as repeats where a disk may hold them for one: those that differ only in case or in how accents are written.
    """
    safe = list(map(_safe, groups))
    owner: dict[str, int] = {}
    for i, (name, group) in enumerate(zip(safe, groups, strict=True)):
        if name == group:
            owner.setdefault(_folded(name), i)
    out = []
    for i, name in enumerate(safe):
        number, free = 2, name
        while owner.setdefault(_folded(free), i) != i:
            free, number = f"{name}_{number}", number + 1
        out.append(f"{prefix}{free}{suffix}")
    return out


def _safe(group: str) -> str:
    """The name of a group without what some file system refuses or hides, and not longer than 120 bytes.

    Characters that no name may have become "_"; so does a dot in front, and a name that Windows keeps for devices gets one.
    """
    name = "".join("_" if c in '/\\<>:"|?*' or not (c.isprintable() or c == "\u200d") else c for c in group)
    name = "_" + name[1:] if name.startswith(".") else name
    name = f"_{name}" if _DEVICES.fullmatch(name.partition(".")[0].rstrip()) else name
    return name.encode()[:LONGEST].decode(errors="ignore") or "_"


def _folded(name: str) -> str:
    """Equal for names that a disk may hold for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def targets(out_dir: str | Path, names: Sequence[str]) -> list[Path]:
    """Where the files go; raises when a folder stands in the place of one."""
    paths = [Path(out_dir) / name for name in names]
    for path in paths:
        if path.is_dir():
            msg = f"{path} is a folder; choose another out_dir, prefix or suffix."
            raise InputError(msg)
    return paths


def partials(stack: ExitStack, paths: Sequence[Path]) -> list[Path]:
    """A temporary path for each target; all take their places when ``stack`` ends well, none when it does not."""
    return [stack.enter_context(replacing(path, force=True)) for path in paths]


class InOrder:
    """Hands pieces to ``writer.append`` by number, whichever thread brings them first."""

    def __init__(self, writer: Any) -> None:
        self.writer = writer
        self._lock = Lock()
        self._waiting: dict[int, Any] = {}
        self._next = 0
        self._busy = False

    def put(self, number: int, piece: Any) -> None:
        """Take piece ``number`` (0, 1, ...) and write what can be written."""
        with self._lock:
            self._waiting[number] = piece
            if self._busy:
                return
            self._busy = True
        while True:
            with self._lock:
                if self._next not in self._waiting:
                    self._busy = False
                    return
                ready = self._waiting.pop(self._next)
                self._next += 1
            self.writer.append(ready)

    def discard(self) -> None:
        """Drop what still waits, after a failure."""
        for piece in self._waiting.values():
            if hasattr(piece, "close"):
                piece.close()
        self._waiting.clear()
