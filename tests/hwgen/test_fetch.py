"""Fetch: a command list becomes items, regions and result runs, in order, under any stall."""

from __future__ import annotations

import random

import pytest

from hwgen.fetch import SHAPE_FIELDS, Fetch
from spec import commands
from spec.config import TINY, Config
from tests.hwgen.bench import PAUSES, simulate, sink

LIST = 0x8_FFFF_FFC0
"""Its second descriptor lies beyond a carry into the upper word."""


def drawn(chance: random.Random) -> dict[str, int]:
    """A descriptor's fields; the collector has checked them, so any bits will do."""
    return {
        field.name: chance.getrandbits(field.width)
        for field in commands.FIELDS
        if field.name != "magic"
    }


def wanted(config: Config, fields: list[dict[str, int]]) -> tuple[list, list, list]:
    """Items, regions and result runs of a list."""
    shape = dict.fromkeys(SHAPE_FIELDS, 0)
    items = [{"descriptor": 1, "matmul": 0} | shape]
    stride, beats = commands.BYTES // config.ports, commands.beats(config)
    regions, runs = [(LIST, stride, beats)], []
    for number, values in enumerate(fields):
        more = number + 1 < len(fields)
        kept = {name: values[name] for name in SHAPE_FIELDS} | {"tokens": values["tokens"] & 31}
        items.append({"descriptor": int(more), "matmul": 1} | kept)
        if more:
            regions.append((LIST + commands.BYTES * (number + 1), stride, beats))
        runs.append((values["results"], values["result_beats"]))
        for name in ("activation", "weight"):
            regions.append(
                (values[f"{name}s"], values[f"{name}_stride"], values[f"{name}_beats"])
            )  # fmt: skip
    return items, regions, runs


@pytest.mark.parametrize("seed", range(len(PAUSES)))
@pytest.mark.parametrize("config", [TINY], ids=lambda config: config.name)
def test_a_list_is_walked(config: Config, seed: int) -> None:
    idle, backpressure = PAUSES[seed]
    chance = random.Random(seed)
    fields = [drawn(chance) for _ in range(1 + 2 * (seed % 3))]
    items, regions, runs = wanted(config, fields)
    core = Fetch(config)
    found: tuple[list, list, list] = ([], [], [])

    async def ring(ctx) -> None:
        ctx.set(core.address, LIST)
        ctx.set(core.count, len(fields))
        await ctx.tick().repeat(3)
        assert not ctx.get(core.busy)
        ctx.set(core.start, 1)
        await ctx.tick()
        ctx.set(core.start, 0)
        for values in fields:
            while chance.random() < idle:
                await ctx.tick()
            ctx.set(core.command.payload, values)
            ctx.set(core.command.valid, 1)
            taken = False
            while not taken:
                _, _, taken = await ctx.tick().sample(core.command.ready)
            ctx.set(core.command.valid, 0)
        while ctx.get(core.busy):
            await ctx.tick()

    simulate(
        core, ring, sink(core.item, len(items), found[0], seed, backpressure),
        sink(core.region, len(regions), found[1], seed + 1, backpressure),
        sink(core.results, len(runs), found[2], seed + 2, backpressure),
    )  # fmt: skip
    assert [{name: item[name] for name in items[0]} for item in found[0][1:]] == items[1:]
    assert (found[0][0].descriptor, found[0][0].matmul) == (1, 0)
    assert [(one.address, one.stride, one.beats) for one in found[1]] == regions
    assert [(run.address, run.beats) for run in found[2]] == runs


@pytest.mark.parametrize("halt", [0, 1])
def test_a_bad_descriptor_or_a_held_error_ends_the_list(halt: int) -> None:
    core = Fetch(TINY)
    told = []

    async def ring(ctx) -> None:
        for stream in (core.item, core.region, core.results):
            ctx.set(stream.ready, 1)
        ctx.set(core.count, 3)
        ctx.set(core.start, 1)
        await ctx.tick()
        ctx.set(core.start, 0)
        ctx.set(core.command.valid, 1)
        ctx.set(core.bad, 1)
        ctx.set(core.halt, halt)
        while ctx.get(core.busy):
            _, _, error = await ctx.tick().sample(core.descriptor_error)
            told.append(error)

    simulate(core, ring)
    assert sum(told) == 1 - halt


def test_an_empty_list_does_nothing() -> None:
    core = Fetch(TINY)

    async def ring(ctx) -> None:
        ctx.set(core.start, 1)
        for _ in range(10):
            await ctx.tick()
            assert not ctx.get(core.busy)
            assert not ctx.get(core.item.valid) and not ctx.get(core.region.valid)

    simulate(core, ring)
