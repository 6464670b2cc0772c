"""Gene models (GTF, GFF3, genePred, BED) to one frame of transcripts, and its transcription start sites."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from gpuatac.errors import FileFormatError, InputError
from gpuatac.genome import MITO_NAMES
from gpuatac.io.files.compression import is_heading, read_bytes
from gpuatac.io.genome.bed_rows import checked_intervals, numbered_lines, whole_numbers
from gpuatac.io.genome.gff import FORMATS, Rows, gff3_rows, gtf_rows, is_gff3

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpuatac.genome import Genome

logger = logging.getLogger(__name__)

COLUMNS = ("chrom", "start", "end", "strand", "transcript_id", "gene_id", "gene_name")


class _Layout(NamedTuple):
    """Where a format keeps its columns, and what its first base is called."""

    chrom: int
    start: int
    end: int
    strand: int
    base: int


_GFF = _Layout(chrom=0, start=3, end=4, strand=6, base=1)
_BED = _Layout(chrom=0, start=1, end=2, strand=5, base=0)
_GENE_PRED = (
    _Layout(chrom=1, start=3, end=4, strand=2, base=0),
    _Layout(chrom=2, start=4, end=5, strand=3, base=0),
)


def read_transcripts(path: str | Path) -> pd.DataFrame:
    """Read the transcripts of a gene annotation; the format is found by content.

    Parameters
    ----------
    path
        Plain, gzip or bgzip file in one of these formats. **GTF**: rows of feature ``transcript`` or ``mRNA``
        (and other RNA kinds); without any, the ``gene`` rows; without those, the exons of each transcript_id
        are spanned, or its coding parts. **GFF3**: ``mRNA``, ``transcript``, ``lnc_RNA`` and like rows, except those whose
        Parent is itself a transcript; without any, the gene rows; without those, exons by Parent. **genePred**,
        genePredExt, refGene, refFlat: with or without the bin column. **BED6/BED12**: the name is transcript, gene and gene name.

    Returns
    -------
    DataFrame in file order with ``chrom`` (str), ``start`` (int64, 0-based), ``end`` (int64, exclusive),
    ``strand`` ("+" or "-"), ``transcript_id``, ``gene_id``, ``gene_name`` (str). A missing gene_name is the
    gene_id, a missing gene_id that of the transcript's exons (BRAKER) or the transcript_id. In GTF gene_name is the first of
    gene_name, gene_symbol (FlyBase) and gene (RefSeq). In GFF3 it is the first of: gene_name, gene_symbol or gene of the
    row; gene_name, gene_symbol, Name or gene of its parent; Name of the row. Rows whose strand is ``.`` or ``?`` have no
    TSS: they are dropped, and a warning is logged that says how many.

    Raises
    ------
    FileFormatError
        With the line number: too few columns, coordinates that are no whole numbers, start > end, another
        strand; or, without a line, when no row describes a transcript.

    Source: Ensembl GTF2.2, Sequence Ontology GFF3 1.26, UCSC genePred. Cost: about 2 s for a 200 MB GTF.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from gpuatac.io.genome.transcripts import read_transcripts
    >>> gtf = pathlib.Path(tempfile.mkdtemp()) / "a.gtf"
    >>> _ = gtf.write_text('chr1\\tx\\ttranscript\\t11\\t20\\t.\\t-\\t.\\tgene_id "g"; transcript_id "t";\\n')
    >>> read_transcripts(gtf).values.tolist()
    [['chr1', 10, 20, '-', 't', 'g', 'g']]
    """
    path = Path(path)
    text = read_bytes(path)
    first = first_row(path, text)
    if is_gff(first):
        rows = gff3_rows(path, text) if is_gff3(text) else gtf_rows(path, text)
        frame = _frame(path, rows, _GFF)
    else:
        frame = _frame(path, *_table_rows(path, text, first))
    without = ~frame["strand"].isin(["+", "-"]).to_numpy()
    if without.any():
        logger.warning("%s: %d of %d transcripts have no strand and are dropped", path, without.sum(), len(frame))
        frame = frame[~without].reset_index(drop=True)
    if frame.empty:
        raise FileFormatError(path, "no transcript with a strand", FORMATS, "check the annotation")
    frame.attrs["source"] = str(path.resolve())  # exons are read from there when they are drawn (io.genome.gene_models)
    return frame


def first_row(path: Path, text: bytes) -> list[bytes]:
    """The fields of the first row that is no comment or track line; refused where it is of no known format."""
    for number, line in enumerate(io.BytesIO(text), 1):
        if line.strip() and not line.startswith(b"#") and not is_heading(line):
            fields = line.rstrip(b"\r\n").split(b"\t")
            if is_gff(fields) or is_bed_like(fields) or gene_pred_offset(fields) is not None:
                return fields
            found, remedy = f"{len(fields)} column(s) of no known kind", "give the annotation in one of these"
            raise FileFormatError(path, found, FORMATS, remedy, line=number)
    raise FileFormatError(path, "no rows", FORMATS, "check the annotation")


def is_gff(fields: list[bytes]) -> bool:
    """Whether a row looks like GTF or GFF3."""
    if not 8 <= len(fields) <= 9 or is_bed_like(fields):  # genePred and BED12 have more columns
        return False
    return fields[6] in (b"+", b"-", b".", b"?") or whole_numbers(fields[3:5]) is not None


def is_bed_like(fields: list[bytes]) -> bool:
    """Whether a row looks like BED with a strand."""
    return len(fields) >= 6 and fields[5] in (b"+", b"-", b".") and whole_numbers(fields[1:3]) is not None


def gene_pred_offset(fields: list[bytes]) -> int | None:
    """0 where the strand is in the third column, 1 where a bin or gene stands before, None if neither."""
    for offset in (0, 1):
        if len(fields) >= 10 + offset and fields[2 + offset] in (b"+", b"-"):
            return offset
    return None


def _frame(path: Path, rows: Rows, at: _Layout) -> pd.DataFrame:
    start, end = [f[at.start] for f in rows.field], [f[at.end] for f in rows.field]
    low, high = checked_intervals(path, rows.number, start, end, base=at.base)
    strands = [f[at.strand].strip() for f in rows.field]
    for number, s in zip(rows.number, strands, strict=True):
        if s not in (b"+", b"-", b".", b"?"):
            found = f"strand {s.decode(errors='replace')!r}"
            raise FileFormatError(path, found, "+, -, . or ?", "correct or remove the line", line=number)
    gene_id = [g or t for g, t in zip(rows.gene_id, rows.transcript_id, strict=True)]
    columns = {
        "chrom": [f[at.chrom].decode(errors="replace") for f in rows.field],
        "start": low,
        "end": high,
        "strand": [s.decode() for s in strands],
        "transcript_id": [t or g for t, g in zip(rows.transcript_id, gene_id, strict=True)],
        "gene_id": gene_id,
        "gene_name": [n or g for n, g in zip(rows.gene_name, gene_id, strict=True)],
    }
    return pd.DataFrame(columns)


def _table_rows(path: Path, text: bytes, first: list[bytes]) -> tuple[Rows, _Layout]:
    """Rows of a genePred or BED table and where its columns are."""
    lines = [(n, li) for n, li in numbered_lines(text) if not is_heading(li)]
    numbers, fields = [n for n, _ in lines], [li.split(b"\t") for _, li in lines]
    offset = None if is_bed_like(first) else gene_pred_offset(first)
    wanted = 6 if offset is None else 10 + offset
    for number, f in zip(numbers, fields, strict=True):
        if len(f) < wanted:
            found, allowed = f"{len(f)} column(s)", f"at least {wanted}"
            raise FileFormatError(path, found, allowed, "correct or remove the line", line=number)

    def column(at: int) -> list[str]:
        return [f[at].decode(errors="replace").strip() if at < len(f) else "" for f in fields]

    if offset is None:
        name = column(3)
        return Rows(numbers, fields, name, name, name), _BED
    name = column(offset)
    if offset == 1 and whole_numbers(first[:1]) is None:  # refFlat: the gene name stands first
        gene = column(0)
    elif len(first) >= 15 + offset:  # genePredExt: name2
        gene = column(11 + offset)
    else:
        gene = name
    return Rows(numbers, fields, name, gene, gene), _GENE_PRED[offset]


def tss_table(
    transcripts: pd.DataFrame,
    genome: Genome,
    *,
    exclude: Iterable[str] = MITO_NAMES,
    source: str = "the annotation",
) -> pd.DataFrame:
    """The distinct transcription start sites of ``transcripts`` on ``genome``.

    Parameters
    ----------
    transcripts
        Frame as :func:`read_transcripts` gives; ``chrom``, ``start``, ``end`` and ``strand`` are read.
    genome
        Names are matched by ``genome.code``, which knows chr1/1 and chrM/MT.
    exclude, source
        Chromosomes to leave out, in any spelling; what the transcripts came from, for messages.

    Returns
    -------
    DataFrame sorted by (chrom_code, pos, reverse), without duplicates: ``chrom_code`` (int32), ``pos``
    (int64, 0-based: start on +, end - 1 on -), ``reverse`` (bool). Sites beyond the end of their chromosome
    are left out with a warning.

    Raises
    ------
    InputError
        When no chromosome of the annotation is in the genome, or no site is left.

    Source: SnapATAC2's tsse (unique chrom, position, strand). Cost: about 0.1 s for 250,000 transcripts.

    Examples
    --------
    >>> import pandas as pd
    >>> from gpuatac.genome import Genome
    >>> from gpuatac.io.genome.transcripts import tss_table
    >>> genes = pd.DataFrame({"chrom": ["1", "1"], "start": [10, 10], "end": [20, 30], "strand": ["+", "-"]})
    >>> tss_table(genes, Genome("toy", {"chr1": 100})).values.tolist()
    [[0, 10, False], [0, 29, True]]
    """
    names = transcripts["chrom"].astype("category")
    known = genome.codes_of(names.cat.categories)
    used = np.unique(names.cat.codes.to_numpy())
    absent = [str(names.cat.categories[i]) for i in used if i < 0 or known[i] < 0]
    if used.size == 0 or len(absent) == used.size:
        msg = (
            f"{len(absent)} of {used.size} chromosomes in {source} are absent from genome {genome.name} "
            f"({', '.join(absent[:5]) or 'it has no rows'}; the genome has {', '.join(genome.names[:3])}); "
            "rename them or pass the annotation of this genome."
        )
        raise InputError(msg)
    if absent:
        logger.info(
            "%d of %d chromosomes in %s are absent from genome %s (%s%s)",
            len(absent),
            used.size,
            source,
            genome.name,
            ", ".join(absent[:5]),
            ", ..." if len(absent) > 5 else "",
        )
    code = known[names.cat.codes.to_numpy()]
    reverse = transcripts["strand"].to_numpy() == "-"
    pos = np.where(reverse, transcripts["end"].to_numpy(np.int64) - 1, transcripts["start"].to_numpy(np.int64))
    left_out = {genome.code[n] for n in exclude if n in genome.code}
    keep = (code >= 0) & ~np.isin(code, list(left_out))
    outside = keep & ((pos < 0) | (pos >= genome.sizes[np.maximum(code, 0)]))
    if outside.any():
        logger.warning(
            "%d TSSs of %s lie outside their chromosome in genome %s and are left out",
            outside.sum(),
            source,
            genome.name,
        )
        keep &= ~outside
    if not keep.any():
        msg = f"no TSS of {source} lies on genome {genome.name} outside {', '.join(exclude)}; check the annotation."
        raise InputError(msg)
    table = pd.DataFrame({"chrom_code": code[keep].astype(np.int32), "pos": pos[keep], "reverse": reverse[keep]})
    return table.drop_duplicates().sort_values(["chrom_code", "pos", "reverse"], ignore_index=True)
