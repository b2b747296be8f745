"""What a path or an id is."""

from __future__ import annotations

import builtins
import shutil

import huggingface_hub
import pytest
from gguf import GGMLQuantizationType as Kind
from huggingface_hub import constants

from host import checkpoint
from host.checkpoint import CheckpointError, hub
from spec.errors import ToolError
from tests.host.checkpoint_files import AWQ, write_gguf


def test_a_directory_with_one_gguf_is_that_file(tmp_path):
    write_gguf(tmp_path / "a.gguf", "qwen2", Kind.F16)
    assert checkpoint.find(tmp_path).path == tmp_path / "a.gguf"
    shutil.copy(tmp_path / "a.gguf", tmp_path / "b.gguf")
    with pytest.raises(CheckpointError, match="holds 2 GGUF files"):
        checkpoint.find(tmp_path)


def test_a_text_path_is_a_path():
    assert checkpoint.find(str(AWQ)).path == AWQ


@pytest.mark.parametrize("source", ["nothing", "/no/such/model", "a/b/c", "../x/y", "", "a b/c"])
def test_neither_path_nor_id(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"no model at|config\.json is missing"):
        checkpoint.find(source)


def test_an_empty_directory_is_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        checkpoint.find(tmp_path)


def test_a_pickle_is_not_read(tmp_path):
    shutil.copy(AWQ / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02.")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is a PyTorch pickle"):
        checkpoint.find(tmp_path)


def test_one_file_of_a_directory_points_to_it():
    with pytest.raises(CheckpointError, match="give its directory"):
        checkpoint.find(AWQ / "model.safetensors")
    with pytest.raises(CheckpointError, match="give a GGUF file"):
        checkpoint.find(AWQ / "config.json")


def test_an_id_without_a_network_is_one_sentence(tmp_path, monkeypatch):
    """The library itself refuses: offline, and nothing in its cache."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError) as refusal:
        checkpoint.find("Qwen/Qwen2.5-0.5B-Instruct-AWQ")
    text = str(refusal.value)
    assert "Qwen/Qwen2.5-0.5B-Instruct-AWQ" in text and "give its folder" in text
    assert "\n" not in text


def test_an_id_is_fetched_with_the_files_that_are_read(monkeypatch, tmp_path):
    asked = []

    def download(repository, allow_patterns):
        asked.append((repository, allow_patterns))
        return str(AWQ)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert checkpoint.find("someone/model").path == AWQ
    assert asked == [("someone/model", ["*.json", "*.jinja", "*.safetensors"])]
    assert hub.fetch("someone/model/q4.gguf") == AWQ / "q4.gguf"
    assert asked[1] == ("someone/model", ["q4.gguf"])


def test_a_missing_hub_package_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "huggingface_hub":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ToolError, match="package huggingface_hub"):
        hub.fetch("someone/model")
