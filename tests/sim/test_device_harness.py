"""The C++ harness, on a stand-in design that computes a checksum and can break rules on demand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from sim import device, source
from spec import registers
from spec.config import TINY
from spec.errors import DeviceError

CONFIG = dataclasses.replace(TINY, name="rogue", burst_beats=16, outstanding=8)
BURST = CONFIG.burst_beats * CONFIG.port_bytes
RESULT = 1 << 20
MEMORY = RESULT + BURST
SEEDS = (None, 0, 1, 2)

RULES = {
    1: "crosses a 4 KB boundary",
    2: "has more beats than burst_beats",
    3: "has a size that is not the port's width",
    4: "is not of type INCR",
    5: "is not aligned to a beat",
    6: "changed while waiting for ready",
    7: "exceeds the outstanding bursts",
    8: "WLAST does not mark the last beat",
    9: "data changed while waiting for ready",
}
"""Value of the stand-in's scratch register, and what the harness must say about it."""


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulates rogue.v whatever the configuration."""
    text = (Path(__file__).parent / "rogue.v").read_text()
    monkeypatch.setattr(source, "verilog", lambda config: text)


def opened(**options) -> device.Device:
    """The stand-in with random memory."""
    opened = device.open(CONFIG, MEMORY, **options)
    opened.memory[:] = np.random.default_rng(5).integers(0, 256, MEMORY, np.uint8)
    return opened


def write(rtl: device.Device, name: str, value: int) -> None:
    rtl.write_register(registers.OFFSETS[name], value)


def ring(rtl: device.Device, bursts: int, address: int = device.MEMORY_BASE) -> int:
    """Runs ``bursts`` from ``address`` on; the status register afterwards."""
    write(rtl, "list_address_low", address & 0xFFFFFFFF)
    write(rtl, "list_address_high", address >> 32)
    write(rtl, "doorbell", bursts)
    rtl.wait(60)
    return rtl.read_register(registers.OFFSETS["status"])


def checksum(rtl: device.Device, bursts: int) -> bool:
    """Whether the written beats are the XOR of the beats that were to be read."""
    beats = rtl.memory[: bursts * BURST].reshape(-1, CONFIG.port_bytes)
    written = rtl.memory[RESULT:].reshape(-1, CONFIG.port_bytes)
    return bool((written == np.bitwise_xor.reduce(beats, axis=0)).all())


@pytest.mark.parametrize("seed", SEEDS)
def test_every_byte_arrives_in_order_and_is_counted(seed: int | None) -> None:
    rtl = opened(stall_seed=seed)
    for bursts in (1, 2, 9, 1000):
        assert ring(rtl, bursts) == 0
        assert checksum(rtl, bursts), bursts
    seen = rtl.memory_statistics
    assert seen.bytes_read == (1012 * BURST,)
    assert seen.read_bursts == (1012,)
    assert (seen.bytes_written, seen.write_bursts) == (4 * BURST, 4)
    assert seen.read_outstanding_max == CONFIG.outstanding
    assert seen.error_responses == 0


def test_the_ideal_memory_gives_a_beat_a_cycle_and_stalls_give_less() -> None:
    cycles = {}
    for seed in SEEDS:
        rtl = opened(stall_seed=seed)
        start = rtl.simulated_cycles
        ring(rtl, 1000)
        cycles[seed] = rtl.simulated_cycles - start
    beats = 1000 * CONFIG.burst_beats
    assert beats < cycles[None] < 1.05 * beats
    assert all(cycles[seed] > 1.3 * beats for seed in SEEDS[1:]), cycles
    assert len(set(cycles.values())) == len(SEEDS), "seeds must give different stalls"


def test_the_same_seed_gives_the_same_cycles() -> None:
    counts = []
    for _ in range(2):
        rtl = opened(stall_seed=7)
        ring(rtl, 500)
        counts.append(rtl.simulated_cycles)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("latency", [1, 50, 500])
def test_latency_is_the_time_to_the_first_beat(latency: int) -> None:
    cycles = []
    for wanted in (latency, latency + 1000):
        rtl = opened(latency=wanted)
        start = rtl.simulated_cycles
        ring(rtl, 1)
        cycles.append(rtl.simulated_cycles - start)
    # A burst is read and one is written, and the status is polled every few dozen cycles.
    assert abs(cycles[1] - cycles[0] - 2000) <= 2 * device.POLL_CYCLES


@pytest.mark.parametrize("rule", RULES, ids=RULES.values())
def test_a_broken_rule_is_told(rule: int) -> None:
    rtl = opened(stall_seed=1)
    write(rtl, "scratch", rule)
    with pytest.raises(DeviceError, match=RULES[rule]):
        ring(rtl, 200)


@pytest.mark.parametrize("response", device.RESPONSES)
@pytest.mark.parametrize("at", [0, 3 * BURST + 17, RESULT, RESULT + BURST - 1])
def test_a_fault_is_answered_once_and_the_next_run_works(at: int, response: str) -> None:
    rtl = opened(faults=((device.MEMORY_BASE + at, response),))
    assert registers.decode("status", ring(rtl, 10))["error"] == 1
    assert rtl.memory_statistics.error_responses == 1
    rtl.set_faults(())
    assert ring(rtl, 10) == 0
    assert checksum(rtl, 10)


@pytest.mark.parametrize(
    "address", [0, device.MEMORY_BASE - 2 * BURST, device.MEMORY_BASE + RESULT]
)
def test_an_address_outside_the_memory_is_an_error(address: int) -> None:
    rtl = opened()
    assert registers.decode("status", ring(rtl, 10, address))["error"] == 1


def test_a_silent_engine_is_a_hang_with_counters() -> None:
    rtl = opened()
    write(rtl, "scratch", 10)
    with pytest.raises(DeviceError, match=r"no AXI transfer.*busy_cycles"):
        ring(rtl, 1)


def test_an_endless_engine_is_stopped_by_its_work() -> None:
    rtl = opened()
    write(rtl, "scratch", 11)
    with pytest.raises(DeviceError, match="its work takes less"):
        ring(rtl, 1)


def test_seconds_run_out() -> None:
    rtl = opened()
    write(rtl, "scratch", 11)
    write(rtl, "doorbell", 1)
    with pytest.raises(DeviceError, match="still busy after 0 s"):
        rtl.wait(0)


def test_a_control_port_that_never_answers_is_told() -> None:
    rtl = opened()
    write(rtl, "scratch", 12)
    with pytest.raises(DeviceError, match="a read of register offset 0x0 was never answered"):
        rtl.read_register(0)
    rtl.reset()
    assert rtl.read_register(registers.OFFSETS["scratch"]) == 0


def test_buffers_are_pages_until_memory_is_short() -> None:
    rtl = device.open(CONFIG, 3 * device.PAGE)
    first, second = rtl.allocate(1), rtl.allocate(device.PAGE + 1)
    assert first.address == device.MEMORY_BASE
    assert second.address == device.MEMORY_BASE + device.PAGE
    assert (first.array.size, second.array.size) == (1, device.PAGE + 1)
    assert not second.array.any()
    with pytest.raises(DeviceError, match="0 of 12288 bytes left"):
        rtl.allocate(1)
    with pytest.raises(DeviceError, match="-5 were asked for"):
        rtl.allocate(-5)


@pytest.mark.parametrize("size", [0, -1, device.MEMORY_MAX + 1])
def test_a_memory_that_cannot_be_is_refused(size: int) -> None:
    with pytest.raises(DeviceError, match="memory must lie in"):
        device.open(CONFIG, size)


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(DeviceError, match="SLVERR or DECERR, got 'EXOKAY'"):
        device.open(CONFIG, MEMORY, faults=((0, "EXOKAY"),))


def test_a_trace_is_written(tmp_path: Path) -> None:
    rtl = opened(trace=tmp_path / "run.fst")
    ring(rtl, 3)
    rtl.close()
    assert (tmp_path / "run.fst").stat().st_size > 500
    with pytest.raises(DeviceError, match="give a writable path"):
        opened(trace=tmp_path / "no" / "run.fst")
