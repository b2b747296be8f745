"""Reader: every beat of every run in order, never more asked for than there is room for."""

from __future__ import annotations

import dataclasses
import random
from collections import deque

import pytest

from hwgen.reader import Reader
from spec.config import TINY, Config
from tests.hwgen.bench import PAUSES, simulate, sink, source
from tests.hwgen.test_burst import wanted

SHALLOW = dataclasses.replace(TINY, name="shallow", fifo_beats=16, burst_beats=16, outstanding=1)
DEEP = dataclasses.replace(TINY, name="deep", outstanding=8, fifo_beats=64, burst_beats=8)
OKAY, SLVERR, DECERR = 0, 2, 3


def contents(address: int) -> int:
    """What the memory holds there."""
    return random.Random(address).getrandbits(128)


class Slave:
    """An AXI memory with random pauses; some bursts fail at some beat."""

    def __init__(self, reader: Reader, config: Config, seed: int, giving: float, taking: float):
        self.reader, self.config = reader, config
        self.giving, self.taking = giving, taking
        self.chance = random.Random(f"slave {seed}")
        self.answers: deque[tuple[int, int, int, int]] = deque()
        self.bursts: list[tuple[int, int]] = []
        self.errors: list[tuple[int, int]] = []
        self.failing: dict[int, int] = {}
        """Beat address -> response."""
        self.in_flight = self.most_in_flight = 0

    async def run(self, ctx, beats: int) -> None:
        """Serves until ``beats`` beats have been sent."""
        ar, r = self.reader.ar, self.reader.r
        sent, held = 0, None
        while sent < beats:
            ready = self.chance.random() >= self.taking
            ctx.set(ar.ready, ready)
            answering = bool(self.answers) and self.chance.random() >= self.giving
            ctx.set(r.valid, answering)
            if answering:
                address, start, last, response = self.answers.popleft()
                payload = {"data": contents(address), "resp": response, "last": last}
                ctx.set(r.payload, payload)
                sent += 1
                self.in_flight -= last
                if response & 2:
                    self.errors.append((response, start))
            _, _, valid, request, r_ready = await ctx.tick().sample(ar.valid, ar.payload, r.ready)
            assert r_ready, "the answer channel must never wait"
            now = (request.address, request.length)
            assert held is None or (valid and now == held), "request gone before ready"
            held = now if valid and not ready else None
            if valid and ready:
                self._accept(*now)
        ctx.set(r.valid, 0)
        await ctx.tick().repeat(3)

    def _accept(self, start: int, length: int) -> None:
        self.bursts.append((start, length))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        for beat in range(length + 1):
            address = start + beat * self.config.port_bytes
            response = self.failing.get(address, OKAY)
            self.answers.append((address, start, int(beat == length), response))


@pytest.mark.parametrize("seed", range(len(PAUSES)))
@pytest.mark.parametrize("config", [TINY, SHALLOW, DEEP], ids=lambda config: config.name)
def test_beats_arrive_in_order_within_the_room(config: Config, seed: int) -> None:
    idle, backpressure = PAUSES[seed]
    chance = random.Random(seed)
    size = config.port_bytes
    runs = [(0x1000, 1), (0x2FF0 // size * size, 2 * config.burst_beats + 1), (0x5000, 0)]
    runs += [(chance.randrange(1 << 20) * size, chance.randrange(70)) for _ in range(5)]
    bursts = [burst[:2] for run in runs for burst in wanted(config, *run)]
    addresses = [start + size * beat for start, beats in runs for beat in range(beats)]
    reader = Reader(config)
    slave = Slave(reader, config, seed, idle, backpressure)
    slave.failing = {address: chance.choice([SLVERR, DECERR]) for address in addresses[3::29]}
    found: list[int] = []
    errors: list[tuple[int, int]] = []
    asked = left = taken = 0

    def watch(
        request: int, length: int, popped: int, error: int, response: int, start: int, came: int
    ) -> None:
        nonlocal asked, left, taken
        asked += (length + 1) * request
        left += popped
        taken += came
        assert asked - left <= config.fifo_beats, "more asked for than there is room for"
        if error:
            errors.append((response, start))

    request = reader.ar.valid & reader.ar.ready
    watched = (
        request, reader.ar.payload.length, reader.beat.valid & reader.beat.ready, reader.error,
        reader.error_resp, reader.error_address, reader.taken,
    )  # fmt: skip
    payloads = [{"address": address, "beats": beats} for address, beats in runs]
    simulate(
        reader, source(reader.run, payloads, seed, idle),
        sink(reader.beat, len(addresses), found, seed, backpressure),
        lambda ctx: slave.run(ctx, len(addresses)), monitors=[(watch, watched)],
    )  # fmt: skip
    assert slave.bursts == bursts
    assert found == [contents(address) for address in addresses]
    assert errors == slave.errors != []
    assert taken == len(addresses)
    assert slave.most_in_flight <= config.outstanding


def test_a_blocked_sink_leaves_the_fifo_full_and_the_port_quiet() -> None:
    """Requests stop when the FIFO has no room left, and resume when it has."""
    reader = Reader(DEEP)
    slave = Slave(reader, DEEP, 0, 0.0, 0.0)
    total = 4 * DEEP.fifo_beats
    found: list[int] = []
    full = []

    async def late(ctx) -> None:
        for _ in range(600):
            await ctx.tick()
        full.append(sum(length + 1 for _, length in slave.bursts))
        await sink(reader.beat, total, found, 0)(ctx)

    run = [{"address": 0x10000, "beats": total}]
    simulate(reader, source(reader.run, run, 0), late, lambda ctx: slave.run(ctx, total))
    assert full == [DEEP.fifo_beats]
    assert found == [contents(0x10000 + 16 * beat) for beat in range(total)]
