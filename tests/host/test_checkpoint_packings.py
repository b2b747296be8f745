"""GPTQ and compressed-tensors checkpoints: lossless, named, and refused by name where not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from host import checkpoint
from host.checkpoint import CheckpointError, safetensors_file
from host.checkpoint.compressed import CompressedSource
from host.checkpoint.packing import COMPRESSED, Packing
from tests import make_packed_fixture
from tests.host import packed_checkpoints as packings
from tests.host.checkpoint_files import AWQ, DENSE, FIXTURES, assert_same_model

UP = "model.layers.1.mlp.up_proj"
KINDS = ("gptq_v2", "gptq", "compressed")


@pytest.fixture(scope="module")
def model():
    """The tiny Qwen2 as AutoAWQ packs it: the integers that all packings below hold."""
    return checkpoint.find(AWQ).model()


@pytest.fixture(scope="module")
def integers(model):
    return packings.linears(model)


def written(folder, kind, held, change=lambda tensors: tensors, **settings):
    """A checkpoint of one kind."""
    if kind == "compressed":
        return packings.write(
            folder, packings.compressed_settings(**settings), held, packings.compressed, change
        )
    less = int(kind == "gptq")
    settings = packings.gptq_settings(**{"checkpoint_format": kind, **settings})
    return packings.write(
        folder, settings, held, lambda linear: packings.gptq(linear, 64, less), change
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_packing_of_one_model_is_equal(tmp_path, model, integers, kind):
    held = integers
    if kind == "gptq":  # version 1 has no way to say zero point 0
        held = {name: (v, s, np.maximum(z, 1)) for name, (v, s, z) in integers.items()}
    found = checkpoint.find(written(tmp_path / kind, kind, held)).model()
    if kind == "gptq":
        again = packings.linears(found)
        for name, parts in held.items():
            for one, other in zip(parts, again[name], strict=True):
                np.testing.assert_array_equal(one, other)
    else:
        assert_same_model(found, model)
    named = {"gptq": "GPTQ v1", "gptq_v2": "GPTQ v2", "compressed": "compressed-tensors"}[kind]
    assert f"({named} int4 group 64)" in found.source
    assert "scales" not in found.notes


@pytest.mark.parametrize("kind", KINDS)
def test_dense_model_is_the_integers_times_scales(tmp_path, integers, kind):
    held = {name: (v, s, np.clip(z, 1, 15)) for name, (v, s, z) in integers.items()}
    folder = written(tmp_path / kind, kind, held)
    rounded, dense = checkpoint.find(folder).model(), checkpoint.find(folder).dense_model()
    np.testing.assert_array_equal(
        dense.layers[1].gate_up.floats(), rounded.layers[1].gate_up.floats()
    )
    np.testing.assert_array_equal(dense.head.floats(), rounded.embedding)
    assert dense.source.endswith("group 64, floating point)")


def test_dense_model_of_floats_is_unrounded(tmp_path):
    found = checkpoint.find(DENSE)
    dense = found.dense_model()
    np.testing.assert_array_equal(
        dense.layers[0].down.floats(), found.model().layers[0].down.floats()
    )
    assert dense.source.endswith("(safetensors F16, floating point)")


def test_version_1_cannot_say_zero(tmp_path, integers):
    held = {name: (v, s, np.zeros_like(z)) for name, (v, s, z) in integers.items()}
    with pytest.raises(CheckpointError, match=r"stored as 15.*save the checkpoint as gptq_v2"):
        checkpoint.find(written(tmp_path / "zero", "gptq", held)).model()


def test_symmetric_weights_have_zero_point_8(tmp_path, integers):
    folder = packings.write(
        tmp_path / "symmetric", packings.compressed_settings({"symmetric": True}), integers,
        lambda linear: packings.compressed(linear, symmetric=True),
    )  # fmt: skip
    found = checkpoint.find(folder).model()
    assert "int4 group 64, symmetric" in found.source
    for name, (values, scales, zeros) in packings.linears(found).items():
        np.testing.assert_array_equal(values, integers[name][0])
        np.testing.assert_array_equal(scales, integers[name][1])
        assert (zeros == 8).all()


@pytest.mark.parametrize("kind", ["gptq_v2", "compressed"])
def test_coarse_groups_become_groups_of_the_hardware(tmp_path, integers, kind):
    """One scale a row: K = 128 takes groups of 128, K = 192 groups of 64; scales repeat."""
    rows = {name: (v, s[:, :1].copy(), z[:, :1].copy()) for name, (v, s, z) in integers.items()}
    if kind == "compressed":
        folder = packings.write(
            tmp_path / kind, packings.compressed_settings({"strategy": "channel"}), rows,
            packings.compressed,
        )  # fmt: skip
    else:
        settings = packings.gptq_settings(group_size=-1)
        folder = packings.write(
            tmp_path / kind, settings, rows, lambda linear: packings.gptq(linear, 1 << 20)
        )
    found = checkpoint.find(folder).model()
    assert (found.layers[0].qkv.group, found.layers[0].down.group) == (128, 64)
    assert "int4 per row" in found.source
    for name, (_, scales, zeros) in packings.linears(found).items():
        np.testing.assert_array_equal(scales, np.broadcast_to(rows[name][1], scales.shape))
        np.testing.assert_array_equal(zeros, np.broadcast_to(rows[name][2], zeros.shape))


def test_version_2_without_a_format_is_version_1(tmp_path, integers):
    """The key is newer than the packing; a checkpoint without it is of version 1."""
    held = {name: (v, s, np.clip(z, 1, 15)) for name, (v, s, z) in integers.items()}
    folder = written(tmp_path / "old", "gptq", held, checkpoint_format=None)
    assert "GPTQ v1" in checkpoint.find(folder).model().source


def test_biases_of_zeros_are_no_matter(tmp_path, integers):
    """AutoGPTQ gives every linear a bias."""

    def add(value):
        return lambda tensors: tensors | {f"{UP}.bias": np.full(192, value, np.float16)}

    checkpoint.find(written(tmp_path / "zero", "gptq_v2", integers, add(0))).model()
    with pytest.raises(CheckpointError, match=rf"{UP}\.bias has no place"):
        checkpoint.find(written(tmp_path / "one", "gptq_v2", integers, add(1))).model()


def test_bfloat16_scales(tmp_path, integers):
    """Exact in fp16 within its range; what is rounded is said."""
    folder = written(tmp_path / "bf16", "compressed", integers)
    tensors = safetensors_file.read(folder / "model.safetensors")
    scale = tensors[f"{UP}.weight_scale"].floats()
    for name, tiny, note in (
        ("exact", 2.0**-20, None),
        ("rounded", 1.0078125 * 2.0**-20, "rounded from BF16"),
    ):
        changed = scale.copy()
        changed[0, 0] = tiny
        changed = (changed.view(np.uint32) & 0xFFFF0000).view(np.float32)
        path = tmp_path / name
        path.mkdir()
        _replace(folder, path, f"{UP}.weight_scale", changed)
        found = checkpoint.find(path).model()
        read = found.layers[1].gate_up.scales[192:]
        np.testing.assert_array_equal(read, changed.astype(np.float16))
        if note is None:
            assert "scales" not in found.notes
            np.testing.assert_array_equal(read, changed)
        else:
            assert note in found.notes["scales"] and found.notes["scales"].startswith("1 of 384")


def _replace(source, target, name, values):
    """A copy of a checkpoint with one tensor as bfloat16."""
    (target / "config.json").write_bytes((source / "config.json").read_bytes())
    tensors = safetensors_file.read(source / "model.safetensors")
    header, body = {}, b""
    for each, tensor in tensors.items():
        raw, kind = tensor.data.tobytes(), tensor.kind
        if each == name:
            raw, kind = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes(), "BF16"
        places = [len(body), len(body) + len(raw)]
        header[each] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": places}
        body += raw
    text = json.dumps(header).encode()
    (target / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + body)


@pytest.mark.parametrize("case", make_packed_fixture.CASES)
def test_what_the_library_packs(case):
    """compressed-tensors' own output (tests/make_packed_fixture.py)."""
    check_library_case(FIXTURES, case)


def check_library_case(folder, case):
    """Reads one case of a fixture; equal to what the library unpacks."""
    symmetric, group, _ = make_packed_fixture.CASES[case]
    tensors = safetensors_file.read(folder / make_packed_fixture.NAME)
    source = CompressedSource(folder, tensors, Packing(COMPRESSED, group, symmetric))
    rows, columns = make_packed_fixture.ROWS, make_packed_fixture.COLUMNS
    found = source.linear([(case, rows)], columns, 0)
    assert found.group == (group or 128)
    assert source.notes == {}
    np.testing.assert_array_equal(found.floats(), tensors[f"{case}.weight"].floats())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_what_the_library_packs_today(tmp_path, seed):
    make_packed_fixture.make(tmp_path, seed)
    for case in make_packed_fixture.CASES:
        check_library_case(tmp_path, case)


GPTQ_SETTINGS = {
    "bits": (packings.gptq_settings(bits=8), "GPTQ weights of 8 bits"),
    "marlin": (packings.gptq_settings(checkpoint_format="marlin"), "packed as GPTQ for marlin"),
    "words": (packings.gptq_settings(pack_dtype="int16"), "packed in 'int16'"),
    "dynamic": (packings.gptq_settings(dynamic={"re:.*": {"bits": 8}}), "by layer"),
    "head": (packings.gptq_settings(lm_head=True), "GPTQ LM head"),
    "group 16": (packings.gptq_settings(group_size=16), "GPTQ groups of 16"),
    "group none": (packings.gptq_settings(group_size=None), "GPTQ groups of None"),
    "group text": (packings.gptq_settings(group_size="64"), "GPTQ groups of '64'"),
    "group true": (packings.gptq_settings(group_size=True), "GPTQ groups of True"),
}
COMPRESSED_SETTINGS = {
    "int8": (packings.compressed_settings({"num_bits": 8}), "with 8 bits"),
    "float": (packings.compressed_settings({"type": "float"}), "type 'float'"),
    "activations": (
        packings.compressed_settings(scheme={"input_activations": {"num_bits": 8}}),
        "quantised activations",
    ),
    "cache": (packings.compressed_settings(kv_cache_scheme={"num_bits": 8}), "KV cache"),
    "rotated": (packings.compressed_settings(transform_config={"a": {}}), "rotated weights"),
    "sparse": (
        packings.compressed_settings(sparsity_config={"format": "sparse-24-bitmask"}), "sparse",
    ),
    "blocks": (packings.compressed_settings({"strategy": "block"}), "scales by 'block'"),
    "other format": (packings.compressed_settings(format="nvfp4-pack-quantized"), "nvfp4"),
    "two schemes": (packings.compressed_settings(config_groups={"a": {}, "b": {}}), "has 2"),
    "no scheme": (packings.compressed_settings(config_groups=None), "has no"),
    "no weights": (packings.compressed_settings(scheme={"weights": None}), "without weights"),
    "exceptions": (packings.compressed_settings(ignore=["lm_head", "re:.*mlp.*"]), "leaves 're:"),
    "dynamic": (packings.compressed_settings({"dynamic": True}), "dynamic"),
}  # fmt: skip


@pytest.mark.parametrize("case", [*GPTQ_SETTINGS, *COMPRESSED_SETTINGS])
def test_settings_that_are_not_supported_are_named(tmp_path, integers, case):
    settings, words = {**GPTQ_SETTINGS, **COMPRESSED_SETTINGS}[case]
    folder = packings.write(tmp_path / "model", settings, integers, packings.compressed)
    with pytest.raises(CheckpointError, match=words):
        checkpoint.find(folder)


def test_dense_sparsity_is_none(tmp_path, model, integers):
    settings = packings.compressed_settings(sparsity_config={"format": "dense"})
    folder = packings.write(tmp_path / "model", settings, integers, packings.compressed)
    assert_same_model(checkpoint.find(folder).model(), model)


def changed(name, change):
    return lambda tensors: tensors | {f"{UP}.{name}": change(tensors[f"{UP}.{name}"])}


def without(name):
    return lambda tensors: {key: data for key, data in tensors.items() if key != f"{UP}.{name}"}


def spoiled(value):
    def spoil(data):
        data = data.copy()
        data.flat[3] = value
        return data

    return spoil


DAMAGED = {
    "GPTQ order": ("gptq_v2", changed("g_idx", lambda d: d[::-1].copy()), "act-order"),
    "GPTQ order type": ("gptq_v2", changed("g_idx", lambda d: d.astype(np.int64)), "type I64"),
    "GPTQ no weights": ("gptq_v2", without("qweight"), rf"no tensor {UP}\.qweight"),
    "GPTQ no zeros": ("gptq_v2", without("qzeros"), rf"no tensor {UP}\.qzeros"),
    "GPTQ NaN": ("gptq_v2", changed("scales", spoiled(np.nan)), "NaN or infinite scale"),
    "GPTQ infinity": ("gptq_v2", changed("scales", spoiled(np.inf)), "NaN or infinite scale"),
    "GPTQ shape": ("gptq_v2", changed("qweight", lambda d: d.T.copy()), r"shape \[192, 16\]"),
    "GPTQ type": ("gptq_v2", changed("qweight", lambda d: d.view(np.float32)), "type F32"),
    "GPTQ huge scale": (
        "gptq_v2", changed("scales", lambda d: spoiled(1e6)(d.astype(np.float32))), "too large",
    ),
    "order": (
        "compressed",
        lambda t: t | {f"{UP}.weight_g_idx": np.arange(128, dtype=np.int32)[::-1].copy() // 64},
        "actorder",
    ),
    "shape": ("compressed", changed("weight_shape", lambda d: d[::-1].copy()), "says"),
    "shape type": (
        "compressed", changed("weight_shape", lambda d: d.astype(np.float32)), "type F32",
    ),
    "no zeros": ("compressed", without("weight_zero_point"), "no tensor .*weight_zero_point"),
    "no scale": ("compressed", without("weight_scale"), "no tensor .*weight_scale"),
    "NaN": ("compressed", changed("weight_scale", spoiled(np.nan)), "NaN or infinite scale"),
    "short": ("compressed", changed("weight_packed", lambda d: d[:, :-1].copy()), "shape"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_tensors_are_named(tmp_path, integers, case):
    kind, change, words = DAMAGED[case]
    folder = written(tmp_path / "model", kind, integers, change)
    with pytest.raises(CheckpointError, match=words):
        checkpoint.find(folder).model()


def test_zero_points_of_a_symmetric_packing_have_no_place(tmp_path, integers):
    settings = packings.compressed_settings({"symmetric": True})
    folder = packings.write(tmp_path / "model", settings, integers, packings.compressed)
    with pytest.raises(CheckpointError, match=r"weight_zero_point.* has no place"):
        checkpoint.find(folder).model()


def test_negative_scales_become_positive(tmp_path, model, integers):
    values, scales, zeros = integers[UP]
    held = integers | {UP: (values, -scales, zeros)}
    for kind in ("gptq_v2", "compressed"):
        found = checkpoint.find(written(tmp_path / kind, kind, held)).model().layers[1].gate_up
        assert (found.scales >= 0).all()
        wanted = model.layers[1].gate_up.floats()
        wanted[192:] *= -1
        np.testing.assert_array_equal(found.floats(), wanted)


def test_a_group_that_does_not_divide_k_is_refused(tmp_path, integers):
    def drop(tensors):
        return {key: data for key, data in tensors.items() if not key.endswith("g_idx")}

    whole = {name: (v, s[:, :1].copy(), z[:, :1].copy()) for name, (v, s, z) in integers.items()}
    for kind, settings in (
        ("gptq_v2", {"group_size": 128}), ("compressed", {"weights": {"group_size": 128}}),
    ):  # fmt: skip
        folder = written(tmp_path / kind, kind, whole, drop, **settings)
        with pytest.raises(CheckpointError, match=r"K = 192, which groups of 128 do not"):
            checkpoint.find(folder).model()


def test_one_word_worked_by_hand():
    fields = np.array([[1, 2, 3, 4, 5, 6, 7, 8, 9]], np.uint8)
    assert packings.words(fields).view(np.uint32).tolist() == [[0x87654321, 0x9]]
