"""BurstCutter: aligned bursts that together are the run, the last one marked."""

from __future__ import annotations

import dataclasses
import itertools
import random
from typing import Any

import pytest

from hwgen.burst import BurstCutter
from spec.config import TINY, Config
from tests.hwgen.bench import PAUSES, simulate, sink, source

WIDE_BURSTS = dataclasses.replace(TINY, name="burst256", burst_beats=256, fifo_beats=256)
NARROW = dataclasses.replace(TINY, name="narrow", ports=4, port_bits=32, burst_beats=16)
SINGLE = dataclasses.replace(TINY, name="single", burst_beats=1)
CONFIGS = (TINY, WIDE_BURSTS, NARROW, SINGLE)


def wanted(config: Config, address: int, beats: int) -> list[tuple[int, int, int]]:
    """Address, beats - 1 and final of each burst, by walking from boundary to boundary."""
    size, longest = config.port_bytes, config.burst_beats * config.port_bytes
    end = address + beats * size
    found = []
    while address < end:
        boundary = address - address % longest + longest
        stop = min(boundary, end)
        found.append((address, (stop - address) // size - 1, int(stop == end)))
        address = stop
    return found


def runs(config: Config, seed: int) -> list[tuple[int, int]]:
    """Corners first: nothing, one beat, up to and over boundaries, addresses that carry far."""
    longest, size = config.burst_beats, config.port_bytes
    corners = [(0x1000, 0), (0x1000, 1), (0x1000, longest), (0x1000, longest + 1), (0x2000, 0)]
    corners += [(0x1000 - size, 1), (0x1000 - size, 2), (0x1000 - size, longest + 1)]
    corners += [(carry - 2 * size, longest + 3) for carry in (1 << 32, 0x12_3456_7000)]
    chance = random.Random(seed)
    for _ in range(8):
        address = chance.randrange(1 << 40 - 12) * 4096 + chance.randrange(4096 // size) * size
        corners.append((address % ((1 << 40) - (1 << 20)), chance.randrange(3 * longest)))
    return corners


@pytest.mark.parametrize("seed", range(len(PAUSES)))
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_bursts_are_the_run(config: Config, seed: int) -> None:
    idle, backpressure = PAUSES[seed]
    cutter = BurstCutter(config)
    todo = runs(config, seed)
    bursts = [burst for run in todo for burst in wanted(config, *run)]
    payloads = [{"address": address, "beats": beats} for address, beats in todo]
    found: list[tuple[int, int, int]] = []
    times: list[int] = []
    now = itertools.count()

    def watch(passed: int, payload: Any, final: int) -> None:
        time = next(now)
        if passed:
            found.append((payload.address, payload.length, final))
            times.append(time)

    burst = cutter.burst
    simulate(
        cutter, source(cutter.run, payloads, seed, idle),
        sink(burst, len(bursts), [], seed, backpressure),
        monitors=[(watch, (burst.valid & burst.ready, burst.payload, cutter.final))],
    )  # fmt: skip
    assert found == bursts
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert min(gaps) >= 4, "the reader relies on four cycles between bursts"
    if not idle and not backpressure:
        assert min(gaps) == 4
