"""Datapath: beats of whole matmuls in, rows out at its latency, equal to the definition."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest

from host.layout import blockfloat, pack
from hwgen.datapath import Datapath
from sim import cases
from spec import commands, layout, numeric
from spec.config import TINY, Config
from spec.layout import Matrix
from tests.hwgen.bench import PAUSES, simulate
from tests.hwgen.test_sequence import operands

TWO_PORTS = dataclasses.replace(TINY, name="two-ports", ports=2, port_bits=64, tokens=3)

READY_WITHIN = 60
"""Cycles in which a chunk's activations must be there once all operands have been loaded."""


def beats_of(config: Config, case: cases.Case, matrix: Matrix) -> list[int]:
    """The beats of both regions, as the ports join them."""
    found = []
    sizes = (matrix.activation_beats(case.tokens), matrix.beats)
    for number, beats in enumerate(sizes):
        stride = layout.port_stride(config, beats)
        region = np.zeros(layout.region_bytes(config, beats), np.uint8)
        if number:
            pack.pack_weights(config, case.weights, region, stride)
        else:
            blockfloat.pack_activations(
                config, matrix, case.bases, case.shifts, case.mantissas, region, stride
            )
        size = config.port_bytes
        for at in range(0, beats * size, size):
            parts = [region[port * stride + at :][:size].tobytes() for port in range(config.ports)]
            found.append(int.from_bytes(b"".join(parts), "little"))
    return found


def rounded(case: cases.Case, fmt: str) -> list[list[int]]:
    """[row][token] patterns by the definition: Python's integers, one rounding."""
    weights = case.weights
    values = weights.values.astype(object)
    if weights.zeros is not None:
        values = values - np.repeat(weights.zeros.astype(object), weights.group, axis=1)
    lifts = numeric.SHIFT_MAX - np.repeat(case.shifts.astype(object), numeric.BLOCK, axis=1)
    x = case.mantissas.astype(object) * 2 ** lifts[:, : weights.columns]
    patterns = weights.scales.view(np.uint16).tolist()
    factors = [[mantissa << shift for mantissa, shift in map(numeric.scale_fields, row)]
               for row in patterns]  # fmt: skip
    totals = (values * np.repeat(np.array(factors, object), weights.group, axis=1)) @ x.T
    return [
        [numeric.round_result(total, int(base), fmt)
         for total, base in zip(row, case.bases, strict=True)]
        for row in totals.tolist()
    ]  # fmt: skip


def drawn(config: Config, chance: random.Random) -> list[tuple[cases.Case, str]]:
    """Both formats of weights, both of results."""
    jobs = []
    for bits, fmt in ((4, "fp32"), (8, "bf16")):
        group = chance.choice([g for g in commands.GROUP_CODES if g >= config.group])
        rows, columns = chance.randint(1, 2 * config.tile_rows), group * chance.randint(1, 2)
        tokens = chance.randint(1, config.tokens)
        jobs.append((cases.draw(rows, columns, bits, group, tokens, chance.randrange(99)), fmt))
    return jobs


@pytest.mark.parametrize("seed", [0, 1, 4])
@pytest.mark.parametrize("config", [TINY, TWO_PORTS], ids=lambda config: config.name)
def test_rows_are_golden_and_come_after_the_latency(config: Config, seed: int) -> None:
    """With no pause between beats, and with any number of them."""
    idle = PAUSES[seed][0]
    chance = random.Random(seed)
    core = Datapath(config)
    jobs = drawn(config, chance)
    due: list[tuple[int, int]] = []  # cycle and row of each result to come
    came: list[tuple[int, int]] = []
    results: list[tuple[int, ...]] = []
    now = 0

    def watch(weights: int, position, valid: int, row: int, *values: int) -> None:
        nonlocal now
        if weights and position.last:
            due.append((now + core.latency(config), position.row))
        if valid:
            came.append((now, row))
            results.append(values)
        now += 1

    async def drive(ctx) -> None:
        for case, fmt in jobs:
            weights = case.weights
            matrix = Matrix(config, weights.rows, weights.columns, weights.bits, weights.group)
            ctx.set(core.item, {
                "matmul": 1, "weights8": weights.bits == 8, "tokens": case.tokens,
                "group": commands.GROUP_CODES[weights.group], "chunks": matrix.chunks,
                "tiles": matrix.tiles, "result_format": commands.FORMAT_CODES[fmt],
            })  # fmt: skip
            await ctx.tick()
            told, loads = operands(matrix, case.tokens), matrix.activation_beats(case.tokens)
            for number, (beat, image) in enumerate(
                zip(told, beats_of(config, case, matrix), strict=True)
            ):
                for _ in range(READY_WITHIN if beat.swap else 0):
                    if ctx.get(core.chunk_ready):
                        await ctx.tick().repeat(2)  # the sequencer's own registers
                        break
                    await ctx.tick()
                assert ctx.get(core.chunk_ready) or not beat.swap
                while chance.random() < idle:
                    await ctx.tick()
                ctx.set(core.data, image)
                ctx.set(core.kind, {beat.kind: 1})
                ctx.set(core.loaded, number == loads - 1)
                ctx.set(core.position, {
                    "row": beat.row, "swap": beat.swap, "first": beat.first, "last": beat.last,
                })  # fmt: skip
                await ctx.tick()
                ctx.set(core.kind, {})
                ctx.set(core.loaded, 0)
            await ctx.tick().repeat(core.latency(config) + 2)

    watched = (
        core.kind.weights, core.position, core.results_valid, core.results_row,
        *(core.results[token] for token in range(config.tokens)),
    )  # fmt: skip
    simulate(core, drive, monitors=[(watch, watched)])
    assert came == due
    at = 0
    for case, fmt in jobs:
        wanted = rounded(case, fmt)
        drop = 16 if fmt == "bf16" else 0
        found = [[value >> drop for value in row[: case.tokens]] for row in results[at:]]
        assert found[: len(wanted)] == wanted, (seed, fmt)
        at += -(-len(wanted) // config.tile_rows) * config.tile_rows
    assert at == len(results)
