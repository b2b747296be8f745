"""Random matmuls for verification: shapes are the caller's, values are drawn from a seed.

Plain noise finds few corners, so each seed also draws a style for weights, scales and activations:
extremes that line up, zeros, subnormal and largest scales, block shifts that throw away everything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from host.weights import Quantised
from spec import numeric

LARGEST_SCALE = 0x7BFF
"""65504, fp16's largest finite value."""

STYLES = ("random", "extreme", "sparse", "aligned")


@dataclass(frozen=True)
class Case:
    """The operands of one matmul, as integers."""

    weights: Quantised
    bases: np.ndarray
    """[tokens] int8 token exponents"""
    shifts: np.ndarray
    """[tokens, ceil(K / 64)] uint8 block shifts"""
    mantissas: np.ndarray
    """[tokens, K] int8"""

    @property
    def tokens(self) -> int:
        """Activation vectors."""
        return len(self.bases)


def draw(rows: int, columns: int, bits: int, group: int, tokens: int, seed: int) -> Case:
    """A random matmul; the same arguments give the same one."""
    random = np.random.default_rng([seed, rows, columns, bits, group, tokens])
    groups = (rows, columns // group)
    values, zeros = _weights(random, (rows, columns), groups, bits)
    weights = Quantised(bits, group, values, _scales(random, groups), zeros)
    bases, shifts, mantissas = _activations(random, tokens, columns)
    return Case(weights, bases, shifts, mantissas)


def _weights(
    random: np.random.Generator, shape: tuple[int, int], groups: tuple[int, int], bits: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Values and, for int4, zero points."""
    low, high = (0, 15) if bits == 4 else (-128, 127)
    style = random.choice(STYLES)
    values = random.integers(low, high, shape, np.int16, endpoint=True)
    zeros = random.integers(0, 15, groups, endpoint=True)
    if style == "extreme":
        values = np.where(values < 8 * (bits == 4), low, high)
        zeros = random.choice([0, 15], groups)
    elif style == "sparse":
        values[random.random(shape) < 0.9] = 8 if bits == 4 else 0
        zeros[:] = 8
    elif style == "aligned":
        values[:], zeros[:] = random.choice([low, high]), random.choice([0, 15])
    if bits == 8:
        return values.astype(np.int8), None
    return values.astype(np.uint8), zeros.astype(np.uint8)


def _scales(random: np.random.Generator, groups: tuple[int, int]) -> np.ndarray:
    """float16 [rows, K / group], finite and not negative."""
    style = random.choice(STYLES)
    any_finite = random.integers(0, LARGEST_SCALE, groups, endpoint=True)
    usual = random.uniform(0.001, 0.05, groups).astype(np.float16).view(np.uint16)
    pattern = usual.astype(np.int64)
    if style == "extreme":
        pattern = random.choice([0, 1, 0x3FF, 0x400, 0x3C00, LARGEST_SCALE], groups)
    elif style == "sparse":
        pattern = np.where(random.random(groups) < 0.7, 0, any_finite)
    elif style == "aligned":
        pattern = any_finite
    return pattern.astype(np.uint16).view(np.float16)


def _activations(
    random: np.random.Generator, tokens: int, columns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bases, block shifts and mantissas."""
    most = numeric.MANTISSA_MAX
    blocks = (tokens, -(-columns // numeric.BLOCK))
    style = random.choice(STYLES)
    mantissas = random.integers(-most, most, (tokens, columns), endpoint=True)
    shifts = random.integers(0, numeric.SHIFT_MAX, blocks, endpoint=True)
    bases = random.integers(-20, 8, tokens, endpoint=True)
    if style == "extreme":
        mantissas = random.choice([-most, most], (tokens, columns))
        shifts = random.choice([0, numeric.SHIFT_MAX], blocks)
        bases = random.choice([numeric.BASE_MIN, 0, numeric.BASE_MAX], tokens)
    elif style == "sparse":
        mantissas[random.random((tokens, columns)) < 0.9] = 0
    elif style == "aligned":
        mantissas[:], shifts[:] = random.choice([-most, most]), 0
    return bases.astype(np.int8), shifts.astype(np.uint8), mantissas.astype(np.int8)
