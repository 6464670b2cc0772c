"""Seeded fragment files with known answers: cell types, doublets, empty droplets, genes and peaks."""

from __future__ import annotations

import logging
import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpuatac import check
from gpuatac.errors import InputError
from gpuatac.genome import Genome
from gpuatac.io.files.atomic import replacing
from gpuatac.io.genome.sizes import read_genome
from gpuatac.progress import bar
from gpuatac.simulate.cells_model import MIN_CHROM, draw_cells, draw_loci, fragment_windows, usable_bp
from gpuatac.simulate.files import checked_prefix, merge_rows, write_cells, write_fragments, write_genes, write_peaks

logger = logging.getLogger(__name__)

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
    genome: str | Path | Genome = "hg38",
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
    """A 10x-like sample with known cell types, doublets and peaks, simulated.

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
    n_cells
        Barcodes that hold cells, doublets included.
    n_types
        Cell types, of about equal share.
    n_batches
        Batches. Batch b has barcodes that end in ``-{b + 1}`` and a log-normal factor of its own for each peak (``batch_effect``).
    fragments_per_cell
        Mean fragments of a single cell outside the mitochondrion (log-normal, sd 0.35 of the log).
    doublet_rate
        Share of the cells made of two, in [0, 1]; the types are drawn independently.
    empty_per_cell
        Empty droplets for each cell.
    fragments_per_empty
        Mean fragments of an empty droplet (log-normal, sd 1 of the log).
    genome
        hg38, hg19, mm10, mm39, a chrom.sizes, .fai or FASTA file (of each the primary chromosomes), or a ``Genome``.
    n_genes
        Genes; by default in proportion to the genome, 20,000 for 3.1 Gb.
    n_distal_peaks
        Distal peaks; by default in proportion to the genome, 60,000 for 3.1 Gb. Those that would lie within 600 bp of another peak are
        left out.
    specific_fraction
        Share of distal peaks open in one to three types only, in [0, 1]; half of it for TSS peaks.
    state_effect
        Cells of one type lie on a line between two profiles: the sd of the log accessibility of a peak between them.
    batch_effect
        The sd of a batch's log-normal factors.
    frip
        Mean share of a cell's fragments in peaks, in [0, 1].
    tss_share
        Share of these at TSSs, in [0, 1].
    mito_fraction
        Mitochondrial fragments for each other fragment.
    duplicate_rate
        Share of sequenced copies that are repeats, in [0, 1).
    seed
        Seed of everything random.
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
    genome = genome if isinstance(genome, Genome) else read_genome(genome)
    paths = [
        Path(f"{checked_prefix(prefix)}.{end}") for end in ("fragments.tsv.gz", "cells.tsv", "genes.gtf", "peaks.bed", "chrom.sizes")
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
    rows = (
        (chrom, *merge_rows(rng, start, end, cell, duplicate_rate), walked) for chrom, start, end, cell, walked in stream
    )
    title = f"# gpuatac simulate seed={seed} genome={genome.name} cells={n_cells} types={n_types}\n"
    with ExitStack() as stack:
        parts = [stack.enter_context(replacing(path, force=force)) for path in paths]
        total = int(sizes[(usable > 0) | mito].sum())
        advance = stack.enter_context(bar("simulate", total, unit="bp", scale=True))
        n_fragment, n_mito = write_fragments(
            parts[0], title, rows, barcodes=cells.barcode, chroms=chroms, mito=mito, advance=advance
        )
        write_cells(parts[1], cells, n_fragment, n_mito)
        write_genes(parts[2], loci, chroms, sizes)
        write_peaks(parts[3], loci, chroms)
        parts[4].write_text("".join(f"{c}\t{s}\n" for c, s in zip(chroms, sizes, strict=True)))
    made = Simulation(
        fragments=paths[0],
        cells=paths[1],
        genes=paths[2],
        peaks=paths[3],
        chrom_sizes=paths[4],
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


def _natural(name: str) -> tuple[bool, bool, int, str]:
    """chr1, chr2, ..., chr10, ..., then names without a number (X, Y), the mitochondrion last."""
    short = name.removeprefix("chr")
    number = re.match(r"\d+", short)
    return (short in ("M", "MT"), number is None, int(number.group()) if number else 0, short)
