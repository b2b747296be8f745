"""What the memory does wrong is told, ended cleanly, and forgotten by the next command."""

from __future__ import annotations

import pytest

from sim import device
from spec import registers
from spec.config import TINY, Config
from spec.errors import DeviceError
from tests.sim.rtl_bench import Bench
from tests.sim.test_rtl_errors import FOUR, WIDE, assert_next_run_is_right, named, three_jobs

LIMIT = 2000
"""Cycles of the watchdog here."""


def bench_with_watchdog(config: Config, stall_seed: int | None = None) -> Bench:
    """Three jobs; the watchdog fires soon."""
    bench = Bench(config, three_jobs(config), stall_seed=stall_seed)
    bench.driver.write("watchdog", LIMIT)
    return bench


def assert_told_and_recovered(bench: Bench, *words: str) -> None:
    """The driver raises with these words; once the memory is well, the same list is right."""
    with pytest.raises(DeviceError) as raised:
        bench.ring()
    for word in words:
        assert word in str(raised.value)
    bench.device.clear_injections()
    assert_next_run_is_right(bench)
    bench.close()


@pytest.mark.parametrize("late", [False, True], ids=["released at once", "released while running"])
@pytest.mark.parametrize("stall_seed", [None, 3])
@pytest.mark.parametrize(("config", "port"), [(TINY, 0), (WIDE, 1), (FOUR, 3)], ids=named)
def test_read_data_that_never_come(
    config: Config, port: int, stall_seed: int | None, late: bool
) -> None:
    """They may come when the next list runs: then they are of another ID, and dropped."""
    bench = bench_with_watchdog(config, stall_seed)
    bench.device.inject(port, "late", 7, 1, device.NEVER)
    with pytest.raises(DeviceError, match=f"nothing moved.*read data of port {port} are missing"):
        bench.ring()
    assert not bench.driver.read("status")
    if late:
        bench.spoil()
        bench.start()
        bench.device.step(500)
        bench.device.clear_injections()
        ended = bench.finish()
        assert (ended.error, ended.busy) == (registers.decode("error", 0), 0)
        assert [bench.difference(index) for index in range(3)] == [""] * 3
    bench.device.clear_injections()
    assert_next_run_is_right(bench)
    bench.close()


@pytest.mark.parametrize(
    ("port", "wrong", "words"),
    [
        (0, "address", "a read request of port 0 is not taken"),
        (device.WRITES, "address", "a write request is not taken"),
        (device.WRITES, "data", "write data are not taken"),
        (device.WRITES, "late", "a write response is missing"),
    ],
)
def test_what_waits_is_told(port: int, wrong: str, words: str) -> None:
    bench = bench_with_watchdog(WIDE)
    bench.device.inject(port, wrong, 1, 0, device.NEVER)
    if wrong != "late":  # what is offered cannot be taken back, so the device stays stuck
        with pytest.raises(DeviceError, match="cannot be ended, so restart"):
            bench.ring()
        assert registers.decode("status", bench.driver.read("status"))["draining"]
        with pytest.raises(DeviceError, match=f"cannot be reset while {words}"):
            bench.ring()
        with pytest.raises(DeviceError, match=f"cannot be reset while {words}"):
            bench.driver.reset()
        bench.device.clear_injections()
        assert_next_run_is_right(bench)
        bench.device.clear_injections()  # bursts are counted from here
        bench.device.inject(port, wrong, 1, 0, device.NEVER)
    assert_told_and_recovered(bench, "nothing moved", words)


@pytest.mark.parametrize("stall_seed", [None, 3])
@pytest.mark.parametrize(("wrong", "beat", "amount"), [
    ("early last", 1, 0), ("short", 1, 0), ("no last", 0, 0), ("long", 0, 3), ("long", 0, 1),
    ("endless", 0, 0),
])  # fmt: skip
@pytest.mark.parametrize(("config", "port"), [(TINY, 0), (WIDE, 1), (FOUR, 2)], ids=named)
def test_rlast_on_a_wrong_beat(
    config: Config, port: int, wrong: str, beat: int, amount: int, stall_seed: int | None
) -> None:
    bench = bench_with_watchdog(config, stall_seed)
    bench.device.inject(port, wrong, 9, beat, amount)
    assert_told_and_recovered(bench, "RLAST on a wrong beat", f"port {port}")


@pytest.mark.parametrize("burst", [0, 3])
def test_a_response_too_many(burst: int) -> None:
    bench = bench_with_watchdog(WIDE, 1)
    bench.device.inject(device.WRITES, "twice", burst, 0, 40)
    assert_told_and_recovered(bench, "a write response without a burst")


def test_the_watchdog_can_be_off_and_does_not_fire_on_a_slow_memory() -> None:
    bench = Bench(TINY, three_jobs(TINY))
    for limit, slow, fires in ((LIMIT, LIMIT - 200, False), (LIMIT, LIMIT + 200, True),
                               (0, 3 * LIMIT, False)):  # fmt: skip
        bench.driver.write("watchdog", limit)
        bench.device.clear_injections()
        bench.device.inject(0, "late", 5, 0, slow)
        bench.spoil()
        bench.start()
        ended = bench.finish()
        assert ended.error["watchdog"] == fires, (limit, slow)
        bench.driver.reset()
    bench.close()


@pytest.mark.parametrize("stall_seed", [None, 4])
@pytest.mark.parametrize("config", [TINY, WIDE, FOUR], ids=named)
def test_a_reset_of_the_engine_at_any_time(config: Config, stall_seed: int | None) -> None:
    """It breaks no rule of AXI (the harness looks), and the next list is right."""
    bench = Bench(config, three_jobs(config), stall_seed=stall_seed)
    bench.start()
    start = bench.device.simulated_cycles
    bench.finish()
    length = bench.device.simulated_cycles - start
    for part in range(12):
        bench.start()
        bench.device.step(length * part // 11)
        bench.driver.reset()
        assert bench.driver.read("status") == 0
        bench.ring()
        assert [bench.difference(index) for index in range(3)] == [""] * 3, part
    bench.close()


def test_clear_while_a_list_runs_forgets_nothing() -> None:
    bench = Bench(TINY, three_jobs(TINY))
    bench.device.inject(0, "response", 3, 0, device.RESPONSES["SLVERR"])
    bench.start()
    bench.device.step(400)
    bench.clear()
    ended = bench.finish()
    assert ended.error["read"] == 1
    assert_next_run_is_right(bench)
    bench.close()
