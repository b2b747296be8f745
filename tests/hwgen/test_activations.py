"""Activations: what is stored comes out chunk by chunk, token by token, with its shifts."""

from __future__ import annotations

import random

import pytest

from hwgen.activations import Activations
from spec import numeric
from spec.config import TINY
from tests.hwgen.bench import simulate

CHUNKS, TILES = 3, 2
SWAP_LATE = 9
"""Cycles from a swap to ``swap_done``, as in a datapath."""


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bits", [4, 8])
def test_chunks_are_loaded(bits: int, seed: int) -> None:
    chance = random.Random(seed)
    config, tokens = TINY, 1 + seed % TINY.tokens
    halves = 2 if bits == 4 else 1
    spans = CHUNKS * halves
    bases = [chance.randrange(256) for _ in range(config.tokens)]
    shifts = [[chance.randrange(16) for _ in range(tokens)] for _ in range(spans)]
    mantissas = [[chance.getrandbits(8 * config.span) for _ in range(tokens)] for _ in range(spans)]
    core = Activations(config)
    loads: list[tuple[int, int, int]] = []
    seen_lifts: list[list[list[int]]] = []

    async def beat(ctx, kind: str, data: int) -> None:
        while chance.random() < 0.3:
            await ctx.tick()
        ctx.set(core.kind, {kind: 1})
        ctx.set(core.data, data)
        await ctx.tick()
        ctx.set(core.kind, {})

    async def drive(ctx) -> None:
        ctx.set(core.tokens, tokens)
        ctx.set(core.weights8, bits == 8)
        ctx.set(core.chunks, CHUNKS)
        await beat(ctx, "bases", sum(value << 8 * t for t, value in enumerate(bases)))
        for span in range(spans):
            await beat(ctx, "shifts", sum(s << 8 * t for t, s in enumerate(shifts[span])))
            for token in range(tokens):
                await beat(ctx, "mantissas", mantissas[span][token])
        ctx.set(core.loaded, 1)
        await ctx.tick()
        ctx.set(core.loaded, 0)
        for _ in range(TILES * CHUNKS):
            while not ctx.get(core.chunk_ready):
                await ctx.tick()
            seen_lifts.append([[ctx.get(core.lifts[h][t]) for t in range(tokens)]
                               for h in range(2)])  # fmt: skip
            ctx.set(core.swap, 1)
            await ctx.tick()
            ctx.set(core.swap, 0)
            await ctx.tick().repeat(SWAP_LATE)
            ctx.set(core.swap_done, 1)
            await ctx.tick()
            ctx.set(core.swap_done, 0)
        assert [ctx.get(core.bases[token]) & 255 for token in range(config.tokens)] == bases

    def watch(data: int, half: int, token: int) -> None:
        if half and token:
            loads.append((data, half, token))

    watched = (core.load.mantissas, core.load.half, core.load.token)
    simulate(core, drive, monitors=[(watch, watched)])
    wanted, lifts = [], []
    for chunk in range(TILES * CHUNKS):
        first = chunk % CHUNKS * halves
        for half in range(halves):
            for token in range(tokens):
                enable = 0b11 if bits == 8 else 1 << half
                wanted.append((mantissas[first + half][token], enable, 1 << token))
        high = numeric.HIGH_NIBBLE_SHIFT if bits == 8 else 0
        lifts.append([
            [numeric.SHIFT_MAX - s for s in shifts[first]],
            [numeric.SHIFT_MAX - s + high for s in shifts[first + halves - 1]],
        ])  # fmt: skip
    assert loads[: len(wanted)] == wanted
    assert seen_lifts == lifts
