"""``metrics.qc`` asks every question in one pass and writes what the separate verbs write."""

from __future__ import annotations

import json

import numpy as np
import oracles
import pandas as pd
import pytest

import gpuatac as ga
from gpuatac import slots
from gpuatac.core.counting import quality
from gpuatac.errors import InputError

SIZES = {"chr1": 30_000, "chr2": 12_000, "chr3": 5_000, "chrM": 900}
BARCODES = ["AA-1", "CC-1", "GG-1", "TT-1"]
TRANSCRIPTS = pd.DataFrame(
    [
        oracles.Transcript("chr1", 9000, 12_000, "+", "t1", "g1", "G1"),
        oracles.Transcript("chr1", 17_000, 21_000, "-", "t3", "g2", "G2"),
        oracles.Transcript("chr2", 700, 5000, "+", "t4", "g3", "G3"),
    ]
)
BLACKLIST = ["chr1:100-4000", "chr1:3000-5000", "chr3:0-40", "chr8:1-5"]
REGIONS = {
    "frip": ["chr1:8500-9500", "chr2:0-800", "chrM:0-450"],
    "blacklist": ["chr2:0-12000"],
    "nowhere": ["chr1:29999-30000"],
}


def write(path, seed, n):
    rng = np.random.default_rng(seed)
    with path.open("w") as out:
        for _ in range(n):
            chrom = rng.choice(["chr1", "chr2", "chrM"], p=[0.6, 0.35, 0.05])  # none on chr3
            start = int(rng.integers(0, SIZES[chrom]))
            if chrom == "chr1" and rng.random() < 0.5:
                start = int(rng.choice([8990, 20_990])) + int(rng.integers(0, 20))
            end = min(start + int(rng.integers(1, 1500)), SIZES[chrom])
            out.write(f"{chrom}\t{start}\t{end}\t{rng.choice(BARCODES)}\t1\n")
    return path


@pytest.fixture
def two(tmp_path):
    files = [write(tmp_path / f"{name}.tsv", seed, n) for seed, (name, n) in enumerate([("one", 900), ("two", 400)])]
    return ga.pp.import_fragments(files, ga.Genome("toy", SIZES), min_num_fragments=1, device="cpu")


def separately(adata, regions=None):
    ga.metrics.frag_size_distr(adata, max_recorded_size=500)
    ga.metrics.nucleosome_signal(adata)
    ga.metrics.tsse(adata, TRANSCRIPTS)
    ga.metrics.blacklist_fraction(adata, BLACKLIST)
    ga.metrics.frip(adata, regions or REGIONS)


def together(adata, regions=None):
    ga.metrics.qc(adata, genes=TRANSCRIPTS, blacklist=BLACKLIST, regions=regions or REGIONS, max_recorded_size=500)


def test_every_slot_of_qc_equals_that_of_the_separate_verbs(two):
    one_by_one = two.copy()
    separately(one_by_one)
    together(two)
    pd.testing.assert_frame_equal(two.obs, one_by_one.obs, check_exact=True)
    assert set(two.uns) == set(one_by_one.uns)
    for key in (slots.TSS_PROFILE, slots.FRAG_SIZE_DISTR, slots.LIBRARY_TSSE, slots.FRAC_OVERLAP_TSS):
        assert type(two.uns[key]) is type(one_by_one.uns[key])
        np.testing.assert_array_equal(two.uns[key], one_by_one.uns[key])
        assert np.asarray(two.uns[key]).dtype == np.asarray(one_by_one.uns[key]).dtype
    assert {"frip", "blacklist", "nowhere", "blacklist_fraction", "tsse"} <= set(two.obs)


def test_qc_records_each_measure_as_the_separate_verbs_do(two):
    one_by_one = two.copy()
    separately(one_by_one)
    together(two)
    timeless = [[{**r, "seconds": 0} for r in ga.pp.history(adata)] for adata in (two, one_by_one)]
    assert timeless[0] == timeless[1]
    assert all(r["seconds"] >= 0 for r in ga.pp.history(two))
    json.dumps(timeless)


def test_qc_and_each_verb_pass_over_the_fragments_once_per_sample(two, monkeypatch):
    passes = []
    ask = quality.over_chromosomes

    def counted(*args, **kwargs):
        passes.append(1)
        return ask(*args, **kwargs)

    monkeypatch.setattr(quality, "over_chromosomes", counted)
    together(two)
    assert len(passes) == 2
    for verb in (
        lambda: ga.metrics.frip(two, REGIONS),
        lambda: ga.metrics.frip(two, REGIONS, count_as_insertion=True),
        lambda: ga.metrics.tsse(two, TRANSCRIPTS),
        lambda: ga.metrics.nucleosome_signal(two),
        lambda: ga.metrics.frag_size_distr(two),
        lambda: ga.metrics.blacklist_fraction(two, BLACKLIST),
    ):
        passes.clear()
        verb()
        assert len(passes) == 2


def test_regions_that_take_a_name_of_qc_replace_it_as_they_would_alone(two):
    regions = {"blacklist_fraction": ["chr1:0-30000"], "tsse": ["chr2:0-12000"]}
    one_by_one = two.copy()
    separately(one_by_one, regions)
    together(two, regions)
    pd.testing.assert_frame_equal(two.obs, one_by_one.obs, check_exact=True)


def test_a_wrong_argument_stops_qc_before_anything_is_counted_or_written(two):
    with pytest.raises(InputError, match="regions of mine"):
        ga.metrics.qc(two, genes=TRANSCRIPTS, regions={"mine": ["chr77:1-5"]})
    assert not {"tsse", "mine", "nucleosome_signal"} & set(two.obs)
    assert [r["verb"] for r in ga.pp.history(two)] == ["pp.import_fragments"]


def test_cells_without_fragments_in_a_sample_have_zeros_and_no_signal(two):
    part = two[[0]].copy()
    ga.metrics.qc(part, genes=TRANSCRIPTS, regions=REGIONS)
    whole = two.copy()
    ga.metrics.qc(whole, genes=TRANSCRIPTS, regions=REGIONS)
    for column in ("tsse", "frip", "nucleosome_signal"):
        assert part.obs[column].iloc[0] == whole.obs[column].iloc[0]


def test_a_sample_without_fragments_answers_with_zeros_of_the_right_shapes():
    from gpuatac.backend import get
    from gpuatac.core.counting.regions import Coordinates
    from gpuatac.fragments import Fragments

    none = np.empty(0, np.int32)
    empty = Fragments(
        ga.Genome("toy", SIZES), np.array(["A"]), np.zeros(len(SIZES) + 1, np.int64), none, none, none, none
    )
    from gpuatac.core.counting.counts import sample_rows

    bk = get("cpu")
    site = quality.Sites(np.array([0]), np.array([5]), np.array([False]))
    question = quality.Question(10, (147,), site, (Coordinates(np.array([0]), np.array([1]), np.array([9])),))
    found = quality.quality(bk, sample_rows(bk, empty, np.zeros(1, np.int32)), 3, question)
    assert found.lengths.tolist() == [0] * 11
    assert found.classes.tolist() == [[0, 0]] * 3
    assert found.in_regions.tolist() == [[0, 0, 0]]
    assert found.fragments.tolist() == [0, 0, 0]
    assert (found.tss.center.tolist(), found.tss.profile.size, found.tss[3:]) == ([0, 0, 0], 4001, (0, 0))
    alone = quality.quality(bk, sample_rows(bk, empty, np.zeros(1, np.int32)), 3, quality.Question())
    assert (alone.tss, alone.in_regions.shape, alone.lengths.tolist()) == (None, (0, 3), [0])
