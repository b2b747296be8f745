"""Accumulate: exact sums over a tile's chunks, row by row, carries across every limb."""

from __future__ import annotations

import dataclasses
import random

import pytest

from hwgen.accumulate import LIMB_BITS_MAX, Accumulate, limbs
from spec.config import TINY, Config
from tests.hwgen.bench import pipeline

SUBS4 = dataclasses.replace(TINY, name="subs4", ports=4, port_bits=128, tokens=1, max_k=32768)


@pytest.mark.parametrize("config", [TINY, SUBS4], ids=lambda config: config.name)
def test_limbs_hold_the_accumulator(config: Config) -> None:
    count, width = limbs(config)
    assert width <= LIMB_BITS_MAX
    assert count * width >= config.accumulator_bits


@pytest.mark.parametrize("idle", [0.0, 0.4])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("config", [TINY, SUBS4], ids=lambda config: config.name)
def test_sums(config: Config, seed: int, idle: float) -> None:
    chance = random.Random(seed)
    core = Accumulate(config)
    latency = core.latency(config)
    cycles, wanted = [], []
    for _tile in range(3):
        chunks = chance.choice([1, 2, 3])
        most = (1 << config.accumulator_bits - 1) // (config.subs * chunks)
        sums = [[0] * config.tokens for _ in range(config.tile_rows)]
        for chunk in range(chunks):
            for row in range(config.tile_rows):
                while chance.random() < idle:
                    cycles.append([(core.valid, 0)])
                pairs = [(core.valid, 1), (core.row, row), (core.first, chunk == 0)]
                pairs.append((core.last, chunk == chunks - 1))
                for token in range(config.tokens):
                    for sub in range(config.subs):
                        term = chance.choice(
                            [0, -1, 1, -most, most - 1, chance.randrange(-most, most)]
                        )
                        pairs.append((core.terms[token][sub], term))
                        sums[row][token] += term
                cycles.append(pairs)
                if chunk == chunks - 1:
                    wanted.append((len(cycles) - 1 + latency, row, *sums[row]))
    cycles += [[(core.valid, 0)]] * (latency + 1)
    outputs = [core.sums_valid, core.sums_row, *(core.sums[t] for t in range(config.tokens))]
    shown = enumerate(pipeline(core, cycles, outputs))
    found = [(time, *rest) for time, (valid, *rest) in shown if valid]
    assert found == wanted
