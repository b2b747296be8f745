"""A model from a GGUF file: shape from metadata, tensors dequantised and rounded by rows.

llama.cpp's converter stores the queries and keys of the llama architecture with their rows
permuted for interleaved rotary embedding (``convert_hf_to_gguf.py``, ``LlamaModel.permute``); they
are put back into rotate-half order here. qwen2 is stored as it is.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from gguf.quants import dequantize

from host.checkpoint.assemble import finite
from host.checkpoint.errors import CheckpointError
from host.checkpoint.gguf_file import GgufFile, Tensor
from host.checkpoint.source import FloatSource
from host.checkpoint.tables import Table
from host.weights import Shape

ARCHITECTURES = ("qwen2", "llama")

GLOBAL_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
LAYER_NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip
ROPE_FACTORS = "rope_freqs.weight"
"""Llama 3 frequency scaling as one divisor per frequency."""

LLAMA3_SCALING = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_context": 8192.0}
"""What every Llama 3.x model uses; GGUF keeps only the resulting divisors."""


def gguf_name(name: str) -> str:
    """GGUF's name of a tensor that Hugging Face calls ``name``."""
    if match := re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)", name):
        return f"blk.{match[1]}.{LAYER_NAMES[match[2]]}.{match[3]}"
    return GLOBAL_NAMES[name]


def architecture(file: GgufFile) -> str:
    """``qwen2`` or ``llama``.

    Raises:
        CheckpointError: another architecture, or one part of a split model.
    """
    name = file.metadata.get("general.architecture")
    if name not in ARCHITECTURES:
        raise CheckpointError(
            f"{file.path} holds the architecture {name!r}; supported: {', '.join(ARCHITECTURES)}"
        )
    parts = file.metadata.get("split.count", 1)
    if parts not in (0, 1):
        raise CheckpointError(
            f"{file.path} is one of {parts} parts: merge them with llama-gguf-split --merge"
        )
    return name


def shape(file: GgufFile) -> Shape:
    """The model's dimensions from the metadata.

    Raises:
        CheckpointError: a key is missing, of the wrong type or out of range, or asks for something
            that the runtime does not do.
    """
    kind = architecture(file)
    keys = _Keys(file, kind)
    hidden, heads = keys.integer("embedding_length"), keys.integer("attention.head_count")
    head_dim = keys.integer("attention.key_length", hidden // heads)
    rotary = keys.integer("rope.dimension_count", head_dim)
    if rotary != head_dim or head_dim % 2:
        raise keys.fail(f"rotates {rotary} of {head_dim} values of a head; all must be (even)")
    if (values := keys.integer("attention.value_length", head_dim)) != head_dim:
        raise keys.fail(f"has values of {values} and keys of {head_dim}; they must be equal")
    context = keys.integer("context_length")
    window = file.metadata.get(f"{kind}.attention.sliding_window", 0)
    if window and window < context:
        raise keys.fail(f"uses a sliding window of {window} tokens; only full attention is done")
    kv_heads = keys.integer("attention.head_count_kv", heads)
    if heads % kv_heads:
        raise keys.fail(f"has {heads} heads, not a multiple of its {kv_heads} KV heads")
    theta = keys.number("rope.freq_base", 10000.0)
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise keys.fail("has no embedding token_embd.weight with two dimensions")
    return Shape(
        architecture=kind, hidden=hidden, layers=keys.integer("block_count"), heads=heads,
        kv_heads=kv_heads, head_dim=head_dim, intermediate=keys.integer("feed_forward_length"),
        vocabulary=embedding.shape[0], context=context,
        norm_epsilon=keys.number("attention.layer_norm_rms_epsilon"), rope_theta=theta,
        rope_scaling=_rope_scaling(file, kind, theta, head_dim),
        tied="output.weight" not in file.tensors, qkv_bias=kind == "qwen2",
    )  # fmt: skip


class _Keys:
    """Metadata of one architecture, by type and range."""

    def __init__(self, file: GgufFile, kind: str) -> None:
        self.file, self.kind = file, kind

    def fail(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.file.path} {what}")

    def get(self, key: str, default: Any) -> Any:
        value = self.file.metadata.get(f"{self.kind}.{key}", default)
        if value is None:
            raise self.fail(f"has no metadata {self.kind}.{key}")
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 1 << 31:
            raise self.fail(f"has {self.kind}.{key} = {value!r}, not a whole number from 1")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.fail(f"has {self.kind}.{key} = {value!r}, not a number")
        if not 0 < value < math.inf:
            raise self.fail(f"has {self.kind}.{key} = {value!r}, not positive and finite")
        return float(value)


def _rope_scaling(file: GgufFile, kind: str, theta: float, head_dim: int) -> dict | None:
    """Llama 3 scaling, recovered from the divisors; None without scaling."""
    scaling = file.metadata.get(f"{kind}.rope.scaling.type", "none")
    if scaling != "none":
        raise CheckpointError(
            f"{file.path} scales its rotary embedding by {scaling!r}; supported: none, llama3"
        )
    if ROPE_FACTORS not in file.tensors:
        return None
    divisors = finite(ROPE_FACTORS, _dequantise(file, file.tensors[ROPE_FACTORS]).reshape(-1))
    found = {"factor": float(divisors.max()), **LLAMA3_SCALING}
    expected = llama3_divisors(found, theta, head_dim)
    if divisors.shape != expected.shape or not np.allclose(divisors, expected, rtol=1e-3):
        raise CheckpointError(
            f"{file.path} has rotary frequency divisors in {ROPE_FACTORS} that are not Llama 3's:"
            " this rotary scaling is not supported"
        )
    return found


def llama3_divisors(scaling: dict[str, float], theta: float, head_dim: int) -> np.ndarray:
    """By what Llama 3 divides each of the head_dim / 2 frequencies (float64).

    Source: ``_compute_llama3_parameters`` of transformers, ``modeling_rope_utils.py``.
    """
    frequency = theta ** (-np.arange(0, head_dim, 2) / head_dim)
    turns = scaling["original_context"] * frequency / (2 * math.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return 1 / ((1 - smooth) / scaling["factor"] + smooth)


class GgufSource(FloatSource):
    """The tensors of a GGUF file under Hugging Face's names."""

    def __init__(self, file: GgufFile, model: Shape, group: int) -> None:
        self.file, self.shape = file, model
        self.label = f"{file.path} (GGUF {self._main_type()}, rounded to int4 group {group})"
        self.asked = {ROPE_FACTORS}

    def _main_type(self) -> str:
        """The type of most layer matrices."""
        kinds = [t.kind.name for t in self.file.tensors.values() if len(t.shape) == 2]
        return max(sorted(set(kinds)), key=kinds.count)

    def _find(self, name: str, wanted: tuple[int, ...]) -> Tensor:
        stored = gguf_name(name)
        self.asked.add(stored)
        tensor = self.file.tensors.get(stored)
        if tensor is None:
            raise CheckpointError(f"{self.file.path} has no tensor {stored}")
        if tensor.shape != wanted:
            raise CheckpointError(
                f"{self.file.path}: tensor {stored} has shape {list(tensor.shape)}, its metadata"
                f" calls for {list(wanted)}"
            )
        return tensor

    def vector(self, name: str, size: int) -> np.ndarray:
        """See ``source.Source``."""
        tensor = self._find(name, (size,))
        return finite(tensor.name, _dequantise(self.file, tensor).reshape(-1))

    def table(self, name: str, rows: int, columns: int) -> Table:
        """See ``source.Source``."""
        tensor = self._find(name, (rows, columns))
        raw = self.file.raw(tensor)
        order = self._row_order(name, rows)

        def read(start: int, stop: int) -> np.ndarray:
            part = raw[start:stop] if order is None else raw[order[start:stop]]
            return _floats(part, tensor)

        return Table(tensor.name, rows, columns, read, single=tensor.kind.name == "F32")

    def head_name(self, tied: bool) -> str:
        """See ``source.Source``."""
        return "model.embed_tokens.weight" if tied else "lm_head.weight"

    def unused(self) -> list[str]:
        """See ``source.Source``."""
        return [name for name in self.file.tensors if name not in self.asked]

    def _row_order(self, name: str, rows: int) -> np.ndarray | None:
        """For each row in rotate-half order, its row in the file; None if they are the same."""
        if self.shape.architecture != "llama" or not name.endswith(
            ("q_proj.weight", "k_proj.weight")
        ):
            return None
        half = self.shape.head_dim // 2
        return np.arange(rows).reshape(-1, half, 2).swapaxes(1, 2).reshape(-1)


def _dequantise(file: GgufFile, tensor: Tensor) -> np.ndarray:
    return _floats(file.raw(tensor), tensor)


def _floats(raw: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Rows of bytes as rows of float32."""
    try:
        with np.errstate(all="ignore"):  # bad values are found and named by the caller
            return dequantize(np.ascontiguousarray(raw), tensor.kind)
    except NotImplementedError:
        raise CheckpointError(
            f"tensor {tensor.name} has type {tensor.kind.name}, which cannot be dequantised here:"
            " convert the model to Q8_0, Q4_K_M or F16"
        ) from None
