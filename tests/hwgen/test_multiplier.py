"""Multiplier: exact products after ``latency`` cycles, one a cycle."""

from __future__ import annotations

import itertools
import random

import pytest

from hwgen.multiplier import A_BITS, B_BITS, Multiplier
from tests.hwgen.bench import pipeline


def edges(bits: int) -> tuple[int, ...]:
    """Extremes and neighbours of zero of a signed number."""
    top = 1 << (bits - 1)
    return (-top, -top + 1, -1, 0, 1, top - 1)


@pytest.mark.parametrize("seed", range(2))
def test_products_come_after_the_latency(seed: int) -> None:
    chance = random.Random(seed)
    pairs = list(itertools.product(edges(A_BITS), edges(B_BITS)))
    pairs += [
        (chance.randrange(-(1 << 26), 1 << 26), chance.randrange(-(1 << 17), 1 << 17))
        for _ in range(200)
    ]
    core = Multiplier("portable")
    inputs = [[(core.a, a), (core.b, b)] for a, b in pairs]
    inputs += [[]] * Multiplier.latency
    found = [values[0] for values in pipeline(core, inputs, [core.product])]
    assert found[Multiplier.latency :] == [a * b for a, b in pairs]
