"""Regions in words, against contigs whose names look like regions themselves."""

from __future__ import annotations

import numpy as np
import pytest

from gpuatac import Genome
from gpuatac.errors import InputError
from gpuatac.io.genome.bed import regions_frame
from gpuatac.io.genome.regions import parse_region, parse_regions, window_on

HOSTILE = {
    "chr1": 10_000,
    "chr11": 20_000,
    "chrUn_KI270302v1": 2_274,
    "HLA-A*01:01:01:01": 3_503,
    "HLA-A*01:01": 900,
    "scaffold": 700,
    "scaffold:1-2": 500,
    "a,b": 300,
    "1,000": 200,
    "x-5-9": 100,
    "x": 90,
    "NC_000001_10_20": 80,
    "GL000194.1": 191_469,
    ":odd:": 60,
}
GENOME = Genome("hostile", HOSTILE)


@pytest.mark.parametrize("name", HOSTILE)
def test_every_contig_is_found_alone_from_a_base_on_and_between_two_bases(name):
    size = HOSTILE[name]
    assert parse_region(name, GENOME) == (name, 0, size)
    assert parse_region(f"  {name}:7 ", GENOME) == (name, 7, size)
    assert parse_region(f"{name}:7-", GENOME) == (name, 7, size)
    for text in (f"{name}:7-1,234", f"{name}-7-1234", f"{name}_7_1234"):
        assert parse_region(text, GENOME) == (name, 7, 1234)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("scaffold:1-2", ("scaffold:1-2", 0, 500)),  # the longest name wins
        ("scaffold:1-3", ("scaffold", 1, 3)),
        ("scaffold:1-2:3-4", ("scaffold:1-2", 3, 4)),
        ("HLA-A*01:01:01:01", ("HLA-A*01:01:01:01", 0, 3503)),
        ("HLA-A*01:01:01", ("HLA-A*01:01", 1, 900)),
        ("x-5-9", ("x-5-9", 0, 100)),
        ("x-5-8", ("x", 5, 8)),
        ("chr11:5-9", ("chr11", 5, 9)),
        ("11:5-9", ("11", 5, 9)),  # the genome's other spelling of chr11
        ("1,000:1,000-2,000", ("1,000", 1000, 2000)),
        ("absent:5-9", ("absent", 5, 9)),  # whoever asks says that the genome lacks it
    ],
)
def test_longest_name_of_the_genome_that_fits_is_the_contig(text, expected):
    assert parse_region(text, GENOME) == expected


@pytest.mark.parametrize(
    "text",
    ["", "absent", "chr1:", "chr1:-5", "chr1:9-5", "chr1:1,00-2,000", "chr1:1,,000-2", "chr1:5-9x", "chr1:5-3000000000", "chr12"],
)
def test_what_names_no_region_gives_none(text):
    assert parse_region(text, GENOME) is None
    with pytest.raises(InputError, match="region must look like"):
        window_on(GENOME, text)


def test_without_a_genome_the_last_two_numbers_are_the_coordinates():
    assert parse_region("HLA-A*01:01:01:01:5-9") == ("HLA-A*01:01:01:01", 5, 9)
    assert parse_region("scaffold:1-2") == ("scaffold", 1, 2)
    assert parse_region("chr1") is None
    assert parse_region("chr1:5-") is None


def test_windows_lie_on_the_genome():
    assert window_on(GENOME, "scaffold:1-2") == (GENOME.code["scaffold:1-2"], 0, 500)
    assert window_on(GENOME, "chr1:9,000-10,000") == (GENOME.code["chr1"], 9000, 10_000)
    for text, match in (("chr9:1-2", "lacks"), ("chr1:5-10,001", "the size of chr1"), ("chr1:5-5", "start < end")):
        with pytest.raises(InputError, match=match):
            window_on(GENOME, text)


def test_frames_of_names_resolve_against_the_genome():
    names = ["scaffold:1-2", "HLA-A*01:01:01:01:5-9", "chr1"]
    assert regions_frame(names, GENOME).values.tolist() == [
        ["scaffold:1-2", 0, 500], ["HLA-A*01:01:01:01", 5, 9], ["chr1", 0, 10_000]
    ]  # fmt: skip
    assert parse_regions(["chr1:5-9"], GENOME)["start"].dtype == np.int64
    assert parse_regions([], GENOME) is None


def test_figures_and_denoiser_read_the_same_regions():
    from gpuatac.pl._track_data import window_of
    from gpuatac.tl._denoise import region_set

    code = GENOME.code["scaffold:1-2"]
    window, _ = window_of(GENOME, None, gene=None, region="scaffold:1-2", upstream=0, downstream=0)
    assert tuple(window) == (code, 0, 500)
    found = region_set(["scaffold:1-2:100-200", "a,b:1-5"], GENOME)
    assert [(GENOME.names[c], int(s), int(e)) for c, s, e in zip(found.chrom, found.start, found.end, strict=True)] == [
        ("a,b", 1, 5), ("scaffold:1-2", 100, 200)
    ]  # fmt: skip


def test_coordinates_go_up_to_the_largest_of_32_bits_and_no_further():
    assert parse_region("chr1:0-2147483647") == ("chr1", 0, 2147483647)
    assert parse_region("chr1:0-2147483648") is None
