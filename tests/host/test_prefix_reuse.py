"""Prompts that begin alike, interrupted runs, and options of kernels and cache."""

from __future__ import annotations

import json

import numpy as np
import pytest

import host.device.cpu
from host.forward.linear import AcceleratorBackend
from host.sampling import Sampling
from host.session import Session
from sim import golden_device
from spec import registers
from spec.config import TINY
from tests.host.test_cli import assert_sentence, run
from tests.host.test_generate import Letters
from tests.host.tiny_model import random_model, shape

PROMPT = [3, 4, 5, 6, 7, 8, 9]


@pytest.fixture
def opened(monkeypatch):
    """A session on the device cpu; called again for another one of the same model."""
    monkeypatch.setattr("host.session.open_device", lambda n, *args: host.device.cpu.open(*args))
    return lambda: Session.open(random_model(1, shape("qwen2")), "cpu", TINY, 48)


def answer(session: Session, prompt: list[int]) -> tuple[list[int], int, int]:
    """Tokens, and of the prompt: reused, and through how many commands of qkv the rest went."""
    report = session.run(prompt, Letters(), Sampling(), 5)
    data = json.loads(json.dumps(report.as_dict()))
    assert data["prompt_tokens"] == len(prompt)
    commands = report.passes("prefill")[0].operations["qkv"].commands
    return report.generation.tokens, data["reused_tokens"], commands


def test_a_longer_prompt_goes_on_where_they_part(opened):
    session = opened()
    first, reused, commands = answer(session, PROMPT)
    assert reused == 0 and commands == 2 * 7  # two layers; passes of two tokens take two commands
    longer = [*PROMPT, *first[:2], 20, 21, 22]
    found, reused, commands = answer(session, longer)
    assert reused == len(PROMPT) + 2
    assert commands == 2 * 3
    assert found == answer(opened(), longer)[0]


@pytest.mark.parametrize("place", [0, 1, 4, 6])
def test_a_token_that_differs_ends_it(opened, place):
    session = opened()
    answer(session, PROMPT)
    other = list(PROMPT)
    other[place] = 60
    found, reused, _ = answer(session, other)
    assert reused == place
    assert found == answer(opened(), other)[0]


def test_the_same_prompt_is_computed_but_for_its_last_token(opened):
    session = opened()
    first = answer(session, PROMPT)
    again = answer(session, PROMPT)
    assert again[0] == first[0]
    assert again[1:] == (len(PROMPT) - 1, 2)


@pytest.mark.parametrize("after", range(12))
def test_ctrl_c_anywhere_leaves_the_device_ready(opened, after, monkeypatch):
    """Between a doorbell and its end too: the list is abandoned. On a device that is waited for in
    Python; ``test_runner`` has the compiled way."""
    monkeypatch.setattr("host.session.open_device", lambda n, *args: golden_device.open(*args))
    session = opened()
    device, count = session.accelerator.transport, iter(range(1000))
    wait = device.wait

    def interrupted(timeout: float) -> None:
        if next(count) == after:
            raise KeyboardInterrupt
        wait(timeout)

    monkeypatch.setattr(device, "wait", interrupted)
    report = session.run(PROMPT, Letters(), Sampling(), 5)
    assert report.generation.stop_reason == "interrupted"
    assert not registers.decode("status", session.accelerator.read("status"))["busy"]
    assert (
        session.run(PROMPT, Letters(), Sampling(), 5).generation.tokens
        == (answer(opened(), PROMPT)[0])
    )


def test_prefill_fills_the_cache_as_decode_does(opened):
    one, other = opened().transformer, opened().transformer
    one.forward(PROMPT)
    for token in PROMPT:
        other.forward([token])
    for name in ("keys", "values"):
        np.testing.assert_array_equal(getattr(one.cache, name), getattr(other.cache, name))
    assert isinstance(one.cache.tokens, list) and one.cache.tokens == PROMPT
    assert AcceleratorBackend.cache_format == one.cache.format == "fp16"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--threads", "0"], ["--threads", "1..64", "got 0"]),
     (["--threads", "65"], ["got 65"]),
     (["--cache", "fp8"], ["--cache", "fp16 or int8", "'fp8'"])],
)  # fmt: skip
def test_bad_options_are_one_sentence(arguments, words):
    assert_sentence(run("generate", "hello", *arguments), 2, *words)
