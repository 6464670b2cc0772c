"""Fragment text in every compression, written with zlib alone. Nothing here is imported from gpuatac."""

from __future__ import annotations

import gzip
import struct
import zlib

import pandas as pd

BGZF_EOF = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def bgzf_block(data: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = packer.compress(data) + packer.flush()
    head = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", len(body) + 25)
    return head + body + struct.pack("<II", zlib.crc32(data), len(data))


def bgzf(text: bytes, block: int = 65_000) -> bytes:
    """BGZF with blocks of ``block`` bytes of text, cut anywhere in a line."""
    return b"".join(bgzf_block(text[i : i + block]) for i in range(0, len(text), block)) + BGZF_EOF


def members(text: bytes, size: int = 70_000) -> bytes:
    """Gzip of many members, as cat of .gz files makes it."""
    return b"".join(gzip.compress(text[i : i + size], mtime=0) for i in range(0, len(text), size))


def one_gzip(text: bytes) -> bytes:
    return gzip.compress(text, mtime=0)


PACKINGS = {"plain": bytes, "gzip": one_gzip, "members": members, "bgzf": bgzf}
KIND = {"plain": "plain", "gzip": "gzip", "members": "gzip", "bgzf": "bgzf"}


def rows_of(fragments):
    """(chrom, start, end, barcode, count) of every row, in the order of the table."""
    names = [fragments.genome.names[c] for c in fragments.chrom_codes()]
    return list(
        zip(
            names, fragments.start.tolist(), fragments.end.tolist(), fragments.barcodes[fragments.cell].tolist(),
            fragments.count.tolist(), strict=True,
        )
    )


def frame_of(fragments) -> pd.DataFrame:
    return pd.DataFrame(rows_of(fragments), columns=["chrom", "start", "end", "barcode", "count"])


def same_table(a, b) -> bool:
    """Whether two Fragments are identical, column by column."""
    assert a.barcodes.tolist() == b.barcodes.tolist()
    assert a.chrom_ptr.tolist() == b.chrom_ptr.tolist()
    for name in ("start", "end", "cell", "count"):
        left, right = getattr(a, name), getattr(b, name)
        assert left.dtype == right.dtype == "int32"
        assert left.tolist() == right.tolist()
    assert (a.strand is None) == (b.strand is None)
    assert a.strand is None or a.strand.tolist() == b.strand.tolist()
    return True
