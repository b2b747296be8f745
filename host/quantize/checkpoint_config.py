"""The files of a Hugging Face directory beside its tensors: configuration, tokenizer, template."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from host.checkpoint import config_json, mixed
from host.checkpoint.checkpoints import Checkpoint, HfCheckpoint
from host.weights import Shape
from spec.files import write_whole

COPIED = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "chat_template.jinja", "generation_config.json", "LICENSE",
)  # fmt: skip
"""What a Hugging Face directory hands on, as far as it has it."""


def write(source: Checkpoint, folder: Path, group: int, kept: dict[str, int]) -> None:
    """Writes config.json and the tokenizer's files.

    Args:
        source: the unquantised checkpoint.
        kept: bits by name of the modules that lie in ``mixed.FILE``.
    """
    if isinstance(source, HfCheckpoint):
        config = dict(source.config)
        for name in COPIED:
            if (source.path / name).is_file():
                shutil.copyfile(source.path / name, folder / name)
    else:
        config = describe(source.shape, source.eos_tokens())
        write_tokenizer(source, folder)
    config["torch_dtype"] = "float16"
    config.pop("dtype", None)
    config["quantization_config"] = quantization(group, kept)
    write_whole(folder / "config.json", json.dumps(config, indent=2) + "\n")


def quantization(group: int, kept: dict[str, int]) -> dict[str, Any]:
    """``quantization_config`` of an AutoAWQ GEMM checkpoint.

    Modules of ``kept`` are unquantised for other runtimes; ``mixed.KEY`` tells this one more.
    """
    settings: dict[str, Any] = {
        "quant_method": "awq", "version": "gemm", "bits": 4, "group_size": group,
        "zero_point": True, "modules_to_not_convert": sorted({*kept, mixed.HEAD}),
    }  # fmt: skip
    return settings | ({mixed.KEY: kept} if kept else {})


def describe(shape: Shape, eos_tokens: frozenset[int]) -> dict[str, Any]:
    """config.json of a model that comes without one."""
    config: dict[str, Any] = {
        "architectures": [config_json.ARCHITECTURES[shape.architecture]],
        "model_type": shape.architecture, "hidden_act": "silu",
        "hidden_size": shape.hidden, "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim, "intermediate_size": shape.intermediate,
        "vocab_size": shape.vocabulary, "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.norm_epsilon, "rope_theta": shape.rope_theta,
        "tie_word_embeddings": shape.tied, "eos_token_id": sorted(eos_tokens),
    }  # fmt: skip
    if shape.rope_scaling is not None:
        named = {theirs: shape.rope_scaling[ours] for theirs, ours in
                 config_json.LLAMA3_KEYS.items()}  # fmt: skip
        named["original_max_position_embeddings"] = int(named["original_max_position_embeddings"])
        config["rope_scaling"] = {"rope_type": "llama3", **named}
    return config


def write_tokenizer(source: Checkpoint, folder: Path) -> None:
    """tokenizer.json and tokenizer_config.json of a GGUF file's tokenizer and template."""
    source.tokenizer().save(folder / "tokenizer.json")
    chat = source.chat()
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    for key, value in (
        ("bos_token", chat.bos_token), ("eos_token", chat.eos_token),
        ("chat_template", chat.template),
    ):  # fmt: skip
        if value:
            settings[key] = value
    write_whole(folder / "tokenizer_config.json", json.dumps(settings, indent=2) + "\n")
