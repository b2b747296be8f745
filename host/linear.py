"""Linear layers, either on the accelerator or in floating point: one forward pass runs on both.

A backend turns a quantised matrix into a function from [tokens, K] to [tokens, N].
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

import numpy as np

from host import blockfloat
from host.driver import Accelerator, Handle
from host.head import TopHead
from host.packed import Packed
from host.weights import Quantised, Weights

Linear = Callable[[np.ndarray], np.ndarray]
"""[tokens, K] float32 -> [tokens, N] float32."""


class Backend(Protocol):
    """Where linear layers are computed."""

    tokens: int
    """Most tokens that one call takes without a second pass over the weights."""

    def load(self, weights: Weights, operation: str) -> Linear:
        """Makes a matrix ready. ``operation`` is what reports file it under."""


TWO_TERM_OPERATIONS = frozenset({"qkv", "head"})
"""Operations whose activations go in as two terms: most of what rounding to int8 costs is theirs
(SmolLM2-135M, 700 tokens of Moby-Dick, divergence in nats per token: qkv 0.0043, head 0.0036,
gate_up 0.0031, down 0.0023, output 0.0004). In decode the second term rides in a token slot that
is empty anyway; in prefill qkv, a tenth of the traffic, is read twice."""


class AcceleratorBackend:
    """Every linear layer on the device that the driver opened.

    Args:
        accelerator: the opened driver.
        two_terms: operations whose activations are given as int8 plus the int8 of what that left
            over. An engine of one token takes one term: the second would double its traffic.
        head_top_k: logits of the head that leave the engine when its caller asks for the likeliest
            only; 0 for all of them, always.
    """

    def __init__(
        self, accelerator: Accelerator, two_terms: Collection[str] = TWO_TERM_OPERATIONS,
        head_top_k: int = 0,
    ) -> None:  # fmt: skip
        self.accelerator = accelerator
        self.tokens = accelerator.config.tokens
        self._two_terms = two_terms if self.tokens > 1 else ()
        self._head_top_k = head_top_k

    def load(self, weights: Weights, operation: str) -> Linear:
        """Packs the matrix into the device's memory."""
        handle = self.accelerator.load(weights, operation)
        two_terms = operation in self._two_terms
        linear = self._linear(handle, two_terms)
        if operation != "head" or not self._head_top_k or weights.rows < 2:
            return linear
        assert isinstance(weights, (Quantised, Packed))  # the driver refuses everything else
        terms = split if two_terms else None
        return TopHead(self.accelerator, handle, weights, linear, terms, self._head_top_k)

    def _linear(self, handle: Handle, two_terms: bool) -> Linear:
        matmul = self.accelerator.matmul
        if not two_terms:
            return lambda activations: matmul(handle, activations)

        def both_terms(activations: np.ndarray) -> np.ndarray:
            count = len(activations)
            results = matmul(handle, split(activations))
            return results[:count] + results[count:]

        return both_terms


def split(activations: np.ndarray) -> np.ndarray:
    """Activations as two terms, each of which block floating point holds or nearly holds.

    Args:
        activations: [tokens, K] float32.

    Returns:
        [2 * tokens, K] float32: what block floating point makes of them, exactly, then the rest.
    """
    rounded = blockfloat.dequantise(*blockfloat.quantise(activations))
    return np.concatenate([rounded, activations - rounded])


class FloatBackend:
    """The reference: the same weights in float32, activations unrounded."""

    def __init__(self, tokens: int = 64) -> None:
        self.tokens = tokens

    def load(self, weights: Weights, operation: str) -> Linear:
        """Takes the matrix as floats: four bytes a weight."""
        transposed = weights.floats().T
        return lambda activations: activations @ transposed


def dequantise(weights: Quantised) -> np.ndarray:
    """[N, K] float32: (values - zeros) * scales, group by group."""
    return weights.floats()
