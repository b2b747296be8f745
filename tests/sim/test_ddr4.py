"""The DDR4 model without a design: what the board and public simulations say it gives."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from sim import memory, traffic
from sim.memory import DDR4_2133, DDR4_2400, TimingError
from sim.memory_binding import ACCESS_BYTES
from spec.errors import UserError

BURSTS = 8000
"""By port: 2 MB, so that start and end are below a thousandth."""

WIDE_MHZ = 300.0
"""Four ports of 16 bytes carry 19.2 GB/s here: more than the memory."""

PRESETS = pytest.mark.parametrize("ddr4", memory.PRESETS.values(), ids=lambda ddr4: ddr4.name)


def share(outcome: traffic.Outcome, ddr4: memory.Ddr4 = DDR4_2133) -> float:
    """Of the bus's peak, per cent."""
    return 100 * outcome.gb_per_second / ddr4.peak_gb_per_second


def four(ddr4: memory.Ddr4 = DDR4_2133, stagger: int = 1 << 14, **options: int) -> traffic.Outcome:
    """Four streams, faster than the memory."""
    streams = traffic.staggered(4, BURSTS, stagger, **options)
    return traffic.run(ddr4, streams, clock_mhz=WIDE_MHZ)


def with_writes(ddr4: memory.Ddr4, every: int) -> traffic.Outcome:
    """``four`` with every so many-th burst written to memory of its own."""
    streams = [
        dataclasses.replace(
            stream, write_every=every, write_address=stream.address + (1 << 30) + (1 << 13)
        )
        for stream in traffic.staggered(4, BURSTS)
    ]
    return traffic.run(ddr4, streams, clock_mhz=WIDE_MHZ)


def test_the_peak_is_the_bus() -> None:
    assert DDR4_2133.peak_gb_per_second == pytest.approx(17.07, abs=0.01)
    assert DDR4_2400.peak_gb_per_second == pytest.approx(19.2)


def test_one_sequential_stream_over_four_ports_gets_94_per_cent() -> None:
    outcome = traffic.run(DDR4_2133, traffic.interleaved(4, BURSTS), clock_mhz=WIDE_MHZ)
    assert share(outcome) == pytest.approx(94, abs=1.5)
    assert outcome.statistics.utilisation == pytest.approx(share(outcome) / 100, abs=0.005)


def test_four_streams_staggered_by_16_kb_get_94_per_cent() -> None:
    assert share(four()) == pytest.approx(94, abs=1.5)


def test_four_streams_64_kb_apart_fight_over_one_bank() -> None:
    outcome = four(stagger=0)
    assert 53 <= share(outcome) <= 60
    assert outcome.statistics.row_conflicts > 3 * four().statistics.row_conflicts


def test_a_tenth_of_writes_costs_two_points() -> None:
    outcome = with_writes(DDR4_2133, 10)
    assert share(four()) - share(outcome) == pytest.approx(2, abs=1)
    seen = outcome.statistics
    assert seen.bytes_written / (seen.bytes_read + seen.bytes_written) == pytest.approx(
        0.1, abs=0.01
    )
    writes_a_batch = 2 * seen.bytes_written / 64 / seen.turnarounds
    assert writes_a_batch >= DDR4_2133.write_high - DDR4_2133.write_low


def test_refresh_alone_costs_five_per_cent() -> None:
    rare = dataclasses.replace(DDR4_2133, trefi=100_000, trfc=1)
    with_refresh, without = four(), four(rare)
    assert share(without) - share(with_refresh) == pytest.approx(5, abs=1)
    seen = with_refresh.statistics
    assert seen.refreshes == seen.clocks // DDR4_2133.trefi


def test_the_faster_preset_is_faster_in_proportion_until_hp1_and_hp2_share_a_port() -> None:
    """The slowest pair of ports holds back a beat of all four: 2 x 8.53 GB/s."""
    streams = traffic.staggered(4, BURSTS)
    quick = dataclasses.replace(DDR4_2400, controller_port_mhz=600.0)
    unbound = traffic.run(quick, streams, clock_mhz=350.0)
    assert share(unbound, DDR4_2400) == pytest.approx(share(four()), abs=1)
    bound = traffic.run(DDR4_2400, streams, clock_mhz=350.0)
    assert 16.0 < bound.gb_per_second <= 17.07


@PRESETS
def test_an_unloaded_read_takes_the_latency_that_was_asked_for(ddr4: memory.Ddr4) -> None:
    for nanoseconds in (150.0, 200.0):
        slower = dataclasses.replace(ddr4, read_latency_ns=nanoseconds)
        seen = traffic.run(slower, traffic.staggered(1, 1)).statistics
        assert seen.latency_ns[0] == pytest.approx(nanoseconds, abs=4)
        assert (seen.row_misses, seen.bursts) == (2, (1,))


def test_one_burst_in_flight_reaches_a_fifth_of_the_ports_rate() -> None:
    outcome = traffic.run(DDR4_2133, traffic.staggered(1, BURSTS, outstanding=1))
    assert 0.18 <= outcome.bytes_per_cycle / 16 <= 0.26


def test_eight_bursts_in_flight_fill_a_port_and_more_wait_in_it() -> None:
    eight = traffic.run(DDR4_2133, traffic.staggered(1, BURSTS, outstanding=8))
    assert eight.bytes_per_cycle / 16 > 0.98
    queued = traffic.run(DDR4_2133, traffic.staggered(4, BURSTS, outstanding=16))
    deeper = dataclasses.replace(DDR4_2133, outstanding=16)
    flying = traffic.run(deeper, traffic.staggered(4, BURSTS, outstanding=16))
    assert queued.bytes_per_cycle == pytest.approx(flying.bytes_per_cycle, rel=0.01)
    assert sum(queued.statistics.latency_ns) > sum(eight.statistics.latency_ns)


@pytest.mark.parametrize("outstanding", [2, 9, 16, 40])
def test_a_burst_that_waits_in_its_port_waits_for_that_alone(outstanding: int) -> None:
    """One port alone, two bursts in flight of any number: latency sets the rate, not refresh."""
    narrow = dataclasses.replace(DDR4_2133, outstanding=2, trefi=100_000, trfc=1)
    outcome = traffic.run(narrow, traffic.staggered(1, 400, outstanding=outstanding))
    pairs = outcome.seconds * 1e9 / 200
    assert pairs < DDR4_2133.read_latency_ns + 256 / 4  # latency and a burst at 4 GB/s


def test_hp1_and_hp2_share_a_controller_port_and_hp0_and_hp1_do_not() -> None:
    link = DDR4_2133.controller_port_bytes * DDR4_2133.controller_port_mhz / 1000
    apart = traffic.run(DDR4_2133, traffic.staggered(2, BURSTS), clock_mhz=WIDE_MHZ)
    assert apart.gb_per_second > 1.08 * link
    # HP0 and HP1 in the places of HP1 and HP2.
    shared = dataclasses.replace(DDR4_2133, controller_ports=(4, 4, 3, 5))
    together = traffic.run(shared, traffic.staggered(2, BURSTS), clock_mhz=WIDE_MHZ)
    assert together.gb_per_second == pytest.approx(link, rel=0.03)
    assert together.gb_per_second <= link


@PRESETS
def test_every_access_is_counted_once(ddr4: memory.Ddr4) -> None:
    outcome = with_writes(ddr4, 10)
    seen = outcome.statistics
    accesses = (seen.bytes_read + seen.bytes_written) // ACCESS_BYTES
    assert seen.row_hits + seen.row_misses + seen.row_conflicts == accesses
    assert seen.busy_clocks == accesses * ddr4.burst_clocks
    moved = seen.bytes_read + seen.bytes_written
    assert moved == pytest.approx(outcome.bytes, rel=0.005)  # the last bursts are on their way


@pytest.mark.parametrize(("offset", "accesses"), [(0, 4), (16, 5), (48, 5)])
def test_a_burst_off_the_access_grid_touches_one_access_more(offset: int, accesses: int) -> None:
    stream = dataclasses.replace(traffic.staggered(1, 1)[0], address=offset)
    seen = traffic.run(DDR4_2133, [stream]).statistics
    assert seen.bytes_read == accesses * ACCESS_BYTES


def test_long_bursts_are_cut_and_gain_nothing() -> None:
    short = traffic.run(DDR4_2133, traffic.staggered(4, BURSTS, outstanding=16))
    long = traffic.run(DDR4_2133, traffic.staggered(4, BURSTS // 4, burst_bytes=1024))
    assert long.bytes_per_cycle == pytest.approx(short.bytes_per_cycle, rel=0.01)


def test_the_same_traffic_takes_the_same_time() -> None:
    assert with_writes(DDR4_2133, 7) == with_writes(DDR4_2133, 7)


@pytest.mark.parametrize("seed", range(24))
def test_skipped_clocks_change_nothing(seed: int) -> None:
    """Any traffic on any memory, with every clock looked at and with the idle ones skipped."""
    random = np.random.default_rng(seed)

    def pick(*values: int) -> int:
        return int(random.choice(values))

    ddr4 = dataclasses.replace(
        (DDR4_2133, DDR4_2400)[seed % 2], trefi=pick(1000, 8256), outstanding=pick(1, 3, 8),
        read_queue=pick(2, 32), write_queue=32, write_high=pick(5, 32), write_low=pick(0, 4),
        write_idle=pick(0, 32, 2000), row_hits_max=pick(1, 4, 100), bank_window=pick(1, 8),
    )  # fmt: skip
    streams = [
        traffic.Stream(
            port * pick(0, 1 << 14, 1 << 20) + 16 * pick(0, 3), 300, pick(16, 64, 256, 512),
            step=pick(256, 1 << 16), outstanding=pick(1, 4, 20), write_every=pick(0, 1, 2, 9),
            write_address=pick(0, 1 << 30) + 64 * port,
        )
        for port in range(pick(1, 2, 4))
    ]  # fmt: skip
    clock_mhz = float(random.uniform(20, 700))
    skipping, plodding = (
        traffic.run(ddr4, streams, clock_mhz=clock_mhz, every_clock=every)
        for every in (False, True)
    )
    assert skipping == plodding, f"seed {seed}"


def timed(addresses: list[int], ddr4: memory.Ddr4) -> float:
    """DRAM clocks that the second of two single-access reads comes after the first."""
    step = addresses[1] - addresses[0]
    one = traffic.Stream(addresses[0], 1, burst_bytes=64)
    two = dataclasses.replace(one, bursts=2, step=step)
    clocks = [traffic.run(ddr4, [stream], clock_mhz=ddr4.data_rate / 2).statistics.clocks
              for stream in (one, two)]  # fmt: skip
    return clocks[1] - clocks[0]


def test_two_reads_are_apart_by_the_rule_that_binds_them() -> None:
    """Worked by hand: at a port clock equal to the DRAM's, the port wide enough not to matter."""
    ddr4 = dataclasses.replace(DDR4_2133, controller_port_mhz=5000.0, tccd_s=20, tccd_l=30,
                               trrd_s=40, trrd_l=50, trtp=60, tras=90)  # fmt: skip
    hit = timed([0, 128], ddr4)
    other_group = timed([0, 64], ddr4)
    other_bank = timed([0, 1 << 14], ddr4)
    conflict = timed([0, 1 << 16], ddr4)
    # Both reads reach the controller a clock apart at most, so that only the rule separates data.
    assert hit == pytest.approx(ddr4.tccd_l, abs=1)
    assert other_group == pytest.approx(ddr4.trrd_s, abs=1)
    assert other_bank == pytest.approx(ddr4.trrd_l, abs=1)
    assert conflict == pytest.approx(ddr4.tras + ddr4.trp, abs=1)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [({"cl": 0}, "cl must lie in 1..255"),
     ({"cl": 1.5}, "cl must be int, got 1.5"),
     ({"data_rate": "fast"}, "data_rate must be float"),
     ({"tcl": 16}, "unknown memory field 'tcl'; did you mean"),
     ({"zzz": 1}, "unknown memory field 'zzz'; known: name"),
     ({"preset": "ddr5"}, "preset must be one of ddr4-2133, ddr4-2400, got 'ddr5'"),
     ({"preset": []}, "preset must be one of"),
     ({"name": 3}, "name must be text, got 3"),
     ({"tccd_s": 8}, "tccd_s must not exceed tccd_l, got 8 and 6"),
     ({"write_high": 33}, "write_high must not exceed write_queue, got 33 and 32"),
     ({"trefi": 500}, "trefi must be twice"),
     ({"read_latency_ns": 20}, "read_latency_ns must cover the DRAM's own 41.3 ns, got 20"),
     ({"bank_low": 15}, "row_low must be 6 or more and its 16 bits nobody else's, got 16"),
     ({"group_bits": 5, "bank_low": 12}, "group_bits + bank_bits must be 5 at most"),
     ({"controller_ports": [1, 2]}, "controller_ports must be 4 whole numbers"),
     ({"outstanding": True}, "outstanding must be int, got True")],
)  # fmt: skip
def test_a_bad_value_is_one_sentence(values: dict, sentence: str) -> None:
    with pytest.raises(TimingError) as caught:
        memory.from_mapping(values)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, UserError)


def test_a_file_stands_on_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('preset = "ddr4-2400"\ntrfc = 560\ncontroller_ports = [3, 3, 4, 5]\n')
    mine = memory.load(path)
    wanted = dataclasses.replace(DDR4_2400, name="mine", trfc=560, controller_ports=(3, 3, 4, 5))
    assert mine == wanted
    assert memory.name(mine) == "mine"
    assert memory.load(wanted) is wanted


def test_presets_go_by_name() -> None:
    assert memory.load("ddr4-2133") is DDR4_2133
    assert memory.load("ideal") is None
    assert memory.name(None) == "ideal"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [(b"cl = ", "is not TOML"), (b"\xff", "is not TOML"), (b"#" * 70_000, "larger than 65536")],
)
def test_a_bad_file_is_one_sentence(data: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(data)
    with pytest.raises(TimingError, match=sentence):
        memory.load(path)
    with pytest.raises(TimingError, match=r"no memory 'none'.* ideal, ddr4-2133, ddr4-2400"):
        memory.load("none")


def test_every_value_has_a_unit_and_a_source() -> None:
    for field in dataclasses.fields(memory.Ddr4):
        if field.name in ("name", "controller_ports"):
            continue
        assert field.metadata["unit"]
        assert field.metadata["source"].split(":")[0].split(" ")[0] in (
            "JESD79-4", "board", "typical", "assumed",
        ), field.name  # fmt: skip
