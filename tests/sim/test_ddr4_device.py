"""The DDR4 model behind the simulated design: the same results, another time, and its counts."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from sim import cases, comparison, device
from sim.memory import DDR4_2133, TimingError
from spec.config import TINY


def report(memory: Any, **options: Any) -> comparison.Report:
    """One matmul of several tiles."""
    return comparison.run(TINY, cases.draw(70, 512, 4, 64, 2, 9), memory=memory, **options)


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
@pytest.mark.parametrize("memory", ["ddr4-2133", "ddr4-2400"])
def test_results_equal_golden_and_traffic_is_the_ideal_memorys(
    memory: str, seed: int | None
) -> None:
    timed, ideal = report(memory, stall_seed=seed), report("ideal", stall_seed=seed)
    assert not timed.mismatches, json.dumps(timed.as_dict()["first_mismatch"])
    assert not ideal.mismatches
    assert timed.statistics.bytes_read == ideal.statistics.bytes_read
    assert timed.statistics.bytes_written == ideal.statistics.bytes_written
    assert ideal.statistics.ddr4 is None


def test_the_models_counts_are_what_the_ports_saw() -> None:
    timed = report("ddr4-2133")
    seen = timed.statistics.ddr4
    assert seen is not None
    assert seen.memory == "ddr4-2133"
    assert seen.bursts == timed.statistics.read_bursts
    assert seen.bytes_written == timed.statistics.bytes_written  # whole accesses, aligned
    assert seen.bytes_read >= sum(timed.statistics.bytes_read)
    assert 0 < seen.utilisation < 1
    assert 180 < seen.latency_ns[0] <= seen.latency_max_ns[0]


def test_a_slower_memory_takes_longer_and_the_same_takes_the_same() -> None:
    slow = dataclasses.replace(DDR4_2133, name="slow", read_latency_ns=600.0)
    cycles = [report(memory).counters.cycles for memory in (DDR4_2133, slow, DDR4_2133)]
    assert cycles[0] == cycles[2]
    assert cycles[1] > 2 * cycles[0]


def test_time_runs_with_the_designs_clock() -> None:
    """2000 cycles at 250 MHz are 8 us; a refresh falls due every 7.74."""
    for clock_mhz, microseconds in ((250.0, 8.0), (100.0, 20.0)):
        config = dataclasses.replace(TINY, clock_mhz=clock_mhz)
        transport = device.open(config, 1 << 16, memory="ddr4-2133")
        before = transport.memory_statistics.ddr4
        transport.step(2000)
        after = transport.memory_statistics.ddr4
        transport.close()
        assert before is not None
        assert after is not None
        passed = DDR4_2133.clocks_to_ns(after.clocks - before.clocks) / 1000
        assert passed == pytest.approx(microseconds, rel=0.001)
        assert after.refreshes - before.refreshes == int(microseconds / 7.74)


def test_the_memory_goes_on_after_a_reset() -> None:
    transport = device.open(TINY, 1 << 16, memory="ddr4-2133")
    transport.step(500)
    transport.reset()
    transport.step(500)
    found = transport.memory_statistics.ddr4
    transport.close()
    assert found is not None
    assert found.clocks == pytest.approx(1000 * 1066.667 / 250, rel=0.01)


def test_an_unknown_memory_is_refused_before_anything_is_built() -> None:
    with pytest.raises(TimingError, match="no memory 'ddr5'"):
        device.open(TINY, 1 << 16, memory="ddr5")
