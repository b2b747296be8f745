"""Which points are worth a dearer stage, and why the others are not.

Half of a stage's places go to the best by the sweep's objectives in their order, the other half to
points spread over the Pareto front of all objectives: the front's extremes first, then always the
one farthest from those that are in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Figures = Mapping[str, Any]


def matrix(figures: Sequence[Figures], objectives: Mapping[str, str]) -> np.ndarray:
    """[points, objectives], every column the larger the better."""
    signs = [1.0 if way == "max" else -1.0 for way in objectives.values()]
    rows = [[sign * one[name] for name, sign in zip(objectives, signs, strict=True)]
            for one in figures]  # fmt: skip
    return np.array(rows, float).reshape(len(rows), len(signs))


def front(values: np.ndarray) -> np.ndarray:
    """Indices of the points that no other point dominates."""
    # Sorted by sum, nothing that comes later dominates what came before.
    order = np.argsort(-_unit(values).sum(axis=1), kind="stable")
    kept: list[int] = []
    best = np.empty((0, values.shape[1]))
    for index in order:
        one = values[index]
        if not (np.all(best >= one, axis=1) & np.any(best > one, axis=1)).any():
            kept.append(int(index))
            best = np.vstack([best, one])
    return np.array(sorted(kept), int)


def ranked(values: np.ndarray, count: int, tolerance: float) -> list[int]:
    """The best ``count`` by the columns in order; within the tolerance two values are equal."""
    left = list(range(len(values)))
    found: list[int] = []
    while left and len(found) < count:
        best = _best(values, left, tolerance)
        found.append(best)
        left.remove(best)
    return found


def choose(
    figures: Sequence[Figures], objectives: Mapping[str, str], count: int, tolerance: float
) -> tuple[list[int], dict[int, int | None]]:
    """Indices of the points that go on; for every other one, one that dominates it, or None for a
    point of the Pareto front that had no place.

    Args:
        count: most points that go on.
        tolerance: share by which values of an objective may differ and count as equal.
    """
    if len(figures) <= count:
        return list(range(len(figures))), {}
    values = matrix(figures, objectives)
    chosen = ranked(values, -(-count // 2), tolerance)
    best = front(values)
    chosen += _spread(_unit(values), [int(one) for one in best], chosen, count - len(chosen))
    if len(chosen) < count:
        rest = [one for one in ranked(values, 2 * count, tolerance) if one not in chosen]
        chosen += rest[: count - len(chosen)]
    inside, on_front = set(chosen), set(best.tolist())
    out: dict[int, int | None] = {}
    for index in range(len(figures)):
        if index not in inside:
            out[index] = None if index in on_front else _dominator(values, index, best)
    return sorted(chosen), out


def _best(values: np.ndarray, left: list[int], tolerance: float) -> int:
    """The best of some points by the columns in order."""
    for column in values.T:
        top = max(column[index] for index in left)
        least = top - tolerance * abs(top)
        left = [index for index in left if column[index] >= least]
    # What the tolerance left is decided without it.
    return max(left, key=lambda index: (*values[index], -index))


def _spread(unit: np.ndarray, best: list[int], chosen: list[int], count: int) -> list[int]:
    """Points of the front: the best of each column, then the farthest from all that are in."""
    rest = [index for index in best if index not in chosen]
    found: list[int] = []
    for column in unit.T:
        if rest and len(found) < count:
            top = max(rest, key=lambda index: (column[index], -index))
            if column[top] >= max(column[index] for index in best):
                found.append(top)
                rest.remove(top)
    while rest and len(found) < count:
        inside = unit[[*chosen, *found]]
        gaps = [float(np.min(((inside - unit[index]) ** 2).sum(axis=1))) for index in rest]
        farthest = rest[int(np.argmax(gaps))]
        found.append(farthest)
        rest.remove(farthest)
    return found


def _dominator(values: np.ndarray, index: int, best: np.ndarray) -> int:
    """The first point of the front that dominates a point."""
    above = np.all(values[best] >= values[index], axis=1)
    return int(best[above][0])


def _unit(values: np.ndarray) -> np.ndarray:
    """Every column from 0 to 1."""
    low, high = values.min(axis=0), values.max(axis=0)
    return (values - low) / np.where(high > low, high - low, 1)
