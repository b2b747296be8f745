"""Power from hwmon into J/token, and counters for a monitoring system."""

from __future__ import annotations

import dataclasses
import json
import time

import pytest

from host import export
from host.board import power
from host.board.power import Energy, Meter
from host.device.counters import Counters
from host.transports.machine import Machine
from spec.config import TINY
from spec.files import OutputError


@pytest.fixture
def machine(tmp_path) -> Machine:
    folder = tmp_path / "sys/class/hwmon/hwmon1"
    folder.mkdir(parents=True)
    (folder / "name").write_text("ina260_u14\n")
    (folder / "power1_input").write_text("5000000\n")
    other = tmp_path / "sys/class/hwmon/hwmon0"
    other.mkdir()
    (other / "name").write_text("ams\n")
    return Machine(tmp_path)


def test_the_sensor_is_found_by_name(machine, tmp_path):
    assert power.find(machine) == "/sys/class/hwmon/hwmon1/power1_input"
    assert power.read_watt(machine, power.find(machine)) == 5.0
    assert power.find(Machine(tmp_path / "elsewhere")) is None


def test_energy_is_power_over_time(machine):
    with Meter(machine, interval=0.01) as meter:
        time.sleep(0.1)
    energy = meter.energy
    assert energy.samples >= 3
    assert energy.watts == pytest.approx(5.0)
    assert energy.joules == pytest.approx(5.0 * energy.seconds)
    assert energy.seconds == pytest.approx(0.1, abs=0.05)
    assert energy.per_token(4) == pytest.approx(energy.joules / 4)


def test_a_change_of_power_is_seen(machine):
    with Meter(machine, interval=0.005) as meter:
        time.sleep(0.05)
        machine.write("/sys/class/hwmon/hwmon1/power1_input", "9000000\n")
        time.sleep(0.05)
    assert 5.5 < meter.energy.watts < 8.5


def test_without_a_sensor_nothing_is_claimed(tmp_path):
    with Meter(Machine(tmp_path)) as meter:
        pass
    assert (meter.energy.samples, meter.energy.watts, meter.energy.per_token(3)) == (0, None, None)


def test_a_sensor_that_fails_on_the_way_ends_nothing(machine):
    with Meter(machine, interval=0.005) as meter:
        machine.write("/sys/class/hwmon/hwmon1/power1_input", "no data")
        time.sleep(0.03)
    assert meter.energy.per_token(0) is None


def test_the_report_says_joules_per_token():
    from host.report import table
    from host.sampling import Sampling
    from host.session import Session
    from tests.host.tiny_model import random_model, shape

    class Words:
        """A tokenizer of numbers."""

        def stream(self):
            return self

        def push(self, token):
            return f"{token} "

        def finish(self):
            return ""

    session = Session.open(random_model(1, shape()), "cpu", TINY, 32)
    report = session.run([1, 2], Words(), Sampling(), 3)
    assert report.as_dict()["energy"] is None
    assert "J/token" not in str(table(report).caption)
    tokens = len(report.generation.tokens)
    measured = dataclasses.replace(report, energy=Energy(9.0, 2.0, 40))
    told = measured.as_dict()["energy"]
    assert told["joules_per_token"] == pytest.approx(9.0 / tokens)
    assert (told["watts"], told["label"]) == (4.5, "measured")
    assert f"4.50 W, {9.0 / tokens:.2f} J/token" in str(table(measured).caption)


TALLY = {
    "qkv": Counters(3, 400, 5000, 60, {"stall_data": 7, "stall_output": 0}),
    "head": Counters(1, 100, 900, 8, {"stall_data": 0, "stall_output": 2}),
}


def told(energy: Energy) -> dict:
    return export.document(TINY, "uio", TALLY, 12, energy)


def test_prometheus_reads_the_text():
    """Each line by the text format's grammar; counters end in _total."""
    import re

    text = export.prometheus(told(Energy(30.0, 6.0, 100)))
    lines = text.splitlines()
    sample = re.compile(r'kria_llm_[a-z_]+\{([a-z]+="[^"]*",?)+\} [0-9.e+]+')
    assert all(line.startswith("# ") or sample.fullmatch(line) for line in lines)
    assert any('read_bytes_total{device="uio",config="tiny"' in line for line in lines)
    assert sum("stall_cycles_total{" in line for line in lines) == 4
    assert next(line for line in lines if "energy_joules" in line and "{" in line).endswith(" 30")
    typed = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert {line.split("{")[0] for line in lines if "{" in line} == typed


def test_no_energy_is_no_sample():
    document = told(Energy())
    assert document["energy_joules"] is None
    assert "energy" not in export.prometheus(document)


def test_the_files_ending_decides(tmp_path):
    export.write(tmp_path / "a.json", told(Energy()))
    export.write(tmp_path / "a.prom", told(Energy()))
    assert json.loads((tmp_path / "a.json").read_text())["tokens"] == 12
    assert (tmp_path / "a.prom").read_text().startswith("# HELP kria_llm_commands_total")
    with pytest.raises(OutputError, match="cannot write counters to"):
        export.write(tmp_path / "nowhere/a.prom", told(Energy()))
