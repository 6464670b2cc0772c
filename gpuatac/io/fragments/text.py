"""Fragment files (10x fragments.tsv, BED) to ``Fragments``."""

from __future__ import annotations

import logging
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gpuatac import check, progress
from gpuatac.backend import resolve
from gpuatac.backend.protocol import reading as p
from gpuatac.errors import FileFormatError, InputError
from gpuatac.fragments import DROP_REASONS, CellTotals, Fragments, ReadSummary
from gpuatac.genome import MITO_NAMES, Genome
from gpuatac.io.files.compression import detect, is_heading, line_blocks
from gpuatac.io.fragments.collect import Collector
from gpuatac.io.tables.barcode_lists import BarcodeList, read_whitelist, why_nothing_matches
from gpuatac.threads import get_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from gpuatac.backend import Device
    from gpuatac.backend.protocol import ParsedBlock

logger = logging.getLogger(__name__)
BULK_COLUMNS = 3  # a BED file: one sample, no barcodes
#: Bytes of text parsed at once. A GPU is busy with more of it, and each block costs a few transfers and launches.
BLOCK_BYTES = {"cpu": 16 << 20, "gpu": 64 << 20}
BLOCK_SHARE = 16  # 1 / this of the memory limit at most
LEAST_BLOCK = 1 << 20
INFLATED_AHEAD = 1 << 30  # bytes of text at most that wait in memory

_ERRORS = {
    p.ERR_COLUMNS: (
        "too few tab-separated columns",
        "chrom, start, end, barcode[, count[, strand]]",
        "separate the columns with tabs, or remove the line",
    ),
    p.ERR_EXTRA: (
        "too many columns",
        "4 to 6 columns (3 in a bulk BED file), the same kind in every line",
        "keep the first six columns (cut -f1-6)",
    ),
    p.ERR_START: ("a start that is no whole number", "a 0-based position in bp", "correct or remove the line"),
    p.ERR_END: ("an end that is no whole number", "a position in bp", "correct or remove the line"),
    p.ERR_COUNT: (
        "a count (column 5) that is no whole number from 1 to 2147483647",
        "a count or '.'",
        "correct or remove the line",
    ),
    p.ERR_STRAND: ("a strand (column 6) that is not '+', '-' or '.'", "'+', '-' or '.'", "cut -f1-5, or correct it"),
    p.ERR_BARCODE: (
        "an empty barcode or one with bytes outside printable ASCII",
        "printable ASCII",
        "correct or remove the line",
    ),
    p.ERR_CHROM: (
        "an empty chromosome name or one with bytes outside printable ASCII",
        "printable ASCII",
        "correct or remove the line; the file may be damaged or not be text",
    ),
}


def read_fragments(
    path: str | Path,
    genome: Genome,
    *,
    min_num_fragments: int = 0,
    whitelist: str | Path | Iterable[str] | None = None,
    chrM: Collection[str] = MITO_NAMES,
    device: Device = "auto",
    bulk_name: str | None = None,
) -> Fragments:
    """Read a fragment file into sorted columns.

    Reads BGZF, gzip of one or many members and plain text; 4 to 6 tab-separated columns (chrom, start, end,
    barcode, count, strand; 0-based half-open), or 3 columns (BED) as one bulk sample; sorted by coordinate, by
    barcode, or not at all. ``#`` lines, blank lines, CRLF and an unterminated last line are allowed. Duplicate
    rows are kept: each counts.

    Parameters
    ----------
    path
        The file.
    genome
        Chromosome sizes. ``1`` and ``chr1`` are taken as the same chromosome.
    min_num_fragments
        Barcodes with fewer fragments outside the mitochondrial chromosome are left out.
    whitelist
        Barcodes to keep: a file (see ``pp.import_fragments``) or an iterable; None keeps all.
    chrM
        Names of the mitochondrial chromosome.
    device
        Where the columns shall lie: "auto", "cpu" or "gpu".
    bulk_name
        Barcode given to the rows of a 3-column file; by default the file's stem.

    Returns
    -------
    Fragments
        Columns on the device; ``summary`` accounts for every line. Rows on chromosomes that the genome lacks,
        of zero or negative length, or reaching outside the chromosome are dropped and counted.

    Raises
    ------
    FileFormatError
        For a line that is no fragment (with its number) and for broken compression (with the byte offset).
    InputError
        When none of the barcodes of the whitelist is in the file.

    Examples
    --------
    >>> import gpuatac as ga, pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "fragments.tsv"
    >>> _ = file.write_text("chr1\\t100\\t300\\tAAAC-1\\t2\\nchr1\\t150\\t250\\tAAAG-1\\t1\\n")
    >>> ga.io.read_fragments(file, ga.Genome.builtin("hg38"), device="cpu")
    Fragments: 2 fragments of 2 barcodes on hg38
    """
    path = Path(path)
    check.integer("min_num_fragments", min_num_fragments, 0)
    wanted = Wanted.of(genome, min_num_fragments=min_num_fragments, whitelist=whitelist, chr_m=chrM, sample=stem_of(path))
    with Collector(resolve(device), genome, mito_codes=wanted.mito_codes, scratch=None, keep_all=True) as rows:
        summary = collect_text(path, rows)
        barcodes, totals = wanted.choose(rows, summary, bulk_name=bulk_name or stem_of(path))
        return rows.fragments(barcodes, summary, totals)


@dataclass(frozen=True)
class Wanted:
    """Which barcodes are kept."""

    min_num_fragments: int
    listed: BarcodeList | None
    allowed: set[str] | None  # of this sample
    mito_codes: list[int]

    @classmethod
    def of(
        cls,
        genome: Genome,
        *,
        min_num_fragments: int,
        whitelist: str | Path | Iterable[str] | None,
        chr_m: Collection[str],
        sample: str | None = None,
    ) -> Wanted:
        """From the arguments of the public functions."""
        listed = None if whitelist is None else read_whitelist(whitelist)
        allowed = None if listed is None else listed.of_sample(sample)
        return cls(min_num_fragments, listed, allowed, genome.mito_codes(chr_m))

    @property
    def everything(self) -> bool:
        """Whether no barcode is left out."""
        return self.allowed is None and self.min_num_fragments == 0

    def mask(self, names: Callable[[np.ndarray], list[str]], totals: CellTotals, summary: ReadSummary) -> np.ndarray:
        """Which barcodes are kept, rows of the others counted in ``summary``; ``names`` gives those of numbers."""
        n = totals.rows.size
        listed = np.ones(n, bool)
        if self.allowed is not None:
            seen = names(np.arange(n))
            listed[:] = [name in self.allowed for name in seen]
            if self.allowed and n and not listed.any():
                self._nothing_listed(seen, summary)
        least = 0 if summary.n_columns == BULK_COLUMNS else self.min_num_fragments
        enough = totals.rows - totals.mito_rows >= least
        for reason, rows in (
            ("barcode not in whitelist", totals.rows[~listed].sum()),
            ("barcode below min_num_fragments", totals.rows[listed & ~enough].sum()),
        ):
            summary.dropped[reason] = summary.dropped.get(reason, 0) + int(rows)
        kept: np.ndarray = listed & enough
        return kept

    def _nothing_listed(self, seen: list[str], summary: ReadSummary) -> None:
        assert self.listed is not None
        found = f"none of the {len(self.listed):,} barcodes of {self.listed.source} is in {summary.source}"
        if summary.n_columns == BULK_COLUMNS:
            why = "it has no barcodes (3 columns); leave the list out"
        else:
            why = why_nothing_matches(self.listed.names, seen, of_list="the list", of_data=summary.source)
        msg = f"{found}: {why}."
        if self.listed.required:
            raise InputError(msg)
        summary.notes.append(msg)

    def choose(
        self, rows: Collector, summary: ReadSummary, *, bulk_name: str | None = None
    ) -> tuple[np.ndarray, CellTotals]:
        """Decide which barcodes ``rows`` keeps; their names in byte order, and their totals."""
        table = rows.barcodes

        def name_of(numbers: np.ndarray) -> list[bytes]:
            if summary.n_columns == BULK_COLUMNS and bulk_name is not None:
                return [bulk_name.encode()] * len(numbers)
            return table.names(numbers)

        summary.n_barcodes_seen = summary.n_barcodes_seen or table.n
        everyone = rows.totals(np.arange(table.n))
        keep = self.mask(lambda numbers: [b.decode() for b in name_of(numbers)], everyone, summary)
        kept = np.flatnonzero(keep)
        names = name_of(kept)
        by_name = sorted(range(kept.size), key=names.__getitem__)
        order = kept[by_name]
        rows.finish(keep, order)
        totals = rows.totals(order)
        summary.kept = int(totals.rows.sum())
        note(summary, rows.genome)
        return np.array([names[i].decode() for i in by_name], dtype=object), totals


def note(summary: ReadSummary, genome: Genome) -> None:
    """Remarks on what was kept, and one line in the log."""
    if not summary.kept:
        summary.notes.append("no fragment was kept")
    if summary.dropped["outside the chromosome"]:
        summary.notes.append(f"rows reach outside their chromosome: is {genome.name} the assembly of this file?")
    summary.notes[:] = list(dict.fromkeys(summary.notes))
    logger.info("%s: %s", summary.source, summary.as_text())


def stem_of(path: Path) -> str:
    """The file name without the suffixes of fragment files: the default sample name."""
    name = path.name
    for suffix in (".gz", ".bgz", ".tsv", ".bed", ".bedpe", ".txt", ".bam", ".h5ad", ".fragments", ".parquet"):
        name = name.removesuffix(suffix)
    return name or path.name


def _n_columns(block: np.ndarray) -> int:
    """Columns of the first line of the block that is neither blank nor a comment; 0 when there is none."""
    at = 0
    while at < block.size:
        stop = at
        while stop < block.size and not (hits := np.flatnonzero(block[stop : stop + 65536] == 10)).size:
            stop += 65536
        stop = stop + int(hits[0]) if stop < block.size else block.size
        line = block[at:stop].tobytes().rstrip(b"\r")
        if line.strip(b" \t\r") and not line.startswith(b"#"):
            return line.count(b"\t") + 1
        at = stop + 1
    return 0


def _heading_as_comment(text: np.ndarray) -> np.ndarray:
    """The block with the ``track`` and ``browser`` lines of a BED that it begins with as comments."""
    at, head = 0, text[:1].tobytes()
    while head in (b"#", b"t", b"b", b"\n", b"\r"):
        line = text[at : at + 65536].tobytes().partition(b"\n")[0]
        if is_heading(line):
            text = text if text.flags.writeable else text.copy()
            text[at] = ord("#")
        elif line.strip() and not line.startswith(b"#"):
            break
        at += len(line) + 1
        head = text[at : at + 1].tobytes()
    return text


def collect_text(path: Path, rows: Collector) -> ReadSummary:
    """Parse the file and hand its rows to ``rows``; what was dropped so far."""
    kind, genome, bk = detect(path), rows.genome, rows.bk
    names = [name.encode() for name in genome.code]
    codes = np.fromiter(genome.code.values(), np.int32)
    summary = ReadSummary(source=path.name, dropped=dict.fromkeys(DROP_REASONS, 0), compression=kind)
    dropped = np.zeros(p.LAST_DROP + 1, np.int64)
    n_threads = get_threads()
    block_bytes = max(LEAST_BLOCK, min(BLOCK_BYTES[bk.name], bk.limit() // BLOCK_SHARE))
    chromosomes = bk.parsing.chromosomes(names, codes, genome.sizes)
    window = max(1, min(n_threads, INFLATED_AHEAD // block_bytes))

    def take(text: np.ndarray, block: ParsedBlock) -> None:
        if block.error_line >= 0:
            _raise_line(path, text, block, summary.lines, bulk=summary.n_columns == BULK_COLUMNS)
        summary.lines += block.n_lines
        dropped[:] += block.dropped
        for name, n in block.unknown_chroms.items():
            key = name.decode("ascii", "backslashreplace")
            if key in summary.unknown_chroms or len(summary.unknown_chroms) < 1000:
                summary.unknown_chroms[key] = summary.unknown_chroms.get(key, 0) + n
        rows.add(block)

    pending: deque[tuple[np.ndarray, Future[ParsedBlock]]] = deque()

    def take_first() -> None:
        text, future = pending.popleft()
        take(text, future.result())

    with (
        ThreadPoolExecutor(n_threads) as pool,
        ThreadPoolExecutor(n_threads) as parsers,
        progress.bar(f"reading {path.name}", path.stat().st_size, unit="B", scale=True) as advance,
    ):
        for block in line_blocks(path, pool, block_bytes=block_bytes, window=window, advance=advance):
            text = block if summary.n_columns else _heading_as_comment(block)
            if not summary.n_columns:
                summary.n_columns = _n_columns(text)
            bulk = summary.n_columns == BULK_COLUMNS
            if bk.name == "gpu":  # one thread drives the device; the next blocks are inflated meanwhile
                take(text, bk.parsing.parse_block(text, chromosomes, bulk=bulk))
                continue
            pending.append((text, parsers.submit(bk.parsing.parse_block, text, chromosomes, bulk=bulk)))
            while len(pending) > n_threads:
                take_first()
        while pending:
            take_first()
    for status, reason in enumerate(DROP_REASONS[: p.LAST_DROP], start=1):
        summary.dropped[reason] = int(dropped[status])
    return summary


def _raise_line(path: Path, text: np.ndarray, block: ParsedBlock, lines_before: int, *, bulk: bool) -> None:
    line = text.tobytes().split(b"\n")[block.error_line].rstrip(b"\r")
    shown = line[:80].decode("ascii", "backslashreplace") + ("..." if len(line) > 80 else "")
    found, allowed, remedy = _ERRORS[block.error_code]
    if bulk and block.error_code in (p.ERR_COLUMNS, p.ERR_EXTRA):
        found, allowed = f"{line.count(9) + 1} columns", "3, as in the first line (a bulk BED file)"
        remedy = "give every line the same columns"
    raise FileFormatError(path, f"{found} ({shown!r})", allowed, remedy, line=lines_before + block.error_line + 1)
