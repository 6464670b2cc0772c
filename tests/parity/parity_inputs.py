"""The inputs of the parity checks, as files that both sides read. Standard library and NumPy only.

A folder made here holds ``chrom.sizes``, ``genes.gtf``, ``regions.bed`` and ``case.json`` (path of the
fragments and the arguments of both sides). Genes go through a GTF, because that is what the peer reads.
"""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

STRATEGIES = ("insertion", "fragment", "paired-insertion")

SIMULATED_SIZES = {
    "chr1": 2_600_250,
    "chr10": 1_200_345,
    "chr2": 1_900_000,
    "chrX": 500_499,
    "chrY": 300_000,
    "chrM": 16_569,
    "KI270711.1": 42_210,
}


#: Arguments of export_coverage; ``REGIONS`` stands for names of regions and ``BED`` for the path of a file that has them.
REGIONS, BED = "REGIONS", "BED"
COVERAGE = {
    "defaults": {},
    "CPM, 50 bp": {"normalization": "CPM", "bin_size": 50},
    "BPM, 7 bp": {"normalization": "BPM", "bin_size": 7},
    "counts, 1 bp": {"normalization": None, "bin_size": 1},
    "insertions": {"counting_strategy": "insertion"},
    "insertions, CPM": {"counting_strategy": "insertion", "normalization": "CPM", "bin_size": 1},
    "60-180 bp": {"min_frag_length": 60, "max_frag_length": 180},
    "every length": {"max_frag_length": None},
    "blacklist": {"blacklist": BED},
    "blacklist, insertions": {"blacklist": BED, "counting_strategy": "insertion"},
    "include": {"include_for_norm": REGIONS},
    "exclude": {"exclude_for_norm": BED, "normalization": "CPM"},
    "include, exclude, insertions": {
        "include_for_norm": BED, "exclude_for_norm": REGIONS, "counting_strategy": "insertion"
    },
    "smooth 151": {"smooth_base": 151},
    "smooth 100, 7 bp, BPM": {"smooth_base": 100, "bin_size": 7, "normalization": "BPM"},
    "smooth 20, 1 bp, counts": {"smooth_base": 20, "bin_size": 1, "normalization": None},
}  # fmt: skip


#: Arguments of macs3 / call_peaks; ``BED`` and ``REPLICATE`` stand for a path and for labels of the cells.
REPLICATE = "REPLICATE"
PEAKS = {
    "defaults": {},
    "replicates": {"replicate": REPLICATE},
    "replicates, looser": {"replicate": REPLICATE, "replicate_qvalue": 0.3},
    "blacklist": {"blacklist": BED},
    "up to 180 bp": {"max_frag_size": 180},
    "nolambda": {"nolambda": True},
    "short": {"shift": -75, "extsize": 150, "min_len": 120, "qvalue": 0.2},
    "broad": {"call_broad_peaks": True},
}  # fmt: skip


def peak_options(folder: Path, name: str, n: int) -> tuple[list[str], dict]:
    """Labels of ``n`` cells and ``PEAKS[name]`` with a file of the first 60 regions and two replicates of each group."""
    bed = folder / "banned.bed"
    bed.write_text("".join("\t".join(row[:3]) + "\n" for row in read_rows(folder / "regions.bed")[:60]))
    held = {BED: str(bed), REPLICATE: [f"r{i // 2 % 2}" for i in range(n)]}
    options = {k: held.get(v, v) if isinstance(v, str) else v for k, v in PEAKS[name].items()}
    return [f"g{i % 2}" for i in range(n)], options


SMOOTHED = ("simulated", "tiny", "archr")  # cases small enough for one row a base


def coverage_names(folder: Path) -> list[str]:
    """Which of ``COVERAGE`` a case is asked for."""
    return [name for name in COVERAGE if folder.name in SMOOTHED or not name.startswith("smooth")]


def coverage_options(folder: Path, name: str) -> dict:
    """``COVERAGE[name]`` with regions of the case: every third in the names, the first 60 in the file."""
    rows = read_rows(folder / "regions.bed")
    bed = folder / "some.bed"
    bed.write_text("".join("\t".join(row[:3]) + "\n" for row in rows[:60]))
    held = {REGIONS: [f"{c}:{s}-{e}" for c, s, e in rows[::3]], BED: str(bed)}
    return {k: held.get(v, v) if isinstance(v, str) else v for k, v in COVERAGE[name].items()}


def coverage_groups(n: int) -> list[str]:
    """Group of each of n cells."""
    return [f"g {i % 3}" for i in range(n)]


def write_case(folder: Path, *, fragments: Path, sizes: dict, genes: list, regions: list, **more) -> Path:
    """The files that both sides read, and ``case.json`` beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "chrom.sizes").write_text("".join(f"{c}\t{n}\n" for c, n in sizes.items()))
    with (folder / "genes.gtf").open("w") as gtf:
        for chrom, start, end, strand, transcript, gene in genes:
            gtf.write(
                f"{chrom}\tparity\ttranscript\t{start + 1}\t{end}\t.\t{strand}\t.\t"
                f'gene_id "{gene}"; transcript_id "{transcript}"; gene_name "{gene}"; '
                f'transcript_name "{transcript}";\n'
            )
    (folder / "regions.bed").write_text("".join(f"{c}\t{s}\t{e}\n" for c, s, e in regions))
    case = {"fragments": str(fragments.resolve()), **more}
    (folder / "case.json").write_text(json.dumps(case, indent=1))
    return folder


#: Small files on which gpuatac and SnapATAC2 differ on purpose; chromosomes chr1 = 1,000 bp, chr2 = 500 bp.
DIFFERENCE_SIZES = {"chr1": 1000, "chr2": 500}
GOOD_ROW = "chr1\t100\t260\tA\t1\n"
BAD_ROWS = {
    "end beyond the chromosome": GOOD_ROW + "chr1\t950\t1050\tA\t1\n",
    "start beyond the chromosome": GOOD_ROW + "chr1\t1000\t1050\tA\t1\n",
    "blank line": GOOD_ROW + "\n" + GOOD_ROW,
    "truncated line": GOOD_ROW + "chr1\t5\n",
    "text in column 6": GOOD_ROW + "chr1\t10\t60\tA\t1\tx\n",
}
#: A gene on chr1:[100, 200); the only cut inside its domain lies on base 199, the last one.
LAST_BASE_GENE = [("chr1", 100, 200, "+", "T1", "LAST")]
LAST_BASE_ROW = "chr1\t199\t400\tA\t1\n"
#: A TSS 100 bp from the chromosome start and a fragment with its cuts 50 and 150 bp downstream of it.
EARLY_TSS_GENE = [("chr1", 100, 900, "+", "T1", "EARLY")]
EARLY_TSS_ROW = "chr1\t150\t251\tA\t1\n"
#: Column sums in which six features tie; the three largest are asked for.
TIED_COUNTS = [1, 1, 1, 1, 1, 1, 2]


def read_rows(path: Path) -> list[list[str]]:
    """The tab-separated rows of a text or gzip file, without comment lines."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rt") if packed else path.open() as text:
        return [line.rstrip("\n").split("\t") for line in text if not line.startswith("#")]


def regions_near(rows: list, sizes: dict, *, n: int, seed: int) -> list:
    """Overlapping regions of many widths around cuts, two of them repeated, in no order."""
    rng = np.random.default_rng(seed)
    regions = []
    for i in rng.choice(len(rows), n):
        chrom, start, end = rows[i][0], int(rows[i][1]), int(rows[i][2])
        if chrom in sizes:
            lo, hi = rng.integers(0, 700, 2)
            regions.append((chrom, max(start - int(lo), 0), min(end + int(hi) - 200, sizes[chrom])))
    regions = [r for r in regions if r[1] < r[2]]
    return regions + regions[:2]


def group_peaks(sizes: dict, *, n_groups: int, n: int, seed: int) -> dict:
    """Peaks by group as columns (chrom, start, end, summit offset, -log10 p): shared sites, ties, both chromosome ends, a group
    without any.
    """
    rng = np.random.default_rng(seed)
    chroms = list(sizes)
    size = np.array([sizes[c] for c in chroms])
    site_chrom = rng.choice(len(chroms), n, p=size / size.sum())
    site = (rng.random(n) * (size[site_chrom] - 2000)).astype(int)
    groups = {}
    for g in range(n_groups):
        k = int(rng.integers(1, n)) if g != 1 else 0
        at = rng.choice(n, k)
        start = np.maximum(site[at] + rng.integers(-150, 150, k), 0)
        start[: k // 40] = size[site_chrom[at[: k // 40]]] - rng.integers(210, 700, k // 40)
        width = rng.integers(200, 900, k)
        end = np.minimum(start + width, size[site_chrom[at]])
        offset = (rng.random(k) * (end - start)).astype(int)
        p = np.round(rng.exponential(5.0, k), g % 3)
        order = np.lexsort((start, [chroms[i] for i in site_chrom[at]]))
        columns = ([chroms[i] for i in site_chrom[at]], start, end, offset, p)
        groups[f"group{g}"] = tuple(np.array(column)[order] for column in columns)
    return groups


def simulated(folder: Path, *, n_cells: int, n_empty: int, n_genes: int, depth: float, seed: int, **more) -> Path:
    """Cells of 4 types and near-empty barcodes on a small genome: unsorted rows, repeated rows, PCR counts,
    mitochondrial fragments, a chromosome that is not in the genome, zero-length rows, a header.
    """
    rng = np.random.default_rng(seed)
    chroms = list(SIMULATED_SIZES)
    nuclear = [c for c in chroms if c != "chrM"]
    sizes = np.array([SIMULATED_SIZES[c] for c in nuclear])
    n_types, n_peaks = 4, 900
    peak_chrom = rng.choice(len(nuclear), n_peaks, p=sizes / sizes.sum())
    peak_at = (rng.random(n_peaks) * (sizes[peak_chrom] - 4000) + 2000).astype(int)
    weight = rng.gamma(1.0, 1.0, n_peaks) * (0.05 + (rng.random((n_types, n_peaks)) < 0.35))
    weight /= weight.sum(axis=1, keepdims=True)
    rows = []
    for i in range(n_cells + n_empty):
        barcode = "".join(rng.choice(list("ACGT"), 12)) + f"-{1 + i % 2}"
        n = int(rng.lognormal(np.log(depth), 0.35)) if i < n_cells else int(rng.integers(1, 190))
        p = rng.choice(n_peaks, n, p=weight[i % n_types])
        in_peak = rng.random(n) < 0.7
        c = np.where(in_peak, peak_chrom[p], rng.choice(len(nuclear), n, p=sizes / sizes.sum()))
        near, far = peak_at[p] + rng.normal(0, 90, n), rng.random(n) * (sizes[c] - 3000) + 1500
        middle = np.where(in_peak, near, far)
        length = rng.choice([60, 198, 385, 1100], n, p=[0.6, 0.28, 0.1, 0.02]) * rng.normal(1, 0.2, n)
        length = np.clip(length, 20, 1400)
        start = np.clip(middle - length / 2, 0, sizes[c] - length - 1).astype(int)
        copies = rng.geometric(0.6, n)
        rows += [(nuclear[k], s, s + int(w), barcode, m) for k, s, w, m in zip(c, start, length, copies, strict=True)]
        n_mito = int(rng.poisson(n * 0.03))
        rows += [("chrM", s, s + 150, barcode, 1) for s in rng.integers(0, 16_000, n_mito)]
        rows += [("chrUn_0001", 5, 90, barcode, 1)] * int(rng.integers(0, 3))
        rows += [("chr2", 700, 700, barcode, 1)] * int(rng.integers(0, 2))
        rows += rows[-1:] * int(rng.integers(0, 3))
    rows += [("chr1", 0, 30, rows[0][3], 1), ("chr1", 2_600_200, 2_600_250, rows[0][3], 2)]
    order = rng.permutation(len(rows))
    folder.mkdir(parents=True, exist_ok=True)
    fragments = folder / "fragments.tsv.gz"
    with gzip.open(fragments, "wt", compresslevel=3) as out:
        out.write("# id=parity\n# primary_contig=chr1\n")
        out.writelines("\t".join(map(str, rows[i])) + "\n" for i in order)
    genes = []
    for g in range(n_genes):
        at = int(rng.integers(n_peaks))
        k = int(peak_chrom[at])
        for i in range(int(rng.integers(1, 4))):
            length, strand = int(rng.integers(200, 6000)), "+-"[int(rng.integers(2))]
            tss = int(peak_at[at] + rng.normal(0, 40)) if i == 0 else int(rng.integers(6000, sizes[k] - 6000))
            tss = min(max(tss, 6000), int(sizes[k]) - 6000)
            span = (tss, tss + length) if strand == "+" else (tss + 1 - length, tss + 1)
            genes.append((nuclear[k], *span, strand, f"T{g}.{i}", f"G{g}"))
    genes += [("chrM", 100, 900, "+", "TM.1", "GM"), ("chr1", 50, 2600, "-", "TE.1", "GEDGE")]
    rng.shuffle(genes)
    genes = [(c, int(s), int(e), st, t, n) for c, s, e, st, t, n in genes]
    return write_case(
        folder,
        fragments=fragments,
        sizes=SIMULATED_SIZES,
        genes=genes,
        regions=regions_near(rows, SIMULATED_SIZES, n=400, seed=3),
        **more,
    )


def real(folder: Path, data: Path, *, fragments: str, genome: str, **more) -> Path:
    """One of the public fragment files with the refGene models of its assembly."""
    annotation = data / "annotation"
    sizes = {}
    for row in read_rows(annotation / "chrom_sizes" / f"{genome}.chrom.sizes"):
        if "_" not in row[0]:
            sizes[row[0]] = int(row[1])
    genes = [
        (row[2], int(row[4]), int(row[5]), row[3], f"{row[1]}.{i}", row[12])
        for i, row in enumerate(read_rows(annotation / "genes" / f"{genome}.refGene.txt.gz"))
        if row[2] in sizes
    ]
    path = data / fragments
    return write_case(
        folder,
        fragments=path,
        sizes=sizes,
        genes=genes,
        regions=regions_near(read_rows(path), sizes, n=1500, seed=5),
        n_features=500_000,
        **more,
    )


def simulated_cases(folder: Path) -> list[Path]:
    """One of ordinary size, and one small enough for the oracles."""
    return [
        simulated(folder / "simulated", n_cells=320, n_empty=200, n_genes=240, depth=735, seed=11,
                  min_num_fragments=200, n_features=5000, n_neighbors=20),
        simulated(folder / "tiny", n_cells=45, n_empty=10, n_genes=12, depth=150, seed=12,
                  min_num_fragments=60, n_features=900, n_neighbors=8),
    ]  # fmt: skip


def real_cases(folder: Path, data: Path) -> list[Path]:
    """The three fragment files of the public data folder."""
    scatac = "scatac/{}".format
    return [
        real(folder / "archr", data, fragments=scatac("archr_pbsmall_hg19/PBSmall.tsv.gz"), genome="hg19",
             min_num_fragments=100, n_neighbors=50),
        real(folder / "pbmc500", data, fragments=scatac("pbmc500_chr22_hg38/test.fragments.tsv.gz"),
             genome="hg38", min_num_fragments=200, n_neighbors=50),
        real(folder / "c1", data, fragments=scatac("c1_39cells_hg19/c1_39cells.hg19.fragments.tsv.gz"),
             genome="hg19", min_num_fragments=200, n_neighbors=15),
    ]  # fmt: skip
