"""Scale and zero point of each group of int4 weights: the range is searched, not taken.

Rounding a group to its whole range spends levels on a single extreme weight. As in AWQ (Lin et
al., arXiv 2306.00978, section "weight clipping") ranges are shrunk step by step, here both ends by
themselves, and the range with the smallest weighted squared error wins. The weights of the error
come from the activations: see ``host.quantize.compensate``.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from host.checkpoint.rounding import MIN_RANGE, round_int4
from host.weights import Quantised

SHRINK = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7)
"""Parts of either end of a group's range that are tried."""

BLOCK_VALUES = 1 << 17
"""Weights searched at a time: half a megabyte of float32 stays in the second-level cache."""

LEVELS = 15


def search(
    weights: np.ndarray, importance: np.ndarray, shrink: tuple[float, ...] = SHRINK
) -> tuple[np.ndarray, np.ndarray]:
    """The best scale and zero point of each group.

    Args:
        weights: [N, K / G, G] float32.
        importance: [K / G, G] float32, not negative: weight of each column's squared error.
        shrink: parts of each end of the range that are tried; ``(1.0,)`` takes the range.

    Returns:
        scales [N, K / G] float16, positive; zeros [N, K / G] uint8, 0..15.
    """
    rows, groups, size = weights.shape
    scales = np.empty((rows, groups), np.float16)
    zeros = np.empty((rows, groups), np.uint8)
    step = max(1, BLOCK_VALUES // (groups * size))
    for start in range(0, rows, step):
        part = slice(start, start + step)
        scales[part], zeros[part] = _search_block(weights[part], importance, shrink)
    return scales, zeros


def _search_block(
    weights: np.ndarray, importance: np.ndarray, shrink: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.minimum(weights.min(axis=2), 0), np.maximum(weights.max(axis=2), 0)
    best = np.full(low.shape, np.inf, np.float32)
    best_scale, best_zero = np.empty_like(low), np.empty_like(low)
    for down, up in product(shrink, shrink):
        scale, zero = grid(low * np.float32(down), high * np.float32(up))
        error = rounded(weights, scale[..., None], zero[..., None])
        error -= weights
        error *= error
        total = np.einsum("ngk,gk->ng", error, importance)
        better = total < best
        best[better] = total[better]
        best_scale[better], best_zero[better] = scale[better], zero[better]
    return best_scale.astype(np.float16), best_zero.astype(np.uint8)


def grid(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point, as the formats hold them, of ranges low <= 0 <= high; float32."""
    scale = np.maximum(high - low, np.float32(MIN_RANGE)) / np.float32(LEVELS)
    scale = scale.astype(np.float16).astype(np.float32)
    return scale, np.clip(np.rint(-low / scale), 0, LEVELS)


def rounded(weights: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """``weights`` on the grid: (q - zero) * scale with q in 0..15. Shapes broadcast."""
    values = weights / scale
    np.rint(values, out=values)
    np.clip(values, -zero, LEVELS - zero, out=values)
    values *= scale
    return values


def plain_int4(weights: np.ndarray, group: int) -> Quantised:
    """``weights`` [N, K] float32 rounded to the nearest, as the loaders round floats."""
    return Quantised(4, group, *round_int4(weights.reshape(len(weights), -1, group)))
