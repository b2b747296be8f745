"""Engine: command lists with pauses: results, counters, nothing left in a queue at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hwgen.control import LINGER
from hwgen.datapath import Datapath
from hwgen.engine import Engine
from sim import cases
from spec import commands, registers
from spec.config import TINY, Config
from tests.sim.rtl_bench import Bench, Job
from tests.sim.test_rtl_equals_golden import WIDE

SHAPES = ((20, 128, 4, "fp32"), (7, 64, 8, "bf16"), (33, 192, 4, "bf16"), (16, 64, 8, "fp32"))
PIPELINE = 8
"""Cycles that flags of the engine are late, at most."""

CONFIGS = pytest.mark.parametrize("config", [TINY, WIDE], ids=lambda config: config.name)


def opened(config: Config, stall_seed: int | None) -> Bench:
    jobs = [
        Job(cases.draw(rows, columns, bits, 64, 1 + number % config.tokens, number), fmt)
        for number, (rows, columns, bits, fmt) in enumerate(SHAPES)
    ]
    return Bench(config, jobs, stall_seed=stall_seed)


def beats(bench: Bench) -> Iterator[int]:
    """Of each command on each port: its descriptor, activations and weights."""
    for index in range(len(bench.jobs)):
        fields = bench.fields(bench.prepared, index)
        yield commands.beats(bench.config) + fields["activation_beats"] + fields["weight_beats"]


@pytest.mark.parametrize("stall_seed", [None, 1, 2, 3])
@CONFIGS
def test_every_busy_cycle_passes_a_beat_or_has_a_cause(
    config: Config, stall_seed: int | None
) -> None:
    bench = opened(config, stall_seed)
    try:
        for _ in range(2):
            before = {name: bench.driver.read(name) for name in registers.COUNTERS}
            bench.ring()
            assert not any(bench.difference(index) for index in range(len(bench.jobs)))
            spent = {name: bench.driver.read(name) - before[name] for name in registers.COUNTERS}
            for port in range(config.ports):
                assert spent[f"beats_port{port}"] == sum(beats(bench))
            stalls = sum(count for name, count in spent.items() if name.startswith("stall_"))
            # The sequencer has passed all that the ports took: nothing is left in a queue.
            assert abs(spent["busy_cycles"] - sum(beats(bench)) - stalls) <= PIPELINE
            assert spent["completed"] == len(bench.jobs)
            moved = bench.device.memory_statistics
            bench.device.step(500)
            assert bench.device.memory_statistics == moved, "something was left in a queue"
        assert bench.device.protocol_breaches == 0
    finally:
        bench.close()


@CONFIGS
def test_a_command_costs_its_beats_and_the_drain(config: Config) -> None:
    """Two commands' beats are never less than the datapath's latency apart: it holds one's
    settings. The results may leave meanwhile."""
    bench = opened(config, None)
    try:
        drain = Datapath.latency(config) + Engine.DRAIN_MARGIN
        cycles = []
        for count in (1, 2, 3, 4):
            before = bench.driver.read("busy_cycles")
            bench.start(count=count)
            bench.finish()
            cycles.append(bench.driver.read("busy_cycles") - before)
        needed = list(beats(bench))
        for number in (1, 2, 3):
            more = cycles[number] - cycles[number - 1]
            results = bench.fields(bench.prepared, number)["result_beats"]
            assert needed[number] + drain <= more + results
        assert cycles[0] >= needed[0] + drain + LINGER
    finally:
        bench.close()
