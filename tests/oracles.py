"""The definitions, written slowly and plainly; nothing here is imported from gpuatac.

Fragments are rows ``(chrom, start, end, barcode, count)``, 0-based half-open. A *cut* (insertion) is
``start`` or ``end - 1``. Matrices are dense int64 arrays of cells x features. Sources: what SnapATAC2 2.9.0
computes, Wolock et al. 2019 (Scrublet), Zhang et al. 2024 (matrix-free spectral embedding).
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np

MITO = ("chrM", "M", "chrMT", "MT")
NOT_TILED = ("chrM", "chrY", "M", "Y")


class Fragment(NamedTuple):
    chrom: str
    start: int
    end: int
    barcode: str
    count: int = 1


class Transcript(NamedTuple):
    """``start`` and ``end`` are 0-based half-open: ``end - 1`` is the last base of the gene."""

    chrom: str
    start: int
    end: int
    strand: str
    transcript_id: str
    gene_id: str
    gene_name: str


class Imported(NamedTuple):
    barcodes: list[str]
    n_fragment: list[int]
    frac_dup: list[float]
    frac_mito: list[float]
    fragments: list[Fragment]
    dropped: dict[str, int]


# ---------------------------------------------------------------------------------------------- import


def import_fragments(rows, sizes, *, min_num_fragments=200, mito=MITO, whitelist=None) -> Imported:
    """Cells in byte order with their counts; ``dropped`` says for each reason how many rows were left out.

    A cell is kept when it has at least ``min_num_fragments`` fragments outside the mitochondrial chromosome.
    Duplicate rows are kept, each counts. Over all rows of the cell, mitochondrial ones included,
    frac_dup = 1 - rows / sum(count) and frac_mito = mitochondrial rows / rows.
    """
    dropped = dict.fromkeys(
        (
            "unknown chromosome",
            "zero or negative length",
            "outside the chromosome",
            "barcode not in whitelist",
            "barcode below min_num_fragments",
        ),
        0,
    )
    usable: dict[str, list[Fragment]] = {}
    for row in rows:
        fragment = Fragment(*row)
        if fragment.chrom not in sizes:
            dropped["unknown chromosome"] += 1
        elif fragment.end <= fragment.start:
            dropped["zero or negative length"] += 1
        elif fragment.start < 0 or fragment.end > sizes[fragment.chrom]:
            dropped["outside the chromosome"] += 1
        elif whitelist is not None and fragment.barcode not in whitelist:
            dropped["barcode not in whitelist"] += 1
        else:
            usable.setdefault(fragment.barcode, []).append(fragment)
    out = Imported([], [], [], [], [], dropped)
    for barcode in sorted(usable, key=str.encode):
        of_cell = usable[barcode]
        n_mito = sum(f.chrom in mito for f in of_cell)
        if len(of_cell) - n_mito < min_num_fragments:
            dropped["barcode below min_num_fragments"] += len(of_cell)
            continue
        out.barcodes.append(barcode)
        out.n_fragment.append(len(of_cell) - n_mito)
        out.frac_dup.append(1.0 - len(of_cell) / sum(f.count for f in of_cell))
        out.frac_mito.append(n_mito / len(of_cell))
        out.fragments.extend(of_cell)
    return out


# -------------------------------------------------------------------------------------------- counting


def byte_order(names):
    """Chromosome names as SnapATAC2 and samtools order them: chr1, chr10, chr11, ..., chr2."""
    return sorted(names, key=str.encode)


def tile_names(sizes, *, bin_size=500, exclude=NOT_TILED):
    """``chrom:start-end`` of every tile; the last tile of a chromosome is clipped to it."""
    return [
        f"{chrom}:{start}-{min(start + bin_size, sizes[chrom])}"
        for chrom in byte_order(sizes)
        if chrom not in exclude
        for start in range(0, sizes[chrom], bin_size)
    ]


def tile_counts(fragments, barcodes, sizes, *, bin_size=500, strategy="paired-insertion", exclude=NOT_TILED):
    """insertion: +1 in the tile of each cut; paired-insertion: once if both lie in one tile; fragment: +1 in
    every tile that the fragment overlaps.
    """
    first_tile, n_tiles = {}, 0
    for chrom in byte_order(sizes):
        if chrom not in exclude:
            first_tile[chrom] = n_tiles
            n_tiles += math.ceil(sizes[chrom] / bin_size)
    row_of = {b: i for i, b in enumerate(barcodes)}
    counts = np.zeros((len(barcodes), n_tiles), np.int64)
    for f in fragments:
        if f.barcode not in row_of or f.chrom not in first_tile:
            continue
        left, right = f.start // bin_size, (f.end - 1) // bin_size
        tiles = {
            "insertion": [left, right],
            "paired-insertion": sorted({left, right}),
            "fragment": list(range(left, right + 1)),
        }[strategy]
        for tile in tiles:
            counts[row_of[f.barcode], first_tile[f.chrom] + tile] += 1
    return counts


def hits(fragment, chrom, start, end, strategy) -> int:
    """What one fragment adds to the half-open region chrom:[start, end)."""
    if fragment.chrom != chrom:
        return 0
    left_in = start <= fragment.start < end
    right_in = start <= fragment.end - 1 < end
    if strategy == "insertion":
        return left_in + right_in
    if strategy == "paired-insertion":
        return int(left_in or right_in)
    return int(fragment.start < end and fragment.end > start)


def region_counts(fragments, barcodes, regions, *, strategy="paired-insertion"):
    """Cells x regions in the order given; regions may overlap or repeat, each is counted by itself."""
    row_of = {b: i for i, b in enumerate(barcodes)}
    counts = np.zeros((len(barcodes), len(regions)), np.int64)
    for f in fragments:
        if f.barcode in row_of:
            for j, (chrom, start, end) in enumerate(regions):
                counts[row_of[f.barcode], j] += hits(f, chrom, start, end, strategy)
    return counts


def gene_regions(transcripts, *, rule="closed", upstream=2000, downstream=0, include_gene_body=True):
    """The regulatory domain of each transcript, half-open and never below 0.

    closed: the last base of the gene belongs to it. snapatac2: the last base is lost, because the peer takes
    the inclusive end of the annotation for an exclusive one. Without the gene body only the TSS is extended.
    """
    out = []
    for t in transcripts:
        left, right = t.start, t.end
        if not include_gene_body:
            left = t.start if t.strand == "+" else t.end - 1
            right = left + 1
        if rule == "snapatac2":
            right -= 1
        before, after = (upstream, downstream) if t.strand == "+" else (downstream, upstream)
        out.append((t.chrom, max(left - before, 0), right + after))
    return out


def gene_counts(fragments, barcodes, transcripts, *, strategy="paired-insertion", **domain):
    """(gene names by first appearance, cells x genes): per cell the maximum over the gene's transcripts."""
    by_transcript = region_counts(fragments, barcodes, gene_regions(transcripts, **domain), strategy=strategy)
    genes = list(dict.fromkeys(t.gene_name for t in transcripts))
    counts = np.zeros((len(barcodes), len(genes)), np.int64)
    for j, gene in enumerate(genes):
        columns = [i for i, t in enumerate(transcripts) if t.gene_name == gene]
        counts[:, j] = by_transcript[:, columns].max(axis=1)
    return genes, counts


# -------------------------------------------------------------------------------------------------- QC


def tss_of(transcripts, *, exclude=MITO):
    """Distinct (chrom, position, strand), mitochondrial ones left out."""
    sites = ((t.chrom, t.start if t.strand == "+" else t.end - 1, t.strand) for t in transcripts)
    return [site for site in dict.fromkeys(sites) if site[0] not in exclude]


def tss_score(profile) -> float:
    """Mean of the 11 central positions of 4001 over 0.1 + the mean of the outer 2 x 100."""
    profile = np.asarray(profile, float)
    return float((profile[1995:2006].sum() / 11) / ((profile[:100].sum() + profile[-100:].sum()) / 200 + 0.1))


class TssEnrichment(NamedTuple):
    score: np.ndarray
    profile: np.ndarray
    library: float
    frac_overlap: float


def tss_enrichment(fragments, barcodes, transcripts) -> TssEnrichment:
    """Cuts at -2000 ... +2000 of every TSS, read in the direction of the gene.

    ``frac_overlap`` is the share of all cuts, mitochondrial ones included, that lie within any window.
    """
    sites = tss_of(transcripts)
    row_of = {b: i for i, b in enumerate(barcodes)}
    per_cell = np.zeros((len(barcodes), 4001), np.int64)
    n_cuts = n_inside = 0
    for f in fragments:
        if f.barcode not in row_of:
            continue
        for cut in (f.start, f.end - 1):
            n_cuts += 1
            inside = False
            for chrom, tss, strand in sites:
                distance = cut - tss if strand == "+" else tss - cut
                if chrom == f.chrom and -2000 <= distance <= 2000:
                    per_cell[row_of[f.barcode], 2000 + distance] += 1
                    inside = True
            n_inside += inside
    profile = per_cell.sum(axis=0)
    frac = n_inside / n_cuts if n_cuts else math.nan
    return TssEnrichment(np.array([tss_score(p) for p in per_cell]), profile, tss_score(profile), frac)


def frag_size_distr(fragments, *, max_recorded_size=1000):
    """Entry i counts the fragments of length i, entry 0 those longer than ``max_recorded_size``."""
    counts = np.zeros(max_recorded_size + 1, np.int64)
    for f in fragments:
        length = f.end - f.start
        counts[length if length <= max_recorded_size else 0] += 1
    return counts


def frip(fragments, barcodes, regions, *, count_as_insertion=False):
    """Share of a cell's fragments that overlap any region by at least 1 bp (or of its cuts within any)."""
    out = []
    for barcode in barcodes:
        inside = total = 0
        for f in fragments:
            if f.barcode != barcode:
                continue
            spans = [(f.start, f.end)]
            if count_as_insertion:
                spans = [(f.start, f.start + 1), (f.end - 1, f.end)]
            for lo, hi in spans:
                total += 1
                inside += any(c == f.chrom and lo < e and hi > s for c, s, e in regions)
        out.append(inside / total if total else math.nan)
    return np.array(out)


def nucleosome_signal(fragments, barcodes):
    """Fragments of length [147, 294) over those shorter than 147; inf or nan where the latter are missing."""
    out = []
    for barcode in barcodes:
        lengths = [f.end - f.start for f in fragments if f.barcode == barcode]
        mono, free = sum(147 <= n < 294 for n in lengths), sum(n < 147 for n in lengths)
        out.append(mono / free if free else (math.inf if mono else math.nan))
    return np.array(out)


# ------------------------------------------------------------------------------------------- features


def runs_of(values):
    """(start, end, value) of the stretches of one value other than 0."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return [(a, b, float(values[a])) for a, b in itertools.pairwise(edges) if b > a and values[a]]


def coverage(
    fragments, sizes, *, bin_size=10, normalization="RPKM", denominator="reads", include=None, exclude=(), blacklist=(),
    shortest=0, longest=2000, strategy="fragment", smooth=1,
):  # fmt: skip
    """One value for each base of each chromosome; regions are (chrom, start, end)."""

    def meets(read, regions):
        return any(read[0] == c and read[1] < e and read[2] > s for c, s, e in regions)

    kept = [f for f in fragments if shortest <= f.end - f.start <= longest]
    reads = [(f.chrom, f.start, f.end) for f in kept]
    if strategy == "insertion":
        reads = [(f.chrom, at, at + 1) for f in kept for at in (f.start, f.end - 1)]
    reads = [r for r in reads if not meets(r, blacklist)]
    value = {c: np.zeros(n) for c, n in sizes.items()}
    for chrom, start, end in reads:
        first, last = start // bin_size, (end - 1) // bin_size
        value[chrom][first * bin_size : (last + 1) * bin_size] += 1
    normed = [r for r in reads if (include is None or meets(r, include)) and not meets(r, exclude)]
    n = len(normed) if denominator == "reads" else sum(end - start for _, start, end in normed)
    if normalization == "RPKM":
        divisor = (n / 1e6) * (bin_size / 1e3)
    elif normalization == "CPM":
        divisor = n / 1e6
    elif normalization == "BPM":  # whole bins, as runs of one value have them
        divisor = sum(v * ((b - a) // bin_size) for c in sizes for a, b, v in runs_of(value[c])) / 1e6
    else:
        divisor = 1
    left = (smooth - 1) // 2
    right = smooth - 1 - left
    out = {}
    for chrom, v in value.items():
        padded = np.concatenate([np.zeros(right), v / divisor, np.zeros(left)])
        out[chrom] = np.lib.stride_tricks.sliding_window_view(padded, smooth).mean(axis=1)
    return out


def select_features(counts, *, n_features=500_000, lower=0.005, upper=0.005, blacklisted=None):
    """Mask of the most accessible features.

    Features are ranked by (count, column index); of equal counts the LOWER column index ranks as the larger,
    so it is preferred when the list is cut at ``n_features`` and dropped first by the upper quantile. Those
    without a count and the ``blacklisted`` ones (so that n means n) are left out before the ranking; then
    int(share x n) at either end of it; then the highest ``n_features`` stay.
    """
    eligible = [j for j in range(len(counts)) if counts[j] > 0 and not (blacklisted is not None and blacklisted[j])]
    ascending = sorted(eligible, key=lambda j: (counts[j], -j))
    n_low, n_high = int(lower * len(ascending)), int(upper * len(ascending))
    ascending = ascending[n_low : len(ascending) - n_high]
    mask = np.zeros(len(counts), bool)
    mask[ascending[::-1][:n_features]] = True
    return mask


# ------------------------------------------------------------------------------------------ embedding


def idf(counts):
    """ln(n / df); df = 0 is taken as 1 and df = n as n - 1; all ones when every feature has the same df."""
    n = counts.shape[0]
    df = (counts > 0).sum(axis=0).astype(float)
    if np.all(df == df[0]):
        return np.ones_like(df)
    df[df == 0] = 1
    df[df == n] = n - 1
    return np.log(n / df)


def laplacian(counts):
    """D^-1/2 (Y Y' - I) D^-1/2 with Y the unit rows of counts x idf, formed whole."""
    counts = np.asarray(counts, float)
    weighted = counts * idf(counts)
    unit = weighted / np.sqrt((weighted**2).sum(axis=1, keepdims=True))
    similarity = unit @ unit.T - np.eye(len(unit))
    degree = similarity.sum(axis=1)
    return similarity / np.sqrt(np.outer(degree, degree))


def spectral(counts, n_comps):
    """(eigenvalues, embedding): leading eigenpairs > 0, the columns scaled by sqrt(eigenvalue)."""
    values, vectors = np.linalg.eigh(laplacian(counts))
    values, vectors = values[::-1][:n_comps], vectors[:, ::-1][:, :n_comps]
    kept = values > 0
    return values[kept], vectors[:, kept] * np.sqrt(values[kept])


def knn(points, k):
    """(indices, distances) of the k nearest in Euclidean distance, self left out; ties by index."""
    points = np.asarray(points, float)
    indices, distances = [], []
    for i in range(len(points)):
        distance = np.sqrt(((points - points[i]) ** 2).sum(axis=1))
        order = sorted((j for j in range(len(points)) if j != i), key=lambda j: (distance[j], j))[:k]
        indices.append(order)
        distances.append(distance[order])
    return np.array(indices), np.array(distances)


# -------------------------------------------------------------------------------------------- doublets


def simulated_pairs(n_cells, *, ratio=2.0, seed=0):
    """The pairs SnapATAC2 draws: NumPy's legacy generator, because its stream is what must be reproduced."""
    return np.random.RandomState(seed).randint(0, n_cells, size=(int(n_cells * ratio), 2))


def scrublet_neighbors(n_cells, n_sim):
    """k = round(0.5 sqrt(n)) widened by the number of simulated doublets."""
    return round(round(0.5 * math.sqrt(n_cells)) * (1 + n_sim / n_cells))


def scrublet_scores(embedding, n_cells, *, expected_doublet_rate=0.1):
    """Scores of the cells (first ``n_cells`` rows) and of the simulated doublets (the rest).

    q = (simulated neighbours + 1) / (k + 2); score = q rho / r / (1 - rho - q (1 - rho - rho / r)).
    """
    n_sim = len(embedding) - n_cells
    k = scrublet_neighbors(n_cells, n_sim)
    neighbors, _ = knn(embedding, k)
    q = ((neighbors >= n_cells).sum(axis=1) + 1) / (k + 2)
    rho, r = expected_doublet_rate, n_sim / n_cells
    score = q * rho / r / (1 - rho - q * (1 - rho - rho / r))
    return score[:n_cells], score[n_cells:]


def scrublet(counts, pairs, *, n_comps=15, expected_doublet_rate=0.1):
    """Scores from given pairs: counts of both cells added, all embedded together."""
    counts, pairs = np.asarray(counts), np.asarray(pairs)
    both = np.vstack([counts, counts[pairs[:, 0]] + counts[pairs[:, 1]]])
    _, embedding = spectral(both, n_comps)
    return scrublet_scores(embedding, len(counts), expected_doublet_rate=expected_doublet_rate)
