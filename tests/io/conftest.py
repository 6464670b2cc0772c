"""Temporary: replaced by tests/conftest.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    path = Path(os.environ.get("GPUATAC_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"real data are not at {path}; set GPUATAC_TEST_DATA")
    return path
