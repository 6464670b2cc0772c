"""Chromosome sizes from chrom.sizes, .fai and FASTA files, and the one way to put a Genome together."""

from __future__ import annotations

import gzip
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gpuatac import check
from gpuatac.core.counting.regions import coordinates
from gpuatac.errors import FileFormatError, InputError
from gpuatac.genome import BUILTIN, Genome
from gpuatac.io.files import compression
from gpuatac.io.genome.bed import regions_frame
from gpuatac.io.genome.bed_rows import numbered_lines, whole_numbers
from gpuatac.io.genome.regions import MAX_COORDINATE

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

logger = logging.getLogger(__name__)
_SUFFIXES = (".gz", ".bgz", ".chrom.sizes", ".sizes", ".fai", ".fasta", ".fa", ".fna", ".txt", ".tsv")
_CHUNK = 16 << 20
NEWLINE, HEADER = 10, ord(">")


def read_genome(
    genome: str | Path | Genome,
    *,
    genes: str | Path | pd.DataFrame | None = None,
    blacklist: Any = None,
    contigs: Literal["main", "all"] = "main",
) -> Genome:
    """Build a Genome from a built-in name or the user's files.

    Parameters
    ----------
    genome
        One of "hg38", "hg19", "mm10", "mm39"; or a file: chrom.sizes (name, size), a FASTA index (.fai), or a
        FASTA (plain or gzip), whose .fai beside it is used when there is one and whose sequences are measured
        otherwise; or a Genome, which is completed.
    genes
        GTF, GFF3, genePred or BED of the transcripts, see :func:`gpuatac.io.genome.transcripts.read_transcripts`.
    blacklist
        Regions as for :func:`gpuatac.io.genome.bed.regions_frame`, usually a BED file.
    contigs
        "main" keeps chromosomes 1-99, X, Y and M (every contig when none has such a name); "all" keeps all.

    Returns
    -------
    Genome, chromosomes in byte order of their names; sizes in bp.

    Raises
    ------
    FileFormatError
        With the line number: fewer than two columns, a size that is no whole number in [1, 2^31 - 1], a
        chromosome given twice.
    MissingFileError
        When ``genome`` is neither a built-in name nor a file.

    Source: samtools faidx(5) for .fai. Cost: milliseconds; a 3 GB FASTA without .fai takes some seconds.

    Examples
    --------
    >>> from gpuatac.io.genome.sizes import read_genome
    >>> read_genome("mm10").chrom_sizes["chr19"]
    61431566
    """
    check.one_of("contigs", contigs, ("main", "all"))
    if isinstance(genome, Genome):
        made = genome.select_contigs(contigs)
    elif isinstance(genome, str) and genome in BUILTIN and not Path(genome).is_file():
        made = Genome.builtin(genome, contigs=contigs)
    else:
        if not isinstance(genome, str | Path):
            msg = (
                f"genome must be a name ({', '.join(BUILTIN)}), the path of a chrom.sizes, .fai or FASTA file, or a Genome, got "
                f"{genome!r} ({type(genome).__name__}); pass one of them."
            )
            raise InputError(msg)
        path = Path(genome)
        if not path.exists():
            known = ", ".join(BUILTIN)
            check.existing_file(path, f"genome (neither one of {known} nor a file):")
        made = Genome(_stem(path), read_sizes(path), contigs="given").select_contigs(contigs)
    if genes is not None:
        from gpuatac.io.genome.annotation import transcripts_of

        made = replace(made, transcripts=transcripts_of(genes))
    if blacklist is not None:
        frame = regions_frame(blacklist, made, may_be_empty=True)[["chrom", "start", "end"]]
        made = replace(made, blacklist=frame)
        _check_known(made, "blacklist", frame)
        coordinates(frame, made, what="blacklisted regions")
        frame.attrs["told"] = made.name
    if made.transcripts is not None:
        _check_known(made, "genes", made.transcripts)
    return made


def _check_known(genome: Genome, role: str, frame: pd.DataFrame | None) -> None:
    names = [] if frame is None else list(dict.fromkeys(frame["chrom"].astype(str)))
    unknown = [n for n in names if n not in genome.code]
    if names and len(unknown) == len(names):
        some = ", ".join(unknown[:5])
        msg = (
            f"{len(unknown)} of {len(names)} chromosomes in {role} are absent from genome {genome.name} "
            f"({some}; the genome has {', '.join(genome.names[:3])}, ...); rename them or "
            "pass another genome."
        )
        raise InputError(msg)


def _stem(path: Path) -> str:
    name = path.name
    while any(name.endswith(s) and len(name) > len(s) for s in _SUFFIXES):
        name = name[: -max(len(s) for s in _SUFFIXES if name.endswith(s))]
    return name


def read_sizes(path: Path) -> dict[str, int]:
    """Size in bp by name, in file order, from a chrom.sizes, .fai or FASTA file (told apart by content)."""
    check.existing_file(path, "genome file")
    if _is_fasta(path):
        index = path.with_name(path.name + ".fai")
        if index.exists():
            logger.info("chromosome sizes from %s", index)
            return read_sizes(index)
        return fasta_sizes(path)
    rows = [(n, line.split()) for n, line in numbered_lines(compression.read_bytes(path))]
    sizes: dict[str, int] = {}
    for line, fields in rows:
        if len(fields) < 2:
            raise FileFormatError(path, "one column", "a name and a size", "correct or remove the line", line=line)
        _add(path, sizes, fields[0].decode(errors="replace"), fields[1], line)
    if not sizes:
        raise FileFormatError(path, "no chromosomes", "at least one line of name and size", "check the file")
    return sizes


def _add(path: Path, sizes: dict[str, int], name: str, text: bytes, line: int) -> None:
    size = whole_numbers([text])
    if size is None or not 1 <= size[0] <= MAX_COORDINATE:
        found = f"size {text.decode(errors='replace')!r} of {name}"
        allowed = f"a whole number in [1, {MAX_COORDINATE}]"
        raise FileFormatError(path, found, allowed, "correct the size", line=line)
    if name in sizes:
        remedy = "remove one of the lines"
        raise FileFormatError(path, f"chromosome {name} a second time", "each name once", remedy, line=line)
    sizes[name] = int(size[0])


def _is_fasta(path: Path) -> bool:
    return next(_chunks(path), b"").startswith(b">")


def _open(path: Path) -> Any:
    if compression.detect(path) == "plain":
        return path.open("rb")
    from isal import igzip

    return igzip.open(path, "rb")  # type: ignore[no-untyped-call]


def _chunks(path: Path) -> Iterator[bytes]:
    from isal import isal_zlib

    try:
        with _open(path) as handle:
            chunk = handle.read(_CHUNK).removeprefix(b"\xef\xbb\xbf")
            while chunk:
                yield chunk
                chunk = handle.read(_CHUNK)
    except (EOFError, gzip.BadGzipFile, isal_zlib.error) as err:  # type: ignore[misc]
        allowed, remedy = "a complete gzip file", "fetch the file again"
        raise FileFormatError(path, f"gzip data that end early or do not inflate ({err})", allowed, remedy) from err


def fasta_sizes(path: Path) -> dict[str, int]:
    """Length in bp of every sequence of a FASTA file; the name is the first word after ``>``.

    Read in pieces of 16 MB, so memory does not grow with the file.
    """
    sizes: dict[str, int] = {}
    name, length, header_line, line, rest = "", 0, 1, 1, b""

    def close() -> None:
        if name:
            _add(path, sizes, name, str(length).encode(), header_line)

    for chunk in _chunks(path):
        text = rest + chunk
        cut = text.rfind(b"\n") + 1
        rest = text[cut:]
        for piece in _by_record(text[:cut]):
            if piece[:1] == b">":
                close()
                name, length, header_line = _name(path, piece, line), 0, line
                line += 1
            else:
                letters, newlines = _letters(piece)
                length, line = length + letters, line + newlines
    if rest[:1] == b">":
        close()
        name, length, header_line = _name(path, rest, line), 0, line
    else:
        length += _letters(rest)[0]
    close()
    return sizes


def _name(path: Path, header: bytes, line: int) -> str:
    words = header[1:].split()
    if not words:
        raise FileFormatError(path, "a header without a name", "'>' and a name", "name the sequence", line=line)
    return words[0].decode(errors="replace")


def _letters(piece: bytes) -> tuple[int, int]:
    """(bases, newlines) in a run of sequence lines."""
    newlines = piece.count(b"\n")
    return len(piece) - newlines - piece.count(b"\r") - piece.count(b" ") - piece.count(b"\t"), newlines


def _by_record(text: bytes) -> Iterator[bytes]:
    """Header lines and the runs of sequence lines between them, in order; ``text`` holds whole lines."""
    codes = np.frombuffer(text, np.uint8)
    marks = np.flatnonzero(codes == HEADER)
    marks = marks[(marks == 0) | (codes[marks - 1] == NEWLINE)]
    at = 0
    for mark in marks.tolist():
        if mark > at:
            yield text[at:mark]
        at = text.index(b"\n", mark) + 1
        yield text[mark:at]
    if at < len(text):
        yield text[at:]
