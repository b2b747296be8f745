"""Writers of GPTQ and compressed-tensors checkpoints, from the layouts' definitions, bit by bit.

They share nothing with the readers: each word is put together field by field.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from host.weights import Model
from tests.host.checkpoint_files import DENSE, HEAD_DIM, HEADS, KV_HEADS

Linear = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Values [N, K] and zeros [N, groups] 0..15, scales [N, groups] float16."""

QUERIES, KEYS, GATE = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM, 192


def words(fields: np.ndarray) -> np.ndarray:
    """[rows, columns] 4-bit fields as [rows, ceil(columns / 8)] int32, the first lowest."""
    rows, columns = fields.shape
    result = np.zeros((rows, -(-columns // 8)), np.int64)
    for column in range(columns):
        result[:, column // 8] += fields[:, column].astype(np.int64) << 4 * (column % 8)
    return result.astype(np.uint32).view(np.int32)


def gptq(linear: Linear, group: int, less: int = 0) -> dict[str, np.ndarray]:
    """One linear in GPTQ's packing; ``less`` 1 for version 1, which stores zeros less one."""
    values, scales, zeros = linear
    return {
        "qweight": np.ascontiguousarray(words(values).T),
        "qzeros": words(zeros.T - np.uint8(less)),
        "scales": np.ascontiguousarray(scales.T),
        "g_idx": (np.arange(values.shape[1]) // group).astype(np.int32),
    }


def compressed(linear: Linear, symmetric: bool = False) -> dict[str, np.ndarray]:
    """One linear in the pack-quantized packing of compressed-tensors."""
    values, scales, zeros = linear
    packed = {
        "weight_packed": words(values),
        "weight_scale": scales,
        "weight_shape": np.array(values.shape, np.int64),
    }
    if not symmetric:
        packed["weight_zero_point"] = np.ascontiguousarray(words(zeros.T).T)
    return packed


def linears(model: Model) -> dict[str, Linear]:
    """Every linear of a model by name, stacked ones taken apart."""
    found: dict[str, Linear] = {}
    for index, layer in enumerate(model.layers):
        for matrix, names in (
            (layer.qkv, {"self_attn.q": QUERIES, "self_attn.k": KEYS, "self_attn.v": KEYS}),
            (layer.output, {"self_attn.o": QUERIES}),
            (layer.gate_up, {"mlp.gate": GATE, "mlp.up": GATE}),
            (layer.down, {"mlp.down": QUERIES}),
        ):
            first = 0
            for name, rows in names.items():
                part = matrix.select(slice(first, first + rows))
                found[f"model.layers.{index}.{name}_proj"] = (part.values, part.scales, part.zeros)
                first += rows
    return found


def write(
    folder: Path,
    settings: dict,
    packed: dict[str, Linear],
    pack: Callable[[Linear], dict[str, np.ndarray]],
    change: Callable[[dict], dict] = lambda tensors: tensors,
) -> Path:
    """The tiny Qwen2 with its linears packed; ``change`` may damage the tensors."""
    folder.mkdir(parents=True)
    tensors = {
        name: data
        for name, data in load_file(DENSE / "model.safetensors").items()
        if name.removesuffix(".weight") not in packed
    }
    for name, linear in packed.items():
        tensors |= {f"{name}.{ending}": data for ending, data in pack(linear).items()}
    config = json.loads((DENSE / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
    save_file(change(tensors), folder / "model.safetensors")
    return folder


def gptq_settings(**changes) -> dict:
    """quantization_config as GPTQModel writes it."""
    settings = {
        "quant_method": "gptq", "bits": 4, "group_size": 64, "desc_act": False, "sym": False,
        "checkpoint_format": "gptq_v2", "lm_head": False, "pack_dtype": "int32",
    }  # fmt: skip
    return {**settings, **changes}


def compressed_settings(weights: dict | None = None, scheme: dict | None = None, **top) -> dict:
    """quantization_config as llm-compressor writes it."""
    arguments = {
        "num_bits": 4, "type": "int", "symmetric": False, "strategy": "group", "group_size": 64,
        "actorder": None, "dynamic": False, "block_structure": None,
    }  # fmt: skip
    group = {
        "targets": ["Linear"], "weights": {**arguments, **(weights or {})},
        "input_activations": None, "output_activations": None, **(scheme or {}),
    }  # fmt: skip
    return {
        "quant_method": "compressed-tensors", "format": "pack-quantized",
        "config_groups": {"group_0": group}, "ignore": ["lm_head"], "kv_cache_scheme": None,
        "quantization_status": "compressed", **top,
    }  # fmt: skip
