"""Perplexity, and how far the accelerator is from floating point on real text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import host.device.cpu
import sim.golden_device
from host import checkpoint, default_model
from host.evaluation.evaluate import EvaluationError, compare, log_probabilities, perplexity
from host.forward.linear import FloatBackend
from host.forward.model import Transformer
from host.session import Session
from spec.config import KV260
from tests.host.tiny_model import random_model, reference_logits, shape

TEXT = Path(__file__).parents[1] / "data" / "moby_dick.txt"
DEVICES = {"cpu": host.device.cpu.open, "golden": sim.golden_device.open}


def test_log_probabilities_by_hand():
    result = log_probabilities(np.array([[1000.0, 1000.0, -1000.0]], np.float32))
    np.testing.assert_allclose(result[0, :2], np.log([0.5, 0.5]))
    assert result[0, 2] == pytest.approx(-2000 - np.log(2))


@pytest.mark.parametrize("window", [4, 11, 30])
def test_perplexity_follows_the_slow_way(window):
    model = random_model(1, shape("qwen2"))
    tokens = np.random.default_rng(2).integers(0, 80, 22).tolist()
    losses = []
    for first in range(0, 22, window):
        part = tokens[first : first + window]
        probabilities = np.exp(reference_logits(model, part))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        losses += [-np.log(probabilities[i, part[i + 1]]) for i in range(len(part) - 1)]
    found = perplexity(Transformer(model, FloatBackend(3), 32), tokens, window)
    assert found == pytest.approx(np.exp(np.mean(losses)), rel=1e-3)


def test_a_model_is_equal_to_itself():
    model = random_model(1, shape())
    one, two = (Transformer(model, FloatBackend(4), 16) for _ in range(2))
    result = compare(one, two, list(range(20)), window=8)
    assert result.tokens == 17  # the first of each window is given
    assert (result.divergence, result.top1_agreement, result.logits_error) == (0, 1, 0)
    assert result.perplexity_change == 0


def test_another_model_differs():
    one, two = (Transformer(random_model(s, shape()), FloatBackend(4), 16) for s in (1, 2))
    result = compare(one, two, list(range(16)), window=16)
    assert result.divergence > 0.1
    assert result.top1_agreement < 1


def test_one_token_is_refused():
    with pytest.raises(EvaluationError, match="got 1"):
        perplexity(Transformer(random_model(1, shape()), FloatBackend(), 4), [1])


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_smollm2_keeps_its_perplexity(device, monkeypatch):
    """Within 1 % of the same rounded weights in floating point, over a thousand tokens."""
    found = checkpoint.find(default_model.path())
    model, tokens = found.model(), found.tokenizer().encode(TEXT.read_text(), start=True)
    monkeypatch.setattr("host.session.open_device", lambda name, *args: DEVICES[name](*args))
    candidate = Session.open(model, device, KV260, 512).transformer
    result = compare(candidate, Transformer(model, FloatBackend(), 512), tokens)
    print(f"\nSmolLM2 through {device}: {result}, change {result.perplexity_change:+.3%}")
    assert result.tokens >= 1000
    assert abs(result.perplexity_change) < 0.01
    assert result.divergence < 0.01
