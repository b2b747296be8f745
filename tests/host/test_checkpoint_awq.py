"""AutoAWQ checkpoints: lossless, equal to the same weights unquantised; other packings named."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file

from host import checkpoint
from host.checkpoint import CheckpointError, autoawq
from tests.host.checkpoint_files import AWQ, DENSE, assert_same_model, copy, dequantised

SCALES = "model.layers.1.mlp.up_proj.scales"


def test_both_packings_of_one_model_are_equal():
    awq, dense = checkpoint.find(AWQ).model(), checkpoint.find(DENSE).model()
    assert_same_model(awq, dense)
    assert awq.shape == dense.shape
    assert "AWQ GEMM int4 group 64" in awq.source and "rounded to int4 group 64" in dense.source


def test_weights_are_those_of_the_unquantised_file():
    tensors = load_file(DENSE / "model.safetensors")
    for index, layer in enumerate(checkpoint.find(AWQ).model().layers):
        prefix = f"model.layers.{index}."
        for matrix, names in (
            (layer.qkv, [f"self_attn.{part}_proj" for part in "qkv"]),
            (layer.output, ["self_attn.o_proj"]),
            (layer.gate_up, ["mlp.gate_proj", "mlp.up_proj"]),
            (layer.down, ["mlp.down_proj"]),
        ):
            stacked = np.concatenate([tensors[f"{prefix}{name}.weight"] for name in names])
            np.testing.assert_array_equal(dequantised(matrix), stacked.astype(np.float32))


def test_head_is_rounded_as_asked():
    found = checkpoint.find(AWQ)
    fine = found.model()
    assert (fine.head.bits, fine.head.group) == (8, 64)
    np.testing.assert_array_equal(dequantised(fine.head), fine.embedding.astype(np.float32))
    coarse = found.model(group=128, head_bits=4)
    assert (coarse.head.bits, coarse.head.group) == (4, 128)
    assert coarse.layers[0].qkv.group == 64
    assert "int4 group 128" in coarse.notes["head"]


def test_one_word_worked_by_hand():
    # Nibbles 0..7 of 0x76543210 hold columns 0, 2, 4, 6, 1, 3, 5, 7.
    words = np.array([[0x76543210], [-1]], np.int32)
    columns = autoawq.unpack(words)
    assert columns[:, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert columns[:, 1].tolist() == [15] * 8


def test_negative_scales_become_positive_without_loss(tmp_path):
    def negate(tensors):
        tensors[SCALES][:, ::3] *= -1
        return tensors

    turned = checkpoint.find(copy(AWQ, tmp_path, tensors=negate)).model().layers[1].gate_up
    wanted = dequantised(checkpoint.find(AWQ).model().layers[1].gate_up)
    wanted[192::3] *= -1
    assert (turned.scales >= 0).all()
    np.testing.assert_array_equal(dequantised(turned), wanted)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scales_that_are_not_finite_are_refused(tmp_path, value):
    def damage(tensors):
        tensors[SCALES][0, 0] = value
        return tensors

    with pytest.raises(CheckpointError, match=f"{SCALES} has a NaN or infinite scale"):
        checkpoint.find(copy(AWQ, tmp_path, tensors=damage)).model()


SETTINGS = {"quant_method": "awq", "version": "gemm", "bits": 4, "group_size": 64}
OTHERS = {
    "GEMV": (SETTINGS | {"version": "gemv"}, "AWQ version GEMV"),
    "GEMV fast": (SETTINGS | {"version": "gemv_fast"}, "AWQ version GEMV_FAST"),
    "llm-awq": (SETTINGS | {"backend": "llm-awq"}, "AWQ for llm-awq"),
    "HQQ": ({"quant_method": "hqq", "bits": 4}, "packed as hqq"),
    "FP8": ({"quant_method": "fp8"}, "packed as fp8"),
    "bitsandbytes": ({"quant_method": "bitsandbytes"}, "packed as bitsandbytes"),
    "none named": ({"bits": 4}, "packed as unknown"),
    "3 bits": (SETTINGS | {"bits": 3}, "AWQ weights of 3 bits"),
    "no zeros": (SETTINGS | {"zero_point": False}, "without zero points"),
    "group": (SETTINGS | {"group_size": -1}, "groups of -1"),
    "exceptions": (SETTINGS | {"modules_to_not_convert": ["mlp"]}, "leaves 'mlp' unquantised"),
    "not an object": ("awq", "quantization_config is 'awq'"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_packings_are_named(tmp_path, case):
    settings, words = OTHERS[case]
    folder = copy(AWQ, tmp_path, {"quantization_config": settings})
    with pytest.raises(CheckpointError, match=words):
        checkpoint.find(folder)


@pytest.mark.parametrize(
    ("ending", "name"),
    [("weight_packed", "compressed-tensors"), ("g_idx", "GPTQ"), ("scaled_zeros", "llm-awq")],
)
def test_tensors_of_other_packings_are_named(tmp_path, ending, name):
    def add(tensors):
        return tensors | {f"model.layers.0.mlp.up_proj.{ending}": np.zeros(4, np.int32)}

    with pytest.raises(CheckpointError, match=name):
        checkpoint.find(copy(AWQ, tmp_path, tensors=add))


def test_quantised_tensors_without_settings_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"config\.json has no quantization_config"):
        checkpoint.find(copy(AWQ, tmp_path, {"quantization_config": None}))


def test_a_group_that_does_not_divide_k_is_refused(tmp_path):
    folder = copy(AWQ, tmp_path, {"quantization_config": SETTINGS | {"group_size": 128}})
    with pytest.raises(CheckpointError, match=r"qzeros has shape|K = 192, not a multiple"):
        checkpoint.find(folder).model()


def test_scales_of_another_type_are_refused(tmp_path):
    def widen(tensors):
        return tensors | {SCALES: tensors[SCALES].astype(np.float32)}

    with pytest.raises(CheckpointError, match=f"{SCALES} has type F32"):
        checkpoint.find(copy(AWQ, tmp_path, tensors=widen)).model()
