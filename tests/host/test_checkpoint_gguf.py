"""GGUF: the same model as from safetensors, every block type as the gguf package reads it, and
files that are damaged."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from host import checkpoint
from host.checkpoint import CheckpointError, gguf_file
from spec.errors import UserError
from tests.host.checkpoint_files import (
    DENSE,
    TEMPLATE,
    as_llama,
    assert_same_model,
    write_gguf,
)


@pytest.mark.parametrize("kind", [Kind.F16, Kind.F32])
def test_qwen2_is_the_safetensors_model(tmp_path, kind):
    found = checkpoint.find(write_gguf(tmp_path / "q.gguf", "qwen2", kind)).model()
    assert_same_model(found, checkpoint.find(DENSE).model())
    assert f"GGUF {kind.name}, rounded to int4 group 64" in found.source


def test_llama_rows_are_put_back_into_rotate_half_order(tmp_path):
    found = checkpoint.find(write_gguf(tmp_path / "l.gguf", "llama", Kind.F16)).model()
    wanted = checkpoint.find(as_llama(tmp_path)).model()
    assert_same_model(found, wanted)
    assert found.shape.architecture == wanted.shape.architecture == "llama"
    assert found.shape.kv_heads == 2 and found.shape.head_dim == 32 and found.shape.tied


@pytest.mark.parametrize("kind", [Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.BF16])
def test_block_types_are_dequantised(tmp_path, kind):
    path = write_gguf(tmp_path / "q.gguf", "qwen2", kind)
    model = checkpoint.find(path).model(group=32)
    embedding = load_file(DENSE / "model.safetensors")["model.embed_tokens.weight"]
    blocks = gguf.quants.quantize(embedding.astype(np.float32), kind)
    np.testing.assert_array_equal(
        model.embedding, gguf.quants.dequantize(blocks, kind).astype(np.float16)
    )
    assert f"GGUF {kind.name}" in model.source


def test_metadata_gives_template_and_eos(tmp_path):
    found = checkpoint.find(write_gguf(tmp_path / "q.gguf", "qwen2", Kind.F16))
    assert found.chat().template == TEMPLATE
    assert found.chat().bos_token == "<|im_start|>"
    assert found.eos_tokens() == {0, 2}


def test_llama3_divisors_become_scaling(tmp_path):
    theta, factor, original = 5e5, 32.0, 8192
    divisors = []
    for pair in range(16):  # the three cases of Llama 3's reference code
        wavelength = 2 * np.pi * theta ** (pair / 16)
        if wavelength < original / 4:
            divisors.append(1.0)
        elif wavelength > original:
            divisors.append(factor)
        else:
            smooth = (original / wavelength - 1) / 3
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    freqs = np.array(divisors, np.float32)
    assert 1 < sorted(set(divisors))[1] < factor
    path = write_gguf(tmp_path / "a.gguf", "llama", Kind.F16, theta=theta, rope_freqs=freqs)
    assert checkpoint.find(path).shape.rope_scaling == {
        "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_context": 8192.0,
    }  # fmt: skip
    path = write_gguf(tmp_path / "b.gguf", "llama", Kind.F16, theta=theta, rope_freqs=freqs[::-1])
    with pytest.raises(CheckpointError, match="not Llama 3's"):
        checkpoint.find(path)


@pytest.mark.parametrize(
    ("architecture", "more", "words"),
    [
        ("gemma", {}, "architecture 'gemma'"),
        ("qwen2", {"rope_scaling": "yarn"}, "by 'yarn'"),
        ("qwen2", {"window": 64}, "sliding window of 64"),
        ("llama", {"parts": 3}, "one of 3 parts"),
    ],
)
def test_what_the_runtime_does_not_do_is_refused(tmp_path, architecture, more, words):
    with pytest.raises(CheckpointError, match=words):
        checkpoint.find(write_gguf(tmp_path / "q.gguf", architecture, Kind.F16, **more))


def test_a_scaling_of_none_is_none(tmp_path):
    path = write_gguf(tmp_path / "q.gguf", "qwen2", Kind.F16, rope_scaling="none", window=256)
    assert checkpoint.find(path).shape.rope_scaling is None


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    """The bytes of a good file."""
    folder = tmp_path_factory.mktemp("gguf")
    return write_gguf(folder / "q.gguf", "qwen2", Kind.Q8_0).read_bytes()


def replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new, 1)


def counts(tensors: int, entries: int, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries)


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def one_tensor(shape: list[int], kind: int = 0, offset: int = 0, size: int = 64) -> bytes:
    """A file with one tensor and ``size`` bytes of data."""
    head = counts(1, 0) + string("a") + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    head += struct.pack("<IQ", kind, offset)
    return head + bytes(-len(head) % 32 + size)


HEADERS = {
    "empty": (b"", "too short"),
    "another file": (b"PK\3\4" + bytes(40), "not a GGUF file"),
    "version 1": (counts(0, 0, 1), "version 1"),
    "big endian": (b"GGUF" + struct.pack(">IQQ", 3, 1, 1), "big endian"),
    "many tensors": (counts(1 << 62, 0), "tensors where at most 0 fit"),
    "many entries": (counts(0, 1 << 62) + bytes(130), "entries where at most 10 fit"),
    "long key": (counts(0, 1) + struct.pack("<Q", 1 << 61) + bytes(90), "bytes of a string"),
    "unknown value": (counts(0, 1) + string("k") + struct.pack("<I", 99) + bytes(9), "type 99"),
    "long array": (
        counts(0, 1) + string("k") + struct.pack("<IIQ", 9, 4, 1 << 60) + bytes(9),
        "values in k where at most 2 fit",
    ),
    "long list of strings": (
        counts(0, 1) + string("k") + struct.pack("<IIQ", 9, 8, 1 << 60) + bytes(24),
        "strings in k where at most 3 fit",
    ),
    "nested array": (
        counts(0, 1) + string("k") + struct.pack("<IIQ", 9, 9, 1) + bytes(24),
        "array of unsupported type 9",
    ),
    "truncated header": (counts(0, 1) + string("key56") + b"\4\0\0\0", "header does not end"),
    "key twice": (counts(0, 2) + 2 * (string("k") + struct.pack("<IB", 0, 7)), "k is there twice"),
    "key not text": (counts(0, 1) + struct.pack("<Q", 1) + b"\xff" + bytes(9), "not UTF-8"),
    "no dimensions": (one_tensor([]), "has 0 dimensions"),
    "zero dimension": (one_tensor([0, 4]), "cannot hold"),
    "huge": (one_tensor([1 << 40, 1 << 40]), "is truncated"),
    "part of a block": (one_tensor([8], kind=8), "blocks of 32"),
    "unknown type": (one_tensor([8], kind=77), "unknown type 77"),
    "offset": (one_tensor([4], offset=1 << 63), "is truncated"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_damaged_headers_are_refused(tmp_path, case):
    data, words = HEADERS[case]
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=words) as refusal:
        gguf_file.read(path)
    assert "\n" not in str(refusal.value) and str(path) in str(refusal.value)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.999])
def test_truncated_files_are_refused(tmp_path, whole, share):
    path = tmp_path / "x.gguf"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CheckpointError, match=r"truncated|fit|too short"):
        checkpoint.find(path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"blk.1.ffn_up.weight", b"blk.1.ffn_uq.weight", "has no tensor blk.1.ffn_up.weight"),
        (b"output_norm.weight", b"output_nerm.weight", "has no tensor output_norm.weight"),
        (b"token_embd", b"taken_embd", "has no embedding"),
        (b"blk.1.ffn_up.weight", b"blk.0.ffn_up.weight", "is there twice"),
        (b"qwen2.block_count\4\0\0\0\2", b"qwen2.block_count\4\0\0\0\3", "has no tensor blk.2"),
        (b"qwen2.block_count\4\0\0\0\2", b"qwen2.block_count\4\0\0\0\1", "no place in a qwen2"),
        (b"qwen2.block_count", b"qwen2.block_caunt", "has no metadata qwen2.block_count"),
        (b"embedding_length\4\0\0\0\x80", b"embedding_length\4\0\0\0\xc0", "calls for"),
        (b"head_count_kv\4\0\0\0\2", b"head_count_kv\4\0\0\0\3", "not a multiple of its 3"),
        (b"head_count_kv\4\0\0\0\2", b"head_count_kv\4\0\0\0\0", "not a whole number from 1"),
    ],
)
def test_files_that_contradict_themselves_are_refused(tmp_path, whole, old, new, words):
    path = tmp_path / "x.gguf"
    path.write_bytes(replaced(whole, old, new))
    with pytest.raises(CheckpointError, match=words):
        checkpoint.find(path).model()


def test_block_scales_that_are_not_numbers_are_refused(tmp_path):
    path = write_gguf(tmp_path / "x.gguf", "qwen2", Kind.Q8_0)
    tensor = gguf_file.read(path).tensors["blk.0.ffn_down.weight"]
    data = bytearray(path.read_bytes())
    data[tensor.offset : tensor.offset + 2] = np.float16(np.nan).tobytes()
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"blk\.0\.ffn_down\.weight, rows 0"):
        checkpoint.find(path).model()


def outcome(path: Path) -> None:
    """Loads everything or is told why not, in one line."""
    try:
        found = checkpoint.find(path)
        found.model()
        found.tokenizer()
        found.eos_tokens()
    except UserError as error:
        assert "\n" not in str(error)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(data=st.data())
def test_flipped_bytes_are_read_or_refused(tmp_path_factory, whole, data):
    """Bytes of the header, where every count and offset lies."""
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(4, 12_000))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "flipped.gguf"
    path.write_bytes(damaged)
    outcome(path)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(data=st.binary(max_size=120))
def test_any_bytes_after_the_magic_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "bytes.gguf"
    path.write_bytes(b"GGUF\3\0\0\0" + data)
    outcome(path)
