"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import gpuatac
from gpuatac.backend import get, gpu_problem

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


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def bk(request: pytest.FixtureRequest):
    """Each backend in turn; without a GPU the second is skipped with the reason."""
    if request.param == "gpu" and (problem := gpu_problem()):
        pytest.skip(f"no GPU: {problem}")
    return get(request.param)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory):
    """A simulated sample, 200 cells of 4 types at 2,000 fragments, made once."""
    folder = tmp_path_factory.mktemp("sample")
    return gpuatac.simulate_fragments(
        folder / "sim", n_cells=200, n_types=4, fragments_per_cell=2000, n_genes=2000, n_distal_peaks=15000, seed=1
    )
