"""TopK: one token's list against a sort, its queue never full, its door, its settled moment."""

from __future__ import annotations

import dataclasses
import random
import struct

import pytest

from hwgen.topk import TopK
from spec.config import TINY
from tests.hwgen.bench import simulate

CONFIG = dataclasses.replace(TINY, tokens=1)
SETTLED_WITHIN = 80 * 2 * TINY.tile_rows
"""Cycles: a walk over 64 entries and its overhead, for each one that may wait."""


def pattern(value: float) -> int:
    return struct.unpack("<I", struct.pack("<f", value))[0]


def drawn(kind: str, rows: int, chance: random.Random) -> list[float]:
    """Results of a matrix, in fp32."""
    ramp = [float(row) for row in range(rows)]
    return {
        "rising": ramp, "falling": [-value for value in ramp], "equal": [1.5] * rows,
        "ties": [float(chance.randrange(-2, 3)) for _ in range(rows)],
        "random": [struct.unpack("<f", struct.pack("<f", chance.gauss(0, 1)))[0]
                   for _ in range(rows)],
    }[kind]  # fmt: skip


async def command(ctx, core: TopK, values: list[float], k: int, idle: float, seed: int) -> None:
    """Gives tiles as they come out of the datapath, then reads the list."""
    chance, rows = random.Random(seed), CONFIG.tile_rows
    ctx.set(core.k, k)
    ctx.set(core.clear, 1)
    await ctx.tick().repeat(2)
    ctx.set(core.clear, 0)
    for start in range(0, len(values), rows):
        for _ in range(SETTLED_WITHIN):
            if ctx.get(core.room):
                break
            await ctx.tick()
        assert ctx.get(core.room), "room for a tile comes when the queue has been worked off"
        ctx.set(core.tile_begun, 1)
        await ctx.tick()
        ctx.set(core.tile_begun, 0)
        assert not ctx.get(core.idle)
        await ctx.tick().repeat(chance.randrange(2, 20))
        for row in range(start, start + rows):
            while chance.random() < idle:
                await ctx.tick()
            ctx.set(core.valid, row < len(values))  # padding rows never get here
            ctx.set(core.pattern, pattern(values[min(row, len(values) - 1)]))
            ctx.set(core.row, row)
            ctx.set(core.tile_ended, row == start + rows - 1)
            await ctx.tick()
            ctx.set(core.valid, 0)
            ctx.set(core.tile_ended, 0)
    for _ in range(SETTLED_WITHIN):
        if ctx.get(core.idle):
            break
        await ctx.tick()
    assert ctx.get(core.idle)
    order = sorted(range(len(values)), key=lambda row: (-values[row], row))[:k]
    for index, row in enumerate(order):
        ctx.set(core.index, index)
        await ctx.tick().repeat(2)
        entry = ctx.get(core.entry)
        bits = pattern(values[row])
        key = bits ^ 0xFFFF_FFFF if bits >> 31 else bits | 1 << 31
        assert (entry.row, entry.key) == (row, key), (seed, index)


@pytest.mark.parametrize("idle", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["rising", "falling", "equal", "ties", "random"])
def test_the_list_is_the_largest_in_order(kind: str, idle: float) -> None:
    core = TopK(CONFIG)
    chance = random.Random(kind)

    async def drive(ctx) -> None:
        for seed, (rows, k) in enumerate([(40, 8), (16, 16), (33, 2), (70, 64)]):
            await command(ctx, core, drawn(kind, rows, chance), k, idle, seed)

    simulate(core, drive)
