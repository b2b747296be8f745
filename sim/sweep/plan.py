"""A sweep as its TOML file says it: axes, workload, constraints, objectives, stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sim.sweep import axes, expression
from sim.sweep.axes import Axis, Scalar
from sim.sweep.expression import Constraint
from sim.sweep.names import CONFIG, DERIVED, METRICS, WORKLOAD, SweepError, known
from sim.sweep.point import Point, point
from sim.sweep.work import Workload
from spec import config as configuration
from spec import tomlfile
from spec.config import Config

LIMIT = 50_000
"""Points that a sweep takes without being asked for more: half a minute of estimates."""

MODES = ("grid", "optimise")
STAGES = ("estimate", "simulate", "synth", "build")
"""In order of cost."""

SHAPES = ("sampled", "full")

KEYS = ("name", "mode", "seed", "baseline", "config", "grid", "workload", "constraints",
        "objectives", "stages", "optimise", "recommend")  # fmt: skip
"""Of a sweep's file."""

OBJECTIVES = {"tokens_per_second": "max", "prefill_tokens_per_second": "max", "lut": "min"}
"""If a file names none."""

BASELINE = -1
"""Position of the baseline: it is no point of the grid."""


@dataclass(frozen=True)
class Optimise:
    """How a sweep searches instead of trying everything."""

    trials: int = 200
    population: int = 25
    """Trials that are asked for together; the next ones learn from them."""


@dataclass(frozen=True)
class Stage:
    """One fidelity."""

    name: str
    points: int | None
    """Most points that go through it; None: all."""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sweep:
    """What is to be done."""

    name: str
    mode: str
    seed: int
    baseline: str | None
    base: Config
    axes: tuple[Axis, ...]
    workload: Workload
    constraints: tuple[Constraint, ...]
    objectives: Mapping[str, str]
    """Metric -> ``max`` or ``min``, the most important first."""
    stages: tuple[Stage, ...]
    optimise: Optimise = field(default_factory=Optimise)
    tolerance: float = 0.01
    """Share by which two values of an objective may differ and count as equal."""

    @property
    def before(self) -> tuple[Constraint, ...]:
        """Constraints that the estimate need not be known for."""
        return tuple(one for one in self.constraints if not one.names & set(METRICS))

    @property
    def after(self) -> tuple[Constraint, ...]:
        """The others."""
        return tuple(one for one in self.constraints if one.names & set(METRICS))

    def point(self, position: int, values: Mapping[str, Scalar]) -> Point:
        """The point at some values of the axes; one that cannot be built says why."""
        return point(position, self.base, self.workload, values, self.before)

    def reference(self) -> Point | None:
        """The baseline as a point, or None."""
        if self.baseline is None:
            return None
        config = configuration.load(self.baseline)
        return Point(BASELINE, {}, config, self.workload)

    def grid(self) -> Iterator[Point]:
        """All points of the grid."""
        for position, values in enumerate(axes.grid(self.axes)):
            yield self.point(position, values)


def load(path: Path, limit: int = LIMIT) -> Sweep:
    """A sweep from its file.

    Args:
        limit: most points.

    Raises:
        SweepError, ConfigError, ShapeError, TimingError: what is wrong with it.
    """
    if not path.is_file():
        raise SweepError(f"no sweep {str(path)!r}: give a TOML file (benches/sweeps has some)")
    return from_mapping({"name": path.stem, **tomlfile.read(path, "sweep", SweepError)}, limit)


def only_estimate(sweep: Sweep) -> Sweep:
    """The sweep without its dearer stages."""
    return dataclasses.replace(sweep, stages=sweep.stages[:1])


def from_mapping(values: dict[str, Any], limit: int = LIMIT) -> Sweep:
    """A sweep from the values of its file.

    Raises:
        SweepError, ConfigError, ShapeError, TimingError: what is wrong with it.
    """
    for key in values:
        known("key of a sweep:", key, KEYS)
    mode = known("mode", values.get("mode", "grid"), MODES)
    fixed = _table(values, "config", ("preset", *CONFIG))
    work = _table(values, "workload", WORKLOAD)
    swept = axes.read(values.get("grid"), "grid")
    for axis in swept:
        if axis.name in fixed or axis.name in work:
            raise SweepError(f"{axis.name} is set in [grid] and fixed elsewhere: keep one of them")
    search = _record(Optimise, values, "optimise", {"trials": 1_000_000, "population": 1000})
    number = search.trials if mode == "optimise" else axes.count(swept)
    if number > limit:
        raise SweepError(
            f"the sweep has {number:,} points, more than the limit of {limit:,}: narrow it, or pass"
            f" --limit {number} if that is meant"
        )
    baseline = values.get("baseline")
    if baseline is not None:
        configuration.load(str(baseline))
    constraints = values.get("constraints", [])
    if not isinstance(constraints, list):
        raise SweepError(f"constraints must be a list of texts, got {constraints!r}")
    names = (*CONFIG, *DERIVED, *WORKLOAD, *METRICS)
    recommend = _table(values, "recommend", ("tolerance",))
    return Sweep(
        name=str(values.get("name", "sweep")),
        mode=mode,
        seed=_whole(values.get("seed", 1), "seed", 0, 2**32 - 1),
        baseline=None if baseline is None else str(baseline),
        base=configuration.from_mapping({"preset": "kv260", **fixed}),
        axes=swept,
        workload=Workload(**work),
        constraints=tuple(expression.constraint(one, names) for one in constraints),
        objectives=_objectives(values),
        stages=_stages(values),
        optimise=search,
        tolerance=_share(recommend.get("tolerance", 0.01), "[recommend] tolerance"),
    )


def _table(values: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> dict[str, Any]:
    """One table of the file, its keys known."""
    table = values.get(name, {})
    if not isinstance(table, Mapping):
        raise SweepError(f"[{name}] must be a table, got {table!r}")
    for key in table:
        known(f"field in [{name}]:", key, allowed)
    return dict(table)


def _record(kind: Any, values: Mapping[str, Any], name: str, most: dict[str, int]) -> Any:
    """A dataclass of whole numbers from a table."""
    table = _table(values, name, tuple(one.name for one in dataclasses.fields(kind)))
    return kind(**{
        key: _whole(value, f"[{name}] {key}", 1, most[key]) for key, value in table.items()
    })  # fmt: skip


def _objectives(values: Mapping[str, Any]) -> dict[str, str]:
    table = values.get("objectives", OBJECTIVES)
    if not isinstance(table, Mapping) or not table:
        raise SweepError("[objectives] must name at least one metric, such as lut = 'min'")
    for name, way in table.items():
        known("objective", name, METRICS)
        if way not in ("max", "min"):
            raise SweepError(f"objective {name} must be 'max' or 'min', got {way!r}")
    return dict(table)


def _stages(values: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The estimate, of all points, and the stages that are asked for."""
    table = _table(values, "stages", STAGES)
    found = []
    for name in STAGES:
        if name != "estimate" and name not in table:
            continue
        allowed = {"estimate": (), "simulate": ("points", "shapes")}.get(name, ("points",))
        own = _table(table, name, allowed) if name in table else {}
        points = None
        if name != "estimate":
            points = _whole(own.pop("points", 8), f"[stages.{name}] points", 1, 1_000_000)
        if name == "simulate":
            own = {"shapes": known("shapes", own.get("shapes", "sampled"), SHAPES)}
        found.append(Stage(name, points, own))
    return tuple(found)


def _whole(value: Any, what: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise SweepError(f"{what} must be a whole number in {low}..{high}, got {value!r}")
    return value


def _share(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise SweepError(f"{what} must lie in 0..1, got {value!r}")
    return float(value)
