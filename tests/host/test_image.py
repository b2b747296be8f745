"""Memory images: checkpoint to image to weights, equal; damage of any byte found."""

from __future__ import annotations

import dataclasses
import errno
import json
import struct
import tracemalloc
import zlib

import gguf
import numpy as np
import pytest

from host import checkpoint, image, image_verify, pack
from host.chat import ChatTemplate
from host.checkpoint import CheckpointError, image_file
from host.linear import FloatBackend
from host.model import Transformer
from host.session import Session
from host.tokenizer import from_gguf
from host.two_step import two_step
from host.weights import IntegerEmbedding
from spec.config import KV260, TINY, Config
from spec.digest import digest
from spec.errors import MismatchError
from tests.host.checkpoint_files import AWQ, alphabet, assert_same, write_gguf
from tests.host.test_cli import assert_sentence, run
from tests.host.tiny_model import random_model, shape

NARROW = Config(name="narrow", ports=2, port_bits=64, group=32, tile_rows=16, max_k=256)
FINE = dataclasses.replace(KV260, name="fine", group=32)
TOKENS = from_gguf(
    {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": alphabet()[:80], "tokenizer.ggml.merges": [],
        "tokenizer.ggml.token_type": [1] * 80, "tokenizer.ggml.bos_token_id": 3,
        "tokenizer.ggml.add_bos_token": True,
    },
    "a test",
)  # fmt: skip
CHAT = ChatTemplate("{{ messages }}", "<a>", "<b>")


def kinds():
    """Models by what an image has to hold of them."""
    plain = random_model(1, shape())
    tied = dataclasses.replace(plain, shape=shape(tied=True))
    return {
        "own table": plain,
        "biases": random_model(2, shape("qwen2")),
        "shared table": image.share_embedding(tied),
        "two steps": two_step(tied),
        "two steps, two tables": two_step(dataclasses.replace(plain, shape=shape(tied=False))),
        "fp32 table": dataclasses.replace(plain, embedding=plain.embedding.astype(np.float32)),
        "scaling": random_model(4, shape(rope_scaling={
            "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_context": 64.0})),
    }  # fmt: skip


def written(folder, model, config=FINE):
    path = folder / "model.image"
    image.write(path, model, config, TOKENS, CHAT)
    return path


@pytest.mark.parametrize("config", [TINY, NARROW, FINE], ids=lambda config: config.name)
@pytest.mark.parametrize("kind", kinds())
def test_weights_come_back(tmp_path, kind, config):
    model = kinds()[kind]
    found = checkpoint.find(written(tmp_path, model, config))
    again = found.model()
    assert found.shape == model.shape
    assert again.eos_tokens == model.eos_tokens
    for one, other in zip(model.layers, again.layers, strict=True):
        for name in ("qkv", "output", "gate_up", "down"):
            assert_same(getattr(one, name), getattr(other, name).select(slice(None)))
        np.testing.assert_array_equal(one.input_norm, other.input_norm)
        np.testing.assert_array_equal(one.post_norm, other.post_norm)
        assert (one.qkv_bias is None) == (other.qkv_bias is None)
        if one.qkv_bias is not None:
            np.testing.assert_array_equal(one.qkv_bias, other.qkv_bias)
    assert_same(model.head, again.head.select(slice(None)))
    assert (model.fine is None) == (again.fine is None)
    if model.fine is not None:
        assert_same(model.fine, again.fine)
    ids = np.array([79, 0, 3, 3])
    assert len(again.embedding) == 80
    assert isinstance(again.embedding, type(model.embedding))
    np.testing.assert_array_equal(model.embedding[ids], again.embedding[ids])
    np.testing.assert_array_equal(model.final_norm, again.final_norm)
    assert image_verify.verify(found, None).fingerprint == image.fingerprint(model)


def test_tokenizer_and_chat_come_back(tmp_path):
    found = checkpoint.find(written(tmp_path, random_model(1, shape())))
    text = "Hello, World! 123"
    assert found.tokenizer().start == [3]
    assert found.tokenizer().encode(text, start=True) == TOKENS.encode(text, start=True)
    assert found.chat() == CHAT


@pytest.mark.parametrize("device", ["cpu", "golden"])
@pytest.mark.parametrize("kind", ["biases", "shared table", "two steps"])
def test_the_same_logits_as_without_an_image(tmp_path, kind, device):
    model = kinds()[kind]
    again = checkpoint.find(written(tmp_path, model)).model()
    logits = [
        Session.open(held, device, FINE, 32).transformer.forward([1, 2, 3], all_logits=True)
        for held in (model, again)
    ]
    np.testing.assert_array_equal(*logits)


def test_dense_model_is_the_integers_times_scales(tmp_path):
    model = random_model(2, shape("qwen2"))
    dense = checkpoint.find(written(tmp_path, model)).dense_model()
    logits = [
        Transformer(held, FloatBackend(), 32).forward([5, 6, 7], all_logits=True)
        for held in (model, dense)
    ]
    np.testing.assert_array_equal(*logits)


def test_fingerprint_is_of_the_numbers(tmp_path):
    model = random_model(1, shape())
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir(), two.mkdir()
    prints = {checkpoint.find(written(folder, model, config)).fingerprint
              for folder, config in ((one, TINY), (two, FINE))}  # fmt: skip
    assert prints == {image.fingerprint(model)}
    assert image.fingerprint(random_model(2, shape())) not in prints
    changed = random_model(1, shape())
    changed.layers[1].down.values[0, 0] ^= 1
    assert image.fingerprint(changed) not in prints


def test_verify_finds_one_value(tmp_path, monkeypatch):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, "qwen2", gguf.GGMLQuantizationType.Q8_0)
    source = checkpoint.find(path)
    model = source.model()
    target = tmp_path / "model.image"
    image.write(target, model, KV260, source.tokenizer(), source.chat())
    found = checkpoint.find(target)
    result = image_verify.verify(found, source)
    assert result.against == model.source
    assert result.weights == sum(w.rows * w.columns for w in image.tensors(model).values()
                                 if hasattr(w, "rows"))  # fmt: skip
    changed = source.model()
    changed.layers[0].output.values[5, 6] ^= 3
    monkeypatch.setattr(source, "model", lambda **options: changed)
    with pytest.raises(MismatchError, match=r"layers\.0\.output values differs in 1 .*\[5, 6\]"):
        image_verify.verify(found, source)


def test_awq_checkpoint_to_image_to_weights(tmp_path):
    model = checkpoint.find(AWQ).model()
    path = tmp_path / "awq.image"
    image.write(path, image.share_embedding(model), KV260, TOKENS, CHAT)
    again = checkpoint.find(path).model()
    for one, other in zip(model.layers, again.layers, strict=True):
        assert_same(one.gate_up, other.gate_up.select(slice(None)))
    assert isinstance(again.embedding, IntegerEmbedding)
    np.testing.assert_array_equal(again.embedding[np.arange(320)], model.embedding)


def test_nothing_is_held_twice(tmp_path):
    """Beside the mapped file: small vectors and Python's own; a tenth of the weights."""
    model = random_model(1, shape(hidden=512, intermediate=2048, vocabulary=4096, tied=True))
    path = written(tmp_path, image.share_embedding(model))
    tracemalloc.start()
    held = checkpoint.find(path).model()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held.head.rows == 4096
    assert peak < path.stat().st_size / 10, (peak, path.stat().st_size)


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


def test_another_configuration_is_refused(tmp_path):
    model = checkpoint.find(written(tmp_path, random_model(1, shape()), TINY)).model()
    with pytest.raises(pack.PackError, match="packed for configuration 'tiny'"):
        Session.open(model, "cpu", FINE, 16)
    assert digest(TINY) != digest(FINE)


def test_a_full_disk_leaves_no_file(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("host.wholefile.os.fsync", full)
    with pytest.raises(OSError, match="No space") as refusal:
        written(tmp_path, random_model(1, shape()))
    assert refusal.value.filename == str(tmp_path / "model.image")
    assert list(tmp_path.iterdir()) == []


def test_interrupted_packing_leaves_the_old_image(tmp_path):
    path = written(tmp_path, random_model(1, shape()))
    before = path.read_bytes()

    def interrupt(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        image.write(path, random_model(2, shape()), FINE, TOKENS, CHAT, interrupt)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_untied_tables_cannot_be_shared():
    model = dataclasses.replace(random_model(1, shape()), shape=shape(tied=False))
    with pytest.raises(image.ImageError, match="--embedding own"):
        image.share_embedding(model)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A tiny Qwen2 with a tokenizer."""
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    return str(write_gguf(path, "qwen2", gguf.GGMLQuantizationType.Q8_0))


def told(*arguments: str) -> dict:
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("head", ["int8", "int4", "two-step"])
def test_command_packs_verifies_and_runs(model, tmp_path, head):
    target = str(tmp_path / "tiny.image")
    made = told("pack", model, "-o", target, "--head", head, "--config", "tiny")
    assert made["bytes"] == (tmp_path / "tiny.image").stat().st_size
    assert ("embedding" in made["compression"]["bytes"]) == (head == "int4")
    same = told("pack", "--verify", target, "--against", model)
    assert same["equal"] and same["fingerprint"] == made["fingerprint"]
    options = ("--raw", "--max-tokens", "5", "--config", "tiny")
    one = told("generate", "hello", "--model", target, *options)
    other = told("generate", "hello", "--model", model, "--head", head, *options)
    if head != "int8":  # a shared int8 table is not the 16-bit one
        assert one["token_ids"] == other["token_ids"]
    assert "image of" in one["model"]


def test_command_tells_people(model, tmp_path):
    target = str(tmp_path / "tiny.image")
    done = run("pack", model, "-o", target, "--embedding", "own")
    assert done.returncode == 0, done.stderr
    assert "fingerprint" in done.stdout and "linears scales" in done.stdout
    done = run("pack", "--verify", target)
    assert done.returncode == 0, done.stderr
    assert "match their checksums" in done.stdout


def test_command_on_an_image_of_something_else(model, tmp_path):
    target = str(tmp_path / "tiny.image")
    told("pack", model, "-o", target, "--config", "tiny")
    done = run("generate", "hello", "--model", target, "--config", "kv260")
    assert_sentence(done, 2, "'tiny'", "'kv260'", "pack the model again")
    done = run("generate", "hello", "--model", target, "--config", "tiny", "--head", "int4")
    assert_sentence(done, 2, "int8 head", "--head int4")
    other = tmp_path / "other.gguf"
    write_gguf(other, "qwen2", gguf.GGMLQuantizationType.Q4_0)
    done = run("pack", "--verify", target, "--against", str(other))
    assert_sentence(done, 5, "differs in")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["MODEL"], ["-o FILE"]),
        (["-o", "x.image"], ["MODEL"]),
        (["MODEL", "-o", "/nowhere/x.image"], ["/nowhere/x.image", "folder"]),
        (["MODEL", "-o", "x.image", "--embedding", "none"], ["--embedding", "none"]),
        (["MODEL", "-o", "x.image", "--head", "int2"], ["--head", "int2"]),
        (["MODEL", "-o", "x.image", "--group", "32"], ["group 32", "64"]),
        (["MODEL", "-o", "x.image", "--config", "huge"], ["huge"]),
        (["MODEL", "-o", "x.image", "--against", "a"], ["--against"]),
        (["MODEL", "--verify", "x.image"], ["--verify"]),
        (["--verify", "nothing.image"], ["nothing.image"]),
        (["--verify", "MODEL"], ["no memory image"]),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(model, arguments, words):
    arguments = [model if argument == "MODEL" else argument for argument in arguments]
    assert_sentence(run("pack", *arguments), 2, *words)
