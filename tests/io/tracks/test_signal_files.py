"""bigWig and bedGraph tracks read window by window, and every way in which such a file can be wrong."""

from __future__ import annotations

import gzip

import numpy as np
import pyBigWig
import pytest

import gpuatac as ga
from gpuatac.errors import FileFormatError, InputError, MissingFileError
from gpuatac.io.files.bgzf import EOF, bgzf_block
from gpuatac.io.tracks import bedgraph as module
from gpuatac.io.tracks import signal_files
from gpuatac.io.tracks.signal_files import BedGraphSignal, BigWigSignal, open_signal

SIZES = {"chr1": 5000, "chr10": 900, "chr2": 12_000_000, "chrM": 40}
GENOME = ga.Genome("toy", SIZES)


def random_runs(size, n, seed):
    rng = np.random.default_rng(seed)
    edges = np.unique(rng.integers(0, size, 2 * n))
    start, end = edges[:-1], edges[1:]
    kept = rng.random(start.size) < 0.6
    return [
        (int(s), int(e), float(v))
        for s, e, v in zip(start[kept], end[kept], rng.integers(1, 90, kept.sum()) / 8, strict=True)
    ]


RUNS = {"chr1": random_runs(5000, 300, 1), "chr2": random_runs(12_000_000, 400, 2)}


def bigwig(path, runs=RUNS, sizes=SIZES, **options):
    with pyBigWig.open(str(path), "w") as out:
        out.addHeader(list(sizes.items()), **options)
        for chrom, rows in runs.items():
            start, end, value = (list(column) for column in zip(*rows, strict=True))
            out.addEntries([chrom] * len(rows), start, ends=end, values=value)
    return path


def lines(runs=RUNS):
    return "".join(f"{c}\t{s}\t{e}\t{v}\n" for c, rows in runs.items() for s, e, v in rows)


def bedgraph(path, text=None, compress=None):
    raw = (lines() if text is None else text).encode()
    if compress == "gzip":
        raw = gzip.compress(raw)
    elif compress == "bgzip":
        raw = b"".join(bgzf_block(raw[i : i + 60_000], 1) for i in range(0, len(raw), 60_000)) + EOF
    path.write_bytes(raw)
    return path


def per_base(rows, size):
    out = np.zeros(size, np.float32)
    for start, end, value in rows:
        out[start:end] = value
    return out


KINDS = {
    "bigWig": bigwig,
    "bigWig without zoom levels": lambda path: bigwig(path, maxZooms=0),
    "bedGraph": bedgraph,
    "gzip": lambda path: bedgraph(path, compress="gzip"),
    "bgzip": lambda path: bedgraph(path, compress="bgzip"),
    "spaces and comments": lambda path: bedgraph(path, "track type=bedGraph\n# x\n\n" + lines().replace("\t", "  ")),
    "track line": lambda path: bedgraph(path, "browser x\ntrack type=bedGraph\n" + lines()),
    "windows line ends": lambda path: bedgraph(path, lines().replace("\n", "\r\n")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_values_extents_and_totals_whatever_the_file_is_called(tmp_path, kind):
    signal = open_signal(KINDS[kind](tmp_path / "track.txt"), GENOME)
    assert isinstance(signal, BigWigSignal if kind.startswith("bigWig") else BedGraphSignal)
    assert signal.genome is GENOME
    assert signal.codes == [GENOME.code["chr1"], GENOME.code["chr2"]]
    rng = np.random.default_rng(3)
    for chrom, size in SIZES.items():
        code = GENOME.code[chrom]
        expected = per_base(RUNS.get(chrom, []), size)
        windows = [(0, size), (size - 1, size), *np.sort(rng.integers(0, size, (5, 2)), axis=1).tolist()]
        for low, high in windows:
            if low < high:
                found = signal.values(code, low, high)
                assert found.dtype == np.float32
                np.testing.assert_array_equal(found, expected[low:high])
        assert signal.total(code) == pytest.approx(float(expected.sum(dtype=np.float64)), rel=1e-9)
        there = np.flatnonzero(expected)
        assert signal.extent(code) == ((there[0], there[-1] + 1) if there.size else (0, 0))


@pytest.mark.parametrize("make", [bigwig, bedgraph])
@pytest.mark.parametrize("at", [0, 2_999_999, 4_194_303, 4_194_304, 11_999_000])
def test_extent_of_one_short_run_anywhere(tmp_path, make, at):
    runs = {"chr2": [(at, at + 3, 2.0)]}
    path = bigwig(tmp_path / "a", runs) if make is bigwig else bedgraph(tmp_path / "a", lines(runs))
    assert open_signal(path, GENOME).extent(GENOME.code["chr2"]) == (at, at + 3)


def test_a_bigwig_brings_its_own_genome(tmp_path):
    signal = open_signal(bigwig(tmp_path / "HSC.5M.bw"))
    assert (signal.genome.name, dict(signal.genome.chrom_sizes)) == ("HSC.5M", SIZES)
    with pytest.raises(InputError, match="does not tell the sizes of chromosomes; give the genome"):
        open_signal(bedgraph(tmp_path / "a.bedGraph"))


def test_nan_in_a_bigwig_is_no_data(tmp_path):
    runs = {"chr1": [(0, 5, 1.0), (5, 9, float("nan")), (9, 12, 2.0)]}
    signal = open_signal(bigwig(tmp_path / "a.bw", runs), GENOME)
    assert signal.values(0, 0, 14).tolist() == [1.0] * 5 + [0.0] * 4 + [2.0] * 3 + [0.0] * 2


def test_other_spellings_of_names_are_known(tmp_path):
    sizes = {name.removeprefix("chr"): size for name, size in SIZES.items()}
    signal = open_signal(bigwig(tmp_path / "a.bw", {"1": RUNS["chr1"]}, sizes), GENOME)
    assert signal.codes == [0]
    np.testing.assert_array_equal(signal.values(0, 0, 5000), per_base(RUNS["chr1"], 5000))


# --------------------------------------------------------------------------------- tracks of another genome


def test_bigwig_of_another_genome_says_which_chromosome_and_sizes(tmp_path):
    path = bigwig(tmp_path / "a.bw", {"chr1": RUNS["chr1"]}, {**SIZES, "chr10": 901})
    with pytest.raises(
        FileFormatError, match=r"chromosome chr10 of 901 bp; allowed: 900 bp as in genome toy; it is a track"
    ):
        open_signal(path, GENOME)
    path = bigwig(tmp_path / "b.bw", {"chr7": RUNS["chr1"]}, {"chr7": 5000})
    with pytest.raises(FileFormatError, match=r"chromosome chr7 of 5,000 bp; allowed: the chromosomes of genome toy"):
        open_signal(path, GENOME)


def test_chromosomes_without_values_may_be_unknown(tmp_path):
    signal = open_signal(bigwig(tmp_path / "a.bw", {"chr1": RUNS["chr1"]}, {**SIZES, "chrEBV": 100}), GENOME)
    assert signal.codes == [0]


def test_contigs_that_a_main_genome_leaves_out_are_passed_over(tmp_path):
    genome = ga.Genome("toy", {**SIZES, "chrUn_1": 800}).select_contigs("main")
    runs = {"chr1": RUNS["chr1"], "chrUn_1": [(5, 9, 1.0)]}
    for path in (bigwig(tmp_path / "a", runs, {**SIZES, "chrUn_1": 800}), bedgraph(tmp_path / "b", lines(runs))):
        assert open_signal(path, genome).codes == [0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "chr1\t0\t5\t1\nchr1\t4990\t5001\t1\n",
            r"line 2: found chr1:4,990-5,001; allowed: ends up to 5,000, the size of chr1 in gen",
        ),
        (
            "chr1\t0\t5\t1\nchr5\t4\t9\t1\n",
            r"found chromosome chr5; allowed: the chromosomes of genome toy; it is a track of another",
        ),
        ("chr1\t0\t5\t1\nchr1\t4\t9\t1\n", r"line 2: found chr1:4-9, which overlaps the line before"),
        ("chr1\t7\t9\t1\nchr1\t3\t5\t1\n", r"line 2: found chr1:3-5, which is out of order"),
        (
            "chr1\t7\t9\t1\nchr2\t3\t5\t1\nchr1\t10\t12\t1\n",
            r"line 3: found chr1 again; allowed: each chromosome in one place",
        ),
        (
            "#x\nchr1\t7\t9\t1\nchr1\t9\t12\t-0.5\n",
            r"line 3: found the value -0.5 on chr1; allowed: finite values from 0",
        ),
        ("chr1\t7\t9\t1\n#y\nchr1\t9\t12\tnan\n", r"line 3: found the value nan on chr1"),
        ("chr1\t7\t9\tinf\n", r"line 1: found the value inf"),
        ("chr1\t7\t9\t1e39\n", r"line 1: found the value 1e\+39"),
        ("chr1\t9\t9\t1\n", r"line 1: found chr1:9-9; allowed: 0 <= start < end"),
        ("chr1\t-1\t9\t1\n", r"line 1: found chr1:-1-9"),
        ("chr1\t7\t9\n", r"line 1: found 'chr1\\t7\\t9'; allowed: four columns"),
        ("chr1\t7\t9\t1\t2\n", r"line 1: found .*; allowed: four columns"),
        ("chr1\t7\t9\t1\nchr1\t9.5\t11\t1\n", r"line 2: found .*9.5.*; allowed: four columns"),
        ("chr1\t7\t9\tx\n", r"line 1: found .*; allowed: four columns"),
        ("\x7fELF\x00\x01\x02", r"line 1: found"),
        ("", r"found an empty file"),
        ("track type=bedGraph\n", r"found no values"),
    ],
    ids=repr,
)
def test_bad_bedgraph_is_refused_with_its_line(tmp_path, text, message):
    with pytest.raises(FileFormatError, match=message):
        open_signal(bedgraph(tmp_path / "a.bedGraph", text), GENOME)


def test_lines_are_numbered_through_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "line_blocks", small_blocks)
    text = "track\n" + lines({"chr1": [(i, i + 1, 1.0) for i in range(2000)]})
    np.testing.assert_array_equal(open_signal(bedgraph(tmp_path / "a", text), GENOME).values(0, 0, 2001)[-2:], [1, 0])
    for wrong in ("chr1\t1999\t2001\t1\n", "chr1\t1999\tx\t1\n"):
        with pytest.raises(FileFormatError, match="line 2002: found"):
            open_signal(bedgraph(tmp_path / "b", text + wrong), GENOME)


def small_blocks(path, pool, *, advance):
    data = path.read_bytes().splitlines(keepends=True)
    for i in range(0, len(data), 77):
        yield np.frombuffer(b"".join(data[i : i + 77]), np.uint8)


# ----------------------------------------------------------------------------------------- damaged files


@pytest.mark.parametrize("value", [-1.0, float("inf")])
def test_bigwig_with_values_that_are_none_is_refused(tmp_path, value):
    path = bigwig(tmp_path / "a.bw", {"chr1": [(0, 5, 1.0), (7, 9, value)], "chr2": RUNS["chr2"]})
    with pytest.raises(FileFormatError, match=f"found the value {value:g} on chr1; allowed: finite values from 0"):
        open_signal(path, GENOME)


def test_bigwig_cut_off_anywhere_is_refused_or_whole(tmp_path):
    whole = bigwig(tmp_path / "whole.bw").read_bytes()
    path = tmp_path / "cut.bw"
    refused = 0
    for n in [4, 5, 63, 64, 100, *range(300, len(whole), 997)]:
        path.write_bytes(whole[:n])
        with pytest.raises(FileFormatError, match="was cut off"):
            open_signal(path, GENOME)
        refused += 1
    assert refused > 10
    path.write_bytes(whole[: len(whole) - 2])  # the end mark alone
    np.testing.assert_array_equal(open_signal(path, GENOME).values(0, 0, 5000), per_base(RUNS["chr1"], 5000))


def test_bigwig_with_damaged_data_is_refused(tmp_path):
    data = bytearray(bigwig(tmp_path / "a.bw").read_bytes())
    at = int.from_bytes(data[16:24], "little") + 8  # the first compressed section
    data[at + 2 : at + 40] = bytes(38)
    (tmp_path / "b.bw").write_bytes(data)
    with pytest.raises(FileFormatError, match="a bigWig that does not read"):
        open_signal(tmp_path / "b.bw", GENOME).values(0, 0, 5000)


@pytest.mark.parametrize(("magic", "what"), [(0x8789F2EB, "a bigBed file"), (0x26FC8F88, "a big-endian")])
def test_relatives_of_bigwig_are_told_apart(tmp_path, magic, what):
    (tmp_path / "a").write_bytes(magic.to_bytes(4, "little") + bytes(500))
    with pytest.raises(FileFormatError, match=what):
        open_signal(tmp_path / "a", GENOME)


def test_missing_and_empty_files_are_refused(tmp_path):
    with pytest.raises(MissingFileError, match="does not exist"):
        open_signal(tmp_path / "none.bw", GENOME)
    with pytest.raises(FileFormatError, match="a folder"):
        open_signal(tmp_path, GENOME)
    with pyBigWig.open(str(tmp_path / "e.bw"), "w") as out:
        out.addHeader([("chr1", 5000)])
    with pytest.raises(FileFormatError, match="no values"):
        open_signal(tmp_path / "e.bw", GENOME)


def test_gzip_that_is_cut_off_is_refused(tmp_path):
    path = bedgraph(tmp_path / "a.gz", compress="gzip")
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(FileFormatError, match="cut off"):
        open_signal(path, GENOME)


@pytest.mark.parametrize(
    ("name", "bare"), [("a.5M.bw", "a.5M"), ("a.bedGraph.gz", "a"), (".bw", ".bw"), ("a.b", "a.b")]
)
def test_bare_names(tmp_path, name, bare):
    assert signal_files.bare_name(tmp_path / name) == bare
