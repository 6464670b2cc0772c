"""Files that come beside the fragments: lists of barcodes, tables of groups, annotations, BED files."""

from __future__ import annotations

import csv
import gzip
import io
import logging
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st

import gpuatac as ga
from gpuatac.cli import main
from gpuatac.errors import FileFormatError, InputError
from gpuatac.io.genome.bed import read_bed, regions_frame
from gpuatac.io.genome.cytobands import read_cytobands
from gpuatac.io.genome.gene_models import locate_gene, read_exons
from gpuatac.io.genome.transcripts import read_transcripts
from gpuatac.io.tables.barcode_lists import read_whitelist, why_nothing_matches
from gpuatac.io.tables.delimited import split_fields
from gpuatac.workflow import coverage
from gpuatac.workflow.groups.inputs import read_labels
from gpuatac.workflow.main_job.truth import as_lines, compare, read_truth

A, B, C, D = "AAACCCGGTTTA", "AAACCCGGTTTC", "CATTGACCAGGT", "GATTACAGATTA"
SIZES = "chr1\t10000\nchr2\t5000\n"
ROWS = [("chr1", 100 * k, 100 * k + 80, name) for k, name in enumerate((A, B, C, D) * 5, 1)]
BOM = b"\xef\xbb\xbf"


def fragments_of(suffix="-1", prefix=""):
    return "".join(f"{c}\t{s}\t{e}\t{prefix}{name}{suffix}\t1\n" for c, s, e, name in ROWS)


@pytest.fixture
def cli(capsys):
    logger = logging.getLogger("gpuatac")
    before = (logger.handlers[:], logger.level, logger.propagate)

    def call(*arguments):
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as stop:
            code = stop.code
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return code, shown.out, shown.err

    yield call
    for handler in logger.handlers:
        handler.close()
    logger.handlers, logger.propagate = before[0], before[2]
    logger.setLevel(before[1])
    ga.quiet()


@pytest.fixture
def lab(tmp_path):
    """A fragment file of four cells and the sizes of its genome."""
    (tmp_path / "s.tsv").write_text(fragments_of())
    (tmp_path / "toy.chrom.sizes").write_text(SIZES)
    return tmp_path


def put(folder, content, name="given.txt"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def said(error):
    return re.sub(r"\s+", " ", str(error))


# -------------------------------------------------------------------------------------------------- lists of barcodes

CALLED = "barcode,total,duplicate,is__cell_barcode,cell_id\nNO_BARCODE,900,1,0,None\n"
ARC = "barcode,gex_barcode,atac_barcode,is_cell,excluded_reason\n"
LISTS = {
    "one a line": (f"{A}-1\n{B}-1\n", {A, B}),
    "Excel: byte order mark, CRLF": (BOM + f"{A}-1\r\n{B}-1\r\n".encode(), {A, B}),
    "old Mac line ends": (f"{A}-1\r{B}-1\r", {A, B}),
    "gzip": (gzip.compress(f"{A}-1\n{B}-1\n".encode()), {A, B}),
    "gzip with byte order mark": (gzip.compress(BOM + f"{A}-1\n".encode()), {A}),
    "header": (f"barcode\n{A}-1\n{B}-1", {A, B}),
    "quoted": (f'"{A}-1"\n"{B}-1"\n', {A, B}),
    "single quotes": (f"'{A}-1'\n'{B}-1'\n", {A, B}),
    "blanks between, one line": (f"{A}-1 {B}-1  {C}-1\n", {A, B, C}),
    "commas between, one line": (f"{A}-1,{B}-1\n", {A, B}),
    "blanks between, two lines": (f"{A}-1 {B}-1\n{C}-1\n", {A, B, C}),
    "R: write.table of a vector": (f'"x"\n"1" "{A}-1"\n"2" "{B}-1"\n', {A, B}),
    "R: write.csv of a vector": (f'"","x"\n"1","{A}-1"\n"2","{B}-1"\n', {A, B}),
    "R: write.table of meta.data": (f'"nCount" "type"\n"{A}-1" 5 "T cell"\n"{B}-1" 6 NA\n', {A, B}),
    "R: data.frame with row numbers": (f'"barcode" "type"\n"1" "{A}-1" "T"\n"2" "{B}-1" "B"\n', {A, B}),
    "pandas: obs.to_csv": (f",n_fragment,leiden\n{A}-1,5,0\n{B}-1,5,1\n", {A, B}),
    "pandas: frame with its row numbers": (f",barcode,leiden\n0,{A}-1,0\n1,{B}-1,1\n", {A, B}),
    "semicolons": (f"barcode;type\n{A}-1;T\n{B}-1;B\n", {A, B}),
    "Cell Ranger ATAC: singlecell.csv": (CALLED + f"{A}-1,9,1,1,c_0\n{B}-1,9,1,0,None\n{C}-1,9,1,1,c_1\n", {A, C}),
    "Cell Ranger ARC: per_barcode_metrics.csv": (ARC + f"{A}-1,{A}-1,{D}-1,1,0\n{B}-1,{B}-1,{C}-1,0,0\n", {A}),
    "Cell Ranger, two species": ("barcode,is_hg19_cell_barcode,is_mm10_cell_barcode\n" + f"{A}-1,0,1\n{B}-1,0,0\n", {A}),
    "10x translation, two columns of barcodes": (f"{A}-1\t{C}-1\n{B}-1\t{D}-1\n", {A, B}),
    "ArchR: sample#barcode": (f"s#{A}-1\ns#{B}-1\nother#{C}-1\n", {A, B}),
    "comments": (f"# cells, of May\n{A}-1\n#{B}-1\n", {A}),
    "Latin-1": (f"{A}-1\tZelle\n{B}-1\tMüller\n".encode("latin-1"), "line 2: found bytes that are no UTF-8 text"),
    "UTF-16": (f"{A}-1\n".encode("utf-16"), "line 1: found text in UTF-16"),
    "nothing but comments": ("# cells\n", "holds no barcode; give one barcode per line"),
    "empty": ("", "found an empty file"),
    "no cell called": (CALLED + f"{A}-1,9,1,0,None\n", "holds no barcode"),
    "without -1": (f"{A}\n{B}\n", rf"the list has {A}, s\.tsv has {A}-1 \(2 of 2 .*append '-1' to each barcode of the list"),
    "another list": ("TTTTTTTTTTTT-1\n", r"has TTTTTTTTTTTT-1, s\.tsv has .*; give the list of this file"),
}


@pytest.mark.parametrize("kind", LISTS)
def test_lists_of_barcodes(lab, cli, kind):
    content, expected = LISTS[kind]
    path = put(lab, content)
    genome = ga.io.read_genome(lab / "toy.chrom.sizes")
    if isinstance(expected, set):
        adata = ga.pp.import_fragments(lab / "s.tsv", genome, min_num_fragments=0, whitelist=path, device="cpu")
        assert set(adata.obs_names) == {f"{name}-1" for name in expected}
        assert (adata.obs["n_fragment"] == 5).all()
    else:
        with pytest.raises(InputError, match=expected):
            ga.pp.import_fragments(lab / "s.tsv", genome, min_num_fragments=0, whitelist=path, out=lab / "x", device="cpu")
        assert not list((lab / "x").glob("*"))
    code, _, err = cli("run", lab / "s.tsv", "--genome", lab / "toy.chrom.sizes", "--whitelist", path, "--out", lab / "o",
                       "--device", "cpu", "--min-fragments", 1)  # fmt: skip
    if isinstance(expected, set):  # four cells are too few for the rest of the job
        text = (lab / "o" / "s.qc.h5ad").exists()
        assert text, err
    else:
        assert code == 2
        assert re.search(expected, said(err))
        assert not list((lab / "o").glob("*"))


@pytest.mark.parametrize(
    ("in_file", "listed", "words", "follow"),
    [
        (("", "-1"), ("", ""), "append '-1' to each barcode", lambda x: x + "-1"),
        (("", ""), ("", "-1"), "remove '-1' behind each barcode", lambda x: x.removesuffix("-1")),
        (("", "-1"), ("run_", "-1"), "remove 'run_' in front of each barcode", lambda x: x.removeprefix("run_")),
        (("s1#", "-1"), ("", "-1"), "put 's1#' in front of each barcode", lambda x: "s1#" + x),
        (("", "-1"), ("", "-1_2"), "remove '-1_2' behind, append '-1' to each", lambda x: x.replace("-1_2", "-1")),
        (("", "-1"), ("lower", "-1"), "change the case of each barcode", lambda x: x.upper()),
        (("", ""), ("turned", ""), "reverse-complement the barcodes of the list", lambda x: x.translate(TURN)[::-1]),
    ],
)  # fmt: skip
def test_what_to_do_about_a_list_that_matches_nothing_works(lab, in_file, listed, words, follow):
    put(lab, fragments_of(in_file[1], in_file[0]), "s.tsv")
    names = [A, B]
    if listed[0] == "lower":
        names, listed = [n.lower() for n in names], ("", listed[1])
    if listed[0] == "turned":
        names, listed = [n.translate(TURN)[::-1] for n in names], ("", "")
    given = [f"{listed[0]}{n}{listed[1]}" for n in names]
    genome = ga.Genome("toy", {"chr1": 10_000})
    with pytest.raises(InputError, match="none of the 2 barcodes of whitelist") as caught:
        ga.io.read_fragments(lab / "s.tsv", genome, whitelist=given, device="cpu")
    assert words in str(caught.value)
    assert ga.io.read_fragments(lab / "s.tsv", genome, whitelist=map(follow, given), device="cpu").n_cells == 2


TURN = str.maketrans("ACGT", "TGCA")


def test_a_list_matches_the_barcodes_of_its_samples_alone(lab):
    put(lab, fragments_of(), "t.tsv")
    genome = ga.Genome("toy", {"chr1": 10_000})
    both = [lab / "s.tsv", lab / "t.tsv"]
    adata = ga.pp.import_fragments(both, genome, min_num_fragments=0, whitelist=[f"s#{A}-1", f"t#{B}-1"], device="cpu")
    assert adata.obs_names.tolist() == [f"s#{A}-1", f"t#{B}-1"]


def test_our_own_export_of_two_samples_is_matched_by_its_names(lab):
    put(lab, fragments_of(prefix="s#") + fragments_of(prefix="t#"), "both.tsv")
    genome = ga.Genome("toy", {"chr1": 10_000})
    fragments = ga.io.read_fragments(lab / "both.tsv", genome, whitelist=[f"s#{A}-1", f"t#{B}-1"], device="cpu")
    assert fragments.barcodes.tolist() == [f"s#{A}-1", f"t#{B}-1"]


def test_a_long_plain_list_is_read_at_once():
    names = [f"{k:020b}".replace("0", "A").replace("1", "C") + "-1" for k in range(5)]
    assert read_whitelist(iter(names)).names == frozenset(names)
    assert "has b, " in why_nothing_matches(["b"], ["a-2"], of_list="L", of_data="D")


# --------------------------------------------------------------------------------------------------- tables of groups

HEAD = f"{A}-1\tT\n{B}-1\tT\n"
LONG = "x" * 300
GROUPS = {
    "barcode and group": (f"{HEAD}{C}-1\tB\n", {"T": 2, "B": 1}),
    "header, byte order mark, CRLF": (BOM + f"barcode\tgroup\r\n{A}-1\tT\r\n{B}-1\tT\r\n".encode(), {"T": 2}),
    "header behind #": (f"#barcode\tgroup\n{HEAD}", {"T": 2}),
    "comments": (f"# made by hand\n{HEAD}", {"T": 2}),
    "csv": (f"barcode,cell_type\n{A}-1,T\n{B}-1,B\n", {"T": 1, "B": 1}),
    "csv with a comma in a name": (f'barcode,cell_type\n{A}-1,"T, naive"\n{B}-1,"T, naive"\n', {"T, naive": 2}),
    "Excel in Europe": (f"barcode;cell_type\n{A}-1;T\n{B}-1;B\n", {"T": 1, "B": 1}),
    "gzip": (gzip.compress(HEAD.encode()), {"T": 2}),
    "R: write.table": (f'"group"\n"{A}-1" "CD4 T"\n"{B}-1" "CD4 T"\n"{C}-1" "B"\n', {"CD4 T": 2, "B": 1}),
    "R: write.table, sep tab, no quotes": (f"group\n{A}-1\tCD4 T\n{B}-1\tB\n", {"CD4 T": 1, "B": 1}),
    "R: col.names=NA": (f'""\t"group"\n"{A}-1"\t"T"\n"{B}-1"\t"B"\n', {"T": 1, "B": 1}),
    "R: data.frame with row numbers": (f'"barcode" "group"\n"1" "{A}-1" "T"\n"2" "{B}-1" "B"\n', {"T": 1, "B": 1}),
    "R: quotes inside": (f'"group"\n"{A}-1" "say \\"T\\""\n"{B}-1" "say \\"T\\""\n', {'say "T"': 2}),
    "Seurat: meta.data": (
        f'"orig.ident" "nCount_ATAC" "seurat_clusters"\n"{A}-1" "p" 50 "0"\n"{B}-1" "p" 60 "1"\n', {"0": 1, "1": 1},
    ),
    "scanpy: obs.to_csv": (f",n_fragment,leiden\n{A}-1,50,0\n{B}-1,60,0\n", {"0": 2}),
    "barcode behind the group": (f"group\tbarcode\nT\t{A}-1\nT\t{B}-1\n", {"T": 2}),
    "a quote that does not close": (f"{A}-1\t5\" end\n{B}-1\tT\n{C}-1\tT\n", {'5" end': 1, "T": 2}),
    "a quote that opens": (f'{A}-1\t"T\n{B}-1\tB\n{C}-1\tB\n{D}-1\tT"\n', {'"T': 1, "B": 2, 'T"': 1}),
    "an apostrophe": (f"{A}-1\t5' UTR\n{B}-1\t5' UTR\n", {"5' UTR": 2}),
    "NA is in no group": (f"{HEAD}{C}-1\tNA\n{D}-1\t\n", {"T": 2}),
    "quoted NA is a name": (f'{HEAD}{C}-1\t"NA"\n', {"T": 2, "NA": 1}),
    "a line without its group": (f"{HEAD}{C}-1\n", {"T": 2}),
    "numbers": (f"{A}-1\t1\n{B}-1\t2\n{C}-1\t10\n", {"1": 1, "2": 1, "10": 1}),
    "a slash": (f"{A}-1\tT/NK\n{B}-1\tT_NK\n", {"T/NK": 1, "T_NK": 1}),
    "accents": (f"{A}-1\tMüller\n{B}-1\tMüller\n", {"Müller": 2}),
    "ArchR: sample#barcode": (f"s#{A}-1\tT\ns#{B}-1\tB\n", {"T": 1, "B": 1}),
    "without -1": (f"{A}\tT\n{B}\tT\n", rf"none of the 2 barcodes of given\.txt is in s\.tsv: the list has {A}, s\.tsv has {A}-1"),
    "of another sample": (f"t#{A}-1\tT\n", r"none of the 1 barcodes .* has fragments; the table has t#.*, the data has .*remove 't#'"),
    "one column": (f"{A}-1\n{B}-1\n", "line 1: found one column; .* separate the columns by a tab"),
    "two groups in one line": (f"{HEAD}{C}-1\tB\tx\n", "line 3: found 3 columns where the first line has 2"),
    "blanks and a name of two words": (f"{A}-1 CD4 T\n{B}-1 B\n", "line 2: found 2 columns where the first line has 3"),
    "a barcode twice": (f"{HEAD}{A}-1\tB\n", f"line 3: found barcode '{A}-1' a second time"),
    "an empty barcode": (f"{HEAD}\tB\n", "line 3: found an empty barcode"),
    "Latin-1": (f"{A}-1\tMüller\n".encode("latin-1"), "line 1: found bytes that are no UTF-8 text"),
    "Excel workbook": (b"PK\x03\x04" + bytes(50), "found a zip archive"),
    "empty": ("", "found an empty file"),
    "header alone": ("barcode\tgroup\n", "found no cell below the header"),
    "column name twice": (f"barcode\tgroup\tgroup\n{A}-1\tT\tB\n", "line 1: found two columns called 'group'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", GROUPS)
def test_tables_of_groups(lab, cli, kind):
    content, expected = GROUPS[kind]
    path = put(lab, content)
    given = {"genome": lab / "toy.chrom.sizes", "groups": path, "device": "cpu"}
    called = ("coverage", lab / "s.tsv", "--genome", lab / "toy.chrom.sizes", "--groups", path, "--device", "cpu")
    if isinstance(expected, dict):
        made = coverage(lab / "s.tsv", lab / "a", **given)
        assert made.n_cells == expected
        code, _, err = cli(*called, "--out", lab / "b")
        assert code == 0, err
        assert sorted(p.name for p in (lab / "b").iterdir()) == sorted(p.name for p in made.files.values())
    else:
        with pytest.raises(InputError, match=expected):
            coverage(lab / "s.tsv", lab / "a", **given)
        code, _, err = cli(*called, "--out", lab / "b")
        assert code == 2
        assert re.search(expected, said(err))
        assert not list(lab.glob("[ab]/*"))


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.lists(st.text("abN A,;'\"#", max_size=6), min_size=2, max_size=4), min_size=1, max_size=4),
    separator=st.sampled_from(",;\t"),
)
def test_fields_are_those_that_pythons_csv_module_wrote(rows, separator):
    out = io.StringIO()
    csv.writer(out, delimiter=separator, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    assert [split_fields(line, separator) for line in out.getvalue().splitlines()] == rows


def test_barcodes_without_a_group_are_counted_and_the_remedy_gives_them_one(lab, cli):
    called = ("coverage", lab / "s.tsv", "--genome", lab / "toy.chrom.sizes", "--device", "cpu", "--groups")
    _, _, err = cli(*called, put(lab, f"{HEAD}{C}-1\tNA\n"), "--out", lab / "a")
    assert 'given.txt: 1 of 3 barcodes have no group (empty or NA) and are in no group; put quotes around "NA"' in said(err)
    _, _, err = cli(*called, put(lab, f'{HEAD}{C}-1\t"NA"\n'), "--out", lab / "b")
    assert "have no group" not in err
    assert (lab / "b" / "NA.bw").exists()


def test_a_table_of_groups_may_name_the_cells_of_one_sample_of_two(lab):
    put(lab, fragments_of(), "t.tsv")
    made = coverage([lab / "s.tsv", lab / "t.tsv"], lab / "o", genome=lab / "toy.chrom.sizes", device="cpu",
                    groups=put(lab, f"s#{A}-1\tT\ns#{B}-1\tT\n"))  # fmt: skip
    assert made.n_cells == {"T": 2}


def test_groups_of_an_export_of_ours_go_by_its_names(lab):
    put(lab, fragments_of(prefix="s#") + fragments_of(prefix="t#"), "both.tsv")
    table = put(lab, f"s#{A}-1\tT\nt#{A}-1\tB\n")
    made = coverage(lab / "both.tsv", lab / "o", genome=lab / "toy.chrom.sizes", groups=table, device="cpu")
    assert made.n_cells == {"T": 1, "B": 1}


def test_another_column_is_named_by_groupby(lab, cli):
    path = put(lab, f"barcode,a,b,leiden\n{A}-1,x,y,0\n{B}-1,x,z,0\n")
    assert read_labels(path).columns.tolist() == ["leiden", "a", "b"]
    code, _, err = cli("coverage", lab / "s.tsv", "--genome", lab / "toy.chrom.sizes", "--groups", path, "--groupby", "b",
                       "--out", lab / "o", "--device", "cpu")  # fmt: skip
    assert code == 0, err
    assert sorted(p.stem for p in (lab / "o").iterdir()) == ["y", "z"]


def test_the_table_of_known_cells_is_read_alike(lab):
    table = read_truth(put(lab, '"barcode","cell_type","is_cell"\n"A","T, naive",1\n"B",NA,0\n'))
    assert table["cell_type"].tolist()[0] == "T, naive"
    assert table["cell_type"].isna().tolist() == [False, True]
    assert table["is_cell"].tolist() == [True, False]


def test_a_table_of_known_cells_that_fits_no_cell_says_why_and_the_remedy_works(lab):
    obs = pd.DataFrame({"leiden": pd.Categorical(["0", "1"])}, index=[f"{A}-1", f"{B}-1"])
    adata = AnnData(obs=obs)
    table = read_truth(put(lab, f"barcode\tcell_type\n{A}\tT\n{B}\tB\n"))
    told = as_lines(compare(adata, table, ["s"], obs))
    assert any(f"the truth has {A}, the data has {A}-1" in line and "append '-1' to each barcode" in line for line in told)
    assert compare(adata, table.set_axis(table.index + "-1"), ["s"], obs)["n_labelled"] == 2


def test_a_first_line_with_a_barcode_is_no_header(lab):
    assert read_labels(put(lab, f"{A}-1\tcluster\n{B}-1\tT\n")).index.tolist() == [f"{A}-1", f"{B}-1"]


def test_sample_names_that_no_disk_takes_are_refused_and_the_remedy_works(lab, cli):
    (lab / f"{'y' * 230}.tsv").write_text(fragments_of())
    genome = ga.io.read_genome(lab / "toy.chrom.sizes")
    file = lab / f"{'y' * 230}.tsv"
    with pytest.raises(InputError, match=r"sample names may have 200 bytes.*pass sample"):
        ga.pp.import_fragments(file, genome, min_num_fragments=0, device="cpu", out=lab / "x")
    code, _, err = cli("coverage", file, "--genome", lab / "toy.chrom.sizes", "--bulk", "--out", lab / "o", "--device", "cpu")
    assert code == 2
    assert "pass names=[...] (--names)" in said(err)
    code, _, err = cli("coverage", file, "--genome", lab / "toy.chrom.sizes", "--bulk", "--out", lab / "o", "--device", "cpu",
                       "--names", "1")  # fmt: skip
    assert code == 0, err
    assert [p.name for p in (lab / "o").iterdir()] == ["1.bw"]


# -------------------------------------------------------------------------------------------------------- annotations


def gff(kind, start, end, attributes, strand="+", chrom="chr1", source="x"):
    return "\t".join([chrom, source, kind, str(start), str(end), ".", strand, ".", attributes]) + "\n"


BRAKER = (
    gff("gene", 101, 900, "g1") + gff("transcript", 101, 900, "g1.t1") + gff("CDS", 101, 300, 'transcript_id "g1.t1"; gene_id "g1";')
    + gff("exon", 101, 300, 'transcript_id "g1.t1"; gene_id "g1";') + gff("transcript", 201, 900, "g1.t2", "-")
)  # fmt: skip
FLYBASE = gff("gene", 101, 900, 'gene_id "FBgn1"; gene_symbol "l(1)sc";') + gff(
    "mRNA", 101, 900, 'gene_id "FBgn1"; gene_symbol "l(1)sc"; transcript_id "FBtr1"; transcript_symbol "l(1)sc-RA";'
)
REFSEQ = "#gtf-version 2.2\n" + gff("gene", 101, 900, 'gene_id "A1"; transcript_id ""; gene "A1"; gene_biotype "x";') + gff(
    "transcript", 101, 900, 'gene_id "A1_1"; transcript_id "NM_1"; db_xref "GeneID:1"; gene "A1"; product "a; b"; gbkey "mRNA";'
)
PHYTOZOME = "##gff-version 3\n##annot-version TAIR10\n" + gff("gene", 101, 900, "ID=AT1G01.TAIR10;Name=AT1G01") + gff(
    "mRNA", 101, 900, "ID=AT1G01.1.TAIR10;Name=AT1G01.1;pacid=19656964;longest=1;Parent=AT1G01.TAIR10"
) + gff("CDS", 101, 300, "ID=AT1G01.1.TAIR10.CDS.1;Parent=AT1G01.1.TAIR10;pacid=19656964")
ENSEMBL = gff("gene", 101, 900, 'gene_id "ENSG1"; gene_name "GATA1";') + gff(
    "transcript", 101, 900, 'gene_id "ENSG1"; transcript_id "ENST1"; gene_name "GATA1"; tag "basic";'
)
GENES = {
    "Ensembl GTF": (ENSEMBL, [("ENST1", "ENSG1", "GATA1")]),
    "Ensembl GTF with byte order mark and CRLF": (BOM + ENSEMBL.replace("\n", "\r\n").encode(), [("ENST1", "ENSG1", "GATA1")]),
    "gzip": (gzip.compress(ENSEMBL.encode()), [("ENST1", "ENSG1", "GATA1")]),
    "BRAKER: ids without names": (BRAKER, [("g1.t1", "g1", "g1"), ("g1.t2", "g1", "g1")]),
    "AUGUSTUS: transcripts alone": (gff("transcript", 101, 900, "g7.t1"), [("g7.t1", "g7", "g7")]),
    "FlyBase: gene_symbol": (FLYBASE, [("FBtr1", "FBgn1", "l(1)sc")]),
    "RefSeq GTF: gene": (REFSEQ, [("NM_1", "A1_1", "A1")]),
    "Phytozome GFF3": (PHYTOZOME, [("AT1G01.1.TAIR10", "AT1G01.TAIR10", "AT1G01")]),
    "GFF3 with a spaced version line": (
        PHYTOZOME.replace("version 3", "version   3"), [("AT1G01.1.TAIR10", "AT1G01.TAIR10", "AT1G01")],
    ),
    "GFF3 without version, first row without attributes": (
        gff("region", 1, 10000, ".") + gff("mRNA", 101, 900, "ID=t;gene_name=N;Parent=g"), [("t", "g", "N")],
    ),
    "gffread GFF3: geneID": (gff("transcript", 101, 900, "ID=STRG.1.1;geneID=STRG.1;gene_name=N"), [("STRG.1.1", "STRG.1", "N")]),
    "FlyBase-like GFF3: gene_symbol": (gff("mRNA", 101, 900, "ID=t;Parent=g;gene_symbol=sc"), [("t", "g", "sc")]),
    "RefSeq GFF3": (
        gff("gene", 101, 900, "ID=gene-A1;Name=A1;gene=A1")
        + gff("mRNA", 101, 900, "ID=rna-NM_1;Parent=gene-A1;gene=A1;transcript_id=NM_1"),
        [("NM_1", "gene-A1", "A1")],
    ),
    "GeneMark GTF: coding parts alone": (
        gff("CDS", 101, 300, 'gene_id "1_g"; transcript_id "1_t";') + gff("CDS", 700, 900, 'gene_id "1_g"; transcript_id "1_t";'),
        [("1_t", "1_g", "1_g")],
    ),
    "GFF3 of exons alone": (gff("exon", 101, 300, "Parent=t1") + gff("exon", 700, 900, "Parent=t1"), [("t1", "t1", "t1")]),
    "refGene": ("585\tNM_1\tchr1\t+\t100\t900\t200\t800\t1\t100,\t900,\t0\tGATA1\tcmpl\tcmpl\t0,\n", [("NM_1", "GATA1", "GATA1")]),
    "BED with a track line": ("track name=genes\nchr1\t100\t900\tGATA1\t0\t+\n", [("GATA1", "GATA1", "GATA1")]),
    "BED with browser lines": ("browser position chr1\nbrowser hide all\nchr1\t100\t900\tN\t0\t-\n", [("N", "N", "N")]),
    "a contig called track1": ("track1\t100\t900\tN\t0\t+\n", [("N", "N", "N")]),
    "UTF-16": (ENSEMBL.encode("utf-16"), "line 1: found text in UTF-16"),
    "nothing named": (gff("transcript", 101, 900, 'tag "basic";'), "line 1: found neither transcript_id nor gene_id"),
    "no rows": ("#!genome-build x\n", "found no rows"),
    "spaces for tabs": (ENSEMBL.replace("\t", "  "), r"line 1: found 1 column\(s\) of no known kind"),
    "an FASTA file": (">chr1\nACGT\n", "line 1: found 1 column"),
}  # fmt: skip


@pytest.mark.parametrize("kind", GENES)
def test_annotations(lab, cli, kind):
    content, expected = GENES[kind]
    path = put(lab, content, "genes")
    called = ("run", lab / "s.tsv", "--genome", lab / "toy.chrom.sizes", "--contigs", "all", "--genes", path, "--out", lab / "o",
              "--device", "cpu", "--min-fragments", 1, "--min-tsse", 0)  # fmt: skip
    if isinstance(expected, str):
        with pytest.raises(FileFormatError, match=expected):
            read_transcripts(path)
        code, _, err = cli(*called)
        assert code == 2
        assert re.search(expected, said(err))
        assert not (lab / "o").exists() or not list((lab / "o").iterdir())
        return
    frame = read_transcripts(path)
    assert list(zip(frame["transcript_id"], frame["gene_id"], frame["gene_name"], strict=True)) == expected
    assert frame["start"].isin([100, 200]).all()
    assert (frame["end"] == 900).all()
    if "track1" not in kind:
        cli(*called)  # its four cells are too few for all of the job
        assert "tsse" in ga.io.read_h5ad(lab / "o" / "s.qc.h5ad").obs


def test_exons_of_braker_belong_to_its_transcripts(lab):
    exons = read_exons(put(lab, BRAKER), "chr1")
    assert exons[["transcript_id", "start", "end", "coding"]].to_numpy().tolist() == [
        ["g1.t1", 100, 300, False], ["g1.t1", 100, 300, True],
    ]  # fmt: skip


def copies(*places):
    names = ("chrom", "start", "end", "strand", "transcript_id", "gene_id", "gene_name")
    rows = [(c, s, e, "+", f"t{k}", gene, "Y_RNA") for k, (c, s, e, gene) in enumerate(places)]
    return pd.DataFrame(rows, columns=list(names))


@pytest.mark.parametrize(
    ("places", "where", "n_loci"),
    [
        ([("chr1", 100, 200, "a"), ("chr2", 300, 400, "b"), ("chr2", 350, 500, "b")], ("chr2", 300, 500), 2),
        ([("chr1", 100, 200, "a"), ("chr1", 5000, 5100, "b"), ("chr1", 5050, 5200, "b")], ("chr1", 5000, 5200), 2),
        ([("chr1", 100, 200, "a"), ("chr2", 100, 200, "a")], ("chr1", 100, 200), 2),
        ([("chr1", 100, 200, "a"), ("chr1", 900, 1000, "a")], ("chr1", 100, 1000), 1),
        ([("chr1", 100, 200, "a"), ("chr1", 150, 300, "b")], ("chr1", 100, 300), 1),
    ],
    ids=["two chromosomes", "two genes of one chromosome", "X and Y", "one gene, two parts", "two ids that overlap"],
)
def test_one_name_at_several_loci_has_the_coordinates_of_one(lab, places, where, n_loci):
    genome = ga.io.read_genome(lab / "toy.chrom.sizes")
    adata = ga.pp.import_fragments(lab / "s.tsv", genome, min_num_fragments=0, device="cpu")
    frame = copies(*places)
    by_name = ga.pp.make_gene_matrix(adata, frame).var
    assert by_name.index.tolist() == ["Y_RNA"]
    assert tuple(by_name.loc["Y_RNA", ["chrom", "start", "end"]]) == where
    assert by_name["n_loci"].tolist() == [n_loci]
    by_id = ga.pp.make_gene_matrix(adata, frame, id_type="gene_id")
    assert by_id.var_names.tolist() == list(dict.fromkeys(p[3] for p in places))
    assert (by_id.var["gene_name"] == "Y_RNA").all()
    found = locate_gene(frame, "Y_RNA", genome)
    assert (genome.names[found.code], found.start, found.end) == where


def test_the_main_job_tells_genes_apart_by_id_where_asked(lab, cli):
    rows = [gff("transcript", 101, 900, 'gene_id "a"; transcript_id "t1"; gene_name "N";'),
            gff("transcript", 5001, 5900, 'gene_id "b"; transcript_id "t2"; gene_name "N";')]  # fmt: skip
    genes = put(lab, "".join(rows), "genes.gtf")
    genome = ga.io.read_genome(lab / "toy.chrom.sizes", genes=genes)
    adata = ga.pp.import_fragments(lab / "s.tsv", genome, min_num_fragments=0, device="cpu")
    assert ga.pp.make_gene_matrix(adata, genome, id_type="gene_id").var_names.tolist() == ["a", "b"]
    code, shown, _ = cli("run", "--help-all")
    assert code == 0
    assert "--gene-key" in shown


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="strand"), "genes has no column strand; it needs chrom, start, end, strand"),
        (lambda f: f.assign(start="x"), "start of genes must be whole numbers in bp"),
        (lambda f: f.assign(end=[0.5]), "end of genes must be whole numbers in bp"),
        (lambda f: f.assign(start=[-1]), "1 of 1 values of start of genes lie outside"),
        (lambda f: f.assign(end=[1]), "1 of 1 transcripts have start > end"),
    ],
)
def test_frames_of_genes_are_checked_at_the_door(lab, change, message):
    with pytest.raises(InputError, match=message):
        ga.io.read_genome(lab / "toy.chrom.sizes", genes=change(copies(("chr1", 100, 200, "a"))))


def test_missing_names_of_a_frame_become_ids(lab):
    genome = ga.io.read_genome(lab / "toy.chrom.sizes", genes=copies(("chr1", 100, 200, "a")).assign(gene_name=[None]))
    assert genome.transcripts["gene_name"].tolist() == ["a"]


# ---------------------------------------------------------------------------------------------------------- BED files

REGION = [["chr1", 100, 900], ["chr2", 5, 9]]
BEDS = {
    "plain": ("chr1\t100\t900\nchr2\t5\t9\n", REGION),
    "byte order mark, CRLF": (BOM + b"chr1\t100\t900\r\nchr2\t5\t9\r\n", REGION),
    "track and browser lines": ("browser hide all\ntrack name=x\nchr1\t100\t900\ntrack name=y\nchr2\t5\t9\n", REGION),
    "a contig called tracks": ("tracks\t1\t2\nchr1\t100\t900\n", [["tracks", 1, 2], ["chr1", 100, 900]]),
    "blanks": ("chr1 100 900\nchr2 5 9\n", REGION),
    "BED12 with blanks": ("chr1 100 900 n 0 + 100 900 0 2 50,50, 0,750,\n", REGION[:1]),
    "csv with header": ("chr,start,end\nchr1,100,900\nchr2,5,9\n", REGION),
    "csv without header": ("chr1,100,900\nchr2,5,9\n", REGION),
    "quoted": ('"chr1"\t100\t900\n"chr2"\t5\t9\n', REGION),
    "R: write.table": ('"chrom" "start" "end"\n"1" "chr1" 100 900\n"2" "chr2" 5 9\n', REGION),
    "R: write.table without header": ('"1" "chr1" 100 900\n"2" "chr2" 5 9\n', REGION),
    "R: GRanges, 1-based with widths": (
        '"seqnames" "start" "end" "width" "strand"\n"1" "chr1" 101 900 800 "*"\n"2" "chr2" 6 9 4 "*"\n', REGION,
    ),
    "widths of 0-based starts": ("seqnames\tstart\tend\twidth\nchr1\t100\t900\t800\nchr2\t5\t9\t4\n", REGION),
    "columns in another order": ("name\tchrom\tstart\tend\np1\tchr1\t100\t900\np2\tchr2\t5\t9\n", REGION),
    "header behind #": ("#chrom\tstart\tend\nchr1\t100\t900\nchr2\t5\t9\n", REGION),
    "narrowPeak": ("chr1\t100\t900\tp\t10\t.\t1.5\t3\t2\t50\nchr2\t5\t9\tq\t10\t.\t1.5\t3\t2\t1\n", REGION),
    "empty": ("", []),
    "comments alone": ("# nothing is blacklisted\n\n", []),
    "a track line alone": ("track name=none\n", []),
    "gzip of nothing": (gzip.compress(b""), []),
    "1-based by header, from 0": ("seqnames\tstart\tend\twidth\nchr1\t0\t9\t10\n", "line 2: found start 0 and end 9"),
    "text": ("chr1\tone\t900\n", "line 1: found start 'one' and end '900'"),
    "two columns": ("chr1\t100\n", r"line 1: found 2 column\(s\)"),
    "UTF-16": ("chr1\t1\t2\n".encode("utf-16"), "line 1: found text in UTF-16"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BEDS)
def test_bed_files(lab, cli, kind):
    content, expected = BEDS[kind]
    path = put(lab, content, "given.bed")
    called = ("coverage", lab / "s.tsv", "--genome", lab / "toy.chrom.sizes", "--bulk", "--blacklist", path, "--device", "cpu")
    if isinstance(expected, str):
        with pytest.raises(FileFormatError, match=expected):
            read_bed(path)
        code, _, err = cli(*called, "--out", lab / "o")
        assert code == 2
        assert re.search(expected, said(err))
        assert not (lab / "o").exists() or not list((lab / "o").iterdir())
        return
    assert regions_frame(path, may_be_empty=True)[["chrom", "start", "end"]].to_numpy().tolist() == expected
    if not expected:
        with pytest.raises(FileFormatError, match=r"found no regions|an empty file"):
            read_bed(path)
    code, _, err = cli(*called, "--out", lab / "o")
    assert code == 0, err
    assert "Error" not in err
    kept = [s for _, s, e, _ in ROWS if not any(c == "chr1" and s < hi and e > lo for c, lo, hi in expected)]
    assert signal(lab / "o" / "s.bw", lab) == sum(80 for _ in kept)


def signal(path, folder):
    """Bases under the track of raw counts that the file of RPKM was scaled from."""
    import pyBigWig

    with pyBigWig.open(str(path)) as file:
        runs = [run for chrom in file.chroms() for run in file.intervals(chrom) or ()]
    one = min((v for *_, v in runs), default=1.0)
    return round(sum((e - s) * v for s, e, v in runs) / one)


def test_an_empty_blacklist_is_fine_for_every_verb(lab, bk):
    empty = put(lab, "# nothing\n", "none.bed")
    genome = ga.io.read_genome(lab / "toy.chrom.sizes", blacklist=empty)
    assert len(genome.blacklist) == 0
    device = "cpu" if bk.name == "cpu" else "gpu"
    adata = ga.pp.import_fragments(lab / "s.tsv", genome, min_num_fragments=0, device=device)
    ga.metrics.qc(adata, blacklist=empty)
    assert (adata.obs["blacklist_fraction"] == 0).all()
    ga.pp.add_tile_matrix(adata, bin_size=100)
    ga.pp.select_features(adata, blacklist=empty, n_features=50)
    assert adata.var["selected"].sum() > 0
    adata.obs["group"] = pd.Categorical(["a"] * adata.n_obs)
    ga.ex.export_coverage(adata, groupby="group", out_dir=lab / "tracks", blacklist=genome.blacklist)
    ga.tl.call_peaks(adata, groupby="group", blacklist=[])


BESIDE = "chr1\t100\t900\nchr1\t9000\t20000\nchrUn_1\t1\t2\nchr2\t10\t20\n"


def test_regions_beyond_a_chromosome_or_on_unknown_ones_are_counted_and_told(lab, cli, caplog):
    path = put(lab, BESIDE, "b.bed")
    beyond = "b.bed: 1 of 4 regions of blacklist reach beyond the end of their chromosome (chr1:9000-20000 of 10000 bp)"
    absent = "b.bed: 1 of 4 regions of blacklist lie on chromosomes that genome toy lacks (chrUn_1) and are passed over"
    code, _, err = cli("coverage", lab / "s.tsv", "--genome", lab / "toy.chrom.sizes", "--contigs", "all", "--bulk",
                       "--blacklist", path, "--out", lab / "o", "--device", "cpu")  # fmt: skip
    assert code == 0
    assert beyond in said(err)
    assert absent in said(err)
    genome = ga.io.read_genome(lab / "toy.chrom.sizes", contigs="all")
    adata = ga.pp.import_fragments(lab / "s.tsv", genome, min_num_fragments=0, device="cpu")
    with caplog.at_level(logging.WARNING, logger="gpuatac"):
        logging.getLogger("gpuatac").propagate = True
        matrix = ga.pp.make_peak_matrix(adata, path)
    assert "1 of 4 peaks reach beyond" in caplog.text
    assert matrix.n_vars == 4


def test_a_blacklist_is_told_about_once(lab, caplog):
    logging.getLogger("gpuatac").propagate = True
    with caplog.at_level(logging.WARNING, logger="gpuatac"):
        genome = ga.io.read_genome(lab / "toy.chrom.sizes", blacklist=put(lab, BESIDE, "b.bed"), contigs="all")
        adata = ga.pp.import_fragments(lab / "s.tsv", genome, min_num_fragments=0, device="cpu")
        ga.metrics.qc(adata, blacklist=genome.blacklist)
        ga.pp.add_tile_matrix(adata, bin_size=100)
        ga.pp.select_features(adata, blacklist=genome.blacklist, n_features=50)
    assert caplog.text.count("reach beyond") == 1


def test_what_main_leaves_out_is_no_warning_and_another_assembly_is(lab, caplog):
    logging.getLogger("gpuatac").propagate = True
    hg38 = ga.Genome.builtin("hg38")
    with caplog.at_level(logging.WARNING, logger="gpuatac"):
        ga.io.read_genome(hg38, blacklist=put(lab, "chr1\t1\t2\nchr2\t1\t2\nchrUn_KI270302v1\t1\t2\n"))
    assert not caplog.records
    with caplog.at_level(logging.WARNING, logger="gpuatac"):
        ga.io.read_genome(hg38, blacklist=put(lab, "chr1\t1\t2\nchr30\t1\t2\nchr31\t1\t2\n"))
    assert "2 of 3 blacklisted regions lie on chromosomes that genome hg38 lacks (chr30, chr31)" in caplog.text


def test_a_frame_of_granges_is_1_based_by_its_widths():
    frame = pd.DataFrame({"seqnames": ["chr1"], "start": [101], "end": [900], "width": [800]})
    assert regions_frame(frame)[["chrom", "start", "end"]].to_numpy().tolist() == [["chr1", 100, 900]]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (BOM + b"chr1\t0\t50\tp1\tgneg\r\n", [["chr1", 0, 50, "p1", "gneg"]]),
        ("#chrom\tstart\tend\tname\tstain\nchr1\t0\t50\tp1\tgneg\n", [["chr1", 0, 50, "p1", "gneg"]]),
        ("chrom\tchromStart\tchromEnd\tname\tgieStain\nchr1\t0\t50\tp1\tgneg\n", [["chr1", 0, 50, "p1", "gneg"]]),
        ("chr1\tx\t50\tp1\tgneg\n", "line 1: found start 'x' and end '50'"),
        ("chr1\t0\t50\n", r"line 1: found 3 column\(s\)"),
        ("", "found an empty file"),
    ],
)
def test_cytobands(tmp_path, content, expected):
    path = put(tmp_path, content)
    if isinstance(expected, str):
        with pytest.raises(FileFormatError, match=expected):
            read_cytobands(path)
    else:
        assert read_cytobands(path).to_numpy().tolist() == expected


# ------------------------------------------------------------------------------------------------- byte order marks


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("heading", ["", "track name=x\n", "browser hide all\ntrack name=x\n# made\n"])
def test_fragments_behind_a_byte_order_mark_and_track_lines(lab, bk, packed, heading):
    content = BOM + (heading + fragments_of()).encode()
    path = put(lab, gzip.compress(content) if packed else content, "m.tsv")
    genome = ga.Genome("toy", {"chr1": 10_000})
    device = "cpu" if bk.name == "cpu" else "gpu"
    found = ga.io.read_fragments(path, genome, device=device)
    assert (len(found), found.n_cells) == (20, 4)
    bulk = put(lab, BOM + (heading + "chr1\t1\t20\nchr1\t5\t9\n").encode(), "bulk.bed")
    assert len(ga.io.read_fragments(bulk, genome, device=device)) == 2


def test_sizes_fasta_and_bedgraph_behind_a_byte_order_mark(tmp_path):
    assert ga.io.read_genome(put(tmp_path, BOM + SIZES.encode(), "a.sizes")).chrom_sizes["chr2"] == 5000
    assert ga.io.read_genome(put(tmp_path, BOM + b">chr1 x\nACGT\nAC\n", "a.fa")).chrom_sizes == {"chr1": 6}


def test_no_row_of_the_tables_is_alike():
    texts = [str(content) for table in (LISTS, GROUPS, GENES, BEDS) for content, _ in table.values()]
    assert len(texts) >= 90
    assert np.unique(texts).size > len(texts) - 12  # kinds of no content are in several tables
    assert Path(__file__).is_file()
