"""Which points go on: the front is right, the choice is spread, the order has a tolerance."""

from __future__ import annotations

import random

import numpy as np
import pytest

from sim.sweep import prune

OBJECTIVES = {"speed": "max", "area": "min"}


def drawn(seed: int, count: int) -> list[dict[str, float]]:
    choose = random.Random(seed)
    return [{"speed": choose.randint(1, 30), "area": choose.randint(1, 30)} for _ in range(count)]


def dominates(one: dict[str, float], other: dict[str, float]) -> bool:
    """By definition."""
    as_good = one["speed"] >= other["speed"] and one["area"] <= other["area"]
    return as_good and one != other


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_nothing_dominates(seed: int) -> None:
    figures = drawn(seed, 1 + 7 * seed)
    wanted = [
        index for index, one in enumerate(figures)
        if not any(dominates(other, one) for other in figures)
    ]  # fmt: skip
    assert prune.front(prune.matrix(figures, OBJECTIVES)).tolist() == wanted


@pytest.mark.parametrize("seed", range(20))
def test_the_choice_is_of_the_size_asked_for_and_explained(seed: int) -> None:
    figures = drawn(seed, 60)
    count = 1 + seed
    chosen, out = prune.choose(figures, OBJECTIVES, count, 0.0)
    assert len(chosen) == len(set(chosen)) == count
    assert set(chosen) | set(out) == set(range(60))
    assert not set(chosen) & set(out)
    for index, above in out.items():
        if above is not None:
            assert dominates(figures[above], figures[index])
    fastest = max(one["speed"] for one in figures)
    assert figures[chosen[0]]["speed"] == fastest or any(
        figures[index]["speed"] == fastest for index in chosen
    )


def test_few_points_all_go_on() -> None:
    assert prune.choose(drawn(1, 3), OBJECTIVES, 3, 0.01) == ([0, 1, 2], {})
    assert prune.choose([], OBJECTIVES, 3, 0.01) == ([], {})


def test_the_order_has_a_tolerance() -> None:
    figures = [{"speed": 100, "area": 50}, {"speed": 99.5, "area": 10}, {"speed": 90, "area": 1}]
    values = prune.matrix(figures, OBJECTIVES)
    assert prune.ranked(values, 3, 0.01) == [1, 0, 2]
    assert prune.ranked(values, 3, 0.0) == [0, 1, 2]


def test_ends_of_the_front_are_in() -> None:
    figures = [{"speed": step, "area": step * step} for step in range(1, 30)]
    chosen, out = prune.choose(figures, OBJECTIVES, 6, 0.0)
    assert {0, 28} <= set(chosen)
    assert set(out.values()) == {None}


def test_equal_points_do_not_dominate_each_other() -> None:
    values = np.array([[1.0, 2.0], [1.0, 2.0], [0.0, 2.0]])
    assert prune.front(values).tolist() == [0, 1]
