"""Sampling: greedy is deterministic, the cuts keep what they say, draws follow the softmax."""

from __future__ import annotations

import numpy as np
import pytest

from host.sampling import Sampler, Sampling, SamplingError

LOGITS = np.array([1.0, 3.0, -2.0, 3.0, 0.5], np.float32)


def draws(settings: Sampling, logits: np.ndarray, count: int = 4000) -> np.ndarray:
    """How often each token comes up, as shares."""
    sampler = Sampler(settings)
    chosen = [sampler.choose(logits) for _ in range(count)]
    return np.bincount(chosen, minlength=len(logits)) / count


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return powers / powers.sum()


def test_greedy_takes_the_lowest_of_equals():
    assert [Sampler(Sampling(seed=seed)).choose(LOGITS) for seed in range(5)] == [1] * 5


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax(temperature):
    shares = draws(Sampling(temperature=temperature, seed=3), LOGITS)
    np.testing.assert_allclose(shares, softmax(LOGITS / temperature), atol=0.03)


def test_a_tiny_temperature_is_almost_greedy():
    logits = LOGITS + np.arange(5, dtype=np.float32) * 1e-3
    assert draws(Sampling(temperature=1e-6), logits, 50)[3] == 1


@pytest.mark.parametrize(
    ("top_k", "kept"), [(1, {1}), (2, {1, 3}), (3, {0, 1, 3}), (9, set(range(5)))]
)
def test_top_k_keeps_the_largest(top_k, kept):
    shares = draws(Sampling(temperature=3.0, top_k=top_k, seed=1), LOGITS)
    assert set(np.flatnonzero(shares)) == kept


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [(0.3, {0}), (0.49, {0}), (0.51, {0, 1}), (0.8, {0, 1, 2}), (1.0, {0, 1, 2, 3})],
)
def test_top_p_keeps_the_fewest_that_reach_it(top_p, kept):
    logits = np.log(np.array([0.5, 0.25, 0.15, 0.1], np.float32) + np.float32(1e-7))
    shares = draws(Sampling(temperature=1.0, top_p=top_p, seed=2), logits)
    assert set(np.flatnonzero(shares)) == kept
    whole = softmax(logits)[sorted(kept)]
    np.testing.assert_allclose(shares[sorted(kept)], whole / whole.sum(), atol=0.03)


def test_repetition_penalty_by_hand():
    """Seen 3.0 becomes 1.5, seen -2.0 becomes -4.0, each once however often it was seen."""
    sampler = Sampler(Sampling(repetition_penalty=2.0))
    assert sampler.choose(LOGITS, seen=[1, 1, 1]) == 3
    assert sampler.choose(np.array([-2.0, -3.0], np.float32), seen=[0]) == 1
    assert sampler.choose(np.array([3.0, 1.6], np.float32), seen=[0]) == 1
    assert sampler.choose(np.array([3.0, 1.4], np.float32), seen=[0, 0]) == 0
    assert Sampler(Sampling()).choose(LOGITS, seen=[1]) == 1


def test_logits_are_left_as_they_are():
    logits = LOGITS.copy()
    Sampler(Sampling(1.0, 2, 0.9, 1.5)).choose(logits, seen=[0, 1])
    np.testing.assert_array_equal(logits, LOGITS)


def test_seeds_repeat_and_differ():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 100)).astype(np.float32)

    def text(seed: int) -> list[int]:
        sampler = Sampler(Sampling(temperature=1.0, seed=seed))
        return [sampler.choose(row) for row in rows]

    assert text(7) == text(7)
    assert text(7) != text(8)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"temperature": -0.1}, r"temperature must be a number in 0\.\.100, got -0.1"),
        ({"temperature": float("nan")}, "got nan"),
        ({"temperature": "hot"}, "got 'hot'"),
        ({"top_k": -1}, "top_k must be a whole number"),
        ({"top_k": 2.5}, "got 2.5"),
        ({"top_p": 0.0}, "top_p must be a number above 0 and up to 1, got 0"),
        ({"top_p": 1.1}, "got 1.1"),
        ({"repetition_penalty": 0}, "repetition_penalty must be a number above 0"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": True}, "got True"),
        ({"seed": 1 << 64}, "seed"),
    ],
)
def test_parameters_out_of_range_are_refused(values, words):
    with pytest.raises(SamplingError, match=words):
        Sampling(**values)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_numbers_are_refused(value, temperature):
    logits = LOGITS.copy()
    logits[2] = value
    with pytest.raises(SamplingError, match="NaN or infinity"):
        Sampler(Sampling(temperature)).choose(logits)


def test_minus_infinity_excludes():
    logits = LOGITS.copy()
    logits[[1, 3]] = -np.inf
    assert Sampler(Sampling()).choose(logits) == 0
    assert set(np.flatnonzero(draws(Sampling(5.0), logits))) == {0, 2, 4}
    with pytest.raises(SamplingError):
        Sampler(Sampling()).choose(np.full(4, -np.inf, np.float32))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_among_a_few_the_same_token_is_chosen(seed, temperature):
    """Equal logits too."""
    rng = np.random.default_rng(seed)
    logits = np.full(500, -np.inf, np.float32)
    ids = rng.permutation(500)[:64].astype(np.int32)
    logits[ids] = rng.integers(-3, 4, 64)
    settings = Sampling(temperature=temperature, top_k=40, top_p=0.9, seed=seed)
    whole, few = Sampler(settings), Sampler(settings)
    for _ in range(5):
        assert whole.choose(logits) == few.choose_among(logits, ids)
