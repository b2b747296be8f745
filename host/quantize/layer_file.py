"""One quantised layer as tensors: the work in hand, and the pieces of the finished checkpoint.

Linears are in AutoAWQ's GEMM packing under Hugging Face's names; int8 matrices are there in fp16
for other runtimes and as ``host.checkpoint.mixed`` has them for this one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from host.checkpoint import autoawq, mixed
from host.quantize.dense import MATRICES, DenseLayer, linears
from host.weights import Quantised, Shape


@dataclass
class QuantisedLayer:
    """One decoder layer; vectors are float32 with values that float16 holds."""

    input_norm: np.ndarray
    qkv: Quantised
    qkv_bias: np.ndarray | None
    output: Quantised
    post_norm: np.ndarray
    gate_up: Quantised
    down: Quantised

    def dense(self) -> DenseLayer:
        """The same layer with its matrices in float32."""
        matrices = {name: getattr(self, name).floats() for name in MATRICES}
        return DenseLayer(
            input_norm=self.input_norm, qkv_bias=self.qkv_bias, post_norm=self.post_norm, **matrices
        )


def tensors(
    shape: Shape, index: int, layer: QuantisedLayer
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, int]]:
    """A layer's tensors for everyone, those of ``mixed.FILE``, and the bits of the latter."""
    prefix = f"model.layers.{index}"
    held = {
        f"{prefix}.input_layernorm.weight": layer.input_norm.astype(np.float16),
        f"{prefix}.post_attention_layernorm.weight": layer.post_norm.astype(np.float16),
    }
    fine: dict[str, np.ndarray] = {}
    kept: dict[str, int] = {}
    for matrix, parts in linears(shape, index).items():
        first = 0
        for name, rows in parts:
            part = slice(first, first + rows)
            weights = _rows(getattr(layer, matrix), part)
            if matrix == "qkv" and layer.qkv_bias is not None:
                held[f"{name}.bias"] = layer.qkv_bias[part].astype(np.float16)
            if weights.bits == 8:
                kept[name] = 8
                held[f"{name}.weight"] = weights.floats().astype(np.float16)
                fine |= mixed.tensors(name, weights)
            else:
                held |= awq(name, weights)
            first += rows
    return held, fine, kept


def awq(name: str, weights: Quantised) -> dict[str, np.ndarray]:
    """An int4 linear in AutoAWQ's GEMM packing."""
    assert weights.zeros is not None
    return {
        f"{name}.qweight": autoawq.pack(weights.values),
        f"{name}.qzeros": autoawq.pack(weights.zeros),
        f"{name}.scales": np.ascontiguousarray(weights.scales.T),
    }


def _rows(weights: Quantised, part: slice) -> Quantised:
    zeros = None if weights.zeros is None else weights.zeros[part]
    return Quantised(weights.bits, weights.group, weights.values[part], weights.scales[part], zeros)
