"""Everything that reads bytes from outside, and valid inputs to damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Kind
from safetensors.numpy import save

from host import checkpoint
from host.checkpoint import (
    config_json,
    gguf_file,
    image_file,
    image_header,
    jsonfile,
    safetensors_file,
)
from host.device import vectors
from host.text import tokenizer
from sim import cases, memory, replay
from spec import commands, config
from spec.config import TINY
from spec.layout import Matrix
from tests.host import checkpoint_files
from tests.host.test_image import written
from tests.host.tiny_model import random_model, shape


@dataclass(frozen=True)
class Parser:
    """A reader of files and how it is fed."""

    name: str
    read: Callable[[Path], object]
    seeds: Callable[[Path], list[bytes]]
    """Valid inputs; the directory is for making them."""
    suffix: str = ".bin"
    expensive: bool = False
    """Milliseconds an input: gets fewer of them."""


def _image(path: Path) -> None:
    found = image_file.read(path)
    image_header.config(found)
    image_header.shape(found)
    image_header.about(found)


def _config_json(path: Path) -> None:
    values = jsonfile.read(path)
    config_json.shape(values, path)
    config_json.eos_tokens(values)


def _descriptor(path: Path) -> None:
    fields = commands.unpack(path.read_bytes())
    commands.check(TINY, fields)


def _safetensors(folder: Path) -> list[bytes]:
    random = np.random.default_rng(1)
    tensors = {
        "model.a": random.normal(size=(3, 5)).astype(np.float32),
        "b.qweight": random.integers(0, 1 << 31, (4, 2), np.int32),
        "c": np.zeros(0, np.float16),
    }
    return [save(tensors), save({"one": np.ones(1, np.uint8)}, {"format": "pt"})]


def _gguf(folder: Path) -> list[bytes]:
    path = checkpoint_files.write_gguf(folder / "seed.gguf", "qwen2", Kind.F16)
    whole = path.read_bytes()
    return [whole, whole[: len(whole) // 4]]


def _images(folder: Path) -> list[bytes]:
    whole = written(folder, random_model(1, shape("qwen2")), TINY).read_bytes()
    return [whole, whole[:12288]]


def _descriptors(folder: Path) -> list[bytes]:
    fields = commands.matmul(
        Matrix(TINY, 20, 256, 4, 64), 2, weights=0x1000, weight_stride=0x4000, activations=0x8000,
        activation_stride=0x1000, results=0xF000,
    )  # fmt: skip
    return [commands.pack(fields), commands.pack(fields | {"tiles": 0}), bytes(64)]


def _vectors(folder: Path) -> list[bytes]:
    asked = replay.Asked(TINY, cases.draw(3, 64, 4, 32, 1, 2), "fp32", 0)
    other = replay.Asked(TINY, cases.draw(4, 64, 8, 32, 2, 2), "fp32", 2)
    return [vectors.dump(replay.vector(one)).encode() for one in (asked, other)]


def _tokenizer(folder: Path) -> list[bytes]:
    model = checkpoint_files.write_gguf(folder / "tokens.gguf", "qwen2", Kind.F16)
    checkpoint.find(model).tokenizer().save(folder / "tokenizer.json")
    return [(folder / "tokenizer.json").read_bytes()]


def _fixture(name: str) -> Callable[[Path], list[bytes]]:
    return lambda _folder: [(checkpoint_files.DENSE / name).read_bytes()]


def _texts(*values: str) -> Callable[[Path], list[bytes]]:
    return lambda _folder: [value.encode() for value in values]


PARSERS = (
    Parser("safetensors", safetensors_file.read, _safetensors, ".safetensors"),
    Parser("gguf", gguf_file.read, _gguf, ".gguf"),
    Parser("image", _image, _images, ".image"),
    Parser("config-toml", config.load, _texts(
        'preset = "kv260"\ntokens = 4\ngroup = 32\n', "ports = 2\nport_bits = 64\nmax_k = 1024\n",
    ), ".toml"),
    Parser("memory-toml", memory.load, _texts(
        'preset = "ddr4-2133"\n', json.dumps({"preset": "ddr4-2400"}).replace(": ", " = ")[1:-1],
    ), ".toml"),
    Parser("descriptor", _descriptor, _descriptors),
    Parser("config-json", _config_json, _fixture("config.json"), ".json"),
    Parser("vector", vectors.load, _vectors, ".json"),
    Parser("tokenizer-json", tokenizer.from_json, _tokenizer, ".json", True),
)  # fmt: skip
