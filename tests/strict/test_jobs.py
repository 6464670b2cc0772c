"""Whole jobs on the stand-in give what they give on the CPU."""

from __future__ import annotations

import gzip
import shutil

import anndata as ad
import numpy as np
import pandas as pd
import pyBigWig
import pytest
from devices import HAS_GPU
from sklearn.metrics import adjusted_rand_score

import gpuatac as ga
from strict import installed

pytestmark = pytest.mark.skipif(HAS_GPU, reason="a GPU is here, and CuPy itself is tested (tests/test_devices_agree.py)")
TOY = {"chr1": 2_000_000, "chr2": 1_200_000, "chrM": 16_569}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """120 cells of 3 types on 3.2 Mb."""
    return ga.simulate_fragments(
        tmp_path_factory.mktemp("small") / "s", n_cells=120, n_types=3, fragments_per_cell=1500,
        genome=ga.Genome("toy", TOY), n_genes=60, n_distal_peaks=500, doublet_rate=0.05, seed=2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(small, library, tmp_path_factory):
    """The main job with some options on a device, once for each: its result."""
    made = {}

    def of(device, **options):
        key = (device, *sorted(options.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("run") / "out"
            common = {
                "genome": str(small.chrom_sizes), "genes": str(small.genes), "min_fragments": 50, "min_tsse": 0, "bin_size": 1000,
                "until": "coverage", "truth": small.cells,
            }  # fmt: skip
            if device == "cpu":
                made[key] = ga.run(small.fragments, folder, device="cpu", **common | options)
            else:
                with installed(library):
                    made[key] = ga.run(small.fragments, folder, device="gpu", **common | options)
        return made[key]

    return of


def read(result):
    return ad.read_h5ad(result.h5ad)


def values_of(bigwig):
    with pyBigWig.open(str(bigwig)) as file:
        return {chrom: file.intervals(chrom) for chrom in file.chroms()}


def test_main_job_counts_the_same_and_finds_the_same_cells(run):
    a, b = read(run("cpu")), read(run("gpu"))
    assert a.obs_names.tolist() == b.obs_names.tolist()
    assert a.var_names.tolist() == b.var_names.tolist()
    for column in ("n_fragment", "frac_dup", "frac_mito", "nucleosome_signal", "frip"):
        if column in a.obs:
            np.testing.assert_array_equal(a.obs[column], b.obs[column])
    np.testing.assert_allclose(a.obs["tsse"], b.obs["tsse"], rtol=1e-12)
    assert (a.X.astype(np.int64) != b.X.astype(np.int64)).nnz == 0
    np.testing.assert_array_equal(a.var["selected"], b.var["selected"])
    np.testing.assert_allclose(a.uns["spectral_eigenvalue"], b.uns["spectral_eigenvalue"], atol=1e-8)
    assert adjusted_rand_score(a.obs["leiden"], b.obs["leiden"]) > 0.9


def test_a_run_says_which_device_it_was_on(run):
    assert {record["device"] for record in ga.pp.history(read(run("gpu")))} == {"gpu"}
    report = run("gpu").report
    assert report["device"] == "gpu"
    assert report["peak_device_memory_bytes"] > 10_000_000
    assert "peak_device_memory_bytes" not in run("cpu").report


def test_little_memory_changes_nothing(run):
    """Columns go through the disk, matrices are counted in parts."""
    a, b = read(run("gpu")), read(run("gpu", memory="512M"))
    assert a.obs_names.tolist() == b.obs_names.tolist()
    assert (a.X.astype(np.int64) != b.X.astype(np.int64)).nnz == 0


@pytest.fixture(scope="module")
def groups(small, tmp_path_factory):
    """A table of groups, as a user has one."""
    file = tmp_path_factory.mktemp("groups") / "groups.tsv"
    truth = pd.read_csv(small.cells, sep="\t")
    truth.loc[truth["cell_type"].notna(), ["barcode", "cell_type"]].to_csv(file, sep="\t", index=False, header=False)
    return file


@pytest.mark.parametrize("output_format", ["narrowPeak", "broadPeak"])
def test_peaks_of_groups_from_files_are_the_same_bytes(small, groups, library, tmp_path, output_format):
    given = {"groups": groups, "genome": str(small.chrom_sizes), "consensus": True, "matrix": True, "output_format": output_format}
    ga.workflow.peaks(small.fragments, tmp_path / "cpu", device="cpu", **given)
    with installed(library):
        ga.workflow.peaks(small.fragments, tmp_path / "gpu", device="gpu", **given)
    names = sorted(path.name for path in (tmp_path / "cpu").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "gpu").iterdir())
    for name in names:
        if name.endswith(".h5ad"):
            x, y = (ad.read_h5ad(tmp_path / device / name).X for device in ("cpu", "gpu"))
            assert x.sum() > 0
            assert (x.astype(np.int64) != y.astype(np.int64)).nnz == 0
        else:
            assert (tmp_path / "cpu" / name).read_bytes() == (tmp_path / "gpu" / name).read_bytes()


@pytest.mark.parametrize(
    "options", [{}, {"bin_size": 1, "counting_strategy": "insertion"}, {"smooth_base": 150}, {"normalization": "CPM"}], ids=str
)
def test_coverage_of_groups_from_files_is_the_same(small, groups, library, tmp_path, options):
    given = {"groups": groups, "genome": str(small.chrom_sizes)} | options
    first = ga.workflow.coverage(small.fragments, tmp_path / "cpu", device="cpu", **given)
    with installed(library):
        second = ga.workflow.coverage(small.fragments, tmp_path / "gpu", device="gpu", **given)
    assert [path.name for path in first.files.values()] == [path.name for path in second.files.values()]
    for path in first.files.values():
        assert values_of(path) == values_of(tmp_path / "gpu" / path.name)


def test_groups_denoised_are_the_same(small, groups, library, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch", reason="the denoiser needs PyTorch (gpuatac[nn])")
    given = {"groups": groups, "genome": str(small.chrom_sizes), "regions": "chr1:100,000-400,000"}
    with installed(library), pytest.raises(ga.errors.DeviceUnavailableError, match="pass device='cpu'"):
        ga.workflow.denoise(small.fragments, tmp_path / "gpu", device="gpu", **given)
    assert not (tmp_path / "gpu").exists()
    # PyTorch has no stand-in: its tensors stay on the host, and share the memory of the stand-in's arrays
    monkeypatch.setattr("gpuatac.nn.denoising.inference.local_device", lambda _: torch.device("cpu"))
    first = ga.workflow.denoise(small.fragments, tmp_path / "cpu", device="cpu", **given)
    with installed(library):
        second = ga.workflow.denoise(small.fragments, tmp_path / "gpu", device="gpu", **given)
    assert sorted(first.files) == sorted(second.files)
    for path in (tmp_path / "cpu").glob("*.signal.bw"):
        a, b = values_of(path), values_of(tmp_path / "gpu" / path.name)
        assert a["chr1"]
        assert a == b


def test_a_run_goes_on_from_the_cpu_to_the_gpu(run, small, library, tmp_path):
    copied = shutil.copytree(run("cpu").h5ad.parent, tmp_path / "elsewhere")
    with installed(library):
        adata = ga.run(small.fragments, copied, device="gpu", from_step="knn", until="clusters").adata
    assert {record["device"] for record in ga.pp.history(adata)[-3:]} == {"gpu"}


def test_fragments_that_a_gpu_wrote_are_those_of_the_cpu(run, small):
    for device in ("cpu", "gpu"):
        adata = run(device).adata
        assert adata.n_obs > 100
    a, b = (ga.io.open_fragments(next(run(d).h5ad.parent.glob("*.fragments"))) for d in ("cpu", "gpu"))
    assert a.barcodes.tolist() == b.barcodes.tolist()
    for code, _ in a.chromosomes():
        for x, y in zip(a.columns(code), b.columns(code), strict=True):
            if x is not None:
                np.testing.assert_array_equal(x, y)
    with gzip.open(small.fragments, "rt") as file:
        assert sum(not line.startswith("#") for line in file) >= len(a)
