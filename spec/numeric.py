"""Number formats: the definition, in plain integers, slow and obvious.

One result is ``y[n] = sum over k of (q[n,k] - z[n,g]) * s[n,g] * x[k]`` where

* ``q``: int4 weight 0..15 with zero point ``z`` 0..15, or int8 weight -128..127 with ``z = 0``;
* ``s``: an fp16 scale without its sign, one per group of 32, 64 or 128 values along K;
* ``x``: int8 mantissa times ``2**(base - shift)``: block floating point, one ``base`` per token,
  one ``shift`` in 0..15 per block of 64 values.

Every product is an integer times a power of two, so the sum is exact in ``accumulator_bits`` and
may be taken in any order. It is rounded once, to nearest even, to fp32 or bf16.
"""

from __future__ import annotations

import struct

BLOCK = 64
"""Activations that share one exponent (int8 mantissas; no measurable loss against fp32)."""

GROUPS = (32, 64, 128)
"""Weights along K that can share one scale and zero point."""

MAX_TOKENS = 16
"""Most activation vectors per pass: a header beat holds one byte for each."""

SHIFT_MAX = 15
"""Largest block shift: blocks 2**15 below the token's largest one lose low bits, by definition."""

MANTISSA_MAX = 127
"""Activation mantissas lie in -127..127."""

BASE_MIN, BASE_MAX = -80, 80
"""Token exponents that keep every fp32 result between its smallest normal and its largest value."""

SCALE_EXPONENT_LSB = -24
"""Exponent of an fp16 scale's last bit: scale = mantissa * 2**(shift + SCALE_EXPONENT_LSB)."""

SCALE_SHIFT_MAX = 30
"""Largest scale shift. 30 belongs to fp16's infinities; packers refuse them, the engine cannot
overflow on them either (a flipped bit in memory must not wrap a sum)."""

HIGH_NIBBLE_SHIFT = 4
"""An int8 weight is 16 * (high - 8) + low: two nibbles on two lanes, the high one shifted."""

TOTAL_SHIFT_MAX = SCALE_SHIFT_MAX + SHIFT_MAX + HIGH_NIBBLE_SHIFT
"""Largest left shift of one group's sum on its way into the accumulator."""

WEIGHT_BITS = 5
"""Signed width of a lane's weight q - z: -15..15."""

PRODUCT_FIELD_BITS = 18
"""Signed field that holds a sum of 64 lane products: 64 * 15 * 128 = 122,880 < 2**17."""

RESULT_BITS = {"fp32": 32, "bf16": 16}
"""Formats in which results leave the engine, by width."""


def scale_fields(bits: int) -> tuple[int, int]:
    """Splits an fp16 pattern into ``(mantissa, shift)``: scale = mantissa * 2**(shift - 24).

    The sign bit is ignored. Subnormals have ``shift`` 0 and no hidden bit.
    """
    exponent, fraction = bits >> 10 & 0x1F, bits & 0x3FF
    if exponent == 0:
        return fraction, 0
    return fraction | 0x400, exponent - 1


def accumulator_bits(max_k: int) -> int:
    """Signed width that holds any sum of ``max_k`` scaled products exactly.

    The largest product: int8 weight 128 times mantissa 128 times scale mantissa 2047, shifted by
    the scale's and the block's largest shifts.
    """
    largest = max_k * 128 * 128 * 2047 << (SCALE_SHIFT_MAX + SHIFT_MAX)
    return largest.bit_length() + 1


def result_exponent(base: int) -> int:
    """Exponent of the accumulator's last bit for a token with this ``base``."""
    return base - SHIFT_MAX + SCALE_EXPONENT_LSB


def round_result(value: int, base: int, fmt: str) -> int:
    """The bit pattern of ``value * 2**result_exponent(base)``, rounded once to nearest even.

    Args:
        value: the accumulator, a signed integer.
        base: the token's exponent, BASE_MIN..BASE_MAX.
        fmt: ``fp32`` or ``bf16`` (8 significant bits, fp32's exponents).
    """
    significant = 24 if fmt == "fp32" else 8
    if value == 0:
        return 0
    sign, magnitude = value < 0, abs(value)
    drop = magnitude.bit_length() - significant
    if drop > 0:
        rest, half = magnitude & ((1 << drop) - 1), 1 << (drop - 1)
        magnitude >>= drop
        magnitude += rest > half or (rest == half and magnitude & 1)
    else:
        magnitude <<= -drop
    if magnitude >> significant:
        magnitude >>= 1
        drop += 1
    exponent = result_exponent(base) + drop + significant - 1 + 127
    pattern = sign << 31 | exponent << 23 | (magnitude << (24 - significant)) & 0x7FFFFF
    return pattern if fmt == "fp32" else pattern >> 16


def block_exponent(largest: float) -> int:
    """Smallest ``e`` with ``largest / 2**e <= 127``, for a finite fp32 ``largest`` > 0.

    Read off the fp32 pattern, so that every implementation agrees: 127 is 0x1.FCp+6.
    """
    pattern = struct.unpack("<I", struct.pack("<f", largest))[0]
    exponent, fraction = pattern >> 23, pattern & 0x7FFFFF
    if exponent == 0:
        return BASE_MIN  # a subnormal fp32: far below what BASE_MIN resolves
    return exponent - 127 - 6 + (fraction > 0x7E0000)


def quantise(vector: list[float]) -> tuple[int, list[int], list[int]]:
    """One token's activations in block floating point.

    Args:
        vector: K finite fp32 values; K is padded with zeros to whole blocks.

    Returns:
        ``(base, shifts, mantissas)``: shifts one per block, mantissas one per value of ``vector``.
    """
    blocks = [vector[start : start + BLOCK] for start in range(0, len(vector), BLOCK)]
    largest = [max(abs(value) for value in block) for block in blocks]
    wanted = [block_exponent(value) if value else BASE_MIN for value in largest]
    base = min(max([BASE_MIN, *wanted]), BASE_MAX)
    shifts = [min(max(base - exponent, 0), SHIFT_MAX) for exponent in wanted]
    mantissas = []
    for block, shift in zip(blocks, shifts, strict=True):
        step = 2.0 ** (base - shift)
        for value in block:
            mantissa = round(value / step)  # Python rounds half to even
            mantissas.append(min(max(mantissa, -MANTISSA_MAX), MANTISSA_MAX))
    return base, shifts, mantissas
