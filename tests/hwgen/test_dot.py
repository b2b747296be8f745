"""Dot: each weight meets each token's own activation, chunk after chunk, at its latency."""

from __future__ import annotations

import dataclasses
import random

import pytest

from hwgen.dot import TreeDot as Dot
from spec.config import TINY, Config
from tests.hwgen.bench import pipeline

ODD = dataclasses.replace(TINY, name="odd", tokens=3)
"""The last pair has one token only."""
TREE = dataclasses.replace(TINY, name="tree", ports=2, tokens=1)
"""Two cascades to a sub."""


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("config", [TINY, ODD, TREE], ids=lambda config: config.name)
def test_sums(config: Config, seed: int) -> None:
    chance = random.Random(seed)
    core = Dot(config)
    load = core.load
    cycles: list[list] = []
    wanted: dict[int, list[int]] = {}
    for chunk in range(4):
        edge = chunk == 0
        x = [
            [-128 if edge else chance.randint(-128, 127) for _ in range(config.lanes)]
            for _ in range(config.tokens)
        ]
        for token in range(config.tokens):
            for half in range(2):
                part = x[token][half * config.span : (half + 1) * config.span]
                image = sum((value & 255) << 8 * i for i, value in enumerate(part))
                enables = [(load.half, 1 << half), (load.token, 1 << token)]
                cycles.append([(load.mantissas, image), *enables])
        cycles.append([(load.half, 0), (load.token, 0), (core.swap, 1)])
        for beat in range(config.chain + 3):
            if beat:
                cycles.append([(core.swap, 0)])
            weights = [15 if edge else chance.randint(-15, 15) for _ in range(config.lanes)]
            cycles[-1] += [(core.weights[lane], weights[lane]) for lane in range(config.lanes)]
            products = [[w * v for w, v in zip(weights, x[t], strict=True)] for t in range(len(x))]
            width = config.sub_lanes
            wanted[len(cycles) - 1 + core.latency(config)] = [
                sum(products[token][sub * width : (sub + 1) * width])
                for token in range(config.tokens) for sub in range(config.subs)
            ]  # fmt: skip
    cycles += [[]] * (core.latency(config) + 1)
    outputs = [core.sums[t][s] for t in range(config.tokens) for s in range(config.subs)]
    found = pipeline(core, cycles, outputs)
    assert {time: list(found[time]) for time in wanted} == wanted
