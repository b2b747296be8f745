"""The KV cache: keys and values of every past token, in memory taken once."""

from __future__ import annotations

import numpy as np

from host.weights import Shape
from spec.errors import UserError


class ContextError(UserError):
    """More tokens than the context holds."""


class KvCache:
    """Keys and values of one sequence.

    ``keys`` and ``values`` are [layers, kv_heads, context, head_dim] float32.
    """

    def __init__(self, shape: Shape, context: int) -> None:
        if not 1 <= context <= shape.context:
            raise ContextError(
                f"the context must lie in 1..{shape.context} tokens for this model, got {context}"
            )
        self.context = context
        size = (shape.layers, shape.kv_heads, context, shape.head_dim)
        self.keys = np.zeros(size, np.float32)
        self.values = np.zeros(size, np.float32)
        self.length = 0
        """Tokens held."""

    def room_for(self, tokens: int) -> None:
        """Raises ContextError when ``tokens`` more do not fit."""
        if self.length + tokens > self.context:
            raise ContextError(
                f"{self.length + tokens} tokens do not fit the context of {self.context}: shorten"
                " the text or raise the context"
            )

    def put(self, layer: int, keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, ...]:
        """Appends [tokens, kv_heads, head_dim] to a layer; ``advance`` makes it count.

        Returns:
            The layer's keys and values up to and with the new ones, views of
            [kv_heads, length + tokens, head_dim].
        """
        end = self.length + len(keys)
        self.keys[layer, :, self.length : end] = keys.transpose(1, 0, 2)
        self.values[layer, :, self.length : end] = values.transpose(1, 0, 2)
        return self.keys[layer, :, :end], self.values[layer, :, :end]

    def advance(self, tokens: int) -> None:
        """Counts tokens that every layer has put."""
        self.length += tokens

    def truncate(self, length: int) -> None:
        """Forgets everything after the first ``length`` tokens."""
        if not 0 <= length <= self.length:
            raise ContextError(f"cannot keep {length} tokens of {self.length}")
        self.length = length
