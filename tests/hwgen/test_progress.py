"""Progress: where each beat stands, against a walk over spans, tiles, chunks and rows."""

from __future__ import annotations

import dataclasses
import random

import pytest

from hwgen.progress import Progress
from spec import commands
from spec.config import TINY, Config
from spec.layout import Matrix
from tests.hwgen.bench import PAUSES, simulate

WIDE = dataclasses.replace(TINY, name="wide", ports=2, port_bits=64, group=64)
BROAD = dataclasses.replace(TINY, name="broad", ports=4, tokens=1, tile_rows=64)

FLAGS = ("fresh", "last_row", "zeros_end", "scales_end", "first_chunk", "last_chunk", "last_tile")
"""``last_tile`` is asked with ``last_row`` only, and may follow late."""

GAP = 3
"""Cycles from the last operand that loads to the first row: zeros, scales, and the wait."""


def walk(matrix: Matrix) -> list[tuple[int, ...]]:
    """For each weights beat its row and ``FLAGS``."""
    rows = matrix.config.tile_rows
    return [
        (
            row, row == 0, row == rows - 1,
            (row + 1) % min(matrix.zero_rows, 256) == 0,
            (row + 1) % min(matrix.scale_rows, 256) == 0,
            chunk == 0, chunk == matrix.chunks - 1, tile == matrix.tiles - 1,
        )
        for tile in range(matrix.tiles) for chunk in range(matrix.chunks) for row in range(rows)
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(len(PAUSES)))
@pytest.mark.parametrize("config", [TINY, WIDE, BROAD], ids=lambda config: config.name)
def test_every_beat_finds_its_flags(config: Config, seed: int) -> None:
    """With the sequencer's pauses: none, or any number of cycles between two beats."""
    idle = max(PAUSES[seed])
    chance = random.Random(seed)
    core = Progress(config)
    shapes = []
    for _ in range(4):
        group = chance.choice([g for g in commands.GROUP_CODES if g >= config.group])
        rows = chance.randint(1, 3 * config.tile_rows)
        columns = group * chance.randint(1, max(1, 160 // group))
        shapes.append(Matrix(config, rows, columns, chance.choice([4, 8]), group))

    async def drive(ctx) -> None:
        for matrix in shapes:
            ctx.set(core.item, {
                "weights8": matrix.bits == 8, "group": commands.GROUP_CODES[matrix.group],
                "chunks": matrix.chunks, "tiles": matrix.tiles, "tokens": 1, "matmul": 1,
            })  # fmt: skip
            ctx.set(core.begin, 1)
            await ctx.tick().repeat(2 + chance.randrange(3))
            ctx.set(core.begin, 0)
            for span in range(matrix.spans):
                while chance.random() < idle:
                    await ctx.tick()
                ctx.set(core.span_passed, 1)
                await ctx.tick()
                ctx.set(core.span_passed, 0)
                assert ctx.get(core.last_span) == (span == matrix.spans - 1)
                await ctx.tick()  # one token's mantissas
            await ctx.tick().repeat(GAP)
            for number, wanted in enumerate(walk(matrix)):
                while chance.random() < idle:
                    await ctx.tick()
                found = [ctx.get(core.row), *(ctx.get(getattr(core, flag)) for flag in FLAGS)]
                asked = len(found) - (not ctx.get(core.last_row))
                assert tuple(found[:asked]) == wanted[:asked], (matrix, number)
                ctx.set(core.row_passed, 1)
                await ctx.tick()
                ctx.set(core.row_passed, 0)

    simulate(core, drive)
