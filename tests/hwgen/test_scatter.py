"""Scatter: each port its own run of a striped region, at every mix of pauses."""

from __future__ import annotations

import dataclasses
import random

import pytest

from hwgen.scatter import Scatter
from spec.config import TINY
from tests.hwgen.bench import PAUSES, simulate, sink, source


@pytest.mark.parametrize("seed", range(len(PAUSES)))
@pytest.mark.parametrize("ports", [1, 2, 4])
def test_runs_are_the_stripes(ports: int, seed: int) -> None:
    idle, backpressure = PAUSES[seed]
    chance = random.Random(seed)
    config = dataclasses.replace(TINY, ports=ports, port_bits=128)
    regions = [
        {"address": 0xFFFF_C000, "stride": 0x4000, "beats": 5},  # carries beyond 32 bits
        {"address": 0x12_FFFF_FFC0, "stride": 0xFFFF_FFC0, "beats": 0},
    ]
    regions += [
        {
            "address": chance.getrandbits(38), "stride": chance.getrandbits(32),
            "beats": chance.getrandbits(32),
        }
        for _ in range(8)
    ]  # fmt: skip
    core = Scatter(config)
    found: list[list] = [[] for _ in range(ports)]
    sinks = [
        sink(core.run[port], len(regions), found[port], seed + port, backpressure)
        for port in range(ports)
    ]
    simulate(core, source(core.region, regions, seed, idle), *sinks)
    for port in range(ports):
        wanted = [(region["address"] + port * region["stride"], region["beats"])
                  for region in regions]  # fmt: skip
        assert [(run.address, run.beats) for run in found[port]] == wanted
