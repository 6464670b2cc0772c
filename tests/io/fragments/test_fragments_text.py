"""Fragment files of every kind to sorted columns, with every line accounted for."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from text_files import KIND, PACKINGS, bgzf, frame_of, members, one_gzip, rows_of, same_table

import gpuatac as ga
from gpuatac import Genome
from gpuatac.errors import FileFormatError, InputError, MissingFileError
from gpuatac.fragments import DROP_REASONS
from gpuatac.io.fragments.text import stem_of
from gpuatac.io.tables.barcode_lists import read_whitelist

GENOME = Genome("g", {"chr1": 1000, "chr2": 500, "chr10": 800, "chrM": 100})
TABLE = """\
chr1\t100\t200\tB-1\t2
chr1\t50\t90\tA-1\t1
chr2\t0\t500\tA-1\t3
chr10\t7\t8\tB-1\t1
chrM\t0\t100\tA-1\t4
"""
#: The same, as the table holds it: chromosomes in byte order, then by start.
ROWS = [
    ("chr1", 50, 90, "A-1", 1),
    ("chr1", 100, 200, "B-1", 2),
    ("chr10", 7, 8, "B-1", 1),
    ("chr2", 0, 500, "A-1", 3),
    ("chrM", 0, 100, "A-1", 4),
]


def read(folder, text, *, genome=GENOME, name="f.tsv", **options):
    data = text.encode("latin-1") if isinstance(text, str) else text
    path = folder / name
    path.write_bytes(data)
    fragments = ga.io.read_fragments(path, genome, device="cpu", **options)
    s = fragments.summary
    assert s.lines == s.kept + sum(s.dropped.values())
    assert s.accounted
    assert s.kept == len(fragments)
    assert set(s.dropped) == set(DROP_REASONS)
    return fragments


def dropped(fragments):
    return {reason: n for reason, n in fragments.summary.dropped.items() if n}


# ---------------------------------------------------------------------------------------- what it reads


@pytest.mark.parametrize("packing", PACKINGS)
def test_table_is_read_from_every_packing(tmp_path, packing):
    fragments = read(tmp_path, PACKINGS[packing](TABLE.encode()))
    assert rows_of(fragments) == ROWS
    assert fragments.barcodes.tolist() == ["A-1", "B-1"]
    assert fragments.chrom_ptr.tolist() == [0, 2, 3, 4, 5]
    assert fragments.strand is None
    assert [fragments.start.dtype, fragments.end.dtype, fragments.cell.dtype, fragments.count.dtype] == [np.int32] * 4
    s = fragments.summary
    assert (s.source, s.lines, s.kept, s.n_barcodes_seen, s.n_columns) == ("f.tsv", 5, 5, 2, 5)
    assert s.compression == KIND[packing]


@pytest.mark.parametrize(
    ("text", "strand"),
    [
        ("chr1\t1\t5\tA\nchr1\t2\t9\tB\n", None),
        ("chr1\t1\t5\tA\t1\nchr1\t2\t9\tB\t1\n", None),
        ("chr1\t1\t5\tA\t.\nchr1\t2\t9\tB\t.\n", None),
        ("chr1\t1\t5\tA\t1\t+\nchr1\t2\t9\tB\t1\t-\n", [1, -1]),
        ("chr1\t1\t5\tA\t.\t.\nchr1\t2\t9\tB\t1\t-\n", [0, -1]),
        ("chr1\t1\t5\tA\nchr1\t2\t9\tB\t1\t-\n", [0, -1]),  # columns may differ from line to line
        ("chr1\t2\t9\tB\t1\t-\nchr1\t1\t5\tA\t1\t+\n", [1, -1]),
    ],
)
def test_four_to_six_columns(tmp_path, text, strand):
    fragments = read(tmp_path, text)
    assert rows_of(fragments) == [("chr1", 1, 5, "A", 1), ("chr1", 2, 9, "B", 1)]
    assert (fragments.strand if strand is None else fragments.strand.tolist()) == strand


def test_three_columns_are_one_bulk_sample_of_any_size(tmp_path):
    text = "chr1\t1\t5\nchrM\t2\t9\nchr1\t1\t5\n"
    fragments = read(tmp_path, text, name="liver.bed", min_num_fragments=1000)
    assert rows_of(fragments) == [("chr1", 1, 5, "liver", 1), ("chr1", 1, 5, "liver", 1), ("chrM", 2, 9, "liver", 1)]
    assert fragments.summary.n_columns == 3
    assert read(tmp_path, text, bulk_name="S1").barcodes.tolist() == ["S1"]
    assert read(tmp_path, "chrX\t1\t5\n").barcodes.tolist() == []


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        (TABLE.replace("\n", "\r\n"), {}),
        (TABLE.rstrip("\n"), {}),
        (TABLE.replace("\n", "\r\n").rstrip("\n"), {}),
        ("# id=x\n#\n" + TABLE, {"comment": 2}),
        (TABLE + "# end", {"comment": 1}),
        (TABLE.replace("\n", "\n\n", 2), {"blank line": 2}),
        ("\n \n\t\t\n\r\n" + TABLE, {"blank line": 4}),
        (TABLE + "\n\n", {"blank line": 2}),
        ("#" + "x" * 70_000 + "\n" + TABLE, {"comment": 1}),
        ("#" + "x" * 65_600 + "\ta\tb\n" + TABLE, {"comment": 1}),
    ],
    ids=["crlf", "unterminated", "crlf unterminated", "header", "footer", "blank between", "blank first", "blank last",
         "long comment", "long comment with tabs"],
)
def test_comments_blank_lines_and_line_ends(tmp_path, text, reasons):
    fragments = read(tmp_path, text)
    assert rows_of(fragments) == ROWS
    assert dropped(fragments) == reasons


@pytest.mark.parametrize("header", ["", "#" + "x" * 70_000 + "\n", "# a\tb\tc\td\n", "\n\n"])
def test_bulk_is_told_by_the_first_line_that_is_no_comment(tmp_path, header):
    assert len(read(tmp_path, header + "chr1\t1\t5\nchr1\t2\t9\n", name="b.bed")) == 2


@pytest.mark.parametrize(
    "order",
    [sorted(ROWS), sorted(ROWS, key=lambda r: (r[3], r[0], r[1])), ROWS[::-1], [ROWS[i] for i in (3, 0, 4, 2, 1)]],
    ids=["sorted", "by barcode", "reversed", "shuffled"],
)
def test_rows_may_come_in_any_order(tmp_path, order):
    assert rows_of(read(tmp_path, "".join("\t".join(map(str, row)) + "\n" for row in order))) == ROWS


def test_summary_says_whether_each_chromosome_came_sorted(tmp_path):
    assert not read(tmp_path, TABLE).summary.sorted_input
    assert read(tmp_path, "chr2\t5\t6\tA\nchr1\t1\t2\tA\nchr1\t1\t2\tA\nchr1\t3\t4\tA\n").summary.sorted_input


def test_ties_are_ordered_by_end_then_barcode_and_duplicates_are_kept(tmp_path):
    text = "chr1\t5\t9\tB\t1\nchr1\t5\t9\tA\t2\nchr1\t5\t7\tC\t3\nchr1\t5\t9\tA\t1\nchr1\t5\t9\tA\t2\n"
    assert rows_of(read(tmp_path, text)) == [
        ("chr1", 5, 7, "C", 3),
        ("chr1", 5, 9, "A", 2),  # equal rows stay in the order of the file
        ("chr1", 5, 9, "A", 1),
        ("chr1", 5, 9, "A", 2),
        ("chr1", 5, 9, "B", 1),
    ]


def test_barcodes_are_in_byte_order(tmp_path):
    names = ["b", "a#1", "B", "a", "a-1", "a 1", "~", "10", "9", "A_x"]
    fragments = read(tmp_path, "".join(f"chr1\t{i}\t{i + 1}\t{name}\n" for i, name in enumerate(names)))
    assert fragments.barcodes.tolist() == sorted(names, key=str.encode)
    assert frame_of(fragments).barcode.tolist() == names


@pytest.mark.parametrize(
    ("sizes", "chroms"),
    [
        ({"chr1": 9, "chrM": 9}, ["chr1", "1", "chrM", "MT", "M", "chrMT"]),
        ({"1": 9, "MT": 9}, ["chr1", "1", "chrM", "MT", "M", "chrMT"]),
    ],
)
def test_names_with_and_without_chr_are_one_chromosome(tmp_path, sizes, chroms):
    text = "".join(f"{c}\t{i}\t{i + 1}\tA\n" for i, c in enumerate(chroms))
    fragments = read(tmp_path, text, genome=Genome("g", sizes))
    assert np.diff(fragments.chrom_ptr).tolist() == [2, 4]
    assert dropped(fragments) == {}


# ------------------------------------------------------------------------------------ what it leaves out


def test_unknown_contigs_are_counted_by_name(tmp_path):
    fragments = read(tmp_path, "chr1\t1\t2\tA\nchrUn_1\t1\t2\tA\nKI27\t5\t6\tB\nchrUn_1\t3\t2\tA\nCHR1\t1\t2\tA\n")
    assert dropped(fragments) == {"unknown chromosome": 4}
    assert fragments.summary.unknown_chroms == {"chrUn_1": 2, "KI27": 1, "CHR1": 1}
    assert "chromosomes not in the genome: 'chrUn_1' (2), 'CHR1' (1), 'KI27' (1)" in fragments.summary.as_text()
    assert fragments.barcodes.tolist() == ["A"]


def test_thousands_of_unknown_contigs_are_all_counted(tmp_path):
    text = "".join(f"contig{i}\t1\t2\tA\n" for i in range(3000)) + "chr1\t1\t2\tA\n"
    fragments = read(tmp_path, text)
    assert dropped(fragments) == {"unknown chromosome": 3000}
    assert sum(fragments.summary.unknown_chroms.values()) == 3000


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        ("0", "1000", None),
        ("999", "1000", None),
        ("0", "1", None),
        ("007", "0008", None),
        ("-0", "5", None),
        ("0", "1001", "outside the chromosome"),
        ("1000", "1001", "outside the chromosome"),
        ("-1", "5", "outside the chromosome"),
        ("-5", "-1", "outside the chromosome"),
        ("5", "5", "zero or negative length"),
        ("6", "5", "zero or negative length"),
        ("2000", "1999", "zero or negative length"),
        ("-1", "-1", "zero or negative length"),
        ("0", "2147483648", "outside the chromosome"),
        ("2147483648", "2147483649", "outside the chromosome"),
        ("4294967297", "4294967299", "outside the chromosome"),  # 1-3 modulo 2^32
        ("18446744073709551617", "18446744073709551619", "zero or negative length"),  # both saturate at 2^62
        ("0", "9" * 300, "outside the chromosome"),
        ("-" + "9" * 300, "5", "outside the chromosome"),
        ("9" * 300, "5", "zero or negative length"),
    ],
)
@pytest.mark.parametrize("first", ["", "chr1\t3\t4\tB\n"], ids=["first line", "after a good line"])
def test_coordinates_at_and_beyond_the_ends(tmp_path, first, start, end, reason):
    fragments = read(tmp_path, f"{first}chr1\t{start}\t{end}\tA\n")
    assert dropped(fragments) == ({} if reason is None else {reason: 1})
    if reason is None:
        assert ("chr1", int(start), int(end), "A", 1) in rows_of(fragments)


def test_rows_outside_say_that_the_assembly_may_be_wrong(tmp_path):
    fragments = read(tmp_path, "chr1\t1\t2\tA\nchr1\t1\t5000\tA\n")
    assert "is g the assembly of this file?" in fragments.summary.as_text()


@pytest.mark.parametrize(
    "data",
    [
        b"# id=1\n# x\n",
        b"\n",
        b"chrX\t1\t2\tA\n",
        gzip.compress(b"", mtime=0),
        gzip.compress(b"#\n", mtime=0),
        bgzf(b""),
        b"#no newline",
    ],
)
def test_a_file_without_a_fragment_gives_an_empty_table_and_says_so(tmp_path, data):
    fragments = read(tmp_path, data)
    assert (len(fragments), fragments.n_cells) == (0, 0)
    assert fragments.chrom_ptr.tolist() == [0] * 5
    assert "no fragment was kept" in fragments.summary.notes


def test_empty_file_folder_and_missing_file_are_refused(tmp_path):
    with pytest.raises(FileFormatError, match="found an empty file"):
        read(tmp_path, b"")
    with pytest.raises(FileFormatError, match="found a folder"):
        ga.io.read_fragments(tmp_path, GENOME, device="cpu")
    with pytest.raises(MissingFileError, match="nothing does not exist"):
        ga.io.read_fragments(tmp_path / "nothing", GENOME, device="cpu")
    with pytest.raises(FileFormatError, match="found a folder"):
        ga.pp.import_fragments(tmp_path, GENOME, device="cpu")


def test_min_num_fragments_counts_duplicates_but_not_the_mitochondrial_chromosome(tmp_path):
    text = "chr1\t1\t2\tA\nchr1\t1\t2\tA\nchr1\t1\t2\tB\nchrM\t1\t2\tB\nchrM\t1\t2\tB\nchr2\t1\t2\tC\t9\n"
    fragments = read(tmp_path, text, min_num_fragments=2)
    assert fragments.barcodes.tolist() == ["A"]
    assert dropped(fragments) == {"barcode below min_num_fragments": 4}
    assert read(tmp_path, text, min_num_fragments=1).barcodes.tolist() == ["A", "B", "C"]
    assert read(tmp_path, text, min_num_fragments=3).n_cells == 0
    own = read(tmp_path, text, min_num_fragments=1, chrM=["chr1"])
    assert own.barcodes.tolist() == ["B", "C"]  # B by its chrM rows, A has chr1 only
    assert read(tmp_path, text, min_num_fragments=3, chrM=[]).barcodes.tolist() == ["B"]


@pytest.mark.parametrize("value", [-1, 1.5, "many", None, True])
def test_min_num_fragments_must_be_a_whole_number(tmp_path, value):
    with pytest.raises(InputError, match="min_num_fragments must be "):
        read(tmp_path, TABLE, min_num_fragments=value)


# ------------------------------------------------------------------------------------------ whitelist


@pytest.mark.parametrize("kind", ["list", "set", "generator", "array", "file", "str path", "gzip", "crlf", "columns"])
def test_whitelist_from_an_iterable_or_a_file(tmp_path, kind):
    path = tmp_path / "barcodes.tsv"
    text = {"crlf": "B-1\r\nX-1\r\n", "columns": "# barcodes\nB-1\tT cell\n\nX-1\tB cell"}.get(kind, "B-1\nX-1\n")
    path.write_bytes(gzip.compress(text.encode()) if kind == "gzip" else text.encode())
    whitelist = {
        "list": ["B-1", "X-1"], "set": {"B-1"}, "generator": (b for b in ["B-1"]), "array": np.array(["B-1"], object),
        "str path": str(path),
    }.get(kind, path)
    fragments = read(tmp_path, TABLE, whitelist=whitelist)
    assert rows_of(fragments) == [row for row in ROWS if row[3] == "B-1"]
    assert dropped(fragments) == {"barcode not in whitelist": 3}
    assert fragments.summary.n_barcodes_seen == 2


def test_whitelist_is_asked_before_the_threshold(tmp_path):
    fragments = read(tmp_path, TABLE, whitelist=["A-1"], min_num_fragments=3)
    assert dropped(fragments) == {"barcode not in whitelist": 2, "barcode below min_num_fragments": 3}


def test_empty_iterable_keeps_nothing_an_empty_list_file_is_refused(tmp_path):
    assert read(tmp_path, TABLE, whitelist=[]).n_cells == 0
    (tmp_path / "w").write_text("# nothing\n\n")
    with pytest.raises(InputError, match="holds no barcode; give one barcode per line"):
        read_whitelist(tmp_path / "w")
    with pytest.raises(MissingFileError, match="does not exist"):
        read_whitelist(str(tmp_path / "v"))


@pytest.mark.parametrize(
    ("data", "line", "found"),
    [
        (b"A-1\nB\xff-1\n", 2, "bytes that are no UTF-8 text"),
        ("A-1\n".encode("utf-16"), 1, "text in UTF-16"),
        ("A-1\nB\xe9\n".encode(), 2, "a barcode with letters outside ASCII"),
    ],
)
def test_whitelist_with_bytes_that_no_barcode_has_is_refused(tmp_path, data, line, found):
    (tmp_path / "w").write_bytes(data)
    with pytest.raises(FileFormatError, match=f"found {found}") as caught:
        read_whitelist(tmp_path / "w")
    assert caught.value.line == line


# ----------------------------------------------------------------------------------------- bad lines

GOOD = "chr1\t3\t4\tB\t1\n"
BAD = {
    "one column": ("chr1", "too few tab-separated columns"),
    "two columns": ("chr1\t1", "too few tab-separated columns"),
    "three among five": ("chr1\t1\t2", "too few tab-separated columns"),
    "spaces for tabs": ("chr1 1 2 A 1", "too few tab-separated columns"),
    "seven columns": ("chr1\t1\t2\tA\t1\t+\tx", "too many columns"),
    "tab at the end": ("chr1\t1\t2\tA\t1\t+\t", "too many columns"),
    "text start": ("chr1\tone\t2\tA\t1", "a start that is no whole number"),
    "empty start": ("chr1\t\t2\tA\t1", "a start that is no whole number"),
    "decimal start": ("chr1\t1.0\t2\tA\t1", "a start that is no whole number"),
    "exponent start": ("chr1\t1e3\t2\tA\t1", "a start that is no whole number"),
    "padded start": ("chr1\t 1\t2\tA\t1", "a start that is no whole number"),
    "plus start": ("chr1\t+1\t2\tA\t1", "a start that is no whole number"),
    "minus alone": ("chr1\t-\t2\tA\t1", "a start that is no whole number"),
    "text end": ("chr1\t1\tNA\tA\t1", "an end that is no whole number"),
    "comma end": ("chr1\t1\t1,000\tA\t1", "an end that is no whole number"),
    "empty barcode": ("chr1\t1\t2\t\t1", "an empty barcode or one with bytes"),
    "empty last barcode": ("chr1\t1\t2\t", "an empty barcode or one with bytes"),
    "NUL in barcode": ("chr1\t1\t2\tA\0\t1", "an empty barcode or one with bytes"),
    "latin barcode": ("chr1\t1\t2\tB\xe4r\t1", "an empty barcode or one with bytes"),
    "delete in barcode": ("chr1\t1\t2\tA\x7f\t1", "an empty barcode or one with bytes"),
    "carriage return inside": ("chr1\t1\t2\tA\rB\t1", "an empty barcode or one with bytes"),
    "text count": ("chr1\t1\t2\tA\tx", "a count (column 5) that is no whole number"),
    "zero count": ("chr1\t1\t2\tA\t0", "a count (column 5) that is no whole number"),
    "negative count": ("chr1\t1\t2\tA\t-1", "a count (column 5) that is no whole number"),
    "empty count": ("chr1\t1\t2\tA\t", "a count (column 5) that is no whole number"),
    "count of 2^31": ("chr1\t1\t2\tA\t2147483648", "a count (column 5) that is no whole number"),
    "huge count": ("chr1\t1\t2\tA\t" + "9" * 40, "a count (column 5) that is no whole number"),
    "two dots": ("chr1\t1\t2\tA\t..", "a count (column 5) that is no whole number"),
    "bad strand": ("chr1\t1\t2\tA\t1\tx", "a strand (column 6) that is not '+', '-' or '.'"),
    "long strand": ("chr1\t1\t2\tA\t1\t+-", "a strand (column 6) that is not '+', '-' or '.'"),
    "empty strand": ("chr1\t1\t2\tA\t1\t", "a strand (column 6) that is not '+', '-' or '.'"),
    "empty chromosome": ("\t1\t2\tA\t1", "an empty chromosome name or one with bytes"),
    "NUL in chromosome": ("chr\0001\t1\t2\tA\t1", "an empty chromosome name or one with bytes"),
    "byte order mark": ("\xef\xbb\xbfchr1\t1\t2\tA\t1", "an empty chromosome name or one with bytes"),
    "other bytes": ("\xff\xfe\t1\t2\tA\t1", "an empty chromosome name or one with bytes"),
    "fault on an unknown contig": ("chrX\t1\tx\tA\t1", "an end that is no whole number"),
}


@pytest.mark.parametrize("packing", ["plain", "bgzf"])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_is_refused_with_its_number_and_what_to_do(tmp_path, name, packing):
    line, found = BAD[name]
    for before, after in ((f"# header\n{GOOD}", GOOD), (GOOD * 5, ""), (f"{GOOD}\n\r\n", "")):
        text = f"{before}{line}\n{after}".encode("latin-1")
        with pytest.raises(FileFormatError) as caught:
            read(tmp_path, PACKINGS[packing](text))
        message = str(caught.value)
        assert caught.value.line == before.count("\n") + 1
        assert f"f.tsv, line {caught.value.line}: found {found}" in message
        assert "; allowed: " in message
        assert message.endswith(".")
        assert len(message.split("; ")) >= 3


def test_a_bad_line_is_shown_shortened_and_escaped(tmp_path):
    with pytest.raises(FileFormatError, match=r"\('chr1\\t1\\tx\\x00\\+xff") as caught:
        read(tmp_path, b"chr1\t1\tx\0\xff\tA" + b"y" * 5000 + b"\n")
    assert len(str(caught.value)) < 400


def test_a_byte_order_mark_is_taken_off_and_utf_16_is_refused(tmp_path):
    assert rows_of(read(tmp_path, b"\xef\xbb\xbfchr1\t1\t2\tA\n")) == rows_of(read(tmp_path, b"chr1\t1\t2\tA\n"))
    with pytest.raises(FileFormatError, match=r"line 1: found text in UTF-16; allowed: text in UTF-8; save it as UTF-8"):
        read(tmp_path, "chr1\t1\t2\tA\n".encode("utf-16"))


@pytest.mark.parametrize("line", ["chr1\t1\t2\tA", "chr1\t1\t2\tA\t1\t+", "chr1\t1", "chr1"])
def test_a_bulk_file_has_three_columns_throughout(tmp_path, line):
    n = line.count("\t") + 1
    with pytest.raises(FileFormatError, match=rf"line 3: found {n} columns .*; allowed: 3, as in the first line"):
        read(tmp_path, f"#\nchr1\t1\t2\n{line}\n")


def test_the_first_of_several_bad_lines_is_told(tmp_path):
    with pytest.raises(FileFormatError) as caught:
        read(tmp_path, GOOD + "chr1\tx\t1\tA\n" + GOOD + "chr1\t1\tx\tA\n")
    assert caught.value.line == 2


# ---------------------------------------------------------------------------------------- many blocks

WIDE = b"".join(b"chr1\t%d\t%d\t%s-%d\t1\n" % (i % 900, i % 900 + 9, b"B" * 200, i % 7) for i in range(100_000))


@pytest.mark.parametrize("packing", PACKINGS)
def test_line_numbers_are_right_beyond_the_first_block(tmp_path, packing):
    """The text is 22 MB, blocks are 16 MiB; BGZF blocks and gzip members cut lines."""
    lines = WIDE.splitlines(keepends=True)
    for number in (75_000, 100_000):
        bad = [*lines[: number - 1], b"chr1\t5\tx\tA\t1\n", *lines[number:]]
        data = {"gzip": lambda t: gzip.compress(t, 1)}.get(packing, PACKINGS[packing])(b"".join(bad))
        with pytest.raises(FileFormatError) as caught:
            read(tmp_path, data)
        assert caught.value.line == number


def test_many_blocks_give_the_table_that_one_gives(tmp_path):
    fragments = read(tmp_path, WIDE)
    assert fragments.n_cells == 7
    expected = np.sort(np.arange(100_000) % 900)
    assert fragments.start.tolist() == expected.tolist()
    assert fragments.summary.lines == 100_000
    same_table(fragments, read(tmp_path, gzip.compress(WIDE, 1)))
    same_table(fragments, read(tmp_path, bgzf(WIDE, 30_011)))


# ------------------------------------------------------------------------------------------ properties

COORDINATE = st.integers(-3, 1010)
LINE = st.tuples(
    st.sampled_from(["chr1", "1", "chr2", "chr10", "chrM", "MT", "other"]), COORDINATE, COORDINATE,
    st.sampled_from(["A", "B", "AA", "a", "B-1"]), st.integers(1, 3),
)
within = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def as_text(rows):
    return "".join("\t".join(map(str, row)) + "\n" for row in rows)


@within
@given(st.lists(LINE, min_size=1, max_size=40), st.randoms(use_true_random=False), st.integers(0, 4))
def test_the_order_of_the_lines_does_not_matter(tmp_path, rows, random, least):
    rows = [(*row[:4], 1 + (row[1] + row[2]) % 3) for row in rows]  # equal rows are equal in every column
    shuffled = rows.copy()
    random.shuffle(shuffled)
    same_table(
        read(tmp_path, as_text(rows), min_num_fragments=least), read(tmp_path, as_text(shuffled), min_num_fragments=least)
    )


@within
@given(st.lists(LINE, min_size=1, max_size=40), st.integers(1, 300), st.sampled_from(["members", "bgzf"]))
def test_where_the_compression_cuts_the_text_does_not_matter(tmp_path, rows, size, packing):
    text = as_text(rows)
    pack = bgzf if packing == "bgzf" else members
    same_table(read(tmp_path, text), read(tmp_path, pack(text.encode(), size)))


def pandas_oracle(text, genome, least, whitelist):
    """The same rules, in pandas."""
    table = pd.read_csv(
        pd.io.common.StringIO(text), sep="\t", header=None, names=["chrom", "start", "end", "barcode", "count"],
        dtype={"chrom": str, "barcode": str},
    )
    reasons = dict.fromkeys(DROP_REASONS, 0)

    def drop(bad, reason):
        nonlocal table
        reasons[reason] = int(bad.sum())
        table = table[~bad]

    table["chrom"] = ["chrM" if c == "MT" else c if c.startswith("chr") else f"chr{c}" for c in table.chrom]
    drop(~table.chrom.isin(list(genome.chrom_sizes)), "unknown chromosome")
    drop(table.end <= table.start, "zero or negative length")
    drop((table.start < 0) | (table.end > table.chrom.map(dict(genome.chrom_sizes))), "outside the chromosome")
    if whitelist is not None:
        drop(~table.barcode.isin(whitelist), "barcode not in whitelist")
    nuclear = table[table.chrom != "chrM"].groupby("barcode").size()
    drop(table.barcode.map(nuclear).fillna(0) < least, "barcode below min_num_fragments")
    table = table.sort_values(["chrom", "start", "end", "barcode"], kind="stable")  # plain ASCII: byte order
    return list(table.itertuples(index=False, name=None)), reasons


@pytest.mark.parametrize("seed", range(8))
def test_random_file_equals_pandas(tmp_path, seed):
    rng = np.random.default_rng(seed)
    n = 3000
    chrom = rng.choice(["chr1", "chr2", "2", "chr10", "chrM", "MT", "chrUn"], n)
    start = rng.integers(-5, 800, n)
    end = start + rng.integers(-3, 300, n)
    barcode = rng.choice([f"{a}{b}-{c}" for a in "ACGTacgt" for b in "NX" for c in range(30)], n)
    text = as_text(zip(chrom, start, end, barcode, rng.integers(1, 9, n), strict=True))
    least, whitelist = [(0, None), (4, None), (4, set(barcode[:1500].tolist())), (7, {"AN-1", "aX-3"})][seed % 4]
    expected, reasons = pandas_oracle(text, GENOME, least, whitelist)
    packing = list(PACKINGS)[seed % 4]
    fragments = read(tmp_path, PACKINGS[packing](text.encode()), min_num_fragments=least, whitelist=whitelist)
    assert rows_of(fragments) == expected
    assert fragments.summary.dropped == reasons


# --------------------------------------------------------------------------------- import_fragments


def imported(folder, text, **options):
    path = folder / "s.tsv.gz"
    path.write_bytes(one_gzip(text.encode()))
    return ga.pp.import_fragments(path, GENOME, device="cpu", **{"min_num_fragments": 0, **options})


def test_totals_of_each_cell_by_hand(tmp_path):
    adata = imported(tmp_path, TABLE)
    assert adata.obs.to_dict("index") == {
        "A-1": {"n_fragment": 2, "frac_dup": 1 - 3 / 8, "frac_mito": 1 / 3},
        "B-1": {"n_fragment": 2, "frac_dup": 1 - 2 / 3, "frac_mito": 0.0},
    }
    assert adata.obs.dtypes.astype(str).to_dict() == {"n_fragment": "int64", "frac_dup": "float64", "frac_mito": "float64"}
    assert adata.shape == (2, 0)
    assert list(ga.pp.read_summaries(adata)) == ["s"]
    assert ga.pp.read_summaries(adata)["s"].accounted


def test_a_cell_with_mitochondrial_fragments_alone(tmp_path):
    adata = imported(tmp_path, "chrM\t1\t2\tA\nchr1\t1\t2\tB\n")
    assert adata.obs.loc["A"].tolist() == [0, 0.0, 1.0]
    assert imported(tmp_path, "chrM\t1\t2\tA\nchr1\t1\t2\tB\n", min_num_fragments=1).obs_names.tolist() == ["B"]


def test_several_files_are_samples(tmp_path):
    for name in ("x", "y"):
        (tmp_path / f"{name}.tsv").write_text(TABLE)
    adata = ga.pp.import_fragments([tmp_path / "x.tsv", tmp_path / "y.tsv"], GENOME, min_num_fragments=0, device="cpu")
    assert adata.obs_names.tolist() == ["x#A-1", "x#B-1", "y#A-1", "y#B-1"]
    assert adata.obs["sample"].tolist() == ["x", "x", "y", "y"]
    assert adata.obs["barcode"].tolist() == ["A-1", "B-1"] * 2
    assert set(ga.pp.read_summaries(adata)) == {"x", "y"}


@pytest.mark.parametrize(
    ("files", "names", "message"),
    [
        (["x.tsv", "x.tsv"], None, "sample names must differ, got 'x' more than once"),
        (["x.tsv"], ["a", "b"], "2 sample names for 1 files"),
        (["x.tsv"], ["a/b"], "must not be empty, start with"),
        (["x.tsv"], [".."], "must not be empty, start with"),
        (["x.tsv"], "a#b", "must not be empty, start with"),
        ([], None, "names no file"),
    ],
)
def test_sample_names_that_cannot_be_are_refused(tmp_path, files, names, message):
    (tmp_path / "x.tsv").write_text(TABLE)
    with pytest.raises(InputError, match=message):
        ga.pp.import_fragments([tmp_path / f for f in files], GENOME, sample=names, device="cpu")


@pytest.mark.parametrize(
    ("file", "stem"),
    [("pbmc.tsv.gz", "pbmc"), ("a.fragments.tsv.gz", "a"), ("fragments.tsv.gz", "fragments"), ("x.y.bed", "x.y"),
     ("atac.bam", "atac"), ("no_suffix", "no_suffix"), (".tsv", ".tsv")],
)
def test_sample_name_is_the_stem_of_the_file(tmp_path, file, stem):
    assert stem_of(tmp_path / file) == stem


def test_a_bad_file_leaves_no_output_and_is_not_changed(tmp_path):
    good, bad, out = tmp_path / "a.tsv", tmp_path / "b.tsv", tmp_path / "out"
    good.write_text(TABLE)
    bad.write_text(TABLE + "chr1\tx\t1\tA\n")
    with pytest.raises(FileFormatError, match=r"b\.tsv, line 6"):
        ga.pp.import_fragments(bad, GENOME, min_num_fragments=0, out=out, device="cpu")
    assert not out.exists()
    assert bad.read_text() == TABLE + "chr1\tx\t1\tA\n"
