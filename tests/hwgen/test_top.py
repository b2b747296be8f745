"""The top through its real AXI and AXI-Lite ports: cocotb and cocotbext-axi, on each simulator."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sim import gates
from spec.config import TINY, Config
from tests.hwgen import cocotb_top
from tests.plugins import simulators

FOUR = dataclasses.replace(
    TINY, name="four", ports=4, port_bits=32, tokens=1, burst_beats=16, outstanding=4
)
SEED = 11


RUNS = [
    pytest.param(
        simulator, config, id=f"{simulator}-{config.name}",
        marks=[pytest.mark.slow] if simulator != simulators.ICARUS else [],
    )
    for simulator in simulators.present() for config in (TINY, FOUR)
]  # fmt: skip


@pytest.mark.parametrize(("simulator", "config"), RUNS)
def test_the_top_runs_behind_independent_axi_models(
    simulator: str, config: Config, tmp_path: Path
) -> None:
    ran, failed = cocotb_top.run(config, "tests.hwgen.top_under_cocotb", tmp_path, SEED, simulator)
    log = (tmp_path / "simulation.log").read_text()
    assert (ran, failed) == (5, 0), f"seed {SEED}\n{log}"


@pytest.mark.slow
def test_the_gates_run_behind_independent_axi_models(tmp_path: Path) -> None:
    """The same on the netlist of 90,000 gates: result bytes, registers, errors, AXI's rules."""
    ran, failed = cocotb_top.run(
        TINY, "tests.hwgen.top_under_cocotb", tmp_path, SEED, gates=gates.verilog(TINY)
    )
    assert (ran, failed) == (5, 0), (tmp_path / "simulation.log").read_text()
