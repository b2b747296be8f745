"""Rounding of float matrices to int4 (asymmetric) and int8 (symmetric) with group scales.

int4 follows AutoAWQ (https://github.com/casper-hansen/AutoAWQ, ``pseudo_quantize_tensor``):
scale = max(high - low, 1e-5) / 15, zero = -low / scale, q = w / scale + zero. Two differences:
``low`` and ``high`` include zero, so that no weight of a one-sided group is clipped, and the scale
is rounded to fp16 before it is used, so that the values belong to the scale that is stored.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from host.checkpoint.errors import CheckpointError
from host.checkpoint.tables import Table
from host.weights import Quantised
from spec import numeric

MIN_RANGE = 1e-5
"""Smallest range of an int4 group, from AutoAWQ: keeps scales off zero."""


def check_group(name: str, columns: int, group: int) -> None:
    """Raises CheckpointError unless groups of ``group`` values cover K = ``columns`` exactly."""
    if columns % group == 0:
        return
    fitting = [str(size) for size in numeric.GROUPS if columns % size == 0]
    remedy = f"use --group {' or '.join(fitting)}" if fitting else "no group size fits it"
    raise CheckpointError(
        f"tensor {name} has K = {columns}, not a multiple of the group {group}: {remedy}"
    )


def round_tables(tables: Sequence[Table], bits: int, group: int) -> Quantised:
    """Tables of equal K, stacked by rows and rounded block by block.

    Raises:
        CheckpointError: K is not a multiple of the group, or a weight is not finite or too large.
    """
    rows, columns = sum(table.rows for table in tables), tables[0].columns
    for table in tables:
        check_group(table.name, columns, group)
    values = np.empty((rows, columns), np.uint8 if bits == 4 else np.int8)
    scales = np.empty((rows, columns // group), np.float16)
    zeros = np.empty((rows, columns // group), np.uint8) if bits == 4 else None
    first = 0
    for table in tables:
        for start, stop in table.blocks():
            weights = table.read(start, stop).reshape(stop - start, -1, group)
            part = slice(first + start, first + stop)
            try:
                if zeros is None:
                    values[part], scales[part] = round_int8(weights)
                else:
                    values[part], scales[part], zeros[part] = round_int4(weights)
            except ValueError as error:
                raise CheckpointError(
                    f"tensor {table.name}, rows {start}..{stop - 1}: {error}"
                ) from None
        first += table.rows
    return Quantised(bits, group, values, scales, zeros)


def round_int4(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values [rows, K], fp16 scales and zeros [rows, K / group] of float32 [rows, K/group, group].

    Raises:
        ValueError: a weight is not finite, or too large for an fp16 scale.
    """
    low = np.minimum(_reduce(np.minimum, weights), 0)
    high = np.maximum(_reduce(np.maximum, weights), 0)
    scales = _fp16_scale(np.maximum(high - low, MIN_RANGE), 15)
    steps = scales.astype(np.float32)
    zeros = np.clip(np.rint(-low / steps), 0, 15)
    values = weights / steps[..., None]
    np.rint(values, out=values)
    values += zeros[..., None]
    np.clip(values, 0, 15, out=values)
    return _flat(values.astype(np.uint8)), scales, zeros.astype(np.uint8)


def round_int8(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values [rows, K] and fp16 scales [rows, K / group] of float32 [rows, K / group, group].

    Scale = max|w| / 127; a group of zeros has scale 0.

    Raises:
        ValueError: a weight is not finite, or too large for an fp16 scale.
    """
    largest = np.maximum(_reduce(np.maximum, weights), -_reduce(np.minimum, weights))
    scales = _fp16_scale(largest, 127)
    steps = np.where(scales == 0, np.float32(1), scales.astype(np.float32))
    values = weights / steps[..., None]
    np.rint(values, out=values)
    np.clip(values, -127, 127, out=values)
    return _flat(values.astype(np.int8)), scales


def _fp16_scale(width: np.ndarray, levels: int) -> np.ndarray:
    """``width / levels`` in fp16, one step up where a subnormal scale would clip the extremes."""
    if not np.isfinite(width).all():
        raise ValueError("a weight is NaN, infinite or too large")
    with np.errstate(over="ignore"):
        scales = (width / np.float32(levels)).astype(np.float16)
        short = width > scales.astype(np.float32) * np.float32(levels + 0.5)
        scales[short] = np.nextafter(scales[short], np.float16(np.inf))
    if not np.isfinite(scales).all():
        raise ValueError(f"a weight of {width.max():g} is too large for an fp16 scale")
    return scales


def _reduce(operation: np.ufunc, weights: np.ndarray) -> np.ndarray:
    """Reduction over the last axis (a power of two) by halving: much faster than NumPy's own for
    short axes. NaNs come through."""
    while weights.shape[-1] > 1:
        half = weights.shape[-1] // 2
        weights = operation(weights[..., :half], weights[..., half:])
    return weights[..., 0]


def _flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(values.shape[0], -1)
