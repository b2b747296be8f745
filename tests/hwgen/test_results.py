"""Results: rows of all tokens in, each token's rows out, where ``spec.layout`` wants them."""

from __future__ import annotations

import dataclasses
import random

import pytest

from hwgen.results import TILES, Results
from spec.config import TINY, Config
from spec.layout import Matrix
from tests.hwgen.bench import PAUSES, simulate, sink

ODD = dataclasses.replace(TINY, name="odd", tokens=3, ports=2, port_bits=64)
NARROW = dataclasses.replace(TINY, name="narrow", tokens=1, ports=4, port_bits=32, tile_rows=32)


@pytest.mark.parametrize("seed", range(len(PAUSES)))
@pytest.mark.parametrize("config", [TINY, ODD, NARROW], ids=lambda config: config.name)
def test_tiles_leave_token_by_token(config: Config, seed: int) -> None:
    idle, backpressure = PAUSES[seed]
    chance = random.Random(seed)
    core = Results(config)
    commands = [
        (chance.randint(1, config.tokens), chance.choice(["fp32", "bf16"]), chance.randint(1, 4))
        for _ in range(4)
    ]
    tiles, wanted = [], []
    for tokens, fmt, count in commands:
        matrix = Matrix(config, count * config.tile_rows, config.group, 4, config.group)
        image = bytearray(matrix.result_bytes(tokens, fmt))
        for tile in range(count):
            rows = [
                [chance.getrandbits(32) for _ in range(config.tokens)]
                for _ in range(config.tile_rows)
            ]
            tiles.append((tokens, fmt, rows))
            for row, values in enumerate(rows):
                for token in range(tokens):
                    n = tile * config.tile_rows + row
                    at = matrix.locate_result(tokens, token, n, fmt)
                    stored = values[token].to_bytes(4, "little")
                    stored = stored if fmt == "fp32" else stored[2:]
                    image[at : at + len(stored)] = stored
        size = config.port_bytes
        wanted += [
            int.from_bytes(image[at : at + size], "little") for at in range(0, len(image), size)
        ]
    found: list[int] = []
    begun = 0

    async def fill(ctx) -> None:
        for tokens, fmt, rows in tiles:
            while not ctx.get(core.room):
                await ctx.tick()
            ctx.set(core.tile_begun, 1)
            await ctx.tick()
            ctx.set(core.tile_begun, 0)
            ctx.set(core.tokens, tokens)
            ctx.set(core.bf16, fmt == "bf16")
            for row, values in enumerate(rows):
                while chance.random() < idle:
                    await ctx.tick()
                ctx.set(core.valid, 1)
                ctx.set(core.row, row)
                for token, value in enumerate(values):
                    ctx.set(core.results[token], value)
                await ctx.tick()
                ctx.set(core.valid, 0)

    def watch(idling: int, tile_begun: int) -> None:
        nonlocal begun
        assert not idling or len(found) == sum(sizes[:begun]), "idle with results to come"
        begun += tile_begun

    sizes = [
        tokens * config.tile_rows * (4 if fmt == "fp32" else 2) // config.port_bytes
        for tokens, fmt, _ in tiles
    ]
    idles = []

    async def drain(ctx) -> None:
        await sink(core.beat, len(wanted), found, seed, backpressure)(ctx)
        idles.append(ctx.get(core.idle))

    simulate(core, fill, drain, monitors=[(watch, (core.idle, core.tile_begun))])
    assert found == wanted
    assert idles == [1]


@pytest.mark.parametrize("fmt", ["fp32", "bf16"])
def test_room_is_gone_when_its_tiles_wait(fmt: str) -> None:
    """A sink that takes nothing leaves room for no more tiles than the memory holds."""
    config = dataclasses.replace(TINY, tokens=4, port_bits=32, ports=4, tile_rows=64)
    core = Results(config)
    begun = []

    async def fill(ctx) -> None:
        ctx.set(core.tokens, config.tokens)
        ctx.set(core.bf16, fmt == "bf16")
        while ctx.get(core.room):
            begun.append(ctx.get(core.idle))
            ctx.set(core.tile_begun, 1)
            await ctx.tick()
            ctx.set(core.tile_begun, 0)
            ctx.set(core.valid, 1)
            for row in range(config.tile_rows):
                ctx.set(core.row, row)
                await ctx.tick()
            ctx.set(core.valid, 0)
            for _ in range(20):
                await ctx.tick()

    simulate(core, fill)
    assert len(begun) == TILES
