"""The forward pass of Qwen2 and Llama: linear layers and LM head on a backend, the rest in compiled
kernels (host/forward/steps.py).

A token's logits depend on the tokens before it and on nothing else, bit for bit: not on how many
tokens share its pass, nor on threads, nor on the device.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from host.forward import buffers
from host.forward.cache import KvCache
from host.forward.head import TopHead
from host.forward.linear import Backend, Head, Linear
from host.forward.rope import Rope
from host.forward.steps import AttentionStep, EmbeddingStep, NormStep, SwigluStep, Workspace
from host.forward.two_step import TwoStepHead
from host.weights import Model, Weights
from spec.errors import UserError

OPERATIONS = ("qkv", "output", "gate_up", "down", "head")
"""Linear layers by name, in the order in which a token meets them."""


class TokenError(UserError):
    """Token ids that the model does not have."""


@dataclass(frozen=True)
class _Layer:
    """One decoder layer: kernels and matmuls in the order in which they run."""

    input_norm: NormStep
    qkv: Linear
    attend: AttentionStep
    output: Linear
    post_norm: NormStep
    gate_up: Linear
    swiglu: SwigluStep
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
        cache: an existing one, of this model; or the format of a new one, ``fp16``, ``int8`` or
            ``fp32``; None leaves it to the backend.
        threads: of attention; None for one per processor.

    Raises:
        ContextError: a context that the model does not have.
        CacheError: a cache of another model, or no such format.
        LayoutError, DeviceError: a matrix that the accelerator cannot hold.
    """

    def __init__(
        self,
        model: Model,
        backend: Backend,
        context: int,
        progress: Callable[[int, int], None] = lambda done, total: None,
        cache: KvCache | str | None = None,
        threads: int | None = None,
    ) -> None:
        self.model = model
        self.tokens = backend.tokens
        """Tokens per pass in prefill."""
        if not isinstance(cache, KvCache):
            cache = KvCache(model.shape, context, cache or backend.cache_format, model.source)
        cache.check(model.shape, model.source)
        self.cache = cache
        todo = matrices(model)
        loaded = []
        for operation, weights in todo:
            loaded.append(backend.load(weights, operation))
            progress(len(loaded), len(todo))
        self._space = Workspace(model.shape, self.tokens, cache.positions)
        self._embed = EmbeddingStep(model.embedding, self._space)
        self._layers = self._join(loaded[:-1], threads or len(os.sched_getaffinity(0)))
        self._head: Head = loaded[-1]
        self._logits = np.zeros((self.tokens, model.head.rows), np.float32)
        plain = isinstance(self._head, (TopHead, TwoStepHead))
        self._normed = np.zeros((self.tokens if plain else 0, model.shape.hidden), np.float32)
        sinks = buffers.plain_sinks(self._normed) if plain else self._head.sinks
        self._final_norm = NormStep(
            self._space, loaded[-2] if self._layers else None, model.final_norm,
            model.shape.norm_epsilon, sinks,
        )  # fmt: skip

    def _join(self, linears: list[Linear], threads: int) -> list[_Layer]:
        """Layers, each kernel between the matmuls that it reads from and writes to."""
        shape, space = self.model.shape, self._space
        rope = Rope(shape, self.cache.context)
        layers, previous = [], None
        for index, layer in enumerate(self.model.layers):
            qkv, output, gate_up, down = linears[4 * index : 4 * index + 4]
            epsilon = shape.norm_epsilon
            layers.append(_Layer(
                NormStep(space, previous, layer.input_norm, epsilon, qkv.sinks, threads), qkv,
                AttentionStep(space, shape, rope, self.cache, index, layer.qkv_bias, qkv, output,
                              threads), output,
                NormStep(space, output, layer.post_norm, epsilon, gate_up.sinks, threads),
                gate_up,
                SwigluStep(space, gate_up, down, threads), down,
            ))  # fmt: skip
            previous = down
        return layers

    @property
    def full_passes(self) -> int:
        """Times that a head by top-k had to compute all logits after all."""
        return self._head.full_passes if isinstance(self._head, (TopHead, TwoStepHead)) else 0

    @property
    def candidates(self) -> int:
        """Tokens between which the head decides, of each pass; 0: all of them."""
        return self._head.top_k if isinstance(self._head, TwoStepHead) else 0

    def observe_head(self, observer: Callable[[np.ndarray, np.ndarray], None]) -> None:
        """Shows a head in two steps' inputs and logits to ``observer``; other heads have none."""
        if isinstance(self._head, TwoStepHead):
            self._head.observer = observer

    def forward(
        self,
        tokens: np.ndarray | list[int],
        all_logits: bool = False,
        likeliest: int | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
        copy: bool = True,
    ) -> np.ndarray:
        """Appends tokens to the sequence, in passes of ``self.tokens``.

        Args:
            tokens: [count] ids.
            all_logits: of every token, not only of the last one.
            likeliest: of each token, how many of the largest logits matter; the others may be
                minus infinity. None for all of them.
            progress: called with (tokens done, all) after each pass.
            copy: False may give a view that the next call overwrites: nothing is allocated then.

        Returns:
            [1 or count, vocabulary] float32 logits.

        Raises:
            ContextError: the cache cannot hold them (nothing is computed).
            TokenError: no token, or an id outside the vocabulary.
        """
        ids = self._checked(tokens)
        self.cache.room_for(len(ids))
        parts = []
        for start in range(0, len(ids), self.tokens):
            part = ids[start : start + self.tokens]
            self._pass(part)
            done = start + len(part)
            if all_logits:
                parts.append(self._read_logits(len(part), 0, likeliest))
            elif done == len(ids):
                parts.append(self._read_logits(len(part), len(part) - 1, likeliest))
            if copy or done < len(ids):
                parts[-1:] = [part.copy() for part in parts[-1:]]
            self.cache.advance(part)
            progress(done, len(ids))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def reset(self) -> None:
        """Forgets the sequence."""
        self.cache.truncate(0)

    def _checked(self, tokens: np.ndarray | list[int]) -> list[int]:
        ids = [int(token) for token in tokens]
        if not ids:
            raise TokenError("the model needs at least one token, got none")
        size = len(self.model.embedding)
        if min(ids) < 0 or max(ids) >= size:
            wrong = next(token for token in ids if not 0 <= token < size)
            raise TokenError(f"token {wrong} is outside the vocabulary of {size}: the tokenizer"
                             " belongs to another model")  # fmt: skip
        return ids

    def _pass(self, ids: list[int]) -> None:
        """All layers for at most M tokens; the last matmul's results are left to the final norm."""
        tokens, start = len(ids), self.cache.length
        self._embed(ids)
        for layer in self._layers:
            layer.input_norm(tokens)
            layer.qkv.run(tokens)
            layer.attend(tokens, start)
            layer.output.run(tokens)
            layer.post_norm(tokens)
            layer.gate_up.run(tokens)
            layer.swiglu(tokens)
            layer.down.run(tokens)

    def _read_logits(self, tokens: int, first: int, likeliest: int | None = None) -> np.ndarray:
        """Logits of the tokens from ``first`` on, of a pass: a view, or fresh from a top-k head."""
        count = tokens - first
        self._final_norm(tokens, first, count)
        if isinstance(self._head, (TopHead, TwoStepHead)):
            normed = self._normed[:count]
            if likeliest is None:
                return self._head(normed)
            return self._head.likeliest(normed, likeliest)
        self._head.run(count)
        return buffers.get(self._head.sources, self._logits[:count])
