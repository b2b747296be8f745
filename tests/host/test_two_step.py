"""The LM head in two steps: what decides equals the full int8 head, bit for bit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import host.device.cpu
import sim.golden_device
from host.device.cpu import CpuDevice
from host.device.driver import Accelerator, memory_needed
from host.forward.head import HeadError, exact_results
from host.forward.linear import AcceleratorBackend, split
from host.forward.two_step import IntegerEmbedding, TwoStepHead, round_to_int4, two_step
from host.kernels.rescore import Rescorer
from host.layout import blockfloat
from host.layout.blockfloat import ActivationError
from host.sampling import Sampling
from host.session import Session, check_head
from host.weights import Quantised
from spec.config import KV260, TINY
from tests.host.test_cli import assert_sentence, run
from tests.host.test_generate import Letters
from tests.host.tiny_model import random_model, shape

DEVICES = {"cpu": host.device.cpu.open, "golden": sim.golden_device.open}


def table(rng: np.random.Generator, rows: int, columns: int, group: int = 64) -> Quantised:
    values = rng.integers(-128, 128, (rows, columns)).astype(np.int8)
    scales = rng.uniform(0, 0.01, (rows, columns // group)).astype(np.float16)
    return Quantised(8, group, values, scales)


@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("terms", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_rescored_rows_are_the_engines(group, terms, seed):
    rng = np.random.default_rng(seed)
    columns = group * int(rng.integers(1, 9))
    weights = table(rng, 50, columns, group)
    tokens, count = int(rng.integers(1, 5)), int(rng.integers(1, 20))
    activations = (rng.normal(size=(tokens, columns)) * 10.0 ** rng.integers(-6, 6)).astype("f4")
    activations[rng.random(activations.shape) < 0.2] *= 1e-4
    rows = rng.integers(0, 50, (tokens, count)).astype(np.int32)
    found = Rescorer(weights, 8, 20, terms)(activations, rows)
    parts = [activations] if terms == 1 else np.split(split(activations), 2)
    for token in range(tokens):
        wanted = sum(
            exact_results(weights, rows[token], *blockfloat.quantise(part[token : token + 1]))
            for part in parts
        )
        np.testing.assert_array_equal(found[token], wanted)


@pytest.mark.parametrize(
    "value", [0.0, -0.0, 1e-45, 1e-38, 127.0, 127.5, 2.0**90, -(2.0**-79)], ids=str
)
def test_corner_activations(value):
    weights = table(np.random.default_rng(1), 8, 128)
    activations = np.full((1, 128), value, np.float32)
    activations[0, 64:] *= np.float32(2.0**-20)
    rows = np.arange(8, dtype=np.int32)[None]
    found = Rescorer(weights, 1, 8, 1)(activations, rows)[0]
    wanted = exact_results(weights, rows[0], *blockfloat.quantise(activations))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_activations_that_are_not_finite_are_refused(value):
    activations = np.ones((1, 64), np.float32)
    activations[0, 63] = value
    with pytest.raises(ActivationError, match="infinite or NaN"):
        Rescorer(table(np.random.default_rng(1), 4, 64), 1, 4, 2)(
            activations, np.zeros((1, 4), np.int32)
        )


def heads(config, fine: Quantised) -> tuple[TwoStepHead, object]:
    """The head in two steps and the full int8 head on the same device."""
    proposing = round_to_int4(fine)
    device = CpuDevice(config, memory_needed(config, [proposing, fine]) + (1 << 20))
    accelerator = Accelerator(device)
    first = AcceleratorBackend(accelerator, fine=fine).load(proposing, "head")
    return first, AcceleratorBackend(accelerator).load(fine, "head")


@pytest.mark.parametrize("config", [KV260, TINY], ids=lambda config: config.name)
@pytest.mark.parametrize("tokens", [1, 2, 9])
@pytest.mark.parametrize("seed", range(3))
def test_scores_are_the_full_heads(config, tokens, seed):
    rng = np.random.default_rng(seed)
    ours, full = heads(config, table(rng, int(rng.integers(2, 400)), 256))
    activations = rng.normal(size=(tokens, 256)).astype(np.float32)
    wanted, found = full(activations), ours.candidates(activations)
    assert found.rows.shape == (tokens, ours.top_k)
    np.testing.assert_array_equal(np.take_along_axis(wanted, found.rows, axis=1), found.values)
    assert (np.diff(found.values, axis=1) <= 0).all()
    likely = ours.likeliest(activations, 1)
    everything = ours(activations)
    for token in range(tokens):
        listed = np.isfinite(likely[token])
        assert set(np.flatnonzero(listed)) == set(found.rows[token])
        np.testing.assert_array_equal(everything[token, listed], wanted[token, listed])
    one_by_one = np.concatenate([ours.candidates(row[None]).rows for row in activations])
    np.testing.assert_array_equal(one_by_one, found.rows)


def test_more_than_the_candidates_are_refused():
    ours, _ = heads(TINY, table(np.random.default_rng(0), 100, 64))
    with pytest.raises(HeadError, match=r"64 logits, 65 are wanted"):
        ours.likeliest(np.ones((1, 64), np.float32), 65)


def test_a_model_is_split():
    model = random_model(1, shape(vocabulary=200))
    split_model = two_step(model)
    assert (split_model.head.bits, split_model.fine.bits) == (4, 8)
    np.testing.assert_array_equal(split_model.fine.values, model.head.values)
    ids = np.array([0, 199, 7])
    np.testing.assert_array_equal(split_model.embedding[ids], model.head.floats()[ids])
    assert len(split_model.embedding) == 200
    untied = dataclasses.replace(model, shape=dataclasses.replace(model.shape, tied=False))
    assert two_step(untied).embedding is model.embedding
    assert isinstance(split_model.embedding, IntegerEmbedding)
    assert two_step(split_model) is split_model
    with pytest.raises(HeadError, match="int8"):
        two_step(dataclasses.replace(split_model, fine=None))


def answer(device: str, monkeypatch, model, sampling: Sampling, config=TINY):
    monkeypatch.setattr("host.session.open_device", lambda name, *args: DEVICES[name](*args))
    session = Session.open(model, device, config, 32)
    report = session.run([3, 4, 5], Letters(), sampling, 12)
    session.close()
    return report


SAMPLINGS = [Sampling(), Sampling(temperature=0.9, top_k=5, top_p=0.9, seed=3)]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_the_text_is_that_of_the_full_head_on_every_device(monkeypatch, sampling, seed):
    """With 64 candidates of 60 tokens the first step leaves nothing out."""
    model = random_model(seed, shape("qwen2", context=32, vocabulary=60))
    parted = two_step(model)
    whole = dataclasses.replace(model, embedding=parted.embedding)
    full = answer("cpu", monkeypatch, whole, sampling)
    for device in DEVICES:
        report = answer(device, monkeypatch, parted, sampling)
        assert report.generation.tokens == full.generation.tokens
        told = report.as_dict()["head"]
        assert told == {"top_k": 60, "full_passes": 0, "two_step": True}


def test_devices_agree_where_candidates_are_few(monkeypatch):
    model = two_step(random_model(5, shape("qwen2", context=32, vocabulary=300)))
    sampling = SAMPLINGS[1]
    ours = [answer(device, monkeypatch, model, sampling) for device in DEVICES]
    assert ours[0].generation.tokens == ours[1].generation.tokens


def test_sampling_from_all_tokens_is_refused():
    with pytest.raises(HeadError, match=r"sampling keeps all tokens: use --head int8.*1\.\.64"):
        check_head(64, Sampling(temperature=1), "--head int8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--head", "two-step", "--temperature", "1"], ["--head int8", "--top-k 1..64"]),
     (["--head", "two-step", "--head-top-k", "8"], ["--head-top-k", "64"]),
     (["--head", "two-step", "--repetition-penalty", "2"], ["repetition penalty"])],
)  # fmt: skip
def test_bad_options_are_one_sentence(arguments, words):
    assert_sentence(run("generate", "hello", *arguments), 2, *words)
