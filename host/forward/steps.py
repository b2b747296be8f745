"""What the forward pass does between its matmuls, one compiled kernel each, on fixed buffers.

Every step is made once and then called with the number of tokens of a pass; it allocates nothing.
"""

from __future__ import annotations

import copy
import ctypes
import math
from typing import Any

import numpy as np

from host.forward.buffers import check_finite, padded_rows
from host.forward.cache import FORMATS, LANES, KvCache
from host.forward.linear import Lane
from host.forward.rope import Rope
from host.kernels import Attention, Norm, Swiglu, Table, library
from host.kernels.runner import Gathering
from host.layout.blockfloat import blocks
from host.weights import Embedding, Shape


class Workspace:
    """Buffers that all steps of a model share.

    Args:
        shape: the model's.
        tokens: M, of a pass.
        positions: of the cache.
    """

    def __init__(self, shape: Shape, tokens: int, positions: int) -> None:
        queries = shape.heads * shape.head_dim
        wide = -(-shape.head_dim // LANES) * LANES
        self.hidden = np.zeros((tokens, shape.hidden), np.float32)
        self.intermediate = shape.intermediate
        self.rows = padded_rows(tokens, max(shape.hidden, queries, shape.intermediate))
        self.exponents = np.zeros((tokens, blocks(shape.intermediate)), np.int32)
        self.queries = np.zeros((tokens, queries), np.float32)
        self.scores = np.zeros((tokens, shape.heads, positions + LANES), np.float32)
        self.shares = np.zeros((tokens, shape.heads), np.float32)
        self.mixed = np.zeros((tokens, shape.heads, wide), np.float32)

    def another(self) -> Workspace:
        """For a second pass under way: a hidden state of its own, the rest is used by one kernel
        at a time."""
        made = copy.copy(self)
        made.hidden = np.zeros_like(self.hidden)
        return made


class EmbeddingStep:
    """Rows of the embedding into the hidden state.

    Args:
        embedding: fp16 or fp32 arrays are read by the kernel; other tables give their rows.
    """

    def __init__(self, embedding: Embedding, space: Workspace) -> None:
        self._embedding, self._hidden = embedding, space.hidden
        self._ids = np.zeros(len(space.hidden), np.int64)
        table = _table(embedding)
        self.call: Gathering | None = None
        """For the compiled runner; None where Python alone can read the table."""
        if table is not None:
            self.call = Gathering()
            self.call.hold(table=table, ids=self._ids, hidden=self._hidden)

    def put(self, ids: list[int]) -> None:
        """Tokens of a pass; inside the vocabulary."""
        self._ids[: len(ids)] = ids

    def by_hand(self, count: int) -> None:
        """Rows of the first ``count`` of them, in Python."""
        self._hidden[:count] = self._embedding[self._ids[:count]]


def _table(embedding: Any) -> Table | None:
    """What the gather kernel can read; None for others."""
    quantised: Any = getattr(embedding, "table", None)  # host.forward.two_step.IntegerEmbedding
    if isinstance(embedding, np.ndarray) and embedding.flags.c_contiguous:
        kinds = {np.dtype(np.float32): 0, np.dtype(np.float16): 1}
        if embedding.dtype not in kinds:
            return None
        rows, columns = embedding.shape
        table = Table(rows=rows, columns=columns, format=kinds[embedding.dtype])
        table.hold(values=embedding)
        return table
    arrays = [getattr(quantised, name, None) for name in ("values", "scales")]
    if not all(isinstance(array, np.ndarray) and array.flags.c_contiguous for array in arrays):
        return None
    table = Table(
        rows=quantised.rows, columns=quantised.columns, format=2 if quantised.bits == 8 else 3,
        group=quantised.group,
    )  # fmt: skip
    table.hold(values=quantised.values, scales=quantised.scales, zeros=quantised.zeros)
    return table


class NormStep:
    """hidden += the previous matmul's results; its norm into the next matmul's activations.

    Args:
        previous: None at the beginning, where the embedding is the hidden state.
        sinks: of the next matmul.
        threads: that share a pass's tokens.
    """

    def __init__(
        self, space: Workspace, previous: Lane | None, weight: np.ndarray, epsilon: float,
        sinks: Any, threads: int = 1,
    ) -> None:  # fmt: skip
        self.columns = len(weight)
        self.call = Norm(columns=self.columns, epsilon=epsilon, threads=threads)
        self.call.hold(
            hidden=space.hidden, weight=_floats(weight), scratch=space.rows, next=sinks,
            previous=None if previous is None else previous.sources,
        )  # fmt: skip
        self._pointer, self._function = ctypes.byref(self.call), library().kernels_norm

    def __call__(self, tokens: int, first: int = 0, count: int | None = None) -> None:
        """For ``count`` tokens from ``first`` on, of a pass of ``tokens``.

        Raises:
            ActivationError: a value that is not finite.
        """
        wrong = self._function(self._pointer, tokens, first, tokens if count is None else count)
        check_finite(wrong, self.columns)


class AttentionStep:
    """Queries, keys and values of a layer into its attention's result."""

    def __init__(
        self, space: Workspace, shape: Shape, rope: Rope, cache: KvCache, layer: int,
        bias: np.ndarray | None, joined: Lane, following: Lane, threads: int,
    ) -> None:  # fmt: skip
        self.columns = shape.heads * shape.head_dim
        self.call = Attention(
            context=cache.positions, heads=shape.heads, kv_heads=shape.kv_heads,
            head_dim=shape.head_dim, format=list(FORMATS).index(cache.format), threads=threads,
            query_scale=1 / math.sqrt(shape.head_dim),
        )  # fmt: skip
        quantised = cache.format == "int8"
        self.call.hold(
            joined=joined.sources, next=following.sinks, cosines=rope.cosines, sines=rope.sines,
            bias=None if bias is None else _floats(bias), keys=cache.keys[layer],
            values=cache.values[layer], key_scales=cache.key_scales[layer] if quantised else None,
            value_scales=cache.value_scales[layer] if quantised else None, shares=space.shares,
            queries=space.queries, scores=space.scores, mixed=space.mixed, rows=space.rows,
        )  # fmt: skip
        self._pointer, self._function = ctypes.byref(self.call), library().kernels_attend

    def __call__(self, tokens: int, start: int) -> None:
        """For a pass whose first token has position ``start``.

        Raises:
            ActivationError: a value that is not finite.
        """
        check_finite(self._function(self._pointer, tokens, start), self.columns)


class SwigluStep:
    """silu(gate) * up of a layer into its last matmul's activations."""

    def __init__(self, space: Workspace, gate_up: Lane, down: Lane, threads: int) -> None:
        self.columns = space.intermediate
        self.call = Swiglu(columns=self.columns, threads=threads)
        self.call.hold(
            gate_up=gate_up.sources, next=down.sinks, scratch=space.rows, exponents=space.exponents
        )
        self._pointer, self._function = ctypes.byref(self.call), library().kernels_swiglu

    def __call__(self, tokens: int) -> None:
        """For a pass of ``tokens``.

        Raises:
            ActivationError: a value that is not finite.
        """
        check_finite(self._function(self._pointer, tokens), self.columns)


def _floats(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32)
