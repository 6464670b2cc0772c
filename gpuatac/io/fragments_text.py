"""Fragment files (10x fragments.tsv, BED) to ``Fragments``."""

from __future__ import annotations

import logging
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac import check, progress
from gpuatac.backend import backend_of, resolve
from gpuatac.backend import protocol as p
from gpuatac.errors import FileFormatError, InputError
from gpuatac.fragments import DROP_REASONS, Fragments, ReadSummary
from gpuatac.genome import MITO_NAMES, Genome
from gpuatac.io.compression import detect, line_blocks
from gpuatac.threads import get_threads

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from gpuatac.backend import Device
    from gpuatac.backend.protocol import ParsedBlock

logger = logging.getLogger(__name__)

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


def read_whitelist(whitelist: str | Path | Iterable[str]) -> set[str]:
    """Barcodes from a file (first column, plain or gzip) or from any iterable of str."""
    if not isinstance(whitelist, str | Path):
        return set(whitelist)
    path = Path(whitelist)
    detect(path)
    with ThreadPoolExecutor(1) as pool:
        raw = b"".join(block.tobytes() for block in line_blocks(path, pool))
    if not raw.isascii():
        line = next(i for i, text in enumerate(raw.split(b"\n"), 1) if not text.isascii())
        raise FileFormatError(
            path,
            "bytes outside ASCII in a whitelist",
            "one barcode a line, in ASCII",
            "save the list as plain text without byte order mark",
            line=line,
        )
    text = raw.decode()
    barcodes = {line.split("\t")[0].strip() for line in text.splitlines() if line.strip() and line[0] != "#"}
    if not barcodes:
        msg = f"whitelist {path} holds no barcode; give one barcode per line."
        raise InputError(msg)
    return barcodes


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
        Barcodes to keep: a file or an iterable; None keeps all.
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
    kind = detect(path)
    allowed = None if whitelist is None else read_whitelist(whitelist)
    bk = resolve(device)
    blocks, summary = _parse_file(path, genome, bk)
    summary.compression = kind
    bulk = summary.n_columns == 3
    columns, names = _join(blocks, bk)
    del blocks
    if bulk:
        names = [(bulk_name or stem_of(path)).encode()] if names else []
    return _assemble(columns, names, genome, bk, summary, min_num_fragments, allowed, chrM)


def stem_of(path: Path) -> str:
    """The file name without the suffixes of fragment files: the default sample name."""
    name = path.name
    for suffix in (".gz", ".bgz", ".tsv", ".bed", ".bedpe", ".txt", ".bam", ".h5ad", ".fragments"):
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


def _parse_file(path: Path, genome: Genome, bk: Any) -> tuple[list[ParsedBlock], ReadSummary]:
    names = [name.encode() for name in genome.code]
    codes = np.fromiter(genome.code.values(), np.int32)
    summary = ReadSummary(source=path.name, dropped=dict.fromkeys(DROP_REASONS, 0))
    blocks: list[ParsedBlock] = []
    dropped = np.zeros(p.LAST_DROP + 1, np.int64)
    n_threads = get_threads()

    def take(text: np.ndarray, future: Future[ParsedBlock]) -> None:
        block = future.result()
        if block.error_line >= 0:
            _raise_line(path, text, block, summary.lines, bulk=summary.n_columns == 3)
        summary.lines += block.n_lines
        dropped[:] += block.dropped
        for name, n in block.unknown_chroms.items():
            key = name.decode("ascii", "backslashreplace")
            if key in summary.unknown_chroms or len(summary.unknown_chroms) < 1000:
                summary.unknown_chroms[key] = summary.unknown_chroms.get(key, 0) + n
        blocks.append(block)

    with (
        ThreadPoolExecutor(n_threads) as pool,
        ThreadPoolExecutor(n_threads if bk.name == "cpu" else 1) as parsers,
        progress.bar(f"reading {path.name}", path.stat().st_size, unit="B", scale=True) as advance,
    ):
        pending: deque = deque()
        for text in line_blocks(path, pool, window=n_threads, advance=advance):
            if not summary.n_columns:
                summary.n_columns = _n_columns(text)
            bulk = summary.n_columns == 3
            pending.append(
                (text, parsers.submit(bk.parsing.parse_block, bk.asarray(text), names, codes, genome.sizes, bulk=bulk))
            )
            while len(pending) > n_threads:
                take(*pending.popleft())
        while pending:
            take(*pending.popleft())
    for status, reason in enumerate(DROP_REASONS[: p.LAST_DROP], start=1):
        summary.dropped[reason] = int(dropped[status])
    return blocks, summary


def _raise_line(path: Path, text: np.ndarray, block: ParsedBlock, lines_before: int, *, bulk: bool) -> None:
    line = text.tobytes().split(b"\n")[block.error_line].rstrip(b"\r")
    shown = line[:80].decode("ascii", "backslashreplace") + ("..." if len(line) > 80 else "")
    found, allowed, remedy = _ERRORS[block.error_code]
    if bulk and block.error_code in (p.ERR_COLUMNS, p.ERR_EXTRA):
        found, allowed = f"{line.count(9) + 1} columns", "3, as in the first line (a bulk BED file)"
        remedy = "give every line the same columns"
    raise FileFormatError(path, f"{found} ({shown!r})", allowed, remedy, line=lines_before + block.error_line + 1)


def _join(blocks: list[ParsedBlock], bk: Any) -> tuple[dict[str, Any], list[bytes]]:
    """Columns of all blocks with one code per barcode."""
    code_of: dict[bytes, int] = {}
    cells = []
    for block in blocks:
        remap = np.fromiter(
            (code_of.setdefault(b, len(code_of)) for b in block.barcodes), np.int32, len(block.barcodes)
        )
        cells.append(bk.asarray(remap)[block.barcode] if remap.size else block.barcode)
    xp = bk.xp
    stack = lambda parts, dtype: xp.concatenate(parts) if parts else xp.empty(0, dtype)  # noqa: E731
    columns = {
        "chrom": stack([b.chrom for b in blocks], np.int16),
        "start": stack([b.start for b in blocks], np.int32),
        "end": stack([b.end for b in blocks], np.int32),
        "count": stack([b.count for b in blocks], np.int32),
        "cell": stack(cells, np.int32),
        "strand": stack([b.strand for b in blocks], np.int8) if any(b.has_strand for b in blocks) else None,
    }
    return columns, list(code_of)


def _assemble(
    columns: dict[str, Any],
    names: list[bytes],
    genome: Genome,
    bk: Any,
    summary: ReadSummary,
    min_num_fragments: int,
    allowed: set[str] | None,
    chr_m: Collection[str],
) -> Fragments:
    """Apply whitelist and threshold, put barcodes in byte order, sort the rows."""
    xp = bk.xp
    n_seen = len(names)
    summary.n_barcodes_seen = n_seen
    cell, chrom = columns["cell"], columns["chrom"]
    rows = _per_barcode(cell, n_seen, bk)
    nuclear = rows - _per_barcode(cell[_is_any(chrom, genome.mito_codes(chr_m), xp)], n_seen, bk)
    listed = np.array([allowed is None or name.decode() in allowed for name in names], bool)
    enough = nuclear >= (0 if summary.n_columns == 3 else min_num_fragments)
    summary.dropped["barcode not in whitelist"] = int(rows[~listed].sum())
    summary.dropped["barcode below min_num_fragments"] = int(rows[listed & ~enough].sum())
    order = sorted(np.flatnonzero(listed & enough).tolist(), key=names.__getitem__)
    new_code = np.full(max(n_seen, 1), -1, np.int32)
    new_code[order] = np.arange(len(order), dtype=np.int32)
    cell = bk.asarray(new_code)[cell] if n_seen else cell
    ptr, start, end, cell, count, strand, was_sorted = bk.ordering.sort_fragments(
        chrom, columns["start"], columns["end"], cell, columns["count"], columns["strand"], n_chroms=len(genome.names)
    )
    summary.kept = int(start.shape[0])
    summary.sorted_input = was_sorted
    if not summary.kept:
        summary.notes.append("no fragment was kept")
    if summary.dropped["outside the chromosome"]:
        summary.notes.append(f"rows reach outside their chromosome: is {genome.name} the assembly of this file?")
    logger.info("%s: %s", summary.source, summary.as_text())
    barcodes = np.array([names[i].decode() for i in order], dtype=object)
    return Fragments(genome, barcodes, ptr, start, end, cell, count, strand, summary)


def reassemble(
    fragments: Fragments,
    *,
    min_num_fragments: int,
    whitelist: str | Path | Iterable[str] | None,
    chrM: Collection[str],
) -> Fragments:
    """``fragments`` with whitelist and threshold applied as ``read_fragments`` does, its summary carried on."""
    bk = backend_of(fragments.start)
    columns = {
        "chrom": bk.asarray(fragments.chrom_codes()),
        "start": fragments.start,
        "end": fragments.end,
        "cell": fragments.cell,
        "count": fragments.count,
        "strand": fragments.strand,
    }
    summary = replace(
        fragments.summary,
        dropped={**dict.fromkeys(DROP_REASONS, 0), **fragments.summary.dropped},
        notes=list(fragments.summary.notes),
    )
    before = {reason: summary.dropped[reason] for reason in DROP_REASONS[-2:]}
    names = [b.encode() for b in fragments.barcodes.tolist()]
    allowed = None if whitelist is None else read_whitelist(whitelist)
    out = _assemble(columns, names, fragments.genome, bk, summary, min_num_fragments, allowed, chrM)
    for reason, n in before.items():
        summary.dropped[reason] += n
    return out


def _per_barcode(cell: Any, n_barcodes: int, bk: Any) -> np.ndarray:
    if not n_barcodes:
        return np.zeros(0, np.int64)
    return bk.to_host(bk.xp.bincount(cell, minlength=n_barcodes)).astype(np.int64)


def _is_any(chrom: Any, codes: list[int], xp: Any) -> Any:
    mask = xp.zeros(chrom.shape, bool)
    for code in codes:
        mask |= chrom == code
    return mask
