"""The stages composed into a matmul, and a whole command performed on a memory image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sim.golden.image import (
    GROUPS,
    Activations,
    Reader,
    Weights,
    Writer,
    chunk_order,
    read_activations,
    read_weights,
)
from sim.golden.stages import accumulate, choose, dot, round_results, scale
from spec import commands
from spec.config import Config

BLOCK_SUMS = 1 << 18
"""Partial sums that are worked on at once: keeps arrays in the cache."""

TILE_BYTES = 4 << 20
"""Beats that are decoded at once."""

FORMATS = {code: name for name, code in commands.FORMAT_CODES.items()}


def matmul(
    config: Config, weights: Weights, activations: Activations, fmt: str
) -> tuple[np.ndarray, bool]:
    """Result patterns [tokens, rows] of decoded operands, and whether all were in range."""
    rows, units, unit = weights.lanes.shape
    tokens = len(activations.bases)
    spans = _unit_spans(config, weights)
    inside = np.arange(units) % (config.span // unit)
    split = activations.mantissas.reshape(tokens, -1, config.span // unit, unit)
    mantissas = split[:, spans, inside]
    shifts = activations.shifts[:, spans].T[:, None, :]
    results = np.empty((tokens, rows), np.uint32 if fmt == "fp32" else np.uint16)
    good = True
    step = max(1, BLOCK_SUMS // (units * tokens))
    for first in range(0, rows, step):
        part = slice(first, min(first + step, rows))
        sums = dot(weights.lanes[part], mantissas)
        patterns = weights.scales[part].T[:, :, None]
        limbs = accumulate(*scale(sums, patterns, shifts, weights.high[:, None, None]))
        rounded, in_range = round_results(limbs, activations.bases, fmt)
        results[:, part] = rounded.T
        good = good and bool(in_range.all())
    return results, good


def execute(
    config: Config,
    read: Reader,
    write: Writer,
    descriptor: bytes,
    decode: Callable[..., Weights] = read_weights,
) -> bool:
    """Performs one command on a memory image.

    Args:
        decode: stands in for ``read_weights``, for a caller that keeps decoded weights.

    Returns:
        Whether every result was in the range of fp32; padding rows count too.

    Raises:
        CommandError: not a descriptor.
    """
    fields = commands.unpack(descriptor)
    activations = read_activations(config, read, fields)
    order = chunk_order(config, bool(fields["weights8"]), GROUPS[fields["group"]])
    tile_bytes = fields["chunks"] * len(order) * config.beat_bytes
    step, good = max(1, TILE_BYTES // tile_bytes), True
    held = []
    for first in range(0, fields["tiles"], step):
        tiles = min(step, fields["tiles"] - first)
        weights = decode(config, read, fields, first, tiles)
        patterns, in_range = matmul(config, weights, activations, FORMATS[fields["result_format"]])
        good = good and in_range
        if fields["top_k"]:
            held.append(patterns)
        else:
            write_results(config, write, fields, first, patterns)
    if held:
        patterns = np.concatenate(held, axis=1)[:, : commands.rows(config, fields)]
        chosen = choose(patterns, fields["top_k"])
        write(fields["results"], chosen.astype("<u4").view(np.uint8).reshape(-1))
    return good


def write_results(
    config: Config, write: Writer, fields: dict[str, int], first: int, patterns: np.ndarray
) -> None:
    """Writes the results [tokens, rows] of whole tiles, the first of them tile ``first``."""
    tokens = len(patterns)
    tiled = patterns.reshape(tokens, -1, config.tile_rows).transpose(1, 0, 2)
    data = np.ascontiguousarray(tiled).view(np.uint8).reshape(-1)
    tile_bytes = tokens * config.tile_rows * patterns.itemsize
    write(fields["results"] + first * tile_bytes, data)


def _unit_spans(config: Config, weights: Weights) -> np.ndarray:
    """The span that each unit's lanes meet: int8's low and high nibbles meet the same one."""
    units, unit = weights.lanes.shape[1:]
    half = np.arange(units) * unit // config.span
    return half // 2 if weights.high.any() else half
