"""The unquantised model, read a layer at a time, so that memory holds one layer and not all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from host.checkpoint import gguf_model, hf_model
from host.checkpoint.checkpoints import Checkpoint, GgufCheckpoint, HfCheckpoint
from host.checkpoint.source import Part, Source
from host.checkpoint.tables import Table, materialise
from host.weights import Shape
from spec.errors import UserError

MATRICES = ("qkv", "output", "gate_up", "down")
"""The matrices of a layer as the accelerator has them, in the order in which a token meets them."""


class QuantiseError(UserError):
    """A model that cannot be quantised."""


@dataclass
class DenseLayer:
    """One decoder layer in float32; see ``host.weights.Layer``."""

    input_norm: np.ndarray
    qkv: np.ndarray
    """[(heads + 2 kv_heads) * head_dim, hidden]"""
    qkv_bias: np.ndarray | None
    output: np.ndarray
    """[hidden, heads * head_dim]"""
    post_norm: np.ndarray
    gate_up: np.ndarray
    """[2 * intermediate, hidden]"""
    down: np.ndarray
    """[hidden, intermediate]"""

    def copy(self) -> DenseLayer:
        """The same arrays in a layer of its own: replacing one leaves the original as it is."""
        return DenseLayer(**{field.name: getattr(self, field.name) for field in fields(self)})


class DenseModel:
    """An unquantised checkpoint.

    Args:
        checkpoint: GGUF, or safetensors of floats.

    Raises:
        QuantiseError: the checkpoint is quantised already.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.shape: Shape = checkpoint.shape
        self._source = _source(checkpoint)

    def layer(self, index: int) -> DenseLayer:
        """One layer.

        Raises:
            CheckpointError: a tensor is missing or damaged.
        """
        prefix, shape = f"model.layers.{index}", self.shape
        parts = linears(shape, index)
        bias = None
        if shape.qkv_bias:
            vectors = [self._source.vector(f"{name}.bias", rows) for name, rows in parts["qkv"]]
            bias = np.concatenate(vectors)
        joined = shape.heads * shape.head_dim
        return DenseLayer(
            input_norm=self._source.vector(f"{prefix}.input_layernorm.weight", shape.hidden),
            qkv=self._matrix(parts["qkv"], shape.hidden),
            qkv_bias=bias,
            output=self._matrix(parts["output"], joined),
            post_norm=self._source.vector(
                f"{prefix}.post_attention_layernorm.weight", shape.hidden
            ),
            gate_up=self._matrix(parts["gate_up"], shape.hidden),
            down=self._matrix(parts["down"], shape.intermediate),
        )

    def embedding(self) -> np.ndarray:
        """[vocabulary, hidden] float16 (float32 if the file holds float32)."""
        return materialise(self._table("model.embed_tokens.weight"))

    def head(self, embedding: np.ndarray) -> np.ndarray:
        """[vocabulary, hidden]: the embedding itself when they are tied."""
        return embedding if self.shape.tied else materialise(self._table("lm_head.weight"))

    def final_norm(self) -> np.ndarray:
        """[hidden] float32."""
        return self._source.vector("model.norm.weight", self.shape.hidden)

    def _table(self, name: str) -> Table:
        return self._source.table(name, self.shape.vocabulary, self.shape.hidden)

    def _matrix(self, parts: Sequence[Part], columns: int) -> np.ndarray:
        tables = [self._source.table(f"{name}.weight", rows, columns) for name, rows in parts]
        return np.concatenate([t.read(*block) for t in tables for block in t.blocks()])


def linears(shape: Shape, index: int) -> dict[str, list[Part]]:
    """The linears (name, rows) that each matrix of a layer is stacked from."""
    prefix = f"model.layers.{index}"
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    sizes = (("q", queries), ("k", keys), ("v", keys))
    return {
        "qkv": [(f"{prefix}.self_attn.{part}_proj", rows) for part, rows in sizes],
        "output": [(f"{prefix}.self_attn.o_proj", shape.hidden)],
        "gate_up": [(f"{prefix}.mlp.{part}_proj", shape.intermediate) for part in ("gate", "up")],
        "down": [(f"{prefix}.mlp.down_proj", shape.hidden)],
    }


def _source(checkpoint: Checkpoint) -> Source:
    if isinstance(checkpoint, GgufCheckpoint):
        return gguf_model.GgufSource(checkpoint.file, checkpoint.shape, 64)
    assert isinstance(checkpoint, HfCheckpoint)
    if checkpoint.packing is not None:
        raise QuantiseError(
            f"{checkpoint.path} is quantised already: give the unquantised model it was made from"
        )
    return hf_model.DenseSource(checkpoint.path, checkpoint.tensors, 64)
