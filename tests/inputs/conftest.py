"""The command line in this process."""

from __future__ import annotations

import logging

import pytest

import gpuatac as ga
from gpuatac.cli import main


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
