"""The shape of a model from Hugging Face's config.json."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from host.checkpoint.errors import CheckpointError
from host.weights import Shape

ARCHITECTURES = {"qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM"}
LLAMA3_KEYS = {
    "factor": "factor", "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "original_max_position_embeddings": "original_context",
}  # fmt: skip
"""Hugging Face's names of the Llama 3 scaling parameters, and ours."""


class Config:
    """config.json by type and range; errors name file, key and value."""

    def __init__(self, values: dict[str, Any], path: Path) -> None:
        self.values, self.path = values, path

    def fail(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.path} {what}")

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number from 1."""
        value = self.values.get(key)
        value = default if value is None else value
        if type(value) is not int or not 1 <= value < 1 << 31:
            raise self.fail(f"has {key} = {value!r}, not a whole number from 1")
        return value

    def number(self, key: str, values: dict[str, Any], default: float | None = None) -> float:
        """A positive finite number of ``values`` (this configuration or a part of it)."""
        value = values.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.fail(f"has {key} = {value!r}, not a number")
        if not 0 < value < math.inf:
            raise self.fail(f"has {key} = {value!r}, not positive and finite")
        return float(value)


def shape(values: dict[str, Any], path: Path) -> Shape:
    """The dimensions in a config.json.

    Raises:
        CheckpointError: a value is missing or out of range, or asks for something that the
            runtime does not do.
    """
    config = Config(values, path)
    kind = _architecture(config)
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    kv_heads = config.integer("num_key_value_heads", heads)
    if heads % kv_heads:
        raise config.fail(f"has {heads} heads, not a multiple of its {kv_heads} KV heads")
    head_dim = config.integer("head_dim", hidden // heads)
    if head_dim % 2:
        raise config.fail(f"has head_dim = {head_dim}; rotary embedding needs an even one")
    context, layers = config.integer("max_position_embeddings"), config.integer("num_hidden_layers")
    _check_window(config, layers, context)
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise config.fail(f"has rotary parameters {rope!r}, not an object")
    return Shape(
        architecture=kind, hidden=hidden, layers=layers, heads=heads, kv_heads=kv_heads,
        head_dim=head_dim, intermediate=config.integer("intermediate_size"),
        vocabulary=config.integer("vocab_size"), context=context,
        norm_epsilon=config.number("rms_norm_eps", values, 1e-6),
        rope_theta=config.number("rope_theta", {**values, **rope}, 10000.0),
        rope_scaling=_rope_scaling(config, rope),
        tied=values.get("tie_word_embeddings") is True, qkv_bias=kind == "qwen2",
    )  # fmt: skip


def eos_tokens(*files: dict[str, Any]) -> frozenset[int]:
    """Tokens that end a text, from config.json and generation_config.json."""
    found: set[int] = set()
    for values in files:
        ids = values.get("eos_token_id")
        found.update(i for i in (ids if isinstance(ids, list) else [ids]) if type(i) is int)
    return frozenset(found)


def _architecture(config: Config) -> str:
    values = config.values
    kind = values.get("model_type")
    classes = values.get("architectures") or [ARCHITECTURES.get(str(kind))]
    if not isinstance(kind, str) or kind not in ARCHITECTURES or ARCHITECTURES[kind] not in classes:
        known = ", ".join(f"{name} ({ARCHITECTURES[name]})" for name in ARCHITECTURES)
        raise config.fail(f"describes the architecture {kind!r} ({classes}); supported: {known}")
    if (activation := values.get("hidden_act", "silu")) != "silu":
        raise config.fail(f"has hidden_act = {activation!r}; supported: silu")
    for key in ("attention_bias", "mlp_bias"):
        if kind == "llama" and values.get(key):
            raise config.fail(f"has {key}; Llama models with biases are not supported")
    return kind


def _check_window(config: Config, layers: int, context: int) -> None:
    """Refuses attention over a window that is shorter than the context, where it is in use."""
    window = config.values.get("sliding_window")
    if window is None or (type(window) is int and window >= context):
        return
    kinds = config.values.get("layer_types") or []
    used = "sliding_attention" in kinds
    if config.values.get("use_sliding_window", config.values["model_type"] != "qwen2"):
        first = config.values.get("max_window_layers", 0)
        used = used or type(first) is not int or first < layers
    if used:
        raise config.fail(
            f"uses a sliding window of {window!r} tokens; only full attention is supported"
        )


def _rope_scaling(config: Config, rope: dict[str, Any]) -> dict[str, float] | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if rope.get("partial_rotary_factor", 1) != 1:
        raise config.fail("rotates a part of each head; only whole heads are supported")
    if kind == "default":
        return None
    if kind != "llama3":
        raise config.fail(f"scales its rotary embedding by {kind!r}; supported: default, llama3")
    found = {ours: config.number(theirs, rope) for theirs, ours in LLAMA3_KEYS.items()}
    if found["high_freq_factor"] <= found["low_freq_factor"]:
        raise config.fail("has a high_freq_factor that is not above its low_freq_factor")
    return found
