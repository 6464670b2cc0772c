"""Peak files: what stands in them, by UCSC's rules for each format, and what they are called on the disk."""

from __future__ import annotations

import logging
import re
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import gpuatac as ga
from gpuatac.errors import InputError
from gpuatac.workflow import peaks

SIZES = {"chr1": 60_000, "chr2": 20_000, "chrM": 3_000}
NARROW = ["chrom", "start", "end", "name", "score", "strand", "signal_value", "p_value", "q_value", "peak"]
COLUMNS = {
    "narrowPeak": NARROW,
    "broadPeak": NARROW[:-1],
    "gappedPeak": [*NARROW[:6], "thick_start", "thick_end", "rgb", "n", "sizes", "starts", *NARROW[6:9]],
    "bed": NARROW[:6],
}


def rows():
    """Piles of fragments at the first and last bases of chromosomes and a tall one inside; cells A and B."""
    rng = np.random.default_rng(0)
    out = []
    for chrom, size in SIZES.items():
        for at, n in ((0, 40), (size // 2, 900 if chrom == "chr1" else 60), (size - 40, 60)):
            start = np.clip(at + rng.integers(-30, 30, n), 0, size - 40)
            out += [(chrom, int(s), min(int(s) + 40, size), "AB"[i % 2]) for i, s in enumerate(start)]
        out += [(chrom, int(s), int(s) + 40, "AB"[int(s) % 2]) for s in rng.integers(0, size - 40, size // 500)]
    return sorted(out)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peak_files")
    (folder / "toy.sizes").write_text("".join(f"{c}\t{n}\n" for c, n in SIZES.items()))
    (folder / "x.tsv").write_text("".join(f"{c}\t{s}\t{e}\t{b}\t1\n" for c, s, e, b in rows()))
    (folder / "groups.tsv").write_text("A\tone\nB\ttwo\n")
    return folder


@pytest.fixture(scope="module")
def made(folder):
    genome = ga.io.read_genome(folder / "toy.sizes", contigs="all")
    return ga.pp.import_fragments(folder / "x.tsv", genome, min_num_fragments=0)


@pytest.fixture
def adata(made):
    return made.copy()


def grouped(adata, first="one", second="two"):
    adata.obs["kind"] = pd.Categorical([first, second], categories=[first, second])
    return adata


def of_file(path, form):
    """The rows of a peak file, held against the rules that bedToBigBed and validateFiles go by."""
    table = pd.read_csv(path, sep="\t", header=None, names=COLUMNS[form], quoting=3, keep_default_na=False)
    assert len(table)
    assert path.read_bytes().count(b"\n") == len(table)
    size = table["chrom"].map(SIZES)
    assert ((table["start"] >= 0) & (table["start"] < table["end"]) & (table["end"] <= size)).all()
    assert pd.api.types.is_integer_dtype(table["score"])
    assert (table["score"] >= 0).all()
    assert (table["strand"] == ".").all()
    assert table["name"].is_unique
    assert (table["name"].str.len() < 256).all()
    if form == "narrowPeak":
        assert ((table["peak"] >= -1) & (table["peak"] < table["end"] - table["start"])).all()
    for row in table.itertuples() if form == "gappedPeak" else ():
        sizes, starts = ([int(x) for x in text.split(",")] for text in (row.sizes, row.starts))
        assert len(sizes) == len(starts) == row.n
        assert starts[0] == 0
        assert starts[-1] + sizes[-1] == row.end - row.start
        assert min(sizes) > 0
        assert all(a + n <= b for a, n, b in zip(starts, sizes, starts[1:], strict=False))
    return table


# ------------------------------------------------------------------------------------- what stands in the files

#: kind: (options of tl.call_peaks, flags of the command, format)
CALLS = {
    "cuts, by q": ({}, [], "narrowPeak"),
    "cuts, by p (macs3 -p)": ({"pvalue": 1e-3}, ["--pvalue", "1e-3"], "narrowPeak"),
    "one row a region": ({"call_summits": False}, ["--no-summits"], "narrowPeak"),
    "whole fragments (macs3 -f BEDPE)": ({"counting_strategy": "fragment"}, ["--whole-fragments"], "narrowPeak"),
    "shifted across the end": ({"shift": 50}, ["--shift", "50"], "narrowPeak"),
    "very wide cuts": (
        {"extsize": 5000, "shift": 0, "nolambda": True, "genome_size": 1e7},
        ["--extsize", "5000", "--shift", "0", "--nolambda", "--genome-size", "1e7"],
        "narrowPeak",
    ),
    "no local background": ({"nolambda": True}, ["--nolambda"], "narrowPeak"),
    "BED": ({}, [], "bed"),
    "BED, by p": ({"pvalue": 1e-3}, ["--pvalue", "1e-3"], "bed"),
    "broad regions": ({"call_broad_peaks": True}, ["--broad"], "broadPeak"),
    "broad regions, by p": ({"call_broad_peaks": True, "pvalue": 1e-3}, ["--broad", "--pvalue", "1e-3"], "broadPeak"),
    "broad regions with blocks": ({"call_broad_peaks": True}, ["--broad"], "gappedPeak"),
    "broad regions with blocks, shifted": (
        {"call_broad_peaks": True, "shift": 50}, ["--broad", "--shift", "50"], "gappedPeak",
    ),
}  # fmt: skip


@pytest.mark.parametrize("raw", [False, True], ids=["", "raw scores"])
@pytest.mark.parametrize("kind", CALLS)
def test_rows_keep_to_their_chromosome_and_to_the_rules_of_the_format(kind, raw, adata, folder, tmp_path, cli):
    options, flags, form = CALLS[kind]
    frames = ga.tl.call_peaks(adata, groupby=None, inplace=False, **options)
    from_python = ga.ex.export_peaks(frames, out_dir=tmp_path / "py", output_format=form, raw_scores=raw)["all"]
    code, _, err = cli("peaks", folder / "x.tsv", "--genome", folder / "toy.sizes", "--device", "cpu", "--out",
                       tmp_path / "cmd", "--format", form, *flags, *(["--raw-scores"] if raw else []))  # fmt: skip
    assert code == 0, err
    table = of_file(Path(from_python), form)
    pd.testing.assert_frame_equal(
        of_file(tmp_path / "cmd" / f"x.{form}", form).drop(columns="name"), table.drop(columns="name")
    )
    frame = frames["all"]
    exact = frame["p_value" if "pvalue" in options else "q_value"].to_numpy(np.float64)  # what macs3 prints: int(10 x)
    expected = (10 * exact).astype(int)
    assert expected.max() > 1000
    assert table["score"].tolist() == (expected if raw else np.minimum(expected, 1000)).tolist()
    assert (table["end"] == table["chrom"].map(SIZES)).any()  # a pile at the last base was cut


def test_peaks_that_a_shift_moves_off_their_chromosome_are_counted_and_left_out(adata, folder, tmp_path, cli):
    code, _, err = cli("peaks", folder / "x.tsv", "--genome", folder / "toy.sizes", "--device", "cpu", "--out", tmp_path, "--shift",
                       "400", "--consensus")  # fmt: skip
    assert code == 0
    (left_out,) = re.findall(r"(\d+) peaks lie behind the end of their chromosome", err)
    assert int(left_out) >= 2
    table = of_file(tmp_path / "x.narrowPeak", "narrowPeak")
    assert len(ga.tl.call_peaks(adata, shift=400, inplace=False)["all"]) == len(table)


def test_the_command_writes_whole_numbers_of_p_also_where_those_of_q_would_be_cut_alike(adata, tmp_path):
    """A row with q and p above 100 says nothing of which of them its score was made from."""
    frame = ga.tl.call_peaks(adata, pvalue=1e-3, inplace=False)["all"]
    tall = frame[frame["q_value"] > 100].reset_index(drop=True)
    assert len(tall)
    path = ga.ex.export_peaks({"t": tall}, out_dir=tmp_path, raw_scores=True)["t"]
    assert of_file(Path(path), "narrowPeak")["score"].tolist() == (10 * tall["p_value"].astype(float)).astype(int).tolist()


def test_peaks_before_the_bound_equal_those_inside_a_longer_chromosome(folder, adata):
    """Only what lies behind the end goes: MACS3 knows no ends, so a longer genome gives its rows."""
    long = ga.Genome("long", {name: size + 10_000 for name, size in SIZES.items()})
    other = ga.pp.import_fragments(folder / "x.tsv", long, min_num_fragments=0)
    size = float(sum(SIZES.values()))
    ours, theirs = (ga.tl.call_peaks(a, genome_size=size, inplace=False)["all"] for a in (adata, other))
    ends = theirs["chrom"].astype(str).map(SIZES)
    assert (theirs["end"] > ends).any()
    assert ours["start"].tolist() == theirs["start"].tolist()
    assert ours["end"].tolist() == np.minimum(theirs["end"], ends).tolist()
    inside = theirs["end"] <= ends
    assert ours["peak"][inside].tolist() == theirs["peak"][inside].tolist()
    np.testing.assert_array_equal(ours[["p_value", "q_value"]], theirs[["p_value", "q_value"]])


def a_peak(**changes):
    row = {"chrom": "chr2", "start": 19_000, "end": 21_000, "score": 70, "strand": ".", "signal_value": 3.0, "p_value": 9.0,
           "q_value": 7.0, "peak": 1500, **changes}  # fmt: skip
    return pd.DataFrame([row])


#: peaks of an earlier version, of MACS3 or of SnapATAC2: (change of a row of chr2:19,000-21,000, what its line must say)
GIVEN = {
    "a row past the end": ({}, {"end": 20_000, "peak": 999}),
    "a summit inside": ({"peak": 10}, {"end": 20_000, "peak": 10}),
    "a summit before the start": ({"end": 19_500, "peak": -7}, {"end": 19_500, "peak": 0}),
    "a summit one base before the start, which would say none": ({"end": 19_500, "peak": -1}, {"peak": 0}),
    "a summit at the end": ({"end": 19_500, "peak": 500}, {"peak": 499}),
    "a score of MACS3": ({"end": 19_500, "score": 2345}, {"score": 1000}),
    "a score below 0": ({"end": 19_500, "score": -3}, {"score": 0}),
    "a score that is no whole number": ({"end": 19_500, "score": 71.9}, {"score": 71}),
    "blocks past the end": (
        {"peak": -1, "block_sizes": "100,300,50", "block_starts": "0,850,1950"}, {"sizes": "100,150", "starts": "0,850"},
    ),
    "blocks that end before the cut": (
        {"peak": -1, "block_sizes": "100,50", "block_starts": "0,1950"}, {"sizes": "100,1", "starts": "0,999"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", GIVEN)
def test_tables_of_others_are_written_within_the_rules(kind, tmp_path):
    change, told = GIVEN[kind]
    form = "gappedPeak" if "block_sizes" in change else "narrowPeak"
    given = a_peak(**change)
    before = given.copy()
    path = ga.ex.export_peaks({"g": given}, out_dir=tmp_path, output_format=form, chrom_sizes=SIZES)["g"]
    row = of_file(Path(path), form).iloc[0]
    assert {name: row[name] for name in told} == told
    pd.testing.assert_frame_equal(given, before)


def test_a_row_that_begins_behind_the_end_is_left_out(tmp_path):
    both = pd.concat([a_peak(end=19_100), a_peak(start=20_000, end=20_500)], ignore_index=True)
    path = ga.ex.export_peaks({"g": both}, out_dir=tmp_path, chrom_sizes=SIZES)["g"]
    assert len(of_file(Path(path), "narrowPeak")) == 1


def test_raw_scores_of_a_table_that_has_none_are_refused_and_the_remedies_work(adata, tmp_path):
    old = ga.tl.call_peaks(adata, inplace=False)["all"].drop(columns="raw_score")
    with pytest.raises(InputError, match="call the peaks anew, or leave raw_scores out"):
        ga.ex.export_peaks({"g": old}, out_dir=tmp_path, raw_scores=True)
    assert not list(tmp_path.iterdir())
    ga.ex.export_peaks({"g": old}, out_dir=tmp_path)
    ga.ex.export_peaks(ga.tl.call_peaks(adata, inplace=False), out_dir=tmp_path, raw_scores=True)
    low = old[old["score"] < 1000]
    path = ga.ex.export_peaks({"g": low}, out_dir=tmp_path, raw_scores=True)["g"]
    assert of_file(Path(path), "narrowPeak")["score"].tolist() == low["score"].tolist()


# ------------------------------------------------------------------------------------------- --consensus takes them


@pytest.mark.parametrize("flavor", ["snapatac2", "archr"])
@pytest.mark.parametrize("kind", [k for k, (_, _, form) in CALLS.items() if form in ("narrowPeak", "broadPeak")])
def test_consensus_takes_our_own_peaks(kind, flavor, made, folder, tmp_path, cli):
    options, flags, _ = CALLS[kind]
    code, _, err = cli("peaks", folder / "x.tsv", "--genome", folder / "toy.sizes", "--device", "cpu", "--out", tmp_path,
                       "--groups", folder / "groups.tsv", "--consensus", "--matrix", "--flavor", flavor, *flags)  # fmt: skip
    assert code == 0, err
    bed = pd.read_csv(tmp_path / "consensus.bed", sep="\t", header=None, names=["chrom", "start", "end", "groups"])
    assert ((bed["start"] >= 0) & (bed["start"] < bed["end"]) & (bed["end"] <= bed["chrom"].map(SIZES))).all()
    assert set(",".join(bed["groups"]).split(",")) <= {"one", "two", "."}
    found = ga.tl.merge_peaks(ga.tl.call_peaks(grouped(made.copy()), "kind", inplace=False, **options), SIZES)
    if flavor == "snapatac2":
        assert sorted(zip(bed["chrom"], bed["start"], strict=True)) == sorted(
            zip(found["chrom"].astype(str), found["start"], strict=True)
        )


def test_a_broad_region_stands_for_the_window_around_its_middle():
    broad = a_peak(start=4000, end=8000, peak=-1, block_sizes="1,1", block_starts="0,3999")
    assert ga.tl.merge_peaks({"g": broad}, SIZES)["Peaks"].tolist() == ["chr2:5750-6251"]
    narrow = a_peak(start=4000, end=8000, peak=-1)  # a summit one base before the start
    assert ga.tl.merge_peaks({"g": narrow}, SIZES)["Peaks"].tolist() == ["chr2:3749-4250"]


def test_peaks_behind_the_end_are_counted_and_another_assembly_is_refused(caplog):
    inside, behind = a_peak(end=19_500, peak=100), a_peak(start=20_000, end=20_500, peak=100)
    with caplog.at_level(logging.WARNING, "gpuatac"):
        found = ga.tl.merge_peaks({"g": pd.concat([inside, behind])}, SIZES)
    assert found["Peaks"].tolist() == ["chr2:18850-19351"]
    assert "1 of 2 peaks of group 'g' begin behind the end of their chromosome" in caplog.text
    with pytest.raises(InputError, match="give the sizes of the same assembly"):
        ga.tl.merge_peaks({"g": behind}, SIZES)
    assert len(ga.tl.merge_peaks({"g": behind}, {**SIZES, "chr2": 30_000})) == 1


# ---------------------------------------------------------------------------------------- names of groups and files

#: two names of groups, and of their files, where a file system may not take them as they are
NAMES = {
    "case": (("T", "t"), ("T", "t_2")),
    "case, sharp s": (("STRASSE", "straße"), ("STRASSE", "straße_2")),
    "accents written in two ways": (("b\u00e9ta", "be\u0301ta"), ("b\u00e9ta", "be\u0301ta_2")),
    "a dot in front": ((".hidden", "x"), ("_hidden", "x")),
    "dots alone": ((".", ".."), ("_", "_.")),
    "a dot in front, and the name that it would get": ((".a", "_a"), ("_a_2", "_a")),
    "empty": (("", "x"), ("_", "x")),
    "empty, and the name that it would get": (("", "_"), ("__2", "_")),
    "blank": ((" ", "x"), (" ", "x")),
    "slashes": (("a/b", "a\\b"), ("a_b", "a_b_2")),
    "colons and the like (NTFS)": (("sample:1", "<5 cells>"), ("sample_1", "_5 cells_")),
    "quotes, pipes, stars": (('a"b', "CD4*|?"), ("a_b", "CD4___")),
    "devices of Windows": (("CON", "nul.1"), ("_CON", "_nul.1")),
    "numbers": (("1", "2"), ("1", "2")),
    "300 letters": (("a" * 300, "a" * 301), ("a" * 120, "a" * 120 + "_2")),
    "300 letters of three bytes": (("核" * 300, "x"), ("核" * 40, "x")),
    "a tab and a line end": (("a\tb", "a\nb"), ("a_b", "a_b_2")),
    "called like a column of the consensus": (("start", "Peaks"), ("start", "Peaks")),
    "called like the index of a table": (("_index", "__index_"), ("_index", "__index_")),
    "called like a column of regions": (("strand", "name"), ("strand", "name")),
    "called like the consensus": (("consensus", "Consensus"), ("consensus", "Consensus_2")),
    "commas": (("CD4,naive", "x"), ("CD4,naive", "x")),
}  # fmt: skip


@pytest.mark.parametrize("kind", NAMES)
def test_groups_of_any_name_give_files_that_every_disk_takes(kind, adata, tmp_path, cli):
    groups, files = NAMES[kind]
    adata = grouped(adata, *groups)
    written = ga.ex.export_peaks(ga.tl.call_peaks(adata, "kind", inplace=False), out_dir=tmp_path / "py")
    assert {g: Path(p).name for g, p in written.items()} == {
        g: f"{f}.narrowPeak" for g, f in zip(groups, files, strict=True)
    }
    tracks = ga.ex.export_coverage(adata, "kind", out_dir=tmp_path / "bw")
    fragments = ga.ex.export_fragments(adata, "kind", out_dir=tmp_path / "bed")
    assert [Path(p).name for p in tracks.values()] == [f"{f}.bw" for f in files]
    assert [Path(p).name.partition(".bed")[0] for p in fragments.values()] == list(files)
    for path in map(Path, written.values()):
        of_file(path, "narrowPeak")
        name = path.name
        assert not name.startswith(".")
        assert not re.search(r'[<>:"/\\|?*\x00-\x1f]', name)
        assert len(f".{name}.partial-{'0' * 8}-{2**22}-{'0' * 8}.old".encode()) <= 255
    folded = {unicodedata.normalize("NFC", f).casefold() for f in files}
    assert len(folded) == len(files)
    ga.io.write_h5ad(adata, tmp_path / "x.h5ad")
    out = tmp_path / "cmd"
    code, _, err = cli("peaks", tmp_path / "x.h5ad", "--groupby", "kind", "--device", "cpu", "--out", out, "--consensus",
                       "--matrix")  # fmt: skip
    assert code == 0, err
    assert {p.name for p in out.glob("*.narrowPeak")} == {f"{f}.narrowPeak" for f in files}
    for line in (out / "consensus.bed").read_text().splitlines():
        assert line.count("\t") == 3
        assert line.split("\t")[3]
    job = peaks(tmp_path / "x.h5ad", tmp_path / "job", groupby="kind", consensus=True, device="cpu")
    assert [p.name for p in job.files.values()] == [f"{f}.narrowPeak" for f in files]


def test_a_group_that_would_take_the_name_of_the_consensus_is_refused_and_a_prefix_helps(adata, tmp_path, cli):
    ga.io.write_h5ad(grouped(adata, "Consensus"), tmp_path / "x.h5ad")
    out = tmp_path / "out"
    asked = ["peaks", tmp_path / "x.h5ad", "--groupby", "kind", "--device", "cpu", "--out", out, "--consensus", "--format", "bed"]
    code, _, err = cli(*asked)
    assert code == 2
    assert "would be written twice" in err
    assert "--prefix" in err
    assert not out.exists()
    assert cli(*asked, "--prefix", "my_")[0] == 0
    assert {p.name for p in out.iterdir()} == {"my_Consensus.bed", "my_two.bed", "consensus.bed"}


def test_two_groups_of_one_name_in_a_merge_are_refused():
    with pytest.raises(InputError, match="'1' twice; rename one"):
        ga.tl.merge_peaks({1: a_peak(end=19_100), "1": a_peak(end=19_100)}, SIZES)
