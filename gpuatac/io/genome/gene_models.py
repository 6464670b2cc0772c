"""Genes of a window with their exons: the transcripts of an annotation, exons read from its file when they are drawn."""

from __future__ import annotations

import difflib
import logging
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from gpuatac.errors import InputError
from gpuatac.io.files.compression import read_bytes
from gpuatac.io.genome import transcripts as annotation_files
from gpuatac.io.genome.annotation import transcripts_of
from gpuatac.io.genome.gff import GENE_KIND, TRANSCRIPT_KIND, GffLines, gff3_values

if TYPE_CHECKING:
    from gpuatac.genome import Genome

logger = logging.getLogger(__name__)
SAME_LOCUS = 1_000_000  # bp: transcripts of one name that are farther apart are different genes
_TRANSCRIPT_ID = re.compile(rb'(?:^|[;\s])transcript_id[ =]"?([^";]+)')
_PARENT = re.compile(rb"(?:^|;)\s*Parent=([^;]+)")
_EXON, _CODING = b"exon", b"CDS"
_COLUMNS = ("transcript_id", "start", "end", "coding")


class GeneModel(NamedTuple):
    """Overlapping transcripts of one name and strand; ``exons`` and ``coding``: int64 (n, 2), sorted and disjoint.

    Without known exons ``exons`` is empty. ``label`` is what is written: the name, with the transcript where each is drawn.
    """

    name: str
    label: str
    start: int
    end: int
    strand: str
    exons: np.ndarray
    coding: np.ndarray


class Locus(NamedTuple):
    """Where a gene lies: its name as the annotation has it, chromosome code, first start, last end, strand."""

    name: str
    code: int
    start: int
    end: int
    strand: str


def annotation_of(genes: Any) -> pd.DataFrame:
    """The transcripts of a Genome, a file (read once, as long as it does not change) or the frame itself."""
    if isinstance(genes, str | Path) and Path(genes).is_file():
        return _read_once(*_identity(Path(genes)))
    return transcripts_of(genes)


def _identity(path: Path) -> tuple[str, int, int]:
    stat = path.stat()
    return str(path), stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=2)
def _read_once(path: str, _changed: int, _size: int) -> pd.DataFrame:
    return transcripts_of(path)


def locate_gene(transcripts: pd.DataFrame, name: str, genome: Genome) -> Locus:
    """The span of all transcripts of gene ``name`` (its gene_name, else gene_id; else the same without regard to case).

    Where transcripts of that name lie at several loci (see ``loci_of``), that with most of them is taken, and a message is
    logged.

    Raises
    ------
    InputError
        No transcript has the name, with the names closest to it; or none on a chromosome of the genome.
    """
    rows = _rows_named(transcripts, name)
    found = transcripts.iloc[rows]
    code = genome.codes_of(found["chrom"].tolist())
    if (code < 0).all():
        where = ", ".join(found["chrom"].unique()[:3])
        msg = (
            f"gene {name!r} lies on {where}, which genome {genome.name} lacks ({', '.join(genome.names[:3])}, ...); "
            "give the annotation of this genome."
        )
        raise InputError(msg)
    found, code = found[code >= 0], code[code >= 0].astype(np.int64)
    start, end = found["start"].to_numpy(np.int64), found["end"].to_numpy(np.int64)
    strand = found["strand"].to_numpy()
    place = loci_of(found, np.zeros(len(found), np.int64), code)
    best = int(np.bincount(place).argmax())
    here = place == best
    if not here.all():
        others = {f"{genome.names[c]}:{s:,}" for c, s in zip(code[~here], start[~here], strict=True)}
        logger.warning(
            "gene %s lies at %d places; the others (%s) are left out",
            name,
            place.max() + 1,
            ", ".join(sorted(others)[:3]),
        )
    direction = "+" if (strand[here] == "+").sum() * 2 >= here.sum() else "-"
    spelled = str(found["gene_name"].iloc[0])
    return Locus(spelled, int(code[here][0]), int(start[here].min()), int(end[here].max()), direction)


def loci_of(transcripts: pd.DataFrame, key: np.ndarray, code: np.ndarray) -> np.ndarray:
    """int64: the number of the locus of each transcript, ascending by (key, chromosome, start).

    Transcripts of one ``key`` (int codes of gene names, say) are of one locus where they are on one chromosome (``code``) and
    have one gene_id, less than ``SAME_LOCUS`` apart; loci of several gene_ids are one where they overlap.
    """
    start, end = transcripts["start"].to_numpy(np.int64), transcripts["end"].to_numpy(np.int64)
    gene = pd.factorize(transcripts["gene_id"])[0]
    if (transcripts["gene_id"] == transcripts["transcript_id"]).all():  # no gene_id is known
        gene = np.zeros(len(transcripts), np.int64)
    place = np.zeros(len(transcripts), np.int64)
    order = np.lexsort((start, gene, code, key))
    fresh = (np.diff(np.stack([key, code, gene])[:, order], axis=1) != 0).any(axis=0)
    part = _components(np.concatenate([[0], np.cumsum(fresh)]), start[order], end[order], gap=SAME_LOCUS)
    place[order] = part
    first = order[np.flatnonzero(np.diff(part, prepend=-1))]
    n = len(first)
    low, high = np.full(n, np.iinfo(np.int64).max), np.zeros(n, np.int64)
    np.minimum.at(low, place, start)
    np.maximum.at(high, place, end)
    order = np.lexsort((low, code[first], key[first]))
    fresh = (np.diff(np.stack([key, code])[:, first][:, order], axis=1) != 0).any(axis=0)
    joined = np.zeros(n, np.int64)
    joined[order] = _components(np.concatenate([[0], np.cumsum(fresh)]), low[order], high[order])
    found: np.ndarray = joined[place]
    return found


def main_loci(transcripts: pd.DataFrame, key: np.ndarray, code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(whether each transcript is at the main locus of its key, number of loci of each key); see ``loci_of``.

    The main locus is that with most transcripts, the first of several.
    """
    place = loci_of(transcripts, key, code)
    size = np.bincount(place)
    owner = np.zeros(size.size, np.int64)
    owner[place] = key
    order = np.lexsort((np.arange(size.size), -size, owner))
    first = order[np.flatnonzero(np.diff(owner[order], prepend=-1))]
    main = np.zeros(size.size, bool)
    main[first] = True
    return main[place], np.bincount(owner, minlength=int(key.max(initial=-1)) + 1)


def _rows_named(transcripts: pd.DataFrame, name: str) -> np.ndarray:
    for column in ("gene_name", "gene_id"):
        rows = np.flatnonzero(transcripts[column].to_numpy() == name)
        if rows.size:
            return rows
    names = pd.unique(transcripts["gene_name"])
    same = [str(n) for n in names if str(n).lower() == name.lower()]
    if len(same) == 1:
        return np.flatnonzero(transcripts["gene_name"].to_numpy() == same[0])
    lower = {str(n).lower(): str(n) for n in names}
    close = same or [lower[n] for n in difflib.get_close_matches(name.lower(), list(lower), n=5, cutoff=0.6)]
    hint = f"did you mean {', '.join(map(repr, close))}?" if close else "check the name or give another annotation."
    msg = f"gene {name!r} is none of the {len(names):,} genes of the annotation; {hint}"
    raise InputError(msg)


def _components(code: np.ndarray, start: np.ndarray, end: np.ndarray, *, gap: int = 0) -> np.ndarray:
    """Number of the connected component of each interval, sorted by (code, start); touching within ``gap`` connects."""
    if not start.size:
        return np.empty(0, np.int64)
    fresh = np.zeros(start.size, bool)
    reach = -1
    for i in range(start.size):
        if i == 0 or code[i] != code[i - 1]:
            fresh[i], reach = i > 0, end[i]
        else:
            fresh[i] = start[i] > reach + gap
            reach = max(reach, end[i])
    return np.cumsum(fresh)


def union(intervals: np.ndarray) -> np.ndarray:
    """int64 (m, 2): sorted disjoint intervals over the same bases as ``intervals`` (n, 2)."""
    intervals = intervals[np.argsort(intervals[:, 0], kind="stable")]
    if not len(intervals):
        return intervals.astype(np.int64)
    part = _components(np.zeros(len(intervals)), intervals[:, 0], intervals[:, 1])
    first = np.flatnonzero(np.diff(part, prepend=-1))
    return np.column_stack([intervals[first, 0], np.maximum.reduceat(intervals[:, 1], first)]).astype(np.int64)


def genes_in(
    transcripts: pd.DataFrame, genome: Genome, code: int, start: int, end: int, *, merge: bool = True
) -> list[GeneModel]:
    """Genes that overlap [start, end) of chromosome ``code``, by start; exons and coding parts as far as in the window.

    Exons come from the file the transcripts were read from (``transcripts.attrs["source"]``), where it still exists.
    Overlapping transcripts of one name and strand become one model, unless ``merge`` is False.
    """
    names = [n for n in pd.unique(transcripts["chrom"]) if genome.code.get(str(n), -1) == code]
    table = transcripts[transcripts["chrom"].isin(names)]
    table = table[(table["start"] < end) & (table["end"] > start)].sort_values(["start", "end"], kind="stable")
    if table.empty:
        return []
    pieces = exons_of(transcripts, str(names[0]))
    pieces = pieces[(pieces["start"] < end) & (pieces["end"] > start)]
    rows_of = pieces.groupby("transcript_id").indices
    bounds, coding = pieces[["start", "end"]].to_numpy(np.int64), pieces["coding"].to_numpy(bool)
    keys = ["gene_name", "strand"] if merge else ["gene_name", "strand", "transcript_id"]
    out = []
    for key, group in table.groupby(keys, sort=False):
        low, high = group["start"].to_numpy(np.int64), group["end"].to_numpy(np.int64)
        part = _components(np.zeros(len(group)), low, high)
        for p in range(int(part[-1]) + 1):
            here = part == p
            a, b = int(low[here].min()), int(high[here].max())
            ids = group["transcript_id"].to_numpy()[here]
            rows = np.concatenate([rows_of.get(t, np.empty(0, np.intp)) for t in pd.unique(ids)]).astype(np.intp)
            rows = rows[(bounds[rows, 0] >= a) & (bounds[rows, 1] <= b)]  # the same id at another place
            thin, thick = bounds[rows[~coding[rows]]], bounds[rows[coding[rows]]]
            name = str(key[0])
            label = name if merge or name == key[2] else f"{name} {key[2]}"
            out.append(GeneModel(name, label, a, b, str(key[1]), union(thin), union(thick)))
    return sorted(out, key=lambda g: (g.start, g.end))


def exons_of(transcripts: pd.DataFrame, chrom: str) -> pd.DataFrame:
    """Exons and coding parts (``coding``) on ``chrom``: transcript_id, start, end (0-based half-open); empty if unknown."""
    source = transcripts.attrs.get("source")
    if source is None or not Path(source).is_file():
        return pd.DataFrame({name: [] for name in _COLUMNS}).astype(
            {"start": np.int64, "end": np.int64, "coding": bool}
        )
    return _exons_once(*_identity(Path(source)), chrom)


@lru_cache(maxsize=32)
def _exons_once(path: str, _changed: int, _size: int, chrom: str) -> pd.DataFrame:
    return read_exons(Path(path), chrom)


def read_exons(path: Path, chrom: str) -> pd.DataFrame:
    """Exons of the transcripts on ``chrom`` (as the file spells it) of any annotation that ``read_transcripts`` reads.

    Returns
    -------
    DataFrame ``transcript_id`` (str), ``start``, ``end`` (int64, 0-based half-open), ``coding`` (bool: False for a whole
    exon, True for a coding part). GTF and GFF3: rows ``exon`` and ``CDS``, of every parent. genePred: exonStarts and
    exonEnds, coding between cdsStart and cdsEnd. BED12: its blocks, coding between thickStart and thickEnd; BED with fewer
    columns has none.
    """
    text = read_bytes(path)
    first = annotation_files.first_row(path, text)
    if annotation_files.is_gff(first):
        rows = _gff_pieces(path, text, chrom)
    else:
        rows = _table_pieces(text, first, chrom)
    frame = pd.DataFrame(rows, columns=list(_COLUMNS))
    return frame.astype({"start": np.int64, "end": np.int64, "coding": bool})


def _gff_pieces(path: Path, text: bytes, chrom: str) -> list[tuple[str, int, int, bool]]:
    fasta = text.find(b"\n##FASTA")
    gff = GffLines(path, text[: fasta + 1] if fasta >= 0 else text)
    name = chrom.encode() + b"\t"
    codes = np.frombuffer(gff.text, np.uint8)
    here = np.ones(gff.lines.size, bool)
    for i, letter in enumerate(name):
        here[here] = codes[gff.starts[gff.lines[here]] + i] == letter
    gff.lines, gff.kind = gff.lines[here], gff.kind[here]
    names = {}  # GFF3: ID of a transcript (or gene) to the name read_transcripts gives it
    for field in gff.rows(lambda k: TRANSCRIPT_KIND.match(k) or GENE_KIND.search(k))[1]:
        values = gff3_values(field[8])
        if "ID" in values:
            names[values["ID"]] = values.get("transcript_id") or values["ID"]
    out = []
    for kind in (_EXON, _CODING):
        for field in gff.rows(kind.__eq__)[1]:
            parent = _PARENT.search(field[8]) if names else None
            if parent is not None:
                ids = [names.get(p, p) for p in parent[1].decode(errors="replace").split(",")]
            else:
                own = _TRANSCRIPT_ID.search(field[8])
                ids = [own[1].decode(errors="replace").strip()] if own is not None else []
            out += [(t, int(field[3]) - 1, int(field[4]), kind == _CODING) for t in ids]
    return out


def _table_pieces(text: bytes, first: list[bytes], chrom: str) -> list[tuple[str, int, int, bool]]:
    bed = annotation_files.is_bed_like(first)
    if bed and len(first) < 12:
        return []
    k = 0 if bed else int(annotation_files.gene_pred_offset(first) or 0)
    at, wanted = (0, 12) if bed else (1 + k, 10 + k)
    name, out = chrom.encode(), []
    for line in text.splitlines():
        f = line.split(b"\t")
        if len(f) < wanted or f[at] != name:
            continue
        if bed:
            low = int(f[1])
            starts = [low + int(v) for v in f[11].split(b",") if v]
            ends = [s + int(v) for s, v in zip(starts, (v for v in f[10].split(b",") if v), strict=False)]
            thick, transcript = (int(f[6]), int(f[7])), f[3]
        else:
            starts, ends = ([int(v) for v in f[k + c].split(b",") if v] for c in (8, 9))
            thick, transcript = (int(f[5 + k]), int(f[6 + k])), f[k]
        label = transcript.decode(errors="replace").strip()
        for s, e in zip(starts, ends, strict=False):
            out.append((label, s, e, False))
            if max(s, thick[0]) < min(e, thick[1]):
                out.append((label, max(s, thick[0]), min(e, thick[1]), True))
    return out
