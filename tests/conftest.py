"""What all tests share: a skipped test fails the run, for it would prove nothing."""

from __future__ import annotations

from collections.abc import Generator

import pytest

pytest_plugins = ["tests.plugins.waves", "tests.plugins.coverage", "tests.plugins.simulators"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turns a skip into a failure: `make setup` provides every tool."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped: {report.longrepr}"
    return report
