"""The forward pass against the same transformer written once more the slow way."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from host.device.driver import Accelerator
from host.forward.attention import attend
from host.forward.cache import ContextError, KvCache
from host.forward.linear import AcceleratorBackend, FloatBackend, split
from host.forward.model import OPERATIONS, TokenError, Transformer, matrices
from host.forward.norm import rms_norm, swiglu
from host.forward.rope import Rope, frequencies
from host.layout.blockfloat import dequantise, quantise
from spec.config import TINY
from tests.host.fake_device import FakeDevice
from tests.host.tiny_model import LLAMA3_SCALING, random_model, reference_logits, shape

SHAPES = {
    "llama": shape("llama"),
    "qwen2": shape("qwen2", rope_theta=1e6),
    "llama 3 scaling": shape("llama", rope_scaling=LLAMA3_SCALING, rope_theta=5e5),
    "one head": shape("llama", heads=1, kv_heads=1, head_dim=64, layers=1),
    "no grouping": shape("qwen2", heads=2, kv_heads=2, head_dim=32),
    "head width of its own": shape("llama", heads=2, kv_heads=1, head_dim=64),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("tokens_per_pass", [1, 3, 64])
def test_logits_follow_the_slow_way(name, tokens_per_pass):
    model = random_model(len(name), SHAPES[name])
    tokens = np.random.default_rng(1).integers(0, 80, 11).tolist()
    transformer = Transformer(model, FloatBackend(tokens_per_pass), context=64)
    logits = transformer.forward(tokens, all_logits=True)
    wanted = reference_logits(model, tokens)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, wanted, atol=2e-4 * np.abs(wanted).max())


def test_decode_continues_prefill():
    model = random_model(2, SHAPES["qwen2"])
    tokens = [5, 6, 7, 8, 9, 10]
    transformer = Transformer(model, FloatBackend(4), context=6)
    outputs = [transformer.forward(tokens[:3])]
    outputs += [transformer.forward([token]) for token in tokens[3:]]
    wanted = reference_logits(model, tokens)[2:]
    np.testing.assert_allclose(np.concatenate(outputs), wanted, atol=2e-4 * np.abs(wanted).max())


def test_reset_forgets():
    transformer = Transformer(random_model(3, SHAPES["llama"]), FloatBackend(8), context=16)
    first = transformer.forward([1, 2, 3])
    transformer.reset()
    np.testing.assert_array_equal(transformer.forward([1, 2, 3]), first)


def test_progress_counts_tokens():
    seen = []
    transformer = Transformer(random_model(3, SHAPES["llama"]), FloatBackend(2), context=16)
    transformer.forward([1, 2, 3], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 3), (3, 3)]


def test_every_matrix_is_loaded_once_under_its_operation():
    operations = []

    class Recorder(FloatBackend):
        def load(self, weights, operation):
            operations.append(operation)
            return super().load(weights, operation)

    model = random_model(4, SHAPES["llama"])
    seen = []
    Transformer(model, Recorder(), 8, progress=lambda done, total: seen.append((done, total)))
    assert operations == [*OPERATIONS[:4], *OPERATIONS[:4], "head"]
    assert operations == [name for name, _ in matrices(model)]
    assert seen[-1] == (9, 9)


def test_accelerator_is_close_to_the_floating_point_of_the_same_weights():
    small = shape("qwen2", hidden=32, layers=1, heads=2, kv_heads=1, intermediate=32, vocabulary=20)
    model = random_model(5, small)
    accelerator = Accelerator(FakeDevice(TINY))
    transformer = Transformer(model, AcceleratorBackend(accelerator), context=8)
    logits = transformer.forward([3, 1, 4], all_logits=True)  # passes of two tokens and of one
    wanted = reference_logits(model, [3, 1, 4])
    assert np.linalg.norm(logits - wanted) < 0.02 * np.linalg.norm(wanted)
    assert set(accelerator.tally) == set(OPERATIONS)
    assert accelerator.tally["output"].commands == 2
    assert accelerator.tally["qkv"].commands == 3  # two terms: passes of 2, 2 and 2 vectors


def test_two_terms_hold_sixteen_bits():
    rng = np.random.default_rng(8)
    activations = rng.normal(size=(3, 96)).astype(np.float32)
    activations[:, 5] = 100  # an outlier coarsens its block
    terms = split(activations)
    np.testing.assert_array_equal(terms[:3] + terms[3:], activations)
    held = dequantise(*quantise(terms))
    one_term, both_terms = held[:3] - activations, held[:3] + held[3:] - activations
    assert np.abs(both_terms).max() * 100 < np.abs(one_term).max()


def test_an_engine_of_one_token_takes_one_term():
    accelerator = Accelerator(FakeDevice(dataclasses.replace(TINY, tokens=1)))
    weights = random_model(9, SHAPES["llama"]).head
    linear = AcceleratorBackend(accelerator).load(weights, "head")
    linear(np.ones((1, 64), np.float32))
    assert accelerator.tally["head"].commands == 1


def test_an_overfull_context_is_refused_and_nothing_is_computed():
    transformer = Transformer(random_model(6, SHAPES["llama"]), FloatBackend(), context=4)
    before = transformer.forward([1, 2])
    with pytest.raises(ContextError, match=r"5 tokens do not fit the context of 4"):
        transformer.forward([1, 2, 3])
    transformer.reset()
    np.testing.assert_array_equal(transformer.forward([1, 2]), before)


@pytest.mark.parametrize("context", [0, 65])
def test_a_context_that_the_model_lacks_is_refused(context):
    with pytest.raises(ContextError, match=rf"1\.\.64 tokens for this model, got {context}"):
        KvCache(SHAPES["llama"], context)


@pytest.mark.parametrize(("tokens", "words"), [([80], "80"), ([-1], "-1"), ([], "at least one")])
def test_wrong_tokens_are_refused(tokens, words):
    transformer = Transformer(random_model(6, SHAPES["llama"]), FloatBackend(), context=4)
    with pytest.raises(TokenError, match=words):
        transformer.forward(tokens)


def test_attention_by_hand():
    """Two keys alike share the weight; a query sees nothing after itself."""
    keys = np.zeros((1, 2, 2), np.float32)
    values = np.array([[[2, 4], [6, 8]]], np.float32)
    mixed = attend(np.ones((2, 1, 2), np.float32), keys, values)
    np.testing.assert_array_equal(mixed, [[2, 4], [4, 6]])


def test_attention_survives_large_scores():
    keys = np.array([[[1e4, 0], [1e4, 1]]], np.float32)
    values = np.array([[[0, 1], [1, 0]]], np.float32)
    mixed = attend(np.array([[[100, 100]]], np.float32), keys, values)
    assert np.isfinite(mixed).all()


def test_rms_norm_by_hand():
    values = np.array([[3, 4], [0, 0]], np.float32)
    result = rms_norm(values, np.array([1, 2], np.float32), 0.5)
    np.testing.assert_allclose(result, [[3 / 13**0.5, 8 / 13**0.5], [0, 0]], rtol=1e-6)


def test_swiglu_at_its_corners():
    gate = [0.0, 1000.0, -1000.0, 1.0]
    result = swiglu(np.array([gate + [3.0] * 4], np.float32))
    np.testing.assert_allclose(result, [[0, 3000, 0, 3 / (1 + np.exp(-1))]], rtol=1e-6)


def test_rope_keeps_lengths_and_relative_angles():
    rng = np.random.default_rng(7)
    rope = Rope(SHAPES["llama"], 64)
    query, key = rng.normal(size=(2, 1, 1, 16)).astype(np.float32)

    def product(query_at: int, key_at: int) -> float:
        turned_query, turned_key = query.copy(), key.copy()
        rope.rotate(turned_query, query_at)
        rope.rotate(turned_key, key_at)
        np.testing.assert_allclose(np.linalg.norm(turned_query), np.linalg.norm(query), rtol=1e-5)
        return (turned_query * turned_key).sum()

    np.testing.assert_allclose(product(9, 4), product(55, 50), rtol=1e-4)
    assert abs(product(9, 4) - product(9, 5)) > 1e-3


def test_llama3_scaling_leaves_fast_pairs_and_slows_slow_ones():
    plain = frequencies(shape(rope_theta=5e5))
    scaled = frequencies(SHAPES["llama 3 scaling"])
    assert scaled[0] == plain[0]
    np.testing.assert_allclose(scaled[-1], plain[-1] / 8)
    assert (np.diff(scaled) < 0).all()
