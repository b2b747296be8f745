"""Rotary position embedding (Su et al., arXiv 2104.09864) with Llama 3's frequency scaling.

Value i of a head is paired with i + head_dim / 2 (the rotate-half order of Hugging Face).
"""

from __future__ import annotations

import math

import numpy as np

from host.weights import Shape


def frequencies(shape: Shape) -> np.ndarray:
    """[head_dim / 2] float64: radians per position of each pair."""
    exponents = np.arange(0, shape.head_dim, 2) / shape.head_dim
    plain = shape.rope_theta**-exponents
    if shape.rope_scaling is None:
        return plain
    return _llama3(plain, **shape.rope_scaling)


def _llama3(
    plain: np.ndarray,
    factor: float,
    low_freq_factor: float,
    high_freq_factor: float,
    original_context: float,
) -> np.ndarray:
    """Slows long wavelengths by ``factor``, keeps short ones, blends in between.

    Source: "The Llama 3 herd of models" (arXiv 2407.21783) and its reference code.
    """
    turns = original_context * plain / (2 * math.pi)  # full turns within the original context
    keep = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor)
    keep = np.clip(keep, 0.0, 1.0)
    return plain * (keep + (1 - keep) / factor)


class Rope:
    """Tables for ``context`` positions, made once."""

    def __init__(self, shape: Shape, context: int) -> None:
        angles = np.outer(np.arange(context), frequencies(shape))
        self.cosines = np.cos(angles).astype(np.float32)
        """[context, head_dim / 2]; ``sines`` likewise."""
        self.sines = np.sin(angles).astype(np.float32)
        self._cos, self._sin = self.cosines[:, None, :], self.sines[:, None, :]
        self._half = shape.head_dim // 2

    def rotate(self, heads: np.ndarray, start: int) -> None:
        """Rotates [tokens, heads, head_dim] float32 in place; the first token's position is
        ``start``."""
        cos = self._cos[start : start + len(heads)]
        sin = self._sin[start : start + len(heads)]
        low, high = heads[:, :, : self._half], heads[:, :, self._half :]
        turned = high * cos + low * sin
        low *= cos
        low -= high * sin
        high[...] = turned

    def rotate_back(self, heads: np.ndarray, start: int) -> None:
        """The inverse of ``rotate``, which is also its derivative's transpose; in place."""
        cos = self._cos[start : start + len(heads)]
        sin = self._sin[start : start + len(heads)]
        low, high = heads[:, :, : self._half], heads[:, :, self._half :]
        turned = high * cos - low * sin
        low *= cos
        low += high * sin
        high[...] = turned
