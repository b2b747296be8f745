"""Calibration sequences on their way through the layers, in float32.

Two streams run side by side: one through the unquantised layers, one through the quantised ones.
Each matrix is fitted on what the quantised stream brings to it, towards what the unquantised
stream makes of it.
"""

from __future__ import annotations

import numpy as np

from host.forward.attention import attend
from host.forward.norm import rms_norm, swiglu
from host.forward.rope import Rope
from host.quantize.dense import DenseLayer, QuantiseError
from host.weights import Shape


class Stream:
    """Hidden states of all calibration sequences between two layers.

    Args:
        shape: of the model.
        embedding: [vocabulary, hidden].
        tokens: [sequences, length] ids.
    """

    def __init__(self, shape: Shape, embedding: np.ndarray, tokens: np.ndarray) -> None:
        self._shape = shape
        self._length = tokens.shape[1]
        self._rope = Rope(shape, self._length)
        self.hidden = embedding[tokens.reshape(-1)].astype(np.float32)
        """[sequences * length, hidden] float32"""

    def attention_input(self, layer: DenseLayer) -> np.ndarray:
        """Inputs of ``qkv``: [tokens, hidden]."""
        return rms_norm(self.hidden, layer.input_norm, self._shape.norm_epsilon)

    def attend(self, layer: DenseLayer, normed: np.ndarray) -> np.ndarray:
        """Inputs of ``output``, from the inputs of ``qkv``: [tokens, heads * head_dim]."""
        shape, length = self._shape, self._length
        joined = normed @ layer.qkv.T
        if layer.qkv_bias is not None:
            joined += layer.qkv_bias
        rotated = shape.heads + shape.kv_heads
        mixed = np.empty((len(joined), shape.heads * shape.head_dim), np.float32)
        for start in range(0, len(joined), length):
            heads = joined[start : start + length].reshape(length, -1, shape.head_dim)
            self._rope.rotate(heads[:, :rotated], 0)
            by_head = heads.transpose(1, 0, 2)
            keys, values = by_head[shape.heads : rotated], by_head[rotated:]
            mixed[start : start + length] = attend(heads[:, : shape.heads], keys, values)
        return mixed

    def feed_forward_input(self, layer: DenseLayer) -> np.ndarray:
        """Inputs of ``gate_up``: [tokens, hidden]."""
        return rms_norm(self.hidden, layer.post_norm, self._shape.norm_epsilon)

    def gated(self, layer: DenseLayer, normed: np.ndarray) -> np.ndarray:
        """Inputs of ``down``, from the inputs of ``gate_up``: [tokens, intermediate]."""
        return swiglu(normed @ layer.gate_up.T)

    def add(self, matrix: np.ndarray, inputs: np.ndarray, index: int) -> None:
        """Adds what ``output`` or ``down`` of layer ``index`` makes of its inputs.

        Raises:
            QuantiseError: the activations are not finite any more.
        """
        self.hidden += inputs @ matrix.T
        if not np.isfinite(self.hidden).all():
            raise QuantiseError(
                f"the activations of layer {index} overflow on the calibration text: the model's"
                " weights are damaged, or it does not compute in float32"
            )

    def run(self, layer: DenseLayer, index: int) -> None:
        """The whole layer."""
        self.add(layer.output, self.attend(layer, self.attention_input(layer)), index)
        self.add(layer.down, self.gated(layer, self.feed_forward_input(layer)), index)
