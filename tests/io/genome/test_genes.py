"""Gene annotations of every supported format to one transcript table, and the TSS table made of it."""

from __future__ import annotations

import gzip
import logging

import numpy as np
import pandas as pd
import pytest

from gpuatac.errors import FileFormatError, InputError
from gpuatac.genome import Genome
from gpuatac.io.genome.transcripts import COLUMNS, read_transcripts, tss_table


def gtf_row(feature, start, end, attributes, *, chrom="chr1", strand="+"):
    return f"{chrom}\tsrc\t{feature}\t{start}\t{end}\t.\t{strand}\t.\t{attributes}\n"


def written(folder, text, name="a.txt"):
    path = folder / name
    path.write_text(text)
    return path


def rows(path):
    frame = read_transcripts(path)
    assert tuple(frame.columns) == COLUMNS
    assert frame["start"].dtype == frame["end"].dtype == np.int64
    return [tuple(r) for r in frame.to_numpy().tolist()]


def test_gtf_transcripts_become_0_based_in_file_order(tmp_path):
    text = (
        "#!genome-build x\n"
        + gtf_row("gene", 11, 90, 'gene_id "G2"; gene_name "B";')
        + gtf_row("transcript", 21, 90, 'gene_id "G2"; transcript_id "T2"; gene_name "B";', strand="-")
        + gtf_row("exon", 21, 30, 'gene_id "G2"; transcript_id "T2"; gene_name "B";')
        + "\n"
        + gtf_row("mRNA", 1, 5, 'gene_id "G1"; transcript_id "T1";', chrom="2")
    )
    expected = [("chr1", 20, 90, "-", "T2", "G2", "B"), ("2", 0, 5, "+", "T1", "G1", "G1")]
    assert rows(written(tmp_path, text)) == expected
    packed = tmp_path / "a.bin"  # the suffix says nothing
    packed.write_bytes(gzip.compress(text.encode()))
    assert rows(packed) == expected
    assert rows(written(tmp_path, text.rstrip("\n").replace("\n", "\r\n"))) == expected


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        ('gene_id "g"; transcript_id "t"; gene_name "a;b";', ("t", "g", "a;b")),
        ('note "gene_name x; y"; gene_name "n"; transcript_id "t"; gene_id "g"', ("t", "g", "n")),
        ("gene_id g; transcript_id t; gene_name n;", ("t", "g", "n")),
        ('gene_id "g"; level 2; transcript_id "t"; tag "basic"; gene_name "n"', ("t", "g", "n")),
        ('gene_id "g"; transcript_id "t"; gene_name "";', ("t", "g", "g")),
        ('transcript_id "t";', ("t", "t", "t")),
        ('gene_id "g"; transcript_id "t"; ref_gene_name "no"; gene_name "n n";', ("t", "g", "n n")),
    ],
)
def test_gtf_attributes_are_read_around_quotes_and_semicolons(tmp_path, attributes, named):
    assert rows(written(tmp_path, gtf_row("transcript", 1, 2, attributes)))[0][4:] == named


def test_gtf_without_transcripts_uses_genes_and_without_those_spans_exons(tmp_path):
    genes = gtf_row("gene", 5, 9, 'gene_id "g"; gene_name "n";') + gtf_row("exon", 5, 6, 'gene_id "g";')
    assert rows(written(tmp_path, genes)) == [("chr1", 4, 9, "+", "g", "g", "n")]
    exons = (
        gtf_row("exon", 50, 60, 'gene_id "g"; transcript_id "t";', strand="-")
        + gtf_row("exon", 5, 9, 'gene_id "h"; transcript_id "u";')
        + gtf_row("CDS", 1, 99, 'gene_id "g"; transcript_id "t";', strand="-")
        + gtf_row("exon", 20, 30, 'gene_id "g"; transcript_id "t";', strand="-")
    )
    assert rows(written(tmp_path, exons)) == [
        ("chr1", 19, 60, "-", "t", "g", "g"),
        ("chr1", 4, 9, "+", "u", "h", "h"),
    ]


def test_gff3_of_ensembl_takes_names_from_the_parent_gene(tmp_path):
    text = (
        "##gff-version 3\n"
        + gtf_row("ncRNA_gene", 1, 99, "ID=gene:E1;Name=XIST;gene_id=E1")
        + gtf_row("lnc_RNA", 1, 50, "ID=transcript:T1;Parent=gene:E1;Name=XIST-201;transcript_id=T1")
        + gtf_row("exon", 1, 50, "Parent=transcript:T1")
        + gtf_row("gene", 200, 300, "ID=gene:E2;gene_id=E2", strand="-")
        + gtf_row("mRNA", 200, 300, "ID=transcript:T2;Parent=gene:E2;transcript_id=T2", strand="-")
        + "##FASTA\n>chr1\nACGT\n"
    )
    assert rows(written(tmp_path, text)) == [
        ("chr1", 0, 50, "+", "T1", "E1", "XIST"),
        ("chr1", 199, 300, "-", "T2", "E2", "E2"),
    ]


def test_gff3_of_ncbi_keeps_transcripts_and_not_their_products(tmp_path):
    text = (
        gtf_row("gene", 1, 99, "ID=gene-MIR1;Name=MIR1;gene=MIR1")
        + gtf_row("primary_transcript", 1, 99, "ID=rna-NR_1;Parent=gene-MIR1;Name=NR_1;gene=MIR1")
        + gtf_row("miRNA", 10, 30, "ID=rna-M1;Parent=rna-NR_1;gene=MIR1")
        + gtf_row("mRNA", 1, 9, "ID=rna-2;Parent=gene-A;gene=A%3BB")
        + gtf_row("V_gene_segment", 5, 9, "ID=id-V;Parent=gene-V")
    )
    assert [r[1:3] + r[4:] for r in rows(written(tmp_path, text))] == [
        (0, 99, "rna-NR_1", "gene-MIR1", "MIR1"),
        (0, 9, "rna-2", "gene-A", "A;B"),
        (4, 9, "id-V", "gene-V", "gene-V"),
    ]


def test_gff3_of_gencode_has_the_names_in_the_row(tmp_path):
    text = gtf_row("transcript", 3, 9, "ID=T;Parent=G;gene_id=G;transcript_id=T;gene_name=N")
    assert rows(written(tmp_path, text)) == [("chr1", 2, 9, "+", "T", "G", "N")]


def test_gff3_parents_are_looked_up_only_where_the_row_lacks_a_name_and_give_the_same(tmp_path):
    gene = gtf_row("gene", 1, 99, "ID=G;gene_id=E1;Name=FROM_GENE")
    full = gtf_row("mRNA", 1, 9, "ID=T1;Parent=G;gene_id=own;gene_name=OWN")
    bare = gtf_row("mRNA", 1, 9, "ID=T2; Parent = G ;Note=gene_name=no;transcript_id=")
    twice = gtf_row("mRNA", 1, 9, "ID=T3;Parent=G;gene_id=;gene=A;gene=B%20C")
    assert [r[4:] for r in rows(written(tmp_path, gene + full))] == [("T1", "own", "OWN")]
    assert [r[4:] for r in rows(written(tmp_path, gene + full + bare + twice))] == [
        ("T1", "own", "OWN"),
        ("T2", "E1", "FROM_GENE"),
        ("T3", "E1", "B C"),
    ]


PRED = "NM_1\tchr1\t-\t100\t900\t100\t900\t1\t100,\t900,"


@pytest.mark.parametrize(
    ("line", "gene"),
    [
        (PRED, "NM_1"),
        (f"{PRED}\t0\tGENE\tcmpl\tcmpl\t0,", "GENE"),
        (f"585\t{PRED}\t0\tGENE\tcmpl\tcmpl\t0,", "GENE"),
        (f"585\t{PRED}", "NM_1"),
        (f"FLAT\t{PRED}", "FLAT"),
        (f"{PRED}\tprotein\tuc1", "NM_1"),
    ],
)
def test_gene_pred_in_its_variants(tmp_path, line, gene):
    text = f"#bin\tname\tchrom\tstrand\n{line}\n"
    assert rows(written(tmp_path, text)) == [("chr1", 100, 900, "-", "NM_1", gene, gene)]


@pytest.mark.parametrize("rest", ["", "\t5\t9\t0", "\t5\t9\t0\t1\t4,\t0,"])
def test_bed_names_are_the_genes(tmp_path, rest):
    text = f'track name="x"\nchr1\t5\t9\t3\t0\t+{rest}\nchr2\t7\t8\tB\t.\t-{rest}\n'
    assert rows(written(tmp_path, text)) == [
        ("chr1", 5, 9, "+", "3", "3", "3"),
        ("chr2", 7, 8, "-", "B", "B", "B"),
    ]


def test_transcripts_without_strand_are_dropped_and_counted(tmp_path, caplog):
    text = "".join(gtf_row("transcript", 1, 2, f'gene_id "{s}";', strand=s) for s in "+.-?")
    with caplog.at_level(logging.WARNING, "gpuatac.io.genome.transcripts"):
        assert [r[3] for r in rows(written(tmp_path, text))] == ["+", "-"]
    assert "2 of 4 transcripts have no strand" in caplog.text


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        (gtf_row("exon", 1, 2, "") + "chr1\tx\tgene\n", 2, r"3 column\(s\)"),
        ("#c\n" + gtf_row("transcript", "ten", 20, 'gene_id "g";'), 2, "start 'ten'"),
        (gtf_row("transcript", 30, 20, 'gene_id "g";'), 1, "start 30 and end 20"),
        (gtf_row("transcript", 0, 20, 'gene_id "g";'), 1, "start 0"),
        (gtf_row("transcript", 1, 3_000_000_000, 'gene_id "g";'), 1, "3000000000"),
        (gtf_row("transcript", 1, 2, 'gene_id "g";', strand="x"), 1, "strand 'x'"),
        (gtf_row("transcript", 1, 2, 'note "g";'), 1, "neither transcript_id"),
        (gtf_row("mRNA", 1, 2, "Note=g"), 1, "neither gene_id, Parent"),
        (f"{PRED}\n{PRED}\nNM_2\tchr1\t-\n", 3, r"3 column\(s\)"),
        (f"{PRED}\n{PRED.replace('900', '9')}\n", 2, "start 100 and end 9"),
        ("chr1\t1\t2\tA\t0\t+\nchr1\t1\t2\n", 2, r"3 column\(s\)"),
        ("chr1\t1\t2\n", 1, "no known kind"),
        ("# only\n", None, "no rows"),
        (gtf_row("intron", 1, 2, 'gene_id "g";'), None, "no transcript, gene, exon or CDS rows"),
        ("##gff-version 3\n" + gtf_row("intron", 1, 2, "ID=g"), None, "no transcript, mRNA, gene, exon or CDS rows"),
        (gtf_row("gene", 1, 2, 'gene_id "g";', strand="."), None, "no transcript with a strand"),
    ],
)
def test_malformed_rows_are_refused_with_their_line(tmp_path, text, line, found):
    with pytest.raises(FileFormatError, match=found) as info:
        read_transcripts(written(tmp_path, text))
    assert info.value.line == line


def test_gencode_excerpt_agrees_with_a_plain_reading(data_dir):
    path = data_dir / "annotation" / "gtf_excerpt" / "snapatac2_gencode_ensemblonly.gtf.gz"
    expected = []
    for line in gzip.open(path, "rt"):
        f = line.rstrip("\n").split("\t")
        if not line.startswith("#") and f[2] == "transcript":
            a = dict(p.strip().split(" ", 1) for p in f[8].rstrip(";").split("; "))
            named = tuple(a[k].strip('"') for k in ("transcript_id", "gene_id", "gene_name"))
            expected.append((f[0], int(f[3]) - 1, int(f[4]), f[6], *named))
    assert len(expected) == 15_582
    assert rows(path) == expected


def test_ref_gene_agrees_with_a_plain_reading(data_dir):
    path = data_dir / "annotation" / "genes" / "hg38.refGene.txt.gz"
    expected = [line.split("\t") for line in gzip.open(path, "rt")]
    found = read_transcripts(path)
    assert len(found) == len(expected) == 64_546
    assert found["gene_name"].tolist() == [f[12] for f in expected]
    assert found["start"].tolist() == [int(f[4]) for f in expected]
    assert found["strand"].tolist() == [f[3] for f in expected]


# --- TSSs ----------------------------------------------------------------------------------------


def table(*transcripts):
    return pd.DataFrame(transcripts, columns=["chrom", "start", "end", "strand"])


def test_tss_is_start_on_plus_and_last_base_on_minus_each_once():
    genome = Genome("toy", {"chr1": 1000, "chr2": 1000, "chrM": 100})
    minus = [("chr2", 10, 20, "-"), ("chr2", 15, 20, "-")]
    plus = [("chr1", 19, 30, "+"), ("chr1", 19, 90, "+"), ("chr2", 19, 50, "+"), ("chrM", 5, 9, "+")]
    transcripts = table(*minus, *plus)
    found = tss_table(transcripts, genome)
    assert found.to_numpy().tolist() == [[0, 19, False], [1, 19, False], [1, 19, True]]
    assert [str(t) for t in found.dtypes] == ["int32", "int64", "bool"]
    assert len(tss_table(transcripts, genome, exclude=())) == 4


def test_tss_chromosomes_match_across_spellings_and_mt_is_left_out():
    genome = Genome("toy", {"1": 1000, "MT": 100})
    transcripts = table(("chr1", 1, 2, "+"), ("chrM", 1, 2, "+"))
    assert tss_table(transcripts, genome).to_numpy().tolist() == [[0, 1, False]]


def test_absent_chromosomes_are_logged_and_refused_when_none_matches(caplog):
    genome = Genome("toy", {"chr1": 1000})
    with caplog.at_level(logging.INFO, "gpuatac.io.genome.transcripts"):
        tss_table(table(("chr1", 1, 2, "+"), ("chrUn", 1, 2, "+")), genome, source="a.gtf")
    assert "1 of 2 chromosomes in a.gtf are absent from genome toy (chrUn)" in caplog.text
    with pytest.raises(
        InputError, match=r"2 of 2 chromosomes in a.gtf are absent from genome toy \(I, II; .*rename"
    ):
        tss_table(table(("I", 1, 2, "+"), ("II", 1, 2, "+")), genome, source="a.gtf")
    with pytest.raises(InputError, match="it has no rows"):
        tss_table(table(), genome)


def test_tss_beyond_the_chromosome_is_left_out_with_a_warning(caplog):
    genome = Genome("toy", {"chr1": 1000})
    with caplog.at_level(logging.WARNING, "gpuatac.io.genome.transcripts"):
        found = tss_table(table(("chr1", 999, 1200, "+"), ("chr1", 1, 1001, "-")), genome)
    assert found["pos"].tolist() == [999]
    assert "1 TSSs" in caplog.text
    with pytest.raises(InputError, match="no TSS"):
        tss_table(table(("chr1", 1000, 1200, "+")), genome)


def test_tss_of_hg38_ref_gene_lie_inside_their_chromosomes(data_dir):
    genome = Genome.builtin("hg38")
    transcripts = read_transcripts(data_dir / "annotation" / "genes" / "hg38.refGene.txt.gz")
    found = tss_table(transcripts, genome)
    main = transcripts[transcripts["chrom"].isin(genome.names) & (transcripts["chrom"] != "chrM")]
    pos = np.where(main["strand"] == "-", main["end"] - 1, main["start"])
    assert len(found) == len({*zip(main["chrom"], pos, main["strand"], strict=True)})
    assert found.equals(found.sort_values(["chrom_code", "pos", "reverse"], ignore_index=True))
