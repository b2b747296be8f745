"""A language model as the runtime holds it: shapes, integer matrices, the few float tensors.

Loaders make these, the packer lays matrices out for the accelerator, the forward pass runs them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


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
    qkv: Quantised
    """rows: queries, keys, values"""
    qkv_bias: np.ndarray | None
    """[(heads + 2 kv_heads) * head_dim] float32"""
    output: Quantised
    post_norm: np.ndarray
    """[hidden] float32"""
    gate_up: Quantised
    """rows: gate, then up"""
    down: Quantised


@dataclass(frozen=True)
class Model:
    """A whole model with what it was loaded from."""

    shape: Shape
    embedding: np.ndarray
    """[vocabulary, hidden] float16 or float32"""
    layers: list[Layer]
    final_norm: np.ndarray
    """[hidden] float32"""
    head: Quantised
    """[vocabulary, hidden]"""
    eos_tokens: frozenset[int]
    source: str
    """Path and packing, for reports: ``model.gguf (GGUF Q4_1, rounded to int4 group 64)``"""
    notes: dict[str, str] = field(default_factory=dict)
