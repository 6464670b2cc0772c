"""The files of a simulated sample, as text: fragments, cells, genes and peaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gpuatac.errors import InputError
from gpuatac.io.files.bgzf import BgzfWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from gpuatac.simulate.cells_model import Cells, Loci

#: A stretch of the file: chromosome, start, end, cell and copies of its rows, and the bp walked.
Window = tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]
ROWS = 1 << 18  # rows turned into text at a time


def checked_prefix(prefix: str | Path) -> str:
    """``prefix`` as text; raises where it is a folder or empty, so that the files would have no name."""
    text = str(prefix)
    if not text or text.endswith("/"):
        msg = f"prefix {text!r} holds no name; allowed: the start of the files' names, behind a folder or not; give one (--out)."
        raise InputError(msg)
    return text


def merge_rows(
    rng: np.random.Generator, start: np.ndarray, end: np.ndarray, cell: np.ndarray, duplicate_rate: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows sorted by (start, end, cell), equal rows made one, with their PCR copies."""
    order = np.lexsort((cell, end, start))
    start, end, cell = start[order], end[order], cell[order]
    copies = rng.geometric(1 - duplicate_rate, len(start))
    new = np.ones(len(start), bool)
    new[1:] = (np.diff(start) != 0) | (np.diff(end) != 0) | (np.diff(cell) != 0)
    copies = np.add.reduceat(copies, np.flatnonzero(new)) if len(start) else copies
    return start[new], end[new], cell[new], copies


def write_fragments(
    path: Path,
    title: str,
    windows: Iterable[Window],
    *,
    barcodes: np.ndarray,
    chroms: list[str],
    mito: np.ndarray,
    advance: Callable[[int], None],
) -> np.ndarray:
    """Write ``windows``; int64 (2, n): rows per barcode off and on mito."""
    tally = np.zeros((2, len(barcodes)), np.int64)
    letters = barcodes.view(np.uint8).reshape(len(barcodes), -1)
    with BgzfWriter(path) as out:
        out.write(title.encode())
        for chrom, start, end, cell, copies, walked in windows:
            tally[int(mito[chrom])] += np.bincount(cell, minlength=len(barcodes))
            for lo in range(0, len(start), ROWS):
                part = slice(lo, lo + ROWS)
                out.write(_rows(chroms[chrom], start[part], end[part], letters[cell[part]], copies[part]))
            advance(walked)
    return tally


def _rows(chrom: str, start: np.ndarray, end: np.ndarray, barcode: np.ndarray, copies: np.ndarray) -> bytes:
    """The lines of a fragment file: a byte matrix with one line per row, then the bytes that are used."""
    columns: list[np.ndarray] = []
    used: list[np.ndarray] = []

    def text(value: bytes) -> None:
        columns.append(np.broadcast_to(np.frombuffer(value, np.uint8), (len(start), len(value))))
        used.append(np.ones((len(start), len(value)), bool))

    def number(values: np.ndarray) -> None:
        powers = 10 ** np.arange(len(str(values.max(initial=0))) - 1, -1, -1, dtype=np.int32)
        quotient = values.astype(np.int32)[:, None] // powers
        columns.append((quotient % 10 + ord("0")).astype(np.uint8))
        used.append((quotient > 0) | (powers == 1))

    text(f"{chrom}\t".encode())
    number(start)
    text(b"\t")
    number(end)
    text(b"\t")
    columns.append(barcode)
    used.append(barcode > 0)  # shorter barcodes are padded with zero bytes
    text(b"\t")
    number(copies)
    text(b"\n")
    lines: np.ndarray = np.hstack(columns)[np.hstack(used)]
    return lines.tobytes()


def _names(is_open: np.ndarray) -> str:
    return ",".join(f"type{k}" for k in np.flatnonzero(is_open))


def write_cells(path: Path, cells: Cells, n_fragment: np.ndarray, n_mito: np.ndarray) -> None:
    """The table of cells and empty droplets, with what is true of each."""
    depth = np.bincount(cells.unit_cell, cells.unit_depth, minlength=len(cells.barcode))
    names = np.array([f"type{k}" for k in range(max(cells.cell_type.max(), cells.second_type.max()) + 1)])
    with path.open("w") as out:
        out.write("barcode\tcell_type\tbatch\tis_cell\tis_doublet\ttype2\tdepth\tn_fragment\tn_mito\n")
        for c, barcode in enumerate(cells.barcode.astype(str)):
            one, two = cells.cell_type[c], cells.second_type[c]
            first, second = names[one] if one >= 0 else "empty", names[two] if two >= 0 else "NA"
            out.write(f"{barcode}\t{first}\tbatch{cells.batch[c]}\t{int(one >= 0)}\t{int(two >= 0)}\t{second}\t")
            out.write(f"{depth[c]:.1f}\t{n_fragment[c]}\t{n_mito[c]}\n")


def write_genes(path: Path, loci: Loci, chroms: list[str], sizes: np.ndarray) -> None:
    """GTF (1-based, closed). Every third gene has a second transcript, shorter, from the same TSS."""
    with path.open("w") as out:
        out.write("##description: simulated genes\n")
        for g, (c, tss, length, forward) in enumerate(zip(*loci[:4], strict=True)):
            markers = "" if loci.gene_open[g].all() else f' marker_of "{_names(loci.gene_open[g])}";'
            gene = f'gene_id "G{g:05d}"; gene_type "protein_coding"; gene_name "GENE{g:05d}";'
            for i, share in enumerate((1, 1, 0.6)[: 3 if g % 3 == 0 else 2]):
                span = max(int(length * share), 1)
                left, right = (tss + 1, tss + span) if forward else (tss - span + 2, tss + 1)
                kind = "transcript" if i else "gene"
                more = f' transcript_id "T{g:05d}.{i}"; transcript_name "GENE{g:05d}-{i}";' if i else ""
                out.write(
                    f"{chroms[c]}\tgpuatac\t{kind}\t{max(left, 1)}\t{min(right, sizes[c])}\t.\t"
                    f"{'+' if forward else '-'}\t.\t{gene}{more}{markers}\n"
                )


def write_peaks(path: Path, loci: Loci, chroms: list[str]) -> None:
    """The true peaks as BED, each with its types."""
    with path.open("w") as out:
        for chrom, pos, gene, is_open in zip(
            loci.peak_chrom, loci.peak_pos, loci.peak_gene, loci.peak_open, strict=True
        ):
            kind, types = "tss" if gene >= 0 else "distal", "*" if is_open.all() else _names(is_open)
            out.write(f"{chroms[chrom]}\t{max(pos - 250, 0)}\t{pos + 251}\t{kind}:{types}\n")
