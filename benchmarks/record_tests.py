"""A plugin of pytest (``-p record_tests``): each outcome is recorded as it comes, and a test that needs an absent library is skipped.

The library is named by the error that gpuatac raises where a verb needs one that is not installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from recording import record

from gpuatac.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A missing library is no failure of the test."""
    report = yield
    if report.failed and call.excinfo is not None and call.excinfo.errisinstance(MissingExtraError):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 0, f"Skipped: {call.excinfo.value}")
    return report


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A file of tests that cannot be read is a failure of its own."""
    if report.failed:
        lines = str(report.longrepr).splitlines()
        record("test", id=report.nodeid, outcome="failed", seconds=0.0, why=lines[-1][:300] if lines else "")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """One line for each test, and for a setup or teardown that did not pass."""
    if report.when != "call" and report.passed:
        return
    why = ""
    if report.skipped and isinstance(report.longrepr, tuple):
        why = str(report.longrepr[2]).removeprefix("Skipped: ")
    elif report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        why = str(getattr(crash, "message", report.longrepr)).splitlines()[0][:300]
    record("test", id=report.nodeid, outcome=report.outcome, seconds=round(report.duration, 2), why=why)
