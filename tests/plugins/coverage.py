"""Functional coverage: which bins of tests/plugins/bins.py the simulated matmuls of a run hit.

Every call of ``sim.comparison.run`` that ends is counted, in all test processes; the report is
``build/coverage.json`` and a few lines at the end. ``--bins-goal 95`` makes less a failure.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.plugins import bins

OUTPUT = "kria_llm_bins"

COUNTED: Counter[str] = Counter()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("hardware").addoption(
        "--bins-goal", type=float, default=None, metavar="PERCENT",
        help="fail unless so many of the functional bins are hit",
    )  # fmt: skip


def pytest_collection_finish(session: pytest.Session) -> None:
    """Counts from here on, where any test simulates a matmul."""
    if any(item.nodeid.startswith("tests/sim") for item in session.items):
        _install()


def _install() -> None:
    from sim import comparison

    exact = comparison.run
    if getattr(exact, "counts_bins", False):
        return

    def counted(config: Any, case: Any, fmt: str = "fp32", top_k: int = 0, **options: Any) -> Any:
        report = exact(config, case, fmt, top_k, **options)
        weights = case.weights
        COUNTED.update(bins.hit(
            config, weights.rows, weights.columns, weights.bits, weights.group, case.tokens,
            "top-k" if top_k else fmt, options.get("stall_seed") is not None,
        ))  # fmt: skip
        return report

    counted.counts_bins = True  # type: ignore[attr-defined]
    comparison.run = counted


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """A worker of xdist ended: what it counted."""
    COUNTED.update(getattr(node, "workeroutput", {}).get(OUTPUT, {}))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Writes the report; a worker hands its counts over instead."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput[OUTPUT] = dict(COUNTED)
        return
    goal = config.getoption("--bins-goal")
    if not COUNTED and goal is None:
        return
    report = summary(COUNTED)
    path = Path(config.rootpath) / "build" / "coverage.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")
    if goal is not None and report["percent"] < goal:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def summary(counted: Counter[str]) -> dict[str, Any]:
    """The report: share of the listed bins, hits of each, the missed ones."""
    names = bins.listed()
    missed = [name for name in names if not counted[name]]
    return {
        "listed": len(names),
        "hit": len(names) - len(missed),
        "percent": round(100 * (len(names) - len(missed)) / len(names), 2),
        "missed": missed,
        "hits": {name: counted[name] for name in names},
    }


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The share, and what is missed."""
    if not COUNTED and config.getoption("--bins-goal") is None:
        return
    report = summary(COUNTED)
    terminalreporter.section("functional coverage")
    terminalreporter.write_line(
        f"{report['hit']} of {report['listed']} bins ({report['percent']} %),"
        " in build/coverage.json"
    )
    for name in report["missed"][:10]:
        terminalreporter.write_line(f"  missed {name}")
