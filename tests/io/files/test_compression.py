"""Compressed text as blocks of whole lines: every packing, every block size, every way to be broken."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from text_files import BGZF_EOF, KIND, PACKINGS, bgzf, bgzf_block, members, one_gzip

from gpuatac.errors import FileFormatError, MissingFileError
from gpuatac.io.files.compression import detect, line_blocks

TEXT = b"".join(b"chr1\t%d\t%d\tAAC-1\t1\n" % (i, i + 50) for i in range(300))


def blocks_of(path, **options):
    with ThreadPoolExecutor(2) as pool:
        return [block.tobytes() for block in line_blocks(path, pool, **options)]


def written(folder, data, name="a.gz"):
    path = folder / name
    path.write_bytes(data)
    return path


def outcome(path):
    """The text, or the error; any other exception ends the test."""
    try:
        return b"".join(blocks_of(path))
    except FileFormatError as error:
        return error


# ------------------------------------------------------------------------------------------ what it is


@pytest.mark.parametrize("packing", PACKINGS)
def test_each_packing_is_recognised_and_read(tmp_path, packing):
    path = written(tmp_path, PACKINGS[packing](TEXT), "name.says.nothing")
    assert detect(path) == KIND[packing]
    assert b"".join(blocks_of(path)) == TEXT


def test_bgzf_whose_extra_field_begins_with_another_tag_is_read_as_gzip(tmp_path):
    block = bgzf_block(TEXT)
    other = block[:10] + b"\x0c\0" + b"XX\x02\0ab" + block[12:]  # XLEN 12: XX first, then BC
    path = written(tmp_path, other)
    assert detect(path) == "gzip"
    assert b"".join(blocks_of(path)) == TEXT


def hdf5_bytes():
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["x"] = [1]
    return buffer.getvalue()


def parquet_bytes():
    buffer = io.BytesIO()
    pd.DataFrame({"start": [1]}).to_parquet(buffer)
    return buffer.getvalue()


def zip_bytes():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.tsv", TEXT)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (bz2.compress(TEXT), "a bzip2 file"),
        (lzma.compress(TEXT), "an xz file"),
        (b"\x28\xb5\x2f\xfd" + bytes(20), "a zstd file"),
        (zip_bytes(), "a zip archive"),
        (hdf5_bytes(), "an HDF5 file"),
        (parquet_bytes(), "a Parquet file"),
        (b"BAM\x01" + bytes(20), "an uncompressed BAM file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_format_is_named(tmp_path, data, what):
    path = written(tmp_path, data, "a.tsv.gz")
    with pytest.raises(FileFormatError, match=rf"byte offset 0: found {what}; allowed: text, plain or gzip .*; decompress"):
        blocks_of(path)


def test_an_empty_file_a_folder_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(FileFormatError, match="line 1: found an empty file; allowed: at least one line; check"):
        detect(written(tmp_path, b""))
    with pytest.raises(FileFormatError, match="found a folder; allowed: a text file, plain or gzip; give the file itself"):
        detect(tmp_path)
    with pytest.raises(MissingFileError, match="does not exist; check the path"):
        detect(tmp_path / "nothing")


@pytest.mark.parametrize("data", [b"\x1f", b"\x1f\x8b", b"\x1f\x8b\x08", b"\x1f\x8b\x08\x04" + bytes(5)])
def test_a_file_of_a_few_bytes_that_begin_a_gzip_header(tmp_path, data):
    path = written(tmp_path, data)
    if data == b"\x1f":
        assert blocks_of(path) == [b"\x1f"]
    else:
        with pytest.raises(FileFormatError, match="byte offset"):
            blocks_of(path)


# --------------------------------------------------------------------------------------------- blocks

LINES = [b"x" * n for n in (0, 1, 7, 70_000, 200_000, 3, 65_536, 65_535, 0, 0, 130_000)]
LONG = b"\n".join([*LINES, np.random.default_rng(0).bytes(3 << 20)]) + b"\n"  # random bytes do not shrink


@pytest.fixture(scope="module")
def long_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    return {name: written(folder, pack(LONG), name) for name, pack in PACKINGS.items()}


@pytest.mark.parametrize("block_bytes", [1, 1000, 65_536, 1 << 20, 1 << 24])
@pytest.mark.parametrize("packing", PACKINGS)
def test_blocks_are_whole_lines_and_add_up_to_the_text(long_files, packing, block_bytes):
    advanced = []
    blocks = blocks_of(long_files[packing], block_bytes=block_bytes, advance=advanced.append)
    assert b"".join(blocks) == LONG
    assert all(block.endswith(b"\n") for block in blocks)
    assert len(blocks) >= 2 or block_bytes > 1 << 20
    assert sum(advanced) == long_files[packing].stat().st_size


@pytest.mark.parametrize("window", [0, 1, 7])
def test_blocks_come_in_order_however_many_are_inflated_ahead(tmp_path, window):
    text = b"".join(b"%06d\n" % i for i in range(20_000))
    path = written(tmp_path, bgzf(text, 999))
    assert b"".join(blocks_of(path, block_bytes=1, window=window)) == text


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.binary(min_size=1, max_size=400).map(lambda b: b.replace(b"\x1f", b"\n")),
    block=st.integers(1, 50), block_bytes=st.integers(1, 300), packing=st.sampled_from(["members", "bgzf"]),
)
def test_any_text_cut_anywhere_is_the_same_text(tmp_path, text, block, block_bytes, packing):
    path = written(tmp_path, (members if packing == "members" else bgzf)(text, block))
    blocks = blocks_of(path, block_bytes=block_bytes)
    assert b"".join(blocks) == text
    assert all(b.endswith(b"\n") for b in blocks[:-1])


def test_concatenated_bgzf_files_with_end_markers_inside_are_one_text(tmp_path):
    assert b"".join(blocks_of(written(tmp_path, bgzf(TEXT, 500) + bgzf(TEXT)))) == TEXT + TEXT


@pytest.mark.parametrize("data", [BGZF_EOF, gzip.compress(b"", mtime=0), gzip.compress(b"", mtime=0) * 3])
def test_compressed_nothing_is_no_block(tmp_path, data):
    assert blocks_of(written(tmp_path, data)) == []


def test_empty_members_between_others_are_nothing(tmp_path):
    path = written(tmp_path, gzip.compress(b"", mtime=0) + one_gzip(b"a\n") + gzip.compress(b"", mtime=0) + one_gzip(b"b\n"))
    assert b"".join(blocks_of(path)) == b"a\nb\n"


# --------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("packing", ["gzip", "members", "bgzf"])
def test_a_file_cut_off_anywhere_is_refused_with_the_offset_unless_a_member_ends_there(tmp_path, packing):
    pack = {"gzip": one_gzip, "members": lambda t: members(t, 2000), "bgzf": lambda t: bgzf(t, 2000)}[packing]
    data = pack(TEXT)
    ends = {0}
    for i in range(0, len(TEXT), 2000):
        ends.add(len(one_gzip(TEXT[i : i + 2000])) + max(ends))
    for cut in [*range(2, 60), *range(60, len(data), 7), *range(len(data) - 30, len(data))]:
        result = outcome(written(tmp_path, data[:cut]))
        if packing == "members" and cut in ends:
            assert TEXT.startswith(result)  # nothing in the file says that more should follow
            continue
        assert isinstance(result, FileFormatError), f"cut at {cut} of {len(data)} went unnoticed"
        assert result.offset is not None
        assert 0 <= result.offset <= cut
        assert "; allowed: " in str(result)


@pytest.mark.parametrize("packing", ["gzip", "members", "bgzf"])
def test_a_changed_byte_is_refused_or_changes_nothing(tmp_path, packing):
    pack = {"gzip": one_gzip, "members": lambda t: members(t, 2000), "bgzf": lambda t: bgzf(t, 2000)}[packing]
    data = pack(TEXT)
    rng = np.random.default_rng(0)
    refused = 0
    places = [*range(80), *rng.integers(0, len(data), 200).tolist(), *range(len(data) - 40, len(data))]
    for at in places:
        broken = bytearray(data)
        broken[at] ^= int(rng.integers(1, 256))
        result = outcome(written(tmp_path, bytes(broken)))
        if isinstance(result, FileFormatError):
            refused += 1
            assert result.offset is not None
            assert 0 <= result.offset <= len(data)
        elif at >= 2:  # without its first two bytes a file is plain text, whatever it says
            assert result == TEXT, f"byte {at} changed the text silently"
    assert refused > 0.7 * len(places)


def test_a_block_that_claims_to_be_empty_is_not_skipped(tmp_path):
    first, second = bgzf_block(TEXT[:800]), bgzf_block(TEXT[800:])
    data = first[:-4] + bytes(4) + second + BGZF_EOF
    with pytest.raises(FileFormatError, match="byte offset 0: found a BGZF block") as caught:
        blocks_of(written(tmp_path, data))
    assert caught.value.offset == 0


def test_damage_is_told_by_the_offset_of_its_block(tmp_path):
    blocks = [bgzf_block(TEXT[i : i + 1000]) for i in range(0, len(TEXT), 1000)]
    at = sum(map(len, blocks[:4]))
    blocks[4] = blocks[4][:30] + bytes([blocks[4][30] ^ 255]) + blocks[4][31:]
    with pytest.raises(FileFormatError) as caught:
        blocks_of(written(tmp_path, b"".join(blocks) + BGZF_EOF))
    assert caught.value.offset == at


def test_bgzf_without_its_end_marker_is_refused(tmp_path):
    data = bgzf(TEXT)[: -len(BGZF_EOF)]
    with pytest.raises(FileFormatError, match=f"byte offset {len(data)}: found no BGZF end marker; .* cut off: fetch it again"):
        blocks_of(written(tmp_path, data))


def test_a_gzip_member_among_bgzf_blocks_is_refused_at_its_offset(tmp_path):
    block = bgzf_block(TEXT)
    with pytest.raises(FileFormatError, match=f"byte offset {len(block)}: found bytes that are no BGZF block"):
        blocks_of(written(tmp_path, block + one_gzip(TEXT) + BGZF_EOF))


@pytest.mark.parametrize("rest", [b"hello", b"\x1f", b"\n", b"chr1\t1\t2\tA\n", b"\x1f\x8c"])
def test_bytes_after_the_gzip_data_are_refused_at_their_offset(tmp_path, rest):
    data = one_gzip(TEXT)
    with pytest.raises(FileFormatError, match=f"byte offset {len(data)}: found bytes after the end of the gzip data"):
        blocks_of(written(tmp_path, data + rest))


@pytest.mark.parametrize("n", [1, 511, 3 << 20])
def test_zero_padding_after_gzip_data_is_allowed_as_gzip_does(tmp_path, n):
    assert b"".join(blocks_of(written(tmp_path, one_gzip(TEXT) + bytes(n)))) == TEXT
    assert b"".join(blocks_of(written(tmp_path, one_gzip(TEXT) + bytes(n) + one_gzip(TEXT)))) == TEXT + TEXT


def test_plain_text_may_hold_anything(tmp_path):
    data = bytes(range(1, 256)) * 3
    assert b"".join(blocks_of(written(tmp_path, data))) == data


@pytest.mark.parametrize("cut", [0, 1, 17, 18, 25, 26, 1000])
def test_a_block_cut_off_before_the_end_marker_is_refused_at_its_start(tmp_path, cut):
    """Its rest and the end marker are taken for one block or for none, near and far from where the file is read on."""
    for n in (3, 700):  # 700 blocks are more than the 1 MiB that is read at once
        rng = np.random.default_rng(n)
        blocks = [bgzf_block(rng.bytes(2000)) for _ in range(n)]
        data = b"".join(blocks) + blocks[0][:cut] + BGZF_EOF
        result = outcome(written(tmp_path, data))
        if cut == 0:
            assert isinstance(result, bytes)
            continue
        assert isinstance(result, FileFormatError)
        assert result.offset == len(data) - len(BGZF_EOF) - cut


def test_blocks_are_found_wherever_the_pieces_that_are_read_end(tmp_path):
    """Blocks of up to 64 KiB, more in all than several reads of 1 MiB."""
    rng = np.random.default_rng(5)
    text = rng.integers(10, 90, 6 << 20, dtype=np.uint8).tobytes()
    data, at = b"", 0
    while at < len(text):
        size = int(rng.integers(1, 65_280))
        data += bgzf_block(text[at : at + size])
        at += size
    path = written(tmp_path, data + BGZF_EOF)
    for block_bytes in (1, 100_000, 1 << 20, 16 << 20):
        assert b"".join(blocks_of(path, block_bytes=block_bytes)) == text
