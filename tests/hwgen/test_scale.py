"""Scale: sum * mantissa << (shift + lift), for every kind of fp16 pattern."""

from __future__ import annotations

import dataclasses
import random

import pytest

from hwgen.multiplier import A_BITS, B_BITS, Multiplier
from hwgen.scale import Scale
from spec import numeric
from spec.config import TINY, Config
from tests.hwgen.bench import pipeline

FOUR_SUBS = dataclasses.replace(TINY, name="subs4", ports=4, port_bits=128, tokens=1)
PATTERNS = (0, 1, 0x3FF, 0x400, 0x3C00, 0x7BFF, 0x7C00, 0x7FFF, 0x8001, 0xFFFF)
"""Zero, subnormals, normals, infinity, NaN, and the sign that is ignored."""
LIFT_MAX = numeric.SHIFT_MAX + numeric.HIGH_NIBBLE_SHIFT
SUM_MIN, SUM_MAX = -(1 << 17), (1 << 17) - 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("config", [TINY, FOUR_SUBS], ids=lambda config: config.name)
def test_terms(config: Config, seed: int) -> None:
    chance = random.Random(seed)
    core = Scale(config)
    length = 150
    total = length + core.ahead + core.latency
    cycles: list[list] = [[] for _ in range(total)]
    lifts = [[0] * config.tokens for _ in range(2)]
    wanted = []
    for now in range(1, length):
        if now == 1 or chance.random() < 0.1:  # a chunk begins
            lifts = [
                [chance.choice([0, LIFT_MAX, chance.randint(0, LIFT_MAX)]) for _ in half]
                for half in lifts
            ]
            cycles[now - 1].append((core.swap, 1))
            cycles[now - 1] += [
                (core.lifts[half][token], lifts[half][token])
                for half in range(2) for token in range(config.tokens)
            ]  # fmt: skip
            cycles[now].append((core.swap, 0))
        terms = []
        scales = [chance.choice([*PATTERNS, chance.getrandbits(16)]) for _ in range(config.subs)]
        cycles[now] += [(core.scales[sub], scales[sub]) for sub in range(config.subs)]
        for token in range(config.tokens):
            for sub in range(config.subs):
                value = chance.choice([0, SUM_MIN, SUM_MAX, chance.randint(SUM_MIN, SUM_MAX)])
                cycles[now + core.ahead].append((core.sums[token][sub], value))
                mantissa, shift = numeric.scale_fields(scales[sub] & 0x7FFF)
                lift = lifts[sub // (config.subs // 2)][token]
                terms.append(value * mantissa << (shift + lift))
        wanted.append(terms)
    outputs = [core.terms[t][s] for t in range(config.tokens) for s in range(config.subs)]
    found = pipeline(core, cycles, outputs)[1 + core.ahead + core.latency :]
    assert [list(terms) for terms in found] == wanted


def test_the_multiplier_is_exact_at_its_edges() -> None:
    core = Multiplier("portable")
    edges_a = [-(1 << A_BITS - 1), -1, 0, 1, (1 << A_BITS - 1) - 1]
    edges_b = [-(1 << B_BITS - 1), -1, 0, 1, (1 << B_BITS - 1) - 1]
    pairs = [(a, b) for a in edges_a for b in edges_b]
    cycles = [[(core.a, a), (core.b, b)] for a, b in pairs] + [[]] * core.latency
    found = pipeline(core, cycles, [core.product])[core.latency :]
    assert [product for (product,) in found] == [a * b for a, b in pairs]
