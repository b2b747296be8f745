"""The LM head by top-k: the same logits, the same text."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import host.device.cpu
import sim.golden_device
from host.device.driver import Accelerator
from host.forward.head import HeadError, TopHead, exact_results
from host.forward.linear import AcceleratorBackend
from host.layout import blockfloat
from host.sampling import Sampling
from host.session import Session, check_head
from host.weights import Quantised
from spec.config import KV260, TINY, Config
from tests.host.matmul_case import random_weights
from tests.host.test_cli import assert_sentence, run
from tests.host.test_generate import Letters
from tests.host.tiny_model import random_model, shape

ONE = dataclasses.replace(TINY, name="one", tokens=1)
"""An engine of one token: activations go in as one term."""

FINE = dataclasses.replace(KV260, name="fine", group=32)


@pytest.mark.parametrize("seed", range(40))
def test_exact_results_are_the_engine_s(seed):
    rng = np.random.default_rng(seed)
    group, rows = int(rng.choice([32, 64, 128])), int(rng.integers(1, 60))
    groups = int(rng.integers(1, 6))
    weights = random_weights(rng, rows, groups, group)
    spread = rng.choice([1e-6, 1, 1e6], (1, groups * group))
    activations = (rng.normal(size=(1, groups * group)) * spread).astype(np.float32)
    accelerator = Accelerator(host.device.cpu.open(FINE, 4 << 20))
    results = accelerator.matmul(accelerator.load(weights), activations)[0]
    asked = rng.permutation(rows)[:20]
    found = exact_results(weights, asked, *blockfloat.quantise(activations))
    np.testing.assert_array_equal(found.view(np.uint32), results[asked].view(np.uint32))


def head_of(config: Config, weights: Quantised, top_k: int) -> TopHead:
    accelerator = Accelerator(host.device.cpu.open(config, 8 << 20))
    head = AcceleratorBackend(accelerator, head_top_k=top_k).load(weights, "head")
    assert isinstance(head, TopHead)
    return head


def likely(rng: np.random.Generator, rows: int, columns: int, clear: bool) -> Quantised:
    """A head; with ``clear`` a few rows are far larger than the rest."""
    values = rng.integers(-100, 100, (rows, columns)).astype(np.int8)
    scales = rng.uniform(0.001, 0.002, (rows, columns // 64)).astype(np.float16)
    if clear:
        scales[rng.permutation(rows)[: rows // 2]] /= np.float16(64)
    return Quantised(8, 64, values, scales)


@pytest.mark.parametrize("config", [KV260, ONE], ids=lambda config: config.name)
@pytest.mark.parametrize("clear", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_likeliest_are_those_of_the_full_logits(config, clear, seed):
    rng = np.random.default_rng(seed)
    rows, top_k = int(rng.integers(100, 400)), int(rng.choice([2, 9, 40, 64]))
    head = head_of(config, likely(rng, rows, 256, clear), top_k)
    for count in (1, top_k // 2, top_k):
        activations = rng.normal(size=(1, 256)).astype(np.float32)
        full, found = head(activations)[0], head.likeliest(activations, count)[0]
        order = np.argsort(-full, kind="stable")[:count]
        np.testing.assert_array_equal(np.argsort(-found, kind="stable")[:count], order)
        np.testing.assert_array_equal(found[order], full[order])
        listed = np.isfinite(found)
        np.testing.assert_array_equal(found[listed], full[listed])
        assert listed.sum() == rows or top_k <= listed.sum() <= 2 * top_k


def test_lists_that_are_not_certain_cost_a_pass_with_all_logits():
    """Rows that are all equal: those outside the lists are as large as those inside."""
    rng = np.random.default_rng(0)
    values = np.repeat(rng.integers(-100, 100, (1, 64)), 100, axis=0).astype(np.int8)
    head = head_of(KV260, Quantised(8, 64, values, np.full((100, 1), 0.01, np.float16)), 4)
    for count in range(1, 5):
        activations = rng.normal(size=(1, 64)).astype(np.float32)
        found = head.likeliest(activations, 1)
        assert head.full_passes == count
        np.testing.assert_array_equal(found, head(activations))


def test_clear_rows_cost_no_second_pass():
    rng = np.random.default_rng(1)
    head = head_of(KV260, likely(rng, 400, 256, clear=True), 64)
    for _ in range(10):
        head.likeliest(rng.normal(size=(1, 256)).astype(np.float32), 1)
    assert head.full_passes == 0


DEVICES = {"cpu": host.device.cpu.open, "golden": sim.golden_device.open}


@pytest.mark.parametrize("device", ["cpu", "golden"])
@pytest.mark.parametrize("config", [TINY, ONE], ids=lambda config: config.name)
@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(temperature=0.9, top_k=5, top_p=0.9, seed=3)], ids=str
)
@pytest.mark.parametrize("seed", range(2))
def test_the_text_is_that_of_full_logits(monkeypatch, device, config, sampling, seed):
    monkeypatch.setattr("host.session.open_device", lambda name, *args: DEVICES[name](*args))
    model = random_model(seed, shape("qwen2", context=32, vocabulary=300))
    reports = []
    for top_k in (0, 31):
        session = Session.open(model, device, config, 32, head_top_k=top_k)
        reports.append(session.run([3, 4, 5], Letters(), sampling, 12))
        session.close()
    full, top = reports
    assert top.generation.tokens == full.generation.tokens
    assert full.as_dict()["head"] == {"top_k": None, "full_passes": 0, "two_step": False}
    told = top.as_dict()["head"]
    assert told["top_k"] == 31
    written = [sum(step.operations["head"].bytes_written for step in report.passes())
               for report in reports]  # fmt: skip
    each = written[0] // len(full.generation.tokens)
    lists = len(top.generation.tokens) * min(2, config.tokens) * 32 * 8
    assert written[1] == lists + told["full_passes"] * each


@pytest.mark.parametrize(
    ("top_k", "sampling", "words"),
    [(64, Sampling(temperature=1), "sampling keeps all tokens"),
     (8, Sampling(temperature=1, top_k=9), "sampling keeps 9 tokens"),
     (64, Sampling(repetition_penalty=1.1), "repetition penalty"),
     (65, Sampling(), r"1\.\.64.*got 65")],
)  # fmt: skip
def test_what_a_list_cannot_decide_is_refused(top_k, sampling, words):
    with pytest.raises(HeadError, match=words):
        check_head(top_k, sampling)


def test_what_a_list_decides_is_allowed():
    check_head(1, Sampling())
    check_head(9, Sampling(temperature=1, top_k=9, top_p=0.5))
    check_head(0, Sampling(temperature=1, repetition_penalty=2))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--head-top-k", "0"], ["1..64", "full", "got 0"]),
     (["--head-top-k", "many"], ["--head-top-k", "'many'"]),
     (["--head-top-k", "9999"], ["1..64", "9999"]),
     (["--head-top-k", "64", "--temperature", "1"], ["--head-top-k", "--top-k 1..64"])],
)  # fmt: skip
def test_bad_options_are_one_sentence(arguments, words):
    assert_sentence(run("generate", "hello", *arguments), 2, *words)
