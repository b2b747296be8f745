"""The axes of a sweep: lists and ranges of values, and how many points they span.

Counts are computed, never made: a range of 1e12 steps is refused before it takes memory.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sim.sweep.names import CONFIG, WORKLOAD, SweepError, known

VALUES_MAX = 1_000_000
"""Of one axis."""

RANGE = ("from", "to", "step", "times")

Scalar = int | float | str


@dataclass(frozen=True)
class Axis:
    """One field and the values that it takes, in order."""

    name: str
    values: tuple[Scalar, ...]


def read(table: Any, where: str) -> tuple[Axis, ...]:
    """Axes from a table of lists and ranges ``{from, to, step}`` or ``{from, to, times}``.

    Raises:
        SweepError: an unknown field, an empty axis, or values that are no values.
    """
    if not isinstance(table, Mapping) or not table:
        raise SweepError(f"[{where}] is empty: give at least one field with its values")
    return tuple(_axis(name, value, where) for name, value in table.items())


def count(axes: tuple[Axis, ...]) -> int:
    """Points of the grid."""
    return math.prod(len(axis.values) for axis in axes)


def grid(axes: tuple[Axis, ...]) -> Iterator[dict[str, Scalar]]:
    """Every combination, the last axis fastest."""
    names = [axis.name for axis in axes]
    for values in itertools.product(*(axis.values for axis in axes)):
        yield dict(zip(names, values, strict=True))


def _axis(name: str, value: Any, where: str) -> Axis:
    known(f"field in [{where}]:", name, (*CONFIG, *WORKLOAD))
    place = f"[{where}] {name}"
    if isinstance(value, Mapping):
        values = _range(value, place)
    elif isinstance(value, list):
        values = value
    else:
        raise SweepError(
            f"{place} must be a list or a range such as {{from = 2, to = 16, times = 2}},"
            f" got {value!r}"
        )
    if not values:
        raise SweepError(f"{place} has no values: the grid is empty")
    for one in values:
        if isinstance(one, bool) or not isinstance(one, int | float | str):
            raise SweepError(f"{place} must hold numbers or texts, got {one!r}")
        if isinstance(one, float) and not math.isfinite(one):
            raise SweepError(f"{place} must hold finite numbers, got {one}")
    if len(set(values)) < len(values):
        raise SweepError(f"{place} has a value twice")
    return Axis(name, tuple(values))


def _range(table: Mapping[str, Any], place: str) -> list[Scalar]:
    """The values of a range, both ends included."""
    for key in table:
        known(f"key in {place}:", key, RANGE)
    for key, value in table.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
            or abs(value) > 1e15
        ):
            raise SweepError(f"{place}: {key} must be a number, got {value!r}")
    if not {"from", "to"} <= set(table) or ("step" in table) == ("times" in table):
        raise SweepError(f"{place} must have from, to and either step or times, got {dict(table)}")
    first, last = table["from"], table["to"]
    if last < first:
        raise SweepError(f"{place} runs from {first} to {last}: the grid is empty")
    if "step" in table:
        step = table["step"]
        if step <= 0:
            raise SweepError(f"{place}: step must be more than 0, got {step}")
        steps = math.floor((last - first) / step + 1e-9)
        _bounded(steps + 1, place)
        return [first + index * step for index in range(steps + 1)]
    times = table["times"]
    if times <= 1 or first <= 0:
        raise SweepError(
            f"{place}: times must be more than 1 and from more than 0, got {times} and {first}"
        )
    _bounded(math.log(last / first) / math.log(times) + 1, place)
    values = []
    while first <= last:
        values.append(first)
        first = first * times
    return values


def _bounded(number: float, place: str) -> None:
    if number > VALUES_MAX:
        raise SweepError(f"{place} has {number:.0f} values, at most {VALUES_MAX} are taken")
