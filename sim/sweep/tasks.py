"""A task: some points through one stage. Pure: the rows are the same whoever ran it."""

from __future__ import annotations

import datetime
import hashlib
import importlib
import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sim.sweep.estimate import Infeasible
from sim.sweep.point import Point
from sim.sweep.versions import versions
from spec.errors import ToolError, UserError

FUNCTIONS = {
    "estimate": "sim.sweep.estimate:run",
    "simulate": "sim.sweep.simulate:run",
    "synth": "sim.sweep.synth:run",
    "build": "sim.sweep.build:run",
}
"""By stage: ``(point, seed, options) -> figures``, as module and function, so that a worker on
another machine finds it."""

SEEDED = ("simulate",)
"""Stages whose result depends on the seed."""

FINAL = ("ok", "infeasible", "failed")
"""Statuses that another run need not try again."""


class VersionsDiffer(ToolError):
    """A worker whose sources or tools are not those of the sweep."""

    def __init__(self, worker: str, difference: str) -> None:
        super().__init__(worker, difference)
        self.worker, self.difference = worker, difference

    def __str__(self) -> str:
        return f"worker {self.worker} has other versions than the sweep: {self.difference}"


@dataclass(frozen=True)
class Row:
    """One point's result of one stage."""

    digest: str
    key: str
    stage: str
    status: str
    """``ok``; ``infeasible``, ``failed``, ``pruned`` or ``not run``, with a reason."""
    reason: str
    seed: int
    versions: Mapping[str, str]
    figures: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    finished: str = ""
    """UTC."""
    worker: str = ""


@dataclass(frozen=True)
class Task:
    """What a worker is asked for."""

    stage: str
    points: tuple[Point, ...]
    seed: int
    options: Mapping[str, Any]
    versions: Mapping[str, str]
    """That the worker must have."""
    function: str


def task(stage: str, points: tuple[Point, ...], seed: int, options: Mapping[str, Any]) -> Task:
    """A task with this process's versions."""
    return Task(stage, points, seed, options, versions(stage), FUNCTIONS[stage])


def digest(task: Task, point: Point) -> str:
    """32 hexadecimal digits over all that a result depends on."""
    asked = [point.key, task.stage, dict(task.options), dict(task.versions), task.function,
             task.seed if task.stage in SEEDED else 0]  # fmt: skip
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]


def execute(task: Task) -> list[Row]:
    """Runs a task, here.

    Raises:
        VersionsDiffer: this process is not what the sweep wants.
    """
    check_versions(task.stage, task.versions)
    module, _, name = task.function.partition(":")
    function = getattr(importlib.import_module(module), name)
    return [_one(task, point, function) for point in task.points]


def row(task: Task, point: Point, status: str, reason: str = "", **rest: Any) -> Row:
    """A row of a point that was not run, or whose figures are given."""
    return Row(
        digest(task, point), point.key, task.stage, status, reason, task.seed, task.versions,
        finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        worker=worker_name(), **rest,
    )  # fmt: skip


def check_versions(stage: str, wanted: Mapping[str, str]) -> None:
    """Raises VersionsDiffer unless this process has the versions."""
    found = versions(stage)
    different = [name for name in wanted if found.get(name) != wanted[name]]
    if different:
        name = different[0]
        raise VersionsDiffer(
            worker_name(), f"{name} is {found.get(name) or 'missing'!r}, not {wanted[name]!r}"
        )


def worker_name() -> str:
    """Of this process."""
    return f"{platform.node()}:{os.getpid()}"


def _one(task: Task, point: Point, function: Any) -> Row:
    """A point; whatever goes wrong with it is its own."""
    status, reason, figures, start = "ok", "", {}, time.perf_counter()
    try:
        if point.reason:
            raise Infeasible(point.reason)
        figures = function(point, task.seed, task.options)
    except Infeasible as problem:
        status, reason, figures = "infeasible", str(problem), problem.figures
    except ToolError as problem:
        status, reason = "not run", str(problem)
    except UserError as problem:
        status, reason = "failed", str(problem)
    except Exception as problem:  # a bug costs one point, not the night's sweep
        status, reason = "failed", f"internal error, {type(problem).__name__}: {problem}"
    spent = round(time.perf_counter() - start, 6)
    return row(task, point, status, " ".join(reason.split()), figures=figures, seconds=spent)
