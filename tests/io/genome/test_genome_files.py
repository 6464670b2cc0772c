"""Genomes from names and files."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest

from gpuatac.errors import FileFormatError, InputError, MissingFileError
from gpuatac.genome import Genome
from gpuatac.io.genome.sizes import fasta_sizes, read_genome, read_sizes


def written(folder, text, name="toy.chrom.sizes"):
    path = folder / name
    path.write_text(text)
    return path


def test_built_in_genomes_come_by_name_with_main_or_all_contigs():
    assert read_genome("hg38") == Genome.builtin("hg38")
    assert len(read_genome("hg38", contigs="all").names) > len(read_genome("hg38").names) == 25


def test_sizes_are_read_from_tabs_or_spaces_in_byte_order(tmp_path):
    genome = read_genome(written(tmp_path, "# sizes\nchr2\t20\nchr10 30\nchr1\t10\nchrUn_x\t5\n"))
    assert dict(genome.chrom_sizes) == {"chr1": 10, "chr10": 30, "chr2": 20}
    assert genome.name == "toy"
    assert "chrUn_x" in read_genome(tmp_path / "toy.chrom.sizes", contigs="all").names


def test_contigs_with_names_of_their_own_are_all_kept(tmp_path):
    assert read_genome(written(tmp_path, "NC_1.1\t20\nNC_2.1\t30\n")).names == ("NC_1.1", "NC_2.1")


@pytest.mark.parametrize("packed", [False, True])
def test_fai_and_gzip_are_read(tmp_path, packed):
    text = b"chr1\t100\t6\t60\t61\nchr2\t50\t120\t60\t61\n"
    path = tmp_path / "g.fa.fai"
    path.write_bytes(gzip.compress(text) if packed else text)
    assert dict(read_genome(path).chrom_sizes) == {"chr1": 100, "chr2": 50}
    assert read_genome(path).name == "g"


FASTA = ">chr1 description > more\nACGTN\nAC\n\n>chr2\r\nACGT\r\nA\r\n>chr3\nA>"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("end", ["", "\n", "C\n>chr4\nAC\nG", ">"])
def test_fasta_sequences_are_measured(tmp_path, packed, end):
    path = tmp_path / "toy.fa.gz"
    text = FASTA + end
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    expected = {}
    for record in ("\n" + text.replace("\r", "")).split("\n>")[1:]:
        head, *body = record.split("\n")
        expected[head.split()[0]] = sum(map(len, body))
    assert read_sizes(path) == expected


def test_fasta_larger_than_a_chunk_is_measured_piece_by_piece(tmp_path):
    rng = np.random.default_rng(0)
    sizes = {f"s{i}": int(n) for i, n in enumerate(rng.integers(1, 9_000_000, 8))}
    path = tmp_path / "big.fa"
    with path.open("w") as out:
        for name, size in sizes.items():
            out.write(f">{name}\n" + "\n".join(["A" * 60] * (size // 60) + ["A" * (size % 60)]) + "\n")
    assert path.stat().st_size > 1 << 24
    assert fasta_sizes(path) == sizes


def test_the_index_beside_a_fasta_is_used(tmp_path):
    path = written(tmp_path, ">chr1\nACGT\n", "g.fa")
    written(tmp_path, "chr1\t99\t6\t60\t61\n", "g.fa.fai")
    assert dict(read_genome(path).chrom_sizes) == {"chr1": 99}


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        ("chr1\t10\nchr1\t20\n", 2, "chr1 a second time"),
        ("#\n\nchr1\tten\n", 3, "size 'ten' of chr1"),
        ("chr1\t0\n", 1, "size '0'"),
        ("chr1\t-5\n", 1, "size '-5'"),
        ("chr1\t2147483648\n", 1, "2147483648"),
        ("chr1\n", 1, "one column"),
        ("# none\n", None, "no chromosomes"),
        (">chr1\nAC\n>chr1\nA\n", 3, "chr1 a second time"),
        (">chr1\n>chr2\nA\n", 1, "size '0' of chr1"),
        (">\nA\n", 1, "header without a name"),
    ],
)
def test_wrong_sizes_are_refused_with_their_line(tmp_path, text, line, found):
    with pytest.raises(FileFormatError, match=found) as info:
        read_genome(written(tmp_path, text))
    assert info.value.line == line


@pytest.mark.parametrize("size", [12, 1000])
def test_a_cut_off_gzip_fasta_is_refused(tmp_path, size):
    path = tmp_path / "a.fa.gz"
    body = "\n".join("ACGT"[i] * 50 for i in np.random.default_rng(0).integers(0, 4, 9999))
    path.write_bytes(gzip.compress(f">chr1\n{body}".encode())[:size])
    with pytest.raises(FileFormatError, match="end early"):
        read_genome(path)


def test_a_name_that_is_neither_built_in_nor_a_file_is_refused():
    with pytest.raises(MissingFileError, match="hg38, hg19, mm10, mm39 nor a file"):
        read_genome("hg37")
    with pytest.raises(InputError, match="contigs must be one of"):
        read_genome("hg38", contigs="some")


def test_genes_and_blacklist_are_carried_and_checked(tmp_path):
    genes = written(tmp_path, "chr1\t5\t9\tA\t0\t+\n", "genes.bed")
    sizes = written(tmp_path, "1\t100\n2\t100\n")
    genome = read_genome(sizes, genes=genes, blacklist=["chr2:1-5"])
    assert genome.transcripts["gene_name"].tolist() == ["A"]
    assert genome.blacklist.to_numpy().tolist() == [["chr2", 1, 5]]
    again = read_genome(genome, blacklist=pd.DataFrame({"chrom": ["1"], "start": [0], "end": [2]}))
    assert again.transcripts is genome.transcripts
    assert len(again.blacklist) == 1
    assert read_genome(sizes, genes=genome.transcripts).transcripts is genome.transcripts
    with pytest.raises(
        InputError, match=r"1 of 1 chromosomes in blacklist are absent from genome toy \(chr9; "
    ):
        read_genome(sizes, blacklist=["chr9:1-5"])
    with pytest.raises(InputError, match="1 of 1 chromosomes in genes"):
        read_genome(sizes, genes=written(tmp_path, "chr9\t5\t9\tA\t0\t+\n", "genes.bed"))
    with pytest.raises(InputError, match="no column strand"):
        read_genome(sizes, genes=genome.transcripts.drop(columns="strand"))


def test_real_sizes_genes_and_blacklist_fit_together(data_dir):
    folder = data_dir / "annotation"
    genome = read_genome(
        folder / "chrom_sizes" / "hg38.chrom.sizes",
        genes=folder / "genes" / "hg38.refGene.txt.gz",
        blacklist=folder / "blacklist" / "hg38-blacklist.v2.bed.gz",
    )
    assert genome.chrom_sizes == Genome.builtin("hg38").chrom_sizes
    assert len(genome.transcripts) == 64_546
    assert len(genome.blacklist) == 636
