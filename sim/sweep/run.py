"""Runs a sweep: stage after stage, each point once, dear stages only for points that earn them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sim.sweep import fabric, optimise, prune, tasks
from sim.sweep.names import SweepError
from sim.sweep.plan import Stage, Sweep
from sim.sweep.point import Point
from sim.sweep.progress import Report
from sim.sweep.store import Store
from sim.sweep.tasks import Row, Task

BATCH = 250
"""Estimates of one task: a tenth of a second."""


class Scheduler(Protocol):
    """Whatever runs tasks."""

    def run(self, asked: Iterable[Task]) -> Iterator[list[Row]]:
        """Rows of the tasks, as they finish, in any order."""


@dataclass
class Done:
    """A finished sweep."""

    sweep: Sweep
    points: list[Point]
    """In order of position; the baseline, if there is one, is the last."""
    rows: dict[str, dict[str, Row]]
    """By stage, then by a point's key."""

    def figures(self, point: Point) -> dict[str, Any]:
        """What is known of a point: the estimate, under what dearer stages found."""
        found: dict[str, Any] = {}
        for stage, rows in self.rows.items():
            row = rows.get(point.key)
            if row is not None and row.status == "ok":
                found |= self.stage_figures(point, stage)
        return found

    def stage_figures(self, point: Point, stage: str) -> dict[str, Any]:
        """Figures of one stage; the simulated cycles with the tokens per second that they make."""
        figures = dict(self.rows[stage][point.key].figures)
        if "decode_cycles" in figures:
            figures |= _speeds(point, figures, self.rows["estimate"][point.key].figures)
        return figures

    def stages_passed(self, point: Point) -> int:
        """How many stages a point went through with a result."""
        rows = [stage.get(point.key) for stage in self.rows.values()]
        return sum(row is not None and row.status == "ok" for row in rows)


def run(
    sweep: Sweep, store: Store, cache: Store | None, scheduler: Scheduler, report: Report
) -> Done:
    """Brings every point as far as it gets; what the store or the cache has is not run again.

    Raises:
        SweepError: results cannot be kept.
        VersionsDiffer: a worker is another program than this one.
    """
    runner = _Runner(sweep, store, cache, scheduler, report)
    points = runner.estimate()
    done = Done(sweep, points, {"estimate": runner.rows})
    for stage in sweep.stages[1:]:
        done.rows[stage.name] = runner.dear(stage, done)
    return done


class _Runner:
    def __init__(
        self, sweep: Sweep, store: Store, cache: Store | None, scheduler: Scheduler, report: Report
    ) -> None:
        self._sweep, self._store, self._cache = sweep, store, cache
        self._scheduler, self._report = scheduler, report
        self.rows: dict[str, Row] = {}
        """Of the estimate, by key."""

    def estimate(self) -> list[Point]:
        """All points, each estimated."""
        sweep, stage = self._sweep, self._sweep.stages[0]
        reference = sweep.reference()
        extra = [reference] if reference else []
        if sweep.mode == "optimise":
            self._report.begin(stage.name, 0, 0)
            self._estimated(extra)
            points = distinct([*optimise.search(sweep, self._estimated), *extra])
            self._plan(points)
        else:
            points = distinct([*sweep.grid(), *extra])
            self._plan(points)
            self._estimated(points)
        self._store.judge({
            point.position: self.rows[point.key].reason
            for point in points if self.rows[point.key].reason
        })  # fmt: skip
        return points

    def dear(self, stage: Stage, done: Done) -> dict[str, Row]:
        """One later stage: its points and, for the others, why not."""
        chosen, rows = self._select(stage, done)
        return rows | {row.key: row for row in self._run(stage, chosen)}

    def _plan(self, points: list[Point]) -> None:
        """Tells the store; of points that are equal the first one stands."""
        self._store.plan(points, {"sweep": describe(self._sweep)})

    def _estimated(self, points: Sequence[Point]) -> list[Row]:
        """Rows of some points, after the constraints on what is estimated."""
        if not points:
            return []
        rows = [self._judged(point, row) for point, row in
                zip(points, self._run(self._sweep.stages[0], points), strict=True)]  # fmt: skip
        self.rows |= {row.key: row for row in rows}
        return rows

    def _judged(self, point: Point, row: Row) -> Row:
        """The row, infeasible if its figures break a constraint of this sweep."""
        if row.status != "ok" or not self._sweep.after:
            return row
        names = {**point.known(), **row.figures}
        broken = next((one for one in self._sweep.after if not one.met(names)), None)
        if broken is None:
            return row
        reason = f"constraint {broken.text} is not met"
        return dataclasses.replace(row, status="infeasible", reason=reason)

    def _run(self, stage: Stage, points: Sequence[Point]) -> list[Row]:
        """Rows of some points in their order: kept ones, and those that are missing."""
        whole = tasks.task(stage.name, tuple(points), self._sweep.seed, stage.options)
        digests = {tasks.digest(whole, point): point for point in points}
        found = self._store.finished(digests)
        missing = [name for name in digests if name not in found]
        if self._cache is not None and missing:
            cached = self._cache.finished(missing)
            self._store.add(cached.values())
            found |= cached
        missing = [name for name in digests if name not in found]
        if stage.name != "estimate" or self._sweep.mode == "grid":
            self._report.begin(stage.name, len(digests), len(found))
        size = BATCH if stage.name == "estimate" else 1
        asked = [
            dataclasses.replace(
                whole, points=tuple(digests[name] for name in missing[start : start + size])
            )
            for start in range(0, len(missing), size)
        ]
        for rows in self._scheduler.run(asked) if asked else ():
            self._store.add(rows)
            if self._cache is not None:
                self._cache.add(row for row in rows if row.status in ("ok", "infeasible"))
            found |= {row.digest: row for row in rows}
            self._report.add(rows)
        self._report.end()
        return [found[name] for name in digests]

    def _select(self, stage: Stage, done: Done) -> tuple[list[Point], dict[str, Row]]:
        """Points that a stage takes, and a row for each that it does not."""
        sweep = self._sweep
        whole = tasks.task(stage.name, (), sweep.seed, stage.options)
        reference = sweep.reference()
        always = {reference.key} if reference else set()
        able, rows = [], {}
        before = list(done.rows)
        for point in done.points:
            last = done.rows[before[-1]][point.key]
            if last.status == "ok":
                able.append(point)
            else:
                if last.status == "pruned":
                    reason = f"pruned before {last.stage}: {last.reason}"
                else:
                    reason = f"{last.stage} {last.status}: {last.reason}"
                rows[point.key] = tasks.row(whole, point, "pruned", _short(reason))
        chosen = [point for point in able if point.key in always]
        free = [point for point in able if point.key not in always]
        figures = [done.figures(point) for point in free]
        inside, out = prune.choose(
            figures, sweep.objectives, stage.points or len(free), sweep.tolerance
        )
        for index, above in out.items():
            reason = f"not among the {stage.points} of the stage: on the Pareto front, but crowded"
            if above is not None:
                reason = f"dominated by point {free[above].position}"
            rows[free[index].key] = tasks.row(whole, free[index], "pruned", reason)
        self._store.add(rows.values())
        # A result that an earlier plan paid for says more than that it is not wanted now.
        kept = self._store.finished(row.digest for row in rows.values())
        rows |= {row.key: row for row in kept.values()}
        return chosen + [free[index] for index in inside], rows


def _speeds(point: Point, ran: Mapping[str, Any], estimated: Mapping[str, Any]) -> dict[str, float]:
    """Tokens per second of simulated cycles and what the estimate says of the processor."""
    per_ms = point.config.clock_mhz * 1e3
    vectors = fabric.prefill_tokens(point.config, point.workload)
    decode = ran["decode_cycles"] / per_ms + estimated["decode_processor_ms"]
    prefill = ran["prefill_cycles"] / per_ms + estimated["prefill_processor_ms"]
    return {
        "tokens_per_second": round(1e3 * point.workload.pass_tokens / decode, 4),
        "prefill_tokens_per_second": round(1e3 * vectors / prefill, 4),
    }


def distinct(points: Iterable[Point]) -> list[Point]:
    """Of points that are equal the first one."""
    found: dict[str, Point] = {}
    for point in points:
        found.setdefault(point.key, point)
    return list(found.values())


def describe(sweep: Sweep) -> dict[str, Any]:
    """A sweep as JSON, for the store and the report."""
    return {
        "name": sweep.name, "mode": sweep.mode, "seed": sweep.seed, "baseline": sweep.baseline,
        "base": sweep.base.as_dict(), "workload": dataclasses.asdict(sweep.workload),
        "axes": {axis.name: list(axis.values) for axis in sweep.axes},
        "constraints": [one.text for one in sweep.constraints],
        "objectives": dict(sweep.objectives),
        "stages": {stage.name: {"points": stage.points, **stage.options}
                   for stage in sweep.stages},
        "tolerance": sweep.tolerance,
    }  # fmt: skip


def recommend(done: Done) -> Point | None:
    """The best of the points that went farthest: by the objectives in order, none of them a point
    that is worse than the baseline in the first. None: no point is feasible."""
    sweep = done.sweep
    able = [point for point in done.points if done.rows["estimate"][point.key].status == "ok"]
    able = [point for point in able if _holds(done, point)]
    if not able:
        return None
    most = max(done.stages_passed(point) for point in able)
    able = [point for point in able if done.stages_passed(point) == most]
    met = [point for point in able if done.figures(point).get("depth_rule_met", True)]
    able = met or able
    values = prune.matrix([done.figures(point) for point in able], sweep.objectives)
    reference = sweep.reference()
    place = next((i for i, one in enumerate(able) if reference and one.key == reference.key), None)
    if place is not None:
        good = [index for index in range(len(able)) if values[index][0] >= values[place][0]]
        able, values = [able[index] for index in good], values[good]
    return able[prune.ranked(values, 1, sweep.tolerance)[0]]


def _holds(done: Done, point: Point) -> bool:
    """Whether the figures of the dearest stage still meet the constraints."""
    names = {**point.known(), **done.figures(point)}
    with contextlib.suppress(KeyError):
        return all(one.met(names) for one in done.sweep.after)
    raise SweepError(f"point {point.position} lacks a figure that a constraint names")


def _short(text: str, most: int = 160) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
