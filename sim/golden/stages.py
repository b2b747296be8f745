"""The arithmetic of the reference, one function per stage of the engine, in exact integers."""

from __future__ import annotations

import numpy as np

from spec import numeric

LIMBS = 3
"""Base-2**32 digits of an exact sum: 96 bits hold ``numeric.accumulator_bits`` of any K."""

LIMB_MASK = 0xFFFFFFFF


def weights_of(lanes: np.ndarray, zeros: np.ndarray | None) -> np.ndarray:
    """Signed lane weights of a weights beat: the unpack stage.

    Args:
        lanes: nibbles [..., lanes] uint8.
        zeros: zero points that broadcast against ``lanes``, or None for int8.

    Returns:
        int8 [..., lanes]: ``q - z``; for int8 the low half as it is, the high half less 8.
    """
    if zeros is not None:
        return lanes.astype(np.int8) - zeros.astype(np.int8)
    offset = np.where(np.arange(lanes.shape[-1]) < lanes.shape[-1] // 2, 0, 8)
    return lanes.astype(np.int8) - offset.astype(np.int8)


def dot(weights: np.ndarray, activations: np.ndarray) -> np.ndarray:
    """Sums of lane products: the multiply-accumulate stage.

    Args:
        weights: [rows, units, unit] integers, -128..127.
        activations: [tokens, units, unit] integers, -128..127; ``unit`` <= 128.

    Returns:
        int64 [units, rows, tokens]. Exact: every partial sum is an integer below 2**24, which
        float32 arithmetic keeps in any order.
    """
    left = weights.astype(np.float32).transpose(1, 0, 2)
    right = activations.astype(np.float32).transpose(1, 2, 0)
    return np.matmul(left, right).astype(np.int64)


def scale(
    sums: np.ndarray, patterns: np.ndarray, block_shifts: np.ndarray, high: np.ndarray | bool
) -> tuple[np.ndarray, np.ndarray]:
    """Sums times scales as integers with left shifts: the scale stage. Arguments broadcast.

    Args:
        sums: integers.
        patterns: fp16 scale patterns; the sign bit is ignored.
        block_shifts: the activations' block shifts, 0..15.
        high: sums of high nibbles of int8 weights.

    Returns:
        ``(products, shifts)`` int64; the term is ``products << shifts`` accumulator units.
    """
    pattern = patterns.astype(np.int64)
    exponent, fraction = pattern >> 10 & 0x1F, pattern & 0x3FF
    mantissa = np.where(exponent == 0, fraction, fraction | 0x400)
    shift = np.maximum(exponent - 1, 0) + numeric.HIGH_NIBBLE_SHIFT * np.asarray(high)
    return sums.astype(np.int64) * mantissa, shift + (numeric.SHIFT_MAX - block_shifts)


def accumulate(products: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Exact sum of ``products << shifts`` over the first axis: the accumulate stage.

    Args:
        products: [terms, ...] int64, below 2**31 in magnitude.
        shifts: the same shape, 0..TOTAL_SHIFT_MAX.

    Returns:
        int64 [..., LIMBS]: value = sum of ``limb[i] * 2**(32 * i)``; the lower limbs lie in
        0..2**32 - 1, the top one carries the sign.
    """
    shifts = np.broadcast_to(shifts, products.shape)
    used = products != 0
    lowest = int(shifts.min(where=used, initial=numeric.TOTAL_SHIFT_MAX))
    spread = max(0, int(shifts.max(where=used, initial=0)) - lowest)
    largest = max(int(products.max(initial=0)), -int(products.min(initial=0)))
    if (largest * len(products)) << spread < 1 << 62:  # fits one int64 above the lowest shift
        total = (products << np.maximum(shifts - lowest, 0)).sum(axis=0)
        halves = np.stack([total & 0x7FFFFFFF, total >> 31])
        return _limbs(halves, np.array([lowest, lowest + 31]).reshape(2, *[1] * total.ndim))
    return _limbs(products, shifts)


def _limbs(products: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """``accumulate`` digit by digit, for products below 2**31 and shifts below 96."""
    total = np.zeros((*products.shape[1:], LIMBS), np.int64)
    whole, rest = np.divmod(shifts, 32)
    values = products << rest
    for limb in range(LIMBS - 1):
        part = np.where(whole == limb, values, 0)
        total[..., limb] += (part & LIMB_MASK).sum(axis=0)
        total[..., limb + 1] += (part >> 32).sum(axis=0)
    total[..., -1] += np.where(whole == LIMBS - 1, values, 0).sum(axis=0)
    return _carried(total)


def _carried(limbs: np.ndarray) -> np.ndarray:
    """The same value with all limbs but the top one in 0..2**32 - 1."""
    for index in range(LIMBS - 1):
        limbs[..., index + 1] += limbs[..., index] >> 32
        limbs[..., index] &= LIMB_MASK
    return limbs


def round_results(limbs: np.ndarray, bases: np.ndarray, fmt: str) -> tuple[np.ndarray, np.ndarray]:
    """Exact sums rounded once to nearest even: the round stage.

    Args:
        limbs: [..., LIMBS] int64 as ``accumulate`` returns them.
        bases: token exponents, broadcast against ``limbs[..., 0]``.
        fmt: ``fp32`` or ``bf16``.

    Returns:
        ``(patterns, in_range)``: uint32 or uint16 bit patterns; False where a nonzero result needs
        an exponent that fp32 does not have (the pattern's exponent wraps).
    """
    significant = 24 if fmt == "fp32" else 8
    negative = limbs[..., -1] < 0
    top, sticky, length = _normalised(np.where(negative[..., None], -limbs, limbs))
    rest = top & np.uint64((1 << (64 - significant)) - 1)
    half = np.uint64(1 << (63 - significant))
    kept = (top >> np.uint64(64 - significant)).astype(np.int64)
    kept += (rest > half) | ((rest == half) & (sticky | (kept & 1 == 1)))
    carry = kept >> significant
    exponent = numeric.result_exponent(0) + bases.astype(np.int64) + length - 1 + carry + 127
    fraction = (kept >> carry) << (24 - significant) & 0x7FFFFF
    nonzero = top != 0
    pattern = np.where(nonzero, negative.astype(np.int64) << 31 | (exponent & 255) << 23, 0)
    pattern = (pattern | fraction).astype(np.uint32)
    in_range = ~nonzero | ((exponent >= 1) & (exponent <= 254))
    return (pattern if fmt == "fp32" else (pattern >> 16).astype(np.uint16)), in_range


def choose(patterns: np.ndarray, count: int) -> np.ndarray:
    """The largest results of each token: the top-k stage.

    Args:
        patterns: [tokens, rows] uint32, fp32 patterns; compared as signed magnitudes, which is
            their numeric order.
        count: entries per token, at most the rows.

    Returns:
        uint32 [tokens, count, 2]: pattern and row, the largest first, equal ones by row.
    """
    magnitudes = (patterns & np.uint32(0x7FFFFFFF)).astype(np.int64)
    descending = np.where(patterns >> 31, magnitudes + 1, -magnitudes)
    rows = np.argsort(descending, axis=1, kind="stable")[:, :count]
    chosen = np.take_along_axis(patterns, rows, axis=1)
    return np.stack([chosen, rows.astype(np.uint32)], axis=2)


def _normalised(limbs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Magnitudes as their first 64 bits, leading one on top; whether ones fell off; bit lengths."""
    digits = _carried(limbs).astype(np.uint64)
    upper = digits[..., 2] << np.uint64(32) | digits[..., 1]
    lower = digits[..., 0] << np.uint64(32)
    short = upper == 0
    first, second = np.where(short, lower, upper), np.where(short, np.uint64(0), lower)
    length = _bit_length(first)
    left = np.minimum(64 - length, 63).astype(np.uint64)
    top = first << left | second >> np.uint64(1) >> (np.uint64(63) - left)
    return top, (second << left) != 0, length + np.where(short, -32, 32)


def _bit_length(values: np.ndarray) -> np.ndarray:
    """Bit lengths of uint64 values; halves of 32 bits are exact in float64."""
    upper, lower = values >> np.uint64(32), values & np.uint64(LIMB_MASK)
    _, above = np.frexp(upper.astype(np.float64))
    _, below = np.frexp(lower.astype(np.float64))
    return np.where(upper > 0, 32 + above.astype(np.int64), below)
