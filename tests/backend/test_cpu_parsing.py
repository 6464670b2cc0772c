"""One block of lines to columns: the contract of ``Parsing.parse_block``, line by line and split anywhere."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuatac.backend import get
from gpuatac.backend.cpu.reading.text_lines import REACH
from gpuatac.backend.protocol import reading as p

NAMES = [b"chr1", b"1", b"chr2", b"chrM", b"MT"]
CODES = np.array([0, 0, 1, 2, 2], np.int32)
SIZES = np.array([1000, 500, 100], np.int64)
OK = b"chr1\t5\t9\tA\t2\t+"


def parse_with(text, names, codes, sizes, *, bulk):
    parsing = get("cpu").parsing
    return parsing.parse_block(text, parsing.chromosomes(names, codes, sizes), bulk=bulk)


def parse(text, *, bulk=False, names=NAMES, codes=CODES):
    array = np.frombuffer(bytearray(text), np.uint8) if isinstance(text, bytes) else text
    block = parse_with(array, names, codes, SIZES, bulk=bulk)
    if block.error_line < 0:
        assert block.n_lines == len(block.start) + int(block.dropped.sum())
        assert [c.dtype.name for c in (block.chrom, block.start, block.end, block.count, block.strand, block.names.number)] == [
            "int16", "int32", "int32", "int32", "int8", "int32",
        ]
    return block


def rows(block):
    barcodes = [block.names.barcodes[i] for i in block.names.number.tolist()]
    return list(
        zip(block.chrom.tolist(), block.start.tolist(), block.end.tolist(), barcodes, block.count.tolist(),
            block.strand.tolist(), strict=True)
    )


def test_rows_come_in_the_order_of_the_file_with_barcodes_by_first_appearance():
    block = parse(b"chr2\t5\t9\tB\t2\t+\nMT\t0\t100\tA\n1\t1\t2\tB\t.\t-\n")
    assert rows(block) == [(1, 5, 9, b"B", 2, 1), (2, 0, 100, b"A", 1, 0), (0, 1, 2, b"B", 1, -1)]
    assert block.names.barcodes == [b"B", b"A"]
    assert block.has_strand
    assert (block.n_lines, block.error_line, block.error_code) == (3, -1, 0)


def test_barcodes_of_dropped_rows_are_not_listed():
    block = parse(b"chrX\t1\t2\tX\nchr1\t2\t1\tY\nchr1\t1\t2000\tZ\nchr1\t1\t2\tA\n")
    assert block.names.barcodes == [b"A"]
    assert block.unknown_chroms == {b"chrX": 1}


def test_no_sixth_column_is_no_strand():
    assert not parse(b"chr1\t1\t2\tA\t1\n").has_strand
    assert parse(b"chr1\t1\t2\tA\t1\t.\n").has_strand
    assert not parse(b"chrX\t1\t2\tA\t1\t+\nchr1\t1\t2\tA\n").has_strand


def test_bulk_rows_have_one_barcode():
    block = parse(b"chr1\t1\t2\r\n#\nchr2\t3\t4", bulk=True)
    assert rows(block) == [(0, 1, 2, b"bulk", 1, 0), (1, 3, 4, b"bulk", 1, 0)]
    assert block.names.barcodes == [b"bulk"]
    assert parse(b"#\n", bulk=True).names.barcodes == []
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
    assert parse(b"chr1\t1\t2\tA\r\n").names.barcodes == [b"A"]


def test_count_may_be_as_large_as_int32():
    assert parse(b"chr1\t1\t2\tA\t2147483647\n").count.tolist() == [2**31 - 1]
    assert parse(OK + b"\nchr1\t1\t2\tA\t1000000000\n").count.tolist() == [2, 10**9]


def test_every_byte_that_is_printable_may_stand_in_a_barcode():
    printable = bytes(range(0x20, 0x7F))
    assert parse(b"chr1\t1\t2\t" + printable + b"\n").names.barcodes == [printable]
    for byte in {*range(256)} - {*range(0x20, 0x7F), 9, 10, 13}:
        assert parse(b"chr1\t1\t2\tA" + bytes([byte]) + b"B\n").error_code == p.ERR_BARCODE


def test_no_text_is_no_line():
    block = parse(b"")
    assert (block.n_lines, len(block.start), block.names.barcodes) == (0, 0, [])


def test_hundred_thousand_barcodes_are_told_apart():
    n = 100_000
    block = parse(b"".join(b"chr1\t1\t2\tbarcode%d\n" % (i * 7919 % n) for i in range(n)) * 2)
    assert len(block.names.barcodes) == n
    assert block.names.number.tolist() == [*range(n)] * 2
    assert block.names.barcodes[1] == b"barcode7919"


def test_unknown_contigs_beyond_the_list_are_counted_together():
    block = parse(b"".join(b"c%d\t1\t2\tA\n" % i for i in range(1000)) * 2)
    assert block.dropped[p.UNKNOWN_CHROM] == 2000
    assert sum(block.unknown_chroms.values()) == 2000
    assert block.unknown_chroms[b"c0"] == 2
    assert b"(other names)" in block.unknown_chroms


def test_a_genome_of_ten_thousand_contigs():
    names = [b"c%d" % i for i in range(10_000)]
    block = parse_with(
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


# ------------------------------------------------------- lines read by words, lines read byte by byte, plain Python


def plain(text, *, bulk=False, names=NAMES, codes=CODES):
    """The contract in plain Python: (lines, rows, dropped, unknown names) or (line, code) of the first error."""
    lines = text.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    found, dropped, unknown = [], [0] * (p.LAST_DROP + 1), {}

    def number(field, pattern):
        return int(field) if re.fullmatch(pattern, field) else None

    def status(line):
        if not line.strip(b" \t\r"):
            return p.BLANK
        if line.startswith(b"#"):
            return p.COMMENT
        fields = line.split(b"\t")
        if len(fields) < (3 if bulk else 4):
            return p.ERR_COLUMNS
        if len(fields) > (3 if bulk else 6):
            return p.ERR_EXTRA
        fields += [b".", b""][len(fields) - 4 :] if not bulk else [b"bulk", b".", b""]
        chrom, barcode, sign = fields[0], fields[3], fields[5]
        start, end = (number(field, rb"-?[0-9]+") for field in fields[1:3])
        count = 1 if fields[4] == b"." else number(fields[4], rb"[0-9]+")
        for wrong, code in [
            (not re.fullmatch(rb"[ -~]+", chrom), p.ERR_CHROM), (start is None, p.ERR_START), (end is None, p.ERR_END),
            (not re.fullmatch(rb"[ -~]+", barcode), p.ERR_BARCODE), (count is None or not 1 <= count < 2**31, p.ERR_COUNT),
            (sign not in (b"+", b"-", b".") and (line.count(b"\t") == 5 or sign != b""), p.ERR_STRAND),
        ]:
            if wrong:
                return code
        if chrom not in names:
            unknown[chrom] = unknown.get(chrom, 0) + 1
            return p.UNKNOWN_CHROM
        code = int(codes[names.index(chrom)])
        if min(end, 2**62) <= min(start, 2**62):
            return p.BAD_LENGTH
        if start < 0 or end > SIZES_LONG[code]:
            return p.OUTSIDE
        found.append((code, start, end, barcode, count, {b"+": 1, b"-": -1}.get(sign, 0)))
        return p.KEPT

    for i, line in enumerate(lines):
        code = status(line.removesuffix(b"\r"))
        if code > p.LAST_DROP:
            return i, code
        dropped[code] += code != p.KEPT
    return len(lines), found, dropped, unknown


NAMES_LONG = [b"c" * n for n in range(1, 41)] + [b"chr1", b"chr2", b"chr10", b"chr1_KI270706v1_random", b"chr1_KI270706v1_randon"]
CODES_LONG = np.arange(len(NAMES_LONG), dtype=np.int32)
SIZES_LONG = np.full(len(NAMES_LONG), 2**31 - 1, np.int64)


def outcome(text, reach, *, bulk):
    """As ``plain``; ``reach`` beyond the text's size leaves every line to the careful path."""
    array = np.frombuffer(bytearray(text), np.uint8)
    parsing = get("cpu").parsing
    known = parsing.chromosomes(NAMES_LONG, CODES_LONG, SIZES_LONG)
    block = parsing._parse_block(array, known, bulk=bulk, reach=reach)
    if block.error_line >= 0:
        return block.error_line, block.error_code
    barcodes = block.names.barcodes
    assert barcodes == list(dict.fromkeys(row[3] for row in rows(block)))  # by first appearance, each once
    assert block.names.rows.tolist() == np.bincount(block.names.number, minlength=len(barcodes)).tolist()
    assert block.names.copies.tolist() == np.bincount(block.names.number, block.count, len(barcodes)).astype(int).tolist()
    assert block.has_strand or not block.strand.any()
    return block.n_lines, rows(block), block.dropped.tolist(), block.unknown_chroms


def agree(text, *, bulk=False):
    expected = plain(text, bulk=bulk, names=NAMES_LONG, codes=CODES_LONG)
    fast, careful = outcome(text, REACH, bulk=bulk), outcome(text, len(text) + 2, bulk=bulk)
    assert fast == expected
    assert careful == expected
    return expected


def drawn_lines(rng, n, *, bulk, wrong):
    """Lines of every length of name, number and barcode; ``wrong``: the share of lines with a changed byte."""
    prefix = bytes(rng.integers(65, 70, 40, dtype=np.uint8))  # shared by many barcodes
    name = NAMES_LONG[0]
    for _ in range(n):
        kind = rng.random()
        if kind < 0.03:
            yield [b"", b"# a\tcomment", b"#" + b"x" * int(rng.integers(150)), b" \t", b"\t\t\t\t"][int(rng.integers(5))]
            continue
        if kind < 0.2:
            name = NAMES_LONG[int(rng.integers(len(NAMES_LONG)))] if rng.random() < 0.9 else b"chrUn"
        start = int(10 ** rng.uniform(0, 9.33)) - 1
        end = start + int(rng.integers(-1 if rng.random() < 0.02 else 1, 1000))
        fields = [name, b"%d" % start, b"%d" % max(end, 0)]
        if rng.random() < 0.1:
            which = int(rng.integers(1, 3))
            fields[which] = fields[which].zfill(int(rng.integers(1, 20)))
        if rng.random() < 0.02:
            fields[int(rng.integers(1, 3))] = b"%d" % rng.integers(-5, 10**18)
        if not bulk:
            length = int(rng.integers(1, 41)) if rng.random() < 0.5 else 18
            own = int(rng.integers(0, min(length, 3) + 1))
            fields.append(prefix[: length - own] + bytes(rng.integers(0x20, 0x7F, own, dtype=np.uint8)))
            if rng.random() < 0.8:
                fields.append([b".", b"%d" % int(10 ** rng.uniform(0, 9.33)), b"1", b"0007"][int(rng.integers(4))])
                if rng.random() < 0.3:
                    fields.append([b"+", b"-", b"."][int(rng.integers(3))])
        line = b"\t".join(fields)
        if rng.random() < wrong:
            at = int(rng.integers(len(line)))
            line = line[:at] + bytes([int(rng.choice([0, 9, 10, 13, 32, 47, 58, 127, 128, 255, 48, 45]))]) + line[at + 1 :]
        yield line


@pytest.mark.parametrize("bulk", [False, True], ids=["barcodes", "bulk"])
@pytest.mark.parametrize("wrong", [0.0, 0.002], ids=["well-formed", "some damaged"])
@pytest.mark.parametrize("seed", range(12))
def test_words_bytes_and_plain_python_read_the_same(seed, wrong, bulk):
    rng = np.random.default_rng([seed, bulk, int(wrong * 1000)])
    for n in (1, 2, 3, 5, 20, 1200):
        end = b"\r\n" if rng.random() < 0.3 else b"\n"
        text = end.join(drawn_lines(rng, n, bulk=bulk, wrong=wrong))
        agree(text + end, bulk=bulk)
        agree(text, bulk=bulk)  # the last line without its newline


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_lines_of_every_length_about_the_windows(end):
    """Ends, tabs and strands at each place around byte 64 and byte 128 of a line."""
    first = b"chr1\t1\t2\tA\t1" + end
    lines = []
    for n in range(1, 130):
        tails = [b"", b"\t1", b"\t.", b"\t12345678", b"\t123456789", b"\t1\t+", b"\t1\t-", b"\t.\t."]
        lines += [b"chr1\t100\t200\t" + b"B" * n + tail for tail in tails]
    _, found, dropped, _ = agree(first + end.join(lines) + end)
    assert len(found) == 1 + len(lines)
    assert sum(dropped) == 0
    for line in lines[::7]:
        agree(first + line + end)  # short texts: the end of the text within the windows
        for extra in (b"\t", b"\t\t", b"\t+\t", b"\tx", b"\x00", b"\r\r", b"\r "):
            agree(first * 20 + line + extra + end + first * 20)


def test_barcodes_that_differ_in_one_byte_or_in_length_alone():
    base = bytes(range(0x30, 0x30 + 40))
    barcodes = [base[:n] for n in range(1, 41)]
    barcodes += [base[:at] + b" " + base[at + 1 : n] for n in (8, 16, 18, 24, 25, 33, 40) for at in range(n)]
    text = b"".join(b"chr1\t1\t2\t" + barcode + b"\t3\n" for barcode in barcodes * 3)
    _, found, _, _ = agree(text)
    assert len({row[3] for row in found}) == len(set(barcodes))


@pytest.mark.parametrize("length", [8, 16, 18, 24, 30])
def test_a_hundred_thousand_barcodes_with_equal_beginnings(length):
    n = 100_000
    barcodes = [b"%0*d" % (length, i) for i in np.random.default_rng(length).permutation(n).tolist()]
    array = np.frombuffer(bytearray(b"".join(b"chr1\t1\t2\t" + b + b"\t2\n" for b in barcodes * 2)), np.uint8)
    block = parse_with(array, NAMES, CODES, SIZES, bulk=False)
    assert block.names.barcodes == barcodes
    assert block.names.number.tolist() == [*range(n)] * 2
    assert set(block.names.rows.tolist()) == {2}
    assert set(block.names.copies.tolist()) == {4}


@pytest.mark.parametrize("text", [b"", b"\n", b"a", b"#", b"\t", b"\r", b"\n\n", b"\r\n"])
@pytest.mark.parametrize("bulk", [False, True], ids=["barcodes", "bulk"])
def test_texts_of_no_and_of_one_byte(text, bulk):
    agree(text, bulk=bulk)


def test_the_first_strand_may_come_late():
    line = b"chr1\t1\t2\tA\t1"
    for n in (0, 1, 255, 256, 257, 600):
        _, found, _, _ = agree((line + b"\n") * n + line + b"\t-\n" + (line + b"\n") * 300)
        assert [row[5] for row in found] == [0] * n + [-1] + [0] * 300


def test_a_text_that_is_not_contiguous():
    array = np.frombuffer(bytearray(OK + b"\n") * 30, np.uint8)
    assert rows(parse(np.repeat(array, 2)[::2])) == rows(parse(array))


@pytest.mark.parametrize("bulk", [False, True], ids=["barcodes", "bulk"])
def test_a_line_has_its_status_amid_others(bulk):
    """Far from both ends of the text, where lines are read by words."""
    around = (b"chr1\t1\t2\n" if bulk else OK + b"\n") * 20
    for line, _ in STATUS:
        agree(around + line + b"\n" + around, bulk=bulk)
    agree(around + b"\t1\t2" + (b"" if bulk else b"\tA\t1") + b"\n" + around, bulk=bulk)
    agree(around + b"chr1\t1\t2\t\t1\n" + around, bulk=bulk)


@pytest.mark.parametrize("byte", b"/: -x\x00\xb0\xff")
def test_a_byte_that_is_no_digit_is_seen_wherever_it_stands(byte):
    around = (OK + b"\n") * 20
    for n in range(1, 18):
        for at in range(n):
            number = bytearray(b"0" * (n - 1) + b"7")
            number[at] = byte
            for line in (b"chr1\t%s\t9\tA\t1\n", b"chr1\t0\t%s\tA\t1\n", b"chr1\t1\t9\tA\t%s\n"):
                agree(around + line % bytes(number) + around)
