"""Top-k in hardware against sorting in Python, with results from one tile after another."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Sequence

import numpy as np
import pytest

from hwgen.choices import Choices
from spec.config import TINY, Config
from tests.hwgen.bench import simulate

LONGEST = 20_000
"""Cycles in which any of these commands must end."""

GAP = 24
"""Cycles from a tile's begin to its first result: the pipeline's length stands for any."""


def pattern(value: float) -> int:
    return struct.unpack("<I", struct.pack("<f", value))[0]


@dataclasses.dataclass
class Command:
    """Results [tokens][rows] of one command, and how many of each token are wanted."""

    values: np.ndarray
    k: int
    pause: float = 0.0
    """Share of cycles in which nobody takes the beats."""

    def entries(self) -> list[tuple[int, int]]:
        """What must come out, token by token."""
        found = []
        for token in self.values.tolist():
            order = sorted((-value, row) for row, value in enumerate(token))
            found += [(pattern(token[row]), row) for _, row in order[: self.k]]
        return found


async def play(ctx, dut: Choices, config: Config, command: Command, seed: int) -> list[int]:
    """Gives a command's rows as the datapath does; returns the beats that came out."""
    rng = np.random.default_rng(seed)
    tokens, rows = command.values.shape
    tiles = -(-rows // config.tile_rows)
    # The settings are there before the command begins, while those before have just ended.
    for name, value in (
        ("active", 1), ("k", command.k), ("tokens", tokens), ("tiles", tiles),
        ("last_rows", (rows - 1) % config.tile_rows),
    ):  # fmt: skip
        ctx.set(getattr(dut, name), value)
    await ctx.tick().repeat(int(rng.integers(1, 4)))
    ctx.set(dut.clear, 1)
    await ctx.tick()
    ctx.set(dut.clear, 0)
    await ctx.tick().repeat(int(rng.integers(1, 20)))
    for tile in range(tiles):
        while not ctx.get(dut.room):
            await ctx.tick()
        ctx.set(dut.tile_begun, 1)
        await ctx.tick()
        ctx.set(dut.tile_begun, 0)
        await ctx.tick().repeat(GAP)
        await _rows(ctx, dut, config, command, tile)
    return await _beats(ctx, dut, command.pause, rng)


async def _rows(ctx, dut: Choices, config: Config, command: Command, tile: int) -> None:
    """A tile's results, one row a cycle; padding rows would win if they entered."""
    rows = command.values.shape[1]
    ctx.set(dut.valid, 1)
    for row in range(config.tile_rows):
        n = tile * config.tile_rows + row
        ctx.set(dut.row, row)
        for token, values in enumerate(command.values):
            ctx.set(dut.results[token], pattern(values[n] if n < rows else 1e30))
        await ctx.tick()
    ctx.set(dut.valid, 0)


async def _beats(ctx, dut: Choices, pause: float, rng: np.random.Generator) -> list[int]:
    beats = []
    for _ in range(LONGEST):
        ready = rng.random() >= pause
        ctx.set(dut.beat.ready, ready)
        if ready and ctx.get(dut.beat.valid):
            beats.append(ctx.get(dut.beat.payload))
        await ctx.tick()
        if ctx.get(dut.idle):
            return beats
    raise AssertionError(f"not done after {LONGEST} cycles: {len(beats)} beats came")


def run(config: Config, commands: Sequence[Command], seed: int) -> None:
    """Plays commands one after another; each must give its entries and nothing else."""
    dut = Choices(config)

    async def drive(ctx) -> None:
        for index, command in enumerate(commands):
            beats = await play(ctx, dut, config, command, seed + index)
            words = [beat >> 32 * i & 0xFFFFFFFF for beat in beats
                     for i in range(config.port_bits // 32)]  # fmt: skip
            found = list(zip(words[::2], words[1::2], strict=True))
            assert found == command.entries(), f"seed {seed}, command {index}"
            ctx.set(dut.beat.ready, 0)
            ctx.set(dut.active, 0)
            await ctx.tick().repeat(1 + seed % 3)

    simulate(dut, drive)


def drawn(rng: np.random.Generator, kind: str, tokens: int, rows: int) -> np.ndarray:
    ramp = np.tile(np.arange(rows), (tokens, 1))
    values = {
        "rising": ramp, "falling": -ramp, "equal": 0 * ramp - 3,
        "ties": rng.integers(-4, 5, (tokens, rows)), "random": rng.normal(size=(tokens, rows)),
    }[kind]  # fmt: skip
    return values.astype(np.float32) + np.float32(0)  # no minus zero: no sum gives it


@pytest.mark.parametrize("kind", ["rising", "falling", "equal", "ties", "random"])
@pytest.mark.parametrize("rows", [2, 15, 16, 17, 100])
def test_orders(kind: str, rows: int) -> None:
    """All of them (k = N) where the list is long enough, and the shortest list."""
    values = drawn(np.random.default_rng(rows), kind, 2, rows)
    run(TINY, [Command(values, min(64, rows // 2 * 2)), Command(values, 2)], rows)


@pytest.mark.parametrize("seed", range(12))
def test_random_commands_one_after_another(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ports = [(1, 128), (2, 64), (4, 32)][seed % 3]
    config = dataclasses.replace(TINY, ports=ports[0], port_bits=ports[1], tokens=3)
    commands = []
    for _ in range(3):
        tokens, rows = int(rng.integers(1, 4)), int(rng.integers(2, 90))
        kind = str(rng.choice(["rising", "falling", "equal", "ties", "random"]))
        k = min(int(rng.choice([2, 8, 64])), rows // 2 * 2)
        pause = float(rng.choice([0, 0.5, 0.9]))
        commands.append(Command(drawn(rng, kind, tokens, rows), k, pause))
    run(config, commands, seed)
