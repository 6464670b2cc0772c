"""Gene models (GTF, GFF3, genePred, BED) to one frame of transcripts, and its transcription start sites."""

from __future__ import annotations

import io
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

import numpy as np
import pandas as pd

from gpuatac.errors import FileFormatError, InputError
from gpuatac.genome import MITO_NAMES
from gpuatac.io.genome.bed import checked_intervals, numbered_lines, read_bytes, whole_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gpuatac.genome import Genome

logger = logging.getLogger(__name__)

COLUMNS = ("chrom", "start", "end", "strand", "transcript_id", "gene_id", "gene_name")
NEWLINE, TAB, HASH = 10, 9, ord("#")
GENE_KIND = re.compile(rb"(^|_)gene$|^pseudogene$")
TRANSCRIPT_KIND = re.compile(rb"^(transcript|mRNA|[A-Za-z_]*RNA|.*_transcript|.*_gene_segment)$")
_NAMES_GFF3 = frozenset(("ID", "Parent", "Name", "gene", "gene_id", "gene_name", "transcript_id"))
_ATTRIBUTE_GFF3 = re.compile(rb"^\s*[^\s=;\"]+=")
_FORMATS = "GTF, GFF3, genePred/refGene or BED with at least six columns, split at tabs"


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


class _Rows(NamedTuple):
    """Rows of a GTF or GFF3 that describe transcripts, with the attributes that name them."""

    number: list[int]  # 1-based lines
    field: list[list[bytes]]  # the nine columns
    transcript_id: list[str]
    gene_id: list[str]
    gene_name: list[str]


def read_transcripts(path: str | Path) -> pd.DataFrame:
    """Read the transcripts of a gene annotation; the format is found by content.

    Parameters
    ----------
    path
        Plain, gzip or bgzip file in one of these formats. **GTF**: rows of feature ``transcript`` or ``mRNA``
        (and other RNA kinds); without any, the ``gene`` rows; without those, the exons of each transcript_id
        are spanned. **GFF3**: ``mRNA``, ``transcript``, ``lnc_RNA`` and like rows, except those whose Parent
        is itself a transcript; without any, the gene rows. **genePred**, genePredExt, refGene, refFlat: with
        or without the bin column. **BED6/BED12**: the name is transcript, gene and gene name.

    Returns
    -------
    DataFrame in file order with ``chrom`` (str), ``start`` (int64, 0-based), ``end`` (int64, exclusive),
    ``strand`` ("+" or "-"), ``transcript_id``, ``gene_id``, ``gene_name`` (str). A missing gene_name is the
    gene_id, a missing gene_id the transcript_id. In GFF3 gene_name is the first of: gene_name or gene of the
    row; gene_name, Name or gene of its parent; Name of the row. Rows whose strand is ``.`` or ``?`` have no
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
        gff3 = text.startswith(b"##gff-version 3") or bool(_ATTRIBUTE_GFF3.match(first[8] if len(first) > 8 else b""))
        rows = _gff3_rows(path, text) if gff3 else _gtf_rows(path, text)
        frame = _frame(path, rows, _GFF)
    else:
        frame = _frame(path, *_table_rows(path, text, first))
    without = ~frame["strand"].isin(["+", "-"]).to_numpy()
    if without.any():
        logger.warning("%s: %d of %d transcripts have no strand and are dropped", path, without.sum(), len(frame))
        frame = frame[~without].reset_index(drop=True)
    if frame.empty:
        raise FileFormatError(path, "no transcript with a strand", _FORMATS, "check the annotation")
    frame.attrs["source"] = str(path.resolve())  # exons are read from there when they are drawn (io.genome.gene_models)
    return frame


def first_row(path: Path, text: bytes) -> list[bytes]:
    """The fields of the first row that is no comment or track line; refused where it is of no known format."""
    for number, line in enumerate(io.BytesIO(text), 1):
        if line.strip() and not line.startswith((b"#", b"track", b"browser")):
            fields = line.rstrip(b"\r\n").split(b"\t")
            if is_gff(fields) or is_bed_like(fields) or gene_pred_offset(fields) is not None:
                return fields
            found, remedy = f"{len(fields)} column(s) of no known kind", "give the annotation in one of these"
            raise FileFormatError(path, found, _FORMATS, remedy, line=number)
    raise FileFormatError(path, "no rows", _FORMATS, "check the annotation")


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


def _frame(path: Path, rows: _Rows, at: _Layout) -> pd.DataFrame:
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


def _table_rows(path: Path, text: bytes, first: list[bytes]) -> tuple[_Rows, _Layout]:
    """Rows of a genePred or BED table and where its columns are."""
    lines = [(n, li) for n, li in numbered_lines(text) if not li.startswith((b"track", b"browser"))]
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
        return _Rows(numbers, fields, name, name, name), _BED
    name = column(offset)
    if offset == 1 and whole_numbers(first[:1]) is None:  # refFlat: the gene name stands first
        gene = column(0)
    elif len(first) >= 15 + offset:  # genePredExt: name2
        gene = column(11 + offset)
    else:
        gene = name
    return _Rows(numbers, fields, name, gene, gene), _GENE_PRED[offset]


class GffLines:
    """The lines of a GTF or GFF3 with their feature kinds, without a Python object for each line."""

    def __init__(self, path: Path, text: bytes) -> None:
        codes = np.frombuffer(text, np.uint8)
        stops = np.flatnonzero(codes == NEWLINE)
        if codes.size and (not stops.size or stops[-1] != codes.size - 1):
            stops = np.append(stops, codes.size)
        starts = np.concatenate([[0], stops[:-1] + 1])
        tabs = np.flatnonzero(codes == TAB)
        first_tab = np.searchsorted(tabs, starts)
        n_tabs = np.searchsorted(tabs, stops) - first_tab
        long_enough = np.flatnonzero(n_tabs >= 7)
        data = long_enough[codes[starts[long_enough]] != HASH]
        self._refuse_short(path, text, starts, stops, n_tabs)
        self.text, self.starts, self.stops, self.lines = text, starts, stops, data
        left = tabs[first_tab[data] + 1] + 1
        width = tabs[first_tab[data] + 2] - left
        # Kinds are told apart by length and hash; the few distinct ones are then looked at as text.
        mark = np.zeros(data.size, np.uint64)
        for i in range(int(width.max(initial=0))):
            inside = np.flatnonzero(width > i) if i else slice(None)
            mark[inside] = mark[inside] * np.uint64(1099511628211) + codes[left[inside] + i]
        _, at, self.kind = np.unique(mark, return_index=True, return_inverse=True)
        self.kinds = [text[left[i] : left[i] + width[i]].strip() for i in at.tolist()]

    @staticmethod
    def _refuse_short(path: Path, text: bytes, starts: np.ndarray, stops: np.ndarray, n_tabs: np.ndarray) -> None:
        for i in np.flatnonzero(n_tabs < 7).tolist():
            line = text[starts[i] : stops[i]]
            if line.startswith(b"##FASTA"):
                return
            if line.strip() and not line.startswith((b"#", b"track", b"browser")):
                found = f"{n_tabs[i] + 1} column(s)"
                allowed = "nine columns split at tabs, or a comment"
                raise FileFormatError(path, found, allowed, "correct or remove the line", line=i + 1)

    def rows(self, wanted: Callable[[bytes], object]) -> tuple[list[int], list[list[bytes]]]:
        """(line numbers, fields) of the rows whose kind is ``wanted``."""
        take = np.array([bool(wanted(k)) for k in self.kinds], bool)
        chosen = self.lines[take[self.kind]] if self.kinds else self.lines
        text, starts, stops = self.text, self.starts[chosen].tolist(), self.stops[chosen].tolist()
        fields = [text[a:b].rstrip(b"\r").split(b"\t", 8) for a, b in zip(starts, stops, strict=True)]
        for f in fields:
            if len(f) < 9:
                f.append(b"")
        return (chosen + 1).tolist(), fields


def _gtf_value(attributes: str, keys: Iterable[str]) -> dict[str, str]:
    """The values of ``keys``; the text is cut at quotes, so that what stands inside them is never a key."""
    found: dict[str, str] = {}
    missing = set(keys)
    parts = attributes.split('"')
    for i, outside in enumerate(parts[::2]):
        pieces = outside.split(";")
        if 2 * i + 1 < len(parts):
            key = pieces.pop().strip(" \t=")
            if key in missing:
                found[key] = parts[2 * i + 1]
                missing.discard(key)
        for piece in pieces:
            key, _, value = piece.strip().replace("=", " ", 1).partition(" ")
            if value and key in missing:
                found[key] = value.strip()
                missing.discard(key)
        if not missing:
            break
    return found


def _gtf_rows(path: Path, text: bytes) -> _Rows:
    gff = GffLines(path, text)
    spans = False
    numbers, fields = gff.rows(TRANSCRIPT_KIND.match)
    if not numbers:
        numbers, fields = gff.rows(GENE_KIND.search)
    if not numbers:
        numbers, fields = gff.rows(lambda kind: kind == b"exon")
        spans = True
    if not numbers:
        raise FileFormatError(path, "no transcript, gene or exon rows", _FORMATS, "check the annotation")
    keys = ("transcript_id", "gene_id", "gene_name")
    values = [_gtf_value(f[8].decode(errors="replace"), keys) for f in fields]
    names = [[v.get(key, "") for v in values] for key in keys]
    for number, transcript, gene in zip(numbers, names[0], names[1], strict=True):
        if not transcript and not gene:
            found, allowed = (
                "neither transcript_id nor gene_id",
                'attributes like gene_id "A"; transcript_id "B";',
            )
            raise FileFormatError(path, found, allowed, "correct or remove the line", line=number)
    rows = _Rows(numbers, fields, *names)
    return _span_exons(path, rows) if spans else rows


def _span_exons(path: Path, rows: _Rows) -> _Rows:
    """One row for each (chromosome, transcript_id) of exon rows: first exon start to last exon end."""
    low, high = checked_intervals(path, rows.number, [f[3] for f in rows.field], [f[4] for f in rows.field], base=1)
    keys = pd.MultiIndex.from_arrays([[f[0] for f in rows.field], rows.transcript_id, [f[6] for f in rows.field]])
    codes, _ = pd.factorize(keys)
    table = pd.DataFrame({"code": codes, "low": low, "high": high, "at": np.arange(len(low))})
    spans = table.groupby("code").agg({"low": "min", "high": "max", "at": "min"})
    fields = []
    for a, b, i in zip(spans["low"], spans["high"], spans["at"], strict=True):
        field = list(rows.field[i])
        field[3], field[4] = str(a + 1).encode(), str(b).encode()
        fields.append(field)
    at = spans["at"].tolist()
    pick = [[column[i] for i in at] for column in (rows.transcript_id, rows.gene_id, rows.gene_name)]
    return _Rows([rows.number[i] for i in at], fields, *pick)


def gff3_values(attributes: bytes) -> dict[str, str]:
    """The attributes that name genes and transcripts; of a repeated one the last."""
    values = {}
    for piece in attributes.decode(errors="replace").split(";"):
        key, equals, value = piece.partition("=")
        key = key.strip()
        if key in _NAMES_GFF3 and equals:
            values[key] = unquote(value.strip()) if "%" in value else value.strip()
    return values


def _gff3_rows(path: Path, text: bytes) -> _Rows:
    fasta = text.find(b"\n##FASTA")
    gff = GffLines(path, text[: fasta + 1] if fasta >= 0 else text)
    numbers, fields = gff.rows(lambda kind: TRANSCRIPT_KIND.match(kind) and not GENE_KIND.search(kind))
    if not numbers:
        numbers, fields = gff.rows(GENE_KIND.search)
    if not numbers:
        raise FileFormatError(path, "no transcript, mRNA or gene rows", _FORMATS, "check the annotation")
    values = [gff3_values(f[8]) for f in fields]
    ids = {v["ID"] for v in values if "ID" in v}
    keep = [i for i, v in enumerate(values) if v.get("Parent", "") not in ids]
    genes: dict[str, dict[str, str]] = {}
    if not all(v.get("gene_id") and (v.get("gene_name") or v.get("gene")) for v in values):
        _, gene_fields = gff.rows(GENE_KIND.search)
        genes = {v["ID"]: v for v in (gff3_values(f[8]) for f in gene_fields) if "ID" in v}
    transcript_id, gene_id, gene_name = [], [], []
    for i in keep:
        own = values[i]
        parent_id = own.get("Parent", "").split(",")[0]
        parent = genes.get(parent_id, {})
        gene = own.get("gene_id") or parent.get("gene_id") or parent_id or own.get("ID") or ""
        name = own.get("gene_name") or own.get("gene")
        name = name or parent.get("gene_name") or parent.get("Name") or parent.get("gene") or own.get("Name") or ""
        transcript_id.append(own.get("transcript_id") or own.get("ID") or gene)
        gene_id.append(gene)
        gene_name.append(name)
        if not gene:
            found, allowed = "neither gene_id, Parent nor ID", "attributes like ID=A;Parent=B"
            raise FileFormatError(path, found, allowed, "correct or remove the line", line=numbers[i])
    return _Rows([numbers[i] for i in keep], [fields[i] for i in keep], transcript_id, gene_id, gene_name)


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
