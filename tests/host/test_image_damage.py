"""Damaged, truncated and forged memory images: refused in a sentence, nothing large allocated."""

from __future__ import annotations

import json
import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from host import checkpoint
from host.checkpoint import CheckpointError, image_file
from spec.config import TINY
from tests.host.test_image import written
from tests.host.tiny_model import random_model, shape


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """An image to damage, as bytes."""
    path = written(tmp_path_factory.mktemp("image"), random_model(1, shape("qwen2")), TINY)
    return path.read_bytes()


def load(folder, data: bytes):
    """Everything that a run takes of an image."""
    path = folder / "damaged.image"
    path.write_bytes(data)
    found = checkpoint.find(path)
    found.tokenizer()
    return found.model()


def test_any_flipped_bit_is_found(tmp_path, small):
    """In header, table, tensors and padding: every page's ends, then at random."""
    load(tmp_path, small)
    random = np.random.default_rng(7)
    places = {0, 7, 8, 12, 16, 24, 32, 40, 44, 63, 64, len(small) - 1}
    places |= set(random.integers(0, len(small), 120).tolist())
    places |= {page + end for page in range(0, len(small), 4096) for end in (0, 4095)}
    for place in sorted(places):
        data = bytearray(small)
        data[place] ^= 1 << int(random.integers(8))
        with pytest.raises(CheckpointError):
            load(tmp_path, bytes(data))


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.5, 0.99])
def test_truncated_images_are_refused(tmp_path, small, share):
    with pytest.raises(CheckpointError):
        load(tmp_path, small[: int(share * len(small))])


def test_longer_images_are_refused(tmp_path, small):
    with pytest.raises(CheckpointError, match="bytes where its header says"):
        load(tmp_path, small + bytes(4096))


def forged(small: bytes, change) -> bytes:
    """An image with another header and a right checksum over it."""
    fields = list(image_file.PREFIX.unpack_from(small))
    length, start = fields[2], fields[3]
    about = json.loads(small[64 : 64 + length])
    change(about)
    text = json.dumps(about).encode()
    whole = image_file.pages(64 + len(text))
    grown = whole - start
    header = bytearray(whole)
    fields[2:5] = [len(text), whole, fields[4] + grown]
    fields[6] = 0
    for row in about.get("tensors") or [] if isinstance(about.get("tensors"), list) else []:
        if isinstance(row, dict) and grown and isinstance(row.get("offset"), str):
            row["offset"] = f"{int(row['offset'], 16) + grown:016x}"
    header[64 : 64 + len(text)] = json.dumps(about).encode()
    image_file.PREFIX.pack_into(header, 0, *fields)
    struct.pack_into("<I", header, image_file.CRC_AT, zlib.crc32(header))
    return bytes(header) + small[start:]


def test_forging_works(tmp_path, small):
    load(tmp_path, forged(small, lambda about: about.update(source="another")))


def row(about, name):
    return next(row for row in about["tensors"] if row["name"] == name)


FORGERIES = {
    "huge layers": lambda a: a["shape"].update(layers=2**31 - 1),
    "no layers": lambda a: a["shape"].update(layers=0),
    "fewer layers": lambda a: a["shape"].update(layers=1),
    "huge vocabulary": lambda a: a["shape"].update(vocabulary=2**30),
    "text for a number": lambda a: a["shape"].update(hidden="64"),
    "true for a number": lambda a: a["shape"].update(hidden=True),
    "infinite theta": lambda a: a["shape"].update(rope_theta=float("inf")),
    "NaN epsilon": lambda a: a["shape"].update(norm_epsilon=float("nan")),
    "odd heads": lambda a: a["shape"].update(kv_heads=3),
    "architecture": lambda a: a["shape"].update(architecture="mamba"),
    "scaling": lambda a: a["shape"].update(rope_scaling={"factor": 2}),
    "shape gone": lambda a: a.pop("shape"),
    "another configuration": lambda a: a["config"].update(tile_rows=32),
    "impossible configuration": lambda a: a["config"].update(ports=3),
    "unknown field": lambda a: a["config"].update(colour=3),
    "no configuration": lambda a: a.update(config=None),
    "no table": lambda a: a.pop("tensors"),
    "table of text": lambda a: a.update(tensors="none"),
    "empty table": lambda a: a.update(tensors=[]),
    "row of text": lambda a: a["tensors"].__setitem__(0, "row"),
    "bits": lambda a: row(a, "head").update(bits=5),
    "other bits": lambda a: row(a, "layers.0.qkv").update(bits=8),
    "group": lambda a: row(a, "head").update(group=7),
    "no group": lambda a: row(a, "head").update(group=0),
    "rows": lambda a: row(a, "head").update(shape=[2**39, 64]),
    "negative rows": lambda a: row(a, "head").update(shape=[-80, 64]),
    "flat": lambda a: row(a, "head").update(shape=[5120]),
    "kind": lambda a: row(a, "head").update(kind="f16"),
    "unknown kind": lambda a: row(a, "embedding").update(kind="pickle"),
    "offset": lambda a: row(a, "head").update(offset="0" * 16),
    "huge offset": lambda a: row(a, "head").update(offset="f" * 16),
    "size": lambda a: row(a, "head").update(size="f" * 16),
    "no number": lambda a: row(a, "head").update(size="lots"),
    "negative": lambda a: row(a, "head").update(size="-1000"),
    "twice": lambda a: row(a, "head").update(name="final_norm"),
    "stranger": lambda a: row(a, "embedding").update(name="passwords"),
    "checksum": lambda a: row(a, "head").update(crc32="00000000"),
    "more fields": lambda a: row(a, "head").update(more=1),
    "chat": lambda a: a.update(chat={"template": 3, "bos_token": "", "eos_token": ""}),
    "eos": lambda a: a.update(eos_tokens=["a"]),
    "start": lambda a: a.update(start=[-1]),
    "notes": lambda a: a.update(notes={"a": 1}),
}


@pytest.mark.parametrize("case", FORGERIES)
def test_forged_headers_are_refused(tmp_path, small, case):
    """Checksums are right: what is refused is what they say."""
    tracemalloc.start()
    with pytest.raises(CheckpointError):
        load(tmp_path, forged(small, FORGERIES[case]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 << 20


def test_a_huge_header_is_refused(tmp_path, small):
    data = bytearray(small)
    struct.pack_into("<I", data, 12, 2**31)
    struct.pack_into("<Q", data, 16, image_file.pages(64 + 2**31))
    with pytest.raises(CheckpointError, match="header's sizes"):
        load(tmp_path, bytes(data))


def test_a_header_nested_deeply_is_refused(tmp_path, small):
    start = image_file.PREFIX.unpack_from(small)[3]
    header = bytearray(small[:start])
    length = image_file.PREFIX.unpack_from(small)[2]
    header[64 : 64 + length] = b"[" * length
    struct.pack_into("<I", header, image_file.CRC_AT, 0)
    struct.pack_into("<I", header, image_file.CRC_AT, zlib.crc32(header))
    with pytest.raises(CheckpointError, match="nested"):
        load(tmp_path, bytes(header) + small[start:])


def test_a_tokenizer_that_explodes_is_refused(tmp_path, monkeypatch):
    path = written(tmp_path, random_model(1, shape()))
    monkeypatch.setattr("host.checkpoint.image_model.MAX_FILE_BYTES", 1000)
    with pytest.raises(CheckpointError, match="more than 1000 bytes"):
        checkpoint.find(path).tokenizer()


def test_another_release_is_refused(tmp_path, small, monkeypatch):
    monkeypatch.setattr("host.checkpoint.image_header.digest", lambda config: 1)
    with pytest.raises(CheckpointError, match="another release"):
        load(tmp_path, small)


def test_another_version_is_refused(tmp_path, small):
    data = bytearray(small)
    struct.pack_into("<I", data, 8, 2)
    with pytest.raises(CheckpointError, match="version 2, this runtime reads 1"):
        load(tmp_path, bytes(data))
