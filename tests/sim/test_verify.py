"""``hwgen verify``: the simulated Verilog equals golden, and the report says what it cost."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from host.device.driver import Accelerator
from host.weights import Quantised
from sim import cases, comparison, device, golden_device, verify
from spec.config import TINY, Config
from spec.digest import digest
from spec.errors import DeviceError
from spec.layout import Matrix

WIDE = dataclasses.replace(
    TINY, name="wide", ports=2, port_bits=64, tokens=3, group=64, burst_beats=8, outstanding=4
)
"""Two narrow ports and an odd number of tokens."""

SHAPES = ((1, 128), (16, 128), (17, 256), (33, 384), (100, 1024), (5, 896))
"""One row, one tile, ragged tiles, ragged chunks, the longest dot product."""

CORNERS = [
    (config, shape, bits, group)
    for config, shape, bits, group in itertools.product((TINY, WIDE), SHAPES, (4, 8), (32, 64, 128))
    if group >= config.group
]


def named(value: Any) -> str:
    """Test ids that read like the case."""
    if isinstance(value, Config):
        return value.name
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def told(report: comparison.Report) -> str:
    return json.dumps({key: report.as_dict()[key] for key in ("mismatches", "first_mismatch")})


@pytest.mark.parametrize(("config", "shape", "bits", "group"), CORNERS, ids=named)
def test_corners_are_equal(config: Config, shape: tuple[int, int], bits: int, group: int) -> None:
    for seed, fmt in enumerate(("fp32", "bf16")):
        case = cases.draw(*shape, bits, group, config.tokens, seed)
        report = comparison.run(config, case, fmt)
        assert not report.mismatches, f"seed {seed} {fmt}: {told(report)}"


@pytest.mark.parametrize("seed", range(40))
def test_random_matmuls_with_stalls_are_equal(seed: int) -> None:
    random = np.random.default_rng(seed)
    config = (TINY, WIDE)[seed % 2]
    group = int(random.choice([group for group in (32, 64, 128) if group >= config.group]))
    columns = group * int(random.integers(1, config.max_k // group, endpoint=True))
    rows, tokens = int(random.integers(1, 70)), int(random.integers(1, config.tokens + 1))
    bits, fmt = int(random.choice([4, 8])), str(random.choice(["fp32", "bf16"]))
    case = cases.draw(rows, columns, bits, group, tokens, seed)
    report = comparison.run(
        config, case, fmt, stall_seed=seed, latency=int(random.integers(1, 100))
    )
    what = f"seed {seed}: {config.name} {rows}x{columns} int{bits} g{group} M={tokens} {fmt}"
    assert not report.mismatches, f"{what}: {told(report)}"


@pytest.mark.parametrize("seed", range(20))
def test_random_top_k_with_stalls_is_equal(seed: int) -> None:
    random = np.random.default_rng(seed)
    config = (TINY, WIDE)[seed % 2]
    columns, bits = 128 * int(random.integers(1, 4)), int(random.choice([4, 8]))
    rows, tokens = int(random.integers(2, 300)), int(random.integers(1, config.tokens + 1))
    top_k = min(int(random.choice([1, 2, 7, 20, 64])), rows // 2 * 2)
    case = cases.draw(rows, columns, bits, 64, tokens, seed)
    stalls = seed if seed % 3 else None
    report = comparison.run(config, case, top_k=top_k, stall_seed=stalls, latency=1 + 5 * seed)
    what = f"seed {seed}: {config.name} {rows}x{columns} int{bits} M={tokens} top-{top_k}"
    assert not report.mismatches, f"{what}: {told(report)}"
    assert report.wanted.shape == (tokens, top_k + top_k % 2)
    assert report.statistics.bytes_written == report.wanted.size * 8


@pytest.mark.parametrize("order", ["rising", "falling", "equal", "zero"])
def test_top_k_of_sorted_results_is_equal(order: str) -> None:
    """Rising results enter the list one by one, equal ones never: the most and the least work."""
    rows = 200
    levels = np.arange(rows, dtype=np.uint16)
    patterns = 0x3C00 + {"rising": levels, "falling": levels[::-1]}.get(order, 0 * levels)
    values = np.full((rows, 128), 0 if order == "zero" else 1, np.int8)
    scales = patterns.astype(np.uint16).view(np.float16).reshape(rows, 1)
    mantissas = np.ones((2, 128), np.int8)
    mantissas[1] = -1
    case = cases.Case(
        Quantised(8, 128, values, scales),
        np.zeros(2, np.int8), np.zeros((2, 2), np.uint8), mantissas,
    )  # fmt: skip
    report = comparison.run(TINY, case, top_k=64)
    assert not report.mismatches, told(report)
    first = {"rising": (199, 0), "falling": (0, 199), "equal": (0, 0), "zero": (0, 0)}[order]
    assert tuple(report.found[:, 0] & np.uint64(0xFFFFFFFF)) == first


@pytest.mark.parametrize("stall_seed", [None, 1, 2])
def test_a_list_that_mixes_all_results_and_top_k_equals_golden(stall_seed: int | None) -> None:
    random = np.random.default_rng(0 if stall_seed is None else stall_seed)
    heads = [cases.draw(rows, 256, bits, 64, 1, rows).weights for rows, bits in ((90, 8), (33, 4))]
    jobs = [(0, 2, 8), (1, 2), (1, 1, 32), (0, 1, 64), (0, 2, 64), (1, 2), (1, 2, 2), (0, 1)]
    inputs = [random.normal(size=(job[1], 256)).astype(np.float32) for job in jobs]
    outputs = []
    for opened in (
        device.open(TINY, 1 << 20, stall_seed=stall_seed), golden_device.open(TINY, 1 << 20)
    ):  # fmt: skip
        accelerator = Accelerator(opened, timeout=600)
        handles = [accelerator.load(weights) for weights in heads]
        prepared = accelerator.prepare([(handles[job[0]], *job[1:]) for job in jobs])
        for _ in range(2):
            found = accelerator.run(prepared, inputs)
        outputs.append([part.tobytes() for one in found
                        for part in (one if isinstance(one, tuple) else (one,))])  # fmt: skip
        opened.close()
    assert outputs[0] == outputs[1], f"stall seed {stall_seed}"


@pytest.mark.parametrize("config", [TINY, WIDE], ids=named)
def test_the_counters_are_what_the_ports_saw_and_the_layout_says(config: Config) -> None:
    case = cases.draw(100, 896, 4, 64, config.tokens, 3)
    report = comparison.run(config, case)
    matrix = Matrix(config, 100, 896, 4, 64)
    beats = 64 // config.beat_bytes + matrix.activation_beats(config.tokens) + matrix.beats
    assert report.counters.bytes_read == beats * config.beat_bytes
    assert sum(report.statistics.bytes_read) == report.counters.bytes_read
    assert report.counters.bytes_written == matrix.result_bytes(config.tokens, "fp32")
    assert report.statistics.bytes_written == report.counters.bytes_written
    assert report.statistics.read_outstanding_max <= config.outstanding
    assert beats <= report.counters.cycles


@pytest.mark.parametrize("response", ["SLVERR", "DECERR"])
@pytest.mark.parametrize("region", ["weights", "results"])
def test_an_error_response_ends_the_run_with_its_address_and_the_next_works(
    region: str, response: str
) -> None:
    case = cases.draw(40, 256, 4, 64, 2, 1)
    transport = device.open(TINY, 1 << 20)
    accelerator = Accelerator(transport, timeout=60)
    handle = accelerator.load(case.weights)
    values = np.random.default_rng(1).normal(size=(2, 256)).astype(np.float32)
    good = accelerator.matmul(handle, values)
    results = handle.lists[1].commands[0].results
    address = (handle.weights if region == "weights" else results).address + 300
    transport.set_faults(((address, response),))
    with pytest.raises(DeviceError, match=response) as caught:
        accelerator.matmul(handle, values)
    burst = TINY.burst_beats * TINY.port_bytes
    assert f"{address - address % burst:#x}" in str(caught.value)
    transport.set_faults(())
    assert (accelerator.matmul(handle, values) == good).all()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """``verify`` as ``hwgen`` registers it, whether or not the package is installed."""
    script = (
        "import typer; from sim.verify import command; from spec.errors import exit_with_sentence;"
        "app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None);"
        "app.command()(command); exit_with_sentence(app)"
    )
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )


def test_the_command_reports_as_json() -> None:
    result = run("--shape", "20x256", "--group", "64", "--seed", "5", "--stall-seed", "2", "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["equal"] is True
    assert report["mismatches"] == 0
    assert report["label"] == "simulated"
    assert set(report["stalls"]) == {"data", "activation", "output", "command"}
    assert report["digest"] == f"{digest(TINY):016x}"
    assert report["bytes_per_cycle"] == round(report["bytes_read"] / report["cycles"], 3)
    assert (report["shape"], report["group"], report["seed"]) == ([20, 256], 64, 5)


def test_the_command_compares_the_entries_of_a_top_k() -> None:
    result = run("--shape", "50x256", "--top-k", "5", "--stall-seed", "1", "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["equal"], report["top_k"]) == (True, 6)
    assert report["bytes_written"] == TINY.tokens * 6 * 8
    assert "top-6, seed 0" in run("--shape", "50x256", "--top-k", "5").stdout


def test_a_finer_group_verifies_a_variant_and_says_so() -> None:
    assert verify.variant(WIDE, 128) is WIDE
    finer = verify.variant(WIDE, 32)
    assert (finer.group, finer.name) == (32, "wide-group32")
    assert dataclasses.replace(finer, group=64, name="wide") == WIDE


def test_a_difference_ends_with_code_5_and_both_values(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = comparison._golden

    def wrong(*arguments: Any) -> np.ndarray:
        out = exact(*arguments)
        out[4 * (TINY.tile_rows + 3)] ^= 1  # token 1, row 3 of the first tile
        return out

    monkeypatch.setattr(comparison, "_golden", wrong)
    with pytest.raises(verify.MismatchError, match="first token 1 row 3: rtl 0x") as caught:
        verify.command(config="tiny", shape="20x256", tokens=2, weights=verify.Weights.INT4,
                       group=64, seed=0, result_format=verify.Format.FP32, top_k=None,
                       stall_seed=None, as_json=True)  # fmt: skip
    assert caught.value.exit_code == 5


def test_a_write_outside_the_results_is_told() -> None:
    before = np.zeros(100, np.uint8)
    after = before.copy()
    after[40:60] = 1
    comparison._check_elsewhere(before, after, device.MEMORY_BASE + 40, 20)
    with pytest.raises(DeviceError, match="wrote 1 bytes outside its results"):
        comparison._check_elsewhere(before, after, device.MEMORY_BASE + 40, 19)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["--shape", "20"], "the shape must be NxK, for example 896x4864, got '20'"),
     (["--shape", "0x128"], "1..1048576 rows"),
     (["--shape", "9999999x128"], "1..1048576 rows"),
     (["--shape", "8x2048"], "columns must lie in 1..1024 (max_k), got 2048"),
     (["--shape", "8x100"], "K = 100 is not a multiple of the group 32"),
     (["--shape", "8x128", "--group", "7"], "group"),
     (["--shape", "8x128", "--tokens", "3"], "tokens must lie in 1..2 for tiny, got 3"),
     (["--top-k", "65"], "top_k must lie in 1..64 for 100 rows, got 65"),
     (["--shape", "8x128", "--top-k", "9"], "top_k must lie in 1..8 for 8 rows, got 9"),
     (["--top-k", "4", "--format", "bf16"], "drop --format bf16 or --top-k"),
     (["--config", "nope"], "no configuration 'nope'"),
     (["--config", "kv260", "--shape", "1000000x9216", "--group", "64"], "268435456 weights")],
)  # fmt: skip
def test_bad_input_is_one_sentence(arguments: list[str], sentence: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
