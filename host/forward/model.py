"""The forward pass of Qwen2 and Llama: linear layers and LM head on a backend, the rest in compiled
kernels (host/forward/steps.py).

A token's logits depend on the tokens before it and on nothing else, bit for bit: not on how many
tokens share its pass, nor on threads, nor on the device.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from host.forward import buffers
from host.forward.cache import KvCache
from host.forward.head import TopHead
from host.forward.lanes import Lanes
from host.forward.linear import Backend, Head
from host.forward.program import HEAD_LANE, Action, Program, launches
from host.forward.two_step import TwoStepHead
from host.weights import Model, Weights, without_weights
from spec.errors import UserError

OPERATIONS = ("qkv", "output", "gate_up", "down", "head")
"""Linear layers by name, in the order in which a token meets them."""


class TokenError(UserError):
    """Token ids that the model does not have."""


def matrices(model: Model) -> Iterator[tuple[str, Weights]]:
    """Every matrix that runs on the accelerator, with its operation, layer by layer."""
    for layer in model.layers:
        for name in OPERATIONS[:-1]:
            yield name, getattr(layer, name)
    yield "head", model.head


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
        consume: each layer's matrices go from ``model.layers``, a list, once the backend has them,
            so that they are not held twice.

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
        consume: bool = False,
    ) -> None:
        self.model = model
        self.tokens = backend.tokens
        """Tokens per pass in prefill."""
        if not isinstance(cache, KvCache):
            cache = KvCache(model.shape, context, cache or backend.cache_format, model.source)
        cache.check(model.shape, model.source)
        self.cache = cache
        loaded, total = [], 4 * len(model.layers) + 1
        for operation, weights in matrices(model):
            loaded.append(backend.load(weights, operation))
            if consume and operation == "down" and isinstance(model.layers, list):
                index = len(loaded) // 4 - 1
                model.layers[index] = without_weights(model.layers[index])
            progress(len(loaded), total)
        del weights
        self._head: Head = loaded[-1]
        self._launcher = backend.launcher
        self._listed: np.ndarray | None = None
        self._programs: dict[tuple[Any, ...], Program] = {}
        self._logits = np.zeros((self.tokens, model.head.rows), np.float32)
        threads = threads or len(os.sched_getaffinity(0))
        self._lanes = Lanes(model, loaded, cache, threads, self.tokens, backend.lanes)

    @property
    def full_passes(self) -> int:
        """Times that a head by top-k had to compute all logits after all."""
        return self._head.full_passes if isinstance(self._head, (TopHead, TwoStepHead)) else 0

    @property
    def candidates(self) -> int:
        """Tokens between which the head decides, of each pass; 0: all of them."""
        return self._head.top_k if isinstance(self._head, TwoStepHead) else 0

    @property
    def listed(self) -> np.ndarray | None:
        """Of the logits that ``forward`` gave last, the ids of those that are not minus infinity,
        [tokens, n]; None: any may be."""
        return self._listed

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
        parts: list[np.ndarray] = []
        self._listed = None
        most = self.tokens
        done = 0
        while done < len(ids):
            left = ids[done : done + self._lanes.count * most]
            passes = [left[at : at + most] for at in range(0, len(left), most)]
            done += len(left)
            last = done == len(ids)
            parts += self._run(passes, all_logits, last, likeliest, copy or not last)
            for one in passes:
                self.cache.advance(one)
            progress(done, len(ids))
        if len(parts) != 1:
            self._listed = None
            return np.concatenate(parts)
        return parts[0]

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

    def _run(
        self, passes: list[list[int]], every: bool, last: bool, likeliest: int | None, copy: bool
    ) -> list[np.ndarray]:  # fmt: skip
        """One pass, or two under way at a time; their logits, if any are wanted.

        Args:
            every: logits of every token.
            last: the text ends with these passes, so the last token's logits are wanted.
            copy: logits in fresh memory.
        """
        lanes, end = len(passes), len(passes) - 1
        if every:
            self._go(("pass", lanes), passes)
            found = []
            for lane, ids in enumerate(passes):
                self._go(("head", lane, likeliest is None), passes, 0, len(ids), lane)
                found.append(self._read(len(ids), likeliest))
                if copy or lanes > 1:
                    found[-1] = found[-1].copy()
            return found
        if not last:
            self._go(("pass", lanes), passes)
            return []
        self._go(("both", lanes, likeliest is None), passes, len(passes[-1]) - 1, 1, end)
        found = [self._read(1, likeliest)]
        return [found[0].copy()] if copy else found

    def _go(
        self, key: tuple[Any, ...], passes: list[list[int]], first: int = 0, count: int = 0,
        lane: int = 0,
    ) -> None:  # fmt: skip
        """Runs a program: ``pass``, ``head`` or ``both`` one after the other.

        Args:
            first, count, lane: the tokens that get logits.
        """
        program = self._programs.get(key)
        if program is None:
            program = self._programs[key] = Program(self._actions(*key), self._launcher)
        start = self.cache.length
        for index, ids in enumerate(passes):
            self._lanes.put(index, ids)
            chosen = (first, count) if index == lane else (0, 0)
            program.set(index, len(ids), start, *chosen)
            start += len(ids)
        program.set(HEAD_LANE, count)
        program()

    def _actions(self, what: str, lanes: int, full: bool = True) -> list[Action]:
        """The steps of a program; ``lanes`` is the lane itself for ``head``."""
        if what == "pass":
            return self._lanes.actions(lanes)
        if what == "both":
            return self._lanes.actions(lanes) + self._actions("head", lanes - 1, full)
        norm = self._lanes.last_norm(lanes)
        if isinstance(self._head, TwoStepHead):
            return [norm, *([] if full else self._head.actions(self._lanes.normed))]
        if isinstance(self._head, TopHead):
            return [norm]
        return [norm, *launches(self._head.lanes[0], HEAD_LANE)]

    def _read(self, count: int, likeliest: int | None) -> np.ndarray:
        """Logits of ``count`` tokens whose program has run: maybe a view."""
        normed = self._lanes.normed[:count]
        if isinstance(self._head, TwoStepHead):
            if likeliest is None:
                return self._head(normed)
            logits, self._listed = self._head.read(count, likeliest)
            return logits
        if isinstance(self._head, TopHead):
            if likeliest is None:
                return self._head(normed)
            return self._head.likeliest(normed, likeliest)
        return buffers.get(self._head.lanes[0].sources, self._logits[:count])
