"""The memory image as the reference reads it: striped regions into lanes, scales and activations.

Written from ``spec`` alone, in the order of ``spec.layout``'s description rather than by its
formulas. A lane is one nibble of a beat. An int8 weight lies on two lanes,
``16 * (high - 8) + low``; both meet the same activation. A unit is a run of lanes that share one
scale and one block shift.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sim.golden.stages import weights_of
from spec import commands, numeric
from spec.config import Config

Reader = Callable[[int, int], np.ndarray]
"""``read(address, size)`` gives uint8 [size]."""
Writer = Callable[[int, np.ndarray], None]
"""``write(address, data)`` takes uint8 [size]."""

GROUPS = {code: group for group, code in commands.GROUP_CODES.items()}


@dataclass(frozen=True)
class Weights:
    """A decoded weight region, padding included."""

    lanes: np.ndarray
    """[rows, units, unit] int8: q - z (int4), or low nibbles and high nibbles - 8 (int8)."""
    scales: np.ndarray
    """[rows, units] uint16: fp16 patterns."""
    high: np.ndarray
    """[units] bool: units of high nibbles of int8 weights."""


@dataclass(frozen=True)
class Activations:
    """A decoded activation region."""

    bases: np.ndarray
    """[tokens] int64"""
    shifts: np.ndarray
    """[tokens, spans] int64, 0..15"""
    mantissas: np.ndarray
    """[tokens, spans, span] int8"""


def joined_beats(
    config: Config, read: Reader, address: int, stride: int, first: int, count: int
) -> np.ndarray:
    """Beats ``first .. first + count`` of a striped region, uint8 [count, beat_bytes]."""
    parts = [
        read(address + port * stride + first * config.port_bytes, count * config.port_bytes)
        for port in range(config.ports)
    ]
    return np.concatenate([part.reshape(count, config.port_bytes) for part in parts], axis=1)


def nibbles(data: np.ndarray) -> np.ndarray:
    """Bytes [..., B] as nibbles [..., 2 * B], low first: lanes of a beat."""
    return np.stack([data & 15, data >> 4], axis=-1).reshape(*data.shape[:-1], -1)


def chunk_order(config: Config, weights8: bool, group: int) -> list[str]:
    """Kinds of the beats of one chunk of one tile in memory order: zeros, scales or weights."""
    values = config.span if weights8 else config.lanes
    row_scales = max(1, values // group)
    order = []
    for row in range(config.tile_rows):
        if not weights8 and row % (config.beat_bits // 4 // row_scales) == 0:
            order.append("zeros")
        if row % (config.beat_bits // 16 // row_scales) == 0:
            order.append("scales")
        order.append("weights")
    return order


def unit_lanes(config: Config, group: int) -> int:
    """Lanes of a unit: within one group and one span, so under one scale and one shift."""
    return min(group, config.span)


def read_activations(config: Config, read: Reader, fields: dict[str, int]) -> Activations:
    """The activation region of a matmul command."""
    tokens, spans = fields["tokens"], _spans(fields)
    beats = joined_beats(
        config, read, fields["activations"], fields["activation_stride"],
        0, 1 + spans * (1 + tokens),
    )  # fmt: skip
    body = beats[1:].reshape(spans, 1 + tokens, config.beat_bytes)
    return Activations(
        bases=beats[0, :tokens].view(np.int8).astype(np.int64),
        shifts=(body[:, 0, :tokens].T & numeric.SHIFT_MAX).astype(np.int64),
        mantissas=body[:, 1:].transpose(1, 0, 2).view(np.int8),
    )


def read_weights(
    config: Config, read: Reader, fields: dict[str, int], first: int = 0, tiles: int | None = None
) -> Weights:
    """Tiles ``first .. first + tiles`` of the weight region of a matmul command, decoded."""
    tiles = fields["tiles"] - first if tiles is None else tiles
    weights8, group, chunks = bool(fields["weights8"]), GROUPS[fields["group"]], fields["chunks"]
    order = np.array(chunk_order(config, weights8, group))
    count = chunks * len(order)
    beats = joined_beats(
        config, read, fields["weights"], fields["weight_stride"], first * count, tiles * count
    ).reshape(tiles, chunks, len(order), config.beat_bytes)
    rows, values = config.tile_rows, config.span if weights8 else config.lanes
    per_row = max(1, values // group)
    scale_of = np.arange(config.lanes) % values // group  # of a lane, among its row's in the chunk
    patterns = _row_fields(beats[:, :, order == "scales"].view("<u2"), rows, per_row)
    zeros = None
    if not weights8:
        zeros = _row_fields(nibbles(beats[:, :, order == "zeros"]), rows, per_row)[..., scale_of]
    signed = weights_of(nibbles(beats[:, :, order == "weights"]), zeros).transpose(0, 2, 1, 3)
    unit = unit_lanes(config, group)
    units = config.lanes // unit
    patterns = patterns[..., scale_of[::unit]].transpose(0, 2, 1, 3)
    return Weights(
        lanes=signed.reshape(tiles * rows, chunks * units, unit),
        scales=patterns.reshape(tiles * rows, chunks * units),
        high=np.tile(weights8 & (np.arange(units) >= units // 2), chunks),
    )


def _row_fields(fields: np.ndarray, rows: int, per_row: int) -> np.ndarray:
    """Fields [tiles, chunks, beats, ...] as [tiles, chunks, rows, per_row]; spare ones dropped."""
    flat = fields.reshape(*fields.shape[:2], -1)[..., : rows * per_row]
    return flat.reshape(*fields.shape[:2], rows, per_row)


def _spans(fields: dict[str, int]) -> int:
    """Activation spans that a command reads: two per int4 chunk, one per int8 chunk."""
    return fields["chunks"] * (1 if fields["weights8"] else 2)
