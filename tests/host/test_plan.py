"""The planner: its figures add up, its decisions follow the costs, and its table is current."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter

import pytest

import host.device.cpu
import sim.golden_device
from host.plan import costs, fabric
from host.plan.planner import LAYER, MATMULS, Operation, PlanError, Turn, _Maker, plan
from host.sampling import Sampling
from host.session import Session
from spec.config import KV260, TINY
from spec.layout import Matrix
from spec.shapes import SHAPES, find
from tests.host.test_cli import assert_sentence, run
from tests.host.test_generate import Letters
from tests.host.tiny_model import random_model, shape

QWEN = find("qwen2.5-0.5b")


def test_the_table_is_of_the_present_kernels():
    """If this fails: python -m benches.a53.table."""
    assert costs.table()["sources_digest"] == costs.sources_digest()
    for features in costs.table()["kernels"].values():
        assert len(features["cycles"]) == len(features["features"])
        assert "modelled" in features["label"] and features["cycles_error"] < 1
    assert set(costs.table()["kernels"]) == set(costs.FEATURES)


@pytest.mark.parametrize("name", list(SHAPES))
@pytest.mark.parametrize("head", ["int8", "int4", "two-step"])
def test_figures_add_up(name, head):
    made = plan(name, SHAPES[name], KV260, 512, 512, head)
    for operations in (made.decode, made.prefill):
        for one in operations:
            assert one.seconds > 0 and 0 <= one.arm_seconds <= one.seconds * (1 + 1e-9)
            assert one.place == "fabric" or one.arm_seconds == one.seconds
            assert one.label in ("simulated", "modelled", "assumed")
    assert 1 / made.decode_tokens_per_second == pytest.approx(sum(o.seconds for o in made.decode))
    turn, alone = made.turn, sum(one.seconds for one in made.prefill)
    assert turn.passes == 2
    assert turn.arm_seconds == pytest.approx(
        2 * sum(one.arm_seconds for one in made.prefill) - made.prefill[0].seconds
    )
    assert max(turn.fabric_seconds, turn.arm_seconds) < turn.seconds < 2 * alone
    assert [one.name for one in made.decode if one.name in MATMULS] == list(MATMULS)
    told = json.loads(json.dumps(made.as_dict()))
    assert told["decode_tokens_per_second"] > 0 and told["operations"][0]["name"] == "pass"


def test_a_short_prompt_is_one_pass():
    made = plan("q", QWEN, KV260, 512, 8)
    assert made.turn.passes == 1
    assert made.turn.seconds == pytest.approx(sum(one.seconds for one in made.prefill))


def test_turns_are_timed_by_hand():
    """One layer on an engine that takes 3 s for each matmul, the processor 1 s for each kernel."""
    maker = _Maker(dataclasses.replace(QWEN, layers=1), KV260, "int8", 64, {})
    listed = [Operation(name, 1, "cpu", 0.0, 0.0, "", "") for name in ("pass", "embedding")]
    for kernel, matmul in LAYER:
        listed.append(Operation(kernel, 1, "cpu", 1.0, 1.0, "", ""))
        listed.append(Operation(matmul, 1, "fabric", 3.0, 0.0, "", ""))
    assert maker.turn(listed, 1) == Turn(1, 16.0, 12.0, 4.0)
    # The engine stands still for three kernels of the first pass, which is alone at the beginning,
    # and for two of the second, which is alone at the end.
    assert maker.turn(listed, 2) == Turn(2, 8 * 3.0 + 5 * 1.0, 24.0, 8.0)


def test_context_slows_decode():
    speeds = [plan("q", QWEN, KV260, n).decode_tokens_per_second for n in (1, 512, 4096)]
    assert speeds == sorted(speeds, reverse=True)


def test_stored_cycles_are_near_the_model():
    """What the RTL counted, a mean over refreshes, and the analytic model."""
    stored = json.loads(fabric.PATH.read_text())
    for rows, columns, bits, group, vectors, top_k, cycles in stored["matmuls"]:
        matrix = Matrix(KV260, rows, columns, bits, group)
        assert fabric.timed(matrix, vectors, top_k) == fabric.Timed(cycles, "simulated")
        other = Matrix(dataclasses.replace(KV260, fifo_beats=1024), rows, columns, bits, group)
        modelled = fabric.timed(other, vectors, top_k)
        assert modelled.label == "modelled"
        assert modelled.cycles == pytest.approx(cycles, rel=0.05)


def test_small_engines_leave_matmuls_to_the_processor():
    slow = dataclasses.replace(TINY, clock_mhz=1.0)
    small = dataclasses.replace(find("smollm2-135m"), hidden=512, heads=8, intermediate=512)
    made = plan("small", small, slow, 8, 8, "int8")
    assert {made.place(name, 1) for name in MATMULS} == {"cpu"}
    fast = plan("q", QWEN, KV260, 8)
    assert {fast.place(name, tokens) for name in MATMULS for tokens in (1, 8)} == {"fabric"}


def test_overrides():
    made = plan("q", QWEN, KV260, 8, overrides={"output": "cpu", "decode.qkv": "cpu"})
    assert made.place("output", 1) == made.place("output", 8) == made.place("qkv", 1) == "cpu"
    assert made.place("qkv", 8) == made.place("down", 1) == "fabric"
    assert "asked for" in next(one.why for one in made.decode if one.name == "qkv")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [({"norm": "cpu"}, "norm"), ({"later.qkv": "cpu"}, "later.qkv"), ({"qkv": "gpu"}, "gpu"),
     ({"head": "cpu"}, "int8")],
)  # fmt: skip
def test_overrides_that_make_no_sense(overrides, words):
    with pytest.raises(PlanError, match=words):
        plan("q", QWEN, KV260, 8, overrides=overrides)


def test_command(tmp_path):
    chart = tmp_path / "plan.html"
    done = run("plan", "qwen2.5-0.5b", "--context", "512", "--json", "--html", str(chart))
    told = json.loads(done.stdout)
    assert {"decode_tokens_per_second", "prefill_tokens_per_second", "arm_ms_per_token",
            "operations"} <= set(told)  # fmt: skip
    assert set(told["operations"][0]) == {"name", "count", "place", "cost", "label", "why"}
    assert "512" in told["contexts"]
    text = chart.read_text()
    assert text.startswith("<!DOCTYPE html>") and "http" not in text and "<script" not in text
    assert "attention" in run("plan", "smollm2-135m").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["qwen2.5"], ["qwen2.5"]), (["qwen2.5-0.5b", "--override", "qkv"], ["--override", "qkv"]),
     (["qwen2.5-0.5b", "--context", "0"], ["context", "0"]),
     (["qwen2.5-0.5b", "--head", "int2"], ["int2"])],
)  # fmt: skip
def test_bad_input_is_one_sentence(arguments, words):
    assert_sentence(run("plan", *arguments), 2, *words)


DEVICES = {"cpu": host.device.cpu.open, "golden": sim.golden_device.open}


@pytest.mark.parametrize("device", list(DEVICES))
@pytest.mark.parametrize(
    "overrides",
    [{}, {"output": "cpu", "prefill.down": "cpu"}, dict.fromkeys(MATMULS, "cpu")],
    ids=("all fabric", "mixed", "all cpu"),
)
def test_the_runtime_follows_the_plan(monkeypatch, device, overrides):
    """The same text wherever a matmul runs, and as many commands in each place as the plan says."""
    monkeypatch.setattr("host.session.open_device", lambda name, *args: DEVICES[name](*args))
    model = random_model(1, shape("qwen2", context=32))
    every = dict.fromkeys(MATMULS, "fabric") | overrides
    made = plan("tiny", model.shape, TINY, 4, 2, "int8", 32, every)
    reports = []
    for followed in (None, made):
        session = Session.open(model, device, TINY, 32, plan=followed)
        reports.append(session.run([3, 4, 5, 6], Letters(), Sampling(), 6))
        session.close()
    plain, ours = reports
    assert ours.generation.tokens == plain.generation.tokens
    decoded, layers = len(ours.generation.tokens) - 1, model.shape.layers
    wanted: Counter[tuple[str, str]] = Counter()
    for name in MATMULS:
        times = 1 if name == "head" else layers
        if name == "head":
            wanted[name, made.place(name, 1)] += decoded + 1
            continue
        wanted[name, made.place(name, 1)] += decoded * times
        commands = 2 if name == "qkv" else 1  # two terms of two tokens on an engine of two
        wanted[name, made.place(name, 2)] += 2 * times * commands
    assert ours.ran == wanted
    by_python = device == "golden" and any(place == "fabric" for _, place in wanted)
    compiled = device == "cpu" or any(place == "cpu" for _, place in wanted)
    assert ("python" in ours.launches, "compiled" in ours.launches) == (by_python, compiled)
