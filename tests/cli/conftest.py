"""A small sample, and the command line in this process."""

from __future__ import annotations

import logging

import pytest

import gpuatac as ga
from gpuatac.cli import main

TOY = {"chr1": 1_500_000, "chr2": 900_000, "chrM": 16_569}


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    return ga.simulate_fragments(
        tmp_path_factory.mktemp("small") / "s", n_cells=60, n_types=2, fragments_per_cell=800,
        genome=ga.Genome("toy", TOY), n_genes=30, n_distal_peaks=300, doublet_rate=0.0, seed=3,
    )  # fmt: skip


@pytest.fixture
def cli(capsys):
    """``main`` in this process: (exit code, stdout, stderr); logging is put back afterwards."""
    logger = logging.getLogger("gpuatac")
    before = (logger.handlers[:], logger.level, logger.propagate)

    def call(*arguments):
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as stop:
            code = stop.code
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return code, shown.out, shown.err

    yield call
    for handler in logger.handlers:
        handler.close()
    logger.handlers, logger.propagate = before[0], before[2]
    logger.setLevel(before[1])
    ga.quiet()
