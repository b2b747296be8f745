"""A language model as the runtime holds it: shapes, integer matrices, the few float tensors.

Loaders make these, the packer lays matrices out for the accelerator, the forward pass runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

BLOCK_ROWS = 1024
"""Rows of a stored table that are read at a time."""


class Weights(Protocol):
    """A matrix [N, K] in whichever form it is held.

    ``Quantised``: integers in this process; ``Dense``: floats, for the reference;
    ``host.layout.packed.Packed``: the accelerator's own layout, in a mapped file.
    """

    @property
    def rows(self) -> int:
        """N, outputs."""

    @property
    def columns(self) -> int:
        """K, inputs."""

    def floats(self) -> np.ndarray:
        """The weights, [N, K] float32."""


@runtime_checkable
class Integers(Weights, Protocol):
    """A matrix of integers with group scales, in whichever form it is held."""

    @property
    def bits(self) -> int:
        """4 or 8."""

    @property
    def group(self) -> int:
        """Values along K that share a scale."""

    def select(self, rows: np.ndarray | slice) -> Quantised:
        """Some rows, in the order asked for."""


class Embedding(Protocol):
    """The table of token vectors: an array [vocabulary, hidden], or what gives rows of one."""

    def __len__(self) -> int:
        """Tokens."""

    def __getitem__(self, tokens: np.ndarray, /) -> np.ndarray:
        """[count, hidden] floats of token ids [count]."""


@dataclass(frozen=True)
class Quantised:
    """An integer weight matrix with group scales: w[n, k] = (values - zeros[group]) * scales."""

    bits: int
    """4: values and zeros 0..15; 8: values -128..127, no zeros."""
    group: int
    """Values along K that share a scale: 32, 64 or 128."""
    values: np.ndarray
    """[N, K] uint8 (4 bits) or int8 (8 bits)."""
    scales: np.ndarray
    """[N, K / group] float16, finite, not negative."""
    zeros: np.ndarray | None = None
    """[N, K / group] uint8 for 4 bits, None for 8."""

    @property
    def rows(self) -> int:
        """N, outputs."""
        return self.values.shape[0]

    @property
    def columns(self) -> int:
        """K, inputs."""
        return self.values.shape[1]

    def select(self, rows: np.ndarray | slice) -> Quantised:
        """Some rows, in the order asked for; views where ``rows`` is a slice."""
        zeros = None if self.zeros is None else self.zeros[rows]
        return Quantised(self.bits, self.group, self.values[rows], self.scales[rows], zeros)

    def floats(self) -> np.ndarray:
        """[N, K] float32: (values - zeros) * scales, group by group."""
        rows, columns = self.values.shape
        values = self.values.astype(np.float32).reshape(rows, -1, self.group)
        if self.zeros is not None:
            values -= self.zeros[:, :, None]
        values *= self.scales[:, :, None].astype(np.float32)
        return values.reshape(rows, columns)


def outline(weights: Weights) -> Weights:
    """A matrix of the same shape and format without its values: every one is zero, in no memory."""
    if not isinstance(weights, Quantised):
        return weights
    held = (weights.values, weights.scales, weights.zeros)
    values, scales, zeros = (
        None if one is None else np.broadcast_to(one.dtype.type(0), one.shape) for one in held
    )
    assert values is not None and scales is not None
    return Quantised(weights.bits, weights.group, values, scales, zeros)


class IntegerEmbedding:
    """Token vectors out of an integer table, in floats: one table serves embedding and head.

    Args:
        table: [vocabulary, hidden].
    """

    def __init__(self, table: Integers) -> None:
        self.table = table

    def __len__(self) -> int:
        return self.table.rows

    def __getitem__(self, tokens: np.ndarray) -> np.ndarray:
        """[count, hidden] float32 of token ids [count]."""
        return self.table.select(tokens).floats()


class StoredEmbedding:
    """Token vectors that are read from a checkpoint when they are asked for: a table that is large
    in floats is in no memory but the file's pages.

    Args:
        read: ``read(start, stop)``: rows as float32 [stop - start, columns].
        dtype: float16 or float32, to which they are rounded.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        read: Callable[[int, int], np.ndarray],
        dtype: type[np.floating[Any]],
    ) -> None:
        self._rows, self.columns, self._read, self._dtype = rows, columns, read, dtype

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, tokens: np.ndarray) -> np.ndarray:
        """[count, hidden] floats of token ids [count]."""
        found = np.empty((len(tokens), self.columns), self._dtype)
        for row, token in zip(found, tokens.tolist(), strict=True):
            row[:] = self._read(token, token + 1)[0]
        return found

    @property
    def nbytes(self) -> int:
        """Of the whole table in floats."""
        return self._rows * self.columns * np.dtype(self._dtype).itemsize

    def whole(self) -> np.ndarray:
        """The table [vocabulary, hidden]."""
        found = np.empty((self._rows, self.columns), self._dtype)
        for start in range(0, self._rows, BLOCK_ROWS):
            part = found[start : start + BLOCK_ROWS]
            part[:] = self._read(start, start + len(part))
        return found


@dataclass(frozen=True)
class Dense:
    """An unquantised matrix: only floating point runs it."""

    values: np.ndarray
    """[N, K] float32"""

    @property
    def rows(self) -> int:
        """N, outputs."""
        return self.values.shape[0]

    @property
    def columns(self) -> int:
        """K, inputs."""
        return self.values.shape[1]

    def floats(self) -> np.ndarray:
        """[N, K] float32, without a copy."""
        return self.values


@dataclass(frozen=True)
class Shape:
    """Dimensions of a decoder-only transformer (Qwen2 or Llama)."""

    architecture: str
    """``qwen2`` or ``llama``."""
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    context: int
    """Longest sequence, tokens."""
    norm_epsilon: float
    rope_theta: float
    rope_scaling: dict[str, float] | None = None
    """Llama 3 frequency scaling: factor, low_freq_factor, high_freq_factor, original_context."""
    tied: bool = True
    """The LM head is the embedding."""
    qkv_bias: bool = False


@dataclass(frozen=True)
class Layer:
    """One decoder layer. Rotary embedding pairs value i with i + head_dim / 2 (rotate-half)."""

    input_norm: np.ndarray
    """[hidden] float32"""
    qkv: Weights
    """rows: queries, keys, values"""
    qkv_bias: np.ndarray | None
    """[(heads + 2 kv_heads) * head_dim] float32"""
    output: Weights
    post_norm: np.ndarray
    """[hidden] float32"""
    gate_up: Weights
    """rows: gate, then up"""
    down: Weights


@dataclass(frozen=True)
class Model:
    """A whole model with what it was loaded from."""

    shape: Shape
    embedding: Embedding
    """[vocabulary, hidden] float16 or float32"""
    layers: Sequence[Layer]
    final_norm: np.ndarray
    """[hidden] float32"""
    head: Weights
    """[vocabulary, hidden]"""
    eos_tokens: frozenset[int]
    source: str
    """Path and packing, for reports: ``model.gguf (GGUF Q4_1, rounded to int4 group 64)``"""
    notes: dict[str, str] = field(default_factory=dict)
    fine: Quantised | None = None
    """int8 [vocabulary, hidden]: decides among what ``head`` proposes (``forward.two_step``); None
    where ``head`` decides alone."""


def without_weights(layer: Layer) -> Layer:
    """A layer whose matrices are outlines."""
    return replace(
        layer, qkv=outline(layer.qkv), output=outline(layer.output),
        gate_up=outline(layer.gate_up), down=outline(layer.down),
    )  # fmt: skip
