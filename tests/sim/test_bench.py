"""``hwgen bench``: what it reports adds up, and a wrong byte anywhere is found."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from host.layout import pack
from sim import bench, bench_replay, memory, replay, timing, workload
from sim.device import MEMORY_BASE
from spec import commands, layout, shapes
from spec.config import TINY
from spec.digest import digest
from spec.errors import MismatchError, UserError
from spec.layout import Matrix
from tests.sim import broken

SMALL = shapes.ModelShape("small", 128, 2, 2, 1, 64, 192, 300)

app = typer.Typer()
app.command()(bench.command)


@pytest.fixture(autouse=True)
def small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shapes.SHAPES, "small", SMALL)


def call(*arguments: str) -> Any:
    """Runs the command on the tiny configuration and the small model."""
    asked = ["--config", "tiny", "--model", "small", *arguments]
    return CliRunner().invoke(app, asked, catch_exceptions=True)


def report(*arguments: str) -> dict[str, Any]:
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("memory_name", ["ideal", "ddr4-2133"])
def test_token_reports_what_one_list_cost(memory_name: str) -> None:
    found = report("token", "--memory", memory_name)
    layer = workload.layer_operations(TINY, SMALL, 1, "fp32")
    head = workload.head_operation(TINY, SMALL, 1, "fp32", 4, 64)
    jobs = layer * SMALL.layers + [head]
    beats = sum(job.matrix.beats + job.matrix.activation_beats(1) for job in jobs)
    read = beats * TINY.beat_bytes + len(jobs) * commands.BYTES
    assert found["bytes_read"] == read
    assert sum(row["bytes_read"] for row in found["operations"]) == read
    assert sum(row["cycles"] for row in found["operations"]) == found["cycles"]
    assert sum(row["count"] for row in found["operations"]) == len(jobs)
    assert [row["operation"] for row in found["operations"]] == [
        "qkv", "o", "gate_up", "down", "head",
    ]  # fmt: skip
    written = sum(commands.result_bytes(job.matrix, 1, "fp32", job.top_k) for job in jobs)
    assert found["bytes_written"] == written
    assert found["tokens_per_second"] == pytest.approx(250e6 / found["cycles"], rel=1e-3)
    assert found["memory"] == memory_name
    assert found["digest"] == f"{digest(TINY):016x}"
    assert found["label"] == "simulated"
    assert set(found["stalls"]) == {"data", "activation", "output", "command"}


def test_tokens_share_the_weights() -> None:
    one, two = report("token", "--no-head"), report("token", "--no-head", "--tokens", "2")
    assert one["format"] == "fp32"
    assert two["format"] == "bf16"
    assert one["head"] is None
    assert two["bytes_written"] == one["bytes_written"]  # twice the results, half the bytes
    assert two["tokens_per_second"] > 1.8 * one["tokens_per_second"]


def test_head_leaves_as_choices_or_as_logits() -> None:
    chosen, whole = report("token", "--head", "int8"), report("token", "--head", "int8", "--logits")
    last = chosen["operations"][-1]
    assert (last["operation"], last["weights"], last["results"]) == ("head", "int8", "top-64")
    logits = Matrix(TINY, *SMALL.head, 8, 64).result_bytes(1, "fp32")
    saved = logits - 64 * commands.CHOICE_BYTES
    assert whole["bytes_written"] - chosen["bytes_written"] == saved


def test_short_matmuls_are_repeated_and_told_for_a_person() -> None:
    result = call("matmul")
    assert result.exit_code == 0, result.output
    for word in ("qkv", "256x128", "gate_up", "head", "top-64", "simulated", "results equal"):
        assert word in result.stdout
    assert " 12 " in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("token", "--tokens", "3"), "tokens must lie in 1..2 for tiny, got 3"),
        (("token", "--model", "qwen9"), "no shape of a model 'qwen9'"),
        (("token", "--no-head", "--logits"), "no logits without a head"),
        (("token", "--memory", "ddr9"), "no memory 'ddr9'"),
        (("token", "--model", "qwen2.5-0.5b"), "columns must lie in 1..1024"),
    ],
)
def test_bad_input_is_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    error = call(*arguments).exception
    assert isinstance(error, UserError)
    assert sentence in str(error)


def test_top_k_of_more_than_the_vocabulary_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shapes.SHAPES, "small", dataclasses.replace(SMALL, vocabulary=40))
    error = call("token").exception
    assert isinstance(error, UserError)
    assert "top_k" in str(error)


def runner() -> timing.Runner:
    jobs = workload.layer_operations(TINY, SMALL, 2, "bf16")
    jobs.append(workload.head_operation(TINY, SMALL, 2, "fp32", 8, 64))
    return timing.Runner(TINY, jobs, 5, memory=memory.IDEAL)


def test_a_wrong_byte_is_found() -> None:
    with runner() as ran:
        ran.run(ran.placed)
        ran.check()
        for index, command in enumerate(ran.placed):
            command.results.array[-1] ^= 1
            wanted = rf"1 bytes .*\(results of command {index}, {command.operation}\)"
            with pytest.raises(MismatchError, match=wanted):
                ran.check()
            command.results.array[-1] ^= 1
        ran.check()
        ran.placed[-1].activations.array[0] ^= 1
        with pytest.raises(MismatchError, match=r"1 bytes .*\(outside all results\)"):
            ran.check()


def test_results_that_never_came_are_found() -> None:
    with runner() as ran, pytest.raises(MismatchError, match="results of command 0, qkv"):
        ran.check()


def test_a_wrong_result_is_told_with_layer_and_matmul_and_replayed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A broken design: the file runs the failing tile again and fails in the same stage."""
    save = tmp_path / "wrong.json"
    with monkeypatch.context() as context:
        broken.install(context, TINY, "zero")
        result = call("token", "--no-head", "--memory", "ideal", "--save", str(save))
        assert isinstance(result.exception, MismatchError)
        for words in ("results of command 0, qkv", "layer 0", "matmul qkv", "'zero'", str(save)):
            assert words in str(result.exception)
        asked = replay.read(save)
        assert (asked.layer, asked.matmul, asked.case.weights.rows) == ("0", "qkv", TINY.tile_rows)
        assert replay.perform(asked).mismatches
    assert not replay.perform(asked).mismatches


def test_a_wrong_byte_of_a_design_that_is_right_keeps_its_matmul(tmp_path: Path) -> None:
    """Results spoilt behind the design's back."""
    with runner() as ran:
        ran.run(ran.placed)
        tile = 1
        matrix = ran.operations[2].matrix
        at = tile * matrix.result_bytes(2, "bf16") // matrix.tiles
        ran.placed[2].results.array[at + 4] ^= 1
        with pytest.raises(workload.WrongBytes) as caught:
            ran.check()
        told = bench_replay.told(ran, caught.value, "ideal", 5, tmp_path / "wrong.json")
    assert "matmul gate_up; by itself the tile is right" in str(told)
    asked = replay.read(tmp_path / "wrong.json")
    assert (asked.layer, asked.matmul, asked.case.tokens, asked.fmt) == ("", "gate_up", 2, "bf16")
    assert asked.wanted is not None and asked.wanted.shape == (2, TINY.tile_rows)


@pytest.mark.parametrize("bits", [4, 8])
def test_random_weights_are_a_legal_matrix(bits: int) -> None:
    job = workload.Operation("one", Matrix(TINY, 100, 384, bits, 64), 2)
    with timing.Runner(TINY, [job], 7, memory=memory.IDEAL) as ran:
        fields = commands.unpack(ran.placed[0].descriptor)
        start = fields["weights"] - MEMORY_BASE
        size = layout.region_bytes(TINY, job.matrix.beats)
        region = ran.device.memory[start : start + size]
        found = pack.unpack_weights(TINY, job.matrix, region, fields["weight_stride"])
    assert np.isfinite(found.scales).all()
    assert (found.scales >= 0).all()
    assert (np.unique(found.values).size, found.values.shape) == (1 << bits, (100, 384))
