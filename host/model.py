"""The forward pass of Qwen2 and Llama: linear layers and LM head on a backend, the rest in NumPy.

The NumPy part sees the same shapes on every device, so devices that agree bit for bit write the
same text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from host.attention import attend
from host.cache import KvCache
from host.head import TopHead
from host.linear import Backend, Linear
from host.norm import rms_norm, swiglu
from host.rope import Rope
from host.weights import Layer, Model, Weights
from spec.errors import UserError

OPERATIONS = ("qkv", "output", "gate_up", "down", "head")
"""Linear layers by name, in the order in which a token meets them."""


class TokenError(UserError):
    """Token ids that the model does not have."""


@dataclass(frozen=True)
class _Linears:
    """One layer's matrices on the backend."""

    qkv: Linear
    output: Linear
    gate_up: Linear
    down: Linear


def matrices(model: Model) -> list[tuple[str, Weights]]:
    """Every matrix that runs on the accelerator, with its operation, layer by layer."""
    result: list[tuple[str, Weights]] = []
    for layer in model.layers:
        result += [(name, getattr(layer, name)) for name in OPERATIONS[:-1]]
    return [*result, ("head", model.head)]


class Transformer:
    """A model on a backend, with the cache of one sequence.

    Args:
        model: weights and shapes.
        backend: where the linear layers run.
        context: tokens that the cache holds, at most the model's.
        progress: called with (matrices done, all) while they are loaded.

    Raises:
        ContextError: a context that the model does not have.
        LayoutError, DeviceError: a matrix that the accelerator cannot hold.
    """

    def __init__(
        self,
        model: Model,
        backend: Backend,
        context: int,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.model = model
        self.tokens = backend.tokens
        """Tokens per pass in prefill."""
        self.cache = KvCache(model.shape, context)
        self._rope = Rope(model.shape, context)
        todo = matrices(model)
        loaded = []
        for operation, weights in todo:
            loaded.append(backend.load(weights, operation))
            progress(len(loaded), len(todo))
        self._linears = [
            _Linears(*loaded[index : index + 4]) for index in range(0, len(todo) - 1, 4)
        ]
        self._head = loaded[-1]

    @property
    def full_passes(self) -> int:
        """Times that a head by top-k had to compute all logits after all."""
        return self._head.full_passes if isinstance(self._head, TopHead) else 0

    def forward(
        self,
        tokens: np.ndarray | list[int],
        all_logits: bool = False,
        likeliest: int | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> np.ndarray:
        """Appends tokens to the sequence, in passes of ``self.tokens``.

        Args:
            tokens: [count] ids.
            all_logits: of every token, not only of the last one.
            likeliest: of the last token, how many of the largest logits matter; the others may be
                minus infinity. None for all of them.
            progress: called with (tokens done, all) after each pass.

        Returns:
            [1 or count, vocabulary] float32 logits.

        Raises:
            ContextError: the cache cannot hold them (nothing is computed).
            TokenError: no token, or an id outside the vocabulary.
        """
        ids = self._checked(tokens)
        self.cache.room_for(len(ids))
        logits = []
        for start in range(0, len(ids), self.tokens):
            part = ids[start : start + self.tokens]
            hidden = self._layers(part)
            if all_logits:
                logits.append(self._logits(hidden))
            elif start + len(part) == len(ids):
                logits.append(self._logits(hidden[-1:], likeliest))
            progress(start + len(part), len(ids))
        return logits[0] if len(logits) == 1 else np.concatenate(logits)

    def reset(self) -> None:
        """Forgets the sequence."""
        self.cache.truncate(0)

    def _checked(self, tokens: np.ndarray | list[int]) -> np.ndarray:
        ids = np.asarray(tokens, np.int64)
        if ids.ndim != 1 or not ids.size:
            raise TokenError("the model needs at least one token, got none")
        size = len(self.model.embedding)
        if ids.min() < 0 or ids.max() >= size:
            wrong = ids[(ids < 0) | (ids >= size)][0]
            raise TokenError(f"token {wrong} is outside the vocabulary of {size}: the tokenizer"
                             " belongs to another model")  # fmt: skip
        return ids

    def _layers(self, ids: np.ndarray) -> np.ndarray:
        """One pass through all layers: [tokens, hidden] float32."""
        hidden = self.model.embedding[ids].astype(np.float32)
        for index, (layer, linears) in enumerate(
            zip(self.model.layers, self._linears, strict=True)
        ):
            hidden += self._attention(index, layer, linears, hidden)
            hidden += self._feed_forward(layer, linears, hidden)
        self.cache.advance(len(ids))
        return hidden

    def _attention(
        self, index: int, layer: Layer, linears: _Linears, hidden: np.ndarray
    ) -> np.ndarray:
        shape = self.model.shape
        normed = rms_norm(hidden, layer.input_norm, shape.norm_epsilon)
        joined = linears.qkv(normed)
        if layer.qkv_bias is not None:
            joined += layer.qkv_bias
        heads = joined.reshape(len(hidden), -1, shape.head_dim)
        rotated = shape.heads + shape.kv_heads
        self._rope.rotate(heads[:, :rotated], self.cache.length)
        keys, values = self.cache.put(index, heads[:, shape.heads : rotated], heads[:, rotated:])
        return linears.output(attend(heads[:, : shape.heads], keys, values))

    def _feed_forward(self, layer: Layer, linears: _Linears, hidden: np.ndarray) -> np.ndarray:
        normed = rms_norm(hidden, layer.post_norm, self.model.shape.norm_epsilon)
        return linears.down(swiglu(linears.gate_up(normed)))

    def _logits(self, hidden: np.ndarray, likeliest: int | None = None) -> np.ndarray:
        normed = rms_norm(hidden, self.model.final_norm, self.model.shape.norm_epsilon)
        if likeliest is not None and isinstance(self._head, TopHead):
            return self._head.likeliest(normed, likeliest)
        return self._head(normed)
