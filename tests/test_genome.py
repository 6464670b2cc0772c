"""Chromosome sizes, their order and the names other sources give them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuatac import Genome
from gpuatac.errors import InputError
from gpuatac.genome import BUILTIN, MITO_NAMES, other_spelling
from gpuatac.io.genome.sizes import read_genome


@pytest.mark.parametrize(
    ("name", "n_main", "n_all", "chr1", "mito"),
    [
        ("hg38", 25, 455, 248956422, 16569),
        ("hg19", 25, 93, 249250621, None),
        ("mm10", 22, 66, 195471971, 16299),
        ("mm39", 22, 61, 195154279, 16299),
    ],
)
def test_builtin_assembly_has_its_published_sizes(name, n_main, n_all, chr1, mito):
    main, everything = Genome.builtin(name), Genome.builtin(name, contigs="all")
    assert (len(main.names), main.contigs) == (n_main, "main")
    assert len(everything.names) >= n_all - 5
    assert everything.contigs == "all"
    assert set(main.names) <= set(everything.names)
    assert main.chrom_sizes["chr1"] == chr1
    assert main.chrom_sizes["chrM"] in ({mito} if mito else {16569, 16571})
    assert sum(name.startswith("chr") for name in main.names) == n_main
    assert not any("_" in chrom for chrom in main.names)


def test_builtin_sizes_equal_the_published_files(data_dir):
    folder = data_dir / "annotation" / "chrom_sizes"
    compared = 0
    for name in BUILTIN:
        for file in folder.glob(f"*{name}*"):
            lines = [line.split("\t")[:2] for line in file.read_text().splitlines() if line and line[0] != "#"]
            published = {chrom: int(size) for chrom, size in lines}
            ours = Genome.builtin(name, contigs="all").chrom_sizes
            shared = set(ours) & set(published)
            assert len(shared) >= 22
            assert {c: ours[c] for c in shared} == {c: published[c] for c in shared}
            compared += 1
    assert compared > 0


def test_chromosomes_are_in_byte_order_of_their_names_whatever_the_source():
    genome = Genome("g", {"chr2": 5, "chrX": 1, "chr10": 2, "a": 7, "chr1": 3})
    assert genome.names == ("a", "chr1", "chr10", "chr2", "chrX")
    assert genome.sizes.tolist() == [7, 3, 2, 5, 1]
    assert genome.sizes.dtype == np.int64
    assert genome == Genome("g", dict(reversed(genome.chrom_sizes.items())))


@given(st.dictionaries(st.text(min_size=1, max_size=6), st.integers(1, 2**31 - 1), min_size=1, max_size=12))
def test_order_is_that_of_the_bytes_and_codes_point_back(sizes):
    genome = Genome("g", sizes)
    assert list(genome.names) == sorted(sizes, key=str.encode)
    assert [genome.names[c] for c in genome.codes_of(sizes)] == list(sizes)
    assert dict(zip(genome.names, genome.sizes.tolist(), strict=True)) == sizes


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("chr1", {"1"}),
        ("1", {"chr1"}),
        ("X", {"chrX"}),
        ("chrM", {"M", "MT", "chrMT"}),
        ("MT", {"M", "chrM", "chrMT"}),
        ("GL000194.1", {"chrGL000194.1"}),
    ],
)
def test_other_spellings_of_a_name(name, others):
    assert set(other_spelling(name)) == others


def test_names_with_and_without_chr_have_one_code():
    genome = Genome("g", {"chr1": 9, "chr2": 9, "chrM": 9})
    assert genome.codes_of(["1", "chr1", "2", "MT", "M", "chrMT", "chrM", "3", "Chr1", ""]).tolist() == [
        0, 0, 1, 2, 2, 2, 2, -1, -1, -1,
    ]
    plain = Genome("g", {"1": 9, "MT": 9})
    assert plain.codes_of(["chr1", "chrM", "1"]).tolist() == [0, 1, 0]


def test_a_name_of_the_genome_is_never_taken_for_another_spelling():
    genome = Genome("g", {"1": 5, "chr1": 6, "M": 7, "chrM": 8})
    assert [genome.names[c] for c in genome.codes_of(["1", "chr1", "M", "chrM"])] == ["1", "chr1", "M", "chrM"]


def test_mito_codes_follow_the_names_given():
    genome = Genome("g", {"chr1": 5, "chrM": 6, "mitochondrion": 7})
    assert [genome.names[c] for c in genome.mito_codes()] == ["chrM"]
    assert [genome.names[c] for c in genome.mito_codes(["mitochondrion"])] == ["mitochondrion"]
    assert genome.mito_codes([]) == []
    assert set(MITO_NAMES) == {"chrM", "M", "chrMT", "MT"}


def test_main_contigs_of_a_foreign_assembly():
    genome = Genome("g", {"chr1": 1, "chr1_alt": 1, "chrUn_GL1": 1, "12": 1, "Y": 1, "MT": 1, "chr100": 1, "chr0": 1})
    assert set(genome.select_contigs("main").names) == {"chr1", "12", "Y", "MT"}
    assert genome.select_contigs("all") is genome
    own_names = Genome("fly", {"2L": 1, "2R": 1})
    assert own_names.select_contigs("main") is own_names


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({}, "genome g has no chromosomes; give a chrom.sizes file"),
        ({"chr1": 0}, r"must lie in \[1, 2147483647\] bp, got chr1=0; correct the sizes"),
        ({"chr1": -5}, "chr1=-5"),
        ({"chr1": 2**31}, "chr1=2147483648"),
    ],
)
def test_sizes_that_no_chromosome_has_are_refused(sizes, message):
    with pytest.raises(InputError, match=message):
        Genome("g", sizes)


def test_unknown_assembly_and_unknown_contigs_are_refused():
    with pytest.raises(InputError, match=r"genome must be one of hg38, .*, mm39, got 'hg37'; read another from its chrom\.sizes"):
        Genome.builtin("hg37")
    with pytest.raises(InputError, match="contigs must be 'main' or 'all', got 'some'"):
        Genome.builtin("hg38", contigs="some")


def test_transcripts_and_blacklist_come_with_a_copy():
    genome = Genome("g", {"chr1": 5})
    table = pd.DataFrame({"chrom": ["chr1"], "start": [1], "end": [2]})
    assert genome.with_blacklist(table).blacklist is table
    assert genome.with_transcripts(table).transcripts is table
    assert genome.blacklist is None
    assert genome.transcripts is None
    assert genome.with_blacklist(table) == genome  # what it carries is not what it is


def test_contigs_say_which_were_kept_and_where_they_came_from(tmp_path):
    path = tmp_path / "toy.chrom.sizes"
    path.write_text("chr1\t100\nscaffold_7\t50\n")
    odd = tmp_path / "odd.chrom.sizes"
    odd.write_text("scaffold_7\t50\n")
    told = {
        "a file": read_genome(path), "all of a file": read_genome(path, contigs="all"), "a file of scaffolds": read_genome(odd),
        "a mapping": Genome("toy", {"chr1": 100}), "built in": Genome.builtin("mm10"),
        "all built in": Genome.builtin("mm10", contigs="all"),
        "main of a mapping": Genome("toy", {"chr1": 100, "scaffold_7": 50}).select_contigs("main"),
    }  # fmt: skip
    assert {what: genome.contigs for what, genome in told.items()} == {
        "a file": "main", "all of a file": "given", "a file of scaffolds": "given", "a mapping": "given", "built in": "main",
        "all built in": "all", "main of a mapping": "main",
    }  # fmt: skip
    assert [len(told[what].names) for what in ("a file", "all of a file", "a file of scaffolds")] == [1, 2, 1]
