"""Memory images: checkpoint to image to weights, equal; damage of any byte found."""

from __future__ import annotations

import dataclasses
import errno
import json
import tracemalloc

import gguf
import numpy as np
import pytest

from host import checkpoint
from host.forward.linear import FloatBackend
from host.forward.model import Transformer
from host.forward.two_step import two_step
from host.layout import image, image_verify, pack
from host.session import Session
from host.text.chat import ChatTemplate
from host.text.tokenizer import from_gguf
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


def test_another_configuration_is_refused(tmp_path):
    model = checkpoint.find(written(tmp_path, random_model(1, shape()), TINY)).model()
    with pytest.raises(pack.PackError, match="packed for configuration 'tiny'"):
        Session.open(model, "cpu", FINE, 16)
    assert digest(TINY) != digest(FINE)


def test_a_full_disk_leaves_no_file(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("spec.files.os.fsync", full)
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


def test_one_table_rounded_twice_may_be_shared():
    model = dataclasses.replace(random_model(1, shape()), shape=shape(tied=False))
    noise = np.random.default_rng(1).normal(0, 0.1, model.embedding.shape)
    table = model.head.floats() * (1 + noise)
    twice = dataclasses.replace(model, embedding=table.astype(np.float16))
    assert isinstance(image.share_embedding(twice).embedding, IntegerEmbedding)


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
        (["MODEL", "-o", "MODEL"], ["is the model itself"]),
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
