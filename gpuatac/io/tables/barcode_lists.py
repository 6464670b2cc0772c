"""Lists of barcodes to keep, as Cell Ranger, R, pandas and shells write them, and why a list matches nothing."""

from __future__ import annotations

import logging
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpuatac.errors import FileFormatError, InputError
from gpuatac.io.files.compression import read_bytes
from gpuatac.io.tables.delimited import looks_like_barcode, read_table

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from gpuatac.io.tables.delimited import Table

logger = logging.getLogger(__name__)
NAMED_BARCODE = ("barcode", "barcodes", "cell", "cells", "cell_id", "cellid", "cell_name", "cell_barcode", "cb")
HEADER_BARCODE = ("", *NAMED_BARCODE, "index", "x", "rownames", "row.names", "obs_names", "unnamed: 0")
_ALLOWED = "one barcode a line, or a table with a barcode in its first column or in one called barcode"
_REMEDY = "give a list of barcodes"
_CALLED = re.compile(r"is_(\w*_)?cell(_barcode)?", re.IGNORECASE)  # Cell Ranger: is__cell_barcode, is_cell, is_hg19_cell_barcode
_YES = ("1", "1.0", "true", "True", "TRUE")
_CORE = re.compile(r"[ACGTN]{8,}")
_BETWEEN = re.compile(r"[\s,;\"']+")
_COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


@dataclass(frozen=True)
class BarcodeList:
    """Barcodes to keep; one that is ``sample#barcode`` is the barcode of that sample.

    Attributes
    ----------
    names
        The barcodes as they are written.
    source
        What they came from, for messages.
    required
        Whether a file in which none of them is found is an error.
    """

    names: frozenset[str]
    source: str = "whitelist"
    required: bool = True

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def of_sample(self, sample: str | None) -> set[str]:
        """The barcodes as the fragments of ``sample`` may have them."""
        names = set(self.names)
        if sample is not None:
            start = f"{sample}#"
            names |= {name[len(start) :] for name in self.names if name.startswith(start)}
        return names


def read_whitelist(whitelist: str | Path | Iterable[str] | BarcodeList) -> BarcodeList:
    """Barcodes from a file or from any iterable of str.

    A file, plain or gzip, has one barcode a line, or several split at blanks or commas; or it is a table: quoted or not, with
    or without header and row names, whose barcodes are in the column of that name, else in the first. Of a table that tells
    cells from other barcodes (``singlecell.csv``, ``per_barcode_metrics.csv``: is__cell_barcode, is_cell) the cells are taken.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from gpuatac.io.tables.barcode_lists import read_whitelist
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "singlecell.csv"
    >>> _ = path.write_text("barcode,total,is__cell_barcode\\nNO_BARCODE,9,0\\nAAAC-1,7,1\\n")
    >>> sorted(read_whitelist(path))
    ['AAAC-1']
    """
    if isinstance(whitelist, BarcodeList):
        return whitelist
    if not isinstance(whitelist, str | Path):
        return BarcodeList(frozenset(str(name) for name in whitelist))
    path = Path(whitelist)
    names = _plain_list(path)
    if names is None:
        table = read_table(path, is_header=_is_header, allowed=_ALLOWED, remedy=_REMEDY, one_column=True)
        names = _of_table(table)
    if not names:
        msg = f"whitelist {path} holds no barcode; give one barcode per line."
        raise InputError(msg)
    return BarcodeList(frozenset(names), f"whitelist {path.name}")


def _plain_list(path: Path) -> set[str] | None:
    """The lines of a list with nothing but barcodes; None for anything else."""
    text = read_bytes(path)
    if text.startswith(b"#") or b"\n#" in text:
        text = b"\n".join(line for line in text.split(b"\n") if not line.startswith(b"#"))
    if b"\t" not in text and text.isascii():
        several = any(mark in text for mark in (b" ", b",", b";"))
        words = [word for word in _BETWEEN.split(text.decode()) if word] if several else []
        if words and all(looks_like_barcode(word) for word in words):
            return set(words)
    if not text.isascii() or any(mark in text for mark in (b"\t", b",", b";", b" ", b'"', b"'", b"\0")):
        return None
    words = text.decode().split()
    return set(words[1:] if words and words[0].lower() in HEADER_BARCODE else words)


def _is_header(names: list[str]) -> bool:
    return any(name.lower() in NAMED_BARCODE for name in names) or names[0].lower() in HEADER_BARCODE


def _of_table(table: Table) -> set[str]:
    rows = table.rows
    at = barcode_column(table)
    names = {name: row for row in rows if (name := _bare(row[at]))}
    odd = next((name for name in names if not name.isascii()), None)
    if odd is not None:
        line = next(n for n, row in zip(table.numbers, rows, strict=True) if _bare(row[at]) == odd)
        found = f"a barcode with letters outside ASCII ({odd!r})"
        raise FileFormatError(table.path, found, _ALLOWED, "correct or remove the line", line=line)
    called = [k for k, name in enumerate(table.columns or ()) if _CALLED.fullmatch(name)]
    if called:
        cells = {name for name, row in names.items() if any(row[k] in _YES for k in called)}
        told = (table.path.name, len(cells), len(names), (table.columns or [])[called[0]])
        logger.info("%s: %d of its %d barcodes are cells (%s) and are kept", *told)
        return cells
    return set(names)


def _bare(word: str | None) -> str:
    return (word or "").strip("'")


def barcode_column(table: Table) -> int:
    """Which column holds barcodes: the one called so, the first otherwise, or the second where the first counts the rows."""
    columns = [name.lower() for name in table.columns or ()]
    named = next((columns.index(name) for name in NAMED_BARCODE if name in columns), 0)
    if not columns or len(columns) < 2 or columns[0] in NAMED_BARCODE:
        return named
    counted = _counts_rows([row[0] for row in table.rows])
    if not named:
        return 1 if counted and columns[1] == "x" else 0  # R's name for a vector
    return 0 if columns[0] == "" and not counted else named


def _counts_rows(names: list[str | None]) -> bool:
    first = names[0] if names else None
    if first not in ("0", "1"):
        return False
    return names == [str(k) for k in range(int(first), int(first) + len(names))]


def why_nothing_matches(listed: Collection[str], seen: Collection[str], *, of_list: str, of_data: str) -> str:
    """Two names side by side, one of either, and what to do: for an error about a list that matches nothing.

    Names of the same cell are found by their run of bases; else by what stands before "-" and behind "#".

    Examples
    --------
    >>> from gpuatac.io.tables.barcode_lists import why_nothing_matches
    >>> print(why_nothing_matches(["AAACCCGG"], ["AAACCCGG-1"], of_list="list.txt", of_data="a.tsv"))
    list.txt has AAACCCGG, a.tsv has AAACCCGG-1 (1 of 1 agree but for that); append '-1' to each barcode of list.txt
    """
    by_core: dict[str, str] = {}
    for name in sorted(listed):
        by_core.setdefault(_core(name), name)
    pairs = [(by_core[core], name) for name in seen if (core := _core(name)) in by_core and core]
    if pairs:
        changes = Counter(_change(a, b) for a, b in pairs)
        change, n = min(changes.items(), key=lambda item: (-item[1], item[0]))
        a, b = min(pair for pair in pairs if _change(*pair) == change)
        return f"{of_list} has {a}, {of_data} has {b} ({n:,} of {len(listed):,} agree but for that); {_in_words(change, of_list)}"
    shown = f"{of_list} has {min(listed)}, {of_data} has {min(seen)}"
    turned = {_core(name).translate(_COMPLEMENT)[::-1] for name in listed if _CORE.search(name)}
    n = len(turned & {_core(name) for name in seen})
    if n:
        what = "reverse-complement the barcodes of"
        return f"{shown} ({n:,} of {len(listed):,} agree when reversed and complemented); {what} {of_list}"
    return f"{shown}; give the list of this file, with barcodes as they stand in it"


def _core(name: str) -> str:
    """The bases of a barcode in capitals; of another name what stands behind "#" and before "-" and a number."""
    bases = _CORE.search(name.upper())
    return bases[0] if bases is not None else re.sub(r"-\d+$", "", name.rpartition("#")[2])


def _change(a: str, b: str) -> tuple[str, str, str, str, bool]:
    """What stands before the core of ``a`` and of ``b``, what stands behind it, and whether the letters differ in case."""
    parts = []
    for name in (a, b):
        at, n = name.upper().index(_core(name).upper()), len(_core(name))
        parts.append((name[:at], name[at + n :], name[at : at + n]))
    (before, behind, own), (before_too, behind_too, other) = parts
    return before, before_too, behind, behind_too, own != other


def _in_words(change: tuple[str, str, str, str, bool], of_list: str) -> str:
    before, before_too, behind, behind_too, case = change
    steps = ["change the case of"] if case else []
    if before != before_too:
        steps += [f"remove {before!r} in front of"] if before else []
        steps += [f"put {before_too!r} in front of"] if before_too else []
    if behind != behind_too:
        steps += [f"remove {behind!r} behind"] if behind else []
        steps += [f"append {behind_too!r} to"] if behind_too else []
    return f"{', '.join(steps)} each barcode of {of_list}"
