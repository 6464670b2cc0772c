"""The deep library that denoisers are trained on."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from gpuatac.errors import InputError, OutputExistsError
from gpuatac.simulate import simulate_library
from gpuatac.simulate.library_model import BIN, expected_cuts, fragments


def test_files_are_fragments_of_one_library(tmp_path):
    made = simulate_library(tmp_path / "deep", n_chroms=2, chrom_size=200_000, seed=3)
    with gzip.open(made.fragments, "rt") as lines:
        rows = [line.split("\t") for line in lines if not line.startswith("#")]
    assert len(rows) == made.n_fragments > 1000
    assert {row[0] for row in rows} == {"sim1", "sim2"}
    assert {row[3] for row in rows} == {"library"}
    start, end = (np.array([int(row[k]) for row in rows]) for k in (1, 2))
    assert (start >= 0).all()
    assert (end <= 200_000).all()
    assert ((end - start) >= 20).all()
    for name in ("sim1", "sim2"):
        here = np.array([row[0] == name for row in rows])
        assert (np.diff(start[here]) >= 0).all()
    assert made.chrom_sizes.read_text() == "sim1\t200000\nsim2\t200000\n"


def test_the_same_seed_gives_the_same_file(tmp_path):
    texts = [
        simulate_library(tmp_path / f"{k}", n_chroms=1, chrom_size=100_000, seed=s).fragments
        for k, s in enumerate((1, 1, 2))
    ]
    contents = [gzip.open(path).read() for path in texts]
    assert contents[0] == contents[1]
    assert contents[0].split(b"\n", 1)[1] != contents[2].split(b"\n", 1)[1]


def test_an_anchoring_cut_of_each_fragment_follows_the_expectation():
    """All cuts in one bin: every fragment has an end there."""
    cuts = np.zeros(10_000)
    cuts[5_000] = 400
    start, end = fragments(np.random.default_rng(0), cuts, 80_000)
    at = 5_000 * BIN
    anchored = ((start >= at) & (start < at + BIN)) | ((end - 1 >= at) & (end - 1 < at + BIN))
    assert anchored.all()
    assert 140 < start.size < 260


def test_expected_cuts_have_peaks_above_a_background():
    rate = expected_cuts(np.random.default_rng(5), 1_000_000)
    assert rate.min() > 0
    assert 0.02 < np.median(rate) < 0.3
    assert rate.max() > 50 * np.median(rate)


def test_bad_arguments_and_existing_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="chrom_size"):
        simulate_library(tmp_path / "x", chrom_size=10)
    simulate_library(tmp_path / "x", n_chroms=1, chrom_size=100_000)
    with pytest.raises(OutputExistsError):
        simulate_library(tmp_path / "x", n_chroms=1, chrom_size=100_000)
