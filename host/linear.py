"""Linear layers, either on the accelerator or in floating point: one forward pass runs on both.

A backend turns a quantised matrix into a function from [tokens, K] to [tokens, N].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from host.driver import Accelerator
from host.weights import Quantised

Linear = Callable[[np.ndarray], np.ndarray]
"""[tokens, K] float32 -> [tokens, N] float32."""


class Backend(Protocol):
    """Where linear layers are computed."""

    tokens: int
    """Most tokens that one call takes without a second pass over the weights."""

    def load(self, weights: Quantised, operation: str) -> Linear:
        """Makes a matrix ready. ``operation`` is what reports file it under."""


class AcceleratorBackend:
    """Every linear layer on the device that the driver opened."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.tokens = accelerator.config.tokens

    def load(self, weights: Quantised, operation: str) -> Linear:
        """Packs the matrix into the device's memory."""
        handle = self.accelerator.load(weights, operation)
        matmul = self.accelerator.matmul
        return lambda activations: matmul(handle, activations)


class FloatBackend:
    """The reference: the same rounded weights in float32, activations unrounded."""

    def __init__(self, tokens: int = 64) -> None:
        self.tokens = tokens

    def load(self, weights: Quantised, operation: str) -> Linear:
        """Dequantises the matrix; it takes four bytes a weight."""
        transposed = dequantise(weights).T
        return lambda activations: activations @ transposed


def dequantise(weights: Quantised) -> np.ndarray:
    """[N, K] float32: (values - zeros) * scales, group by group."""
    rows, columns = weights.values.shape
    values = weights.values.astype(np.float32).reshape(rows, -1, weights.group)
    if weights.zeros is not None:
        values -= weights.zeros[:, :, None]
    values *= weights.scales[:, :, None].astype(np.float32)
    return values.reshape(rows, columns)
