"""One block of lines to columns: the contract of ``Parsing.parse_block``, line by line and split anywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuatac.backend import get
from gpuatac.backend import protocol as p

NAMES = [b"chr1", b"1", b"chr2", b"chrM", b"MT"]
CODES = np.array([0, 0, 1, 2, 2], np.int32)
SIZES = np.array([1000, 500, 100], np.int64)
OK = b"chr1\t5\t9\tA\t2\t+"


def parse(text, *, bulk=False, names=NAMES, codes=CODES):
    array = np.frombuffer(bytearray(text), np.uint8) if isinstance(text, bytes) else text
    block = get("cpu").parsing.parse_block(array, names, codes, SIZES, bulk=bulk)
    if block.error_line < 0:
        assert block.n_lines == len(block.start) + int(block.dropped.sum())
        assert [c.dtype.name for c in (block.chrom, block.start, block.end, block.count, block.strand, block.barcode)] == [
            "int16", "int32", "int32", "int32", "int8", "int32",
        ]
    return block


def rows(block):
    barcodes = [block.barcodes[i] for i in block.barcode.tolist()]
    return list(
        zip(block.chrom.tolist(), block.start.tolist(), block.end.tolist(), barcodes, block.count.tolist(),
            block.strand.tolist(), strict=True)
    )


def test_rows_come_in_the_order_of_the_file_with_barcodes_by_first_appearance():
    block = parse(b"chr2\t5\t9\tB\t2\t+\nMT\t0\t100\tA\n1\t1\t2\tB\t.\t-\n")
    assert rows(block) == [(1, 5, 9, b"B", 2, 1), (2, 0, 100, b"A", 1, 0), (0, 1, 2, b"B", 1, -1)]
    assert block.barcodes == [b"B", b"A"]
    assert block.has_strand
    assert (block.n_lines, block.error_line, block.error_code) == (3, -1, 0)


def test_barcodes_of_dropped_rows_are_not_listed():
    block = parse(b"chrX\t1\t2\tX\nchr1\t2\t1\tY\nchr1\t1\t2000\tZ\nchr1\t1\t2\tA\n")
    assert block.barcodes == [b"A"]
    assert block.unknown_chroms == {b"chrX": 1}


def test_no_sixth_column_is_no_strand():
    assert not parse(b"chr1\t1\t2\tA\t1\n").has_strand
    assert parse(b"chr1\t1\t2\tA\t1\t.\n").has_strand
    assert not parse(b"chrX\t1\t2\tA\t1\t+\nchr1\t1\t2\tA\n").has_strand


def test_bulk_rows_have_one_barcode():
    block = parse(b"chr1\t1\t2\r\n#\nchr2\t3\t4", bulk=True)
    assert rows(block) == [(0, 1, 2, b"bulk", 1, 0), (1, 3, 4, b"bulk", 1, 0)]
    assert block.barcodes == [b"bulk"]
    assert parse(b"#\n", bulk=True).barcodes == []
    assert parse(b"chr1\t1\t2\tA\n", bulk=True).error_code == p.ERR_EXTRA
    assert parse(b"chr1\t1\n", bulk=True).error_code == p.ERR_COLUMNS


#: line, and the status it has
STATUS = [
    (b"", p.BLANK), (b" ", p.BLANK), (b"\t \r", p.BLANK), (b"#", p.COMMENT), (b"#\t\t\t\t\t\t\t", p.COMMENT),
    (b" #", p.ERR_COLUMNS), (b"chr1\t1\t2", p.ERR_COLUMNS), (b"x", p.ERR_COLUMNS), (b"a\tb\tc\td\te\tf\tg", p.ERR_EXTRA),
    (b"\t1\t2\tA", p.ERR_CHROM), (b"\x00\tx\tx\t", p.ERR_CHROM), (b"chr\x7f\t1\t2\tA", p.ERR_CHROM),
    (b"chrX\tx\tx\t", p.ERR_START), (b"chr1\t\t2\tA", p.ERR_START), (b"chr1\t--1\t2\tA", p.ERR_START),
    (b"chrX\t1\tx\t", p.ERR_END), (b"chr1\t1\t\tA", p.ERR_END), (b"chr1\t1\t2 \tA", p.ERR_END),
    (b"chrX\t1\t2\t\tx", p.ERR_BARCODE), (b"chr1\t1\t2\tA\x80", p.ERR_BARCODE), (b"chr1\t1\t2\tA\r\r", p.ERR_BARCODE),
    (b"chrX\t1\t2\tA\tx\tx", p.ERR_COUNT), (b"chr1\t1\t2\tA\t2147483648", p.ERR_COUNT), (b"chr1\t1\t2\tA\t-1", p.ERR_COUNT),
    (b"chr1\t1\t2\tA\t99999999999999999999", p.ERR_COUNT), (b"chr1\t1\t2\tA\t0", p.ERR_COUNT),
    (b"chrX\t1\t2\tA\t1\t*", p.ERR_STRAND), (b"chr1\t1\t2\tA\t1\t", p.ERR_STRAND), (b"chr1\t1\t2\tA\t1\t++", p.ERR_STRAND),
    (b"chrX\t2\t1\tA", p.UNKNOWN_CHROM), (b"chr\t1\t2\tA", p.UNKNOWN_CHROM), (b"chr11\t1\t2\tA", p.UNKNOWN_CHROM),
    (b"chr1\t2000\t1999\tA", p.BAD_LENGTH), (b"chr1\t-1\t-2\tA", p.BAD_LENGTH), (b"chr1\t4\t4\tA", p.BAD_LENGTH),
    (b"chr1\t-1\t2\tA", p.OUTSIDE), (b"chr1\t0\t1001\tA", p.OUTSIDE), (b"chr2\t0\t501\tA", p.OUTSIDE),
    (b"chr1\t0\t4294967297\tA", p.OUTSIDE), (b"chr1\t-99999999999999999999\t1\tA", p.OUTSIDE),
    (b"chr1\t4611686018427387904\t4611686018427387905\tA", p.BAD_LENGTH),  # beyond 2^62 values are the same
    (b"chr1\t0\t1000\tA", p.KEPT), (b"chr1\t00000000000001\t2\tA", p.KEPT), (b"chr1\t-0\t2\tA", p.KEPT),
    (b"1\t0\t1\t a \t2147483647\t-", p.KEPT), (b"chr1\t1\t2\t#\t0000000000001", p.KEPT), (b"MT\t99\t100\t~\t.\t.", p.KEPT),
]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""], ids=["LF", "CRLF", "none"])
@pytest.mark.parametrize("before", [b"", OK + b"\n", b"chr2\t1\t2\tB\n"], ids=["first", "same chromosome", "other"])
@pytest.mark.parametrize(("line", "status"), STATUS, ids=lambda v: repr(v) if isinstance(v, bytes) else "")
def test_status_of_a_line(line, status, before, end):
    if end == b"" and line == b"":
        return  # that is no line
    if end == b"\r\n" and line.endswith(b"\r"):
        return  # the line's own CR would be the last but one
    n_before = before.count(b"\n")
    block = parse(before + line + end)
    if status > p.LAST_DROP:
        assert (block.error_line, block.error_code) == (n_before, status)
        return
    assert block.error_line == -1
    assert len(block.start) == n_before + (status == p.KEPT)
    expected = [0] * (p.LAST_DROP + 1)
    if status != p.KEPT:
        expected[status] = 1
    assert block.dropped.tolist() == expected


@pytest.mark.parametrize("line", [b"chr1\t1\t2\tA\rB", b"chr1\t1\t2\tA\r\r"])
def test_carriage_returns_belong_to_the_line_end_once(line):
    assert parse(line + b"\n").error_code == p.ERR_BARCODE
    assert parse(b"chr1\t1\t2\tA\r\n").barcodes == [b"A"]


def test_count_may_be_as_large_as_int32():
    assert parse(b"chr1\t1\t2\tA\t2147483647\n").count.tolist() == [2**31 - 1]
    assert parse(OK + b"\nchr1\t1\t2\tA\t1000000000\n").count.tolist() == [2, 10**9]


def test_every_byte_that_is_printable_may_stand_in_a_barcode():
    printable = bytes(range(0x20, 0x7F))
    assert parse(b"chr1\t1\t2\t" + printable + b"\n").barcodes == [printable]
    for byte in {*range(256)} - {*range(0x20, 0x7F), 9, 10, 13}:
        assert parse(b"chr1\t1\t2\tA" + bytes([byte]) + b"B\n").error_code == p.ERR_BARCODE


def test_no_text_is_no_line():
    block = parse(b"")
    assert (block.n_lines, len(block.start), block.barcodes) == (0, 0, [])


def test_hundred_thousand_barcodes_are_told_apart():
    n = 100_000
    block = parse(b"".join(b"chr1\t1\t2\tbarcode%d\n" % (i * 7919 % n) for i in range(n)) * 2)
    assert len(block.barcodes) == n
    assert block.barcode.tolist() == [*range(n)] * 2
    assert block.barcodes[1] == b"barcode7919"


def test_unknown_contigs_beyond_the_list_are_counted_together():
    block = parse(b"".join(b"c%d\t1\t2\tA\n" % i for i in range(1000)) * 2)
    assert block.dropped[p.UNKNOWN_CHROM] == 2000
    assert sum(block.unknown_chroms.values()) == 2000
    assert block.unknown_chroms[b"c0"] == 2
    assert b"(other names)" in block.unknown_chroms


def test_a_genome_of_ten_thousand_contigs():
    names = [b"c%d" % i for i in range(10_000)]
    block = get("cpu").parsing.parse_block(
        np.frombuffer(bytearray(b"c9999\t1\t2\tA\nc0\t1\t2\tA\nc10000\t1\t2\tA\n"), np.uint8), names, np.arange(10_000, dtype=np.int32),
        np.full(10_000, 5), bulk=False,
    )
    assert block.chrom.tolist() == [9999, 0]


FIELD = st.sampled_from([b"1", b"5", b"99", b"500", b"1000", b"-1", b"", b"x", b"4294967297", b".", b"+", b"-", b"A", b"0"])
ANY_LINE = st.one_of(
    st.sampled_from([line for line, _ in STATUS]),
    st.lists(FIELD, min_size=1, max_size=7).map(b"\t".join),
    st.tuples(st.sampled_from([*NAMES, b"chr"]), FIELD, FIELD, FIELD).map(b"\t".join),
    st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"")),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(ANY_LINE, max_size=12))
def test_a_line_has_the_status_it_has_alone(lines):
    """No line's reading depends on the lines before it, and every line is accounted for."""
    text = b"".join(line + b"\n" for line in lines)
    block, alone = parse(text), [parse(line + b"\n") for line in lines]
    errors = [i for i, one in enumerate(alone) if one.error_line >= 0]
    if errors:
        assert (block.error_line, block.error_code) == (errors[0], alone[errors[0]].error_code)
        return
    assert rows(block) == [row for one in alone for row in rows(one)]
    assert block.dropped.tolist() == sum((one.dropped for one in alone), np.zeros(p.LAST_DROP + 1, np.int64)).tolist()
    assert block.n_lines == len(lines)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from([OK, b"chr2\t1\t2\tB", b"#", b"", b"chrX\t1\t2\tC", b"chr1\t5\t5\tD", b"1\t3\t9\tE\t7"]),
                max_size=20), st.integers(0, 20))
def test_two_blocks_hold_what_one_holds(lines, cut):
    whole, first, second = (parse(b"".join(b + b"\r\n" for b in part)) for part in (lines, lines[:cut], lines[cut:]))
    assert rows(whole) == rows(first) + rows(second)
    assert whole.dropped.tolist() == (first.dropped + second.dropped).tolist()
    assert whole.n_lines == first.n_lines + second.n_lines


def test_a_text_that_begins_within_its_buffer():
    buffer = np.frombuffer(bytearray(b"zzzz" + OK + b"\n"), np.uint8)
    assert rows(parse(buffer[4:])) == rows(parse(OK + b"\n"))
