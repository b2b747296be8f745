"""The decoder layers of a model as steps on fixed buffers, for each pass under way at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from host.forward import buffers
from host.forward.cache import KvCache
from host.forward.head import TopHead
from host.forward.program import Action, launches
from host.forward.rope import Rope
from host.forward.schedule import events
from host.forward.steps import AttentionStep, EmbeddingStep, NormStep, SwigluStep, Workspace
from host.forward.two_step import TwoStepHead
from host.weights import Model

MATMULS = 4
"""Of a layer: qkv, output, gate_up, down."""


class Lanes:
    """A model's steps.

    Args:
        loaded: its matrices on the backend, layer by layer, the head last.
        threads: of the kernels.
        tokens: M, of a pass.
        count: passes under way at a time.
    """

    def __init__(
        self, model: Model, loaded: list[Any], cache: KvCache, threads: int, tokens: int, count: int
    ) -> None:  # fmt: skip
        self.count = count
        self._shape, self._cache, self._threads = model.shape, cache, threads  # no weights
        self._rope = Rope(model.shape, cache.context)
        head = loaded[-1]
        plain = isinstance(head, (TopHead, TwoStepHead))
        self.normed = np.zeros((tokens if plain else 0, model.shape.hidden), np.float32)
        """What a head by top-k reads: the last norm of each token that gets logits."""
        sinks = buffers.plain_sinks(self.normed) if plain else head.lanes[0].sinks
        spaces = [Workspace(model.shape, tokens, cache.positions)]
        spaces += [spaces[0].another() for _ in range(1, count)]
        self._embed = [EmbeddingStep(model.embedding, space) for space in spaces]
        self._kernels, self._matmuls, self._last = [], [], []
        for lane, space in enumerate(spaces):
            linears = [linear.lanes[lane] for linear in loaded[:-1]]
            self._matmuls.append([launches(linear, lane) for linear in linears])
            self._kernels.append(self._join(model, lane, space, linears))
            previous = linears[-1] if linears else None
            norm = self._norm(space, previous, model.final_norm, sinks)
            self._last.append(Action("last norm", lane, norm.call, columns=norm.columns))

    def put(self, lane: int, ids: list[int]) -> None:
        """Gives a lane its tokens; inside the vocabulary."""
        self._embed[lane].put(ids)

    def actions(self, lanes: int) -> list[Action]:
        """All layers of one pass, or of two in turn; the last matmul's results are left to the last
        norm."""
        embed = self._embed[:lanes]
        found = [Action("gather", lane, one.call, one.by_hand) for lane, one in enumerate(embed)]
        for what, lane, matmul in events(len(self._matmuls[0]), lanes):
            start, finish = self._matmuls[lane][matmul]
            found.append({
                "kernel": self._kernels[lane][matmul], "start": start, "finish": finish
            }[what])  # fmt: skip
        return found

    def last_norm(self, lane: int) -> Action:
        """The norm before the head, of a lane's chosen tokens."""
        return self._last[lane]

    def _norm(self, space: Workspace, previous: Any, weight: np.ndarray, sinks: Any) -> NormStep:
        epsilon = self._shape.norm_epsilon
        return NormStep(space, previous, weight, epsilon, sinks, self._threads)

    def _join(
        self, model: Model, lane: int, space: Workspace, linears: list[Any]
    ) -> list[Action]:  # fmt: skip
        """The kernel before each matmul, between those that it reads from and writes to."""
        found: list[Action] = []

        def add(kind: str, step: Any) -> None:
            found.append(Action(kind, lane, step.call, columns=step.columns))

        previous = None
        for index, layer in enumerate(model.layers):
            qkv, output, gate_up, down = linears[MATMULS * index : MATMULS * (index + 1)]
            add("norm", self._norm(space, previous, layer.input_norm, qkv.sinks))
            add("attend", AttentionStep(
                space, self._shape, self._rope, self._cache, index, layer.qkv_bias, qkv, output,
                self._threads,
            ))  # fmt: skip
            add("norm", self._norm(space, output, layer.post_norm, gate_up.sinks))
            add("swiglu", SwigluStep(space, gate_up, down, self._threads))
            previous = down
        return found
