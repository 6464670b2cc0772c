"""Exons of every annotation format, genes by name, and models of a window."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from gpuatac.errors import InputError
from gpuatac.genome import Genome
from gpuatac.io.genome import gene_models
from gpuatac.io.genome.transcripts import read_transcripts

GENOME = Genome("toy", {"chr1": 5_000_000, "chr2": 10_000})


def gff(kind, start, end, attributes, *, chrom="chr1", strand="+"):
    return f"{chrom}\tx\t{kind}\t{start}\t{end}\t.\t{strand}\t.\t{attributes}\n"


GTF = (
    gff("transcript", 101, 400, 'gene_id "g"; transcript_id "t1"; gene_name "A";')
    + gff("exon", 101, 150, 'gene_id "g"; transcript_id "t1"; gene_name "A";')
    + gff("exon", 301, 400, 'gene_id "g"; transcript_id "t1"; gene_name "A";')
    + gff("CDS", 121, 150, 'gene_id "g"; transcript_id "t1"; gene_name "A";')
    + gff("transcript", 201, 500, 'gene_id "g"; transcript_id "t2"; gene_name "A";')
    + gff("exon", 201, 320, 'gene_id "g"; transcript_id "t2"; gene_name "A";')
    + gff("exon", 1, 90, 'gene_id "h"; transcript_id "t3"; gene_name "B";', chrom="chr12")
)
GFF3 = (
    "##gff-version 3\n"
    + gff("gene", 101, 400, "ID=gene:g;Name=A")
    + gff("mRNA", 101, 400, "ID=transcript:t1;Parent=gene:g;transcript_id=t1")
    + gff("exon", 101, 150, "Parent=transcript:t1")
    + gff("exon", 301, 400, "Parent=transcript:t1")
    + gff("CDS", 121, 150, "ID=CDS:p;Parent=transcript:t1;protein_id=p")
    + gff("mRNA", 201, 500, "ID=transcript:t2;Parent=gene:g")
    + gff("exon", 201, 320, "Parent=transcript:t2")
    + "##FASTA\n>chr1\nexon\n"
)
PRED = "t1\tchr1\t+\t100\t400\t120\t150\t2\t100,300,\t150,400,\t0\tA\tcmpl\tcmpl\t0,-1,\n"
BED12 = "chr1\t100\t400\tt1\t0\t+\t120\t150\t0\t2\t50,100,\t0,200,\n"
OF_T1 = [("t1", 100, 150, False), ("t1", 120, 150, True), ("t1", 300, 400, False)]


@pytest.mark.parametrize(
    "text", [GTF, GFF3, PRED, "7\t" + PRED, BED12], ids=["gtf", "gff3", "pred", "refGene", "bed12"]
)
def test_exons_and_coding_parts_are_0_based_and_bear_the_name_of_their_transcript(tmp_path, text):
    path = tmp_path / "a"
    path.write_text(text)
    frame = gene_models.read_exons(path, "chr1")
    found = sorted(map(tuple, frame[frame["transcript_id"] == "t1"].to_numpy().tolist()))
    assert found == OF_T1
    names = set(read_transcripts(path)["transcript_id"])
    assert set(frame["transcript_id"]) <= names  # GFF3: an ID where there is no transcript_id
    assert gene_models.read_exons(path, "chr2").empty


def test_parts_of_a_gene_without_transcripts_belong_to_the_gene(tmp_path):
    path = tmp_path / "a.gff3"
    text = gff("gene", 11, 90, "ID=gene-b1;Name=b1") + gff(
        "CDS", 11, 90, "ID=cds-1;Parent=gene-b1;orig_transcript_id=x"
    )
    path.write_text("##gff-version 3\n" + text)
    (model,) = gene_models.genes_in(read_transcripts(path), GENOME, 0, 0, 1000)
    assert (model.name, model.coding.tolist()) == ("b1", [[10, 90]])


@pytest.mark.parametrize(
    ("window", "exons"),
    [((150, 1000), [[300, 400]]), ((149, 300), [[100, 150]]), ((149, 301), [[100, 150], [300, 400]])],
)
def test_exons_are_those_that_have_a_base_in_the_window(tmp_path, window, exons):
    """Half-open: an exon [100, 150) ends before a window that begins at 150, [300, 400) begins behind one that ends at 300."""
    path = tmp_path / "a"
    path.write_text(PRED)
    (model,) = gene_models.genes_in(read_transcripts(path), GENOME, 0, *window)
    assert model.exons.tolist() == exons


def test_bed6_has_no_exons(tmp_path):
    path = tmp_path / "a.bed"
    path.write_text("chr1\t100\t400\tt1\t0\t+\n")
    assert gene_models.read_exons(path, "chr1").empty
    model = gene_models.genes_in(read_transcripts(path), GENOME, 0, 0, 1000)[0]
    assert (model.start, model.end, len(model.exons)) == (100, 400, 0)


def test_transcripts_of_a_gene_become_one_model_with_the_union_of_their_exons(tmp_path):
    path = tmp_path / "a.gtf"
    path.write_text(GTF)
    transcripts = read_transcripts(path)
    (model,) = gene_models.genes_in(transcripts, GENOME, 0, 0, 5000)
    assert (model.name, model.label, model.start, model.end, model.strand) == ("A", "A", 100, 500, "+")
    assert model.exons.tolist() == [[100, 150], [200, 400]]
    assert model.coding.tolist() == [[120, 150]]
    each = gene_models.genes_in(transcripts, GENOME, 0, 0, 5000, merge=False)
    assert [(m.label, m.exons.tolist()) for m in each] == [("A t1", [[100, 150], [300, 400]]), ("A t2", [[200, 320]])]


def test_only_genes_that_overlap_the_window_are_given(tmp_path):
    path = tmp_path / "a.gtf"
    path.write_text(GTF)
    transcripts = read_transcripts(path)
    assert gene_models.genes_in(transcripts, GENOME, 0, 500, 600) == []
    assert len(gene_models.genes_in(transcripts, GENOME, 0, 499, 600)) == 1
    assert gene_models.genes_in(transcripts, GENOME, 1, 0, 600) == []


def test_genes_are_drawn_without_exons_where_their_file_is_gone(tmp_path):
    path = tmp_path / "a.gtf"
    path.write_text(GTF)
    transcripts = read_transcripts(path)
    path.unlink()
    (model,) = gene_models.genes_in(transcripts, GENOME, 0, 0, 5000)
    assert len(model.exons) == 0


def test_a_changed_file_is_read_again(tmp_path):
    path = tmp_path / "a.bed"
    path.write_text("chr1\t100\t400\tt1\t0\t+\n")
    assert gene_models.annotation_of(path)["start"].tolist() == [100]
    path.write_text("chr1\t1000\t4000\tt1\t0\t+\n")
    assert gene_models.annotation_of(str(path))["start"].tolist() == [1000]


def transcripts(*rows):
    frame = pd.DataFrame(rows, columns=["chrom", "start", "end", "strand", "gene_id", "gene_name"])
    return frame.assign(transcript_id=[f"t{i}" for i in range(len(frame))])


GENES = transcripts(
    ("chr1", 100, 200, "-", "E1", "Cd3d"),
    ("1", 150, 300, "-", "E1", "Cd3d"),
    ("chr1", 4_000_000, 4_000_100, "+", "E9", "Cd3d"),
    ("chr1", 700, 900, "+", "E2", "ACTB"),
    ("chr1", 700, 900, "+", "E3", "actb"),
    ("chr7", 1, 9, "+", "E4", "ALT"),
)


def test_a_gene_spans_all_transcripts_of_its_name_at_one_place(caplog):
    with caplog.at_level(logging.WARNING):
        found = gene_models.locate_gene(GENES, "Cd3d", GENOME)
    assert found == ("Cd3d", 0, 100, 300, "-")
    assert "lies at 2 places" in caplog.text
    assert "chr1:4,000,000" in caplog.text


def test_names_are_matched_exactly_then_as_ids_then_in_any_case(caplog):
    assert gene_models.locate_gene(GENES, "actb", GENOME).name == "actb"
    assert gene_models.locate_gene(GENES, "E2", GENOME).name == "ACTB"
    assert gene_models.locate_gene(GENES, "CD3D", GENOME)[1:4] == (0, 100, 300)
    with pytest.raises(InputError, match=r"'Actb' is none of the 4 genes.*'ACTB', 'actb'"):
        gene_models.locate_gene(GENES, "Actb", GENOME)  # two genes differ from it in case only


def test_an_unknown_gene_is_refused_with_close_names():
    with pytest.raises(InputError, match=r"'CD3DX' is none of the 4 genes of the annotation; did you mean 'Cd3d'\?"):
        gene_models.locate_gene(GENES, "CD3DX", GENOME)
    with pytest.raises(InputError, match="check the name or give another annotation"):
        gene_models.locate_gene(GENES, "zzzzzzz", GENOME)


def test_a_gene_on_a_chromosome_the_genome_lacks_is_refused():
    with pytest.raises(InputError, match="'ALT' lies on chr7, which genome toy lacks"):
        gene_models.locate_gene(GENES, "ALT", GENOME)


def test_union_covers_the_same_bases_without_overlap():
    rng = np.random.default_rng(0)
    for _ in range(50):
        start = rng.integers(0, 80, 12)
        intervals = np.column_stack([start, start + rng.integers(1, 12, 12)])
        merged = gene_models.union(intervals)
        covered = {b for s, e in intervals.tolist() for b in range(s, e)}
        assert [b for s, e in merged.tolist() for b in range(s, e)] == sorted(covered)
        assert (merged[1:, 0] > merged[:-1, 1]).all()


def test_real_genepred_has_the_known_exons_of_cd3d(data_dir):
    path = data_dir / "annotation" / "genes" / "hg19.refGene.txt.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    table = gene_models.annotation_of(path)
    genome = Genome.builtin("hg19")
    place = gene_models.locate_gene(table, "CD3D", genome)
    assert (genome.names[place.code], place.start, place.end, place.strand) == ("chr11", 118209788, 118213459, "-")
    model = next(m for m in gene_models.genes_in(table, genome, place.code, place.start, place.end) if m.name == "CD3D")
    assert model.exons.tolist() == [
        [118209788, 118209942], [118210165, 118210209], [118210489, 118210621], [118211089, 118211308], [118213267, 118213459],
    ]  # fmt: skip
    assert (model.coding.min(), model.coding.max()) == (118209876, 118213322)
