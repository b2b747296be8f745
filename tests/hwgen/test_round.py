"""Round: equal to ``spec.numeric.round_result`` on ties, powers of two, extremes and noise."""

from __future__ import annotations

import dataclasses
import random

import pytest

from hwgen.round import Round
from spec import numeric
from spec.config import TINY, Config
from tests.hwgen.bench import pipeline

ONE_TOKEN = dataclasses.replace(TINY, name="k1024", tokens=1)
LONG = dataclasses.replace(TINY, name="k32768", tokens=1, max_k=32768)
SHORT = dataclasses.replace(TINY, name="k128", tokens=1, max_k=128)

BASE_STAGE = 6
"""Cycles after its sum at which a base is used; the engine holds it for a whole command."""


def corners(bits: int) -> list[int]:
    """Zero, the ends of the range, powers of two and their neighbours, ties of both formats."""
    most = (1 << bits - 1) - 1
    values = [0, 1, 2, 3, most, most - 1]
    for power in range(bits - 1):
        values += [(1 << power) + near for near in (-1, 0, 1)]
    for significant in (8, 24):
        for drop in (1, 2, 16, 40, bits - 1 - significant):
            for kept in (1 << significant - 1, (1 << significant - 1) + 1, (1 << significant) - 1):
                tie = (kept << drop) + (1 << drop - 1)
                values += [tie - 1, tie, tie + 1]
    values = [value for value in values if 0 <= value <= most]
    return [*values, *(-value for value in values), -most - 1]


def noise(bits: int, count: int, chance: random.Random) -> list[int]:
    """Values of every length, some with long runs of zeros or ones behind the leading bits."""
    values = []
    for _ in range(count):
        length = chance.randrange(1, bits)
        value = chance.getrandbits(length)
        if chance.random() < 0.5:
            low = chance.randrange(length)
            value = value >> low << low | (chance.getrandbits(1) << low) - 1 & (1 << low) - 1
        values.append(value if chance.random() < 0.5 else -value)
    return values


def rounded(
    config: Config, values: list[int], bases: list[int], fmt: str
) -> tuple[list[int], list[int]]:
    """What the component makes of one value after another: patterns and ``out_of_range``."""
    core = Round(config)
    inputs = []
    for index, value in enumerate(values):
        pairs = [(core.valid, 1), (core.sums[0], value), (core.row, index % config.tile_rows)]
        # A base holds for a whole command, so it is applied when its value gets to the exponent.
        inputs.append([*pairs, (core.tokens, 1), (core.bf16, fmt == "bf16")])
    inputs += [[(core.valid, 0)]] * core.latency
    for index, base in enumerate(bases):
        inputs[index + BASE_STAGE] = [*inputs[index + BASE_STAGE], (core.bases[0], base)]
    outputs = [core.results_valid, core.results_row, core.results[0], core.out_of_range]
    found = pipeline(core, inputs, outputs)
    assert [valid for valid, *_ in found] == [0] * core.latency + [1] * len(values)
    found = found[core.latency :]
    assert [row for _, row, *_ in found] == [i % config.tile_rows for i in range(len(values))]
    shift = 0 if fmt == "fp32" else 16
    return [pattern >> shift for *_, pattern, _ in found], [outside for *_, outside in found]


@pytest.mark.parametrize("fmt", numeric.RESULT_BITS)
@pytest.mark.parametrize("config", [SHORT, ONE_TOKEN, LONG], ids=lambda config: config.name)
def test_every_value_is_rounded_like_the_definition(config: Config, fmt: str) -> None:
    bits = config.accumulator_bits
    chance = random.Random(f"{bits} {fmt}")
    values = corners(bits) + noise(bits, 700, chance)
    chance.shuffle(values)
    bases = [chance.choice([-80, 80, chance.randrange(-80, 81)]) for _ in values]
    found, outside = rounded(config, values, bases, fmt)
    for value, base, pattern, out in zip(values, bases, found, outside, strict=True):
        wanted = numeric.round_result(value, base, fmt)
        said = f"{value} base {base}: {pattern:#x}, wanted {wanted:#x}"
        assert (pattern, out) == (wanted, 0), said


@pytest.mark.parametrize(
    ("value", "base", "out"),
    [
        (1, -87, 0),  # 2**-126: the smallest normal
        (1, -88, 1),
        (-1, -88, 1),
        (0, -128, 0),
        ((1 << 80) - (1 << 56), 87, 0),  # 24 ones on top: the largest finite value
        ((1 << 80) - (1 << 55), 87, 1),  # rounds up and out
        (-(1 << 80), 87, 1),
        ((1 << 80) - (1 << 56), 88, 1),
    ],
)
def test_a_result_outside_the_normal_range_is_told(value: int, base: int, out: int) -> None:
    exponent = numeric.result_exponent(base)
    magnitude = abs(value) * 2.0**exponent if value else 0.0
    largest = (2 - 2.0**-23) * 2.0**127
    assert out == (value != 0 and not 2.0**-126 <= magnitude <= largest * (1 + 2.0**-25))
    _, outside = rounded(ONE_TOKEN, [value], [base], "fp32")
    assert outside == [out]


def test_tokens_that_a_command_does_not_use_are_never_out_of_range() -> None:
    for tokens, out in ((1, 0), (2, 1)):
        core = Round(TINY)
        common = [(core.valid, 1), (core.sums[0], 0), (core.sums[1], 1), (core.bases[1], -128)]
        inputs = [[*common, (core.tokens, tokens)], *[[(core.valid, 0)]] * core.latency]
        assert pipeline(core, inputs, [core.out_of_range])[-1] == (out,)


@pytest.mark.parametrize("seed", range(3))
def test_pauses_change_nothing(seed: int) -> None:
    """Rows come with gaps between them, both tokens at once."""
    chance = random.Random(seed)
    core = Round(TINY)
    bits = TINY.accumulator_bits
    bases = [chance.randrange(-80, 81) for _ in range(2)]
    inputs, wanted = [], []
    for row in range(100):
        values = noise(bits, 2, chance)
        valid = int(chance.random() < 0.5)
        pairs = [(core.valid, valid), (core.row, row % 16), (core.tokens, 2)]
        pairs += [(core.sums[token], values[token]) for token in range(2)]
        pairs += [(core.bases[token], bases[token]) for token in range(2)]
        inputs.append(pairs)
        if valid:
            patterns = [numeric.round_result(values[t], bases[t], "fp32") for t in range(2)]
            wanted.append((row % 16, *patterns))
    inputs += [[(core.valid, 0)]] * core.latency
    outputs = [core.results_valid, core.results_row, core.results[0], core.results[1]]
    found = [rest for valid, *rest in pipeline(core, inputs, outputs) if valid]
    assert [tuple(rest) for rest in found] == wanted
