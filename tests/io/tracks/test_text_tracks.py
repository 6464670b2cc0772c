"""Text of tracks: values that read back, compression in one readable stream, pieces longer than memory should hold."""

from __future__ import annotations

import gzip
import io
import math

import numpy as np
import pytest
import zstandard

from gpuatac.io.files.bgzf import EOF
from gpuatac.io.tracks.text_tracks import SPOOLED, TextWriter, bedgraph_text, fragment_text, texts_of


def text_of(start, end, value, chrom="chr1"):
    return b"".join(bedgraph_text(chrom, [tuple(map(np.array, (start, end, value)))])).decode()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (0.1, "0.1"),
        (1 / 3, "0.3333333333333333"),
        (550.8124483613329, "550.8124483613329"),
        (1e-7, "0.0000001"),
        (2.5e-300, "0." + "0" * 299 + "25"),
        (1e16, "10000000000000000"),
        (123456789.0, "123456789"),
        (100.5, "100.5"),
    ],
)
def test_value_is_the_shortest_decimal_that_reads_back(value, text):
    assert text_of([0], [2147483647], [value]) == f"chr1\t0\t2147483647\t{text}\n"
    assert float(text) == value


def test_any_number_of_distinct_values_reads_back():
    rng = np.random.default_rng(0)
    value = rng.gamma(0.5, 10.0 ** rng.integers(-9, 9, 100_000))
    value[::7] = value[0]
    start = np.arange(value.size) * 13
    rows = [line.split("\t") for line in text_of(start, start + 5, value, "chr 1").splitlines()]
    assert {row[0] for row in rows} == {"chr 1"}
    assert [int(row[1]) for row in rows] == start.tolist()
    assert [int(row[2]) for row in rows] == (start + 5).tolist()
    assert [float(row[3]) for row in rows] == value.tolist()


def test_no_runs_make_no_text():
    assert text_of([], [], []) == ""


def test_fragments_as_lines():
    names = texts_of(["cell é\t", "b\t"])
    columns = [
        np.array(column, np.int32)
        for column in ([0, 7, 2147483000], [5, 70, 2147483647], [1, 0, 1], [1, 12, 2147483647])
    ]
    text = b"".join(fragment_text("2", *columns, names)).decode()
    assert text == "2\t0\t5\tb\t1\n2\t7\t70\tcell é\t12\n2\t2147483000\t2147483647\tb\t2147483647\n"


def written(path, pieces, **options):
    writer = TextWriter(path, **options)
    for piece in [writer.pack(texts) for texts in pieces]:
        writer.append(piece)
    writer.close()
    return path.read_bytes()


@pytest.mark.parametrize("level", [None, 1, 4, 9])
def test_gzip_is_bgzf(tmp_path, level):
    rng = np.random.default_rng(0)
    pieces = [
        [rng.integers(48, 58, n).astype(np.uint8).tobytes() for n in sizes]
        for sizes in ([10, 200_000, 0], [], [65_280])
    ]
    data = written(tmp_path / "t.gz", pieces, compression="gzip", level=level)
    assert gzip.decompress(data) == b"".join(b"".join(piece) for piece in pieces)
    assert data.endswith(EOF)
    at, n_blocks = 0, 0
    while at < len(data):
        assert data[at : at + 4] == b"\x1f\x8b\x08\x04"
        at += int.from_bytes(data[at + 16 : at + 18], "little") + 1
        n_blocks += 1
    assert n_blocks == math.ceil(200_010 / 65_280) + 1 + 1


def test_zstandard_is_one_frame(tmp_path):
    pieces = [[b"first\n"], [], [b"second\n", b"third\n"]]
    data = written(tmp_path / "t.zst", pieces, compression="zstandard", level=19)
    assert zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read() == b"first\nsecond\nthird\n"


def test_nothing_written_is_a_valid_empty_file(tmp_path):
    assert written(tmp_path / "t", []) == b""
    assert gzip.decompress(written(tmp_path / "t.gz", [], compression="gzip")) == b""
    data = written(tmp_path / "t.zst", [], compression="zstandard")
    assert zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read() == b""


def test_a_long_piece_waits_in_the_folder_for_temporary_files(tmp_path):
    block = b"x" * (1 << 20)
    writer = TextWriter(tmp_path / "t", tempdir=tmp_path)
    packed = writer.pack([block] * (SPOOLED // len(block) + 2))
    assert packed._rolled, "still in memory"
    writer.append(packed)
    writer.close()
    assert packed.closed
    assert (tmp_path / "t").stat().st_size == SPOOLED + 2 * len(block)
    assert [p.name for p in tmp_path.iterdir()] == ["t"]
