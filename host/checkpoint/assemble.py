"""Builds a Model from a source of tensors, asking for each by its Hugging Face name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from host.checkpoint.errors import CheckpointError
from host.checkpoint.rounding import round_tables
from host.checkpoint.source import Part, Source
from host.checkpoint.tables import Table, embedding_of, materialise, single
from host.weights import Layer, Model, Shape, Weights

Linear = Callable[[Sequence[Part], int], Weights]
"""From linears of the same inputs and their K to one matrix."""


def build(
    shape: Shape, source: Source, eos_tokens: frozenset[int], group: int, head_bits: int
) -> Model:
    """Loads every tensor that ``shape`` calls for, and no other.

    Args:
        group: for what is rounded here: the linears of unquantised sources, and the head unless the
            source brings one in integers.
        head_bits: 4 or 8.

    Raises:
        CheckpointError: a tensor is missing, extra, of another shape, or holds a bad value.
    """
    embedding, head = _tables(shape, source)
    layers, final_norm = _rest(
        shape, source, lambda parts, columns: source.linear(parts, columns, group)
    )
    vectors = embedding_of(embedding)
    packed = source.packed_head(shape.vocabulary, shape.hidden)
    whole = packed or round_tables([head], head_bits, group)
    origin = "of the checkpoint" if packed else f"rounded from {head.name}"
    notes = {"head": f"int{whole.bits} group {whole.group}, {origin}", **source.notes}
    return Model(
        shape, vectors, layers, final_norm, whole,
        eos_tokens, source.label, notes,
    )  # fmt: skip


def build_dense(shape: Shape, source: Source, eos_tokens: frozenset[int]) -> Model:
    """The same model as floats, nothing rounded here: the reference that others are held against.

    Raises:
        CheckpointError: as for ``build``.
    """
    embedding, head = _tables(shape, source)
    layers, final_norm = _rest(shape, source, source.dense)
    label = f"{source.label.split(', rounded')[0].rstrip(')')}, floating point)"
    return Model(
        shape, materialise(embedding), layers, final_norm, single([head]), eos_tokens, label,
        source.notes,
    )  # fmt: skip


def _tables(shape: Shape, source: Source) -> tuple[Table, Table]:
    """The embedding and what the LM head is made from."""
    embedding = source.table("model.embed_tokens.weight", shape.vocabulary, shape.hidden)
    return embedding, source.table(source.head_name(shape.tied), shape.vocabulary, shape.hidden)


def _rest(shape: Shape, source: Source, linear: Linear) -> tuple[list[Layer], np.ndarray]:
    """The layers and the final norm; then no tensor may be left."""
    layers = [_layer(shape, source, index, linear) for index in range(shape.layers)]
    final_norm = source.vector("model.norm.weight", shape.hidden)
    if unused := source.unused():
        more = f" and {len(unused) - 1} more" if len(unused) > 1 else ""
        raise CheckpointError(
            f"{source.label}: tensor {unused[0]}{more} has no place in a {shape.architecture} model"
            f" of {shape.layers} layers: the configuration belongs to another checkpoint"
        )
    return layers, final_norm


def _layer(shape: Shape, source: Source, index: int, linear: Linear) -> Layer:
    prefix = f"model.layers.{index}"
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    qkv = [(f"{prefix}.self_attn.{part}_proj", rows) for part, rows in
           (("q", queries), ("k", keys), ("v", keys))]  # fmt: skip
    gate_up = [(f"{prefix}.mlp.{part}_proj", shape.intermediate) for part in ("gate", "up")]
    bias = None
    if shape.qkv_bias:
        bias = np.concatenate([source.vector(f"{name}.bias", rows) for name, rows in qkv])
    return Layer(
        input_norm=source.vector(f"{prefix}.input_layernorm.weight", shape.hidden),
        qkv=linear(qkv, shape.hidden),
        qkv_bias=bias,
        output=linear([(f"{prefix}.self_attn.o_proj", shape.hidden)], queries),
        post_norm=source.vector(f"{prefix}.post_attention_layernorm.weight", shape.hidden),
        gate_up=linear(gate_up, shape.hidden),
        down=linear([(f"{prefix}.mlp.down_proj", shape.hidden)], shape.intermediate),
    )


def finite(name: str, vector: np.ndarray) -> np.ndarray:
    """The vector as float32.

    Raises:
        CheckpointError: it holds a NaN or an infinity.
    """
    vector = vector.astype(np.float32)
    if not np.isfinite(vector).all():
        raise CheckpointError(f"tensor {name} holds a NaN or an infinity: the file is damaged")
    return vector
