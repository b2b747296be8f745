"""Each compiled kernel against its NumPy twin: integers equal, floats within a stated bound."""

from __future__ import annotations

import numpy as np
import pytest

from host import kernels
from host.device.driver import Accelerator
from host.forward.buffers import padded, plain_sinks, put
from host.forward.linear import AcceleratorBackend
from host.layout.blockfloat import ActivationError
from host.sampling import Sampler, Sampling
from sim import golden_device
from spec.config import TINY
from tests.host import kernel_case
from tests.host.matmul_case import random_weights


@pytest.mark.parametrize("kind", kernel_case.KINDS)
@pytest.mark.parametrize("seed", range(24))
def test_equals_its_twin(kind, seed):
    call = kernel_case.KINDS[kind](seed)
    assert call.run() in (kernels.FINE, None)
    call.check()


@pytest.mark.parametrize("kind", kernel_case.KINDS)
@pytest.mark.parametrize("seed", range(12))
def test_every_processor_s_version_gives_the_same_bits(kind, seed):
    found = []
    for version in range(3):  # the best, that of every processor, AVX2
        kernels.library().kernels_prefer(version)
        try:
            call = kernel_case.KINDS[kind](seed)
            call.run()
        finally:
            kernels.library().kernels_prefer(0)
        found.append([output.tobytes() for output in call.outputs])
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named(value):
    accelerator = Accelerator(golden_device.open(TINY, 1 << 20))
    weights = random_weights(np.random.default_rng(1), 5, 4, 32)
    linear = AcceleratorBackend(accelerator).load(weights, "qkv")
    activations = np.ones((2, 128), np.float32)
    activations[1, 70] = value
    with pytest.raises(ActivationError, match=r"activation \[1, 70\] is infinite or NaN"):
        linear(activations)
    activations[1, 70] = 0
    assert np.isfinite(linear(activations)).all()


def test_plain_rows_are_taken_as_they_are():
    rows = np.zeros((3, 5), np.float32)
    values = np.arange(10, dtype=np.float32).reshape(2, 5)
    put(plain_sinks(rows), values, padded(5))
    np.testing.assert_array_equal(rows[:2], values)


def softmax_draw(logits: np.ndarray, settings: Sampling, point: float) -> int:
    """The definition: weights of the kept tokens, largest first, and where ``point`` falls."""
    scores = logits.astype(np.float64) / settings.temperature
    order = np.argsort(-scores, kind="stable")
    order = order[: settings.top_k] if settings.top_k else order
    sums = np.cumsum(np.exp(scores[order] - scores[order[0]]))
    if settings.top_p < 1:
        sums = sums[: int(np.searchsorted(sums, settings.top_p * sums[-1])) + 1]
    return int(order[np.searchsorted(sums, point * sums[-1], side="right")])


@pytest.mark.parametrize("seed", range(30))
def test_draws_are_those_of_the_definition(seed):
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal(int(rng.integers(1, 3000))) * 4).astype(np.float32)
    if seed % 3 == 0:
        logits = np.round(logits)  # many equal ones
    settings = Sampling(
        temperature=float(rng.uniform(0.2, 3)), top_k=int(rng.choice([0, 1, 5, 40, 5000])),
        top_p=float(rng.choice([1.0, 0.9, 0.3])), seed=seed,
    )  # fmt: skip
    points = np.random.Generator(np.random.PCG64(seed))
    sampler = Sampler(settings)
    for _ in range(5):
        assert sampler.choose(logits) == softmax_draw(logits, settings, points.random())


@pytest.mark.parametrize("size", [1, 15, 16, 17, 5000])
def test_the_first_of_the_largest(size):
    rng = np.random.default_rng(size)
    for _ in range(20):
        logits = rng.integers(-3, 3, size).astype(np.float32)
        assert Sampler(Sampling()).choose(logits) == int(logits.argmax())
