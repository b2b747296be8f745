"""The KV cache: keys and values of every past token, in memory taken once.

The compiled attention (``host/kernels/attention_parts.h``) reads and writes it. Keys lie
[layers, kv_heads, context / 16, head_dim, 16 positions], values [layers, kv_heads, context,
head_dim padded to 16], so that both are read in order. An int8 entry is a key or value of one head
with its own fp16 scale, the form of the engine's int8 weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from host.weights import Shape
from spec.errors import UserError

LANES = 16
"""Positions that attention takes at once (``kernels.h``)."""

MAX_HEAD_DIM = 512
"""Values of a head (``append.h``)."""

FORMATS = {"fp32": np.float32, "fp16": np.uint16, "int8": np.int8}
"""Of an entry; fp16 as its pattern. In the order of ``kernels.h``."""


class ContextError(UserError):
    """More tokens than the context holds."""


class CacheError(UserError):
    """A cache that does not belong to the model, or a format that there is not."""


class KvCache:
    """Keys and values of one sequence, and its tokens.

    Args:
        shape: the model's.
        context: positions.
        format: ``fp16``, ``int8`` (half of it) or ``fp32`` (for the reference).
        owner: what the entries were computed with; a cache serves nothing else.

    Raises:
        ContextError: a context that the model does not have.
        CacheError: no such format, or heads larger than the kernels take.
    """

    def __init__(
        self, shape: Shape, context: int, format: str = "fp16", owner: str = ""
    ) -> None:  # fmt: skip
        if not 1 <= context <= shape.context:
            raise ContextError(
                f"the context must lie in 1..{shape.context} tokens for this model, got {context}"
            )
        if shape.head_dim > MAX_HEAD_DIM:
            raise CacheError(
                f"a head may have up to {MAX_HEAD_DIM} values, got head_dim = {shape.head_dim}"
            )
        if format not in FORMATS:
            raise CacheError(f"the cache's format must be fp16, int8 or fp32, got {format!r}")
        self.shape, self.context, self.format, self.owner = shape, context, format, owner
        self.positions = -(-context // LANES) * LANES
        """``context`` in whole runs of 16."""
        heads, kind = (shape.layers, shape.kv_heads), FORMATS[format]
        wide = -(-shape.head_dim // LANES) * LANES
        self.keys = np.zeros((*heads, self.positions // LANES, shape.head_dim, LANES), kind)
        self.values = np.zeros((*heads, self.positions, wide), kind)
        scales = (*heads, self.positions if format == "int8" else 0)
        self.key_scales, self.value_scales = (np.zeros(scales, np.uint16) for _ in range(2))
        self.tokens: list[int] = []
        """Those whose entries every layer holds."""

    @property
    def length(self) -> int:
        """Tokens held."""
        return len(self.tokens)

    @property
    def bytes(self) -> int:
        """Bytes of all entries."""
        arrays = (self.keys, self.values, self.key_scales, self.value_scales)
        return sum(array.nbytes for array in arrays)

    def check(self, shape: Shape, owner: str) -> None:
        """Raises CacheError when the cache belongs to another model."""
        if self.shape != shape:
            raise CacheError(
                f"the cache was made for another model: {_dimensions(self.shape)}, not"
                f" {_dimensions(shape)}: make a new one"
            )
        if self.owner != owner:
            raise CacheError(
                f"the cache holds keys and values of {self.owner!r}, the model is {owner!r}: make"
                " a new one"
            )

    def room_for(self, tokens: int) -> None:
        """Raises ContextError when ``tokens`` more do not fit."""
        if self.length + tokens > self.context:
            raise ContextError(
                f"{self.length + tokens} tokens do not fit the context of {self.context}: shorten"
                " the text or raise the context"
            )

    def advance(self, tokens: Sequence[int]) -> None:
        """Counts tokens whose entries every layer has written."""
        self.tokens.extend(tokens)

    def truncate(self, length: int) -> None:
        """Forgets everything after the first ``length`` tokens."""
        if not 0 <= length <= self.length:
            raise ContextError(f"cannot keep {length} tokens of {self.length}")
        del self.tokens[length:]

    def reuse(self, tokens: Sequence[int]) -> int:
        """Keeps what agrees with the beginning of ``tokens``, compared one by one, and forgets the
        rest. Of ``tokens`` at least one is left to compute: its logits are wanted.

        Returns:
            Tokens kept.
        """
        same = 0
        for held, wanted in zip(self.tokens, tokens[: len(tokens) - 1], strict=False):
            if held != wanted:
                break
            same += 1
        self.truncate(same)
        return same


def _dimensions(shape: Shape) -> str:
    return (
        f"{shape.layers} layers, {shape.kv_heads} key heads of {shape.head_dim},"
        f" rope {shape.rope_theta:g}"
    )
