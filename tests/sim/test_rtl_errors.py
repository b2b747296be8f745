"""Errors on the simulated Verilog: the run ends, registers say why, and the next run is right."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sim import cases, device
from spec import commands, registers
from spec.config import TINY, Config
from spec.errors import DeviceError
from tests.sim.rtl_bench import Bench, Job, burst_start

WIDE = dataclasses.replace(
    TINY, name="wide", ports=2, port_bits=64, tokens=3, group=64, burst_beats=8, outstanding=4
)
FOUR = dataclasses.replace(
    TINY, name="four", ports=4, port_bits=32, tokens=1, tile_rows=32, burst_beats=16, outstanding=4
)

QUIET = registers.decode("error", 0)
"""The error register when nothing is held."""

PORTS = [(config, port) for config in (TINY, WIDE, FOUR) for port in range(config.ports)]


def three_jobs(config: Config, seed: int = 0) -> list[Job]:
    """Three small matmuls of different formats."""
    tokens = config.tokens
    return [
        Job(cases.draw(20, 256, 4, 64, tokens, seed)),
        Job(cases.draw(40, 128, 8, 64, tokens, seed + 1), "bf16"),
        Job(cases.draw(5, 384, 4, 128, 1, seed + 2)),
    ]


def named(value: object) -> str | None:
    """Test ids that read like the case."""
    return value.name if isinstance(value, Config) else None


def assert_next_run_is_right(bench: Bench) -> None:
    """After a clear the same list runs through the driver and equals golden."""
    bench.clear()
    bench.ring()
    assert [bench.difference(index) for index in range(len(bench.jobs))] == [""] * len(bench.jobs)


@pytest.mark.parametrize("stall_seed", [None, 5])
@pytest.mark.parametrize("response", device.RESPONSES)
@pytest.mark.parametrize("region", ["weights", "activations", "descriptor"])
@pytest.mark.parametrize(("config", "port"), PORTS, ids=named)
def test_a_failing_read_ends_the_list(
    config: Config, port: int, region: str, response: str, stall_seed: int | None
) -> None:
    bench = Bench(config, three_jobs(config), stall_seed=stall_seed)
    fields = bench.fields(bench.prepared, 1)
    if region == "descriptor":
        part = commands.BYTES // config.ports
        at = bench.prepared.buffer.address + commands.BYTES + port * part + part - 1
        start = at - part + 1
    else:
        stride = fields[region.removesuffix("s") + "_stride"]
        at = fields[region] + port * stride + 5 * config.burst_beats * config.port_bytes + 7
        if region == "activations":
            at = fields[region] + port * stride + 2 * config.port_bytes + 1
        start = burst_start(config, at)
    bench.device.set_faults(((at, response),))
    completed = bench.driver.read("completed")
    bench.spoil()
    bench.start()
    ended = bench.finish()
    code = device.RESPONSES[response]
    # The memory answers an error with other bytes: a bad descriptor has one cause, and one code.
    wanted = {"read": 1, "response": code, "port": port}
    assert ended.error == QUIET | wanted
    assert ended.address == start
    assert ended.busy == 0
    # The fault lies in the second command. What was begun is finished, nothing more is started.
    finished = ended.completed - completed
    assert (1 if region == "descriptor" else 2) <= finished <= 3
    assert bench.difference(0) == ""
    bench.device.set_faults(())
    assert_next_run_is_right(bench)
    bench.close()


@pytest.mark.parametrize("stall_seed", [None, 6])
@pytest.mark.parametrize("response", device.RESPONSES)
@pytest.mark.parametrize("config", [TINY, WIDE, FOUR], ids=named)
def test_a_failing_write_ends_the_list(
    config: Config, response: str, stall_seed: int | None
) -> None:
    bench = Bench(config, three_jobs(config), stall_seed=stall_seed)
    at = bench.fields(bench.prepared, 0)["results"] + config.burst_beats * config.port_bytes
    bench.device.set_faults(((at + config.port_bytes + 1, response),))
    bench.spoil()
    bench.start()
    ended = bench.finish()
    assert ended.error == QUIET | {"write": 1, "response": device.RESPONSES[response]}
    assert ended.address == at
    assert ended.busy == 0
    bench.device.set_faults(())
    assert_next_run_is_right(bench)
    bench.close()


def test_the_first_of_several_failures_is_held() -> None:
    """Response, port and address are not overwritten by what fails later."""
    bench = Bench(TINY, three_jobs(TINY))
    fields = bench.fields(bench.prepared, 0)
    weights, results = fields["weights"], fields["results"]
    bench.device.set_faults(
        ((weights + 200, "DECERR"), (weights + 400, "SLVERR"), (results, "SLVERR"))
    )
    bench.start()
    ended = bench.finish()
    assert ended.error == QUIET | {"read": 1, "write": 1, "response": device.RESPONSES["DECERR"]}
    assert ended.address == burst_start(TINY, weights + 200)
    bench.device.set_faults(())
    assert_next_run_is_right(bench)
    bench.close()


@pytest.mark.parametrize("region", ["weights", "results"])
def test_the_driver_tells_the_address_and_clears(region: str) -> None:
    bench = Bench(WIDE, three_jobs(WIDE))
    at = bench.fields(bench.prepared, 2)[region]
    bench.device.set_faults(((at, "SLVERR"),))
    action = "read" if region == "weights" else "write"
    with pytest.raises(DeviceError, match=f"SLVERR to a {action} of port 0 at {at:#x}"):
        bench.ring()
    bench.device.set_faults(())
    bench.ring()
    assert bench.difference(2) == ""
    bench.close()


def _bad(config: Config) -> dict[str, dict[str, int]]:
    """Fields that make a descriptor bad for this engine, by kind."""
    kinds = {
        "opcode 0": {"opcode": 0},
        "opcode 2": {"opcode": 2},
        "no tokens": {"tokens": 0},
        "too many tokens": {"tokens": config.tokens + 1},
        "most tokens": {"tokens": 255},
        "no tiles": {"tiles": 0},
        "no chunks": {"chunks": 0},
        "unknown group": {"group": 3},
    }
    finest = commands.GROUP_CODES[config.group]
    if finest:
        kinds["finer group"] = {"group": finest - 1}
    return kinds


BAD = [(config, kind) for config in (TINY, WIDE) for kind in _bad(config)]
BAD += [
    (config, kind) for config in (TINY, WIDE, FOUR) for kind in ("magic", "sum", "zeros", "ones")
]


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize(("config", "kind"), BAD, ids=named)
def test_a_bad_descriptor_stops_the_list(config: Config, kind: str, index: int) -> None:
    """Commands ahead of it are finished; nothing of it or behind it is begun."""
    bench = Bench(config, three_jobs(config), stall_seed=index)
    good = bench.prepared.buffer.array.copy()
    spoiled = bench.descriptor(bench.prepared, index)
    if kind in _bad(config):
        bench.set_fields(bench.prepared, index, **_bad(config)[kind])
    elif kind == "magic":  # with a right sum
        spoiled[0:2] = np.array([0x4B4D], "<u2").view(np.uint8)
        spoiled[60] -= 1
    elif kind == "sum":
        spoiled[int(np.random.default_rng(index).integers(4, 64))] ^= 1 << index
    else:
        spoiled[:] = 0 if kind == "zeros" else 255
    completed = bench.driver.read("completed")
    bench.spoil()
    bench.start()
    ended = bench.finish()
    assert ended.error == QUIET | {"descriptor": 1}
    assert ended.completed - completed == index
    assert ended.busy == 0
    bench.prepared.buffer.array[:] = good
    for done in range(3):
        if done < index:
            assert bench.difference(done) == ""
        else:
            assert (bench.prepared.commands[done].results.array == 0xA5).all()
    assert_next_run_is_right(bench)
    bench.close()


@pytest.mark.parametrize("stall_seed", [None, 2])
def test_a_doorbell_while_busy_is_held_and_ignored(stall_seed: int | None) -> None:
    bench = Bench(TINY, three_jobs(TINY), stall_seed=stall_seed)
    completed = bench.driver.read("completed")
    bench.spoil()
    bench.start()
    bench.driver.write("doorbell", 1)
    ended = bench.finish()
    assert ended.error == QUIET | {"doorbell": 1}
    assert ended.completed - completed == 3
    assert [bench.difference(index) for index in range(3)] == [""] * 3
    assert_next_run_is_right(bench)
    bench.close()


def test_an_empty_list_ends_at_once() -> None:
    bench = Bench(TINY, three_jobs(TINY))
    before = bench.driver.read("beats_port0")
    bench.start(count=0)
    ended = bench.finish()
    assert (ended.error, ended.busy) == (QUIET, 0)
    assert bench.driver.read("beats_port0") == before
    assert_next_run_is_right(bench)
    bench.close()


def test_a_list_outside_the_memory_is_a_read_error() -> None:
    bench = Bench(TINY, three_jobs(TINY))
    bench.start(address=0x1_2345_6000, count=1)
    ended = bench.finish()
    assert ended.error["read"] == 1
    assert ended.error["response"] == device.RESPONSES["DECERR"]
    assert ended.address == 0x1_2345_6000
    assert_next_run_is_right(bench)
    bench.close()


def test_a_reset_in_the_middle_of_a_list_leaves_a_working_engine() -> None:
    bench = Bench(WIDE, three_jobs(WIDE), stall_seed=1)
    bench.start()
    bench.device.step(700)
    bench.device.reset()
    ended = bench.finish()
    assert (ended.error, ended.busy, ended.completed) == (QUIET, 0, 0)
    assert_next_run_is_right(bench)
    bench.close()
