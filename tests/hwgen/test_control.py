"""Control: every register by its access type, counters, held errors, interrupt, doorbell."""

from __future__ import annotations

import random
from typing import Any

import pytest

from hwgen.control import CAUSES, LINGER, Control
from spec import registers
from spec.config import TINY
from spec.digest import digest
from tests.hwgen.bench import simulate

IDENTITY = {
    "magic": registers.MAGIC, "version": registers.VERSION,
    "digest_low": digest(TINY) & 0xFFFFFFFF, "digest_high": digest(TINY) >> 32,
}  # fmt: skip
AFTER_RESET = IDENTITY | {"watchdog": registers.WATCHDOG_CYCLES}
SETTLE = 4
"""Cycles in which a write or an event has reached its register."""
END = SETTLE + LINGER
"""Cycles in which the end of a list has."""


class Host:
    """An AXI4-Lite master with random pauses."""

    def __init__(self, core: Control, seed: int = 0, pause: float = 0.0):
        self.core, self.pause = core, pause
        self.chance = random.Random(f"host {seed}")

    def _waits(self) -> int:
        waits = 0
        while self.chance.random() < self.pause:
            waits += 1
        return waits

    async def write(self, ctx, offset: int, value: int, strobe: int = 15) -> None:
        """Address and data in either order; the answer must be OKAY and stay until taken."""
        bus = self.core.bus
        ctx.set(bus.aw.payload, offset)
        ctx.set(bus.w.payload, {"data": value, "strobe": strobe})
        delays = {bus.aw: self._waits(), bus.w: self._waits()}
        pending = dict(delays)
        while pending:
            for channel, delay in pending.items():
                ctx.set(channel.valid, delay <= 0)
                pending[channel] = delay - 1
            _, _, *ready = await ctx.tick().sample(bus.aw.ready, bus.w.ready)
            for channel, taken in zip((bus.aw, bus.w), ready, strict=True):
                if taken and channel in pending and pending[channel] < 0:
                    ctx.set(channel.valid, 0)
                    del pending[channel]
        await self._answer(ctx, bus.b)

    async def read(self, ctx, offset: int) -> int:
        """The 32 bits at an offset; the answer must be OKAY."""
        bus = self.core.bus
        for _ in range(self._waits()):
            await ctx.tick()
        ctx.set(bus.ar.payload, offset)
        ctx.set(bus.ar.valid, 1)
        taken = False
        while not taken:
            _, _, taken = await ctx.tick().sample(bus.ar.ready)
        ctx.set(bus.ar.valid, 0)
        answer = await self._answer(ctx, bus.r)
        assert answer.resp == 0
        return answer.data

    async def get(self, ctx, name: str) -> int:
        """A register by name."""
        return await self.read(ctx, registers.OFFSETS[name])

    async def put(self, ctx, name: str, value: int) -> None:
        """Writes a register by name."""
        await self.write(ctx, registers.OFFSETS[name], value)
        await ctx.tick().repeat(SETTLE)

    async def _answer(self, ctx, channel) -> Any:
        ready, held, valid = False, None, 0
        while not (valid and ready):
            ready = self.chance.random() >= self.pause
            ctx.set(channel.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(channel.valid, channel.payload)
            assert held is None or (valid and payload == held), "answer gone before ready"
            held = payload if valid and not ready else None
        ctx.set(channel.ready, 0)
        if channel is self.core.bus.b:
            assert payload == 0
        return payload


@pytest.mark.parametrize("pause", [0.0, 0.5])
def test_reset_values_and_access_types(pause: float) -> None:
    """Read-only ones do not change, writable ones keep, write-only ones read zero."""
    core = Control(TINY)
    host = Host(core, 1, pause)

    async def bench(ctx) -> None:
        for register in registers.REGISTERS:
            if not register.name.startswith("cycles"):
                value = await host.get(ctx, register.name)
                assert value == AFTER_RESET.get(register.name, 0), register.name
        for register in registers.REGISTERS:
            if register.name.startswith("cycles"):
                continue
            before = await host.get(ctx, register.name)
            await host.put(ctx, register.name, 0xFFFF_FFFF)
            kept = {"control": registers.encode("control", irq_enable=1)}
            after = await host.get(ctx, register.name)
            if register.access == "ro":
                assert after == before, register.name
            elif register.access == "wo":
                assert after == 0, register.name
            else:
                assert after == kept.get(register.name, 0xFFFF_FFFF), register.name
        assert ctx.get(core.list_address) == 0xFF_FFFF_FFFF

    simulate(core, bench)


def test_partial_and_unaligned_writes_are_answered_and_ignored() -> None:
    core = Control(TINY)
    host = Host(core, 2, 0.3)
    scratch = registers.OFFSETS["scratch"]

    async def bench(ctx) -> None:
        await host.put(ctx, "scratch", 0x1234_5678)
        for strobe in range(15):
            await host.write(ctx, scratch, 0xFFFF_FFFF, strobe)
        for offset in (1, 2, 3, 4, 8, 12, 15):
            await host.write(ctx, scratch + offset, 0xFFFF_FFFF)
        await host.write(ctx, scratch + (1 << 12), 0xFFFF_FFFF)
        assert await host.get(ctx, "scratch") == 0x1234_5678

    simulate(core, bench)


def test_offsets_without_a_register_read_zero() -> None:
    core = Control(TINY)
    host = Host(core, 3)
    known = set(registers.OFFSETS.values())
    chance = random.Random(3)
    offsets = [len(known) * registers.STRIDE, registers.WINDOW_BYTES - registers.STRIDE]
    offsets += [registers.OFFSETS["magic"] + near for near in (1, 4, 8, 12)]
    offsets += [registers.OFFSETS["digest_low"] + (1 << bit) for bit in range(2, 16)]
    offsets += [chance.randrange(registers.WINDOW_BYTES) for _ in range(30)]

    async def bench(ctx) -> None:
        for offset in offsets:
            if offset not in known:
                assert await host.read(ctx, offset) == 0, hex(offset)

    simulate(core, bench)


def test_counters_count_their_events_and_no_others() -> None:
    core = Control(TINY)
    host = Host(core, 4)
    chance = random.Random(4)
    strobes = {"completed": core.events.completed, "busy_cycles": core.busy,
               "beats_written": core.events.sent}  # fmt: skip
    strobes |= {f"beats_port{port}": core.events.taken[port] for port in range(4)}
    strobes |= {f"stall_{cause}": core.events.stalls[i] for i, cause in enumerate(CAUSES)}
    assert set(strobes) == set(registers.COUNTERS)

    async def bench(ctx) -> None:
        wanted = dict.fromkeys(strobes, 0)
        for _ in range(200):
            for number, (name, strobe) in enumerate(strobes.items()):
                up = chance.random() < (number + 1) / 15
                ctx.set(strobe, up)
                wanted[name] += up
            await ctx.tick()
        for strobe in strobes.values():
            ctx.set(strobe, 0)
        await ctx.tick().repeat(SETTLE)
        assert {name: await host.get(ctx, name) for name in strobes} == wanted
        assert len(set(wanted.values())) > 8, "counters must be told apart"

    simulate(core, bench)


def test_the_cycle_counter_counts_cycles() -> None:
    core = Control(TINY)
    host = Host(core, 5)

    async def bench(ctx) -> None:
        first = await host.get(ctx, "cycles_low")
        await ctx.tick().repeat(500)
        second = await host.get(ctx, "cycles_low")
        await ctx.tick().repeat(700)
        third = await host.get(ctx, "cycles_low")
        # Two reads of the same length lie between, whatever it is.
        assert (third - second) - (second - first) == 200
        assert 500 < second - first < 520
        assert await host.get(ctx, "cycles_high") == 0

    simulate(core, bench)


async def strobe(ctx, signal, **values: int) -> None:
    """One cycle with a value, then zero."""
    ctx.set(signal, values or 1)
    await ctx.tick()
    ctx.set(signal, {} if values else 0)
    await ctx.tick().repeat(SETTLE)


def test_the_first_failure_is_held_until_cleared() -> None:
    core = Control(TINY)
    host = Host(core, 6)

    async def held(ctx) -> tuple[dict[str, int], int]:
        error = registers.decode("error", await host.get(ctx, "error"))
        high = await host.get(ctx, "error_address_high")
        address = high << 32 | await host.get(ctx, "error_address_low")
        return {name: value for name, value in error.items() if value}, address

    async def bench(ctx) -> None:
        first = {"valid": 1, "write": 0, "resp": 3, "port": 2, "address": 0x12_3456_7000}
        second = {"valid": 1, "write": 1, "resp": 2, "port": 0, "address": 0xFF_FFFF_FFFF}
        assert await held(ctx) == ({}, 0)
        assert not ctx.get(core.halt)
        await strobe(ctx, core.failure, **first)
        assert await held(ctx) == ({"read": 1, "response": 3, "port": 2}, 0x12_3456_7000)
        assert ctx.get(core.halt)
        assert registers.decode("status", await host.get(ctx, "status"))["error"]
        await strobe(ctx, core.failure, **second)
        assert await held(ctx) == (
            {"read": 1, "write": 1, "response": 3, "port": 2},
            0x12_3456_7000,
        )
        await host.put(ctx, "control", registers.encode("control", clear=1))
        assert await held(ctx) == ({}, 0)
        assert not ctx.get(core.halt)
        await strobe(ctx, core.failure, **second)
        assert await held(ctx) == ({"write": 1, "response": 2}, 0xFF_FFFF_FFFF)

    simulate(core, bench)


def test_events_that_are_errors() -> None:
    core = Control(TINY)
    host = Host(core, 7)

    async def bench(ctx) -> None:
        for name, signal, halts in (
            ("descriptor", core.events.descriptor_error, 1),
            ("range", core.events.out_of_range, 0),
        ):
            await strobe(ctx, signal)
            assert await host.get(ctx, "error") == registers.encode("error", **{name: 1})
            assert ctx.get(core.halt) == halts
            await host.put(ctx, "control", registers.encode("control", clear=1))
            assert await host.get(ctx, "error") == 0

    simulate(core, bench)


def test_doorbell_and_interrupt() -> None:
    """A doorbell starts once; while busy it is an error and starts nothing."""
    core = Control(TINY)
    host = Host(core, 8)
    starts: list[tuple[int, int]] = []

    def watch(start: int, address: int, count: int) -> None:
        if start:
            starts.append((address, count))

    async def bench(ctx) -> None:
        await host.put(ctx, "control", registers.encode("control", irq_enable=1))
        await host.put(ctx, "list_address_low", 0x89AB_CDC0)
        await host.put(ctx, "list_address_high", 0x67)
        assert not ctx.get(core.irq)
        await host.put(ctx, "doorbell", 17)
        assert starts == [(0x67_89AB_CDC0, 17)]
        ctx.set(core.busy, 1)
        await ctx.tick().repeat(SETTLE)
        assert registers.decode("status", await host.get(ctx, "status")) == {
            "busy": 1, "error": 0, "draining": 0,
        }  # fmt: skip
        await host.put(ctx, "doorbell", 3)
        assert len(starts) == 1
        assert await host.get(ctx, "error") == registers.encode("error", doorbell=1)
        assert not ctx.get(core.halt), "it is ignored; the list goes on"
        assert not ctx.get(core.irq)
        ctx.set(core.busy, 0)
        await ctx.tick().repeat(END)
        assert ctx.get(core.irq)
        await host.put(ctx, "control", 0)
        assert not ctx.get(core.irq), "not enabled"
        await host.put(ctx, "control", registers.encode("control", irq_enable=1))
        assert ctx.get(core.irq), "still waiting to be seen"
        await host.put(ctx, "doorbell", 1)
        assert not ctx.get(core.irq), "a new list"
        ctx.set(core.busy, 1)
        await ctx.tick().repeat(SETTLE)
        ctx.set(core.busy, 0)
        await ctx.tick().repeat(END)
        assert ctx.get(core.irq)
        await host.put(ctx, "control", registers.encode("control", clear=1, irq_enable=1))
        assert not ctx.get(core.irq), "cleared"

    simulate(core, bench, monitors=[(watch, (core.start, core.list_address, core.list_count))])


@pytest.mark.parametrize("seed", range(2))
def test_reads_and_writes_at_once(seed: int) -> None:
    """Two masters' worth of traffic on the two halves of the port; neither disturbs the other."""
    core = Control(TINY)
    writer, reader = Host(core, 2 * seed, 0.4), Host(core, 2 * seed + 1, 0.4)
    chance = random.Random(seed)

    async def write(ctx) -> None:
        for _ in range(40):
            value = chance.getrandbits(32)
            await writer.put(ctx, "scratch", value)

    async def read(ctx) -> None:
        for _ in range(60):
            name = chance.choice(list(IDENTITY))
            assert await reader.get(ctx, name) == IDENTITY[name]

    simulate(core, write, read)


@pytest.mark.parametrize("seed", range(3))
def test_no_output_answers_an_input_within_the_cycle(seed: int) -> None:
    """AXI allows no combinational path from an input to an output (IHI 0022, A3.2.1)."""
    core = Control(TINY)
    bus = core.bus
    outputs = (bus.aw.ready, bus.w.ready, bus.ar.ready, bus.b.valid, bus.r.valid, bus.r.payload)
    inputs = (bus.aw.valid, bus.w.valid, bus.ar.valid, bus.b.ready, bus.r.ready)
    chance = random.Random(f"paths {seed}")

    async def bench(ctx) -> None:
        busy = 0
        for _ in range(300):
            before = [ctx.get(output) for output in outputs]
            for pin in inputs:
                ctx.set(pin, chance.getrandbits(1))
            ctx.set(bus.ar.payload, chance.randrange(64))
            assert [ctx.get(output) for output in outputs] == before
            busy += not all(before[:3])
            await ctx.tick()
        assert busy > 100  # the channels were in use

    simulate(core, bench)
