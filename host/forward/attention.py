"""Grouped-query causal attention (Ainslie et al., arXiv 2305.13245) over the KV cache."""

from __future__ import annotations

import math

import numpy as np


def attend(queries: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """softmax(q k / sqrt(head_dim)) v for the last ``tokens`` positions.

    Args:
        queries: [tokens, heads, head_dim] float32.
        keys: [kv_heads, length, head_dim] float32, the queries' own positions last.
        values: the same shape. ``heads`` is a multiple of ``kv_heads``; consecutive query heads
            share one key and value head.

    Returns:
        [tokens, heads * head_dim] float32.
    """
    tokens, heads, head_dim = queries.shape
    kv_heads, length, _ = keys.shape
    group = heads // kv_heads
    grouped = queries.reshape(tokens, kv_heads, group, head_dim).transpose(1, 2, 0, 3)
    grouped = grouped.reshape(kv_heads, group * tokens, head_dim) / np.float32(math.sqrt(head_dim))
    scores = grouped @ keys.transpose(0, 2, 1)
    if tokens > 1:
        _hide_future(scores.reshape(kv_heads, group, tokens, length))
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    mixed = scores @ values
    mixed /= scores.sum(axis=-1, keepdims=True)
    mixed = mixed.reshape(kv_heads, group, tokens, head_dim).transpose(2, 0, 1, 3)
    return mixed.reshape(tokens, heads * head_dim)


def _hide_future(scores: np.ndarray) -> None:
    """Token t of the last ``tokens`` sees nothing after itself; in place.

    Args:
        scores: [kv_heads, group, tokens, length].
    """
    tokens, length = scores.shape[-2:]
    past = length - tokens
    for token in range(tokens - 1):
        scores[:, :, token, past + token + 1 :] = -np.inf
