"""The forward pass on compiled kernels: what it may depend on, what it calls, what it allocates."""

from __future__ import annotations

import gc
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from host import kernels
from host.device.driver import Accelerator
from host.device.transport import open_device
from host.forward.cache import CacheError, KvCache
from host.forward.linear import AcceleratorBackend, FloatBackend
from host.forward.model import Transformer
from host.kernels import runner
from host.weights import Shape
from spec.config import KV260, TINY
from tests.host.tiny_model import random_model, reference_logits, shape

SMALL = shape("qwen2")


def transformer(
    config=KV260, threads: int = 1, cache=None, seed: int = 1, device: str = "cpu",
    dimensions: Shape = SMALL,
) -> Transformer:  # fmt: skip
    config = config if config.group == 32 else type(config)(**{**config.as_dict(), "group": 32})
    options = {"threads": threads} if device == "cpu" else {}
    accelerator = Accelerator(open_device(device, config, 16 << 20, **options))
    backend = AcceleratorBackend(accelerator)
    model = random_model(seed, dimensions)
    return Transformer(model, backend, dimensions.context, cache=cache, threads=threads)


def in_passes(model: Transformer, tokens: list[int], sizes: list[int]) -> np.ndarray:
    """Logits of a text that is given a few tokens at a time."""
    model.reset()
    found, start = [], 0
    for size in sizes:
        found.append(model.forward(tokens[start : start + size], all_logits=True))
        start += size
    return np.concatenate(found)


def random_sizes(rng: np.random.Generator, total: int, most: int) -> list[int]:
    sizes: list[int] = []
    while sum(sizes) < total:
        sizes.append(min(int(rng.integers(1, most + 1)), total - sum(sizes)))
    return sizes


@pytest.mark.parametrize("config", [KV260, TINY], ids=lambda config: config.name)
@pytest.mark.parametrize("cache", ["fp16", "int8", "fp32"])
@pytest.mark.parametrize("seed", range(4))
def test_logits_do_not_depend_on_how_the_text_is_cut(config, cache, seed):
    """Bit for bit: so a guess that is verified with others is what would be written without it."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 80, 45).tolist()
    model = transformer(config, cache=cache)
    alone = in_passes(model, tokens, [1] * 45)
    for _ in range(4):
        sizes = random_sizes(rng, 45, 12)
        np.testing.assert_array_equal(in_passes(model, tokens, sizes), alone, str(sizes))
    threaded = transformer(config, threads=3, cache=cache)
    np.testing.assert_array_equal(in_passes(threaded, tokens, [45]), alone)


@pytest.mark.parametrize("cache", ["fp16", "int8", "fp32"])
@pytest.mark.parametrize("heads", [(6, 2), (14, 2), (18, 2)], ids=str)
def test_long_texts_do_not_either(cache, heads):
    """Beyond the positions whose values are mixed at a time; queries for one panel or several."""
    dimensions = shape("qwen2", heads=heads[0], kv_heads=heads[1], layers=1, context=320)
    tokens = np.random.default_rng(heads[0]).integers(0, 80, 290).tolist()
    model = transformer(cache=cache, dimensions=dimensions)
    alone = in_passes(model, tokens, [1] * 290)
    for seed in range(2):
        sizes = random_sizes(np.random.default_rng(seed), 290, 12)
        np.testing.assert_array_equal(in_passes(model, tokens, sizes), alone, str(sizes))
    threaded = transformer(cache=cache, dimensions=dimensions, threads=4)
    np.testing.assert_array_equal(in_passes(threaded, tokens, [290]), alone)


@pytest.mark.parametrize("cache", ["fp16", "int8", "fp32"])
def test_every_processor_s_version_gives_the_same_logits(cache):
    tokens = np.random.default_rng(3).integers(0, 80, 30).tolist()
    chosen = transformer(cache=cache).forward(tokens, all_logits=True)
    kernels.library().kernels_prefer(1)
    try:
        plain = transformer(cache=cache).forward(tokens, all_logits=True)
    finally:
        kernels.library().kernels_prefer(0)
    np.testing.assert_array_equal(plain, chosen)


@pytest.mark.parametrize(("cache", "bound"), [("fp32", 2e-4), ("fp16", 1e-3), ("int8", 0.02)])
def test_formats_of_the_cache(cache, bound):
    model = random_model(2, SMALL)
    tokens = np.random.default_rng(1).integers(0, 80, 40).tolist()
    found = Transformer(model, FloatBackend(7), 64, cache=cache)
    wanted = reference_logits(model, tokens)
    error = found.forward(tokens, all_logits=True) - wanted
    assert np.linalg.norm(error) < bound * np.linalg.norm(wanted)


def test_int8_takes_little_more_than_half_of_fp16():
    wide = shape(head_dim=64, context=512)
    sizes = [KvCache(wide, 512, kind).bytes for kind in ("fp16", "int8")]
    assert sizes[1] / sizes[0] == (64 + 2) / 128


class Traced:
    """The library with every call of a kernel counted."""

    def __init__(self, library, counts: dict[str, int]) -> None:
        self._library, self._counts = library, counts

    def __getattr__(self, name: str):
        function = getattr(self._library, name)

        def counted(*arguments):
            self._counts[name] = self._counts.get(name, 0) + 1
            return function(*arguments)

        return counted


@pytest.mark.parametrize(("device", "calls"), [("cpu", 1), ("golden", 1 + 4 * SMALL.layers + 1)])
def test_calls_of_a_token(monkeypatch, device, calls):
    """One call for all layers and the head, and one that gathers the logits; where Python alone
    reaches the registers, one up to each doorbell, four in a layer."""
    counts: dict[str, int] = {}
    traced = Traced(kernels.library(), counts)
    traced_run = Traced(SimpleNamespace(run=runner.run()), counts).run
    monkeypatch.setattr("host.forward.program.run", lambda: traced_run)
    monkeypatch.setattr("host.forward.buffers.library", lambda: traced)
    started = []
    start = Accelerator.start
    monkeypatch.setattr(Accelerator, "start", lambda self, p: started.append(p) or start(self, p))
    model = transformer(device=device)
    model.forward([1, 2, 3])
    counts.clear(), started.clear()
    model.forward([4], copy=False)
    assert counts == {"run": calls, "kernels_results": 1}
    assert len(started) == calls - 1


def test_a_decoded_token_allocates_nothing_that_lasts_or_is_large():
    model = transformer()
    tokens = [5] * 8
    model.forward(tokens)
    for token in tokens:
        model.forward([token], copy=False)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for token in tokens:
        model.forward([token], copy=False)
    gc.collect()
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 4096  # the tokens themselves, and the counters' integers
    assert peak - before < 32768  # never as much as one row of a real model's logits


def test_device_buffers_are_not_taken_again():
    model = transformer()
    device = model._launcher.transport
    model.forward([1, 2, 3])
    before = device._used
    model.forward([4, 5], all_logits=True)
    assert device._used == before


def test_a_cache_of_another_model_is_refused():
    model = random_model(1, SMALL)
    other = KvCache(shape("qwen2", layers=3), 64, "fp16", model.source)
    with pytest.raises(CacheError, match="another model: 3 layers, 2 key heads of 16"):
        Transformer(model, FloatBackend(), 64, cache=other)
    stranger = KvCache(SMALL, 64, "fp16", "another checkpoint")
    with pytest.raises(CacheError, match="'another checkpoint'"):
        Transformer(model, FloatBackend(), 64, cache=stranger)
    with pytest.raises(CacheError, match="fp16, int8 or fp32, got 'fp8'"):
        Transformer(model, FloatBackend(), 64, cache="fp8")
    with pytest.raises(CacheError, match="up to 512 values, got head_dim = 1024"):
        KvCache(shape(head_dim=1024), 64)


def test_a_cache_that_fits_goes_on():
    model = random_model(1, SMALL)
    first = Transformer(model, FloatBackend(4), 64)
    first.forward([1, 2, 3, 4])
    second = Transformer(model, FloatBackend(4), 64, cache=first.cache)
    np.testing.assert_array_equal(second.forward([5]), transformer_alone(model, [1, 2, 3, 4], [5]))


def transformer_alone(model, *parts: list[int]) -> np.ndarray:
    fresh = Transformer(model, FloatBackend(4), 64)
    return [fresh.forward(part) for part in parts][-1]


def test_reuse_keeps_what_agrees_and_leaves_one():
    cache = KvCache(SMALL, 64)
    cache.advance([1, 2, 3, 4])
    assert cache.reuse([1, 2, 9, 4]) == 2 and cache.tokens == [1, 2]
    assert cache.reuse([1, 2]) == 1 and cache.tokens == [1]
    assert cache.reuse([7, 1]) == 0 and cache.tokens == []
