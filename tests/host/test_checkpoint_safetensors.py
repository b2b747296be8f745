"""safetensors headers: what the library writes is read, what does not describe the file is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from host.checkpoint import CheckpointError, safetensors_file
from tests.host.checkpoint_files import DENSE


def test_reads_what_the_library_writes(tmp_path):
    rng = np.random.default_rng(5)
    wanted = {
        "a": rng.normal(size=(3, 5)).astype(np.float32),
        "b": rng.normal(size=7).astype(np.float16),
        "empty": np.zeros((0, 4), np.float32),
        "scalar": np.array(2.5, np.float32),
    }
    save_file(wanted, tmp_path / "x.safetensors", metadata={"format": "np"})
    found = safetensors_file.read(tmp_path / "x.safetensors")
    assert found.keys() == wanted.keys()
    for name, data in wanted.items():
        np.testing.assert_array_equal(found[name].view(data.dtype.type), data)


def test_reads_the_fixture_like_the_library():
    found = safetensors_file.read(DENSE / "model.safetensors")
    for name, data in load_file(DENSE / "model.safetensors").items():
        np.testing.assert_array_equal(found[name].floats(), data.astype(np.float32))


def file_of(path: Path, header: object, body: bytes = bytes(64), length: int | None = None) -> Path:
    """A file with this header (an object, or bytes as they are)."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    count = len(text) if length is None else length
    path.write_bytes(count.to_bytes(8, "little") + text + body)
    return path


def entry(dtype="F32", shape=(2, 2), offsets=(0, 16)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


HEADERS = {
    "huge header": (b"{}", 1 << 60, "header would have"),
    "header past the end": (b"{}", 67, "header would have"),
    "not JSON": (b"{", None, "is not JSON"),
    "not UTF-8": (b'{"\xff": 1}', None, "is not JSON"),
    "deep": (b'{"a":' * 3000 + b"1" + b"}" * 3000, None, "nested too deeply"),
    "array": (b"[]", None, "holds list"),
    "nothing": ({}, None, "holds no tensors"),
    "twice": (b'{"a": 1, "a": 2}', None, "key 'a' is there twice"),
    "no object": ({"a": 3}, None, "not described by an object"),
    "no type": ({"a": {}}, None, "unknown type None"),
    "list as type": ({"a": entry(dtype=["F32"])}, None, "unknown type"),
    "unknown type": ({"a": entry(dtype="F7")}, None, "unknown type 'F7'"),
    "negative shape": ({"a": entry(shape=(-2, -2))}, None, "has shape"),
    "float shape": ({"a": entry(shape=(2.0, 2))}, None, "has shape"),
    "true shape": ({"a": entry(shape=(True, 4))}, None, "has shape"),
    "huge shape": ({"a": entry(shape=(1 << 62, 4))}, None, "has shape"),
    "many dimensions": ({"a": entry(shape=[1] * 9)}, None, "has shape"),
    "one offset": ({"a": entry(offsets=(16,))}, None, "has offsets"),
    "past the end": ({"a": entry(shape=(17,), offsets=(0, 68))}, None, "truncated"),
    "backwards": ({"a": entry(offsets=(16, 0))}, None, "truncated"),
    "wrong size": ({"a": entry(shape=(2, 3))}, None, "takes 24 bytes but has 16"),
    "overlap": ({"a": entry(), "b": entry(offsets=(8, 24))}, None, "a and b overlap"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers_that_do_not_describe_the_file_are_refused(tmp_path, case):
    header, length, words = HEADERS[case]
    path = file_of(tmp_path / "x.safetensors", header, length=length)
    with pytest.raises(CheckpointError, match=words) as refusal:
        safetensors_file.read(path)
    assert "\n" not in str(refusal.value) and str(path) in str(refusal.value)


@pytest.mark.parametrize("size", [0, 7, 8, 100, -1])
def test_truncated_files_are_refused(tmp_path, size):
    data = (DENSE / "model.safetensors").read_bytes()
    path = tmp_path / "x.safetensors"
    path.write_bytes(data[:size])
    with pytest.raises(CheckpointError, match=r"too short|truncated"):
        safetensors_file.read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="is missing"):
        safetensors_file.read(tmp_path / "x.safetensors")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 1 << 65) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "I8", "X"]) | JSON,
        "shape": st.lists(st.integers(-1, 9), max_size=3) | JSON,
        "data_offsets": st.lists(st.integers(-1, 70), min_size=2, max_size=2) | JSON,
    }
)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(header=st.dictionaries(st.text(max_size=3), ENTRIES | JSON, max_size=3) | JSON)
def test_any_header_is_read_or_refused(tmp_path_factory, header):
    path = file_of(tmp_path_factory.getbasetemp() / "fuzz.safetensors", header)
    try:
        found = safetensors_file.read(path)
    except CheckpointError as error:
        assert "\n" not in str(error)
    else:
        assert sum(tensor.data.size for tensor in found.values()) <= 64


@settings(max_examples=200, derandomize=True, deadline=None)
@given(data=st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "bytes.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError):
        safetensors_file.read(path)
