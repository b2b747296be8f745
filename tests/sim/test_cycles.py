"""The analytic model against the simulated design: within 2 % of the cycles."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from hwgen.datapath import Datapath
from hwgen.engine import Engine
from sim import cycles, device, memory, timing, workload
from sim.measure import Kind, operations, plan
from spec import commands, numeric, shapes
from spec.config import KV260, TINY, Config
from spec.layout import Matrix

FAST = dataclasses.replace(TINY, name="fast", ports=2, port_bits=64, outstanding=16, fifo_beats=128)
"""Enough bursts in flight that the engine, not the memory's latency, sets the pace."""

WITHIN = 0.02

LATENCIES = 40
"""Cycles by which a whole list's latencies may be off."""


def jobs(config: Config, bits: int, tokens: int) -> list[workload.Operation]:
    """One tile, many tiles, many chunks, a top-k."""
    matrices = [
        Matrix(config, rows, columns, bits, 64)
        for rows, columns in ((64, 512), (500, 1024), (1000, 128))
    ]
    found = [
        workload.Operation(f"{matrix.rows}x{matrix.columns}", matrix, tokens, fmt)
        for matrix, fmt in zip(matrices, ("fp32", "bf16", "fp32"), strict=True)
    ]
    return [*found, workload.Operation("chosen", matrices[1], tokens, "fp32", 8)]


def misses(config: Config, listed: list[workload.Operation], source: str) -> list[str]:
    """Lists whose estimate is further off than WITHIN: each job by itself, then all in one."""
    rate = timing.rate(config, memory.load(source))
    found = []
    with timing.Runner(config, listed, 3, memory=source) as runner:
        for part in [[one] for one in runner.placed] + [runner.placed]:
            fields = [commands.unpack(one.descriptor) for one in part]
            guessed = cycles.estimate(config, fields, rate)
            seen = runner.run(part).counters
            assert guessed.bytes_read == seen.bytes_read
            assert guessed.bytes_written == seen.bytes_written
            if abs(guessed.cycles / seen.cycles - 1) > WITHIN:
                names = [one.operation for one in part]
                found.append(f"{names}: {guessed.cycles} estimated, {seen.cycles} simulated")
        runner.check()
    return found


@pytest.mark.parametrize(
    ("config", "bits", "tokens"),
    list(itertools.product((TINY, FAST), (4, 8), (1, 2))),
    ids=lambda value: value.name if isinstance(value, Config) else str(value),
)
def test_small_matmuls_on_the_ideal_memory(config: Config, bits: int, tokens: int) -> None:
    assert not misses(config, jobs(config, bits, tokens), "ideal")


@pytest.mark.parametrize("config", [TINY, FAST], ids=lambda config: config.name)
@pytest.mark.parametrize("top_k", [0, 16])
def test_a_lists_start_and_end(config: Config, top_k: int) -> None:
    """One tile of one chunk: little else is in it than latencies, so cycles are compared."""
    job = workload.Operation("one", Matrix(config, 16, 64, 8, 64), 1, "fp32", top_k)
    with timing.Runner(config, [job], 3, memory="ideal") as runner:
        fields = commands.unpack(runner.placed[0].descriptor)
        guessed = cycles.estimate(config, [fields], cycles.ideal(config)).cycles
        seen = runner.run(runner.placed).counters.cycles
    assert abs(guessed - seen) <= LATENCIES, (guessed, seen)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "tokens"), list(itertools.product(("ideal", "ddr4-2133"), (1, 8)))
)
@pytest.mark.parametrize("head", [4, 8])
def test_every_matrix_of_qwen(source: str, tokens: int, head: int) -> None:
    config = device.simulated(KV260)
    shape = shapes.find("qwen2.5-0.5b")
    fmt = "fp32" if tokens == 1 else "bf16"
    last = workload.head_operation(config, shape, tokens, fmt, head, 64)
    listed = operations(Kind.MATMUL, config, shape, tokens, fmt, last)
    rate = timing.rate(config, memory.load(source))
    with timing.Runner(config, listed, 1, memory=source) as runner:
        steps = plan(Kind.MATMUL, runner, rate)
        spent: dict[int, list[tuple[int, int]]] = {}
        for step in steps:  # short ones several times: the mean over a refresh's phases
            seen = runner.run([runner.placed[place] for place in step.places]).counters.cycles
            spent.setdefault(step.places[0], []).append((step.estimate.cycles, seen))
    for place, pairs in spent.items():
        guessed, seen = (sum(column) for column in zip(*pairs, strict=True))
        assert abs(guessed / seen - 1) <= WITHIN, (listed[place].name, guessed, seen)


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [1, 8])
def test_the_whole_token_of_qwen(tokens: int) -> None:
    config = device.simulated(KV260)
    shape = shapes.find("qwen2.5-0.5b")
    fmt = "fp32" if tokens == 1 else "bf16"
    last = workload.head_operation(config, shape, tokens, fmt, 4, 64)
    listed = operations(Kind.TOKEN, config, shape, tokens, fmt, last)
    rate = timing.rate(config, memory.load("ddr4-2133"))
    with timing.Runner(config, listed, 1, memory="ddr4-2133") as runner:
        (step,) = plan(Kind.TOKEN, runner, rate)
        seen = runner.run(runner.placed).counters.cycles
    assert abs(step.estimate.cycles / seen - 1) <= WITHIN, (step.estimate.cycles, seen)


@pytest.mark.parametrize("config", [KV260, TINY, FAST], ids=lambda config: config.name)
def test_pipeline_depth_follows_the_generator(config: Config) -> None:
    assert cycles.datapath_latency(config) == Datapath.latency(config)
    assert abs(Engine.DRAIN_MARGIN - cycles.DRAIN_MARGIN) <= 4


def test_roofline_by_hand() -> None:
    """One tile of 64 rows, one chunk of 128: 64 beats of weights, 4 of scales, 1 of zeros."""
    matrix = Matrix(KV260, 64, 128, 4, 64)
    fields = commands.matmul(
        matrix, 8, weights=0, weight_stride=0, activations=0, activation_stride=0, results=0
    )
    bound = cycles.roofline(KV260, fields, cycles.MemoryRate(32.0, 50.0))
    beats = 69 + 1 + 2 * 9
    assert bound.engine == beats
    assert bound.memory == 2 * beats
    assert bound.weights_per_byte == pytest.approx(8 * 64 * 128 / (64 * beats))


def test_estimate_grows_with_what_slows() -> None:
    matrix = Matrix(KV260, 1000, 896, 4, 64)
    fields = commands.matmul(
        matrix, 8, weights=0, weight_stride=0, activations=0, activation_stride=0, results=0
    )
    fast = cycles.MemoryRate(60.0, 50.0)
    base = cycles.estimate(KV260, [fields], fast).cycles
    for slower in (
        dataclasses.replace(fast, bytes_per_cycle=50.0),
        dataclasses.replace(fast, latency=100.0),
        dataclasses.replace(fast, write_cost=5.0),
    ):
        assert cycles.estimate(KV260, [fields], slower).cycles > base
    two = cycles.estimate(KV260, [fields, fields], dataclasses.replace(fast, switch=50.0))
    assert two.cycles == sum(two.by_command)
    assert base < two.cycles < 2 * base
    assert two.bytes_written == 2 * 16 * 64 * 8 * numeric.RESULT_BITS["fp32"] // 8
