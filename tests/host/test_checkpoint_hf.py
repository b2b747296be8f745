"""Unquantised Hugging Face directories: configuration, tensors, shards, and what is wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from host import checkpoint
from host.checkpoint import CheckpointError, config_json
from tests.host.checkpoint_files import DENSE, as_llama, assert_same_model, copy

EMBEDDING = "model.embed_tokens.weight"
UP = "model.layers.1.mlp.up_proj.weight"
NORM = "model.layers.0.input_layernorm.weight"


def test_qwen2_configuration_as_published():
    """The values of Qwen/Qwen2.5-0.5B-Instruct-AWQ's config.json."""
    values = {
        "architectures": ["Qwen2ForCausalLM"], "bos_token_id": 151643, "eos_token_id": 151645,
        "hidden_act": "silu", "hidden_size": 896, "intermediate_size": 4864,
        "max_position_embeddings": 32768, "max_window_layers": 24, "model_type": "qwen2",
        "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768,
        "tie_word_embeddings": True, "use_sliding_window": False, "vocab_size": 151936,
    }  # fmt: skip
    shape = config_json.shape(values, DENSE)
    assert (shape.head_dim, shape.kv_heads, shape.tied, shape.qkv_bias) == (64, 2, True, True)
    assert (shape.rope_theta, shape.rope_scaling, shape.context) == (1e6, None, 32768)


def test_llama3_scaling_in_old_and_new_words(tmp_path):
    scaling = {
        "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64, "rope_type": "llama3",
    }  # fmt: skip
    old = as_llama(tmp_path / "old", rope_parameters=None, rope_scaling=scaling, rope_theta=5e5)
    new = as_llama(tmp_path / "new", rope_parameters=scaling | {"rope_theta": 5e5})
    shapes = [checkpoint.find(folder).shape for folder in (old, new)]
    assert shapes[0] == shapes[1]
    assert shapes[0].rope_theta == 5e5
    assert shapes[0].rope_scaling == {
        "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_context": 64.0,
    }  # fmt: skip


def test_llama_has_no_biases(tmp_path):
    model = checkpoint.find(as_llama(tmp_path)).model()
    assert all(layer.qkv_bias is None for layer in model.layers)


@pytest.mark.parametrize("kind", ["F32", "BF16"])
def test_float_types(tmp_path, kind):
    """bfloat16 by hand: NumPy cannot write it. Values are exact in all three types or cut."""
    folder = copy(DENSE, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    wide = {name: data.astype(np.float32) for name, data in tensors.items()}
    cut = {
        name: (data.view(np.uint32) & 0xFFFF0000).view(np.float32) for name, data in wide.items()
    }
    if kind == "F32":
        save_file(wide, folder / "model.safetensors")
    else:
        _write_bf16(folder / "model.safetensors", cut)
    model = checkpoint.find(folder).model()
    kept = wide if kind == "F32" else cut
    assert model.embedding.dtype == (np.float32 if kind == "F32" else np.float16)
    np.testing.assert_array_equal(model.embedding, kept[EMBEDDING])
    np.testing.assert_array_equal(model.layers[0].input_norm, kept[NORM])
    if kind == "F32":
        reference = checkpoint.find(DENSE).model()
        np.testing.assert_array_equal(model.layers[1].down.values, reference.layers[1].down.values)


def _write_bf16(path, tensors: dict[str, np.ndarray]) -> None:
    header, body = {}, b""
    for name, data in tensors.items():
        raw = (data.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        offsets = [len(body), len(body) + len(raw)]
        header[name] = {"dtype": "BF16", "shape": list(data.shape), "data_offsets": offsets}
        body += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def sharded(folder):
    """Splits the tensors over two files with an index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    index = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return index


def test_shards_are_one_model(tmp_path):
    folder = copy(DENSE, tmp_path)
    sharded(folder)
    assert_same_model(checkpoint.find(folder).model(), checkpoint.find(DENSE).model())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda index: index | {EMBEDDING: "gone.safetensors"}, "gone.safetensors is missing"),
        (lambda index: index | {EMBEDDING: "../x.safetensors"}, "not a file beside it"),
        (lambda index: index | {"other": index[EMBEDDING]}, "has no tensor other"),
        (lambda index: {k: v for k, v in index.items() if k != EMBEDDING}, "not in the index"),
        (lambda index: {}, "has no weight_map"),
    ],
)
def test_an_index_that_disagrees_is_refused(tmp_path, change, words):
    folder = copy(DENSE, tmp_path)
    index = change(sharded(folder))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    with pytest.raises(CheckpointError, match=words):
        checkpoint.find(folder)


CONFIGURATIONS = {
    "architecture": ({"model_type": "mistral"}, "architecture 'mistral'"),
    "class": ({"architectures": ["Qwen2ForSequenceClassification"]}, "architecture 'qwen2'"),
    "no type": ({"model_type": None}, "architecture None"),
    "activation": ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
    "text for a number": ({"hidden_size": "128"}, "hidden_size = '128'"),
    "true for a number": ({"hidden_size": True}, "hidden_size = True"),
    "zero": ({"num_attention_heads": 0}, "num_attention_heads = 0"),
    "negative": ({"num_hidden_layers": -1}, "num_hidden_layers = -1"),
    "heads": ({"num_key_value_heads": 3}, "not a multiple of its 3 KV heads"),
    "odd head": ({"head_dim": 31}, "head_dim = 31"),
    "epsilon": ({"rms_norm_eps": -1e-6}, "rms_norm_eps = -1e-06"),
    "theta": ({"rope_parameters": {"rope_theta": float("inf")}}, "rope_theta = inf"),
    "yarn": ({"rope_scaling": {"type": "yarn"}, "rope_parameters": None}, "by 'yarn'"),
    "scaling": ({"rope_parameters": {"rope_type": "llama3"}}, "factor = None"),
    "part of a head": (
        {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
        "a part of each head",
    ),
    "window": (
        {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1},
        "sliding window of 64",
    ),
    "layer types": (
        {"sliding_window": 64, "layer_types": ["full_attention", "sliding_attention"]},
        "sliding window of 64",
    ),
    "Llama with biases": (
        {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "attention_bias": True},
        "attention_bias",
    ),
}


@pytest.mark.parametrize("case", CONFIGURATIONS)
def test_configurations_that_cannot_run_are_refused(tmp_path, case):
    changes, words = CONFIGURATIONS[case]
    with pytest.raises(CheckpointError, match=words) as refusal:
        checkpoint.find(copy(DENSE, tmp_path, changes))
    assert "config.json" in str(refusal.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"use_sliding_window": False, "sliding_window": 64},
        {"use_sliding_window": True, "sliding_window": 256, "max_window_layers": 0},
        {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 2},
    ],
)
def test_windows_that_are_not_in_use_are_no_matter(tmp_path, changes):
    assert checkpoint.find(copy(DENSE, tmp_path, changes)).shape.context == 256


def changed(name, change):
    """A function that changes one tensor of a dictionary."""
    return lambda tensors: tensors | {name: change(tensors[name])}


def dropped(name):
    """A function that drops one tensor."""
    return lambda tensors: {key: data for key, data in tensors.items() if key != name}


def poisoned(value):
    def poison(data):
        data = data.copy()
        data.reshape(-1)[7] = value
        return data

    return poison


TENSORS = {
    "missing": (dropped(UP), f"has no tensor {UP}"),
    "missing bias": (dropped("model.layers.0.self_attn.k_proj.bias"), "k_proj.bias"),
    "extra": (
        lambda t: t | {"model.layers.2.mlp.up_proj.weight": t[UP]},
        r"layers\.2.* has no place in a qwen2 model of 2 layers",
    ),
    "transposed": (changed(UP, lambda d: d.T.copy()), rf"{UP} has shape \[128, 192\]"),
    "flat": (changed(UP, lambda d: d.reshape(-1)), rf"{UP} has shape \[24576\]"),
    "integers": (changed(UP, lambda d: d.astype(np.int32)), "type I32"),
    "NaN": (changed(UP, poisoned(np.nan)), f"{UP}, rows 0"),
    "infinite norm": (changed(NORM, poisoned(np.inf)), f"{NORM} holds a NaN or an infinity"),
    "NaN embedding": (changed(EMBEDDING, poisoned(np.nan)), f"{EMBEDDING} has a NaN"),
    "another head": (lambda t: t | {"lm_head.weight": t[EMBEDDING] + 1}, "tie_word_embeddings"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_disagree_are_named(tmp_path, case):
    change, words = TENSORS[case]
    folder = copy(DENSE, tmp_path, tensors=change)
    with pytest.raises(CheckpointError, match=words):
        checkpoint.find(folder).model()


def test_a_tied_head_may_be_saved_too(tmp_path):
    folder = copy(DENSE, tmp_path, tensors=lambda t: t | {"lm_head.weight": t[EMBEDDING].copy()})
    assert_same_model(checkpoint.find(folder).model(), checkpoint.find(DENSE).model())


def test_an_untied_head_is_used(tmp_path):
    folder = copy(
        DENSE, tmp_path, {"tie_word_embeddings": False},
        lambda t: t | {"lm_head.weight": -t[EMBEDDING]},
    )  # fmt: skip
    model, tied = checkpoint.find(folder).model(), checkpoint.find(DENSE).model()
    np.testing.assert_array_equal(model.head.values, -tied.head.values)
    np.testing.assert_array_equal(model.embedding, tied.embedding)


def test_eos_tokens_of_both_files(tmp_path):
    folder = copy(DENSE, tmp_path, {"eos_token_id": 5})
    (folder / "generation_config.json").write_text('{"eos_token_id": [5, 9]}')
    assert checkpoint.find(folder).eos_tokens() == {5, 9}


@pytest.mark.parametrize("options", [{"group": 48}, {"group": 0}, {"head_bits": 5}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(CheckpointError, match=next(iter(options))):
        checkpoint.find(DENSE).model(**options)
