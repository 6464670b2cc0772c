"""BAM to fragments against an independent reading with pysam, and against hand-made cases."""

from __future__ import annotations

import array
import gzip

import numpy as np
import pytest
from bam_cases import NAMES, converted, oracle, pair_of, pysam, random_reads, read_of, rows_of, write_bam

from gpuatac.errors import FileFormatError, InputError, OutputExistsError
from gpuatac.genome import Genome
from gpuatac.io.fragments.bam import make_fragment_file, read_bam_fragments

# --- by hand --------------------------------------------------------------------------------------


def test_a_pair_becomes_its_outer_ends_shifted_by_4_and_minus_5(tmp_path):
    rows, summary = converted(tmp_path, pair_of("a", "chr1", 1000, 1200))
    assert rows == [("chr1", 1004, 1195, "AA", 1)]
    assert (summary.reads, summary.used, summary.fragments, summary.barcodes) == (2, 2, 1, 1)


def test_copies_collapse_within_a_barcode_and_not_across(tmp_path):
    reads = [
        *pair_of("a", "chr1", 1000, 1200),
        *pair_of("b", "chr1", 1000, 1200, flip=True),
        *pair_of("c", "chr1", 1000, 1200, barcode="CC"),
        *pair_of("d", "chr1", 1000, 1201),
    ]
    rows, summary = converted(tmp_path, reads)
    assert rows == [
        ("chr1", 1004, 1195, "AA", 2),
        ("chr1", 1004, 1195, "CC", 1),
        ("chr1", 1004, 1196, "AA", 1),
    ]
    assert summary.duplicates == 1


def test_copies_with_different_umis_stay_apart(tmp_path):
    reads = [
        *pair_of("a", "chr1", 10, 300, tags={"UB": "G"}),
        *pair_of("b", "chr1", 10, 300, tags={"UB": "T"}),
        *pair_of("c", "chr1", 10, 300, tags={"UB": "T"}),
    ]
    assert sorted(r[4] for r in converted(tmp_path, reads, umi_tag="UB")[0]) == [1, 2]
    assert [r[4] for r in converted(tmp_path, reads)[0]] == [3]


def test_soft_clips_count_for_the_key_and_the_best_quality_for_the_ends(tmp_path):
    reads = [
        *pair_of("a", "chr1", 1000, 1200, clip=(5, 0), quality=(40, 20)),
        *pair_of("b", "chr1", 1000, 1200, clip=(0, 3), quality=(20, 40)),
    ]
    rows, _ = converted(tmp_path, reads)  # left end from a (1005), right end from b (1197)
    assert rows == [("chr1", 1009, 1192, "AA", 2)]


def test_among_equal_qualities_the_least_clipped_copy_counts_in_any_order(tmp_path):
    reads = [*pair_of("a", "chr1", 1000, 1200, clip=(5, 4)), *pair_of("b", "chr1", 1000, 1200)]
    for order in (reads, reads[::-1]):
        assert converted(tmp_path, order)[0] == [("chr1", 1004, 1195, "AA", 2)]


def test_copies_of_mixed_orientation_take_left_and_right_from_the_right_mates(tmp_path):
    reads = [
        *pair_of("a", "chr1", 1000, 1200, quality=(20, 20)),
        *pair_of("b", "chr1", 1000, 1200, flip=True, quality=(20, 40)),
    ]
    assert converted(tmp_path, reads)[0] == [("chr1", 1004, 1195, "AA", 2)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"extra": 256}, "secondary alignment"),
        ({"extra": 2048}, "supplementary alignment"),
        ({"extra": 512}, "fails quality checks"),
        ({"extra": 1024}, "marked as a duplicate"),
        ({"mapq": 29}, "mapping quality below min_mapq"),
        ({"barcode": None}, "no barcode"),
        ({"barcode": ""}, "no barcode"),
    ],
)
def test_a_bad_pair_is_dropped_and_counted_by_its_reason(tmp_path, change, reason):
    rows, summary = converted(
        tmp_path, [*pair_of("good", "chr1", 10, 300), *pair_of("bad", "chr1", 500, 800, **change)]
    )
    assert rows == [("chr1", 14, 295, "AA", 1)]
    assert summary.dropped[reason] == 2
    assert (summary.reads, summary.used) == (4, 2)


def test_flags_and_mates_that_make_no_fragment_are_counted_one_by_one(tmp_path):
    cb = {"CB": "AA"}
    chimera = [read_of("x", 67, "chr1", 10, "20M", tags=cb), read_of("x", 147, "chr2", 10, "20M", tags=cb)]
    lone = [read_of("l", 67, "chr1", 10, "20M", tags=cb)]
    twice = [read_of("t", 67, "chr1", 10, "20M", tags=cb), read_of("t", 67, "chr1", 10, "20M", tags=cb)]
    improper = [read_of("i", 65, "chr1", 10, "20M", tags=cb)]
    mate_off = [read_of("m", 67 | 8, "chr1", 10, "20M", tags=cb)]
    unmapped = [read_of("u", 4, "chr1", 10, "20M", tags=cb)]
    short = pair_of("s", "chr1", 50, 59, length=9)
    other = [*pair_of("o", "chr1", 10, 300)[:1], pair_of("o", "chr1", 10, 300, barcode="CC")[1]]
    umis = [
        pair_of("q", "chr1", 10, 300, tags={"UB": "A"})[0],
        pair_of("q", "chr1", 10, 300, tags={"UB": "C"})[1],
    ]
    reads = [
        *chimera,
        *lone,
        *twice,
        *improper,
        *mate_off,
        *unmapped,
        *short,
        *other,
        *umis,
        *pair_of("g", "chr2", 10, 300),
    ]
    rows, summary = converted(tmp_path, reads, umi_tag="UB")
    assert rows == [("chr2", 14, 295, "AA", 1)]
    assert {r: n for r, n in summary.dropped.items() if n} == {
        "unmapped": 1,
        "mate unmapped": 1,
        "not properly paired": 1,
        "mate missing after the filters": 1 + 1 + 2,
        "second record of the same read": 1,
        "mates with different UMIs": 2,
        "mates on different contigs": 2,
        "fragment empty after the shift": 2,
    }


def test_ends_stay_on_the_contig(tmp_path):
    reads = [*pair_of("a", "chrM", 0, 300), *pair_of("b", "chrM", 15_800, 16_000)]
    rows, _ = converted(tmp_path, reads, shift_left=-10, shift_right=10)
    assert [r[1:3] for r in rows] == [(0, 310), (15_790, 16_000)]


def test_rows_are_sorted_by_bytes_and_contigs_can_be_chosen(tmp_path):
    reads = [
        p for i, c in enumerate(NAMES) for p in pair_of(f"r{i}", c, 100 + i, 400, barcode="TC"[i % 2] * 2)
    ]
    assert [r[0] for r in converted(tmp_path, reads)[0]] == ["chr1", "chr10", "chr2", "chrM"]
    rows, summary = converted(tmp_path, reads, contigs=["chr2"])
    assert [r[0] for r in rows] == ["chr2"]
    assert summary.dropped["contig not asked for"] == 6


def test_barcodes_and_umis_come_from_names_by_regular_expression(tmp_path):
    reads = [
        *pair_of("x:AAA:G", "chr1", 10, 300, barcode=None),
        *pair_of("y:CCC:G", "chr1", 10, 300, barcode=None),
        *pair_of("z:AAA:T", "chr1", 10, 300, barcode=None),
        *pair_of("none", "chr1", 10, 300, barcode=None),
    ]
    rows, summary = converted(tmp_path, reads, barcode_regex=r":(\w+):", umi_regex=r":(\w)$")
    assert [(r[3], r[4]) for r in rows] == [("AAA", 1), ("AAA", 1), ("CCC", 1)]
    assert summary.dropped["no barcode"] == 2


def test_bulk_reads_get_the_stem_of_the_file_as_barcode(tmp_path):
    rows, _ = converted(tmp_path, pair_of("a", "chr1", 10, 300, barcode=None), barcode_tag=None)
    assert rows == [("chr1", 14, 295, "in", 1)]


def test_tags_of_every_type_before_the_barcode_are_stepped_over(tmp_path):
    reads = pair_of("a", "chr1", 10, 300, barcode=None)
    for read in reads:
        read.set_tag("XA", "c", "A")
        for n, kind in enumerate("cCsSiIf"):
            read.set_tag(f"X{n}", 1, kind)
        read.set_tag("XB", "CBZfake")
        for n, code in enumerate("bBhHiIf"):
            read.set_tag(f"Y{n}", array.array(code, [1, 2, 3]))
        read.set_tag("CB", "GATTACA-1")
    assert converted(tmp_path, reads)[0][0][3] == "GATTACA-1"


# --- seeded random files against the oracle -------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("umi", [None, "UB"])
def test_random_pairs_agree_with_pysam(tmp_path, seed, umi):
    path = write_bam(tmp_path / "in.bam", random_reads(seed))
    summary = make_fragment_file(path, tmp_path / "o.tsv.gz", umi_tag=umi)
    expected = oracle(path, umi=umi)
    assert sorted(rows_of(tmp_path / "o.tsv.gz")) == sorted(expected)
    assert [r[:4] for r in rows_of(tmp_path / "o.tsv.gz")] == [r[:4] for r in expected]
    assert summary.accounted
    assert summary.used == 2 * sum(r[4] for r in expected)


@pytest.mark.parametrize("seed", range(3))
def test_random_single_reads_agree_with_pysam(tmp_path, seed):
    path = write_bam(tmp_path / "in.bam", random_reads(seed))
    summary = make_fragment_file(path, tmp_path / "o.tsv.gz", is_paired=False)
    expected = oracle(path, paired=False)
    assert sorted(rows_of(tmp_path / "o.tsv.gz", strand=True)) == sorted(expected)
    assert summary.used == sum(r[4] for r in expected)


def test_the_order_of_the_reads_does_not_matter(tmp_path):
    reads = random_reads(11)
    first = converted(tmp_path, reads)[0]
    assert converted(tmp_path, reads[::-1])[0] == first
    assert converted(tmp_path, sorted(reads, key=lambda r: (r.reference_id, r.reference_start)))[0] == first


def test_a_file_of_several_chunks_gives_the_same_as_the_oracle(tmp_path):
    reads = [
        r
        for i in range(4500)
        for r in pair_of(
            f"n{i}", NAMES[i % 2], 10 + i % 997, 4300 + i % 991, barcode=f"B{i % 700}", length=3000
        )
    ]
    path = write_bam(tmp_path / "in.bam", reads[::2] + reads[1::2])  # mates far apart, about 41 MB inflated
    summary = make_fragment_file(path, tmp_path / "o.tsv.gz", n_threads=2)
    assert rows_of(tmp_path / "o.tsv.gz") == oracle(path)
    assert summary.barcodes == 700


def test_tiny_bam_of_macs3_agrees_with_pysam(data_dir, tmp_path):
    path = data_dir / "formats" / "macs_tiny" / "tiny.bam"
    make_fragment_file(path, tmp_path / "o.tsv.gz", barcode_tag=None, is_paired=False)
    expected = [(*r[:3], "tiny", *r[4:]) for r in oracle(path, tag=None, paired=False)]
    assert sorted(rows_of(tmp_path / "o.tsv.gz", strand=True)) == sorted(expected)
    assert sum(r[4] for r in expected) == 971


# --- Fragments, files and errors ------------------------------------------------------------------


def test_fragments_hold_the_same_rows_as_the_file(tmp_path):
    path = write_bam(tmp_path / "in.bam", random_reads(3))
    frags = read_bam_fragments(path)
    rows = [
        (frags.genome.names[c], int(s), int(e), frags.barcodes[b], int(n))
        for c, s, e, b, n in zip(
            frags.chrom_codes(), frags.start, frags.end, frags.cell, frags.count, strict=True
        )
    ]
    assert sorted(rows) == sorted(oracle(path))
    keys = [(c, s, e, b) for (c, s, e, _, _), b in zip(rows, frags.cell, strict=True)]
    assert keys == sorted(keys, key=lambda k: (k[0].encode(), *k[1:]))
    assert list(frags.barcodes) == ["AAA", "CCC", "GGG"]
    assert frags.strand is None
    assert frags.summary.accounted
    assert frags.start.dtype == frags.cell.dtype == np.int32


def test_fragments_on_a_genome_with_other_spelling_keep_its_contigs(tmp_path):
    path = write_bam(tmp_path / "in.bam", [*pair_of("a", "chr1", 10, 300), *pair_of("b", "chr2", 10, 300)])
    frags = read_bam_fragments(path, Genome("toy", {"1": 100_000, "3": 5}))
    assert frags.chrom_ptr.tolist() == [0, 1, 1]
    assert frags.summary.dropped["contig not asked for"] == 2
    with pytest.raises(InputError, match="chr1 has 100,000 bp"):
        read_bam_fragments(path, Genome("toy", {"1": 99}))
    with pytest.raises(InputError, match="4 of 4 contigs"):
        read_bam_fragments(path, Genome("toy", {"9": 99}))


def test_single_reads_carry_their_strand(tmp_path):
    path = write_bam(tmp_path / "in.bam", pair_of("a", "chr1", 10, 300))
    assert read_bam_fragments(path, is_paired=False).strand.tolist() == [1, -1]


def test_metrics_are_those_of_the_library(tmp_path):
    reads = [
        *pair_of("a", "chr1", 0, 100),
        *pair_of("b", "chr1", 0, 100),
        *pair_of("c", "chr1", 0, 250, mapq=10),
        *pair_of("d", "chrM", 0, 250),
        *pair_of("e", "chr1", 0, 250, barcode=None),
        *pair_of("f", "chr2", 0, 250),
    ]
    _, summary = converted(tmp_path, reads)
    metrics = summary.metrics
    assert metrics["sequenced_read_pairs"] == 6
    assert metrics["frac_valid_barcode"] == pytest.approx(5 / 6)
    assert metrics["frac_confidently_mapped"] == pytest.approx(5 / 6)
    assert metrics["frac_nonnuclear"] == pytest.approx(1 / 6)
    assert metrics["frac_duplicates"] == pytest.approx(1 / 4)
    assert metrics["frac_fragment_in_nucleosome_free_region"] == pytest.approx(1 / 3)
    assert metrics["frac_fragment_flanking_single_nucleosome"] == pytest.approx(1 / 3)


def test_share_of_unmapped_single_reads_counts_the_unmapped(tmp_path):
    tags = {"CB": "AAC"}
    reads = [read_of(f"r{k}", 4 if k == 0 else 0, "chr1", 100 * k, "50M", tags=tags) for k in range(5)]
    _, summary = converted(tmp_path, reads, is_paired=False)
    assert summary.metrics["frac_unmapped"] == pytest.approx(1 / 5)


def test_a_header_without_version_as_cell_ranger_writes_it_is_read(tmp_path):
    text = pysam.AlignmentHeader.from_text("@HD\tSO:coordinate\n@SQ\tSN:chr2\tLN:100000\n")
    path = write_bam(tmp_path / "x.bam", pair_of("a", "chr2", 10, 300), text=text)
    summary = make_fragment_file(path, tmp_path / "o.tsv", source="10x")
    assert (tmp_path / "o.tsv").read_text() == "chr2\t14\t295\tAA\t1\n"
    assert "Cell Ranger" in summary.as_text()


def test_an_output_is_not_replaced_unasked_and_ends_with_the_bgzf_mark(tmp_path):
    path = write_bam(tmp_path / "in.bam", pair_of("a", "chr1", 10, 300))
    out = tmp_path / "o.tsv.gz"
    make_fragment_file(path, out)
    assert out.read_bytes().endswith(
        bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
    )
    with pytest.raises(OutputExistsError, match="force"):
        make_fragment_file(path, out)
    pysam.tabix_index(str(out), preset="bed")
    with pysam.TabixFile(str(out)) as tabix:
        assert list(tabix.fetch("chr1", 0, 50)) == ["chr1\t14\t295\tAA\t1"]


def test_a_truncated_or_damaged_file_is_refused_with_the_offset_and_leaves_nothing(tmp_path):
    path = write_bam(tmp_path / "in.bam", random_reads(1, n=3000))
    whole = path.read_bytes()
    out = tmp_path / "out" / "o.tsv.gz"
    for name, data in {
        "cut": whole[: len(whole) // 2],
        "no_end": whole[:-28],
        "flipped": whole[:3000] + bytes([whole[3000] ^ 255]) + whole[3001:],
    }.items():
        broken = tmp_path / f"{name}.bam"
        broken.write_bytes(data)
        with pytest.raises(FileFormatError, match="byte offset") as info:
            make_fragment_file(broken, out)
        assert info.value.offset is not None
        assert list(out.parent.iterdir()) == []


def _bgzf(payload, path):
    from gpuatac.io.files.bgzf import BgzfWriter

    with BgzfWriter(path) as out:
        out.write(payload)
    return path


def test_bytes_that_are_no_bam_records_are_refused(tmp_path):
    good = gzip.open(write_bam(tmp_path / "in.bam", pair_of("a", "chr1", 10, 300))).read()
    for name, payload, found in [
        ("text", b"@HD\tVN:1.6\n", "no BAM"),
        ("header", good[:30], "within the header"),
        ("tail", good[:-5], "within a record"),
        ("size", good + (5).to_bytes(4, "little"), "impossible size"),
        ("inner", good + (36).to_bytes(4, "little") + b"\xff" * 36, "does not hold together"),
    ]:
        with pytest.raises(FileFormatError, match=found):
            read_bam_fragments(_bgzf(payload, tmp_path / f"{name}.bam"))


def test_other_formats_and_missing_files_are_named(tmp_path):
    sam = tmp_path / "a.sam"
    sam.write_text("@HD\tVN:1.6\n")
    with pytest.raises(FileFormatError, match=r"SAM text.*samtools"):
        read_bam_fragments(sam)
    with pytest.raises(FileNotFoundError, match="BAM file"):
        read_bam_fragments(tmp_path / "none.bam")


def test_no_fragment_at_all_says_why(tmp_path):
    single = write_bam(tmp_path / "s.bam", [read_of("a", 0, "chr1", 10, "20M", tags={"CB": "A"})])
    with pytest.raises(InputError, match="is_paired=False"):
        read_bam_fragments(single)
    bare = write_bam(tmp_path / "b.bam", pair_of("a", "chr1", 10, 300, barcode=None))
    with pytest.raises(InputError, match="has tag CB; pass another barcode_tag"):
        read_bam_fragments(bare)
    with pytest.raises(InputError, match="has a match of"):
        read_bam_fragments(bare, barcode_regex="(Z)")
    low = write_bam(tmp_path / "l.bam", pair_of("a", "chr1", 10, 300, mapq=1))
    with pytest.raises(InputError, match="2 mapping quality below"):
        read_bam_fragments(low)
    empty = write_bam(tmp_path / "e.bam", [])
    with pytest.raises(InputError, match="holds no reads"):
        read_bam_fragments(empty)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"barcode_tag": "CBX"}, "two letters"),
        ({"barcode_regex": "no group"}, "exactly one group"),
        ({"barcode_regex": "("}, "no regular expression"),
        ({"umi_tag": "UB", "umi_regex": "(.)"}, "one of them"),
        ({"min_mapq": 256}, "min_mapq"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, arguments, match):
    path = write_bam(tmp_path / "in.bam", pair_of("a", "chr1", 10, 300))
    with pytest.raises(InputError, match=match):
        read_bam_fragments(path, **arguments)


def test_contigs_that_are_not_in_the_file_are_named(tmp_path):
    path = write_bam(tmp_path / "in.bam", pair_of("a", "chr1", 10, 300))
    with pytest.raises(InputError, match=r"1 of 2 contigs are absent.*chr7"):
        make_fragment_file(path, tmp_path / "o.tsv", contigs=["chr1", "chr7"])
