"""An unquantised model as a Hugging Face directory, for libraries that read nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from host import checkpoint
from host.quantize import checkpoint_config
from host.quantize.dense import DenseModel, linears
from spec.files import write_whole


def export(model: str, folder: Path) -> Path:
    """``folder`` with config, tokenizer and float32 tensors of a GGUF file; made if not there."""
    if (folder / "model.safetensors").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    source = checkpoint.find(model)
    dense = DenseModel(source)
    shape = dense.shape
    config = checkpoint_config.describe(shape, source.eos_tokens()) | {"torch_dtype": "float32"}
    write_whole(folder / "config.json", json.dumps(config, indent=2))
    checkpoint_config.write_tokenizer(source, folder)
    embedding = dense.embedding()
    held = {
        "model.embed_tokens.weight": embedding.astype(np.float32),
        "model.norm.weight": dense.final_norm(),
    }
    if not shape.tied:
        held["lm_head.weight"] = dense.head(embedding).astype(np.float32)
    for index in range(shape.layers):
        layer, prefix = dense.layer(index), f"model.layers.{index}"
        held[f"{prefix}.input_layernorm.weight"] = layer.input_norm
        held[f"{prefix}.post_attention_layernorm.weight"] = layer.post_norm
        for matrix, parts in linears(shape, index).items():
            first = 0
            for name, rows in parts:
                part = slice(first, first + rows)
                held[f"{name}.weight"] = np.ascontiguousarray(getattr(layer, matrix)[part])
                if matrix == "qkv" and layer.qkv_bias is not None:
                    held[f"{name}.bias"] = np.ascontiguousarray(layer.qkv_bias[part])
                first += rows
    save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
