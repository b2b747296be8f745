"""The suite's own plugins: a failing hardware test runs again with a trace, and is replayed."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

FAILING = """
import pytest
from sim import cases, comparison
from spec.config import TINY

@pytest.mark.hardware
@pytest.mark.parametrize("seed", [3])
@pytest.mark.parametrize("config", [TINY], ids=lambda config: config.name)
def test_wrong(config, seed):
    report = comparison.run(config, cases.draw(4, 64, 4, 32, 1, seed))
    assert report.mismatches, "made to fail"

@pytest.mark.hardware
def test_right():
    assert not comparison.run(TINY, cases.draw(4, 64, 4, 32, 1, 1)).mismatches
"""


def test_a_failing_test_leaves_a_trace_and_a_replay_line(tmp_path: Path) -> None:
    (tmp_path / "test_made_to_fail.py").write_text(FAILING)
    (tmp_path / "conftest.py").write_text(
        'pytest_plugins = ["tests.plugins.waves", "tests.plugins.coverage"]\n'
    )
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\naddopts = --import-mode=importlib\nmarkers =\n    hardware: simulates\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--junitxml=junit.xml"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=500,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    lines = [line for line in done.stdout.splitlines() if line.startswith("REPLAY")]
    assert lines
    assert set(lines) == {
        "REPLAY module=made_to_fail config=tiny seed=3 : python -m pytest -p no:xdist --waves"
        " 'test_made_to_fail.py::test_wrong[tiny-3]'"
    }
    traces = list((tmp_path / "build" / "waves").rglob("*.fst"))
    assert len(traces) == 1  # nothing of the test that passed
    assert traces[0].stat().st_size > 1000
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
