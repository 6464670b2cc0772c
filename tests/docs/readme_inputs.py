"""The files that README's commands name, simulated and small: one folder, made once, that every command gets a copy of."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyBigWig
import pysam

import gpuatac as ga

if TYPE_CHECKING:
    from pathlib import Path

CD3D = 'chr21\tsim\t{what}\t342745\t347745\t.\t-\t.\tgene_id "CD3D"; transcript_id "CD3D-1"; gene_name "CD3D";\n'
KNOWN = (500_000, 700_000)  # the bases of the bulk tracks that are known
TRACK_CHROMS = ("chr20", "chr21")


def make(folder: Path) -> None:
    """Write them all."""
    cells(folder)
    bulk_tracks(folder)
    for number, name in enumerate(("liver", "brain")):
        bam(folder / f"{name}.bam", seed=number)


def cells(folder: Path) -> None:
    part = ga.Genome("part of hg38", {"chr20": 1_000_000, "chr21": 1_000_000, "chrM": 16_569})  # the denoiser's time goes by bases
    made = ga.simulate_fragments(
        folder / "sim" / "s", n_cells=270, n_types=3, fragments_per_cell=2500, empty_per_cell=0.5, genome=part,
        n_genes=60, n_distal_peaks=200, tss_share=0.5,
    )  # fmt: skip
    made.fragments.rename(folder / "fragments.tsv.gz")
    text = made.genes.read_text() + "".join(CD3D.format(what=what) for what in ("gene", "transcript"))
    (folder / "gencode.gtf.gz").write_bytes(gzip.compress(text.encode(), 1))
    truth = pd.read_csv(made.cells, sep="\t")
    truth.loc[truth["cell_type"] != "empty", ["barcode", "cell_type"]].to_csv(folder / "cell_types.tsv", sep="\t", index=False)


def annotated(folder: Path) -> None:
    """``results/pbmc.h5ad`` with the cell types in obs, of what the main job wrote."""
    adata = ga.io.read_h5ad(folder / "results" / "fragments.h5ad")
    types = pd.read_csv(folder / "cell_types.tsv", sep="\t", index_col="barcode")["cell_type"]
    adata.obs["cell_type"] = pd.Categorical(types.reindex(adata.obs_names))
    ga.io.write_h5ad(adata, folder / "results" / "pbmc.h5ad")


def bulk_tracks(folder: Path) -> None:
    """``deep.bw`` and ``shallow.bw``: cuts within 100 bp, at every base that is known, of a library and of a tenth of its cuts."""
    rng = np.random.default_rng(0)
    low, high = KNOWN
    sizes = [(name, ga.Genome.builtin("hg38").chrom_sizes[name]) for name in TRACK_CHROMS]
    with pyBigWig.open(str(folder / "deep.bw"), "w") as deep, pyBigWig.open(str(folder / "shallow.bw"), "w") as shallow:
        for track in (deep, shallow):
            track.addHeader(sizes)
        for name, _ in sizes:
            rate = np.full(high - low, 0.005)
            for at in rng.integers(1000, high - low - 1000, 80):
                rate[at - 300 : at + 300] += rng.gamma(2, 0.1)
            cuts = rng.poisson(rate)
            for track, kept in ((deep, cuts), (shallow, rng.binomial(cuts, 0.1))):
                values = np.convolve(kept, np.ones(201), "same")
                edges = np.flatnonzero(np.diff(values, prepend=-1))
                ends = np.append(edges[1:], values.size)
                track.addEntries([name] * edges.size, (low + edges).tolist(), ends=(low + ends).tolist(), values=values[edges].tolist())


def bam(path: Path, *, seed: int) -> None:
    """Read pairs of a mouse sample, denser at 30 places of chr19."""
    rng = np.random.default_rng(seed)
    sizes = ga.Genome.builtin("mm10").chrom_sizes
    header = {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": [{"SN": name, "LN": int(n)} for name, n in sizes.items()]}
    chrom = list(sizes).index("chr19")
    sites = rng.integers(5_000_000, 50_000_000, 30)
    start = np.concatenate([rng.choice(sites, 3000) + rng.integers(-150, 150, 3000), rng.integers(5_000_000, 50_000_000, 1000)])
    reads = []
    for number, (left, length) in enumerate(zip(start.tolist(), rng.integers(60, 400, start.size).tolist(), strict=True)):
        for at, mate, flag in ((left, left + length - 50, 99), (left + length - 50, left, 147)):
            read = pysam.AlignedSegment()
            read.query_name, read.flag, read.reference_id, read.reference_start = f"r{number}", flag, chrom, at
            read.mapping_quality, read.cigarstring, read.query_sequence = 60, "50M", "A" * 50
            read.query_qualities = pysam.qualitystring_to_array("I" * 50)
            read.next_reference_id, read.next_reference_start = chrom, mate
            read.set_tag("CB", f"ACGT-{number % 5}")
            read.template_length = length if flag == 99 else -length
            reads.append(read)
    with pysam.AlignmentFile(str(path), "wb", header=header) as out:
        for read in sorted(reads, key=lambda r: r.reference_start):
            out.write(read)
