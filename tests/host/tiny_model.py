"""Small random models for tests, and the transformer written once more the slow way."""

from __future__ import annotations

import math

import numpy as np

from host.forward.linear import dequantise
from host.weights import Layer, Model, Quantised, Shape

LLAMA3_SCALING = {
    "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_context": 64.0,
}  # fmt: skip


def shape(architecture: str = "llama", **changes) -> Shape:
    """Two layers, four query heads on two key heads of 16 values."""
    values = {
        "hidden": 64, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 16, "intermediate": 96,
        "vocabulary": 80, "context": 64, "norm_epsilon": 1e-5, "rope_theta": 10000.0,
        "qkv_bias": architecture == "qwen2",
    }  # fmt: skip
    return Shape(architecture, **{**values, **changes})


def random_model(seed: int, dimensions: Shape) -> Model:
    """Random int4 weights in groups of 32, an int8 head."""
    rng = np.random.default_rng(seed)
    d = dimensions
    joined = (d.heads + 2 * d.kv_heads) * d.head_dim

    def vector(size: int) -> np.ndarray:
        return rng.normal(1, 0.2, size).astype(np.float32)

    layers = [
        Layer(
            input_norm=vector(d.hidden),
            qkv=_int4(rng, joined, d.hidden),
            qkv_bias=vector(joined) if d.qkv_bias else None,
            output=_int4(rng, d.hidden, d.heads * d.head_dim),
            post_norm=vector(d.hidden),
            gate_up=_int4(rng, 2 * d.intermediate, d.hidden),
            down=_int4(rng, d.hidden, d.intermediate),
        )
        for _ in range(d.layers)
    ]
    head = rng.integers(-127, 128, (d.vocabulary, d.hidden)).astype(np.int8)
    scales = rng.uniform(0.0005, 0.002, (d.vocabulary, d.hidden // 32)).astype(np.float16)
    embedding = rng.normal(size=(d.vocabulary, d.hidden)).astype(np.float16)
    return Model(
        d, embedding, layers, vector(d.hidden), Quantised(8, 32, head, scales), frozenset({0}),
        f"random model {seed}",
    )  # fmt: skip


def _int4(rng: np.random.Generator, rows: int, columns: int) -> Quantised:
    groups = (rows, columns // 32)
    return Quantised(
        4,
        32,
        rng.integers(0, 16, (rows, columns)).astype(np.uint8),
        rng.uniform(0.01, 0.05, groups).astype(np.float16),
        rng.integers(6, 10, groups).astype(np.uint8),
    )


def reference_logits(model: Model, tokens: list[int]) -> np.ndarray:
    """Logits [tokens, vocabulary] in float64: whole sequence at once, no cache, head by head."""
    d = model.shape
    hidden = model.embedding[tokens].astype(np.float64)
    for layer in model.layers:
        hidden = hidden + _attention(d, layer, _norm(hidden, layer.input_norm, d.norm_epsilon))
        normed = _norm(hidden, layer.post_norm, d.norm_epsilon)
        gate, up = np.split(normed @ dequantise(layer.gate_up).astype(np.float64).T, 2, axis=1)
        silu = gate / (1 + np.exp(-gate))
        hidden = hidden + (silu * up) @ dequantise(layer.down).astype(np.float64).T
    final = _norm(hidden, model.final_norm, d.norm_epsilon)
    return final @ dequantise(model.head).astype(np.float64).T


def _norm(values: np.ndarray, weight: np.ndarray, epsilon: float) -> np.ndarray:
    return values / np.sqrt((values**2).mean(axis=1, keepdims=True) + epsilon) * weight


def _attention(d: Shape, layer: Layer, normed: np.ndarray) -> np.ndarray:
    joined = normed @ dequantise(layer.qkv).astype(np.float64).T
    if layer.qkv_bias is not None:
        joined = joined + layer.qkv_bias
    heads = joined.reshape(len(normed), -1, d.head_dim)
    mixed = np.zeros((len(normed), d.heads, d.head_dim))
    for head in range(d.heads):
        kv = head // (d.heads // d.kv_heads)
        for token in range(len(normed)):
            query = _rotated(d, heads[token, head], token)
            scores = [
                query @ _rotated(d, heads[past, d.heads + kv], past) / math.sqrt(d.head_dim)
                for past in range(token + 1)
            ]
            weights = np.exp(scores) / np.exp(scores).sum()
            values = heads[: token + 1, d.heads + d.kv_heads + kv]
            mixed[token, head] = weights @ values
    return mixed.reshape(len(normed), -1) @ dequantise(layer.output).astype(np.float64).T


def _rotated(d: Shape, vector: np.ndarray, position: int) -> np.ndarray:
    """Pairs (i, i + half) as complex numbers, turned."""
    half = d.head_dim // 2
    turned = np.empty(half, complex)
    for pair in range(half):
        frequency = _scaled(d, d.rope_theta ** (-2 * pair / d.head_dim))
        value = complex(vector[pair], vector[pair + half])
        turned[pair] = value * np.exp(1j * position * frequency)
    return np.concatenate([turned.real, turned.imag])


def _scaled(d: Shape, frequency: float) -> float:
    """Llama 3's rule in its three cases, as its authors' code states them."""
    if d.rope_scaling is None:
        return frequency
    rule = d.rope_scaling
    wavelength = 2 * math.pi / frequency
    if wavelength < rule["original_context"] / rule["high_freq_factor"]:
        return frequency
    if wavelength > rule["original_context"] / rule["low_freq_factor"]:
        return frequency / rule["factor"]
    smooth = (rule["original_context"] / wavelength - rule["low_freq_factor"]) / (
        rule["high_freq_factor"] - rule["low_freq_factor"]
    )
    return (1 - smooth) * frequency / rule["factor"] + smooth * frequency


def random_quantised(seed: int, rows: int, columns: int) -> Quantised:
    """A random int4 matrix in groups of 32."""
    return _int4(np.random.default_rng(seed), rows, columns)
