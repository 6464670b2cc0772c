"""GTF and GFF3: their lines by kind of feature, and the transcripts that their attributes name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

import numpy as np
import pandas as pd

from gpuatac.errors import FileFormatError
from gpuatac.io.files.compression import is_heading
from gpuatac.io.genome.bed_rows import checked_intervals

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FORMATS = "GTF, GFF3, genePred/refGene or BED with at least six columns, split at tabs"
NEWLINE, TAB, HASH = 10, 9, ord("#")
GENE_KIND = re.compile(rb"(^|_)gene$|^pseudogene$")
TRANSCRIPT_KIND = re.compile(rb"^(transcript|mRNA|[A-Za-z_]*RNA|.*_transcript|.*_gene_segment)$")
_IDS = ("transcript_id", "gene_id", "gene_name")
_NAMES_GTF = frozenset((*_IDS, "gene_symbol", "gene"))  # the last two: FlyBase, RefSeq
_NAMES_GFF3 = frozenset((*_IDS, "ID", "Parent", "Name", "gene", "gene_symbol", "geneID"))
_OF_PARENT = ("gene_name", "gene_symbol", "Name", "gene")
_BARE = re.compile(r"\s*[^\s;\"=]+\s*;?\s*")  # the whole of the attributes, as BRAKER writes those of genes and transcripts
_OF_GENE = re.compile(r"\.t\d+$")
_VERSION = re.compile(rb"(#[^\n]*\n)*?##gff-version\s+3")
_ATTRIBUTE_GFF3 = re.compile(rb"^\s*[^\s=;\"]+=")
_LOOKED_AT = 1 << 16  # bytes


class Rows(NamedTuple):
    """Rows of a GTF or GFF3 that describe transcripts, with the attributes that name them."""

    number: list[int]  # 1-based lines
    field: list[list[bytes]]  # the nine columns
    transcript_id: list[str]
    gene_id: list[str]
    gene_name: list[str]


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
            if line.strip() and not line.startswith(b"#") and not is_heading(line):
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


def _gtf_value(attributes: str) -> dict[str, str]:
    """The values of the names below; the text is cut at quotes, so that what stands inside them is never a name."""
    found: dict[str, str] = {}
    missing = set(_IDS)
    parts = attributes.split('"')
    for i, outside in enumerate(parts[::2]):
        pieces = outside.split(";")
        if 2 * i + 1 < len(parts):
            key = pieces.pop().strip(" \t=")
            if key in _NAMES_GTF:
                found.setdefault(key, parts[2 * i + 1])
                missing.discard(key)
        for piece in pieces:
            key, _, value = piece.strip().replace("=", " ", 1).partition(" ")
            if value and key in _NAMES_GTF:
                found.setdefault(key, value.strip())
                missing.discard(key)
        if not missing:
            break
    return found


def gtf_rows(path: Path, text: bytes) -> Rows:
    """The transcripts of a GTF, see :func:`gpuatac.io.genome.transcripts.read_transcripts`."""
    gff = GffLines(path, text)
    numbers, fields = gff.rows(TRANSCRIPT_KIND.match)
    bare = "transcript_id"  # what an attribute without a name is
    if not numbers:
        numbers, fields = gff.rows(GENE_KIND.search)
        bare = "gene_id"
    spans = not numbers
    for kind in (b"exon", b"CDS"):
        if not numbers:
            numbers, fields = gff.rows(kind.__eq__)
    if not numbers:
        raise FileFormatError(path, "no transcript, gene, exon or CDS rows", FORMATS, "check the annotation")
    values = []
    for field in fields:
        attributes = field[8].decode(errors="replace")
        found = _gtf_value(attributes)
        if not found and not spans and _BARE.fullmatch(attributes):
            found = {bare: attributes.strip(" \t;")}
        values.append(found)
    if bare == "transcript_id" and any(v.get("transcript_id") and not v.get("gene_id") for v in values):
        _add_genes(gff, values)
    for number, v in zip(numbers, values, strict=True):
        if not v.get("transcript_id") and not v.get("gene_id"):
            found_, allowed = "neither transcript_id nor gene_id", 'attributes like gene_id "A"; transcript_id "B";'
            raise FileFormatError(path, found_, allowed, "correct or remove the line", line=number)
    names = [v.get("gene_name") or v.get("gene_symbol") or v.get("gene", "") for v in values]
    transcripts, genes = ([v.get(key, "") for v in values] for key in _IDS[:2])
    rows = Rows(numbers, fields, transcripts, genes, names)
    return _span_exons(path, rows) if spans else rows


def _add_genes(gff: GffLines, values: list[dict[str, str]]) -> None:
    """The genes of transcripts whose rows do not name them, as BRAKER and AUGUSTUS write them: by the rows of their parts."""
    gene_of: dict[str, str] = {}
    for kind in (b"exon", b"CDS"):
        for field in gff.rows(kind.__eq__)[1]:
            found = _gtf_value(field[8].decode(errors="replace"))
            if found.get("transcript_id") and found.get("gene_id"):
                gene_of.setdefault(found["transcript_id"], found["gene_id"])
    for v in values:
        name = v.get("transcript_id", "")
        if name and not v.get("gene_id"):
            v["gene_id"] = gene_of.get(name) or _OF_GENE.sub("", name)


def _span_exons(path: Path, rows: Rows) -> Rows:
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
    return Rows([rows.number[i] for i in at], fields, *pick)


def gff3_values(attributes: bytes) -> dict[str, str]:
    """The attributes that name genes and transcripts; of a repeated one the last."""
    values = {}
    for piece in attributes.decode(errors="replace").split(";"):
        key, equals, value = piece.partition("=")
        key = key.strip()
        if key in _NAMES_GFF3 and equals:
            values[key] = unquote(value.strip()) if "%" in value else value.strip()
    return values


def gff3_rows(path: Path, text: bytes) -> Rows:
    """The transcripts of a GFF3, see :func:`gpuatac.io.genome.transcripts.read_transcripts`."""
    fasta = text.find(b"\n##FASTA")
    gff = GffLines(path, text[: fasta + 1] if fasta >= 0 else text)
    numbers, fields = gff.rows(lambda kind: TRANSCRIPT_KIND.match(kind) and not GENE_KIND.search(kind))
    if not numbers:
        numbers, fields = gff.rows(GENE_KIND.search)
    if not numbers:
        return _gff3_parts(path, gff)
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
        gene = own.get("gene_id") or own.get("geneID") or parent.get("gene_id") or parent_id or own.get("ID") or ""
        name = own.get("gene_name") or own.get("gene_symbol") or own.get("gene")
        name = name or next((parent[key] for key in _OF_PARENT if parent.get(key)), own.get("Name", ""))
        transcript_id.append(own.get("transcript_id") or own.get("ID") or gene)
        gene_id.append(gene)
        gene_name.append(name)
        if not gene:
            found, allowed = "neither gene_id, Parent nor ID", "attributes like ID=A;Parent=B"
            raise FileFormatError(path, found, allowed, "correct or remove the line", line=numbers[i])
    return Rows([numbers[i] for i in keep], [fields[i] for i in keep], transcript_id, gene_id, gene_name)


def _gff3_parts(path: Path, gff: GffLines) -> Rows:
    """The spans of exons, or else of coding parts, by their Parent: for a file without rows of transcripts and genes."""
    for kind in (b"exon", b"CDS"):
        numbers, fields = gff.rows(kind.__eq__)
        if numbers:
            values = [gff3_values(f[8]) for f in fields]
            ids = [v.get("Parent") or v.get("transcript_id") or v.get("ID") or "" for v in values]
            if "" in ids:
                found, allowed = "neither Parent nor ID", "attributes like ID=A;Parent=B"
                raise FileFormatError(path, found, allowed, "correct or remove the line", line=numbers[ids.index("")])
            genes = [v.get("gene_id") or name for v, name in zip(values, ids, strict=True)]
            names = [v.get("gene_name") or v.get("gene", "") for v in values]
            return _span_exons(path, Rows(numbers, fields, ids, genes, names))
    raise FileFormatError(path, "no transcript, mRNA, gene, exon or CDS rows", FORMATS, "check the annotation")


def is_gff3(text: bytes) -> bool:
    """Whether a GFF is a GFF3: by its first line, else by its first attributes."""
    if _VERSION.match(text):
        return True
    for line in text[:_LOOKED_AT].split(b"\n"):
        fields = line.split(b"\t")
        if len(fields) < 9 or line.startswith(b"#"):
            continue
        if _ATTRIBUTE_GFF3.match(fields[8]):
            return True
        if b'"' in fields[8]:
            return False
    return False
