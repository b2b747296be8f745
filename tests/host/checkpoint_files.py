"""Small checkpoints on disk for tests: the tiny Qwen2's weights as Llama, as GGUF, and damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import pre_tokenizers

from host.weights import Model, Quantised

FIXTURES = Path(__file__).parents[1] / "fixtures"
DENSE = FIXTURES / "qwen2-tiny"
AWQ = FIXTURES / "qwen2-tiny-awq"
HEADS, KV_HEADS, HEAD_DIM = 4, 2, 32
LINEARS = ("qkv", "output", "gate_up", "down")

GGUF_NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "model.embed_tokens": "token_embd", "model.norm": "output_norm",
}  # fmt: skip


def copy(source: Path, folder: Path, changes: dict | None = None, tensors=None) -> Path:
    """A copy of a fixture whose config.json has ``changes`` (None removes a key) and whose tensors
    went through the function ``tensors`` (dictionary to dictionary)."""
    target = folder / "model"
    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text()) | (changes or {})
    config = {key: value for key, value in config.items() if value is not None}
    (target / "config.json").write_text(json.dumps(config))
    if tensors is not None:
        save_file(tensors(load_file(target / "model.safetensors")), target / "model.safetensors")
    return target


def without_biases(tensors: dict) -> dict:
    """Qwen2's tensors as a Llama has them."""
    return {name: data for name, data in tensors.items() if not name.endswith(".bias")}


def as_llama(folder: Path, **changes) -> Path:
    """The tiny model as a Llama directory."""
    changes = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **changes}
    return copy(DENSE, folder, changes, without_biases)


def alphabet() -> list[str]:
    """The 256 byte tokens of byte-level BPE, and a few merged ones."""
    return sorted(pre_tokenizers.ByteLevel.alphabet())


MERGES = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("1", "2"), ("Ġ", "hello")]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def vocabulary() -> list[str]:
    """Token texts by id: special ones first."""
    return SPECIAL + alphabet() + ["".join(pair) for pair in MERGES]


def write_gguf(
    path: Path, architecture: str, kind: gguf.GGMLQuantizationType, pre: str = "smollm", **more
) -> Path:
    """The tiny model as GGUF, its matrices as ``kind``; ``more``: metadata by last part of key."""
    tensors = load_file(DENSE / "model.safetensors")
    writer = gguf.GGUFWriter(path, architecture)
    _write_shape(writer, architecture, more)
    _write_tokenizer(writer, pre)
    for name, data in (tensors if architecture == "qwen2" else without_biases(tensors)).items():
        base, _, end = name.rpartition(".")
        if architecture == "llama" and base.endswith(("q_proj", "k_proj")):
            data = interleaved(data, HEADS if base.endswith("q_proj") else KV_HEADS)
        stored = _gguf_name(base) + "." + end
        if data.ndim == 1:
            writer.add_tensor(stored, data.astype(np.float32))
        else:
            writer.add_tensor(
                stored, gguf.quants.quantize(data.astype(np.float32), kind), raw_dtype=kind
            )
    if "rope_freqs" in more:
        writer.add_tensor("rope_freqs.weight", more["rope_freqs"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def interleaved(weights: np.ndarray, heads: int) -> np.ndarray:
    """What llama.cpp's converter does to queries and keys of a Llama."""
    rows, columns = weights.shape
    return (
        weights.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
    )


def _gguf_name(name: str) -> str:
    if name in GGUF_NAMES:
        return GGUF_NAMES[name]
    _, _, layer, part = name.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[part]}"


def _write_shape(writer: gguf.GGUFWriter, architecture: str, more: dict) -> None:
    writer.add_block_count(2)
    writer.add_context_length(256)
    writer.add_embedding_length(128)
    writer.add_feed_forward_length(192)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(more.get("theta", 10000.0))
    if "rope_scaling" in more:
        writer.add_string(f"{architecture}.rope.scaling.type", more["rope_scaling"])
    if "window" in more:
        writer.add_uint32(f"{architecture}.attention.sliding_window", more["window"])
    if "parts" in more:
        writer.add_uint16("split.count", more["parts"])


def _write_tokenizer(writer: gguf.GGUFWriter, pre: str) -> None:
    tokens = vocabulary()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in MERGES])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)


def dequantised(matrix: Quantised) -> np.ndarray:
    """[N, K] float32, one obvious expression."""
    zeros = 0 if matrix.zeros is None else np.repeat(matrix.zeros, matrix.group, axis=1)
    steps = np.repeat(matrix.scales.astype(np.float32), matrix.group, axis=1)
    return (matrix.values.astype(np.float32) - zeros) * steps


def assert_same(one: Quantised, other: Quantised) -> None:
    """Equal in every value, scale and zero point."""
    assert (one.bits, one.group) == (other.bits, other.group)
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.scales, other.scales)
    assert (one.zeros is None) == (other.zeros is None)
    if one.zeros is not None:
        np.testing.assert_array_equal(one.zeros, other.zeros)


def assert_same_model(one: Model, other: Model) -> None:
    """Equal in every matrix and vector."""
    for left, right in zip(one.layers, other.layers, strict=True):
        for name in LINEARS:
            assert_same(getattr(left, name), getattr(right, name))
        np.testing.assert_array_equal(left.input_norm, right.input_norm)
        np.testing.assert_array_equal(left.post_norm, right.post_norm)
        assert (left.qkv_bias is None) == (right.qkv_bias is None)
        if left.qkv_bias is not None:
            np.testing.assert_array_equal(left.qkv_bias, right.qkv_bias)
    assert_same(one.head, other.head)
    np.testing.assert_array_equal(one.embedding, other.embedding)
    np.testing.assert_array_equal(one.final_norm, other.final_norm)
