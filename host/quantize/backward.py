"""The forward pass of Qwen2 and Llama with its derivatives, in float32 NumPy.

Forward functions return what the backward ones need. Gradients of matrices are handed over as
their factors (gradient of the outputs, inputs), because what is wanted of them differs: sums over
groups for tuning, squares for sensitivity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from host.forward.rope import Rope
from host.quantize.dense import DenseLayer
from host.weights import Shape

Visit = Callable[[int, str, np.ndarray, np.ndarray | None], None]
"""Called with layer, field of ``DenseLayer``, gradient and inputs. For a matrix: the gradient of
its outputs [T, N] and its inputs [T, K]; for a vector: its own gradient, and None. The final norm
has layer -1 and the name ``final_norm``. Called from the last layer to the first."""


class Backward:
    """Gradients for one batch of sequences.

    Args:
        shape: of the model.
        length: tokens of each sequence.
    """

    def __init__(self, shape: Shape, length: int) -> None:
        self._shape, self._length = shape, length
        self._rope = Rope(shape, length)
        self._future = np.triu(np.full((length, length), -np.inf, np.float32), 1)

    def forward(
        self, layers: Sequence[DenseLayer], hidden: np.ndarray
    ) -> tuple[np.ndarray, list[Any]]:
        """Hidden states [T, hidden] after all layers, and what ``gradients`` needs."""
        saved = []
        for layer in layers:
            normed, norm_saved = self._norm(hidden, layer.input_norm)
            joined = normed @ layer.qkv.T
            if layer.qkv_bias is not None:
                joined += layer.qkv_bias
            mixed, attention_saved = self._attend(joined)
            hidden = hidden + mixed @ layer.output.T
            post, post_saved = self._norm(hidden, layer.post_norm)
            gate, up = np.split(post @ layer.gate_up.T, 2, axis=1)
            with np.errstate(over="ignore"):
                sigmoid = 1 / (1 + np.exp(-gate))
            gated = gate * sigmoid * up
            hidden = hidden + gated @ layer.down.T
            saved.append((normed, norm_saved, mixed, attention_saved, post, post_saved,
                          gate, up, sigmoid, gated))  # fmt: skip
        return hidden, saved

    def final(self, hidden: np.ndarray, norm: np.ndarray) -> tuple[np.ndarray, Any]:
        """Inputs of the head, and what ``gradients`` needs of them."""
        return self._norm(hidden, norm)

    def gradients(
        self, layers: Sequence[DenseLayer], saved: list[Any], norm: np.ndarray, final: Any,
        gradient: np.ndarray, visit: Visit,
    ) -> None:  # fmt: skip
        """Walks back from ``gradient`` [T, hidden], that of the head's inputs.

        ``saved`` is emptied on the way.
        """
        hidden, own = self._norm_back(gradient, norm, final)
        visit(-1, "final_norm", own, None)
        for index in reversed(range(len(layers))):
            layer = layers[index]
            (normed, norm_saved, mixed, attention_saved, post, post_saved,
             gate, up, sigmoid, gated) = saved.pop()  # fmt: skip
            inner = hidden @ layer.down
            slope = sigmoid * (1 + gate * (1 - sigmoid))
            joined = np.concatenate([inner * up * slope, inner * gate * sigmoid], axis=1)
            step, own = self._norm_back(joined @ layer.gate_up, layer.post_norm, post_saved)
            visit(index, "down", hidden, gated)
            visit(index, "gate_up", joined, post)
            visit(index, "post_norm", own, None)
            hidden = hidden + step
            joined = self._attend_back(hidden @ layer.output, attention_saved)
            step, own = self._norm_back(joined @ layer.qkv, layer.input_norm, norm_saved)
            visit(index, "output", hidden, mixed)
            visit(index, "qkv", joined, normed)
            visit(index, "input_norm", own, None)
            hidden = hidden + step

    def _norm(self, values: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, Any]:
        mean_square = np.einsum("th,th->t", values, values)[:, None] / np.float32(values.shape[1])
        scale = 1 / np.sqrt(mean_square + np.float32(self._shape.norm_epsilon))
        plain = values * scale
        return plain * weight, (plain, scale)

    @staticmethod
    def _norm_back(gradient: np.ndarray, weight: np.ndarray, saved: Any) -> tuple[np.ndarray, ...]:
        """Gradients of the values and of the weight."""
        plain, scale = saved
        own = np.einsum("th,th->h", gradient, plain)
        inner = gradient * weight
        along = np.einsum("th,th->t", inner, plain)[:, None] / np.float32(plain.shape[1])
        return scale * (inner - plain * along), own

    def _attend(self, joined: np.ndarray) -> tuple[np.ndarray, list[Any]]:
        shape, length = self._shape, self._length
        mixed = np.empty((len(joined), shape.heads * shape.head_dim), np.float32)
        saved = []
        for start in range(0, len(joined), length):
            heads = joined[start : start + length].reshape(length, -1, shape.head_dim).copy()
            rotated = shape.heads + shape.kv_heads
            self._rope.rotate(heads[:, :rotated], 0)
            by_head = heads.transpose(1, 0, 2)
            queries = by_head[: shape.heads].reshape(shape.kv_heads, -1, length, shape.head_dim)
            queries = queries / np.float32(math.sqrt(shape.head_dim))
            keys, values = by_head[shape.heads : rotated, None], by_head[rotated:, None]
            shares = queries @ keys.swapaxes(2, 3)
            shares += self._future
            shares -= shares.max(axis=3, keepdims=True)
            np.exp(shares, out=shares)
            shares /= shares.sum(axis=3, keepdims=True)
            mixed[start : start + length] = self._flat(shares @ values)
            saved.append((queries, keys, values, shares))
        return mixed, saved

    def _attend_back(self, gradient: np.ndarray, saved: list[Any]) -> np.ndarray:
        shape, length = self._shape, self._length
        parts = []
        for index, (queries, keys, values, shares) in enumerate(saved):
            own = gradient[index * length : (index + 1) * length]
            own = own.reshape(length, shape.kv_heads, -1, shape.head_dim).transpose(1, 2, 0, 3)
            of_values = (shares.swapaxes(2, 3) @ own).sum(axis=1)
            scores = own @ values.swapaxes(2, 3)
            scores -= np.einsum("ghqk,ghqk->ghq", scores, shares)[..., None]
            scores *= shares
            of_queries = scores @ keys / np.float32(math.sqrt(shape.head_dim))
            of_keys = (scores.swapaxes(2, 3) @ queries).sum(axis=1)
            turned = np.concatenate([
                self._flat(of_queries).reshape(length, shape.heads, -1), of_keys.transpose(1, 0, 2),
            ], axis=1)  # fmt: skip
            self._rope.rotate_back(turned, 0)
            whole = np.concatenate([turned, of_values.transpose(1, 0, 2)], axis=1)
            parts.append(whole.reshape(length, -1))
        return np.concatenate(parts)

    def _flat(self, by_head: np.ndarray) -> np.ndarray:
        """[kv_heads, queries per head, length, head_dim] as [length, heads * head_dim]."""
        return by_head.transpose(2, 0, 1, 3).reshape(self._length, -1)
