"""BED files and other ways to name regions."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuatac.errors import FileFormatError, InputError, MissingFileError
from gpuatac.io.files.bgzf import BgzfWriter
from gpuatac.io.genome import bed
from gpuatac.io.genome.bed import parse_regions, read_bed, regions_frame


def written(folder, text):
    path = folder / "a.bed"
    path.write_text(text)
    return path


def test_bed_keeps_order_and_duplicates_and_skips_track_lines(tmp_path):
    text = 'browser position x\ntrack name="p"\n# note\nchr2\t5\t9\n\nchr1\t0\t3\nchr2\t5\t9\n'
    frame = read_bed(written(tmp_path, text))
    assert frame.to_numpy().tolist() == [["chr2", 5, 9], ["chr1", 0, 3], ["chr2", 5, 9]]
    assert frame["start"].dtype == frame["end"].dtype == np.int64


@pytest.mark.parametrize("text", ["chr1\t1\t2\tx y\t3.5\t-\tmore\n", "chr1\t1\t2\tx y\t3.5\t-\r\n"])
def test_six_columns_give_name_score_and_strand(tmp_path, text):
    assert read_bed(written(tmp_path, text)).to_numpy().tolist() == [["chr1", 1, 2, "x y", 3.5, "-"]]


def test_scores_that_are_no_numbers_are_nan_and_other_strands_a_dot(tmp_path):
    frame = read_bed(written(tmp_path, "chr1\t1\t2\tx\t.\t*\n"))
    assert np.isnan(frame["score"][0])
    assert frame["strand"][0] == "."


def test_columns_end_where_the_shortest_row_ends(tmp_path):
    assert list(read_bed(written(tmp_path, "chr1\t1\t2\tx\t0\nchr1\t1\t2\ty\n"))) == [
        "chrom",
        "start",
        "end",
        "name",
    ]


def test_spaces_and_a_header_row_are_accepted(tmp_path):
    assert read_bed(written(tmp_path, "chr start end\nchr1 1  2\n")).to_numpy().tolist() == [["chr1", 1, 2]]


def test_gzip_and_bgzf_are_read_whatever_the_suffix(tmp_path):
    rows = "".join(f"chr1\t{i}\t{i + 1}\n" for i in range(20_000))
    (tmp_path / "a.bed").write_bytes(gzip.compress(rows[:90].encode()) + gzip.compress(rows[90:].encode()))
    with BgzfWriter(tmp_path / "b.bed") as out:
        out.write(rows.encode())
    assert read_bed(tmp_path / "a.bed")["start"].tolist() == list(range(20_000))
    assert read_bed(tmp_path / "b.bed")["start"].tolist() == list(range(20_000))


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        ("chr1\t1\t2\n\nchr1\t1\n", 3, r"2 column\(s\)"),
        ("#\nchr1\tone\t2\n", 2, "start 'one' and end '2'"),
        ("chr1\t1\t2\nchr1\t1\t2.5\n", 2, "end '2.5'"),
        ("chr1\t9\t2\n", 1, "start 9 and end 2"),
        ("chr1\t-1\t2\n", 1, "start -1"),
        ("chr1\t1\t2147483648\n", 1, "end 2147483648"),
        ("chr1\t1\t" + "9" * 30 + "\n", 1, "9999"),
        ("# nothing\n", None, "no regions"),
    ],
)
def test_malformed_rows_are_refused_with_their_line(tmp_path, text, line, found):
    with pytest.raises(FileFormatError, match=found) as info:
        read_bed(written(tmp_path, text))
    assert info.value.line == line


def test_a_truncated_gzip_file_is_refused(tmp_path):
    path = tmp_path / "a.bed.gz"
    path.write_bytes(gzip.compress("".join(f"chr1\t{i}\t{i + 9}\n" for i in range(9999)).encode())[:5000])
    with pytest.raises(FileFormatError, match="byte offset"):
        read_bed(path)


def test_narrow_peaks_of_macs3_and_the_blacklist_are_read(data_dir):
    peaks = read_bed(data_dir / "scatac" / "pbmc500_chr22_hg38" / "run_callpeak_frag_peaks.narrowPeak")
    assert len(peaks) == 1455
    assert peaks.iloc[0, :5].tolist() == ["chr22", 10687269, 10687509, "run_callpeak_frag_peak_1", 63.0]
    blacklist = read_bed(data_dir / "annotation" / "blacklist" / "hg38-blacklist.v2.bed.gz")
    assert blacklist.iloc[0].tolist() == ["chr10", 0, 45700, "Low Mappability"]
    assert len(blacklist) == 636


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chr1:100-200", ["chr1", 100, 200]),
        ("chr1:1,000-2,000", ["chr1", 1000, 2000]),
        ("chr1-100-200", ["chr1", 100, 200]),
        ("chr1_100_200", ["chr1", 100, 200]),
        ("chr1_KI270706v1_random_5_10", ["chr1_KI270706v1_random", 5, 10]),
        ("HLA-A*01:01-5-10", ["HLA-A*01:01", 5, 10]),
        ("GL000194.1:5-10", ["GL000194.1", 5, 10]),
        ("1:0-0", ["1", 0, 0]),
    ],
)
def test_region_names_are_parsed(name, expected):
    assert regions_frame([name]).to_numpy().tolist() == [expected]


@pytest.mark.parametrize("name", ["GENE1", "chr1:5", "chr1:9-5", "peak_0", "chr1:1-3000000000", ":1-2", 5])
def test_names_that_are_no_regions_give_none_and_are_named_in_the_error(name):
    assert parse_regions(["chr1:1-2", name]) is None
    with pytest.raises(InputError, match=f"got {name!r}"):
        regions_frame(["chr1:1-2", name])


def test_regions_come_from_paths_frames_and_lists_in_their_order(tmp_path):
    expected = [["chr2", 5, 9], ["chr1", 0, 3], ["chr2", 5, 9]]
    path = written(tmp_path, "".join("\t".join(map(str, r)) + "\n" for r in expected))
    frame = pd.DataFrame(expected, columns=["chrom", "start", "end"], index=[7, 7, 1])
    names = [f"{c}:{s}-{e}" for c, s, e in expected]
    other = frame.rename(columns={"chrom": "Chromosome", "start": "Start", "end": "End"}).astype(
        {"Start": "int32"}
    )
    for source in (
        path,
        str(path),
        frame,
        other,
        pl.DataFrame(frame),
        names,
        pd.Index(names),
        np.array(names),
    ):
        made = regions_frame(source)
        assert made.to_numpy().tolist() == expected
        assert made.index.tolist() == [0, 1, 2]
        assert made["start"].dtype == np.int64


def test_categorical_chromosomes_text_coordinates_and_extra_columns_of_frames(tmp_path):
    frame = pd.DataFrame(
        {"chr": pd.Categorical(["chr1"]), "start": ["5"], "end": ["9"], "name": ["n"], "junk": [1]}
    )
    assert regions_frame(frame).to_dict("list") == {
        "chrom": ["chr1"],
        "start": [5],
        "end": [9],
        "name": ["n"],
    }


@pytest.mark.parametrize(
    ("frame", "match"),
    [
        (pd.DataFrame({"chrom": ["chr1"], "start": [1]}), r"no column end \(it has 'chrom', 'start'\)"),
        (pd.DataFrame({"chrom": [], "start": [], "end": []}), "no rows"),
        (pd.DataFrame({"chrom": ["a"], "start": [1.5], "end": [2]}), "1 of 1 values of start"),
        (pd.DataFrame({"chrom": ["a"], "start": [-1], "end": [2]}), "1 of 1 values of start"),
        (
            pd.DataFrame({"chrom": ["a", "b"], "start": [1, 5], "end": [2, 2]}),
            "1 of 2 regions have start > end",
        ),
        (pd.DataFrame({"chrom": [None], "start": [1], "end": [2]}), "have no chromosome"),
        ([], "an empty list"),
    ],
)
def test_wrong_regions_are_refused(frame, match):
    with pytest.raises(InputError, match=match):
        regions_frame(frame)


def test_a_region_given_as_a_path_gets_a_hint(tmp_path):
    with pytest.raises(MissingFileError, match=r"pass \['chr1:1-2'\]"):
        regions_frame("chr1:1-2")
    with pytest.raises(MissingFileError, match="check the path"):
        regions_frame(tmp_path / "none.bed")


PLAIN = "".join(f"chr{1 + i % 3}\t{i}\t{i + 5}\tn {i % 7}\t{i / 4}\t{'+-.*'[i % 4]}\t9\n" for i in range(50))


@pytest.mark.parametrize("width", [3, 4, 5, 6, 7])
@pytest.mark.parametrize(
    "top", ["", "# c\n\ntrack name=x\n", "chrom\tstart\tend\n", "#h\nc\tchromStart\tchromEnd\tx\n"]
)
@pytest.mark.parametrize("end", ["\n", ""])
def test_a_table_read_at_once_equals_the_same_read_line_by_line(tmp_path, width, top, end):
    text = top + "\n".join("\t".join(line.split("\t")[:width]) for line in PLAIN.splitlines()) + end
    plain = bed._plain_table(text.encode())
    pd.testing.assert_frame_equal(plain, bed._read_lines(tmp_path / "a.bed", text.encode()))
    pd.testing.assert_frame_equal(read_bed(written(tmp_path, text)), plain)


@pytest.mark.parametrize(
    "text",
    [
        "", "chr1 1 2\n", "chr1\t1\n", "chr1\t1\t2\nchr1\t1\t2\tx\n", "chr1\t1\t2\n\nchr1\t1\t2\n", "chr1\t1\t2\r\n",
        "chr1\t1\t2\n#\t1\t2\n", "chr1\t1\t2\ntrack\t1\t2\n", "chr1\t0x1\t2\n", "chr1\t3\t2\n", "chr1\t-1\t2\n",
        "chr1\t1\t2147483648\n", "chr1\t1\t\n", "chr1\t1_0\t20\n", "chr1\t+1\t20\n", "chré\t1\t2\n", "chr1\t1\t2\tx\x0b\n",
        "chrom\tstart\tend\n", "chr1\t1\t2.5\n", "chr1\t1\t99999999999999999999\n",
    ],
)  # fmt: skip
def test_all_that_is_out_of_the_ordinary_is_read_line_by_line(text):
    assert bed._plain_table(text.encode()) is None


@pytest.mark.parametrize("mark", ["", '"'])
def test_names_that_look_like_nothing_stay_text_odd_scores_are_read_and_quotes_go(tmp_path, mark):
    text = f'NA\t1\t2\tNaN\t+1.5\tx\n{mark}chr1{mark}\t1\t2\tnull\tx\t+\n chr2 \t1\t2\t\t\t - \nchr2\t1\t2\t{mark}\t1e3\t.\n'
    assert (bed._plain_table(text.encode()) is None) == bool(mark)
    frame = read_bed(written(tmp_path, text))
    assert frame["chrom"].tolist() == ["NA", "chr1", "chr2", "chr2"]
    assert frame["name"].tolist() == ["NaN", "null", "", mark]
    np.testing.assert_array_equal(frame["score"], [1.5, np.nan, np.nan, 1000.0])
    assert frame["strand"].tolist() == [".", "+", "-", "."]


FIELDS = st.sampled_from(
    ["chr1", "chr2 ", "7", "0012", "-3", "+4", "1_0", "0x1f", "2147483648", " 5", "", "x y", '"a"']
)
ROW = st.tuples(
    st.sampled_from(["chr1", "chr2"]),
    st.integers(0, 40),
    st.integers(0, 50),
    st.sampled_from("ab"),
    st.integers(0, 9),
).map(lambda row: [str(field) for field in row])
ODD_ROW = st.lists(
    FIELDS | st.sampled_from(["1", "2", "nan", "inf", "#", "track", "start", "end"]), max_size=7
)


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(ROW | ROW | ODD_ROW, max_size=5),
    width=st.integers(3, 5),
    end=st.sampled_from(["\n", "", "\n\n"]),
)
def test_whatever_is_read_at_once_is_read_the_same_line_by_line(rows, width, end):
    text = ("\n".join("\t".join(row[:width]) for row in rows) + end).encode()
    plain = bed._plain_table(text)
    if plain is not None:
        pd.testing.assert_frame_equal(plain, bed._read_lines("drawn.bed", text))
