"""Counting over chromosomes, merged regions and gene spans, against the oracles."""

from __future__ import annotations

import itertools

import numpy as np
import oracles
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuatac.backend import get
from gpuatac.backend.protocol import STRATEGIES, Csr
from gpuatac.core.counting import counts, quality
from gpuatac.core.counting.regions import coordinates, gene_spans
from gpuatac.errors import InputError
from gpuatac.fragments import Fragments
from gpuatac.genome import Genome

SIZES = {"chr1": 9000, "chr10": 3050, "chr2": 501, "chrM": 700, "chrY": 800}
GENOME = Genome("toy", SIZES)
BARCODES = ["A", "B", "C", "D"]


def random_fragments(seed, n=300):
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        chrom = list(SIZES)[rng.integers(len(SIZES))]
        start = int(rng.integers(0, SIZES[chrom]))
        end = min(start + int(rng.integers(1, 900)), SIZES[chrom])
        out.append(oracles.Fragment(chrom, start, end, BARCODES[rng.integers(3)], int(rng.integers(1, 9))))
    return out


def table(bk, fragments):
    """``Fragments`` as the reader would give them; the last barcode has none."""
    order = sorted(fragments, key=lambda f: (GENOME.code[f.chrom], f.start, f.end, f.barcode))
    code = np.array([GENOME.code[f.chrom] for f in order], np.int64)
    ptr = np.searchsorted(code, np.arange(len(SIZES) + 1))
    columns = [
        bk.asarray(np.array(values, np.int32))
        for values in (
            [f.start for f in order],
            [f.end for f in order],
            [BARCODES.index(f.barcode) for f in order],
            [f.count for f in order],
        )
    ]
    return Fragments(GENOME, np.array(BARCODES, object), ptr, *columns)


def asked(bk, fragments, row_of_cell=(0, 1, 2, 3)):
    return counts.sample_rows(bk, table(bk, fragments), np.array(row_of_cell, np.int32))


def dense(bk, parts: Csr, n_columns, n_rows=4):
    return np.asarray(bk.csr_to_host(bk.csr(parts, (n_rows, n_columns))).toarray(), np.int64)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("bin_size", [13, 500, 100_000])
def test_tile_matrix_of_all_chromosomes_follows_the_definition(bk, strategy, bin_size):
    fragments = random_fragments(bin_size)
    codes = [i for i, name in enumerate(GENOME.names) if name not in oracles.NOT_TILED]
    found = counts.tile_matrix(
        bk, asked(bk, fragments), 4, codes=codes, sizes=GENOME.sizes, bin_size=bin_size, strategy=strategy
    )
    expected = oracles.tile_counts(fragments, BARCODES, SIZES, bin_size=bin_size, strategy=strategy)
    np.testing.assert_array_equal(dense(bk, found, expected.shape[1]), expected)


def test_rows_may_be_reordered_and_cells_left_out(bk):
    fragments = random_fragments(1)
    arguments = {"codes": range(5), "sizes": GENOME.sizes, "bin_size": 500, "strategy": "insertion"}
    whole = dense(bk, counts.tile_matrix(bk, asked(bk, fragments), 4, **arguments), 31)
    part = dense(bk, counts.tile_matrix(bk, asked(bk, fragments, (1, -1, 0, -1)), 2, **arguments), 31, 2)
    np.testing.assert_array_equal(part, whole[[2, 0]])


def test_insertions_of_all_chromosomes_sum_to_twice_the_fragments(bk):
    fragments = random_fragments(2)
    found = counts.tile_matrix(
        bk, asked(bk, fragments), 4, codes=range(5), sizes=GENOME.sizes, bin_size=77, strategy="insertion"
    )
    assert int(bk.to_host(found.data).sum()) == 2 * len(fragments)


def test_no_fragments_at_all_give_zeros(bk):
    sample = asked(bk, [])
    found = counts.tile_matrix(
        bk, sample, 4, codes=range(5), sizes=GENOME.sizes, bin_size=500, strategy="insertion"
    )
    assert dense(bk, found, 31).sum() == 0
    totals = counts.cell_totals(bk, sample, 4, mito_codes=[3])
    assert totals.rows.tolist() == totals.copies.tolist() == [0, 0, 0, 0]
    assert quality.quality(bk, sample, 4, quality.Question(max_length=5)).lengths.tolist() == [0] * 6


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_regions_keep_their_order_and_repeats(bk, strategy):
    fragments = random_fragments(3)
    rng = np.random.default_rng(0)
    spans = []
    for _ in range(40):
        chrom = list(SIZES)[rng.integers(len(SIZES))]
        start = int(rng.integers(0, SIZES[chrom]))
        spans.append((chrom, start, min(start + int(rng.integers(1, 2000)), SIZES[chrom])))
    spans += [spans[5], spans[5], ("absent", 5, 50), spans[0]]
    at = coordinates(pd.DataFrame(spans, columns=["chrom", "start", "end"]), GENOME, what="peaks")
    found = counts.region_matrix(
        bk, asked(bk, fragments), 4, chrom=at.chrom, start=at.start, end=at.end, strategy=strategy
    )
    expected = oracles.region_counts(fragments, BARCODES, spans, strategy=strategy)
    np.testing.assert_array_equal(dense(bk, found, len(spans)), expected)
    assert expected[:, -2].sum() == 0  # the absent chromosome keeps its column


@pytest.mark.parametrize("as_insertion", [False, True])
def test_overlap_with_unsorted_overlapping_regions_counts_once(bk, as_insertion):
    fragments = random_fragments(4)
    spans = [("chr1", 500, 900), ("chr1", 100, 600), ("chr10", 0, 3050), ("chr1", 550, 560), ("nope", 0, 9)]
    at = coordinates(pd.DataFrame(spans, columns=["chrom", "start", "end"]), GENOME, what="regions")
    question = quality.Question(regions=(at,), as_insertion=as_insertion)
    found = quality.quality(bk, asked(bk, fragments), 4, question).in_regions[0]
    share = oracles.frip(fragments, BARCODES, spans, count_as_insertion=as_insertion)
    total = np.array([sum(f.barcode == b for f in fragments) for b in BARCODES]) * (1 + as_insertion)
    np.testing.assert_array_equal(found, np.rint(np.nan_to_num(share) * total))


def test_cell_totals_count_rows_copies_and_mitochondrial_rows(bk):
    fragments = random_fragments(5)
    totals = counts.cell_totals(bk, asked(bk, fragments), 4, mito_codes=GENOME.mito_codes())
    for i, barcode in enumerate(BARCODES):
        own = [f for f in fragments if f.barcode == barcode]
        assert totals.rows[i] == len(own)
        assert totals.copies[i] == sum(f.count for f in own)
        assert totals.mito_rows[i] == sum(f.chrom == "chrM" for f in own)


def test_lengths_are_added_over_chromosomes(bk):
    fragments = random_fragments(6)
    question = quality.Question(max_length=400, bounds=(147, 294))
    found = quality.quality(bk, asked(bk, fragments), 4, question)
    np.testing.assert_array_equal(found.lengths, oracles.frag_size_distr(fragments, max_recorded_size=400))
    assert found.classes.sum() == len(fragments)
    assert found.classes[0, 1] == sum(147 <= f.end - f.start < 294 and f.barcode == "A" for f in fragments)


def test_cuts_on_chromosomes_without_a_tss_belong_to_all_cuts(bk):
    fragments = [oracles.Fragment("chr1", 3000, 3100, "A"), oracles.Fragment("chrM", 5, 50, "A")]
    site = quality.Sites(np.array([0]), np.array([3000]), np.array([False]))
    found = quality.quality(bk, asked(bk, fragments), 4, quality.Question(sites=site)).tss
    assert (found.n_inside, found.n_insertions) == (2, 4)


# --------------------------------------------------------------------------------------------- merged regions

intervals = st.lists(
    st.tuples(st.integers(-1, 2), st.integers(0, 60), st.integers(0, 25)).map(
        lambda t: (t[0], t[1], t[1] + t[2])
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(intervals)
def test_merged_intervals_cover_the_same_bases_and_are_disjoint(given_intervals):
    columns = np.array(given_intervals, np.int64).reshape(-1, 3).T
    chrom, start, end = counts.merge_intervals(*columns)
    assert chrom.dtype == start.dtype == end.dtype == np.int32
    covered = {(c, p) for c, s, e in given_intervals if c >= 0 for p in range(s, e)}
    found = [(c, p) for c, s, e in zip(chrom, start, end, strict=True) for p in range(s, e)]
    assert len(found) == len(set(found))
    assert set(found) == covered
    merged = list(zip(chrom.tolist(), start.tolist(), end.tolist(), strict=True))
    assert merged == sorted(merged)
    for (c1, _, e1), (c2, s2, _) in itertools.pairwise(merged):
        assert c1 != c2 or e1 < s2  # those that touch are one


def test_merging_holds_at_the_end_of_int32_and_for_many_chromosomes():
    top = 2**31 - 1
    chrom, start, end = counts.merge_intervals(
        np.array([40_000, 40_000, 0]), np.array([top - 5, top - 9, top - 1]), np.array([top, top - 4, top])
    )
    assert chrom.tolist() == [0, 40_000]
    assert start.tolist() == [top - 1, top - 9]
    assert end.tolist() == [top, top]


# ------------------------------------------------------------------------------------------------ gene spans

TRANSCRIPTS = [
    oracles.Transcript("chr1", 3000, 4000, "+", "t1", "g1", "G1"),
    oracles.Transcript("chr1", 500, 1200, "-", "t2", "g2", "G2"),
    oracles.Transcript("chr1", 100, 3000, "+", "t3", "g1", "G1"),
    oracles.Transcript("chr10", 2000, 2001, "-", "t4", "g3", "G3"),
]


def frame(transcripts):
    return pd.DataFrame(transcripts, columns=list(oracles.Transcript._fields))


@pytest.mark.parametrize("rule", ["closed", "snapatac2"])
@pytest.mark.parametrize("body", [True, False])
@pytest.mark.parametrize(("upstream", "downstream"), [(2000, 0), (0, 0), (300, 70)])
def test_gene_spans_follow_the_definition_clipped_to_the_chromosome(rule, body, upstream, downstream):
    found = gene_spans(
        frame(TRANSCRIPTS), GENOME, upstream=upstream, downstream=downstream, include_gene_body=body,
        interval_rule=rule,
    )  # fmt: skip
    expected = oracles.gene_regions(
        TRANSCRIPTS, rule=rule, upstream=upstream, downstream=downstream, include_gene_body=body
    )
    for i, (chrom, start, end) in enumerate(expected):
        assert GENOME.names[found.chrom[i]] == chrom
        assert (found.start[i], found.end[i]) == (start, min(end, SIZES[chrom]))


def test_last_base_of_a_gene_counts_under_our_rule_and_not_under_the_peers():
    # a cut at the last base, 3999: the documented difference from SnapATAC2 2.9.0, both numbers
    bk = get("cpu")
    fragments = [oracles.Fragment("chr1", 3999, 4500, "A")]
    both = {}
    for rule in ("closed", "snapatac2"):
        spans = gene_spans(
            frame(TRANSCRIPTS[:1]), GENOME, upstream=0, downstream=0, include_gene_body=True,
            interval_rule=rule,
        )  # fmt: skip
        parts = counts.region_matrix(
            bk, asked(bk, fragments), 4, chrom=spans.chrom, start=spans.start, end=spans.end,
            strategy="insertion",
        )  # fmt: skip
        both[rule] = int(parts.data.sum())
    assert both == {"closed": 1, "snapatac2": 0}


def test_regions_on_no_chromosome_of_the_genome_are_refused_with_both_spellings():
    regions = pd.DataFrame({"chrom": ["scaffold_7"], "start": [1], "end": [5]})
    with pytest.raises(InputError, match="none of the 1 peaks lies on a chromosome of genome toy") as caught:
        coordinates(regions, GENOME, what="peaks")
    assert "scaffold_7" in str(caught.value)
    assert "chr1" in str(caught.value)


def test_regions_named_without_chr_are_found():
    at = coordinates(pd.DataFrame({"chrom": ["1", "MT", "z"], "start": 1, "end": 5}), GENOME, what="peaks")
    assert at.chrom.tolist() == [GENOME.code["chr1"], GENOME.code["chrM"], -1]
