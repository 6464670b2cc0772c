"""A small sample and a finished run on it, shared by the tests of the main job."""

from __future__ import annotations

import shutil

import pytest

import gpuatac as ga

TOY = {"chr1": 2_000_000, "chr2": 1_200_000, "chrM": 16_569}
QUICK = {"device": "cpu", "min_fragments": 50, "min_tsse": 0, "bin_size": 1000, "until": "clusters"}


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """120 cells of 3 types on 3.2 Mb."""
    return ga.simulate_fragments(
        tmp_path_factory.mktemp("small") / "s", n_cells=120, n_types=3, fragments_per_cell=1500,
        genome=ga.Genome("toy", TOY), n_genes=60, n_distal_peaks=500, doublet_rate=0.05, seed=2,
    )  # fmt: skip


@pytest.fixture(scope="session")
def options(small):
    return {**QUICK, "genome": str(small.chrom_sizes), "genes": str(small.genes)}


@pytest.fixture(scope="session")
def done(small, options, tmp_path_factory):
    """A run to the clusters on the small sample; copied by tests that change it."""
    out = tmp_path_factory.mktemp("done") / "out"
    before = small.fragments.read_bytes()
    result = ga.run(small.fragments, out, truth=small.cells, **options)
    assert small.fragments.read_bytes() == before
    return result


@pytest.fixture
def copied(done, tmp_path):
    return shutil.copytree(done.h5ad.parent, tmp_path / "elsewhere")


@pytest.fixture(scope="session")
def whole(done, small, tmp_path_factory):
    """The same run, gone on to its peaks and coverage."""
    folder = shutil.copytree(done.h5ad.parent, tmp_path_factory.mktemp("whole") / "out")
    return ga.run(small.fragments, folder, device="cpu", from_step="peaks")


@pytest.fixture
def whole_copied(whole, tmp_path):
    return shutil.copytree(whole.h5ad.parent, tmp_path / "whole")
