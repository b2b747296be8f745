"""Cycles of the standard shapes are the stored ones; what rises has a line that says why."""

from __future__ import annotations

import subprocess

import pytest

from tests.sim import budgets


@pytest.mark.parametrize("name", budgets.SHAPES)
def test_cycles_are_the_baseline(name: str) -> None:
    wanted = budgets.stored(budgets.CYCLES)
    found = budgets.cycles(name)
    difference = budgets.moved({name: wanted[name]}, {name: found})
    assert not difference, f"{difference[0]}: run make baselines, and say why in CHANGELOG.md"


def test_every_shape_has_a_baseline() -> None:
    assert set(budgets.stored(budgets.CYCLES)) == set(budgets.SHAPES)


def test_what_rose_since_the_last_commit_is_explained() -> None:
    """Compared with the committed baselines, and those of the commit before."""
    text = budgets.CHANGELOG.read_text()
    now = budgets.stored(budgets.CYCLES)
    for revision in ("HEAD", "HEAD~1"):
        done = subprocess.run(
            ["git", "show", f"{revision}:tests/baselines/{budgets.CYCLES}.json"],
            cwd=budgets.FOLDER, capture_output=True, text=True, check=False,
        )  # fmt: skip
        before = budgets.json.loads(done.stdout) if done.returncode == 0 else {}
        assert not budgets.unexplained(before, now, text)


def test_the_difference_says_what_moved_and_which_way() -> None:
    before, after = {"a 1x2": 100, "b": 50, "c": 7}, {"a 1x2": 110, "b": 40, "d": 1}
    assert budgets.moved(before, after) == [
        "a 1x2: 100 -> 110 (+10.00%)", "b: 50 -> 40 (-20.00%)", "c: 7 -> None", "d: None -> 1",
    ]  # fmt: skip
    assert budgets.unexplained(before, after, "- nothing") == ["a 1x2: 100 -> 110"]
    assert budgets.unexplained(before, after, "- budget: a 1x2 110, for the new check") == []
    assert budgets.unexplained(before, after, "- budget: a 1x2 105") == ["a 1x2: 100 -> 110"]
