"""Chromosome sizes, transcripts and blacklist of one assembly, with the chromosome-name rules in one place."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from gpuatac.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd

BUILTIN = ("hg38", "hg19", "mm10", "mm39")
MITO_NAMES = ("chrM", "M", "chrMT", "MT")
SEX_NAMES_Y = ("chrY", "Y")
_MAIN = re.compile(r"^(?:chr)?(?:[1-9][0-9]?|X|Y|M|MT)$")


def other_spelling(name: str) -> tuple[str, ...]:
    """The names another source may give the same chromosome (chr1/1, chrM/MT/M/chrMT)."""
    if name in MITO_NAMES:
        return tuple(m for m in MITO_NAMES if m != name)
    return (name[3:],) if name.startswith("chr") else (f"chr{name}",)


@dataclass(frozen=True)
class Genome:
    """One assembly: chromosome sizes and, where given, transcripts and blacklisted regions.

    Chromosomes are kept in byte order of their names (chr1, chr10, chr11, ..., as SnapATAC2 and samtools keep
    them), whatever the order in the source; codes and matrix columns follow that order.

    Attributes
    ----------
    name
        Assembly name, or the stem of the file the sizes came from.
    chrom_sizes
        Size in bp by chromosome name.
    transcripts
        None, or a frame with columns ``chrom`` (str), ``start`` (int64, 0-based), ``end`` (int64, exclusive),
        ``strand`` ('+' or '-'), ``transcript_id``, ``gene_id``, ``gene_name`` in the order of the source.
    blacklist
        None, or a frame with columns ``chrom``, ``start``, ``end`` (0-based half-open).
    contigs
        "main": its primary chromosomes alone, of whatever source; "all": every contig of a built-in assembly; "given": every
        contig of a file or a mapping, as it was asked for or as none of them has the name of a primary chromosome.

    Examples
    --------
    >>> from gpuatac import Genome
    >>> genome = Genome.builtin("hg38")
    >>> len(genome.chrom_sizes), genome.chrom_sizes["chrM"]
    (25, 16569)
    """

    name: str
    chrom_sizes: Mapping[str, int]
    transcripts: pd.DataFrame | None = field(default=None, compare=False, repr=False)
    blacklist: pd.DataFrame | None = field(default=None, compare=False, repr=False)
    contigs: str = "given"

    def __post_init__(self) -> None:
        if not self.chrom_sizes:
            msg = f"genome {self.name} has no chromosomes; give a chrom.sizes file with at least one line."
            raise InputError(msg)
        bad = [f"{c}={s}" for c, s in self.chrom_sizes.items() if not 0 < s < 2**31]
        if bad:
            msg = f"chromosome sizes must lie in [1, 2147483647] bp, got {', '.join(bad[:5])}; correct the sizes."
            raise InputError(msg)
        ordered = dict(sorted(self.chrom_sizes.items(), key=lambda kv: kv[0].encode()))
        object.__setattr__(self, "chrom_sizes", ordered)

    @classmethod
    def builtin(cls, name: str, *, contigs: str = "main") -> Genome:
        """Sizes of a built-in assembly: "main" has the primary chromosomes with X, Y and M, "all" every contig."""
        if name not in BUILTIN:
            msg = (
                f"genome must be one of {', '.join(BUILTIN)}, got {name!r}; read another from its chrom.sizes, .fai or FASTA file by "
                "io.read_genome."
            )
            raise InputError(msg)
        text = resources.files("gpuatac").joinpath("data", f"{name}.chrom.sizes").read_text()
        rows = (line.split("\t") for line in text.splitlines() if line and not line.startswith("#"))
        genome = cls(name, {chrom: int(size) for chrom, size in rows}, contigs="all")
        return genome.select_contigs(contigs)

    def select_contigs(self, contigs: str) -> Genome:
        """The same genome with only its primary chromosomes ("main"; as it is where no name is one), or as it is ("all")."""
        if contigs not in ("main", "all"):
            msg = f"contigs must be 'main' or 'all', got {contigs!r}."
            raise InputError(msg)
        if contigs == "all":
            return self
        sizes = {c: s for c, s in self.chrom_sizes.items() if _MAIN.match(c)}
        if not sizes:  # an assembly with names of its own: every contig is a main one
            return self
        return replace(self, chrom_sizes=sizes, contigs="main")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Chromosome names in code order."""
        return tuple(self.chrom_sizes)

    @cached_property
    def sizes(self) -> np.ndarray:
        """Sizes in bp, int64, in code order."""
        return np.fromiter(self.chrom_sizes.values(), np.int64, len(self.chrom_sizes))

    @cached_property
    def code(self) -> dict[str, int]:
        """Code by name; other spellings (chr1/1, chrM/MT) are included where they are unambiguous."""
        codes = {name: i for i, name in enumerate(self.names)}
        for i, name in enumerate(self.names):
            for alias in other_spelling(name):
                codes.setdefault(alias, i)
        return codes

    def codes_of(self, chroms: Iterable[str]) -> np.ndarray:
        """Codes (int32) of the names, -1 for those that are not in the genome."""
        return np.fromiter((self.code.get(c, -1) for c in chroms), np.int32)

    def mito_codes(self, names: Iterable[str] = MITO_NAMES) -> list[int]:
        """Codes of the mitochondrial chromosomes."""
        wanted = set(names)
        return [i for i, c in enumerate(self.names) if c in wanted]

    def with_transcripts(self, transcripts: pd.DataFrame) -> Genome:
        """A copy that carries ``transcripts``."""
        return replace(self, transcripts=transcripts)

    def with_blacklist(self, blacklist: pd.DataFrame) -> Genome:
        """A copy that carries ``blacklist``."""
        return replace(self, blacklist=blacklist)
