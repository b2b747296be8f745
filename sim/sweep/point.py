"""One point of a sweep: a configuration and a workload, or why there is none."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from sim.sweep import work
from sim.sweep.expression import Constraint
from sim.sweep.names import DERIVED, WORKLOAD
from sim.sweep.work import Workload
from spec.config import Config
from spec.errors import UserError


@dataclass(frozen=True)
class Point:
    """Values of a sweep's axes and what they make."""

    position: int
    """In the sweep: of the grid, or of the trial that asked for it first."""
    values: Mapping[str, Any]
    """Of the axes."""
    config: Config
    """Of an infeasible point: the sweep's base."""
    workload: Workload
    reason: str = ""
    """Why it is infeasible; empty: it is not."""

    @cached_property
    def key(self) -> str:
        """32 hexadecimal digits over configuration and workload, or over the values that make no
        configuration."""
        if self.reason:
            text = json.dumps([self.config.as_dict() | dict(self.values), str(self.workload)])
        else:
            fields = dict(vars(self.config))
            del fields["name"]
            text = json.dumps(fields) + _identity(self.workload)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def known(self) -> dict[str, Any]:
        """What a constraint may name before the estimate."""
        return known(self.config, self.workload)


def known(config: Config, workload: Workload) -> dict[str, Any]:
    """Fields and derived properties by name."""
    found = {**vars(config), **vars(workload)}
    return found | {name: getattr(config, name) for name in DERIVED}


def point(
    position: int, base: Config, workload: Workload, values: Mapping[str, Any],
    constraints: tuple[Constraint, ...],
) -> Point:  # fmt: skip
    """The point at some values; infeasible if they break a rule or a constraint.

    Raises:
        SweepError: a constraint that cannot be computed.
    """
    fields = {name: value for name, value in values.items() if name not in WORKLOAD}
    task = {name: value for name, value in values.items() if name in WORKLOAD}
    try:
        config = dataclasses.replace(base, name="point", **fields)
        if task:
            workload = _workload(workload, tuple(task.items()))
    except UserError as problem:
        return Point(position, values, base, workload, str(problem))
    if constraints:
        names = known(config, workload)
        broken = next((one for one in constraints if not one.met(names)), None)
        if broken:
            return Point(position, values, base, workload, f"constraint {broken.text} is not met")
    return Point(position, values, config, workload)


@lru_cache(maxsize=256)
def _workload(base: Workload, values: tuple[tuple[str, Any], ...]) -> Workload:
    return work.from_mapping({**dataclasses.asdict(base), **dict(values)})


@lru_cache(maxsize=256)
def _identity(workload: Workload) -> str:
    return json.dumps(workload.identity(), sort_keys=True)
