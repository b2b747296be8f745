"""Writer: whole bursts in order, WLAST on the last beat, one ``completed`` per run."""

from __future__ import annotations

import dataclasses
import random

import pytest

from hwgen.writer import Writer
from spec.config import TINY, Config
from tests.hwgen.bench import PAUSES, simulate, source
from tests.hwgen.test_burst import wanted

NARROW = dataclasses.replace(TINY, name="narrow", ports=4, port_bits=32, burst_beats=16)
SINGLE = dataclasses.replace(TINY, name="single", burst_beats=1)


class Slave:
    """Takes addresses and data, acknowledges each burst after a random time."""

    def __init__(self, writer: Writer, seed: int, giving: float, taking: float):
        self.writer, self.giving, self.taking = writer, giving, taking
        self.chance = random.Random(f"slave {seed}")
        self.bursts: list[tuple[int, int]] = []
        self.data: list[list[int]] = [[]]
        self.failing: dict[int, int] = {}
        """Burst number -> response."""
        self.acknowledged = 0

    async def run(self, ctx, bursts: int) -> None:
        """Serves until ``bursts`` bursts are acknowledged."""
        writer = self.writer
        whole, promised = 0, 0  # bursts whose data came; beats still owed for accepted addresses
        while self.acknowledged < bursts:
            aw_ready, w_ready = (self.chance.random() >= self.taking for _ in range(2))
            ctx.set(writer.aw.ready, aw_ready)
            ctx.set(writer.w.ready, w_ready)
            answering = whole > self.acknowledged and self.chance.random() >= self.giving
            ctx.set(writer.b.valid, answering)
            ctx.set(writer.b.payload, {"resp": self.failing.get(self.acknowledged, 0)})
            _, _, aw, address, w, data, b_ready = await ctx.tick().sample(
                writer.aw.valid, writer.aw.payload, writer.w.valid, writer.w.payload,
                writer.b.ready,
            )  # fmt: skip
            assert b_ready
            self.acknowledged += answering
            assert bool(w) == bool(promised), "data exactly while an accepted burst owes some"
            if aw and aw_ready:
                self.bursts.append((address.address, address.length))
                promised += address.length + 1
            if w and w_ready:
                self.data[-1].append(data.data)
                promised -= 1
                if data.last:
                    whole += 1
                    self.data.append([])
        ctx.set(writer.b.valid, 0)
        for _ in range(5):
            await ctx.tick()


@pytest.mark.parametrize("seed", range(len(PAUSES)))
@pytest.mark.parametrize("config", [TINY, NARROW, SINGLE], ids=lambda config: config.name)
def test_runs_are_written_as_whole_bursts(config: Config, seed: int) -> None:
    idle, backpressure = PAUSES[seed]
    chance = random.Random(seed)
    size = config.port_bytes
    runs = [(0x1000, config.burst_beats), (0x2000 - size, 2), (0x7F_0000_0000, 1)]
    runs += [(chance.randrange(1 << 30) * size, chance.randrange(1, 40)) for _ in range(4)]
    bursts = [burst for run in runs for burst in wanted(config, *run)]
    beats = [chance.getrandbits(config.port_bits) for _ in range(sum(run[1] for run in runs))]
    writer = Writer(config)
    slave = Slave(writer, seed, backpressure, backpressure)
    slave.failing = {number: chance.choice([2, 3]) for number in range(1, len(bursts), 3)}
    errors: list[tuple[int, int]] = []
    sent, completed = 0, []

    def watch(error: int, response: int, address: int, beat: int, done: int, idling: int) -> None:
        nonlocal sent
        sent += beat
        if error:
            errors.append((response, address))
        if done:
            completed.append(slave.acknowledged)
        if sent and slave.acknowledged < len(bursts):
            assert not idling

    watched = (
        writer.error, writer.error_resp, writer.error_address, writer.sent, writer.completed,
        writer.idle,
    )  # fmt: skip
    payloads = [{"address": address, "beats": count} for address, count in runs]
    idles = []

    async def serve(ctx) -> None:
        await slave.run(ctx, len(bursts))
        idles.append(ctx.get(writer.idle))

    simulate(
        writer, source(writer.run, payloads, seed, idle), source(writer.beat, beats, seed, idle),
        serve, monitors=[(watch, watched)],
    )  # fmt: skip
    assert slave.bursts == [burst[:2] for burst in bursts]
    lengths = [length + 1 for _, length, _ in bursts]
    assert [len(part) for part in slave.data] == [*lengths, 0]
    assert [beat for part in slave.data for beat in part] == beats
    assert sent == len(beats)
    assert errors == [(slave.failing[n], bursts[n][0]) for n in slave.failing]
    assert len(completed) == len(runs)
    assert completed[-1] == len(bursts)
    assert idles == [1]


def test_a_burst_waits_for_all_of_its_beats() -> None:
    writer = Writer(TINY)
    shown = []

    async def bench(ctx) -> None:
        ctx.set(writer.run.payload, {"address": 0x1000, "beats": TINY.burst_beats})
        ctx.set(writer.run.valid, 1)
        await ctx.tick()
        ctx.set(writer.run.valid, 0)
        for beat in range(TINY.burst_beats):
            for _ in range(20):
                await ctx.tick()
            shown.append(ctx.get(writer.aw.valid))
            ctx.set(writer.beat.payload, beat)
            ctx.set(writer.beat.valid, 1)
            await ctx.tick()
            ctx.set(writer.beat.valid, 0)
        for _ in range(20):
            await ctx.tick()
        shown.append(ctx.get(writer.aw.valid))

    simulate(writer, bench)
    assert shown == [0] * TINY.burst_beats + [1]
