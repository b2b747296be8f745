"""Which matrices lose most by int4: the divergence that rounding each of them alone would cause.

For small changes dW of one matrix, the Kullback-Leibler divergence of the model from itself is half
the mean of (g . dW x)^2, where g is the gradient, at the matrix's outputs, of the log likelihood of
a token drawn from the model's own prediction (the Fisher information; Amari 1998, and as used for
quantisation in SqueezeLLM, arXiv 2306.07629). One backward pass gives it for every matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from host.quantize.backward import Backward
from host.quantize.dense import MATRICES, DenseLayer
from host.quantize.groups import plain_int4
from host.weights import Shape

SEQUENCES = 1
"""Sequences that go forward and back together: bounds the memory."""


@dataclass(frozen=True)
class Cost:
    """One matrix of the model."""

    layer: int
    matrix: str
    weights: int
    loss: float
    """Divergence that int4 causes, nats per token."""


def measure(
    shape: Shape, layers: Sequence[DenseLayer], embedding: np.ndarray, norm: np.ndarray,
    head: np.ndarray, tokens: np.ndarray, group: int, seed: int = 0,
) -> list[Cost]:  # fmt: skip
    """The cost of int4 for each matrix of each layer, in order.

    Args:
        tokens: [sequences, length] ids.
        seed: of the draws from the model's predictions.
    """
    rng = np.random.default_rng(seed)
    backward = Backward(shape, tokens.shape[1])
    losses = np.zeros((len(layers), len(MATRICES)))

    def visit(index: int, name: str, gradient: np.ndarray, inputs: np.ndarray | None) -> None:
        if inputs is None:
            return
        weights = getattr(layers[index], name)
        change = inputs @ (plain_int4(weights, group).floats() - weights).T
        along = np.einsum("tn,tn->t", gradient, change)
        losses[index, MATRICES.index(name)] += 0.5 * float(along @ along)

    for start in range(0, len(tokens), SEQUENCES):
        ids = tokens[start : start + SEQUENCES].reshape(-1)
        hidden, saved = backward.forward(layers, embedding[ids].astype(np.float32))
        normed, final = backward.final(hidden, norm)
        gradient = _sampled_gradient(normed, head, rng)
        backward.gradients(layers, saved, norm, final, gradient, visit)
    losses /= tokens.size
    return [
        Cost(index, name, getattr(layer, name).size, float(losses[index, column]))
        for index, layer in enumerate(layers)
        for column, name in enumerate(MATRICES)
    ]


def _sampled_gradient(
    normed: np.ndarray, head: np.ndarray, rng: np.random.Generator, rows: int = 256
) -> np.ndarray:
    """Gradient [T, hidden] of minus the log likelihood of one drawn token per position."""
    result = np.empty_like(normed)
    weights = head.astype(np.float32)
    for start in range(0, len(normed), rows):
        logits = normed[start : start + rows] @ weights.T
        logits -= logits.max(axis=1, keepdims=True)
        shares = np.exp(logits, out=logits)
        totals = np.cumsum(shares, axis=1)
        aims = rng.random((len(shares), 1)) * totals[:, -1:]
        drawn = (totals < aims).sum(axis=1).clip(max=shares.shape[1] - 1)
        shares /= totals[:, -1:]
        shares[np.arange(len(shares)), drawn] -= 1
        result[start : start + rows] = shares @ weights
    return result
