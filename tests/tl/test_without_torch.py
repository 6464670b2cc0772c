"""Verbs of the denoiser where PyTorch is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import gpuatac as ga

CALLS = {
    "denoise": "ga.tl.denoise(a)",
    "denoised_tracks": "ga.tl.denoised_tracks(a, region='chr1')",
    "differential_tracks": "ga.tl.differential_tracks(a, {'x': ['c']})",
}


@pytest.mark.parametrize("name", CALLS)
def test_a_verb_of_the_denoiser_names_the_extra_that_it_needs(name):
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "import anndata, gpuatac as ga\n"
        "a = anndata.AnnData(shape=(1, 0))\n"
        f"try:\n    {CALLS[name]}\n"
        "except ga.errors.MissingExtraError as error:\n    print(error)\n"
    )
    path = str(Path(ga.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONPATH": path})
    assert done.stdout == (
        f"tl.{name} needs PyTorch, which is not installed; install gpuatac with it: pip install 'gpuatac[nn]'.\n"
    )
