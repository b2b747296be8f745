"""Per-channel scales that protect the weights that activations single out (AWQ, arXiv 2306.00978).

Multiplying a column of a matrix by s and dividing its input by s changes nothing until the matrix
is rounded; then columns with large inputs lose less. The division is folded into what makes the
input: the norm ahead of ``qkv`` and ``gate_up``, the rows of v ahead of ``output`` (query heads
that share a v head share its scales), the rows of up ahead of ``down``.

s is (mean |x|)^strength, and the strength that leaves the least error after rounding with
compensation wins; 0, no scaling, is among them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from host.quantize.compensate import Curvature, Settings, int4
from host.quantize.dense import DenseLayer
from host.weights import Shape

STRENGTHS = (0.0, 0.15, 0.3)
ROWS = 128
"""Rows of a matrix that stand for all of them in the search."""
TOKENS = 4096
"""Calibration tokens that the search looks at."""


@dataclass(frozen=True)
class Choice:
    """What the search found for one matrix."""

    strength: float
    scale: np.ndarray
    """[K] float32: what the columns are multiplied by."""
    gain: float
    """Error with the scales as a part of the error without."""


def search(
    weights: np.ndarray, inputs: np.ndarray, settings: Settings, shared: np.ndarray | None = None
) -> Choice:
    """The best strength for one matrix.

    Args:
        weights: [N, K] float32.
        inputs: [T, K] float32.
        shared: [K] index of the channel that makes each input, where several have one; else None.
    """
    sample = inputs[:: max(1, len(inputs) // TOKENS)]
    damping = settings.damping_for(weights.shape[1], len(inputs))
    curvature = Curvature.of(sample.T @ sample / np.float32(len(sample)), damping)
    rows = weights[:: max(1, len(weights) // ROWS)]
    mean = np.abs(sample).mean(axis=0).astype(np.float64)
    if shared is not None:
        mean = (np.bincount(shared, mean) / np.bincount(shared))[shared]
    mean = np.maximum(mean, mean.mean() * 1e-4 or 1.0)
    best = Choice(0.0, np.ones(weights.shape[1], np.float32), 1.0)
    plain = 0.0
    for strength in STRENGTHS:
        scale = mean**strength
        scale = (scale / np.sqrt(scale.max() * scale.min())).astype(np.float32)
        quantised = int4(rows * scale, curvature.scaled(scale), settings.group)
        error = curvature.error(quantised.floats() / scale - rows)
        plain = plain or error or 1.0
        if error < best.gain * plain:
            best = Choice(strength, scale, error / plain)
    return best


def fold(layer: DenseLayer, shape: Shape, choices: dict[str, Choice]) -> DenseLayer:
    """The same layer with the scales in it; its norms and biases are numbers that float16
    holds."""
    folded = layer.copy()
    for norm, matrix in (("input_norm", "qkv"), ("post_norm", "gate_up")):
        scale = choices[matrix].scale if matrix in choices else np.float32(1)
        before = getattr(layer, norm)
        after = (before / scale).astype(np.float16).astype(np.float32)
        exact = np.divide(before, after, out=np.ones_like(before), where=after != 0)
        setattr(folded, norm, after)
        setattr(folded, matrix, getattr(layer, matrix) * exact)
    if "output" in choices:
        folded.output = layer.output * choices["output"].scale
        scale = _by_value(choices["output"].scale, shape)
        first = (shape.heads + shape.kv_heads) * shape.head_dim
        folded.qkv[first:] /= scale[:, None]
        if folded.qkv_bias is not None:
            folded.qkv_bias = folded.qkv_bias.copy()
            folded.qkv_bias[first:] /= scale
    if "down" in choices:
        folded.down = layer.down * choices["down"].scale
        folded.gate_up[shape.intermediate :] /= choices["down"].scale[:, None]
    if folded.qkv_bias is not None:
        folded.qkv_bias = folded.qkv_bias.astype(np.float16).astype(np.float32)
    return folded


def value_channels(shape: Shape) -> np.ndarray:
    """[heads * head_dim]: the row of v that makes each input of ``output``."""
    by_head = np.arange(shape.kv_heads * shape.head_dim).reshape(shape.kv_heads, 1, -1)
    per_value = shape.heads // shape.kv_heads
    return np.broadcast_to(by_head, (shape.kv_heads, per_value, shape.head_dim)).reshape(-1)


def _by_value(scale: np.ndarray, shape: Shape) -> np.ndarray:
    """Scales of ``output``'s inputs as those of v's rows."""
    by_head = scale.reshape(shape.kv_heads, -1, shape.head_dim)
    return np.ascontiguousarray(by_head[:, 0]).reshape(-1)
