"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import strict
from devices import DEVICES, HAS_GPU, on_device
from kernels.cpu_run import build, compiler

import gpuatac
from gpuatac.backend import get

if not HAS_GPU:
    strict.introduce()
REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True, scope="session")
def _quiet() -> None:
    gpuatac.quiet()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data: GPUATAC_TEST_DATA, else ../shared/data beside the checkout."""
    named = os.environ.get("GPUATAC_TEST_DATA")
    folder = Path(named) if named else REPO.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real data are not at {folder}; set GPUATAC_TEST_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def build_folder(request, tmp_path_factory):
    """Where the CPU builds of the kernels are kept from run to run."""
    if compiler() is None:
        pytest.skip("no C++ compiler: the kernels cannot be built for the CPU")
    cache = getattr(request.config, "cache", None)
    return tmp_path_factory.mktemp("kernels") if cache is None else cache.mkdir("kernels")


@pytest.fixture(scope="session")
def library(build_folder):
    """The kernels, compiled for the CPU."""
    return build(build_folder)


@pytest.fixture(params=DEVICES)
def bk(request: pytest.FixtureRequest):
    """Each backend in turn: the CPU's, and the GPU's on a GPU or on the stand-in."""
    with on_device(request) as device:
        yield get(device)


@pytest.fixture(name="strict")
def _strict(library):
    """The stand-in in the place of CuPy and RAPIDS, with its counts at nought."""
    if HAS_GPU:
        pytest.skip("a GPU is here, and CuPy itself is tested")
    with strict.installed(library) as state:
        yield state


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory):
    """A simulated sample, 200 cells of 4 types at 2,000 fragments, made once."""
    folder = tmp_path_factory.mktemp("sample")
    return gpuatac.simulate_fragments(
        folder / "sim", n_cells=200, n_types=4, fragments_per_cell=2000, n_genes=2000, n_distal_peaks=15000, seed=1
    )
