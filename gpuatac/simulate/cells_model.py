"""The model behind ``simulate_fragments``: genes, peaks, cells and windows of fragments drawn from them.

For barcode c with depth d_c (fragments), share in peaks f_c and profile p (of its cell type, batch and
state, summing to 1 over peaks):

    in-peak fragments of peak j   ~ Poisson(d_c * f_c * p_j)
    background fragments per bp   ~ Poisson(d_c * (1 - f_c) / usable bp)
    mitochondrial fragments       ~ Poisson(d_c * mito_fraction * noise)

Within a type, cells lie uniformly on a line between two profiles. A doublet is the sum of two cells; an
empty droplet draws the ambient mean of all types at low depth and low f. Lengths mix nucleosome-free, mono-,
di- and trinucleosomal parts with the 10.4-bp turn of the DNA helix; nucleosomal fragments lie beside the
summit (sd 80 bp), free ones on it, and half of those of a TSS spread around it (sd 600 bp). The genome is
walked in windows, so memory follows one window, not the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

WINDOW = 16_000_000  # bp generated at a time
OVERHANG = 5_000  # bp that a fragment may start before the window its position was drawn in
EDGE = 10_000  # bp left empty at each chromosome end
MIN_CHROM = 5_000  # shorter chromosomes get neither peaks nor fragments
MAX_LENGTH = 900  # bp, longest fragment
LEAK = 0.1  # accessibility of a closed peak relative to an open one
PEAK_MIX = (0.62, 0.26, 0.09, 0.03)  # nucleosome-free, mono-, di-, trinucleosomal fragments
BACKGROUND_MIX = (0.35, 0.42, 0.17, 0.06)


class Loci(NamedTuple):
    """Genes in genome order and peaks sorted by (chrom, pos)."""

    gene_chrom: np.ndarray  # int16, index into the chromosome list
    gene_tss: np.ndarray  # int64, 0-based
    gene_length: np.ndarray  # int64, bp
    gene_forward: np.ndarray  # bool
    gene_open: np.ndarray  # bool (n_genes, n_types)
    peak_chrom: np.ndarray  # int16
    peak_pos: np.ndarray  # int64, the summit
    peak_gene: np.ndarray  # int64: the gene of a TSS peak, -1 for distal peaks
    peak_open: np.ndarray  # bool (n_peaks, n_types)
    profile: np.ndarray  # float64 (n_peaks, n_types * n_batches * 2 + 1), columns sum to 1; the last is ambient


class Cells(NamedTuple):
    """Barcodes, cells first; ``unit_*`` are the parts they are made of (a doublet has two)."""

    barcode: np.ndarray  # bytes
    cell_type: np.ndarray  # int64, -1 for empty droplets
    second_type: np.ndarray  # int64, -1 unless a doublet
    batch: np.ndarray  # int64
    unit_cell: np.ndarray
    unit_profile: np.ndarray
    unit_depth: np.ndarray
    unit_frip: np.ndarray


def usable_bp(sizes: np.ndarray, mito: np.ndarray) -> np.ndarray:
    """Base pairs of each chromosome that take peaks and fragments, int64; 0 where it is too short."""
    return np.where((sizes >= MIN_CHROM) & ~mito, sizes - 2 * np.minimum(EDGE, sizes // 10), 0)


def _place(rng: np.random.Generator, usable: np.ndarray, sizes: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """n uniform positions on the usable genome, sorted: chromosome (int16) and position (int64)."""
    ends = np.cumsum(usable)
    at = np.sort(rng.integers(0, ends[-1], n))
    chrom = np.searchsorted(ends, at, side="right")
    return chrom.astype(np.int16), at - (ends - usable)[chrom] + ((sizes - usable) // 2)[chrom]


def _open_in(rng: np.random.Generator, n: int, n_types: int, specific: float) -> np.ndarray:
    """bool (n, n_types): open everywhere, or in a random type and, for 35 % and 15 %, the next one or two."""
    everywhere = rng.random(n) >= specific
    first, more = rng.integers(0, n_types, n), rng.random(n)
    is_open = np.tile(everywhere[:, None], (1, n_types))
    for step, chance in enumerate((1.0, 0.35, 0.15)):
        rows = np.flatnonzero(more < chance)
        is_open[rows, (first[rows] + step) % n_types] = True
    return is_open


def draw_loci(
    rng: np.random.Generator,
    usable: np.ndarray,
    sizes: np.ndarray,
    *,
    n_genes: int,
    n_distal: int,
    n_types: int,
    n_batches: int,
    specific: float,
    batch_effect: float,
    state_effect: float,
    tss_share: float,
) -> Loci:
    """Genes, peaks and the accessibility profile of each type and batch."""
    chrom, tss = _place(rng, usable, sizes, n_genes)
    forward = rng.random(n_genes) < 0.5
    length = np.clip(np.exp(rng.normal(9.8, 1.1, n_genes)), 500, 400_000).astype(np.int64)
    length = np.minimum(length, np.where(forward, sizes[chrom] - tss, tss + 1))
    gene_open = _open_in(rng, n_genes, n_types, specific / 2)

    far_chrom, far = _place(rng, usable, sizes, n_distal)
    far_open = _open_in(rng, n_distal, n_types, specific)
    # A distal peak within the body of a marker gene follows that gene: gene activity carries the type.
    left, right = np.where(forward, tss, tss - length + 1), np.where(forward, tss + length, tss + 1)
    offset = np.concatenate([[0], np.cumsum(sizes)])
    for marker in np.flatnonzero(~gene_open.all(axis=1)):
        body = offset[chrom[marker]] + np.array([left[marker], right[marker]])
        lo, hi = np.searchsorted(offset[far_chrom] + far, body)
        far_open[lo:hi] = gene_open[marker]

    summit = np.maximum(tss + np.where(forward, -30, 30), 0)  # the nucleosome-free gap lies upstream
    all_chrom, pos = np.concatenate([chrom, far_chrom]), np.concatenate([summit, far])
    gene = np.concatenate([np.arange(n_genes), np.full(n_distal, -1)])
    is_open = np.concatenate([gene_open, far_open])
    order = np.lexsort((pos, all_chrom))
    all_chrom, pos, gene, is_open = all_chrom[order], pos[order], gene[order], is_open[order]
    gap = np.diff(pos + offset[all_chrom])
    crowded = np.concatenate([[False], gap < 600]) | np.concatenate([(gap < 600) & (gene[1:] >= 0), [False]])
    keep = (gene >= 0) | ~crowded
    all_chrom, pos, gene, is_open = all_chrom[keep], pos[keep], gene[keep], is_open[keep]

    weight = np.exp(rng.normal(0, 0.8, len(pos)))
    if (gene < 0).any():
        weight[gene >= 0] *= tss_share / weight[gene >= 0].sum()
        weight[gene < 0] *= (1 - tss_share) / weight[gene < 0].sum()
    n = len(pos)
    state = rng.normal(0, state_effect / 2, (n, n_types))
    ends = np.exp(np.stack([state, -state], axis=2))
    batch = np.exp(rng.normal(0, batch_effect if n_batches > 1 else 0.0, (n, n_batches)))
    mean = weight[:, None] * (is_open + LEAK)
    profile = (mean[:, :, None, None] * batch[:, None, :, None] * ends[:, :, None, :]).reshape(n, -1)
    profile /= profile.sum(axis=0)
    profile = np.column_stack([profile, profile.mean(axis=1)])
    return Loci(chrom, tss, length, forward, gene_open, all_chrom, pos, gene, is_open, profile)


def draw_cells(
    rng: np.random.Generator,
    *,
    n_cells: int,
    n_types: int,
    n_batches: int,
    depth: float,
    doublet_rate: float,
    n_empty: int,
    empty_depth: float,
    frip: float,
) -> Cells:
    """Barcodes with type, batch, depth and share in peaks."""
    n, n_doublets = n_cells + n_empty, round(n_cells * doublet_rate)
    share = rng.dirichlet(np.full(n_types, 50.0))
    cell_type = rng.choice(n_types, n_cells, p=share)
    cell_type[:n_types] = np.arange(n_types)[:n_cells]  # no type is empty where there are cells enough
    cell_type = rng.permutation(cell_type)
    second = np.full(n, -1)
    second[rng.choice(n_cells, n_doublets, replace=False)] = rng.choice(n_types, n_doublets, p=share)
    batch = rng.integers(0, n_batches, n)

    def log_normal(size: int, sd: float, mean: float) -> np.ndarray:
        return mean * np.exp(rng.normal(0, sd, size) - sd**2 / 2)

    # A cell lies between the two ends of its type: a unit at each end, of depth d * t and d * (1 - t).
    twice, empty = np.flatnonzero(second >= 0), np.arange(n_cells, n)
    whole = np.concatenate([np.arange(n_cells), twice])
    profile = 2 * (np.concatenate([cell_type, second[twice]]) * n_batches + batch[whole])
    depths, state = log_normal(len(whole), 0.35, depth), rng.random(len(whole))
    odds = frip / max(1 - frip, 1e-9) * np.exp(rng.normal(0, 0.3, len(whole) + n_empty))
    odds[len(whole) :] *= 0.35
    share_in_peaks = odds / (1 + odds)
    return Cells(
        _barcodes(rng, batch),
        np.concatenate([cell_type, np.full(n_empty, -1)]),
        second,
        batch,
        unit_cell=np.concatenate([whole, whole, empty]),
        unit_profile=np.concatenate([profile, profile + 1, np.full(n_empty, 2 * n_types * n_batches)]),
        unit_depth=np.concatenate([depths * state, depths * (1 - state), log_normal(n_empty, 1.0, empty_depth)]),
        unit_frip=np.concatenate([share_in_peaks[: len(whole)], share_in_peaks]),
    )


def _barcodes(rng: np.random.Generator, batch: np.ndarray) -> np.ndarray:
    """Distinct barcodes of 16 bases, as bytes, with the suffix of their batch."""
    codes = np.empty(0, np.int64)
    while len(codes) < len(batch):
        codes = np.unique(np.concatenate([codes, rng.integers(0, 4**16, len(batch) - len(codes))]))
    bases = np.frombuffer(b"ACGT", np.uint8)[(rng.permutation(codes)[:, None] >> np.arange(0, 32, 2)) & 3]
    suffix = np.char.add(b"-", (batch + 1).astype(np.bytes_))
    return np.char.add(np.ascontiguousarray(bases).view("S16").ravel(), suffix)


def _length_cdf(mix: tuple[float, ...]) -> np.ndarray:
    """Cumulative probability over (nucleosomes 0-3, length 20-900 bp), flattened."""
    x = np.arange(20, MAX_LENGTH + 1, dtype=np.float64)
    free = (x - 15) ** 1.5 * np.exp(-(x - 15) / 28) * (1 + 0.15 * np.cos(2 * np.pi * x / 10.4))
    parts = [free, *(np.exp(-0.5 * ((x - mean) / sd) ** 2) for mean, sd in ((198, 24), (385, 38), (570, 50)))]
    cdf = np.cumsum(np.concatenate([share * p / p.sum() for share, p in zip(mix, parts, strict=True)]))
    share_below: np.ndarray = cdf / cdf[-1]
    return share_below


def _lengths(rng: np.random.Generator, n: int, cdf: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """n fragment lengths in bp and whether each is nucleosomal."""
    nucleosomes, length = np.divmod(np.searchsorted(cdf, rng.random(n), side="right"), MAX_LENGTH - 19)
    return length + 20, nucleosomes > 0


def fragment_windows(
    rng: np.random.Generator,
    loci: Loci,
    cells: Cells,
    *,
    sizes: np.ndarray,
    usable: np.ndarray,
    mito: np.ndarray,
    mito_fraction: float,
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray, int]]:
    """(chrom, start, end, cell, bp walked) per window; no later start lies before those given."""
    in_peak, beside = _length_cdf(PEAK_MIX), _length_cdf(BACKGROUND_MIX)
    edge = (sizes - usable) // 2
    n_profiles = loci.profile.shape[1]
    for chrom in np.flatnonzero(usable):
        first = np.searchsorted(loci.peak_chrom, chrom)
        here = slice(first, np.searchsorted(loci.peak_chrom, chrom, side="right"))
        pos, at_tss = loci.peak_pos[here], loci.peak_gene[here] >= 0
        held = np.empty((3, 0), np.int64)
        for w0 in range(0, int(sizes[chrom]), WINDOW):
            w1 = min(w0 + WINDOW, int(sizes[chrom]))
            a, b = np.searchsorted(pos, [w0, w1])
            mass = np.cumsum(loci.profile[first + a : first + b], axis=0)
            made = []
            if b > a:
                n = rng.poisson(cells.unit_depth * cells.unit_frip * mass[-1, cells.unit_profile])
                which = np.repeat(cells.unit_profile, n)
                # one search for all profiles: the distribution of profile f fills (f, f + 1]
                ladder = (mass / mass[-1] + np.arange(n_profiles)).ravel(order="F")
                peak = np.searchsorted(ladder, which + rng.random(len(which)), side="right") - which * (b - a)
                length, nucleosomal = _lengths(rng, len(which), in_peak)
                aside = np.where(rng.random(len(which)) < 0.5, -1, 1) * nucleosomal * (90 + length / 2)
                peak = np.clip(peak, 0, b - a - 1)
                broad = at_tss[a:b][peak] & (rng.random(len(which)) < 0.5)  # open chromatin around a TSS
                middle = pos[a:b][peak] + rng.normal(0, np.where(broad, 600, 80)) + aside
                made.append((middle.astype(np.int64) - length // 2, length, np.repeat(cells.unit_cell, n)))
            lo, hi = max(w0, edge[chrom]), min(w1, sizes[chrom] - edge[chrom])
            if hi > lo:
                n = rng.poisson(cells.unit_depth * (1 - cells.unit_frip) * ((hi - lo) / usable.sum()))
                length, _ = _lengths(rng, n.sum(), beside)
                begin = rng.integers(lo, hi, n.sum()) - length // 2
                made.append((begin, length, np.repeat(cells.unit_cell, n)))
            start, length, cell = np.concatenate([held, *map(np.stack, made)], axis=1)
            start = np.clip(start, max(0, w0 - OVERHANG), sizes[chrom] - length)
            later = start >= w1 - OVERHANG if w1 < sizes[chrom] else np.zeros(len(start), bool)
            held = np.stack([start, length, cell])[:, later]
            start, length, cell = start[~later], length[~later], cell[~later]
            yield int(chrom), start, start + length, cell, w1 - w0
    for chrom in np.flatnonzero(mito & (sizes > MAX_LENGTH))[:1]:
        noise = np.exp(rng.normal(0, 0.5, len(cells.unit_depth)))
        n = rng.poisson(cells.unit_depth * mito_fraction * noise)
        length, _ = _lengths(rng, n.sum(), in_peak)
        start = rng.integers(0, sizes[chrom] - length + 1)
        yield int(chrom), start, start + length, np.repeat(cells.unit_cell, n), int(sizes[chrom])
