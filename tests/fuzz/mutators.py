"""Seeded ways to damage a fragment file, in its text or in its compression, and a slow reader that says what
to expect of each. Nothing here is imported from gpuatac.
"""

from __future__ import annotations

import bz2
import gzip
import io
import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = {"chr1": 1_000_000, "chr2": 500_000, "chrM": 16_569}
HEADER = b"# id=fuzz\n# primary_contig=chr1\n# primary_contig=chr2\n"
BARCODES = [f"{a}{b}{c}-1".encode() for a in "ACGT" for b in "ACGT" for c in "AC"]


def base_lines(rng: np.random.Generator) -> list[bytes]:
    """80 to 200 sorted fragment lines, all good."""
    rows = []
    for _ in range(int(rng.integers(80, 200))):
        chrom = str(rng.choice(list(SIZES), p=[0.6, 0.35, 0.05]))
        start = int(rng.integers(0, SIZES[chrom] - 1000))
        rows.append((chrom, start, start + int(rng.integers(20, 900)), int(rng.integers(len(BARCODES)))))
    rows.sort()
    return [b"%s\t%d\t%d\t%s\t%d\n" % (c.encode(), s, e, BARCODES[b], 1 + s % 4) for c, s, e, b in rows]


# ------------------------------------------------------------------------------- mutations of the text


def some(rng: np.random.Generator, lines: list[bytes], most: int = 3) -> np.ndarray:
    """Up to ``most`` line numbers."""
    return rng.choice(len(lines), int(rng.integers(1, most + 1)), replace=False)


def with_field(column: int, *values: bytes) -> Callable:
    """A mutation that puts one of ``values`` into a column of a few lines."""

    def mutate(rng, lines):
        for i in some(rng, lines):
            fields = lines[i].rstrip(b"\n").split(b"\t")
            fields[column] = values[int(rng.integers(len(values)))]
            lines[i] = b"\t".join(fields) + b"\n"
        return HEADER + b"".join(lines)

    return mutate


def with_lines(*inserted: bytes) -> Callable:
    """A mutation that puts lines between the others."""

    def mutate(rng, lines):
        for _ in range(int(rng.integers(1, 4))):
            lines.insert(int(rng.integers(len(lines) + 1)), inserted[int(rng.integers(len(inserted)))])
        return HEADER + b"".join(lines)

    return mutate


def of_text(change: Callable) -> Callable:
    """A mutation of the joined text."""
    return lambda rng, lines: change(rng, HEADER + b"".join(lines))


def truncated(rng, text):
    return text[: int(rng.integers(1, len(text)))]


def shuffled(rng, lines):
    return HEADER + b"".join(lines[i] for i in rng.permutation(len(lines)))


def missing_columns(rng, lines):
    for i in some(rng, lines):
        lines[i] = b"\t".join(lines[i].split(b"\t")[: int(rng.integers(1, 4))]) + b"\n"
    return HEADER + b"".join(lines)


def extra_columns(rng, lines):
    for i in some(rng, lines):
        lines[i] = lines[i].rstrip(b"\n") + b"\t+" + b"\tx" * int(rng.integers(1, 30)) + b"\n"
    return HEADER + b"".join(lines)


def byte_flips(rng, text):
    out = bytearray(text)
    for i in rng.integers(0, len(out), int(rng.integers(1, 12))):
        out[i] ^= 1 << int(rng.integers(8))
    return bytes(out)


def nul_bytes(rng, text):
    at = int(rng.integers(len(text)))
    return text[:at] + b"\0" * int(rng.integers(1, 9)) + text[at:]


def mixed_line_ends(rng, lines):
    ends = [b"\n", b"\r\n"]
    return HEADER + b"".join(x.rstrip(b"\n") + ends[int(rng.integers(2))] for x in lines)


def spaces_for_tabs(rng, lines):
    for i in some(rng, lines, len(lines)):
        lines[i] = lines[i].replace(b"\t", b" ")
    return HEADER + b"".join(lines)


def strands(rng, lines):
    marks = [b"+", b"-", b"."]
    return HEADER + b"".join(x.rstrip(b"\n") + b"\t" + marks[int(rng.integers(3))] + b"\n" for x in lines)


def three_columns(_rng, lines):
    return b"".join(b"\t".join(x.split(b"\t")[:3]) + b"\n" for x in lines)


def three_then_five(rng, lines):
    cut = int(rng.integers(1, len(lines)))
    return three_columns(rng, lines[:cut]) + b"".join(lines[cut:])


def swapped_ends(rng, lines):
    for i in some(rng, lines):
        c, s, e, *rest = lines[i].split(b"\t")
        lines[i] = b"\t".join([c, e, s, *rest])
    return HEADER + b"".join(lines)


def very_long_line(rng, lines):
    long = b"A" * int(rng.integers(200_000, 3_000_000))
    at = int(rng.integers(len(lines)))
    fields = lines[at].rstrip(b"\n").split(b"\t")
    fields[int(rng.integers(len(fields)))] = long
    lines[at] = b"\t".join(fields) + b"\n"
    return HEADER + b"".join(lines)


TEXT: dict[str, Callable] = {
    "untouched": of_text(lambda _, text: text),
    "truncated text": of_text(truncated),
    "no final newline": of_text(lambda _, text: text[:-1]),
    "shuffled lines": shuffled,
    "missing columns": missing_columns,
    "extra columns": extra_columns,
    "huge numbers": with_field(2, b"1" + b"0" * 30, b"9" * 400, b"18446744073709551617", b"9223372036854775808"),
    "numbers beyond int32": with_field(1, b"2147483648", b"4294967396", b"4294967295", b"-2147483649"),
    "negative numbers": with_field(1, b"-1", b"-100", b"-0", b"--5", b"-"),
    "floats": with_field(2, b"100.0", b"1e5", b"nan", b"inf", b".5", b"5."),
    "odd numbers": with_field(1, b"+12", b"0x10", b"1_000", b" 12", b"12 ", "\uff11".encode(), b"", b"007"),
    "odd counts": with_field(4, b"0", b"-1", b"2147483648", b".", b"", b"1.0", b"99999999999999999999", b"2147483647"),
    "strands": strands,
    "odd strands": with_field(4, b"1\t*", b"1\t", b"1\t++", b"1\t+", b"1\t.\t"),
    "NUL bytes": of_text(nul_bytes),
    "byte flips": of_text(byte_flips),
    "mixed line ends": mixed_line_ends,
    "only carriage returns": of_text(lambda _, text: text.replace(b"\n", b"\r")),
    "empty file": lambda *_: b"",
    "one newline": lambda *_: b"\n",
    "only header": lambda *_: HEADER,
    "header without newline": lambda *_: b"# id=x",
    "binary noise": lambda rng, _: rng.bytes(int(rng.integers(1, 5000))),
    "zero bytes": lambda rng, _: bytes(int(rng.integers(1, 5000))),
    "spaces for tabs": spaces_for_tabs,
    "commas for tabs": of_text(lambda _, text: text.replace(b"\t", b",")),
    "unicode barcodes": with_field(
        3, "Zell\u00e9-1".encode(), "\U0001f9ec".encode(), b"\xff\xfe", "AC\u00a0GT".encode()
    ),
    "empty fields": with_field(3, b""),
    "empty chromosome": with_field(0, b""),
    "quoted fields": with_field(0, b'"chr1"', b"'chr1'"),
    "unknown chromosomes": with_field(0, b"chrUn_KI270742v1", b"1", b"CHR1", b"chr1 ", b"chr99"),
    "unicode chromosomes": with_field(0, "chr\u00e9".encode(), b"\x80chr1", b"chr1\x7f"),
    "beyond the chromosome": with_field(2, b"1000001", b"500001", b"16570"),
    "swapped start and end": swapped_ends,
    "empty lines": with_lines(b"\n", b"\r\n"),
    "lines of whitespace": with_lines(b"  \n", b"\t\t\n", b" \t \r\n", b"\t\t\t\t\n"),
    "header again": with_lines(HEADER, b"#\n", b"#chrom\tstart\tend\n"),
    "column names": lambda _, lines: b"chrom\tstart\tend\tbarcode\tcount\n" + b"".join(lines),
    "byte order mark": of_text(lambda _, text: b"\xef\xbb\xbf" + text),
    "byte order mark, no header": lambda _, lines: b"\xef\xbb\xbf" + b"".join(lines),
    "UTF-16": of_text(lambda _, text: text.decode().encode("utf-16")),
    "very long line": very_long_line,
    "three columns": three_columns,
    "three columns, then five": three_then_five,
    "twice the file": of_text(lambda _, text: text + text),
    "HTML": lambda *_: b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n",
}


# ------------------------------------------------------------------------------------------- encodings

BGZF_EOF = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def bgzf_block(data: bytes) -> bytes:
    """One BGZF block: a gzip member whose extra field holds its length - 1."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = packer.compress(data) + packer.flush()
    head = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", len(body) + 25)
    return head + body + struct.pack("<II", zlib.crc32(data), len(data))


def chunks(rng: np.random.Generator, text: bytes, most: int) -> list[bytes]:
    out, at = [], 0
    while at < len(text):
        step = int(rng.integers(1, most))
        out.append(text[at : at + step])
        at += step
    return out


def as_plain(_rng, text):
    return text


def as_gzip(_rng, text):
    return gzip.compress(text, 6, mtime=0)


def as_members(rng, text):
    most = max(900, len(text) // 8)
    return b"".join(gzip.compress(c, 6, mtime=0) for c in chunks(rng, text, most)) or gzip.compress(b"", mtime=0)


def as_bgzf(rng, text):
    return b"".join(bgzf_block(c) for c in chunks(rng, text, 65_000 if len(text) > 100_000 else 900)) + BGZF_EOF


ENCODINGS: dict[str, Callable] = {"plain": as_plain, "gzip": as_gzip, "members": as_members, "bgzf": as_bgzf}


# ------------------------------------------------------------------------ mutations of the compression


def at_random(change: Callable) -> Callable:
    """A mutation at a random byte."""
    return lambda rng, data: change(data, int(rng.integers(12, len(data) - 8)))


PACKED: dict[str, Callable] = {
    "truncated": lambda rng, data: data[: int(rng.integers(3, len(data) - 1))],
    "first bytes only": lambda rng, data: data[: int(rng.integers(2, 18))],
    "flipped byte": at_random(lambda data, i: data[:i] + bytes([data[i] ^ 0x55]) + data[i + 1 :]),
    "zeroed bytes": at_random(lambda data, i: data[:i] + bytes(min(40, len(data) - i)) + data[i + 40 :]),
    "bad checksum": lambda _, data: data[:-36] + bytes([data[-36] ^ 1]) + data[-35:],
    "bad last checksum": lambda _, data: data[:-8] + bytes([data[-8] ^ 1]) + data[-7:],
    "bad last length": lambda _, data: data[:-4] + bytes([data[-4] ^ 1]) + data[-3:],
    "trailing text": lambda _, data: data + b"chr1\t5\t60\tAA\t1\n",
    "trailing zeros": lambda _, data: data + bytes(512),
    "missing BGZF end": lambda _, data: data.removesuffix(BGZF_EOF),
    "BGZF end first": lambda _, data: BGZF_EOF + data,
    "BGZF end twice": lambda _, data: data + BGZF_EOF + BGZF_EOF,
    "wrong BSIZE": lambda _, data: data[:16] + bytes([data[16] ^ 3]) + data[17:],
    "wrong method": lambda _, data: data[:2] + b"\x07" + data[3:],
    "reserved flags": lambda _, data: data[:3] + bytes([data[3] | 0xE0]) + data[4:],
    "packed twice": lambda _, data: gzip.compress(data, mtime=0),
    "empty member inside": lambda _, data: data + gzip.compress(b"", mtime=0) + data,
    "bzip2": lambda _, data: bz2.compress(data),
    "zstd": lambda _, data: b"\x28\xb5\x2f\xfd" + data,
    "zip": lambda _, data: b"PK\x03\x04" + data,
}


# ------------------------------------------------------------------------------------------- the cases


class Case(NamedTuple):
    name: str
    suffix: str
    data: bytes
    min_num_fragments: int
    packing_damaged: bool


def make_case(seed: int) -> Case:
    """Case number ``seed``: every text mutation in turn, then every one of the compression, then both."""
    rng = np.random.default_rng(seed)
    texts, packed, encodings = list(TEXT), list(PACKED), list(ENCODINGS)
    text_name, packed_name = "untouched", ""
    encoding = encodings[int(rng.integers(4))]
    if seed < 2 * len(texts):
        text_name = texts[seed % len(texts)]
    elif seed < 2 * len(texts) + 3 * len(packed):
        packed_name = packed[(seed - 2 * len(texts)) % len(packed)]
        encoding = encodings[1 + (seed - 2 * len(texts)) // len(packed)]
    else:
        text_name = texts[int(rng.integers(len(texts)))]
        packed_name = packed[int(rng.integers(len(packed)))]
        encoding = encodings[1 + int(rng.integers(3))]
    data = ENCODINGS[encoding](rng, TEXT[text_name](rng, base_lines(rng)))
    if packed_name:
        data = PACKED[packed_name](rng, data)
    name = "-".join(part for part in (f"{seed:03d}", encoding, text_name, packed_name) if part)
    suffix = ".tsv" if encoding == "plain" and seed % 3 else ".tsv.gz"
    return Case(name.replace(" ", "_"), suffix, data, (0, 2, 5)[seed % 3], bool(packed_name))


# --------------------------------------------------------------------------------- what is to be expected


class Expected(NamedTuple):
    """Lines of the text with rows kept and dropped, or the first bad line, or broken compression."""

    lines: int = 0
    kept: int = 0
    dropped: dict = {}  # noqa: RUF012 - a NamedTuple default, never changed
    bad_line: int | None = None
    broken: bool = False


def unpacked(data: bytes) -> bytes | None:
    """The text, or None where Python's gzip finds the compression broken."""
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.GzipFile(fileobj=io.BytesIO(data)).read()
    except (OSError, EOFError, zlib.error, struct.error):
        return None


def whole(field: bytes) -> int | None:
    """An optional minus and digits, else None."""
    digits = field.removeprefix(b"-")
    # More digits than Python converts by default are far out of any range already.
    return (int(field) if len(digits) < 4000 else 1 << 62) if digits and not digits.strip(b"0123456789") else None


def printable(field: bytes) -> bool:
    return bool(field) and all(0x20 <= b <= 0x7E for b in field)


def other_names() -> dict[str, str]:
    """Spelling that is understood -> name in the genome."""
    names = {name: name for name in SIZES}
    for name in SIZES:
        names.setdefault(name[3:], name)
    return names | {"MT": "chrM", "chrMT": "chrM"}


def judge(line: bytes, names: dict[str, str], *, bulk: bool) -> str | tuple[str, bytes]:
    """The reason for dropping a line, "bad", or (chromosome, barcode) of a good one."""
    if not line.strip(b" \t\r"):
        return "blank line"
    if line.startswith(b"#"):
        return "comment"
    fields = line.split(b"\t")
    if len(fields) != 3 if bulk else not 4 <= len(fields) <= 6:
        return "bad"
    start, end = whole(fields[1]), whole(fields[2])
    fields += [b"bulk", b".", b"."][len(fields) - 3 :]
    count = None if fields[4] == b"." else whole(fields[4])
    good_count = fields[4] == b"." or (count is not None and 1 <= count < 2**31)
    if not (printable(fields[0]) and printable(fields[3]) and good_count and fields[5] in (b"+", b"-", b".")):
        return "bad"
    if start is None or end is None:
        return "bad"
    chrom = names.get(fields[0].decode())
    if chrom is None:
        return "unknown chromosome"
    if end <= start:
        return "zero or negative length"
    return (chrom, fields[3]) if start >= 0 and end <= SIZES[chrom] else "outside the chromosome"


def expected(case: Case) -> Expected:
    """Read the file slowly."""
    text = unpacked(case.data)
    if text is None:
        return Expected(broken=True)
    lines = text.removeprefix(b"\xef\xbb\xbf").split(b"\n")  # a byte order mark is no text
    if not lines[-1]:
        lines.pop()
    lines = [line.removesuffix(b"\r") for line in lines]
    names = other_names()
    data = [x for x in lines if x.strip(b" \t\r") and not x.startswith(b"#")]
    bulk = bool(data) and data[0].count(b"\t") == 2
    verdicts = [judge(line, names, bulk=bulk) for line in lines]
    if "bad" in verdicts:
        return Expected(lines=len(lines), bad_line=verdicts.index("bad") + 1)
    dropped: dict[str, int] = {}
    nuclear: dict[bytes, int] = {}
    for verdict in verdicts:
        if isinstance(verdict, str):
            dropped[verdict] = dropped.get(verdict, 0) + 1
        else:
            nuclear[verdict[1]] = nuclear.get(verdict[1], 0) + (verdict[0] != "chrM")
    good = [v[1] for v in verdicts if not isinstance(v, str)]
    at_least = 0 if bulk else case.min_num_fragments  # a bulk sample is one "cell" that is never dropped
    kept = sum(nuclear[barcode] >= at_least for barcode in good)
    if kept < len(good):
        dropped["barcode below min_num_fragments"] = len(good) - kept
    return Expected(lines=len(lines), kept=kept, dropped=dropped)
