"""bigWig files of our own, read back by two other libraries and by a plain reader of the format."""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise

import numpy as np
import pybigtools
import pyBigWig
import pytest

from gpuatac.backend.cpu.tracks.encoding import BEDGRAPH, FIXED_STEP, VARIABLE_STEP
from gpuatac.errors import InputError, OutputExistsError
from gpuatac.io.tracks import bigwig as module
from gpuatac.io.tracks.bigwig import bigwig

SIZES = {"chr2": 3_000_000, "chr1": 5_000_000, "chr10": 40_000, "chrEmpty": 700, "a": 10}


def random_runs(size, n, seed, *, width=90):
    rng = np.random.default_rng(seed)
    edges = np.unique(rng.integers(0, size, 2 * n))
    start, end = edges[:-1], np.minimum(edges[1:], edges[:-1] + rng.integers(1, width, edges.size - 1))
    kept = rng.random(start.size) < 0.7
    return start[kept], end[kept], rng.gamma(2, 10, kept.sum()).astype(np.float32)


def write(path, runs, sizes=SIZES, **options):
    with bigwig(path, sizes.items(), **options) as out:
        for chrom in sorted(runs):
            out.append(out.pack(chrom, [runs[chrom]]))
    return path


RUNS = {
    "chr1": random_runs(SIZES["chr1"], 9000, 1),
    "chr10": random_runs(SIZES["chr10"], 30, 2, width=4000),
    "chr2": random_runs(SIZES["chr2"], 400_000, 3, width=5),
    "a": (np.array([0]), np.array([10]), np.array([0.1], np.float32)),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write(tmp_path_factory.mktemp("bigwig") / "r.bw", RUNS, first_zoom=160)


def per_base(start, end, value, size):
    out = np.full(size, np.nan)
    for s, e, v in zip(start, end, value, strict=True):
        out[s:e] = v
    return out


# ----------------------------------------------------------------------------- a reader of the format


def tree_leaves(data, at):
    """The leaf items of an R-tree at file offset ``at``: (chrom, start, end chrom, end, offset, size)."""
    magic, per_node, n, *_ = struct.unpack_from("<IIQ4IQII", data, at)
    assert magic == 0x2468ACE0
    out, heights = [], set()

    def walk(node, depth, within):
        leaf, _, count = struct.unpack_from("<BBH", data, node)
        assert count <= per_node
        for i in range(count):
            if leaf:
                item = struct.unpack_from("<4I2Q", data, node + 4 + 32 * i)
                heights.add(depth)
                out.append(item)
            else:
                item = struct.unpack_from("<4IQ", data, node + 4 + 24 * i)
                walk(item[4], depth + 1, item[:4])
            assert within is None or within[:2] <= item[:2] <= item[2:4] <= within[2:4]

    walk(at + 48, 0, None)
    assert len(out) == n
    assert len(heights) <= 1
    return out


def header_of(data):
    fields = struct.unpack_from("<IHHQQQHHQQIQ", data, 0)
    names = "magic version n_zooms tree data index fields defined sql summary largest extension".split()
    return dict(zip(names, fields, strict=True))


def sections_of(data):
    """(kind, number of items, compressed block) of each section."""
    head = header_of(data)
    out = []
    for *_, offset, size in tree_leaves(data, head["index"]):
        body = zlib.decompress(data[offset : offset + size])
        assert len(body) <= head["largest"]
        kind, _, n = struct.unpack_from("<BBH", body, 20)
        out.append((kind, n, body))
    return out


def zooms_of(data):
    """{width: records (chrom, start, end, covered, least, greatest, sum, sum of squares)}."""
    head = header_of(data)
    out = {}
    for k in range(head["n_zooms"]):
        width, _, at, index = struct.unpack_from("<IIQQ", data, 64 + 24 * k)
        blocks = [zlib.decompress(data[o : o + n]) for *_, o, n in tree_leaves(data, index)]
        assert all(len(block) <= head["largest"] for block in blocks)
        out[width] = [struct.unpack("<4I4f", b[i : i + 32]) for b in blocks for i in range(0, len(b), 32)]
        assert struct.unpack_from("<I", data, at)[0] == len(out[width])
    return out


# ------------------------------------------------------------------------------------------- reading


def test_pybigwig_reads_the_same_runs(path):
    with pyBigWig.open(str(path)) as track:
        assert track.isBigWig()
        assert track.chroms() == SIZES
        for chrom in SIZES:
            found = track.intervals(chrom)
            if chrom not in RUNS:
                assert found is None
                continue
            start, end, value = RUNS[chrom]
            assert [f[:2] for f in found] == list(zip(start.tolist(), end.tolist(), strict=True))
            assert np.array_equal(np.array([f[2] for f in found], np.float32), value)


def test_pybigtools_reads_the_same_runs(path):
    track = pybigtools.open(str(path))
    assert dict(track.chroms()) == SIZES
    for chrom, (start, end, value) in RUNS.items():
        found = list(track.records(chrom))
        assert [f[:2] for f in found] == list(zip(start.tolist(), end.tolist(), strict=True))
        assert np.array_equal(np.array([f[2] for f in found], np.float32), value)


def test_any_window_gives_the_values_of_its_bases(path):
    rng = np.random.default_rng(0)
    expected = {chrom: per_base(*RUNS[chrom], SIZES[chrom]) for chrom in RUNS}
    with pyBigWig.open(str(path)) as track:
        for _ in range(200):
            chrom = str(rng.choice(list(RUNS)))
            lo = int(rng.integers(0, SIZES[chrom]))
            hi = min(SIZES[chrom], lo + int(rng.integers(1, 3000)))
            np.testing.assert_array_equal(
                track.values(chrom, lo, hi, numpy=True), expected[chrom][lo:hi].astype(np.float32)
            )


def test_header_holds_the_sums_over_all_bases(path):
    data = path.read_bytes()
    length = np.concatenate([e - s for s, e, _ in RUNS.values()])
    value = np.concatenate([v for *_, v in RUNS.values()]).astype(float)
    covered, low, high, total, squares = struct.unpack_from("<Q4d", data, header_of(data)["summary"])
    assert covered == length.sum()
    assert (low, high) == (value.min(), value.max())
    assert total == pytest.approx((length * value).sum(), rel=1e-12)
    assert squares == pytest.approx((length * value**2).sum(), rel=1e-12)
    summary = pybigtools.open(str(path)).info()["summary"]
    assert summary["basesCovered"] == covered
    assert summary["sum"] == pytest.approx(total)
    assert data[-4:] == struct.pack("<I", 0x888FFC26)
    assert struct.unpack_from("<Q", data, header_of(data)["data"])[0] == len(sections_of(data))


# --------------------------------------------------------------------------------------------- zooms


def test_zoom_levels_grow_by_four_and_shrink_in_number(path):
    zooms = zooms_of(path.read_bytes())
    assert len(zooms) >= 8
    assert [b / a for a, b in pairwise(zooms)] == [4] * (len(zooms) - 1)
    assert all(len(a) > len(b) for a, b in pairwise(zooms.values()))
    with pyBigWig.open(str(path)) as track:
        assert track.header()["nLevels"] == len(zooms)


def test_zoom_records_are_the_summaries_of_their_bases(path):
    order = sorted(SIZES)
    bases = {chrom: per_base(*RUNS[chrom], SIZES[chrom]) for chrom in RUNS}
    for width, records in zooms_of(path.read_bytes()).items():
        assert sum(r[3] for r in records) == sum(np.isfinite(b).sum() for b in bases.values())
        assert all(a[:2] < b[:2] and (a[0] < b[0] or a[2] <= b[1]) for a, b in pairwise(records))
        for chrom, start, end, covered, low, high, total, squares in records[:: max(1, len(records) // 300)]:
            assert start // width == (end - 1) // width
            held = bases[order[chrom]][start:end]
            held = held[np.isfinite(held)]
            assert covered == held.size
            assert (low, high) == (held.min(), held.max())
            np.testing.assert_allclose([total, squares], [held.sum(), (held**2).sum()], rtol=1e-6)


def test_quick_statistics_of_both_libraries_are_near_the_exact_ones(path):
    with pyBigWig.open(str(path)) as track:
        for chrom in ("chr1", "chr2"):
            for kind in ("mean", "coverage", "std"):
                quick = np.array(track.stats(chrom, nBins=10, type=kind), float)
                exact = np.array(track.stats(chrom, nBins=10, type=kind, exact=True), float)
                np.testing.assert_allclose(quick, exact, rtol=0.02)
            for kind in ("min", "max"):
                assert track.stats(chrom, type=kind) == track.stats(chrom, type=kind, exact=True)
    track = pybigtools.open(str(path))
    width = track.zooms()[2]
    mine = [r for r in zooms_of(path.read_bytes())[width] if sorted(SIZES)[r[0]] == "chr2"]
    theirs = list(track.zoom_records(width, "chr2"))
    assert [(a[0], a[1]) for a in theirs] == [r[1:3] for r in mine]


# ------------------------------------------------------------------------------------------ sections


def test_sections_take_the_shortest_of_the_three_types(tmp_path):
    step = np.arange(2500)
    runs = {
        "a": (step * 10, step * 10 + 10, step % 7),  # evenly spaced
        "b": (step**2, step**2 + 1, step % 5 + 0.5),  # of one width
        "c": (step * 9, step * 9 + 1 + step % 8, step % 3),
        "d": (np.array([5]), np.array([8]), np.array([2.0])),
    }
    path = write(tmp_path / "t.bw", runs, dict.fromkeys("abcd", 10_000_000))
    kinds = [(kind, n) for kind, n, _ in sections_of(path.read_bytes())]
    sizes = [1024, 1024, 452]
    assert kinds == [(k, n) for k in (FIXED_STEP, VARIABLE_STEP, BEDGRAPH) for n in sizes] + [(FIXED_STEP, 1)]
    theirs = pybigtools.open(str(path))
    with pyBigWig.open(str(path)) as track:
        for chrom, (start, end, value) in runs.items():
            expected = list(zip(start.tolist(), end.tolist(), value.astype(np.float32).tolist(), strict=True))
            assert list(track.intervals(chrom)) == expected
            assert list(theirs.records(chrom)) == expected


def test_a_chromosome_in_parts_equals_the_same_at_once(tmp_path):
    start, end, value = RUNS["chr1"]
    whole = write(tmp_path / "whole.bw", {"chr1": RUNS["chr1"]})
    with bigwig(tmp_path / "parts.bw", SIZES.items()) as out:
        cuts = [0, 1024, 1024, 5120, start.size]
        out.append(out.pack("chr1", [(start[a:b], end[a:b], value[a:b]) for a, b in pairwise(cuts)]))
    parts = zooms_of((tmp_path / "parts.bw").read_bytes())
    for width, records in zooms_of(whole.read_bytes()).items():
        assert [r[:6] for r in records] == [r[:6] for r in parts[width]]
        np.testing.assert_allclose([r[6:] for r in records], [r[6:] for r in parts[width]], rtol=1e-6)
    assert sections_of(whole.read_bytes()) == sections_of((tmp_path / "parts.bw").read_bytes())


@pytest.mark.parametrize("runs", [{}, {"chr1": ([], [], [])}])
def test_file_without_values_is_valid(tmp_path, runs):
    path = write(tmp_path / "e.bw", {c: tuple(map(np.array, r)) for c, r in runs.items()})
    with pyBigWig.open(str(path)) as track:
        assert track.chroms() == SIZES
        assert track.header()["nBasesCovered"] == 0
        assert track.intervals("chr1") is None
        assert track.stats("chr1") == [None]
    track = pybigtools.open(str(path))
    assert dict(track.chroms()) == SIZES
    assert list(track.records("chr1")) == []


@pytest.mark.parametrize("n", [1, 256, 257, 70_000])
def test_any_number_of_chromosomes(tmp_path, n):
    sizes = {f"scaffold{i:05d}" if i % 3 else f"s{i}": 1000 + i for i in range(n)}
    chosen = list(sizes)[:: max(1, n // 100)]
    runs = {c: (np.array([3, 500]), np.array([9, 700]), np.array([1.5, i + 1])) for i, c in enumerate(chosen)}
    path = write(tmp_path / "n.bw", runs, sizes)
    with pyBigWig.open(str(path)) as track:
        assert track.chroms() == sizes
        for i, chrom in enumerate(chosen):
            assert track.intervals(chrom) == ((3, 9, 1.5), (500, 700, i + 1))
    track = pybigtools.open(str(path))
    assert dict(track.chroms()) == sizes
    assert list(track.records(chosen[-1])) == [(3, 9, 1.5), (500, 700, len(chosen))]


@pytest.mark.parametrize("n", [0, 1, 256, 257, 256 * 256, 256 * 256 + 1])
def test_index_leads_to_every_block_beyond_four_gigabytes(n):
    rows = np.zeros(n, module.LEAF)
    rows["chrom"] = rows["end_chrom"] = np.arange(n) // 1000
    rows["start"], rows["end"] = np.arange(n) % 1000 * 10, np.arange(n) % 1000 * 10 + 10
    rows["offset"], rows["size"] = np.arange(n, dtype=np.uint64) * 50_000 + 2**33, 17
    at = 100
    found = tree_leaves(bytes(at) + module._index(rows, at), at)
    assert found == [tuple(r) for r in rows.tolist()]


# ------------------------------------------------------------------------------------------- failing


@pytest.mark.parametrize(
    "runs",
    [
        ([5, 3], [6, 4], [1, 1]),
        ([0, 5], [6, 9], [1, 1]),
        ([5], [5], [1]),
        ([0], [11], [1]),
        ([0], [5], [np.nan]),
        ([0], [5], [np.inf]),
    ],
)
def test_runs_that_no_bigwig_can_hold_are_refused_and_leave_no_file(tmp_path, runs):
    with pytest.raises(InputError, match="runs of a must ascend without overlap"):
        write(tmp_path / "x.bw", {"a": tuple(map(np.array, runs))})
    assert list(tmp_path.iterdir()) == []


def write_in_order(path, order):
    with bigwig(path, SIZES.items(), tempdir=path.parent) as out:
        for chrom in order:
            out.append(out.pack(chrom, [RUNS[chrom]]))


def test_chromosomes_out_of_order_are_refused(tmp_path):
    with pytest.raises(InputError, match="chr1 comes too late"):
        write_in_order(tmp_path / "x.bw", ["chr2", "chr1"])
    assert list(tmp_path.iterdir()) == []
    write_in_order(tmp_path / "x.bw", ["chr1", "chr10", "chr2"])
    assert [p.name for p in tmp_path.iterdir()] == ["x.bw"]


def test_existing_file_is_kept_unless_told_otherwise(tmp_path):
    path = tmp_path / "x.bw"
    path.write_text("old")
    with pytest.raises(OutputExistsError, match="force=True"):
        write(path, RUNS)
    assert path.read_text() == "old"
    write(path, RUNS, force=True)
    with pyBigWig.open(str(path)) as track:
        assert track.chroms("chr1") == SIZES["chr1"]
