"""Unpack: weights and scales of a beat, against the places that ``spec.layout`` gives them."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest

from hwgen.unpack import Unpack
from spec.commands import GROUP_CODES
from spec.config import TINY, Config
from spec.layout import Matrix, Place
from tests.hwgen.bench import pipeline

WIDE = dataclasses.replace(TINY, name="wide", ports=2, port_bits=64, group=64)
BROAD = dataclasses.replace(TINY, name="broad", ports=4, tile_rows=64)
"""512 bits: four subs, several scales of a row in a beat."""

CASES = [
    pytest.param(config, bits, group, id=f"{config.name}-int{bits}-g{group}")
    for config in (TINY, WIDE, BROAD)
    for bits in (4, 8)
    for group in GROUP_CODES
    if group >= config.group
]


class Image:
    """Beats of a weight region, filled by the definition, one value at a time."""

    def __init__(self, matrix: Matrix):
        self.config = matrix.config
        self.beats = [0] * matrix.beats

    def put(self, place: Place, value: int) -> None:
        """Adds a value whose lowest bit lies at ``place``."""
        beat, byte = divmod(place.offset, self.config.port_bytes)
        self.beats[beat] |= value << (place.port * self.config.port_bits + 8 * byte + place.bit)


def kinds(matrix: Matrix) -> list[str]:
    """Kind of each beat of the region, in the order of spec.layout."""
    order = []
    for _tile_and_chunk in range(matrix.tiles * matrix.chunks):
        for row in range(matrix.config.tile_rows):
            if matrix.bits == 4 and row % matrix.zero_rows == 0:
                order.append("zeros")
            if row % matrix.scale_rows == 0:
                order.append("scales")
            order.append("weights")
    return order


@pytest.mark.parametrize("idle", [0.0, 0.5])
@pytest.mark.parametrize(("config", "bits", "group"), CASES)
def test_every_weight_and_scale_of_a_matrix(
    config: Config, bits: int, group: int, idle: float
) -> None:
    chance = random.Random(f"{config.name} {bits} {group} {idle}")
    columns = max(group, 2 * config.beat_bits // bits)
    matrix = Matrix(config, config.tile_rows, columns, bits, group)
    rows, groups = range(matrix.rows), range(columns // group)
    low, high = (0, 15) if bits == 4 else (-128, 127)
    q = [
        [chance.choice([low, high, chance.randint(low, high)]) for _ in range(columns)]
        for _ in rows
    ]
    zeros = [[chance.randint(0, 15) for _ in groups] for _ in rows]
    scales = [[chance.getrandbits(16) for _ in groups] for _ in rows]
    image = Image(matrix)
    for n in rows:
        for k in range(columns):
            places = matrix.locate(n, k)
            stored = q[n][k] if bits == 4 else q[n][k] + 128
            for index, place in enumerate(places):
                image.put(place, stored >> 4 * index & 15)
        # A group longer than a chunk is stored once for each chunk that it spans.
        for k in range(0, columns, min(group, matrix.chunk_columns)):
            image.put(matrix.locate_scale(n, k), scales[n][k // group])
            if bits == 4:
                image.put(matrix.locate_zero(n, k), zeros[n][k // group])

    core = Unpack(config)
    settings: list[tuple[Any, Any]] = [(core.weights8, bits == 8), (core.group, GROUP_CODES[group])]
    cycles, wanted, seen = [settings], {}, 0
    for kind, beat in zip(kinds(matrix), image.beats, strict=True):
        while chance.random() < idle:
            cycles.append([(core.kind, {}), (core.data, chance.getrandbits(config.beat_bits))])
        cycles.append([(core.kind, {kind: 1}), (core.data, beat)])
        if kind != "weights":
            continue
        chunk, n = divmod(seen, config.tile_rows)
        seen += 1
        lanes, patterns = [], []
        for lane in range(config.lanes):
            k = chunk * matrix.chunk_columns + lane % matrix.chunk_columns
            if bits == 4:
                lanes.append(q[n][k] - zeros[n][k // group])
            else:
                stored = q[n][k] + 128
                lanes.append((stored >> 4) - 8 if lane >= config.span else stored & 15)
            if lane % config.sub_lanes == 0:
                patterns.append(scales[n][k // group])
        wanted[len(cycles) - 1 + core.latency] = (lanes, patterns)
    cycles += [[(core.kind, {})]] * (core.latency + 1)
    outputs = [core.weights[lane] for lane in range(config.lanes)]
    outputs += [core.scales[sub] for sub in range(config.subs)]
    found = pipeline(core, cycles, outputs)
    for time, (lanes, patterns) in wanted.items():
        # Five bits each; the component's array does not say that they are signed.
        assert list(found[time]) == [lane & 31 for lane in lanes] + patterns
