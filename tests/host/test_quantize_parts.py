"""The parts of quantisation: each against an obvious calculation, or against what it replaces."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.checkpoint import CheckpointError, autoawq, mixed
from host.forward.norm import rms_norm
from host.quantize import budget, groups, scales, sensitivity
from host.quantize.backward import Backward
from host.quantize.compensate import Curvature, Settings, Statistics, damped, int4, target
from host.quantize.dense import MATRICES, DenseLayer, QuantiseError
from host.quantize.groups import plain_int4
from host.quantize.refine import refine
from host.quantize.report import Report
from host.quantize.sensitivity import Cost
from host.quantize.sequential import Record, fit_matrix
from host.quantize.stream import Stream
from host.weights import Quantised, Shape
from spec import shapes
from tests.host.checkpoint_files import assert_same
from tests.host.tiny_model import random_model, shape


def dense_layers(dimensions: Shape, seed: int) -> list[DenseLayer]:
    """A random model's layers in floats."""
    return [
        DenseLayer(
            layer.input_norm, layer.qkv.floats() / 8, layer.qkv_bias, layer.output.floats() / 8,
            layer.post_norm, layer.gate_up.floats() / 8, layer.down.floats() / 8,
        )
        for layer in random_model(seed, dimensions).layers
    ]  # fmt: skip


def correlated(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Inputs as models have them: correlated, and with a few large channels."""
    mixing = rng.normal(size=(size // 4, size))
    inputs = rng.normal(size=(count, size // 4)) @ mixing + 0.3 * rng.normal(size=(count, size))
    inputs[:, ::17] *= 8
    return inputs.astype(np.float32)


def test_a_group_worked_by_hand():
    weights = np.array([[[-1.0, 0.0, 0.5, 2.0]]], np.float32)
    found, zeros = groups.search(weights, np.ones((1, 4), np.float32), (1.0,))
    assert found[0, 0] == np.float16(0.2) and zeros[0, 0] == 5
    # An extreme weight that does not matter is clipped, so that the others are nearer.
    importance = np.array([[1, 1, 1, 0]], np.float32)
    clipped, _ = groups.search(weights, importance, groups.SHRINK)
    assert clipped[0, 0] < found[0, 0]


@pytest.mark.parametrize("seed", range(3))
def test_searched_ranges_are_never_worse_than_the_whole_range(seed):
    rng = np.random.default_rng(seed)
    weights = rng.standard_t(3, (20, 4, 32)).astype(np.float32)
    importance = rng.uniform(0.1, 4, (4, 32)).astype(np.float32)

    def error(shrink):
        scale, zero = groups.search(weights, importance, shrink)
        steps = scale.astype(np.float32)[..., None]
        return (
            ((groups.rounded(weights, steps, zero[..., None] * 1.0) - weights) ** 2) * importance
        ).sum(axis=2)

    assert (error(groups.SHRINK) <= error((1.0,))).all()


def test_without_correlation_compensation_is_rounding_to_the_nearest():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(8, 64)).astype(np.float32)
    hessian = np.diag(rng.uniform(1, 2, 64)).astype(np.float32)
    found = int4(weights, Curvature.of(hessian, 0.01), 32)
    steps = np.repeat(found.scales.astype(np.float32), 32, axis=1)
    zeros = np.repeat(found.zeros, 32, axis=1)
    nearest = np.clip(np.rint(weights / steps) + zeros, 0, 15)
    np.testing.assert_array_equal(found.values, nearest)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("group", [32, 64])
def test_compensation_beats_plain_rounding_on_correlated_inputs(seed, group):
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(48, 128)).astype(np.float32)
    inputs = correlated(rng, 600, 128)
    curvature = Curvature.of(inputs.T @ inputs / 600, 0.01)
    ours = curvature.error(int4(weights, curvature, group).floats() - weights)
    plain = curvature.error(plain_int4(weights, group).floats() - weights)
    assert ours < 0.6 * plain


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("group", [32, 64])
def test_every_sweep_of_refinement_lessens_the_error(seed, group):
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(40, 128)).astype(np.float32)
    inputs = correlated(rng, 600, 128)
    hessian = damped(inputs.T @ inputs / np.float32(600), 0.01)
    found = int4(weights, Curvature.of(hessian, 0.0), group)

    def errors(rounded: Quantised) -> np.ndarray:
        difference = (rounded.floats() - weights).astype(np.float64)
        return np.einsum("nk,nk->n", difference @ hessian.astype(np.float64), difference)

    swept = [errors(refine(weights, found, hessian, sweeps)) for sweeps in range(4)]
    np.testing.assert_array_equal(swept[0], errors(found))
    for before, after in pairwise(swept):
        assert (after <= before * (1 + 1e-4)).all()  # row by row; float32 sums
    assert swept[2].sum() < 0.97 * swept[0].sum()
    refined = refine(weights, found, hessian)
    assert refined.values.max() <= 15 and (refined.scales > 0).all()
    np.testing.assert_array_equal(refined.zeros, found.zeros)


def test_one_column_is_refined_to_the_nearest_value():
    weights = np.array([[0.5, -0.2] + [0.0] * 30], np.float32)
    found = plain_int4(weights, 32)
    moved = replace(found, values=np.where(found.values == found.values[0, 0], 0, found.values))
    back = refine(weights, moved, np.eye(32, dtype=np.float32), 1)
    assert abs(back.floats()[0, 0] - 0.5) <= float(back.scales[0, 0]) / 2


@pytest.mark.parametrize("seed", range(3))
def test_few_tokens_ask_for_more_damping(seed):
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(48, 128)).astype(np.float32)
    mixing = np.eye(128) + 0.05 * rng.normal(size=(128, 128))
    seen = (rng.normal(size=(4200, 128)) @ mixing).astype(np.float32)
    held_out = Curvature.of(seen[200:].T @ seen[200:] / 4000, 0.01)

    def error(scarcity: float) -> float:
        statistics = Statistics.measure(weights, seen[:200], seen[:200])
        settings = Settings(32, scarcity=scarcity)
        result, _ = fit_matrix(weights, statistics, 4, settings)
        return held_out.error(result.floats() - weights)

    assert error(Settings(32).scarcity) < 0.97 * error(0.0)


def test_inputs_that_are_always_zero_do_no_harm():
    weights = np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32)
    for hessian in (np.zeros((64, 64), np.float32), np.diag([1.0] * 32 + [0.0] * 32)):
        hessian = hessian.astype(np.float32)
        found = int4(weights, Curvature.of(hessian, 0.01), 32)
        assert np.isfinite(refine(weights, found, damped(hessian, 0.01)).floats()).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_scaled_curvature_is_that_of_scaled_inputs(seed):
    rng = np.random.default_rng(seed)
    inputs, scale = correlated(rng, 300, 32), rng.uniform(0.5, 2, 32)
    hessian = inputs.T @ inputs / 300
    scaled = Curvature.of(hessian, 0.0).scaled(scale)
    wanted = (inputs / scale).T @ (inputs / scale) / 300
    np.testing.assert_allclose(scaled.hessian, wanted, rtol=1e-4, atol=1e-4)
    ordered = wanted[np.ix_(scaled.order, scaled.order)].astype(np.float64)
    factor = scaled.factor.astype(np.float64)
    np.testing.assert_allclose(factor.T @ factor @ ordered, np.eye(32), atol=2e-2)
    diagonal = np.diagonal(np.linalg.inv(wanted.astype(np.float64)))
    np.testing.assert_allclose(scaled.importance() * diagonal, 1, rtol=1e-2)


@pytest.mark.parametrize("seed", range(3))
def test_the_target_makes_good_earlier_errors(seed):
    rng = np.random.default_rng(seed)
    wanted = correlated(rng, 2000, 64)
    given = wanted + 0.3 * wanted[:, rng.permutation(64)]
    weights = rng.normal(size=(16, 64)).astype(np.float32)
    statistics = Statistics.measure(weights, given, wanted)
    fitted = target(weights, statistics, Settings(32, drift=1.0, ridge=1e-4))
    before = np.linalg.norm(given @ weights.T - wanted @ weights.T)
    assert np.linalg.norm(given @ fitted.T - wanted @ weights.T) < 0.1 * before
    assert target(weights, statistics, Settings(32, drift=0.0)) is weights


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_folded_scales_change_nothing_before_rounding(architecture):
    dimensions = shape(architecture)
    layer = dense_layers(dimensions, 1)[0]
    rng = np.random.default_rng(2)
    inner = scales.value_channels(dimensions)
    by_value = rng.uniform(0.3, 3, dimensions.kv_heads * dimensions.head_dim).astype(np.float32)
    choices = {
        name: scales.Choice(0.5, rng.uniform(0.3, 3, size).astype(np.float32), 0.5)
        for name, size in (("qkv", 64), ("gate_up", 64), ("down", 96))
    } | {"output": scales.Choice(0.5, by_value[inner], 0.5)}
    folded = scales.fold(layer, dimensions, choices)
    if layer.qkv_bias is not None:
        layer.qkv_bias = layer.qkv_bias.astype(np.float16).astype(np.float32)
    embedding = rng.normal(size=(80, 64)).astype(np.float32)
    states = []
    for each in (layer, folded):
        stream = Stream(dimensions, embedding, np.arange(32).reshape(2, 16))
        stream.run(each, 0)
        states.append(stream.hidden)
    np.testing.assert_allclose(*states, rtol=2e-3, atol=2e-3)
    assert (folded.input_norm.astype(np.float16) == folded.input_norm).all()


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_gradients_are_those_of_finite_differences(architecture):
    dimensions = shape(architecture)
    layers = dense_layers(dimensions, 3)
    rng = np.random.default_rng(4)
    hidden = rng.normal(size=(24, 64)).astype(np.float32)
    norm, aim = rng.uniform(0.5, 2, 64).astype(np.float32), rng.normal(size=(24, 64))
    backward = Backward(dimensions, 12)

    def loss() -> float:
        last, _ = backward.forward(layers, hidden)
        return float((backward.final(last, norm)[0].astype(np.float64) * aim).sum())

    gradients = {}

    def visit(index, name, gradient, inputs):
        gradients[index, name] = gradient if inputs is None else gradient.T @ inputs

    last, saved = backward.forward(layers, hidden)
    final = backward.final(last, norm)[1]
    backward.gradients(layers, saved, norm, final, aim.astype(np.float32), visit)
    assert set(gradients) == {(-1, "final_norm")} | {
        (index, name) for index in range(2) for name in (*MATRICES, "input_norm", "post_norm")
    }
    for (index, name), gradient in gradients.items():
        array = norm if index < 0 else getattr(layers[index], name)
        direction = rng.normal(size=array.shape)
        kept = array.copy()
        sides = []
        for sign in (1, -1):
            array[...] = kept + sign * 2e-2 * direction * np.abs(kept).mean()
            sides.append(loss())
        array[...] = kept
        numeric = (sides[0] - sides[1]) / (4e-2 * np.abs(kept).mean())
        scale = np.linalg.norm(gradient) * np.linalg.norm(direction) / math.sqrt(gradient.size)
        assert abs(numeric - float((gradient * direction).sum())) < 0.02 * scale, (index, name)


def test_the_stream_computes_what_the_forward_with_gradients_does():
    dimensions = shape("qwen2")
    layers = dense_layers(dimensions, 5)
    embedding = np.random.default_rng(6).normal(size=(80, 64)).astype(np.float32)
    tokens = np.arange(32).reshape(2, 16)
    stream = Stream(dimensions, embedding, tokens)
    for index, layer in enumerate(layers):
        stream.run(layer, index)
    last, _ = Backward(dimensions, 16).forward(layers, embedding[tokens.reshape(-1)])
    np.testing.assert_allclose(stream.hidden, last, rtol=1e-4, atol=1e-4)


def test_sensitivity_predicts_the_divergence_of_rounding():
    dimensions = shape("llama")
    layers = dense_layers(dimensions, 7)
    rng = np.random.default_rng(8)
    embedding = rng.normal(size=(80, 64)).astype(np.float32)
    head, norm = rng.normal(size=(80, 64)).astype(np.float32) / 8, np.ones(64, np.float32)
    tokens = rng.integers(0, 80, (24, 16))

    def predictions() -> np.ndarray:
        stream = Stream(dimensions, embedding, tokens)
        for index, layer in enumerate(layers):
            stream.run(layer, index)
        logits = (rms_norm(stream.hidden, norm, 1e-5) @ head.T).astype(np.float64)
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    costs = sensitivity.measure(dimensions, layers, embedding, norm, head, tokens, 32)
    before = predictions()
    measured = []
    for cost in costs:
        layer = layers[cost.layer]
        kept = getattr(layer, cost.matrix)
        setattr(layer, cost.matrix, plain_int4(kept, 32).floats())
        after = predictions()
        setattr(layer, cost.matrix, kept)
        measured.append((np.exp(before) * (before - after)).sum(axis=1).mean())
    predicted = np.array([cost.loss for cost in costs])
    assert np.corrcoef(np.log(predicted), np.log(measured))[0, 1] > 0.8
    assert 0.3 < predicted.sum() / np.sum(measured) < 3


def test_a_budget_goes_where_it_saves_most():
    costs = [Cost(0, "qkv", 100, 0.1), Cost(0, "down", 100, 0.5), Cost(1, "qkv", 200, 0.4)]
    found = budget.plan(costs, 5.0)
    assert found.bits == {(0, "qkv"): 4, (0, "down"): 8, (1, "qkv"): 4}
    assert found.average == 5.0
    assert [round(step.loss, 6) for step in found.trade] == [1.0, 0.5, 0.1, 0.0]
    assert [step.bits for step in found.trade] == [4.0, 5.0, 7.0, 8.0]


def test_a_budget_knows_what_compensation_leaves():
    costs = [Cost(0, "qkv", 100, 0.1), Cost(0, "down", 100, 0.1)]
    found = budget.plan(budget.compensated(costs), 6.0)
    assert found.bits == {(0, "qkv"): 4, (0, "down"): 8}


@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 10)), min_size=1), st.floats(4, 8))
def test_a_budget_is_kept(items, bits):
    costs = [Cost(index, "qkv", size, loss) for index, (size, loss) in enumerate(items)]
    assert budget.plan(costs, bits).average <= bits + 1e-9


def test_a_budget_out_of_range_is_a_sentence():
    with pytest.raises(QuantiseError, match="got 9"):
        budget.check(9.0)


@pytest.mark.parametrize("seed", range(3))
def test_awq_packing_there_and_back(seed):
    values = np.random.default_rng(seed).integers(0, 16, (24, 10)).astype(np.uint8)
    np.testing.assert_array_equal(autoawq.unpack(autoawq.pack(values)), values)


@pytest.mark.parametrize("bits", [4, 8])
def test_mixed_matrices_there_and_back(tmp_path, bits):
    from safetensors.numpy import save_file

    rng = np.random.default_rng(bits)
    low, high, kind = (0, 16, np.uint8) if bits == 4 else (-128, 128, np.int8)
    grid = (6, 2)
    weights = Quantised(
        bits, 32, rng.integers(low, high, (6, 64)).astype(kind),
        rng.uniform(0, 1, grid).astype(np.float16),
        rng.integers(0, 16, grid).astype(np.uint8) if bits == 4 else None,
    )  # fmt: skip
    save_file(mixed.tensors(mixed.HEAD, weights), tmp_path / mixed.FILE)
    assert_same(mixed.Mixed(tmp_path, {mixed.HEAD: bits}, 32).matrix(mixed.HEAD, 6, 64), weights)
    with pytest.raises(CheckpointError, match=r"lm_head.scales is F16 \[6, 2\]"):
        mixed.Mixed(tmp_path, {mixed.HEAD: bits}, 64).matrix(mixed.HEAD, 6, 64)
    with pytest.raises(CheckpointError, match="has no place in"):
        mixed.Mixed(tmp_path, {"model.layers.0.mlp.down_proj": 8}, 32)
    with pytest.raises(CheckpointError, match="is missing from"):
        mixed.Mixed(tmp_path, {mixed.HEAD: bits, "model.layers.0.mlp.down_proj": 8}, 32)


@pytest.mark.parametrize("entry", [3, {"model.layers.0.mlp.down_proj": 4}, {"lm_head": "8"}])
def test_bad_declarations_of_mixed_precision_are_refused(tmp_path, entry):
    with pytest.raises(CheckpointError, match=mixed.KEY):
        mixed.declared({"quantization_config": {mixed.KEY: entry}}, tmp_path)


@pytest.mark.parametrize("head, least", [("int8", 0.66), ("int4", 0.73)])
def test_qwen_is_smaller_than_16_bit_by_what_is_promised(head, least):
    published = shapes.find("qwen2.5-0.5b")
    dimensions = Shape(
        "qwen2", published.hidden, published.layers, published.heads, published.kv_heads,
        published.head_dim, published.intermediate, published.vocabulary, 32768, 1e-6, 1e6,
        qkv_bias=True,
    )  # fmt: skip
    records = [
        Record(index, name, 4, "compensated", 0.0, 0.0, 0.0)
        for index in range(published.layers)
        for name in MATRICES
    ]
    plan = budget.Plan({}, 4.0, [])
    report = Report("", dimensions, {"group": 64, "head": head}, 0, plan, 0, records, 0.0, 0.0, 0)
    assert round(report.unquantised_bytes() / 1e6) == 988
    assert least <= report.saved() < least + 0.01
    assert report.stored_bits() == 4.3125
