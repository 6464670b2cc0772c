"""Dense tracks written while they come: read back by pyBigWig, rounding, bins, and files that are whole or not there."""

from __future__ import annotations

import gzip
import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyBigWig
import pytest

import gpuatac as ga
from gpuatac.errors import InputError, OutputExistsError
from gpuatac.io.tracks.denoised_files import DenoisedWriter, runs_of

SIZES = {"chr1": 30_011, "chr10": 5000, "chr2": 999, "chrX": 10}
GENOME = ga.Genome("toy", SIZES)
FORMS = {"bigwig": ".bw", "bedgraph": ".bedGraph"}


def dense(seed, size):
    """A track with long zero stretches, plateaus and slopes."""
    rng = np.random.default_rng(seed)
    track = np.repeat(rng.gamma(0.5, 20, size // 50 + 1), 50)[:size]
    track[np.repeat(rng.random(size // 500 + 1) < 0.4, 500)[:size]] = 0
    return (track + (track > 30) * rng.random(size)).astype(np.float32)


TRACKS = [{name: dense(10 * g + i, size) for i, (name, size) in enumerate(SIZES.items()) if i < 3} for g in range(3)]


def pieces(size, seed=0, n=7):
    edges = [0, *np.unique(np.random.default_rng(seed).integers(1, size, n)).tolist(), size]
    return list(itertools.pairwise(edges))


def write(folder, form="bigwig", tracks=TRACKS, suffix=None, **options):
    paths = {f"g{g}": folder / f"g{g}{suffix or FORMS[form]}" for g in range(len(tracks))}
    options = {"what": "signal", **options}
    with DenoisedWriter(paths, GENOME, form=form, **options) as out:
        for code, name in enumerate(GENOME.names):
            for low, high in pieces(SIZES[name], code):
                for g, track in enumerate(tracks):
                    if name in track:
                        out.add(g, code, low, track[name][low:high])
    return list(paths.values())


def rows_of(path):
    """(chrom, start, end, value) of a file."""
    if path.suffix == ".bw":
        with pyBigWig.open(str(path)) as track:
            assert track.chroms() == SIZES
            return [(c, *run) for c in SIZES for run in track.intervals(c) or ()]
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return [(c, int(s), int(e), float(v)) for c, s, e, v in (line.split("\t") for line in text.splitlines())]


def per_base(rows):
    out = {name: np.zeros(size) for name, size in SIZES.items()}
    for chrom, start, end, value in rows:
        assert 0 <= start < end <= SIZES[chrom]
        assert not out[chrom][start:end].any()
        out[chrom][start:end] = value
    return out


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("decimals", range(5))
def test_files_hold_the_rounded_values_and_no_zeros(tmp_path, form, decimals):
    for path, track in zip(write(tmp_path, form, decimals=decimals), TRACKS, strict=True):
        rows = rows_of(path)
        assert all(row[3] for row in rows)
        found = per_base(rows)
        for name, size in SIZES.items():
            expected = track.get(name, np.zeros(size, np.float32)).astype(np.float64)
            assert np.abs(found[name] - expected).max() <= 0.5 * 10.0**-decimals + 1e-5
            values = np.unique(found[name])
            np.testing.assert_allclose(values, np.round(values, decimals), rtol=1e-7 if form == "bigwig" else 1e-15)
        # neighbours of one value are one interval
        assert not [1 for a, b in itertools.pairwise(rows) if a[0] == b[0] and a[2] == b[1] and a[3] == b[3]]


@pytest.mark.parametrize(("what", "text"), [("signal", "0.1"), ("probability", "0.123")])
def test_defaults_keep_one_decimal_of_a_signal_and_three_of_a_probability(tmp_path, what, text):
    tracks = [{"chrX": np.full(10, 0.1234, np.float32)}]
    (path,) = write(tmp_path, "bedgraph", tracks, what=what)
    assert path.read_text() == f"chrX\t0\t10\t{text}\n"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("resolution", [7, 10, 64, 40_000])
def test_bins_hold_means_however_the_track_is_cut(tmp_path, form, resolution):
    for path, track in zip(write(tmp_path, form, decimals=4, resolution=resolution), TRACKS, strict=True):
        found = per_base(rows_of(path))
        for name, values in track.items():
            for low in range(0, SIZES[name], resolution):
                high = min(low + resolution, SIZES[name])
                assert found[name][low:high] == pytest.approx(
                    np.full(high - low, values[low:high].mean(dtype=float)), abs=1e-4
                )
                assert np.unique(found[name][low:high]).size == 1


@pytest.mark.parametrize("resolution", [1, 10])
def test_bases_left_out_have_no_value(tmp_path, resolution):
    path = tmp_path / "a.bw"
    with DenoisedWriter({"a": path}, GENOME, what="signal", form="bigwig", resolution=resolution) as out:
        out.add(0, 0, 100, np.ones(50, np.float32))
        out.add(0, 0, 205, np.ones(95, np.float32))
        out.add(0, 2, 0, np.full(999, 2, np.float32))
    first = [("chr1", 205, 300, 1.0)] if resolution == 1 else [("chr1", 200, 210, 0.5), ("chr1", 210, 300, 1.0)]
    assert rows_of(path) == [("chr1", 100, 150, 1.0), *first, ("chr2", 0, 999, 2.0)]


def test_summary_and_zoom_levels_are_of_the_rounded_values(tmp_path):
    path = write(tmp_path, decimals=0)[0]
    expected = np.concatenate([np.rint(track) for track in TRACKS[0].values()])
    expected = expected[expected > 0]
    with pyBigWig.open(str(path)) as track:
        head = track.header()
        assert (head["nBasesCovered"], head["maxVal"], head["sumData"]) == (
            expected.size,
            expected.max(),
            expected.sum(),
        )
        assert head["nLevels"] > 1
        assert track.stats("chr1", 0, 20_480, type="max")[0] == np.rint(TRACKS[0]["chr1"][:20_480]).max()


@pytest.mark.parametrize("n_threads", [1, 2, 8])
def test_threads_change_nothing(tmp_path, n_threads):
    one, other = tmp_path / "1", tmp_path / "2"
    expected = [rows_of(p) for p in write(one)]
    assert [rows_of(p) for p in write(other, n_threads=n_threads)] == expected


def test_compression_is_told_by_the_name(tmp_path):
    plain = write(tmp_path / "a", "bedgraph")
    packed = write(tmp_path / "b", "bedgraph", suffix=".bedGraph.gz")
    assert [rows_of(p) for p in packed] == [rows_of(p) for p in plain]


def test_groups_without_values_get_valid_files(tmp_path):
    for form in FORMS:
        (path,) = write(tmp_path, form, [{}])
        assert rows_of(path) == []


# ------------------------------------------------------------------------------------- whole or not there


def writer(folder, form, **options):
    paths = {"a": folder / f"a{FORMS[form]}", "b": folder / f"b{FORMS[form]}"}
    return DenoisedWriter(paths, GENOME, what="signal", form=form, **options)


@pytest.mark.parametrize("form", FORMS)
def test_files_are_not_there_before_the_end_nor_after_an_error(tmp_path, form):
    out, temp = tmp_path / "out", tmp_path / "temp"
    out.mkdir()
    temp.mkdir()
    values = TRACKS[0]["chr1"]
    with pytest.raises(ZeroDivisionError), writer(out, form, tempdir=temp) as track:  # noqa: PT012
        track.add(0, 0, 0, values)
        track.add(1, 0, 0, values)
        assert not (out / f"a{FORMS[form]}").exists()
        _ = 1 / 0
    assert list(out.iterdir()) == []
    assert list(temp.iterdir()) == []
    with writer(out, form, tempdir=temp) as track:
        track.add(0, 0, 0, values)
    assert sorted(p.name for p in out.iterdir()) == [f"{g}{FORMS[form]}" for g in "ab"]
    assert list(temp.iterdir()) == []


@pytest.mark.parametrize("form", FORMS)
def test_files_that_exist_are_kept_without_force(tmp_path, form):
    path = tmp_path / f"b{FORMS[form]}"
    path.write_text("old")
    with pytest.raises(OutputExistsError, match="exists already"), writer(tmp_path, form):
        pass
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "old"
    with writer(tmp_path, form, force=True):
        pass
    assert rows_of(path) == []


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from gpuatac import Genome
from gpuatac.io.tracks.denoised_files import DenoisedWriter
folder, form, suffix = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
values = np.random.default_rng(0).random(400_000).astype("f4")
paths = {"a": folder / ("a" + suffix)}
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
with DenoisedWriter(paths, Genome("toy", {"chr1": 400_000, "chr2": 400_000}), what="probability", form=form) as out:
    for code in range(2):
        for start in range(0, 400_000, 5000):
            out.add(0, code, start, values[start : start + 5000])
"""


@pytest.mark.parametrize("form", FORMS)
def test_full_disk_is_a_clear_error_and_leaves_nothing(tmp_path, form):
    out, temp = tmp_path / "out", tmp_path / "temp"
    out.mkdir()
    temp.mkdir()
    code = FULL_DISK.replace("paths = ", f"import tempfile; tempfile.tempdir = {str(temp)!r}\npaths = ")
    run = [sys.executable, "-c", code, str(out), form, FORMS[form]]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "OSError: [Errno 27] File too large; no file was written: make room, or choose another folder" in last
    assert str(out / f"a{FORMS[form]}") in last
    assert list(out.iterdir()) == []
    assert list(temp.iterdir()) == []
    assert tempfile.gettempdir() != str(temp)


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("adds", "message"),
    [
        (
            [(0, 0, 10, 5), (0, 0, 14, 5)],
            r"values of chr1:14 come after those up to chr1:15; add them in ascending order",
        ),
        ([(0, 1, 10, 5), (0, 0, 20, 5)], r"values of chr1:20 come after those up to chr10:15"),
        ([(0, 3, 8, 3)], r"do not lie on chromosome 3 of toy"),
        ([(0, 4, 0, 1)], r"do not lie on chromosome 4 of toy"),
        ([(0, 0, -1, 3)], r"at base -1 do not lie"),
    ],
)
def test_pieces_out_of_place_are_refused(tmp_path, adds, message):
    with pytest.raises(InputError, match=message), writer(tmp_path, "bigwig") as out:  # noqa: PT012
        for group, code, start, size in adds:
            out.add(group, code, start, np.ones(size, np.float32))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("resolution", [1, 5])
def test_values_that_are_not_finite_are_refused_with_their_place(tmp_path, value, resolution):
    values = np.ones(100, np.float32)
    values[77] = value
    place = 1077 if resolution == 1 else 1075
    with pytest.raises(InputError, match=f"a value at base {place:,} is not finite"):
        with writer(tmp_path, "bigwig", resolution=resolution) as out:
            out.add(1, 0, 1000, values)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decimals": 5}, "decimals must be in"),
        ({"decimals": 1.5}, "decimals must be a whole number"),
        ({"resolution": 0}, "resolution must be in"),
        ({"what": "peaks"}, "what must be one of 'signal', 'probability'"),
        ({"form": "wig"}, "form must be one of 'bigwig', 'bedgraph'"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        DenoisedWriter({"a": tmp_path / "a"}, GENOME, **{"what": "signal", "form": "bigwig", **options})


def test_one_file_for_two_groups_is_refused(tmp_path):
    with pytest.raises(InputError, match="two groups have one file"):
        DenoisedWriter({"a": tmp_path / "a", "b": tmp_path / "a"}, GENOME, what="signal", form="bigwig")


def test_runs_by_hand():
    values = np.array([0, 0.2, 0.24, 0.26, 0.26, 0, 0.04, 3], np.float32)
    start, end, value = runs_of(100, values, 10)
    assert list(zip(start.tolist(), end.tolist(), value.tolist(), strict=True)) == [
        (101, 103, 0.2),
        (103, 105, 0.3),
        (107, 108, 3),
    ]
    start, end, value = runs_of(100, values, 10, bin_size=4, size=130)
    assert (start.tolist(), end.tolist(), value.tolist()) == ([104, 112, 128], [112, 120, 130], [0.2, 0.3, 3])


def test_large_values_keep_their_decimals(tmp_path):
    tracks = [{"chrX": np.array([123_456.78, 0.0001, 16_777_217, 1e6, 0, 1, 1, 1, 1, 1], np.float32)}]
    (path,) = write(Path(tmp_path), "bedgraph", tracks, decimals=4)
    assert [row[3] for row in rows_of(path)] == [123456.7812, 0.0001, 16777216, 1e6, 1]
