"""Cycles and resources are the stored ones; what rises has a line that says why."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.sim import budgets
from tests.sim.budgets import Budget


@pytest.mark.parametrize(
    "budget",
    [pytest.param(budget, id=budget.kind, marks=[pytest.mark.slow] if budget.slow else [])
     for budget in budgets.BUDGETS],
)  # fmt: skip
def test_figures_are_the_baseline(budget: Budget) -> None:
    difference = budgets.moved(budgets.stored(budget.kind), budget.find())
    assert not difference, (
        f"{'; '.join(difference)}: run make baselines, and say why in CHANGELOG.md"
    )


def test_every_budget_has_a_baseline() -> None:
    files = {path.stem for path in budgets.FOLDER.glob("*.json")}
    assert files == {budget.kind for budget in budgets.BUDGETS}
    assert set(budgets.stored("cycles")) == set(budgets.SHAPES)
    named = {budgets._named(job) for count in budgets.VECTORS for job in budgets.operations(count)}
    for kind in ("cycles_kv260", "estimates_kv260"):
        assert set(budgets.stored(kind)) == named


def test_the_estimates_are_those_of_the_simulated_shapes() -> None:
    """Within 2 %, as the model promises: so a quick test stands for the slow one."""
    simulated, estimated = budgets.stored("cycles_kv260"), budgets.stored("estimates_kv260")
    for name, cycles in simulated.items():
        assert estimated[name] == pytest.approx(cycles, rel=0.02), name


def test_what_rose_since_the_last_commit_is_explained() -> None:
    """Compared with the committed baselines, and those of the commit before."""
    text = budgets.CHANGELOG.read_text()
    for budget in budgets.BUDGETS:
        now = budgets.stored(budget.kind)
        for revision in ("HEAD", "HEAD~1"):
            done = subprocess.run(
                ["git", "show", f"{revision}:tests/baselines/{budget.kind}.json"],
                cwd=budgets.FOLDER, capture_output=True, text=True, check=False,
            )  # fmt: skip
            before = json.loads(done.stdout) if done.returncode == 0 else {}
            assert not budgets.unexplained(before, now, text)


def test_the_difference_says_what_moved_and_which_way() -> None:
    before, after = {"a 1x2": 100, "b": 50, "c": 7}, {"a 1x2": 110, "b": 40, "d": 1}
    assert budgets.moved(before, after) == [
        "a 1x2: 100 -> 110 (+10.00%)", "b: 50 -> 40 (-20.00%)", "c: 7 -> None", "d: None -> 1",
    ]  # fmt: skip
    assert budgets.unexplained(before, after, "- nothing") == ["a 1x2: 100 -> 110"]
    assert budgets.unexplained(before, after, "- budget: a 1x2 110, for the new check") == []
    assert budgets.unexplained(before, after, "- budget: a 1x2 105") == ["a 1x2: 100 -> 110"]
    half = {"tiny bram36": 1.0}, {"tiny bram36": 1.5}
    assert budgets.unexplained(*half, "- budget: tiny bram36 1.5, deeper") == []
    assert budgets.unexplained(*half, "- budget: tiny bram36 15") == ["tiny bram36: 1.0 -> 1.5"]
