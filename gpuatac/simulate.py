"""Seeded fragment files with known answers: cell types, doublets, empty droplets, genes and peaks."""

from __future__ import annotations

import logging
import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gpuatac import _library_simulation, check
from gpuatac._simulation import MIN_CHROM, draw_cells, draw_loci, fragment_windows, usable_bp
from gpuatac.errors import InputError
from gpuatac.genome import Genome
from gpuatac.io.atomic import replacing
from gpuatac.io.bgzf_write import BgzfWriter
from gpuatac.progress import bar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gpuatac._simulation import Cells, Loci

logger = logging.getLogger(__name__)

ROWS = 1 << 18  # rows turned into text at a time
HG38_BP = 3.1e9  # the density of genes and peaks is that of 20,000 genes and 60,000 distal peaks on this


@dataclass(frozen=True)
class Simulation:
    """Where the files of a simulated sample lie and what they hold.

    ``n_cells`` counts doublets as one cell each; ``n_fragments`` leaves out mitochondrial fragments.
    """

    fragments: Path
    cells: Path
    genes: Path
    peaks: Path
    chrom_sizes: Path
    n_cells: int
    n_doublets: int
    n_empty: int
    n_fragments: int
    n_mito: int
    n_genes: int
    n_peaks: int


class Library(NamedTuple):
    """Files of a simulated library, its fragments, and the depth in reads that it has as a part of a human genome."""

    fragments: Path
    chrom_sizes: Path
    n_fragments: int
    depth: float


def simulate_fragments(
    prefix: str | Path,
    *,
    n_cells: int = 500,
    n_types: int = 6,
    n_batches: int = 1,
    fragments_per_cell: float = 5_000,
    doublet_rate: float = 0.05,
    empty_per_cell: float = 5.0,
    fragments_per_empty: float = 50.0,
    genome: str | Genome = "hg38",
    n_genes: int | None = None,
    n_distal_peaks: int | None = None,
    specific_fraction: float = 0.5,
    state_effect: float = 0.5,
    batch_effect: float = 0.35,
    frip: float = 0.6,
    tss_share: float = 0.15,
    mito_fraction: float = 0.01,
    duplicate_rate: float = 0.35,
    seed: int = 0,
    force: bool = False,
) -> Simulation:
    """Write a 10x-like sample with known truth.

    Reads   nothing but the chromosome sizes of ``genome``.
    Writes  PREFIX.fragments.tsv.gz  BGZF, sorted by coordinate, chromosomes in natural order: chrom, start,
                                     end, barcode, copies; 0-based half-open; equal rows are merged
            PREFIX.cells.tsv         barcode, cell_type ("empty" for droplets without a cell), batch, is_cell,
                                     is_doublet, type2 (of a doublet), depth (expected fragments), n_fragment,
                                     n_mito (fragments written)
            PREFIX.genes.gtf         gene and transcript rows; marker genes carry ``marker_of "type0,type1"``
            PREFIX.peaks.bed         true peaks of 501 bp; the name is "tss:" or "distal:" and the types it is
                                     open in, "*" for all
            PREFIX.chrom.sizes       the chromosomes of ``genome``, in the order of the fragment file

    The same arguments give the same files. Each appears under its name only once all are complete. Cost:
    about 1.5 s per million fragments on one core; memory follows the fragments of 16 Mb (100 bytes each).

    Parameters
    ----------
    prefix
        Path and start of the names of the five files; its folder is made where there is none.
    n_cells, n_types, n_batches
        Barcodes that hold cells (doublets included), cell types of about equal share, and batches. Batch b
        has barcodes that end in ``-{b + 1}`` and a log-normal factor per peak (sd ``batch_effect``).
    fragments_per_cell
        Mean fragments of a single cell outside the mitochondrion (log-normal, sd 0.35 of the log).
    doublet_rate
        Share of ``n_cells`` made of two cells, in [0, 1]; the types are drawn independently.
    empty_per_cell, fragments_per_empty
        Empty droplets for each cell and their mean fragments (log-normal, sd 1 of the log).
    genome
        Name of a built-in assembly (its primary chromosomes) or a ``Genome``.
    n_genes, n_distal_peaks
        By default in proportion to the genome: 20,000 genes and 60,000 distal peaks for 3.1 Gb. Distal peaks
        that would lie within 600 bp of another peak are left out.
    specific_fraction
        Share of distal peaks open in one to three types only, in [0, 1]; half of it for TSS peaks.
    state_effect
        Cells of one type lie on a line between two profiles; the log accessibility of a peak differs between
        them with this sd.
    frip, tss_share
        Mean share of a cell's fragments in peaks and share of these at TSSs, in [0, 1].
    mito_fraction, duplicate_rate
        Mitochondrial fragments per other fragment; share of sequenced copies that are repeats, in [0, 1).
    force
        Replace files that exist.

    Raises
    ------
    InputError
        An argument outside its range, or a genome without a chromosome of at least 5 kb.
    OutputExistsError
        One of the files exists and ``force`` is False.

    Examples
    --------
    >>> import tempfile
    >>> from gpuatac import Genome
    >>> from gpuatac.simulate import simulate_fragments
    >>> small = Genome("toy", {"chr1": 2_000_000, "chrM": 16_569})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = simulate_fragments(f"{folder}/toy", n_cells=20, n_types=2, genome=small)
    >>> made.n_cells, made.n_doublets, made.n_empty
    (20, 1, 100)
    """
    n_cells = check.integer("n_cells", n_cells, 1)
    n_types, n_batches = check.integer("n_types", n_types, 1), check.integer("n_batches", n_batches, 1)
    for name, value in (
        ("fragments_per_cell", fragments_per_cell),
        ("empty_per_cell", empty_per_cell),
        ("fragments_per_empty", fragments_per_empty),
        ("mito_fraction", mito_fraction),
        ("batch_effect", batch_effect),
        ("state_effect", state_effect),
    ):
        check.between(name, value, 0)
    for name, value in (
        ("doublet_rate", doublet_rate),
        ("specific_fraction", specific_fraction),
        ("frip", frip),
        ("tss_share", tss_share),
        ("duplicate_rate", duplicate_rate),
    ):
        check.between(name, value, 0, 0.99 if name == "duplicate_rate" else 1)
    genome = Genome.builtin(genome) if isinstance(genome, str) else genome
    paths = [
        Path(f"{prefix}.{end}") for end in ("fragments.tsv.gz", "cells.tsv", "genes.gtf", "peaks.bed", "chrom.sizes")
    ]
    for path in paths:
        check.may_write(path, force=force)

    rng = np.random.default_rng(seed)
    chroms = sorted(genome.names, key=_natural)
    sizes = np.array([genome.chrom_sizes[c] for c in chroms], np.int64)
    mito = np.isin(chroms, [genome.names[i] for i in genome.mito_codes()])
    usable = usable_bp(sizes, mito)
    if usable.sum() == 0:
        msg = (
            f"genome {genome.name} has no chromosome to put fragments on; allowed: at least one of "
            f"{MIN_CHROM:,} bp that is not the mitochondrion; pass another genome."
        )
        raise InputError(msg)
    scale = usable.sum() / HG38_BP
    n_genes = max(1, round(20_000 * scale)) if n_genes is None else check.integer("n_genes", n_genes, 1)
    n_distal = (
        max(1, round(60_000 * scale)) if n_distal_peaks is None else check.integer("n_distal_peaks", n_distal_peaks, 0)
    )

    loci = draw_loci(
        rng,
        usable,
        sizes,
        n_genes=n_genes,
        n_distal=n_distal,
        n_types=n_types,
        n_batches=n_batches,
        specific=specific_fraction,
        batch_effect=batch_effect,
        state_effect=state_effect,
        tss_share=tss_share,
    )
    cells = draw_cells(
        rng,
        n_cells=n_cells,
        n_types=n_types,
        n_batches=n_batches,
        depth=fragments_per_cell,
        doublet_rate=doublet_rate,
        n_empty=round(n_cells * empty_per_cell),
        empty_depth=fragments_per_empty,
        frip=frip,
    )
    stream = fragment_windows(rng, loci, cells, sizes=sizes, usable=usable, mito=mito, mito_fraction=mito_fraction)
    rows = ((chrom, *_merge(rng, *columns, duplicate_rate), walked) for chrom, *columns, walked in stream)
    title = f"# gpuatac simulate seed={seed} genome={genome.name} cells={n_cells} types={n_types}\n"
    with ExitStack() as stack:
        parts = [stack.enter_context(replacing(path, force=force)) for path in paths]
        total = int(sizes[(usable > 0) | mito].sum())
        advance = stack.enter_context(bar("simulate", total, unit="bp", scale=True))
        n_fragment, n_mito = _write_fragments(
            parts[0], title, rows, barcodes=cells.barcode, chroms=chroms, mito=mito, advance=advance
        )
        _write_cells(parts[1], cells, n_fragment, n_mito)
        _write_genes(parts[2], loci, chroms, sizes)
        _write_peaks(parts[3], loci, chroms)
        parts[4].write_text("".join(f"{c}\t{s}\n" for c, s in zip(chroms, sizes, strict=True)))
    made = Simulation(
        *paths,
        n_cells=n_cells,
        n_doublets=int((cells.second_type >= 0).sum()),
        n_empty=len(cells.barcode) - n_cells,
        n_fragments=int(n_fragment.sum()),
        n_mito=int(n_mito.sum()),
        n_genes=n_genes,
        n_peaks=len(loci.peak_pos),
    )
    logger.info("simulated %d fragments of %d cells into %s", made.n_fragments, n_cells, made.fragments)
    return made


def simulate_library(
    prefix: str | Path, *, n_chroms: int = 20, chrom_size: int = 10_000_000, seed: int = 0, force: bool = False
) -> Library:
    """Write one deep bulk library with peaks of every shape, to train denoisers on.

    Writes  PREFIX.fragments.tsv.gz (BGZF, one barcode "library", one copy each), PREFIX.chrom.sizes.

    Density, height and width of the peaks and the patchiness of the background differ from chromosome to chromosome, so that
    what is learnt is not one library. The depth is that of ``Library.depth`` reads over a human genome, some 26 reads a kb. The
    same arguments give the same files. Cost: about 1 s for 10 Mb.

    Parameters
    ----------
    prefix
        Path and start of the names of the two files; its folder is made where there is none.
    n_chroms, chrom_size
        Chromosomes, named sim1, sim2, ..., and bp of each, from 100 kb.
    seed
        Of everything random.
    force
        Replace files that exist.

    Raises
    ------
    InputError
        An argument outside its range.
    OutputExistsError
        One of the files exists and ``force`` is False.

    Examples
    --------
    >>> import tempfile
    >>> from gpuatac.simulate import simulate_library
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = simulate_library(f"{folder}/deep", n_chroms=1, chrom_size=200_000)
    >>> made.fragments.name, made.depth
    ('deep.fragments.tsv.gz', 80000000.0)
    """
    n_chroms = check.integer("n_chroms", n_chroms, 1, 10_000)
    chrom_size = check.integer("chrom_size", chrom_size, 100_000, 2**31 - 1)
    paths = [Path(f"{prefix}.{end}") for end in ("fragments.tsv.gz", "chrom.sizes")]
    for path in paths:
        check.may_write(path, force=force)
    names = [f"sim{k + 1}" for k in range(n_chroms)]

    def rows() -> Iterator[tuple]:
        for k in range(n_chroms):
            rng = np.random.default_rng([seed, k])
            cuts = _library_simulation.expected_cuts(rng, chrom_size // _library_simulation.BIN)
            start, end = _library_simulation.fragments(rng, cuts, chrom_size)
            yield k, start, end, np.zeros(start.size, np.int64), np.ones(start.size, np.int64), chrom_size

    with ExitStack() as stack:
        parts = [stack.enter_context(replacing(path, force=force)) for path in paths]
        advance = stack.enter_context(bar("simulate", n_chroms * chrom_size, unit="bp", scale=True))
        barcode = np.array([b"library"])
        tally = _write_fragments(
            parts[0], f"# gpuatac simulate_library seed={seed}\n", rows(),
            barcodes=barcode, chroms=names, mito=np.zeros(n_chroms, bool), advance=advance,
        )  # fmt: skip
        parts[1].write_text("".join(f"{name}\t{chrom_size}\n" for name in names))
    return Library(*paths, n_fragments=int(tally.sum()), depth=_library_simulation.DEEP)


def _natural(name: str) -> tuple:
    """chr1, chr2, ..., chr10, ..., then names without a number (X, Y), the mitochondrion last."""
    short = name.removeprefix("chr")
    number = re.match(r"\d+", short)
    return (short in ("M", "MT"), number is None, int(number.group()) if number else 0, short)


def _merge(
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


def _write_fragments(
    path: Path,
    title: str,
    windows: Iterable[tuple],
    *,
    barcodes: np.ndarray,
    chroms: list[str],
    mito: np.ndarray,
    advance: Callable[[int], None],
) -> np.ndarray:
    """Write (chrom, start, end, cell, copies, bp) windows; int64 (2, n): rows per barcode off and on mito."""
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
    columns, used = [], []

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
    return np.hstack(columns)[np.hstack(used)].tobytes()


def _names(is_open: np.ndarray) -> str:
    return ",".join(f"type{k}" for k in np.flatnonzero(is_open))


def _write_cells(path: Path, cells: Cells, n_fragment: np.ndarray, n_mito: np.ndarray) -> None:
    depth = np.bincount(cells.unit_cell, cells.unit_depth, minlength=len(cells.barcode))
    names = np.array([f"type{k}" for k in range(max(cells.cell_type.max(), cells.second_type.max()) + 1)])
    with path.open("w") as out:
        out.write("barcode\tcell_type\tbatch\tis_cell\tis_doublet\ttype2\tdepth\tn_fragment\tn_mito\n")
        for c, barcode in enumerate(cells.barcode.astype(str)):
            one, two = cells.cell_type[c], cells.second_type[c]
            first, second = names[one] if one >= 0 else "empty", names[two] if two >= 0 else "NA"
            out.write(f"{barcode}\t{first}\tbatch{cells.batch[c]}\t{int(one >= 0)}\t{int(two >= 0)}\t{second}\t")
            out.write(f"{depth[c]:.1f}\t{n_fragment[c]}\t{n_mito[c]}\n")


def _write_genes(path: Path, loci: Loci, chroms: list[str], sizes: np.ndarray) -> None:
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


def _write_peaks(path: Path, loci: Loci, chroms: list[str]) -> None:
    with path.open("w") as out:
        for chrom, pos, gene, is_open in zip(
            loci.peak_chrom, loci.peak_pos, loci.peak_gene, loci.peak_open, strict=True
        ):
            kind, types = "tss" if gene >= 0 else "distal", "*" if is_open.all() else _names(is_open)
            out.write(f"{chroms[chrom]}\t{max(pos - 250, 0)}\t{pos + 251}\t{kind}:{types}\n")
