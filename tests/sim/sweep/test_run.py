"""A whole sweep: every point once, what fails stays in the table, the rest goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sim.sweep import optimise, plan, table, tasks
from sim.sweep.local import Local
from sim.sweep.plan import Sweep
from sim.sweep.progress import Report
from sim.sweep.run import Done, recommend, run
from sim.sweep.store import FILE, Store
from sim.sweep.tasks import Row, Task
from tests.sim.sweep import slow_stage

ROOT = Path(__file__).parents[3]

SLOW = """
import sys
from pathlib import Path
from sim.sweep import local, tasks
from sim.sweep.command import sweep
tasks.FUNCTIONS["estimate"] = "tests.sim.sweep.slow_stage:run"
local.INLINE = ()
sweep(Path(sys.argv[1]), Path(sys.argv[2]), workers=2, no_cache=True)
"""
"""A sweep as a process of its own, its estimates slow and on workers."""

KILLED = """
[grid]
tile_rows = [16, 32, 64, 128, 256]
tokens = [1, 2, 4, 8, 16]
outstanding = [1, 2, 3, 4]
[objectives]
tokens_per_second = "max"
"""
"""100 points, of which a quarter fails."""


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate is the tests' own, and so is the simulation."""
    for stage in ("estimate", "simulate"):
        monkeypatch.setitem(tasks.FUNCTIONS, stage, slow_stage.NAME)
    monkeypatch.setattr(tasks, "versions", lambda stage: {"sources": "fixed"})
    monkeypatch.setattr("sim.sweep.local.INLINE", ("estimate", "simulate"))


def swept(sweep: Sweep, directory: Path, cache: Path | None = None, workers: int = 2) -> Done:
    local = Local(workers)
    try:
        with Store(directory / FILE) as store, Report(Console(quiet=True)) as report:
            kept = Store(cache) if cache else None
            return run(sweep, store, kept, local, report)
    finally:
        local.close()


def statuses(done: Done, stage: str) -> dict[Any, str]:
    return {point.position: done.rows[stage][point.key].status for point in done.points}


class Counting:
    """A scheduler that runs here and counts."""

    def __init__(self) -> None:
        self.points = 0

    def run(self, asked: Any) -> Any:
        for one in asked:
            self.points += len(one.points)
            yield tasks.execute(one)


def counted(sweep: Sweep, directory: Path, cache: Path) -> int:
    counting = Counting()
    with Store(directory / FILE) as store, Store(cache) as kept:
        run(sweep, store, kept, counting, Report(Console(quiet=True)))
    return counting.points


def test_failed_and_impossible_points_stay_in_the_table(fake: None, tmp_path: Path) -> None:
    sweep = plan.from_mapping({
        "grid": {"outstanding": [2, 3, 5, 9, 40]}, "objectives": {"tokens_per_second": "max"}
    })  # fmt: skip
    done = swept(sweep, tmp_path)
    assert list(statuses(done, "estimate").values()) == [
        "ok", "failed", "not run", "failed", "infeasible",
    ]  # fmt: skip
    reasons = [done.rows["estimate"][point.key].reason for point in done.points]
    assert reasons[1:4] == [
        "three is refused here", "a tool of this stage is missing",
        "internal error, ZeroDivisionError: a bug",
    ]  # fmt: skip
    assert "outstanding must lie in 1..32, got 40" in reasons[4]
    assert [row["status"] for row in table.rows(done)] == list(statuses(done, "estimate").values())


def test_a_worker_that_dies_costs_its_point_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLOW_STAGE_CALLS", str(tmp_path))
    sweep = plan.from_mapping({"grid": {"outstanding": [1, 2, 7, 4]}})
    points = tuple(sweep.grid())
    asked = [
        Task("estimate", (point,), 1, {}, tasks.versions("estimate"), slow_stage.NAME)
        for point in points
    ]
    local = Local(2)
    monkeypatch.setattr("sim.sweep.local.INLINE", ())
    try:
        found = {row.key: row for rows in local.run(asked) for row in rows}
    finally:
        local.close()
    assert [found[point.key].status for point in points] == ["ok", "ok", "failed", "ok"]
    assert "3 workers died of it" in found[points[2].key].reason
    calls = [path.name.split("-")[0] for path in tmp_path.iterdir()]
    assert sorted(calls) == ["0", "1", "2", "2", "2", "3"]


def test_the_next_stage_takes_the_best_and_says_why_not_the_others(
    fake: None, tmp_path: Path
) -> None:
    sweep = plan.from_mapping({
        "grid": {"outstanding": [1, 2, 3, 4, 6, 8]}, "baseline": "kv260",
        "objectives": {"tokens_per_second": "max"}, "recommend": {"tolerance": 0},
        "stages": {"simulate": {"points": 2}},
    })  # fmt: skip
    done = swept(sweep, tmp_path)
    # Point 5 is the baseline's own configuration, which is there anyway.
    assert [point.position for point in done.points] == [0, 1, 2, 3, 4, 5]
    found = {point.position: done.rows["simulate"][point.key] for point in done.points}
    assert [found[index].status for index in range(6)] == [
        "pruned", "pruned", "pruned", "ok", "ok", "ok",
    ]  # fmt: skip
    assert found[0].reason == "dominated by point 4"
    assert found[2].reason == "estimate failed: three is refused here"
    best = recommend(done)
    assert best is not None
    assert best.position == 5


def test_constraints_on_figures_are_the_sweeps_own(fake: None, tmp_path: Path) -> None:
    values = {"grid": {"outstanding": [1, 2, 4]}, "objectives": {"tokens_per_second": "max"}}
    done = swept(
        plan.from_mapping({**values, "constraints": ["tokens_per_second > 165"]}), tmp_path
    )
    assert list(statuses(done, "estimate").values()) == ["infeasible", "ok", "ok"]
    with Store(tmp_path / FILE, writing=False) as store:
        assert store.points()[0].reason == "constraint tokens_per_second > 165 is not met"
    # The same results serve a sweep that asks for less.
    done = swept(plan.from_mapping(values), tmp_path)
    assert set(statuses(done, "estimate").values()) == {"ok"}


def test_results_serve_another_sweep(fake: None, tmp_path: Path) -> None:
    values = {"grid": {"outstanding": [1, 2, 4]}, "objectives": {"tokens_per_second": "max"}}
    more = {**values, "grid": {"outstanding": [1, 2, 4, 6]}}
    cache = tmp_path / "cache" / "all.sqlite"
    assert counted(plan.from_mapping(values), tmp_path / "a", cache) == 3
    assert counted(plan.from_mapping(more), tmp_path / "b", cache) == 1
    assert counted(plan.from_mapping(more), tmp_path / "b", cache) == 0


def test_the_seed_counts_where_something_is_drawn() -> None:
    point = next(plan.from_mapping({"grid": {"tile_rows": [64]}}).grid())
    for stage, same in (("estimate", True), ("simulate", False)):
        asked = [tasks.task(stage, (point,), seed, {}) for seed in (1, 2)]
        assert (tasks.digest(asked[0], point) == tasks.digest(asked[1], point)) is same


def test_another_program_is_refused() -> None:
    point = next(plan.from_mapping({"grid": {"tile_rows": [64]}}).grid())
    asked = Task("estimate", (point,), 1, {}, {"sources": "other"}, slow_stage.NAME)
    with pytest.raises(tasks.VersionsDiffer, match=r"sources is .* not 'other'"):
        tasks.execute(asked)


@pytest.mark.parametrize("seed", range(3))
def test_a_search_asks_for_the_same_points_again(seed: int) -> None:
    sweep = plan.from_mapping({
        "mode": "optimise", "seed": seed, "optimise": {"trials": 60, "population": 10},
        "grid": {"tile_rows": [16, 32, 64, 128, 256], "outstanding": list(range(1, 40))},
        "objectives": {"tokens_per_second": "max", "lut": "min"},
    })  # fmt: skip

    def evaluate(points: Any) -> list[Row]:
        asked = tasks.task("estimate", tuple(points), 1, {})
        return [
            tasks.row(asked, point, "infeasible", point.reason) if point.reason else
            tasks.row(asked, point, "ok", figures={
                "tokens_per_second": point.config.tile_rows - abs(point.config.outstanding - 17),
                "lut": point.config.tile_rows,
            })
            for point in points
        ]  # fmt: skip

    first, second = (optimise.search(sweep, evaluate) for _ in range(2))
    assert [point.key for point in first] == [point.key for point in second]
    assert [point.position for point in first] == list(range(len(first)))
    assert len({point.key for point in first}) == len(first)
    best = min(abs(point.config.outstanding - 17) for point in first if not point.reason)
    assert best <= 1


def start(file: Path, output: Path, calls: Path, seconds: float) -> subprocess.Popen:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "SLOW_STAGE_SECONDS": str(seconds),
        "SLOW_STAGE_CALLS": str(calls), "COLUMNS": "200",
    }  # fmt: skip
    calls.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", SLOW, str(file), str(output)], env=environment, cwd=ROOT,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def killed_and_resumed(tmp_path: Path, kills: int, seconds: float, seed: int) -> None:
    """Kills a sweep at random moments, goes on, and compares with an undisturbed one."""
    file = tmp_path / "sweep.toml"
    file.write_text(KILLED)
    calm = start(file, tmp_path / "calm", tmp_path / "calm-calls", 0)
    moments = random.Random(seed)
    lost = 0
    for _ in range(kills):
        ran = start(file, tmp_path / "torn", tmp_path / "calls", seconds)
        time.sleep(moments.uniform(0.3, 0.3 + 150 * seconds / kills + 1.5))
        lost += ran.poll() is None
        ran.send_signal(signal.SIGKILL)
        ran.communicate()
    last = start(file, tmp_path / "torn", tmp_path / "calls", seconds)
    assert last.wait(300) == 0, last.communicate()
    assert calm.wait(300) == 0, calm.communicate()
    assert lost >= max(1, kills // 2)
    for name in ("results.csv", "results.json"):
        assert (tmp_path / "torn" / name).read_text() == (tmp_path / "calm" / name).read_text()
    with Store(tmp_path / "torn" / FILE, writing=False) as store:
        rows = store.all_rows()
        assert len(rows) == len({row.key for row in rows}) == len(store.points()) == 100
    counts = json.loads((tmp_path / "torn" / "results.json").read_text())["counts"]
    assert counts == {"estimate": {"failed": 25, "ok": 75}}


def test_a_killed_sweep_goes_on(tmp_path: Path) -> None:
    killed_and_resumed(tmp_path, kills=2, seconds=0.01, seed=1)


@pytest.mark.slow
def test_ten_kills(tmp_path: Path) -> None:
    killed_and_resumed(tmp_path, kills=10, seconds=0.1, seed=2)


def test_no_worker_outlives_its_sweep(tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(KILLED)
    ran = start(file, tmp_path / "out", tmp_path / "calls", 0.05)
    limit = time.monotonic() + 60
    while not list((tmp_path / "calls").iterdir()) and time.monotonic() < limit:
        time.sleep(0.05)
    ran.send_signal(signal.SIGKILL)
    ran.communicate()
    workers = {int(path.name.rsplit("-", 2)[1]) for path in (tmp_path / "calls").iterdir()}
    assert workers
    while any(Path(f"/proc/{pid}/cmdline").exists() for pid in workers):
        assert time.monotonic() < limit
        time.sleep(0.05)
