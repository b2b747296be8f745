"""The generation loop and its report."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rich.console import Console

import host.device.cpu
import sim.golden_device
from host.device.counters import Counters, total
from host.forward.cache import ContextError
from host.forward.linear import FloatBackend
from host.forward.model import OPERATIONS, Transformer
from host.generate import Generation, Pass, generate
from host.report import Report, by_operation, table
from host.sampling import Sampler, Sampling
from host.session import PromptError, Session, choose_context, encode_prompt
from host.text.chat import ChatTemplate
from spec import layout
from spec.config import KV260, TINY
from spec.digest import digest
from tests.host.tiny_model import random_model, shape

SMALL = shape("qwen2", context=32)
DEVICES = {"cpu": host.device.cpu.open, "golden": sim.golden_device.open}


class Words:
    """A tokenizer's stream whose token 7 is half a character."""

    def __init__(self) -> None:
        self.held = ""

    def push(self, token: int) -> str:
        if token == 7:
            self.held += "half"
            return ""
        text, self.held = f"{self.held} {token}", ""
        return text

    def finish(self) -> str:
        text, self.held = self.held and "?", ""
        return text


class Script:
    """A sampler that says what it was told to, and remembers what it was shown."""

    def __init__(self, tokens: list[int]) -> None:
        self.tokens, self.seen = list(tokens), []

    def choose(self, logits: np.ndarray, seen=()) -> int:
        assert logits.shape == (SMALL.vocabulary,)
        self.seen.append(list(seen))
        token = self.tokens.pop(0)
        if token < 0:
            raise KeyboardInterrupt
        return token


def write(tokens: list[int], prompt=(1, 2, 3), context=16, most=10, **options) -> Generation:
    transformer = Transformer(random_model(1, SMALL), FloatBackend(2), context)
    settings = {"eos": {0}, "max_tokens": most, "tally": {}, **options}
    return generate(transformer, list(prompt), Script(tokens), Words(), **settings)


def test_stops_at_an_end_token_that_is_not_text():
    result = write([5, 6, 0])
    assert (result.stop_reason, result.text, result.tokens) == ("eos", " 5 6", [5, 6, 0])
    assert [step.phase for step in result.passes] == ["prefill", "decode", "decode"]


def test_stops_after_max_tokens_and_finishes_the_text():
    result = write([5, 7], most=2)
    assert (result.stop_reason, result.text) == ("max_tokens", " 5?")


def test_stops_when_the_context_is_full():
    result = write([4] * 9, prompt=(1, 2, 3), context=5)
    assert result.stop_reason == "context"
    assert len(result.tokens) == 3  # two fill the cache; the third is chosen and has no place


def test_a_prompt_as_long_as_the_context_gives_one_token():
    result = write([4], prompt=(1, 2, 3), context=3)
    assert (result.stop_reason, result.tokens) == ("context", [4])


def test_a_longer_prompt_is_refused_with_both_numbers():
    with pytest.raises(ContextError, match="prompt has 4 tokens but the context holds 3"):
        write([4], prompt=(1, 2, 3, 4), context=3)


def test_ctrl_c_keeps_what_was_written():
    result = write([5, 6, -1])
    assert (result.stop_reason, result.text) == ("interrupted", " 5 6")


def test_text_and_progress_come_as_they_are_made():
    pieces, progress = [], []
    write([5, 7, 6, 0], emit=pieces.append, progress=lambda *counts: progress.append(counts))
    assert pieces == [" 5", "", "half 6", ""]
    assert progress == [(2, 3), (3, 3)]


def test_the_sampler_sees_prompt_and_text():
    transformer = Transformer(random_model(1, SMALL), FloatBackend(2), 16)
    script = Script([5, 6, 0])
    generate(transformer, [1, 2], script, Words(), eos={0}, max_tokens=9, tally={})
    assert script.seen == [[1, 2], [1, 2, 5], [1, 2, 5, 6]]


class Letters:
    """A tokenizer of letters."""

    def encode(self, text: str, special: bool = True, start: bool = False) -> list[int]:
        return [1] * start + [ord(letter) % 80 for letter in text]

    def stream(self) -> Words:
        return Words()


def test_prompts():
    chat = ChatTemplate("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}")
    letters = Letters()

    def coded(text: str) -> list[int]:
        return letters.encode(text)

    assert encode_prompt(letters, chat, "hi", None, False) == coded("<user>hi")
    assert encode_prompt(letters, chat, "hi", "be", False) == coded("<system>be<user>hi")
    assert encode_prompt(letters, chat, "hi", None, True) == [1, *coded("hi")]
    assert encode_prompt(letters, ChatTemplate(None), "hi", None, False) == [1, *coded("hi")]
    with pytest.raises(PromptError, match="--system"):
        encode_prompt(letters, chat, "hi", "be", True)
    with pytest.raises(PromptError, match="empty"):
        encode_prompt(letters, ChatTemplate("{# nothing #}"), "hi", None, False)


def test_contexts():
    model = random_model(1, SMALL)
    assert choose_context(model, None) == 32
    assert choose_context(model, 8) == 8
    assert choose_context(random_model(1, shape(context=9000)), None) == 2048
    for wrong in (0, 33):
        with pytest.raises(ContextError, match=rf"1\.\.32 tokens for this model, got {wrong}"):
            choose_context(model, wrong)


def answer(device: str, monkeypatch, sampling: Sampling, seed: int = 1) -> Report:
    monkeypatch.setattr("host.session.open_device", lambda name, *args: DEVICES[name](*args))
    session = Session.open(random_model(seed, SMALL), device, TINY, 32)
    report = session.run([3, 4, 5], Letters(), sampling, 8)
    again = session.run([3, 4, 5], Letters(), sampling, 8)
    assert again.generation.tokens == report.generation.tokens
    session.close()
    return report


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_devices_write_the_same(monkeypatch, seed, temperature):
    sampling = Sampling(temperature=temperature, seed=seed)
    golden, cpu = (answer(name, monkeypatch, sampling, seed) for name in ("golden", "cpu"))
    assert golden.generation.tokens == cpu.generation.tokens
    assert golden.device == "golden" and cpu.device == "cpu"
    assert golden.as_dict()["totals"] == cpu.as_dict()["totals"]


def test_greedy_takes_the_likeliest_token(monkeypatch):
    report = answer("cpu", monkeypatch, Sampling())
    assert isinstance(Sampler(Sampling()).choose(np.array([0, 2, 1], np.float32)), int)
    transformer = Transformer(random_model(1, SMALL), FloatBackend(4), 32)
    logits = transformer.forward([3, 4, 5, *report.generation.tokens[:-1]], all_logits=True)[2:]
    for row, token in zip(logits, report.generation.tokens, strict=True):
        assert row[token] >= row.max() - 0.1 * row.std()


def test_the_report_adds_up(monkeypatch):
    report = answer("cpu", monkeypatch, Sampling())
    data = json.loads(json.dumps(report.as_dict()))
    assert (data["device"], data["config"], data["digest"]) == (
        "cpu",
        "tiny",
        f"{digest(TINY):016x}",
    )
    assert data["prompt_tokens"] == 3
    assert data["tokens"] == len(data["token_ids"]) == len(data["per_pass"])
    assert list(data["operations"]) == list(OPERATIONS)
    assert sum(part["share"] for part in data["operations"].values()) == pytest.approx(1)
    for name in ("cycles", "bytes_read", "bytes_written"):
        whole = data["totals"][name]
        assert whole == sum(part[name] for part in data["operations"].values())
        assert whole == sum(step[name] for step in data["per_pass"])
        assert whole == sum(data["totals"][phase][name] for phase in ("prefill", "decode"))
    assert data["speed"]["label"] == data["totals"]["label"] == "modelled"
    assert "not included" in data["speed"]["scope"]


def test_bytes_are_those_of_the_layout(monkeypatch):
    """One decoded token reads every matrix once, its activations and a descriptor."""
    report = answer("golden", monkeypatch, Sampling())
    step = report.passes("decode")[0]
    weights = random_model(1, SMALL).layers[0].down
    matrix = layout.Matrix(TINY, weights.rows, weights.columns, weights.bits, weights.group)
    beats = matrix.beats + matrix.activation_beats(1) + 64 // TINY.beat_bytes
    down = step.operations["down"]
    assert down.bytes_read == SMALL.layers * beats * TINY.beat_bytes
    assert down.bytes_written == SMALL.layers * matrix.result_bytes(1, "fp32")
    assert down.commands == SMALL.layers


def made_up(device: str) -> Report:
    """A prompt of 4 tokens and two written: 100, then 50 cycles for 80 and 40 beats."""
    passes = []
    for phase, scale in (("prefill", 2), ("decode", 1)):
        costs = {
            name: Counters(1, cycles * scale, beats * scale * KV260.beat_bytes, 16 * scale)
            for name, cycles, beats in (("qkv", 10, 8), ("head", 40, 32))
        }
        passes.append(Pass(phase, [9], "x", costs, 0.5))
    return Report(Generation(4, passes), device, KV260, "a model")


def test_speeds_by_hand():
    """rtl counts 50 cycles a token, 250 MHz: 5 million tokens/s; the others one cycle a beat."""
    simulated = made_up("rtl").as_dict()["speed"]
    assert (simulated["label"], simulated["value"]) == ("simulated", 5e6)
    assert simulated["prefill"] == pytest.approx(4 * 250e6 / 100)
    modelled = made_up("cpu").as_dict()["speed"]
    assert (modelled["label"], modelled["value"]) == ("modelled", 250e6 / 40)
    assert made_up("cpu").as_dict()["operations"]["head"]["share"] == pytest.approx(0.8)


def test_no_decoded_token_has_no_speed():
    report = made_up("rtl")
    report.generation.passes.pop()
    assert report.as_dict()["speed"]["value"] is None
    assert " - " in shown(report)


def shown(report: Report) -> str:
    console = Console(width=80, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table(report))
    return console.export_text()


@pytest.mark.parametrize(("device", "label"), [("rtl", "simulated"), ("golden", "modelled")])
def test_the_table_says_what_ran_and_how_it_was_counted(device, label):
    text = shown(made_up(device))
    for words in (device, "kv260", f"{digest(KV260):016x}", label, "250 MHz", "qkv", "head"):
        assert words in text
    assert "…" not in text


def test_costs_are_added_by_operation():
    sums = by_operation(made_up("rtl").passes())
    assert list(sums) == ["qkv", "head"]
    assert sums["head"].cycles == 120
    assert total(sums.values()).commands == 4
