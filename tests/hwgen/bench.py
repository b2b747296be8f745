"""What the tests of single modules share: Amaranth's simulator, streams with pauses, pipelines."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from amaranth.hdl import Value
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator

from tests.plugins import waves

PAUSES = ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.4, 0.6), (0.9, 0.1))
"""Chance of a pause at the source and at the sink in each cycle: idle and backpressure, apart."""

LIMIT = 50_000
"""Cycles after which a test has hung."""

Testbench = Callable[[Any], Awaitable[None]]
Monitor = tuple[Callable[..., None], Sequence[Any]]
"""Called in every cycle with the values of some signals, as they are just before its end."""


class Recording:
    """What the ports of a component were in every cycle, for a replay on its Verilog."""

    CYCLES_MAX = 1200
    """Cycles that are kept: Icarus replays some thousand a second."""

    def __init__(self, component) -> None:
        self.component = component
        self.inputs, self.outputs = ports(component)
        self.cycles: list[tuple[list[int], list[int]]] = []

    async def run(self, ctx) -> None:
        """Samples until the simulation ends."""
        split = len(self.inputs)
        signals = [*self.inputs.values(), *self.outputs.values()]
        while len(self.cycles) < self.CYCLES_MAX:
            _clock, _reset, *values = await ctx.tick().sample(*signals)
            self.cycles.append((list(values[:split]), list(values[split:])))


RECORDINGS: list[Recording] | None = None
"""Filled by every simulation while it is a list."""


def ports(component) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs and outputs of a component by their name in its Verilog, as plain values."""
    sides: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for path, member, value in component.signature.flatten(component):
        sides[member.flow is Out]["__".join(map(str, path))] = Value.cast(value).as_unsigned()
    return sides


def simulate(component, *benches: Testbench, monitors: Sequence[Monitor] = ()) -> None:
    """Runs until every bench has ended.

    Raises:
        AssertionError: of a bench or a monitor, or when they do not end.
    """
    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    running = len(benches)

    def counted(bench: Testbench) -> Testbench:
        async def run(ctx) -> None:
            nonlocal running
            await bench(ctx)
            running -= 1

        return run

    async def watch(ctx) -> None:
        signals = [signal for _, watched in monitors for signal in watched]
        for _ in range(LIMIT):
            _clock, _reset, *values = await ctx.tick().sample(*signals)
            if not running:
                return
            for call, watched in monitors:
                call(*values[: len(watched)])
                del values[: len(watched)]
        raise AssertionError(f"hung: {running} benches have not ended after {LIMIT} cycles")

    for bench in [*map(counted, benches), watch]:
        simulator.add_testbench(bench)
    if RECORDINGS is not None:
        recording = Recording(component)
        RECORDINGS.append(recording)
        simulator.add_testbench(recording.run, background=True)
    trace = waves.next_file(".vcd")
    with simulator.write_vcd(str(trace)) if trace else contextlib.nullcontext():
        simulator.run()


def source(stream, payloads: Iterable[Any], seed: int, idle: float = 0.0) -> Testbench:
    """A bench that offers all of ``payloads``, with pauses in between."""

    async def bench(ctx) -> None:
        chance = random.Random(f"source {seed}")
        for payload in payloads:
            while chance.random() < idle:
                await ctx.tick()
            ctx.set(stream.payload, payload)
            ctx.set(stream.valid, 1)
            taken = False
            while not taken:
                _, _, taken = await ctx.tick().sample(stream.ready)
            ctx.set(stream.valid, 0)

    return bench


def sink(
    stream, count: int, found: list, seed: int, backpressure: float = 0.0, settle: int = 20
) -> Testbench:
    """A bench that takes ``count`` payloads, then sees no more for ``settle`` cycles.

    A payload that is offered must stay as it is until it is taken.
    """

    async def bench(ctx) -> None:
        chance = random.Random(f"sink {seed}")
        end, offered = None, None
        while end is None or end > 0:
            ready = end is None and chance.random() >= backpressure
            ctx.set(stream.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(stream.valid, stream.payload)
            assert offered is None or (valid and payload == offered), "payload gone before ready"
            offered = payload if valid and not ready else None
            if valid and ready:
                found.append(payload)
            assert end is None or not valid, f"more than {count} payloads"
            if end is not None:
                end -= 1
            elif len(found) == count:
                end = settle
        ctx.set(stream.ready, 0)

    return bench


def pipeline(
    component, inputs: Iterable[Sequence[tuple[Any, Any]]], outputs: Sequence[Any]
) -> list[tuple]:
    """Sets the pairs (signal, value) of each cycle; the outputs at the end of each.

    What a register shows with latency L for the inputs of cycle i is found at i + L.
    """
    found: list[tuple] = []

    async def drive(ctx) -> None:
        for pairs in inputs:
            for signal, value in pairs:
                ctx.set(signal, value)
            _clock, _reset, *values = await ctx.tick().sample(*outputs)
            found.append(tuple(values))

    simulate(component, drive)
    return found
