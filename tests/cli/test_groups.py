"""gpuatac peaks and gpuatac coverage: on an .h5ad with groups, on fragments with a table, on bulk BED and BAM."""

from __future__ import annotations

import gzip
import re

import numpy as np
import pandas as pd
import pyBigWig
import pytest
from anndata import AnnData

import gpuatac as ga
from gpuatac.io.fragments.attach import genome_of
from gpuatac.workflow import coverage, peaks

COLUMNS = ["chrom", "start", "end", "name", "score", "strand", "signal_value", "p_value", "q_value", "peak"]


@pytest.fixture(scope="session")
def types(small, tmp_path_factory):
    """Barcode, type and replicate of each cell, as a table with a header."""
    truth = pd.read_csv(small.cells, sep="\t")
    truth = truth[truth["is_cell"] == 1]
    table = pd.DataFrame({"barcode": truth["barcode"], "group": truth["cell_type"]})
    table["copy"] = np.where(np.arange(len(table)) % 2, "r1", "r2")
    path = tmp_path_factory.mktemp("types") / "types.tsv"
    table.to_csv(path, sep="\t", index=False)
    return path


@pytest.fixture(scope="session")
def imported(small, types, tmp_path_factory):
    """The cells with their types as an .h5ad, without a matrix."""
    folder = tmp_path_factory.mktemp("imported")
    genome = ga.io.read_genome(small.chrom_sizes)
    adata = ga.pp.import_fragments(small.fragments, genome, min_num_fragments=100, out=folder, sample="s", device="cpu")
    table = pd.read_csv(types, sep="\t", index_col=0)
    adata = adata[adata.obs_names.isin(table.index)].copy()
    adata.obs["type"] = pd.Categorical(table.loc[adata.obs_names, "group"])
    adata.obs["copy"] = table.loc[adata.obs_names, "copy"]
    ga.io.write_h5ad(adata, folder / "s.h5ad")
    return folder / "s.h5ad"


@pytest.fixture(scope="session")
def bulk(tmp_path_factory):
    """Two BED files of three columns, with a peak every 20 kb."""
    folder = tmp_path_factory.mktemp("bulk")
    for name, seed in (("liver", 1), ("brain", 2)):
        rng = np.random.default_rng(seed)
        start = np.concatenate(
            [rng.integers(0, 1_490_000, 2000), *(rng.normal(at, 60, 80) for at in range(20_000, 1_400_000, 20_000))]
        )
        rows = np.sort(start.astype(int))
        (folder / f"{name}.bed").write_text("".join(f"chr1\t{s}\t{s + 120}\n" for s in rows))
    return folder


def read(path):
    return pd.read_csv(path, sep="\t", header=None, names=COLUMNS)


def names_in(folder):
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def same(frame, table):
    """Whether a file holds the rows of ``tl.call_peaks``."""
    assert len(frame) == len(table) > 20
    for column in ("start", "end", "peak"):
        np.testing.assert_array_equal(frame[column], table[column])
    assert frame["name"].is_unique


# -------------------------------------------------------------------------------------------- cells and their groups


def test_peaks_of_the_groups_of_an_h5ad(imported, tmp_path, cli):
    arguments = ["peaks", imported, "--groupby", "type", "--device", "cpu", "--out", tmp_path / "p", "--max-frag-size", "400",
                 "--consensus", "--matrix", "--half-width", "100"]  # fmt: skip
    code, shown, err = cli(*arguments)
    assert code == 0, err
    adata = ga.io.read_h5ad(imported)
    expected = ga.tl.call_peaks(adata, "type", max_frag_size=400, inplace=False)
    assert names_in(tmp_path / "p") == sorted([*(f"{g}.narrowPeak" for g in expected), "consensus.bed", "peaks.h5ad"])
    for group, table in expected.items():
        same(read(tmp_path / "p" / f"{group}.narrowPeak"), table)
        assert f"{group}: {len(table):,} peaks of {(adata.obs['type'] == group).sum()} cells\n" in shown
    merged = ga.tl.merge_peaks(expected, genome_of(adata), half_width=100)
    assert f"consensus: {len(merged):,} regions of 201 bp\n" in shown
    assert f"written to {tmp_path / 'p'}: " in shown
    bed = pd.read_csv(tmp_path / "p" / "consensus.bed", sep="\t", header=None)
    assert sorted(bed[1]) == sorted(merged["start"])
    matrix = ga.io.read_h5ad(tmp_path / "p" / "peaks.h5ad")
    assert matrix.var_names.tolist() == merged["Peaks"].tolist()
    assert matrix.obs["type"].tolist() == adata.obs["type"].tolist()
    assert (matrix.X != ga.pp.make_peak_matrix(adata, merged).X).nnz == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "p").iterdir()}
    code, _, err = cli(*arguments)
    assert code == 2
    assert ".narrowPeak exists already; pass force=True (--force) to replace it" in err
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "p").iterdir()} == before
    assert cli(*arguments, "--force")[0] == 0


def test_a_table_of_groups_gives_the_same_peaks_as_the_column(imported, small, types, tmp_path, cli):
    code, shown, err = cli("peaks", small.fragments, "--genome", small.chrom_sizes, "--groups", types, "--device", "cpu",
                           "--out", tmp_path / "t", "--no-summits", "--qvalue", "0.01", "--replicate", "copy", "--threads", "2",
                           "--memory", "2G", "--log", tmp_path / "log.txt")  # fmt: skip
    assert code == 0, err
    adata = ga.io.read_h5ad(imported)
    expected = ga.tl.call_peaks(adata, "type", qvalue=0.01, call_summits=False, replicate="copy", inplace=False)
    assert names_in(tmp_path / "t") == sorted(f"{g}.narrowPeak" for g in expected)
    for group, table in expected.items():
        same(read(tmp_path / "t" / f"{group}.narrowPeak"), table)
        assert f"{group}: {len(table):,} peaks of " in shown
    assert "tl.call_peaks" in (tmp_path / "log.txt").read_text()
    ga.set_memory(None)


def test_a_table_without_header_names_cells_of_several_samples(small, types, tmp_path, cli):
    table = pd.read_csv(types, sep="\t")
    other = tmp_path / "again.tsv.gz"
    other.write_bytes(small.fragments.read_bytes())
    groups = tmp_path / "g.tsv"
    rows = [f"s#{b}\tone" for b in table["barcode"]] + [f"again#{b}\ttwo" for b in table["barcode"][:40]]
    groups.write_text("\n".join([*rows, "s#NOWHERE\tone"]) + "\n")
    files = [small.fragments, other, "--names", "s", "again", "--genome", small.chrom_sizes, "--device", "cpu"]
    code, shown, err = cli("coverage", *files, "--groups", groups, "--out", tmp_path / "c", "--normalization", "none",
                           "--bin-size", "100", "--suffix", ".cov.bw", "--prefix", "x_")  # fmt: skip
    assert code == 0
    assert f"g.tsv: 1 of {len(rows) + 1} barcodes have no fragments and are left out" in err
    assert "one: x_one.cov.bw, 60 cells" in shown
    assert "two: x_two.cov.bw, 40 cells" in shown
    tracks = [pyBigWig.open(str(tmp_path / "c" / f"x_{g}.cov.bw")) for g in ("one", "two")]
    sums = [sum((e - s) * v for s, e, v in t.intervals("chr1")) for t in tracks]
    assert sums[0] > sums[1] > 0
    groups.write_text("\n".join(f"{b}\tone" for b in table["barcode"]) + "\n")
    code, _, err = cli("coverage", *files, "--groups", groups, "--out", tmp_path / "d")
    assert code == 2
    assert "60 barcodes of g.tsv are in several samples; name them sample#barcode (s, again)." in err


def test_archr_consensus_takes_replicates(imported, tmp_path, cli):
    arguments = ["peaks", imported, "--groupby", "type", "--device", "cpu", "--consensus", "--flavor", "archr", "-q"]
    assert cli(*arguments, "--out", tmp_path / "a")[0] == 0
    assert cli(*arguments, "--replicate", "copy", "--out", tmp_path / "b")[0] == 0
    without, within = (pd.read_csv(tmp_path / f / "consensus.bed", sep="\t", header=None) for f in "ab")
    adata = ga.io.read_h5ad(imported)
    n_cells = adata.obs["type"].value_counts().to_dict()
    frames = {}
    for group in adata.obs["type"].cat.categories:
        frames[group] = {}
        for copy in ("r1", "r2"):
            here = ((adata.obs["type"] == group) & (adata.obs["copy"] == copy)).to_numpy()
            called = ga.tl.call_peaks(adata, np.where(here, "x", None), inplace=False)
            frames[group][copy] = called["x"]
    expected = ga.tl.merge_peaks(frames, genome_of(adata), flavor="archr", n_cells=n_cells)
    assert sorted(within[1]) == sorted(expected["start"])
    assert sorted(within[1]) != sorted(without[1])


# ------------------------------------------------------------------------------------------------------ bulk samples


def test_each_bed_file_is_a_bulk_sample(bulk, small, tmp_path, cli):
    files = [bulk / "liver.bed", bulk / "brain.bed", "--genome", small.chrom_sizes, "--device", "cpu"]
    code, shown, _ = cli(
        "peaks", *files, "--out", tmp_path / "p", "--consensus", "--format", "bed", "--select", "liver"
    )
    assert code == 0
    assert re.search(r"^liver: \d\d peaks of a bulk sample$", shown, re.M)
    assert names_in(tmp_path / "p") == ["consensus.bed", "liver.bed"]
    found = pd.read_csv(tmp_path / "p" / "liver.bed", sep="\t", header=None)
    near = np.abs((found[1] + found[2]) / 2 % 20_000 - 10_000) > 9_500
    assert near.sum() >= 60  # of the 69 that were planted
    assert near.mean() > 0.9
    code, shown, _ = cli("coverage", *files, "--out", tmp_path / "c", "--output-format", "bedgraph", "--compression", "gzip",
                         "--normalization", "none", "--counting-strategy", "insertion", "--bin-size", "1")  # fmt: skip
    assert code == 0
    assert names_in(tmp_path / "c") == ["brain.bedgraph.gz", "liver.bedgraph.gz"]
    with gzip.open(tmp_path / "c" / "liver.bedgraph.gz", "rt") as lines:
        total = sum((int(e) - int(s)) * float(v) for _, s, e, v in (line.split() for line in lines))
    assert total == 2 * len((bulk / "liver.bed").read_text().splitlines())


def test_an_input_is_never_replaced(bulk, small, cli):
    before = (bulk / "liver.bed").read_bytes()
    code, _, err = cli("peaks", bulk / "liver.bed", "--genome", small.chrom_sizes, "--device", "cpu", "--out", bulk, "--format",
                       "bed", "--force")  # fmt: skip
    assert code == 2
    assert (
        "liver.bed is an input and would be replaced; allowed: outputs beside the inputs; choose another folder" in err
    )
    assert (bulk / "liver.bed").read_bytes() == before


def test_bam_without_barcodes_is_a_bulk_sample(data_dir, tmp_path, cli):
    bam = data_dir / "formats/macs_tiny/tiny.bam"
    how = ["--genome", "hg19", "--contigs", "all", "--device", "cpu"]
    code, shown, err = cli(
        "peaks", bam, *how, "--bulk", "--single-end", "--genome-size", "1e6", "--out", tmp_path / "p"
    )
    assert code == 0, err
    assert "tiny: " in shown
    assert "peaks of a bulk sample" in shown
    genome = ga.Genome.builtin("hg19", contigs="all")
    adata = ga.pp.import_fragments(bam, genome, device="cpu", min_num_fragments=0,
                                   bam_options={"barcode_tag": None, "is_paired": False})  # fmt: skip
    expected = ga.tl.call_peaks(adata, genome_size=1e6, inplace=False)["all"]
    found = read(tmp_path / "p" / "tiny.narrowPeak")
    np.testing.assert_array_equal(found["start"], expected["start"])
    assert len(found) > 10
    assert cli("coverage", bam, *how, "--bulk", "--single-end", "--out", tmp_path / "c")[0] == 0
    assert names_in(tmp_path / "c") == ["tiny.bw"]
    code, _, err = cli("coverage", bam, *how, "--single-end", "--out", tmp_path / "d")
    assert code == 2
    assert "CB" in err
    assert "bulk" in err
    assert names_in(tmp_path / "d") == []


# ------------------------------------------------------------------------------------------------------ refused, help


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--groupby", "nothing"], "groupby 'nothing' is no column of the cells; the columns are 'n_fragment'"),
        (["--replicate", "nothing"], "replicate 'nothing' is neither a column of the cells (n_fragment, "),
        (["--genome", "hg38"], "genome cannot be set for s.h5ad, which says by itself where its fragments are"),
        (["--bulk"], "bulk takes each file as one group, and groups are given as well"),
        (["--min-mapq", "3"], "min_mapq cannot be set for s.h5ad"),
        (["--groups", "nowhere.tsv"], "table of groups nowhere.tsv does not exist; check the path."),
        (["--qvalue", "2"], "qvalue must be in [1e-300, 1], got 2.0."),
        (["--pvalue", "-1"], "pvalue must be in [1e-300, 1], got -1.0."),
        (
            ["--broad", "--qvalue", "0.2"],
            "broad_cutoff (0.1) must not be stricter than the cutoff of strong peaks (0.2)",
        ),
        (
            ["--format", "gappedPeak"],
            "output_format='gappedPeak' needs broad regions; pass call_broad_peaks=True (--broad)",
        ),
        (["--genome-size", "xy"], "genome_size must be one of 'hs', 'mm', 'ce', 'dm', got 'xy'."),
        (["--exclude-chroms", "chrQ"], "exclude_chroms names 'chrQ', which genome"),
        (["--select", "T9"], "selections names 'T9'; the groups are "),
        (["--blacklist", "nowhere.bed"], "blacklist nowhere.bed does not exist; check the path."),
        (["--min-frag-size", "9", "--max-frag-size", "3"], "max_frag_size must be at least 9, got 3."),
        (["--half-width", "-1"], "half_width must be in [0, 268435456], got -1."),
        (["--min-cells", "-1"], "min_cells must be at least 0, got -1."),
        (["--extsize", "0"], "extsize must be in [1, 1000000], got 0."),
        (["--memory", "12X"], "memory must be 512M or more"),
        (["--threads", "0"], "n_threads must be at least 1, got 0."),
        (["--flavor", "x"], "argument --flavor: invalid choice: 'x'"),
        (["--barcode-tag", "CB", "--barcode-regex", "(.*)"], "not allowed with argument --barcode-tag"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_refused_and_nothing_written(imported, tmp_path, cli, arguments, message):
    given = arguments if "--groupby" in arguments else ["--groupby", "type", *arguments]
    code, shown, err = cli("peaks", imported, "--device", "cpu", "--out", tmp_path / "o", *given)
    assert (code, shown) == (2, "")
    assert message in err
    assert names_in(tmp_path / "o") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suffix", ".x"], "suffix '.x' tells no format; end it with .bw"),
        (["--output-format", "bedgraph", "--suffix", ".bw"], "suffix '.bw' says bigwig, and output_format is 'bedgraph'"),
        (["--compression", "gzip"], "compression is 'gzip', but a bigWig is compressed by itself"),
        (
            ["--output-format", "bedgraph", "--compression-level", "3"],
            "compression_level is 3, but nothing is compressed",
        ),
        (["--normalization", "BPM", "--include-for-norm", "HERE"], "have no meaning for normalization='BPM'"),
        (["--bin-size", "0"], "bin_size must be in [1, 2147483647], got 0."),
        (["--smooth-base", "0"], "smooth_base must be in [1, 1073741824], got 0."),
        (["--min-frag-length", "9", "--max-frag-length", "3"], "max_frag_length must be in [9, 2147483647], got 3."),
        (["--normalization", "TPM"], "argument --normalization: invalid choice: 'TPM'"),
        (["--groups", "HERE", "--bulk"], "bulk takes each file as one group, and groups are given as well"),
        (["--groups", "HERE"], "none of the 1 barcodes of here.tsv is in liver.bed: it has no barcodes (3 columns); leave"),
        (["--groupby", "leiden"], "groupby 'leiden' names no column: no table of groups is given"),
        (["--min-mapq", "3"], "min_mapq is for BAM files, and none of the inputs is one; leave it out."),
        (["--names", "a", "b"], "2 sample names for 1 files"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_fit_tracks_is_refused(bulk, small, tmp_path, cli, arguments, message):
    here = tmp_path / "here.tsv"
    here.write_text("chr1\t0\t1000\n")
    given = [str(here) if a == "HERE" else a for a in arguments]
    code, shown, err = cli("coverage", bulk / "liver.bed", "--genome", small.chrom_sizes, "--device", "cpu", "--out",
                           tmp_path / "o", *given)  # fmt: skip
    assert (code, shown) == (2, "")
    assert message in err
    assert names_in(tmp_path / "o") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found an empty file; allowed: a table with a barcode"),
        ("A\n", "line 1: found one column; allowed: a table with a barcode"),
        ("barcode\tgroup\n", "found no cell below the header"),
        ("barcode\tgroup\nA\tx\nA\ty\n", "line 3: found barcode 'A' a second time"),
        ("A\tx\n\ty\n", "line 2: found an empty barcode"),
    ],
)
def test_a_bad_table_of_groups_is_refused_with_its_line(bulk, small, tmp_path, cli, text, message):
    table = tmp_path / "g.tsv"
    table.write_text(text)
    code, _, err = cli(
        "peaks", bulk / "liver.bed", "--genome", small.chrom_sizes, "--groups", table, "--out", tmp_path / "o"
    )
    assert code == 2
    assert message in err
    assert names_in(tmp_path / "o") == []


def test_inputs_without_genome_or_of_two_kinds_are_refused(bulk, imported, tmp_path, cli):
    AnnData(np.ones((2, 3), np.float32)).write_h5ad(tmp_path / "plain.h5ad")
    code, _, err = cli("peaks", tmp_path / "plain.h5ad", "--groupby", "x", "--out", tmp_path / "o")
    assert code == 2
    assert (
        "groupby 'x' names no column: plain.h5ad does not tell where its fragments are; allowed: a column of obs" in err
    )
    code, _, err = cli("peaks", bulk / "liver.bed", "--out", tmp_path / "o")
    assert code == 2
    assert "genome is not given; allowed: hg38, hg19, mm10, mm39, or a chrom.sizes" in err
    code, _, err = cli("peaks", bulk / "liver.bed", imported, "--out", tmp_path / "o")
    assert code == 2
    assert "2 inputs are given and one is an .h5ad with cells of its own; allowed: one .h5ad, or fragment files" in err
    (tmp_path / "file").write_text("")
    code, _, err = cli("peaks", imported, "--out", tmp_path / "file")
    assert code == 2
    assert "file is a file; allowed: a folder" in err


def test_python_users_are_told_unknown_options(imported, tmp_path):
    with pytest.raises(ga.errors.InputError, match="unknown option 'colour'; allowed: qvalue, pvalue"):
        peaks(imported, tmp_path, groupby="type", colour=3)
    with pytest.raises(ga.errors.InputError, match="unknown option 'colour'; allowed: selections, bin_size"):
        coverage(imported, tmp_path, groupby="type", colour=3)
    made = coverage(imported, tmp_path, device="cpu")
    assert {name: path.name for name, path in made.files.items()} == {"s": "s.bw"}
    assert made.n_cells == {"s": ga.io.read_h5ad(imported).n_obs}


def test_a_consensus_option_without_consensus_is_named(imported, tmp_path, caplog):
    given = {"groupby": "type", "device": "cpu", "flavor": "archr", "half_width": 100}
    ga.workflow.peaks(imported, tmp_path / "p", **given)
    for name in ("flavor", "half_width"):
        assert caplog.messages.count(f"peaks: {name} has no effect without consensus or matrix") == 1
    caplog.clear()
    ga.workflow.peaks(imported, tmp_path / "q", **given, consensus=True)
    assert not [message for message in caplog.messages if "no effect" in message]


@pytest.mark.parametrize("name", ["groupby", "replicate", "groups"])
def test_a_list_of_columns_or_tables_is_refused(imported, tmp_path, name):
    for job in (ga.workflow.peaks, ga.workflow.coverage):
        if name == "replicate" and job is ga.workflow.coverage:
            continue
        with pytest.raises(ga.errors.InputError, match=rf"{name} must be the .*, got \['type'\] \(list\); pass it as text"):
            job(imported, tmp_path / "o", device="cpu", **{name: ["type"]})
    assert not (tmp_path / "o").exists()
